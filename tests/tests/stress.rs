//! Threads against each other on one pool. `ZPOOL_STRESS_OPS` sets the operations of each thread;
//! the sanitizers' script raises it.
//!
//! Handles lie on a board that all threads take from and put to, so that two of them often work on
//! one object. Contents describe themselves ([`pattern`]), so every byte that anybody reads is
//! checked without knowing who wrote it last.
#![cfg(not(zcache_loom))]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use tests::pattern::{self, Random};
use tests::records::{Tally, Tracked};
use tests::setups::{Pages, Setup};
use zpool::{AllocError, Handle, MapError, Pool, ReadError, WriteError};

/// Handles that threads share.
const BOARD: usize = 64;
const LONGEST: usize = 9000;

fn ops() -> usize {
    std::env::var("ZPOOL_STRESS_OPS").ok().and_then(|ops| ops.parse().ok()).unwrap_or(4000)
}

struct Field {
    pool: Pool<Tracked>,
    tally: Tally,
    /// Handles as numbers; 0: none. Some are freed already: that is what they are for.
    board: Vec<AtomicU64>,
    allocated: AtomicUsize,
    freed: AtomicUsize,
    whole: AtomicUsize,
}

impl Field {
    fn new(setup: &Setup) -> Self {
        Self {
            pool: setup.pool(),
            tally: Tally::default(),
            board: (0..BOARD).map(|_| AtomicU64::new(0)).collect(),
            allocated: AtomicUsize::new(0),
            freed: AtomicUsize::new(0),
            whole: AtomicUsize::new(0),
        }
    }

    fn assert_whole(&self, bytes: &[u8]) {
        assert!(pattern::is_whole(bytes), "{} bytes are not one object's", bytes.len());
        self.whole.fetch_add(1, Ordering::Relaxed);
    }

    fn len(random: &mut Random) -> usize {
        match random.below(8) {
            0 => 8 + random.below(LONGEST - 8),
            1 => 4090 + random.below(12),
            _ => 8 + random.below(1500),
        }
    }

