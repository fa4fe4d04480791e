//! Pages that are longer than one object can be, and so are cut into pieces: all of them or none.
#![cfg(not(zcache_loom))]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tests::pattern::{self, Random};
use zcache::codec::{self, Lz4, Zstd};
use zcache::{
    BufferTooSmall, Cache, Config, ConfigError, InsertError, InsertOptions, Leased, MAX_PAGE,
    RemovalCause,
};
use zpool::SourceKind;

const PIECE: usize = 128 << 10;

fn config(capacity: usize) -> Config {
    Config::new(capacity).max_page(MAX_PAGE).codec(Lz4)
}

fn cache(capacity: usize) -> Cache<u64> {
    Cache::new(config(capacity)).unwrap()
}

/// A page of which a third does not compress. All of its words tell `seed`.
fn page(seed: u64, len: usize) -> Vec<u8> {
    let mut page = vec![0; len];
    for (nth, part) in page.chunks_mut(3072).enumerate() {
        let (random, same) = part.split_at_mut(part.len() / 3);
        pattern::fill(seed ^ (nth as u64) << 32, random);
        same.fill(seed as u8);
    }
    page
}

fn seeds(len: usize) -> [Vec<u8>; 3] {
    let mut noise = vec![0; len];
    pattern::fill(7, &mut noise);
    [page(1, len), noise, vec![9; len]]
}

#[test]
fn a_long_page_comes_back_by_every_way_there_is() {
    for checksum in [false, true] {
        for source in [None, Some(SourceKind::Heap), Some(SourceKind::Memfd)] {
            let mut config = config(40 << 20).checksum(checksum);
            config = if checksum { config.codec(codec::Plain) } else { config };
            if let Some(source) = source {
                config = config.source(source);
            }
            let cache: Cache<u64> = Cache::new(config).unwrap();
            for len in [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, (1 << 20) + 7, MAX_PAGE] {
                // The longest ones take their time.
                let kinds = if len < MAX_PAGE { 3 } else { usize::from(checksum) };
                for page in seeds(len).into_iter().take(kinds) {
                    cache.insert(1, &page).unwrap();
                    assert!(cache.get(&1).unwrap() == page, "{len} bytes");
                    assert!(cache.peek(&1).unwrap() == page);
                    assert!(cache.read(&1, |found| found == page).unwrap());
                    let mut to = vec![0xee; len + 3];
                    assert_eq!(cache.get_into(&1, &mut to), Ok(Some(len)));
                    assert!(to[..len] == page && to[len..] == [0xee; 3], "{len} bytes");
                    let small = cache.get_into(&1, &mut to[..len - 1]);
                    assert_eq!(small, Err(BufferTooSmall { needed: len }));
                    for range in [0..10, len - 9..len + 9, PIECE - 9..PIECE + 9, 5..5] {
                        let (from, end) = (range.start.min(len), range.end.min(len));
                        assert!(cache.get_range(&1, range).unwrap() == page[from..end]);
                    }
                    assert!(cache.get_many([&1, &2])[0].as_ref().unwrap() == &page);
                    assert!(cache.contains_key(&1) && cache.keys() == [1] && cache.len() == 1);
                    let leased = cache.get_or_lease(&1);
                    assert!(matches!(leased, Leased::Page(leased) if leased == page));
                    let stats = cache.stats();
                    assert_eq!((stats.entries, stats.bytes.uncompressed), (1, len));
                    cache.check();
                    assert!(cache.take(&1).unwrap() == page);
                    assert_eq!((cache.len(), cache.get(&1)), (0, None));
                    cache.check();
                }
            }
        }
    }
}

#[test]
fn what_is_too_long_or_has_no_room_ends_the_old_page_and_leaves_nothing() {
    let least = match Cache::<u64>::new(config(1)) {
        Err(ConfigError::TooSmall { least }) => least,
        other => panic!("{other:?}"),
    };
    assert!(least > MAX_PAGE, "one of them fits");
    let too_long = Config::new(1 << 30).max_page(MAX_PAGE + 1);
    assert!(matches!(Cache::<u64>::new(too_long), Err(ConfigError::MaxPage(_))));
    let cache = cache(least);
    let [_, noise, _] = seeds(MAX_PAGE);
    for _ in 0..3 {
        cache.insert(1, &noise).unwrap();
        assert!(cache.get(&1).unwrap() == noise, "the longest page fits into the least cache");
        cache.check();
    }
    let refused = cache.insert(1, &vec![1; MAX_PAGE + 1]);
    let expected = InsertError::TooLarge { len: MAX_PAGE + 1, max_page: MAX_PAGE, dropped: true };
    assert_eq!((refused, cache.len()), (Err(expected), 0));
    cache.check();
    assert_eq!(cache.max_page(), MAX_PAGE);
}

