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
//! - [`policy`]: S3-FIFO, SIEVE, LRU, your own.
//! - [`Cache::maintain`], [`Maintainer`]: cold entries get smaller, dictionaries are trained, beside the callers.
//! - [`Removal`]: what a hook is told of entries that go. [`Lease`]: filling the cache safely.
//!
//! How it works, and which figures decided its shape, is in [`design`].
#![forbid(unsafe_code)]

mod balance;
mod bench;
mod cache;
pub mod codec;
mod coders;
mod config;
mod error;
mod evict;
mod flight;
mod hook;
mod hot;
mod index;
mod insert;
mod load;
mod maintainer;
mod many;
#[cfg(all(test, zcache_loom))]
mod models;
pub mod policy;
mod promote;
mod recompress;
mod record;
mod sample;
mod stats;
mod store;
mod sync;
mod tier;
mod train;
mod walk;
mod words;

#[doc = include_str!("../DESIGN.md")]
pub mod design {}

pub use bytes::Bytes;
pub use cache::{Cache, Insert, Maintenance, Training};
pub use config::{Config, Share};
pub use error::{BufferTooSmall, ConfigError, InsertError, LoadError, MAX_PAGE, ResizeError};
pub use hook::Removal;
pub use load::Lease;
pub use maintainer::Maintainer;
pub use stats::{
    Balance, ByteCounts, Cause, Gone, Recompression, Rejected, Sampled, Stats, Trainings,
};
