//! Single flight: loaders that load, fail, panic and recurse, and those who wait for them.
#![cfg(not(zcache_loom))]

use std::error::Error;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use tests::callbacks::{LONGEST, config, filled, ignore, in_time, page, panics};
use tests::pattern::Random;
use zcache::policy::{Lru, Priority};
use zcache::{Cache, HotShare, InsertError, InsertOptions, LoadError};

#[test]
fn a_loader_that_asks_for_its_own_key_is_told_so() {
    in_time("recursion", || {
        let cache = filled(2 << 20, HotShare::Off);
        let got = cache.get_or_insert_with(&1, |to| {
            let load = |_: &mut Vec<u8>| -> Result<(), io::Error> { panic!("not run") };
            let inner = cache.get_or_insert_with(&1, load);
            assert!(matches!(inner, Err(LoadError::Recursive)), "{inner:?}");
            // Through another key's loader it is the same thread still.
            let outer =
                cache.get_or_insert_with(&2, |_| cache.get_or_insert_with(&1, load).map(drop));
            let Err(LoadError::Failed(error)) = outer else { panic!("{outer:?}") };
            assert!(matches!(error.downcast_ref(), Some(LoadError::Recursive)), "{error}");
            to.push(5);
            Ok::<(), io::Error>(())
        });
        assert_eq!(got.unwrap(), [5][..]);
        assert_eq!(cache.get(&1).as_deref(), Some(&[5][..]));
        cache.check();
    });
}

#[test]
fn the_loaders_error_keeps_its_type_also_in_a_box_and_as_a_source() {
    type Boxed = Box<dyn Error + Send + Sync>;
    let cache = filled(2 << 20, HotShare::Off);
    let not_found = || io::Error::from(io::ErrorKind::NotFound);
    let plain = cache.get_or_insert_with(&1, |_| Err(not_found())).unwrap_err();
    let boxed = cache.get_or_insert_with(&1, |_| Err(Boxed::from(not_found()))).unwrap_err();
    for error in [plain.clone(), plain, boxed] {
        let own = error.downcast_ref::<io::Error>().expect("what the loader returned");
        assert_eq!(own.kind(), io::ErrorKind::NotFound);
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::NotFound));
        assert!(error.downcast_ref::<InsertError>().is_none(), "of no other type");
    }
}

/// What one of a crowd got; `None`: it panicked.
type Got = Option<Result<Vec<u8>, LoadError>>;

/// A key that counts how often it was compared.
#[derive(Debug, Clone)]
struct Asked(u64, Arc<AtomicUsize>);

impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0 == other.0
    }
}

impl Eq for Asked {}

impl Hash for Asked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

fn asked() -> Cache<Asked> {
    Cache::new(config(2 << 20)).unwrap()
}

fn one() -> Asked {
    Asked(1, Arc::default())
}

/// Lets `threads` threads ask for one missing key at once. The loader goes on when the others have
/// its flight: a caller compares its key with the flight's, and waits then.
fn crowd<E: Into<Box<dyn Error + Send + Sync>>>(
    cache: &Cache<Asked>,
    threads: usize,
    load: impl Fn(&mut Vec<u8>) -> Result<(), E> + Sync,
) -> (usize, Vec<Got>) {
    let (runs, key, start) = (AtomicUsize::new(0), one(), Barrier::new(threads));
    let results = {
        let (runs, key, load) = (&runs, &key, &load);
        let ask = || {
            start.wait();
            let got = catch_unwind(AssertUnwindSafe(|| {
                cache.get_or_insert_with(key, move |to| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    while key.1.load(Ordering::Relaxed) < threads - 1 {
                        thread::yield_now();
                    }
                    load(to)
                })
            }));
            got.ok().map(|got| got.map(|page| page.to_vec()))
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    };
    (runs.into_inner(), results)
}

#[test]
fn of_many_threads_that_miss_a_key_one_loads_it_for_all() {
    in_time("crowd", || {
        let cache = asked();
        let (runs, results) = crowd(&cache, 12, |to| {
            to.extend(page(1, 3000));
            Ok::<(), io::Error>(())
        });
        assert_eq!(runs, 1);
        assert!(results.into_iter().all(|got| got.unwrap().unwrap() == page(1, 3000)));
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.load_failures), (1, 0));
        assert_eq!(cache.get(&one()).as_deref(), Some(&page(1, 3000)[..]));
        cache.check();
    });
}

/// Gives all keys one hash.
#[derive(Debug, Default)]
struct OneHash;

