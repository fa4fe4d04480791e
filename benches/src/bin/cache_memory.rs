//! What a cache holds in its capacity: payload by resident memory, and what an entry costs beside
//! it.
//!
//! For each page file a cache is filled, and then as many entries as it holds are replaced four
//! times over by pages under random new keys. Resident memory is what the system says that the
//! process grew by. Each row is measured in a process of its own: what a cache gives back may stay
//! with its process.
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use benches::arguments::{self, Failure, met, page_files};
use benches::codec::Codec;
use benches::memory::Memory;
use clap::Parser;
use tests::corpus::{self, PageFile};
use zcache::{Cache, Config, HotShare, HugePages};

/// What does a cache hold in its capacity, and what does an entry take beside its payload?
#[derive(Debug, Parser)]
#[command(name = "cache_memory")]
struct Options {
    /// A page file, or a directory of them (default: the sample)
    #[arg(long)]
    pages: Option<PathBuf>,
    /// Capacities in MiB, or in KiB as in 256k
    #[arg(long, value_delimiter = ',', default_value = "64", value_parser = mebibytes)]
    capacity: Vec<usize>,
    /// lz4, zstd:LEVEL, none
    #[arg(long, default_value = "lz4")]
    codec: Codec,
    /// With huge pages, where the system has them
    #[arg(long)]
    huge: bool,
    /// Only what an entry costs beside its payload
    #[arg(long)]
    entries_only: bool,
    /// Measures one row, in this process
    #[arg(long, hide = true)]
    row: bool,
}

/// Bytes an entry is allowed beside its payload: on average over a doubling of the index, and at
/// worst.
const ENTRY: [f64; 2] = [48.0, 60.0];
/// The least payload by (resident - 48 B an entry): below 256 MiB of capacity, and above.
const PAYLOAD: [f64; 2] = [0.95, 0.97];
/// The least payload by pages of the pool, below a capacity: of these, and above.
const PACKING: [(usize, f64); 3] = [(512 << 10, 0.85), (1 << 20, 0.90), (4 << 20, 0.93)];
const PACKING_LARGE: f64 = 0.95;
/// Looks at a cache while its entries are replaced.
const SAMPLES: usize = 64;
/// The least part of the capacity that is resident in the end.
const RESIDENT: f64 = 0.97;
/// How far growth may pass the capacity: stacks, the allocator's own rounding, this program.
const ALLOWANCE: f64 = (1 << 20) as f64;

/// What `256k` or `64` say, in bytes.
fn mebibytes(text: &str) -> Result<usize, String> {
    let unit = if text.ends_with('k') { "KiB" } else { "MiB" };
    Ok(arguments::bytes(&format!("{}{unit}", text.trim_end_matches('k')))? as usize)
}

/// Prints what a cache of this capacity holds of the file's pages.
fn turnover(options: &Options, file: &PageFile, capacity: usize) -> Result<(), Failure> {
    let memory = Memory::own().ok();
    let resident = || memory.as_ref().and_then(|memory| memory.resident().ok());
    let before = resident();
    let huge_pages = if options.huge { HugePages::Auto } else { HugePages::Off };
    let config =
        Config::new(capacity).max_page(file.page_size()).checksum(false).hot(HotShare::Off);
    let config = options.codec.apply(config.huge_pages(huge_pages), &[])?;
    let cache: Cache<u64> = Cache::new(config)?;
    let mut random = fastrand::Rng::with_seed(7);
    let count = file.pages().len();
    let mut insert = |key: u64| cache.insert(key, file.page(random.usize(..count)));
    let (mut key, mut peak) = (0, 0);
    while cache.stats().removals.evicted == 0 && key < 1 << 26 {
        for _ in 0..1000 {
            insert(key)?;
            key += 1;
        }
    }
    let all = 4 * cache.len();
    // What a small cache holds at one instant says little.
    let (mut packing, mut samples) = (0.0, 0.0);
    for at in 0..all {
        insert(key)?;
        key += 1;
        peak = peak.max(cache.held_bytes());
        if at > all / 4 && at % (all / SAMPLES).max(1) == 0 {
            let bytes = cache.stats().bytes;
            packing += bytes.payload as f64 / bytes.pages as f64;
            samples += 1.0;
        }
    }
    let packing = packing / samples;
    let small = PACKING.iter().find(|(below, _)| capacity < *below);
    let packing_bar = small.map_or(PACKING_LARGE, |(_, bar)| *bar);
    let stats = cache.stats();
    let (held, bytes) = (stats.bytes.held as f64, capacity as f64);
    let growth = before.zip(resident()).map(|(before, now)| now.saturating_sub(before) as f64);
    let entries = stats.entries as f64;
    let beside = growth.unwrap_or(held).max(held) - ENTRY[0] * entries;
    let share = stats.bytes.payload as f64 / beside;
    let is_within =
        growth.is_none_or(|growth| growth <= bytes + ALLOWANCE && growth / bytes >= RESIDENT);
    println!(
        "{:<22} {entries:>8} {:>9.0} {:>6.2}x {:>7.4} {:>7.4} {:>9.4} {:<6} {share:>8.4} {:<6} \
         {packing:>8.4} {}",
        file.name(),
        entries * f64::from(1 << 20) / bytes,
        stats.effective_ratio(),
        held / bytes,
        peak as f64 / bytes,
        growth.map_or(f64::NAN, |growth| growth / bytes),
        met(is_within),
        met(share >= PAYLOAD[usize::from(capacity >= 256 << 20)]),
        met(packing >= packing_bar),
    );
    Ok(())
}

