//! Keys that own heap memory: what they weigh is charged while their entries are there.
#![cfg(not(zcache_loom))]

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tests::callbacks::{LONGEST, config, page};
use tests::pattern::Random;
use tests::user_code::pass_planted_panics;
use zcache::codec::{self, Lz4};
use zcache::{Cache, Config, HotShare, InsertError, InsertOptions};

/// A key of `len` bytes.
fn key(number: u64, len: usize) -> String {
    format!("{number:0len$}")
}

fn cache(config: Config) -> Cache<String> {
    Cache::new(config).unwrap().weigh_keys(String::len)
}

/// What keys weigh, as the cache has it and as its keys have it.
fn weights(cache: &Cache<String>) -> (usize, usize) {
    cache.check();
    let bytes = cache.stats().bytes;
    let parts = [bytes.pages, bytes.frames, bytes.waiting, bytes.metadata, bytes.keys];
    let others = [bytes.index, bytes.policy, bytes.codec, bytes.sample, bytes.fixed];
    assert_eq!(bytes.held, parts.iter().chain(&others).sum::<usize>(), "{bytes:?}");
    (bytes.keys, cache.keys().iter().map(String::len).sum())
}

#[test]
fn keys_weigh_from_their_insert_to_their_entrys_end() {
    for hot in [HotShare::Off, HotShare::Fraction(2)] {
        let cache = cache(config(4 << 20).hot(hot));
        let empty = cache.held_bytes();
        cache.insert(key(1, 50_000), &[0; 8]).unwrap();
        assert_eq!(weights(&cache), (50_000, 50_000));
        assert!(cache.held_bytes() >= empty + 50_000, "it is held");
        // Replaced, by an equal key.
        cache.insert(key(1, 50_000), &page(1, 4096)).unwrap();
        assert_eq!(weights(&cache), (50_000, 50_000));
        for number in 2..50 {
            cache.insert(key(number, 1000), &page(number, 4096)).unwrap();
            (0..3).for_each(|_| drop(cache.get(&key(number, 1000))));
        }
        assert_eq!(weights(&cache), (98_000, 98_000));
        assert!(cache.remove(&key(1, 50_000)) && cache.take(&key(2, 1000)).is_some());
        assert_eq!(weights(&cache), (47_000, 47_000));
        assert!(!cache.insert_if_absent(key(3, 1000), b"new").unwrap());
        assert!(cache.insert_if_absent(key(4000, 2000), b"new").unwrap());
        assert!(cache.remove_if(&key(3, 1000), |_| true));
        assert_eq!(weights(&cache), (48_000, 48_000));
        let dead = InsertOptions::new().time_to_live(Duration::ZERO);
        cache.insert_with_options(key(60, 500), &[1; 99], dead).unwrap();
        assert_eq!(cache.stats().bytes.keys, 48_500);
        assert!(cache.get(&key(60, 500)).is_none());
        let lease = cache.get_or_lease(&key(61, 700)).lease().unwrap();
        cache.insert_if_valid(lease, &[1; 99]).unwrap();
        let lease = cache.get_or_lease(&key(62, 700)).lease().unwrap();
        cache.insert(key(62, 700), &[2; 99]).unwrap();
        assert_eq!(cache.insert_if_valid(lease, &[1; 99]), Err(InsertError::Outdated));
        assert_eq!(weights(&cache), (49_400, 49_400));
        cache.retain(|key| key.len() == 1000);
        assert_eq!(weights(&cache), (46_000, 46_000));
        let too_large = cache.insert(key(5, 1000), &[1; LONGEST + 1]);
        assert!(matches!(too_large, Err(InsertError::TooLarge { dropped: true, .. })));
        assert_eq!(weights(&cache), (45_000, 45_000));
        cache.clear();
        assert_eq!(weights(&cache), (0, 0));
    }
}

/// Without that the same keys are not counted, as documented.
#[test]
fn heavy_keys_make_room_and_the_capacity_holds() {
    let plain: Cache<String> = Cache::new(config(2 << 20)).unwrap();
    let heavy = cache(config(2 << 20));
    for number in 0..3000 {
        for cache in [&plain, &heavy] {
            cache.insert(key(number, 2000), &page(number, 1000)).unwrap();
            assert!(cache.held_bytes() <= cache.capacity());
        }
    }
    let (weight, sum) = weights(&heavy);
    assert_eq!(weight, sum);
    assert!(heavy.len() > 400 && weight > 800_000, "{} keys of {weight} bytes", heavy.len());
    assert!(plain.len() > 2 * heavy.len() && plain.stats().bytes.keys == 0);
    heavy.resize(1 << 20).unwrap();
    assert!(heavy.held_bytes() <= 1 << 20);
    let (weight, sum) = weights(&heavy);
    assert!(weight == sum && weight > 300_000, "{weight} bytes of keys are left");
}

