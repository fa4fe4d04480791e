//! What an insert pays: room at hand for those that come after it.
//!
//! An insert that finds no room has to make some before its page can be placed. That takes long.
//! Evicting frees slots, and many slots have to come free before there are pages for a class that
//! lacks some. So in a cache of 8 MiB or more that is about full, each insert pays its part first.
//! While less room is at hand than a few chains of pages, the insert compacts a little. Or it
//! evicts about twice the bytes that it needs. Slots that come free add up to pages over many
//! inserts, and few inserts have to wait for them.

use super::Tier;
use super::evict::{Lack, Spent};
use crate::sync::{Inside, get};

/// Bytes that compaction moves for one insert.
const MOVED: usize = 8 << 10;
/// Room at hand is for so many of the chains of pages that the next object may need, but no more
/// than the capacity by [`SHARE`].
const CHAINS: usize = 2;
const SHARE: usize = 512;
/// Where the bound by [`SHARE`] is less than this, inserts pay nothing: caches below 8 MiB would
/// hold 1 to 3 % fewer pages.
const LEAST: usize = 16 << 10;
/// Entries that get a lower id for one insert.
const RENUMBERED: usize = 4;

impl<K: Send + Sync> Tier<K> {
    /// Makes some room where little is left, before an object of `len` bytes is placed in a slot of
    /// `slot` bytes.
    ///
    /// # Errors
    /// There is no room for what a hook inserts where more is held than the capacity allows.
    #[inline]
    pub(super) fn pay(&self, len: usize, slot: usize, spent: &mut Spent) -> Result<(), Lack> {
        let pool = &self.store.pool;
        let price = || 2 * (slot + self.cost(0));
        if get(&self.shrinking) > 0 && self.held() > self.capacity() {
            return self.pay_back(len, price(), spent);
        }
        // A look that costs little, for caches that are not full.
        let (slack, most) = (pool.slack_bytes(), self.capacity() / SHARE);
        if most >= LEAST && slack < most && slack < CHAINS * pool.zspage_bytes(len) {
            self.pay_off(price(), spent);
        }
        Ok(())
    }

    /// In a cache that shrinks: entries go that took more than the next one takes. So the cache
    /// gets smaller whatever is inserted, and whoever shrinks it comes to an end. An insert of a
    /// hook would put that off for ever, for it can evict nothing.
    #[cold]
    fn pay_back(&self, len: usize, price: usize, spent: &mut Spent) -> Result<(), Lack> {
        if Inside::is(self.number) {
            return Err(Lack::Place(len));
        }
        spent.bytes += self.evict(price).bytes;
        Ok(())
    }

    #[inline(never)]
    fn pay_off(&self, bytes: usize, spent: &mut Spent) {
        // What a hook inserts evicts nothing.
        if Inside::is(self.number) {
            return;
        }
        let pool = &self.store.pool;
        self.weigh();
        let done = pool.compact(MOVED).pages_freed > 0
            || self.store.scratch.make_room(pool)
            || self.frames_end(|hot| hot.insist_on_room(bytes))
            || self.move_down(RENUMBERED) > 0;
        if !done {
            // Not behind somebody else who has the policy: whoever finds no room later makes some.
            spent.bytes += self.evict_at_once(bytes).bytes;
        }
    }
}
