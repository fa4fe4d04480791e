//! Scopes and long pages beside everything else that a cache does, each look-up held against what
//! is known of its key.
#![cfg(not(zcache_loom))]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use tests::pattern::{self, Random};
use zcache::codec::{self, Lz4, Zstd};
use zcache::{Cache, Config, HotShare, InsertOptions, Leased};
use zpool::SourceKind;

type Key = (u32, u32);

const SCOPES: u32 = 20;
const NUMBERS: u32 = 10;
const OWNERS: u32 = 2;

/// The word that tells whose page it is, and in which version.
fn stamp((scope, number): Key, version: u32) -> u64 {
    u64::from(scope) << 56 | u64::from(number) << 40 | u64::from(version)
}

/// A page of some kind and length, which is up to the version.
fn stamped(key: Key, version: u32) -> Vec<u8> {
    let word = stamp(key, version);
    let mut random = Random::new(word);
    let len = 8 * match random.below(20) {
        0 => 16385 + random.below(16384),
        1 => 16385 + random.below(60_000),
        2 => 1 + random.below(8192),
        _ => 1 + random.below(512),
    };
    let mut page = vec![0; len];
    match random.below(4) {
        // Same-filled, incompressible, and two that compress.
        0 => page.chunks_mut(8).for_each(|to| to.copy_from_slice(&word.to_le_bytes())),
        1 => pattern::fill(word, &mut page),
        kind => page.chunks_mut(1024 * kind).for_each(|to| {
            let random = to.len() / 3;
            pattern::fill(word, &mut to[..random]);
        }),
    }
    page[..8].copy_from_slice(&word.to_le_bytes());
    page
}

fn version_of(key: Key, page: &[u8]) -> u32 {
    let word = u64::from_le_bytes(page[..8].try_into().unwrap());
    let version = word as u32;
    assert_eq!(word, stamp(key, version), "{key:?}'s own page");
    assert!(page == stamped(key, version), "{key:?}: a whole page of version {version}");
    version
}

/// What is known of a key: the version that was inserted last, and the least that may be found.
#[derive(Default)]
struct Known {
    done: AtomicU32,
    least: AtomicU32,
}

struct Oracle(Vec<Known>);

impl Oracle {
    fn of(&self, (scope, number): Key) -> &Known {
        &self.0[(scope * NUMBERS + number) as usize]
    }

    /// Has `end` end what there is of these keys.
    fn ends(&self, keys: &[Key], end: impl FnOnce()) {
        let done: Vec<u32> = keys.iter().map(|key| self.of(*key).done.load(SeqCst)).collect();
        end();
        for (key, done) in keys.iter().zip(done) {
            self.of(*key).least.fetch_max(done + 1, SeqCst);
        }
    }
}

