//! Page sources: where the single pages of zspages come from.
//!
//! A source hands out pages of one size by number, lowest numbers first. It is asked for the page
//! *behind* the last one, so that a chain is one piece of address space whenever that page is free.
//! It says itself which pages are joined; no caller infers it from addresses. A source may keep
//! pages that were given back. They stay charged to the [`Ledger`], and are given up before
//! anything is refused.
//!
//! | source | pages live in | addressable | gives memory back by |
//! |---|---|---|---|
//! | [`Heap`] | regions of the global allocator | yes | freeing an empty region |
//! | [`Mmap`] (Unix) | reserved ranges, committed step by step | yes | `madvise`, in batches |
//! | [`File`] | a memfd (Linux) or any file | no | punching holes, where the system can |
//!
//! The idea of pages that are addressable only while mapped is zsmalloc's (HIGHMEM).

use std::fmt::Debug;
use std::io;
use std::ptr::NonNull;

mod buffer;
mod file;
mod free_pages;
mod heap;
mod limits;
#[cfg(unix)]
mod mmap;

use crate::error::AllocError;
pub use crate::ledger::{Ledger, Refused, heap_cost};
pub use buffer::PageBuffer;
pub use file::File;
pub use heap::Heap;
#[cfg(unix)]
pub use mmap::{Mmap, MmapOptions};

/// How the bytes of a source's pages are reached.
#[derive(Debug, Clone, Copy)]
pub enum Access {
    /// Page `n` starts `n * page_size` bytes behind the base, and all pages are joined.
    Linear(Base),
    /// The same of pages below this number; each of the others has an address of its own, which
    /// [`PageSource::address`] knows from the moment on when the page was first handed out.
    Ranged(Base, u32),
    /// Each page has an address of its own: [`PageSource::address`].
    Paged,
    /// No page has an address: [`PageSource::read`] and [`PageSource::write`] copy.
    Unaddressable,
}

impl Access {
    /// How many pages lie in a line, and the address of the first, which is any where none do.
    pub(crate) const fn line(self) -> (u32, Base) {
        match self {
            Self::Linear(base) => (u32::MAX, base),
            Self::Ranged(base, pages) => (pages, base),
            Self::Paged | Self::Unaddressable => (0, Base::new(NonNull::dangling())),
        }
    }
}

/// The address of page 0 of a linear or a ranged source.
#[derive(Debug, Clone, Copy)]
pub struct Base(NonNull<u8>);

impl Base {
    /// `first` is the address of page 0, with provenance over all pages that are joined to it.
    #[must_use]
    pub const fn new(first: NonNull<u8>) -> Self {
        Self(first)
    }

    /// The address of page 0.
    #[must_use]
    pub const fn first(self) -> NonNull<u8> {
        self.0
    }
}

// SAFETY: a `Base` is an address; who reads or writes through it argues for that on the spot.
unsafe impl Send for Base {}
// SAFETY: as above.
unsafe impl Sync for Base {}

/// The most pages of `page_size` bytes that a pool can name: 1 TiB less one page.
#[must_use]
pub const fn most_pages(page_size: usize) -> u32 {
    ((1_u64 << 40) / page_size as u64 - 1) as u32
}

/// Why a source handed out no page.
#[derive(Debug)]
#[non_exhaustive]
pub enum SourceError {
    /// The ledger allows no further page.
    Refused,
    /// Every page number the source has is in use.
    Full,
    /// The operating system or the allocator gave no memory.
    System(io::Error),
}

/// Where all page numbers are in use, or the file may grow no further, a page is free again when an
/// object goes: as at a cap.
impl From<SourceError> for AllocError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Refused | SourceError::Full => Self::OutOfPages,
            SourceError::System(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Self::OutOfPages
            }
            SourceError::System(_) => Self::NoMemory,
        }
    }
}