impl Hasher for OneHash {
    fn finish(&self) -> u64 {
        7
    }

    fn write(&mut self, _: &[u8]) {}
}

#[test]
fn keys_of_one_hash_are_loaded_at_once_and_each_gets_its_own_page() {
    in_time("one hash", || {
        const KEYS: u64 = 6;
        let hasher = BuildHasherDefault::<OneHash>::default();
        let cache: Cache<u64, _> = Cache::with_hasher(config(2 << 20), hasher).unwrap();
        // All loaders run when the first one goes on.
        let start = Barrier::new(KEYS as usize);
        let load = |key: u64| {
            cache.get_or_insert_with(&key, |to| {
                start.wait();
                to.extend(page(key, 2000));
                Ok::<(), io::Error>(())
            })
        };
        thread::scope(|scope| {
            let loads: Vec<_> = (0..KEYS)
                .map(|key| {
                    let load = &load;
                    scope.spawn(move || load(key))
                })
                .collect();
            for (key, got) in (0..KEYS).zip(loads) {
                assert_eq!(got.join().unwrap().unwrap(), page(key, 2000));
            }
        });
        assert_eq!(cache.stats().loads, KEYS);
        cache.check();
    });
}

#[test]
fn those_who_wait_for_a_loader_that_fails_share_its_error_and_the_next_call_loads() {
    in_time("failing crowd", || {
        let cache = asked();
        let (runs, results) =
            crowd(&cache, 8, |_| Err::<(), _>(io::Error::other("the disk is gone")));
        assert_eq!(runs, 1);
        let errors: Vec<_> = results
            .into_iter()
            .map(|got| match got.unwrap() {
                Err(LoadError::Failed(error)) => error,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(errors[0].to_string(), "the disk is gone");
        assert!(errors.iter().all(|error| Arc::ptr_eq(error, &errors[0])), "one error for all");
        assert!(!cache.contains_key(&one()));
        let load = |to: &mut Vec<u8>| {
            to.push(9);
            Ok::<(), io::Error>(())
        };
        assert_eq!(cache.get_or_insert_with(&one(), load).unwrap(), [9][..]);
        assert_eq!((cache.stats().loads, cache.stats().load_failures), (2, 1));
        cache.check();
    });
}

#[test]
fn those_who_wait_for_a_loader_that_panics_are_woken_and_the_next_call_loads() {
    in_time("panicking crowd", || {
        let cache = asked();
        let (runs, results) = crowd(&cache, 8, |_| -> Result<(), io::Error> { panic!("planted") });
        assert_eq!(runs, 1);
        assert_eq!(results.iter().filter(|got| got.is_none()).count(), 1, "one panics");
        for got in results.into_iter().flatten() {
            assert!(matches!(got, Err(LoadError::Panicked)), "{got:?}");
        }
        let load = |to: &mut Vec<u8>| {
            to.push(9);
            Ok::<(), io::Error>(())
        };
        assert_eq!(cache.get_or_insert_with(&one(), load).unwrap(), [9][..]);
        assert_eq!((cache.stats().loads, cache.stats().load_failures), (2, 1));
        cache.check();
    });
}

#[test]
fn a_loaders_page_that_is_too_large_is_an_error_for_all() {
    in_time("large crowd", || {
        let cache = asked();
        let (runs, results) = crowd(&cache, 4, |to| {
            to.resize(LONGEST + 1, 0);
            Ok::<(), io::Error>(())
        });
        assert_eq!(runs, 1);
        for got in results {
            let error = got.unwrap().unwrap_err();
            let LoadError::TooLarge { len, max_page } = error else { panic!("{error:?}") };
            assert_eq!((len, max_page), (LONGEST + 1, LONGEST));
        }
        assert!(!cache.contains_key(&one()));
        cache.check();
    });
}

#[test]
fn a_key_that_is_changed_while_it_is_loaded_keeps_the_change() {
    in_time("changes", || {
        let cache = filled(2 << 20, HotShare::Off);
        type Change = (fn(&Cache<u64>), Option<&'static [u8]>);
        let changes: [Change; 4] = [
            (|cache| cache.insert(1, &[2; 40]).unwrap(), Some(&[2; 40])),
            (|cache| assert!(!cache.remove(&1)), None),
            (|cache| assert!(cache.take(&1).is_none()), None),
            (Cache::clear, None),
        ];
        for (change, left) in changes {
            let got = cache.get_or_insert_with(&1, |to| {
                to.push(1);
                change(&cache);
                // Who comes after the change waits for no load that started before.
                thread::scope(|scope| {
                    let later = scope.spawn(|| {
                        cache.get_or_insert_with(&1, |to| {
                            to.extend([3; 3]);
                            Ok::<(), io::Error>(())
                        })
                    });
                    let later = later.join().unwrap().unwrap();
                    assert_eq!(later, *left.unwrap_or(&[3; 3]));
                });
                Ok::<(), io::Error>(())
            });
            assert_eq!(got.unwrap(), [1][..], "its caller gets what it loaded");
            assert_eq!(cache.get(&1).as_deref(), Some(left.unwrap_or(&[3; 3])));
            cache.remove(&1);
            cache.check();
        }
    });
}

#[test]
fn a_page_that_does_not_fit_is_returned_by_its_loader_all_the_same() {
    let cache = filled(2 << 20, HotShare::Off);
    let dead: Cache<u64> = Cache::new(config(2 << 20).time_to_live(Duration::ZERO)).unwrap();
    let load = |to: &mut Vec<u8>| {
        to.extend([4; 50]);
        Ok::<(), io::Error>(())
    };
    assert_eq!(dead.get_or_insert_with(&1, load).unwrap(), [4; 50][..]);
    assert_eq!(dead.get_or_insert_with(&1, load).unwrap(), [4; 50][..]);
    assert_eq!(dead.stats().loads, 2, "what expires at once is loaded again");
    assert_eq!(cache.insert(1, &[0; LONGEST + 1]).map_err(|error| error.to_string()), {
        let error = InsertError::TooLarge { len: LONGEST + 1, max_page: LONGEST, dropped: false };
        Err(error.to_string())
    });
    dead.check();
}

#[test]
fn a_panicking_hook_does_not_keep_other_threads_waiting() {
    in_time("other threads", || {
        let cache = Cache::<u64>::new(config(600 << 10)).unwrap();
        let cache = Arc::new(cache.on_removal(|removal| {
            assert!(removal.key() % 5 != 0, "planted");
        }));
        let workers: Vec<_> = (0..4)
            .map(|thread| {
                let cache = Arc::clone(&cache);
                thread::spawn(move || {
                    let mut random = Random::new(thread);
                    let mut panicked = 0;
                    for _ in 0..1500 {
                        let key = random.below(300) as u64;
                        let new = page(key, 4096);
                        panicked += usize::from(panics(|| {
                            match random.below(8) {
                                0 => ignore(cache.remove(&key)),
                                1 => ignore(cache.take(&key)),
                                2 => ignore(cache.get(&key).map(|got| assert!(got == new))),
                                _ => ignore(cache.insert(key, &new)),
                            };
                        }));
                    }
                    panicked
                })
            })
            .collect();
        let panicked: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert!(panicked > 50, "{panicked}");
        cache.check();
    });
}

/// A scan that loads its pages says so, and goes before what was asked for.
#[test]
fn what_is_loaded_has_the_priority_and_the_time_that_it_is_given() {
    let cache: Cache<u64> = Cache::new(config(500 << 10).policy(Lru::new())).unwrap();
    let load = |key: u64| {
        move |to: &mut Vec<u8>| -> Result<(), io::Error> {
            to.extend(page(key, 4000));
            Ok(())
        }
    };
    let (low, gone) = (
        InsertOptions::new().priority(Priority::Low),
        InsertOptions::new().time_to_live(Duration::ZERO),
    );
    assert_eq!(cache.get_or_insert_with_options(&1, gone, load(1)).unwrap(), page(1, 4000));
    assert_eq!(cache.get(&1), None, "its time was over at once");
    let lease = cache.get_or_lease(&2).lease().unwrap();
    cache.insert_if_valid_with_options(lease, &page(2, 4000), gone).unwrap();
    assert_eq!(cache.get(&2), None, "its time was over at once");
    for key in 1_000_000..1_000_040 {
        cache.get_or_insert_with(&key, load(key)).unwrap();
    }
    for key in 0..1000 {
        cache.get_or_insert_with_options(&key, low, load(key)).unwrap();
        let lease = cache.get_or_lease(&(2_000_000 + key)).lease().unwrap();
        cache.insert_if_valid_with_options(lease, &page(key, 4000), low).unwrap();
    }
    assert!(cache.stats().removals.evicted > 1000, "the cache is full");
    let kept = (1_000_000..1_000_040).filter(|key| cache.contains_key(key)).count();
    assert_eq!(kept, 40, "the scan went through and took nothing along");
}
