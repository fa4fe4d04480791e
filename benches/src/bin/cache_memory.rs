//! What a cache holds in its capacity: payload by resident memory, and what an entry costs beside it.
//!
//! For each page file a cache is filled, and then as many entries as it holds are replaced four times over by
//! pages under random new keys. Resident memory is what the system says the process grew by.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

use std::fs;
use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use benches::codec::Codec as Name;
use benches::packing::Failure;
use benches::program;
use lexopt::prelude::*;
use serde_json::{Value, json};
use tests::corpus::{self, PageFile};
use zcache::codec::{self, Lz4, Zstd};
use zcache::{Cache, Config, HugePages, Share};

const USAGE: &str = "\
usage: cache_memory [options]

  --pages PATH      a page file, or a directory of them (default: the sample)
  --capacity MIB    capacities in MiB, or in KiB as in 256k (default 64)
  --codec CODEC     lz4 (default), zstd:LEVEL, none
  --huge            with huge pages, where the system has them
  --entries-only    only what an entry costs beside its payload
  --json            one line of JSON a row

Each row is measured in a process of its own: what one gives back may stay with its process.
";

/// Bytes an entry is allowed beside its payload: on average over a doubling of the index, and at worst.
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
/// What growth may pass the capacity by: stacks, the allocator's own rounding, this program.
const ALLOWANCE: f64 = (1 << 20) as f64;

struct Options {
    pages: Option<PathBuf>,
    capacity: Vec<usize>,
    codec: Name,
    huge: bool,
    entries_only: bool,
    json: bool,
    /// Measure one row, here.
    row: bool,
}

/// What `256k` or `64` say, in bytes.
fn bytes(text: &str) -> Result<usize, ParseIntError> {
    match text.strip_suffix('k') {
        Some(kib) => Ok(kib.parse::<usize>()? << 10),
        None => Ok(text.parse::<usize>()? << 20),
    }
}

