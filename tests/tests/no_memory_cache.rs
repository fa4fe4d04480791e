//! The heap refuses each allocation of a cache's work in turn, once or from there on: the process
//! goes on, pages are right or missed, and nobody is evicted for it.
#![cfg(not(zcache_loom))]

use std::time::Duration;

use tests::alloc::{Watched, failing_from};
use tests::pattern;
use zcache::codec::{self, Codec, Lz4, Zstd};
use zcache::{Cache, Config, InsertError, InsertOptions};

#[global_allocator]
static HEAP: Watched = Watched;

const KEYS: u64 = 40;

/// A page that is worth a frame: it is compressed, and fills its frame.
fn page(key: u64) -> Vec<u8> {
    (0..4096_u64).map(|at| ((at / 9) ^ key) as u8).collect()
}

/// Every default but the codec, and a page size that the first context is made for.
fn open(codec: impl Codec + 'static) -> Cache<u64> {
    Cache::new(Config::new(16 << 20).max_page(8192).codec(codec)).unwrap()
}

/// Asserts that nobody was evicted, that all that is there is right, and that all goes on.
fn assert_sound(cache: &Cache<u64>, page: impl Fn(u64) -> Vec<u8>) {
    let stats = cache.stats();
    assert_eq!((stats.removals.evicted, stats.removals.corrupt), (0, 0), "{stats}");
    assert_eq!(stats.rejected.no_room, 0, "{stats}");
    cache.check();
    for key in 0..KEYS {
        let got = cache.get(&key);
        assert!(got.is_none_or(|got| got == page(key)), "key {key}: a wrong page");
        cache.insert(key, &page(key)).unwrap();
        assert!(cache.get(&key).is_some_and(|got| got == page(key)), "key {key}: it goes on");
    }
    cache.check();
}

/// Hits that promote, and others, while allocations fail; says how many there were.
fn hits(codec: impl Codec + 'static, promotes: bool, nth: usize, forever: bool) -> usize {
    let cache = open(codec);
    (0..KEYS).for_each(|key| cache.insert(key, &page(key)).unwrap());
    let pages: Vec<Vec<u8>> = (0..KEYS).map(page).collect();
    let mut to = vec![0; 4096];
    for key in 0..10 {
        (0..4).for_each(|_| assert_eq!(cache.get_into(&key, &mut to).unwrap(), Some(4096)));
    }
    let ((), calls) = failing_from(nth, forever, || {
        for key in 10..18 {
            let page = &pages[key as usize];
            for _ in 0..4 {
                assert_eq!(cache.get_into(&key, &mut to).unwrap(), Some(4096), "a hit it stays");
                assert!(to == *page);
                // Its buffer may be refused.
                assert!(cache.read(&key, |got| got == page).is_none_or(|same| same));
            }
        }
        // Memory of the caller's may be refused, too: pages that are not hot yet are missed then.
        for key in 20..26 {
            let page = &pages[key as usize];
            assert!(cache.get(&key).is_none_or(|got| got == page));
        }
        for key in 30..36 {
            let page = &pages[key as usize];
            assert!(cache.get_range(&key, 7..99).is_none_or(|got| got == page[7..99]));
            assert!(cache.peek(&key).is_none_or(|got| got == page));
        }
    });
    let stats = cache.stats();
    assert_eq!(stats.entries, KEYS as usize, "{stats}");
    assert!(nth > 0 || !promotes || stats.frames >= 18, "they are promoted: {stats}");
    assert!(nth > 0 || stats.unreadable == 0, "{stats}");
    assert!(forever || stats.unreadable <= 1, "one failure is one miss at most: {stats}");
    assert_sound(&cache, page);
    calls
}

/// Pages of every kind by their keys: compressed, same-filled, incompressible, and long ones.
fn mixed(key: u64) -> Vec<u8> {
    match key % 5 {
        0 => vec![key as u8; 4096],
        1 => pattern::bytes(key, 4096),
        2 => page(key).repeat(2),
        _ => page(key),
    }
}

