//! A hot tier that finds its share, and pages that outlive it in their readers' hands.
#![cfg(not(zcache_loom))]
#![allow(clippy::print_stdout, reason = "figures for who asks for them by --nocapture")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use tests::pattern::Random;
use zcache::{Cache, Config, HotShare, codec};

/// A page of 4 KiB that compresses to a half or so.
fn page(number: u64) -> Vec<u8> {
    let mut page = vec![0; 4096];
    tests::pattern::fill(number, &mut page[..2000]);
    (2000..4096).for_each(|at| page[at] = (number as usize + at / 90) as u8);
    page
}

fn config(capacity: usize) -> Config {
    Config::new(capacity).max_page(4096).checksum(false)
}

/// Looks so many random ones of `pages` pages up, of which a part may be hotter, and brings what is
/// missed.
fn live(cache: &Cache<u64>, random: &mut Random, requests: usize, pages: usize, hot: usize) {
    let mut buffer = vec![0; 4096];
    for _ in 0..requests {
        let among = if random.below(10) < 8 { hot } else { pages };
        let number = random.below(among) as u64;
        match cache.get_into(&number, &mut buffer).unwrap() {
            Some(len) => assert!(buffer[..len] == page(number), "{number}"),
            None => cache.insert(number, &page(number)).unwrap(),
        }
    }
}

/// The least time of many rounds of hits on `keys`, to a page's boundary, as a buffer pool has
/// them.
fn fastest(caches: [&Cache<u64>; 2], keys: &[u64]) -> [Duration; 2] {
    let mut memory = vec![0; 2 * 4096];
    let at = memory.as_ptr().align_offset(4096);
    let buffer = &mut memory[at..at + 4096];
    let mut best = [Duration::MAX; 2];
    for _ in 0..200 {
        for (cache, best) in caches.into_iter().zip(&mut best) {
            let start = Instant::now();
            for key in keys {
                assert_eq!(cache.get_into(key, buffer).unwrap(), Some(4096));
            }
            *best = start.elapsed().min(*best);
        }
    }
    best
}

/// Two caches of the same pages: one with all of them in frames, if it can, and one without codec
/// and frames.
fn both(capacity: usize, pages: u64) -> [Cache<u64>; 2] {
    let auto = Cache::<u64>::new(config(capacity)).unwrap();
    let plain = config(capacity).codec(codec::Plain).hot(HotShare::Off);
    let plain = Cache::<u64>::new(plain).unwrap();
    for number in 0..pages {
        auto.insert(number, &page(number)).unwrap();
        plain.insert(number, &page(number)).unwrap();
    }
    let mut buffer = vec![0; 4096];
    // In turns, which leaves each page's last hit as long ago as can be.
    for _ in 0..40 {
        (0..pages).for_each(|key| _ = auto.get_into(&key, &mut buffer).unwrap());
    }
    let stats = auto.stats();
    assert!(stats.frames as u64 >= pages * 99 / 100, "{stats}");
    assert!(stats.bytes.frames > stats.balance.unwrap().limit, "free room is used: {stats}");
    [auto, plain]
}

#[test]
fn data_that_fits_plain_ends_all_plain() {
    let [auto, _] = both(16 << 20, 1000);
    let before = auto.stats().hot_hits;
    let mut buffer = vec![0; 4096];
    for _ in 0..20 {
        (0..1000).for_each(|key| _ = auto.get_into(&key, &mut buffer).unwrap());
    }
    let hits = auto.stats().hot_hits - before;
    assert!(hits >= 20 * 1000 * 98 / 100, "{hits} hits on frames");
    auto.check();
}

#[test]
#[ignore = "a comparison of times, for a machine that does nothing else"]
fn data_that_fits_plain_is_hit_as_fast_as_without_compression() {
    let [auto, plain] = both(16 << 20, 1000);
    // So few that the processor's caches have them: the time is the cache's and not the memory's.
    let mut keys: Vec<u64> = (0..1000).collect();
    Random::new(3).shuffle(&mut keys);
    let [hot, bare] = fastest([&auto, &plain], &keys[..200]);
    assert!(hot.as_nanos() * 100 <= bare.as_nanos() * 103, "{hot:?} and {bare:?}");
}

