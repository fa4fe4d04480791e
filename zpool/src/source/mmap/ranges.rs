//! The ranges of a source: page numbers run through all of them, in the order in which they were
//! made.
//! ```text
//! first: pages 0 .. n | more[0]: n .. 2n | more[1]: 2n .. 4n | ...
//! ```
//! A range is as long as all before together, or as the system agrees to. It is set once and stays
//! where it is. So a page keeps its address, and growth makes no reader wait. Pages on both sides
//! of a border are not joined.

use std::io;
use std::ops::Range as Pages;
use std::ptr::NonNull;

use super::options::MmapOptions;
use super::reserved::Reserved;
use crate::directory::boxed;
use crate::ledger::{Ledger, Refused, heap_cost};
use crate::source::free_pages::Backing;
use crate::source::{Base, SourceError, limits};
use crate::sync::Once;

/// Ranges behind the first: twice as many as doublings lead from a page to the most pages.
const MORE: usize = 64;
/// What is hoped for is halved no further than to these bytes.
const LEAST_BYTES: usize = 1 << 20;

#[derive(Debug)]
struct Range {
    pages: Pages<usize>,
    reserved: Reserved,
}

#[derive(Debug)]
pub(super) struct Ranges {
    first: Range,
    /// Made when it is needed: few sources outgrow their first range.
    more: Once<Box<[Once<Range>]>>,
    options: MmapOptions,
    /// What ranges begin and end at multiples of, and what the system commits at once, in bytes.
    units: (usize, usize),
}

impl Ranges {
    /// A first range of `pages` pages, in `units`; `fewer`, where the system says so.
    pub(super) fn new(
        pages: usize,
        fewer: bool,
        units: (usize, usize),
        options: MmapOptions,
    ) -> io::Result<Self> {
        let first = if fewer {
            let granted = limits::first_share(pages.saturating_mul(options.page_size));
            Range::at_most(0, pages, granted, units, options)?
        } else {
            Range::new(0, pages, units, options)?
        };
        Ok(Self { first, more: Once::new(), options, units })
    }

    /// The address of page 0.
    pub(super) fn base(&self) -> Base {
        self.first.reserved.base()
    }

    /// Pages of the first range.
    pub(super) fn first_pages(&self) -> usize {
        self.first.pages.end
    }

    fn at(&self, page: usize) -> &Range {
        if page < self.first.pages.end { &self.first } else { self.behind(page) }
    }

    fn behind(&self, page: usize) -> &Range {
        let more = self.more.get().into_iter().flatten().map_while(Once::get);
        let range = more.into_iter().find(|range| page < range.pages.end);
        range.expect("a page that was handed out lies in a range")
    }

    /// The first page behind `page` that no chain from it goes on to.
    pub(super) fn border(&self, page: usize) -> usize {
        self.at(page).pages.end
    }

    /// The address of `page`, which lies in a range that is there.
    pub(super) fn address(&self, page: usize) -> NonNull<u8> {
        let range = self.at(page);
        let offset = (page - range.pages.start) * self.options.page_size;
        // SAFETY: `page` is one of the range's, so the offset stays inside its mapping.
        unsafe { range.reserved.base().first().add(offset) }
    }
}

impl Range {
    /// Pages from number `first` on.
    fn new(
        first: usize,
        pages: usize,
        units: (usize, usize),
        options: MmapOptions,
    ) -> io::Result<Self> {
        let bytes = pages.checked_mul(options.page_size).ok_or(io::ErrorKind::OutOfMemory)?;
        let reserved = Reserved::new(bytes, units, options)?;
        Ok(Self { pages: first..first + pages, reserved })
    }

    /// The same of at most `pages` pages, and of not many more than `granted` bytes.
    fn at_most(
        first: usize,
        pages: usize,
        granted: usize,
        units: (usize, usize),
        options: MmapOptions,
    ) -> io::Result<Self> {
        let unit = units.0;
        let least = LEAST_BYTES.max(unit);
        let mut bytes = granted.max(least);
        loop {
            // Whole units, but for the last page of all.
            let some = (bytes / unit * unit / options.page_size).min(pages);
            match Self::new(first, some, units, options) {
                Err(_) if bytes / 2 >= least => bytes /= 2,
                made => return made,
            }
        }
    }

    fn span(&self, pages: Pages<usize>, page_size: usize) -> Pages<usize> {
        assert!(self.pages.start <= pages.start && pages.end <= self.pages.end);
        let behind = |page| (page - self.pages.start) * page_size;
        behind(pages.start)..behind(pages.end)
    }
}

impl Backing for Ranges {
    fn extend(&self, end: usize, limit: usize, ledger: &Ledger) -> Result<usize, SourceError> {
        if self.more.get().is_none() {
            let bytes = heap_cost(MORE * size_of::<Once<Range>>());
            ledger.reserve_own(bytes).map_err(|Refused| SourceError::Refused)?;
            let set = boxed(MORE, Once::new).map(|more| self.more.set(more));
            if !matches!(set, Some(Ok(()))) {
                ledger.release_own(bytes);
                return Err(SourceError::System(io::ErrorKind::OutOfMemory.into()));
            }
        }
        let mut more = self.more.get().into_iter().flatten();
        let place = more.find(|place| place.get().is_none()).ok_or(SourceError::Full)?;
        let pages = end.min(limit - end);
        let granted = limits::share(pages.saturating_mul(self.options.page_size));
        let made = Range::at_most(end, pages, granted, self.units, self.options);
        let made = made.map_err(SourceError::System)?;
        let reached = made.pages.end;
        assert!(place.set(made).is_ok(), "growth is ordered by its caller's lock");
        Ok(reached)
    }

    fn border(&self, page: usize) -> usize {
        self.border(page)
    }

    fn keeps(&self) -> bool {
        self.first.reserved.keeps()
    }

    fn commit(&self, pages: Pages<usize>) -> io::Result<()> {
        let range = self.at(pages.start);
        range.reserved.commit(range.span(pages, self.options.page_size))
    }

    fn discard(&self, pages: Pages<usize>) -> io::Result<()> {
        let range = self.at(pages.start);
        range.reserved.discard(range.span(pages, self.options.page_size))
    }

    fn open_huge(&self, pages: Pages<usize>) -> io::Result<bool> {
        let range = self.at(pages.start);
        range.reserved.open_huge(range.span(pages, self.options.page_size))
    }

    fn split(&self, pages: Pages<usize>) {
        let range = self.at(pages.start);
        range.reserved.split(range.span(pages, self.options.page_size));
    }
}
