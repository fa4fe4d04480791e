//! Changes of a key that depend on what it has, and a look at all pages.
#![cfg(not(zcache_loom))]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use tests::callbacks::{LONGEST, config, in_time, logged, page, panics, taken};
use tests::pattern;
use zcache::codec::{self, Lz4, Zstd};
use zcache::{Cache, Config, HotShare, InsertError, InsertOptions, RemovalCause};
use zpool::SourceKind;

/// Caches that store and read pages in different ways.
fn caches() -> Vec<Cache<u64>> {
    let config = || config(4 << 20).checksum(true);
    let configs = [
        config(),
        config().codec(Zstd::level(1).unwrap()),
        config().source(SourceKind::Heap),
        config().hot(HotShare::Fraction(2)),
        config().time_to_live(Duration::from_secs(3600)),
    ];
    let memfd = cfg!(target_os = "linux").then(|| config().source(SourceKind::Memfd));
    configs.into_iter().chain(memfd).map(|config| Cache::new(config).unwrap()).collect()
}

fn dead() -> InsertOptions {
    InsertOptions::new().time_to_live(Duration::ZERO)
}

#[test]
fn a_page_is_inserted_for_a_key_without_one_only() {
    for cache in caches() {
        for (key, len) in [(1, 0), (2, 1), (3, 4096), (4, LONGEST)] {
            let (first, second) = (page(key, len), pattern::bytes(key, len + 1));
            let second = &second[..len.min(second.len())];
            assert_eq!(cache.insert_if_absent(key, &first), Ok(true));
            assert_eq!(cache.insert_if_absent(key, second), Ok(false));
            (0..3).for_each(|_| assert_eq!(cache.get(&key).as_deref(), Some(&first[..])));
            assert_eq!(cache.insert_if_absent(key, second), Ok(false), "hot or not");
            assert!(cache.remove(&key));
            assert_eq!(cache.insert_if_absent(key, second), Ok(true));
            assert_eq!(cache.get(&key).as_deref(), Some(second));
        }
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.inserts), (16, 0, 8), "no look-up is counted");
        cache.check();
    }
}

#[test]
fn a_page_whose_time_is_over_is_none() {
    for cache in caches() {
        cache.insert_with_options(1, &page(1, 4096), dead()).unwrap();
        assert_eq!(cache.insert_if_absent(1, b"new"), Ok(true));
        assert_eq!(cache.get(&1).as_deref(), Some(&b"new"[..]));
        // A page that ends while the other one is compressed: whatever comes first, it is told.
        for key in 2..200 {
            let soon = InsertOptions::new().time_to_live(Duration::from_millis(1));
            cache.insert_with_options(key, b"old", soon).unwrap();
            if cache.insert_if_absent(key, &page(key, LONGEST)).unwrap() {
                assert_eq!(cache.get(&key).as_deref(), Some(&page(key, LONGEST)[..]));
            } else {
                assert!(cache.get(&key).is_none_or(|found| found == b"old"[..]));
            }
        }
        let how = InsertOptions::new().time_to_live(Duration::ZERO);
        assert_eq!(cache.insert_if_absent_with_options(300, b"new", how), Ok(true));
        assert!(cache.get(&300).is_none());
        cache.check();
    }
}

#[test]
fn a_page_that_cannot_be_stored_ends_none() {
    let cache: Cache<u64> = Cache::new(config(1 << 20)).unwrap();
    let long = vec![1; LONGEST + 1];
    cache.insert(1, b"there").unwrap();
    assert_eq!(cache.insert_if_absent(1, &long), Ok(false), "there is nothing to store");
    assert_eq!(cache.get(&1).as_deref(), Some(&b"there"[..]));
    let lease = cache.get_or_lease(&2).lease().unwrap();
    let too_large = InsertError::TooLarge { len: long.len(), max_page: LONGEST, dropped: false };
    assert_eq!(cache.insert_if_absent(2, &long), Err(too_large));
    assert_eq!(cache.stats().rejected.dropped, 0);
    assert_eq!(cache.insert_if_valid(lease, b"loaded"), Ok(()), "the lease was not told");
    let lease = cache.get_or_lease(&3).lease().unwrap();
    assert_eq!(cache.insert_if_absent(3, b"stored"), Ok(true));
    assert_eq!(cache.insert_if_valid(lease, b"loaded"), Err(InsertError::Outdated));
    assert_eq!(cache.get(&3).as_deref(), Some(&b"stored"[..]));
    cache.check();
}

