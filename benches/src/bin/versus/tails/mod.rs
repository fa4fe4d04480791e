//! How long single hits and inserts take, the slowest among them.
//!
//! ```text
//! options -> mod -> work -> rivals -> packed, peers
//!            quantiles
//! ```
//! With more threads than cores a thread loses its processor at any point: an operation that was
//! interrupted takes milliseconds by the clock in every cache, the bare codec included, and a lock
//! that it held keeps the others waiting. CPU time tells what an operation itself had to do.

pub(crate) mod options;
mod work;

use benches::packing::Failure;
use benches::race;
use serde_json::{Map, Value, json};

use self::options::Tails;
use self::work::{FIGURES, Looks, Seen, Worker};
use crate::load;
use crate::quantiles::Beside;
use crate::rivals::{Rival, Rivals, page};
use crate::spec::Kind;
use crate::table::{figure, number, size};

/// What operations are timed by.
const CLOCKS: [&str; 2] = ["clock", "cpu"];
/// Keys that are asked for, by the entries that zcache holds.
const KEYS: u64 = 4;
/// Requests before the first window, and in all, by the same.
const SETTLING: u64 = 4;
const REQUESTS: u64 = 16;
/// Requests in all, at most.
const MOST: u64 = 1 << 22;

/// Times all and prints each row as soon as it is there.
#[allow(clippy::print_stdout, reason = "a program's answers")]
pub(crate) fn run(tails: &Tails) -> Result<(), Failure> {
    let json = tails.terms.json;
    if !json {
        println!("{}", head());
    }
    rows(tails, &mut |row| match json {
        true => println!("{row}"),
        false => println!("{}", lines(row)),
    })?;
    Ok(())
}

/// Two rows for each cache and setting, of hits and of inserts; each goes to `say` too.
pub(crate) fn rows(tails: &Tails, say: &mut dyn FnMut(&Value)) -> Result<Vec<Value>, Failure> {
    let terms = &tails.terms;
    let stage = load::pages(terms.pages.as_deref(), terms.page_size)?;
    let looks = Looks::new();
    let mut rows = Vec::new();
    for capacity in &terms.capacities {
        let rivals = Rivals::full(&stage, &terms.specs, *capacity)?;
        let held = rivals.zcache().held;
        let count = usize::try_from((REQUESTS * held).min(MOST))?;
        let requests = load::zipf(tails.alpha, usize::try_from(KEYS * held)?, count);
        settle(&rivals, &requests[..count.min(usize::try_from(SETTLING * held)?)]);
        for threads in &terms.threads {
            let timed = timed(tails, &rivals, &requests, looks, *capacity, *threads);
            timed.iter().for_each(&mut *say);
            rows.extend(timed);
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
    let make = |thread| Worker::new(rivals, requests, tails.window, looks, thread);
    let windows = tails.terms.windows;
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

fn head() -> String {
    format!(
        "microseconds an operation, by the clock and in CPU time, and what they are to {}'s\n\
         {:<7} {:>9} {:>7}  {:<13} {:>8} {:<6}{}    {}",
        Kind::QuickCache.name(),
        "",
        "capacity",
        "threads",
        "cache",
        "count",
        "",
        ["p50", "p99", "p99.9", "max", "window"].map(|name| format!("{name:>9}")).concat(),
        ["p50", "p99", "p99.9", "window"].map(|name| format!("{name:>7}")).concat(),
    )
}

/// Two lines: by the clock, and in CPU time.
fn lines(row: &Value) -> String {
    let line = |clock: &&str| {
        let (times, ratios) = (&row[format!("{clock}_ns")], &row[format!("{clock}_ratio")]);
        let us = |name| format!("{:>9}", number(figure(times, name).map(|ns| ns / 1e3), 1));
        let ratio = |name| format!("{:>7}", number(figure(ratios, name), 2));
        format!(
            "{:<7} {:>9} {:>7}  {:<13} {:>8} {clock:<6}{}    {}",
            row["what"].as_str().unwrap_or_default(),
            size(row),
            number(figure(row, "threads"), 0),
            row["cache"].as_str().unwrap_or_default(),
            number(figure(row, "count"), 0),
            FIGURES.map(us).concat(),
            ["p50", "p99", "p999", "window_p99"].map(ratio).concat(),
        )
    };
    CLOCKS.iter().map(line).collect::<Vec<_>>().join("\n")
}
