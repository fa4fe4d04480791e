//! The tier: index, policy and store together, and the order in which an entry enters and leaves them.
//! ```text
//! enter   object in the pool -> queued in the policy -> published in the index -> flagged published
//! leave   off the index (whoever does that, and nobody else, ends the entry) -> off the policy
//!         -> hook -> freed
//! swap    a recompressed entry's object takes the old one's place in the index, if that leads to the old one still
//!         -> takes its place in the policy -> the old one freed; no hook: the key keeps its page
//! cool    whoever takes an entry off the index takes its frame off as well, under the same lock
//! evict   policy names a victim and forgets it, and it is pinned, in one hold of the policy's lock;
//!         then as above
//! ```
//! Why an id can be trusted:
//! 1. an id in the index is a live object's: it is freed only after it has left the index. So pins under
//!    the shard's lock succeed, and a reader never meets a stale one;
//! 2. an id in the policy is a live object's: it is freed only after it has left the policy. So the
//!    victim's pin under the policy's lock succeeds;
//! 3. a pinned object's id is not given out again. So comparing the id of a pinned entry with the
//!    index's is comparing entries.
//!
//! Locks: a shard of the index, the policy, a bench's slot, the table of coders, the pool's own; no two at once, but that a
//! shard or the policy may be held over a pin or a charge, which take none; a shard over a frame that goes into its slot or off
//! it, which takes the lock of a set of slots and no other one; the [`Walks`] over a shard; and the table of coders over
//! the pool's own.
//! The hand of `maintain` is only ever tried for, so whoever has it may do anything.
//! The key's `Eq` runs under a shard's lock; all other user code under none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use equivalent::Equivalent;
use zpool::{Handle, MapError};

use crate::balance::Scales;
use crate::coders::Coders;
use crate::flight::Flights;
use crate::hook::{Hook, Removal};
use crate::hot::Hot;
use crate::index::{Index, Tag, Version};
use crate::policy::{Entries, Policy, Priority};
use crate::record::{Entry, Form};
use crate::sample::Sampler;
use crate::stats::{Cause, Counters, add};
use crate::store::{Memory, Millis, Store};
use crate::sync::{
    Apart, AtomicU32, AtomicUsize, Charge, Inside, Mutex, Ordering, Plant, PutError, pause, planted,
};
use crate::walk::Walks;

pub(crate) struct Tier<K> {
    pub(crate) store: Store<K>,
    pub(crate) index: Index,
    pub(crate) policy: Apart<Mutex<Box<dyn Policy>>>,
    pub(crate) flights: Flights<K>,
    /// Decoded pages in front of the entries.
    pub(crate) hot: Option<Box<Hot<K>>>,
    /// The policy's highest mark.
    pub(crate) most: u8,
    pub(crate) counters: Counters,
    pub(crate) hook: Option<Hook<K>>,
    pub(crate) born: Instant,
    pub(crate) capacity: AtomicUsize,
    /// Which cache this is.
    pub(crate) number: u64,
    /// Whether any entry was ever given a time to go at.
    pub(crate) ageing: AtomicU32,
    /// The id at which the search for expired entries goes on.
    pub(crate) sweep: Apart<AtomicU32>,
    /// Held while the capacity changes, here and in the pool.
    pub(crate) resizing: Mutex<()>,
    pub(crate) walks: Walks,
    pub(crate) sampler: Sampler,
    pub(crate) hand: Mutex<Hand>,
}

/// Where `maintain` is.
#[derive(Debug, Default)]
pub(crate) struct Hand {
    /// The id that it goes on at.
    pub(crate) next: u32,
    /// Ids to pass at which it tries again what a coder before had nothing to gain from.
    pub(crate) again: u32,
    /// Bytes evicted for recompressed entries.
    pub(crate) spent: u64,
    /// Inserts at which the sample was opened, those at which the next one is due, and the distance to the one after it.
    pub(crate) opened: u64,
    pub(crate) due: u64,
    pub(crate) distance: u64,
}

/// One in this many bytes of the capacity is set aside.
pub(crate) const ASIDE: usize = 320;

/// Bytes of the capacity that are set aside for what the general-purpose allocator keeps of tables that
/// were replaced by larger ones: with small pages, 3 MiB at 1 GiB.
pub(crate) const fn aside(capacity: usize) -> usize {
    capacity / ASIDE
}

/// What the policy sees of entries.
#[derive(Debug)]
pub(crate) struct View<'t, K>(pub(crate) &'t Tier<K>);

