//! One budget: memory of the user's under the pool's cap, and allocations that make no room.
#![cfg(not(zcache_loom))]

use std::thread;

use tests::pattern;
use tests::records::Tally;
use tests::setups::{Pages, Setup};
use zpool::{AllocError, Handle, Pool};

const SOURCES: [Pages; 6] =
    [Pages::Heap(1), Pages::Mmap, Pages::Huge, Pages::Ranges, Pages::Memfd, Pages::Ram];
const NO_ROOM: AllocError = AllocError::OutOfPages;

#[test]
fn a_reservation_and_pages_share_the_cap() {
    for pages in SOURCES {
        let cap = 1 << 20;
        let pool: Pool = Setup { max_bytes: cap, ..Setup::new(pages) }.pool();
        let own = pool.held_bytes();
        assert_eq!(pool.reserve(cap - own + 1), Err(NO_ROOM));
        assert_eq!(pool.reserve(cap / 2), Ok(()));
        let before = pool.stats();
        assert_eq!((before.reserved_bytes, before.metadata_bytes), (cap / 2, own));
        let objects: Vec<Handle> = std::iter::from_fn(|| pool.alloc(&[1; 4096]).ok()).collect();
        assert!(pool.page_bytes() > cap / 8 && pool.held_bytes() <= cap);
        assert_eq!(pool.reserve(cap - pool.held_bytes()), Ok(()));
        assert_eq!(
            (pool.held_bytes(), pool.reserve(1), pool.reserve(0)),
            (cap, Err(NO_ROOM), Ok(()))
        );
        let full = pool.stats();
        assert_eq!(
            (full.density(), full.peak_bytes),
            (full.payload_bytes as f64 / (full.page_bytes + full.metadata_bytes) as f64, cap,)
        );
        pool.check();
        pool.release(cap / 2);
        assert!(pool.alloc(&[2; 4096]).is_ok());
        objects.iter().for_each(|handle| pool.free(*handle).unwrap());
        pool.release(pool.stats().reserved_bytes);
        assert_eq!((pool.stats().reserved_bytes, pool.stats().failures.out_of_pages), (0, 1));
        pool.check();
    }
}

/// Reserving takes only what is free: no object moves for it, and nothing kept goes.
#[test]
fn a_reservation_makes_no_room() {
    let pool: Pool = Setup::new(Pages::Mmap).pool();
    let handles: Vec<Handle> = (0..400).map(|_| pool.alloc(&[1; 1000]).unwrap()).collect();
    handles.iter().step_by(2).for_each(|handle| pool.free(*handle).unwrap());
    handles[1..80].iter().step_by(2).for_each(|handle| pool.free(*handle).unwrap());
    pool.set_max_bytes(pool.held_bytes());
    let before = pool.stats();
    assert!(before.pages_kept > 0);
    assert_eq!(pool.reserve(1), Err(NO_ROOM));
    assert_eq!(pool.stats(), before);
    pool.trim();
    assert_eq!(pool.reserve(1), Ok(()));
}

#[test]
fn two_threads_cannot_pass_the_cap_with_pages_and_reservations() {
    let cap = 700 << 10;
    let pool: Pool = Setup { max_bytes: cap, ..Setup::new(Pages::Mmap) }.pool();
    // Each of them ends by itself, whatever becomes of the other.
    thread::scope(|scope| {
        let filler = scope.spawn(|| {
            for _ in 0..200 {
                let alloc = || pool.try_alloc_record((), [&[1; 3000], &[2; 5]]).ok();
                let live: Vec<Handle> = std::iter::from_fn(alloc).collect();
                live.iter().for_each(|handle| pool.free(*handle).unwrap());
            }
        });
        let mut round = 0;
        while !filler.is_finished() {
            let bytes = 1 + round % (300 << 10) * 7919 % (300 << 10);
            if pool.reserve(bytes).is_ok() {
                assert!(pool.held_bytes() <= cap);
                pool.release(bytes);
            }
            round += 1;
        }
    });
    assert!(pool.stats().peak_bytes <= cap);
    assert_eq!(pool.stats().reserved_bytes, 0);
    pool.check();
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "released more bytes than are reserved"))]
fn a_release_gives_back_no_more_than_is_reserved() {
    let pool: Pool = Setup::new(Pages::Mmap).pool();
    let own = pool.held_bytes();
    pool.reserve(100).unwrap();
    pool.release(101);
    assert_eq!(pool.held_bytes(), own);
}

