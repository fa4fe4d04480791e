//! What the allocator costs and saves, and what it is held against.
//!
//! Programs: `density` (how much memory payloads take, beside the kernel's rules), `hit` (what a map costs,
//! beside a bare load), `cache_hit`, `cache_insert` and `cache_memory` (the same of a cache),
//! `cache_bulk` (what clearing and shrinking a cache takes, and others meanwhile), `cache_scopes`
//! (what the end of a scope takes), `counts`
//! (instructions on the paths that matter; `.ci/counts` runs it), `load` (whether a cache stays right and
//! within its memory), `recompress` (what recompressing cold entries gains and costs), `versus` (the
//! cache beside those that it would replace: hit ratios in equal memory; `versus cost` what a hit, a
//! miss and an evicting insert cost, by CPU time, all caches in turns; `versus tails` how long the
//! slowest of them take); `report` draws what a suite of runs has measured. Criterion benches, one question each: `alloc_free`, `map`, `compact_step`,
//! `free_storm` of the allocator, `lz4_engines`, and `hit`, `insert`, `mixed`, `compaction_and_hits`,
//! `single_flight` of the cache. Figures of different runs are not comparable on a shared machine; figures
//! of one run are, which is why each prints its yardstick too. Instructions are comparable always, under
//! one compiler.

pub mod bare;
pub mod block;
pub mod charts;
pub mod codec;
pub mod density;
pub mod kernel;
pub mod load;
pub mod measure;
pub mod order;
pub mod packing;
pub mod pooled;
pub mod program;
pub mod race;
pub mod subject;
pub mod times;
pub mod unbacked;
pub mod watch;
#[cfg(target_os = "linux")]
pub mod zram;
