//! The handle table: finds the slot of a handle without a lock, and hands out slots.

use super::ended::{Ended, Spent};
use super::slots::{Slot, Slots, slots_of_chunk};
use super::{Handle, Place, prefetch};
use crate::numbers::Numbers;
use crate::sync::{AtomicU32, AtomicU64, AtomicUsize, Mutex, Ordering, random_key};
use crate::word::{EXCLUSIVE, GENERATION_BITS, NOWHERE, Outcome, Refusal, Word};

/// What the table counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableCounts {
    /// Published and not freed.
    pub(crate) live: usize,
    /// Freed and still held by a guard.
    pub(crate) dying: usize,
    /// Slots with memory that were in use since they have it.
    pub(crate) slots: usize,
    /// Slots whose generations are used up.
    pub(crate) retired: usize,
}

#[derive(Debug)]
pub(crate) struct Table<T> {
    /// What handles are scrambled with; bit 0 is clear.
    key: u64,
    pub(super) slots: Slots<T>,
    /// Slots that came back and are not sorted in yet, linked through their words: `how many 32 |
    /// index + 1 of the last`, or 0. All are taken off at once.
    pub(super) back: AtomicU64,
    /// Which slots are free.
    pub(super) numbers: Mutex<Numbers>,
    /// All slots in use are below this; changed by the holder of `numbers`. Relaxed: who knows of a
    /// slot by a handle sees it counted, and who does not needs no exact answer.
    pub(super) end: AtomicU32,
    pub(super) live: AtomicUsize,
    /// Objects freed under a guard, and those of them that have ended since.
    pub(super) orphaned: AtomicUsize,
    buried: AtomicUsize,
}

// SAFETY: slots are shared by the rules of the word: a record is written by the one holder of a
// `Vacant`, read under pins (`T: Sync`) and taken by the one thread that ends it (`T: Send`).
unsafe impl<T: Send + Sync> Sync for Table<T> {}
// SAFETY: a table owns its records (`T: Send`).
unsafe impl<T: Send> Send for Table<T> {}

impl<T> Table<T> {
    /// A table for objects of at most `max_object` bytes.
    pub(crate) fn new(max_object: usize) -> Self {
        Self {
            key: random_key(),
            slots: Slots::new(max_object),
            back: AtomicU64::new(0),
            numbers: Mutex::new(Numbers::new(slots_of_chunk(), u32::MAX)),
            end: AtomicU32::new(0),
            live: AtomicUsize::new(0),
            orphaned: AtomicUsize::new(0),
            buried: AtomicUsize::new(0),
        }
    }

    pub(crate) fn counts(&self) -> TableCounts {
        let numbers = self.numbers.lock();
        TableCounts {
            live: self.live.load(Ordering::Relaxed),
            dying: {
                let buried = self.buried.load(Ordering::Relaxed);
                self.orphaned.load(Ordering::Relaxed).saturating_sub(buried)
            },
            slots: numbers.reached(),
            retired: numbers.retired(),
        }
    }

    #[inline]
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// All slots in use are below this.
    #[inline]
    pub(crate) fn end(&self) -> u32 {
        self.end.load(Ordering::Relaxed)
    }

    pub(super) fn word(&self, index: u32) -> Option<&Word> {
        Some(&self.slots.get(index)?.word)
    }

    /// The slot that the handle names, by arithmetic. `None`: it names none that any table has.
    #[inline]
    pub(crate) fn index(&self, handle: Handle) -> Option<u32> {
        let index = (handle.to_bits() ^ self.key) >> GENERATION_BITS;
        // The chunk that would end with `u32::MAX` is none.
        u32::try_from(index).ok().filter(|index| *index != u32::MAX)
    }

    #[inline]
    pub(super) fn find(&self, handle: Handle) -> Option<(&Slot<T>, u32, u64)> {
        let index = self.index(handle)?;
        let slot = self.slots.get(index)?;
        Some((slot, index, (handle.to_bits() ^ self.key) & ((1 << GENERATION_BITS) - 1)))
    }

