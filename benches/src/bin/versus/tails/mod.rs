//! How long single hits and inserts take, the slowest among them.
//!
//! ```text
//! mod -> work -> rivals -> packed, peers
//!        quantiles
//! ```
//! With more threads than cores a thread loses its processor at any point: an operation that was
//! interrupted takes milliseconds by the clock in every cache, the bare codec included, and a lock
//! that it held keeps the others waiting. CPU time tells what an operation itself had to do.

mod work;

use std::time::Duration;

use benches::arguments::{Failure, count};
use benches::race;
use benches::results;
use clap::Parser;
use serde_json::{Map, Value, json};

use self::work::{FIGURES, Looks, Seen, Worker};
use crate::load;
use crate::quantiles::Beside;
use crate::rivals::{Rival, Rivals, page};
use crate::terms::{DEBUG, THREADS, Terms};

/// Times operations one by one, by the clock and by the CPU time of the thread, in full caches.
///
/// Look-ups go by Zipf's law over four times the keys that zcache holds, each miss followed by an
/// insert. All caches take turns in one process, and so does the bare codec. p50, p99, p99.9 and
/// the maximum of hits and of inserts are over all windows and threads, in microseconds; `window`
/// is the median over windows of their p99, which some bad windows do not change. Ratios are to
/// quick_cache's. What the clocks take in the median is taken off. The bare codec's tail is the
/// machine's.
#[derive(Debug, Parser)]
pub(crate) struct Tails {
    #[command(flatten)]
    terms: Terms,
    /// Threads at once
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "2,8",
        value_parser = clap::value_parser!(u32).range(1..=THREADS)
    )]
    threads: Vec<u32>,
    /// Windows of each cache
    #[arg(long, default_value = WINDOWS, value_parser = count)]
    windows: usize,
    /// How long a window is: so long that threads beyond the cores take turns in it
    #[arg(
        long,
        default_value_t = if DEBUG { 20 } else { 50 },
        value_parser = clap::value_parser!(u64).range(1..=10_000)
    )]
    window_ms: u64,
}

const WINDOWS: &str = if DEBUG { "2" } else { "40" };

/// What operations are timed by.
const CLOCKS: [&str; 2] = ["clock", "cpu"];
/// The exponent of the law.
const ALPHA: f64 = 0.9;
/// Keys that are asked for, by the entries that zcache holds.
const KEYS: u64 = 4;
/// Requests before the first window, and in all, by the same.
const SETTLING: u64 = 4;
const REQUESTS: u64 = 16;
/// Requests in all, at most.
const MOST: u64 = 1 << 22;

/// Times all and prints the rows.
#[allow(clippy::print_stdout, reason = "a program's answers")]
pub(crate) fn run(tails: &Tails) -> Result<(), Failure> {
    let rows = rows(tails)?;
    match tails.terms.json {
        true => rows.iter().for_each(|row| println!("{row}")),
        false => print!("{}", results::tails(&rows)),
    }
    Ok(())
}

/// Two rows for each cache and setting, of hits and of inserts.
pub(crate) fn rows(tails: &Tails) -> Result<Vec<Value>, Failure> {
    let terms = &tails.terms;
    let stage = load::pages(terms.pages.as_deref(), terms.page_size)?;
    let looks = Looks::new();
    let mut rows = Vec::new();
    for capacity in &terms.capacity {
        let rivals = Rivals::full(&stage, &terms.rivals.0, *capacity)?;
        let held = rivals.zcache().held;
        let count = usize::try_from((REQUESTS * held).min(MOST))?;
        let requests = load::zipf(ALPHA, usize::try_from(KEYS * held)?, count);
        settle(&rivals, &requests[..count.min(usize::try_from(SETTLING * held)?)]);
        for threads in &tails.threads {
            rows.extend(timed(tails, &rivals, &requests, looks, *capacity, *threads as usize));
        }
    }
    Ok(rows)
}

/// Has the caches hold what they hold under these requests.
fn settle(rivals: &Rivals<'_>, requests: &[u64]) {
    let mut to = vec![0; rivals.stage.page_size];
    for rival in &rivals.all {
        for key in requests {
            if !rival.cache.get(*key, &mut to) {
                rival.cache.insert(*key, page(rivals.stage, *key));
            }
        }
    }
}

fn timed(
    tails: &Tails,
    rivals: &Rivals<'_>,
    requests: &[u64],
    looks: Looks,
    capacity: u64,
    threads: usize,
) -> Vec<Value> {
    let make = |thread| {
        Worker::new(rivals, requests, Duration::from_millis(tails.window_ms), looks, thread)
    };
    let windows = tails.windows;
    let mut all: Vec<Seen> = rivals.all.iter().map(|_| Seen::new()).collect();
    for (worker, _) in race::in_turns(threads, rivals.all.len(), windows, make) {
        all.iter_mut().zip(&worker.seen).for_each(|(all, seen)| all.add(seen));
    }
    let figures = |kind: usize, clock: usize| {
        let figures: Vec<_> = all.iter().map(|seen| seen.0[kind][clock].figures()).collect();
        let told = |at: usize, of: fn(&Beside, usize) -> Value| -> Map<String, Value> {
            let beside = |figure: usize| Beside::new(rivals, |at| figures[at][figure] as f64);
            let told = FIGURES.iter().enumerate();
            told.map(|(figure, name)| ((*name).into(), of(&beside(figure), at))).collect()
        };
        let both = |at| [told(at, |all, at| json!(all.figure(at))), told(at, Beside::ratio)];
        (0..figures.len()).map(both).collect::<Vec<_>>()
    };
    let kind = |(kind, what): (usize, &str)| {
        let clocks = CLOCKS.iter().enumerate().map(|(at, name)| (name, figures(kind, at)));
        let clocks: Vec<_> = clocks.collect();
        let row = |(at, rival): (usize, &Rival)| {
            let mut row = json!({
                "kind": "tails", "what": what, "capacity_bytes": capacity, "threads": threads,
                "pages": rivals.stage.pages, "page_bytes": rivals.stage.page_size,
                "cache": rival.name, "held": rival.held, "count": all[at].0[kind][0].count(),
            });
            for (clock, figures) in &clocks {
                let [figures, ratios] = figures[at].clone();
                row[format!("{clock}_ns")] = Value::Object(figures);
                row[format!("{clock}_ratio")] = Value::Object(ratios);
            }
            row
        };
        rivals.all.iter().enumerate().map(row).collect::<Vec<_>>()
    };
    ["hit", "insert"].into_iter().enumerate().flat_map(kind).collect()
}
