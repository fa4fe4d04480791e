//! What can go wrong, one type an operation. A miss is no error: it is `None`.

use std::error::Error;
use std::fmt;

use crate::sync::{Arc, PIECE};

/// The largest `max_page`: 16 MiB.
pub const MAX_PAGE: usize = 16 << 20;

/// Pages longer than this, 128 KiB, are cut into pieces: see
/// [`Config::max_page`](crate::Config::max_page).
pub const MAX_PIECE: usize = PIECE;

/// Why a [`Config`](crate::Config) makes no cache.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The capacity is too small for the cache's own tables and a few of the largest pages: `least`
    /// bytes are needed.
    TooSmall {
        /// The smallest capacity that works with these settings, in bytes.
        least: usize,
    },
    /// `max_page` of this many bytes: wanted is 1 to [`MAX_PAGE`].
    MaxPage(usize),
    /// So many shards: wanted is a power of two from 2 to 65536.
    Shards(usize),
    /// The codec has no context to work with.
    Codec(std::io::Error),
    /// The codec takes no training, or none to a dictionary of this many bytes.
    Training(usize),
    /// Another cache, made from a clone of the settings, has their page source.
    SourceTaken,
    /// The allocator refused.
    Pool(zpool::ConfigError),
}

/// Why a page was not stored. Whatever the key had before is gone all the same: never stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InsertError {
    /// The page is longer than `max_page`. (Of pages of about 64 KiB or more an incompressible one
    /// that has a time to live of its own may be too large as well, where the cache has neither a
    /// default one nor checksums.)
    TooLarge {
        /// Bytes of the page.
        len: usize,
        /// The most there may be.
        max_page: usize,
        /// Whether the key had a page, which is gone now.
        dropped: bool,
    },
    /// No room could be made: all else is in use just now, or the capacity is too small for it.
    NoRoom {
        /// Whether the key had a page, which is gone now.
        dropped: bool,
    },
    /// The capacity allows the page, but the operating system or the general-purpose allocator gave
    /// no memory. No entry was evicted for it: that would empty the cache where memory is short for
    /// other reasons.
    NoMemory {
        /// Whether the key had a page, which is gone now.
        dropped: bool,
    },
    /// The key was changed since the lease was given, by `insert`, `remove`, `take`, `clear` or
    /// `retain`: the page may be stale. What the key has now stays.
    Outdated,
}

/// The buffer is shorter than the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferTooSmall {
    /// Bytes of the page.
    pub needed: usize,
}

/// Why a load, as by [`get_or_insert_with`](crate::Cache::get_or_insert_with), has no page. All
/// callers that waited for one loader get the same.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LoadError {
    /// The loader said so. This is the error that it returned, which keeps its type:
    /// [`downcast_ref`](Self::downcast_ref) gives it as that.
    Failed(Arc<dyn Error + Send + Sync>),
    /// The loader panicked, in the thread of the caller whose it was.
    Panicked,
    /// The call was made inside the loader of the very key that it asks for, in its thread, or by
    /// user code that ran when the page was stored there, such as a hook. Only this caller gets the
    /// error.
    Recursive,
    /// The page is there, or another caller has loaded it, and the buffer of this caller's is too
    /// short for it.
    BufferTooSmall(BufferTooSmall),
    /// The loader's page is longer than `max_page`.
    TooLarge {
        /// Bytes of the page.
        len: usize,
        /// The most there may be.
        max_page: usize,
    },
}

/// Why [`resize`](crate::Cache::resize) did not end at the capacity asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResizeError {
    /// The cache needs `least` bytes; nothing was changed.
    TooSmall {
        /// The smallest capacity that works, in bytes.
        least: usize,
    },
    /// The new capacity holds for everything from now on, but `held` bytes are still held by
    /// readers that are at work just now. Nothing more is taken until the cache is below it; a
    /// later call goes on.
    StillHeld {
        /// Bytes held.
        held: usize,
    },
}

impl LoadError {
    /// The error that the loader returned, if it is an `E`.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => error.downcast_ref(),
            _ => None,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { least } => {
                write!(
                    f,
                    "the capacity is too small: {least} bytes are the least for these settings"
                )
            }
            Self::MaxPage(bytes) => {
                write!(f, "max_page of {bytes} bytes: wanted is 1 to {MAX_PAGE}")
            }
            Self::Shards(amount) => {
                write!(f, "{amount} shards: wanted is a power of two from 2 to 65536")
            }
            Self::Codec(error) => write!(f, "the codec has no context to work with: {error}"),
            Self::Training(bytes) => {
                write!(f, "the codec cannot be trained to a dictionary of {bytes} bytes")
            }
            Self::SourceTaken => f.write_str("another cache has the page source already"),
            Self::Pool(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for InsertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len, max_page, .. } => {
                write!(f, "a page of {len} bytes is longer than max_page, {max_page}")
            }
            Self::NoRoom { .. } => f.write_str("no room could be made for the page"),
            Self::NoMemory { .. } => f.write_str("the system gave no memory for the page"),
            Self::Outdated => f.write_str("the key was changed since the lease was given"),
        }
    }
}

impl fmt::Display for BufferTooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the buffer is too small: the page has {} bytes", self.needed)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "the page could not be loaded: {error}"),
            Self::Panicked => f.write_str("the page's loader panicked"),
            Self::Recursive => f.write_str("a loader asked for the key that it is to load"),
            Self::BufferTooSmall(error) => error.fmt(f),
            Self::TooLarge { len, max_page } => {
                write!(f, "a page of {len} bytes is longer than max_page, {max_page}")
            }
        }
    }
}

impl fmt::Display for ResizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { least } => write!(f, "the cache needs {least} bytes at the least"),
            Self::StillHeld { held } => {
                write!(f, "{held} bytes are still held, more than the new capacity: resize again")
            }
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Codec(error) => Some(error),
            Self::Pool(error) => Some(error),
            _ => None,
        }
    }
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            Self::BufferTooSmall(error) => Some(error),
            _ => None,
        }
    }
}

impl Error for InsertError {}
impl Error for BufferTooSmall {}
impl Error for ResizeError {}
