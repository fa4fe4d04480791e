//! What a cache holds beside pages is had back: tables of small entries make room for pages again,
//! one insert evicts no more than it needs, and a resize keeps what fits.
#![cfg(not(zcache_loom))]

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tests::pattern;
use zcache::policy::{Entries, Lru, Policy, Priority};
use zcache::{Cache, Config, HotShare, Removal, RemovalCause};

/// A page of 4 KiB that LZ4 makes a third or so of.
fn page(seed: u64) -> Vec<u8> {
    let mut page = vec![0; 4096];
    pattern::words(1, seed, &mut page);
    page
}

/// Inserts so many pages, and says how many inserts were refused.
fn fill(cache: &Cache<u64>, keys: std::ops::Range<u64>) -> usize {
    keys.filter(|key| cache.insert(*key, &page(key % 97)).is_err()).count()
}

/// Runs of keys that do not meet.
const fn run(number: u64, length: u64) -> std::ops::Range<u64> {
    number << 40..(number << 40) + length
}

fn config(capacity: usize) -> Config {
    Config::new(capacity).max_page(8192).checksum(false)
}

/// At least 97 % of what `fresh` holds, in percent.
fn assert_as_good(cache: &Cache<u64>, fresh: usize, when: &str) {
    let bytes = cache.stats().bytes;
    assert!(
        cache.len() * 100 >= fresh * 97,
        "{when}: {} of {fresh} entries, {bytes:?}",
        cache.len()
    );
}

#[test]
fn pages_have_the_room_again_that_small_entries_had() {
    let capacity = 4 << 20;
    for (name, small) in [("zeros", vec![0; 4096]), ("tiny pages", vec![])] {
        let cache: Cache<u64> = Cache::new(config(capacity)).unwrap();
        assert_eq!(fill(&cache, run(0, 6000)), 0);
        let fresh = cache.len();
        for key in run(1, 150_000) {
            let page = if small.is_empty() { &key.to_le_bytes()[..] } else { &small };
            cache.insert(key, page).unwrap();
        }
        let most = cache.len();
        // How many pages of the first run stay depends on keys' hashes, which differ by run.
        assert!(most > 8 * fresh, "{name}: {most} entries, {fresh} of pages");
        assert_eq!(fill(&cache, run(2, 6000)), 0, "{name}");
        cache.check();
        assert_as_good(&cache, fresh, name);
        // Small entries that the policy keeps are entries, too: tables alone took all the room.
        let pages = run(2, 6000).filter(|key| cache.contains_key(key)).count();
        assert!(pages * 2 >= fresh, "{name}: {pages} pages of {fresh}");
        // And after calls that empty it.
        run(3, 150_000).for_each(|key| cache.insert(key, &small).unwrap());
        cache.clear();
        let held = cache.held_bytes();
        assert!(held < capacity / 8, "{name}: {held} bytes of an empty cache");
        assert_eq!(fill(&cache, run(4, 6000)), 0, "{name}");
        assert_as_good(&cache, fresh, name);
        cache.check();
    }
}

/// The small entries go one by one, and the cache is full all the time: no call empties it, and no
/// charge for a shorter table is to be had.
#[test]
fn the_index_gets_shorter_in_a_full_cache() {
    let capacity = 16 << 20;
    let [cache, fresh]: [Cache<u64>; 2] = [(); 2]
        .map(|()| Cache::new(config(capacity).policy(Lru::new()).hot(HotShare::Off)).unwrap());
    assert_eq!(fill(&fresh, run(2, 20_000)), 0);
    run(1, 400_000).for_each(|key| cache.insert(key, &[0; 4096]).unwrap());
    let (long, entries) = (cache.stats().bytes.index, cache.len());
    assert!(entries > 100_000 && long > 1 << 20, "{long} bytes for {entries} entries");
    assert_eq!(fill(&cache, run(2, 20_000)), 0);
    assert!(!run(1, 400_000).any(|key| cache.contains_key(&key)), "all of them have gone");
    let (index, least) = (cache.stats().bytes.index, fresh.stats().bytes.index);
    assert!(index <= 8 * least, "{index} bytes, where a fresh cache has {least}, of {long}");
    assert_as_good(&cache, fresh.len(), "when pages took the room of zeros");
    cache.check();
}

