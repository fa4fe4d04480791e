//! The slot of a scope's entries, and the states that it has.

use crate::sync::{AtomicU32, AtomicUsize, Counter, Ordering};

/// The number of a slot.
pub(crate) type SlotNumber = u16;

/// The slot of the entries whose scopes have none.
pub(crate) const UNNAMED: SlotNumber = 0;

/// States of a slot.
pub(super) const FREE: u32 = 0;
pub(super) const LIVE: u32 = 1;
pub(super) const ENDED: u32 = 2;

/// No limit.
pub(super) const UNLIMITED: u64 = u64::MAX;

#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Slot {
    pub(super) state: AtomicU32,
    /// Entries, and inserts that are on their way.
    pub(super) users: AtomicUsize,
    /// Entries alone.
    pub(super) entries: Counter,
    pub(super) bytes: Counter,
    pub(super) limit: Counter,
    /// The line at which the search for entries to evict goes on.
    pub(super) hand: Counter,
    pub(super) inserts: Counter,
    pub(super) evicted: Counter,
}

impl Slot {
    pub(super) fn new(state: u32) -> Self {
        Self {
            state: AtomicU32::new(state),
            users: AtomicUsize::new(0),
            entries: Counter::new(0),
            bytes: Counter::new(0),
            limit: Counter::new(UNLIMITED),
            hand: Counter::new(0),
            inserts: Counter::new(0),
            evicted: Counter::new(0),
        }
    }

    /// A slot that was free gets entries of a scope with this limit.
    pub(super) fn start(&self, limit: u64) {
        for (counter, value) in
            [(&self.limit, limit), (&self.hand, 0), (&self.inserts, 0), (&self.evicted, 0)]
        {
            counter.store(value, Ordering::Relaxed);
        }
        // Release: whoever finds it live knows that what was in it before has been retired.
        self.state.store(LIVE, Ordering::Release);
    }

    /// Whether nothing is in it. Under the lock of the names, or a hint.
    pub(super) fn is_empty(&self) -> bool {
        // From nothing on, tickets alone make more of it, and they are given under the lock.
        // Acquire pairs with the Release in `left`: all that was in it has been retired.
        self.users.load(Ordering::Acquire) == 0
    }
}
