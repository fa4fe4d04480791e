//! What stands beside a decoded page, and pages that users keep.

use zpool::SharedBytes;

use crate::index::Tag;
use crate::scope::SlotNumber;
use crate::store::Millis;
use crate::sync::{Arc, AtomicU32, Counter, Ordering, add, sub};

/// In `touched`: hit since the hand of this tier came by.
pub(super) const HAND: u32 = 1;
/// In `touched`: hit since the compressed tier's policy looked.
pub(super) const POLICY: u32 = 2;
const SLOT_AT: u32 = 16;

/// What stands beside a decoded page.
#[derive(Debug)]
pub(crate) struct Head<K> {
    pub(crate) key: K,
    pub(crate) tag: Tag,
    /// The entry that it was decoded from.
    pub(crate) id: u32,
    pub(crate) expiry: Millis,
    /// Who was told of hits, and from bit 16 on the entry's slot in the scopes.
    touched: AtomicU32,
}

/// Bytes of a frame in a user's hands.
pub(super) struct Lent {
    page: SharedBytes,
    /// Bytes of all such pages.
    all: Arc<Counter>,
}

impl Lent {
    /// One more such page.
    pub(super) fn new(page: SharedBytes, all: &Arc<Counter>) -> Self {
        add(all, page.len() as u64);
        Self { page, all: Arc::clone(all) }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.page
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        sub(&self.all, self.page.len() as u64);
    }
}

impl<K> Head<K> {
    pub(crate) fn new(key: K, tag: Tag, id: u32, expiry: Millis, slot: SlotNumber) -> Self {
        Self { key, tag, id, expiry, touched: AtomicU32::new(u32::from(slot) << SLOT_AT) }
    }

    pub(crate) fn is_of(&self, tag: Tag, id: u32) -> bool {
        self.tag == tag && self.id == id
    }

    /// A hit. Writes nothing if there was one.
    #[inline]
    pub(super) fn touch(&self) {
        if self.touched.load(Ordering::Relaxed) & (HAND | POLICY) != HAND | POLICY {
            self.touched.fetch_or(HAND | POLICY, Ordering::Relaxed);
        }
    }

    /// The slot of its entry in the scopes.
    pub(super) fn slot(&self) -> SlotNumber {
        (self.touched.load(Ordering::Relaxed) >> SLOT_AT) as SlotNumber
    }

    /// Whether there was a hit since `who` asked last.
    pub(super) fn untouch(&self, who: u32) -> bool {
        self.touched.load(Ordering::Relaxed) & who != 0
            && self.touched.fetch_and(!who, Ordering::Relaxed) & who != 0
    }
}
