//! Pages in regions of the global allocator: portable, and what the loom models run on.
//! ```text
//! page number = region * region_pages + place in the region
//! ```
//! A region is allocated and charged whole, or by less when the ledger has less room. So a cap
//! which is no multiple of a region is used to the last page. Its free pages count as kept. A
//! region without a page in use is freed, but for one. Otherwise a pool at the edge of a region
//! would allocate and free it in turns. The number of a freed region is used again.
//!
//! The regions' addresses stand in a directory of atomics that readers follow without a lock. All
//! else is under the lock.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::{self, NonNull};

use super::free_pages::page_size_fits;
use super::{Access, PageSource, SourceError, most_pages};
use crate::bits::Bits;
use crate::directory::{Directory, boxed};
use crate::error::AllocError;
use crate::ledger::{Ledger, Refused, heap_cost};
use crate::sync::{AtomicPtr, Mutex, Ordering};

/// Bytes under the cap below which a region is made smaller.
const HEADROOM: usize = 32 << 10;
/// Bytes in a region, by default.
const REGION_BYTES: usize = 256 << 10;
/// Free runs looked at before a search for a long one settles for less.
const TRIES: usize = 16;

/// Pages in regions of the global allocator.
///
/// ```
/// use zpool::source::{Heap, PageSource};
///
/// let source = Heap::new(4096);
/// assert_eq!(source.page_size(), 4096);
/// ```
#[derive(Debug)]
pub struct Heap {
    page_size: usize,
    region_pages: usize,
    /// Where each region starts; null while there is none.
    bases: Directory<AtomicPtr<u8>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    regions: Box<[Region]>,
    /// What the ledger carries for this bookkeeping.
    charged: usize,
    /// Free pages of regions that exist.
    free: Bits,
    /// No region below this number is missing.
    missing: usize,
    /// The one region that is kept though no page of it is in use.
    spare: Option<usize>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Region {
    /// 0: there is none.
    pages: u32,
    in_use: u32,
}

impl Heap {
    /// Pages of `page_size` bytes in regions of 256 KiB.
    ///
    /// # Panics
    /// Unless `page_size` is a power of two from 4 KiB to 64 KiB.
    #[must_use]
    pub fn new(page_size: usize) -> Self {
        Self::with_region_pages(page_size, REGION_BYTES / page_size.clamp(1, REGION_BYTES))
    }

    /// Pages of `page_size` bytes in regions of `region_pages` pages.
    ///
    /// # Panics
    /// Unless `page_size` is a power of two from 4 KiB to 64 KiB, and `region_pages` is from 1 to
    /// 16,384.
    #[must_use]
    pub fn with_region_pages(page_size: usize, region_pages: usize) -> Self {
        assert!(page_size_fits(page_size), "pages of {page_size} bytes");
        assert!((1..=1 << 14).contains(&region_pages), "regions of {region_pages} pages");
        let state = Mutex::new(State::default());
        Self { page_size, region_pages, bases: Directory::new(), state }
    }

    fn max_regions(&self) -> usize {
        most_pages(self.page_size) as usize / self.region_pages
    }

    fn layout(&self, pages: usize) -> Layout {
        let layout = Layout::from_size_align(pages * self.page_size, self.page_size);
        layout.expect("a region is far smaller than the address space")
    }

    /// What an aligned block costs the allocator beside its bytes: the page before it, where its
    /// header is, and the way to its alignment (glibc: 1.0 pages at 4 KiB, 1.9 at 64 KiB, measured
    /// on 1000 regions).
    fn region_overhead(&self) -> usize {
        if self.page_size == 4096 { heap_cost(4096) } else { heap_cost(8192) }
    }

    /// Allocates region `number`: as large as the ledger allows.
    fn open(&self, state: &mut State, number: usize, ledger: &Ledger) -> Result<(), SourceError> {
        let overhead = self.region_overhead();
        ledger.reserve_own(overhead).map_err(|Refused| SourceError::Refused)?;
        let mut pages = ledger.reserve_pages(self.region_pages);
        if ledger.headroom() < HEADROOM {
            // Half of what is left will do: the pool's tables need bytes too.
            ledger.release_pages(pages / 2);
            pages -= pages / 2;
        }
        let error = loop {
            if pages == 0 {
                break SourceError::Refused;
            }
            match self.open_with(state, number, pages, ledger) {
                Ok(()) => return Ok(()),
                // The pages may have taken the room that their bookkeeping needs.
                Err(SourceError::Refused) => {
                    ledger.release_pages(pages - pages / 2);
                    pages /= 2;
                }
                Err(error) => break error,
            }
        };
        if pages > 0 {
            ledger.release_pages(pages);
        }
        ledger.release_own(overhead);
        Err(error)
    }

