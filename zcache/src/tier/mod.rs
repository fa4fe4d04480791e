//! The tier: index, policy and store together, and the order in which an entry enters and leaves
//! them.
//! ```text
//! enter   object in the pool -> queued in the policy -> published in the index -> flagged
//! leave   off the index (whoever does that, and nobody else, ends the entry) -> off the policy
//!         -> hook -> freed
//! swap    a recompressed entry's object takes the old one's place in the index, if that still
//!         leads to the old one -> takes its place in the policy -> the old one freed; no hook: the
//!         key keeps its page
//! cool    whoever takes an entry off the index takes its frame off as well, under the same lock
//! evict   policy names a victim and forgets it, and it is pinned, in one hold of the policy's
//!         lock; then as above
//! ```
//! Why an id can be trusted:
//! 1. An id in the index is a live object's: it is freed only after it has left the index. So pins
//!    under the shard's lock succeed. So does that of a reader, or the index leads elsewhere by
//!    then.
//! 2. An id in the policy is a live object's: it is freed only after it has left the policy. So the
//!    victim's pin under the policy's lock succeeds.
//! 3. A pinned object's id is not given out again. So comparing the id of a pinned entry with the
//!    index's is comparing entries.
//!
//! Locks: a shard of the index, the flights of a tag, a flight, the policy, a place of contexts or
//! of a buffer, the table of coders, the pool's own. No two are held at once, but for these:
//!
//! - a place of contexts over other places, which are only tried for;
//! - the policy over those that wait to enter it, and over the pool's lock of ids;
//! - a shard or the policy over a pin or a charge, which take no lock;
//! - a shard over the flights of a tag, and over a frame that is put into its slot or taken off it.
//!   That takes the lock of a set of slots and no other one;
//! - the [`Walks`] over a shard;
//! - the table of coders over the pool's own.
//!
//! The hand of `maintain` is only ever tried for, so whoever has it may do anything. User code runs
//! under no lock.

use std::cell::Cell;
use std::time::Instant;

use equivalent::Equivalent;
use zpool::MapError;

use crate::hot::Hot;
use crate::index::{Flights, Seek, Table, Tag, Walk, Walks};
use crate::policy::{Entries, Policy};
use crate::scope::Scopes;
use crate::stats::Counters;
use crate::store::{Entry, MAX_MARK, Memory, Millis, Sampler, Store};
use crate::sync::{
    Apart, Arc, AtomicU32, AtomicUsize, Counter, Mutex, Ordering, get, model_bug, pause,
};
use crate::worth::Scales;

mod debt;
mod evict;
mod hook;
mod insert;
mod life;
mod pieces;
mod promote;
mod queue;
mod renew;
mod renumber;
mod repack;
mod scoped;
mod shrink;
mod weight;

#[cfg(all(test, zcache_loom))]
pub(crate) use evict::Reach;
pub(crate) use evict::{Lack, Spent};
use hook::Hook;
pub use hook::Removal;
pub(crate) use insert::Terms;
pub(crate) use life::{Condition, Newcomer};
pub(crate) use pieces::rethrow;
use queue::{Queue, Unready};
pub(crate) use renew::{Outcome, Renewal};

pub(crate) struct Tier<K> {
    pub(crate) store: Store<K>,
    pub(crate) index: Table,
    pub(crate) policy: Apart<Queue>,
    /// Leases and those who wait for them may outlive the cache.
    pub(crate) flights: Arc<Flights<K>>,
    /// Decoded pages in front of the entries.
    pub(crate) hot: Option<Box<Hot<K>>>,
    /// Which entries end together.
    pub(crate) scopes: Option<Box<Scopes<K>>>,
    pub(crate) counters: Counters,
    pub(crate) sampler: Sampler,
    /// What moves the share of an automatic hot tier, and finds the codec.
    pub(crate) scales: Option<Arc<Scales>>,
    pub(crate) hand: Mutex<Hand>,
    /// Which cache this is.
    pub(crate) number: u64,
    /// The policy's highest mark.
    most: u8,
    hook: Option<Hook<K>>,
    /// What a key takes beside its record.
    weigh: Option<fn(&K) -> usize>,
    /// Pieces of long pages have clones of their keys.
    pub(crate) clone: fn(&K) -> K,
    born: Instant,
    capacity: AtomicUsize,
    /// Whether any entry was ever given a time to go at.
    ageing: AtomicU32,
    /// The id at which the search for expired entries goes on.
    sweep: Apart<AtomicU32>,
    /// What small entries are spared by.
    spared: Counter,
    /// The pool's cap. Held while the capacity changes, here and in the pool.
    pub(crate) cap: Mutex<usize>,
    /// Calls that make the cache smaller just now. Whoever does not see them pays nothing for once.
    shrinking: Counter,
    walks: Walks,
}

