//! What does a hit cost over the bare codec, by codec and page size, warm and cold? Random keys; the bare
//! row looks them up in an array of (pointer, length) and decodes the same payloads. Warm are 1,000
//! entries; cold are 480,000, or as many as take 256 MiB.
#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::sync::Arc;
use std::time::Duration;

use benches::bare::Bare;
use benches::subject::{cache, codecs, pages, scaled};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tests::corpus::PageFile;
use zcache::codec::Codec;

const PAGE_SIZES: [usize; 3] = [4 << 10, 8 << 10, 16 << 10];
const WARM: usize = 1000;
const COLD: usize = 480_000;
/// Bytes that the payloads of cold entries may take: eight times the largest of caches.
const COLD_BYTES: usize = 256 << 20;

fn hit(criterion: &mut Criterion) {
    for page_size in PAGE_SIZES {
        let file = pages(page_size);
        for (name, codec) in codecs() {
            let warm = Bare::new(&file, &codec, scaled(WARM, 50)).expect("payloads");
            let mean = warm.bytes() / scaled(WARM, 50);
            let cold = COLD.min(COLD_BYTES / mean);
            rows(criterion, &format!("{name}/{}k/warm", page_size >> 10), &file, &codec, warm);
            let cold = Bare::new(&file, &codec, scaled(cold, 200)).expect("payloads");
            rows(criterion, &format!("{name}/{}k/cold", page_size >> 10), &file, &codec, cold);
        }
    }
}

fn rows(
    criterion: &mut Criterion,
    name: &str,
    file: &PageFile,
    codec: &Arc<dyn Codec>,
    bare: Bare,
) {
    let (page_size, entries) = (file.page_size(), bare.entries());
    let mut to = vec![0; page_size];
    let mut group = criterion.benchmark_group(format!("hit/{name}"));
    group.throughput(Throughput::Elements(1));
    let mut rng = fastrand::Rng::with_seed(1);
    let mut decoder = bare.decoder(codec, page_size).expect("a context");
    group.bench_function(BenchmarkId::new("bare", entries), |bencher| {
        bencher.iter(|| decoder.decode(rng.usize(..entries), &mut to));
    });
    // Room for everything, and then the bare row's copies go.
    let capacity = bare.bytes() + bare.bytes() / 4 + entries * 100 + (64 << 20);
    drop(bare);
    let cache = cache(capacity, page_size, Arc::clone(codec));
    for key in 0..entries {
        cache.insert(key as u64, file.page(key % file.pages().len())).expect("room for a page");
    }
    group.bench_function(BenchmarkId::new("zcache", entries), |bencher| {
        bencher.iter(|| {
            let key = rng.usize(..entries) as u64;
            let len = cache.get_into(&key, &mut to).expect("room for a page");
            assert_eq!(len, Some(page_size), "a hit");
        });
    });
    assert_eq!(cache.stats().entries, entries, "none is evicted");
    group.finish();
}

/// Many rows: seconds each would be minutes.
fn short_rows() -> Criterion {
    let (warm_up, measure) = (Duration::from_millis(200), Duration::from_secs(1));
    Criterion::default().sample_size(20).warm_up_time(warm_up).measurement_time(measure)
}

criterion_group! { name = benches; config = short_rows(); targets = hit }
criterion_main!(benches);