/// Whatever is hit, and so stays, does not keep the tables of what went.
#[test]
fn a_few_entries_that_stay_keep_no_tables() {
    let cache: Cache<u64> = Cache::new(config(4 << 20)).unwrap();
    assert_eq!(fill(&cache, run(0, 6000)), 0);
    let fresh = cache.len();
    cache.clear();
    let stays: Vec<u64> = run(1, 60_000).step_by(300).collect();
    for key in run(1, 60_000) {
        cache.insert(key, &[7; 100]).unwrap();
    }
    for key in run(2, 6000) {
        assert_eq!(fill(&cache, key..key + 1), 0);
        if key % 50 == 0 {
            stays.iter().for_each(|key| assert!(cache.get(key).is_some(), "it is hit, and stays"));
        }
    }
    cache.check();
    assert_as_good(&cache, fresh, "200 entries stay");
}

/// Counts what a cache evicts: entries, and the bytes that are known to its user.
fn counted(config: Config) -> (Cache<u64>, Arc<AtomicUsize>) {
    let evicted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&evicted);
    let cache = Cache::new(config).unwrap().on_removal(move |gone: &Removal<'_, u64>| {
        assert_eq!(gone.cause(), RemovalCause::Evicted);
        // An entry's tables take 48 bytes or so.
        count.fetch_add(gone.stored_len() + 48, Ordering::Relaxed);
    });
    (cache, evicted)
}

#[test]
fn no_insert_is_refused_nor_evicts_much_more_than_it_needs() {
    for (capacity, inserts) in [(1 << 20, 60_000_u64), (8 << 20, 200_000)] {
        for mixed in [false, true] {
            let (cache, evicted) = counted(config(capacity).hot(HotShare::Off));
            let mut most = 0;
            for key in 0..inserts {
                let real = mixed && key / 5000 % 2 == 1;
                let page = if real { page(key % 97) } else { vec![1; 64] };
                cache.insert(key, &page).unwrap();
                most = most.max(evicted.swap(0, Ordering::Relaxed));
            }
            cache.check();
            assert!(cache.stats().removals.evicted > 0);
            // Eight times a zspage of ten pages, which such an object may need. Beyond that a page
            // of tables comes free with 512 ids, whose entries take 48 bytes where they have no
            // object: two such pages, and each batch passes its goal by less than an entry.
            let bound = if mixed { 8 * 10 * 4096 } else { 8 * 4096 } + 2 * 512 * 48 + 3 * (64 + 48);
            assert!(most <= bound, "{capacity}, mixed {mixed}: one insert evicted {most} bytes");
        }
    }
}

#[test]
fn a_resize_keeps_the_entries_that_fit() {
    let (large, small) = (32 << 20, 4 << 20);
    let cache: Cache<u64> = Cache::new(config(large)).unwrap();
    run(0, 200_000).for_each(|key| cache.insert(key, &[1; 64]).unwrap());
    assert_eq!(cache.len(), 200_000, "all of them fit");
    cache.resize(small).unwrap();
    cache.check();
    let fresh: Cache<u64> = Cache::new(config(small)).unwrap();
    run(0, 200_000).for_each(|key| fresh.insert(key, &[1; 64]).unwrap());
    assert!(cache.len() * 100 >= fresh.len() * 90, "{} of {}", cache.len(), fresh.len());
    fresh.clear();
    assert_eq!(fill(&fresh, run(1, 6000)), 0);
    // Up, down to less than it was, and back.
    for capacity in [large, small / 2, small] {
        cache.resize(capacity).unwrap();
        assert_eq!(fill(&cache, run(1, 6000)), 0);
        cache.check();
    }
    assert_as_good(&cache, fresh.len(), "after three resizes");
}