fn options() -> Result<Option<Options>, Failure> {
    let mut options = Options {
        pages: None,
        capacity: vec![64 << 20],
        codec: Name::Lz4,
        huge: false,
        entries_only: false,
        json: false,
        row: false,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("pages") => options.pages = Some(parser.value()?.into()),
            Long("capacity") => {
                let capacity = parser.value()?.string()?;
                options.capacity = capacity.split(',').map(bytes).collect::<Result<_, _>>()?;
            }
            Long("codec") => options.codec = parser.value()?.string()?.parse()?,
            Long("huge") => options.huge = true,
            Long("entries-only") => options.entries_only = true,
            Long("json") => options.json = true,
            Long("row") => options.row = true,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(Some(options))
}

/// Anonymous and shared memory of this process, in bytes; exact, and so slow.
fn resident() -> Option<f64> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let field = |name: &str| -> Option<f64> {
        let line = rollup.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let shmem = field("Pss_Shmem:").unwrap_or(0.0);
    Some((field("Anonymous:")? + shmem) * 1024.0)
}

fn config(options: &Options, capacity: usize, max_page: usize) -> Result<Config, Failure> {
    let huge_pages = if options.huge { HugePages::Auto } else { HugePages::Off };
    let config = Config::new(capacity).max_page(max_page).checksum(false).hot(Share::None);
    let config = config.huge_pages(huge_pages);
    Ok(match options.codec {
        Name::None => config.codec(codec::None),
        Name::Zstd(level) => config.codec(Zstd::level(level)?),
        _ => config.codec(Lz4),
    })
}

fn turnover(options: &Options, file: &PageFile, capacity: usize) -> Result<Value, Failure> {
    let before = resident();
    let cache: Cache<u64> = Cache::new(config(options, capacity, file.page_size())?)?;
    let fixed = cache.held_bytes();
    let mut random = fastrand::Rng::with_seed(7);
    let count = file.pages().len();
    let mut insert = |key: u64| cache.insert(key, file.page(random.usize(..count)));
    let (mut key, mut peak) = (0, 0);
    while cache.stats().gone.evicted == 0 && key < 1 << 26 {
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
    let stats = cache.stats();
    let held = stats.bytes.held as f64;
    let growth = before.zip(resident()).map(|(before, now)| now - before);
    let entries = stats.entries as f64;
    let payload = stats.bytes.payload as f64;
    let share = payload / (growth.unwrap_or(held).max(held) - ENTRY[0] * entries);
    let bar = PAYLOAD[usize::from(capacity >= 256 << 20)];
    let resident_share = growth.map(|growth| growth / capacity as f64);
    let within = growth.is_none_or(|growth| growth <= capacity as f64 + ALLOWANCE);
    let enough = resident_share.is_none_or(|share| share >= RESIDENT);
    Ok(json!({
        "pages": file.name(), "codec": options.codec.to_string(), "capacity": capacity, "fixed": fixed,
        "packing": rounded(packing), "packing_met": packing >= packing_bar(capacity),
        "entries": stats.entries, "pages_per_mib": (entries * (1 << 20) as f64 / capacity as f64).round(),
        "ratio": rounded(stats.effective_ratio()),
        "held": rounded(held / capacity as f64), "peak_held": rounded(peak as f64 / capacity as f64),
        "resident": resident_share.map(rounded), "resident_met": within && enough,
        "payload_share": rounded(share), "payload_bar": bar, "payload_met": share >= bar,
    }))
}

fn packing_bar(capacity: usize) -> f64 {
    let small = PACKING.iter().find(|(below, _)| capacity < *below);
    small.map_or(PACKING_LARGE, |(_, bar)| *bar)
}

fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

/// Bytes an entry of a `u64` key takes beside its payload, over one doubling of the index.
fn entry() -> Result<Value, Failure> {
    let cache: Cache<u64> =
        Cache::new(Config::new(256 << 20).checksum(false).shards(64).hot(Share::None))?;
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
    Ok(json!({
        "entry_bytes": rounded(mean), "entry_bytes_worst": rounded(worst),
        "entry_met": mean <= ENTRY[0] && worst <= ENTRY[1],
    }))
}

/// The row of one file and capacity, by a process of its own.
fn measured(options: &Options, file: Option<&Path>, capacity: usize) -> Result<Value, Failure> {
    let mut process = Command::new(std::env::current_exe()?);
    process.args(["--row", "--capacity", &format!("{}k", capacity >> 10)]);
    process.args(["--codec", &options.codec.to_string()]);
    if options.huge {
        process.arg("--huge");
    }
    if let Some(file) = file {
        process.arg("--pages").arg(file);
    }
    let output = process.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err("a row could not be measured".into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn print_row(row: &Value) {
    let met = |name: &str| if row[name] == true { "met" } else { "MISSED" };
    let number = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
    println!(
        "{:<22} {:>8} {:>9} {:>6.2}x {:>7.4} {:>7.4} {:>9.4} {:<6} {:>8.4} {:<6} {:>8.4} {}",
        row["pages"].as_str().unwrap_or_default(),
        row["entries"],
        row["pages_per_mib"],
        number("ratio"),
        number("held"),
        number("peak_held"),
        number("resident"),
        met("resident_met"),
        number("payload_share"),
        met("payload_met"),
        number("packing"),
        met("packing_met"),
    );
}

fn run(options: &Options) -> Result<(), Failure> {
    let paths: Vec<Option<PathBuf>> = match &options.pages {
        Some(path) => corpus::files(path)?.into_iter().map(Some).collect(),
        None => vec![None],
    };
    if options.row {
        let file = match &paths[0] {
            Some(path) => PageFile::read(path, None)?,
            None => corpus::sample(),
        };
        println!("{}", turnover(options, &file, options.capacity[0])?);
        return Ok(());
    }
    let row = entry()?;
    if options.json {
        println!("{row}");
    } else {
        let met = if row["entry_met"] == true { "met" } else { "MISSED" };
        let (mean, worst) = (&row["entry_bytes"], &row["entry_bytes_worst"]);
        println!("an entry of a u64 key takes, beside its payload, over a doubling of the index:");
        println!(
            "{mean} B on average, bar {}; {worst} B at worst, bar {}: {met}",
            ENTRY[0], ENTRY[1]
        );
    }
    for capacity in options.capacity.iter().filter(|_| !options.entries_only) {
        if !options.json {
            println!("\n{} KiB, {}, after 4x random replacement", capacity >> 10, options.codec);
            println!(
                "{:<22} {:>8} {:>9} {:>7} {:>7} {:>7} {:>9}        {:>8}        {:>8}",
                "",
                "entries",
                "pages/MiB",
                "all-in",
                "held",
                "peak",
                "resident",
                "payload",
                "packing"
            );
        }
        for path in &paths {
            let row = measured(options, path.as_deref(), *capacity)?;
            if options.json { println!("{row}") } else { print_row(&row) }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    program::run("cache_memory", USAGE, options(), run)
}
