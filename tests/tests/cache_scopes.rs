//! Scopes: what ends together, what is counted, and who goes for a limit.
#![cfg(not(zcache_loom))]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

use tests::pattern::{self, Random};
use zcache::codec::Lz4;
use zcache::{Cache, Config, ConfigError, HotShare, InsertError, Leased, RemovalCause};

type Key = (u32, u32);

fn panics<R>(f: impl FnOnce() -> R) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

/// A cache whose hashes of keys are the same in each run.
type Fixed = Cache<Key, BuildHasherDefault<DefaultHasher>>;

/// A cache whose keys' first parts are their scopes.
fn cache(capacity: usize) -> Fixed {
    of(config(capacity))
}

fn config(capacity: usize) -> Config {
    Config::new(capacity).max_page(4096).codec(Lz4)
}

fn of(config: Config) -> Fixed {
    let cache = Cache::with_hasher(config, BuildHasherDefault::default()).unwrap();
    cache.with_scopes(|key: &Key| key.0).unwrap()
}

/// A page of its own for each key and version, of some hundred bytes when it is compressed.
fn page((scope, number): Key, version: u32) -> Vec<u8> {
    let seed = u64::from(scope) << 40 ^ u64::from(number) << 8 ^ u64::from(version);
    let mut page = vec![0; 4096];
    page[..4].copy_from_slice(&version.to_le_bytes());
    pattern::fill(seed, &mut page[4..304]);
    page
}

fn version(page: &[u8]) -> u32 {
    u32::from_le_bytes(page[..4].try_into().unwrap())
}

#[test]
fn a_scope_that_is_cleared_is_a_miss_by_every_way_there_is() {
    for hot in [HotShare::Off, HotShare::Fraction(4)] {
        let cache = of(config(8 << 20).hot(hot));
        for key in (0..3).flat_map(|scope| (0..50).map(move |number| (scope, number))) {
            cache.insert(key, &page(key, 1)).unwrap();
            (0..4).for_each(|_| assert!(cache.get(&key).is_some()));
        }
        assert_eq!(cache.stats().frames > 0, hot != HotShare::Off);
        let before = cache.stats();
        cache.scope(1).clear();
        let mut to = [0; 4096];
        for number in 0..50 {
            let key = (1, number);
            assert_eq!(cache.get(&key), None);
            assert_eq!(cache.get_into(&key, &mut to), Ok(None));
            assert_eq!(cache.read(&key, <[u8]>::to_vec), None);
            assert_eq!(cache.get_range(&key, 0..9), None);
            assert_eq!(cache.get_many([&key]), [None]);
            assert_eq!(cache.peek(&key), None);
            assert!(!cache.contains_key(&key));
            assert!(matches!(cache.get_or_lease(&key), Leased::Lease(_)));
        }
        assert_eq!((cache.take(&(1, 0)), cache.remove(&(1, 1))), (None, false));
        assert_eq!(cache.len(), 100);
        let mut keys = cache.keys();
        keys.sort_unstable();
        assert!(keys.len() == 100 && keys.iter().all(|key| key.0 != 1));
        assert!(
            (0..50).all(|number| cache.get(&(2, number)).as_deref() == Some(&page((2, number), 1)))
        );
        let stats = cache.stats();
        assert_eq!(stats.ended, 48, "of 50, two were taken");
        assert_eq!(stats.removals.cleared, 2);
        assert!(
            stats.removals.removed == before.removals.removed
                && stats.misses >= before.misses + 250
        );
        assert_eq!(cache.scope(1).len(), 0);
        assert_eq!(cache.scope(2).len(), 50);
        cache.check();
        // And again, in the same scope.
        cache.insert((1, 7), &page((1, 7), 2)).unwrap();
        assert_eq!(cache.get(&(1, 7)).as_deref(), Some(&page((1, 7), 2)[..]));
        assert_eq!((cache.len(), cache.scope(1).len()), (101, 1));
        cache.check();
        cache.retain(|key| {
            assert!(key.0 != 1 || key.1 == 7, "nobody asks about what has ended");
            key.0 != 0
        });
        assert_eq!((cache.len(), cache.stats().entries), (51, 51));
        cache.check();
    }
}

