//! How a source of mapped pages is made: plain data.

use crate::source::most_pages;

/// On systems with little address space, the most that a source hopes for.
const MOST_BYTES: Option<usize> =
    if cfg!(target_pointer_width = "64") { None } else { Some(1 << 30) };
/// Address space that is reserved at first where nobody says how much will be used.
const FIRST_BYTES: usize = if cfg!(target_pointer_width = "64") { 4 << 30 } else { 64 << 20 };
/// Address space that is reserved at first for a pool under a cap, at least.
const LEAST_FIRST_BYTES: usize = 64 << 20;

/// How an [`Mmap`](crate::source::Mmap) is made: plain data.
///
/// Address space is reserved in ranges. The first one is as long as these options say, or as the
/// caps of the [`Config`](crate::Config) they are handed to: twice the cap, 64 MiB at least. Where
/// pages run out, another range is reserved, as long as all before together.
///
/// ```
/// use zpool::source::{Mmap, MmapOptions};
///
/// let source = Mmap::new(MmapOptions::new().max_pages(1 << 16).dont_dump(true))?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct MmapOptions {
    pub(super) page_size: usize,
    pub(super) max_pages: Option<u32>,
    pub(super) first_pages: Option<u32>,
    pub(super) huge_pages: bool,
    pub(super) dont_dump: bool,
    pub(super) dont_fork: bool,
}

impl Default for MmapOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl MmapOptions {
    /// As many pages of 4 KiB as the system grants; no huge pages; in core dumps; inherited on
    /// fork.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            page_size: 4096,
            max_pages: None,
            first_pages: None,
            huge_pages: false,
            dont_dump: false,
            dont_fork: false,
        }
    }

    /// Bytes in a page: a power of two from 4 KiB to 64 KiB. Default: 4 KiB.
    #[must_use]
    pub const fn page_size(self, bytes: usize) -> Self {
        Self { page_size: bytes, ..self }
    }

    /// The most pages there are. Address space for all of them is reserved at once, or
    /// [`Mmap::new`](crate::source::Mmap::new) fails, unless [`first_pages`](Self::first_pages)
    /// says less. Default: just under 1 TiB of pages (32-bit: 1 GiB), of which only the first range
    /// is reserved at once.
    #[must_use]
    pub const fn max_pages(self, pages: u32) -> Self {
        Self { max_pages: Some(pages), ..self }
    }

    /// Pages to reserve address space for at first, or as many as the system agrees to; the rest
    /// follows when it is needed. Default: 4 GiB of pages (32-bit: 64 MiB).
    ///
    /// Objects in the first range are found a little faster than others: a pool that will hold
    /// about so many bytes should say so.
    #[must_use]
    pub const fn first_pages(self, pages: u32) -> Self {
        Self { first_pages: Some(pages), ..self }
    }

    /// Asks for huge pages of 2 MiB (Linux, where it has them for those who ask), for the tables of
    /// the pool too where these are long. Reads of cold memory are 10 to 20 % faster. As long as
    /// there is much room, memory is charged and filled with zeros 2 MiB at a time, which takes
    /// some 0.3 ms. It is given back so when all of it is free; where free pages are wanted
    /// elsewhere, a huge page is split. Locked memory gets none. What is given back while a child
    /// from a `fork` is there, or after a later `mlockall`, may be free for others only when memory
    /// is short. Default: no, and the system is told to make none.
    #[must_use]
    pub const fn huge_pages(self, yes: bool) -> Self {
        Self { huge_pages: yes, ..self }
    }

    /// Keeps the pages out of core dumps (Linux; elsewhere without effect). Default: no.
    #[must_use]
    pub const fn dont_dump(self, yes: bool) -> Self {
        Self { dont_dump: yes, ..self }
    }

    /// Keeps the pages from child processes, for which the ranges are then holes (Linux; elsewhere
    /// [`Mmap::new`](crate::source::Mmap::new) fails). Default: no; a child's writes make copies
    /// that no ledger knows of.
    #[must_use]
    pub const fn dont_fork(self, yes: bool) -> Self {
        Self { dont_fork: yes, ..self }
    }

    /// The same for a pool that will hold `pages` pages at most, where nothing else is said.
    pub(crate) fn for_pages(self, pages: usize) -> Self {
        if pages == usize::MAX || self.max_pages.is_some() || self.first_pages.is_some() {
            return self;
        }
        let twice = pages.saturating_mul(2).max(LEAST_FIRST_BYTES / self.page_size);
        self.first_pages(u32::try_from(twice).unwrap_or(u32::MAX))
    }

    /// The most pages, unless that is out of range.
    pub(super) fn limit(self) -> Option<usize> {
        let most = match MOST_BYTES {
            Some(bytes) => bytes / self.page_size,
            None => most_pages(self.page_size) as usize,
        };
        let wanted = self.max_pages.map_or(most, |pages| pages as usize);
        (1..=most).contains(&wanted).then_some(wanted)
    }

    /// Pages of the first range, and whether fewer will do.
    pub(super) fn first(self, limit: usize) -> (usize, bool) {
        match (self.first_pages, self.max_pages) {
            (Some(pages), _) => (limit.min((pages as usize).max(1)), true),
            (None, Some(_)) => (limit, false),
            (None, None) => (limit.min(FIRST_BYTES / self.page_size), true),
        }
    }
}
