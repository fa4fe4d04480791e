//! How entries enter and leave, and how one takes another's place: the steps of the table in
//! [`super`].

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use equivalent::Equivalent;
use zpool::Handle;

use super::evict::{Lack, Reach};
use super::hook::Removal;
use super::pieces::{coder, rethrow};
use super::queue::Unready;
use super::scoped::InScope;
use super::weight::Weighed;
use super::{Tier, by_key, by_pin, pin_live};
use crate::codec::Form;
use crate::hot::Under;
use crate::index::{Seek, Tag, Told};
use crate::policy::Priority;
use crate::scope::SlotNumber;
use crate::stats::RemovalCause;
use crate::store::{Coders, Entry, Record, Trouble};
use crate::sync::{Inside, PutError, add, model_bug};

/// An object that is on its way to be an entry. Dropped unpublished, it goes again, and takes the
/// old entry of its key with it unless it came under a condition.
pub(crate) struct Newcomer<'t, K: Eq + Send + Sync> {
    tier: &'t Tier<K>,
    /// Pinned from its first moment on, so that its id is nobody else's.
    entry: Option<Entry<'t, K>>,
    id: u32,
    tag: Tag,
    conditional: bool,
    /// Whether the policy has it; until then the policy expects it.
    queued: bool,
}

/// What has to hold for a page to go in. Where it does not, the key keeps what it has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Condition<'f> {
    /// The page is of this load, which was not told of a change.
    Untold(&'f Told),
    /// The key has no page. Then the insert is a change of its key.
    Absent,
}

/// What a newcomer that was not made lacks, if room would help; its record comes back.
type NotMade<K> = (Option<Lack>, Record<K>);

impl<K: Send + Sync> Tier<K> {
    /// The index is about to lead to entry `id` no more: its frame goes. Under the lock of the
    /// tag's shard.
    #[inline]
    pub(super) fn cool(&self, tag: Tag, id: u32) {
        if let Some(hot) = &self.hot {
            hot.clear(tag, id);
        }
    }

    /// Ends the frames that wait for no reader any more, and goes on making a table shorter that
    /// has few. Drops keys, so under no lock.
    #[inline]
    pub(crate) fn collect_frames(&self) {
        let Some(hot) = &self.hot else { return };
        if hot.has_work() {
            self.under(|under| hot.settle(1, under));
        }
        if hot.frames().waiting_bytes() > 0 {
            // As in `bury`.
            let _inside = Inside::enter(self.number);
            hot.frames().collect();
        }
    }

