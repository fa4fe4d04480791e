//! The handle table: finds the slot of a handle without a lock, and hands out slots.

use super::chunk::Chunk;
use super::token::{Ended, Lock, Pin, Spent, Vacant};
use super::{Handle, Place, prefetch};
use crate::directory::Directory;
use crate::ledger::Ledger;
use crate::sync::{
    AtomicU32, AtomicU64, AtomicUsize, CHUNK, LOCK_TRIES, Mutex, Ordering, Plant, planted,
    random_key, spin, unless,
};
use crate::word::{EXCLUSIVE, GENERATION_BITS, NOWHERE, Outcome, Refusal, Word};

/// What the table counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableCounts {
    /// Published and not freed.
    pub(crate) live: usize,
    /// Freed and still held by a guard.
    pub(crate) dying: usize,
    /// Slots ever made.
    pub(crate) slots: usize,
    /// Slots whose generations are used up.
    pub(crate) retired: usize,
}

#[derive(Debug)]
pub(crate) struct Table<T> {
    pub(super) chunks: Directory<Chunk<T>>,
    /// Free slots, linked through their words: `tag 32 | index + 1`, or 0. The tag counts takes, so
    /// that a head seen twice is the same list.
    free: AtomicU64,
    /// Held while the table grows.
    growth: Mutex<()>,
    /// The next slot never used; changed by the holder of `growth`. Relaxed: who knows of a slot by a
    /// handle sees it counted, and who does not needs no exact answer.
    fresh: AtomicU32,
    /// What handles are scrambled with; bit 0 is clear.
    key: u64,
    /// Whether lengths pass 65536.
    wide: bool,
    pub(super) live: AtomicUsize,
    /// Objects freed under a guard, and those of them that have ended since.
    pub(super) orphaned: AtomicUsize,
    buried: AtomicUsize,
    retired: AtomicUsize,
}

// SAFETY: slots are shared by the rules of the word: a record is written by the one holder of a
// `Vacant`, read under pins (`T: Sync`) and taken by the one thread that ends it (`T: Send`).
unsafe impl<T: Send + Sync> Sync for Table<T> {}
// SAFETY: a table owns its records (`T: Send`).
unsafe impl<T: Send> Send for Table<T> {}

/// The two parts of a slot's index.
pub(super) const fn split(index: u32) -> (usize, usize) {
    (index as usize / CHUNK, index as usize % CHUNK)
}

impl<T> Table<T> {
    /// A table for objects of at most `max_object` bytes.
    pub(crate) fn new(max_object: usize) -> Self {
        Self {
            chunks: Directory::new(),
            free: AtomicU64::new(0),
            growth: Mutex::new(()),
            fresh: AtomicU32::new(0),
            key: random_key(),
            wide: max_object > 1 << 16,
            live: AtomicUsize::new(0),
            orphaned: AtomicUsize::new(0),
            buried: AtomicUsize::new(0),
            retired: AtomicUsize::new(0),
        }
    }

    /// What an empty table holds in bytes.
    pub(crate) const EMPTY_BYTES: usize = Directory::<Chunk<T>>::EMPTY_BYTES;

    pub(crate) fn counts(&self) -> TableCounts {
        TableCounts {
            live: self.live.load(Ordering::Relaxed),
            dying: {
                let buried = self.buried.load(Ordering::Relaxed);
                self.orphaned.load(Ordering::Relaxed).saturating_sub(buried)
            },
            slots: self.slots() as usize,
            retired: self.retired.load(Ordering::Relaxed),
        }
    }

    #[inline]
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Slots ever made.
    #[inline]
    pub(crate) fn slots(&self) -> u32 {
        self.fresh.load(Ordering::Relaxed)
    }

