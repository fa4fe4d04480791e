//! User code that calls the cache from inside its calls: nothing waits for itself.
#![cfg(not(zcache_loom))]

use std::cell::Cell;
use std::hash::{BuildHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tests::callbacks::{LONGEST, config, filled, ignore, in_time, page};
use zcache::{Cache, HotShare, InsertOptions, LoadError, RemovalCause, Waited, Waiting};

/// Calls every method, on keys above `from` and on those that are there.
fn call_everything<K: Hash + Eq + Clone + Send + Sync>(
    cache: &Cache<K, impl BuildHasher>,
    key: impl Fn(u64) -> K,
    deep: bool,
) {
    let load = |to: &mut Vec<u8>| {
        to.extend(page(3, 900));
        Ok::<(), io::Error>(())
    };
    let _ = cache.insert(key(1), &page(1, 5000));
    let _ = cache.insert_with_options(
        key(2),
        &page(2, 500),
        InsertOptions::new().time_to_live(Duration::ZERO),
    );
    let _ =
        (cache.get(&key(1)), cache.get(&key(2)), cache.peek(&key(1)), cache.contains_key(&key(1)));
    let _ = cache.get_into(&key(1), &mut [0; LONGEST]);
    let _ = cache.read(&key(1), |page| (page.len(), cache.get(&key(1)), cache.len()));
    let _ = cache.get_range(&key(1), 5..10);
    let _ = cache.get_range_into(&key(1), 5, &mut [0; 5]);
    let _ = cache.get_many_into([(&key(1), &mut [0; LONGEST][..])]);
    let _ = cache.insert_from(key(7), |to| {
        let _ = cache.insert_from(key(8), |inner| inner.extend(page(8, 900)));
        to.extend(page(7, 900));
    });
    let _ = cache.get_or_insert_with(&key(3), load);
    if let Some(lease) = cache.get_or_lease(&key(4)).lease() {
        let _ = cache.insert_if_valid(lease, &page(4, 700));
    }
    let keys = [key(1), key(3), key(9)];
    let _ = cache.get_many(&keys);
    let _ = cache.insert_many([(key(5), [5; 90]), (key(6), [6; 90])]);
    let _ = (cache.insert_if_absent(key(1), &[1; 90]), cache.insert_if_absent(key(10), &[1; 90]));
    let _ = (cache.remove_if(&key(1), |_| false), cache.remove_if(&key(10), |_| true));
    let _ = (cache.take(&key(5)), cache.remove(&key(6)), cache.keys());
    let _ = (cache.len(), cache.is_empty(), cache.capacity(), cache.held_bytes(), cache.max_page());
    let capacity = cache.capacity();
    let _ = (cache.resize(capacity + 4096), cache.resize(capacity));
    let _ = cache.compact(1 << 16);
    cache.trim();
    let _ = (cache.stats().to_string(), format!("{cache:?}"));
    if deep {
        cache.retain(|kept| {
            let _ = (cache.get(kept), cache.stats());
            *kept != key(1)
        });
        cache.for_each(|key, page| {
            let _ = (cache.get(key), cache.stats(), page.len());
        });
        cache.clear();
    }
}

const SHARES: [HotShare; 2] = [HotShare::Off, HotShare::Fraction(4)];

/// Hits some pages until they are hot, where pages get hot.
fn heat(cache: &Cache<u64>) {
    for key in cache.keys() {
        (0..3).for_each(|_| drop(cache.get(&key)));
    }
}

#[test]
fn a_hook_may_call_every_method() {
    SHARES.into_iter().for_each(hook_calls_every_method);
}

fn hook_calls_every_method(share: HotShare) {
    in_time("hook", move || {
        let depth = Arc::new(AtomicUsize::new(0));
        let calls = Arc::new(AtomicUsize::new(0));
        let (inside, counted) = (Arc::clone(&depth), Arc::clone(&calls));
        let cache = Arc::new_cyclic(|weak: &Weak<Cache<u64>>| {
            let weak = weak.clone();
            let cache: Cache<u64> = Cache::new(config(600 << 10).hot(share)).unwrap();
            cache.on_removal(move |removal| {
                let Some(cache) = weak.upgrade() else { return };
                // What it does calls it again; that is deep enough.
                if inside.fetch_add(1, Ordering::Relaxed) == 0 {
                    counted.fetch_add(1, Ordering::Relaxed);
                    assert!(
                        cache
                            .get(removal.key())
                            .is_none_or(|_| { removal.cause() == RemovalCause::Replaced })
                    );
                    assert_eq!(removal.page().map(|page| page.len()), Some(removal.len()));
                    call_everything(&cache, |key| key, removal.key() % 8 == 0);
                    let _ = cache.insert(*removal.key(), &[1; 30]);
                    cache.remove(removal.key());
                }
                inside.fetch_sub(1, Ordering::Relaxed);
            })
        });
        for key in 100..500 {
            let _ = cache.insert(key, &page(key, 4096));
            let _ = cache.insert(key, &page(key, 2000));
            (0..3).for_each(|_| drop((cache.get(&key), cache.get(&(key - 2)))));
            let _ = cache.take(&(key - 3));
            if key % 64 == 0 {
                let _ = cache.resize(500 << 10);
                cache.clear();
                let _ = cache.resize(600 << 10);
            }
        }
        let dead = InsertOptions::new().time_to_live(Duration::ZERO);
        let _ = cache.insert_with_options(100, &page(1, 500), dead);
        assert!(cache.get(&100).is_none());
        assert!(calls.load(Ordering::Relaxed) > 400);
        cache.check();
    });
}

#[test]
fn a_loader_may_call_every_method_for_other_keys() {
    in_time("loader", || {
        let cache = filled(600 << 10, HotShare::Off);
        for deep in [false, true] {
            let key = 1000 + u64::from(deep);
            let got = cache.get_or_insert_with(&key, |to| {
                call_everything(&cache, |key| key, deep);
                let inner = cache.get_or_insert_with(&2000, |to| {
                    call_everything(&cache, |key| key, false);
                    to.push(2);
                    Ok::<(), io::Error>(())
                });
                assert_eq!(inner.unwrap(), [2][..]);
                // Its own key, in all ways that do not load.
                assert!(cache.get(&key).is_none() && cache.peek(&key).is_none());
                let waiting = cache.get_or_lease(&key).waiting();
                assert_eq!(waiting.is_none(), deep, "after a clear it is to be loaded anew");
                let waited = waiting.map(Waiting::wait);
                assert!(matches!(waited, None | Some(Waited::Failed(LoadError::Recursive))));
                to.extend([1; 40]);
                Ok::<(), io::Error>(())
            });
            assert_eq!(got.unwrap(), [1; 40][..]);
            // A clear meanwhile keeps it out, and no change of another key does.
            assert_eq!(cache.contains_key(&key), !deep);
            cache.check();
        }
    });
}

#[test]
fn a_reader_may_call_every_method() {
    SHARES.into_iter().for_each(reader_calls_every_method);
}

fn reader_calls_every_method(share: HotShare) {
    in_time("read", move || {
        let cache = filled(600 << 10, share);
        heat(&cache);
        for deep in [false, true] {
            let key = *cache.keys().iter().max().unwrap();
            let before = cache.peek(&key).unwrap();
            let same = cache.read(&key, |page| {
                call_everything(&cache, |key| key, deep);
                let _ = cache.insert(key, &[1; 100]);
                let _ = cache.read(&key, |again| assert_eq!(again, [1; 100]));
                cache.remove(&key);
                page == before
            });
            assert_eq!(same, Some(true), "the page is a snapshot");
            cache.insert(100, &page(100, 4096)).unwrap();
            cache.check();
        }
    });
}

#[test]
fn a_retaining_closure_may_call_every_method() {
    in_time("retain", || {
        let cache = filled(600 << 10, HotShare::Off);
        let mut asked = 0;
        cache.retain(|key| {
            asked += 1;
            if asked % 8 == 1 {
                call_everything(&cache, |key| key, false);
            }
            if asked == 20 {
                cache.retain(|key| key % 2 == 0);
                cache.clear();
            }
            let _ = cache.get(key);
            true
        });
        assert!(asked >= 20);
        cache.check();
    });
}

thread_local! {
    static CALLING: Cell<bool> = const { Cell::new(false) };
}

/// When a key calls its cache.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    Compared,
    Hashed,
    Dropped,
}