/// While room is made for the page, a hook inserts another one for the key.
#[test]
fn a_page_that_comes_while_room_is_made_stays() {
    in_time("insert_if_absent", || {
        // Whether a hook finds a slot depends on how the pages lie, and so on the capacity.
        let capacities = [400, 500, 600, 700, 800];
        let kept: usize = capacities.map(|kib| hooks_that_insert(kib << 10)).into_iter().sum();
        assert!(kept > 500, "{kept}");
    });
}

/// How many of 2000 pages give way to the page that a hook inserts for their key.
fn hooks_that_insert(capacity: usize) -> usize {
    let wanted = Arc::new(AtomicUsize::new(usize::MAX));
    let key = Arc::clone(&wanted);
    let cache = Arc::new_cyclic(|weak: &Weak<Cache<u64>>| {
        let weak = weak.clone();
        let cache = Cache::<u64>::new(config(capacity)).unwrap();
        cache.on_removal(move |_| {
            let (cache, wanted) = (weak.upgrade(), key.load(Ordering::Relaxed));
            // It takes the room that there is: none before the first victim's is free.
            let insert = |cache: Arc<Cache<u64>>| cache.insert(wanted as u64, b"the hook's");
            if wanted != usize::MAX && cache.is_some_and(|cache| insert(cache).is_ok()) {
                key.store(usize::MAX, Ordering::Relaxed);
            }
        })
    });
    let mut kept = 0;
    for key in 0..2000 {
        wanted.store(key, Ordering::Relaxed);
        let stored = cache.insert_if_absent(key as u64, &page(key as u64, 4096)).unwrap();
        let told = wanted.swap(usize::MAX, Ordering::Relaxed) == usize::MAX;
        let found = cache.get(&(key as u64));
        match found.as_deref() {
            Some(b"the hook's") => assert!(!stored && told),
            Some(found) => assert!(stored && found == page(key as u64, 4096)),
            // What the hook inserted was evicted for what is not stored, then.
            None => assert!(told && !stored),
        }
        kept += usize::from(!stored);
    }
    cache.check();
    kept
}