    /// A free slot, made if need be. `None`: no room under the ledger's cap.
    pub(crate) fn vacant(&self, ledger: &Ledger) -> Option<Vacant<'_, T>> {
        let index = self.pop().or_else(|| self.grow(ledger))?;
        let chunk = self.chunks.get(split(index).0)?;
        Some(Vacant::new(self, chunk, index))
    }

    fn grow(&self, ledger: &Ledger) -> Option<u32> {
        let _growing = self.growth.lock();
        let fresh = self.slots();
        let (chunk, at) = split(fresh);
        if fresh == u32::MAX {
            return None;
        }
        if at == 0 && self.chunks.get(chunk).is_none() {
            let bytes = Chunk::<T>::bytes(self.wide);
            ledger.reserve(bytes).ok()?;
            if self.chunks.grow(chunk, ledger, || Chunk::new(self.wide)).is_none() {
                ledger.release(bytes);
                return None;
            }
        }
        self.fresh.store(fresh + 1, Ordering::Relaxed);
        Some(fresh)
    }

    pub(super) fn word(&self, index: u32) -> Option<&Word> {
        let (chunk, at) = split(index);
        Some(&self.chunks.get(chunk)?.slots[at].word)
    }

    pub(super) fn pop(&self) -> Option<u32> {
        // Acquire pairs with the Release in `push`: the link below it is seen.
        let order = unless(Plant::PopRelaxed, Ordering::Acquire);
        let mut head = self.free.load(order);
        loop {
            let index = (head as u32).checked_sub(1)?;
            let next = self.word(index)?.link() as u32;
            let takes = if planted(Plant::PopUntagged) { 0 } else { 1 };
            let tag = (head >> 32).wrapping_add(takes) << 32;
            let popped = tag | u64::from(next);
            // A head with this tag was never popped since: `next` is its link. Acquire again for the
            // next round, and to see what the last user of the slot left.
            match self.free.compare_exchange_weak(head, popped, order, order) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    pub(super) fn push(&self, index: u32, word: &Word) {
        // Release pairs with the Acquire in `pop`.
        let order = unless(Plant::PushRelaxed, Ordering::Release);
        let mut head = self.free.load(Ordering::Relaxed);
        loop {
            word.relink(head & u64::from(u32::MAX));
            let pushed = head >> 32 << 32 | u64::from(index + 1);
            match self.free.compare_exchange_weak(head, pushed, order, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Gives the slot of an ended object to the next one, or retires it.
    pub(crate) fn recycle(&self, spent: Spent, ledger: &Ledger) {
        let (chunk, at) = split(spent.index());
        let Some(chunk) = self.chunks.get(chunk) else { return };
        let word = &chunk.slots[at].word;
        if word.recycle(NOWHERE) {
            return self.push(spent.index(), word);
        }
        self.retired.fetch_add(1, Ordering::Relaxed);
        // AcqRel: the last one sees all words of the chunk retired.
        if chunk.retired.fetch_add(1, Ordering::AcqRel) as usize + 1 == CHUNK {
            ledger.release(chunk.discard());
        }
    }

    /// The slot that the handle names, by arithmetic. `None`: it names none that any table has.
    #[inline]
    pub(crate) fn index(&self, handle: Handle) -> Option<u32> {
        let index = (handle.to_bits() ^ self.key) >> GENERATION_BITS;
        // `grow` makes no slot of number `u32::MAX`.
        u32::try_from(index).ok().filter(|index| *index != u32::MAX)
    }

    #[inline]
    fn find(&self, handle: Handle) -> Option<(&Chunk<T>, u32, u64)> {
        let index = self.index(handle)?;
        let chunk = self.chunks.get(split(index).0)?;
        Some((chunk, index, (handle.to_bits() ^ self.key) & ((1 << GENERATION_BITS) - 1)))
    }

    #[inline]
    pub(super) fn handle(&self, index: u32, generation: u64) -> Handle {
        let bits = (u64::from(index) << GENERATION_BITS | generation) ^ self.key;
        Handle::from_bits(bits).expect("a live generation is odd and the key's bit 0 is clear")
    }

    #[inline]
    fn pinned<'t>(
        &'t self,
        chunk: &'t Chunk<T>,
        (index, generation): (u32, u64),
        location: u64,
    ) -> Pin<'t, T> {
        let len = chunk.len(split(index).1);
        // SAFETY: lent only: a `Pin` shows it as `&Place`, and a `Lock` owns the object, which has
        // `len` bytes there: `publish` and `unlock_at` checked.
        let place = (location != NOWHERE).then(|| unsafe { Place::new(location, len) });
        Pin::new(self, chunk, (index, generation), place)
    }

    /// A share of the object, for reading.
    #[inline]
    pub(crate) fn pin(&self, handle: Handle) -> Result<Pin<'_, T>, Refusal> {
        let (chunk, index, generation) = self.find(handle).ok_or(Refusal::Stale)?;
        let location = chunk.slots[split(index).1].word.pin(generation)?;
        Ok(self.pinned(chunk, (index, generation), location))
    }

    /// The same of whatever object is live in slot `index`. `hint` is told the object's location before
    /// its length is read.
    #[inline(always)]
    pub(crate) fn pin_index(
        &self,
        index: u32,
        hint: impl FnOnce(u64),
    ) -> Result<Pin<'_, T>, Refusal> {
        let (chunk, at) = split(index);
        let chunk = self.chunks.get(chunk).ok_or(Refusal::Stale)?;
        // No load passes the compare-exchange: its cache miss and the length's would add up.
        chunk.prefetch_len(at);
        let (generation, location) = chunk.slots[at].word.pin_live()?;
        hint(location);
        Ok(self.pinned(chunk, (index, generation), location))
    }

    /// The object alone, for writing. A migration holds a pin for as long as one copy takes, so
    /// [`Refusal::Busy`] is retried a bounded number of times.
    pub(crate) fn lock(&self, handle: Handle) -> Result<Lock<'_, T>, Refusal> {
        let (chunk, index, generation) = self.find(handle).ok_or(Refusal::Stale)?;
        let word = &chunk.slots[split(index).1].word;
        let mut tries = 1;
        let location = loop {
            match word.lock(generation) {
                Err(Refusal::Busy) if tries < LOCK_TRIES => spin(),
                verdict => break verdict?,
            }
            tries += 1;
        };
        Ok(Lock::new(self.pinned(chunk, (index, generation), location)))
    }

    /// A migration's share of the object that slot `index` holds, if that is live, unshared and
    /// exactly at `location`.
    pub(crate) fn pin_at(&self, index: u32, location: u64) -> Option<Pin<'_, T>> {
        let (chunk, at) = split(index);
        let chunk = self.chunks.get(chunk)?;
        let generation = chunk.slots.get(at)?.word.pin_at(location)?;
        Some(self.pinned(chunk, (index, generation), location))
    }

    /// Ends the handle. What comes back is the object, where nobody held it.
    pub(crate) fn free(&self, handle: Handle) -> Result<Option<(Ended, T)>, Refusal> {
        let (chunk, index, generation) = self.find(handle).ok_or(Refusal::Stale)?;
        let outcome = chunk.slots[split(index).1].word.free(generation)?;
        self.live.fetch_sub(1, Ordering::Relaxed);
        if outcome == Outcome::Kept {
            self.orphaned.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.ended(chunk, index, outcome))
    }

    pub(crate) fn contains(&self, handle: Handle) -> bool {
        self.find(handle).is_some_and(|(chunk, index, generation)| {
            chunk.slots[split(index).1].word.glance().0 == generation
        })
    }

    /// Hints the processor that the handle's slot is about to be read.
    #[inline]
    pub(crate) fn prefetch(&self, handle: Handle) {
        if let Some((chunk, index, _)) = self.find(handle) {
            prefetch((&raw const chunk.slots[split(index).1].word).cast());
        }
    }

    /// Where the object seems to be: a hint, for prefetching only.
    pub(crate) fn glance(&self, handle: Handle) -> Option<u64> {
        let (chunk, index, generation) = self.find(handle)?;
        let (seen, location) = chunk.slots[split(index).1].word.look();
        (seen == generation && location != NOWHERE).then_some(location)
    }

    /// As [`ended`](Self::ended), for a holder of an object that somebody else freed.
    #[inline]
    pub(super) fn let_go(
        &self,
        chunk: &Chunk<T>,
        index: u32,
        outcome: Outcome,
    ) -> Option<(Ended, T)> {
        if outcome == Outcome::Kept {
            return None;
        }
        self.buried.fetch_add(1, Ordering::Relaxed);
        self.ended(chunk, index, outcome)
    }

    /// Takes the record out of an object whose word said, to this caller, that it has ended.
    fn ended(&self, chunk: &Chunk<T>, index: u32, outcome: Outcome) -> Option<(Ended, T)> {
        let Outcome::Ended(location) = outcome else { return None };
        let record = chunk.slots[split(index).1].record.to_read();
        // SAFETY: initialised by `publish`; the word gives `Ended` to one caller, when nobody holds
        // the object any more, so it is read out once and not touched again.
        let record = unsafe { record.read() };
        // SAFETY: as above: initialised by `publish`, and taken once.
        let record = unsafe { record.assume_init() };
        // SAFETY: the object is gone, and its place passes to the one who was told so.
        let place = (location != NOWHERE).then(|| unsafe { Place::new(location, 0) });
        let len = if place.is_some() { chunk.len(split(index).1) } else { 0 };
        Some((Ended::new(place, Spent::new(index), len), record))
    }

    /// Calls `f` with each slot's index, location, whether it is live, and whether it is held
    /// exclusively: for `check`.
    pub(crate) fn each(&self, mut f: impl FnMut(u32, u64, bool, bool)) {
        for index in 0..self.slots() {
            if let Some(word) = self.word(index) {
                let (generation, pins, location) = word.glance();
                f(index, location, generation & 1 == 1, pins == EXCLUSIVE);
            }
        }
    }

    /// Whether slot `index` holds a live object at `location`.
    pub(crate) fn points(&self, index: u32, location: u64) -> bool {
        self.word(index).is_some_and(|word| {
            let (generation, _, at) = word.glance();
            generation & 1 == 1 && at == location
        })
    }

    /// The length of the live object in slot `index`; meaningful while nobody writes.
    pub(crate) fn len_at(&self, index: u32) -> usize {
        let (chunk, at) = split(index);
        self.chunks.get(chunk).map_or(0, |chunk| chunk.len(at))
    }
}

/// The slots whose records are not dropped yet, in the order of their indices. Its own drop goes on
/// where a record's panicked, as a `Vec`'s does.
struct Rest<'t, T>(&'t Table<T>, std::ops::Range<u32>);

impl<T> Drop for Rest<'_, T> {
    fn drop(&mut self) {
        self.bury();
    }
}

impl<T> Rest<'_, T> {
    fn bury(&mut self) {
        for index in self.1.by_ref() {
            let (chunk, at) = split(index);
            let Some(chunk) = self.0.chunks.get(chunk) else { continue };
            let slot = &chunk.slots[at];
            let (generation, pins, _) = slot.word.glance();
            // Live, or freed under a guard that was forgotten.
            if generation & 1 == 1 || pins != 0 {
                // SAFETY: only `Table::drop`, with `&mut Table`, makes a `Rest`: no guard is left, and
                // a record in this state was published and not taken out by `ended`.
                let record = unsafe { &mut *slot.record.to_write() };
                // SAFETY: as above, and dropped once: the range has passed this index.
                unsafe { record.assume_init_drop() };
            }
        }
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        if std::mem::needs_drop::<T>() {
            Rest(self, 0..self.slots()).bury();
        }
    }
}
