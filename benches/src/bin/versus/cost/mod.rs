//! What a hit, a miss and an evicting insert cost, in CPU time of the thread that does them.
//!
//! ```text
//! options -> mod -> work -> rivals -> packed, peers
//!            quantiles
//! ```
//! Windows of all caches take turns in one process, so that what else the machine does falls on all
//! of them, and CPU time leaves out what other processes take. All caches get the same keys and
//! pages in the same window.

pub(crate) mod options;
mod work;

use benches::packing::Failure;
use benches::race::{self, Time};
use serde_json::{Value, json};

use self::options::{Cost, What};
use self::work::Worker;
use crate::load;
use crate::quantiles::{self, Beside};
use crate::rivals::Rivals;
use crate::spec::Kind;
use crate::table::{figure, number, size};

/// One thing to time.
#[derive(Debug, Clone, Copy)]
struct Setting {
    what: What,
    /// Keys that are held, or bytes of capacity.
    size: u64,
    threads: usize,
}

/// Times all and prints each row as soon as it is there.
#[allow(clippy::print_stdout, reason = "a program's answers")]
pub(crate) fn run(cost: &Cost) -> Result<(), Failure> {
    let json = cost.terms.json;
    if !json {
        println!("{}", head());
    }
    rows(cost, &mut |row| match json {
        true => println!("{row}"),
        false => println!("{}", line(row)),
    })?;
    Ok(())
}

/// A row for each cache and setting; each goes to `say` too.
pub(crate) fn rows(cost: &Cost, say: &mut dyn FnMut(&Value)) -> Result<Vec<Value>, Failure> {
    let terms = &cost.terms;
    let stage = load::pages(terms.pages.as_deref(), terms.page_size)?;
    let mut rows = Vec::new();
    let mut time = |whats: &[What], size, rivals: &Rivals<'_>| {
        for what in whats.iter().filter(|what| cost.whats.contains(what)) {
            for threads in &terms.threads {
                let setting = Setting { what: *what, size, threads: *threads };
                let timed = timed(cost, setting, rivals);
                timed.iter().for_each(&mut *say);
                rows.extend(timed);
            }
        }
    };
    let reads = [What::Hit, What::Miss];
    if cost.whats.iter().any(|what| reads.contains(what)) {
        for keys in &cost.keys {
            time(&reads, *keys, &Rivals::roomy(&stage, &terms.specs, *keys)?);
        }
    }
    if cost.whats.contains(&What::Insert) {
        for capacity in &terms.capacities {
            time(&[What::Insert], *capacity, &Rivals::full(&stage, &terms.specs, *capacity)?);
        }
    }
    Ok(rows)
}

fn timed(cost: &Cost, setting: Setting, rivals: &Rivals<'_>) -> Vec<Value> {
    let Setting { what, size, threads } = setting;
    let ops = if what == What::Miss { 10 * cost.ops } else { cost.ops };
    let windows = cost.terms.windows;
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
    let row = |(at, rival): (usize, &crate::rivals::Rival)| {
        let clock = each(at, |time| (time.end - time.start).as_nanos() as u64);
        json!({
            "kind": "cost", "what": what.name(), "keys": keys, "capacity_bytes": capacity,
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

fn head() -> String {
    format!(
        "nanoseconds of CPU time an operation, ratios to {}'s\n\
         {:<7} {:>12} {:>7}  {:<14} {:>8} {:>8} {:>9} {:>9} {:>9} {:>8}",
        Kind::QuickCache.name(),
        "",
        "size",
        "threads",
        "cache",
        "p10",
        "p50",
        "p10 ratio",
        "p50 ratio",
        "clock p10",
        "held",
    )
}

fn line(row: &Value) -> String {
    let digits = if row["what"] == "miss" { 1 } else { 0 };
    let ns = |name: &str| number(figure(row, name), digits);
    let ratio = |name: &str| number(figure(row, name), 3);
    format!(
        "{:<7} {:>12} {:>7}  {:<14} {:>8} {:>8} {:>9} {:>9} {:>9} {:>8}",
        row["what"].as_str().unwrap_or_default(),
        size(row),
        number(figure(row, "threads"), 0),
        row["cache"].as_str().unwrap_or_default(),
        ns("cpu_p10_ns"),
        ns("cpu_p50_ns"),
        ratio("p10_ratio"),
        ratio("p50_ratio"),
        ns("clock_p10_ns"),
        number(figure(row, "held"), 0),
    )
}
