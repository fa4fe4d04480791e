//! Pages in the caller's own memory, and pages that the caller writes into the cache's.
#![cfg(not(zcache_loom))]

use std::cell::Cell;
use std::time::Duration;

use tests::callbacks::{LONGEST, config, in_time, page, pages, panics};
use tests::pattern;
use zcache::codec::{self, Lz4, Zstd};
use zcache::{BufferTooSmall, Cache, Config, HotShare, InsertError, InsertOptions};
use zpool::SourceKind;

/// Caches that store and read pages in different ways.
fn caches() -> Vec<Cache<u64>> {
    let config = || config(4 << 20).checksum(true);
    let configs = [
        config().codec(Lz4),
        config().codec(Zstd::level(1).unwrap()),
        config().codec(codec::Plain).checksum(false),
        config().source(SourceKind::Heap),
        config().hot(HotShare::Fraction(2)),
        config().time_to_live(Duration::from_secs(3600)),
    ];
    let memfd = cfg!(target_os = "linux").then(|| config().source(SourceKind::Memfd));
    configs.into_iter().chain(memfd).map(|config| Cache::new(config).unwrap()).collect()
}

fn counts(cache: &Cache<u64>) -> (u64, u64) {
    let stats = cache.stats();
    (stats.hits, stats.misses)
}

#[test]
fn a_part_of_a_page_is_the_same_bytes_wherever_it_starts_and_ends() {
    for cache in caches() {
        for len in [0, 1, 100, 4096, LONGEST] {
            for page in pages(len) {
                cache.insert(1, &page).unwrap();
                // Twice, and a whole page: where pages get hot it is hot then.
                (0..3).for_each(|_| assert_eq!(cache.get(&1).as_deref(), Some(&page[..])));
                for start in [0, 1, 7, len / 2, len.saturating_sub(1), len, len + 1, usize::MAX] {
                    for most in [0, 1, 64, len / 2, len, len + 5] {
                        let mut to = vec![0xa5; most];
                        let (hits, misses) = counts(&cache);
                        let got = cache.get_range_into(&1, start, &mut to);
                        let wanted = &page[start.min(len)..];
                        let wanted = &wanted[..wanted.len().min(most)];
                        assert_eq!(got, Some(wanted.len()), "{len} {start} {most}");
                        assert_eq!(to[..wanted.len()], *wanted, "{len} {start} {most}");
                        assert!(to[wanted.len()..].iter().all(|byte| *byte == 0xa5), "the rest");
                        assert_eq!(counts(&cache), (hits + 1, misses), "one hit");
                    }
                }
            }
        }
        let (hits, misses) = counts(&cache);
        assert_eq!(cache.get_range_into(&2, 0, &mut [0; 8]), None);
        assert_eq!(cache.get_range_into(&2, 8, &mut [0; 8]), None);
        assert_eq!(counts(&cache), (hits, misses + 2), "one miss each");
        cache.check();
    }
}

#[test]
fn a_part_of_a_page_whose_time_is_over_is_a_miss() {
    for cache in caches() {
        for start in [0, 5, 5000] {
            let dead = InsertOptions::new().time_to_live(Duration::ZERO);
            cache.insert_with_options(1, &page(1, 4096), dead).unwrap();
            let (hits, misses) = counts(&cache);
            assert_eq!(cache.get_range_into(&1, start, &mut [0; 100]), None);
            assert_eq!(counts(&cache), (hits, misses + 1));
            assert!(cache.is_empty(), "and is gone");
        }
        cache.check();
    }
}

#[test]
fn many_pages_are_each_what_one_call_for_it_gives() {
    for cache in caches() {
        // More than one batch, with misses, pages that do not fit, and one key twice.
        for key in (0..100).filter(|key| key % 5 != 2) {
            cache.insert(key, &page(key, 500 + 37 * key as usize)).unwrap();
        }
        (0..3).for_each(|_| (20..40).for_each(|key| drop(cache.get(&key))));
        let keys: Vec<u64> = (0..100).chain([3, 3]).collect();
        let len = |key: u64| if key % 7 == 3 { 400 } else { LONGEST };
        let mut buffers: Vec<Vec<u8>> = keys.iter().map(|key| vec![0xa5; len(*key)]).collect();
        let (hits, misses) = counts(&cache);
        let buffers_of = keys.iter().zip(buffers.iter_mut().map(|buffer| &mut buffer[..]));
        let found = cache.get_many_into(buffers_of);
        assert_eq!(found.len(), keys.len());
        let (mut hit, mut missed) = (0, 0);
        for ((key, found), buffer) in keys.iter().zip(found).zip(&buffers) {
            let page = page(*key, 500 + 37 * *key as usize);
            let written = match found {
                Ok(Some(len)) => {
                    hit += 1;
                    assert_eq!(buffer[..len], page, "page {key}");
                    len
                }
                Ok(None) => {
                    missed += 1;
                    assert_eq!(key % 5, 2, "page {key} is there");
                    0
                }
                Err(BufferTooSmall { needed }) => {
                    assert_eq!((needed, key % 7), (page.len(), 3), "page {key}");
                    0
                }
            };
            assert!(buffer[written..].iter().all(|byte| *byte == 0xa5), "nothing else is written");
        }
        assert!(hit > 60 && missed == 20, "{hit} hits, {missed} misses");
        assert_eq!(counts(&cache), (hits + hit, misses + missed), "each is counted once");
        let pages = cache.get_many(&keys);
        for (key, page_of) in keys.iter().zip(pages) {
            let there = (key % 5 != 2).then(|| page(*key, 500 + 37 * *key as usize));
            assert_eq!(page_of.as_deref(), there.as_deref());
        }
        assert!(cache.get_many_into::<u64>([]).is_empty() && cache.get_many::<u64>([]).is_empty());
        cache.check();
    }
}

