//! Frames: what a reader has stays, what nobody has goes, and all of it is counted.
#![cfg(not(zcache_loom))]

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use tests::faults::Faulty;
use zpool::source::{Heap, Mmap, MmapOptions, PageSource};
use zpool::{AllocError, Config, Frames, Pool, SharedBytes, SourceKind};

fn pool(bytes: usize) -> Pool {
    Pool::with_source(Config::new().max_bytes(bytes), Heap::with_region_pages(4096, 8)).unwrap()
}

fn fill<H: Send + Sync>(frames: &Frames<H>, slot: usize, bytes: &[u8], head: H) {
    frames.put(slot, frames.fill(bytes).unwrap(), head);
}

fn share<H: Send + Sync>(frames: &Frames<H>, slot: usize) -> Option<SharedBytes> {
    frames.read(0).frame(slot).and_then(|frame| frame.share())
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

/// Readers that hand over to each other for ever kept what a collection was waiting for, once the
/// counter that it waited for was the one that newcomers took.
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

#[test]
fn shared_bytes_are_held_and_counted_past_their_frame_which_drops_its_head() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Head<'a>(&'a AtomicUsize);
    impl Drop for Head<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let pool = pool(1 << 20);
    let frames: Frames<Head<'_>> = pool.frames(2, 1).unwrap();
    fill(&frames, 1, &[5; 5000], Head(&DROPS));
    let (whole, blocks) = (frames.frame_bytes(5000), frames.heap_bytes());
    let shared = share(&frames, 1).unwrap();
    assert_eq!((frames.bytes(), frames.waiting_bytes(), frames.heap_bytes()), (whole, 0, blocks));
    fill(&frames, 1, &[6; 5000], Head(&DROPS));
    let left = frames.collect();
    assert_eq!((left, DROPS.load(Ordering::Relaxed)), (frames.waiting_bytes(), 1));
    assert!((8192..whole).contains(&left), "the pages wait, and the head's block is gone");
    assert_eq!((frames.bytes(), pool.stats().pages_framed), (whole, 4));
    assert_eq!(frames.heap_bytes(), blocks + left - 8192);
    assert_eq!(pool.stats().reserved_bytes, frames.heap_bytes());
    let other = shared.clone();
    assert!(ptr::eq(&*shared, other.as_ref()), "no copy");
    drop(shared);
    assert_eq!(frames.collect(), left);
    assert!(other.len() == 5000 && other.iter().all(|byte| *byte == 5));
    assert_eq!(format!("{other:?}"), "SharedBytes { len: 5000, .. }");
    pool.check();
    drop(other);
    assert_eq!((frames.waiting_bytes(), frames.heap_bytes()), (0, blocks));
    assert_eq!((pool.stats().pages_framed, pool.stats().reserved_bytes), (2, blocks));
    pool.check();
}

#[test]
fn bytes_that_are_dropped_before_their_frame_leave_it_as_it_was() {
    let pool = pool(1 << 20);
    let frames: Frames<()> = pool.frames(1, 1).unwrap();
    fill(&frames, 0, &[5; 100], ());
    drop(share(&frames, 0).unwrap());
    assert_eq!((frames.bytes(), frames.waiting_bytes()), (frames.frame_bytes(100), 0));
    drop(frames.fill(&[6; 100]).unwrap());
    assert_eq!((frames.waiting_bytes(), pool.stats().pages_framed), (0, 1));
    assert_eq!(share(&frames, 0).as_deref(), Some(&[5; 100][..]));
    assert!(frames.read(0).clear_if(0, |()| true));
    assert_eq!((frames.collect(), frames.heap_bytes()), (0, 0));
    pool.check();
}

/// Every kind of pool whose frames have addresses.
fn pools() -> Vec<Pool> {
    let of = |source| Pool::new(Config::new().max_bytes(4 << 20).source(source)).unwrap();
    let mut pools = vec![pool(1 << 20), of(SourceKind::Heap)];
    #[cfg(unix)]
    pools.push(of(SourceKind::Mmap(zpool::source::MmapOptions::new())));
    pools
}

