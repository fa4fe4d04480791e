//! What a pool is made of: plain data, validated once by `Pool::new`.

#[cfg(unix)]
use crate::source::MmapOptions;

/// Which of the built-in page sources backs a pool.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SourceKind {
    /// Regions of the global allocator; portable.
    Heap,
    /// Ranges of address space, committed as they are used. What is reserved at first goes by the
    /// caps of the [`Config`], where the options do not say it: twice the lower one, 64 MiB at
    /// least; 4 GiB without caps.
    #[cfg(unix)]
    Mmap(MmapOptions),
    /// Memory without an address in this process: a memfd on Linux, an unlinked temporary file
    /// elsewhere.
    Memfd,
}

/// The settings of a [`Pool`](crate::Pool).
///
/// ```
/// use zpool::Config;
/// let config = Config::new().max_object(16 << 10).max_bytes(64 << 20);
/// # let _ = config;
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) page_size: usize,
    pub(crate) max_object: usize,
    pub(crate) max_pages: usize,
    pub(crate) max_bytes: usize,
    pub(crate) zero_on_free: bool,
    pub(crate) mixed_up_to: usize,
    pub(crate) source: SourceKind,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// Pages of 4 KiB from [`SourceKind::Mmap`] (from the heap where there is none), objects of up
    /// to 64 KiB, no caps.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            page_size: 4096,
            max_object: 64 << 10,
            max_pages: usize::MAX,
            max_bytes: usize::MAX,
            zero_on_free: false,
            mixed_up_to: 0,
            #[cfg(unix)]
            source: SourceKind::Mmap(MmapOptions::new()),
            #[cfg(not(unix))]
            source: SourceKind::Heap,
        }
    }

    /// Bytes in a page: a power of two from 4 KiB to 64 KiB. Default: 4 KiB. For every
    /// [`SourceKind`], whatever its own options say; a source handed to
    /// [`Pool::with_source`](crate::Pool::with_source) has its own.
    #[must_use]
    pub const fn page_size(mut self, bytes: usize) -> Self {
        self.page_size = bytes;
        self
    }

    /// The largest object in bytes, 1 to 256 KiB. Default: 64 KiB. Above 64 KiB a handle's length
    /// takes 4 bytes instead of 2.
    #[must_use]
    pub const fn max_object(mut self, bytes: usize) -> Self {
        self.max_object = bytes;
        self
    }

    /// Caps the pages held at once, in use and kept. Default: no cap.
    #[must_use]
    pub const fn max_pages(mut self, pages: usize) -> Self {
        self.max_pages = pages;
        self
    }

    /// Caps the bytes held at once: pages and all of the pool's own tables. Default: no cap.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Overwrites each freed, moved or replaced object with zeros before its place is given to
    /// another. Default: no; bytes of former objects are never readable through the pool either
    /// way.
    #[must_use]
    pub const fn zero_on_free(mut self, yes: bool) -> Self {
        self.zero_on_free = yes;
        self
    }

    /// While a cap is no more than `bytes`, objects of up to 16 KiB are put side by side whatever
    /// their lengths, in *mixed* zspages. Default: 0, never.
    ///
    /// A small pool has few objects of each size class, and each class leaves half a zspage empty:
    /// of 50 pages, mixed zspages fill nine tenths where classes fill two thirds. In return a pool
    /// at its cap may refuse an object though what is free adds up to its length, for it lies in
    /// gaps that are too short. So this is for those who free another object then, as a cache does.
    #[must_use]
    pub const fn mixed_up_to(mut self, bytes: usize) -> Self {
        self.mixed_up_to = bytes;
        self
    }

    /// The most pages that the caps allow.
    #[cfg(unix)]
    pub(crate) fn most_pages(&self) -> usize {
        let by_bytes =
            if self.max_bytes == usize::MAX { usize::MAX } else { self.max_bytes / self.page_size };
        self.max_pages.min(by_bytes)
    }

    /// Where pages come from.
    #[must_use]
    pub fn source(mut self, source: SourceKind) -> Self {
        self.source = source;
        self
    }
}
