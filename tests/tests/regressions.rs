//! Bugs that were found once, each kept as the claim that it broke.
#![cfg(not(zcache_loom))]

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier, Mutex};

use zpool::source::{Access, File, Heap, Ledger, Mmap, MmapOptions, PageSource, SourceError};
use zpool::{AllocError, Config, ConfigError, Pool, SourceKind};

/// A record whose drop panics, if it is told to.
#[derive(Debug)]
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0, "boom");
    }
}

/// Two barriers that a write passes once, so that a test can act while bytes are being copied.
type Stop = Arc<Mutex<Option<Arc<(Barrier, Barrier)>>>>;

/// Pages without an address, handed out from the highest number down.
#[derive(Debug)]
struct TopDown {
    capacity: u32,
    free: Mutex<(BTreeSet<u32>, u32)>,
    bytes: Mutex<HashMap<u32, Vec<u8>>>,
    stop: Stop,
}

impl TopDown {
    fn new(capacity: u32) -> Self {
        let free = Mutex::new((BTreeSet::new(), capacity));
        Self { capacity, free, bytes: Mutex::default(), stop: Stop::default() }
    }
}

// SAFETY: a page number leaves the set of free ones when it is handed out; bytes are kept by
// number.
unsafe impl PageSource for TopDown {
    fn page_size(&self) -> usize {
        4096
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn access(&self) -> Access {
        Access::Unaddressable
    }

    fn take(&self, _: Option<u32>, _: usize, ledger: &Ledger) -> Result<u32, SourceError> {
        ledger.reserve_all(1).map_err(|_| SourceError::Refused)?;
        let mut free = self.free.lock().unwrap();
        if let Some(page) = free.0.pop_last() {
            return Ok(page);
        }
        free.1 -= 1;
        Ok(free.1)
    }

    fn give(&self, pages: &[u32], ledger: &Ledger) {
        self.free.lock().unwrap().0.extend(pages);
        ledger.release_pages(pages.len());
    }

    fn trim(&self, _: &Ledger) {}

    fn kept(&self) -> usize {
        0
    }

    fn read(&self, page: u32, offset: usize, to: &mut [u8]) -> io::Result<()> {
        let mut bytes = self.bytes.lock().unwrap();
        let page = bytes.entry(page).or_insert_with(|| vec![0; 4096]);
        to.copy_from_slice(&page[offset..offset + to.len()]);
        Ok(())
    }

    fn write(&self, page: u32, offset: usize, from: &[u8]) -> io::Result<()> {
        let stop = self.stop.lock().unwrap().take();
        if let Some(barriers) = stop {
            barriers.0.wait();
            barriers.1.wait();
        }
        let mut bytes = self.bytes.lock().unwrap();
        let page = bytes.entry(page).or_insert_with(|| vec![0; 4096]);
        page[offset..offset + from.len()].copy_from_slice(from);
        Ok(())
    }
}

#[test]
fn cancelling_a_write_of_a_freed_object_gives_the_new_place_back_though_its_record_panics() {
    let pool: Pool<Bomb> = Pool::new(Config::new()).unwrap();
    let handle = pool.alloc_record(Bomb(true), &[1; 100]).unwrap();
    let write = pool.map_write(handle, 1000).unwrap();
    pool.free(handle).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| write.cancel())).is_err());
    pool.check();
    assert!(pool.stats().classes.is_empty());
}

#[test]
fn a_record_that_panics_inside_a_compaction_leaves_its_class_fit_for_the_next() {
    let source = TopDown::new(1000);
    let stop = Arc::clone(&source.stop);
    let pool: Pool<Bomb> = Pool::with_source(Config::new(), source).unwrap();
    let store = |number: usize| pool.alloc_record(Bomb(number % 8 == 0), &[7; 400]).unwrap();
    let handles: Vec<_> = (0..400).map(store).collect();
    handles.iter().enumerate().filter(|(number, _)| number % 8 != 0).for_each(|(_, handle)| {
        pool.free(*handle).unwrap();
    });
    let barriers = Arc::new((Barrier::new(2), Barrier::new(2)));
    *stop.lock().unwrap() = Some(Arc::clone(&barriers));
    std::thread::scope(|scope| {
        let compact = || catch_unwind(AssertUnwindSafe(|| pool.compact(usize::MAX))).is_err();
        let mover = scope.spawn(compact);
        barriers.0.wait();
        // The mover holds one of them: that one ends in its hands.
        for handle in handles.iter().step_by(8) {
            let _ = catch_unwind(AssertUnwindSafe(|| pool.free(*handle)));
        }
        barriers.1.wait();
        assert!(mover.join().unwrap(), "the record panicked in the compaction");
    });
    pool.trim();
    pool.check();
    assert_eq!((pool.len(), pool.stats().pages), (0, 0));
}

#[test]
fn the_last_location_that_a_word_can_hold_is_no_objects() {
    let too_many: Result<Pool, _> = Pool::with_source(Config::new(), TopDown::new(1 << 28));
    assert!(matches!(too_many, Err(ConfigError::Capacity(_))));
    let most = TopDown::new(zpool::source::most_pages(4096));
    let pool: Pool = Pool::with_source(Config::new(), most).unwrap();
    // The highest page becomes the first of a chain of three of the class of 48 bytes.
    let top = pool.alloc(&[1; 4096]).unwrap();
    let mut handles: Vec<_> = (0..6000).map(|_| pool.alloc(&[7; 48]).unwrap()).collect();
    while pool.stats().classes.iter().any(|class| class.size == 48 && class.inuse != class.objects)
    {
        handles.push(pool.alloc(&[7; 48]).unwrap());
    }
    pool.free(top).unwrap();
    handles.extend((0..1000).map(|_| pool.alloc(&[7; 48]).unwrap()));
    assert!(handles.iter().all(|handle| *pool.map(*handle).unwrap() == [7; 48]));
    handles.into_iter().for_each(|handle| pool.free(handle).unwrap());
    pool.trim();
    assert_eq!(pool.stats().pages, 0);
}

