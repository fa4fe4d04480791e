//! The pools that sequences of operations run on.

#[cfg(unix)]
use zpool::source::MmapOptions;
use zpool::source::{Heap, PageSource};
use zpool::{Config, Pool, SourceKind};

use crate::ram::Ram;

/// Where the pages of a pool come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pages {
    /// The heap, in regions of this many pages; 1 makes every boundary between pages a seam.
    Heap(usize),
    /// One reserved range.
    Mmap,
    /// Reserved ranges of 1, 1, 2, 4 and so on pages, or a few more where the system's page is
    /// larger.
    Ranges,
    /// One reserved range on huge pages, where the system has them.
    Huge,
    /// A memfd, or a file.
    Memfd,
    /// [`Ram`]: no addresses, no runs, dirty pages.
    Ram,
}

/// A pool to be made, as plain data.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Where its pages come from.
    pub pages: Pages,
    /// Bytes in a page.
    pub page_size: usize,
    /// The largest object.
    pub max_object: usize,
    /// The cap on pages.
    pub max_pages: usize,
    /// The cap on bytes.
    pub max_bytes: usize,
    /// Whether freed places are overwritten.
    pub zero_on_free: bool,
    /// Whether zspages are mixed, as far as there is a cap.
    pub mixed: bool,
}

impl Setup {
    /// Pages of 4 KiB, objects of up to 64 KiB, no caps.
    #[must_use]
    pub const fn new(pages: Pages) -> Self {
        Self {
            pages,
            page_size: 4096,
            max_object: 64 << 10,
            max_pages: usize::MAX,
            max_bytes: usize::MAX,
            zero_on_free: false,
            mixed: false,
        }
    }

    /// One of each kind: every source, page size and cap, chosen so that the rules of each are met
    /// within a few hundred operations.
    pub const ALL: [Self; 22] = [
        Self::new(Pages::Mmap),
        Self::new(Pages::Memfd),
        Self { max_pages: 24, ..Self::new(Pages::Heap(2)) },
        Self { max_object: 16 << 10, ..Self::new(Pages::Heap(1)) },
        Self { max_pages: 9, max_object: 9000, ..Self::new(Pages::Mmap) },
        Self { max_bytes: 200 << 10, max_object: 4096, ..Self::new(Pages::Mmap) },
        Self { max_pages: 40, zero_on_free: true, ..Self::new(Pages::Ram) },
        Self { max_bytes: 260 << 10, zero_on_free: true, ..Self::new(Pages::Memfd) },
        Self { page_size: 8192, max_object: 256 << 10, ..Self::new(Pages::Heap(2)) },
        Self { page_size: 16384, max_pages: 20, zero_on_free: true, ..Self::new(Pages::Mmap) },
        Self { page_size: 32768, max_pages: 12, ..Self::new(Pages::Memfd) },
        Self { page_size: 65536, max_object: 256 << 10, max_pages: 8, ..Self::new(Pages::Mmap) },
        Self::new(Pages::Ranges),
        Self { max_bytes: 300 << 10, max_object: 9000, ..Self::new(Pages::Ranges) },
        Self::new(Pages::Huge),
        Self { max_bytes: 3 << 20, page_size: 16384, zero_on_free: true, ..Self::new(Pages::Huge) },
        Self { max_bytes: 260 << 10, mixed: true, ..Self::new(Pages::Mmap) },
        Self { max_pages: 40, mixed: true, zero_on_free: true, ..Self::new(Pages::Ram) },
        Self { max_pages: 30, mixed: true, max_object: 9000, ..Self::new(Pages::Heap(2)) },
        Self { max_pages: 12, mixed: true, page_size: 16384, ..Self::new(Pages::Memfd) },
        // Mixed while a cap is lowered.
        Self { mixed: true, ..Self::new(Pages::Mmap) },
        Self { mixed: true, page_size: 65536, ..Self::new(Pages::Heap(1)) },
    ];

    /// The settings for the pool.
    #[must_use]
    pub fn config(&self) -> Config {
        let config = Config::new()
            .page_size(self.page_size)
            .max_object(self.max_object)
            .max_pages(self.max_pages)
            .max_bytes(self.max_bytes)
            .mixed_up_to(if self.mixed { 16 << 20 } else { 0 })
            .zero_on_free(self.zero_on_free);
        match self.pages {
            Pages::Memfd => config.source(SourceKind::Memfd),
            // A range of 256 MiB: AddressSanitizer takes long over a terabyte.
            #[cfg(unix)]
            Pages::Mmap => {
                let pages = (256 << 20) / self.page_size as u32;
                config.source(SourceKind::Mmap(MmapOptions::new().max_pages(pages)))
            }
            #[cfg(unix)]
            Pages::Huge => {
                let options = MmapOptions::new().huge_pages(true);
                config.source(SourceKind::Mmap(
                    options.max_pages((256 << 20) / self.page_size as u32),
                ))
            }
            #[cfg(unix)]
            Pages::Ranges => config.source(SourceKind::Mmap(MmapOptions::new().first_pages(1))),
            _ => config,
        }
    }

    /// The pool.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn pool<T: Send + Sync>(&self) -> Pool<T> {
        let made = match self.pages {
            Pages::Heap(pages) => self.over(Heap::with_region_pages(self.page_size, pages)),
            Pages::Ram => self.over(Ram::new(self.page_size).0),
            Pages::Mmap | Pages::Huge | Pages::Ranges | Pages::Memfd => {
                Pool::new(self.config()).map_err(|e| e.to_string())
            }
        };
        made.unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }

    fn over<T: Send + Sync>(&self, source: impl PageSource + 'static) -> Result<Pool<T>, String> {
        Pool::with_source(self.config(), source).map_err(|error| error.to_string())
    }
}
