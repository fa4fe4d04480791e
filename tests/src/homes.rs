//! Pages that are loaded from their homes, for threads that load and change a few keys at once.
//!
//! Each key has a home, which holds its newest version, and a page says whose it is and which
//! version it has. Whoever changes a key writes its home first, and tells the cache then. So a
//! caller that comes after a change has returned, or after anybody has hit a newer page, must get
//! no older one. (What a load brings that was told of a change is stored nowhere: another load,
//! which began after that change, may bring an older page, if the next change has not returned.)

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;

use crate::callbacks::{LONGEST, page};
use crate::pattern::Random;

/// Changes of a key, or of those of one hash.
#[derive(Debug, Default)]
struct Changes {
    begun: AtomicU64,
    done: AtomicU64,
}

#[derive(Debug, Default)]
struct Home {
    /// Two writers of a page need a latch, but removals may come in any order.
    latch: RwLock<()>,
    version: AtomicU64,
    /// No caller that comes now may get a version below this one.
    floor: AtomicU64,
    /// Loads that run, by their numbers, and the changes of the key's group that had returned
    /// before each was asked for.
    loads: Mutex<Vec<(u64, u64)>>,
    changes: Changes,
}

/// The homes of some keys.
#[derive(Debug)]
pub struct Homes {
    homes: Vec<Home>,
    /// By the groups of keys.
    changes: Vec<Changes>,
    group: fn(usize) -> usize,
    numbers: AtomicU64,
}

/// What is known before a caller asks for a key.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    /// The key.
    pub key: usize,
    floor: u64,
    /// Changes of its group that had returned.
    done: u64,
}

/// A load that runs until this is dropped.
#[derive(Debug)]
pub struct Running<'h> {
    homes: &'h Homes,
    before: Before,
    number: u64,
    /// Changes of the key that had begun when the load was given.
    begun: u64,
}

impl Homes {
    /// Homes of the keys from 0 to `keys`. Those of one group have one hash.
    #[must_use]
    pub fn new(keys: usize, group: fn(usize) -> usize) -> Self {
        Self {
            homes: (0..keys).map(|_| Home::default()).collect(),
            changes: (0..keys).map(|_| Changes::default()).collect(),
            group,
            numbers: AtomicU64::new(0),
        }
    }

    /// The page of a key and version.
    #[must_use]
    pub fn page(key: usize, version: u64) -> Vec<u8> {
        let mut random = Random::new(version << 8 ^ key as u64);
        let mut page = page(random.bits(), 16 + random.below(LONGEST - 16));
        page[..8].copy_from_slice(&(key as u64).to_le_bytes());
        page[8..16].copy_from_slice(&version.to_le_bytes());
        page
    }

    fn changes(&self, key: usize) -> [&Changes; 2] {
        [&self.changes[(self.group)(key)], &self.homes[key].changes]
    }

    /// For a caller that is about to ask for `key`.
    #[must_use]
    pub fn before(&self, key: usize) -> Before {
        let done = self.changes(key)[0].done.load(SeqCst);
        Before { key, floor: self.homes[key].floor.load(SeqCst), done }
    }

    /// The page of a key's home, which takes some time.
    pub fn read(&self, key: usize, random: &mut Random) -> Vec<u8> {
        let version = self.homes[key].version.load(SeqCst);
        (0..random.below(4)).for_each(|_| thread::yield_now());
        Self::page(key, version)
    }