impl<K: Send + Sync> Entries for View<'_, K> {
    fn mark(&self, id: u32) -> Option<u8> {
        let entry = self.0.store.pool.pin_id(id).ok()?;
        let (record, state) = (entry.record(), entry.record().state());
        if !state.published() && !planted(Plant::UnpublishedGoes) {
            return None;
        }
        // A hit on its frame is one on the entry, and there may have been any number of them.
        let hot = self.0.hot.as_ref().filter(|_| !planted(Plant::FrameHitUnheard));
        let was_hit = hot.is_some_and(|hot| hot.was_hit(record.tag, id));
        Some(if was_hit { self.0.most } else { state.mark() })
    }

    fn set_mark(&self, id: u32, mark: u8) {
        if let Ok(entry) = self.0.store.pool.pin_id(id) {
            entry.record().set_mark(mark);
        }
    }

    fn tag(&self, id: u32) -> u32 {
        self.0.store.pool.pin_id(id).map_or(0, |entry| entry.record().tag)
    }
}

/// An object that is on its way to be an entry. Dropped unpublished, it goes again, and takes the old
/// entry of its key with it unless it came under a condition.
pub(crate) struct Newcomer<'t, K: Eq + Send + Sync> {
    tier: &'t Tier<K>,
    handle: Option<Handle>,
    id: u32,
    tag: Tag,
    conditional: bool,
}

/// Pins the entry `id`, which the caller knows to be live: only more than a thousand threads at it in
/// this instant can be in the way, and each of them is there for one decoding.
#[inline(always)]
pub(crate) fn pin_live<K: Send + Sync>(pool: &Memory<K>, id: u32) -> Entry<'_, K> {
    loop {
        match pool.pin_id(id) {
            Ok(entry) => return entry,
            Err(error) => wait_for_pin(id, error),
        }
    }
}

#[cold]
fn wait_for_pin(id: u32, error: MapError) {
    match error {
        MapError::TooManyMaps => pause(),
        _ => panic!("entry {id} is in the index and not in the pool: {error}"),
    }
}

/// `pin_live`, where the entry's key is `key`.
#[inline(always)]
fn pin_equal<'p, K: Send + Sync, Q: Equivalent<K> + ?Sized>(
    pool: &'p Memory<K>,
    id: u32,
    tag: Tag,
    key: &Q,
) -> Option<Entry<'p, K>> {
    let entry = pin_live(pool, id);
    if is_equal(&entry, tag, key) { Some(entry) } else { None }
}

#[inline]
fn is_equal<K: Send + Sync, Q: Equivalent<K> + ?Sized>(
    entry: &Entry<'_, K>,
    tag: Tag,
    key: &Q,
) -> bool {
    let record = entry.record();
    record.tag == tag && key.equivalent(&record.key)
}

impl<K: Send + Sync> Tier<K> {
    /// Milliseconds since the cache was made.
    #[inline]
    pub(crate) fn now(&self) -> Millis {
        // Without expiries the clock is not asked.
        if self.ageing.load(Ordering::Relaxed) == 0 { 0 } else { self.clock() }
    }

    pub(crate) fn clock(&self) -> Millis {
        Millis::try_from(self.born.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// The entry of `key`, pinned.
    #[inline]
    pub(crate) fn find<Q: Equivalent<K> + ?Sized>(
        &self,
        tag: Tag,
        key: &Q,
    ) -> Option<Entry<'_, K>> {
        if planted(Plant::PinnedUnlocked) {
            let id = self.index.find(tag, Some)?;
            return pin_equal(&self.store.pool, id, tag, key);
        }
        self.index.find(tag, |id| pin_equal(&self.store.pool, id, tag, key))
    }

    /// A look-up that found no entry.
    #[cold]
    pub(crate) fn missed(&self, tag: Tag) {
        self.counters.miss();
        if let Some(scales) = self.scales() {
            scales.missed(tag);
        }
    }

    /// What moves the share of an automatic hot tier.
    pub(crate) fn scales(&self) -> Option<&Scales> {
        self.hot.as_ref().and_then(|hot| hot.scales())
    }

    /// The entry of `key`, pinned, or how the key stands.
    pub(crate) fn find_or_version<Q: Equivalent<K> + ?Sized>(
        &self,
        tag: Tag,
        key: &Q,
    ) -> Result<Entry<'_, K>, Version> {
        self.index.find_or_version(tag, |id| pin_equal(&self.store.pool, id, tag, key))
    }

