//! Does compaction hold readers up? Hits of 4 KiB LZ4 pages, timed one by one, while another thread
//! compacts the cache, and while it only computes. Counted are hits that begin and end while it does;
//! criterion tells the mean, the lines below it the median, 99 % and 99.9 %.
#![allow(missing_docs, reason = "criterion's macros make a public function")]
#![allow(clippy::print_stdout, reason = "a bench's answer")]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use benches::subject::{cache, codecs, pages, scaled};
use criterion::{Criterion, criterion_group, criterion_main};
use tests::corpus::PageFile;
use zcache::Cache;

const PAGE: usize = 4096;
const ENTRIES: usize = 30_000;
/// Hits of a sample at the least: what is fragmented for one has to be worth it.
const HITS: u64 = 10_000;
/// Bytes that a step of compaction moves.
const BUDGET: usize = 16 << 10;

/// What the other thread does.
#[derive(Debug, Clone, Copy)]
enum Beside {
    Computing,
    Compacting,
}

struct Scene {
    cache: Cache<u64>,
    file: PageFile,
    entries: u64,
    /// The other thread is at it.
    busy: AtomicBool,
    /// The reader has seen that: work worth milliseconds should not be over before it has a processor.
    seen: AtomicBool,
    done: AtomicBool,
    /// Bytes that compaction moved.
    moved: AtomicUsize,
}

impl Scene {
    fn new() -> Self {
        let [_, (_, lz4), _] = codecs();
        let (file, entries) = (pages(PAGE), scaled(ENTRIES, 2000));
        let cache = cache(entries * PAGE + (16 << 20), PAGE, lz4);
        let [busy, seen, done] = [const { AtomicBool::new(false) }; 3];
        let moved = AtomicUsize::new(0);
        let new = Self { cache, file, entries: entries as u64, busy, seen, done, moved };
        (0..new.entries).for_each(|key| new.put(key));
        new
    }

    fn put(&self, key: u64) {
        let page = self.file.page(key as usize % self.file.pages().len());
        self.cache.insert(key, page).expect("room for a page");
    }

    /// The other thread, until `done`. Readers want keys that are even; the odd ones go, in between, so
    /// that there is something to compact.
    fn other(&self, beside: Beside) {
        while !self.done.load(Ordering::Relaxed) {
            match beside {
                Beside::Computing => {
                    self.busy.store(true, Ordering::Relaxed);
                    black_box((0..100_000_u64).fold(0, |sum, step| black_box(sum ^ step)));
                }
                Beside::Compacting => {
                    for key in (1..self.entries).step_by(2) {
                        self.cache.remove(&key);
                    }
                    self.seen.store(false, Ordering::Relaxed);
                    self.busy.store(true, Ordering::Relaxed);
                    while !self.seen.load(Ordering::Relaxed) && !self.done.load(Ordering::Relaxed) {
                        thread::yield_now();
                    }
                    loop {
                        let did = self.cache.compact(BUDGET);
                        self.moved.fetch_add(did.bytes_moved, Ordering::Relaxed);
                        if did.done || self.done.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    self.busy.store(false, Ordering::Relaxed);
                    (1..self.entries).step_by(2).for_each(|key| self.put(key));
                }
            }
        }
    }

    /// So many hits beside the other thread, each with its time.
    fn hits(&self, beside: Beside, count: u64) -> Vec<Duration> {
        self.done.store(false, Ordering::Relaxed);
        self.busy.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| self.other(beside));
            let mut rng = fastrand::Rng::with_seed(count);
            let mut to = vec![0; PAGE];
            let mut times = Vec::with_capacity(count as usize);
            while (times.len() as u64) < count {
                if !self.busy.load(Ordering::Relaxed) {
                    thread::yield_now();
                    continue;
                }
                self.seen.store(true, Ordering::Relaxed);
                let key = rng.u64(..self.entries / 2) * 2;
                let start = Instant::now();
                let len = self.cache.get_into(&key, &mut to).expect("room for a page");
                let took = start.elapsed();
                assert_eq!(len, Some(PAGE), "a hit");
                // The flag may have gone down and up again in between: that takes milliseconds.
                if self.busy.load(Ordering::Relaxed) {
                    times.push(took);
                }
            }
            self.done.store(true, Ordering::Relaxed);
            times
        })
    }
}

fn compaction_and_hits(criterion: &mut Criterion) {
    let scene = Scene::new();
    let mut group = criterion.benchmark_group("compaction_and_hits");
    group.sample_size(10);
    for beside in [Beside::Computing, Beside::Compacting] {
        let mut times: Vec<Duration> = Vec::new();
        scene.moved.store(0, Ordering::Relaxed);
        group.bench_function(format!("{beside:?}").to_lowercase(), |bencher| {
            bencher.iter_custom(|count| {
                let new = scene.hits(beside, count.max(scaled(HITS as usize, 1) as u64));
                times.extend(&new);
                let sum: Duration = new.iter().sum();
                sum.mul_f64(count as f64 / new.len() as f64)
            });
        });
        let moved = scene.moved.load(Ordering::Relaxed);
        times.sort_unstable();
        let part = |part: f64| times.get((times.len() as f64 * part) as usize);
        if let [Some(median), Some(late), Some(later)] = [0.5, 0.99, 0.999].map(part) {
            println!(
                "{} hits: median {median:?}, 99 % {late:?}, 99.9 % {later:?}; {moved} bytes moved",
                times.len()
            );
        }
        assert_eq!(moved > 0, matches!(beside, Beside::Compacting), "{beside:?}: {moved} bytes");
    }
    group.finish();
}

criterion_group!(benches, compaction_and_hits);
criterion_main!(benches);