/// A key that calls its cache.
#[derive(Debug, Clone)]
struct Clinging {
    name: u64,
    when: When,
    cache: Weak<Cache<Clinging>>,
    calls: Arc<AtomicUsize>,
}

impl Clinging {
    /// Calls everything at a time that is the key's own, unless it is inside of such a call.
    fn call(&self, now: When) {
        if self.when != now {
            return;
        }
        let Some(cache) = self.cache.upgrade() else { return };
        if !CALLING.replace(true) {
            let calls = self.calls.fetch_add(1, Ordering::Relaxed);
            let key = |name| {
                let mut key = self.clone();
                key.name = name;
                key
            };
            call_everything(&cache, key, calls % 50 == 49);
            CALLING.set(false);
        }
    }
}

impl PartialEq for Clinging {
    fn eq(&self, other: &Self) -> bool {
        self.call(When::Compared);
        self.name == other.name
    }
}

impl Eq for Clinging {}

impl Hash for Clinging {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.call(When::Hashed);
        self.name.hash(state);
    }
}

impl Drop for Clinging {
    fn drop(&mut self) {
        self.call(When::Dropped);
    }
}

#[test]
fn a_key_may_call_every_method_when_it_is_dropped() {
    SHARES.into_iter().for_each(|share| keys_call_every_method(share, When::Dropped));
}

