//! zcache beside the caches it would replace: the same trace, the same pages, the same memory.
//!
//! ```text
//! options -> suite -> compare -> driver -> (a process each) child -> replay, timing -> caches, peers, swap
//!            load -> stage                                  memory            engine
//!            shares -> load, caches
//!            cost, tails -> load, rivals -> caches                              peers -> packed
//! ```
#![allow(clippy::print_stderr, reason = "a program's answers")]

mod about;
mod budget;
mod caches;
mod child;
mod compare;
mod contestant;
mod cost;
mod driver;
mod engine;
mod load;
mod markdown;
mod memory;
mod options;
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
#[cfg(target_os = "linux")]
mod swap;
mod table;
mod tails;
mod terms;
mod timing;
mod variants;

use std::process::ExitCode;

use benches::program;

use crate::options::Options;

#[cfg(feature = "jemalloc-global")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(all(feature = "mimalloc-global", not(feature = "jemalloc-global")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = options::parse(lexopt::Parser::from_env());
    program::run("versus", &options::usage(), options, |options| match options {
        Options::Run(run) => compare::run(run),
        Options::Suite(suite) => suite::run(suite),
        Options::Shares(shares) => shares::run(shares),
        Options::Cost(cost) => cost::run(cost),
        Options::Tails(tails) => tails::run(tails),
        Options::Child(child) => child::run(child),
    })
}
