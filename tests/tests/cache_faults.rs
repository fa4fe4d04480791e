//! A cache on a page source that fails: once at each call that a script of operations makes, or
//! from there on. Every entry that goes is told to the hook, so what is left is known after every
//! operation: exactly that is found, whole, and nothing else.
#![cfg(not(zcache_loom))]
#![allow(clippy::print_stdout, reason = "figures for who asks for them by --nocapture")]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tests::cache_ops::PageSpec;
use tests::faults::{Faulty, Switch};
use tests::pattern::Random;
use tests::ram::Ram;
use zcache::codec::{self, Zstd};
use zcache::policy::{Lru, Sieve};
use zcache::{
    Cache, Config, HotShare, InsertError, InsertOptions, RemovalCause, ResizeError, Stats,
};
use zpool::source::Heap;

const KEYS: usize = 16;
/// Operations of a script.
const STEPS: usize = 40;
const CAPACITY: usize = 1 << 20;
const MAX_PAGE: usize = 8192;

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Pages without an address: reads and writes fail, too.
    Ram,
    /// The same without checksums, by a codec that wants a context to decode.
    RamZstd,
    /// The same for pages as they are, which are read straight into the caller's buffer.
    RamPlain,
    /// Pages with addresses, no two of which are neighbours.
    Heap,
    /// With frames.
    HeapHot,
    /// Entries of pages without an address that are compressed again.
    RamCold,
}

const KINDS: [Kind; 6] =
    [Kind::Ram, Kind::RamZstd, Kind::RamPlain, Kind::Heap, Kind::HeapHot, Kind::RamCold];

/// The same in each run, as all of a script has to be: a share that goes by times is not.
type Hasher = BuildHasherDefault<DefaultHasher>;

type Told = Arc<Mutex<Vec<(u64, RemovalCause)>>>;

/// A cache, the pages that it should have, and what has been seen of the fault.
struct World {
    cache: Cache<u64, Hasher>,
    switch: Arc<Switch>,
    told: Told,
    pages: HashMap<u64, Vec<u8>>,
    /// Inserts that failed for want of pages, and entries that could not be read any more.
    refused: u64,
    lost: u64,
    kind: Kind,
    recompressed: u64,
}

fn open(kind: Kind) -> World {
    let config = Config::new(CAPACITY).max_page(MAX_PAGE).shards(2);
    let (cache, switch) = match kind {
        Kind::Heap | Kind::HeapHot => {
            let (source, switch) = Faulty::new(Heap::with_region_pages(4096, 1));
            let share =
                if matches!(kind, Kind::Heap) { HotShare::Off } else { HotShare::Fraction(4) };
            let config = config.policy(Sieve::new()).checksum(false).hot(share);
            (Cache::with_hasher(config.page_source(source), Hasher::default()), switch)
        }
        _ => {
            let (source, switch) = Faulty::new(Ram::new(4096).0);
            let config = match kind {
                Kind::RamZstd => {
                    config.codec(Zstd::level(1).unwrap()).policy(Lru::new()).checksum(false)
                }
                Kind::RamCold => {
                    config.codec(codec::Plain).cold_codec(Zstd::level(1).unwrap()).checksum(true)
                }
                Kind::RamPlain => config.codec(codec::Plain).checksum(false),
                _ => config.checksum(true),
            };
            (Cache::with_hasher(config.page_source(source), Hasher::default()), switch)
        }
    };
    let told = Told::default();
    let log = Arc::clone(&told);
    let cache = cache.unwrap().on_removal(move |removal| {
        // May fail, too.
        let _ = removal.page();
        log.lock().unwrap().push((*removal.key(), removal.cause()));
    });
    World { cache, switch, told, pages: HashMap::new(), refused: 0, lost: 0, kind, recompressed: 0 }
}

impl World {
    /// What has gone is gone.
    fn note(&mut self) {
        for (key, cause) in self.told.lock().unwrap().drain(..) {
            self.lost += u64::from(cause == RemovalCause::Corrupt);
            if cause != RemovalCause::Replaced {
                let gone = self.pages.remove(&key);
                assert!(gone.is_some(), "key {key}: {cause:?}, and it was not there");
            }
        }
    }