#[test]
#[ignore = "prints what the design notes say of data that the processor's caches do not hold"]
fn data_that_fits_plain_and_not_into_the_processors_caches() {
    for pages in [200, 1000, 2500, 10_000] {
        let [auto, plain] = both(pages as usize * 4096 * 3, pages);
        let mut keys: Vec<u64> = (0..pages).collect();
        Random::new(3).shuffle(&mut keys);
        let [hot, bare] = fastest([&auto, &plain], &keys);
        let each = |time: Duration| time.as_nanos() as f64 / pages as f64;
        let times = each(hot) / each(bare);
        println!("{pages} pages: {:.0} ns, without codec {:.0}: {times:.2}", each(hot), each(bare));
    }
}

#[test]
fn a_cache_under_pressure_ends_with_hardly_any_frames() {
    let capacity = 4 << 20;
    let cache = Cache::new(config(capacity).miss_cost(Duration::from_millis(1))).unwrap();
    let mut random = Random::new(1);
    // 8 times what it holds, and all pages alike.
    live(&cache, &mut random, 60_000, 14_000, 14_000);
    let stats = cache.stats();
    let balance = stats.balance.unwrap();
    assert!(balance.limit <= capacity / 128 && balance.lowered > balance.raised, "{balance:?}");
    assert!(stats.bytes.frames <= balance.limit, "{stats}");
    assert!(balance.miss == Duration::from_millis(1), "{balance:?}");
    cache.check();
}

#[test]
fn where_misses_cost_nothing_frames_are_worth_more() {
    let capacity = 4 << 20;
    let cache = Cache::new(config(capacity).miss_cost(Duration::from_nanos(1))).unwrap();
    let mut random = Random::new(2);
    live(&cache, &mut random, 60_000, 14_000, 600);
    let stats = cache.stats();
    let balance = stats.balance.unwrap();
    assert!(balance.limit > capacity / 8 && balance.raised > balance.lowered, "{balance:?}");
    // Entries are few by now, so that a byte of them is worth about as much.
    assert!(balance.frame_returns > 0 && balance.frame_worth > Duration::ZERO, "{balance:?}");
    assert!(stats.frames >= 100 && stats.bytes.held <= capacity, "{stats}");
    cache.check();
}

#[test]
fn a_miss_is_taken_to_last_until_its_key_is_inserted() {
    let cache = Cache::<u64>::new(config(4 << 20)).unwrap();
    assert_eq!(cache.stats().balance.unwrap().miss, Duration::from_micros(100), "nothing is known");
    let mut slowest = Duration::ZERO;
    for number in 0..200 {
        let start = Instant::now();
        assert!(cache.get(&number).is_none());
        std::thread::sleep(Duration::from_micros(300));
        cache.insert(number, &page(number)).unwrap();
        slowest = slowest.max(start.elapsed());
    }
    let miss = cache.stats().balance.unwrap().miss;
    // It is counted in ticks of 128 ns.
    let tick = Duration::from_nanos(128);
    let bounds = Duration::from_micros(300) - tick..=slowest + tick;
    assert!(bounds.contains(&miss), "{miss:?} of {slowest:?}");
    let fixed = Cache::<u64>::new(config(4 << 20).hot(HotShare::Fraction(16))).unwrap();
    assert_eq!(fixed.stats().balance, None, "a fixed share weighs nothing");
}

#[test]
fn frames_make_room_before_entries_go() {
    let capacity = 4 << 20;
    let cache = heated(capacity, 300);
    let before = cache.stats();
    assert!(before.frames >= 297, "{before}");
    let mut number = 300;
    while cache.stats().bytes.frames > capacity / 16 {
        cache.insert(number, &page(number)).unwrap();
        let stats = cache.stats();
        let left = stats.bytes.frames <= capacity / 16;
        assert!(stats.removals.evicted == 0 || left, "{stats}");
        assert!(cache.held_bytes() <= capacity);
        number += 1;
    }
    assert!(cache.stats().demotions > 200 && cache.len() as u64 > number - 10);
    cache.check();
}

/// A cache that has page 1 in a frame, and some more.
fn heated(capacity: usize, pages: u64) -> Cache<u64> {
    let cache = Cache::new(config(capacity)).unwrap();
    (0..pages).for_each(|number| cache.insert(number, &page(number)).unwrap());
    for _ in 0..40 {
        (0..pages).for_each(|number| assert!(cache.get(&number).is_some()));
    }
    cache
}