    /// Frees what a handle names; of all who try, one succeeds.
    fn free(&self, handle: Handle) {
        if self.pool.free(handle).is_ok() {
            self.freed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn alloc(&self, random: &mut Random, at: usize) {
        let (seed, len) = (random.bits(), Self::len(random));
        let record = self.tally.issue();
        let made = if random.below(2) == 0 {
            self.pool.alloc_record(record, &pattern::bytes(seed, len))
        } else {
            self.pool.alloc_record_with(record, len, |bytes| {
                assert!(bytes.iter().all(|byte| *byte == 0), "fresh places are zeros");
                pattern::fill(seed, bytes);
            })
        };
        match made {
            Ok(handle) => {
                self.allocated.fetch_add(1, Ordering::Relaxed);
                let old = self.board[at].swap(handle.to_bits(), Ordering::AcqRel);
                Handle::from_bits(old).into_iter().for_each(|old| self.free(old));
            }
            Err(error) => assert_eq!(error, AllocError::OutOfPages),
        }
    }

    fn read(&self, handle: Handle) {
        match self.pool.map(handle) {
            Ok(map) => {
                self.assert_whole(&map);
                let before = map.to_vec();
                let _ = map.record().number();
                assert!(*map == *before, "nobody writes to what is mapped");
            }
            Err(error) => assert_ne!(error, MapError::Source),
        }
    }

    /// Works on what lies at `at`; somebody else may, too.
    fn work(&self, random: &mut Random, handle: Handle) {
        match random.below(16) {
            0..=4 => self.read(handle),
            5 => {
                let mut to = [0; LONGEST];
                match self.pool.read_into(handle, &mut to) {
                    Ok(len) => self.assert_whole(&to[..len]),
                    Err(error) => assert!(matches!(error, ReadError::Map(_)), "{error}"),
                }
            }
            6 | 7 => {
                if let Ok(mut map) = self.pool.map_mut(handle) {
                    self.assert_whole(&map);
                    pattern::fill(random.bits(), &mut map);
                }
            }
            8 | 9 => match self.pool.map_write(handle, Self::len(random)) {
                Ok(mut map) => {
                    assert!(map.iter().all(|byte| *byte == 0), "fresh places are zeros");
                    // Half written: seen by nobody, if it is cancelled.
                    pattern::fill(random.bits(), &mut map);
                    match random.below(3) {
                        0 => drop(map),
                        1 => map.finish().unwrap(),
                        _ => {
                            map[8..].fill(0xbb);
                            map.cancel();
                        }
                    }
                }
                Err(WriteError::Alloc(error)) => assert_eq!(error, AllocError::OutOfPages),
                Err(_) => {}
            },
            10 => {
                // Freed under a guard, by whom ever.
                if let Ok(map) = self.pool.map(handle) {
                    self.free(handle);
                    self.assert_whole(&map);
                }
            }
            11 | 12 => {
                self.free(handle);
                self.free(handle);
            }
            13 => drop(self.pool.compact(random.below(1 << 14)).done),
            14 => self.pool.trim(),
            _ => {
                let stats = self.pool.stats();
                assert!(stats.page_bytes >= stats.pages_kept * stats.page_size);
                let _ = self.pool.with_record(handle, Tracked::number);
                self.pool.prefetch_bytes(handle);
            }
        }
    }

    fn run(&self, seed: u64, ops: usize) {
        let mut random = Random::new(seed);
        for _ in 0..ops {
            let at = random.below(BOARD);
            match Handle::from_bits(self.board[at].load(Ordering::Acquire)) {
                Some(handle) if random.below(4) > 0 => self.work(&mut random, handle),
                _ => self.alloc(&mut random, at),
            }
        }
    }

    /// Nobody is left: everything adds up, and all of it goes.
    fn settle(self) {
        let Self { pool, tally, board, .. } = self;
        pool.trim();
        pool.check();
        let (allocated, freed) = (self.allocated.into_inner(), self.freed.into_inner());
        assert_eq!((pool.len(), tally.alive()), (allocated - freed, allocated - freed));
        assert!(freed > 0 && self.whole.into_inner() > 0);
        for handle in board.into_iter().filter_map(|bits| Handle::from_bits(bits.into_inner())) {
            let _ = pool.free(handle);
        }
        pool.set_max_bytes(usize::MAX);
        pool.trim();
        pool.check();
        let stats = pool.stats();
        assert_eq!((stats.objects, stats.payload_bytes, stats.pages), (0, 0, 0));
        assert_eq!((stats.pending, stats.pinned_after_free), (0, 0));
        drop(pool);
        tally.assert_each_dropped_once();
    }
}

fn storm(setup: &Setup, threads: u64) {
    let field = Field::new(setup);
    thread::scope(|scope| {
        for seed in 0..threads {
            let field = &field;
            scope.spawn(move || field.run(seed * 77 + 1, ops() / threads as usize * 2));
        }
    });
    field.settle();
}

#[test]
fn every_byte_is_right_under_eight_threads_on_mmap() {
    storm(&Setup::new(Pages::Mmap), 8);
    storm(&Setup { max_pages: 40, zero_on_free: true, ..Setup::new(Pages::Mmap) }, 3);
}

#[test]
fn every_byte_is_right_over_seams_of_the_heap() {
    storm(&Setup { max_bytes: 500_000, ..Setup::new(Pages::Heap(2)) }, 4);
    storm(&Setup::new(Pages::Heap(1)), 2);
}

#[test]
fn every_byte_is_right_without_addresses() {
    storm(&Setup { max_pages: 60, ..Setup::new(Pages::Memfd) }, 4);
    storm(&Setup { page_size: 16384, ..Setup::new(Pages::Memfd) }, 2);
}

/// Allocations, frees, readers and a compaction that never rests, on one class.
#[test]
fn readers_see_whole_objects_while_one_class_is_compacted_all_the_time() {
    let pool: Pool = Setup { max_pages: 64, ..Setup::new(Pages::Mmap) }.pool();
    let shared: Mutex<Vec<Handle>> = Mutex::new(Vec::new());
    let stop = AtomicUsize::new(0);
    thread::scope(|scope| {
        for seed in 0..2 {
            let (pool, shared, stop) = (&pool, &shared, &stop);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                for _ in 0..ops() {
                    let made = pool.alloc(&pattern::bytes(random.bits(), 1000));
                    let mut all = shared.lock().unwrap();
                    all.extend(made);
                    if all.len() > 100 || made.is_err() && !all.is_empty() {
                        let gone = random.below(all.len());
                        let gone = all.swap_remove(gone);
                        drop(all);
                        pool.free(gone).unwrap();
                    }
                }
                stop.fetch_add(1, Ordering::Release);
            });
        }
        let (pool, shared, stop) = (&pool, &shared, &stop);
        scope.spawn(move || {
            while stop.load(Ordering::Acquire) < 2 {
                pool.compact(3000);
            }
        });
        scope.spawn(move || {
            let mut random = Random::new(9);
            while stop.load(Ordering::Acquire) < 2 {
                let all = shared.lock().unwrap().clone();
                for _ in 0..all.len() {
                    match pool.map(all[random.below(all.len())]) {
                        Ok(map) => assert!(map.len() == 1000 && pattern::is_whole(&map)),
                        Err(error) => assert_eq!(error, MapError::Stale, "readers never wait"),
                    }
                }
            }
        });
    });
    pool.check();
    assert_eq!(pool.stats().objects, shared.into_inner().unwrap().len());
}
