//! The hot tier: decoded pages in front of the compressed ones, under the same capacity.
#![cfg(not(zcache_loom))]

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use zcache::policy::{Lru, Policy, S3Fifo, Sieve};
use zcache::{Cache, Config, ConfigError, HotShare, InsertOptions};
use zpool::SourceKind;

/// A page of 4 KiB that compresses.
fn page(number: u64) -> Vec<u8> {
    (0..4096_u64).map(|at| ((at / 7) ^ (number * 31) ^ (number >> 5)) as u8).collect()
}

fn cache(capacity: usize, share: HotShare) -> Cache<u64> {
    Cache::new(Config::new(capacity).max_page(16 << 10).hot(share)).unwrap()
}

/// Hits a key until it has a frame.
fn heat(cache: &Cache<u64>, key: u64) {
    (0..3).for_each(|_| assert!(cache.get(&key).is_some(), "{key} is there"));
}

#[test]
fn a_page_that_is_hit_again_is_kept_decoded_and_all_look_ups_use_it() {
    let cache = cache(8 << 20, HotShare::Fraction(4));
    let page = page(1);
    cache.insert(1, &page).unwrap();
    heat(&cache, 1);
    let before = cache.stats();
    assert_eq!((before.frames, before.promotions, before.hot_hits, before.hits), (1, 1, 1, 3));
    assert!(before.bytes.frames > 4096 && before.bytes.frames < 4400);
    assert_eq!(cache.get(&1).as_deref(), Some(&page[..]));
    let mut to = vec![0xee; 5000];
    assert_eq!(cache.get_into(&1, &mut to), Ok(Some(4096)));
    assert!(to[..4096] == page && to[4096..].iter().all(|byte| *byte == 0xee));
    assert_eq!(cache.get_into(&1, &mut to[..9]).unwrap_err().needed, 4096);
    assert_eq!(cache.read(&1, |found| found == page), Some(true));
    assert_eq!(cache.get_range(&1, 100..200).as_deref(), Some(&page[100..200]));
    assert_eq!(cache.get_range(&1, 5000..9000).as_deref(), Some(&[][..]));
    assert_eq!(cache.get_many(&[1, 2, 1])[2].as_deref(), Some(&page[..]));
    assert_eq!(cache.get_or_lease(&1).page().unwrap(), page);
    assert_eq!(cache.get_or_insert_with(&1, |_| Err("not called")).unwrap(), page);
    let after = cache.stats();
    assert_eq!((after.hot_hits - before.hot_hits, after.hits - before.hits), (9, 9));
    assert_eq!((after.misses, after.decode.samples), (1, before.decode.samples));
    // These do not count, and do not need it.
    assert!(cache.contains_key(&1) && cache.peek(&1).is_some());
    assert_eq!(cache.stats().hits, after.hits);
    cache.check();
}

#[test]
fn without_a_share_there_are_no_frames() {
    for share in [HotShare::Off, HotShare::Fraction(0), HotShare::Fraction(1 << 20)] {
        let cache = cache(8 << 20, share);
        let held = cache.held_bytes();
        cache.insert(1, &page(1)).unwrap();
        (0..100).for_each(|_| heat(&cache, 1));
        let stats = cache.stats();
        assert_eq!((stats.frames, stats.promotions, stats.hot_hits), (0, 0, 0), "{share:?}");
        assert_eq!(self::cache(8 << 20, HotShare::Off).held_bytes(), held, "and no tables");
        cache.check();
    }
}

#[test]
fn what_decodes_at_no_cost_or_wastes_its_frame_has_none() {
    let cache = cache(8 << 20, HotShare::Fraction(4));
    let mut random = fastrand_page();
    cache.insert(1, &[7; 4096]).unwrap();
    cache.insert(2, &random).unwrap();
    random[1000..].fill(1);
    cache.insert(3, &random[..1500]).unwrap();
    cache.insert(4, &random).unwrap();
    (1..5).for_each(|key| heat(&cache, key));
    assert_eq!((cache.stats().frames, cache.stats().raw), (1, 1), "the last one alone");
    let memfd = Config::new(8 << 20).source(SourceKind::Memfd).hot(HotShare::Fraction(4));
    if let Ok(cache) = Cache::new(memfd) {
        let cache: Cache<u64> = cache;
        cache.insert(4, &random).unwrap();
        heat(&cache, 4);
        assert_eq!(cache.stats().frames, 0, "pages without an address");
        cache.check();
    }
}

/// 4 KiB that do not compress.
fn fastrand_page() -> Vec<u8> {
    let mut page = vec![0; 4096];
    tests::pattern::fill(9, &mut page);
    page
}

