//! A concurrent, keyed, in-process store of compressed pages whose budget is resident memory.
//!
//! ```
//! use zcache::{Cache, Config};
//!
//! let cache = Cache::new(Config::new(64 << 20))?; // 64 MiB, everything counted
//! cache.insert("page 1", &[7; 8192])?;
//! assert_eq!(cache.get("page 1").as_deref(), Some(&[7; 8192][..]));
//! println!("{}", cache.stats());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`Cache`] is where to start, [`Config`] what it is made of, [`Stats`] what it tells.
//! - [`codec`]: LZ4, zstd with and without a dictionary, none, your own.
//! - [`Config::auto_codec`]: the codec that is worth most, found by the cache.
//! - [`policy`]: S3-FIFO, SIEVE, LRU, your own.
//! - [`Cache::maintain`], [`Maintainer`]: cold entries get smaller, dictionaries are trained,
//!   beside the callers.
//! - [`Removal`]: what a hook is told of entries that go.
//! - [`Cache::get_or_insert_with`], [`Cache::get_or_insert_async`], [`Cache::get_or_lease`]: one
//!   load for all who miss a page at once, with a loader, a future, or a [`Lease`].
//!
//! How it works, and which figures decided its shape, is in [`design`].
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod cache;
pub mod codec;
mod cold;
mod config;
mod error;
mod hot;
mod index;
#[cfg(all(test, zcache_loom))]
mod models;
pub mod policy;
mod scope;
mod stats;
mod store;
mod sync;
mod tier;
mod worth;

#[doc = include_str!("../DESIGN.md")]
pub mod design {}

pub use bytes::Bytes;
pub use cache::{
    Cache, InsertOptions, Lease, Leased, Maintainer, Maintenance, Scope, ScopeStats, TooManyScopes,
    TrainingOutcome, Waited, Waiting,
};
pub use config::{Config, HotShare, HugePages};
pub use equivalent::Equivalent;
pub use error::{
    BufferTooSmall, ConfigError, InsertError, LoadError, MAX_PAGE, MAX_PIECE, ResizeError,
};
pub use stats::{
    Balance, ByteCounts, Candidate, DictionaryCounts, Ratios, Recompression, Rejected,
    RemovalCause, RemovalCounts, Stats, StoredSize, Timing,
};
pub use tier::Removal;
/// The allocator that the cache is on: for what its page sources and its errors are made of.
pub use zpool;
pub use zpool::source::PageSource;
pub use zpool::{Compaction, NoMemory, SourceKind};