#[test]
fn shared_bytes_outlive_their_set_and_the_pool() {
    for pool in pools() {
        let before = pool.stats().reserved_bytes;
        let frames: Frames<String> = pool.frames(4, 1).unwrap();
        (0..3).for_each(|slot| fill(&frames, slot, &[slot as u8; 6000], "head".to_owned()));
        let shared: Vec<_> = (0..3).map(|slot| share(&frames, slot).unwrap()).collect();
        frames.grow().unwrap();
        assert!(frames.read(0).clear_if(1, |_| true));
        frames.collect();
        drop(frames);
        assert_eq!(pool.stats().pages_framed, 6);
        assert!(pool.stats().reserved_bytes > before, "charged though the set is gone");
        pool.check();
        let mut shared = shared.into_iter();
        drop(shared.next());
        assert_eq!(pool.stats().pages_framed, 4);
        drop(shared.next());
        let last = shared.next().unwrap();
        pool.check();
        let (held, reserved) = (pool.held_bytes(), pool.stats().reserved_bytes);
        let lone = pool.frames::<()>(1, 1).unwrap();
        assert_eq!(lone.heap_bytes(), 0);
        drop(lone);
        assert_eq!((pool.held_bytes(), pool.stats().reserved_bytes), (held, reserved));
        let handle = pool.alloc(&[9; 3000]).unwrap();
        drop(pool);
        let other = last.clone();
        let reader = thread::spawn(move || last.iter().all(|byte| *byte == 2));
        assert!(reader.join().unwrap() && *other == [2; 6000]);
        drop(other);
        let _ = handle;
    }
}

/// What a frame of a page leaves held when its pool is gone, which had so many objects of no bytes
/// before, and as many classes as there are sizes up to 4000 bytes.
fn held_after(objects: usize, source: impl PageSource + 'static) -> usize {
    let (source, switch) = Faulty::new(source);
    let pool: Pool = Pool::with_source(Config::new(), source).unwrap();
    let frames: Frames<()> = pool.frames(4, 1).unwrap();
    let mut handles: Vec<_> = (0..objects).map(|_| pool.alloc(&[]).unwrap()).collect();
    let sizes = (0..objects).step_by(1000).map(|at| 1 + at % 4000);
    handles.extend(sizes.map(|len| pool.alloc(&vec![1; len]).unwrap()));
    handles.into_iter().step_by(2).for_each(|handle| pool.free(handle).unwrap());
    drop(pool);
    frames.put(0, frames.fill(&[1; 4096]).unwrap(), ());
    switch.held()
}

#[test]
fn tables_of_a_pool_that_is_gone_are_charged_to_nobody() {
    let mmap = || Mmap::new(MmapOptions::new().max_pages(1 << 16)).unwrap();
    let own = held_after(0, mmap());
    assert!(own < 4096 + 1024, "{own} bytes for one page, its block and the source's own");
    assert_eq!(held_after(100_000, mmap()), own);
    let heap = |objects| held_after(objects, Heap::new(4096));
    // Its table of regions is longer after more regions.
    assert!(heap(100_000).abs_diff(heap(0)) < 1024, "{} and {}", heap(0), heap(100_000));
}

#[test]
fn what_holders_leave_to_a_pool_is_nothing() {
    for pool in pools() {
        let frames: Frames<()> = pool.frames(1, 1).unwrap();
        fill(&frames, 0, &[1; 9000], ());
        let shared = share(&frames, 0).unwrap();
        drop(frames);
        thread::spawn(move || drop(shared)).join().unwrap();
        assert_eq!((pool.stats().pages_framed, pool.stats().reserved_bytes), (0, 0));
        pool.trim();
        pool.check();
    }
}

#[test]
fn slots_grow_and_keep_what_is_in_them() {
    let pool = pool(1 << 20);
    let frames: Frames<usize> = pool.frames(3, 1).unwrap();
    assert_eq!((frames.slots(), frames.table_bytes()), (4, 0));
    let mut filled = 0;
    while frames.slots() <= 64 {
        (filled..frames.slots()).for_each(|slot| fill(&frames, slot, &[slot as u8; 10], slot));
        filled = frames.slots();
        frames.grow().unwrap();
        assert_eq!(frames.slots(), 2 * filled);
        assert!(frames.table_bytes() >= 8 * (2 * filled - 4));
        let reading = frames.read(0);
        let heads = (0..frames.slots()).map(|slot| reading.frame(slot).map(|frame| *frame.head()));
        assert!(heads.eq((0..2 * filled).map(|slot| (slot < filled).then_some(slot))));
    }
    assert_eq!(pool.stats().reserved_bytes, frames.table_bytes() + frames.heap_bytes());
    pool.check();
    drop(frames);
    assert_eq!((pool.stats().pages_framed, pool.stats().reserved_bytes), (0, 0));
    pool.check();
}

#[test]
#[should_panic(expected = "slot 8 of 8")]
fn a_frame_for_a_slot_past_those_that_growing_made_is_a_panic() {
    let pool = pool(1 << 20);
    let frames: Frames<()> = pool.frames(4, 1).unwrap();
    frames.grow().unwrap();
    fill(&frames, 7, b"there", ());
    fill(&frames, 8, b"nowhere", ());
}

#[test]
#[should_panic(expected = "place 1000 of 8")]
fn a_look_at_a_slot_that_there_never_was_is_a_panic() {
    let pool = pool(1 << 20);
    let frames: Frames<()> = pool.frames(4, 1).unwrap();
    frames.grow().unwrap();
    let _ = frames.is_vacant(1000);
}

