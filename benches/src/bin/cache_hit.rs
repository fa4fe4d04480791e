//! What a hit of the cache costs over the bare codec.
//!
//! The bare row looks a random key up in an array of (pointer, length) and decodes what it finds
//! there: no cache can be cheaper. Both work on the same payloads under the same keys, in rounds
//! that take all rows in turn; the best window of all rounds counts.
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::process::ExitCode;

use benches::arguments::{self, Failure, count, met};
use benches::bare::Bare;
use benches::codec::{Codec, Engine};
use benches::race::{Length, nanoseconds};
use clap::Parser;
use tests::corpus::{self, PageFile};
use zcache::{Cache, Config, HotShare};

/// What does a hit cost over the bare codec?
#[derive(Debug, Parser)]
#[command(name = "cache_hit")]
struct Options {
    /// Populations; half a million take 1 GiB
    #[arg(long, value_delimiter = ',', default_value = "30000,480000", value_parser = count)]
    entries: Vec<usize>,
    /// Rounds of which the best counts
    #[arg(long, default_value = "10", value_parser = count)]
    rounds: usize,
    /// Hits on decoded pages over a bare copy: 64 pages, and the one hottest
    #[arg(long)]
    hot: bool,
}

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

/// Nanoseconds of one and of two threads.
type Times = [f64; 2];

/// The times of the bare row and of the cache. Where pages are `hot`, the bare row copies them, and
/// the cache has them decoded already.
fn race(
    file: &PageFile,
    codec: Codec,
    entries: usize,
    rounds: usize,
    hot: bool,
) -> Result<[Times; 2], Failure> {
    let page_size = file.page_size();
    let engine = Engine::new(if hot { Codec::None } else { codec }, &[])?;
    let payloads = engine.payloads(file.pages().take(entries), page_size)?;
    let bare = Bare::new(&payloads, (0..entries).map(|key| key % payloads.len()));
    // Room for everything: what is measured is hits.
    let capacity = 2 * bare.bytes() + entries * 200 + (64 << 20);
    let share = if hot { HotShare::Fraction(4) } else { HotShare::Off };
    let config = Config::new(capacity).max_page(page_size).checksum(false).hot(share);
    let cache: Cache<u64> = Cache::new(codec.apply(config, &[])?)?;
    for key in 0..entries {
        cache.insert(key as u64, file.page(key % file.pages().len()))?;
    }
    for key in 0..if hot { entries as u64 } else { 0 } {
        (0..4).for_each(|_| drop(cache.get(&key)));
    }
    let mut best = [[f64::INFINITY; 2]; 2];
    let slow = matches!(codec, Codec::Zstd(..));
    let ops = 400_000 / page_size * if slow { 1 } else { 4 };
    for _ in 0..rounds {
        for threads in [1, 2] {
            let length = Length { threads, windows: WINDOWS, ops };
            let bare_row = |_| {
                let mut worker = engine.worker(page_size).expect("a context");
                let (bare, mut to) = (&bare, vec![0; page_size]);
                move |key: usize| {
                    worker.decode(bare.payload(key), &mut to);
                    u64::from(to[0])
                }
            };
            let cache_row = |_| {
                let (cache, mut to) = (&cache, vec![0; page_size]);
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
    let stats = cache.stats();
    // Two pages that share a slot take turns.
    if hot && stats.hot_hits < stats.hits / 10 * 9 {
        return Err(format!("{} of {} hits were hot", stats.hot_hits, stats.hits).into());
    }
    Ok(best)
}

fn print(name: &str, entries: usize, [bare, cache]: [Times; 2], bar: f64) {
    let over = cache[0] - bare[0];
    println!(
        "{name}, {entries} entries: bare {:.0} ns, get_into {:.0} ns: {over:+.0} ns, bar \
         {bar:.0}: {}",
        bare[0],
        cache[0],
        met(over <= bar),
    );
    let scaling = (cache[0] / cache[1]) / (bare[0] / bare[1]);
    println!(
        "    two threads: bare {:.0} ns, get_into {:.0} ns, scaling by the bare row's \
         {scaling:.2}: {}",
        bare[1],
        cache[1],
        met(scaling >= SCALING),
    );
}

fn run(options: &Options) -> Result<(), Failure> {
    let sample = corpus::sample();
    let joined = sample.join(16 << 10).ok_or("the sample has whole pages of 16 KiB")?;
    let files = [sample.cut(4096).ok_or("the sample can be cut")?, joined];
    for file in &files {
        let name = format!("{} at {} KiB", file.name(), file.page_size() >> 10);
        if options.hot {
            for entries in HOT {
                let times = race(file, Codec::Lz4, entries, options.rounds, true)?;
                print(&format!("{name}, hot"), entries, times, HOT_OVER);
            }
            continue;
        }
        let zstd = (file.page_size() == 4096).then_some(Codec::Zstd(3, false));
        for entries in &options.entries {
            for codec in [Codec::Lz4].into_iter().chain(zstd) {
                let times = race(file, codec, *entries, options.rounds, false)?;
                let long = file.page_size() > 8192 || codec != Codec::Lz4;
                let cold = usize::from(*entries > WARM);
                let bar = if long { times[0][0] * PART[cold] } else { OVER[cold] };
                print(&format!("{name}, {codec}"), *entries, times, bar);
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    arguments::run(run)
}
