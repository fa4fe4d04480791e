//! Does a cache stay right, and within its memory, under load? Many threads, every hit verified,
//! resident memory watched by another process.
//!
//! A phase is a process of its own that works one cache hard, and is watched by the process that
//! started it:
//! ```text
//! parent                                                child
//!                                     <- ready          pages read, threads started, no cache yet
//! baseline; go ->                                       makes the cache, works it
//!                                     <- stage NAME     what comes now
//! looks away; go ->                   <- check          a check, in memory of its own
//! resident memory, every 10 ms
//!                                     <- done {...}     what was counted; all is verified
//! go ->                                                 ends; also when there is no parent left
//! ```
//! The child ends itself with code 1 at the first thing that is not as it must be.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

mod board;
mod field;
mod house;
mod phase;
mod stage;
mod watcher;
mod work;
mod worker;

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use benches::arguments::{self, Failure};
use benches::codec::Codec;
use clap::Parser;
use tests::corpus;

use crate::board::{Board, Limit};
use crate::field::Plan;
use crate::phase::Phase;
use crate::watcher::{ALLOWANCE, Ended, Seen};

/// Does a cache stay right, and within its memory, under load?
///
/// Each phase has five stages: a mix of all calls; a run of zero pages; one of tiny pages; a herd
/// of threads; the mix again while the capacity goes from the greatest to the least and back. Then
/// the cache is filled, as it was left and after a clear, and holds at least 97 % of what a fresh
/// one does.
///
/// Glibc's allocator keeps freed blocks, which are not the cache's: so a phase runs with
/// MALLOC_MMAP_THRESHOLD_=4096, unless that is set.
///
/// The codes: 0, all is right; 1, the first thing that was not ended the run; 2, it could not be
/// run.
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Options {
    /// How long, all phases together
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// none, lz4, zstd:LEVEL, zstd:LEVEL+dict (default: a mix, in phases)
    #[arg(long, value_delimiter = ',')]
    codec: Vec<Codec>,
    /// MiB of all pages together; the capacity is a tenth
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(32..=65_536))]
    data: u32,
    /// Threads that work, beside one that keeps house; a herd has 64
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// Page files, or directories of them (default: the sample, and some of the shared ones)
    #[arg(long)]
    pages: Vec<PathBuf>,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Works a phase, as its parent planned it
    #[arg(long, hide = true)]
    child: Option<String>,
}

/// Of the shared files, where they are to be had: all sizes of pages, and pages that do not shrink.
const SHARED: [&str; 6] = [
    "file-compressed-4k",
    "file-json-4k",
    "file-log-4k",
    "innodb-debpkgs-16k",
    "mem-python-4k",
    "pg-gitlog-8k",
];
/// The least part of a fresh cache's entries that a used one holds, when both are filled alike.
const LEAST_HELD: f64 = 0.97;

/// The page files to read.
fn page_files(options: &Options) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in &options.pages {
        files.extend(corpus::files(path)?);
    }
    if options.pages.is_empty() {
        files.push(corpus::sample_path());
        let shared = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            SHARED.iter().any(|shared| name.starts_with(shared))
        };
        files.extend(corpus::shared_files().into_iter().filter(shared));
    }
    Ok(files)
}

fn number(seen: &Seen, name: &str) -> u64 {
    seen.counted[name].as_u64().unwrap_or(0)
}

fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

