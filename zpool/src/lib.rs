//! A userspace zsmalloc: an allocator for objects that are mostly smaller than a page, such as
//! compressed pages, that wastes a few percent of the memory it takes.
//!
//! Start at [`Pool`]. How it works, and which figures decided its shape, is in the crate's DESIGN.md,
//! shown below.
#![doc = include_str!("../DESIGN.md")]

#[forbid(unsafe_code)]
mod arena;
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
#[cfg(all(test, zcache_loom))]
#[forbid(unsafe_code)]
mod models;
#[forbid(unsafe_code)]
mod pool;
#[forbid(unsafe_code)]
mod scratch;
#[forbid(unsafe_code)]
mod snapshot;
pub mod source;
#[forbid(unsafe_code)]
mod stats;
#[forbid(unsafe_code)]
mod sync;
#[forbid(unsafe_code)]
mod word;
mod zspage;

pub use compact::Compaction;
pub use config::{Config, SourceKind};
pub use error::{AllocError, ConfigError, MapError, ReadError, Stale, StoreError, WriteError};
pub use guard::{MapMut, MapRef, MapWrite};
pub use handle::Handle;
pub use ledger::{Ledger, Refused, heap_cost};
pub use pool::Pool;
pub use stats::{ClassStats, CompactionTotals, Failures, PoolStats};