    /// Makes room in the policy's tables for every id there is.
    ///
    /// # Errors
    /// So many bytes are refused.
    pub(crate) fn stretch_policy(&self, id: u32) -> Result<(), usize> {
        let mut policy = self.policy.lock();
        let growth = policy.growth(id);
        if growth == 0 {
            return Ok(());
        }
        if !self.store.pool.charge(growth) {
            return Err(growth);
        }
        policy.grow(id).map_err(|_| {
            self.store.pool.release(growth);
            growth
        })
    }

    /// The entry of `key`, pinned without waiting: for those who hold pins already.
    ///
    /// # Errors
    /// The entry has as many pins as it can have.
    pub(crate) fn find_unless_busy<Q: Equivalent<K> + ?Sized>(
        &self,
        tag: Tag,
        key: &Q,
    ) -> Result<Option<Entry<'_, K>>, MapError> {
        let found = self.index.find(tag, |id| match self.store.pool.pin_id(id) {
            Ok(entry) => is_equal(&entry, tag, key).then_some(Ok(entry)),
            Err(error) => Some(Err(error)),
        });
        found.transpose()
    }

    /// The index is about to lead to entry `id` no more: its frame goes. Under the lock of the tag's shard.
    #[inline]
    fn cool(&self, tag: Tag, id: u32) {
        if let Some(hot) = &self.hot {
            hot.clear(tag, id);
        }
    }

    /// The same for the entry that a probe has found, if it has.
    #[inline]
    fn cooled<'p>(&self, found: Option<Entry<'p, K>>) -> Option<Entry<'p, K>> {
        if let Some(entry) = &found {
            self.cool(entry.record().tag, entry.id());
        }
        found
    }

    /// Ends the frames that wait for no reader any more. Drops keys, so under no lock.
    #[inline]
    pub(crate) fn collect_frames(&self) {
        if let Some(hot) = self.hot.as_ref().filter(|hot| hot.frames().waiting_bytes() > 0) {
            // As in `bury`.
            let _inside = Inside::enter(self.number);
            hot.frames().collect();
        }
    }

    /// Takes the entry of `key` off index and policy, as its owner: leases and loads are told.
    pub(crate) fn unlink<Q: Equivalent<K> + ?Sized>(
        &self,
        tag: Tag,
        key: &Q,
        cause: Cause,
    ) -> Option<Gone<'_, K>> {
        // Told also where the key's `Eq` panics.
        let told = self.flights.telling(tag);
        let which = |id| self.cooled(pin_equal(&self.store.pool, id, tag, key));
        let entry = self.index.take(tag, which, true)?;
        self.policy_forgets(entry.id());
        let gone = self.gone(entry, cause);
        // Drops keys that loads were booked under: where that panics, the entry ends all the same.
        drop(told);
        Some(gone)
    }

    /// Ends the entry of a key by its tag alone, and with it any other of that tag: for a thread that
    /// panics, in which the key's `Eq` must not run.
    fn end_unseen(&self, tag: Tag) {
        let _told = self.flights.telling(tag);
        let by_tag = |id| {
            let entry = pin_live(&self.store.pool, id);
            if entry.record().tag == tag { self.cooled(Some(entry)) } else { None }
        };
        while let Some(entry) = self.index.take(tag, by_tag, true) {
            self.policy_forgets(entry.id());
            self.bury(entry, Cause::Replaced);
        }
    }

    /// Ends the old entry of a key whose new page did not make it.
    pub(crate) fn end_stale(&self, tag: Tag, key: &K)
    where
        K: Eq,
    {
        if std::thread::panicking() {
            self.end_unseen(tag);
        } else {
            self.end(tag, key, Cause::Replaced);
        }
    }

    /// Takes this very entry off the index, if it is still there, and ends it. Leases are told where it
    /// is its owner that wants it gone.
    pub(crate) fn withdraw(&self, entry: Entry<'_, K>, cause: Cause, by_owner: bool) -> bool {
        let (tag, id) = (entry.record().tag, entry.id());
        let which = |of| (of == id).then(|| self.cool(tag, id));
        let taken = self.index.take(tag, which, by_owner);
        let gone = (taken.is_some() || planted(Plant::LoserFrees)).then(|| {
            self.policy_forgets(id);
            self.gone(entry, cause)
        });
        if by_owner {
            // As in `unlink`.
            self.flights.tell(tag);
        }
        drop(gone);
        taken.is_some()
    }

    /// The same for an entry that the caller keeps a hold of.
    pub(crate) fn withdraw_again(&self, entry: &Entry<'_, K>, cause: Cause) {
        // Freed already: somebody else has ended it. Otherwise the id is this entry's while it is held.
        if let Ok(again) = self.store.pool.pin(entry.handle()) {
            self.withdraw(again, cause, false);
        }
    }

    /// An entry that this caller took off the index and that the policy has forgotten.
    pub(crate) fn gone<'t>(&'t self, entry: Entry<'t, K>, cause: Cause) -> Gone<'t, K> {
        entry.record().retire();
        Gone { tier: self, entry: Some(entry), cause }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Bytes held, what is set aside among them.
    pub(crate) fn held(&self) -> usize {
        self.store.pool.held_bytes() + aside(self.capacity())
    }

    pub(crate) fn policy_forgets(&self, id: u32) {
        if !planted(Plant::FreedQueued) {
            self.policy.lock().remove(id);
        }
    }

    /// Ends an entry that this caller took off the index, and that the policy has forgotten: tells the
    /// hook, and frees it. The last reader gives its memory back.
    pub(crate) fn bury(&self, entry: Entry<'_, K>, cause: Cause) {
        self.counters.left(entry.record().state(), entry.len(), cause);
        // Before what calls user code: what that inserts evicts nothing, or it would not come to an end.
        let _inside = Inside::enter(self.number);
        self.collect_frames();
        // The pin goes before the object is freed, so that it ends here and not by a reader's way.
        let _free = Free(&self.store, entry.handle(), coder(&entry));
        let entry = entry;
        let Some(hook) = &self.hook else { return };
        let tell = || hook(&Removal::new(&entry, &self.store, cause));
        if std::thread::panicking() {
            // A second panic would end the process: this hook's is swallowed.
            let _ = catch_unwind(AssertUnwindSafe(tell));
        } else {
            tell();
        }
    }

    /// Frees an entry whose place in index and policy another object of the same page has taken: nobody is told.
    fn supersede(&self, entry: Entry<'_, K>) {
        self.counters.withdrawn(entry.record().state(), entry.len());
        // As in `bury`: the key's drop is the user's.
        let _inside = Inside::enter(self.number);
        self.collect_frames();
        let _free = Free(&self.store, entry.handle(), coder(&entry));
        drop(entry);
    }

    /// Ends the entry of `key`, if there is one.
    pub(crate) fn end<Q: Equivalent<K> + ?Sized>(&self, tag: Tag, key: &Q, cause: Cause) -> bool {
        self.unlink(tag, key, cause).is_some()
    }

    /// The published entry `id`, pinned, if there is one.
    pub(crate) fn entry(&self, id: u32) -> Option<Entry<'_, K>> {
        loop {
            match self.store.pool.pin_id(id) {
                Ok(entry) => return entry.record().state().published().then_some(entry),
                Err(MapError::TooManyMaps) => pause(),
                Err(_) => return None,
            }
        }
    }

    /// All ids that entries have now or may have had.
    pub(crate) fn ids(&self) -> std::ops::Range<u32> {
        0..self.store.pool.ids()
    }

    /// The tag of a live entry: for the index, when it shrinks.
    pub(crate) fn tag_of(&self, id: u32) -> Tag {
        pin_live(&self.store.pool, id).record().tag
    }
}

