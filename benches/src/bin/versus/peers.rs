//! The peers: caches that keep values on the heap, each as a [`Store`].
//!
//! Each has the settings that it comes with. An entry's weight is the value's length, the key's,
//! and [`ENTRY`], as their documentation asks of a weigher that is to count bytes.

use std::sync::Arc;

use benches::arguments::Failure;
use benches::codec::{Codec, Engine};
use foyer_memory::{CacheBuilder, CacheEntry, EvictionConfig, LruConfig, S3FifoConfig};

use crate::contestant::Contestant;
use crate::packed::{Packed, Store};
use crate::spec::{Kind, Spec};
use crate::stage::Stage;

/// What a weigher adds for an entry beside its value: the key, the pointer to the value with its
/// length, and the two counts of an `Arc`. What a cache itself adds, its users do not see.
pub(crate) const ENTRY: usize = size_of::<u64>() + size_of::<Arc<[u8]>>() + 2 * size_of::<usize>();

type Moka = moka::sync::Cache<u64, Arc<[u8]>>;

impl Store for Moka {
    fn put(&self, key: u64, value: &[u8]) {
        self.insert(key, value.into());
    }

    fn with(&self, key: u64, f: &mut dyn FnMut(&[u8])) -> bool {
        self.get(&key).map(|value| f(&value)).is_some()
    }

    fn has(&self, key: u64) -> bool {
        self.contains_key(&key)
    }

    fn settle(&self) {
        self.run_pending_tasks();
    }
}

#[derive(Debug, Clone)]
struct Weigher;

impl quick_cache::Weighter<u64, Arc<[u8]>> for Weigher {
    fn weight(&self, _: &u64, value: &Arc<[u8]>) -> u64 {
        (value.len() + ENTRY) as u64
    }
}

type QuickCache = quick_cache::sync::Cache<u64, Arc<[u8]>, Weigher>;

impl Store for QuickCache {
    fn put(&self, key: u64, value: &[u8]) {
        self.insert(key, value.into());
    }

    fn with(&self, key: u64, f: &mut dyn FnMut(&[u8])) -> bool {
        self.get(&key).map(|value| f(&value)).is_some()
    }

    fn has(&self, key: u64) -> bool {
        self.contains_key(&key)
    }
}

/// foyer shares its own entries, so the value needs no counts.
type Boxed = Box<[u8]>;
type Foyer = foyer_memory::Cache<u64, Boxed>;

impl Store for Foyer {
    fn put(&self, key: u64, value: &[u8]) {
        self.insert(key, value.into());
    }

    fn with(&self, key: u64, f: &mut dyn FnMut(&[u8])) -> bool {
        let entry: Option<CacheEntry<_, _>> = self.get(&key);
        entry.map(|entry| f(entry.value())).is_some()
    }

    fn has(&self, key: u64) -> bool {
        self.contains(&key)
    }
}

/// Makes the peer that `spec` names.
pub(crate) fn make(
    spec: Spec,
    configured: u64,
    stage: &Stage,
) -> Result<Box<dyn Contestant>, Failure> {
    let engine = Engine::new(spec.codec, &[])?;
    let page_size = stage.page_size;
    let foyer = |eviction: EvictionConfig| -> Result<Box<dyn Contestant>, Failure> {
        let builder = CacheBuilder::new(usize::try_from(configured)?)
            .with_eviction_config(eviction)
            .with_weighter(|_, value: &Boxed| value.len() + ENTRY);
        Ok(Box::new(Packed::<Foyer>::new(builder.build(), engine.clone(), page_size)))
    };
    Ok(match spec.kind {
        Kind::Moka => {
            let weigh = |_: &u64, value: &Arc<[u8]>| (value.len() + ENTRY) as u32;
            let store = Moka::builder().max_capacity(configured).weigher(weigh).build();
            Box::new(Packed::new(store, engine, page_size))
        }
        Kind::QuickCache => {
            // It asks for the entries that will fit, to size its shards and ghosts.
            let plain = spec.codec == Codec::None;
            let value = if plain { page_size as u64 } else { stage.mean_lz4() };
            let mean = value + ENTRY as u64;
            let items = usize::try_from(configured / mean)?;
            let store = QuickCache::with_weighter(items, configured, Weigher);
            Box::new(Packed::new(store, engine, page_size))
        }
        Kind::FoyerS3Fifo => foyer(S3FifoConfig::default().into())?,
        Kind::FoyerLru => foyer(LruConfig::default().into())?,
        Kind::Zcache => return Err("no peer".into()),
    })
}
