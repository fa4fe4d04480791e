//! Frames: what a reader has stays, what nobody has goes, and all of it is counted.
#![cfg(not(zcache_loom))]

use std::sync::atomic::{AtomicUsize, Ordering};

use zpool::source::Heap;
use zpool::{AllocError, Config, Frames, Pool, SourceKind};

fn pool(bytes: usize) -> Pool {
    Pool::with_source(Config::new().max_bytes(bytes), Heap::with_region_pages(4096, 8)).unwrap()
}

fn fill<H: Send + Sync>(frames: &Frames<H>, slot: usize, bytes: &[u8], head: H) {
    frames.put(slot, frames.fill(bytes).unwrap(), head);
}

#[test]
fn a_frame_stays_for_its_reader_and_every_byte_is_counted_until_it_is_gone() {
    let pool = pool(1 << 20);
    let frames: Frames<u32> = pool.frames(4, 3).unwrap();
    let empty = pool.held_bytes();
    fill(&frames, 1, &[1; 5000], 10);
    let one = frames.bytes();
    assert_eq!((one, frames.frame_bytes(5000)), (8192 + frames.heap_bytes(), one));
    let reading = frames.read(7);
    let old = reading.frame(1).unwrap();
    fill(&frames, 1, &[2; 100], 20);
    assert_eq!((frames.collect(), frames.waiting_bytes(), frames.len()), (one, one, 1));
    assert!(old.bytes().unwrap().iter().all(|byte| *byte == 1) && *old.head() == 10);
    // Readers that come now do not keep it.
    let next = frames.read(7);
    assert_eq!(*next.frame(1).unwrap().head(), 20);
    drop(reading);
    assert_eq!(frames.collect(), 0);
    let mut start = [0; 3];
    next.frame(1).unwrap().copy(&mut start);
    assert_eq!((start, next.clear_if(1, |head| *head == 10)), ([2; 3], false));
    assert!(next.clear_if(1, |head| *head == 20) && !next.clear_if(1, |_| true));
    pool.check();
    drop(next);
    frames.collect();
    pool.trim();
    assert_eq!((frames.bytes(), frames.heap_bytes(), pool.stats().pages_framed), (0, 0, 0));
    assert_eq!(pool.stats().reserved_bytes, 0);
    assert!(pool.held_bytes() <= empty + (33 << 10), "but for a region that is kept");
    pool.check();
}

#[test]
fn bytes_in_pieces_are_copied() {
    let pool = pool(1 << 20);
    let frames: Frames<()> = pool.frames(32, 1).unwrap();
    (0..32).for_each(|slot| fill(&frames, slot, &[0; 4096], ()));
    (0..32).step_by(2).for_each(|slot| assert!(frames.read(0).clear_if(slot, |()| true)));
    while frames.collect() > 0 {}
    // Every second page is free, and a region more is too much: a run of two is not to be had.
    pool.set_max_bytes(pool.held_bytes() + 1024);
    let bytes: Vec<u8> = (0..9000).map(|at| (at / 7) as u8).collect();
    fill(&frames, 0, &bytes, ());
    let reading = frames.read(0);
    let frame = reading.frame(0).unwrap();
    assert_eq!((frame.bytes(), frame.len()), (None, 9000));
    let mut all = vec![0; 9001];
    frame.copy(&mut all);
    assert!(all[..9000] == bytes && all[9000] == 0);
    pool.check();
    assert_eq!(frames.bytes(), 19 * 4096 + frames.heap_bytes());
}

#[test]
fn no_room_changes_nothing() {
    let pool = pool(1 << 20);
    let frames: Frames<()> = pool.frames(64, 1).unwrap();
    pool.set_max_bytes(pool.held_bytes() + (40 << 10));
    let room = frames.fill(&[7; 5000]).unwrap();
    let (blocks, cap) = (frames.heap_bytes(), pool.held_bytes() + (40 << 10));
    assert_eq!(frames.fill(&[7; 64 << 10]).err(), Some(AllocError::OutOfPages));
    assert_eq!((frames.heap_bytes(), pool.stats().pages_framed), (blocks, 2));
    assert!(pool.held_bytes() <= cap);
    pool.check();
    drop(room);
    assert_eq!((frames.heap_bytes(), pool.stats().pages_framed), (0, 0));
    pool.check();
}

#[test]
fn heads_are_dropped_once_also_where_that_panics() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Head;
    impl Drop for Head {
        fn drop(&mut self) {
            assert!(DROPS.fetch_add(1, Ordering::Relaxed) % 2 == 0, "planted");
        }
    }
    let pool = pool(1 << 20);
    let frames: Frames<Head> = pool.frames(2, 1).unwrap();
    (0..6).for_each(|nth| fill(&frames, nth % 2, b"bytes", Head));
    assert_eq!((frames.collect(), DROPS.load(Ordering::Relaxed)), (0, 4));
    fill(&frames, 0, b"bytes", Head);
    drop(frames);
    assert_eq!(DROPS.load(Ordering::Relaxed), 7);
    let stats = pool.stats();
    assert_eq!((stats.pages_framed, stats.reserved_bytes), (0, 0));
    pool.check();
}

#[test]
fn pages_without_an_address_make_no_frames() {
    let config = Config::new().source(SourceKind::Memfd);
    if let Ok(pool) = Pool::<()>::new(config) {
        assert!(pool.frames::<()>(4, 1).is_none());
    }
}

/// Readers that hand over to each other for ever kept what a collection was waiting for, once the counter that it
/// waited for was the one that newcomers took.
#[test]
fn what_waits_goes_however_readers_overlap() {
    let pool: Pool = Pool::new(Config::new().max_bytes(4 << 20)).unwrap();
    let frames = pool.frames::<u64>(4, 1).unwrap();
    let put = || frames.put(0, frames.fill(&[7; 100]).unwrap(), 1);
    put();
    put();
    let first = frames.read(0);
    frames.collect();
    let second = frames.read(0);
    drop(first);
    frames.collect();
    put();
    frames.collect();
    let mut last = second;
    for _ in 0..10 {
        let next = frames.read(0);
        drop(std::mem::replace(&mut last, next));
        frames.collect();
    }
    drop(last);
    put();
    let reading = frames.read(0);
    let waiting = frames.waiting_bytes();
    assert!(waiting <= frames.frame_bytes(100), "{waiting} bytes wait: one frame's at most");
    drop(reading);
}