/// A change of key 1, and its name.
type Change = (&'static str, fn(&Cache<u64>));

#[test]
fn a_change_of_the_key_takes_the_frame_along() {
    let cache = cache(8 << 20, HotShare::Fraction(4));
    let changes: [Change; 8] = [
        ("insert", |cache| cache.insert(1, &page(2)).unwrap()),
        ("a failed insert", |cache| _ = cache.insert(1, &[0; 100 << 10]).unwrap_err()),
        ("remove", |cache| assert!(cache.remove(&1))),
        ("take", |cache| assert_eq!(cache.take(&1).unwrap(), page(1))),
        ("clear", |cache| cache.clear()),
        ("retain", |cache| cache.retain(|_| false)),
        ("a shorter page", |cache| cache.insert(1, &[3]).unwrap()),
        ("the same page", |cache| cache.insert(1, &page(1)).unwrap()),
    ];
    for (what, change) in changes {
        cache.insert(1, &page(1)).unwrap();
        heat(&cache, 1);
        assert_eq!(cache.stats().frames, 1, "before {what}");
        change(&cache);
        let stats = cache.stats();
        assert_eq!((stats.frames, stats.bytes.frames, stats.bytes.waiting), (0, 0, 0), "{what}");
        let peeked = cache.peek(&1);
        assert_eq!(cache.get(&1), peeked, "after {what}");
        cache.check();
    }
}

#[test]
fn frames_expire() {
    let cache = cache(8 << 20, HotShare::Fraction(4));
    let how = InsertOptions::new().time_to_live(Duration::from_millis(300));
    cache.insert_with_options(1, &page(1), how).unwrap();
    cache
        .insert_with_options(
            2,
            &page(2),
            InsertOptions::new().time_to_live(Duration::from_secs(999)),
        )
        .unwrap();
    while cache.stats().frames == 0 && cache.get(&1).is_some() {}
    heat(&cache, 2);
    std::thread::sleep(Duration::from_millis(310));
    assert!(cache.get(&1).is_none(), "its time is over");
    assert_eq!(cache.read(&2, |found| found == page(2)), Some(true));
    assert_eq!(cache.stats().removals.expired, 1);
    cache.check();
    assert_eq!(cache.stats().frames, 1);
}

#[test]
fn frames_keep_to_their_share_and_the_hotter_page_stays() {
    let cache = cache(8 << 20, HotShare::Fraction(8));
    let most = (8 << 20) / 8;
    for number in 0..2000 {
        cache.insert(number, &page(number)).unwrap();
    }
    for round in 0..3 {
        for number in 0..2000 {
            // The first ones are hit all the time.
            heat(&cache, number);
            if number % 10 == 0 {
                (0..30).for_each(|hot| heat(&cache, hot));
            }
        }
        let stats = cache.stats();
        assert!(stats.bytes.frames <= most && stats.frames > 200, "{round}: {stats}");
        cache.check();
    }
    let before = cache.stats();
    (0..30).for_each(|hot| heat(&cache, hot));
    let hot = cache.stats().hot_hits - before.hot_hits;
    // Two that share a slot take turns.
    assert!(hot >= 70, "{hot} of 90 hits on the hottest pages found frames");
    assert!(before.demotions > 1000);
}

#[test]
fn hits_on_frames_keep_their_entries_from_eviction() {
    let policies: [fn() -> Box<dyn Policy>; 3] =
        [|| Box::new(S3Fifo::new()), || Box::new(Sieve::new()), || Box::new(Lru::new())];
    for policy in policies {
        let name = policy().name();
        let config = Config::new(4 << 20).max_page(4096);
        let config = match name {
            "sieve" => config.policy(Sieve::new()),
            "lru" => config.policy(Lru::new()),
            _ => config.policy(S3Fifo::new()),
        };
        let cache: Cache<u64> = Cache::new(config.hot(HotShare::Fraction(4))).unwrap();
        (0..20).for_each(|hot| cache.insert(hot, &page(hot)).unwrap());
        (0..20).for_each(|hot| heat(&cache, hot));
        let frames = cache.stats().frames as u64;
        assert!(frames >= 15, "{name}: {frames}");
        // A scan that is many times the cache, and nothing but hits on frames in between.
        let mut buffer = vec![0; 4096];
        for number in 100..20_000 {
            cache.insert(number, &fastrand_like(number)).unwrap();
            if number % 20 == 0 {
                (0..20).for_each(|hot| _ = cache.get_into(&hot, &mut buffer).unwrap());
            }
        }
        let stayed = (0..20).filter(|hot| cache.contains_key(hot)).count();
        assert!(stayed >= 19, "{name}: {stayed} of 20 hot pages stayed, {}", cache.stats());
        assert!(cache.stats().removals.evicted > 10_000);
        cache.check();
    }
}

/// A page that does not compress, so that a few thousand fill the cache.
fn fastrand_like(number: u64) -> Vec<u8> {
    let mut page = vec![0; 2000];
    tests::pattern::fill(number, &mut page);
    page
}

#[test]
fn the_capacity_holds_with_frames_and_the_least_one_has_none() {
    let config = |bytes| Config::new(bytes).max_page(4096);
    let Err(ConfigError::TooSmall { least }) = Cache::<u64>::new(config(0)) else { panic!() };
    for more in [0, 30 << 10, 60 << 10, 120 << 10, 400 << 10, 3 << 20] {
        let cache: Cache<u64> =
            Cache::new(config(least + more).hot(HotShare::Fraction(1))).unwrap();
        for number in 0..3000 {
            cache.insert(number, &page(number)).expect("frames are in nobody's way");
            (0..3).for_each(|_| _ = cache.get(&(number / 2)));
            (0..3).for_each(|_| _ = cache.get(&number));
            assert!(cache.held_bytes() <= cache.capacity());
        }
        cache.check();
        let stats = cache.stats();
        assert!(stats.bytes.frames <= more, "the least that a cache needs is left to it: {stats}");
        assert_eq!(stats.promotions > 0, more > 0, "{more}: {stats}");
        let parts = stats.bytes;
        let sum = parts.pages + parts.frames + parts.waiting + parts.metadata;
        let sum = sum + parts.index + parts.policy + parts.codec + parts.fixed;
        assert_eq!(sum, parts.held, "the parts are the whole");
    }
}

#[test]
fn a_lower_capacity_lowers_the_share() {
    let cache = cache(16 << 20, HotShare::Fraction(4));
    for number in 0..900 {
        cache.insert(number, &page(number)).unwrap();
        heat(&cache, number);
    }
    let before = cache.stats();
    assert!(before.bytes.frames > 2 << 20, "{before}");
    for capacity in [8 << 20, 4 << 20, 2 << 20, 16 << 20] {
        cache.resize(capacity).unwrap();
        let stats = cache.stats();
        assert!(stats.bytes.frames <= capacity / 4, "{stats}");
        assert!(stats.bytes.held <= capacity);
        cache.check();
        (0..900).for_each(|number| _ = cache.get(&number));
        (0..900).for_each(|number| _ = cache.get(&number));
        cache.check();
    }
}

#[test]
fn a_reader_keeps_its_page_and_what_waits_for_it_is_bounded() {
    let cache = cache(8 << 20, HotShare::Fraction(8));
    (0..3000).for_each(|number| cache.insert(number, &page(number)).unwrap());
    heat(&cache, 5);
    let lent = cache.read(&5, |found| {
        // Everything is changed under the reader's hands.
        for round in 1..4 {
            for number in 0..3000 {
                _ = cache.get(&number);
                _ = cache.get(&number);
                cache.insert(number, &page(number + round)).unwrap();
                assert!(cache.held_bytes() <= cache.capacity());
            }
        }
        let stats = cache.stats();
        assert!(stats.bytes.waiting > 0, "{stats}");
        assert!(stats.bytes.waiting <= (8 << 20) / 8, "{stats}");
        assert!(stats.promotions < 3000, "and promotion stops");
        found == page(5)
    });
    assert_eq!(lent, Some(true), "the reader's page is whole");
    cache.trim();
    assert_eq!(cache.stats().bytes.waiting, 0);
    cache.check();
    heat(&cache, 6);
    heat(&cache, 6);
    assert!(cache.read(&6, |found| found == page(9)).unwrap());
}

#[test]
fn a_cache_that_needs_room_takes_it_from_frames() {
    let cache = cache(2 << 20, HotShare::Fraction(2));
    for number in 0..400 {
        cache.insert(number, &page(number)).unwrap();
        heat(&cache, number);
    }
    assert!(cache.stats().bytes.frames > 400 << 10, "{}", cache.stats());
    // Evicting is no use where all entries are gone.
    (0..400).for_each(|number| _ = cache.remove(&number));
    for number in 0..3000 {
        cache.insert(number, &fastrand_like(number)).unwrap();
    }
    cache.check();
}

/// Counts itself, clones too.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Counted(u64);

static ALIVE: AtomicUsize = AtomicUsize::new(0);

impl Counted {
    fn new(number: u64) -> Self {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Self(number)
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::new(self.0)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn keys_are_dropped_as_often_as_they_are_made() {
    let cache: Cache<Counted> =
        Cache::new(Config::new(2 << 20).hot(HotShare::Fraction(4))).unwrap();
    for number in 0..2000 {
        cache.insert(Counted::new(number), &page(number)).unwrap();
        (0..3).for_each(|_| _ = cache.get(&Counted::new(number)));
        (0..3).for_each(|_| _ = cache.get(&Counted::new(number / 2)));
    }
    let stats = cache.stats();
    assert!(stats.frames > 50 && stats.demotions > 50, "{stats}");
    assert_eq!(ALIVE.load(Ordering::Relaxed), stats.frames + stats.entries);
    cache.clear();
    assert_eq!(ALIVE.load(Ordering::Relaxed), 0);
    cache.insert(Counted::new(1), &page(1)).unwrap();
    (0..3).for_each(|_| _ = cache.get(&Counted::new(1)));
    assert_eq!(ALIVE.load(Ordering::Relaxed), 2);
    drop(cache);
    assert_eq!(ALIVE.load(Ordering::Relaxed), 0);
}

/// A key whose drop looks keys up that are about to become hot.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Deep(u64);

thread_local! {
    static DEPTH: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    static CACHE: RefCell<Weak<Cache<Deep>>> = const { RefCell::new(Weak::new()) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

impl Drop for Deep {
    fn drop(&mut self) {
        let Some(cache) = CACHE.with_borrow(Weak::upgrade).filter(|_| self.0 < 1 << 20) else {
            return;
        };
        let (depth, most) = DEPTH.get();
        DEPTH.set((depth + 1, most.max(depth + 1)));
        NEXT.set((NEXT.get() + 1) % 2000);
        // Keys above are of these look-ups, whose drops look nothing up.
        let key = std::mem::ManuallyDrop::new(Deep(NEXT.get()));
        (0..3).for_each(|_| drop(cache.get(&*key)));
        DEPTH.set((DEPTH.get().0 - 1, DEPTH.get().1));
    }
}

/// Each frame that went ended a key, whose drop made a frame, for which one went, and so on.
#[test]
fn a_keys_drop_that_hits_makes_no_frame() {
    let config = Config::new(4 << 20).max_page(4096).hot(HotShare::Fraction(8));
    let cache: Arc<Cache<Deep>> = Arc::new(Cache::new(config).unwrap());
    for number in 0..2000 {
        cache.insert(Deep(number), &page(number)).unwrap();
    }
    CACHE.with_borrow_mut(|weak| *weak = Arc::downgrade(&cache));
    for number in 0..2000 {
        let key = std::mem::ManuallyDrop::new(Deep(number));
        (0..3).for_each(|_| drop(cache.get(&*key)));
    }
    CACHE.with_borrow_mut(|weak| *weak = Weak::new());
    assert!(cache.stats().demotions > 100, "frames went");
    assert_eq!(DEPTH.get().1, 1, "drops inside drops");
    cache.check();
}

/// It may not evict, so it lacked room, for which all frames went, time after time.
#[test]
fn a_hook_that_inserts_into_a_full_cache_leaves_the_frames_alone() {
    let cache = Arc::new_cyclic(|weak: &Weak<Cache<u64>>| {
        let weak = weak.clone();
        let config = Config::new(8 << 20).max_page(4096).hot(HotShare::Fraction(4));
        Cache::<u64>::new(config).unwrap().on_removal(move |gone| {
            let Some(cache) = weak.upgrade().filter(|_| gone.key() % 2 == 0) else { return };
            // More than there is room at hand for.
            for nth in 0..2 {
                let key = gone.key() + 1_000_001 + (nth << 32);
                let _ = cache.insert(key, &fastrand_page()[..2000]);
            }
        })
    });
    for key in 0..100 {
        cache.insert(key, &page(key)).unwrap();
        heat(&cache, key);
    }
    let hot = cache.stats().frames;
    assert!(hot > 80, "{hot}");
    for key in 1000..6000 {
        cache.insert(key, &page(key)).unwrap();
        let _ = (cache.get(&(key % 100)), cache.get(&(key * 7 % 100)));
    }
    let stats = cache.stats();
    assert!(stats.removals.evicted > 1000 && stats.rejected.no_room > 10, "{stats}");
    assert!(stats.frames > hot - 20 && stats.demotions < 300, "{stats}");
    cache.check();
}