/// Caches get numbers, so that a lease knows its own.
static CACHES: Counter = Counter::new(0);

/// Where `maintain` is.
#[derive(Debug, Default)]
pub(crate) struct Hand {
    /// The id that it goes on at.
    pub(crate) next: u32,
    /// Ids to pass at which it tries again what a coder before had nothing to gain from.
    pub(crate) again: u32,
    /// The coder that entries are packed again by, and the id that this goes on at.
    pub(crate) goal: Option<u8>,
    pub(crate) repacked: u32,
    /// Bytes evicted for recompressed entries.
    pub(crate) spent: u64,
    /// Inserts at which the sample was opened, those at which the next one is due, and the distance
    /// to the one after it.
    pub(crate) opened: u64,
    pub(crate) due: u64,
    pub(crate) distance: u64,
}

/// One in this many bytes of the capacity is set aside.
pub(crate) const ASIDE: usize = 320;

/// Bytes that may be taken beyond what is held while a cache shrinks, as to make a table of the
/// index shorter.
const TABLE: usize = 64 << 10;

/// Bytes of the capacity that are set aside for what the general-purpose allocator keeps of tables
/// that were replaced by larger ones: with small pages, 3 MiB at 1 GiB.
pub(crate) const fn aside(capacity: usize) -> usize {
    capacity / ASIDE
}

/// A whole of what entries are spared by, in bits.
const SPARED_BITS: u32 = 16;
/// An entry is spared in so many of eight times that it would go, at the most.
const MOST_SPARED: usize = 7;

/// What the policy sees of entries.
#[derive(Debug)]
pub(crate) struct View<'t, K> {
    tier: &'t Tier<K>,
    /// Entries that it was asked about.
    looks: Cell<usize>,
    /// The last one of them.
    seen: Cell<Option<Seen>>,
    /// One that may not go.
    keeps: Option<u32>,
}

/// What the policy may ask about an entry after its mark. It does not change under the policy's
/// lock.
#[derive(Debug, Clone, Copy)]
struct Seen {
    id: u32,
    tag: Tag,
    /// Bytes of its object.
    len: usize,
}

impl<'t, K> View<'t, K> {
    /// One in which the entry that `keeps` names may not go.
    pub(crate) fn beside(tier: &'t Tier<K>, keeps: Option<u32>) -> Self {
        Self { tier, looks: Cell::new(0), seen: Cell::new(None), keeps }
    }
}

impl<K: Send + Sync> Entries for View<'_, K> {
    fn mark(&self, id: u32) -> Option<u8> {
        self.looks.set(self.looks.get() + 1);
        if self.keeps == Some(id) {
            return None;
        }
        let entry = self.tier.store.pool.pin_id(id).ok()?;
        let (record, state) = (entry.record(), entry.record().state());
        if !state.published() && !model_bug!(UnpublishedGoes) {
            return None;
        }
        if self.tier.has_ended(id) {
            self.seen.set(None);
            return Some(0);
        }
        self.seen.set(Some(Seen { id, tag: record.tag, len: self.tier.stored_len(&entry) }));
        // A hit on its frame is one on the entry, and there may have been any number of them.
        let hot = self.tier.hot.as_ref().filter(|_| !model_bug!(FrameHitUnheard));
        let was_hit = hot.is_some_and(|hot| hot.was_hit(record.tag, id));
        Some(if was_hit { self.tier.most } else { state.mark() })
    }

    fn set_mark(&self, id: u32, mark: u8) {
        if let Ok(entry) = self.tier.store.pool.pin_id(id) {
            entry.record().set_mark(mark);
        }
    }

    fn spares(&self, id: u32) -> bool {
        let seen = self.seen.get().filter(|seen| seen.id == id);
        seen.is_some_and(|seen| self.tier.spares(self.tier.cost(seen.len)))
    }

    fn tag(&self, id: u32) -> u32 {
        match self.seen.get() {
            Some(seen) if seen.id == id => seen.tag,
            _ => self.tier.store.pool.pin_id(id).map_or(0, |entry| entry.record().tag),
        }
    }
}

