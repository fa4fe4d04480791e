//! A cache that finds its codec: by what a miss costs, both ways, and the pages stay the same.
#![cfg(not(zcache_loom))]

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tests::pattern::{self, Random};
use zcache::{Cache, Config, HotShare, Stats};

const CAPACITY: usize = 4 << 20;
/// Some three times what fits.
const PAGES: usize = 6000;
const DEAR: Duration = Duration::from_secs(1);
const CHEAP: Duration = Duration::from_nanos(1);

/// Pages of words, which zstd packs into much less than LZ4 does.
fn pages() -> Vec<Vec<u8>> {
    let page = |number: usize| {
        let mut bytes = vec![0; 4096];
        pattern::words(1, number as u64 + 1, &mut bytes);
        bytes
    };
    (0..PAGES).map(page).collect()
}

fn cache(miss: Duration, hot: HotShare) -> Cache<u64> {
    let config = Config::new(CAPACITY).max_page(4096).checksum(true).miss_cost(miss).hot(hot);
    Cache::new(config.auto_codec()).unwrap()
}

/// Looks random pages up, most often some of them, and brings what is missed; until `enough`.
fn live(cache: &Cache<u64>, pages: &[Vec<u8>], seed: u64, enough: impl Fn(&Stats) -> bool) {
    let (mut random, mut buffer) = (Random::new(seed), vec![0; 4096]);
    for request in 0_u64.. {
        if request % 64 == 0 && enough(&cache.stats()) {
            return;
        }
        assert!(request < 2_000_000, "it takes too long: {}", cache.stats());
        let among = if random.below(4) < 3 { PAGES / 3 } else { PAGES };
        let number = random.below(among);
        match cache.get_into(&(number as u64), &mut buffer).unwrap() {
            Some(len) => assert!(buffer[..len] == pages[number], "page {number}"),
            None => cache.insert(number as u64, &pages[number]).unwrap(),
        }
    }
}

fn is_strong(stats: &Stats) -> bool {
    stats.codec.starts_with("zstd")
}

/// Has the cost of a miss change and the cache live until it has followed; says after how many
/// inserts, by what there was.
fn follow(cache: &Cache<u64>, pages: &[Vec<u8>], miss: Duration) -> f64 {
    let before = cache.stats();
    cache.set_miss_cost(miss);
    live(cache, pages, before.inserts, |stats| is_strong(stats) == (miss == DEAR));
    let after = cache.stats();
    cache.check();
    (after.inserts - before.inserts) as f64 / before.entries as f64
}

#[test]
fn the_codec_follows_what_a_miss_costs_both_ways() {
    let pages = pages();
    let cache = cache(DEAR, HotShare::Auto);
    // So long that it is known what returns.
    let settled = |stats: &Stats| stats.removals.evicted as usize > 2 * stats.entries;
    live(&cache, &pages, 1, |stats| is_strong(stats) && settled(stats));
    for miss in [CHEAP, DEAR] {
        let turnovers = follow(&cache, &pages, miss);
        assert!(turnovers <= 1.0, "{turnovers} for {miss:?}: {}", cache.stats());
    }
    let stats = cache.stats();
    assert!(stats.codec_changes >= 3 && stats.rejected == Default::default(), "{stats}");
    let used = stats.candidates.iter().filter(|candidate| candidate.in_use);
    assert!(used.map(|candidate| &candidate.name).eq([&stats.codec]), "{stats}");
    assert!(stats.candidates.iter().all(|found| found.samples > 0 && found.entry_bytes > 0));
}