#[test]
fn what_has_ended_goes_before_anything_else() {
    let log = std::sync::Arc::new(Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&log);
    let cache = cache(4 << 20);
    let cache =
        cache.on_removal(move |gone| told.lock().unwrap().push((*gone.key(), gone.cause())));
    // Every third page is another scope's, which then ends.
    let mut full = 0;
    while log.lock().unwrap().is_empty() {
        let key = (if full % 3 == 0 { 2 } else { 1 }, full);
        cache.insert(key, &page(key, 1)).unwrap();
        full += 1;
    }
    log.lock().unwrap().clear();
    let kept: Vec<Key> = cache.keys().into_iter().filter(|key| key.0 == 1).collect();
    let ended = cache.scope(2).len();
    assert!(ended > full as usize / 4, "{ended} of {full}");
    cache.scope(2).clear();
    let bytes = cache.stats().bytes.payload;
    for number in 0..ended as u32 / 2 {
        cache.insert((3, number), &page((3, number), 1)).unwrap();
    }
    let gone = std::mem::take(&mut *log.lock().unwrap());
    assert!(
        gone.iter().all(|(key, cause)| (key.0, *cause) == (2, RemovalCause::Cleared)),
        "{gone:?}"
    );
    assert!(kept.iter().all(|key| cache.contains_key(key)), "others stay");
    assert!(cache.stats().bytes.payload < bytes * 11 / 10);
    // And all of it is gone after one turnover.
    for number in 0..2 * full {
        cache.insert((4, number), &page((4, number), 1)).unwrap();
    }
    assert_eq!(cache.stats().ended, 0);
    cache.check();
    cache.scope(4).clear();
    assert_eq!(cache.maintain(usize::MAX).recompression.tried, 0);
    cache.clear();
    assert_eq!((cache.stats().entries, cache.stats().ended), (0, 0));
    cache.check();
}

#[test]
fn loads_of_a_scope_that_ends_are_not_stored() {
    let cache = cache(8 << 20);
    let lease = |key: Key| cache.get_or_lease(&key).lease().unwrap();
    let (ours, other) = (lease((1, 1)), lease((2, 1)));
    cache.scope(1).clear();
    assert_eq!(cache.insert_if_valid(ours, &page((1, 1), 1)), Err(InsertError::Outdated));
    assert_eq!(cache.insert_if_valid(other, &page((2, 1), 1)), Ok(()));
    let loaded = cache.get_or_insert_with(&(1, 2), |to| {
        to.extend(page((1, 2), 1));
        // As if its table were dropped meanwhile.
        cache.scope(1).clear();
        Ok::<(), std::io::Error>(())
    });
    assert_eq!(loaded.unwrap(), page((1, 2), 1));
    assert!(
        !cache.contains_key(&(1, 2)) && !cache.contains_key(&(1, 1)) && cache.contains_key(&(2, 1))
    );
    let again = cache.get_or_insert_with(&(1, 2), |to| {
        to.extend(page((1, 2), 2));
        Ok::<(), std::io::Error>(())
    });
    assert!(again.unwrap() == page((1, 2), 2) && cache.contains_key(&(1, 2)));
    cache.check();
}