/// The iterator runs while nothing is pinned, so it may do what it likes.
#[test]
fn an_iterator_of_many_keys_may_call_the_cache() {
    in_time("get_many_into", || {
        let cache: Cache<u64> = Cache::new(config(4 << 20)).unwrap();
        let keys: Vec<u64> = (0..50).collect();
        let mut buffers = vec![[0; 64]; 50];
        let wanted = keys.iter().zip(&mut buffers).map(|(key, buffer)| {
            cache.insert(*key, &[*key as u8; 64]).unwrap();
            cache.remove(&key.wrapping_sub(20));
            (key, &mut buffer[..])
        });
        let found = cache.get_many_into(wanted);
        assert!(found.iter().all(|found| *found == Ok(Some(64))));
        assert!(keys.iter().zip(&buffers).all(|(key, buffer)| *buffer == [*key as u8; 64]));
        cache.check();
    });
}

#[test]
fn what_a_closure_writes_is_inserted() {
    for cache in caches() {
        for round in 0..3 {
            for (key, page) in (0_u64..).zip([0, 1, 4096, LONGEST].into_iter().flat_map(pages)) {
                cache
                    .insert_from(key, |to| {
                        assert!(to.is_empty(), "it starts empty");
                        to.extend_from_slice(&page);
                    })
                    .unwrap();
                assert_eq!(cache.get(&key).as_deref(), Some(&page[..]), "round {round}");
            }
            cache.check();
        }
        let short = InsertOptions::new().time_to_live(Duration::ZERO);
        cache.insert_from_with_options(99, short, |to| to.push(1)).unwrap();
        assert!(cache.get(&99).is_none());
        let filled = cache.insert_from(0, |to| to.resize(LONGEST + 1, 7));
        let too_large =
            InsertError::TooLarge { len: LONGEST + 1, max_page: LONGEST, dropped: true };
        assert_eq!((filled, cache.contains_key(&0)), (Err(too_large), false), "never stale");
        cache.check();
    }
}

#[test]
fn a_closure_that_fails_or_panics_leaves_the_old_page() {
    let cache: Cache<u64> = Cache::new(config(1 << 20)).unwrap();
    cache.insert(1, b"old").unwrap();
    let failed = cache.try_insert_from_with_options(1, InsertOptions::new(), |to| {
        to.extend([7; 5000]);
        Err("no page")
    });
    assert_eq!((failed, cache.get(&1).as_deref()), (Err("no page"), Some(&b"old"[..])));
    assert!(panics(|| {
        let _ = cache.insert_from(1, |to| {
            to.extend([7; 5000]);
            panic!("planted");
        });
    }));
    assert_eq!(cache.get(&1).as_deref(), Some(&b"old"[..]));
    cache.check();
    let stored = cache.try_insert_from(1, |to| {
        assert!(to.is_empty(), "nothing is left of what was not inserted");
        to.extend(b"new");
        Ok::<(), &str>(())
    });
    assert_eq!((stored, cache.get(&1).as_deref()), (Ok(Ok(())), Some(&b"new"[..])));
    cache.check();
}

#[test]
fn closures_inside_one_another_have_a_vector_each() {
    in_time("insert_from", || {
        let cache: Cache<u64> = Cache::new(config(1 << 20)).unwrap();
        for _ in 0..3 {
            cache
                .insert_from(1, |outer| {
                    outer.extend([1; 100]);
                    cache
                        .insert_from(2, |inner| {
                            assert!(inner.is_empty());
                            inner.extend([2; 200]);
                            assert!(cache.get(&3).is_none());
                            cache.insert(3, &[3; 300]).unwrap();
                            cache.trim();
                        })
                        .unwrap();
                    // Its own key, and then it is replaced.
                    cache.insert(1, &[9; 10]).unwrap();
                    outer.extend([1; 100]);
                })
                .unwrap();
            let lens = [1, 2, 3].map(|key| cache.get(&key).unwrap());
            assert_eq!(lens, [vec![1; 200], vec![2; 200], vec![3; 300]]);
            cache.remove(&3);
            cache.check();
        }
    });
}

