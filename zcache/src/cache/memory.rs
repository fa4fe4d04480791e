//! What a cache holds, what it may hold, and for what.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use zpool::Compaction;

use super::Cache;
use crate::error::ResizeError;

impl<K: Hash + Eq + Send + Sync, S: BuildHasher> Cache<K, S> {
    /// Entries; those that have expired and were not come across since among them, those of scopes
    /// that have ended not.
    #[doc(alias = "entry_count")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.tier.entries()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cap on bytes held.
    #[doc(alias = "max_capacity")]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.tier.capacity()
    }

    /// Bytes held now, everything counted; at most [`capacity`](Self::capacity), unless that was
    /// lowered and a [`resize`](Self::resize) said so.
    #[doc(alias("weighted_size", "weight", "usage"))]
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.tier.held()
    }

    /// The longest page in bytes.
    #[must_use]
    pub fn max_page(&self) -> usize {
        self.tier.store.max_page()
    }

    /// Changes the capacity. When it is lowered, entries are evicted until the cache fits; pages,
    /// tables and index get smaller. What can be had without evicting is had first, so the cache
    /// keeps about the entries that fit. What was made for the first capacity stays: half a MiB in
    /// a cache that began with 1 GiB or more.
    ///
    /// To raise it takes some microseconds. To lower it takes time in proportion to the entries
    /// that the cache had: about 0.7 us of CPU time for each where half of them go (`cargo run
    /// --release -p benches --bin cache_bulk`). The call works until it is done. Inserts meanwhile
    /// evict twice what they take; one by the removal hook is refused as long as too much is held.
    ///
    /// ```
    /// use zcache::{Cache, Config, ResizeError};
    ///
    /// let cache = Cache::new(Config::new(8 << 20).max_page(4096))?;
    /// for key in 0..2000_u32 {
    ///     let byte = |at: u32| (key.wrapping_mul(at * at) >> 7) as u8;
    ///     let page: Vec<u8> = (0..1024).map(byte).collect();
    ///     cache.insert(key, &page)?;
    /// }
    /// cache.resize(1 << 20)?;
    /// assert!(cache.held_bytes() <= 1 << 20 && cache.capacity() == 1 << 20);
    /// assert!(matches!(cache.resize(1000), Err(ResizeError::TooSmall { .. })));
    /// cache.resize(64 << 20)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`ResizeError`].
    #[doc(alias = "set_capacity")]
    pub fn resize(&self, capacity_bytes: usize) -> Result<(), ResizeError> {
        let least = self.least;
        if capacity_bytes < least {
            return Err(ResizeError::TooSmall { least });
        }
        self.tier.set_capacity(capacity_bytes, least);
        self.tier.collect_frames();
        let held = self.tier.shrink();
        if held > self.tier.capacity() { Err(ResizeError::StillHeld { held }) } else { Ok(()) }
    }

    /// What a miss costs from now on, as [`Config::miss_cost`](crate::Config::miss_cost) says it.
    pub fn set_miss_cost(&self, time: Duration) {
        if let Some(scales) = self.tier.scales() {
            scales.tell_miss(time);
        }
    }

    /// Moves payloads together so that pages come free, `budget_bytes` bytes at the most; evicts
    /// nothing. Inserts do this by themselves when the cache is full.
    pub fn compact(&self, budget_bytes: usize) -> Compaction {
        self.tier.store.pool.compact(budget_bytes)
    }

    /// Gives back what is held without need: pages kept for the next insert, and buffers and
    /// contexts of codecs that nobody uses at this moment. The next insert makes them again.
    ///
    /// Visits no entry. Its time goes by the memory that it gives back: the system takes its pages
    /// in batches. Where there is nothing to give back it is cheaper than an insert.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(8 << 20).max_page(4096))?;
    /// for key in 0..500_u32 {
    ///     let byte = |at: u32| (key.wrapping_mul(at * at) >> 7) as u8;
    ///     let page: Vec<u8> = (0..1024).map(byte).collect();
    ///     cache.insert(key, &page)?;
    /// }
    /// cache.clear();
    /// let held = cache.held_bytes();
    /// cache.trim();
    /// assert!(cache.held_bytes() < held);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trim(&self) {
        let store = &self.tier.store;
        store.scratch.trim(&store.pool);
        self.tier.collect_frames();
        self.tier.settle_frames();
        if let Some(hot) = &self.tier.hot {
            hot.trim();
        }
        self.tier.shrink_policy();
        self.tier.shrink_scopes();
        self.tier.index.trim();
        if let Some(scopes) = &self.tier.scopes {
            scopes.trim();
        }
        self.tier.trim_pool();
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use crate::cache::Cache;
    use crate::config::Config;
    use crate::sync::Inside;
    use crate::tier::Lack;

    /// How often an operation tries for bytes that all the cache has, while a buffer is lent.
    fn attempts(cache: &Cache<u64>) -> usize {
        let tier = &cache.tier;
        let mut attempts = 0;
        let done: Result<(), _> = tier.with_room(|| {
            attempts += 1;
            Err(Some(Lack::Bytes(tier.capacity())))
        });
        assert_eq!(done, Err(Some(Lack::Bytes(tier.capacity()))));
        attempts
    }

    #[test]
    fn a_hook_does_not_wait_for_the_buffers_of_its_caller() {
        let cache: Cache<u64> = Cache::new(Config::new(4 << 20)).unwrap();
        let mut buffer = cache.tier.store.buffer();
        assert!(buffer.stretch(4096).is_ok());
        assert!(attempts(&cache) > 32, "another thread may give one back");
        let _hook = Inside::enter(cache.tier.number);
        assert!(attempts(&cache) < 8);
    }
}