/// Prints the bytes that an entry of a `u64` key takes beside its payload, over one doubling of the
/// index.
fn entry() -> Result<(), Failure> {
    let config = Config::new(256 << 20).checksum(false).shards(64).hot(HotShare::Off);
    let cache: Cache<u64> = Cache::new(config)?;
    let page = [0; 4096];
    let mut key = 0_u64;
    let mut insert = |until: usize| -> Result<(), Failure> {
        while cache.len() < until {
            cache.insert(key, &page)?;
            key += 1;
        }
        Ok(())
    };
    let empty = cache.held_bytes();
    let each = |entries: usize| (cache.held_bytes() - empty) as f64 / entries as f64;
    // Tables of 64 shards double at around 448 entries a shard times a power of two.
    let (start, end) = (64 * 448 * 4, 64 * 448 * 8);
    insert(start)?;
    let (mut sum, mut samples, mut worst) = (0.0, 0.0, 0.0_f64);
    for step in 0..=64 {
        let entries = start + (end - start) * step / 64;
        insert(entries)?;
        (sum, samples, worst) = (sum + each(entries), samples + 1.0, worst.max(each(entries)));
    }
    let mean = sum / samples;
    println!(
        "an entry of a u64 key takes, beside its payload, over a doubling of the index:\n\
         {mean:.1} B on average, bar {}; {worst:.1} B at worst, bar {}: {}",
        ENTRY[0],
        ENTRY[1],
        met(mean <= ENTRY[0] && worst <= ENTRY[1])
    );
    Ok(())
}

/// Has the row of one file and capacity measured by a process of its own, which prints it.
fn measured(options: &Options, file: Option<&Path>, capacity: usize) -> Result<(), Failure> {
    let mut process = Command::new(std::env::current_exe()?);
    process.args(["--row", "--capacity", &format!("{}k", capacity >> 10)]);
    process.args(["--codec", &options.codec.to_string()]);
    process.args(options.huge.then_some("--huge"));
    if let Some(file) = file {
        process.arg("--pages").arg(file);
    }
    match process.stdin(Stdio::null()).status()?.success() {
        true => Ok(()),
        false => Err("a row could not be measured".into()),
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    if options.row {
        let file = page_files(options.pages.as_deref())?.swap_remove(0);
        return turnover(options, &file, options.capacity[0]);
    }
    let paths: Vec<Option<PathBuf>> = match &options.pages {
        Some(path) => corpus::files(path)?.into_iter().map(Some).collect(),
        None => vec![None],
    };
    entry()?;
    for capacity in options.capacity.iter().filter(|_| !options.entries_only) {
        println!("\n{} KiB, {}, after 4x random replacement", capacity >> 10, options.codec);
        println!(
            "{:<22} {:>8} {:>9} {:>7} {:>7} {:>7} {:>9}        {:>8}        {:>8}",
            "", "entries", "pages/MiB", "all-in", "held", "peak", "resident", "payload", "packing"
        );
        for path in &paths {
            measured(options, path.as_deref(), *capacity)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    arguments::run(run)
}