#[test]
fn what_is_there_is_packed_again_with_inserts_and_with_maintain() {
    let pages = pages();
    for maintained in [false, true] {
        let cache = cache(DEAR, HotShare::Off);
        live(&cache, &pages, 2, is_strong);
        if maintained {
            while cache.maintain(1 << 20).recompression.tried > 0 {}
        } else {
            let start = cache.stats();
            let enough = |stats: &Stats| stats.inserts > start.inserts + start.entries as u64;
            live(&cache, &pages, 3, enough);
        }
        let stats = cache.stats();
        assert!(stats.recompression.recompressed as usize > stats.entries / 8, "{stats}");
        assert_eq!(stats.removals.corrupt + stats.unreadable, 0, "{stats}");
        for key in cache.keys() {
            assert!(cache.peek(&key).as_deref() == Some(&pages[key as usize][..]), "page {key}");
        }
        cache.check();
    }
}

#[test]
fn a_cache_that_is_never_full_keeps_the_fast_codec() {
    let pages = pages();
    let cache = cache(DEAR, HotShare::Auto);
    (0..800).for_each(|key| cache.insert(key, &pages[key as usize]).unwrap());
    (0..20).for_each(|_| (0..800).for_each(|key| assert!(cache.get(&key).is_some())));
    let stats = cache.stats();
    assert_eq!((stats.codec.as_str(), stats.codec_changes, stats.removals.evicted), ("lz4", 0, 0));
    assert!(stats.candidates.iter().all(|candidate| candidate.samples > 0), "{stats}");
}

#[test]
fn a_cache_that_fills_has_a_strong_codec_at_once_where_misses_are_dear() {
    let pages = pages();
    let cache = cache(DEAR, HotShare::Auto);
    for key in 0..800 {
        assert!(cache.get(&key).is_none());
        cache.insert(key, &pages[key as usize]).unwrap();
    }
    let stats = cache.stats();
    assert!(is_strong(&stats) && stats.removals.evicted == 0, "{stats}");
    for key in 0..800 {
        assert!(cache.get(&key).as_deref() == Some(&pages[key as usize][..]), "page {key}");
    }
}

#[test]
fn pages_that_nobody_asks_for_change_nothing() {
    let pages = pages();
    let cache = cache(CHEAP, HotShare::Auto);
    for round in 0..3 {
        for (key, page) in pages.iter().enumerate() {
            cache.insert((round * PAGES + key) as u64, page).unwrap();
        }
    }
    let stats = cache.stats();
    assert_eq!((stats.codec.as_str(), stats.codec_changes), ("lz4", 0), "{stats}");
    assert!(stats.removals.evicted as usize > stats.entries);
}

#[test]
fn a_cache_that_has_no_room_for_a_context_leaves_its_codec_out() {
    let least = match Cache::<u64>::new(Config::new(0).max_page(4096).auto_codec()) {
        Err(zcache::ConfigError::TooSmall { least }) => least,
        other => panic!("{:?}", other.err()),
    };
    let cache = Cache::<u64>::new(Config::new(least).max_page(4096).auto_codec()).unwrap();
    let pages = pages();
    (0..500).for_each(|key| cache.insert(key, &pages[key as usize]).unwrap());
    let stats = cache.stats();
    assert!(stats.candidates.iter().all(|found| !found.name.starts_with("zstd")), "{stats}");
    cache.check();
}

#[test]
fn threads_that_look_up_insert_and_remove_find_their_pages_beside_changes() {
    let pages = Arc::new(pages());
    let cache = Arc::new(cache(DEAR, HotShare::Auto));
    let work = |seed: u64| {
        let (cache, pages) = (Arc::clone(&cache), Arc::clone(&pages));
        thread::spawn(move || {
            let (mut random, mut buffer) = (Random::new(seed), vec![0; 4096]);
            for request in 0..40_000 {
                let number = random.below(PAGES);
                let key = number as u64;
                match random.below(20) {
                    0 => drop(cache.remove(&key)),
                    1 => drop(cache.maintain(16 << 10)),
                    _ => match cache.get_into(&key, &mut buffer).unwrap() {
                        Some(len) => assert!(buffer[..len] == pages[number], "page {number}"),
                        None => cache.insert(key, &pages[number]).unwrap(),
                    },
                }
                if request % 8000 == 7999 {
                    let dear = request / 8000 % 2 == 1;
                    cache.set_miss_cost(if dear { DEAR } else { CHEAP });
                }
                assert!(cache.held_bytes() <= CAPACITY);
            }
        })
    };
    let threads: Vec<_> = (1..=3).map(work).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let stats = cache.stats();
    assert!(stats.codec_changes > 0 && stats.removals.corrupt == 0, "{stats}");
    cache.check();
}

