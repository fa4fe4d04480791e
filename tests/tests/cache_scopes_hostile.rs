//! Scopes and pages in pieces, used as nobody should.
#![cfg(not(zcache_loom))]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use tests::pattern::{self, Random};
use zcache::codec::{self, Codec, Lz4, Zstd};
use zcache::{BufferTooSmall, Cache, Cause, Config, ConfigError, Insert, Leased, Share};
use zpool::SourceKind;

type Key = (u32, u32);

const PIECE: usize = 128 << 10;

/// A cache whose keys' first parts are their scopes, of pages as they are.
fn plain(capacity: usize, max_page: usize) -> Cache<Key> {
    let config = Config::new(capacity).max_page(max_page).codec(codec::None);
    Cache::new(config).unwrap().with_scopes(|key: &Key| key.0).unwrap()
}

/// A page that does not compress.
fn noise((scope, number): Key, len: usize) -> Vec<u8> {
    let mut page = vec![0; len];
    pattern::fill(u64::from(scope) << 32 | u64::from(number), &mut page);
    page
}

#[test]
fn a_limit_counts_the_pieces_of_a_page_before_they_come() {
    let cache = plain(16 << 20, 1 << 20);
    let limit = 2 << 20;
    cache.scope(1).set_limit(Some(limit)).unwrap();
    for number in 0..20 {
        cache.insert((1, number), &noise((1, number), 700 << 10)).unwrap();
        let bytes = cache.scope(1).bytes();
        assert!(bytes <= limit, "{bytes} bytes of {limit}");
        assert_eq!(cache.scope(1).len(), 2.min(number as usize + 1));
    }
    cache.check();
}

/// Long pages and short ones: one key, inserted again and again where its scope has room for one page.
#[test]
fn a_page_that_is_replaced_at_its_limit_is_not_evicted_for_itself() {
    for len in [4000, 700 << 10] {
        let told = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&told);
        let cache = plain(8 << 20, 1 << 20);
        let cache = cache.on_removal(move |gone| log.lock().unwrap().push(gone.cause()));
        cache.scope(1).set_limit(Some(len as u64 * 3 / 2)).unwrap();
        for _ in 0..5 {
            cache.insert((1, 1), &noise((1, 1), len)).unwrap();
        }
        assert_eq!(*told.lock().unwrap(), [Cause::Replaced; 4], "it is never missed in between");
        cache.check();
    }
}

#[test]
fn scopes_that_had_entries_once_leave_room_for_limits() {
    let cache = plain(1 << 20, 4096);
    for scope in 0..15 {
        cache.insert((scope, 0), &[1; 64]).unwrap();
        assert!(cache.remove(&(scope, 0)));
    }
    for scope in 100..115 {
        cache.scope(scope).set_limit(Some(10_000)).expect("none has entries");
    }
    cache.check();
}

#[test]
fn a_limit_that_was_accepted_is_held_however_many_scopes_come() {
    let cache = plain(1 << 20, 4096);
    cache.scope(1).set_limit(Some(20_000)).unwrap();
    for scope in 2..40 {
        cache.insert((scope, 0), &noise((scope, 0), 64)).unwrap();
    }
    for number in 0..50 {
        cache.insert((1, number), &noise((1, number), 2000)).unwrap();
    }
    let keys = cache.keys().into_iter().filter(|key| key.0 == 1).count();
    assert!(keys <= 10 && cache.scope(1).bytes() <= 20_000, "{keys} pages");
    cache.check();
}

#[test]
fn what_has_ended_goes_first_wherever_it_stands() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let cache = plain(4 << 20, 4096);
    let cache = cache.on_removal(move |gone| log.lock().unwrap().push((*gone.key(), gone.cause())));
    let mut number = 0;
    // A few entries of a scope, between many of another one.
    while told.lock().unwrap().is_empty() {
        let scope = if (2000..2300).contains(&number) { 2 } else { 1 };
        cache.insert((scope, number), &noise((scope, number), 500)).unwrap();
        number += 1;
    }
    assert!(number > 4000);
    told.lock().unwrap().clear();
    cache.scope(2).clear();
    for more in 0..100 {
        cache.insert((3, more), &noise((3, more), 500)).unwrap();
    }
    let gone = std::mem::take(&mut *told.lock().unwrap());
    let others = gone.iter().filter(|(key, _)| key.0 != 2).count();
    assert_eq!(others, 0, "of {}", gone.len());
}

