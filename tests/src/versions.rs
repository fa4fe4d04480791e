//! Pages that say whose they are, for threads against each other on one cache.
//! ```text
//! key 8 | version 8 | bytes of a real page, which key and version choose
//! ```
//! Versions of a key only grow, as the writers of a key take turns, so a thread that knows which
//! version was in before it looked knows what it may find: that one or a newer one, and nothing
//! that was removed before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::corpus::PageFile;
use crate::pattern::Random;

/// What a page starts with: its key and its version.
pub const HEAD: usize = 16;

/// What is known of a key. Versions that are stored are even; a removal puts the floor to an odd
/// one.
#[derive(Debug, Default)]
struct Known {
    /// Writers take turns.
    turn: Mutex<u64>,
    /// No look-up that begins now may give a version below this: of the last insert that has
    /// returned, or above the last one that was removed.
    floor: AtomicU64,
    /// The highest version whose insert has begun.
    begun: AtomicU64,
}

/// What is known of all keys, and the pages that they may have.
#[derive(Debug)]
pub struct Versions {
    known: Vec<Known>,
    files: Vec<PageFile>,
}

impl Versions {
    /// Keys from 0 to `keys`, none of which has a page. Key `k` takes its pages from file `k`
    /// modulo the number of files, which have pages of more than [`HEAD`] bytes.
    #[must_use]
    pub fn new(keys: usize, files: Vec<PageFile>) -> Self {
        assert!(files.iter().all(|file| file.page_size() > HEAD) && !files.is_empty());
        Self { known: (0..keys).map(|_| Known::default()).collect(), files }
    }

    /// Keys.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.known.len()
    }

    /// The files that pages are taken from.
    #[must_use]
    pub fn files(&self) -> &[PageFile] {
        &self.files
    }

    /// The real page, or a part of it in one of four cases, behind whose head the bytes are those
    /// of this key and version.
    fn source(&self, key: u64, version: u64) -> &[u8] {
        let mut random = Random::new(key << 32 ^ version);
        let file = &self.files[key as usize % self.files.len()];
        let page = file.page(random.below(file.pages().len()));
        if random.below(4) > 0 {
            return page;
        }
        &page[..HEAD + random.below(page.len() - HEAD)]
    }

    /// Writes the page of this key and version to `to`, in the place of what is in it.
    pub fn write(&self, key: u64, version: u64, to: &mut Vec<u8>) {
        to.clear();
        to.extend(key.to_le_bytes());
        to.extend(version.to_le_bytes());
        to.extend(&self.source(key, version)[HEAD..]);
    }

    /// The page of this key and version.
    #[must_use]
    pub fn page(&self, key: u64, version: u64) -> Vec<u8> {
        let mut page = Vec::new();
        self.write(key, version, &mut page);
        page
    }

    /// The version of a page that was found under `key`.
    ///
    /// # Panics
    /// It is not the page of any version of the key.
    #[must_use]
    pub fn version(&self, key: u64, page: &[u8]) -> u64 {
        assert!(page.len() >= HEAD, "key {key}: {} bytes", page.len());
        let word = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().expect("8 bytes"));
        assert_eq!(word(0), key, "key {key}: another key's page");
        let version = word(8);
        let right = page[HEAD..] == self.source(key, version)[HEAD..];
        assert!(right, "key {key}, version {version}: wrong bytes");
        version
    }

    /// What a look-up of `key` that begins after this call must not fall below.
    #[must_use]
    pub fn floor(&self, key: u64) -> u64 {
        self.known[key as usize].floor.load(Ordering::Acquire) // pairs with the Release of writers
    }

    /// Verifies a page that was found under `key` by a look-up that began when `floor` was its
    /// floor.
    ///
    /// # Panics
    /// The page must not be found there.
    pub fn verify(&self, key: u64, floor: u64, page: &[u8]) {
        let version = self.version(key, page);
        // Pairs with the Release of writers.
        let begun = self.known[key as usize].begun.load(Ordering::Acquire);
        assert!(version >= floor, "key {key}: version {version} after {floor} was in: stale");
        assert!(version <= begun, "key {key}: version {version} of {begun} is from the future");
    }

    /// Looks a key up by `get`, and verifies what it gives; whether it gave a page.
    pub fn look<P: AsRef<[u8]>>(&self, key: u64, get: impl FnOnce() -> Option<P>) -> bool {
        let floor = self.floor(key);
        let page = get();
        page.as_ref().inspect(|page| self.verify(key, floor, page.as_ref())).is_some()
    }

    /// Takes the key's turn for a change: `change` gets the version to store and gives what
    /// look-ups from now on must not fall below.
    pub fn change(&self, key: u64, change: impl FnOnce(u64) -> u64) {
        let known = &self.known[key as usize];
        let mut turn = known.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *turn += 2;
        known.begun.store(*turn, Ordering::Release); // pairs with the Acquire in `verify`
        let floor = change(*turn);
        known.floor.fetch_max(floor, Ordering::Release); // pairs with the Acquire in `floor`
    }

    /// A new version for a lease or a loader to store, as if read from a file that the writers of
    /// the key write first: it takes the turn for the version, not for the insert. Whoever changes
    /// the key afterwards has a higher one, and the older must not stay.
    #[must_use]
    pub fn read(&self, key: u64) -> u64 {
        let known = &self.known[key as usize];
        let mut turn = known.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *turn += 2;
        known.begun.store(*turn, Ordering::Release); // pairs with the Acquire in `verify`
        *turn
    }

    /// Empties the cache by `clear`: what was in before the call is never seen after it. `room` is
    /// working memory.
    pub fn clear(&self, room: &mut Vec<u64>, clear: impl FnOnce()) {
        // Those whose insert has returned; one that is under way may come before or after.
        room.clear();
        room.extend((0..self.known.len() as u64).map(|key| self.floor(key)));
        clear();
        for (known, before) in self.known.iter().zip(room) {
            // Only if nobody has begun another one: then the key is empty.
            let Ok(turn) = known.turn.try_lock() else { continue };
            if *turn == *before && *before % 2 == 0 && *before > 0 {
                known.floor.fetch_max(*before + 1, Ordering::Release); // pairs with `floor`
            }
        }
    }
}
