//! Indexes, filters and statistics as SlateDB uses them. Each look-up of a key needs them, and to
//! decode them each time would cost more than the block that it is for. They are few: a percent of
//! the data. Those that were not used lately go when there are too many: a second chance for each
//! that was.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use slatedb::db_cache::{CachedEntry, CachedKey};

/// Bytes that an entry takes beside what SlateDB says of it.
const OVERHEAD: usize = 256;

struct Slot {
    entry: CachedEntry,
    bytes: usize,
    was_used: AtomicBool,
}

#[derive(Default)]
struct Slots {
    slots: HashMap<CachedKey, Slot>,
    /// All keys of `slots`, once each, and some that were removed.
    order: VecDeque<CachedKey>,
    bytes: usize,
}

/// Decoded entries of so many bytes at the most.
pub(crate) struct Decoded {
    limit: usize,
    slots: RwLock<Slots>,
}

impl Decoded {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, slots: RwLock::default() }
    }

    fn read(&self) -> RwLockReadGuard<'_, Slots> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Slots> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, key: &CachedKey) -> Option<CachedEntry> {
        let slots = self.read();
        let slot = slots.slots.get(key)?;
        slot.was_used.store(true, Ordering::Relaxed);
        Some(slot.entry.clone())
    }

    /// Whether there is such an entry, which is replaced by one that SlateDB has decoded further.
    pub(crate) fn replace(&self, key: &CachedKey, entry: &CachedEntry) -> bool {
        if !self.read().slots.contains_key(key) {
            return false;
        }
        self.insert(key, entry)
    }

    /// Keeps an entry, if it is not too large, and says whether it does.
    pub(crate) fn insert(&self, key: &CachedKey, entry: &CachedEntry) -> bool {
        let bytes = entry.size() + OVERHEAD;
        if bytes > self.limit / 2 {
            return false;
        }
        let mut guard = self.write();
        let slots = &mut *guard;
        let slot = Slot { entry: entry.clone(), bytes, was_used: AtomicBool::new(false) };
        slots.bytes += bytes;
        match slots.slots.insert(key.clone(), slot) {
            Some(former) => slots.bytes -= former.bytes,
            None => slots.order.push_back(key.clone()),
        }
        // Each key is met twice at the most: the first time it loses its mark.
        while slots.bytes > self.limit {
            let Some(key) = slots.order.pop_front() else { break };
            let Some(slot) = slots.slots.get_mut(&key) else { continue };
            if std::mem::take(slot.was_used.get_mut()) {
                slots.order.push_back(key);
            } else if let Some(gone) = slots.slots.remove(&key) {
                slots.bytes -= gone.bytes;
            }
        }
        true
    }

    /// Removes the entries whose keys `keep` says no to.
    pub(crate) fn retain(&self, keep: impl Fn(&CachedKey) -> bool) {
        let mut guard = self.write();
        let slots = &mut *guard;
        slots.slots.retain(|key, _| keep(key));
        slots.order.retain(|key| slots.slots.contains_key(key));
        slots.bytes = slots.slots.values().map(|slot| slot.bytes).sum();
    }

    pub(crate) fn remove(&self, key: &CachedKey) {
        if self.read().slots.contains_key(key) {
            self.retain(|other| other != key);
        }
    }

    /// Bytes that the entries take.
    pub(crate) fn bytes(&self) -> usize {
        self.read().bytes
    }
}

impl fmt::Debug for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoded").field("limit", &self.limit).field("bytes", &self.bytes()).finish()
    }
}