/// Inserts into an empty cache, where there is room for all, while allocations fail; says how many
/// there were.
fn inserts(
    codec: impl Codec + 'static,
    page: fn(u64) -> Vec<u8>,
    nth: usize,
    forever: bool,
) -> usize {
    let cache = open(codec);
    let pages: Vec<Vec<u8>> = (0..KEYS).map(page).collect();
    let mut to = vec![0; 8192];
    let mut there = vec![false; KEYS as usize];
    let (refused, calls) = failing_from(nth, forever, || {
        let mut refused = 0;
        for key in (0..KEYS).chain([3, 4, 5]) {
            let how = InsertOptions::new().time_to_live(Duration::from_secs(9999));
            let how = if key % 7 == 0 { how } else { InsertOptions::new() };
            let inserted = cache.insert_with_options(key, &pages[key as usize], how);
            there[key as usize] = inserted.is_ok();
            refused += u64::from(matches!(inserted, Err(InsertError::NoMemory { .. })));
            let got = cache.get_into(&key, &mut to).unwrap();
            assert!(got.is_none_or(|len| to[..len] == pages[key as usize]), "key {key}");
            assert!(got.is_some() <= there[key as usize], "key {key}: never stale");
        }
        refused
    });
    let stats = cache.stats();
    assert_eq!((stats.rejected.no_memory, stats.rejected.no_room), (refused, 0), "{stats}");
    assert_eq!(stats.entries, there.iter().filter(|there| **there).count(), "{stats}");
    assert!((nth > 0 || refused == 0) && (forever || refused <= 1), "{refused} by one failure");
    assert_eq!(stats.rejected.too_large + stats.rejected.outdated, 0, "{stats}");
    assert_sound(&cache, page);
    calls
}

/// Does `work` while each of its allocations fails in turn, once and from there on.
fn each(least: usize, work: impl Fn(usize, bool) -> usize) {
    let calls = work(0, false);
    assert!(calls >= least, "{calls} allocations are no work");
    for nth in 1..=calls {
        work(nth, false);
        work(nth, true);
    }
}

/// The first hit of a page of a scan compresses it, if there is memory for that.
#[test]
fn a_first_hit_of_a_scanned_page_is_a_hit_without_memory() {
    let codecs: [fn() -> Cache<u64>; 2] = [|| open(Lz4), || open(Zstd::level(3).unwrap())];
    for (open, nth, forever) in codecs
        .into_iter()
        .flat_map(|open| (1..12).flat_map(move |nth| [(open, nth, true), (open, nth, false)]))
    {
        let cache = open();
        for key in 0..KEYS {
            cache.insert_with_options(key, &page(key), InsertOptions::new().scan()).unwrap();
        }
        assert_eq!(cache.stats().raw, KEYS as usize);
        let (pages, mut to): (Vec<_>, _) = ((0..KEYS).map(page).collect(), vec![0; 4096]);
        failing_from(nth, forever, || {
            for key in 0..KEYS {
                assert_eq!(cache.get_into(&key, &mut to), Ok(Some(4096)), "a hit it stays");
                assert!(to == pages[key as usize]);
            }
        });
        assert_sound(&cache, page);
    }
}

/// The map of loads gets smaller when most of them are over, if there is memory for a smaller one.
#[test]
fn a_burst_of_loads_ends_without_memory() {
    for nth in 1..6 {
        let cache = open(Lz4);
        let lease = |key: u64| cache.get_or_lease(&(1000 + key)).lease().expect("a miss");
        let mut leases: Vec<_> = (0..3000).map(lease).collect();
        failing_from(nth, true, || leases.drain(..2900).for_each(drop));
        assert!(leases.drain(..).all(|lease| cache.insert_if_valid(lease, &[7; 64]).is_ok()));
        assert_eq!(cache.stats().entries, 100);
        assert_sound(&cache, page);
    }
}

