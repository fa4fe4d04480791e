//! A table that doubles and halves beside its readers.
//! ```text
//! first: n elements, and address space for 16 n | as many again | as many as all before | ...
//! ```
//! n is a power of two. Elements stay where they are, so no reader waits for a change of the
//! length, and an element keeps its number. An element of the first run is found as in a slice.
//! Elements that halving took away can still be read, and are blank where their memory was given
//! back. So a reader with an old number does no harm. A table of less than a page is on the heap,
//! at most the first run; the heap keeps it.
//!
//! Under the lock: all elements below `charged` may have memory, no others have, and what they take
//! beyond the first n is lent.

use std::ops::Range;

use super::run::Run;
use super::{Blank, page_bytes};
use crate::error::AllocError;
use crate::ledger::{Ledger, heap_cost};
use crate::sync::{AtomicUsize, Counter, DOUBLINGS, Mutex, Once, Ordering, model_bug};

/// The first run has address space for this many times its elements.
const ROOM: usize = 16;

#[derive(Debug)]
pub(crate) struct Doubling<V: Blank> {
    first: Run<V>,
    more: Box<[Once<Run<V>>]>,
    count: AtomicUsize,
    /// Elements that there were at first.
    least: usize,
    /// Bytes that are lent to the table.
    lent: Counter,
    /// Elements that are charged; held while the length changes.
    charged: Mutex<usize>,
}

fn no_runs<V: Blank>() -> Box<[Once<Run<V>>]> {
    (0..DOUBLINGS).map(|_| Once::new()).collect()
}

impl<V: Blank> Doubling<V> {
    /// `count` elements, a power of two or the next one, and one at least.
    pub(crate) fn new(count: usize) -> Self {
        let least = Self::rounded(count);
        let mapped = || Run::mapped(least.checked_mul(ROOM)?).filter(|first| first.open(least));
        let first = if Run::<V>::is_mapped(least) { mapped() } else { None };
        Self {
            first: first.unwrap_or_else(|| Run::on_heap_or_end(least)),
            more: no_runs(),
            count: AtomicUsize::new(least),
            least,
            lent: Counter::new(0),
            charged: Mutex::new(least),
        }
    }

    const fn rounded(count: usize) -> usize {
        if count == 0 { 1 } else { count.next_power_of_two() }
    }

    /// What `count` elements take at first: on the heap, or as pages where these are as small.
    pub(crate) const fn first_bytes(count: usize) -> usize {
        // A block of the heap that begins at a multiple of a power of two is as much longer.
        let align = if align_of::<V>() > 16 { align_of::<V>() } else { 0 };
        heap_cost(Self::rounded(count).saturating_mul(size_of::<V>()).saturating_add(align))
            + heap_cost(DOUBLINGS * size_of::<Once<Run<V>>>())
    }

    /// What growing has added to that.
    pub(crate) fn lent_bytes(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }

    /// What the next doubling takes, or little less.
    pub(crate) fn next_bytes(&self) -> usize {
        self.count() * size_of::<V>()
    }

