//! What the tests, the fuzz targets and the benches share: oracles, operations and the page corpus.
//!
//! - [`oracle`] holds a pool against a map of byte strings; [`ops`] are the operations it replays,
//!   made by proptest or out of a fuzzer's bytes; [`setups`] are the pools they run on;
//! - [`cache_oracle`], [`cache_ops`] and [`cache_setups`] are the same for a cache;
//! - [`pattern`] makes contents that say which object they belong to, [`records`] counts drops;
//! - [`faults`] and [`ram`] are page sources that fail on demand and that let one look inside,
//!   [`alloc`] is a global allocator that counts and fails on demand, `limits` are the system's;
//! - [`callbacks`] is what tests of the cache share; [`versions`] are pages that say whose they
//!   are, for threads against each other, and [`homes`] where pages are loaded from; [`user_code`]
//!   panics and lies on demand, and [`user_world`] is a cache that has to live with it;
//! - [`codec_checks`] is what holds of any codec;
//! - [`corpus`] reads real pages, [`traces`] real access sequences;
//! - [`naive`] are eviction policies as their papers have them, [`driven`] drives a real one.

pub mod alloc;
pub mod cache_ops;
#[cfg(not(zcache_loom))] // loom's cells are not for other threads
pub mod cache_oracle;
#[cfg(not(zcache_loom))]
pub mod cache_setups;
pub mod callbacks;
pub mod codec_checks;
pub mod corpus;
pub mod driven;
pub mod faults;
pub mod homes;
#[cfg(unix)]
pub mod limits;
pub mod naive;
pub mod ops;
pub mod oracle;
pub mod pattern;
pub mod ram;
pub mod records;
pub mod setups;
pub mod traces;
pub mod user_code;
#[cfg(not(zcache_loom))]
pub mod user_world;
pub mod versions;

/// The examples in the READMEs run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../../zcache/README.md")]
#[doc = include_str!("../../zpool/README.md")]
struct Readme;
