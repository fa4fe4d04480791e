//! What stands around a suite's rows: the machine, the versions, what the allocator packs, how hits scale.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use ::tests::corpus::{self, PageFile};
use benches::codec::{Codec, Payloads};
use benches::kernel::{self, Modelled};
use benches::packing::{Course, Failure};
use benches::pooled::Pooled;
use serde_json::{Map, Value, json};

use crate::pairs;
use crate::table::figure;

const LOCK: &str = include_str!("../../../../Cargo.lock");
/// Packages whose versions are told.
const PACKAGES: [&str; 9] = [
    "zcache",
    "moka",
    "quick_cache",
    "foyer-memory",
    "lz4",
    "lz4_flex",
    "zstd",
    "mimalloc",
    "tikv-jemallocator",
];
/// Objects of the density figures.
const OBJECTS: usize = 20_000;
/// The version of a package in the lock file.
fn version(package: &str) -> Option<&'static str> {
    let mut lines = LOCK.lines();
    let name = format!("name = \"{package}\"");
    lines.find(|line| **line == *name)?;
    lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')
}

/// The day in the world's time, as 2026-11-25.
fn date() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Days from the first of March of the year 0, in eras of 400 years.
    let days = now / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// All but the results.
pub(crate) fn head(full: bool) -> Value {
    let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    let rustc = Command::new("rustc").arg("--version").output().ok();
    let rustc = rustc.and_then(|output| String::from_utf8(output.stdout).ok());
    let word = rustc.as_deref().and_then(|text| text.split_whitespace().nth(1));
    let versions = PACKAGES.map(|name| (name.to_owned(), json!(version(name))));
    let mut versions: Map<String, Value> = versions.into_iter().collect();
    versions.insert("rustc".into(), json!(word));
    json!({
        "kind": "suite", "date": date(),
        "machine": {
            "cpu": cpu, "cores": std::thread::available_parallelism().map_or(1, usize::from),
            "kernel": kernel.as_deref().map(str::trim),
        },
        "versions": versions, "full": full,
    })
}

/// What the allocator under the cache holds of the LZ4 payloads of a trace's pages by all bytes it takes, beside
/// the kernel's rules: after 4x random replacement and compaction. A file of larger pages is cut for the
/// kernel.
pub(crate) fn density(trace: &str) -> Result<Value, Failure> {
    let file = match pairs::pages_of(trace) {
        Some(name) => PageFile::read(&pairs::locate(name, pairs::Place::Pages)?, None)?,
        None => corpus::sample(),
    };
    packed(&file)
}

fn packed(file: &PageFile) -> Result<Value, Failure> {
    let payloads = Payloads::compress(file, Codec::Lz4C)?;
    let mut pool = Pooled::of_sizes(&payloads)?;
    let ours = Course::run(&mut pool, payloads.count(), OBJECTS, 1)?;
    let cut = file.cut(kernel::PAGE).ok_or("pages of 4 KiB or more")?;
    let pieces = Payloads::compress(&cut, Codec::Lz4C)?;
    let mut model = Modelled::new(&pieces);
    let parts = file.page_size() / kernel::PAGE;
    let theirs = Course::run(&mut model, pieces.count(), OBJECTS * parts, 1)?;
    let rounded = |share: f64| (share * 1e4).round() / 1e4;
    Ok(json!({
        "pages": file.name(), "objects": OBJECTS,
        "zcache": rounded(ours.compacted.density()), "kernel": rounded(theirs.compacted.density()),
    }))
}

/// Hits a second of one thread and of two, from the first trace that was timed.
pub(crate) fn scaling(rows: &[Value]) -> Vec<Value> {
    let timed = |row: &&Value| figure(row, "hit_ns").is_some() && row["codec"] == "lz4";
    let Some(first) = rows.iter().find(timed) else { return Vec::new() };
    let same = |row: &&Value| {
        row["trace"] == first["trace"] && row["percent"] == first["percent"] && timed(row)
    };
    let mut scaling = Vec::new();
    let mut seen = Vec::new();
    for row in rows.iter().filter(same) {
        if seen.contains(&&row["cache"]) {
            continue;
        }
        seen.push(&row["cache"]);
        for (threads, name) in [(1, "hit_ns"), (2, "hit_ns_two")] {
            let hits = figure(row, name).map(|ns| (f64::from(threads) * 1e9 / ns).round());
            let cache = &row["cache"];
            scaling.push(json!({ "cache": cache, "threads": threads, "hits_per_second": hits }));
        }
    }
    scaling
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_the_date_are_known() {
        assert!(PACKAGES.iter().all(|name| version(name).is_some()));
        assert_eq!(version("no-such-package"), None);
        let date = date();
        assert!(date.len() == 10 && *date >= *"2026", "{date}");
    }

    #[test]
    fn the_allocator_packs_the_sample() {
        let row = packed(&corpus::sample()).unwrap();
        let [ours, theirs] = ["zcache", "kernel"].map(|name| figure(&row, name).unwrap());
        assert!((0.9..1.0).contains(&ours) && (0.9..1.0).contains(&theirs), "{row}");
    }
}