    /// Allocates region `number` with pages that are charged already.
    fn open_with(
        &self,
        state: &mut State,
        number: usize,
        pages: usize,
        ledger: &Ledger,
    ) -> Result<(), SourceError> {
        let wider = Wider::of(state, number, self.region_pages, ledger)?;
        let layout = self.layout(pages);
        // SAFETY: a region has a page at least, so the layout is not empty.
        let base = unsafe { alloc_zeroed(layout) };
        let placed = if base.is_null() {
            Err(SourceError::System(io::ErrorKind::OutOfMemory.into()))
        } else {
            self.place(number, base, ledger)
        };
        if let Err(error) = placed {
            if !base.is_null() {
                // SAFETY: allocated above with this layout, and nobody has been told of it.
                unsafe { dealloc(base, layout) };
            }
            wider.cancel(ledger);
            return Err(error);
        }
        wider.install(state, ledger);
        state.regions[number] = Region { pages: pages as u32, in_use: 0 };
        let first = number * self.region_pages;
        (first..first + pages).for_each(|page| state.free.insert(page));
        state.missing = number + 1;
        state.spare = Some(number);
        Ok(())
    }

    /// Enters the address of region `number` in the directory.
    fn place(&self, number: usize, base: *mut u8, ledger: &Ledger) -> Result<(), SourceError> {
        if let Some(slot) = self.bases.get(number) {
            slot.store(base, Ordering::Release); // pairs with the Acquire in `address`
            return Ok(());
        }
        let bytes = self.bases.growth(number);
        let grown = self.bases.grow(number, ledger, || Some(AtomicPtr::new(base)));
        grown.map_err(|error| match error {
            AllocError::NoMemory => SourceError::System(io::ErrorKind::OutOfMemory.into()),
            _ => SourceError::Refused,
        })?;
        ledger.make_own(bytes);
        Ok(())
    }

    /// Frees region `number`, of which no page is in use.
    fn close(&self, state: &mut State, number: usize, ledger: &Ledger) {
        let Region { pages, in_use } = std::mem::take(&mut state.regions[number]);
        assert_eq!(in_use, 0, "region {number} is freed while pages of it are in use");
        let (pages, first) = (pages as usize, number * self.region_pages);
        (first..first + pages).for_each(|page| state.free.remove(page));
        state.missing = state.missing.min(number);
        self.unplace(number, pages);
        ledger.release_pages(pages);
        ledger.release_own(self.region_overhead());
    }

    /// Frees the memory of region `number`, of `pages` pages.
    fn unplace(&self, number: usize, pages: usize) {
        let slot = self.bases.get(number).expect("a region that exists has its place");
        let base = slot.load(Ordering::Relaxed); // written under the lock, which we hold or end
        // Relaxed: nobody asks for an address in a region without a page in use.
        slot.store(ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: `open_with` allocated it with this layout, `state` said that it still existed,
        // and no page of it is handed out, or the source is dropped and nobody can ask for one.
        unsafe { dealloc(base, self.layout(pages)) };
    }
}

// SAFETY: a page is taken out of `free`, under the lock, before its number is handed out, and put
// back when it is given. `free` has pages of regions that exist only; a region is freed when none
// of its pages is in use. Regions are allocated zeroed, so initialised, and aligned to the page
// size. Pages of one region lie behind each other in one allocation.
unsafe impl PageSource for Heap {
    fn page_size(&self) -> usize {
        self.page_size
    }

    fn capacity(&self) -> u32 {
        (self.max_regions() * self.region_pages) as u32
    }

    fn access(&self) -> Access {
        Access::Paged
    }

    fn take(&self, after: Option<u32>, more: usize, ledger: &Ledger) -> Result<u32, SourceError> {
        let mut state = self.state.lock();
        let page = match state.choose(after, more, self.region_pages) {
            Some(page) => page,
            None => {
                let known = state.regions.len();
                let missing = |number: &usize| state.regions[*number].pages == 0;
                let number = (state.missing..known).find(missing).unwrap_or(known);
                if number >= self.max_regions() {
                    return Err(SourceError::Full);
                }
                self.open(&mut state, number, ledger)?;
                number * self.region_pages
            }
        };
        let number = page / self.region_pages;
        state.free.remove(page);
        state.regions[number].in_use += 1;
        state.spare = state.spare.filter(|spare| *spare != number);
        Ok(page as u32)
    }

    fn give(&self, pages: &[u32], ledger: &Ledger) {
        let mut state = self.state.lock();
        for &page in pages {
            let page = page as usize;
            let number = page / self.region_pages;
            let region = state.regions.get(number).copied().unwrap_or_default();
            let exists = page % self.region_pages < region.pages as usize;
            assert!(exists && !state.free.contains(page), "page {page} is not handed out");
            state.free.insert(page);
            state.regions[number].in_use -= 1;
            if region.in_use == 1 {
                match state.spare.replace(number) {
                    None => {}
                    Some(other) => {
                        state.spare = Some(number.min(other));
                        self.close(&mut state, number.max(other), ledger);
                    }
                }
            }
        }
    }