#[test]
fn a_capacity_that_is_too_small_is_refused_before_anything_goes() {
    let cache: Cache<u64> = Cache::new(config(4 << 20)).unwrap();
    assert_eq!(fill(&cache, run(0, 3000)), 0);
    let (entries, capacity) = (cache.len(), cache.capacity());
    let error = cache.resize(1000).unwrap_err();
    let zcache::ResizeError::TooSmall { least } = error else { panic!("{error}") };
    assert_eq!((cache.len(), cache.capacity()), (entries, capacity));
    cache.resize(least).unwrap();
    cache.check();
    assert_eq!(fill(&cache, run(1, 100)), 0);
    assert!(!cache.is_empty());
}

#[test]
fn a_large_capacity_takes_no_memory_of_its_own() {
    let capacity = 1 << 40;
    let cache: Cache<u64> = Cache::new(Config::new(capacity)).unwrap();
    // What is set aside of it for the allocator grows with it, and is taken by nobody yet.
    let tables = cache.held_bytes() - capacity / 320;
    assert!(tables < 2 << 20, "{tables} bytes");
    assert_eq!(fill(&cache, run(0, 1000)), 0);
    cache.check();
}

/// A page that is hardly anything when it is compressed.
fn slight_page(key: u64) -> Vec<u8> {
    let mut page = vec![0; 4096];
    page[..8].copy_from_slice(&(key + 1).to_le_bytes());
    page
}

/// Hits each of the keys so often that most of them have frames.
fn heat(cache: &Cache<u64>, keys: std::ops::Range<u64>, times: usize) {
    for _ in 0..times {
        keys.clone().for_each(|key| assert!(cache.contains_key(&key) && cache.get(&key).is_some()));
    }
}

/// Frames have no use for their tables when they are gone, however they went.
#[test]
fn tables_of_frames_go_with_their_frames() {
    let cache = Cache::new(config(64 << 20).hot(HotShare::Auto)).unwrap();
    let fixed = || cache.stats().bytes.fixed;
    let (before, keys) = (fixed(), 0..8000);
    // What is on the heap of a table that has grown stays, and what counts its pages.
    let as_before = |when: &str| {
        cache.check();
        let going = cfg!(any(target_os = "linux", target_os = "android"));
        let more = fixed().saturating_sub(before);
        assert!(!going || more <= (12 << 10), "{more} bytes more {when}");
    };
    let fill = || {
        keys.clone().for_each(|key| cache.insert(key, &slight_page(key)).unwrap());
        heat(&cache, keys.clone(), 9);
        let stats = cache.stats();
        assert!(stats.frames > 6000, "{} frames", stats.frames);
        assert!(stats.bytes.fixed - before > 400 << 10, "their tables are long");
        cache.check();
    };
    fill();
    keys.clone().for_each(|key| assert!(cache.remove(&key)));
    as_before("when each entry was removed");
    fill();
    cache.clear();
    cache.trim();
    as_before("when all entries were cleared, and memory trimmed");
    fill();
    let (long, aside) = (fixed(), (56 << 20) / 320);
    cache.resize(8 << 20).unwrap();
    cache.check();
    let (less, frames) = (long - fixed(), cache.stats().frames);
    assert!(!cfg!(target_os = "linux") || less > aside + (200 << 10), "{less} less");
    assert!(frames > 1500, "{frames} frames of 4 KiB in 8 MiB");
}

/// A table that gets shorter takes the frames along that are left, and one that has grown those
/// that were there.
#[test]
fn frames_stay_when_their_table_changes_its_length() {
    let cache = Cache::new(config(64 << 20).hot(HotShare::Auto)).unwrap();
    let (keys, left) = (12_000, 9000..12_000);
    (0..keys).for_each(|key| cache.insert(key, &slight_page(key)).unwrap());
    heat(&cache, 0..keys, 12);
    let (frames, fixed) = (cache.stats().frames, cache.stats().bytes.fixed);
    assert!(frames > 11_000, "{frames} frames");
    (0..left.start).for_each(|key| assert!(cache.remove(&key)));
    cache.trim();
    let stats = cache.stats();
    assert!(stats.bytes.fixed < fixed - (200 << 10), "the table is shorter");
    assert!(stats.frames > 2700, "{} frames of {left:?}", stats.frames);
    // Each is found where it is now, before a check sweeps.
    let hits = stats.hot_hits;
    left.for_each(|key| assert!(cache.get(&key).is_some()));
    assert_eq!(cache.stats().hot_hits - hits, stats.frames as u64);
    cache.check();
}