/// One writer a key, and everybody reads and ends: nobody finds what had ended or was replaced
/// before he asked, and each page is whole.
fn stress(config: Config, capacity: usize, seed: u64) {
    let default = if cfg!(debug_assertions) { 1500 } else { 10_000 };
    let ops = std::env::var("ZCACHE_STRESS_OPS").map_or(default, |ops| ops.parse().unwrap());
    let own: Arc<OnceLock<Weak<Cache<Key>>>> = Arc::default();
    let weak = Arc::clone(&own);
    let cache = Cache::new(config).unwrap().with_scopes(|key: &Key| key.0).unwrap();
    let cache = cache.on_removal(move |gone| {
        let Some(cache) = weak.get().and_then(Weak::upgrade) else { return };
        match gone.len() % 7 {
            0 => assert!(gone.page().is_none_or(|page| version_of(*gone.key(), &page) > 0)),
            // Scopes of the hook's own, of which some have limits.
            1 => _ = cache.insert((SCOPES + gone.key().0 % 3, gone.key().1), &[1; 600]),
            2 if gone.key().1 == 0 => cache.scope(SCOPES + 1).clear(),
            _ => {}
        }
    });
    let cache = Arc::new(cache);
    own.set(Arc::downgrade(&cache)).unwrap();
    let all = || (0..SCOPES).flat_map(|scope| (0..NUMBERS).map(move |number| (scope, number)));
    let oracle = Oracle(all().map(|_| Known::default()).collect());
    let next: Vec<AtomicU32> = all().map(|_| AtomicU32::new(1)).collect();
    let (cache, oracle, next) = (&*cache, &oracle, &next);
    for round in 0..2 {
        thread::scope(|threads| {
            for thread in 0..2 * OWNERS {
                threads.spawn(move || {
                    let mut random = Random::new(seed << 8 | u64::from(2 * round + thread));
                    for _ in 0..ops {
                        let scope = random.below(SCOPES as usize) as u32;
                        let mut key = (scope, random.below(NUMBERS as usize) as u32);
                        let known = |key| oracle.of(key).least.load(SeqCst);
                        let found = |key, least, page: Option<&[u8]>| {
                            let version = page.map(|page| version_of(key, page));
                            assert!(
                                version.is_none_or(|version| version >= least),
                                "{key:?}: {version:?} of {least}"
                            );
                        };
                        let writes = thread < OWNERS;
                        if writes {
                            key.1 = key.1 / OWNERS * OWNERS + thread;
                        }
                        match random.below(if writes { 100 } else { 60 }) {
                            0..30 => {
                                let least = known(key);
                                found(key, least, cache.get(&key).as_deref());
                            }
                            30..36 => {
                                let least = known(key);
                                let mut to = vec![0; 700_000];
                                let len = cache.get_into(&key, &mut to).unwrap();
                                found(key, least, len.map(|len| &to[..len]));
                            }
                            36..40 => {
                                let keys: Vec<Key> =
                                    (0..9).map(|more| (scope, (key.1 + more) % NUMBERS)).collect();
                                let least: Vec<u32> = keys.iter().map(|key| known(*key)).collect();
                                let pages = cache.get_many(&keys);
                                for ((key, least), page) in keys.iter().zip(least).zip(pages) {
                                    found(*key, least, page.as_deref());
                                }
                            }
                            40..43 => {
                                let least = known(key);
                                cache.read(&key, |page| found(key, least, Some(page)));
                            }
                            43..45 => {
                                let least = known(key);
                                found(key, least, cache.peek(&key).as_deref());
                            }
                            45..48 => {
                                let keys: Vec<Key> =
                                    (0..NUMBERS).map(|number| (scope, number)).collect();
                                oracle.ends(&keys, || cache.scope(scope).clear());
                            }
                            48 => {
                                let limit =
                                    (random.below(3) > 0).then(|| random.below(400_000) as u64);
                                let _ = cache.scope(scope).set_limit(limit);
                            }
                            49..52 => _ = cache.maintain(1 << 20),
                            52 => {
                                let all: Vec<Key> = all().collect();
                                if random.below(9) == 0 {
                                    oracle.ends(&all, || cache.clear());
                                } else {
                                    oracle.ends(&all[..20], || cache.retain(|key| key.0 > 1));
                                }
                            }
                            53 => {
                                let part = capacity / 4 * (3 + random.below(2));
                                let _ = cache.resize(part);
                            }
                            54 => {
                                let stats = cache.stats();
                                assert!(stats.bytes.held <= capacity);
                                let keys = cache.keys();
                                assert!(keys.iter().all(|key| key.0 < SCOPES + 3));
                            }
                            55 => _ = cache.compact(1 << 20),
                            56 => cache.trim(),
                            57..60 => _ = cache.contains_key(&key),
                            way @ 60..92 => {
                                let version =
                                    next[(key.0 * NUMBERS + key.1) as usize].fetch_add(1, SeqCst);
                                let page = stamped(key, version);
                                let time = Duration::from_millis(random.below(20) as u64);
                                let how = InsertOptions::new();
                                let how = if way < 66 { how.time_to_live(time) } else { how };
                                let _ = cache.insert_with_options(key, &page, how);
                                // It, or none.
                                oracle.of(key).done.store(version, SeqCst);
                                oracle.of(key).least.fetch_max(version, SeqCst);
                            }
                            92..96 => {
                                if let Leased::Lease(lease) = cache.get_or_lease(&key) {
                                    let version = next[(key.0 * NUMBERS + key.1) as usize]
                                        .fetch_add(1, SeqCst);
                                    if random.below(4) == 0 {
                                        cache.remove(&key);
                                    }
                                    let _ = cache.insert_if_valid(lease, &stamped(key, version));
                                    oracle.of(key).done.store(version, SeqCst);
                                }
                            }
                            _ => oracle.ends(&[key], || _ = cache.remove(&key)),
                        }
                    }
                });
            }
        });
        cache.resize(capacity).unwrap();
        cache.check();
        for key in all() {
            let least = oracle.of(key).least.load(SeqCst);
            let page = cache.get(&key);
            assert!(page.is_none_or(|page| version_of(key, &page) >= least));
        }
    }
    let stats = cache.stats();
    assert!(stats.hits > u64::from(ops as u32 / 20), "{stats}");
    cache.clear();
    // The hook inserts.
    (0..SCOPES + 3).for_each(|scope| cache.scope(scope).clear());
    cache.clear();
    cache.check();
    assert!((0..SCOPES).all(|scope| cache.scope(scope).bytes() == 0));
}

#[test]
fn whatever_ends_beside_whatever_comes_nobody_finds_what_was() {
    let capacity = 6 << 20;
    let config =
        || Config::new(capacity).max_page(700_000).hot(HotShare::Fraction(4)).checksum(true);
    stress(config().codec(Lz4).cold_codec(Zstd::level(3).unwrap()), capacity, 1);
    stress(config().source(SourceKind::Memfd), capacity, 2);
    stress(
        config().codec(Zstd::level(1).unwrap()).train(16 << 10).source(SourceKind::Heap),
        capacity,
        3,
    );
    stress(
        config().codec(codec::Plain).policy(zcache::policy::Sieve::new()).shards(2),
        capacity,
        4,
    );
}

