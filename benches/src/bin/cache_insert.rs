//! What an insert costs, and what random pages cost over storing everything as it is.
//!
//! First caches with room, in which the same keys are replaced over and over, so that no memory is
//! new; then full ones, in which every insert of a new key evicts. Rounds take all rows in turn,
//! and the best of all counts.
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::process::ExitCode;
use std::time::Instant;

use benches::arguments::{self, Failure, count, met};
use benches::codec::Codec;
use clap::Parser;
use tests::{corpus, pattern};
use zcache::{Cache, Config, HotShare};

/// What does an insert cost, and what do random pages cost over storing everything as it is?
#[derive(Debug, Parser)]
#[command(name = "cache_insert")]
struct Options {
    /// Rounds of which the best counts
    #[arg(long, default_value = "30", value_parser = count)]
    rounds: usize,
}

/// Inserts of a window.
const WINDOW: usize = 500;
/// Different pages: few enough to be in the processor's caches, as a page is that was just read.
const PAGES: usize = 48;
const PAGE: usize = 4096;
/// What a random page may cost over `none`, in nanoseconds.
const RANDOM: f64 = 150.0;

/// A cache, and the nanoseconds that an insert takes in the best window.
struct Row {
    name: String,
    cache: Cache<u64>,
    pages: Vec<Vec<u8>>,
    /// Keys come again after so many.
    keys: u64,
    next: u64,
    best: f64,
}

impl Row {
    fn new(
        (what, pages): (&str, &[Vec<u8>]),
        codec: Codec,
        (capacity, keys): (usize, u64),
    ) -> Result<Self, Failure> {
        let config = Config::new(capacity).checksum(false).hot(HotShare::Off);
        let cache = Cache::new(codec.apply(config, &[])?)?;
        let name = format!("{what}, {codec}{}", if keys == u64::MAX { ", full cache" } else { "" });
        Ok(Self { name, cache, pages: pages.to_vec(), keys, next: 0, best: f64::INFINITY })
    }

    fn window(&mut self) {
        let start = Instant::now();
        for page in self.pages.iter().cycle().take(WINDOW) {
            let key = self.next % self.keys;
            self.next += 1;
            self.cache.insert(key, page).expect("room for a page");
        }
        let each = start.elapsed().as_nanos() as f64 / WINDOW as f64;
        self.best = self.best.min(each);
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let noise: Vec<Vec<u8>> = (0..PAGES as u64).map(|seed| pattern::bytes(seed, PAGE)).collect();
    let sample = corpus::sample().cut(PAGE).ok_or("the sample can be cut")?;
    let real: Vec<Vec<u8>> = sample.pages().step_by(29).map(<[u8]>::to_vec).collect();
    let same = vec![vec![0; PAGE]; PAGES];
    let (roomy, full) = ((64 << 20, WINDOW as u64), (16 << 20, u64::MAX));
    let codecs = [Codec::None, Codec::Lz4, Codec::Zstd(3, false)];
    let (noise, real) = (("random pages", &noise[..]), ("real pages", &real[..]));
    let mut rows = Vec::new();
    for pages in [noise, real] {
        for codec in codecs {
            rows.push(Row::new(pages, codec, roomy)?);
        }
    }
    rows.push(Row::new(("zeros", &same), Codec::Lz4, roomy)?);
    for (pages, codec) in [(noise, Codec::None), (noise, Codec::Lz4), (real, Codec::Lz4)] {
        let mut row = Row::new(pages, codec, full)?;
        // Full before the first window counts.
        while row.cache.stats().removals.evicted == 0 {
            row.window();
        }
        row.best = f64::INFINITY;
        rows.push(row);
    }
    for _ in 0..options.rounds {
        rows.iter_mut().for_each(Row::window);
    }
    rows.iter().for_each(|row| println!("{:<34} {:>8.0} ns", row.name, row.best));
    let over = rows[1].best - rows[0].best;
    println!("random pages over none: {over:.0} ns, bar {RANDOM}: {}", met(over <= RANDOM));
    Ok(())
}

fn main() -> ExitCode {
    arguments::run(run)
}