/// A hook that ends the scope of the insert that it is called for.
#[test]
fn an_insert_on_its_way_into_an_ended_scope_is_no_entry() {
    let own: Arc<OnceLock<Weak<Cache<Key>>>> = Arc::default();
    let lens = Arc::new(Mutex::new(Vec::new()));
    let (weak, log) = (Arc::clone(&own), Arc::clone(&lens));
    let cache = plain(4 << 20, 4096).on_removal(move |_| {
        let cache = weak.get().and_then(Weak::upgrade).unwrap();
        cache.scope(1).clear();
        log.lock().unwrap().push((cache.len(), cache.keys().len(), cache.scope(1).len()));
    });
    let cache = Arc::new(cache);
    own.set(Arc::downgrade(&cache)).unwrap();
    cache.insert((2, 1), &[1; 100]).unwrap();
    cache.insert((1, 1), &[1; 100]).unwrap();
    cache.scope(1).set_limit(Some(0)).unwrap();
    cache.insert((1, 2), &[2; 100]).unwrap();
    assert_eq!(*lens.lock().unwrap(), [(1, 1, 0)]);
    cache.check();
}

/// Entries that stay here and there among many that went, with and without a long page that came last.
#[test]
fn a_long_page_does_not_keep_the_tables_of_what_is_gone() {
    let left = |long: bool| {
        let cache = plain(32 << 20, 1 << 20);
        for number in 0..200_000 {
            cache.insert((1, number), &[7; 64]).unwrap();
        }
        if long {
            cache.insert((2, 0), &noise((2, 0), 200 << 10)).unwrap();
            for number in 200_000..210_000 {
                cache.insert((1, number), &[7; 64]).unwrap();
            }
        }
        cache.retain(|key| key.0 == 2 || key.1 % 500 == 0);
        cache.resize(31 << 20).unwrap();
        let had = cache.contains(&(2, 0));
        cache.check();
        assert!(had == long);
        cache.held_bytes()
    };
    let (short, long) = (left(false), left(true));
    assert!(long < short + (1 << 20), "{long} bytes, {short} without");
}

#[test]
fn the_least_cache_serves_its_longest_page() {
    for source in [None, Some(SourceKind::Heap), Some(SourceKind::Memfd)] {
        for zstd in [false, true] {
            for max_page in [PIECE + 1, 3 * PIECE, 1 << 20, (2 << 20) + 5] {
                for (kind, scopes) in [(0, false), (1, true), (2, true)] {
                    let config = |capacity| {
                        let config = Config::new(capacity).max_page(max_page);
                        let config = if zstd {
                            config.codec(Zstd::level(3).unwrap())
                        } else {
                            config.codec(Lz4)
                        };
                        match source.clone() {
                            Some(source) => config.source(source),
                            None => config,
                        }
                    };
                    let least = match Cache::<Key>::new(config(1)) {
                        Err(ConfigError::TooSmall { least }) => least,
                        other => panic!("{other:?}"),
                    };
                    let refused =
                        Cache::<Key>::new(config(least)).unwrap().with_scopes(|key| key.0);
                    let least = match refused {
                        Err(ConfigError::TooSmall { least }) if scopes => least,
                        _ => least,
                    };
                    let mut cache = Cache::<Key>::new(config(least)).unwrap();
                    if scopes {
                        cache = cache.with_scopes(|key: &Key| key.0).unwrap();
                    }
                    let mut page = noise((1, kind), max_page);
                    if kind == 1 {
                        page.chunks_mut(3000)
                            .for_each(|part| part.iter_mut().skip(1000).for_each(|byte| *byte = 7));
                    } else if kind == 2 {
                        page.fill(9);
                    }
                    for round in 0..3 {
                        let what = format!("{source:?} {zstd} {max_page} {kind} {round}");
                        cache.insert((1, 1), &page).expect(&what);
                        assert!(cache.get(&(1, 1)).expect(&what) == page, "{what}");
                        assert!(
                            cache.get_range(&(1, 1), 5..max_page - 1).expect(&what)
                                == page[5..max_page - 1]
                        );
                        assert!(cache.held_bytes() <= least);
                        cache.check();
                    }
                }
            }
        }
    }
}

type Callback = Box<dyn FnOnce() + Send>;

/// Pages as they are; a callback is called at the next decoding.
#[derive(Clone, Default)]
struct Watched(Arc<Mutex<Option<Callback>>>);

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watched")
    }
}