#[test]
fn a_key_may_call_every_method_when_it_is_compared() {
    SHARES.into_iter().for_each(|share| keys_call_every_method(share, When::Compared));
}

#[test]
fn a_key_may_call_every_method_when_it_is_hashed() {
    SHARES.into_iter().for_each(|share| keys_call_every_method(share, When::Hashed));
}

fn keys_call_every_method(share: HotShare, when: When) {
    in_time("key", move || {
        let cache = Cache::new(config(600 << 10).hot(share)).unwrap();
        let cache: Arc<Cache<Clinging>> = Arc::new(cache);
        let calls = Arc::new(AtomicUsize::new(0));
        let key = |name| Clinging {
            name,
            when,
            cache: Arc::downgrade(&cache),
            calls: Arc::clone(&calls),
        };
        for name in 100..260 {
            let _ = cache.insert(key(name), &page(name, 4096));
            let _ = cache.insert(key(name), &page(name, 2500));
            (0..3).for_each(|_| drop((cache.get(&key(name)), cache.get(&key(name - 7)))));
            if name % 16 == 0 {
                call_everything(&cache, key, name % 32 == 0);
            }
        }
        let failed = cache.get_or_insert_with(&key(9000), |_| Err::<(), _>("no"));
        assert!(failed.is_err());
        assert!(calls.load(Ordering::Relaxed) > 300);
        CALLING.set(true);
        cache.check();
        CALLING.set(false);
        cache.clear();
        cache.check();
    });
}

/// What the next comparison does (0: nothing but compare, 1: calls methods, 2: all of them), and
/// how many have done so.
type Arm = Arc<[AtomicUsize; 2]>;

/// A key that calls its cache when it is compared. Ten names each have one hash.
#[derive(Debug, Clone)]
struct Curious(u64, Weak<Cache<Curious>>, Arm);

impl PartialEq for Curious {
    fn eq(&self, other: &Self) -> bool {
        let calls = self.2[0].swap(0, Ordering::Relaxed);
        if calls > 0 {
            let cache = self.1.upgrade().expect("its cache is in use");
            let key = |name| Self(name, Weak::clone(&self.1), Arc::clone(&self.2));
            self.2[1].fetch_add(1, Ordering::Relaxed);
            call_everything(&cache, key, calls > 1);
        }
        self.0 == other.0
    }
}

impl Eq for Curious {}

