//! A concurrent, keyed, in-process store of compressed pages.
//!
//! `zcache` will hold pages compressed in a [`zpool::Pool`], evict them by a scan-resistant policy,
//! and keep to a budget that means *resident memory*: pages, metadata and index together. It holds
//! nothing yet; the allocator it stands on is complete and lives in `zpool`.
#![forbid(unsafe_code)]
