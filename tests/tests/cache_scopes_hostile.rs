//! Scopes and pages in pieces, used as nobody should.
#![cfg(not(zcache_loom))]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier, Mutex, OnceLock, Weak};
use std::thread;

use tests::pattern::{self, Random};
use zcache::codec::{self, Codec, Lz4, Zstd};
use zcache::{BufferTooSmall, Cache, Config, ConfigError, RemovalCause};
use zpool::SourceKind;

type Key = (u32, u32);

const PIECE: usize = 128 << 10;

/// A cache whose keys' first parts are their scopes, of pages as they are.
fn plain(capacity: usize, max_page: usize) -> Cache<Key> {
    let config = Config::new(capacity).max_page(max_page).codec(codec::Plain);
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

/// Long pages and short ones: one key, inserted again and again where its scope has room for one
/// page.
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
        assert_eq!(
            *told.lock().unwrap(),
            [RemovalCause::Replaced; 4],
            "it is never missed in between"
        );
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

/// More scopes than slots, of which some have limits, come and end: slots and who waits for one add
/// up, and a limit is held again when what had ended is gone.
#[test]
fn slots_change_hands_and_limits_outlast_it() {
    for seed in 0..4 {
        let cache = plain(1 << 20, 4096);
        let (mut random, mut limits) = (Random::new(seed), BTreeSet::new());
        for round in 0..3000 {
            let scope = random.below(40) as u32;
            match random.below(20) {
                0..12 => {
                    let key = (scope, random.below(20) as u32);
                    cache.insert(key, &noise(key, 300)).unwrap();
                }
                12..15 => cache.scope(scope).clear(),
                15 => _ = cache.remove(&(scope, random.below(20) as u32)),
                16 if limits.len() < 10 => {
                    let set = cache.scope(scope).set_limit(Some(2000));
                    _ = set.map(|()| limits.insert(scope));
                }
                17 => {
                    cache.scope(scope).set_limit(None).unwrap();
                    limits.remove(&scope);
                }
                18 => _ = cache.maintain(1 << 20),
                _ if random.below(20) == 0 => cache.clear(),
                _ => {}
            }
            if round % 30 == 0 {
                cache.check();
                let limit = |scope: &u32| cache.scope(*scope).stats().limit == Some(2000);
                assert_eq!((0..40).filter(limit).count(), limits.len());
            }
        }
        assert!(limits.len() > 3, "{limits:?}");
        cache.clear();
        for scope in &limits {
            let keys = (0..20).map(|number| (*scope, number));
            keys.for_each(|key| cache.insert(key, &noise(key, 300)).unwrap());
            assert!((1..=2000).contains(&cache.scope(*scope).bytes()), "scope {scope}");
        }
        cache.check();
    }
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
    // Told of the entry that went for the limit, and of the one that came too late.
    assert_eq!(*lens.lock().unwrap(), [(1, 1, 0); 2]);
    cache.check();
}

/// Entries that stay here and there among many that went, with and without a long page that came
/// last.
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
        let had = cache.contains_key(&(2, 0));
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
        codec::Plain.context(max_page)
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
