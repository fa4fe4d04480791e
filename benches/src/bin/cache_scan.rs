//! What a scan costs, and what it costs others, by how its pages go in.
//!
//! Pages of a database are asked for, some far more often than others, and inserted where they are
//! missed. Beside them a scan inserts pages that come once: as any page, with low priority, or with
//! the hint of a scan. Some of them are asked for again soon, as `--again` says.
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::path::PathBuf;
use std::process::ExitCode;

use benches::arguments::{self, Failure, count};
use benches::codec::Codec;
use benches::race;
use clap::Parser;
use tests::corpus::{self, PageFile};
use zcache::policy::Priority;
use zcache::{Cache, Config, HotShare, InsertOptions};

/// What does a scan cost, and what does it cost others, by how its pages go in?
#[derive(Debug, Parser)]
#[command(name = "cache_scan")]
struct Options {
    /// Pages, as a .bin or .bin.zst file (default: the sample)
    #[arg(long)]
    pages: Option<PathBuf>,
    /// MiB of the cache
    #[arg(long, default_value = "32", value_parser = count)]
    capacity: usize,
    /// Requests that are counted
    #[arg(long, default_value = "400k", value_parser = count)]
    requests: usize,
    /// Scanned pages for each request
    #[arg(long, default_value_t = 1)]
    each: u64,
    /// Codecs of the cache
    #[arg(long, value_delimiter = ',', default_value = "lz4,zstd:3")]
    codec: Vec<Codec>,
    /// Of 100 scanned pages, so many are asked for again
    #[arg(long, default_value_t = 0)]
    again: u64,
}

/// Keys of scanned pages begin here.
const SCAN: u64 = 1 << 40;
/// Requests of a round, and then its scanned pages.
const ROUND: u64 = 64;
/// Scanned pages after which one is asked for again.
const LATER: u64 = 20;

/// What came of a run.
#[derive(Default)]
struct Outcome {
    hits: u64,
    /// Nanoseconds of all inserts of the scan, and of the look-ups of its pages.
    scan: u64,
    found: u64,
    asked: u64,
    again: u64,
}

fn play(
    file: &PageFile,
    codec: Codec,
    options: &Options,
    how: Option<InsertOptions>,
) -> Result<Outcome, Failure> {
    let size = file.page_size();
    let config = Config::new(options.capacity << 20).max_page(size).checksum(false);
    let cache: Cache<u64> = Cache::new(codec.apply(config.hot(HotShare::Off), &[])?)?;
    let count = file.pages().len();
    // Four times the pages that would fit uncompressed.
    let keys = (options.capacity << 20) / size * 4;
    let page = |key: u64| file.page((key.wrapping_mul(0x9e37_79b9) % count as u64) as usize);
    let mut rng = fastrand::Rng::with_seed(7);
    let (mut outcome, mut next, mut bytes) = (Outcome::default(), SCAN, vec![0; size]);
    let requests = options.requests as u64;
    for round in 0..3 * requests / ROUND {
        let counts = round >= requests / ROUND;
        for _ in 0..ROUND {
            let part = rng.f64() * rng.f64() * rng.f64();
            let key = (part * keys as f64) as u64;
            match cache.get_into(&key, &mut bytes)? {
                Some(_) => outcome.hits += u64::from(counts),
                None => cache.insert(key, page(key))?,
            }
        }
        let (Some(how), true) = (how, counts) else { continue };
        let start = race::thread_nanoseconds();
        for _ in 0..ROUND * options.each {
            cache.insert_with_options(next, page(next), how)?;
            next += 1;
        }
        let inserted = race::thread_nanoseconds();
        outcome.scan += inserted - start;
        for nth in 0..ROUND * options.each {
            if nth % 100 < options.again {
                outcome.asked += 1;
                let key = next - 1 - nth.min(LATER);
                if cache.get_into(&key, &mut bytes)?.is_some() {
                    outcome.found += 1;
                    assert_eq!(bytes, page(key), "the page that went in");
                }
            }
        }
        outcome.again += race::thread_nanoseconds() - inserted;
    }
    cache.check();
    Ok(outcome)
}

fn run(options: &Options) -> Result<(), Failure> {
    let file = match &options.pages {
        Some(path) => PageFile::read(path, None)?,
        None => corpus::sample(),
    };
    let modes = [
        ("no scan", None),
        ("any page", Some(InsertOptions::new())),
        ("low priority", Some(InsertOptions::new().priority(Priority::Low))),
        ("scan", Some(InsertOptions::new().scan())),
    ];
    println!("{}, {} bytes", file.name(), file.page_size());
    for codec in &options.codec {
        for (name, how) in modes {
            let outcome = play(&file, *codec, options, how)?;
            let requests = 2 * options.requests as u64 / ROUND * ROUND;
            let scanned = (requests * options.each).max(1);
            println!(
                "{codec:8} {name:14} hits {:6.2} %  scanned page {:6.0} ns  again {:5.1} % in \
                 {:6.0} ns",
                100.0 * outcome.hits as f64 / requests as f64,
                outcome.scan as f64 / scanned as f64,
                100.0 * outcome.found as f64 / outcome.asked.max(1) as f64,
                outcome.again as f64 / outcome.asked.max(1) as f64,
            );
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    arguments::run(run)
}
