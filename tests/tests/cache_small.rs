//! Small caches: one for each table, tenant or test. What is packed into their pages.
#![cfg(not(zcache_loom))]

use tests::corpus;
use tests::pattern::Random;
use zcache::codec::Lz4;
use zcache::{Cache, Config, HotShare};

/// Capacities in KiB, and the least payload by pages while all entries are replaced.
const BARS: [(usize, f64); 3] = [(320, 0.85), (512, 0.90), (1024, 0.93)];

/// Capacities around each, in KiB off it. With a page more or less the payload is up to 0.08 off,
/// up and down again: what the sample's few lengths leave in zspages of one length or the next.
const AROUND: [isize; 5] = [-16, -8, 0, 8, 16];

fn cache(capacity: usize, max_page: usize) -> Cache<u64> {
    let config = Config::new(capacity).max_page(max_page).codec(Lz4);
    Cache::new(config.checksum(false).hot(HotShare::Off)).unwrap()
}

/// Payload by pages, on average while entries are replaced, after `before` entries went in.
fn packing(cache: &Cache<u64>, before: u64) -> f64 {
    let sample = corpus::sample();
    let mut random = Random::new(7);
    let mut key = before;
    let mut insert = || {
        cache.insert(key, sample.page(random.below(sample.pages().len()))).unwrap();
        key += 1;
    };
    let evicted = cache.stats().removals.evicted;
    while cache.stats().removals.evicted == evicted {
        insert();
    }
    let (mut sum, count) = (0.0, 4 * cache.len());
    for at in 0..count {
        insert();
        if at >= count / 4 {
            let bytes = cache.stats().bytes;
            sum += bytes.payload as f64 / bytes.pages as f64;
        }
    }
    cache.check();
    assert!(cache.held_bytes() <= cache.capacity());
    sum / (count - count / 4) as f64
}

#[test]
fn payloads_fill_the_pages_of_a_small_cache() {
    let page_size = corpus::sample().page_size();
    for (kib, bar) in BARS {
        let around = AROUND.map(|off| kib.saturating_add_signed(off) << 10);
        let packings = around.map(|capacity| packing(&cache(capacity, page_size), 0));
        let mean = packings.iter().sum::<f64>() / packings.len() as f64;
        assert!(mean >= bar, "{kib} KiB: {packings:.4?}, {bar} on average");
    }
}

#[test]
fn a_cache_that_grew_packs_like_one_that_was_made_large() {
    let page_size = corpus::sample().page_size();
    let grown = cache(1 << 20, page_size);
    packing(&grown, 1 << 32);
    grown.resize(32 << 20).unwrap();
    let (grown, large) = (packing(&grown, 0), packing(&cache(32 << 20, page_size), 0));
    assert!(large > 0.95 && grown > large - 0.005, "{grown:.4}, {large:.4}");
}
