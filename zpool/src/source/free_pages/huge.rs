//! Which huge pages of a source are charged whole: `whole` has how these come and go.

use std::ops::Range;

use crate::bits::Bits;

/// The huge pages of a source.
#[derive(Debug, Default)]
pub(super) struct Huge {
    /// Pages of a huge one; 0: there are none.
    pub(super) pages: usize,
    /// Its bytes.
    pub(super) bytes: usize,
    /// Those that are charged whole, by number.
    pub(super) whole: Bits,
    /// Pages of these that are kept.
    pub(super) kept: usize,
    /// Where the last search for one to split ended.
    pub(super) hand: usize,
}

impl Huge {
    /// What the set holds where it has room for pages below `pages`.
    pub(super) fn table_bytes(&self, pages: usize) -> usize {
        if self.pages == 0 { 0 } else { Bits::bytes(pages.div_ceil(self.pages)) }
    }

    /// The set with room for pages below `pages`. `None`: the heap has no memory.
    pub(super) fn widened(&self, pages: usize) -> Option<Bits> {
        if self.pages == 0 {
            return Some(Bits::default());
        }
        self.whole.widened(pages.div_ceil(self.pages))
    }

    /// Whether `page` is in a whole huge page.
    #[inline]
    pub(super) fn has(&self, page: usize) -> bool {
        self.pages > 0 && self.whole.contains(page / self.pages)
    }

    /// The pages of the whole huge page that `page` is in.
    pub(super) fn around(&self, page: usize) -> Option<Range<usize>> {
        self.has(page).then(|| self.pages_of(page / self.pages))
    }

    /// Where the pages from `page` on end that are in no other huge page.
    pub(super) fn end(&self, page: usize) -> usize {
        page.checked_div(self.pages).map_or(usize::MAX, |number| self.pages_of(number).end)
    }

    pub(super) fn pages_of(&self, number: usize) -> Range<usize> {
        number * self.pages..(number + 1) * self.pages
    }
}