    /// What `f` does, with a way to do things under a shard's lock while the index leads to an
    /// entry.
    pub(crate) fn under<R>(&self, f: impl FnOnce(Under<'_>) -> R) -> R {
        f(&|tag, id, act| {
            self.while_led_to(tag, id, act);
        })
    }

    /// Calls `act` under the lock of a tag's shard if the index leads to entry `id`; says whether
    /// it does.
    pub(super) fn while_led_to(&self, tag: Tag, id: u32, act: &mut dyn FnMut()) -> bool {
        self.index.with(tag, id, act)
    }

    /// The table of frames gets as short as it will be.
    pub(crate) fn settle_frames(&self) {
        if let Some(hot) = &self.hot {
            self.under(|under| hot.settle_all(under));
        }
    }

    /// The entry that `which` takes off the index, as the key's owner.
    fn take_off<'t>(
        &'t self,
        tag: Tag,
        which: impl Seek<Entry = Entry<'t, K>>,
    ) -> Option<Entry<'t, K>> {
        let take = |found: Option<&Entry<'t, K>>| {
            self.flights.tell(tag);
            found.inspect(|entry| self.cool(tag, entry.id()));
        };
        // Told also where the key's `Eq` panics.
        let untold = Untold(self, tag);
        let taken = self.index.take(tag, &|id| self.tag_of(id), which, take);
        std::mem::forget(untold);
        taken
    }

    /// Takes the entry of `key` off index and policy, as its owner: leases and loads are told. One
    /// whose scope has ended goes, but was none.
    pub(crate) fn unlink<Q: Equivalent<K> + ?Sized>(
        &self,
        tag: Tag,
        key: &Q,
        cause: RemovalCause,
    ) -> Option<Gone<'_, K>> {
        let entry = self.take_off(tag, by_key(&self.store.pool, tag, key))?;
        self.policy_forgets(entry.id());
        let ended = self.has_ended(entry.id());
        let gone = self.gone(entry, cause);
        (!ended).then_some(gone)
    }

    /// Ends the entry of a key by its tag alone, and with it any other of that tag: for a thread
    /// that panics, in which the key's `Eq` must not run.
    fn end_unseen(&self, tag: Tag) -> bool {
        let mut ended = false;
        let by_tag = || by_pin(&self.store.pool, |entry| entry.record().tag == tag);
        while let Some(entry) = self.take_off(tag, by_tag()) {
            self.policy_forgets(entry.id());
            self.bury(entry, RemovalCause::Replaced);
            ended = true;
        }
        ended
    }

    /// Ends the old entry of a key whose new page did not make it; says whether there was one.
    pub(crate) fn end_stale(&self, tag: Tag, key: &K) -> bool
    where
        K: Eq,
    {
        if std::thread::panicking() {
            self.end_unseen(tag)
        } else {
            self.end(tag, key, RemovalCause::Replaced)
        }
    }

    /// Takes this very entry off the index, if it is still there, and ends it. Leases and loads are
    /// told where it is its owner that wants it gone.
    pub(crate) fn withdraw(
        &self,
        entry: Entry<'_, K>,
        cause: RemovalCause,
        by_owner: bool,
    ) -> bool {
        let id = entry.id();
        let taken = self.take_this(&entry, by_owner);
        if taken || model_bug!(LoserFrees) {
            self.policy_forgets(id);
            drop(self.gone(entry, cause));
        }
        taken
    }

    /// Takes a victim off the index, if it is still there, and ends it. The policy has forgotten it
    /// already.
    pub(super) fn withdraw_victim(&self, entry: Entry<'_, K>) -> bool {
        let taken = self.take_this(&entry, false);
        if taken || model_bug!(LoserFrees) {
            drop(self.gone(entry, RemovalCause::Evicted));
        }
        taken
    }

    /// Takes this very entry off the index, if it is still there.
    fn take_this(&self, entry: &Entry<'_, K>, by_owner: bool) -> bool {
        let (tag, id) = (entry.record().tag, entry.id());
        let take = |there| {
            if by_owner {
                self.flights.tell(tag);
            }
            if there {
                self.cool(tag, id);
            }
        };
        self.index.take_id(tag, id, &|id| self.tag_of(id), take)
    }

    /// The same for an entry that the caller keeps a hold of.
    pub(crate) fn withdraw_again(&self, entry: &Entry<'_, K>, cause: RemovalCause) {
        // Freed already: somebody else has ended it. Otherwise the id is this entry's while it is
        // held.
        if let Ok(again) = self.store.pool.pin(entry.handle()) {
            self.withdraw(again, cause, false);
        }
    }

    /// Whether `key` has a page at this instant. One whose time is over ends here.
    pub(crate) fn has_page<Q: Equivalent<K> + ?Sized>(&self, tag: Tag, key: &Q) -> bool {
        loop {
            let Some(entry) = self.find(tag, key) else { return false };
            let read = self.with_room(|| match self.store.read(&entry, self.now(), &mut []) {
                Err(Trouble::Full(full)) => Err(Some(full.into())),
                read => Ok(read),
            });
            let cause = match read {
                Ok(Err(Trouble::Expired)) => RemovalCause::Expired,
                Ok(Err(Trouble::Corrupt)) => RemovalCause::Corrupt,
                // It is off the index already.
                Ok(Err(Trouble::Left)) => continue,
                // Or there is no memory to look at it with.
                Ok(Ok(()) | Err(Trouble::Full(_))) | Err(_) => return true,
            };
            self.withdraw(entry, cause, false);
            return false;
        }
    }

    /// An entry that this caller took off the index and that the policy has forgotten.
    pub(crate) fn gone<'t>(&'t self, entry: Entry<'t, K>, cause: RemovalCause) -> Gone<'t, K> {
        entry.record().retire();
        Gone { tier: self, entry: Some(entry), cause }
    }

    pub(crate) fn policy_forgets(&self, id: u32) {
        if !model_bug!(FreedQueued) {
            self.policy.forget(id, &self.store.pool);
        }
    }

    /// Gives back what the policy has for entries that have gone. It is asked at each removal, but
    /// the id of the entry that goes is in use then.
    pub(crate) fn shrink_policy(&self) {
        while self.policy.lock().shrink(&self.store.pool) {}
    }

    /// Ends an entry that this caller took off the index, and that the policy has forgotten: tells
    /// the hook, and frees it. The last reader gives its memory back.
    pub(crate) fn bury(&self, entry: Entry<'_, K>, cause: RemovalCause) {
        let state = entry.record().state();
        let cause = if self.has_ended(entry.id()) { RemovalCause::Cleared } else { cause };
        self.counters.left(state.form(), state.len(), self.stored_len(&entry), cause);
        // Before what calls user code: what that inserts evicts nothing, or it would not come to an
        // end.
        let _inside = Inside::enter(self.number);
        self.collect_frames();
        // The pin goes before the object is freed, so that it ends here and not by a reader's way.
        let _free = Free::of(self, &entry);
        let entry = entry;
        let Some(hook) = &self.hook else { return };
        let tell = || hook(&Removal::new(&entry, self.stored_len(&entry), &self.store, cause));
        if std::thread::panicking() {
            // A second panic would end the process: this hook's is swallowed.
            let _ = catch_unwind(AssertUnwindSafe(tell));
        } else {
            tell();
        }
    }

    /// Frees an entry whose place in index and policy another object of the same page has taken:
    /// nobody is told.
    fn supersede(&self, entry: Entry<'_, K>) {
        let state = entry.record().state();
        self.counters.withdrawn(state.form(), state.len(), self.stored_len(&entry));
        // As in `bury`: the key's drop is the user's.
        let _inside = Inside::enter(self.number);
        self.collect_frames();
        let _free = Free::of(self, &entry);
        drop(entry);
    }

    /// Ends the entry of `key`, if there is one.
    pub(crate) fn end<Q: Equivalent<K> + ?Sized>(
        &self,
        tag: Tag,
        key: &Q,
        cause: RemovalCause,
    ) -> bool {
        self.unlink(tag, key, cause).is_some()
    }
}