impl<'t, K: Eq + Send + Sync> Newcomer<'t, K> {
    /// The object `handle`, known to nobody else.
    pub(crate) fn new(tier: &'t Tier<K>, handle: Handle, tag: Tag, conditional: bool) -> Self {
        let id = tier.store.pool.id(handle).expect("a handle of this pool");
        let entry = pin_live(&tier.store.pool, id);
        tier.counters.entered(entry.record().state(), entry.len());
        tier.store.coders.entered(coder(&entry));
        Self { tier, handle: Some(handle), id, tag, conditional }
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Makes it known to the policy, whose tables have room for it.
    pub(crate) fn queue(&self, priority: Priority) {
        self.tier.policy.lock().insert(self.id, self.tag, priority);
    }

    /// Makes the index lead to it. What it replaces ends here.
    ///
    /// # Errors
    /// See [`PutError`]; it may be tried again.
    pub(crate) fn publish(&mut self, condition: Option<Version>) -> Result<(), PutError> {
        let (tier, id, tag) = (self.tier, self.id, self.tag);
        let pool = &tier.store.pool;
        let new = pin_live(pool, id);
        let same = |of| tier.cooled(pin_equal(pool, of, tag, &new.record().key));
        let tag_of = |of| tier.tag_of(of);
        // Under the shard's lock, so that who goes through all entries after a touch misses none.
        let admitted = || new.record().publish();
        let old = tier.index.put((tag, id), condition, tag_of, same, admitted, pool)?;
        self.handle = None;
        // It is in, whatever the hook of what it replaces does.
        add(&tier.counters.inserts, 1);
        if let Some(old) = &old {
            // `new` is pinned still: gone meanwhile or not, its id is nobody else's.
            tier.policy.lock().replace(old.id(), id);
        }
        let old = old.map(|old| tier.gone(old, Cause::Replaced));
        if condition.is_none() {
            // As in `unlink`, and before the hook of what is replaced.
            tier.flights.tell(tag);
        }
        drop((new, old));
        Ok(())
    }

    /// Takes the place of `old`, of which it is the same page, if the index still leads there and nobody walks.
    pub(crate) fn swap(mut self, old: Entry<'_, K>) -> bool {
        let (tier, id, tag) = (self.tier, self.id, self.tag);
        let new = pin_live(&tier.store.pool, id);
        let same = |of| {
            // `old` is pinned: its id is nobody else's.
            (of == old.id() || planted(Plant::SwapUnasked)).then(|| {
                tier.cool(tag, of);
                // Under the locks, so that who goes through all entries meets one of the two.
                new.record().publish();
                old.record().retire();
            })
        };
        if planted(Plant::SwapFreesFirst) {
            let _ = tier.store.pool.free(old.handle());
        }
        if tier.walks.between(|| tier.index.swap((tag, id), same)).is_none() {
            return false;
        }
        self.handle = None;
        // `new` is pinned still: gone meanwhile or not, its id is nobody else's.
        tier.policy.lock().replace(old.id(), id);
        drop(new);
        tier.supersede(old);
        true
    }
}

impl<K: Eq + Send + Sync> Drop for Newcomer<'_, K> {
    fn drop(&mut self) {
        let Some(handle) = self.handle else { return };
        let tier = self.tier;
        // Freed at the end, also where a hook panics.
        let entry = pin_live(&tier.store.pool, self.id);
        let _free = Free(&tier.store, handle, coder(&entry));
        // Declared after, so dropped before.
        let entry = entry;
        tier.policy_forgets(self.id);
        tier.counters.withdrawn(entry.record().state(), entry.len());
        if !self.conditional {
            tier.end_stale(self.tag, &entry.record().key);
        }
    }
}