#[test]
fn a_hit_whose_promotion_finds_no_memory_is_a_hit_without_a_promotion() {
    each(30, |nth, forever| hits(Lz4, true, nth, forever));
}

#[test]
fn a_hit_on_a_page_that_is_kept_as_it_is_finds_it_without_memory() {
    each(10, |nth, forever| hits(codec::Plain, false, nth, forever));
}

#[test]
fn a_hit_that_decodes_with_a_context_finds_no_memory_and_evicts_nobody() {
    let codec = Zstd::level(3).unwrap();
    each(30, |nth, forever| hits(codec.clone(), true, nth, forever));
}

#[test]
fn an_insert_that_the_heap_refuses_says_so_and_evicts_nobody() {
    // Without pages that LZ4 is tried on in vain: the crate of liblz4 boxes an error then.
    let shrinks = |key| mixed(if key % 5 == 1 { key + 1 } else { key });
    each(20, |nth, forever| inserts(Lz4, shrinks, nth, forever));
    each(20, |nth, forever| inserts(codec::Plain, mixed, nth, forever));
    let codec = Zstd::level(3).unwrap();
    each(20, |nth, forever| inserts(codec.clone(), mixed, nth, forever));
}

/// Tables became shorter by way of a shorter one, for which there might be no memory.
#[test]
fn a_removal_takes_no_memory() {
    const MANY: u64 = 6000;
    let config = Config::new(16 << 20).max_page(4096).shards(2);
    let cache: Cache<u64> = Cache::new(config).unwrap();
    (0..MANY).for_each(|key| cache.insert(key, &[key as u8; 512]).unwrap());
    let ((), calls) = failing_from(1, true, || {
        (0..MANY - 10).for_each(|key| assert!(cache.remove(&key)));
        cache.trim();
    });
    assert_eq!(calls, 0);
    cache.check();
    for key in MANY - 10..MANY {
        assert!(cache.get(&key).is_some_and(|page| page[..] == [key as u8; 512]));
    }
    assert_eq!((cache.len(), cache.stats().removals.removed), (10, MANY - 10));
}

/// A cache that is a twelfth full evicted 18 entries for one block that was refused to a promotion.
#[test]
fn a_promotion_that_finds_no_memory_costs_nobody_else() {
    let cache: Cache<u64> = Cache::new(Config::new(64 << 20).max_page(4096)).unwrap();
    (0..2500).for_each(|key| cache.insert(key, &page(key)).unwrap());
    let mut to = vec![0; 4096];
    for key in 0..20 {
        (0..4).for_each(|_| assert_eq!(cache.get_into(&key, &mut to).unwrap(), Some(4096)));
    }
    let before = cache.stats();
    assert!(before.frames >= 20, "{before}");
    failing_from(1, true, || {
        (0..4).for_each(|_| assert_eq!(cache.get_into(&30, &mut to).unwrap(), Some(4096)));
    });
    let after = cache.stats();
    let gone = (after.removals.evicted, after.demotions);
    assert_eq!((after.entries, after.frames, gone), (2500, before.frames, (0, 0)), "{after}");
    cache.check();
}

/// The map of their pieces gets smaller as they go, which takes memory.
#[test]
fn long_pages_go_where_the_heap_has_no_memory() {
    let cache: Cache<u64> = Cache::new(Config::new(16 << 20).max_page(1 << 20)).unwrap();
    let page = vec![7; 200 << 10];
    for nth in 1..4 {
        for forever in [false, true] {
            (0..200).for_each(|key| cache.insert(key, &page).unwrap());
            let (removed, _) =
                failing_from(nth, forever, || (0..199).filter(|key| cache.remove(key)).count());
            assert_eq!((removed, cache.len()), (199, 1));
            cache.check();
            assert!(cache.get(&199).unwrap() == page);
        }
    }
}
