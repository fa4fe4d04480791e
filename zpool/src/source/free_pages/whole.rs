//! How huge pages of a source come and go.
//! ```text
//! clean --open--> whole: in use and kept, all charged --discard--> clean
//!                   |                                                ^
//!                   +--split--> single pages: in use, kept, clean ---+
//! ```
//! Where no page of a huge one is charged yet and there is much room, the huge page is charged
//! whole, and then opened. The system has a huge page back it, and its pages are kept. It is given
//! back whole when all of its pages are free.
//!
//! Memory may be wanted elsewhere while the free pages are in huge pages that are in use otherwise.
//! Then one of those is split: single pages of the system's back it, and the free ones are given
//! back. So no more than a few free pages are ever lost for tables. The last part of a cap is
//! opened in single pages, which come and go without a split.

use std::ops::Range;

use super::{Backing, FreePages};
use crate::ledger::{Ledger, Refused};
use crate::source::SourceError;

/// Free pages in huge ones, as a part of the pages in use, beyond which a huge page is split though
/// nobody asks for memory: in use / this.
const FREE: usize = 16;
/// Bytes of free pages in huge ones that nobody gets as memory for other things.
const FEW_BYTES: usize = 256 << 10;
/// Huge pages that are looked at for the one to split.
const LOOKS: usize = 64;

impl FreePages {
    /// The same with huge pages of so many bytes. All borders of the backing are theirs too, but
    /// for the last one.
    pub(in crate::source) fn with_huge(mut self, bytes: usize, page_size: usize) -> Self {
        assert!(self.grain == 1, "pages are opened one by one in a huge page that is split");
        (self.huge.pages, self.huge.bytes) = (bytes / page_size, bytes);
        self.step = self.step.next_multiple_of(self.huge.pages);
        self
    }

    /// Pages that are charged as parts of huge ones.
    pub(in crate::source) fn huge_pages(&self) -> usize {
        self.huge.whole.len() * self.huge.pages
    }

    /// Kept pages that can go one by one.
    pub(super) fn loose(&self) -> usize {
        self.kept.len() - self.huge.kept
    }

    #[inline]
    pub(super) fn keep(&mut self, page: usize) {
        self.kept.insert(page);
        self.huge.kept += usize::from(self.huge.has(page));
    }

    #[inline]
    pub(super) fn unkeep(&mut self, page: usize) {
        self.kept.remove(page);
        self.huge.kept -= usize::from(self.huge.has(page));
    }

    /// How many of `pages` are kept.
    fn kept_of(&self, pages: Range<usize>) -> usize {
        let (mut at, mut kept) = (pages.start, 0);
        while let Some(page) = self.kept.next(at).filter(|page| *page < pages.end) {
            let run = self.kept.run(page, pages.end - page);
            (at, kept) = (page + run, kept + run);
        }
        kept
    }

    /// Opens the huge page around `page`, whose pages are kept then. `false`: some of them are
    /// charged already, or there is too little room.
    #[inline]
    pub(super) fn open_huge(
        &mut self,
        page: usize,
        ledger: &Ledger,
        backing: &impl Backing,
    ) -> Result<bool, SourceError> {
        if self.huge.pages == 0 { Ok(false) } else { self.try_huge(page, ledger, backing) }
    }

    #[inline(never)]
    fn try_huge(
        &mut self,
        page: usize,
        ledger: &Ledger,
        backing: &impl Backing,
    ) -> Result<bool, SourceError> {
        let number = page / self.huge.pages;
        let pages = self.huge.pages_of(number);
        let clean = pages.start..pages.end.min(self.frontier);
        if pages.end > self.reserved
            || self.clean.run(clean.start, clean.len()) != clean.len()
            || self.stuck
            || backing.keeps()
            || !ledger.has_much_room(self.huge.bytes)
            || ledger.reserve_all(pages.len()) == Err(Refused)
        {
            return Ok(false);
        }
        let ready = clean.end == pages.end
            || backing.commit(clean.end..pages.end).is_ok()
                && self.cover(pages.end, ledger).is_ok();
        let opened = if ready { backing.open_huge(pages.clone()) } else { Ok(false) };
        if matches!(opened, Ok(false)) {
            ledger.release_pages(pages.len());
            return Ok(false);
        }
        if pages.end > self.frontier {
            (self.frontier, self.roomy) = (pages.end, self.frontier);
        }
        clean.for_each(|page| self.clean.remove(page));
        if let Err(error) = opened {
            // They count as in use, and nobody has them: they stay charged for good.
            self.in_use += pages.len();
            return Err(SourceError::System(error));
        }
        self.huge.whole.insert(number);
        pages.for_each(|page| self.keep(page));
        Ok(true)
    }

    /// The huge page around `page`, if it is whole, is one of single pages from now on.
    pub(super) fn forget_huge(&mut self, page: usize) {
        if let Some(pages) = self.huge.around(page) {
            self.huge.whole.remove(pages.start / self.huge.pages);
            self.huge.kept -= self.kept_of(pages);
        }
    }

    /// After `pages` were given: huge pages of which all is kept now go back, and one is split
    /// where they keep too much.
    #[inline]
    pub(super) fn give_huge(&mut self, pages: &[u32], ledger: &Ledger, backing: &impl Backing) {
        if self.huge.kept > self.huge.pages {
            self.give_some(pages, ledger, backing);
        }
    }

    #[inline(never)]
    fn give_some(&mut self, pages: &[u32], ledger: &Ledger, backing: &impl Backing) {
        for page in pages {
            let whole = self.huge.around(*page as usize);
            if let Some(whole) = whole.filter(|whole| self.is_kept(whole)) {
                self.give_back(whole, ledger, backing);
            }
        }
        if self.huge.kept > self.huge.pages.max(self.in_use / FREE) {
            self.split(ledger, backing);
        }
    }

    /// Gives back all kept pages that can go one by one, and huge pages of which all is kept. Where
    /// there are none, one huge page is split, unless few pages are kept in all of them.
    pub(in crate::source) fn trim(&mut self, ledger: &Ledger, backing: &impl Backing) {
        let before = self.kept.len();
        self.discard(usize::MAX, ledger, backing);
        let few = FEW_BYTES * self.huge.pages / self.huge.bytes.max(1);
        if self.kept.len() == before && self.huge.kept > few {
            self.split(ledger, backing);
        }
    }

    /// Splits the huge page that has most to give, of those looked at, and gives back what is kept
    /// of it.
    fn split(&mut self, ledger: &Ledger, backing: &impl Backing) {
        let mut best = (0, 0); // kept pages, number
        for _ in 0..LOOKS.min(self.huge.whole.len()) {
            let next = self.huge.whole.next(self.huge.hand).or_else(|| self.huge.whole.next(0));
            let Some(number) = next else { break };
            best = best.max((self.kept_of(self.huge.pages_of(number)), number));
            self.huge.hand = number + 1;
        }
        let (kept, number) = best;
        let pages = self.huge.pages_of(number);
        if kept > 0 {
            backing.split(pages.clone());
            self.forget_huge(pages.start);
            self.sweep = pages.start;
            self.discard(kept, ledger, backing);
        }
    }
}