#[test]
fn parts_are_stored_back_to_back() {
    for pages in SOURCES {
        let pool: Pool<u32> = Setup::new(pages).pool();
        for (first, second) in
            [(0, 0), (0, 9), (9, 0), (700, 1), (4090, 12), (4096, 4096), (9000, 21)]
        {
            let all = pattern::bytes(first, (first + second) as usize);
            let parts = all.split_at(first as usize);
            for _ in 0..5 {
                for made in [
                    pool.alloc_record_parts(3, [parts.0, parts.1]),
                    pool.try_alloc_record(3, [parts.0, parts.1]),
                ] {
                    let map = pool.map(made.unwrap()).unwrap();
                    assert!(*map == all && *map.record() == 3, "{first} + {second}, {pages:?}");
                }
            }
        }
        let sum = [&[0; 40_000][..], &[0; 30_000][..]];
        let too_large = Err((AllocError::TooLarge(70_000), 4));
        assert_eq!(pool.alloc_record_parts(4, sum), too_large);
        assert_eq!(pool.try_alloc_record(4, sum), too_large);
        assert_eq!(pool.stats().failures.too_large, 2);
        pool.check();
    }
}

#[test]
fn try_alloc_makes_no_room_and_gives_the_record_back() {
    for pages in SOURCES {
        let pool = Setup { max_pages: 64, ..Setup::new(pages) }.pool();
        let tally = Tally::default();
        let alloc = |len: usize| pool.try_alloc_record(tally.issue(), [&vec![1; len], &[2; 5]]);
        let handles: Vec<Handle> = std::iter::from_fn(|| alloc(995).ok()).collect();
        // Every slot of the class is used, and no page is left for another zspage of its chain.
        let full = pool.stats();
        assert!(full.classes.iter().all(|class| class.inuse == class.objects), "{full}");
        // Holes that only moving would turn into pages.
        handles.iter().step_by(2).for_each(|handle| pool.free(*handle).unwrap());
        let holes = pool.stats();
        let (error, record) = alloc(3000).unwrap_err();
        assert_eq!((error, tally.drops(record.number())), (NO_ROOM, 0));
        let after = pool.stats();
        assert_eq!((after.compaction, after.failures), (holes.compaction, holes.failures));
        assert_eq!(after.classes, holes.classes);
        drop(record);
        // The larger class has free slots, but they are not this length's.
        assert!(alloc(40).is_err());
        // Its own length finds them, and the full ladder makes room.
        assert!(alloc(995).is_ok());
        let parts: [&[u8]; 2] = [&[1; 3000], &[2; 5]];
        assert!(pool.alloc_record_parts(tally.issue(), parts).is_ok());
        assert!(pool.stats().compaction.calls > 0);
        pool.check();
        drop(pool);
        tally.assert_each_dropped_once();
    }
}

#[test]
fn try_alloc_takes_in_what_readers_left() {
    for pages in SOURCES {
        let pool: Pool = Setup { max_pages: 1, ..Setup::new(pages) }.pool();
        let handle = pool.try_alloc_record((), [&[1; 2048], &[]]).unwrap();
        let pinned = pool.pin(handle).unwrap();
        pool.free(handle).unwrap();
        assert_eq!(pool.try_alloc_record((), [&[1; 4096], &[]]), Err((NO_ROOM, ())));
        drop(pinned);
        assert!(pool.try_alloc_record((), [&[1; 4096], &[]]).is_ok(), "the page came free");
        pool.check();
    }
}

/// Tables and pages on huge pages are under the cap like any others, nobody's bytes change when
/// those are split, and all of them come back.
#[test]
fn a_pool_on_huge_pages_keeps_to_its_cap_and_gives_all_back() {
    let cap = 48 << 20;
    let pool: Pool = Setup { max_bytes: cap, ..Setup::new(Pages::Huge) }.pool();
    let empty = pool.held_bytes();
    let alloc = |at: usize| Some((at, pool.alloc(&pattern::bytes(at as u64, 40 + at % 90)).ok()?));
    for round in 0..2 {
        // Some 500,000 small ones: their slots and lengths take 4 MiB and 1 MiB.
        let mut all: Vec<(usize, Handle)> = (0..).map_while(alloc).collect();
        assert!(all.len() > 300_000 && pool.held_bytes() <= cap, "{} objects", all.len());
        let huge = pool.huge_bytes();
        assert!(huge == 0 || (cap / 2..cap).contains(&huge), "{huge} bytes, round {round}");
        pool.check();
        // One in three is left; then those are all there is.
        let mut left = Vec::new();
        for (nth, (at, handle)) in all.drain(..).enumerate() {
            if nth % 3 == 0 { left.push((at, handle)) } else { pool.free(handle).unwrap() }
        }
        while !pool.compact(1 << 20).done {}
        let mut held = usize::MAX;
        while pool.held_bytes() < held {
            held = pool.held_bytes();
            pool.trim();
        }
        pool.check();
        assert!(held < cap / 5 * 2, "{held} bytes for a third");
        for (at, handle) in left {
            assert!(*pool.map(handle).unwrap() == pattern::bytes(at as u64, 40 + at % 90));
            pool.free(handle).unwrap();
        }
        pool.trim();
        pool.check();
        assert_eq!(pool.huge_bytes(), 0);
        assert!(pool.held_bytes() < empty + (200 << 10), "{} bytes", pool.held_bytes());
    }
}
