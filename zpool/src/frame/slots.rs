//! Slots: a table of pointers that grows beside its readers, by chunks that are as long as all before together.
//! ```text
//! first: n slots | more[0]: n | more[1]: 2n | more[2]: 4n | ...       n is a power of two
//! ```
//! A chunk is set once and stays where it is, so growth makes no reader wait, and a slot keeps its number. Until
//! a table grows, finding a slot is what it is in a slice.

use std::array;

use crate::directory::boxed;
use crate::error::AllocError;
use crate::ledger::{Ledger, heap_cost};
use crate::sync::{AtomicPtr, AtomicUsize, DOUBLINGS, Mutex, Once, Ordering, Plant, unless};

type Chunk<T> = Box<[AtomicPtr<T>]>;

#[derive(Debug)]
pub(super) struct Slots<T> {
    first: Chunk<T>,
    more: [Once<Chunk<T>>; DOUBLINGS],
    /// Slots of all chunks.
    count: AtomicUsize,
    /// Taken by who grows.
    growing: Mutex<()>,
}

impl<T> Slots<T> {
    /// `slots` empty slots, a power of two or the next one, and one at least.
    pub(super) fn new(slots: usize) -> Self {
        let slots = Self::rounded(slots);
        Self {
            first: (0..slots).map(|_| AtomicPtr::default()).collect(),
            more: array::from_fn(|_| Once::new()),
            count: AtomicUsize::new(slots),
            growing: Mutex::new(()),
        }
    }

    const fn rounded(slots: usize) -> usize {
        if slots == 0 { 1 } else { slots.next_power_of_two() }
    }

    /// What `slots` slots take on the heap at first.
    pub(super) const fn first_bytes(slots: usize) -> usize {
        Self::chunk_bytes(Self::rounded(slots))
    }

    const fn chunk_bytes(slots: usize) -> usize {
        heap_cost(slots * size_of::<AtomicPtr<T>>())
    }

    /// What growing has added to that.
    pub(super) fn added_bytes(&self) -> usize {
        let count = self.count();
        let chunks = (0..DOUBLINGS).map(|chunk| self.first.len() << chunk);
        chunks.take_while(|slots| *slots < count).map(Self::chunk_bytes).sum()
    }

    /// All slots below this are there.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire) // pairs with the Release in `grow`
    }

    /// # Panics
    /// There is no such slot.
    #[inline]
    pub(super) fn at(&self, slot: usize) -> &AtomicPtr<T> {
        match self.first.get(slot) {
            Some(place) => place,
            None => self.grown(slot),
        }
    }

    /// The same of one that growing has added.
    #[inline]
    fn grown(&self, slot: usize) -> &AtomicPtr<T> {
        let first = self.first.len();
        // The highest bit of a slot names its chunk, and the others the place in it. Never 0, which spares `ilog2` a check.
        let chunk = (slot >> first.trailing_zeros() | 1).ilog2() as usize;
        let place = self.more.get(chunk).and_then(Once::get);
        let place = place.and_then(|places| places.get(slot - (first << chunk)));
        place.unwrap_or_else(|| self.missing(slot))
    }

    #[cold]
    #[inline(never)]
    fn missing(&self, slot: usize) -> ! {
        panic!("slot {slot} of {}", self.count());
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &AtomicPtr<T>> {
        self.first.iter().chain(self.more.iter().filter_map(Once::get).flatten())
    }

    /// Doubles the slots; where another thread is at it, waits for that, which will do.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`]: no room under the cap, or no further doubling.
    /// [`AllocError::NoMemory`]: the heap gave no memory. Nothing has changed.
    pub(super) fn grow(&self, ledger: &Ledger) -> Result<(), AllocError> {
        let before = self.count();
        let _growing = self.growing.lock();
        if self.count() > before {
            return Ok(());
        }
        let chunk = (before / self.first.len()).ilog2() as usize;
        let link = self.more.get(chunk).ok_or(AllocError::OutOfPages)?;
        let bytes = Self::chunk_bytes(before);
        ledger.lend(bytes)?;
        let Some(made) = boxed(before, AtomicPtr::default) else {
            ledger.take_back(bytes);
            return Err(AllocError::NoMemory);
        };
        let set = link.set(made).is_ok();
        assert!(set, "growth is ordered by its lock");
        // Release pairs with the Acquire in `count`: who knows of the slots finds them.
        self.count.store(2 * before, unless(Plant::SlotsRelaxed, Ordering::Release));
        Ok(())
    }

    /// Drops what growing has added.
    pub(super) fn shrink(&mut self, ledger: &Ledger) {
        let bytes = self.added_bytes();
        self.more = array::from_fn(|_| Once::new());
        self.count = AtomicUsize::new(self.first.len());
        ledger.take_back(bytes);
    }
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn every_slot_has_its_own_place_and_keeps_it() {
        let ledger = Ledger::new(4096, 0, usize::MAX);
        for first in [0, 1, 3, 8] {
            let mut slots: Slots<u8> = Slots::new(first);
            let mut known: Vec<*const AtomicPtr<u8>> = Vec::new();
            while slots.count() <= 1024 {
                (0..known.len()).for_each(|slot| assert!(ptr::eq(known[slot], slots.at(slot))));
                known = (0..slots.count()).map(|slot| ptr::from_ref(slots.at(slot))).collect();
                assert!(known.iter().copied().eq(slots.all().map(ptr::from_ref)), "in order, all");
                let sorted: std::collections::BTreeSet<_> = known.iter().collect();
                assert_eq!(sorted.len(), known.len(), "no place twice");
                slots.grow(&ledger).unwrap();
                assert_eq!((slots.count(), ledger.held()), (2 * known.len(), slots.added_bytes()));
            }
            slots.shrink(&ledger);
            assert_eq!(ledger.held(), 0);
        }
    }

    #[test]
    fn growth_ends_at_the_cap_and_changes_nothing_there() {
        let ledger = Ledger::new(4096, 0, 100);
        let slots: Slots<u8> = Slots::new(4);
        let grown = std::iter::repeat_with(|| slots.grow(&ledger)).take_while(Result::is_ok);
        assert_eq!((grown.count(), slots.count()), (1, 8));
        assert_eq!((ledger.held(), slots.added_bytes()), (heap_cost(32), heap_cost(32)));
    }

    #[test]
    #[should_panic(expected = "slot 8 of 8")]
    fn a_slot_past_the_last_one_is_a_panic() {
        let (ledger, slots) = (Ledger::new(4096, 0, 100), Slots::<u8>::new(4));
        slots.grow(&ledger).unwrap();
        slots.at(7);
        slots.at(8);
    }
}
