//! What scopes change for entries: who is a hit, who goes first, and who goes for a limit.

use std::cell::Cell;
use std::convert::Infallible;

use zpool::AllocError;

use super::Tier;
use super::evict::{Evicted, TABLES};
use super::queue::Unready;
use crate::index::Tag;
use crate::scope::{IN_LINE, Scopes, SlotNumber, Ticket};
use crate::stats::RemovalCause;
use crate::store::{Entry, Record};
use crate::sync::{Inside, model_bug};

/// Lines that are looked at for entries of ended scopes before the policy names any, or by one
/// insert for entries of a scope beyond its limit: 32,768 ids, in some 10 microseconds.
const LINES: usize = 1024;

/// What is found of an entry that was just looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Live,
    /// Its scope has ended.
    Ended,
    /// It is not in the index any more, and the key may have another.
    Left,
}

impl<K: Send + Sync> Tier<K> {
    /// Whether an entry that is pinned is a hit.
    #[inline]
    fn presence(&self, entry: &Entry<'_, K>) -> Presence {
        let Some(scopes) = &self.scopes else { return Presence::Live };
        let live = scopes.is_live(scopes.slot_of(entry.id()));
        // Asked after: the slot of an entry that has left it may be live in another scope's name.
        if !entry.record().state().published() && !model_bug!(LeftUnasked) {
            return Presence::Left;
        }
        if live { Presence::Live } else { Presence::Ended }
    }

    /// The same for who goes through entries.
    pub(crate) fn is_hit(&self, entry: &Entry<'_, K>) -> bool {
        self.presence(entry) == Presence::Live
    }