#[test]
fn a_key_that_no_cache_could_hold_evicts_nobody() {
    thread_local! {
        static WEIGHT: Cell<usize> = const { Cell::new(0) };
    }
    let cache: Cache<u64> = Cache::new(config(1 << 20)).unwrap().weigh_keys(|_| WEIGHT.get());
    for key in 0..100 {
        cache.insert(key, &page(key, 1000)).unwrap();
    }
    WEIGHT.set(usize::MAX);
    assert_eq!(cache.insert(200, b"new"), Err(InsertError::NoRoom { dropped: false }));
    assert_eq!((cache.len(), cache.stats().removals.evicted), (100, 0));
    // Its old page goes, as with any insert that fails; and nothing more goes back than there was.
    assert_eq!(cache.insert(7, b"new"), Err(InsertError::NoRoom { dropped: true }));
    WEIGHT.set(0);
    assert_eq!(cache.len(), 99);
    cache.check();
}

#[test]
fn what_is_compressed_again_keeps_its_weight() {
    let config = config(4 << 20).codec(codec::Plain).cold_codec(Lz4);
    let cache = cache(config).with_scopes(|key| key.len() as u32 % 3).unwrap();
    for number in 0..200 {
        cache.insert(key(number, 300), &page(number, 4096)).unwrap();
    }
    (0..3).for_each(|_| _ = cache.maintain(usize::MAX));
    assert!(cache.stats().recompression.recompressed > 100);
    assert_eq!(weights(&cache), (60_000, 60_000));
    cache.scope(0).clear();
    cache.clear();
    assert_eq!(weights(&cache), (0, 0));
}

#[test]
fn weights_add_up_beside_other_threads() {
    let cache = Arc::new(cache(config(1 << 20).hot(HotShare::Fraction(4))));
    thread::scope(|scope| {
        for thread in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                let mut random = Random::new(thread);
                for _ in 0..4000 {
                    let number = random.below(300) as u64;
                    let key = key(number, 20 + 7 * number as usize);
                    match random.below(8) {
                        0..=2 => _ = cache.insert(key, &page(number, 1000)),
                        3 => _ = cache.insert_if_absent(key, &page(number, 1000)),
                        4 => _ = cache.remove(&key),
                        5 => _ = cache.remove_if(&key, |_| number % 2 == 0),
                        _ => drop(cache.get(&key)),
                    }
                    assert!(cache.held_bytes() <= cache.capacity());
                }
            });
        }
    });
    let (weight, sum) = weights(&cache);
    assert!(weight == sum && weight > 0);
    cache.clear();
    assert_eq!(weights(&cache), (0, 0));
}

/// The pieces of a long page have clones of its key.
#[test]
fn each_piece_of_a_long_page_has_a_key_that_weighs() {
    let config = Config::new(16 << 20).max_page(1 << 20).shards(2);
    let cache: Cache<String> = Cache::new(config).unwrap().weigh_keys(String::len);
    cache.insert(key(1, 1000), &page(1, 700_000)).unwrap();
    cache.insert(key(2, 1000), &page(2, 128 << 10)).unwrap();
    cache.check();
    assert_eq!(cache.stats().bytes.keys, 1000 * (1 + 6) + 1000, "six pieces and two entries");
    cache.insert(key(1, 1000), b"short").unwrap();
    assert_eq!(cache.stats().bytes.keys, 2000);
    cache.clear();
    cache.check();
    assert_eq!(cache.stats().bytes.keys, 0);
}

thread_local! {
    static LIES: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Says anything, or panics.
fn lie(_: &u64) -> usize {
    let Some(seed) = LIES.get() else { return 100 };
    let mut random = Random::new(seed);
    LIES.set(Some(random.bits()));
    assert!(random.below(8) > 0, "planted in the weight");
    random.below(3000)
}

#[test]
fn a_weight_that_lies_or_panics_breaks_no_other_figure() {
    let cache: Cache<u64> = Cache::new(config(1 << 20)).unwrap().weigh_keys(lie);
    let mut model = HashMap::new();
    pass_planted_panics();
    LIES.set(Some(7));
    let mut panicked = 0;
    for step in 0..8000 {
        let key = step % 500;
        let version = page(step, 300);
        let inserted = catch_unwind(AssertUnwindSafe(|| cache.insert(key, &version)));
        match inserted {
            Ok(Ok(())) => _ = model.insert(key, version),
            Ok(Err(_)) => _ = model.remove(&key),
            // Nothing has changed.
            Err(_) => panicked += 1,
        }
        if step % 7 == 0 {
            cache.remove(&key);
            model.remove(&key);
        }
        let found = cache.get(&key);
        assert!(found.is_none_or(|found| model.get(&key).is_some_and(|page| found == page)));
        assert!(cache.held_bytes() <= cache.capacity());
    }
    assert!(panicked > 400);
    LIES.set(None);
    cache.clear();
    assert!(cache.is_empty());
    // Of what was counted wrongly something may be left, for the keys' ends said less.
    let left = cache.stats().bytes.keys;
    assert!(left <= cache.held_bytes() && cache.insert(1, b"it works").is_ok());
}

#[test]
#[should_panic(expected = "keys that are there are not counted")]
fn keys_that_are_there_are_not_weighed_later() {
    let cache: Cache<u64> = Cache::new(config(1 << 20)).unwrap();
    cache.insert(1, b"page").unwrap();
    let _ = cache.weigh_keys(|_| 1);
}