/// Pins the entry `id`, which the caller has made and nobody has ended: only more than a thousand
/// threads at it in this instant can be in the way, and each of them is there for one decoding.
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

/// The entry of `key`, by pins.
#[inline(always)]
fn by_key<'p, K: Send + Sync, Q: Equivalent<K> + ?Sized>(
    pool: &'p Memory<K>,
    tag: Tag,
    key: &Q,
) -> impl Seek<Entry = Entry<'p, K>> {
    by_pin(pool, move |entry| is_equal(entry, tag, key))
}

/// An entry that `is` takes for the one that is sought.
#[inline(always)]
fn by_pin<'p, K: Send + Sync>(
    pool: &'p Memory<K>,
    is: impl FnMut(&Entry<'p, K>) -> bool,
) -> impl Seek<Entry = Entry<'p, K>> {
    (move |id| pool.pin_id(id).ok(), is)
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
    /// A tier without entries, a hook or hot pages, which holds `capacity` bytes at the most.
    /// Inline: a copy of it takes 4 KiB of the stack, of which models have little.
    #[inline(always)]
    pub(crate) fn new(
        store: Store<K>,
        index: Table,
        policy: Box<dyn Policy>,
        counters: Counters,
        capacity: usize,
        clone: fn(&K) -> K,
    ) -> Self {
        Self {
            store,
            index,
            flights: Arc::new(Flights::new()),
            hot: None,
            scopes: None,
            counters,
            sampler: Sampler::new(),
            scales: None,
            hand: Mutex::new(Hand::default()),
            number: CACHES.fetch_add(1, Ordering::Relaxed),
            most: policy.max_mark().min(MAX_MARK),
            policy: Apart(Queue::new(policy)),
            hook: None,
            weigh: None,
            clone,
            born: Instant::now(),
            capacity: AtomicUsize::new(capacity),
            ageing: AtomicU32::new(0),
            sweep: Apart(AtomicU32::new(0)),
            spared: Counter::new(0),
            cap: Mutex::new(capacity - aside(capacity)),
            shrinking: Counter::new(0),
            walks: Walks::new(),
        }
    }

    pub(crate) fn set_hook(&mut self, hook: Hook<K>) {
        self.hook = Some(hook);
    }

    /// Changes the capacity, and what hot pages may take in a cache that needs `least` bytes for
    /// all else.
    pub(crate) fn set_capacity(&self, capacity: usize, least: usize) {
        let mut cap = self.cap.lock();
        self.capacity.store(capacity, Ordering::Relaxed);
        self.set_cap(&mut cap, capacity);
        self.store.scratch.set_capacity(capacity, &self.store.pool);
        if let Some(hot) = &self.hot {
            hot.set_limit(capacity, least);
            hot.fit();
        }
        self.settle_frames();
    }

    /// Lowers the pool's cap as far as what is held lets it, and to `most` at least.
    pub(crate) fn lower_cap(&self, most: usize) {
        let early = model_bug!(CapacityReadEarly).then(|| self.capacity());
        let mut cap = self.cap.lock();
        *cap = most.min(*cap);
        self.set_cap(&mut cap, early.unwrap_or_else(|| self.capacity()));
    }

    /// Sets the pool's cap by the capacity. Where more than that is held, the cap is a little above
    /// what is held, but not higher than it was.
    fn set_cap(&self, cap: &mut usize, capacity: usize) {
        let (pool, least) = (&self.store.pool, capacity - aside(capacity));
        let held = pool.held_bytes();
        *cap = if held > least { least.max((held + TABLE).min(*cap)) } else { least };
        pool.set_max_bytes(*cap);
    }

    /// Somebody goes through all entries until this is dropped.
    pub(crate) fn walk(&self) -> Walk<'_> {
        self.walks.start()
    }

    /// A hit on an entry; whether it is to be [packed](Self::pack).
    #[inline]
    #[must_use]
    pub(crate) fn mark(&self, entry: &Entry<'_, K>) -> bool {
        if let Some(scales) = self.scales() {
            scales.hit(entry.record().tag);
        }
        entry.record().hit(self.most)
    }

    /// Whether an entry that takes `cost` bytes and would go is spared. One that takes half of what
    /// the mean entry takes is spared every second time, one that takes a quarter three times in
    /// four, and so on, but never more: its bytes are worth as much as those of others if it is hit
    /// as much more seldom. More looks would wear out the marks of those that are hit.
    fn spares(&self, cost: usize) -> bool {
        let pool = &self.store.pool;
        let mean = pool.payload_bytes() / pool.len().max(1) + self.cost(0);
        let part = (mean.saturating_sub(cost) << SPARED_BITS) / mean;
        let part = part.min(MOST_SPARED << SPARED_BITS >> 3);
        // Not at once: it is asked under the policy's lock alone.
        let before = get(&self.spared);
        let after = before.wrapping_add(part as u64);
        self.spared.store(after, Ordering::Relaxed);
        before >> SPARED_BITS != after >> SPARED_BITS
    }

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
        if self.scopes.is_none() {
            return self.index.look(tag, by_key(&self.store.pool, tag, key));
        }
        self.live(|| self.index.look(tag, by_key(&self.store.pool, tag, key)))
    }

    /// A look-up that found no entry.
    #[cold]
    pub(crate) fn missed(&self, tag: Tag) {
        self.counters.miss();
        if let Some(scales) = self.scales() {
            scales.missed(tag);
        }
    }

    /// The entry of `key`, pinned, for the pilot of a flight of `key`: see [`Flights`] for why it
    /// takes the lock of the shard.
    pub(crate) fn find_aboard<Q: Equivalent<K> + ?Sized>(
        &self,
        tag: Tag,
        key: &Q,
    ) -> Option<Entry<'_, K>> {
        if model_bug!(FlightUnordered) {
            return self.find(tag, key);
        }
        self.live(|| self.index.look_held(tag, by_key(&self.store.pool, tag, key)))
    }

    /// No load or lease of a key with this tag that is under way stores a page.
    pub(crate) fn fence(&self, tag: Tag) {
        self.index.locked(tag, || self.flights.tell(tag));
    }

    /// Makes room for `id`, which the pool has handed out, in the policy's tables.
    ///
    /// # Errors
    /// See [`Unready`].
    pub(crate) fn expect(&self, id: u32) -> Result<(), Unready> {
        self.policy.expect(id, &self.store.pool)?;
        self.expect_scope(id)
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
        let pin = |id| match self.store.pool.pin_id(id) {
            Err(error) if error != MapError::TooManyMaps => None,
            pinned => Some(pinned),
        };
        let is = |pinned: &Result<Entry<'_, K>, MapError>| {
            pinned.as_ref().map_or(true, |entry| is_equal(entry, tag, key))
        };
        self.live_unless(|| self.index.look(tag, (pin, is)).transpose())
    }

    /// Bytes held, what is set aside among them.
    pub(crate) fn held(&self) -> usize {
        self.store.pool.held_bytes() + aside(self.capacity())
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

    /// The tag of an entry in the index, for who holds the lock of its shard. Those who wait for
    /// that lock may have all pins of the entry but one.
    pub(crate) fn tag_of(&self, id: u32) -> Tag {
        match self.store.pool.pin_id_reserved(id) {
            Ok(entry) => entry.record().tag,
            Err(error) => panic!("entry {id} is in the index and not in the pool: {error}"),
        }
    }
}

impl<K> Tier<K> {
    /// The account, if anything is decided by it.
    pub(crate) fn scales(&self) -> Option<&Scales> {
        self.scales.as_deref()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Entries, without those of ended scopes.
    pub(crate) fn entries(&self) -> usize {
        let ended = self.scopes.as_ref().map_or(0, |scopes| scopes.ended_entries());
        self.counters.entries().saturating_sub(ended)
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