/// A frame in an upper slot keeps it; the memory of slots that go is the pool's again.
#[test]
fn slots_that_are_empty_go_and_come_again() {
    let pool = pool(4 << 20);
    let frames: Frames<usize> = pool.frames(512, 1).unwrap();
    for round in 0..3 {
        while frames.slots() < 1 << 14 {
            let last = frames.slots() - 1;
            fill(&frames, last, &[round; 10], last);
            frames.grow().unwrap();
        }
        let tables = frames.table_bytes();
        assert!(tables >= 8 * ((1 << 14) - 512), "{tables} bytes of tables");
        assert!(frames.shrink(), "the upper half is empty");
        assert!(!frames.shrink(), "a frame is in its last slot");
        while frames.slots() > 512 {
            let last = frames.slots() - 1;
            let old = frames.read(0);
            assert!(old.clear_if(last, |head| *head == last));
            assert!(frames.shrink() && old.frame(last).is_none());
        }
        frames.read(0).clear_if(511, |_| true);
        assert!(!frames.shrink(), "no less than at first");
        while frames.collect() > 0 {}
        // The heap's blocks of a table stay, and the counts of its pages.
        let left = frames.table_bytes();
        let going = cfg!(any(target_os = "linux", target_os = "android"));
        assert!(!going || left <= 4096 + 512, "{left} bytes more, of {tables}");
        pool.check();
    }
    drop(frames);
    assert_eq!((pool.stats().pages_framed, pool.stats().reserved_bytes), (0, 0));
}

#[test]
fn growth_at_the_cap_is_refused_and_nothing_is_charged() {
    let pool = pool(1 << 20);
    let frames: Frames<()> = pool.frames(64, 1).unwrap();
    fill(&frames, 63, b"there", ());
    let held = pool.held_bytes();
    pool.set_max_bytes(held + 8 * 64);
    assert_eq!(frames.grow(), Err(AllocError::OutOfPages));
    assert_eq!((frames.slots(), frames.table_bytes(), pool.held_bytes()), (64, 0, held));
    pool.set_max_bytes(held + 8 * 64 + 16);
    assert_eq!((frames.grow(), frames.slots()), (Ok(()), 128));
    assert_eq!(pool.held_bytes(), held + frames.table_bytes());
    assert_eq!(share(&frames, 63).as_deref(), Some(&b"there"[..]));
    pool.check();
}

#[test]
fn a_frame_moves_to_an_empty_slot_and_goes_at_another() {
    let pool = pool(1 << 20);
    let frames: Frames<u8> = pool.frames(4, 1).unwrap();
    (0..2).for_each(|slot| fill(&frames, slot, &[slot as u8; 9], slot as u8));
    let reading = frames.read(0);
    let first = reading.frame(0).unwrap();
    assert!(frames.shift(0, 3) && !frames.shift(0, 2), "nothing is left there");
    assert!(frames.is_vacant(0) && ptr::eq(reading.frame(3).unwrap(), first));
    assert_eq!((frames.len(), frames.waiting_bytes()), (2, 0));
    assert!(!frames.shift(1, 3), "not empty");
    assert_eq!((frames.len(), *reading.frame(3).unwrap().head()), (1, 0));
    assert!(frames.waiting_bytes() > 0 && frames.is_vacant(1));
    drop(reading);
    while frames.collect() > 0 {}
    drop(frames);
    pool.check();
    assert_eq!(pool.stats().pages_framed, 0);
}

/// `Ok` beside others that grow and shrink means that this one has grown it, or another one that
/// grew.
#[test]
fn slots_that_are_said_to_grow_do() {
    let pool = pool(8 << 20);
    let frames: Frames<()> = pool.frames(512, 1).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let shrinks = scope.spawn(|| {
            let mut shrinks = 0;
            while !over.load(Ordering::Relaxed) {
                shrinks += i64::from(frames.slots() > 1024 && frames.shrink());
            }
            shrinks
        });
        let mut grows = 0;
        for _ in 0..20_000 {
            grows += i64::from(frames.slots() < 1 << 15 && frames.grow().is_ok());
        }
        over.store(true, Ordering::Relaxed);
        let changes = grows - shrinks.join().unwrap();
        assert_eq!(frames.slots(), 512 << changes, "each `Ok` is a doubling");
    });
    pool.check();
}

/// What a page of `value` is: which slot it is for, and all of it the same.
fn page(value: u64) -> Vec<u8> {
    value.to_le_bytes().repeat(1 + value as usize % 900)
}

fn is_page(bytes: &[u8], head: u64) -> bool {
    bytes == page(head)
}

