//! Rows of a suite that need no trace: density by population, and hits by threads.

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ::tests::corpus::PageFile;
use serde_json::{Value, json};
use zcache::{Cache, Config, Share};
use zpool::SourceKind;
use zpool::source::MmapOptions;

use crate::codec::{Codec, Payloads};
use crate::kernel::{self, Modelled};
use crate::order::Order;
use crate::packing::{Allocator, Failure, fill};
use crate::pooled::Pooled;

/// Objects of the rows of density.
pub const POPULATIONS: [usize; 5] = [2_000, 5_000, 20_000, 60_000, 200_000];
/// Threads of the rows of scaling.
pub const THREADS: [usize; 4] = [1, 2, 4, 8];
/// Entries of a cache that is read by threads.
pub const ENTRIES: usize = 30_000;
/// Rounds, which take all caches in turn; the best one counts.
const ROUNDS: usize = 40;
/// How long threads read in a round: so long that those beyond the cores take turns in it.
const WINDOW: Duration = Duration::from_millis(10);

/// Payload per byte held after a fill by LZ4 payloads of `file`, in a pool and by the kernel's rules.
/// Where pages of the file are larger than the kernel's, its column is that of the same bytes cut.
///
/// # Errors
/// What the codec or an allocator reports.
pub fn density(file: &PageFile, populations: &[usize]) -> Result<Vec<Value>, Failure> {
    let payloads = Payloads::compress(file, Codec::Lz4)?;
    let cut = match file.page_size() > kernel::PAGE {
        true => file.cut(kernel::PAGE).map(|file| Payloads::compress(&file, Codec::Lz4)),
        false => None,
    };
    let cut = cut.transpose()?;
    let pieces = cut.as_ref().unwrap_or(&payloads);
    let parts = pieces.count() / payloads.count();
    let row = |objects: &usize| {
        let source = SourceKind::Mmap(MmapOptions::new());
        let ours = filled(Pooled::new(&payloads, source)?, &payloads, *objects)?;
        let theirs = filled(Modelled::new(pieces), pieces, objects * parts)?;
        let rounded = |density: f64| (density * 1e6).round() / 1e6;
        Ok(json!({
            "pages": file.name(), "objects": objects,
            "zcache": rounded(ours), "kernel": rounded(theirs),
        }))
    };
    populations.iter().map(row).collect()
}

fn filled<A: Allocator>(
    mut allocator: A,
    payloads: &Payloads,
    objects: usize,
) -> Result<f64, Failure> {
    let mut order = Order::new(payloads.count(), 0);
    let live = fill(&mut allocator, &mut order, objects)?;
    Ok(allocator.held(&live)?.density())
}

/// Puts the page of a key into the buffer and says whether there was one.
pub type Get<'a> = &'a (dyn Fn(u64, &mut [u8]) -> bool + Sync);

/// Hits per second of each of `caches`, which hold the keys below `entries`, by as many threads as
/// `threads` says, each on random keys.
///
/// # Panics
/// A cache does not hold a key.
#[must_use]
pub fn scaling(
    caches: &[(&str, Get<'_>)],
    page_size: usize,
    entries: usize,
    threads: &[usize],
) -> Vec<Value> {
    let mut best = vec![vec![0.0_f64; threads.len()]; caches.len()];
    for _ in 0..ROUNDS {
        for (at, threads) in threads.iter().enumerate() {
            for ((_, get), best) in caches.iter().zip(&mut best) {
                best[at] = best[at].max(hits_per_second(*get, page_size, entries, *threads));
            }
        }
    }
    let rows = caches.iter().zip(best).flat_map(|((cache, _), best)| {
        let row = |(threads, best): (&usize, f64)| {
            json!({ "cache": cache, "threads": threads, "hits_per_second": best as u64 })
        };
        threads.iter().zip(best).map(row).collect::<Vec<_>>()
    });
    rows.collect()
}

/// What threads get done together from their common start until they are told to stop.
fn hits_per_second(get: Get<'_>, page_size: usize, entries: usize, threads: usize) -> f64 {
    let (start, stop) = (Barrier::new(threads + 1), AtomicBool::new(false));
    let read = || {
        let (mut rng, mut to) = (fastrand::Rng::new(), vec![0; page_size]);
        let mut hits = 0_u64;
        start.wait();
        while !stop.load(Ordering::Relaxed) {
            assert!(get(rng.u64(..entries as u64), &mut to), "a hit");
            hits += 1;
        }
        hits
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..threads).map(|_| scope.spawn(read)).collect();
        start.wait();
        let began = Instant::now();
        thread::sleep(WINDOW);
        stop.store(true, Ordering::Relaxed);
        let elapsed = began.elapsed();
        let hits = readers.into_iter().map(|reader| reader.join().expect("every key is held"));
        hits.sum::<u64>() as f64 / elapsed.as_secs_f64()
    })
}

/// The rows of [`scaling`] for a cache of LZ4 pages of `file`.
///
/// # Errors
/// The cache's.
pub fn own_scaling(
    file: &PageFile,
    entries: usize,
    threads: &[usize],
) -> Result<Vec<Value>, Failure> {
    let page_size = file.page_size();
    // Room for everything: what is measured is hits.
    let config =
        Config::new(entries * (page_size + 200) + (64 << 20)).max_page(page_size).hot(Share::None);
    let cache: Cache<u64> = Cache::new(config.checksum(false))?;
    let pages = file.pages().len();
    for key in 0..entries {
        cache.insert(key as u64, file.page(key % pages))?;
    }
    let get = |key, to: &mut [u8]| cache.get_into(&key, to).is_ok_and(|len| len.is_some());
    Ok(scaling(&[("zcache", &get)], page_size, entries, threads))
}