#[test]
fn readers_of_a_hot_page_share_its_bytes() {
    let cache = heated(8 << 20, 10);
    let ours: Bytes = cache.get(&1).unwrap();
    let theirs = cache.get(&1).unwrap();
    assert_eq!(ours.as_ptr(), theirs.as_ptr(), "nothing is copied");
    assert_ne!(ours.as_ptr(), cache.get(&2).unwrap().as_ptr());
    let hits = cache.stats().hot_hits;
    drop(theirs);
    // Its entry goes, another page comes: what a reader has stays, and is counted.
    cache.insert(1, &page(50)).unwrap();
    cache.trim();
    assert_eq!(ours, page(1));
    assert_eq!(cache.get(&1).unwrap(), page(50));
    let waiting = cache.stats().bytes.waiting;
    assert!((4096..4400).contains(&waiting), "{waiting}");
    let part = ours.slice(100..200);
    drop(ours);
    cache.trim();
    assert_eq!(cache.stats().bytes.waiting, waiting, "a part holds the whole");
    assert_eq!(part, page(1)[100..200]);
    drop(part);
    cache.trim();
    assert_eq!((cache.stats().bytes.waiting, cache.stats().hot_hits), (0, hits));
    cache.check();
}

#[test]
fn a_page_in_hand_outlives_the_cache() {
    let cache = heated(8 << 20, 10);
    let (kept, sent) = (cache.get(&1).unwrap(), cache.get(&2).unwrap());
    drop(cache);
    assert_eq!(kept, page(1));
    let reader = std::thread::spawn(move || sent == page(2));
    assert!(reader.join().unwrap());
    assert_eq!(kept.clone(), page(1));
}

#[test]
fn pages_in_hands_are_bounded_and_then_copied() {
    let capacity = 4 << 20;
    let cache = heated(capacity, 300);
    let kept: Vec<Bytes> = (0..300).map(|number| cache.get(&number).unwrap()).collect();
    let frames = cache.stats().bytes.frames;
    // Everything goes, and they stay.
    cache.clear();
    for number in 1000..4000 {
        cache.insert(number, &page(number)).unwrap();
        assert!(cache.held_bytes() <= capacity);
    }
    let waiting = cache.stats().bytes.waiting;
    assert!(waiting > 0 && waiting <= frames / 4 + 4400, "{waiting} of {frames}");
    for (number, kept) in (0..).zip(&kept) {
        assert_eq!(*kept, page(number));
    }
    drop(kept);
    cache.trim();
    assert_eq!(cache.stats().bytes.waiting, 0);
    cache.check();
}

#[test]
fn a_reader_whose_frame_cannot_go_is_in_no_inserts_way() {
    let capacity = 4 << 20;
    let cache = heated(capacity, 300);
    // All frames that go while the closure runs wait for it.
    let lent = cache.read(&1, |found| {
        for number in 1000..6000 {
            cache.insert(number, &page(number)).expect("entries go instead");
            assert!(cache.held_bytes() <= capacity);
        }
        found == page(1)
    });
    assert_eq!(lent, Some(true));
    assert!(cache.stats().removals.evicted > 3000 && cache.stats().rejected.no_room == 0);
    cache.trim();
    cache.check();
}

#[test]
fn a_full_cache_makes_room_for_a_longer_table() {
    let capacity = 8 << 20;
    let cache = Cache::new(config(capacity).miss_cost(Duration::from_nanos(1))).unwrap();
    (0..10_000).for_each(|number| cache.insert(number, &page(number)).unwrap());
    assert_eq!(cache.stats().frames, 0);
    let fixed = cache.stats().bytes.fixed;
    let mut random = Random::new(4);
    live(&cache, &mut random, 180_000, 20_000, 1500);
    let stats = cache.stats();
    assert!(stats.frames > 700 && stats.bytes.fixed > fixed, "{stats}");
    cache.check();
    let least = cache.resize(0).unwrap_err();
    assert!(least.to_string().contains(char::is_numeric), "{least}");
    cache.resize(1 << 20).unwrap();
    cache.insert(1, &page(1)).unwrap();
    cache.check();
}