impl<'t, K: Eq + Send + Sync> Newcomer<'t, K> {
    /// Stores `parts` as an object with `record`, in this slot of the scopes if there are any. The
    /// policy has room for it before it exists.
    pub(crate) fn make(
        tier: &'t Tier<K>,
        reach: Reach,
        record: Record<K>,
        parts: [&[u8]; 2],
        conditional: bool,
        slot: SlotNumber,
    ) -> Result<Self, NotMade<K>> {
        let (pool, tag) = (&tier.store.pool, record.tag);
        let mut asked = None;
        let ready = |id| {
            let expected = tier.expect(id);
            asked = Some(expected);
            expected.is_ok()
        };
        let made = match reach {
            Reach::AtHand => pool.try_alloc_record_at(record, parts, ready),
            Reach::Top => pool.alloc_record_parts_at(record, parts, ready),
        };
        let error = match made {
            Ok(handle) => return Ok(Self::new(tier, handle, tag, conditional, slot)),
            Err(error) => error,
        };
        let bytes = parts.iter().map(|part| part.len()).sum();
        let lack = match asked {
            Some(Err(Unready::NoRoom(bytes))) => Some(Lack::Bytes(bytes)),
            Some(Err(Unready::NoMemory)) => Some(Lack::NoMemory),
            Some(Ok(())) | None => Lack::of(error.0, bytes),
        };
        Err((lack, error.1))
    }

    /// The object `handle`, known to nobody else, whose id the policy expects.
    fn new(
        tier: &'t Tier<K>,
        handle: Handle,
        tag: Tag,
        conditional: bool,
        slot: SlotNumber,
    ) -> Self {
        let id = tier.store.pool.id(handle).expect("a handle of this pool");
        let entry = pin_live(&tier.store.pool, id);
        let state = entry.record().state();
        tier.counters.entered(state.form(), state.len(), entry.len());
        tier.store.coders.entered(coder(&entry));
        if let Some(scopes) = &tier.scopes {
            scopes.enter(id, slot, Tier::<K>::scope_bytes(entry.len()));
        }
        Self { tier, entry: Some(entry), id, tag, conditional, queued: false }
    }