/// An entry that is off the index and the policy, and is buried when this is dropped.
pub(crate) struct Gone<'t, K: Send + Sync> {
    tier: &'t Tier<K>,
    entry: Option<Entry<'t, K>>,
    cause: Cause,
}

impl<'t, K: Send + Sync> Gone<'t, K> {
    pub(crate) fn entry(&self) -> &Entry<'t, K> {
        self.entry.as_ref().expect("there until it is buried")
    }

    pub(crate) fn bury(mut self, cause: Cause) {
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

/// Frees an object that nobody else can, when it is dropped; its coder loses one then.
struct Free<'p, K: Send + Sync>(&'p Store<K>, Handle, u8);

impl<K: Send + Sync> Drop for Free<'_, K> {
    fn drop(&mut self) {
        // Also where the drop of the key panics, which comes with the object's end.
        let _left = Left(&self.0.coders, self.2);
        let freed = self.0.pool.free(self.1);
        let bugs = [Plant::LoserFrees, Plant::SwapFreesFirst, Plant::SwapUnasked];
        let twice = bugs.into_iter().any(planted);
        debug_assert!(freed.is_ok() || twice, "an entry ends once");
    }
}

struct Left<'c>(&'c Coders, u8);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.left(self.1);
    }
}

/// The number of an entry's coder; 0 for those that have none as well.
fn coder<K: Send + Sync>(entry: &Entry<'_, K>) -> u8 {
    match entry.record().state().form() {
        Form::Coded(coder) => coder,
        Form::Raw | Form::Filled(_) => 0,
    }
}

impl<K> std::fmt::Debug for Tier<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tier")
            .field("entries", &self.counters.entries())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