/// Two threads put, clear, share and collect, one keeps what it shares, one lets the slots grow and
/// grow again.
#[test]
fn slots_grow_and_bytes_are_shared_beside_readers_and_writers() {
    let ops = std::env::var("ZPOOL_STRESS_OPS").map_or(20_000, |ops| ops.parse().unwrap()) / 10;
    let pool = pool(8 << 20);
    let frames: Frames<u64> = pool.frames(1, 2).unwrap();
    let over = AtomicBool::new(false);
    let kept: Vec<SharedBytes> = thread::scope(|scope| {
        let writers = [1_u64, 2].map(|seed| {
            let frames = &frames;
            scope.spawn(move || {
                let mut state = seed;
                for _ in 0..ops {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let value = state >> 33;
                    let slot = value as usize % frames.slots();
                    if value % 5 == 0 {
                        frames.read(0).clear_if(slot, |head| head % 2 == 0);
                    } else if let Ok(filled) = frames.fill(&page(value)) {
                        frames.put(slot, filled, value);
                    } else {
                        frames.read(1).clear_if(slot, |_| true);
                    }
                    frames.collect();
                    // Each looks at another moment, but nothing is ever counted below zero.
                    let (bytes, waiting) = (frames.bytes(), frames.waiting_bytes());
                    assert!(bytes.max(waiting) <= 16 << 20, "{bytes} in slots, {waiting} waiting");
                }
            })
        });
        let keeper = scope.spawn(|| {
            let mut kept: Vec<(u64, SharedBytes)> = Vec::new();
            let mut slot = 0;
            while !over.load(Ordering::Relaxed) {
                slot = (slot + 1) % frames.slots();
                let reading = frames.read(1);
                let Some(frame) = reading.frame(slot) else { continue };
                assert!(frame.bytes().is_none_or(|bytes| is_page(bytes, *frame.head())));
                if kept.len() < 64 {
                    kept.extend(frame.share().map(|shared| (*frame.head(), shared)));
                } else {
                    drop(reading);
                    let (head, shared) = kept.swap_remove(slot % 64);
                    assert!(is_page(&shared, head), "as it was");
                }
            }
            assert!(kept.iter().all(|(head, shared)| is_page(shared, *head)));
            kept.into_iter().map(|(_, shared)| shared).collect()
        });
        let growers = [(); 2].map(|()| {
            scope.spawn(|| {
                for _ in 0..6 {
                    let before = frames.slots();
                    // What waits for a reader that does not come along may take all there is.
                    assert!(frames.grow().is_err() || frames.slots() > before);
                    (0..100).for_each(|_| thread::yield_now());
                }
            })
        });
        let joined = growers.map(|grower| grower.join()).into_iter();
        let joined: Vec<_> = joined.chain(writers.map(|writer| writer.join())).collect();
        over.store(true, Ordering::Relaxed);
        assert!(joined.iter().all(Result::is_ok));
        keeper.join().unwrap()
    });
    pool.check();
    let slots = frames.slots();
    assert!(slots <= 4096 && slots.is_power_of_two());
    for slot in 0..slots {
        frames.read(0).clear_if(slot, |_| true);
    }
    frames.collect();
    assert_eq!((frames.bytes(), frames.is_empty()), (0, true));
    assert!(frames.collect() > 0 || kept.is_empty());
    pool.check();
    drop(kept);
    assert_eq!((frames.waiting_bytes(), frames.heap_bytes(), frames.collect()), (0, 0, 0));
    assert_eq!(pool.stats().pages_framed, 0);
    drop(frames);
    assert_eq!(pool.stats().reserved_bytes, 0);
    pool.trim();
    pool.check();
}

#[test]
fn a_pool_that_goes_before_shared_bytes_leaves_their_pages_alone_to_its_source() {
    let (source, switch) = Faulty::new(Heap::with_region_pages(4096, 8));
    let pool: Pool = Pool::with_source(Config::new(), source).unwrap();
    let handles: Vec<_> = (0..300).map(|nth| pool.alloc(&[1; 3000][nth..]).unwrap()).collect();
    handles.iter().step_by(3).for_each(|handle| pool.free(*handle).unwrap());
    let frames: Frames<()> = pool.frames(2, 1).unwrap();
    fill(&frames, 0, &[1; 6000], ());
    fill(&frames, 1, &[2; 6000], ());
    let shared = share(&frames, 1).unwrap();
    drop(pool);
    assert_eq!(switch.taken(), 4);
    assert_eq!(share(&frames, 0).as_deref(), Some(&[1; 6000][..]));
    drop(frames);
    assert_eq!((switch.taken(), &*shared), (2, &[2; 6000][..]));
    thread::spawn(move || drop(shared)).join().unwrap();
    assert_eq!((switch.taken(), Arc::strong_count(&switch)), (0, 1));
}