    fn insert(&mut self, key: u64, page: Vec<u8>, how: InsertOptions) {
        let failed = self.switch.failed();
        let done = self.cache.insert_with_options(key, &page, how);
        let evicts =
            self.told.lock().unwrap().iter().any(|(_, cause)| *cause == RemovalCause::Evicted);
        assert!(!evicts || self.switch.failed() == failed, "a fault evicts nobody");
        // Whatever it evicted went before, and what it was to replace is gone either way.
        self.note();
        self.pages.remove(&key);
        match done {
            Ok(()) => drop(self.pages.insert(key, page)),
            Err(error) => {
                let room = matches!(error, InsertError::NoRoom { .. });
                assert!(room || matches!(error, InsertError::NoMemory { .. }), "{error}");
                self.refused += 1;
            }
        }
    }

    /// Holds what a look-up gave against what it should give: nothing, if the fault was in its way.
    fn found(&mut self, key: u64, got: Option<&[u8]>) {
        let before = self.pages.get(&key).cloned();
        self.note();
        match got {
            Some(page) => assert!(before.as_deref() == Some(page), "key {key}: a wrong page"),
            None => assert!(!self.pages.contains_key(&key), "key {key}: missed"),
        }
    }

    fn step(&mut self, random: &mut Random) {
        let key = random.below(KEYS) as u64;
        let spec = PageSpec {
            kind: random.bits() as u8,
            len: random.bits() as u16,
            seed: random.bits() as u16,
        };
        let mut page = spec.page(MAX_PAGE);
        page.truncate(MAX_PAGE);
        match random.below(24) {
            0..=8 => self.insert(key, page, InsertOptions::new()),
            9 => {
                self.insert(key, page, InsertOptions::new().time_to_live(Duration::from_secs(9999)))
            }
            10 => {
                let mut to = vec![0xee; MAX_PAGE];
                let got = self.cache.get_into(&key, &mut to).unwrap();
                self.found(key, got.map(|len| &to[..len]));
            }
            11 | 12 => {
                let got = self.cache.get(&key);
                self.found(key, got.as_deref());
            }
            13 => {
                let got = self.cache.read(&key, <[u8]>::to_vec);
                self.found(key, got.as_deref());
            }
            14 => {
                let got = self.cache.peek(&key);
                self.found(key, got.as_deref());
            }
            15 => {
                let got = self.cache.get_many([&key]).remove(0);
                self.found(key, got.as_deref());
            }
            16 => {
                // Gone in any case; given if it can be read.
                let got = self.cache.take(&key);
                let before = self.pages.get(&key).cloned();
                self.note();
                assert!(!self.pages.contains_key(&key) && !self.cache.contains_key(&key));
                assert!(got.is_none() || got.as_deref() == before.as_deref(), "key {key}");
            }
            17 => {
                let had = self.pages.contains_key(&key);
                assert_eq!(self.cache.remove(&key), had);
                self.note();
            }
            18 | 19 => {
                let loaded = page.clone();
                let (mut ran, inserts) = (false, self.cache.stats().inserts);
                let got = self.cache.get_or_insert_with(&key, |to| {
                    ran = true;
                    to.extend(&page);
                    Ok::<(), io::Error>(())
                });
                let got = got.unwrap();
                let before = self.pages.get(&key).cloned();
                self.note();
                match before.filter(|_| !ran) {
                    Some(before) => assert!(got == before, "key {key}: a wrong page"),
                    None => {
                        // The caller has its page whether it could be stored or not.
                        assert!(ran && got == loaded);
                        if self.cache.stats().inserts > inserts {
                            self.pages.insert(key, loaded);
                        }
                    }
                }
            }
            20 => {
                let small = CAPACITY - random.below(CAPACITY / 4);
                match self.cache.resize(small) {
                    Ok(()) | Err(ResizeError::StillHeld { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                self.note();
                self.cache.resize(CAPACITY).unwrap();
                self.note();
            }
            21 if matches!(self.kind, Kind::RamCold) => {
                let _ = self.cache.maintain(usize::MAX);
                let step = self.cache.maintain(usize::MAX);
                self.recompressed += step.recompression.recompressed;
                self.note();
            }
            21 => drop(self.cache.compact(1 << 18)),
            22 => self.cache.trim(),
            // A small cache needs no further pages otherwise.
            _ if random.below(2) == 0 => {
                self.cache.clear();
                self.cache.trim();
                self.note();
            }
            _ => {
                let residue = random.below(16) as u64;
                self.cache.retain(|key| key % 16 != residue);
                self.note();
            }
        }
        // It reads the entry, which may fail.
        let there = self.cache.contains_key(&key);
        self.note();
        assert_eq!(there, self.pages.contains_key(&key), "key {key}");
        assert_eq!(self.cache.len(), self.pages.len());
    }
}

/// Runs the script with a fault at call `nth`. Says how many calls of the source the script makes,
/// and how many of them failed.
fn replay(kind: Kind, seed: u64, nth: usize, forever: bool) -> (usize, usize) {
    let mut world = open(kind);
    let mut random = Random::new(seed);
    // So full that pages come and go.
    for key in 0..KEYS as u64 {
        let page = PageSpec { kind: 4, len: 8, seed: key as u16 }.page(MAX_PAGE);
        world.insert(key, page, InsertOptions::new());
    }
    world.switch.arm(nth, forever);
    // Pages with addresses are taken, and no more is asked of the source.
    for _ in 0..if matches!(kind, Kind::Heap | Kind::HeapHot) { 4 * STEPS } else { STEPS } {
        world.step(&mut random);
    }
    let (calls, failed) = (world.switch.calls(), world.switch.failed());
    world.switch.disarm();
    // The counters tell what came of it.
    let stats = world.cache.stats();
    let rejected = |stats: &Stats| stats.rejected.no_room + stats.rejected.no_memory;
    assert!(rejected(&stats) >= world.refused, "{stats}");
    assert_eq!(stats.removals.corrupt, world.lost, "{stats}");
    if failed == 0 {
        assert!(stats.promotions > 0 || !matches!(kind, Kind::HeapHot), "{stats}");
        assert_eq!((world.refused, world.lost, stats.unreadable), (0, 0, 0), "{stats}");
    } else if !forever {
        assert!(world.refused + world.lost <= 1, "one fault costs one page: {stats}");
    }
    // What is there is whole, and all goes on.
    world.cache.check();
    for key in 0..KEYS as u64 {
        let got = world.cache.get(&key);
        world.found(key, got.as_deref());
    }
    for _ in 0..30 {
        world.step(&mut random);
    }
    assert_eq!(rejected(&world.cache.stats()), rejected(&stats), "it works again");
    assert_eq!(world.cache.stats().removals.corrupt, stats.removals.corrupt);
    world.cache.check();
    world.cache.clear();
    world.cache.trim();
    world.cache.check();
    let bytes = world.cache.stats().bytes;
    assert_eq!((bytes.pages, bytes.payload, bytes.pinned), (0, 0, 0));
    (calls, failed)
}

fn fails_everywhere(forever: bool) {
    let (mut faults, mut runs) = (0, 0);
    for kind in KINDS {
        for seed in 1..=2 {
            let (calls, none) = replay(kind, seed, 0, false);
            assert_eq!(none, 0);
            assert!(calls >= 10, "{kind:?}: {calls} calls are no script");
            for nth in 1..=calls {
                let (_, failed) = replay(kind, seed, nth, forever);
                assert!(failed == 1 || forever && failed > 1, "{kind:?} {seed} {nth}: {failed}");
                (faults, runs) = (faults + failed, runs + 1);
            }
        }
    }
    let often = if forever { "from one call on" } else { "once" };
    println!("a source that fails {often}: {faults} faults in {runs} runs of a script");
}

#[test]
fn a_source_that_fails_at_any_call_costs_one_page_at_the_most() {
    fails_everywhere(false);
}

#[test]
fn a_source_that_fails_from_any_call_on_leaves_a_cache_that_recovers() {
    fails_everywhere(true);
}
