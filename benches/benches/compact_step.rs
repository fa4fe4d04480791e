//! How long is one step of compaction? `compact(16 KiB)` on a pool of objects of mixed sizes of
//! which a random half is gone. Criterion tells the mean; the line below it the median, which is to
//! be 20 us or less, and the longest step.
#![allow(missing_docs, reason = "criterion's macros make a public function")]
#![allow(clippy::print_stdout, reason = "a bench's answer")]

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use zpool::{Config, Handle, Pool};

const OBJECTS: usize = 20_000;
const BUDGET: usize = 16 << 10;

/// A pool that is filled and thinned out again as often as compaction has nothing left to do.
struct Fragmented {
    pool: Pool,
    live: Vec<Handle>,
    rng: fastrand::Rng,
}

impl Fragmented {
    fn new() -> Self {
        let pool = Pool::new(Config::new()).expect("a pool");
        let mut new = Self { pool, live: Vec::new(), rng: fastrand::Rng::with_seed(1) };
        new.fragment();
        new
    }

    fn fragment(&mut self) {
        let bytes = [7; 4096];
        while self.live.len() < OBJECTS {
            let len = self.rng.usize(200..=3700);
            self.live.push(self.pool.alloc(&bytes[..len]).expect("stored"));
        }
        self.rng.shuffle(&mut self.live);
        for handle in self.live.drain(OBJECTS / 2..) {
            self.pool.free(handle).expect("freed");
        }
    }

    /// The time of one step that moves something.
    fn step(&mut self) -> Duration {
        loop {
            let start = Instant::now();
            let did = self.pool.compact(BUDGET);
            let took = start.elapsed();
            if did.done {
                self.fragment();
            }
            if did.bytes_moved >= BUDGET {
                return took;
            }
        }
    }
}

fn compact_step(criterion: &mut Criterion) {
    let mut fragmented = Fragmented::new();
    let mut steps: Vec<Duration> = Vec::new();
    criterion.bench_function("compact_step/16384", |bencher| {
        bencher.iter_custom(|count| {
            let taken = (0..count).map(|_| fragmented.step());
            steps.extend(taken);
            steps[steps.len() - count as usize..].iter().sum()
        });
    });
    steps.sort_unstable();
    if let (Some(median), Some(longest)) = (steps.get(steps.len() / 2), steps.last()) {
        let late = steps[steps.len() * 99 / 100];
        println!(
            "{} steps: median {median:?}, 99 % {late:?}, longest {longest:?} (bar: median of 20 \
             us)",
            steps.len()
        );
    }
}

criterion_group!(benches, compact_step);
criterion_main!(benches);
