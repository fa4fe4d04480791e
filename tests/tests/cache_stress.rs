//! Threads against each other on one cache, with real pages. `ZCACHE_STRESS_OPS` sets the
//! operations of each thread; the sanitizers' script raises it.
//!
//! A page says whose it is and which version it has: see [`tests::versions`].
#![cfg(not(zcache_loom))]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tests::corpus::{self, PageFile};
use tests::pattern::Random;
use tests::versions::{HEAD, Versions};
use zcache::codec::{Lz4, Zstd};
use zcache::policy::{Lru, S3Fifo, Sieve};
use zcache::{
    Cache, Config, HotShare, InsertError, InsertOptions, Leased, RemovalCause, ResizeError, Stats,
    Waited, codec,
};
use zpool::SourceKind;

const KEYS: usize = 2048;
const THREADS: u64 = 4;

fn ops() -> usize {
    std::env::var("ZCACHE_STRESS_OPS").ok().and_then(|ops| ops.parse().ok()).unwrap_or(4000)
}

/// Pages to take bytes from, all of one length.
fn sources() -> Vec<PageFile> {
    let mut files = vec![corpus::sample()];
    // A few of the shared ones, where they are to be had.
    let shared = corpus::shared_files().into_iter();
    let wanted = ["file-json-4k", "file-log-4k", "mem-python-4k"];
    let named = |path: &std::path::PathBuf| {
        path.file_name().is_some_and(|name| {
            wanted.iter().any(|wanted| name.to_string_lossy().starts_with(wanted))
        })
    };
    let shared = shared.filter(named).map(|path| PageFile::read(&path, None).unwrap());
    files.extend(shared);
    let cut = |file: PageFile| file.cut(4096).unwrap();
    files.into_iter().map(cut).collect()
}

struct Field {
    cache: Cache<u64>,
    versions: Versions,
    capacity: usize,
    hits: AtomicUsize,
    misses: AtomicUsize,
    stop: AtomicBool,
    /// Whether everything has happened that a storm is to see.
    enough: fn(&Stats) -> bool,
}

/// A worker that has not seen enough goes on for so many times its operations.
const PATIENCE: usize = 50;

impl Field {
    fn new(config: Config, capacity: usize, share: HotShare, enough: fn(&Stats) -> bool) -> Self {
        let cache: Cache<u64> = Cache::new(config.hot(share)).unwrap();
        Self {
            cache: cache.on_removal(|removal| {
                assert_ne!(removal.cause(), RemovalCause::Corrupt, "nothing is corrupted here");
                assert!(removal.len() >= HEAD);
            }),
            versions: Versions::new(KEYS, sources()),
            capacity,
            hits: AtomicUsize::new(0),
            misses: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            enough,
        }
    }

    fn has_enough(&self) -> bool {
        let stats = self.cache.stats();
        stats.removals.evicted > 0 && (self.enough)(&stats)
    }

