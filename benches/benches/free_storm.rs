//! How fast are 20,000 objects of mixed sizes freed, in random order, by one thread and by two? The
//! storing of them is not timed.
#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use zpool::{Config, Pool};

const OBJECTS: usize = 20_000;

/// The time that so many threads take to free all objects, each an equal part.
fn storm(pool: &Pool, threads: usize) -> Duration {
    let bytes = [7; 4096];
    let mut rng = fastrand::Rng::with_seed(1);
    let store = |_| pool.alloc(&bytes[..rng.usize(200..=3700)]).expect("stored");
    let mut objects: Vec<_> = (0..OBJECTS).map(store).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut objects);
    let start = Instant::now();
    thread::scope(|scope| {
        for part in objects.chunks(OBJECTS / threads) {
            scope.spawn(|| part.iter().for_each(|object| pool.free(*object).expect("freed")));
        }
    });
    start.elapsed()
}

fn free_storm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("free_storm");
    group.sample_size(20).throughput(Throughput::Elements(OBJECTS as u64));
    let pool: Pool = Pool::new(Config::new()).expect("a pool");
    for threads in [1, 2] {
        group.bench_function(threads.to_string(), |bencher| {
            bencher.iter_custom(|count| (0..count).map(|_| storm(&pool, threads)).sum());
        });
    }
    group.finish();
}

criterion_group!(benches, free_storm);
criterion_main!(benches);