/// The room of the vectors that closures get, one call after the other.
fn room(cache: &Cache<u64>, calls: usize, write: impl Fn(&mut Vec<u8>)) -> Vec<usize> {
    let room = |_| {
        let seen = Cell::new(0);
        let _ = cache.insert_from(1, |to| {
            seen.set(to.capacity());
            write(to);
        });
        seen.get()
    };
    (0..calls).map(room).collect()
}

#[test]
fn the_vector_is_kept_and_charged_and_not_if_it_is_too_large() {
    let cache: Cache<u64> = Cache::new(config(1 << 20)).unwrap();
    let used = |cache: &Cache<u64>| cache.stats().bytes.codec;
    cache.insert(1, &page(1, 6000)).unwrap();
    let before = used(&cache);
    let write = |to: &mut Vec<u8>| to.extend_from_slice(&page(1, 6000));
    let rooms = room(&cache, 3, write);
    assert!(rooms[0] == 0 && rooms[1] >= 6000 && rooms[1] == rooms[2], "{rooms:?}");
    let kept = used(&cache) - before;
    assert!((rooms[1]..rooms[1] + 100).contains(&kept), "{kept} bytes for {}", rooms[1]);
    cache.check();
    // What the closure takes away is not charged any more.
    room(&cache, 1, |to| drop(std::mem::take(to)));
    assert_eq!(used(&cache), before);
    cache.check();
    room(&cache, 1, write);
    assert!(used(&cache) > before);
    // More than two of the longest pages would fill.
    let rooms = room(&cache, 2, |to| to.reserve_exact(2 * LONGEST + 1));
    assert!(rooms[0] >= 6000 && rooms[1] == 0, "{rooms:?}");
    assert_eq!(used(&cache), before);
    cache.check();
    room(&cache, 1, write);
    cache.trim();
    assert_eq!(room(&cache, 1, write), [0], "it goes with what else is held without need");
    cache.check();
}

/// What is kept is within the capacity, however many threads write at once.
#[test]
fn vectors_stay_within_the_capacity() {
    let config = Config::new(600 << 10).max_page(LONGEST).shards(2);
    let cache: Cache<u64> = Cache::new(config).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let cache = &cache;
            scope.spawn(move || {
                for key in 0..300 {
                    let page = pattern::bytes(key, 1 + (key as usize * 97) % LONGEST);
                    let _ = cache.insert_from(thread * 1000 + key, |to| {
                        to.extend_from_slice(&page);
                        assert!(cache.held_bytes() <= cache.capacity());
                    });
                }
            });
        }
    });
    assert!(cache.held_bytes() <= cache.capacity());
    cache.check();
}

/// A vector that no call needs goes before any entry does.
#[test]
fn an_idle_vector_makes_way() {
    let cache: Cache<u64> = Cache::new(config(500 << 10)).unwrap();
    room(&cache, 1, |to| to.extend_from_slice(&page(1, LONGEST)));
    let mut key = 2;
    while cache.stats().removals.evicted < 2000 {
        cache.insert(key, &pattern::bytes(key, 2000)).unwrap();
        key += 1;
    }
    assert_eq!(room(&cache, 1, |_| ()), [0]);
    cache.check();
}

/// Pages that are cut into pieces, by all the calls of this file.
#[test]
fn long_pages_go_in_and_come_out_in_the_callers_memory() {
    const LONG: usize = 700_000;
    for hot in [HotShare::Off, HotShare::Fraction(2)] {
        let config = Config::new(16 << 20).max_page(1 << 20).shards(2).checksum(true).hot(hot);
        let cache: Cache<u64> = Cache::new(config).unwrap();
        let long = page(1, LONG);
        cache.insert_from(1, |to| to.extend_from_slice(&long)).unwrap();
        cache.insert(2, &page(2, 4096)).unwrap();
        for (start, most) in [(0, 100), (0, LONG), (131_000, 300_000), (LONG - 7, 100), (LONG, 9)] {
            let mut to = vec![0xa5; most];
            let wanted = &long[start..LONG.min(start + most)];
            let (hits, misses) = counts(&cache);
            assert_eq!(cache.get_range_into(&1, start, &mut to), Some(wanted.len()));
            assert!(to[..wanted.len()] == *wanted, "{start} {most}");
            assert_eq!(counts(&cache), (hits + 1, misses));
        }
        assert_eq!(cache.read(&1, |page| page == long), Some(true));
        let mut buffers = [vec![0; LONG], vec![0; LONG - 1], vec![0; 4096]];
        let buffers_of = [&1, &1, &2].into_iter().zip(buffers.iter_mut().map(|to| &mut to[..]));
        let found = cache.get_many_into(buffers_of);
        assert_eq!(found, [Ok(Some(LONG)), Err(BufferTooSmall { needed: LONG }), Ok(Some(4096))]);
        assert!(buffers[0] == long && buffers[2] == page(2, 4096));
        let many = cache.get_many(&[1, 2]);
        assert!(many[0].as_deref() == Some(&long[..]) && many[1].is_some());
        cache.check();
    }
}