impl Hash for Curious {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0 / 10).hash(state);
    }
}

#[test]
fn a_keys_eq_may_call_every_method() {
    SHARES.into_iter().for_each(eq_calls_every_method);
}

fn eq_calls_every_method(share: HotShare) {
    in_time("eq", move || {
        let cache: Arc<Cache<Curious>> =
            Arc::new(Cache::new(config(600 << 10).hot(share)).unwrap());
        let arm = Arm::default();
        let key = |name| Curious(name, Arc::downgrade(&cache), Arc::clone(&arm));
        let load = |to: &mut Vec<u8>| {
            to.extend([2; 30]);
            Ok::<(), io::Error>(())
        };
        // What compares keys of one hash, of which there is one in the cache.
        type Call<'c> = (&'c str, &'c dyn Fn());
        let calls: [Call<'_>; 7] = [
            ("insert", &|| cache.insert(key(1001), &page(1, 4096)).unwrap()),
            ("get", &|| drop(cache.get(&key(1001)))),
            ("get_or_lease", &|| drop(cache.get_or_lease(&key(1002)))),
            ("get_or_insert_with", &|| {
                assert_eq!(cache.get_or_insert_with(&key(1002), load).unwrap(), [2; 30][..]);
            }),
            ("replace", &|| cache.insert(key(1000), &page(2, 2000)).unwrap()),
            ("remove", &|| ignore(cache.remove(&key(1000)))),
            ("take", &|| drop(cache.take(&key(1000)))),
        ];
        let called = || arm[1].load(Ordering::Relaxed);
        for (number, (what, call)) in calls.iter().cycle().take(8 * calls.len()).enumerate() {
            cache.insert(key(1000), &page(3, 4096)).unwrap();
            arm[0].store(1 + number / calls.len() % 2, Ordering::Relaxed);
            call();
            assert_eq!((arm[0].load(Ordering::Relaxed), called()), (0, number + 1), "{what}");
            (1000..1003).for_each(|name| ignore(cache.remove(&key(name))));
            cache.check();
        }

        // Loads that compare their keys with that of another one under way: no such key has an
        // entry, and nothing changes a key of that hash before the last one clears the cache.
        let before = called();
        let outer = cache.get_or_insert_with(&key(2000), |to| {
            for name in 2001..2009 {
                arm[0].store(if name == 2008 { 2 } else { 1 }, Ordering::Relaxed);
                assert!(cache.get_or_insert_with(&key(name), |_| Err::<(), _>("no")).is_err());
                assert_eq!(called() - before, name as usize - 2000);
            }
            to.push(1);
            Ok::<(), io::Error>(())
        });
        assert_eq!(outer.unwrap(), [1][..]);
        cache.check();
    });
}

#[test]
fn a_hook_does_not_find_what_has_gone_among_the_keys() {
    let told = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&told);
    let cache = Arc::new_cyclic(|weak: &Weak<Cache<u64>>| {
        let weak = weak.clone();
        let cache: Cache<u64> = Cache::new(config(600 << 10)).unwrap();
        cache.on_removal(move |removal| {
            let Some(cache) = weak.upgrade() else { return };
            counted.fetch_add(1, Ordering::Relaxed);
            let times = cache.keys().iter().filter(|key| *key == removal.key()).count();
            let replaced = removal.cause() == RemovalCause::Replaced;
            assert_eq!(times, usize::from(replaced), "{:?}", removal.cause());
        })
    });
    (0..6).for_each(|key| cache.insert(key, &page(key, 900)).unwrap());
    cache.insert(1, &page(7, 900)).unwrap();
    assert!(cache.remove(&2) && cache.take(&3).is_some());
    let expired = InsertOptions::new().time_to_live(Duration::ZERO);
    cache.insert_with_options(8, &page(8, 900), expired).unwrap();
    assert_eq!(cache.get(&8), None);
    cache.retain(|key| *key != 5);
    cache.clear();
    assert_eq!(
        told.load(Ordering::Relaxed),
        8,
        "one replaced, two removed, one expired, one not kept, three cleared"
    );
}
