//! A userspace zsmalloc: an allocator for objects that are mostly smaller than a page, such as
//! compressed pages. It wastes a few percent of the memory it takes.
//!
//! ```
//! use zpool::{AllocError, Config, Pool};
//!
//! // A record of 4 bytes beside each object: here, the length before compression.
//! let pool: Pool<u32> = Pool::new(Config::new().max_bytes(64 << 20))?;
//! let handle = pool.alloc_record(4096, b"what the codec made of 4096 bytes")?;
//!
//! let packed = pool.map(handle)?; // pinned, no lock taken; `&[u8]` until it is dropped
//! assert_eq!((*packed.record(), packed.len()), (4096, 33));
//! drop(packed);
//!
//! match pool.alloc_record(4096, &[0; 3000]) {
//!     Ok(handle) => pool.free(handle)?,
//!     Err(AllocError::OutOfPages) => { /* the pool has compacted already: free something */ }
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - **Sharing**: a [`Pool`] is used by many threads through `&Pool`. No call waits for another's
//!   guard. A call that a guard excludes gets [`Busy`](MapError::Busy): a reader beside a writer of
//!   the same object, and a writer beside any other. To replace an object that may be read
//!   meanwhile, `alloc` the new version and `free` the old. Its readers keep their bytes until they
//!   unmap.
//! - **Memory** is given back when a chain of pages becomes empty. [`Pool::compact`] makes chains
//!   empty, in steps, from whatever thread calls it. An allocation at the cap does it too.
//!   [`Pool::trim`] gives back what is kept for the next chains.
//! - **At the cap**, an object that crosses a seam between two pieces of memory may have no room
//!   for the copy that mapping it takes: [`OutOfMemory`](MapError::OutOfMemory).
//!   [`Pool::read_into`] never needs any.
//! - **Guards** should be short-lived: see [`MapRef`].
//! - **Sources** of pages: see [`source`]. The default reserves address space, not memory. It is
//!   twice the cap, and more when a higher cap needs it. No pool holds more than 1 TiB.
//!
//! How it works, and which figures decided its shape, is in [`design`].
#![cfg_attr(docsrs, feature(doc_cfg))]

#[forbid(unsafe_code)]
mod arena;
#[forbid(unsafe_code)]
mod bits;
#[forbid(unsafe_code)]
mod check;
#[forbid(unsafe_code)]
mod class;
#[forbid(unsafe_code)]
mod compact;
#[forbid(unsafe_code)]
mod config;
#[forbid(unsafe_code)]
mod directory;
#[forbid(unsafe_code)]
mod error;
mod frame;
#[forbid(unsafe_code)]
mod fresh;
#[forbid(unsafe_code)]
mod fullness;
#[forbid(unsafe_code)]
mod geometry;
#[forbid(unsafe_code)]
mod guard;
mod handle;
#[forbid(unsafe_code)]
mod ladder;
#[forbid(unsafe_code)]
mod ledger;
mod mapped;
#[cfg(all(test, zcache_loom))]
#[forbid(unsafe_code)]
mod models;
#[forbid(unsafe_code)]
mod numbers;
#[forbid(unsafe_code)]
mod pinned;
#[forbid(unsafe_code)]
mod pool;
#[forbid(unsafe_code)]
mod ripe;
#[forbid(unsafe_code)]
mod scratch;
#[forbid(unsafe_code)]
mod snapshot;
pub mod source;
#[forbid(unsafe_code)]
mod stats;
mod swapped;
#[forbid(unsafe_code)]
mod sync;
#[forbid(unsafe_code)]
mod word;
mod zspage;

#[doc = include_str!("../DESIGN.md")]
pub mod design {}

pub use compact::Compaction;
pub use config::{Config, SourceKind};
pub use error::{AllocError, ConfigError, MapError, ReadError, Stale, StoreError, WriteError};
pub use frame::{Filled, Frame, Frames, Reading, SharedBytes};
pub use guard::{MapMut, MapRef, MapWrite};
pub use handle::Handle;
pub use mapped::{Lines, NoMemory, SparseLines, Words};
pub use pinned::Pinned;
pub use pool::Pool;
pub use stats::{ClassStats, CompactionTotals, Failures, PoolStats};
pub use swapped::Swapped;
