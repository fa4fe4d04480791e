//! zcache beside the caches that it would replace: the same trace, the same pages, the same memory.
//!
//! ```text
//! main -> suite -> compare -> driver -> (a process each) child -> replay -> caches, peers
//!         load -> stage
//!         shares, codecs -> load, caches
//!         cost, tails -> load, rivals -> caches                             peers -> packed
//! ```

mod about;
mod budget;
mod caches;
mod child;
mod codecs;
mod compare;
mod contestant;
mod cost;
mod driver;
mod load;
mod packed;
mod pairs;
#[cfg(feature = "peers")]
mod peers;
mod quantiles;
mod replay;
mod rivals;
mod shares;
mod spec;
mod stage;
mod suite;
mod table;
mod tails;
mod terms;
mod variants;

use std::process::ExitCode;

use benches::arguments;
use clap::{Parser, Subcommand};

#[cfg(feature = "jemalloc-global")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(all(feature = "mimalloc-global", not(feature = "jemalloc-global")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Replays a trace against caches, one process a cache, all in equal memory, and prints a row of
/// JSON each.
///
/// Resident is the growth of anonymous and shared memory since before the cache was made, trace and
/// pages loaded. Hit ratios count reads; the writes of -rw traces store their page. Other
/// allocators: --features mimalloc-global or jemalloc-global. What operations cost, and how long
/// the slowest take: see `cost` and `tails`.
#[derive(Debug, Parser)]
#[command(name = "versus", args_conflicts_with_subcommands = true, after_help = pairs::listed())]
struct Options {
    #[command(subcommand)]
    mode: Option<Mode>,
    #[command(flatten)]
    run: compare::Run,
}

#[derive(Debug, Subcommand)]
enum Mode {
    Suite(suite::Suite),
    Shares(shares::options::Shares),
    Codecs(codecs::Codecs),
    Cost(cost::Cost),
    Tails(tails::Tails),
    #[command(hide = true)]
    Child(child::Child),
}

fn main() -> ExitCode {
    arguments::run(|options: &Options| match &options.mode {
        None => compare::run(&options.run),
        Some(Mode::Suite(suite)) => suite::run(suite),
        Some(Mode::Shares(shares)) => shares::run(shares),
        Some(Mode::Codecs(codecs)) => codecs::run(codecs),
        Some(Mode::Cost(cost)) => cost::run(cost),
        Some(Mode::Tails(tails)) => tails::run(tails),
        Some(Mode::Child(child)) => child::run(child),
    })
}