thread_local! {
    /// Calls of user code until one panics, and what it was.
    static TRAP: Cell<usize> = const { Cell::new(0) };
    static SPRUNG: Cell<&'static str> = const { Cell::new("") };
}

fn step(what: &'static str) {
    if thread::panicking() || TRAP.get() == 0 {
        return;
    }
    TRAP.set(TRAP.get() - 1);
    if TRAP.get() == 0 {
        SPRUNG.set(what);
        panic!("planted");
    }
}

/// A key that panics now and then.
#[derive(Debug)]
struct Touchy(u32);

impl Clone for Touchy {
    fn clone(&self) -> Self {
        step("clone");
        Self(self.0)
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        step("drop");
    }
}

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        step("eq");
        self.0 == other.0
    }
}

impl Eq for Touchy {}

impl std::hash::Hash for Touchy {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        step("hash");
        self.0.hash(state);
    }
}

/// Sets a trap for `f`; what it made, or whose call panicked.
fn trapped<R>(nth: usize, f: impl FnOnce() -> R) -> Result<R, &'static str> {
    TRAP.set(nth);
    let made = catch_unwind(AssertUnwindSafe(f));
    TRAP.set(0);
    made.map_err(|_| SPRUNG.get())
}

#[test]
fn user_code_that_panics_costs_its_own_key_at_the_most() {
    let ops = if cfg!(debug_assertions) { 2500 } else { 20_000 };
    for (seed, hot) in [(1, HotShare::Off), (2, HotShare::Fraction(4))] {
        let config = Config::new(6 << 20).max_page(700_000).codec(Lz4).hot(hot).shards(2);
        let cache: Cache<Touchy> = Cache::new(config.cold_codec(Zstd::level(1).unwrap())).unwrap();
        let cache = cache.with_scopes(|key| {
            step("of");
            key.0 % 30
        });
        let cache = cache.unwrap().on_removal(|gone| {
            step("hook");
            if gone.len() % 3 == 0 {
                let _ = gone.page();
            }
        });
        let (mut random, mut sprung) = (Random::new(seed), std::collections::BTreeMap::new());
        let mut may: Vec<Vec<u32>> = vec![Vec::new(); 60];
        for version in 1..ops {
            let number = random.below(60) as u32;
            let key = std::mem::ManuallyDrop::new(Touchy(number));
            let nth = if random.below(3) == 0 { 0 } else { 1 + random.below(30) };
            let known = &mut may[number as usize];
            let done = match random.below(12) {
                0..5 => {
                    let page = stamped((number, 0), version);
                    let done = trapped(nth, || cache.insert(Touchy(number), &page)).map(|_| ());
                    // Nothing had changed yet.
                    if !matches!(done, Err("hash" | "of")) {
                        known.clear();
                    }
                    known.push(version);
                    done
                }
                5 => {
                    let page = stamped((number, 0), version);
                    let leased = trapped(nth, || cache.get_or_lease(&*key));
                    leased.map(|leased| {
                        if let Leased::Lease(lease) = leased {
                            let _ = trapped(nth, || cache.insert_if_valid(lease, &page));
                            known.push(version);
                        }
                    })
                }
                6 => {
                    let done = trapped(nth, || cache.remove(&*key));
                    if done.is_ok() {
                        known.clear();
                    }
                    done.map(|_| ())
                }
                7 => {
                    let done = trapped(nth, || cache.scope(number % 30).clear());
                    if done.is_ok() {
                        may[(number % 30) as usize].clear();
                        may[(number % 30) as usize + 30].clear();
                    }
                    done
                }
                8 => trapped(nth, || _ = cache.maintain(1 << 18)),
                9 => trapped(nth, || _ = cache.scope(number % 30).set_limit(Some(200_000))),
                10 => trapped(nth, || _ = cache.take(&*key)).inspect(|()| known.clear()),
                _ => trapped(nth, || _ = cache.get_many([&*key, &*key])),
            };
            if let Err(what) = done {
                *sprung.entry(what).or_insert(0) += 1;
            }
            for number in [number, (number + 30) % 60] {
                let key = std::mem::ManuallyDrop::new(Touchy(number));
                if let Some(page) = cache.get(&*key) {
                    let found = version_of((number, 0), &page);
                    assert!(
                        may[number as usize].contains(&found),
                        "{number}: {found} after {done:?}"
                    );
                }
            }
            assert!(cache.held_bytes() <= 6 << 20);
            if version % 50 == 0 {
                cache.check();
            }
        }
        cache.check();
        cache.clear();
        cache.check();
        assert_eq!((cache.len(), cache.stats().bytes.payload), (0, 0));
        // What is cloned depends on what is hit, and so on the hasher.
        let kinds = ["drop", "eq", "hash", "hook", "of"];
        assert!(kinds.iter().all(|kind| sprung.contains_key(kind)), "{sprung:?}");
    }
}