    /// All elements below this are there.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire) // pairs with the Release in `grow`
    }

    /// # Panics
    /// There never was such an element.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> &V {
        match self.first.get(index) {
            Some(element) => element,
            None => self.grown(index),
        }
    }

    /// An element past the first run, as by [`at`](Self::at).
    #[inline]
    fn grown(&self, index: usize) -> &V {
        let room = self.first.len();
        // The highest bit of a number names its run, and the others the place in it. Never 0, which
        // spares `ilog2` a check.
        let run = (index >> room.trailing_zeros() | 1).ilog2() as usize;
        let found = self.more.get(run).and_then(|link| link.get());
        let found = found.and_then(|elements| elements.get(index.wrapping_sub(room << run)));
        found.unwrap_or_else(|| self.missing(index))
    }

    #[cold]
    #[inline(never)]
    fn missing(&self, index: usize) -> ! {
        panic!("place {index} of {}", self.count());
    }

    fn runs(&self) -> impl Iterator<Item = &Run<V>> {
        std::iter::once(&self.first).chain(self.more.iter().map_while(Once::get))
    }

    /// All that there ever were.
    pub(crate) fn all(&self) -> impl Iterator<Item = &V> {
        self.runs().flat_map(|run| (0..run.len()).map_while(|place| run.get(place)))
    }

    /// Doubles the elements, the new ones blank or as they were when halving took them away; where
    /// another thread is at it, waits for that, which will do.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`]: no room under the cap, or no further doubling.
    /// [`AllocError::NoMemory`]: the heap or the system gave no memory. Nothing has changed.
    pub(crate) fn grow(&self, ledger: &Ledger) -> Result<(), AllocError> {
        let wanted = self.count();
        let mut charged = self.charged.lock();
        let before = if model_bug!(SlotsGrownOver) { wanted } else { self.count() };
        if before > wanted {
            return Ok(());
        }
        let count = before.checked_mul(2).ok_or(AllocError::OutOfPages)?;
        let bytes = if *charged < count { self.step_bytes(before) } else { 0 };
        ledger.lend(bytes)?;
        if let Err(error) = self.open(before..count) {
            ledger.take_back(bytes);
            return Err(error);
        }
        self.lent.fetch_add(bytes, Ordering::Relaxed);
        *charged = count.max(*charged);
        // Release pairs with the Acquire in `count`: who knows of the elements finds them.
        self.count.store(count, model_bug!(SlotsRelaxed, Ordering::Release => Ordering::Relaxed));
        Ok(())
    }

    /// What doubling `half` elements takes: pages of the first run, or another run.
    fn step_bytes(&self, half: usize) -> usize {
        let bytes = half * size_of::<V>();
        let pages = |bytes: usize| bytes.next_multiple_of(page_bytes());
        match half < self.first.len() {
            true => pages(2 * bytes) - pages(bytes),
            false if Run::<V>::is_mapped(half) => pages(bytes),
            false => heap_cost(bytes),
        }
    }

    /// The run of the upper half of `count` elements, and that half's place in it.
    fn upper(&self, count: usize) -> (Option<&Once<Run<V>>>, Range<usize>) {
        let room = self.first.len();
        if count <= room {
            return (None, count / 2..count);
        }
        let run = (count / 2 / room).ilog2() as usize;
        (self.more.get(run), 0..count / 2)
    }

    fn open(&self, elements: Range<usize>) -> Result<(), AllocError> {
        let (link, places) = self.upper(elements.end);
        let done = |opened: bool| opened.then_some(()).ok_or(AllocError::NoMemory);
        if elements.end <= self.first.len() {
            return done(self.first.open(places.end));
        }
        let link = link.ok_or(AllocError::OutOfPages)?;
        if link.get().is_none() {
            let len = places.end;
            let mapped = if Run::<V>::is_mapped(len) { Run::mapped(len) } else { None };
            let made = mapped.or_else(|| Run::on_heap(len)).ok_or(AllocError::NoMemory)?;
            let set = link.set(made).is_ok();
            assert!(set, "growth is ordered by its lock");
        }
        done(link.get().is_some_and(|run| run.open(places.end)))
    }

    /// Halves the elements, down to what they were at first, if `may` agrees; `false`: it does not,
    /// or there are no more than at first. The memory of those that go goes back with their values.
    pub(crate) fn shrink(&self, ledger: &Ledger, may: impl FnOnce(Range<usize>) -> bool) -> bool {
        let mut charged = self.charged.lock();
        let count = self.count();
        if count == self.least || !may(count / 2..count) {
            return false;
        }
        self.count.store(count / 2, Ordering::Release);
        self.give(&mut charged, ledger);
        true
    }

    /// Gives back what the system did not take when the table was halved.
    pub(crate) fn trim(&self, ledger: &Ledger) {
        self.give(&mut self.charged.lock(), ledger);
    }

    /// Gives the memory back of elements that are charged and no more there.
    fn give(&self, charged: &mut usize, ledger: &Ledger) {
        let count = self.count();
        while *charged > count {
            let (link, places) = self.upper(*charged);
            let run = link.map_or(Some(&self.first), Once::get);
            if !run.is_some_and(|run| run.discard(places)) {
                return; // it stays charged
            }
            let bytes = self.step_bytes(*charged / 2);
            *charged /= 2;
            self.lent.fetch_sub(bytes, Ordering::Relaxed);
            ledger.take_back(bytes);
        }
    }

    /// Nobody uses it any more: what is lent is given back with the memory.
    pub(crate) fn end(&mut self, ledger: &Ledger) {
        self.more = no_runs();
        self.first.discard(self.least..self.first.len());
        ledger.take_back(self.lent.swap(0, Ordering::Relaxed));
    }
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
mod tests {
    use std::ptr;