/// Puts `rows` into the list `name` of the suite in the file at `path`, in the place of those that have the
/// same `key`.
///
/// # Errors
/// One line that names the file: it cannot be read or written, or holds no suite.
pub fn put(path: &Path, name: &str, key: &str, rows: Vec<Value>) -> Result<(), Failure> {
    let told = |error: &dyn std::fmt::Display| -> Failure {
        format!("{}: {error}", path.display()).into()
    };
    let text = fs::read_to_string(path).map_err(|error| told(&error))?;
    let mut suite: Value = serde_json::from_str(&text).map_err(|error| told(&error))?;
    let list = match suite.as_object_mut() {
        Some(suite) if suite.get("kind").is_some_and(|kind| kind == "suite") => {
            suite.entry(name).or_insert_with(|| json!([]))
        }
        _ => return Err(told(&"no suite")),
    };
    if list.is_null() {
        *list = json!([]);
    }
    let list = list.as_array_mut().ok_or_else(|| told(&format_args!("`{name}` is no list")))?;
    list.retain(|row| rows.iter().all(|new| new[key] != row[key]));
    list.extend(rows);
    let mut text = serde_json::to_string_pretty(&suite)?;
    text.push('\n');
    // Never half a file: what a suite has measured took long.
    let fresh = path.with_extension("json.new");
    fs::write(&fresh, text).map_err(|error| told(&error))?;
    fs::rename(&fresh, path).map_err(|error| told(&error))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::packing::Course;

    #[test]
    fn density_is_what_the_course_has_after_its_fill() {
        let file = ::tests::corpus::sample();
        let rows = density(&file, &[300, 900]).expect("rows");
        let payloads = Payloads::compress(&file, Codec::Lz4).expect("payloads");
        let source = SourceKind::Mmap(MmapOptions::new());
        let mut pool = Pooled::new(&payloads, source).expect("a pool");
        let course = Course::run(&mut pool, payloads.count(), 900, 0).expect("a course");
        assert_eq!((&rows[0]["objects"], &rows[1]["objects"]), (&json!(300), &json!(900)));
        let off = rows[1]["zcache"].as_f64().expect("a figure") - course.fill.density();
        assert!(off.abs() < 1e-6, "{off}");
        let cut = Payloads::compress(&file.cut(4096).expect("pages"), Codec::Lz4).expect("cut");
        let course = Course::run(&mut Modelled::new(&cut), cut.count(), 1800, 0).expect("a course");
        let off = rows[1]["kernel"].as_f64().expect("a figure") - course.fill.density();
        assert!(off.abs() < 1e-6, "{off}");
    }

    #[test]
    fn each_cache_has_a_row_for_each_number_of_threads_and_no_hit_counts_twice() {
        let gets = [AtomicUsize::new(0), AtomicUsize::new(0)];
        let count = |at: usize| gets[at].fetch_add(1, Ordering::Relaxed) < usize::MAX;
        let one = |_, _: &mut [u8]| count(0);
        let other = |_, _: &mut [u8]| count(1);
        let rows = scaling(&[("one", &one), ("other", &other)], 16, 100, &[1, 3]);
        let of = |row: &Value| (row["cache"].clone(), row["threads"].clone());
        let named = [("one", 1), ("one", 3), ("other", 1), ("other", 3)];
        assert_eq!(
            rows.iter().map(of).collect::<Vec<_>>(),
            named.map(|(cache, threads)| (json!(cache), json!(threads)))
        );
        let gets = gets.map(|gets| gets.into_inner() as f64);
        for (row, gets) in rows.iter().zip([gets[0], gets[0], gets[1], gets[1]]) {
            let in_a_window = row["hits_per_second"].as_f64().unwrap() * WINDOW.as_secs_f64();
            assert!(in_a_window > 1.0 && in_a_window <= gets, "{row}, {gets} in all");
        }
        let file = ::tests::corpus::sample();
        let rows = own_scaling(&file, 200, &[1]).expect("rows");
        assert!(rows.len() == 1 && rows[0]["hits_per_second"].as_u64() > Some(100), "{rows:?}");
    }

    #[test]
    fn new_rows_take_the_place_of_those_with_the_same_key_and_touch_nothing_else() {
        let path = std::env::temp_dir().join(format!("measure-{}.json", std::process::id()));
        let row = |cache: &str, hits: u32| json!({ "cache": cache, "hits_per_second": hits });
        let suite = json!({ "kind": "suite", "rows": [1], "scaling": [row("a", 1), row("b", 2)] });
        fs::write(&path, suite.to_string()).unwrap();
        put(&path, "scaling", "cache", vec![row("a", 3), row("a", 4)]).unwrap();
        put(&path, "density", "pages", vec![json!({ "pages": "p" })]).unwrap();
        let suite: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let wanted = json!({
            "kind": "suite", "rows": [1], "scaling": [row("b", 2), row("a", 3), row("a", 4)],
            "density": [{ "pages": "p" }],
        });
        assert_eq!(suite, wanted);
        for text in ["{", "[]", "{\"kind\":\"run\"}", "{\"kind\":\"suite\",\"scaling\":1}"] {
            fs::write(&path, text).unwrap();
            let error = put(&path, "scaling", "cache", Vec::new()).unwrap_err().to_string();
            assert!(error.starts_with(path.to_str().unwrap()) && error.lines().count() == 1);
        }
        fs::remove_file(&path).unwrap();
        assert!(put(&path, "scaling", "cache", Vec::new()).is_err());
    }
}
