//! A cache gets smaller: what is beyond its new capacity goes.

use super::Tier;
use super::evict::{Evicted, MOVED, STEP};
use crate::sync::{add, model_bug, sub};

impl<K: Send + Sync> Tier<K> {
    /// Evicts until no more than the capacity is held, or nothing is left to evict; says what is
    /// held. What can be had without evicting is had first: each step evicts half of what is too
    /// much, and then compacts, since what evicting frees shows only after that.
    ///
    /// Meanwhile the pool's cap falls along with what is held. So an insert finds room, pays for it
    /// (see `debt`), and need not evict all that is too much by itself.
    pub(crate) fn shrink(&self) -> usize {
        let _capped = Capped::new(self);
        loop {
            self.settle();
            let excess = self.held().saturating_sub(self.capacity());
            if excess == 0 {
                let held = self.held_within();
                if held <= self.capacity() {
                    return held;
                }
                continue;
            }
            let demoted = self.frames_end(|hot| hot.insist_on_room(excess));
            if demoted || self.evict_half(excess) {
                continue;
            }
            if !self.make_room_of_frames() {
                self.store.scratch.trim(&self.store.pool);
                self.give_sample_up();
                self.settle();
                return self.held_within();
            }
        }
    }

    /// What is held when no more may be taken than the capacity allows: if it fits, it goes on to.
    fn held_within(&self) -> usize {
        if !model_bug!(CapFallsLate) {
            self.lower_cap(0);
        }
        self.held()
    }

    /// Evicts half of what is too much; whether there was anything to evict.
    fn evict_half(&self, excess: usize) -> bool {
        let (goal, mut evicted) = ((excess / 2).max(self.batch()), Evicted::default());
        while evicted.bytes < goal {
            let batch = self.evict(self.batch());
            if batch.entries == 0 {
                break;
            }
            evicted.bytes += batch.bytes;
            evicted.entries += batch.entries;
        }
        evicted.entries > 0
    }

    /// Gives back what is held without need and can be had without evicting.
    fn settle(&self) {
        let pool = &self.store.pool;
        self.settle_frames();
        while pool.compact(STEP).pages_freed > 0 {}
        while self.move_down(MOVED) > 0 {}
        self.index.shrink(&|id| self.tag_of(id));
        self.shrink_policy();
        self.shrink_scopes();
        self.trim_pool();
        self.lower_cap(usize::MAX);
    }

    /// Gives back all that the pool keeps: one huge page is split at a time.
    pub(crate) fn trim_pool(&self) {
        let pool = &self.store.pool;
        let mut held = usize::MAX;
        while pool.held_bytes() < held {
            held = pool.held_bytes();
            pool.trim();
        }
    }
}

/// While this is there, inserts pay for what is held too much. Where it is dropped, no more may be
/// taken than the capacity allows, also after a hook's panic.
struct Capped<'t, K: Send + Sync>(&'t Tier<K>);

impl<'t, K: Send + Sync> Capped<'t, K> {
    fn new(tier: &'t Tier<K>) -> Self {
        add(&tier.shrinking, 1);
        Self(tier)
    }
}

impl<K: Send + Sync> Drop for Capped<'_, K> {
    fn drop(&mut self) {
        sub(&self.0.shrinking, 1);
        self.0.lower_cap(0);
    }
}