    fn trim(&self, ledger: &Ledger) {
        let mut state = self.state.lock();
        if let Some(number) = state.spare.take() {
            self.close(&mut state, number, ledger);
        }
    }

    fn kept(&self) -> usize {
        self.state.lock().free.len()
    }

    fn is_fresh(&self) -> bool {
        self.state.lock().charged == 0
    }

    /// Inside a region. (A region may end early; then the page behind is handed out to nobody.)
    fn joined(&self, page: u32) -> bool {
        (page as usize + 1) % self.region_pages != 0
    }

    #[inline]
    unsafe fn address(&self, page: u32) -> NonNull<u8> {
        let (number, place) =
            (page as usize / self.region_pages, page as usize % self.region_pages);
        let slot = self.bases.get(number);
        // Pairs with the Release in `place`; null or nothing when the page is not handed out.
        let base = slot.and_then(|slot| NonNull::new(slot.load(Ordering::Acquire)));
        let base = base.expect("an address is asked of a page that is handed out");
        // SAFETY: the page is handed out, so its region has more than `place` pages.
        unsafe { base.add(place * self.page_size) }
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        let regions = std::mem::take(&mut self.state.lock().regions);
        for (number, region) in regions.iter().enumerate().filter(|(_, region)| region.pages > 0) {
            self.unplace(number, region.pages as usize);
        }
    }
}

impl State {
    /// The free page to hand out: see [`PageSource::take`]. All are charged, so the lowest that
    /// grants the wish is the best, and no wish is worth a new region.
    fn choose(&self, after: Option<u32>, more: usize, region_pages: usize) -> Option<usize> {
        if let Some(next) = after.map(|page| page as usize + 1) {
            if next % region_pages != 0 && self.free.contains(next) {
                return Some(next);
            }
        }
        let want = more.saturating_add(1);
        let (mut at, mut longest) = (0, (0, None));
        for _ in 0..TRIES {
            let Some(first) = self.free.next(at) else { break };
            let length = self.free.run(first, want.min(region_pages - first % region_pages));
            if length > longest.0 {
                longest = (length, Some(first));
            }
            if length == want {
                break;
            }
            at = first + length;
        }
        longest.1
    }
}

/// Bookkeeping with room for one more region: charged, not yet in use.
#[derive(Debug, Default)]
struct Wider {
    charged: usize,
    made: Option<(Box<[Region]>, Bits)>,
}

impl Wider {
    fn bytes(regions: usize, region_pages: usize) -> usize {
        let table = Directory::<AtomicPtr<u8>>::EMPTY_BYTES;
        table + heap_cost(regions * size_of::<Region>()) + Bits::bytes(regions * region_pages)
    }

    fn of(
        state: &State,
        number: usize,
        region_pages: usize,
        ledger: &Ledger,
    ) -> Result<Self, SourceError> {
        if number < state.regions.len() {
            return Ok(Self::default());
        }
        // Half as much again, so that copying stays cheap per region.
        let regions = number + 1 + number / 2;
        let charged = Self::bytes(regions, region_pages);
        ledger.reserve_own(charged).map_err(|Refused| SourceError::Refused)?;
        let table = boxed(regions, Region::default);
        let made =
            table.zip(state.free.widened(regions * region_pages)).map(|(mut table, free)| {
                table[..state.regions.len()].copy_from_slice(&state.regions);
                (table, free)
            });
        if made.is_none() {
            ledger.release_own(charged);
            return Err(SourceError::System(io::ErrorKind::OutOfMemory.into()));
        }
        Ok(Self { charged, made })
    }

    fn cancel(self, ledger: &Ledger) {
        let charged = self.charged;
        drop(self);
        ledger.release_own(charged);
    }

    fn install(self, state: &mut State, ledger: &Ledger) {
        let Some((regions, free)) = self.made else { return };
        ledger.release_own(state.charged);
        (state.regions, state.free, state.charged) = (regions, free, self.charged);
    }
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
mod tests {
    use super::*;
    use crate::source::free_pages::tests::churn;

    #[test]
    fn agrees_with_a_set_and_its_ledger() {
        for (page_size, region_pages) in [(4096, 64), (4096, 1), (4096, 3), (65536, 4)] {
            for cap in [1, 63, 100, 1000, usize::MAX] {
                let source = Heap::with_region_pages(page_size, region_pages);
                let ledger = Ledger::new(page_size, cap, usize::MAX);
                churn(&source, &ledger, 5000);
                assert!(source.kept() <= region_pages, "one spare region");
                source.trim(&ledger);
                assert_eq!((ledger.pages(), source.kept()), (0, 0));
            }
        }
    }