    use super::*;
    use crate::sync::AtomicPtr;

    type Slots = Doubling<AtomicPtr<u8>>;

    #[test]
    fn every_element_has_its_own_place_and_keeps_it() {
        let ledger = Ledger::new(4096, 0, usize::MAX);
        for first in [0, 1, 3, 8, 1024] {
            let mut slots = Slots::new(first);
            let mut known: Vec<*const AtomicPtr<u8>> = Vec::new();
            while slots.count() <= 8192 {
                (0..known.len()).for_each(|slot| assert!(ptr::eq(known[slot], slots.at(slot))));
                known = (0..slots.count()).map(|slot| ptr::from_ref(slots.at(slot))).collect();
                let all = slots.all().map(ptr::from_ref).take(known.len());
                assert!(known.iter().copied().eq(all), "in order, all");
                let sorted: std::collections::BTreeSet<_> = known.iter().collect();
                assert_eq!(sorted.len(), known.len(), "no place twice");
                slots.grow(&ledger).unwrap();
                assert_eq!((slots.count(), ledger.held()), (2 * known.len(), slots.lent_bytes()));
            }
            slots.end(&ledger);
            assert_eq!(ledger.held(), 0);
        }
    }

    /// After each halving it holds what it held when it had that length first, and a few bytes that
    /// count pages.
    #[test]
    fn halving_gives_back_what_doubling_took() {
        let ledger = Ledger::new(4096, 0, usize::MAX);
        for first in [1, 8, 512, 1024] {
            let mut slots = Slots::new(first);
            for _ in 0..2 {
                let mut held = Vec::new();
                while slots.count() < 1 << 15 {
                    held.push((slots.count(), slots.lent_bytes()));
                    slots.grow(&ledger).unwrap();
                }
                while slots.shrink(&ledger, |_| true) {
                    let (count, before) = held.pop().unwrap();
                    let after = slots.lent_bytes();
                    assert_eq!(slots.count(), count);
                    // Heap blocks and the counts of pages stay.
                    assert!(after <= before + 4096 + 512, "{count} places: {after} of {before}");
                }
                assert!(held.is_empty() && slots.count() == first);
            }
            slots.end(&ledger);
            assert_eq!(ledger.held(), 0);
        }
    }

    #[test]
    fn what_halving_took_away_is_blank_and_can_be_looked_at() {
        let (ledger, slots) = (Ledger::new(4096, 0, usize::MAX), Slots::new(1024));
        slots.grow(&ledger).unwrap();
        let (mut byte, last) = (0, slots.at(2047));
        last.store(&raw mut byte, Ordering::Relaxed);
        assert!(!slots.shrink(&ledger, |gone| gone != (1024..2048)));
        assert_eq!(last.load(Ordering::Relaxed), &raw mut byte);
        assert!(slots.shrink(&ledger, |_| true));
        let blank = last.load(Ordering::Relaxed).is_null();
        assert!(blank || !cfg!(all(any(target_os = "linux", target_os = "android"), not(miri))));
        assert!(!slots.shrink(&ledger, |_| true), "no less than at first");
    }

    #[test]
    fn growth_ends_at_the_cap_and_changes_nothing_there() {
        let ledger = Ledger::new(4096, 0, 2000);
        let slots = Slots::new(4);
        let grown = std::iter::repeat_with(|| slots.grow(&ledger)).take_while(Result::is_ok);
        let (grown, count) = (grown.count(), slots.count());
        assert!(grown > 0 && count == 4 << grown, "{grown} doublings to {count}");
        assert_eq!(ledger.held(), slots.lent_bytes());
    }

    #[test]
    #[should_panic(expected = "place 5000 of 8")]
    fn a_place_past_all_is_a_panic() {
        let (ledger, slots) = (Ledger::new(4096, 0, 10_000), Slots::new(4));
        slots.grow(&ledger).unwrap();
        slots.at(7);
        slots.at(5000);
    }
}
