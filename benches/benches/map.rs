//! What does it cost to map an object and look at its first byte, by size and by threads? Random
//! objects of 4096; beside the pool a slice of the system allocator's memory, which needs no map.
//! With two threads the time is that of both operations together.
#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::alloc::System;
use std::time::Duration;

use benches::block::Block;
use benches::race::{Length, nanoseconds};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use zpool::{Config, Handle, Pool};

const LIVE: usize = 4096;
const SIZES: [usize; 4] = [64, 2048, 4096, 32768];

fn map(criterion: &mut Criterion) {
    for threads in [1, 2] {
        let mut group = criterion.benchmark_group(format!("map/{threads}"));
        for size in SIZES {
            let bytes = vec![7; size];
            let pool: Pool = Pool::new(Config::new()).expect("a pool");
            let store = |_| pool.alloc(&bytes).expect("stored");
            let handles: Vec<Handle> = (0..LIVE).map(store).collect();
            let length = |ops: u64| Length { threads, windows: 1, ops: ops as usize };
            let time = |ops: u64, nanoseconds: f64| {
                Duration::from_nanos((nanoseconds * ops as f64) as u64 * threads as u64)
            };
            group.bench_function(BenchmarkId::new("zpool", size), |bencher| {
                bencher.iter_custom(|ops| {
                    let map = |key: usize| pool.map(handles[key]).expect("the object is live");
                    let first = |_| |key: usize| u64::from(map(key)[0]);
                    time(ops, nanoseconds(length(ops), LIVE, first))
                });
            });
            let blocks: Vec<_> = (0..LIVE).map(|_| Block::new(&System, &bytes)).collect();
            group.bench_function(BenchmarkId::new("slice", size), |bencher| {
                bencher.iter_custom(|ops| {
                    let first = |_| |key: usize| u64::from(blocks[key][0]);
                    time(ops, nanoseconds(length(ops), LIVE, first))
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, map);
criterion_main!(benches);
