//! What a hit of the cache costs over the bare codec.
//!
//! The bare row looks a random key up in an array of (pointer, length) and decodes what it finds there: no
//! cache can be cheaper. Both work on the same payloads under the same keys, in rounds that take all
//! rows in turn; the best window of all rounds counts.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

use std::path::PathBuf;
use std::process::ExitCode;

use benches::bare::Bare;
use benches::packing::Failure;
use benches::program;
use benches::race::{Length, nanoseconds};
use lexopt::prelude::*;
use serde_json::{Value, json};
use tests::corpus::{self, PageFile};
use zcache::codec::{self, Codec, Lz4, Zstd};
use zcache::{Cache, Config, Share};

const USAGE: &str = "\
usage: cache_hit [options]

  --pages FILE      a page file (default: the sample, cut into 4 KiB and into 16 KiB)
  --page-size N     its page size
  --entries N,...   populations (default 30000,480000; half a million take 1 GiB)
  --rounds N        rounds of which the best counts (default 10)
  --hot             hits on decoded pages over a bare copy: 64 pages, and the one hottest
  --json            one line of JSON a row
";

/// Windows of a round.
const WINDOWS: usize = 20;
/// Up to this population a cache counts as warm.
const WARM: usize = 30_000;
/// What `get_into` may take over the bare row, in nanoseconds, warm and cold.
const OVER: [f64; 2] = [100.0, 250.0];
/// For long decodings: by which part.
const PART: [f64; 2] = [0.05, 0.15];
/// What a hit on a decoded page may take over a bare copy, in nanoseconds.
const HOT_OVER: f64 = 150.0;
/// Pages of the hot rows.
const HOT: [usize; 2] = [64, 1];
/// What two threads have to scale by, over what the bare row scales by.
const SCALING: f64 = 0.95;

struct Options {
    pages: Option<PathBuf>,
    page_size: Option<usize>,
    entries: Vec<usize>,
    rounds: usize,
    hot: bool,
    json: bool,
}

fn options() -> Result<Option<Options>, Failure> {
    let entries = vec![30_000, 480_000];
    let mut options =
        Options { pages: None, page_size: None, entries, rounds: 10, hot: false, json: false };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("pages") => options.pages = Some(parser.value()?.into()),
            Long("page-size") => options.page_size = Some(parser.value()?.parse()?),
            Long("entries") => {
                let entries = parser.value()?.string()?;
                options.entries = entries.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("hot") => options.hot = true,
            Long("json") => options.json = true,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected().into()),
        }
    }
    if options.entries.contains(&0) || options.rounds == 0 {
        return Err("--entries and --rounds are 1 or more".into());
    }
    Ok(Some(options))
}

/// Nanoseconds of one and of two threads.
type Times = [f64; 2];

/// The bare row and the cache's.
fn race(
    file: &PageFile,
    codec: impl Codec + Clone + 'static,
    entries: usize,
    rounds: usize,
) -> Result<[Times; 2], Failure> {
    let bare = Bare::new(file, &codec, entries)?;
    let cache = filled(file, codec.clone(), &bare, entries, Share::None)?;
    run_race(file, &codec, &bare, &cache, rounds)
}

/// A bare copy, and hits on pages that are decoded already.
fn race_hot(file: &PageFile, entries: usize, rounds: usize) -> Result<[Times; 2], Failure> {
    let bare = Bare::new(file, &codec::None, entries)?;
    let cache = filled(file, Lz4, &bare, entries, Share::Of(4))?;
    for key in 0..entries as u64 {
        (0..4).for_each(|_| drop(cache.get(&key)));
    }
    let times = run_race(file, &codec::None, &bare, &cache, rounds)?;
    let stats = cache.stats();
    // Two pages that share a slot take turns.
    if stats.hot_hits < stats.hits / 10 * 9 {
        return Err(format!("{} of {} hits were hot", stats.hot_hits, stats.hits).into());
    }
    Ok(times)
}

/// A cache with the bare row's pages under its keys.
fn filled(
    file: &PageFile,
    codec: impl Codec + 'static,
    bare: &Bare,
    entries: usize,
    share: Share,
) -> Result<Cache<u64>, Failure> {
    // Room for everything: what is measured is hits.
    let capacity = 2 * bare.bytes() + entries * 200 + (64 << 20);
    let config = Config::new(capacity).max_page(file.page_size()).codec(codec);
    let cache: Cache<u64> = Cache::new(config.checksum(false).hot(share))?;
    for key in 0..entries {
        cache.insert(key as u64, file.page(key % file.pages().len()))?;
    }
    Ok(cache)
}

