//! The caches that are compared, made by their names.

use std::hash::BuildHasher;

use benches::packing::Failure;
use zcache::policy::{Lru, S3Fifo, Sieve};
use zcache::{Cache, Config, HugePages, InsertError, Share, codec};

use crate::contestant::Contestant;
use crate::engine;
use crate::spec::{Codec, Kind, Policy, Spec};
use crate::stage::Stage;

/// Makes the cache that `spec` names, told to take `configured` bytes.
pub(crate) fn make(
    spec: Spec,
    configured: u64,
    stage: &Stage,
) -> Result<Box<dyn Contestant>, Failure> {
    match spec.kind {
        Kind::Zcache => {
            let cache: Cache<u64> = Cache::new(config(spec, configured, stage)?)?;
            Ok(Box::new(cache))
        }
        #[cfg(not(target_os = "linux"))]
        Kind::Zram => Err("zram is Linux's".into()),
        #[cfg(target_os = "linux")]
        Kind::Zram => Ok(Box::new(crate::swap::Swap::new(configured, stage)?)),
        #[cfg(feature = "peers")]
        _ => crate::peers::make(spec, configured, stage),
        #[cfg(not(feature = "peers"))]
        _ => Err("the peers are not built in".into()),
    }
}

/// zcache's settings. It has no hot tier, like the others: `shares` compares those.
pub(crate) fn config(spec: Spec, configured: u64, stage: &Stage) -> Result<Config, Failure> {
    let config =
        Config::new(usize::try_from(configured)?).max_page(stage.page_size).hot(Share::None);
    let config = match spec.codec {
        Codec::None => config.codec(codec::None),
        Codec::Zstd(level, with) => config.codec(engine::zstd(level, with, &stage.dictionary)?),
        Codec::Lz4 | Codec::Flex => config.codec(codec::Lz4),
    };
    let config = match spec.policy {
        Policy::S3Fifo => config.policy(S3Fifo::new()),
        Policy::Sieve => config.policy(Sieve::new()),
        Policy::Lru => config.policy(Lru::new()),
    };
    let huge_pages = if spec.huge { HugePages::Auto } else { HugePages::Off };
    Ok(config.checksum(false).huge_pages(huge_pages))
}

impl<S: BuildHasher + Sync> Contestant for Cache<u64, S> {
    #[inline]
    fn get(&self, key: u64, to: &mut [u8]) -> bool {
        self.get_into(&key, to).expect("room for a page").is_some()
    }

    fn insert(&self, key: u64, page: &[u8]) {
        match Cache::insert(self, key, page) {
            // A page that finds no room in a tiny cache is a miss later on.
            Ok(()) | Err(InsertError::NoRoom { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn contains(&self, key: u64) -> bool {
        Cache::contains(self, &key)
    }
}
