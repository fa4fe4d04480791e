//! What Miri can run of whole pools and caches: heap pages, no codec. Under
//! `-Zmiri-strict-provenance` no pointer may come from a number. Elsewhere this is a short test as
//! any other.
#![cfg(not(zcache_loom))]

use tests::callbacks::page;
use tests::ops::{End, PoolOp};
use tests::oracle::replay;
use tests::pattern;
use tests::setups::{Pages, Setup};
use zcache::{Cache, Config, codec};
use zpool::SourceKind;

/// Bytes that spell operations: few for Miri, which takes a thousand times as long.
const BYTES: usize = if cfg!(miri) { 300 } else { 3000 };

#[test]
fn operations_on_heap_pages_agree_with_the_oracle() {
    for pages in [Pages::Heap(1), Pages::Heap(4)] {
        for seed in 0..3 {
            let setup = Setup { max_object: 9000, max_pages: 20, ..Setup::new(pages) };
            let bytes = pattern::bytes(seed, BYTES);
            // A guard that is forgotten is a leak, as Miri says rightly.
            let forgets = |op: &PoolOp| {
                matches!(op, PoolOp::Use(_, _, End::Forget) | PoolOp::Release(_, End::Forget))
            };
            replay(&setup, PoolOp::from_bytes(&bytes).filter(|op| !forgets(op)));
        }
    }
}

#[test]
fn a_cache_without_a_codec_keeps_what_it_is_given() {
    let config =
        Config::new(1200 << 10).max_page(4096).shards(2).codec(codec::Plain).checksum(true);
    let cache: Cache<u64> = Cache::new(config.source(SourceKind::Heap)).unwrap();
    let keys = if cfg!(miri) { 40 } else { 2000 };
    for key in 0..keys {
        let new = page(key, 1000 + key as usize % 3000);
        cache.insert(key, &new).unwrap();
        assert_eq!(cache.get(&key).as_deref(), Some(&new[..]));
        assert_eq!(cache.read(&key, |got| got == new), Some(true));
        let _ = cache.remove(&(key / 2));
    }
    cache.check();
    cache.clear();
    cache.check();
}