    /// Looks a key up by `get`, and checks that what it gives may be given.
    fn look<P: AsRef<[u8]>>(&self, key: u64, get: impl FnOnce() -> Option<P>) {
        let hit = self.versions.look(key, get);
        let counter = if hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn insert(&self, key: u64, how: InsertOptions) {
        self.versions.change(key, |version| {
            match self.cache.insert_with_options(key, &self.versions.page(key, version), how) {
                // What is below is replaced, whether the new page stays or not.
                Ok(()) | Err(InsertError::NoRoom { .. }) => version,
                Err(error) => panic!("{error}"),
            }
        });
    }

    fn remove(&self, key: u64, take: bool) {
        self.versions.change(key, |version| {
            if take {
                if let Some(page) = self.cache.take(&key) {
                    assert!(self.versions.version(key, &page) < version, "the turn is ours");
                }
            } else {
                self.cache.remove(&key);
            }
            // Nothing that was ever stored.
            version + 1
        });
    }

    /// Fills on a miss, while others may change the key: what is stored by a lease or a loader is a
    /// version that its thread read before, as from a file that the writers of the key write first.
    fn fill(&self, key: u64, lease: bool) {
        let page = || self.versions.page(key, self.versions.read(key));
        if lease {
            self.look(key, || {
                let lease = match self.cache.get_or_lease(&key) {
                    Leased::Page(page) => return Some(page.to_vec()),
                    Leased::Lease(lease) => lease,
                    Leased::Wait(waiting) => match waiting.wait() {
                        Waited::Page(page) => return Some(page.to_vec()),
                        Waited::Lease(lease) => lease,
                        Waited::Failed(error) => panic!("{error}"),
                    },
                };
                if key % 8 == 0 {
                    // Given up: whoever waits has it.
                    return None;
                }
                let page = page();
                let _ = self.cache.insert_if_valid(lease, &page);
                Some(page)
            });
        } else {
            self.look(key, || {
                self.cache
                    .get_or_insert_with(&key, |to| {
                        to.extend(page());
                        Ok::<(), io::Error>(())
                    })
                    .ok()
            });
        }
    }

    /// Half of the look-ups go to a sixteenth of the keys.
    fn key(random: &mut Random) -> u64 {
        let all = if random.below(2) == 0 { KEYS / 16 } else { KEYS };
        random.below(all) as u64
    }

    fn run(&self, seed: u64, ops: usize) {
        let mut random = Random::new(seed);
        let cache = &self.cache;
        // However the threads get the processors, each of them goes on until everything has
        // happened.
        for op in 0..ops * PATIENCE {
            if op >= ops && op % 64 == 0 && self.has_enough() {
                break;
            }
            let key = Self::key(&mut random);
            match random.below(100) {
                0..=19 => self.insert(key, InsertOptions::new()),
                20..=29 => self.insert(key, InsertOptions::new().scan()),
                30..=31 => {
                    self.insert(key, InsertOptions::new().time_to_live(Duration::from_millis(1)))
                }
                32..=35 => self.remove(key, false),
                36..=37 => self.remove(key, true),
                38..=43 => self.fill(key, true),
                44..=49 => self.fill(key, false),
                50..=59 => self.look(key, || {
                    let mut to = vec![0xee; 4096];
                    let len = cache.get_into(&key, &mut to).unwrap()?;
                    to.truncate(len);
                    Some(to)
                }),
                60..=66 => self.look(key, || cache.read(&key, <[u8]>::to_vec)),
                67..=69 => self.look(key, || cache.peek(&key)),
                70..=72 => self.look_at_many(&mut random),
                73 => {
                    let head = cache.get_range(&key, 0..8);
                    assert!(head.is_none_or(|head| head == key.to_le_bytes()[..]));
                }
                _ => self.look(key, || cache.get(&key)),
            }
            let held = cache.held_bytes();
            assert!(held <= self.capacity, "{held} bytes held");
        }
    }

    fn look_at_many(&self, random: &mut Random) {
        let keys: Vec<u64> = (0..20).map(|_| Self::key(random)).collect();
        let floors: Vec<u64> = keys.iter().map(|key| self.versions.floor(*key)).collect();
        let pages = self.cache.get_many(&keys);
        for ((key, floor), page) in keys.iter().zip(floors).zip(pages) {
            let Some(page) = page else { continue };
            self.versions.verify(*key, floor, &page);
        }
    }

    /// What an owner does now and then, all the time.
    fn keep_house(&self) {
        let (mut random, mut room) = (Random::new(99), Vec::new());
        let mut evicted = 0;
        while !self.stop.load(Ordering::Relaxed) {
            match random.below(24) {
                0..=3 => {
                    let capacity = self.capacity - random.below(self.capacity / 3);
                    match self.cache.resize(capacity) {
                        Ok(())
                        | Err(ResizeError::StillHeld { .. } | ResizeError::TooSmall { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                4..=9 => drop(self.cache.compact(random.below(1 << 18)).done),
                10..=12 => self.cache.trim(),
                // However slow the workers are, the cache is full before it is emptied, or thinned
                // out.
                what @ (13 | 14) => {
                    let now = self.cache.stats().removals.evicted;
                    if now == std::mem::replace(&mut evicted, now) {
                        continue;
                    }
                    let residue = random.below(8) as u64;
                    if what == 13 {
                        self.versions.clear(&mut room, || self.cache.clear());
                    } else {
                        self.cache.retain(|key| key % 8 != residue);
                    }
                }
                15..=16 => {
                    let keys = self.cache.keys();
                    assert!(keys.iter().all(|key| (*key as usize) < KEYS));
                }
                17..=20 => {
                    let stats = self.cache.stats();
                    assert!(stats.bytes.held <= self.capacity);
                    assert_eq!((stats.removals.corrupt, stats.rejected.too_large), (0, 0));
                }
                21 | 22 => drop(self.cache.maintain(random.below(1 << 20)).busy),
                _ => thread::sleep(Duration::from_millis(1)),
            }
            let held = self.cache.held_bytes();
            assert!(held <= self.capacity, "{held} bytes held");
        }
    }

    fn settle(self, threads_ops: usize) -> Stats {
        let Self { cache, hits, misses, .. } = self;
        cache.resize(self.capacity).unwrap();
        cache.check();
        let stats = cache.stats();
        let (hits, misses) = (hits.into_inner(), misses.into_inner());
        assert!(hits > threads_ops / 20 && misses > 0, "{hits} hits, {misses} misses");
        let enough = stats.removals.evicted > 0 && (self.enough)(&stats);
        assert!(enough || threads_ops < 1000, "{stats}");
        let gone = stats.removals;
        let went = gone.evicted + gone.expired + gone.replaced + gone.removed + gone.cleared;
        assert_eq!(stats.inserts - went, cache.len() as u64, "no drift: {stats}");
        assert_eq!(stats.bytes.pinned, 0, "nobody reads any more");
        cache.clear();
        cache.trim();
        cache.check();
        assert_eq!((cache.stats().bytes.payload, cache.stats().bytes.pages), (0, 0));
        assert_eq!((cache.stats().bytes.frames, cache.stats().bytes.waiting), (0, 0));
        stats
    }
}

/// The data are some 8 MiB; the budget is a tenth.
fn storm(config: impl Fn(Config) -> Config) -> Stats {
    storm_on(config, HotShare::Off, |_| true)
}

/// The same with a share of decoded pages; says how it was before it was cleared.
fn storm_on(
    config: impl Fn(Config) -> Config,
    share: HotShare,
    enough: fn(&Stats) -> bool,
) -> Stats {
    storm_in(config, share, KEYS * 4096 / 10, false, enough)
}

/// The same in another capacity, maintained by a thread if need be.
fn storm_in(
    config: impl Fn(Config) -> Config,
    share: HotShare,
    capacity: usize,
    maintained: bool,
    enough: fn(&Stats) -> bool,
) -> Stats {
    let config = config(Config::new(capacity).max_page(4096).shards(4));
    let field = Field::new(config, capacity, share, enough);
    thread::scope(|scope| {
        let field = &field;
        let house = scope.spawn(|| field.keep_house());
        let maintainer = scope.spawn(move || {
            while maintained && !field.stop.load(Ordering::Relaxed) {
                field.cache.maintain(1 << 18);
                assert!(field.cache.held_bytes() <= field.capacity, "the budget holds");
            }
        });
        let workers: Vec<_> =
            (0..THREADS).map(|seed| scope.spawn(move || field.run(seed * 77 + 1, ops()))).collect();
        let ended: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        field.stop.store(true, Ordering::Relaxed);
        house.join().unwrap();
        maintainer.join().unwrap();
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    field.settle(ops() * THREADS as usize)
}

#[test]
fn every_hit_is_the_last_page_or_one_that_was_under_way_with_s3_fifo() {
    storm(|config| config.policy(S3Fifo::new()).checksum(true));
}

#[test]
fn every_hit_is_the_last_page_or_one_that_was_under_way_with_sieve_on_the_heap() {
    storm(|config| {
        config.policy(Sieve::new()).checksum(false).source(SourceKind::Heap).max_page(4096)
    });
}

#[test]
fn every_hit_is_the_last_page_or_one_that_was_under_way_with_lru_and_plain_pages() {
    storm(|config| config.policy(Lru::new()).codec(codec::Plain));
}

#[test]
#[cfg(target_os = "linux")]
fn every_hit_is_the_last_page_or_one_that_was_under_way_without_addresses() {
    storm(|config| config.source(SourceKind::Memfd));
}

#[test]
fn every_hit_is_the_last_page_or_one_that_was_under_way_with_hot_pages() {
    storm_on(
        |config| config.checksum(true),
        HotShare::Fraction(4),
        |stats| stats.hot_hits > 0 && stats.promotions > 0,
    );
    storm_on(
        |config| config.policy(Lru::new()).checksum(false),
        HotShare::Fraction(12),
        |stats| stats.hot_hits > 0 && stats.demotions > 0,
    );
}

/// The capacity is not what is stored: contexts and dictionaries take much of it.
#[test]
fn every_hit_is_the_last_page_or_one_that_was_under_way_beside_recompression() {
    let zstd = || Zstd::level(1).unwrap();
    let cold = |config: Config| config.cold_codec(zstd()).checksum(true);
    let enough = |stats: &Stats| stats.recompression.recompressed > 100;
    storm_in(cold, HotShare::Off, 800 << 10, true, enough);
    let hot = |config: Config| config.codec(codec::Plain).cold_codec(Lz4).checksum(false);
    storm_in(hot, HotShare::Fraction(8), 1 << 20, true, enough);
}

#[test]
fn every_hit_is_the_last_page_or_one_that_was_under_way_beside_training() {
    let zstd = Zstd::level(1).unwrap();
    let main = |config: Config| config.codec(zstd.clone()).train(1 << 10).checksum(true);
    let enough = |stats: &Stats| stats.dictionaries.adopted + stats.dictionaries.rejected > 0;
    storm_in(main, HotShare::Off, 1100 << 10, true, enough);
    let cold = |config: Config| config.cold_codec(zstd.clone()).train(600).checksum(true);
    storm_in(cold, HotShare::Fraction(8), 1100 << 10, true, |_| true);
}

#[test]
fn a_key_that_is_replaced_all_the_time_is_never_missed() {
    never_missed(HotShare::Off, false);
}

#[test]
fn a_hot_key_that_is_replaced_all_the_time_is_never_missed() {
    never_missed(HotShare::Fraction(4), false);
}

#[test]
fn a_key_that_is_recompressed_all_the_time_is_never_missed() {
    never_missed(HotShare::Off, true);
    never_missed(HotShare::Fraction(4), true);
}

fn never_missed(share: HotShare, maintained: bool) {
    let config = Config::new(4 << 20).max_page(4096).shards(2);
    let config = if maintained { config.codec(codec::Plain).cold_codec(Lz4) } else { config };
    let cache: Cache<u64> = Cache::new(config.hot(share)).unwrap();
    let page = |version: u64| {
        let mut page = vec![version as u8; 3000];
        page[..8].copy_from_slice(&version.to_le_bytes());
        page
    };
    cache.insert(1, &page(0)).unwrap();
    let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for reader in 0..3 {
            let (cache, written, stop) = (&cache, &written, &stop);
            scope.spawn(move || {
                let (mut last, mut looks) = (0, 0_u64);
                while !stop.load(Ordering::Relaxed) {
                    let floor = written.load(Ordering::Acquire); // pairs with the Release below
                    let got = match (looks + reader) % 4 {
                        0 => cache.get(&1).map(|page| page.to_vec()),
                        1 => cache.read(&1, <[u8]>::to_vec),
                        2 => cache.peek(&1).map(|page| page.to_vec()),
                        _ => cache.get_many([&1]).remove(0).map(|page| page.to_vec()),
                    };
                    let got = got.expect("never a miss");
                    let version = u64::from_le_bytes(got[..8].try_into().unwrap());
                    assert!(version >= floor && version >= last, "{version} {floor} {last}");
                    assert!(got == page(version) && cache.contains_key(&1));
                    last = version;
                    looks += 1;
                }
                assert!(looks > 0);
            });
        }
        let (cache, stop) = (&cache, &stop);
        scope.spawn(move || {
            while maintained && !stop.load(Ordering::Relaxed) {
                cache.maintain(usize::MAX);
            }
        });
        let versions = ops() as u64 * 2;
        for version in 1..=versions {
            cache.insert(1, &page(version)).unwrap();
            written.store(version, Ordering::Release); // pairs with the Acquire above
            if version % 64 == 0 {
                cache.compact(1 << 16);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(cache.stats().misses, 0);
    assert_eq!(cache.stats().recompression.recompressed > 0, maintained);
    assert_eq!(cache.stats().removals.replaced, ops() as u64 * 2);
    cache.check();
}

/// Loads of many threads for few keys: at any time one load a key, and each caller gets a page that
/// is no older than its call.
#[test]
fn no_key_is_loaded_twice_at_once_unless_it_was_changed() {
    let cache: Cache<u64> = Cache::new(Config::new(4 << 20).max_page(4096).shards(2)).unwrap();
    let loading: Vec<AtomicUsize> = (0..16).map(|_| AtomicUsize::new(0)).collect();
    let loads = AtomicUsize::new(0);
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let (cache, loading, loads) = (&cache, &loading, &loads);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                for _ in 0..ops() {
                    let key = random.below(16);
                    let got = cache.get_or_insert_with(&(key as u64), |to| {
                        assert_eq!(loading[key].fetch_add(1, Ordering::AcqRel), 0, "one at a time");
                        loads.fetch_add(1, Ordering::Relaxed);
                        to.extend([key as u8; 700]);
                        thread::yield_now();
                        loading[key].fetch_sub(1, Ordering::AcqRel);
                        Ok::<(), io::Error>(())
                    });
                    assert_eq!(got.unwrap(), [key as u8; 700][..]);
                    if random.below(3) == 0 {
                        // By eviction, so to say: an expired entry is no change by its owner.
                        let dead = InsertOptions::new().time_to_live(Duration::ZERO);
                        let _ = cache.insert_with_options(1000 + key as u64, &[1; 30], dead);
                        let _ = cache.get(&(1000 + key as u64));
                    }
                }
            });
        }
    });
    assert_eq!(cache.stats().loads as usize, loads.into_inner());
    assert_eq!(cache.len(), 16);
    cache.check();
}
