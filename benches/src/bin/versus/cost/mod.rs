//! What a hit, a miss and an evicting insert cost, in CPU time of the thread that does them.
//!
//! ```text
//! mod -> work -> rivals -> packed, peers
//!        quantiles
//! ```
//! Windows of all caches take turns in one process, so that what else the machine does falls on all
//! of them, and CPU time leaves out what other processes take. All caches get the same keys and
//! pages in the same window.

mod work;

use benches::arguments::{Failure, count};
use benches::race::{self, Time};
use benches::results;
use clap::{Parser, ValueEnum};
use serde_json::{Value, json};

use self::work::{What, Worker};
use crate::load;
use crate::quantiles::{self, Beside};
use crate::rivals::{Rival, Rivals};
use crate::terms::{DEBUG, THREADS, Terms};

/// Times hits, misses and evicting inserts by the CPU time of the thread that does them.
///
/// Pages are held as LZ4 blocks. All caches take turns in one process, and so does the bare codec;
/// they get the same keys and pages in the same window. p10 and p50 are of the windows of all
/// threads, ratios are to quick_cache's. Look at p50 for what two threads cost each other: where
/// other processes take a core, the cheapest windows are those of a thread that ran alone. CPU time
/// has no waits in it; the clock's p10 has. Caches that are read hold all keys; caches that take
/// inserts are full, peers with as many entries as zcache (`held` tells).
#[derive(Debug, Parser)]
pub(crate) struct Cost {
    #[command(flatten)]
    terms: Terms,
    /// What is timed
    #[arg(long, value_delimiter = ',', default_value = "hit,miss,insert")]
    what: Vec<What>,
    /// Populations of hits and misses: the smaller is in the processor's caches, the larger is not;
    /// 1M takes up to 15 GiB of memory
    #[arg(long, value_delimiter = ',', default_value = KEYS, value_parser = count)]
    keys: Vec<usize>,
    /// Threads at once
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,2",
        value_parser = clap::value_parser!(u32).range(1..=THREADS)
    )]
    threads: Vec<u32>,
    /// Windows of each cache
    #[arg(long, default_value = WINDOWS, value_parser = count)]
    windows: usize,
    /// Operations of a thread in a window, ten times as many misses
    #[arg(long, default_value = OPS, value_parser = count)]
    ops: usize,
}

const WINDOWS: &str = if DEBUG { "3" } else { "60" };
/// Work that a cache puts off falls into each window.
const OPS: &str = if DEBUG { "50" } else { "1000" };
const KEYS: &str = if DEBUG { "50,500" } else { "300,100k" };

/// One thing to time.
#[derive(Debug, Clone, Copy)]
struct Setting {
    what: What,
    /// Keys that are held, or bytes of capacity.
    size: u64,
    threads: usize,
}

/// Times all and prints the rows.
#[allow(clippy::print_stdout, reason = "a program's answers")]
pub(crate) fn run(cost: &Cost) -> Result<(), Failure> {
    let rows = rows(cost)?;
    match cost.terms.json {
        true => rows.iter().for_each(|row| println!("{row}")),
        false => print!("{}", results::costs(&rows)),
    }
    Ok(())
}

/// A row for each cache and setting.
pub(crate) fn rows(cost: &Cost) -> Result<Vec<Value>, Failure> {
    let terms = &cost.terms;
    let stage = load::pages(terms.pages.as_deref(), terms.page_size)?;
    let mut rows = Vec::new();
    let mut time = |whats: &[What], size, rivals: &Rivals<'_>| {
        for what in whats.iter().filter(|what| cost.what.contains(what)) {
            for threads in &cost.threads {
                let setting = Setting { what: *what, size, threads: *threads as usize };
                rows.extend(timed(cost, setting, rivals));
            }
        }
    };
    let reads = [What::Hit, What::Miss];
    if cost.what.iter().any(|what| reads.contains(what)) {
        for keys in cost.keys.iter().map(|keys| *keys as u64) {
            time(&reads, keys, &Rivals::roomy(&stage, &terms.rivals.0, keys)?);
        }
    }
    if cost.what.contains(&What::Insert) {
        for capacity in &terms.capacity {
            time(&[What::Insert], *capacity, &Rivals::full(&stage, &terms.rivals.0, *capacity)?);
        }
    }
    Ok(rows)
}

fn timed(cost: &Cost, setting: Setting, rivals: &Rivals<'_>) -> Vec<Value> {
    let Setting { what, size, threads } = setting;
    let ops = if what == What::Miss { 10 * cost.ops } else { cost.ops };
    let windows = cost.windows;
    let make = |thread| Worker::new(rivals, what, size, ops, thread);
    let threaded = race::in_turns(threads, rivals.all.len(), windows, make);
    let each = |subject: usize, of: fn(&Time) -> u64| {
        let times = threaded.iter().flat_map(|(_, times)| &times[subject]).map(of);
        quantiles::sorted(times.map(|nanoseconds| nanoseconds as f64 / ops as f64))
    };
    let cpu: Vec<Vec<f64>> = (0..rivals.all.len()).map(|at| each(at, |time| time.cpu)).collect();
    let beside = |share| Beside::new(rivals, |at| quantiles::at(&cpu[at], share));
    let (p10, p50) = (beside(0.1), beside(0.5));
    let (keys, capacity) = match what {
        What::Insert => (Value::Null, json!(size)),
        _ => (json!(size), Value::Null),
    };
    let row = |(at, rival): (usize, &Rival)| {
        let clock = each(at, |time| (time.end - time.start).as_nanos() as u64);
        json!({
            "kind": "cost",
            "what": what.to_possible_value().map(|what| what.get_name().to_owned()),
            "keys": keys, "capacity_bytes": capacity,
            "threads": threads, "pages": rivals.stage.pages, "page_bytes": rivals.stage.page_size,
            "cache": rival.name, "held": rival.held,
            "cpu_p10_ns": p10.figure(at), "cpu_p50_ns": p50.figure(at),
            "p10_ratio": p10.ratio(at), "p50_ratio": p50.ratio(at),
            "clock_p10_ns": quantiles::rounded(quantiles::at(&clock, 0.1)),
            "windows": windows * threads, "ops": ops,
        })
    };
    rivals.all.iter().enumerate().map(row).collect()
}
