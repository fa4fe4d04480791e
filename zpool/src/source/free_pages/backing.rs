//! What stands behind the pages of a source.

use std::io;
use std::ops::Range;

use crate::ledger::Ledger;
use crate::source::SourceError;

/// Where the memory of pages comes from. A failed call has changed nothing.
pub(in crate::source) trait Backing {
    /// Makes places for pages behind `end`, up to `limit` at most, and says where they end: at
    /// whole grains or at the limit. Its own bookkeeping is charged.
    fn extend(&self, end: usize, limit: usize, ledger: &Ledger) -> Result<usize, SourceError> {
        let _ = (end, ledger);
        Ok(limit)
    }

    /// Where the pages end that lie behind `page` without a border. No call gets pages over a
    /// border.
    fn border(&self, page: usize) -> usize {
        let _ = page;
        usize::MAX
    }

    /// Whether the system is known to take no page back.
    fn keeps(&self) -> bool {
        false
    }

    /// Makes `pages` usable, which are all in front of them.
    fn commit(&self, pages: Range<usize>) -> io::Result<()>;

    /// Gives the memory of `pages`, whole grains, back; they stay usable.
    fn discard(&self, pages: Range<usize>) -> io::Result<()>;

    /// Has a huge page back `pages`, which hold no memory, unless the system has none just now.
    /// Single pages back what is given back of them. `false`: nothing has changed. An error: how
    /// much memory they hold is not known from now on.
    fn open_huge(&self, pages: Range<usize>) -> io::Result<bool> {
        let _ = pages;
        Ok(false)
    }

    /// Has single pages back `pages`, which a huge page backs.
    fn split(&self, pages: Range<usize>) {
        let _ = pages;
    }
}