/// More scopes than a cache of this size has places for.
#[test]
fn any_number_of_scopes_behaves_like_a_map() {
    for (scopes, seed) in [(3, 1), (14, 2), (200, 3)] {
        let cache = cache(1 << 20);
        let (mut map, mut rng) = (HashMap::<Key, u32>::new(), Random::new(seed));
        let mut found = 0;
        for step in 0..30_000 {
            let key = (rng.below(scopes as usize) as u32, rng.below(30) as u32);
            match rng.below(100) {
                0..40 => {
                    cache.insert(key, &page(key, step)).unwrap();
                    map.insert(key, step);
                }
                40..90 => {
                    if let Some(page) = cache.get(&key) {
                        assert_eq!(Some(&version(&page)), map.get(&key), "{key:?}");
                        found += 1;
                    }
                }
                90..94 => {
                    assert!(!cache.remove(&key) || map.contains_key(&key));
                    map.remove(&key);
                }
                94..98 => {
                    let lease = cache.get_or_lease(&key).lease();
                    if rng.below(2) == 0 {
                        cache.scope(key.0).clear();
                        map.retain(|of, _| of.0 != key.0);
                        if let Some(lease) = lease {
                            let late = cache.insert_if_valid(lease, &page(key, step));
                            assert_eq!(late, Err(InsertError::Outdated));
                        }
                    } else if let Some(lease) = lease {
                        cache.insert_if_valid(lease, &page(key, step)).unwrap();
                        map.insert(key, step);
                    }
                }
                98 => {
                    let limit = (rng.below(2) == 0).then(|| rng.below(100_000) as u64);
                    let _ = cache.scope(key.0).set_limit(limit);
                }
                _ => {
                    cache.scope(key.0).clear();
                    map.retain(|of, _| of.0 != key.0);
                    let left = cache.keys();
                    assert!(left.iter().all(|key| map.contains_key(key)), "nothing comes back");
                }
            }
            if step % 3000 == 0 {
                cache.check();
            }
        }
        assert!(found > 1000, "{found} hits");
        cache.clear();
        cache.check();
        assert!((0..scopes).all(|scope| cache.scope(scope).is_empty()));
    }
}

#[test]
fn a_scope_with_a_limit_keeps_to_it_and_costs_others_nothing() {
    // A tenant that asks for few pages often, beside one that goes through many once.
    const LIMIT: usize = 400_000;
    let hits = |capacity: usize, scanned: bool, limit: Option<u64>| {
        let cache = cache(capacity);
        cache.scope(2).set_limit(limit).unwrap();
        let (mut rng, mut hits) = (Random::new(7), 0);
        for step in 0..30_000_u32 {
            let part = rng.below(1 << 20) as f64 / f64::from(1 << 20);
            let number = (part.powi(3) * 20_000.0) as u32;
            if cache.get(&(1, number)).is_some() {
                hits += u32::from(step >= 10_000);
            } else {
                cache.insert((1, number), &page((1, number), 1)).unwrap();
            }
            if scanned {
                cache.insert((2, step), &page((2, step), 1)).unwrap();
                let bytes = cache.scope(2).bytes();
                assert!(limit.is_none_or(|limit| bytes <= limit), "{bytes} bytes");
            }
        }
        cache.check();
        f64::from(hits) / 20_000.0
    };
    // What it has of the memory is the limit, and a quarter for what is lost between entries.
    let alone = hits((4 << 20) - LIMIT * 5 / 4, false, None);
    let limited = hits(4 << 20, true, Some(LIMIT as u64));
    let unlimited = hits(4 << 20, true, None);
    assert!(unlimited < limited - 0.05, "a scan costs something: {unlimited} {limited}");
    assert!(limited > alone - 0.01, "with a limit it costs nothing: {limited} {alone}");
}

#[test]
fn what_was_hit_in_a_limited_scope_outlasts_what_was_not() {
    let cache = cache(4 << 20);
    cache.scope(1).set_limit(Some(100_000)).unwrap();
    (0..20).for_each(|number| cache.insert((1, number), &page((1, number), 1)).unwrap());
    for number in 1000..3000 {
        (0..20).for_each(|number| _ = cache.get(&(1, number)));
        cache.insert((1, number), &page((1, number), 1)).unwrap();
    }
    assert!((0..20).filter(|number| cache.contains_key(&(1, *number))).count() >= 15);
    let stats = cache.scope(1).stats();
    assert!(stats.bytes <= 100_000 && stats.limit == Some(100_000) && stats.evicted > 1500);
    assert_eq!(stats.inserts, 2020);
    // The limit outlasts the pages, and is taken away again.
    cache.scope(1).clear();
    assert_eq!(cache.scope(1).stats().limit, Some(100_000));
    (0..1000).for_each(|number| cache.insert((1, number), &page((1, number), 1)).unwrap());
    assert!(cache.scope(1).bytes() <= 100_000);
    cache.scope(1).set_limit(None).unwrap();
    (0..1000).for_each(|number| cache.insert((1, number), &page((1, number), 1)).unwrap());
    assert!(cache.scope(1).len() == 1000 && cache.scope(1).bytes() > 300_000);
    cache.check();
}

