//! Huge pages under an array.
//!
//! A *part* of an array is as many of its bytes as a huge page has, from a multiple of that on.
//! Only a part that lies in a block, with no page held or charged, gets a huge page. It is charged
//! whole and backed by a huge page when its first page is held and there is much room. Its other
//! pages are kept then. It is given back when no page of it is held. Where a kept page is asked
//! for, it is split.

use std::ops::Range;

use super::{Blank, HUGE_PAGE, KEPT, Pages, Sparse, block, block_of, extent};
use crate::directory::stretch;
use crate::ledger::Charge;
use crate::sync::{Ordering, PLAIN_ATOMICS};

impl Pages {
    pub(super) fn is_huge(&self, number: usize) -> bool {
        self.huge.get(number).is_some_and(|huge| *huge)
    }
}

impl<V: Blank> Sparse<V> {
    /// The part that `page` is in.
    pub(super) fn huge_number(&self, page: usize) -> usize {
        (page << self.page_bits) / HUGE_PAGE
    }

    /// The pages of that part.
    pub(super) fn huge_around(&self, page: usize) -> Range<usize> {
        let pages = (HUGE_PAGE >> self.page_bits).max(1);
        let start = page - page % pages;
        start..start + pages
    }

    /// Has a huge page back the part around `page`, if that may be: its pages are kept then.
    pub(super) fn open_huge(&self, state: &mut Pages, page: usize, ledger: &impl Charge) {
        let pages = self.huge_around(page);
        let bytes = pages.start << self.page_bits..pages.end << self.page_bits;
        if !PLAIN_ATOMICS || bytes.len() != HUGE_PAGE || !ledger.allows_huge(HUGE_PAGE) {
            return;
        }
        let Ok(element) = u32::try_from(bytes.start.div_ceil(Self::SIZE)) else { return };
        let block = block_of(element);
        let (first, count) = extent(block);
        let before = self.heap_pages();
        let number = self.huge_number(page);
        if bytes.start < first * Self::SIZE
            || bytes.end > (first + count) * Self::SIZE
            || self.by_heap(block)
            || stretch(&mut state.holds, pages.end - before, ledger).is_err()
            || stretch(&mut state.huge, number + 1, ledger).is_err()
            || state.holds[pages.start - before..pages.end - before].iter().any(|held| *held != 0)
            || ledger.reserve(HUGE_PAGE).is_err()
        {
            return;
        }
        let end = bytes.end / Self::SIZE;
        if (end * Self::SIZE > state.readable && self.extend(state, end, ledger).is_err())
            || state.readable < bytes.end
        {
            return ledger.release(HUGE_PAGE);
        }
        let start = self.root[block].load(Ordering::Relaxed).cast::<u8>();
        let start = start.wrapping_add(bytes.start);
        // Nobody holds its page, so it is not in use: blank is what it is.
        let touch = || self.get(element).into_iter().for_each(V::wipe);
        // SAFETY: inside a block that `reserve_at` made, and readable.
        let open = || unsafe { block::open_huge(start, HUGE_PAGE, touch) };
        let opened = if start.addr() % HUGE_PAGE == 0 { open() } else { Ok(false) };
        // After an error the system may back it by a huge page later: it is held for good.
        let holds = if opened.is_ok() { KEPT } else { 1 };
        state.huge[number] = matches!(opened, Ok(true));
        state.holds[pages.start - before..pages.end - before].fill(holds);
        self.mapped.fetch_add(HUGE_PAGE, Ordering::Relaxed);
        if matches!(opened, Ok(false)) {
            // A program that locks its memory got all of it when it could be read.
            self.discard(state, pages, ledger);
        }
    }

    /// Has single pages back the parts of `pages` that huge ones back.
    pub(super) fn split_huge(&self, state: &mut Pages, pages: Range<usize>) {
        let mut at = pages.start;
        while at < pages.end {
            let (part, number) = (self.huge_around(at), self.huge_number(at));
            at = part.end;
            if state.is_huge(number) {
                state.huge[number] = false;
                let block = block_of((part.start << self.page_bits).div_ceil(Self::SIZE) as u32);
                let start = self.root[block].load(Ordering::Relaxed).cast::<u8>();
                let start = start.wrapping_add(part.start << self.page_bits);
                // SAFETY: the first page of a part that `open_huge` has opened.
                unsafe { block::split_huge(start, self.page()) };
            }
        }
    }

    /// Asserts that all of a huge page is charged.
    pub(super) fn check_huge(&self, state: &Pages) {
        let numbers = (0..state.huge.len()).filter(|number| state.is_huge(*number));
        for number in numbers {
            let pages = self.huge_around(number * (HUGE_PAGE >> self.page_bits));
            let before = self.heap_pages();
            let holds = &state.holds[pages.start - before..pages.end - before];
            assert!(holds.iter().all(|holds| *holds != 0), "part {number} is charged whole");
        }
    }
}
