//! What can go wrong, one enum an operation.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Drops `value`. A panic in that is not the caller's business, so it ends here, and so does one in
/// the drop of what was thrown.
pub(crate) fn drop_unheard<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            std::mem::forget(again);
        }
    }
}

/// Why [`Pool::alloc`](crate::Pool::alloc) and its kin placed nothing. The pool is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocError {
    /// An object of this many bytes is larger than `max_object`.
    TooLarge(usize),
    /// No page, no free slot large enough, and nothing that compaction could still free: the pool
    /// is at `max_pages` or `max_bytes`, or all pages of its source are in use. Free objects, then
    /// retry.
    OutOfPages,
    /// The caps allow more, but the operating system or the general-purpose allocator gave no
    /// memory. Freeing objects helps only where an object of the same size comes next.
    NoMemory,
    /// The page source could not store the bytes.
    Source,
    /// The caller was asked whether the object may have its id, and said no: see
    /// [`Pool::try_alloc_record_at`](crate::Pool::try_alloc_record_at).
    NotReady,
}

/// Why a handle could not be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapError {
    /// The handle names no live object of this pool: it was freed, or it is another pool's.
    Stale,
    /// A writer has the object, or a writer was asked for and somebody has it. Nothing waited;
    /// retry.
    Busy,
    /// The object has as many shared maps as fit in its word: 1021.
    TooManyMaps,
    /// The object crosses a seam or has no address, and there is no memory for a copy of it: the
    /// cap leaves no room, or the system gave none. [`Pool::read_into`](crate::Pool::read_into)
    /// needs none.
    OutOfMemory,
    /// The page source could not read the bytes.
    Source,
}

/// Why [`Pool::map_write`](crate::Pool::map_write) gave nothing to write to. The object is as
/// before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// The object could not be mapped exclusively.
    Map(MapError),
    /// There is no place for the new contents.
    Alloc(AllocError),
}

/// Why [`Pool::read_into`](crate::Pool::read_into) copied nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// The object could not be mapped.
    Map(MapError),
    /// The buffer is shorter than the object, which has this many bytes.
    BufferTooSmall(usize),
}

/// The handle names no live object of this pool: it was freed already, or it is another pool's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stale;

/// The page source could not store what a map wrote. What became of the object is said where this
/// is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreError;

/// Why a [`Config`](crate::Config) makes no pool.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The page size is no power of two from 4 KiB to 64 KiB.
    PageSize(usize),
    /// `max_object` is 0 or over 256 KiB.
    MaxObject(usize),
    /// The caps leave no room for the pool's own tables, which take this many bytes.
    TooSmall(usize),
    /// The source's page numbers go to this, which is more than [`most_pages`] allows.
    ///
    /// [`most_pages`]: crate::source::most_pages
    Capacity(u32),
    /// The source has handed out pages before: it holds memory that this pool's ledger does not
    /// carry.
    SourceInUse,
    /// The system refused the page source.
    Source(std::io::Error),
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(len) => {
                write!(f, "an object of {len} bytes is larger than the pool's max_object")
            }
            Self::OutOfPages => f.write_str("no page is left under the pool's caps"),
            Self::NoMemory => f.write_str("the system gave no memory"),
            Self::Source => f.write_str("the page source could not store the object"),
            Self::NotReady => f.write_str("the caller was not ready for the object's id"),
        }
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stale => "the handle names no live object of this pool",
            Self::Busy => "the object is mapped in a way that excludes this map",
            Self::TooManyMaps => "the object has as many maps as it can have",
            Self::OutOfMemory => "there is no memory for a copy of the object",
            Self::Source => "the page source could not read the object",
        })
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(error) => error.fmt(f),
            Self::Alloc(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(error) => error.fmt(f),
            Self::BufferTooSmall(len) => {
                write!(f, "the buffer is too small: the object has {len} bytes")
            }
        }
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        MapError::Stale.fmt(f)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the page source could not store what was written")
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageSize(size) => {
                write!(f, "a page of {size} bytes: wanted is a power of two from 4096 to 65536")
            }
            Self::MaxObject(size) => {
                write!(f, "max_object of {size} bytes: wanted is 1 to 262144")
            }
            Self::TooSmall(bytes) => {
                write!(f, "the caps leave no room for the pool's own {bytes} bytes and one page")
            }
            Self::Capacity(pages) => {
                write!(f, "a pool cannot name all of the source's {pages} pages")
            }
            Self::SourceInUse => f.write_str("the page source has been used before"),
            Self::Source(error) => write!(f, "the system refused the page source: {error}"),
        }
    }
}

impl std::error::Error for AllocError {}
impl std::error::Error for MapError {}
impl std::error::Error for WriteError {}
impl std::error::Error for ReadError {}
impl std::error::Error for Stale {}
impl std::error::Error for StoreError {}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Source(error) => Some(error),
            _ => None,
        }
    }
}

impl From<MapError> for WriteError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl From<AllocError> for WriteError {
    fn from(error: AllocError) -> Self {
        Self::Alloc(error)
    }
}

impl From<MapError> for ReadError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}
