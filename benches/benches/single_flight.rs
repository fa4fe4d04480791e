//! What does it cost when eight threads miss one key at once? The loader runs once, and the others wait
//! for its page. A round is timed from the instant at which all threads are let go until the last has
//! its page; the row of hits is the same round on a key that is there, so the difference is the flight.
//! Beside them one thread's miss with a loader, and its plain insert.
#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::convert::Infallible;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use benches::subject::{cache, codecs, pages};
use criterion::{Criterion, criterion_group, criterion_main};
use zcache::Cache;

const PAGE: usize = 4096;
const THREADS: usize = 8;
/// Everything fits in: an eviction would load a key again.
const CAPACITY: usize = 256 << 20;
/// Keys after which a cache is a new one.
const KEYS: u64 = 20_000;

/// The time that `rounds` rounds take in all, of `THREADS` threads that each call `operation` with the
/// round's number.
fn rounds(rounds: u64, operation: impl Fn(u64) + Sync) -> Duration {
    // Thread 0 lets round n go by storing n + 1, when all have arrived.
    let (arrived, open) = (AtomicUsize::new(0), AtomicU64::new(0));
    let run = |thread: usize| {
        let mut took = Duration::ZERO;
        for round in 0..rounds {
            arrived.fetch_add(1, Ordering::AcqRel);
            let all = || arrived.load(Ordering::Acquire);
            if thread == 0 {
                wait(|| all() == (2 * round as usize + 1) * THREADS);
            }
            let start = Instant::now();
            if thread == 0 {
                open.store(round + 1, Ordering::Release); // pairs with the Acquire below
            }
            wait(|| open.load(Ordering::Acquire) == round + 1);
            operation(round);
            arrived.fetch_add(1, Ordering::AcqRel);
            wait(|| all() >= (2 * round as usize + 2) * THREADS);
            took += start.elapsed();
        }
        took
    };
    thread::scope(|scope| {
        let run = &run;
        let others: Vec<_> = (1..THREADS).map(|thread| scope.spawn(move || run(thread))).collect();
        let took = run(0);
        for other in others {
            other.join().expect("no operation panics");
        }
        took
    })
}

/// There are more threads than processors: who waits lets others run.
fn wait(mut until: impl FnMut() -> bool) {
    for spins in 0_u64.. {
        if until() {
            return;
        }
        if spins % 64 == 63 { thread::yield_now() } else { spin_loop() }
    }
}

fn single_flight(criterion: &mut Criterion) {
    let file = pages(PAGE);
    let page = |key: u64| file.page(key as usize % file.pages().len());
    let new = || {
        let [_, (_, lz4), _] = codecs();
        cache(CAPACITY, PAGE, lz4)
    };
    let loads = AtomicU64::new(0);
    let get = |cache: &Cache<u64>, key: u64| {
        let got = cache.get_or_insert_with(&key, |to| {
            loads.fetch_add(1, Ordering::Relaxed);
            to.extend_from_slice(page(key));
            Ok::<(), Infallible>(())
        });
        assert_eq!(got.expect("the loader does not fail").len(), PAGE);
    };
    // `time` is given a new cache and a number of keys, for so many that no cache gets more than `KEYS`.
    let in_parts = |count: u64, time: &dyn Fn(&Cache<u64>, u64) -> Duration| -> Duration {
        (0..count).step_by(KEYS as usize).map(|at| time(&new(), KEYS.min(count - at))).sum()
    };
    let one_by_one = |count: u64, operation: &dyn Fn(u64)| {
        let start = Instant::now();
        (0..count).for_each(operation);
        start.elapsed()
    };
    let mut group = criterion.benchmark_group("single_flight");
    group.sample_size(20);
    group.bench_function("insert/1", |bencher| {
        bencher.iter_custom(|count| {
            in_parts(count, &|cache, keys| {
                one_by_one(keys, &|key| cache.insert(key, page(key)).expect("room for a page"))
            })
        });
    });
    group.bench_function("load/1", |bencher| {
        bencher.iter_custom(|count| {
            in_parts(count, &|cache, keys| one_by_one(keys, &|key| get(cache, key)))
        });
    });
    group.bench_function("load/8", |bencher| {
        bencher.iter_custom(|count| {
            let before = loads.load(Ordering::Relaxed);
            let took = in_parts(count, &|cache, keys| rounds(keys, |key| get(cache, key)));
            let ran = loads.load(Ordering::Relaxed) - before;
            assert_eq!(ran, count, "a loader runs once a key");
            took
        });
    });
    let cache = new();
    get(&cache, 7);
    group.bench_function("hit/8", |bencher| {
        bencher.iter_custom(|count| rounds(count, |_| get(&cache, 7)));
    });
    group.finish();
}

criterion_group!(benches, single_flight);
criterion_main!(benches);