    fn entry(&self) -> &Entry<'t, K> {
        self.entry.as_ref().expect("there until it is published")
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Makes it known to the policy, whose tables have room for it.
    pub(crate) fn queue(&mut self, priority: Priority) {
        self.queued = true;
        self.tier.policy.enter(self.id, self.tag, priority);
    }

    /// Makes the index lead to it, if the condition holds. What it replaces ends here. If its scope
    /// has ended since the insert began, the insert counts as one of before: what the key has
    /// stays, and the newcomer is cleared.
    ///
    /// # Errors
    /// See [`PutError`]; it may be tried again.
    pub(crate) fn publish(&mut self, condition: Option<Condition<'_>>) -> Result<(), PutError> {
        let (tier, id, tag) = (self.tier, self.id, self.tag);
        let new = self.entry().record();
        let same = by_key(&tier.store.pool, tag, &new.key);
        let tag_of = |of| tier.tag_of(of);
        let is_page = |old: &Entry<'_, K>| !tier.has_ended(old.id());
        let ended = Cell::new(false);
        let admit = |old: Option<&Entry<'_, K>>| {
            // A page that came since the end is newer. Acquire in `is_live` and the locks of names
            // and of this shard, which its insert took, order it.
            ended.set(tier.has_ended(id) && !model_bug!(EndedEnters));
            if ended.get() {
                return false;
            }
            match condition {
                Some(Condition::Untold(told)) if told.is_told() => return false,
                Some(Condition::Untold(_)) => {}
                Some(Condition::Absent)
                    if old.is_some_and(is_page) && !model_bug!(AbsentUnasked) =>
                {
                    return false;
                }
                Some(Condition::Absent) | None => tier.flights.tell(tag),
            }
            // Under the shard's lock, so that who tells loads and then goes through all entries
            // misses none.
            new.publish();
            old.inspect(|old| tier.cool(tag, old.id()));
            true
        };
        let put = tier.index.put((tag, id), &tag_of, same, admit);
        let untold = matches!(condition, Some(Condition::Untold(_)));
        if put.is_err() && ended.get() && !untold {
            self.clear();
            return Ok(());
        }
        let old = put?;
        // Pinned still: gone meanwhile or not, its id is nobody else's.
        let new = self.entry.take();
        // It is in, whatever the hook of what it replaces does.
        add(&tier.counters.inserts, 1);
        if let Some(old) = &old {
            tier.policy.lock().replace(old.id(), id, &tier.store.pool);
        }
        drop((new, old.map(|old| tier.gone(old, RemovalCause::Replaced))));
        Ok(())
    }

    /// Ends it as an entry that came and was cleared at once: nobody was led to it.
    fn clear(&mut self) {
        let Some(entry) = self.entry.take() else { return };
        add(&self.tier.counters.inserts, 1);
        if std::mem::take(&mut self.queued) {
            self.tier.policy_forgets(self.id);
        }
        drop(self.tier.gone(entry, RemovalCause::Cleared));
    }

    /// Whether its key has a page at this instant.
    pub(crate) fn is_late(&self) -> bool {
        self.tier.has_page(self.tag, &self.entry().record().key)
    }

    /// Takes the place of `old`, of which it is the same page, if the index still leads there and
    /// nobody walks.
    pub(crate) fn swap(mut self, old: Entry<'_, K>) -> bool {
        let (tier, id, tag) = (self.tier, self.id, self.tag);
        let new = self.entry().record();
        // `old` is pinned: its id is nobody else's.
        let change = || {
            tier.cool(tag, old.id());
            // Under the locks, so that who goes through all entries meets one of the two.
            new.publish();
            old.record().retire();
            Some(id)
        };
        if model_bug!(SwapFreesFirst) {
            let _ = tier.store.pool.free(old.handle());
        }
        let there = || tier.index.look(tag, (Some, |_: &u32| true)).unwrap_or(old.id());
        let of = if model_bug!(SwapUnasked) { there() } else { old.id() };
        let swap = || tier.index.swap(tag, of, change).then_some(());
        if tier.walks.between(swap).is_none() {
            return false;
        }
        // Pinned still: gone meanwhile or not, its id is nobody else's.
        let new = self.entry.take();
        tier.policy.lock().replace(old.id(), id, &tier.store.pool);
        drop(new);
        tier.supersede(old);
        true
    }
}

