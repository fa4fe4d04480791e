//! What does an operation cost when nine in ten look a page up and one replaces it, by codec and by
//! threads? Keys by Zipf's law over four times the pages that the cache holds; whoever misses inserts.
//! With two threads the time is that of both operations together. The hit ratio stands below each row.
#![allow(missing_docs, reason = "criterion's macros make a public function")]
#![allow(clippy::print_stdout, reason = "a bench's answer")]

use std::time::Duration;

use benches::race::{Length, nanoseconds};
use benches::subject::{cache, codecs, pages, scaled};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tests::corpus::PageFile;
use tests::traces::zipf;
use zcache::Cache;

const PAGE: usize = 4096;
const CAPACITY: usize = 16 << 20;
/// One operation in so many replaces a page.
const REPLACES: usize = 10;
/// Requests, after which they come again.
const REQUESTS: usize = 1 << 18;

fn operation(cache: &Cache<u64>, file: &PageFile, key: u64, replaces: bool, to: &mut [u8]) -> u64 {
    let found = !replaces && cache.get_into(&key, to).expect("room for a page").is_some();
    if !found {
        let page = file.page(key as usize % file.pages().len());
        cache.insert(key, page).expect("room for a page");
    }
    to.first().map_or(0, |byte| u64::from(*byte))
}

fn mixed(criterion: &mut Criterion) {
    let file = pages(PAGE);
    let capacity = scaled(CAPACITY, 2 << 20);
    for (name, codec) in codecs() {
        let cache = cache(capacity, PAGE, codec);
        let mut held = 0;
        while cache.stats().gone.evicted == 0 {
            operation(&cache, &file, held, true, &mut []);
            held += 1;
        }
        let requests = zipf(4 * held as usize, scaled(REQUESTS, 1 << 14), 1);
        let mut group = criterion.benchmark_group(format!("mixed/{name}"));
        group.throughput(Throughput::Elements(1)).sample_size(20);
        for threads in [1, 2] {
            let before = cache.stats();
            group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
                bencher.iter_custom(|ops| {
                    let length = Length { threads, windows: 1, ops: ops as usize };
                    let time = nanoseconds(length, requests.len(), |_| {
                        let (cache, file, requests) = (&cache, &file, &requests);
                        let mut to = vec![0; PAGE];
                        move |random| {
                            let replaces = random % REPLACES == 0;
                            operation(cache, file, requests[random], replaces, &mut to)
                        }
                    });
                    Duration::from_nanos((time * ops as f64) as u64 * threads as u64)
                });
            });
            let after = cache.stats();
            let (hits, misses) = (after.hits - before.hits, after.misses - before.misses);
            println!("{} of {} look-ups hit, {} entries", hits, hits + misses, after.entries);
        }
        group.finish();
    }
}

criterion_group!(benches, mixed);
criterion_main!(benches);