    /// Verifies a page that a caller got, and says which version it is.
    ///
    /// # Panics
    /// It must not get it.
    pub fn verify(&self, before: Before, page: &[u8]) -> u64 {
        let key = before.key;
        assert!(page.len() >= 16, "key {key}: {} bytes", page.len());
        let word = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().expect("8 bytes"));
        let version = word(8);
        let whole = word(0) == key as u64 && page == Self::page(key, version);
        assert!(whole, "key {key}: wrong page");
        assert!(version >= before.floor, "key {key}: {version} after {}: stale", before.floor);
        let newest = self.homes[key].version.load(SeqCst);
        assert!(version <= newest, "key {key}: {version} is from the future");
        version
    }

    /// Checks a page as [`verify`](Self::verify) does, for a hit, which later callers must see.
    ///
    /// # Panics
    /// As [`verify`](Self::verify).
    pub fn hit(&self, before: Before, page: &[u8]) {
        let version = self.verify(before, page);
        self.homes[before.key].floor.fetch_max(version, SeqCst);
    }

    /// A load runs: no other one of the key, unless there was a change.
    ///
    /// # Panics
    /// Another one does.
    pub fn run(&self, before: Before) -> Running<'_> {
        let (key, number) = (before.key, self.numbers.fetch_add(1, SeqCst));
        let [group, own] = self.changes(key);
        let mut loads = self.homes[key].loads.lock().expect("no test has failed");
        let begun = group.begun.load(SeqCst);
        for (other, done) in loads.iter() {
            let changed = begun > before.done.min(*done);
            assert!(changed, "key {key}: loads {other} and {number} at once");
        }
        loads.push((number, before.done));
        Running { homes: self, before, number, begun: own.begun.load(SeqCst) }
    }

    /// A change of these keys, in their order, that leaves no older page.
    pub fn remove(&self, keys: &[usize], f: impl FnOnce()) {
        let latch = |key: &usize| self.homes[*key].latch.read().expect("no test has failed");
        let _latches: Vec<RwLockReadGuard<'_, ()>> = keys.iter().map(latch).collect();
        let versions: Vec<u64> = keys.iter().map(|key| self.begins(*key)).collect();
        f();
        keys.iter().zip(versions).for_each(|(key, version)| self.has_changed(*key, version));
    }

    /// A change of a key, which gets the page that it is given, or none.
    pub fn insert(&self, key: usize, f: impl FnOnce(Vec<u8>)) {
        let latch = self.homes[key].latch.write();
        let _latch: RwLockWriteGuard<'_, ()> = latch.expect("no test has failed");
        let version = self.begins(key);
        f(Self::page(key, version));
        self.has_changed(key, version);
    }

    fn begins(&self, key: usize) -> u64 {
        for changes in self.changes(key) {
            changes.begun.fetch_add(1, SeqCst);
        }
        self.homes[key].version.fetch_add(1, SeqCst) + 1
    }

    fn has_changed(&self, key: usize, version: u64) {
        self.homes[key].floor.fetch_max(version, SeqCst);
        for changes in self.changes(key) {
            changes.done.fetch_add(1, SeqCst);
        }
    }
}

impl Running<'_> {
    /// What is known of the load from before it was asked for.
    #[must_use]
    pub fn before(&self) -> Before {
        self.before
    }

    /// Ends, and stores by `store`, which says whether the page was stored and whether it was
    /// refused as outdated. `fresh`: nobody had the load before.
    ///
    /// # Panics
    /// It was stored after a change, or refused without one.
    pub fn store<E>(
        self,
        fresh: bool,
        store: impl FnOnce() -> Result<(), E>,
        is_outdated: fn(&E) -> bool,
    ) -> Result<(), E> {
        let (homes, before, begun) = (self.homes, self.before, self.begun);
        drop(self);
        let (key, [group, own]) = (before.key, homes.changes(before.key));
        let done = own.done.load(SeqCst);
        let stored = store();
        match &stored {
            Ok(()) => assert!(done <= begun, "key {key}: stored after a change"),
            Err(error) if is_outdated(error) => {
                let unchanged = fresh && group.begun.load(SeqCst) == before.done;
                assert!(!unchanged, "key {key}: outdated without a change");
            }
            Err(_) => {}
        }
        stored
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Ok(mut loads) = self.homes.homes[self.before.key].loads.lock() {
            loads.retain(|(number, _)| *number != self.number);
        }
    }
}