impl<K: Eq + Send + Sync> Newcomer<'_, K> {
    /// Ends it unpublished; says whether that ended an old entry of its key.
    pub(crate) fn give_up(mut self) -> bool {
        self.end()
    }

    fn end(&mut self) -> bool {
        let Some(entry) = self.entry.take() else { return false };
        let tier = self.tier;
        // Freed at the end, also where a hook panics.
        let _free = Free::of(tier, &entry);
        // Declared after, so dropped before.
        let entry = entry;
        if self.queued {
            tier.policy_forgets(self.id);
        }
        let state = entry.record().state();
        tier.counters.withdrawn(state.form(), state.len(), tier.stored_len(&entry));
        !self.conditional && tier.end_stale(self.tag, &entry.record().key)
    }
}

impl<K: Eq + Send + Sync> Drop for Newcomer<'_, K> {
    fn drop(&mut self) {
        self.end();
    }
}

/// An entry that is off the index and the policy, and is buried when this is dropped.
pub(crate) struct Gone<'t, K: Send + Sync> {
    tier: &'t Tier<K>,
    entry: Option<Entry<'t, K>>,
    cause: RemovalCause,
}

impl<'t, K: Send + Sync> Gone<'t, K> {
    pub(crate) fn entry(&self) -> &Entry<'t, K> {
        self.entry.as_ref().expect("there until it is buried")
    }

    pub(crate) fn bury(mut self, cause: RemovalCause) {
        self.cause = cause;
    }
}

impl<K: Send + Sync> Drop for Gone<'_, K> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.tier.bury(entry, self.cause);
        }
    }
}

/// Tells the loads of a key that its owner wants gone, when this is dropped.
struct Untold<'t, K: Send + Sync>(&'t Tier<K>, Tag);

impl<K: Send + Sync> Drop for Untold<'_, K> {
    fn drop(&mut self) {
        self.0.fence(self.1);
    }
}

/// Frees an object that nobody else can, when it is dropped; its coder and its scope lose one then,
/// and what its key weighs goes back.
struct Free<'t, K: Send + Sync> {
    tier: &'t Tier<K>,
    handle: Handle,
    /// The id by which its pieces are known, if it has any.
    in_pieces: Option<u32>,
    // Dropped also where the drop of the key panics, which comes with the object's end.
    _coder: Left<'t>,
    _scope: Option<InScope<'t, K>>,
    _weight: Weighed<'t, K>,
}

impl<'t, K: Send + Sync> Free<'t, K> {
    /// For an entry that is retired, or was never published.
    fn of(tier: &'t Tier<K>, entry: &Entry<'_, K>) -> Self {
        let weight = tier.weighed_at_end(entry);
        let scope = tier.scopes.as_ref().map(|scopes| {
            let bytes = Tier::<K>::scope_bytes(tier.stored_len(entry));
            InScope::end(scopes, scopes.slot_of(entry.id()), bytes)
        });
        let coder = Left(&tier.store.coders, coder(entry));
        let in_pieces = entry.record().state().form() == Form::Pieces;
        let in_pieces = in_pieces.then(|| entry.id());
        let handle = entry.handle();
        Self { tier, handle, in_pieces, _coder: coder, _scope: scope, _weight: weight }
    }
}

impl<K: Send + Sync> Drop for Free<'_, K> {
    fn drop(&mut self) {
        let panic = self.in_pieces.and_then(|id| self.tier.end_pieces(id));
        let freed = self.tier.store.pool.free(self.handle);
        let bugs = [model_bug!(LoserFrees), model_bug!(SwapFreesFirst), model_bug!(SwapUnasked)];
        let twice = bugs.contains(&true);
        debug_assert!(freed.is_ok() || twice, "an entry ends once");
        rethrow(panic);
    }
}

struct Left<'c>(&'c Coders, u8);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.left(self.1);
    }
}