/// Of pages that are hit in turns, more than the first table of a large cache remembers, most get
/// frames.
#[test]
fn a_large_cache_learns_which_pages_are_hit_in_turns() {
    let cache = Cache::new(config(1 << 30).hot(HotShare::Auto)).unwrap();
    let keys = 0..40_000;
    keys.clone().for_each(|key| cache.insert(key, &slight_page(key)).unwrap());
    heat(&cache, keys, 8);
    let stats = cache.stats();
    assert!(stats.frames > 10_000, "{} frames after 8 hits on each page", stats.frames);
    cache.check();
}

/// A queue with the simplest table there is: as long as the highest id, cut at its end.
#[derive(Debug, Default)]
struct Fifo {
    table: Vec<bool>,
    queue: VecDeque<u32>,
}

impl Policy for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn fresh(&self) -> Box<dyn Policy> {
        Box::new(Self::default())
    }

    fn max_mark(&self) -> u8 {
        1
    }

    fn growth(&self, id: u32) -> usize {
        (id as usize + 1).saturating_sub(self.table.len())
    }

    fn grow(&mut self, id: u32) -> Result<(), zpool::NoMemory> {
        self.table.resize(self.table.len() + self.growth(id), false);
        Ok(())
    }

    fn shrink(&mut self, in_use: &dyn Fn(Range<u32>) -> bool) -> usize {
        let before = self.table.len();
        while self.table.last() == Some(&false) {
            let last = self.table.len() as u32 - 1;
            if in_use(last..last + 1) {
                break;
            }
            self.table.pop();
        }
        before - self.table.len()
    }

    fn insert(&mut self, id: u32, _tag: u32, _priority: Priority) {
        assert!(!self.table[id as usize], "an id with room enters once");
        self.table[id as usize] = true;
        self.queue.push_back(id);
    }

    fn remove(&mut self, id: u32) -> bool {
        let here = self.table.get(id as usize) == Some(&true);
        if here {
            self.table[id as usize] = false;
            self.queue.retain(|other| *other != id);
        }
        here
    }

    fn replace(&mut self, old: u32, _new: u32) {
        self.remove(old);
    }

    fn evict(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32> {
        let may_go = |id: &u32| entries.mark(*id).is_some();
        let victim = self.queue.iter().copied().take(effort).find(may_go);
        victim.inspect(|id| _ = self.remove(*id))
    }

    fn contains(&self, id: u32) -> bool {
        self.table.get(id as usize) == Some(&true)
    }

    fn len(&self) -> usize {
        self.queue.len()
    }

    fn bytes(&self) -> usize {
        self.table.len()
    }

    fn check(&self) {
        assert_eq!(self.table.iter().filter(|there| **there).count(), self.queue.len());
    }
}

/// The last removal finds the id in use that it is about; what waits for that goes all the same.
#[test]
fn a_policy_of_the_users_own_gives_all_back() {
    for how in 0..4 {
        let config = config(4 << 20).policy(Fifo::default()).hot(HotShare::Off);
        let cache: Cache<u64> = Cache::new(config).unwrap();
        (0..4000).for_each(|key| cache.insert(key, &[key as u8; 100]).unwrap());
        assert!(cache.stats().bytes.policy >= 4000);
        match how {
            0 => cache.clear(),
            1 => cache.retain(|_| false),
            2 => (0..4000).for_each(|key| assert!(cache.remove(&key))),
            _ => (0..4000).rev().for_each(|key| assert!(cache.remove(&key))),
        }
        if how > 1 {
            cache.trim();
        }
        assert_eq!((cache.len(), cache.stats().bytes.policy), (0, 0), "{how}");
        cache.check();
    }
}