    /// What `find` finds, if it is a hit.
    #[inline(never)]
    pub(super) fn live<'t>(
        &'t self,
        mut find: impl FnMut() -> Option<Entry<'t, K>>,
    ) -> Option<Entry<'t, K>> {
        self.live_unless(|| Ok::<_, Infallible>(find())).unwrap_or_else(|never| match never {})
    }

    /// The same where finding may fail.
    ///
    /// # Errors
    /// Those of `find`.
    #[inline]
    pub(super) fn live_unless<'t, E>(
        &'t self,
        mut find: impl FnMut() -> Result<Option<Entry<'t, K>>, E>,
    ) -> Result<Option<Entry<'t, K>>, E> {
        loop {
            let Some(entry) = find()? else { return Ok(None) };
            match self.presence(&entry) {
                Presence::Live => return Ok(Some(entry)),
                Presence::Ended => return Ok(None),
                Presence::Left => {}
            }
        }
    }

    /// Whether the scope of entry `id` has ended, which is in a slot.
    #[inline]
    pub(crate) fn has_ended(&self, id: u32) -> bool {
        self.scopes.as_ref().is_some_and(|scopes| !scopes.is_live(scopes.slot_of(id)))
    }

    /// Bytes that an entry counts for in its scope.
    pub(crate) fn scope_bytes(len: usize) -> u64 {
        (len + size_of::<Record<K>>() + TABLES) as u64
    }

    /// A ticket for the scope of a key. Runs user code.
    #[inline]
    pub(super) fn ticket(&self, key: &K) -> Option<Ticket<'_, K>> {
        self.scopes.as_ref().map(|scopes| scopes.ticket(scopes.scope_of(key)))
    }

    /// Makes room for the slot of `id`, which the pool has handed out.
    ///
    /// # Errors
    /// See [`Unready`].
    pub(super) fn expect_scope(&self, id: u32) -> Result<(), Unready> {
        let Some(scopes) = &self.scopes else { return Ok(()) };
        scopes.expect(id).map_err(|error| match error {
            AllocError::OutOfPages => Unready::NoRoom(Scopes::<K>::growth_bytes()),
            _ => Unready::NoMemory,
        })
    }

    /// Ends entries of ended scopes that took `goal` bytes or little more, if the search finds as
    /// many.
    pub(crate) fn reclaim(&self, goal: usize) -> Evicted {
        let mut reclaimed = Evicted::default();
        let Some(scopes) = &self.scopes else { return reclaimed };
        // All of them, if they are fewer: no line twice.
        let mut lines = LINES.min(self.ids().end.div_ceil(IN_LINE) as usize);
        while lines > 0 && reclaimed.bytes < goal && scopes.have_ended() {
            lines -= 1;
            for id in scopes.next_ids(None, self.ids().end, |slot| !scopes.is_live(slot)) {
                // Not `entry`, which waits for pins: whoever comes here may hold some.
                let Ok(entry) = self.store.pool.pin_id(id) else { continue };
                let bytes = self.cost(self.stored_len(&entry));
                if self.presence(&entry) == Presence::Ended
                    && self.withdraw(entry, RemovalCause::Cleared, false)
                {
                    reclaimed.entries += 1;
                    reclaimed.bytes += bytes;
                }
            }
        }
        reclaimed
    }

    /// Makes room under the limit of a slot for a key with this tag and `len` stored bytes: entries
    /// of its own go, those that were not hit first. What a hook inserts evicts nothing.
    pub(super) fn keep_to_limit(&self, slot: SlotNumber, tag: Tag, len: usize) {
        let Some(scopes) = &self.scopes else { return };
        let more = Self::scope_bytes(len);
        if scopes.excess(slot, more) > 0 && !Inside::is(self.number) {
            self.evict_of(scopes, slot, tag, more);
        }
    }

    /// Whether the slot's limit has room for a page of `len` bytes as it is. What goes for a limit
    /// goes by age, whatever entered with low priority.
    pub(super) fn is_within_limit(&self, slot: SlotNumber, len: usize) -> bool {
        let Some(scopes) = &self.scopes else { return true };
        scopes.excess(slot, Self::scope_bytes(len)) == 0
    }

    /// Evicts entries of a slot while there is no room for `more` bytes, as far as the search goes.
    /// The entry of the key with this tag stays until it is replaced, or readers would miss the
    /// key.
    #[inline(never)]
    fn evict_of(&self, scopes: &Scopes<K>, slot: SlotNumber, tag: Tag, more: u64) {
        let replaced = Cell::new(0);
        let more = || scopes.excess(slot, more) > replaced.get();
        for _ in 0..LINES {
            for id in scopes.next_ids(Some(slot), self.ids().end, |of| of == slot) {
                if !more() {
                    return;
                }
                let Ok(entry) = self.store.pool.pin_id(id) else { continue };
                let (record, state) = (entry.record(), entry.record().state());
                if !state.published() || scopes.slot_of(id) != slot {
                    continue;
                }
                if record.tag == tag {
                    replaced.set(Self::scope_bytes(self.stored_len(&entry)));
                    continue;
                }
                let hot = self.hot.as_ref();
                let was_hit = hot.is_some_and(|hot| hot.was_hit(record.tag, id));
                if was_hit || state.mark() > 0 {
                    // It stays for a round, or for as many as it has marks.
                    record.set_mark(if was_hit { 0 } else { state.mark() - 1 });
                } else if self.withdraw(entry, RemovalCause::Evicted, false) {
                    scopes.evicted(slot);
                }
            }
            if !more() {
                return;
            }
        }
    }

    /// Ends the entries of scopes without a slot that `which` says yes to, as of a scope that ends.
    pub(crate) fn end_unnamed(&self, which: impl Fn(&K) -> bool) {
        let Some(scopes) = &self.scopes else { return };
        if !scopes.have_unnamed() {
            return;
        }
        let _walk = self.walk();
        for id in self.ids() {
            let Some(entry) = self.entry(id) else { continue };
            if scopes.slot_of(id) == crate::scope::UNNAMED && which(&entry.record().key) {
                self.withdraw(entry, RemovalCause::Cleared, true);
            }
        }
    }

    /// Entry `id` gets the id `new`, if there is room for that.
    pub(super) fn rename_in_scope(&self, id: u32, new: u32, ready: bool) {
        if let Some(scopes) = self.scopes.as_ref().filter(|_| ready) {
            scopes.rename(id, new);
        }
    }

    /// Gives back what scopes hold for ids that are gone.
    pub(crate) fn shrink_scopes(&self) {
        if let Some(scopes) = &self.scopes {
            scopes.shrink(|ids| self.store.pool.uses_ids(ids));
        }
    }
}

/// An entry that has ended, and leaves its slot when this is dropped.
pub(super) struct InScope<'t, K> {
    scopes: &'t Scopes<K>,
    slot: SlotNumber,
    bytes: u64,
}

impl<'t, K> InScope<'t, K> {
    pub(super) fn end(scopes: &'t Scopes<K>, slot: SlotNumber, bytes: u64) -> Self {
        scopes.ends(slot);
        Self { scopes, slot, bytes }
    }
}

impl<K> Drop for InScope<'_, K> {
    fn drop(&mut self) {
        self.scopes.leave(self.slot, self.bytes);
    }
}
