//! What does an insert of a 4 KiB page cost, by codec: of a new key while there is room, of a key that is
//! there, and of a new key in a full cache? The bare row compresses the same pages into one buffer.
#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::subject::{cache, codecs, pages, scaled};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use zcache::Cache;

const PAGE: usize = 4096;
/// Pages that come in turn: few enough to be in the processor's caches, as a page is that was just read.
const PAGES: usize = 48;
/// Keys that are replaced.
const LIVE: u64 = 1000;
/// Fresh keys that a cache takes before it makes place for a new one.
const FRESH: u64 = 30_000;
const ROOMY: usize = 256 << 20;
const FULL: usize = 16 << 20;

fn insert(criterion: &mut Criterion) {
    let file = pages(PAGE);
    let step = file.pages().len() / PAGES;
    let pages: Vec<&[u8]> = file.pages().step_by(step).take(PAGES).collect();
    let put = |cache: &Cache<u64>, key: u64| {
        cache.insert(key, pages[key as usize % PAGES]).expect("room for a page");
    };
    for (name, codec) in codecs() {
        let mut group = criterion.benchmark_group(format!("insert/{name}"));
        group.throughput(Throughput::Elements(1));
        let mut context = codec.context(PAGE).expect("a context");
        let mut to = vec![0; PAGE - 1];
        let mut turn = pages.iter().cycle();
        group.bench_function("bare", |bencher| {
            bencher.iter(|| context.compress(turn.next().expect("it goes round"), &mut to));
        });
        let new = |capacity| cache(capacity, PAGE, Arc::clone(&codec));
        group.bench_function("fresh", |bencher| {
            bencher.iter_custom(|count| {
                let mut took = Duration::ZERO;
                for first in (0..count).step_by(FRESH as usize) {
                    let cache = new(ROOMY);
                    // Contexts and buffers are there.
                    put(&cache, u64::MAX);
                    let start = Instant::now();
                    (0..FRESH.min(count - first)).for_each(|key| put(&cache, key));
                    took += start.elapsed();
                }
                took
            });
        });
        let roomy = new(ROOMY);
        (0..LIVE).for_each(|key| put(&roomy, key));
        let mut key = 0;
        group.bench_function("replacing", |bencher| {
            bencher.iter(|| {
                key = (key + 1) % LIVE;
                put(&roomy, key);
            });
        });
        assert_eq!(roomy.stats().entries as u64, LIVE);
        let full = new(scaled(FULL, 2 << 20));
        let mut key = 0;
        let mut put_next = || {
            key += 1;
            put(&full, key);
        };
        while full.stats().gone.evicted == 0 {
            (0..100).for_each(|_| put_next());
        }
        group.bench_function("evicting", |bencher| bencher.iter(&mut put_next));
        group.finish();
    }
}

criterion_group!(benches, insert);
criterion_main!(benches);