#[test]
fn of_many_threads_that_insert_for_a_key_one_does() {
    const THREADS: u64 = 4;
    const KEYS: u64 = 2000;
    let cache: Cache<u64> = Cache::new(config(16 << 20)).unwrap();
    let stored: usize = thread::scope(|scope| {
        let insert = |thread: u64| {
            let cache = &cache;
            move || {
                let mut mine = Vec::new();
                for key in 0..KEYS {
                    if cache.insert_if_absent(key, &page(key * THREADS + thread, 300)).unwrap() {
                        mine.push(key);
                    }
                }
                // Nobody has removed or replaced it.
                for key in &mine {
                    let own = page(key * THREADS + thread, 300);
                    assert_eq!(cache.get(key).as_deref(), Some(&own[..]));
                }
                mine.len()
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(insert(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((stored as u64, cache.len() as u64), (KEYS, KEYS));
    cache.check();
}

#[test]
fn insertions_and_removals_of_a_key_take_turns() {
    let (cache, log) = logged(config(4 << 20));
    let (stored, removed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for thread in 0..4 {
            let (cache, stored, removed) = (&cache, &stored, &removed);
            scope.spawn(move || {
                for round in 0..5000 {
                    let key = round % 3;
                    if thread % 2 == 0 {
                        let done = cache.insert_if_absent(key, &page(round, 100)).unwrap();
                        stored.fetch_add(usize::from(done), Ordering::Relaxed);
                    } else {
                        let done = cache.remove_if(&key, |page| page[0] % 8 != 0);
                        removed.fetch_add(usize::from(done), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (stored, removed) = (stored.into_inner(), removed.into_inner());
    assert_eq!(stored - removed, cache.len(), "no page was replaced, and each was removed once");
    let log = taken(&log);
    assert!(log.iter().all(|(_, cause)| *cause == RemovalCause::Removed));
    assert_eq!(log.len(), removed);
    cache.check();
}

#[test]
fn a_page_is_removed_if_it_is_unwanted() {
    for cache in caches() {
        for len in [1, 4096, LONGEST] {
            cache.insert(1, &page(1, len)).unwrap();
            (0..3).for_each(|_| drop(cache.get(&1)));
            let before = cache.stats();
            let mut asked = 0;
            let mut ask = |unwanted| {
                cache.remove_if(&1, |found| {
                    asked += 1;
                    assert_eq!(found, page(1, len));
                    unwanted
                })
            };
            assert!(!ask(false) && ask(true) && !ask(true), "and then it is gone");
            assert_eq!((asked, cache.contains_key(&1)), (2, false));
            let stats = cache.stats();
            assert_eq!((stats.hits, stats.misses), (before.hits, before.misses));
            assert_eq!(stats.removals.removed, before.removals.removed + 1);
        }
        cache.insert_with_options(1, &page(1, 4096), dead()).unwrap();
        assert!(!cache.remove_if(&1, |_| panic!("its time is over")));
        assert_eq!(cache.stats().removals.expired, 1);
        cache.check();
    }
}

/// The page changes while the closure runs: then that is about another page.
#[test]
fn a_page_that_comes_meanwhile_is_asked_about() {
    for cache in caches() {
        for unwanted in [b"new", b"old"] {
            cache.insert(1, b"old").unwrap();
            let mut asked = Vec::new();
            let removed = cache.remove_if(&1, |page| {
                asked.push(page.to_vec());
                if asked.len() == 1 {
                    cache.insert(1, b"new").unwrap();
                }
                page == unwanted || asked.len() == 1
            });
            assert_eq!(asked, [b"old", b"new"]);
            assert_eq!((removed, cache.contains_key(&1)), (unwanted == b"new", unwanted == b"old"));
            cache.remove(&1);
        }
        cache.insert(1, b"old").unwrap();
        assert!(!cache.remove_if(&1, |_| cache.remove(&1)), "somebody else has removed it");
        cache.insert(1, b"old").unwrap();
        let lease_of = || cache.get_or_lease(&1).lease();
        assert!(lease_of().is_none());
        assert!(cache.remove_if(&1, |_| true));
        assert!(lease_of().is_some());
        cache.check();
    }
}

/// What is compressed again is another object of the same page.
#[test]
fn a_page_that_is_stored_anew_meanwhile_is_asked_about_again_and_removed() {
    let config = Config::new(4 << 20).max_page(LONGEST).shards(2);
    let config = config.codec(codec::Plain).cold_codec(Lz4);
    let cache: Cache<u64> = Cache::new(config).unwrap();
    let text = page(7, LONGEST);
    for key in 0..50 {
        cache.insert(key, &text).unwrap();
    }
    cache.maintain(usize::MAX);
    let mut asked = 0;
    for key in 0..50 {
        let removed = cache.remove_if(&key, |page| {
            assert_eq!(page, text);
            asked += 1;
            cache.maintain(usize::MAX);
            true
        });
        assert!(removed && !cache.contains_key(&key));
    }
    assert!(cache.stats().recompression.recompressed > 0 && asked > 50, "{asked}");
    assert!(cache.is_empty());
    cache.check();
}

#[test]
fn a_closure_that_panics_removes_nothing() {
    let cache: Cache<u64> = Cache::new(config(1 << 20)).unwrap();
    cache.insert(1, &page(1, 4096)).unwrap();
    assert!(panics(|| cache.remove_if(&1, |_| panic!("planted"))));
    assert!(panics(|| cache.for_each(|_, _| panic!("planted"))));
    assert_eq!(cache.get(&1).as_deref(), Some(&page(1, 4096)[..]));
    cache.check();
}

#[test]
fn each_page_is_seen_once_and_nothing_is_counted() {
    for cache in caches() {
        let mut pages = BTreeMap::new();
        for key in 0..200 {
            let len = [0, 1, 500, 4096, LONGEST][key as usize % 5];
            let page = if key % 3 == 0 { vec![7; len] } else { page(key, len) };
            cache.insert(key, &page).unwrap();
            pages.insert(key, page);
        }
        (0..3).for_each(|_| (0..50).for_each(|key| drop(cache.get(&key))));
        cache.insert_with_options(1000, &page(1, 4096), dead()).unwrap();
        let before = cache.stats();
        let mut seen = BTreeMap::new();
        cache.for_each(|key, page| assert!(seen.insert(*key, page.to_vec()).is_none()));
        assert_eq!(seen, pages);
        let after = cache.stats();
        assert_eq!((after.hits, after.misses), (before.hits, before.misses));
        assert_eq!((after.removals.evicted, after.removals.expired), (0, 1), "that one is over");
        cache.check();
    }
}

#[test]
fn a_closure_that_sees_all_pages_may_call_every_method() {
    in_time("for_each", || {
        let cache: Cache<u64> = Cache::new(config(600 << 10)).unwrap();
        for key in 0..400 {
            cache.insert(key, &page(key, 4096)).unwrap();
        }
        let mut calls = 0;
        cache.for_each(|key, seen| {
            assert_eq!(seen, page(*key, 4096));
            calls += 1;
            match calls % 8 {
                0 => cache.insert(*key, seen).unwrap(),
                1 => assert!(cache.remove(key)),
                2 => drop(cache.get(key)),
                3 if calls < 20 => cache.for_each(|key, seen| assert_eq!(seen, page(*key, 4096))),
                4 => _ = cache.remove_if(key, |_| false),
                5 => _ = cache.insert_if_absent(key + 1000, &page(key + 1000, 4096)),
                6 => _ = cache.insert_from(*key, |to| to.extend_from_slice(seen)),
                _ => _ = cache.maintain(1 << 20),
            }
            if calls == 100 {
                cache.clear();
            }
        });
        assert!(calls >= 100, "{calls}");
        cache.check();
    });
}

#[test]
fn a_page_whose_scope_has_ended_is_none() {
    for hot in [HotShare::Off, HotShare::Fraction(2)] {
        let cache: Cache<u64> = Cache::new(config(4 << 20).hot(hot)).unwrap();
        let cache = cache.with_scopes(|key| (key % 2) as u32).unwrap();
        for key in 0..40 {
            cache.insert(key, &page(key, 4096)).unwrap();
            (0..3).for_each(|_| drop(cache.get(&key)));
        }
        cache.scope(1).clear();
        let mut seen = 0;
        cache.for_each(|key, _| seen += usize::from(key % 2 == 0));
        assert_eq!((seen, cache.len()), (20, 20));
        assert!(!cache.remove_if(&1, |_| panic!("it has ended")));
        assert_eq!(cache.get_range_into(&3, 0, &mut [0; 8]), None);
        assert_eq!(cache.get_many_into([(&3, &mut [0; LONGEST][..])]), [Ok(None)]);
        assert_eq!(cache.insert_if_absent(3, b"new"), Ok(true));
        assert_eq!(cache.insert_if_absent(2, b"new"), Ok(false));
        assert_eq!(cache.insert_from(5, |to| to.extend(b"new")), Ok(()));
        assert!([3, 5].into_iter().all(|key| cache.get(&key).as_deref() == Some(b"new")));
        // It ends while somebody is asked about a page of it.
        let ended = cache.remove_if(&2, |_| {
            cache.scope(0).clear();
            true
        });
        assert!(!ended && cache.insert_if_absent(2, b"new").unwrap());
        cache.check();
    }
}

/// Pages that are cut into pieces.
#[test]
fn long_pages_are_inserted_removed_and_seen_whole() {
    let config = Config::new(16 << 20).max_page(1 << 20).shards(2).checksum(true);
    let cache: Cache<u64> = Cache::new(config).unwrap();
    let (long, other) = (page(1, 700_000), page(2, 300_000));
    assert_eq!(cache.insert_if_absent(1, &long), Ok(true));
    assert_eq!(cache.insert_if_absent(1, &other), Ok(false));
    cache.insert(2, b"short").unwrap();
    let mut seen = BTreeMap::new();
    cache.for_each(|key, page| _ = seen.insert(*key, page.to_vec()));
    assert!(seen.len() == 2 && seen[&1] == long && seen[&2] == b"short");
    let mut asked = 0;
    let removed = cache.remove_if(&1, |page| {
        asked += 1;
        if asked == 1 {
            assert!(page == long);
            cache.insert(1, &other).unwrap();
        }
        asked == 1 || page != other
    });
    assert!(!removed && asked == 2 && cache.get(&1).is_some_and(|page| page == other));
    assert!(cache.remove_if(&1, |page| page == other) && cache.len() == 1);
    cache.check();
}