/// A supplier of single pages, numbered from 0.
///
/// All methods take `&self` and may be called from many threads at once. A source locks inside,
/// never calls back into a pool, and does not panic: what fails is an error.
///
/// A source may outlive its pool: sets of [`Frames`](crate::Frames) and
/// [`SharedBytes`](crate::SharedBytes) hold it. Whoever drops the last holder of a page
/// [gives](Self::give) it back, in whatever thread, and the last holder of all drops the source
/// there.
///
/// # Safety
/// The pool reads and writes through what a source says, so a lying source is undefined behaviour.
/// From [`take`](Self::take) until [`give`](Self::give), page `n` must be
/// - handed out once only, with `n < capacity()`;
/// - when addressable: [`page_size`](Self::page_size) bytes, readable and writable, initialised
///   (any values), at an address that stays the same, aligned to 16 bytes, touched by nobody else;
/// - when [`joined`](Self::joined) says so: followed in memory by page `n + 1` inside the same
///   allocation, so that one slice may cover both while both are taken;
/// - when unaddressable: a place whose [`read`](Self::read) returns what [`write`](Self::write) put
///   there last (a failing or lying read gives wrong bytes, not undefined behaviour).
///
/// `access()`, `page_size()` and `capacity()` never change.
pub unsafe trait PageSource: Debug + Send + Sync {
    /// Bytes in a page: a power of two from 4 KiB to 64 KiB.
    fn page_size(&self) -> usize;

    /// Page numbers are below this; at most [`most_pages`], or no pool takes the source.
    fn capacity(&self) -> u32;

    /// How bytes are reached.
    fn access(&self) -> Access;

    /// Hands out a free page: the one behind `after` when that is free, else one where a run of
    /// `more` further pages is likely to follow, else any. What is newly held, pages and
    /// [own](Ledger::reserve_own) bookkeeping alike, is reserved in `ledger` first; a kept page is
    /// charged already.
    ///
    /// # Errors
    /// See [`SourceError`]; the source and the ledger are then as before.
    fn take(&self, after: Option<u32>, more: usize, ledger: &Ledger) -> Result<u32, SourceError>;

    /// Takes back pages handed out before. What is really gone is released from `ledger`, at once
    /// or when a batch is full; the rest counts as kept. A source that can never give pages back
    /// should take no further one when little [headroom](Ledger::headroom) is left, 1/32 of what is
    /// held: what its pages have is lost for the pool's tables.
    fn give(&self, pages: &[u32], ledger: &Ledger);

    /// Gives every kept page back to where it came from, as far as that can be done: of huge pages
    /// of which a part is kept, one a call.
    fn trim(&self, ledger: &Ledger);

    /// Pages given back and kept: charged, free to be handed out again.
    fn kept(&self) -> usize;

    /// Whether its pages may be on huge pages of the system's; the tables of a pool over it then
    /// are too. Default: no.
    fn has_huge_pages(&self) -> bool {
        false
    }

    /// Bytes of pages that the system may back by huge pages. They are charged, in use or kept.
    fn huge_bytes(&self) -> usize {
        0
    }

    /// Whether no page was ever handed out, so that the source holds nothing that another ledger
    /// carries. A pool takes no other one. Default: it keeps no page; a source with bookkeeping of
    /// its own says more.
    fn is_fresh(&self) -> bool {
        self.kept() == 0
    }

    /// Whether page `page + 1` lies behind page `page` in one allocation. Linear sources: always;
    /// ranged ones: below the last page of the first range.
    fn joined(&self, page: u32) -> bool {
        match self.access() {
            Access::Linear(_) => true,
            Access::Ranged(_, pages) => page.checked_add(1).is_some_and(|next| next < pages),
            Access::Paged | Access::Unaddressable => false,
        }
    }

    /// The address of a page; asked of [`Access::Paged`] sources, and of [`Access::Ranged`] ones
    /// for pages that do not lie in a line. It is asked often: it must not lock.
    ///
    /// # Safety
    /// The page is handed out; a ranged source's page was handed out at least once.
    unsafe fn address(&self, page: u32) -> NonNull<u8> {
        unreachable!("page {page} of a source without addresses was asked for one")
    }

    /// Copies bytes of a page out; asked of [`Access::Unaddressable`] sources only.
    ///
    /// # Errors
    /// What the medium reports; `to` may be partly overwritten.
    fn read(&self, page: u32, offset: usize, to: &mut [u8]) -> io::Result<()> {
        let _ = (page, offset, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Copies bytes into a page; asked of [`Access::Unaddressable`] sources only.
    ///
    /// # Errors
    /// What the medium reports; the bytes of the page may be partly overwritten.
    fn write(&self, page: u32, offset: usize, from: &[u8]) -> io::Result<()> {
        let _ = (page, offset, from);
        Err(io::ErrorKind::Unsupported.into())
    }
}
