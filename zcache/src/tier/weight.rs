//! What keys weigh beside their records: heap memory of theirs, which is charged while the entry is
//! there.
//!
//! A record has no room for a weight, so the user's function is called again when the entry ends.
//! It may lie, or panic. So no more is released than all keys have been charged, and the capacity
//! holds whatever the function says.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Tier;
use super::evict::{Lack, Spent};
use crate::error::MAX_PIECE;
use crate::store::{Entry, Full};
use crate::sync::{Charge, Ordering, add};

/// Objects of a page of `len` bytes. The pieces of a long one have clones of its key.
const fn objects(len: usize) -> usize {
    if len > MAX_PIECE { 1 + len.div_ceil(MAX_PIECE) } else { 1 }
}

/// What a key weighs: charged until this is dropped.
#[must_use]
pub(crate) struct Weighed<'t, K: Send + Sync> {
    tier: &'t Tier<K>,
    bytes: usize,
}

impl<K: Send + Sync> Tier<K> {
    pub(crate) fn set_weigh(&mut self, weigh: fn(&K) -> usize) {
        self.weigh = Some(weigh);
    }

    /// What the key of a page of `len` bytes weighs, in all objects of the page. Runs user code.
    #[inline]
    pub(crate) fn weight_of(&self, key: &K, len: usize) -> usize {
        self.weigh.map_or(0, |weigh| weigh(key).saturating_mul(objects(len)))
    }

    /// Charges so many bytes for a key.
    ///
    /// # Errors
    /// No room for them.
    #[inline]
    pub(crate) fn weighed(&self, bytes: usize) -> Result<Weighed<'_, K>, Full> {
        if bytes > 0 {
            if !self.store.pool.charge(bytes) {
                return Err(Full::Cap(bytes));
            }
            add(&self.counters.key_bytes, bytes as u64);
        }
        Ok(Weighed { tier: self, bytes })
    }

    /// The same for an insert, which makes room.
    ///
    /// # Errors
    /// What it lacks.
    #[inline]
    pub(super) fn weigh_in(
        &self,
        bytes: usize,
        spent: &mut Spent,
    ) -> Result<Weighed<'_, K>, Option<Lack>> {
        if bytes == 0 {
            return Ok(Weighed { tier: self, bytes });
        }
        self.insist(spent, |_| self.weighed(bytes).map_err(|full| Some(full.into())))
    }

    /// What the key of an entry weighs that is about to end: given back when this is dropped.
    #[inline]
    pub(super) fn weighed_at_end(&self, entry: &Entry<'_, K>) -> Weighed<'_, K> {
        Weighed { tier: self, bytes: self.weight_at_end(entry) }
    }

    /// What the key of an entry weighs; 0 where the user's function panics, which must not keep the
    /// entry from its end.
    #[inline]
    pub(super) fn weight_at_end(&self, entry: &Entry<'_, K>) -> usize {
        if self.weigh.is_none() {
            return 0;
        }
        let (key, len) = (&entry.record().key, entry.record().state().len());
        catch_unwind(AssertUnwindSafe(|| self.weight_of(key, len))).unwrap_or(0)
    }
}

impl<K: Send + Sync> Weighed<'_, K> {
    /// It is the entry's from now on.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl<K: Send + Sync> Drop for Weighed<'_, K> {
    #[inline]
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut taken = 0;
        let less = |all: u64| {
            taken = all.min(self.bytes as u64);
            Some(all - taken)
        };
        let order = Ordering::Relaxed;
        let _ = self.tier.counters.key_bytes.fetch_update(order, order, less);
        self.tier.store.pool.release(taken as usize);
    }
}
