//! What an insert costs, and what random pages cost over storing everything as it is.
//!
//! First caches with room, in which the same keys are replaced over and over, so that no memory is new;
//! then full ones, in which every insert of a new key evicts. Rounds take all rows in turn, and the
//! best of all counts.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

use std::process::ExitCode;
use std::time::Instant;

use benches::packing::Failure;
use benches::program;
use lexopt::prelude::*;
use serde_json::json;
use tests::{corpus, pattern};
use zcache::codec::{self, Codec, Lz4, Zstd};
use zcache::{Cache, Config, Share};

const USAGE: &str = "\
usage: cache_insert [options]

  --rounds N        rounds of which the best counts (default 30)
  --json            JSON instead of a table
";

/// Inserts of a window.
const WINDOW: usize = 500;
/// Different pages: few enough to be in the processor's caches, as a page is that was just read.
const PAGES: usize = 48;
const PAGE: usize = 4096;
/// What a random page may cost over `None`, in nanoseconds.
const RANDOM: f64 = 150.0;

struct Options {
    rounds: usize,
    json: bool,
}

fn options() -> Result<Option<Options>, Failure> {
    let mut options = Options { rounds: 30, json: false };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("json") => options.json = true,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected().into()),
        }
    }
    if options.rounds == 0 {
        return Err("--rounds is 1 or more".into());
    }
    Ok(Some(options))
}

/// Nanoseconds an insert takes in the best window.
struct Row {
    name: &'static str,
    cache: Cache<u64>,
    pages: Vec<Vec<u8>>,
    /// Keys come again after so many.
    keys: u64,
    next: u64,
    best: f64,
}

impl Row {
    fn new(
        name: &'static str,
        codec: impl Codec + 'static,
        (capacity, keys): (usize, u64),
        pages: &[Vec<u8>],
    ) -> Result<Self, Failure> {
        let cache =
            Cache::new(Config::new(capacity).codec(codec).checksum(false).hot(Share::None))?;
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
    let mut rows = [
        Row::new("random pages, none", codec::None, roomy, &noise)?,
        Row::new("random pages, lz4", Lz4, roomy, &noise)?,
        Row::new("random pages, zstd:3", Zstd::level(3)?, roomy, &noise)?,
        Row::new("real pages, none", codec::None, roomy, &real)?,
        Row::new("real pages, lz4", Lz4, roomy, &real)?,
        Row::new("real pages, zstd:3", Zstd::level(3)?, roomy, &real)?,
        Row::new("zeros, lz4", Lz4, roomy, &same)?,
        Row::new("random pages, none, full cache", codec::None, full, &noise)?,
        Row::new("random pages, lz4, full cache", Lz4, full, &noise)?,
        Row::new("real pages, lz4, full cache", Lz4, full, &real)?,
    ];
    for row in &mut rows[7..] {
        // Full before the first window counts.
        while row.cache.stats().gone.evicted == 0 {
            row.window();
        }
        row.best = f64::INFINITY;
    }
    for _ in 0..options.rounds {
        rows.iter_mut().for_each(Row::window);
    }
    let over = rows[1].best - rows[0].best;
    if options.json {
        let rows: Vec<_> =
            rows.iter().map(|row| json!({ "row": row.name, "ns": row.best.round() })).collect();
        println!("{}", json!({ "insert": rows, "random_over_none_ns": over.round() }));
        return Ok(());
    }
    rows.iter().for_each(|row| println!("{:<34} {:>8.0} ns", row.name, row.best));
    let word = if over <= RANDOM { "met" } else { "MISSED" };
    println!("random pages over none: {over:.0} ns, bar {RANDOM}: {word}");
    Ok(())
}

fn main() -> ExitCode {
    program::run("cache_insert", USAGE, options(), run)
}