impl Codec for Watched {
    fn name(&self) -> std::borrow::Cow<'static, str> {
        "watched".into()
    }

    fn context_bytes(&self, _: usize) -> usize {
        0
    }

    fn context(&self, max_page: usize) -> std::io::Result<Box<dyn codec::Context>> {
        codec::None.context(max_page)
    }

    /// The page without its last byte, which is another one's twin.
    fn encode(&self, page: &[u8], to: &mut [u8]) -> Option<Option<usize>> {
        let half = page.len() / 2;
        Some((page[..half] == page[half..] && to.len() >= half).then(|| {
            to[..half].copy_from_slice(&page[..half]);
            half
        }))
    }

    fn decode(&self, payload: &[u8], page: &mut [u8]) -> Option<Result<(), codec::Corrupt>> {
        let callback = self.0.lock().unwrap().take();
        if let Some(callback) = callback {
            callback();
        }
        let half = page.len() / 2;
        page[..half].copy_from_slice(payload);
        page[half..].copy_from_slice(payload);
        Some(Ok(()))
    }
}

/// A page of pieces whose halves are the same.
fn twins(seed: u32, pieces: usize) -> Vec<u8> {
    let piece = |nth| noise((seed, nth as u32), PIECE / 2).repeat(2);
    (0..pieces).flat_map(piece).collect()
}

/// Has `other` run in another thread in the middle of the first piece that `reader` decodes.
fn in_the_middle(codec: &Watched, other: impl FnOnce() + Send, reader: impl FnOnce()) {
    let (reached, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    thread::scope(|scope| {
        let (at, on) = (Arc::clone(&reached), Arc::clone(&go_on));
        *codec.0.lock().unwrap() = Some(Box::new(move || {
            at.wait();
            on.wait();
        }));
        scope.spawn(move || {
            reached.wait();
            other();
            go_on.wait();
        });
        reader();
    });
}

#[test]
fn a_page_that_got_too_long_while_it_was_read_does_not_fit() {
    let codec = Watched::default();
    let config = Config::new(8 << 20).max_page(1 << 20).codec(codec.clone());
    let cache: Cache<u32> = Cache::new(config).unwrap();
    cache.insert(1, &twins(1, 2)).unwrap();
    let mut to = vec![0xee; 2 * PIECE];
    let longer = || cache.insert(1, &twins(2, 3)).unwrap();
    in_the_middle(&codec, longer, || {
        let found = cache.get_into(&1, &mut to);
        assert_eq!(found, Err(BufferTooSmall { needed: 3 * PIECE }));
    });
    assert!(cache.get(&1).unwrap() == twins(2, 3));
    cache.check();
}

thread_local! {
    static ARMED: Cell<bool> = const { Cell::new(false) };
}

/// A key whose drop panics in threads that are armed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!ARMED.get(), "a key's drop panics");
    }
}

#[test]
fn a_reader_that_drops_the_last_piece_and_the_last_entry_panics_once() {
    let codec = Watched::default();
    let config = Config::new(8 << 20).max_page(1 << 20).codec(codec.clone());
    let cache: Cache<Bomb> = Cache::new(config).unwrap();
    cache.insert(Bomb(1), &twins(1, 3)).unwrap();
    let key = std::mem::ManuallyDrop::new(Bomb(1));
    let remove = || {
        assert!(cache.remove(&*std::mem::ManuallyDrop::new(Bomb(1))));
    };
    in_the_middle(&codec, remove, || {
        ARMED.set(true);
        let panicked = catch_unwind(AssertUnwindSafe(|| cache.get(&*key)));
        ARMED.set(false);
        assert!(panicked.is_err());
    });
    cache.check();
    assert_eq!(cache.len(), 0);
}

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

/// One writer a key, and everybody reads and ends: nobody finds what had ended or was replaced before
/// he asked, and each page is whole.
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
                                cache.get_with(&key, |page| found(key, least, Some(page)));
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
                            57..60 => _ = cache.contains(&key),
                            way @ 60..92 => {
                                let version =
                                    next[(key.0 * NUMBERS + key.1) as usize].fetch_add(1, SeqCst);
                                let page = stamped(key, version);
                                let time = Duration::from_millis(random.below(20) as u64);
                                let how = Insert::new();
                                let how = if way < 66 { how.time_to_live(time) } else { how };
                                let _ = cache.insert_with(key, &page, how);
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
    let config = || Config::new(capacity).max_page(700_000).hot(Share::Of(4)).checksum(true);
    stress(config().codec(Lz4).cold_codec(Zstd::level(3).unwrap()), capacity, 1);
    stress(config().source(SourceKind::Memfd), capacity, 2);
    stress(
        config().codec(Zstd::level(1).unwrap()).train(16 << 10).source(SourceKind::Heap),
        capacity,
        3,
    );
    stress(config().codec(codec::None).policy(zcache::policy::Sieve::new()).shards(2), capacity, 4);
}
