//! What recompressing cold entries gains and costs: pages that a cache holds in each MiB before and
//! after, and the CPU time that it took.
//!
//! For each page file a cache is filled with its pages in a random order, each of them once: a
//! dictionary would learn those that come again by heart. Then it is maintained until the hand
//! finds nothing more to do. Nothing is hit: all is cold, so this is the most that recompression
//! gives. Pages are counted by the MiB that entries take, pool, index and policy together; contexts
//! of zstd and a dictionary come on top, 0.2 to 1 MB whatever the capacity.
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use benches::arguments::{self, Failure, page_files};
use benches::race::thread_nanoseconds;
use clap::Parser;
use tests::corpus::PageFile;
use zcache::codec::Zstd;
use zcache::{Cache, Config};

/// What does recompressing cold entries gain and cost?
#[derive(Debug, Parser)]
#[command(name = "recompress")]
struct Options {
    /// A page file, or a directory of them (default: the sample)
    #[arg(long)]
    pages: Option<PathBuf>,
    /// The length of dictionaries in bytes
    #[arg(long, default_value_t = 16 << 10)]
    train: usize,
}

/// The capacity in bytes, and the level of zstd for cold entries.
const CAPACITY: usize = 16 << 20;
const LEVEL: i32 = 3;

/// What this thread has had of a processor.
fn cpu() -> Duration {
    Duration::from_nanos(thread_nanoseconds())
}

/// Pages in each MiB that entries take.
fn pages_per_mib(cache: &Cache<u64>) -> f64 {
    while !cache.compact(usize::MAX).done {}
    cache.trim();
    let bytes = cache.stats().bytes;
    let entries = bytes.pages + bytes.metadata + bytes.index + bytes.policy;
    cache.len() as f64 * f64::from(1 << 20) / entries as f64
}

/// Prints the row of one file.
fn row(file: &PageFile, train: usize) -> Result<(), Failure> {
    let config = Config::new(CAPACITY).max_page(file.page_size()).checksum(false);
    let cache = Cache::new(config.cold_codec(Zstd::level(LEVEL)?).train(train))?;
    let mut order: Vec<usize> = (0..file.pages().len()).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut order);
    cache.maintain(0);
    let mut training = cache.stats().dictionaries;
    let mut trained = Duration::ZERO;
    for number in order {
        cache.insert(number as u64, file.page(number))?;
        if training.adopted + training.rejected + training.failed == 0 {
            let from = cpu();
            cache.maintain(0);
            trained = cpu() - from;
            training = cache.stats().dictionaries;
        } else if cache.stats().removals.evicted > 0 {
            break;
        }
    }
    let before = pages_per_mib(&cache);
    let from = cpu();
    let mut quiet = 0;
    while quiet < 2 {
        let step = cache.maintain(usize::MAX);
        // A call that finds no room for a context ends before its sweep does.
        let done = step.swept && step.recompression.recompressed == 0;
        quiet = if done { quiet + 1 } else { 0 };
    }
    let work = cpu() - from;
    let after = pages_per_mib(&cache);
    let stats = cache.stats();
    let counts = stats.recompression;
    let micros = |time: Duration, by: u64| time.as_secs_f64() * 1e6 / by.max(1) as f64;
    let trained = match (train, training.adopted, training.rejected) {
        (0, ..) => String::new(),
        (_, 0, 0) => "too few pages".into(),
        (_, 0, _) => format!("rejected, {} ms", trained.as_millis()),
        _ => format!("adopted, {} ms", trained.as_millis()),
    };
    println!(
        "{:<22} {:<7} {before:>7.0} {after:>7.0} {:>6.2}x {:>8} {:>8} {:>9.1} us   {trained}",
        file.name(),
        stats.cold_codec,
        after / before,
        counts.tried,
        counts.recompressed,
        micros(work, counts.tried),
    );
    Ok(())
}

fn run(options: &Options) -> Result<(), Failure> {
    println!("{} MiB, LZ4; cold entries by zstd:{LEVEL}", CAPACITY >> 20);
    println!(
        "{:<22} {:<7} {:>7} {:>7} {:>7} {:>8} {:>8} {:>12}   dictionary",
        "pages in each MiB", "", "before", "after", "", "tried", "smaller", "CPU a page"
    );
    for file in page_files(options.pages.as_deref())? {
        row(&file, 0)?;
        row(&file, options.train)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    arguments::run(run)
}