/// Rows of a table: what is between the values is alike in all pages, as it is in no page by
/// itself.
fn rows(names: &[String], number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    let mut page = Vec::new();
    while page.len() < 4096 {
        page.extend_from_slice(names[random.below(names.len())].as_bytes());
        page.extend_from_slice(&[b'0', b'='].map(|byte| byte + random.below(10) as u8));
        page.extend_from_slice(&random.bits().to_le_bytes()[..3]);
    }
    page.truncate(4096);
    page
}

/// What the values of a table are called.
fn names(table: u64) -> Vec<String> {
    (0..60).map(|name| format!("{:x}", (table * 64 + name + 1) * 0x9e37_79b9_7f4a)).collect()
}

/// Inserts pages of a table, and maintains the cache meanwhile, until `enough`.
fn fill(cache: &Cache<u64>, table: u64, enough: impl Fn(&Stats) -> bool) {
    let names = names(table);
    for number in 0_u64.. {
        let key = table << 32 | number;
        assert!(cache.get(&key).is_none(), "a miss, which costs what the cache was told");
        cache.insert(key, &rows(&names, number)).unwrap();
        if number % 64 == 0 {
            cache.maintain(1 << 20);
            if enough(&cache.stats()) {
                return;
            }
        }
        assert!(number < 100_000, "it takes too long: {}", cache.stats());
    }
}

#[test]
fn dictionaries_are_trained_for_what_comes_and_go_with_their_last_entry() {
    let config = Config::new(32 << 20).max_page(4096).checksum(false).hot(HotShare::Off);
    let cache: Cache<u64> = Cache::new(config.auto_codec().miss_cost(DEAR)).unwrap();
    fill(&cache, 1, |stats| stats.dictionaries.adopted == 1);
    let first = cache.stats();
    assert_eq!((&*first.codec, first.dictionaries.held), ("zstd:3+dict", 1), "{first}");
    let by = |name: &str| {
        let found = first.candidates.iter().find(|candidate| candidate.name == name);
        found.map(|candidate| (candidate.samples, candidate.entry_bytes)).expect("a candidate")
    };
    let (fast, trained) = (by("zstd:1"), by("zstd:3+dict"));
    assert!(trained.0 >= 6 && trained.1 * 10 < fast.1 * 9, "{first}");
    // Another table: its pages get a dictionary of their own, and all that is there has it then.
    fill(&cache, 2, |stats| stats.dictionaries.adopted == 2 && stats.dictionaries.dropped == 1);
    let second = cache.stats();
    assert_eq!(second.dictionaries.held, 1, "{second}");
    assert_eq!(second.removals.corrupt + second.unreadable, 0, "{second}");
    cache.check();
    let names = [names(1), names(2)];
    for key in cache.keys() {
        let rows = rows(&names[(key >> 32) as usize - 1], key & 0xffff_ffff);
        assert!(cache.peek(&key).as_deref() == Some(&rows[..]), "page {key}");
    }
}

#[test]
fn a_small_cache_trains_nothing() {
    let config = Config::new(31 << 20).max_page(4096).hot(HotShare::Off);
    let cache: Cache<u64> = Cache::new(config.auto_codec().miss_cost(DEAR)).unwrap();
    fill(&cache, 1, |stats| stats.inserts > 6000);
    let stats = cache.stats();
    assert!(is_strong(&stats) && stats.dictionaries == Default::default(), "{stats}");
    assert_eq!(stats.bytes.sample, 0);
}
