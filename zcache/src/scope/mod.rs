//! Scopes: the entries of a file, a table or a tenant, which end together.
//! ```text
//! key -> scope's number -> (names, under a lock) -> slot: state, users, bytes, limit
//! entry's id -> 2 bytes of a line -> slot
//! ```
//! A scope has a slot while it has entries, and an entry keeps the number of the slot that its
//! scope had when it came. To end a scope is to end its slot: the scope gets another one with its
//! next entry. No call goes through the entries for that. They are misses from then on, and are
//! ended wherever they are met.
//!
//! **A slot is used again** when nothing of it is left: no entry, and no insert on its way. A
//! reader that has found an entry may see its slot live again, as another scope's. So it looks
//! whether the slot is live first, and then whether the entry is still there. An entry is retired
//! before it leaves its slot.
//!
//! Where no slot is free, entries go into the first one, which has no limit and never ends. The end
//! of a scope then has to go through those.

use zpool::source::heap_cost;
use zpool::{AllocError, Pool, SparseLines};

use crate::sync::{AtomicU32, Counter, Mutex, Ordering, SCOPES, add, get, model_bug, sub};

mod names;
mod slot;

use names::Names;
use slot::{ENDED, FREE, LIVE, Slot, UNLIMITED};
pub(crate) use slot::{SlotNumber, UNNAMED};

/// Entries whose slots are in one line.
pub(crate) const IN_LINE: u32 = 2 * SparseLines::WORDS as u32;

/// Entries whose slots are in the lines that are opened together: one page of 4 KiB.
const IN_BLOCK: u32 = 64 * IN_LINE;

/// Bytes of the capacity for which there is a slot.
const BYTES_EACH: usize = 64 << 10;

/// What a cache knows of its scopes.
pub(crate) struct Scopes<K> {
    of: Box<dyn Fn(&K) -> u32 + Send + Sync>,
    slots: Box<[Slot]>,
    names: Mutex<Names>,
    /// By entry's id, two in a word.
    lines: SparseLines,
    /// Blocks of lines that are open. Changed under its lock, read without it; see
    /// [`shrink`](Self::shrink).
    open: AtomicU32,
    opening: Mutex<()>,
    /// The line at which the search for entries that have ended goes on.
    hand: Counter,
    /// Slots that have ended and are not empty yet.
    ended: Counter,
}

/// An insert that is on its way into a slot.
pub(crate) struct Ticket<'s, K> {
    scopes: &'s Scopes<K>,
    slot: SlotNumber,
}

/// What is known of a scope at one instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) entries: usize,
    pub(crate) bytes: u64,
    pub(crate) limit: Option<u64>,
    pub(crate) inserts: u64,
    pub(crate) evicted: u64,
}

impl<K> Drop for Ticket<'_, K> {
    fn drop(&mut self) {
        self.scopes.left(self.slot);
    }
}

impl<K> Ticket<'_, K> {
    pub(crate) fn slot(&self) -> SlotNumber {
        self.slot
    }
}

/// Slots for a cache of `capacity` bytes.
fn slots(capacity: usize) -> usize {
    (capacity / BYTES_EACH).clamp(SCOPES.0, SCOPES.1)
}

impl<K> Scopes<K> {
    /// What it takes in bytes, the lines apart.
    pub(crate) fn fixed_bytes(capacity: usize) -> usize {
        let slots = slots(capacity);
        heap_cost(size_of::<Self>())
            + heap_cost((slots + 1) * size_of::<Slot>())
            + Names::bytes(slots)
            // What `of` holds, if it holds anything.
            + heap_cost(64)
    }

    pub(crate) fn new(
        capacity: usize,
        pool: &Pool<impl Send + Sync>,
        of: Box<dyn Fn(&K) -> u32 + Send + Sync>,
    ) -> Self {
        let count = slots(capacity);
        let state = |number| if number == usize::from(UNNAMED) { LIVE } else { FREE };
        Self {
            of,
            slots: (0..count).map(|number| Slot::new(state(number))).collect(),
            names: Mutex::new(Names::new(count)),
            lines: pool.sparse_lines(),
            open: AtomicU32::new(0),
            opening: Mutex::new(()),
            hand: Counter::new(0),
            ended: Counter::new(0),
        }
    }

