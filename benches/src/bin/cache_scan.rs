//! What a scan costs, and what it costs others, by how its pages go in.
//!
//! Pages of a database are asked for, some far more often than others, and inserted where they are
//! missed. Beside them a scan inserts pages that come once: as any page, with low priority, or with
//! the hint of a scan. Some of them are asked for again soon, as `--again` says.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

use std::path::PathBuf;
use std::process::ExitCode;

use benches::packing::Failure;
use benches::{program, race};
use lexopt::prelude::*;
use tests::corpus::{self, PageFile};
use zcache::codec::{Codec, Lz4, Zstd};
use zcache::policy::Priority;
use zcache::{Cache, Config, Insert, Share};

const USAGE: &str = "\
usage: cache_scan [options]

  --pages FILE      pages, as a .bin or .bin.zst file (default: the sample)
  --capacity MIB    of the cache (default 32)
  --requests N      requests that are counted (default 400000)
  --each N          scanned pages for each request (default 1)
  --codec CODEC     lz4 or zstd:3 (default: both)
  --again N         of 100 scanned pages, so many are asked for again (default 0)
";

struct Options {
    pages: Option<PathBuf>,
    capacity: usize,
    requests: u64,
    each: u64,
    again: u64,
    codec: Option<String>,
}

fn options() -> Result<Option<Options>, Failure> {
    let mut options =
        Options { pages: None, capacity: 32, requests: 400_000, each: 1, again: 0, codec: None };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("pages") => options.pages = Some(parser.value()?.into()),
            Long("capacity") => options.capacity = parser.value()?.parse()?,
            Long("requests") => options.requests = parser.value()?.parse()?,
            Long("each") => options.each = parser.value()?.parse()?,
            Long("codec") => options.codec = Some(parser.value()?.string()?),
            Long("again") => options.again = parser.value()?.parse()?,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected().into()),
        }
    }
    if options.capacity == 0 || options.requests == 0 {
        return Err("--capacity and --requests are 1 or more".into());
    }
    Ok(Some(options))
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
    codec: impl Codec + 'static,
    options: &Options,
    how: Option<Insert>,
) -> Result<Outcome, Failure> {
    let size = file.page_size();
    let config = Config::new(options.capacity << 20).max_page(size).codec(codec);
    let cache: Cache<u64> = Cache::new(config.checksum(false).hot(Share::None))?;
    let count = file.pages().len();
    // Four times the pages that would fit uncompressed.
    let keys = (options.capacity << 20) / size * 4;
    let page = |key: u64| file.page((key.wrapping_mul(0x9e37_79b9) % count as u64) as usize);
    let mut rng = fastrand::Rng::with_seed(7);
    let (mut outcome, mut next, mut bytes) = (Outcome::default(), SCAN, vec![0; size]);
    for round in 0..3 * options.requests / ROUND {
        let counts = round >= options.requests / ROUND;
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
            cache.insert_with(next, page(next), how)?;
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
        ("any page", Some(Insert::new())),
        ("low priority", Some(Insert::new().priority(Priority::Low))),
        ("scan", Some(Insert::new().scan())),
    ];
    println!("{}, {} bytes", file.name(), file.page_size());
    for codec in ["lz4", "zstd:3"] {
        if options.codec.as_ref().is_some_and(|only| only != codec) {
            continue;
        }
        for (name, how) in modes {
            let outcome = match codec {
                "lz4" => play(&file, Lz4, options, how)?,
                _ => play(&file, Zstd::level(3)?, options, how)?,
            };
            let requests = 2 * options.requests / ROUND * ROUND;
            let scanned = (requests * options.each).max(1);
            println!(
                "{codec:8} {name:14} hits {:6.2} %  scanned page {:6.0} ns  again {:5.1} % in {:6.0} ns",
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
    program::run("cache_scan", USAGE, options(), run)
}
