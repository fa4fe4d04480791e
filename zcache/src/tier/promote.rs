//! Pages that are hit again and again are kept decoded: from an entry to a frame of it, and frames
//! back to nothing.
//!
//! A promotion comes after its hit has the page, which it copies. Where room is short it evicts as
//! an insert does, while frames have less than their limit then. Otherwise one frame is replaced by
//! another.

use equivalent::Equivalent;
use zpool::AllocError;

use super::Tier;
use super::evict::{Lack, Spent};
use crate::hot::{Head, Hot, Page};
use crate::index::Tag;
use crate::scope::UNNAMED;
use crate::store::Entry;
use crate::sync::{Inside, model_bug};

/// Rounds of room that a frame is worth.
const ROUNDS: usize = 8;

impl<K: Send + Sync> Tier<K> {
    /// What `f` makes of the decoded page of `key`, if there is one. Counting is up to `f`, and
    /// `None` of its sends the caller to the entry.
    #[inline]
    pub(crate) fn hot_page<Q: Equivalent<K> + ?Sized, R>(
        &self,
        tag: Tag,
        key: &Q,
        f: impl FnOnce(Page<'_, K>) -> Option<R>,
    ) -> Option<R> {
        let page = self.hot.as_ref()?.find(tag, key, self.scopes.as_deref(), || self.now(), f)?;
        if let Some(scales) = self.scales() {
            scales.hit(tag);
        }
        Some(page)
    }

    /// A hit on an entry, of which `page` was read.
    pub(crate) fn consider(&self, hot: &Hot<K>, entry: &Entry<'_, K>, page: &[u8]) {
        let (record, state) = (entry.record(), entry.record().state());
        let whole = page.len() == state.len() && hot.suits(state.form(), state.len());
        if !whole {
            return;
        }
        if let Some(scales) = hot.scales() {
            scales.decoded(record.tag);
        }
        let free = || !self.is_full(hot.frames().frame_bytes(page.len()));
        if hot.limit() == 0 && !free() {
            return;
        }
        let (wants, crowded) = (hot.wants(record.tag, free), hot.is_crowded());
        // Not from inside a hook or a key's drop: what a promotion ends would call it again, ever
        // deeper.
        if !(wants || crowded) || Inside::is(self.number) {
            return;
        }
        let mut spent = Spent::default();
        if crowded {
            self.lengthen(hot, &mut spent);
        }
        if wants {
            if self.promote(hot, entry, page, &mut spent).is_none() {
                hot.forget(record.tag);
            }
            // They may have to be fewer meanwhile.
            hot.fit();
            self.collect_frames();
        }
    }

    /// Makes the table of frames longer where it is too short.
    fn lengthen(&self, hot: &Hot<K>, spent: &mut Spent) {
        let grow = || self.under(|under| hot.grow(&self.store.pool, under));
        if let Some(growth) = grow() {
            self.make_room_of_entries(Lack::Bytes(growth), spent);
            grow();
            hot.forgive();
        }
    }

    /// Makes a frame of an entry's page, if there is room for it.
    fn promote(
        &self,
        hot: &Hot<K>,
        entry: &Entry<'_, K>,
        page: &[u8],
        spent: &mut Spent,
    ) -> Option<()> {
        let (tag, id) = (entry.record().tag, entry.id());
        let expiry = self.store.expiry(entry)?;
        let bytes = hot.frames().frame_bytes(page.len());
        let _making = hot.make_room(page.len(), || self.collect_frames())?;
        self.lengthen(hot, spent);
        if hot.is_beyond() && self.is_full(bytes) {
            // It takes the place of others.
            hot.yield_room(bytes);
            self.collect_frames();
        }
        let mut filled = hot.frames().fill(page);
        for _ in 0..ROUNDS {
            // Where the system has no memory nobody makes way: the hit was one without this.
            if !matches!(filled, Err(AllocError::OutOfPages)) {
                break;
            }
            self.weigh();
            let yielded = hot.yield_room(bytes);
            self.collect_frames();
            if !yielded && !self.make_room_of_entries(Lack::Place(page.len()), spent) {
                break;
            }
            filled = hot.frames().fill(page);
        }
        let filled = filled.ok()?;
        let key = {
            let _inside = Inside::enter(self.number);
            (hot.clone)(&entry.record().key)
        };
        let slot = self.scopes.as_ref().map_or(UNNAMED, |scopes| scopes.slot_of(id));
        // Outside the closure, so that what comes to nothing is not dropped under the lock.
        let mut frame = Some((filled, Head::new(key, tag, id, expiry, slot)));
        let mut back = None;
        let mut put = || back = frame.take().and_then(|(filled, head)| hot.put(filled, head));
        // The entry is pinned: its id is nobody else's.
        let there = if model_bug!(PutUnlocked) {
            self.while_led_to(tag, id, &mut || ()) && {
                put();
                true
            }
        } else {
            self.while_led_to(tag, id, &mut put)
        };
        (there && back.is_none()).then_some(())
    }
}
