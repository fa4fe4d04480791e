//! What a cache holds, what it may hold, and for what.

use std::hash::{BuildHasher, Hash};

use zpool::Compaction;

use super::{Cache, threads};
use crate::config::Share;
use crate::error::ResizeError;
use crate::hot::Hot;
use crate::sync::{Charge, Ordering};
use crate::tier::{ASIDE, aside};

impl<K: Hash + Eq + Send + Sync, S: BuildHasher> Cache<K, S> {
    /// Keeps pages that are hit repeatedly decoded as well, in *frames* under the same capacity: a hit on such a page
    /// takes no lock, writes nothing that other threads write, and is little more than a copy. Its compressed copy stays, so
    /// that a frame goes at no cost when another page is hotter, or where room is needed.
    ///
    /// Of a cache's pages, those have none that are stored as they are or same-filled, and those that would fill less
    /// than half of a frame, which is whole pages of the pool's source; nor has a cache whose source gives its pages no addresses.
    /// A hit that makes a frame may evict as an insert does, so that the removal hook may be called.
    ///
    /// A frame has a clone of its key, made and dropped under no lock; a panic in that drop is swallowed. The key's `Eq` runs on it
    /// under no lock either. Heap memory that the clone points to is not counted. See [`Share`] for an example.
    #[must_use]
    pub fn with_hot(mut self, share: Share) -> Self
    where
        K: Clone,
    {
        self.keep_hot(share);
        self
    }

    /// [`with_hot`](Self::with_hot) in place.
    pub(crate) fn keep_hot(&mut self, share: Share)
    where
        K: Clone,
    {
        let tier = &mut self.tier;
        let limit = share.limit(tier.capacity(), self.least);
        let Some(bytes) = Hot::<K>::fixed_bytes(limit, threads()) else { return };
        let pool = &tier.store.pool;
        if tier.hot.is_some() || !pool.charge(bytes) {
            return;
        }
        let Some(hot) = Hot::new(pool, share, limit, threads(), K::clone) else {
            return pool.release(bytes);
        };
        self.charged += bytes;
        self.least += bytes + bytes / (ASIDE - 1) + 1;
        hot.set_limit(tier.capacity(), self.least);
        tier.hot = Some(Box::new(hot));
    }

    /// Entries; those that have expired and were not come across since among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tier.counters.entries()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cap on bytes held.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.tier.capacity()
    }

    /// Bytes held now, everything counted; at most [`capacity`](Self::capacity), unless that was
    /// lowered and a [`resize`](Self::resize) said so.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.tier.held()
    }

    /// The longest page in bytes.
    #[must_use]
    pub fn max_page(&self) -> usize {
        self.tier.store.max_page()
    }

    /// Changes the capacity. When it is lowered, entries go until the cache fits. What shrinks is pages
    /// and index; the tables of the pool and of the policy stay as long as they were at the most.
    ///
    /// # Errors
    /// See [`ResizeError`].
    pub fn resize(&self, capacity_bytes: usize) -> Result<(), ResizeError> {
        if capacity_bytes < self.least {
            return Err(ResizeError::TooSmall { least: self.least });
        }
        {
            let _both = self.tier.resizing.lock();
            self.tier.capacity.store(capacity_bytes, Ordering::Relaxed);
            self.tier.store.pool.set_max_bytes(capacity_bytes - aside(capacity_bytes));
            if let Some(hot) = &self.tier.hot {
                hot.set_limit(capacity_bytes, self.least);
                hot.fit();
            }
        }
        self.tier.collect_frames();
        let held = self.tier.shrink();
        if held > self.tier.capacity() { Err(ResizeError::StillHeld { held }) } else { Ok(()) }
    }

    /// Moves payloads together so that pages come free, `budget` bytes at the most; evicts nothing.
    /// Inserts do this by themselves when the cache is full.
    pub fn compact(&self, budget: usize) -> Compaction {
        self.tier.store.pool.compact(budget)
    }

    /// Gives back what is held without need: pages kept for the next insert, and buffers. A codec's contexts stay: the
    /// next insert would make them again, and an allocator that keeps what is freed would keep what they took.
    pub fn trim(&self) {
        let store = &self.tier.store;
        store.benches.trim(&store.pool);
        self.tier.collect_frames();
        store.pool.trim();
    }
}