fn run_race(
    file: &PageFile,
    codec: &impl Codec,
    bare: &Bare,
    cache: &Cache<u64>,
    rounds: usize,
) -> Result<[Times; 2], Failure> {
    let entries = bare.entries();
    let stateless = codec.decode(bare.payload(0), &mut vec![0; file.page_size()]).is_some();
    let mut best = [[f64::INFINITY; 2]; 2];
    let mut ops = 400_000 / file.page_size() * 4;
    if !stateless {
        ops /= 4;
    }
    for _ in 0..rounds {
        for threads in [1, 2] {
            let length = Length { threads, windows: WINDOWS, ops };
            let bare_row = |_| {
                let mut decoder = bare.decoder(codec, file.page_size()).expect("a context");
                let mut to = vec![0; file.page_size()];
                move |key: usize| {
                    decoder.decode(key, &mut to);
                    u64::from(to[0])
                }
            };
            let cache_row = |_| {
                let mut to = vec![0; file.page_size()];
                move |key: usize| {
                    let len = cache.get_into(&(key as u64), &mut to).expect("room for a page");
                    assert_eq!(len, Some(to.len()), "a hit");
                    u64::from(to[0])
                }
            };
            let row =
                [nanoseconds(length, entries, bare_row), nanoseconds(length, entries, cache_row)];
            for (best, time) in best.iter_mut().zip(row) {
                best[threads - 1] = best[threads - 1].min(time);
            }
        }
    }
    Ok(best)
}

fn report(name: &str, entries: usize, [bare, cache]: [Times; 2], long: bool) -> Value {
    let cold = usize::from(entries > WARM);
    let bar = if long { bare[0] * PART[cold] } else { OVER[cold] };
    row(name, entries, [bare, cache], bar)
}

fn row(name: &str, entries: usize, [bare, cache]: [Times; 2], bar: f64) -> Value {
    let over = cache[0] - bare[0];
    let scaling = (cache[0] / cache[1]) / (bare[0] / bare[1]);
    json!({
        "pages": name, "entries": entries,
        "bare_ns": bare[0].round(), "cache_ns": cache[0].round(), "over_ns": over.round(),
        "over_bar_ns": bar.round(), "over_met": over <= bar,
        "two_threads_bare_ns": bare[1].round(), "two_threads_cache_ns": cache[1].round(),
        "scaling_by_bare": (scaling * 100.0).round() / 100.0, "scaling_met": scaling >= SCALING,
    })
}

fn run(options: &Options) -> Result<(), Failure> {
    let files: Vec<PageFile> = match &options.pages {
        Some(path) => vec![PageFile::read(path, options.page_size)?],
        None => {
            let sample = corpus::sample();
            let joined = sample.join(16 << 10).ok_or("the sample has whole pages of 16 KiB")?;
            vec![sample.cut(4096).ok_or("the sample can be cut")?, joined]
        }
    };
    for file in &files {
        for entries in &options.entries[..if options.hot { 0 } else { options.entries.len() }] {
            let name = format!("{} at {} KiB", file.name(), file.page_size() >> 10);
            let times = race(file, Lz4, *entries, options.rounds)?;
            let long = file.page_size() > 8192;
            print(&report(&format!("{name}, lz4"), *entries, times, long), options.json);
            if file.page_size() == 4096 {
                let times = race(file, Zstd::level(3)?, *entries, options.rounds)?;
                print(&report(&format!("{name}, zstd:3"), *entries, times, true), options.json);
            }
        }
        for entries in HOT.into_iter().filter(|_| options.hot) {
            let name = format!("{} at {} KiB, hot", file.name(), file.page_size() >> 10);
            let times = race_hot(file, entries, options.rounds)?;
            print(&row(&name, entries, times, HOT_OVER), options.json);
        }
    }
    Ok(())
}

fn print(row: &Value, json: bool) {
    if json {
        println!("{row}");
        return;
    }
    let word = |met: &str| if row[met] == true { "met" } else { "MISSED" };
    println!(
        "{}, {} entries: bare {} ns, get_into {} ns: {:+} ns, bar {}: {}",
        row["pages"].as_str().unwrap_or_default(),
        row["entries"],
        row["bare_ns"],
        row["cache_ns"],
        row["over_ns"].as_f64().unwrap_or_default(),
        row["over_bar_ns"],
        word("over_met"),
    );
    println!(
        "    two threads: bare {} ns, get_into {} ns, scaling by the bare row's {}: {}",
        row["two_threads_bare_ns"],
        row["two_threads_cache_ns"],
        row["scaling_by_bare"],
        word("scaling_met"),
    );
}

fn main() -> ExitCode {
    program::run("cache_hit", USAGE, options(), run)
}
