//! What recompressing cold entries gains and costs: pages that a cache holds in each MiB before and after, and the CPU
//! time that it took.
//!
//! For each page file a cache is filled with its pages in a random order, each of them once: a dictionary would learn those that come
//! again by heart. Then it is maintained until the hand finds nothing more to do. Nothing is hit: all is cold, so this is the most
//! that recompression gives. Pages are counted by the MiB that entries take, pool, index and policy together; contexts of zstd and a dictionary come on
//! top, 0.2 to 1 MB whatever the capacity.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use benches::packing::Failure;
use benches::program;
use lexopt::prelude::*;
use serde_json::{Value, json};
use tests::corpus::{self, PageFile};
use zcache::codec::Zstd;
use zcache::{Cache, Config};

const USAGE: &str = "\
usage: recompress [options]

  --pages PATH      a page file, or a directory of them (default: the sample)
  --capacity MIB    the capacity in MiB (default 16)
  --level LEVEL     the level of zstd for cold entries (default 3)
  --train BYTES     the length of dictionaries (default 16384)
  --json            one line of JSON a row
";

struct Options {
    pages: Option<PathBuf>,
    capacity: usize,
    level: i32,
    train: usize,
    json: bool,
}

fn options() -> Result<Option<Options>, Failure> {
    let mut options = Options { pages: None, capacity: 16, level: 3, train: 16 << 10, json: false };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("pages") => options.pages = Some(parser.value()?.into()),
            Long("capacity") => options.capacity = parser.value()?.parse()?,
            Long("level") => options.level = parser.value()?.parse()?,
            Long("train") => options.train = parser.value()?.parse()?,
            Long("json") => options.json = true,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(Some(options))
}

/// What this thread has had of a CPU, or the time that has passed where the system does not tell.
fn cpu(start: Instant) -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = stat.and_then(|stat| stat.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// Pages in each MiB that entries take.
fn pages_per_mib(cache: &Cache<u64>) -> f64 {
    while !cache.compact(usize::MAX).done {}
    cache.trim();
    let bytes = cache.stats().bytes;
    let entries = bytes.pages + bytes.metadata + bytes.index + bytes.policy;
    cache.len() as f64 * f64::from(1 << 20) / entries as f64
}

fn row(options: &Options, file: &PageFile, train: usize) -> Result<Value, Failure> {
    let start = Instant::now();
    let config = Config::new(options.capacity << 20).max_page(file.page_size()).checksum(false);
    let cache = Cache::new(config.cold_codec(Zstd::level(options.level)?).train(train))?;
    let mut order: Vec<usize> = (0..file.pages().len()).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut order);
    cache.maintain(0);
    let mut training = cache.stats().trainings;
    let mut trained = Duration::ZERO;
    for number in order {
        cache.insert(number as u64, file.page(number))?;
        if training.adopted + training.rejected + training.failed == 0 {
            let from = cpu(start);
            cache.maintain(0);
            trained = cpu(start) - from;
            training = cache.stats().trainings;
        } else if cache.stats().gone.evicted > 0 {
            break;
        }
    }
    let before = pages_per_mib(&cache);
    let from = cpu(start);
    let mut quiet = 0;
    while quiet < 2 {
        let step = cache.maintain(usize::MAX);
        quiet = if step.recompression.recompressed == 0 { quiet + 1 } else { 0 };
    }
    let work = cpu(start) - from;
    let after = pages_per_mib(&cache);
    let stats = cache.stats();
    let counts = stats.recompression;
    let micros = |time: Duration, by: u64| time.as_secs_f64() * 1e6 / by.max(1) as f64;
    Ok(json!({
        "pages": file.name(), "page_size": file.page_size(), "capacity_mib": options.capacity,
        "cold_codec": stats.cold_codec, "dictionary": train, "entries": stats.entries,
        "before": before.round(), "after": after.round(),
        "gain": (after / before * 100.0).round() / 100.0,
        "adopted": training.adopted, "rejected": training.rejected,
        "training_ms": (trained.as_secs_f64() * 1e3).round(),
        "tried": counts.tried, "recompressed": counts.recompressed,
        "cpu_us_a_page": (micros(work, counts.tried) * 10.0).round() / 10.0,
    }))
}

fn print_row(row: &Value) {
    let number = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let trained = match (number("dictionary") > 0.0, number("adopted"), number("rejected")) {
        (false, ..) => String::new(),
        (_, 0.0, 0.0) => "too few pages".into(),
        (_, 0.0, _) => format!("rejected, {} ms", row["training_ms"]),
        _ => format!("adopted, {} ms", row["training_ms"]),
    };
    println!(
        "{:<22} {:<7} {:>7.0} {:>7.0} {:>6.2}x {:>8} {:>8} {:>9.1} us   {}",
        text("pages"),
        text("cold_codec"),
        number("before"),
        number("after"),
        number("gain"),
        row["tried"],
        row["recompressed"],
        number("cpu_us_a_page"),
        trained,
    );
}

fn run(options: &Options) -> Result<(), Failure> {
    let files: Vec<PageFile> = match &options.pages {
        Some(path) => corpus::files(path)?
            .iter()
            .map(|path| PageFile::read(path, None))
            .collect::<Result<_, _>>()?,
        None => vec![corpus::sample()],
    };
    if !options.json {
        println!("{} MiB, LZ4; cold entries by zstd:{}", options.capacity, options.level);
        println!(
            "{:<22} {:<7} {:>7} {:>7} {:>7} {:>8} {:>8} {:>12}   dictionary",
            "pages in each MiB", "", "before", "after", "", "tried", "smaller", "CPU a page"
        );
    }
    for file in &files {
        for train in [0, options.train] {
            let row = row(options, file, train)?;
            if options.json { println!("{row}") } else { print_row(&row) }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    program::run("recompress", USAGE, options(), run)
}
