//! The peers' policies, by their own libraries. Each counts entries, in one shard.

use foyer_memory::{CacheBuilder, S3FifoConfig};

pub(crate) struct Moka(moka::sync::Cache<u32, ()>, u32);

impl Moka {
    pub(crate) fn new(capacity: usize) -> Self {
        Self(moka::sync::Cache::new(capacity as u64), 0)
    }

    pub(crate) fn request(&mut self, page: u32) -> bool {
        let hit = self.0.get(&page).is_some();
        if !hit {
            self.0.insert(page, ());
        }
        // It hears of hits from a queue, which is worked off now and then.
        self.1 += 1;
        if !hit || self.1 % 32 == 0 {
            self.0.run_pending_tasks();
        }
        hit
    }
}

pub(crate) struct QuickCache(quick_cache::unsync::Cache<u32, ()>);

impl QuickCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self(quick_cache::unsync::Cache::new(capacity))
    }

    pub(crate) fn request(&mut self, page: u32) -> bool {
        let hit = self.0.get(&page).is_some();
        if !hit {
            self.0.insert(page, ());
        }
        hit
    }
}

pub(crate) struct Foyer(foyer_memory::Cache<u32, ()>);

impl Foyer {
    pub(crate) fn new(capacity: usize) -> Self {
        let builder = CacheBuilder::new(capacity).with_shards(1);
        Self(builder.with_eviction_config(S3FifoConfig::default()).build())
    }

    pub(crate) fn request(&mut self, page: u32) -> bool {
        let hit = self.0.get(&page).is_some();
        if !hit {
            self.0.insert(page, ());
        }
        hit
    }
}
