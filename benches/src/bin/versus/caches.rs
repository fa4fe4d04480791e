//! The caches that are compared, made by their names.

use std::hash::BuildHasher;

use benches::arguments::Failure;
use zcache::{Cache, Config, HotShare, HugePages, InsertError};

use crate::contestant::Contestant;
use crate::spec::{Kind, Spec};
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
        #[cfg(feature = "peers")]
        _ => crate::peers::make(spec, configured, stage),
        #[cfg(not(feature = "peers"))]
        _ => Err("the peers are not built in".into()),
    }
}

/// zcache's settings. It has no hot tier, like the others: `shares` compares those.
pub(crate) fn config(spec: Spec, configured: u64, stage: &Stage) -> Result<Config, Failure> {
    let config =
        Config::new(usize::try_from(configured)?).max_page(stage.page_size).hot(HotShare::Off);
    let config = spec.policy.apply(spec.codec.apply(config, &stage.dictionary)?);
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
        Cache::contains_key(self, &key)
    }
}