    #[test]
    fn the_cap_is_reached_to_the_page_though_regions_are_larger() {
        for cap in [1, 63, 64, 65, 1000] {
            let (source, ledger) = (Heap::new(4096), Ledger::new(4096, cap, usize::MAX));
            (0..cap).for_each(|page| {
                assert_eq!(source.take(None, 2, &ledger).unwrap(), page as u32);
            });
            assert!(matches!(source.take(None, 0, &ledger), Err(SourceError::Refused)));
            assert_eq!(ledger.pages(), cap);
        }
    }

    #[test]
    fn a_cap_in_bytes_leaves_less_than_pages_and_bookkeeping_need() {
        for cap in [300_000, 1_000_000, 5_000_000, 20_000_000] {
            let (source, ledger) = (Heap::new(4096), Ledger::new(4096, usize::MAX, cap));
            while source.take(None, 0, &ledger).is_ok() {
                assert!(ledger.held() <= cap);
            }
            assert_eq!(source.kept(), 0);
            let left = cap - ledger.held();
            assert!(left < 4096 + source.region_overhead() + cap / 200, "{left} of {cap} left");
        }
    }

    #[test]
    fn a_refused_take_leaves_everything_as_it_was() {
        let overhead = Heap::new(4096).region_overhead();
        for room in (0..20_000).step_by(16) {
            let (source, ledger) = (Heap::new(4096), Ledger::new(4096, usize::MAX, room));
            match source.take(None, 0, &ledger) {
                Ok(page) => assert_eq!(page, 0),
                Err(_) => {
                    assert_eq!((ledger.held(), ledger.pages(), source.kept()), (0, 0, 0));
                    assert!(room < 4096 + overhead + 3000);
                }
            }
        }
    }

    #[test]
    fn numbers_of_freed_regions_are_used_again() {
        let (source, ledger) =
            (Heap::with_region_pages(4096, 4), Ledger::new(4096, 99, usize::MAX));
        (0..16).for_each(|page| assert_eq!(source.take(None, 0, &ledger).unwrap(), page));
        source.give(&(4..12).collect::<Vec<_>>(), &ledger);
        assert_eq!((source.kept(), ledger.pages()), (4, 12), "one of the two empty ones stays");
        source.trim(&ledger);
        assert_eq!((source.kept(), ledger.pages()), (0, 8));
        (4..12).for_each(|page| assert_eq!(source.take(None, 3, &ledger).unwrap(), page));
        assert_eq!(source.take(None, 0, &ledger).unwrap(), 16);
    }

    #[test]
    fn the_page_behind_is_preferred_then_a_run_then_the_lowest() {
        let (source, ledger) = (Heap::new(4096), Ledger::new(4096, 640, usize::MAX));
        (0..64).for_each(|_| assert!(source.take(None, 0, &ledger).is_ok()));
        source.give(&[1, 9, 10, 20, 21, 22, 63], &ledger);
        assert_eq!(source.take(Some(9), 5, &ledger).unwrap(), 10);
        assert_eq!(source.take(Some(10), 2, &ledger).unwrap(), 20);
        assert_eq!(source.take(Some(62), 9, &ledger).unwrap(), 63);
        assert_eq!(source.take(Some(63), 0, &ledger).unwrap(), 1);
        assert_eq!(source.take(None, 9, &ledger).unwrap(), 21, "the longest there is");
        assert!(source.joined(62) && !source.joined(63));
    }

    #[test]
    fn pages_have_their_own_zeroed_aligned_bytes() {
        let (source, ledger) =
            (Heap::with_region_pages(65536, 2), Ledger::new(65536, 9, usize::MAX));
        let pages: Vec<u32> = (0..5).map(|_| source.take(None, 0, &ledger).unwrap()).collect();
        // SAFETY: asked for taken pages only.
        let at = |page: u32| unsafe { source.address(page) }.as_ptr();
        for &page in &pages {
            let address = at(page);
            assert_eq!(address.addr() % 65536, 0);
            // SAFETY: the page is taken; nobody else has it.
            let bytes = unsafe { std::slice::from_raw_parts_mut(address, 65536) };
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(page as u8 + 1);
        }
        assert_eq!(at(3).addr() - at(2).addr(), 65536);
    }

    #[test]
    #[should_panic(expected = "page 0 is not handed out")]
    fn giving_twice_is_a_bug() {
        let (source, ledger) = (Heap::new(4096), Ledger::new(4096, 9, usize::MAX));
        source.take(None, 0, &ledger).unwrap();
        source.take(None, 0, &ledger).unwrap();
        source.give(&[0, 0], &ledger);
    }
}