    /// The scope of a key: user code.
    pub(crate) fn scope_of(&self, key: &K) -> u32 {
        (self.of)(key)
    }

    fn slot(&self, number: SlotNumber) -> &Slot {
        &self.slots[usize::from(number)]
    }

    /// A ticket for an entry of this scope.
    pub(crate) fn ticket(&self, scope: u32) -> Ticket<'_, K> {
        let mut names = self.names.lock();
        let slot = names.slot(scope, &self.slots);
        // Under the lock, so that a slot is not taken for an empty one and given away.
        self.slot(slot).users.fetch_add(1, Ordering::Relaxed);
        Ticket { scopes: self, slot }
    }

    /// Entry `id` of `bytes` bytes, which nobody else knows yet, is in a slot that somebody has a
    /// ticket or an entry of. There is room for the id.
    pub(crate) fn enter(&self, id: u32, slot: SlotNumber, bytes: u64) {
        self.set(id, slot);
        let slot = self.slot(slot);
        slot.users.fetch_add(1, Ordering::Relaxed);
        add(&slot.entries, 1);
        add(&slot.bytes, bytes);
        add(&slot.inserts, 1);
    }

    /// An entry in the slot takes so many bytes more.
    pub(crate) fn grow_by(&self, slot: SlotNumber, bytes: u64) {
        add(&self.slot(slot).bytes, bytes);
    }

    /// An entry of the slot is none any more, and will leave it.
    pub(crate) fn ends(&self, slot: SlotNumber) {
        sub(&self.slot(slot).entries, 1);
    }

    /// An entry of `bytes` bytes, which has ended and been retired, leaves its slot.
    pub(crate) fn leave(&self, slot: SlotNumber, bytes: u64) {
        sub(&self.slot(slot).bytes, bytes);
        self.left(slot);
    }

    fn left(&self, number: SlotNumber) {
        let slot = self.slot(number);
        // Acquire pairs with the Release in `end_slot`: one of the two finds the slot ended and
        // empty. Release pairs with the Acquire in `is_empty`: whoever gives the slot away knows
        // that each entry has been retired, whoever left last.
        let users = slot.users.fetch_sub(1, Ordering::AcqRel);
        if users == 1 && slot.state.load(Ordering::Relaxed) == ENDED {
            self.free_if_empty(&mut self.names.lock(), number);
        }
    }

    /// Frees a slot that has ended, if nothing is in it.
    fn free_if_empty(&self, names: &mut Names, number: SlotNumber) {
        let slot = self.slot(number);
        let ended = slot.state.load(Ordering::Relaxed) == ENDED;
        if ended && (slot.is_empty() || model_bug!(SlotFreedEarly)) {
            slot.state.store(FREE, Ordering::Relaxed);
            names.free(number, &self.slots);
            sub(&self.ended, 1);
        }
    }

    /// Ends a scope: all entries that it has. Those in the slot of scopes without one are left.
    pub(crate) fn end(&self, scope: u32) {
        let mut names = self.names.lock();
        if let Some(number) = names.end(scope, &self.slots) {
            self.end_slot(&mut names, number);
        }
    }

    /// Ends all scopes, as [`end`](Self::end) does each.
    pub(crate) fn end_all(&self) {
        let mut names = self.names.lock();
        // Not one name after the other: each would move all those behind it.
        for at in 0..names.used() {
            if let Some(number) = names.vacate(at, &self.slots) {
                self.end_slot(&mut names, number);
            }
        }
        names.forget_vacant();
    }

    fn end_slot(&self, names: &mut Names, number: SlotNumber) {
        let slot = self.slot(number);
        if !model_bug!(ScopeGoesOn) {
            slot.state.store(ENDED, Ordering::Release);
        }
        names.ended(number);
        add(&self.ended, 1);
        // An addition of nothing: see `left`, and `is_empty`, which asks again.
        slot.users.fetch_add(0, Ordering::Release);
        self.free_if_empty(names, number);
    }

    /// Whether entries of that slot are hits.
    #[inline]
    pub(crate) fn is_live(&self, slot: SlotNumber) -> bool {
        // Acquire pairs with the Release in `Slot::start`.
        self.slot(slot).state.load(Ordering::Acquire) == LIVE
    }

    /// Whether there are entries of ended scopes, or inserts on their way that will be.
    #[inline]
    pub(crate) fn have_ended(&self) -> bool {
        get(&self.ended) > 0
    }

    /// Whether there are entries of scopes without a slot.
    pub(crate) fn have_unnamed(&self) -> bool {
        !self.slot(UNNAMED).is_empty()
    }

    /// Entries of ended scopes.
    pub(crate) fn ended_entries(&self) -> usize {
        if !self.have_ended() {
            return 0;
        }
        let names = self.names.lock();
        names.all_ended().iter().map(|slot| get(&self.slot(*slot).entries) as usize).sum()
    }

    /// Sets a scope's limit; `false`: there are as many scopes as there can be.
    pub(crate) fn set_limit(&self, scope: u32, limit: Option<u64>) -> bool {
        self.names.lock().set_limit(scope, limit.unwrap_or(UNLIMITED), &self.slots)
    }

    /// Bytes of a slot's entries beyond its limit, if there were so many `more`.
    pub(crate) fn excess(&self, slot: SlotNumber, more: u64) -> u64 {
        let slot = self.slot(slot);
        get(&slot.bytes).saturating_add(more).saturating_sub(get(&slot.limit))
    }

    /// An entry of the slot went for the slot's limit.
    pub(crate) fn evicted(&self, slot: SlotNumber) {
        add(&self.slot(slot).evicted, 1);
    }

    pub(crate) fn figures(&self, scope: u32) -> Figures {
        let (number, limit) = self.names.lock().find(scope);
        let limit = (limit != UNLIMITED).then_some(limit);
        if number == UNNAMED {
            return Figures { limit, ..Figures::default() };
        }
        let slot = self.slot(number);
        Figures {
            entries: get(&slot.entries) as usize,
            bytes: get(&slot.bytes),
            limit,
            inserts: get(&slot.inserts),
            evicted: get(&slot.evicted),
        }
    }

    /// Slots that have entries or limits, and how many there are.
    pub(crate) fn used(&self) -> (usize, usize) {
        (self.names.lock().used(), self.slots.len() - 1)
    }

    /// Bytes of the lines.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.bytes()
    }

    /// Gives back memory of lines that was locked when they were closed.
    pub(crate) fn trim(&self) {
        self.lines.trim();
    }

    /// Makes room for an id that the pool has handed out to the caller: it stays as long as the id
    /// is in use.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`]: as much as [`growth_bytes`](Self::growth_bytes) is needed.
    #[inline]
    pub(crate) fn expect(&self, id: u32) -> Result<(), AllocError> {
        // Relaxed: see `shrink`.
        if id / IN_BLOCK < self.open.load(Ordering::Relaxed) { Ok(()) } else { self.grow(id) }
    }

    #[cold]
    fn grow(&self, id: u32) -> Result<(), AllocError> {
        let _opening = self.opening.lock();
        let mut open = self.open.load(Ordering::Relaxed);
        while open <= id / IN_BLOCK {
            self.lines.open(open * IN_BLOCK / IN_LINE)?;
            open += 1;
            self.open.store(open, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What [`expect`](Self::expect) takes, beside what counts pages.
    pub(crate) fn growth_bytes() -> usize {
        SparseLines::open_bytes()
    }

    /// Gives the lines back behind the last id in use. They must be nobody's who counts on them, so
    /// `open` falls first, and then the pool is asked, under the lock that ids are handed out
    /// under: whoever got an id before is found, and whoever gets one later sees the lower number.
    pub(crate) fn shrink(&self, in_use: impl Fn(std::ops::Range<u32>) -> bool) {
        let _opening = self.opening.lock();
        while let Some(last) = self.open.load(Ordering::Relaxed).checked_sub(1) {
            self.open.store(last, Ordering::Relaxed);
            if in_use(last * IN_BLOCK..(last + 1) * IN_BLOCK) {
                self.open.store(last + 1, Ordering::Relaxed);
                break;
            }
            self.lines.close(last * IN_BLOCK / IN_LINE);
        }
    }

    /// The slot that entry `id` is in.
    #[inline]
    pub(crate) fn slot_of(&self, id: u32) -> SlotNumber {
        self.lines.get(id / IN_LINE).map_or(UNNAMED, |line| {
            // Relaxed: written before anybody was led to the entry.
            half(line[word_of(id)].load(Ordering::Relaxed), id)
        })
    }

    fn set(&self, id: u32, slot: SlotNumber) {
        let Some(line) = self.lines.get(id / IN_LINE) else { return };
        let word = &line[word_of(id)];
        // Nobody else writes this half.
        let changed = half(word.load(Ordering::Relaxed), id) ^ slot;
        word.fetch_xor(u32::from(changed) << shift(id), Ordering::Relaxed);
    }

    /// Entry `id`, to which nobody is led just now, has the id `new` from now on.
    pub(crate) fn rename(&self, id: u32, new: u32) {
        self.set(new, self.slot_of(id));
    }

    /// The ids of the next line, going round among `ids` of them, whose slots `which` says yes to;
    /// by the hand of a slot, or that of what has ended. Others may come and go meanwhile.
    pub(crate) fn next_ids(
        &self,
        of: Option<SlotNumber>,
        ids: u32,
        which: impl Fn(SlotNumber) -> bool,
    ) -> impl Iterator<Item = u32> {
        let hand = of.map_or(&self.hand, |slot| &self.slot(slot).hand);
        let lines = u64::from(ids.div_ceil(IN_LINE).max(1));
        let number = (hand.fetch_add(1, Ordering::Relaxed) % lines) as u32;
        let words = self.lines.get(number).map(|line| {
            let mut words = [0; SparseLines::WORDS];
            for (word, seen) in words.iter_mut().zip(line) {
                *word = seen.load(Ordering::Relaxed);
            }
            words
        });
        let first = number * IN_LINE;
        let all = words.is_some().then(|| first..(first + IN_LINE).min(ids)).into_iter().flatten();
        let words = words.unwrap_or_default();
        all.filter(move |id| which(half(words[word_of(*id)], *id)))
    }

    /// Asserts that slots add up to what their entries are: `entries` gives the ids of all of them,
    /// and their bytes. While nobody uses the cache.
    pub(crate) fn check(&self, entries: impl Iterator<Item = (u32, u64)>) {
        let mut found = vec![(0, 0); self.slots.len()];
        for (id, bytes) in entries {
            let of = &mut found[usize::from(self.slot_of(id))];
            *of = (of.0 + 1, of.1 + bytes);
        }
        let names = self.names.lock();
        names.check(&self.slots);
        let ended = names.all_ended().len() as u64;
        assert_eq!(ended, get(&self.ended), "ended slots are counted");
        let empty = |slot: &SlotNumber| self.slot(*slot).is_empty();
        assert!(!names.all_ended().iter().any(empty), "ended slots that are empty are free");
        for (number, slot) in self.slots.iter().enumerate() {
            let counted = (slot.users.load(Ordering::Relaxed), get(&slot.bytes));
            assert_eq!(counted, found[number], "slot {number}'s entries and bytes");
            assert_eq!(get(&slot.entries), counted.0 as u64, "nothing is on its way");
        }
    }
}

impl<K> std::fmt::Debug for Scopes<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (used, slots) = self.used();
        write!(f, "Scopes({used} of {slots})")
    }
}

const fn word_of(id: u32) -> usize {
    (id % IN_LINE / 2) as usize
}

const fn shift(id: u32) -> u32 {
    16 * (id % 2)
}

const fn half(word: u32, id: u32) -> SlotNumber {
    (word >> shift(id)) as SlotNumber
}