fn print_phase(plan: &Plan, seen: &Seen) {
    let count = |name| number(seen, name);
    println!(
        "{:<28} {:>10} operations, {:>10} hits verified, {:>5.1} % hits, {} of them hot, {} \
         inserts, {} evicted; {} resizes, {} compactions, {} clears, {} retains; resident at most \
         {:.2} of {:.2} MiB, {:+.2} over what was in force, {} looks; hits p50 {:.1}, p99 {:.0}, \
         p99.9 {:.0} \
         us; {} inserts refused while resizing; refilled it holds {:.1} % of a fresh cache's {} \
         entries, {:.1} % after a clear",
        plan.phase,
        count("operations"),
        count("hits"),
        100.0 * count("hits") as f64 / (count("hits") + count("misses")).max(1) as f64,
        count("hot"),
        count("inserts"),
        count("evicted"),
        count("resizes"),
        count("compactions"),
        count("clears"),
        count("retains"),
        mib(seen.peak as f64),
        mib(plan.capacity as f64),
        mib(seen.over as f64),
        seen.samples,
        micros(count("p50")),
        micros(count("p99")),
        micros(count("p999")),
        count("refused"),
        100.0 * part(seen, "used"),
        count("fresh"),
        100.0 * part(seen, "cleared"),
    );
}

/// The part that a used cache holds of what a fresh one holds after the same fill.
fn part(seen: &Seen, name: &str) -> f64 {
    seen.counted[name].as_f64().unwrap_or(0.0)
}

/// Carries one phase out; what is wrong with it.
fn watched(plan: &Plan, board: &Board) -> Result<Seen, Ended> {
    let seen = watcher::watch(plan, board)?;
    print_phase(plan, &seen);
    for (name, when) in [("used", "as it was left"), ("cleared", "after a clear")] {
        let held = 100.0 * part(&seen, name);
        if held < 100.0 * LEAST_HELD {
            let what = format!("{when}, the used cache holds {held:.1} % of what a fresh one does");
            return Err(Ended::Violation(what));
        }
    }
    Ok(seen)
}

fn run_all(options: &Options) -> Result<(), Ended> {
    if !(options.minutes > 0.0 && options.minutes <= 1e5) {
        let said = format!("{} minutes: wanted are more than 0", options.minutes);
        return Err(Ended::Failed(said.into()));
    }
    let (pages, file) = (page_files(options)?, tempfile::NamedTempFile::new()?);
    let board = Board::at(file.path());
    board.tell(Limit { changes: 0, bytes: 0 })?;
    let data = (options.data as usize) << 20;
    let phases = Phase::chosen(&options.codec);
    let minutes = options.minutes / phases.len() as f64;
    let (mut operations, mut verified, mut over, mut slowest) = (0, 0, i64::MIN, 0);
    let mut least_held = f64::INFINITY;
    for phase in phases {
        let plan = Plan {
            phase,
            time: Duration::from_secs_f64(60.0 * minutes),
            capacity: data / 10,
            data,
            threads: options.threads as usize,
            pages: pages.clone(),
            board: file.path().to_owned(),
            seed: options.seed,
        };
        let seen = watched(&plan, &board).map_err(|ended| match ended {
            Ended::Violation(what) => Ended::Violation(format!("{phase}: {what}")),
            Ended::Failed(why) => Ended::Failed(format!("{phase}: {why}").into()),
        })?;
        least_held = least_held.min(part(&seen, "used")).min(part(&seen, "cleared"));
        operations += number(&seen, "operations");
        verified += number(&seen, "hits");
        over = over.max(seen.over);
        slowest = slowest.max(number(&seen, "p999"));
    }
    println!(
        "load: {operations} operations, {verified} hits verified, 0 wrong; peak resident {:+.2} \
         MiB over the capacity, {} allowed; p99.9 of hits {:.0} us, the worst phase's; a used \
         cache holds at least {:.1} % of what a fresh one does",
        mib(over as f64),
        mib(ALLOWANCE as f64),
        micros(slowest),
        100.0 * least_held,
    );
    Ok(())
}

fn main() -> ExitCode {
    let violated = Cell::new(false);
    let code = arguments::run(|options: &Options| {
        if let Some(plan) = &options.child {
            return work::work(&serde_json::from_str(plan)?);
        }
        match run_all(options) {
            Ok(()) => Ok(()),
            Err(Ended::Failed(why)) => Err(why),
            Err(Ended::Violation(what)) => {
                violated.set(true);
                Err(format!("VIOLATION: {what}").into())
            }
        }
    });
    if violated.get() { ExitCode::FAILURE } else { code }
}
