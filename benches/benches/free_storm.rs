//! How fast do 20,000 objects of mixed sizes go, in random order, freed by one thread and by two? The
//! storing of them is not timed.
#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::alloc::{GlobalAlloc, System};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use benches::block::Block;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use zpool::{Config, Pool};

const OBJECTS: usize = 20_000;

/// Objects of mixed sizes in random order.
fn stored<T>(store: impl Fn(&[u8]) -> T) -> Vec<T> {
    let bytes = [7; 4096];
    let mut rng = fastrand::Rng::with_seed(1);
    let mut objects: Vec<T> =
        (0..OBJECTS).map(|_| store(&bytes[..rng.usize(200..=3700)])).collect();
    rng.shuffle(&mut objects);
    objects
}

/// Time that `threads` threads take to free all `objects`, each an equal part.
fn storm<T: Send>(threads: usize, mut objects: Vec<T>, free: impl Fn(T) + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let run = |part: Vec<T>| {
        barrier.wait();
        let start = Instant::now();
        part.into_iter().for_each(&free);
        (start, Instant::now())
    };
    let times: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let run = &run;
        let part = objects.len() / threads;
        let parts: Vec<Vec<T>> =
            (0..threads).map(|_| objects.split_off(objects.len() - part)).collect();
        let spawned: Vec<_> =
            parts.into_iter().map(|part| scope.spawn(move || run(part))).collect();
        spawned.into_iter().map(|thread| thread.join().expect("no free panics")).collect()
    });
    let start = times.iter().map(|(start, _)| *start).min();
    let end = times.iter().map(|(_, end)| *end).max();
    start.zip(end).map_or(Duration::ZERO, |(start, end)| end - start)
}

fn free_storm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("free_storm");
    group.sample_size(20).throughput(Throughput::Elements(OBJECTS as u64));
    for threads in [1, 2] {
        let pool: Pool = Pool::new(Config::new()).expect("a pool");
        group.bench_function(BenchmarkId::new("zpool", threads), |bencher| {
            bencher.iter_custom(|count| {
                let once = |_| {
                    let objects = stored(|bytes| pool.alloc(bytes).expect("stored"));
                    storm(threads, objects, |handle| pool.free(handle).expect("freed"))
                };
                (0..count).map(once).sum()
            });
        });
        let mut blocks = |name: &str, once: &dyn Fn() -> Duration| {
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                bencher.iter_custom(|count| (0..count).map(|_| once()).sum());
            });
        };
        blocks("system", &|| block_storm(threads, &System));
        #[cfg(feature = "peers")]
        blocks("mimalloc", &|| block_storm(threads, &mimalloc::MiMalloc));
    }
    group.finish();
}

fn block_storm<A: GlobalAlloc + Sync>(threads: usize, allocator: &A) -> Duration {
    storm(threads, stored(|bytes| Block::new(allocator, bytes)), drop)
}

criterion_group!(benches, free_storm);
criterion_main!(benches);