    #[inline]
    pub(super) fn handle(&self, index: u32, generation: u64) -> Handle {
        let bits = (u64::from(index) << GENERATION_BITS | generation) ^ self.key;
        Handle::from_bits(bits).expect("a live generation is odd and the key's bit 0 is clear")
    }

    /// Ends the handle. What comes back is the object, where nobody held it.
    pub(crate) fn free(&self, handle: Handle) -> Result<Option<(Ended, T)>, Refusal> {
        let (slot, index, generation) = self.find(handle).ok_or(Refusal::Stale)?;
        let outcome = slot.word.free(generation)?;
        self.live.fetch_sub(1, Ordering::Relaxed);
        if outcome == Outcome::Kept {
            self.orphaned.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.ended(slot, index, outcome))
    }

    pub(crate) fn contains(&self, handle: Handle) -> bool {
        self.find(handle).is_some_and(|(slot, _, generation)| slot.word.glance().0 == generation)
    }

    /// Hints the processor that the handle's slot is about to be read.
    #[inline]
    pub(crate) fn prefetch(&self, handle: Handle) {
        if let Some((slot, _, _)) = self.find(handle) {
            prefetch((&raw const slot.word).cast());
        }
    }

    /// Where the object seems to be: a hint, for prefetching only.
    pub(crate) fn glance(&self, handle: Handle) -> Option<u64> {
        let (slot, _, generation) = self.find(handle)?;
        let (seen, location) = slot.word.look();
        (seen == generation && location != NOWHERE).then_some(location)
    }

    /// Counts an object that was freed and that somebody holds.
    pub(super) fn freed_under_a_hold(&self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.orphaned.fetch_add(1, Ordering::Relaxed);
    }

    /// As [`ended`](Self::ended), for a holder of an object that somebody else freed.
    #[inline]
    pub(super) fn let_go(
        &self,
        slot: &Slot<T>,
        index: u32,
        outcome: Outcome,
    ) -> Option<(Ended, T)> {
        if outcome == Outcome::Kept {
            return None;
        }
        self.buried.fetch_add(1, Ordering::Relaxed);
        self.ended(slot, index, outcome)
    }

    /// Takes the record out of an object whose word said, to this caller, that it has ended.
    fn ended(&self, slot: &Slot<T>, index: u32, outcome: Outcome) -> Option<(Ended, T)> {
        let Outcome::Ended(location) = outcome else { return None };
        let record = slot.record.to_read();
        // SAFETY: initialised by `publish`; the word gives `Ended` to one caller, when nobody holds
        // the object any more, so it is read out once and not touched again.
        let record = unsafe { record.read() };
        // SAFETY: as above: initialised by `publish`, and taken once.
        let record = unsafe { record.assume_init() };
        // SAFETY: the object is gone, and its place passes to the one who was told so.
        let place = (location != NOWHERE).then(|| unsafe { Place::new(location, 0) });
        let len = if place.is_some() { self.slots.len(index) } else { 0 };
        Some((Ended::new(place, Spent::new(index), len), record))
    }

    /// The ended object that [`Ended::suspend`] named so.
    ///
    /// # Safety
    /// `index` came from `suspend`, and is resumed once.
    pub(crate) unsafe fn resume(&self, index: u32) -> Ended {
        let location = self.word(index).map_or(NOWHERE, Word::last_location);
        // SAFETY: the suspended object's own place, given up by `suspend` and taken up once.
        let place = (location != NOWHERE).then(|| unsafe { Place::new(location, 0) });
        Ended::new(place, Spent::new(index), 0)
    }

    /// Calls `f` with each slot's index, location, whether it is live, and whether it is held
    /// exclusively: for `check`.
    pub(crate) fn each(&self, mut f: impl FnMut(u32, u64, bool, bool)) {
        for index in 0..self.end() {
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
        self.slots.len(index)
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
            let Some(slot) = self.0.slots.get(index) else { continue };
            let (generation, pins, _) = slot.word.glance();
            // Live, or freed under a guard that was forgotten.
            if generation & 1 == 1 || pins != 0 {
                // SAFETY: only `Table::drop`, with `&mut Table`, makes a `Rest`: no guard is left,
                // and a record in this state was published and not taken out by `ended`.
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
            Rest(self, 0..self.end()).bury();
        }
    }
}