#[test]
fn a_hook_sees_a_long_page_that_goes() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&log);
    let cache = cache(24 << 20).on_removal(move |gone| {
        // There may be no memory to look at it: the cache is full.
        let whole = gone.page().map(|found| found == page(*gone.key(), gone.len()));
        assert!(gone.stored_len() > gone.len() / 4 && gone.stored_len() < gone.len() / 2);
        told.lock().unwrap().push((*gone.key(), gone.cause(), whole));
    });
    for key in 0..100 {
        cache.insert(key, &page(key, 1 << 20)).unwrap();
        assert!(cache.held_bytes() <= 24 << 20);
    }
    let gone = std::mem::take(&mut *log.lock().unwrap());
    assert!(
        gone.iter()
            .all(|(_, cause, whole)| *cause == RemovalCause::Evicted && *whole != Some(false))
    );
    assert!(gone.iter().any(|(.., whole)| *whole == Some(true)));
    assert_eq!(gone.len() + cache.len(), 100);
    assert!((40..70).contains(&cache.len()), "{} of 1 MiB, a third each", cache.len());
    cache.check();
    let short = InsertOptions::new().time_to_live(Duration::ZERO);
    cache.insert_with_options(1000, &page(1000, 1 << 20), short).unwrap();
    assert_eq!(cache.get(&1000), None);
    cache.resize(20 << 20).unwrap();
    cache.check();
    cache.clear();
    assert_eq!((cache.len(), cache.stats().bytes.payload), (0, 0));
    cache.check();
}

#[test]
fn long_and_short_pages_behave_like_a_map_within_the_budget() {
    for seed in 0..3 {
        let config = config(20 << 20).max_page(2 << 20);
        let config = if seed == 1 { config.codec(Zstd::level(1).unwrap()) } else { config };
        let cache: Cache<u64> = Cache::new(config).unwrap();
        let cache = cache.with_scopes(|key| (*key % 3) as u32).unwrap();
        let (mut map, mut rng) = (HashMap::new(), Random::new(seed));
        let mut hits = 0;
        for step in 0..1200 {
            let key = rng.below(60) as u64;
            match rng.below(20) {
                0..8 => {
                    // Half of them short.
                    let most = if rng.below(2) == 0 { 20_000 } else { 2 << 20 };
                    let page = page(step, rng.below(most));
                    cache.insert(key, &page).unwrap();
                    map.insert(key, page);
                }
                8..17 => {
                    if let Some(found) = cache.get(&key) {
                        assert!(map.get(&key).is_some_and(|page| found == page), "{key}");
                        hits += 1;
                    }
                }
                17 => {
                    assert!(!cache.remove(&key) || map.contains_key(&key));
                    map.remove(&key);
                }
                18 => _ = cache.maintain(1 << 20),
                _ if rng.below(10) == 0 => {
                    cache.scope((key % 3) as u32).clear();
                    map.retain(|other, _| other % 3 != key % 3);
                }
                _ => _ = cache.compact(1 << 20),
            }
            assert!(cache.held_bytes() <= 20 << 20);
            if step % 300 == 0 {
                cache.check();
            }
        }
        assert!(hits > 100, "{hits}");
        cache.check();
    }
}

#[test]
fn a_long_page_that_is_replaced_is_never_missed_nor_mixed() {
    let cache = cache(40 << 20);
    let (len, rounds) = (3 * PIECE + 77, if cfg!(debug_assertions) { 60 } else { 300 });
    cache.insert(1, &page(1, len)).unwrap();
    let (written, running) = (AtomicUsize::new(1), AtomicBool::new(true));
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|nth| {
                let (cache, written, running) = (&cache, &written, &running);
                scope.spawn(move || {
                    let (mut to, mut reads) = (vec![0; len + 1000], 0);
                    while running.load(Ordering::SeqCst) || reads < 3 {
                        let least = written.load(Ordering::SeqCst);
                        let found = if nth == 0 {
                            let found = cache.get_into(&1, &mut to).unwrap();
                            to[..found.expect("it is never missed")].to_vec()
                        } else {
                            cache.get(&1).expect("it is never missed").to_vec()
                        };
                        let round = found.len() - len + 1;
                        assert!(round >= least, "{round} after {least}");
                        assert!(found == page(round as u64, found.len()), "one page, whole");
                        reads += 1;
                    }
                })
            })
            .collect();
        for round in 2..rounds {
            cache.insert(1, &page(round as u64, len + round - 1)).unwrap();
            written.store(round, Ordering::SeqCst);
        }
        running.store(false, Ordering::SeqCst);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    cache.check();
}