#[test]
fn a_function_that_panics_changes_nothing() {
    let calls = AtomicUsize::new(0);
    let calls: &'static AtomicUsize = Box::leak(Box::new(calls));
    let cache = Cache::<u32>::new(Config::new(2 << 20)).unwrap();
    let cache = cache.with_scopes(move |key| {
        assert!(calls.fetch_add(1, Ordering::Relaxed) != 1, "the second call");
        *key
    });
    let cache = cache.unwrap();
    cache.insert(1, &[1; 100]).unwrap();
    assert!(panics(|| cache.insert(1, &[2; 100])));
    assert_eq!(cache.get(&1).as_deref(), Some(&[1; 100][..]));
    cache.check();
}

#[test]
fn scopes_are_for_caches_that_have_room_for_them_and_no_entries() {
    let cache = Cache::<u32>::new(Config::new(2 << 20)).unwrap();
    assert!(panics(|| cache.scope(1)));
    cache.insert(1, &[1; 100]).unwrap();
    assert!(panics(move || cache.with_scopes(|key| *key)));
    let least = match Cache::<u32>::new(Config::new(1)) {
        Err(ConfigError::TooSmall { least }) => least,
        other => panic!("{other:?}"),
    };
    let small = Cache::<u32>::new(Config::new(least)).unwrap();
    let refused = small.with_scopes(|key| *key);
    let Err(ConfigError::TooSmall { least: more }) = refused else { panic!("{refused:?}") };
    assert!(more > least && more < least + (16 << 10));
    let cache = Cache::<u32>::new(Config::new(more)).unwrap().with_scopes(|key| *key).unwrap();
    cache.insert(7, &[1; 100]).unwrap();
    cache.check();
}

/// One thread a scope inserts pages of a version, ends the scope, and goes on with the next
/// version. Others read, insert elsewhere, and keep the slots of scopes changing hands.
#[test]
fn nobody_finds_what_had_ended_before_he_asked() {
    const SCOPES: u32 = 24;
    let rounds = if cfg!(debug_assertions) { 60 } else { 400 };
    let cache = of(config(1 << 20).hot(HotShare::Fraction(4)));
    let least: Vec<AtomicU32> = (0..SCOPES).map(|_| AtomicU32::new(0)).collect();
    let running = AtomicUsize::new(2);
    thread::scope(|threads| {
        for owner in 0..2 {
            let (cache, least, running) = (&cache, &least, &running);
            threads.spawn(move || {
                for round in 0..rounds {
                    for scope in (owner..SCOPES).step_by(2) {
                        for number in 0..8 {
                            cache.insert((scope, number), &page((scope, number), round)).unwrap();
                        }
                        cache.scope(scope).clear();
                        least[scope as usize].store(round + 1, Ordering::SeqCst);
                    }
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        for seed in 0..2 {
            let (cache, least, running) = (&cache, &least, &running);
            threads.spawn(move || {
                let mut rng = Random::new(seed);
                let mut to = [0; 4096];
                while running.load(Ordering::SeqCst) > 0 {
                    let key = (rng.below(SCOPES as usize) as u32, rng.below(8) as u32);
                    for _ in 0..3 {
                        let known = least[key.0 as usize].load(Ordering::SeqCst);
                        if cache.get_into(&key, &mut to) == Ok(Some(4096)) {
                            assert!(version(&to) >= known, "{key:?}: {} {known}", version(&to));
                        }
                    }
                    if rng.below(50) == 0 {
                        _ = cache.maintain(1 << 16);
                    }
                }
            });
        }
    });
    cache.check();
    cache.clear();
    cache.check();
    assert_eq!(cache.stats().entries, 0);
}