/// Objects of 3000 bytes that still fit when a pool of 500 pages is full of objects of 1000 bytes
/// and most of them are freed again, with one guard forgotten or not.
fn fit_at_the_cap(forget: bool) -> usize {
    let pool: Pool = Pool::new(Config::new().max_pages(500)).unwrap();
    let handles: Vec<_> = std::iter::from_fn(|| pool.alloc(&[7; 1000]).ok()).collect();
    if forget {
        std::mem::forget(pool.map(handles[0]).unwrap());
    }
    for (number, handle) in handles.iter().enumerate() {
        if (1..40).contains(&number) || number % 2 == 1 {
            pool.free(*handle).unwrap();
        }
    }
    let fits = std::iter::from_fn(|| pool.alloc(&[7; 3000]).ok()).count();
    pool.check();
    fits
}

#[test]
fn a_forgotten_guard_keeps_compaction_from_its_zspage_only() {
    let (free, pinned) = (fit_at_the_cap(false), fit_at_the_cap(true));
    assert!(free > 300, "{free} objects of 3000 bytes");
    // One zspage of at most 16 pages stays as it is.
    assert!(pinned + 24 >= free, "{pinned} objects of 3000 bytes, {free} without the guard");
}

#[test]
fn zspages_of_other_lengths_are_emptied_when_the_sparsest_is_too_large() {
    let pool: Pool = Pool::new(Config::new().max_pages(6)).unwrap();
    let spare = pool.alloc(&[1; 4096]).unwrap();
    let long: Vec<_> = (0..8).map(|_| pool.alloc(&[1; 1530]).unwrap()).collect();
    let mut short: Vec<_> = (0..4).map(|_| pool.alloc(&[1; 1530]).unwrap()).collect();
    pool.free(spare).unwrap();
    short.extend((0..2).map(|_| pool.alloc(&[1; 1530]).unwrap()));
    long[..4].iter().chain(short.iter().step_by(2)).for_each(|handle| pool.free(*handle).unwrap());
    assert!(pool.alloc(&[1; 4096]).is_ok(), "7 objects of 1530 bytes take 3 of the 6 pages");
    pool.check();
}

#[test]
fn a_heap_under_a_small_cap_leaves_room_for_the_tables() {
    for kib in [256, 300, 400, 512, 700, 1024] {
        let count = |kind: SourceKind| {
            let pool: Pool = Pool::new(Config::new().source(kind).max_bytes(kib << 10)).unwrap();
            std::iter::from_fn(|| pool.alloc(&[1; 32]).ok()).count()
        };
        let (heap, mmap) = (count(SourceKind::Heap), count(SourceKind::Mmap(MmapOptions::new())));
        assert!(heap * 2 > mmap, "{kib} KiB: {heap} objects on the heap, {mmap} in a mapping");
    }
}

#[test]
fn kept_scratch_goes_before_an_allocation_is_refused() {
    let config = Config::new().source(SourceKind::Memfd).max_object(256 << 10);
    let pool: Pool = Pool::new(config.max_bytes(3 << 20)).unwrap();
    let large = pool.alloc(&vec![1; 256 << 10]).unwrap();
    drop((0..4).map(|_| pool.map(large).unwrap()).collect::<Vec<_>>());
    while pool.alloc(&[1; 4000]).is_ok() {}
    pool.trim();
    assert_eq!(pool.alloc(&[1; 4000]), Err(AllocError::OutOfPages), "trim found nothing to give");
}

/// What a used source holds is charged to the ledger that it was used with, also when all pages are
/// back.
#[test]
fn a_source_that_was_used_before_is_refused() {
    fn refused(source: impl PageSource + 'static, trimmed: bool) {
        let ledger = Ledger::new(4096, usize::MAX, usize::MAX);
        assert!(source.is_fresh());
        let page = source.take(None, 0, &ledger).unwrap();
        source.give(&[page], &ledger);
        if trimmed {
            source.trim(&ledger);
        }
        assert!(!source.is_fresh() && ledger.held() > 0);
        let pool: Result<Pool, _> = Pool::with_source(Config::new(), source);
        assert!(matches!(pool, Err(ConfigError::SourceInUse)));
    }
    for trimmed in [false, true] {
        refused(Heap::new(4096), trimmed);
        refused(Mmap::new(MmapOptions::new().max_pages(1000)).unwrap(), trimmed);
        refused(File::temporary(4096).unwrap(), trimmed);
    }
}

/// A look at the sparsest zspages of a class was in vain, and the class got smaller since: those
/// that it did not see can be emptied then.
#[test]
fn a_class_that_gets_smaller_is_compacted_though_a_look_was_in_vain() {
    let pool: Pool = Pool::new(Config::new()).unwrap();
    // 320 objects in chains of 1 page with 9 slots, the others in chains of 7 pages with 64.
    let mut live: Vec<_> = (0..320 + 140 * 64).map(|_| pool.alloc(&[1; 448]).unwrap()).collect();
    // Room for the objects of two short chains, not for those of a long one.
    live.drain(1000..1030).for_each(|handle| pool.free(handle).unwrap());
    assert_eq!(pool.compact(usize::MAX).pages_freed, 0, "the sparsest are long ones");
    live.drain(live.len() - 54 * 64..).for_each(|handle| pool.free(handle).unwrap());
    let did = pool.compact(usize::MAX);
    assert!(did.pages_freed > 0 && did.done, "{did:?}");
    pool.check();
}
