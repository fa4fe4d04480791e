//! Guards: what excludes what, and what is left when one goes by a panic, or never.
#![cfg(not(zcache_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::thread;

use tests::oracle::assert_stale;
use tests::pattern;
use tests::records::{Tally, Tracked};
use tests::setups::{Pages, Setup};
use zpool::{AllocError, Handle, MapError, Pool, ReadError, WriteError};

const SOURCES: [Pages; 6] =
    [Pages::Heap(1), Pages::Mmap, Pages::Huge, Pages::Ranges, Pages::Memfd, Pages::Ram];

fn each_pool(mut f: impl FnMut(&Pool)) {
    SOURCES.iter().for_each(|pages| f(&Setup::new(*pages).pool()));
}

/// Unwinds without the panic hook's message.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("planned"))
}

fn panics<R>(f: impl FnOnce() -> R) {
    assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
}

fn read(pool: &Pool, handle: Handle) -> Vec<u8> {
    pool.map(handle).unwrap().to_vec()
}

const BUSY: WriteError = WriteError::Map(MapError::Busy);

#[test]
fn readers_exclude_writers() {
    each_pool(|pool| {
        let handle = pool.alloc(&[1; 5000]).unwrap();
        let (one, two) = (pool.map(handle).unwrap(), pool.map(handle).unwrap());
        for _ in 0..2 {
            assert_eq!(pool.map_mut(handle).err(), Some(MapError::Busy));
            assert_eq!(pool.map_write(handle, 1).err(), Some(BUSY));
        }
        drop(one);
        assert_eq!(pool.map_mut(handle).err(), Some(MapError::Busy));
        assert_eq!(pool.read_into(handle, &mut [0; 5000]), Ok(5000));
        drop(two);
        assert!(pool.map_mut(handle).is_ok());
        assert!(pool.map_write(handle, 1).is_ok());
        assert_eq!(pool.stats().failures.busy, 5);
    });
}

#[test]
fn a_writer_excludes_everybody() {
    each_pool(|pool| {
        let handle = pool.alloc(&[1; 5000]).unwrap();
        let all_busy = || {
            assert_eq!(pool.map(handle).err(), Some(MapError::Busy));
            assert_eq!(pool.map_mut(handle).err(), Some(MapError::Busy));
            assert_eq!(pool.map_write(handle, 1).err(), Some(BUSY));
            let busy = Err(ReadError::Map(MapError::Busy));
            assert_eq!(pool.read_into(handle, &mut [0; 5000]), busy);
            assert_eq!(pool.with_record(handle, |()| ()), Err(MapError::Busy));
            assert_eq!(pool.object_len(handle), Err(MapError::Busy));
            assert!(pool.contains(handle));
            pool.check();
        };
        let map = pool.map_mut(handle).unwrap();
        all_busy();
        drop(map);
        let map = pool.map_write(handle, 10).unwrap();
        all_busy();
        drop(map);
        assert_eq!(read(pool, handle), [0; 10]);
        // A refused map_write for lack of room, or of sense, lets go again.
        assert!(pool.map_write(handle, usize::MAX).is_err());
        assert!(pool.map_mut(handle).is_ok());
    });
}

#[test]
fn one_thread_may_map_many_objects_at_once_in_any_way() {
    each_pool(|pool| {
        let handles: Vec<Handle> =
            (0..30).map(|seed| pool.alloc(&pattern::bytes(seed, 3000)).unwrap()).collect();
        let readers: Vec<_> =
            handles[..10].iter().map(|handle| pool.map(*handle).unwrap()).collect();
        let mut writers: Vec<_> =
            handles[10..20].iter().map(|handle| pool.map_mut(*handle).unwrap()).collect();
        let mut replacers: Vec<_> =
            handles[20..].iter().map(|handle| pool.map_write(*handle, 2000).unwrap()).collect();
        (100..).zip(&mut writers).for_each(|(seed, map)| pattern::fill(seed, map));
        (200..).zip(&mut replacers).for_each(|(seed, map)| pattern::fill(seed, map));
        (0..).zip(&readers).for_each(|(seed, map)| assert!(**map == pattern::bytes(seed, 3000)));
        pool.compact(usize::MAX);
        pool.check();
        drop((readers, writers, replacers));
        for (at, handle) in (0..).zip(handles) {
            let expected = match at {
                0..10 => pattern::bytes(at, 3000),
                10..20 => pattern::bytes(90 + at, 3000),
                _ => pattern::bytes(180 + at, 2000),
            };
            assert!(read(pool, handle) == expected);
        }
    });
}

#[test]
fn the_1022nd_map_is_an_error_and_no_spin() {
    let pool: Pool = Setup::new(Pages::Mmap).pool();
    let handle = pool.alloc(b"popular").unwrap();
    let mut maps: Vec<_> = (0..1021).map(|_| pool.map(handle).unwrap()).collect();
    assert_eq!(pool.map(handle).err(), Some(MapError::TooManyMaps));
    let full = Err(ReadError::Map(MapError::TooManyMaps));
    assert_eq!(pool.read_into(handle, &mut [0; 7]), full);
    assert_eq!(pool.with_record(handle, |()| ()), Err(MapError::TooManyMaps));
    assert_eq!(pool.map_mut(handle).err(), Some(MapError::Busy));
    assert_eq!(pool.stats().failures.too_many_maps, 3);
    assert!(maps.iter().all(|map| **map == *b"popular"));
    maps.pop();
    drop(pool.map(handle).unwrap());
    pool.free(handle).unwrap();
    assert_stale(&pool, handle);
    assert!(maps.iter().all(|map| **map == *b"popular"));
    assert_eq!(pool.stats().pinned_after_free, 1);
    pool.check();
    drop(maps);
    assert_eq!((pool.stats().pinned_after_free, pool.stats().payload_bytes), (0, 0));
    pool.check();
}

#[test]
fn a_freed_object_lives_until_its_last_guard() {
    each_pool(|pool| {
        let handle = pool.alloc(&[7; 3000]).unwrap();
        let map = pool.map(handle).unwrap();
        pool.free(handle).unwrap();
        assert_stale(pool, handle);
        // Newcomers and compaction leave its bytes alone.
        let others: Vec<Handle> = (0..50).map(|_| pool.alloc(&[8; 3000]).unwrap()).collect();
        others.iter().step_by(2).for_each(|handle| pool.free(*handle).unwrap());
        pool.compact(usize::MAX);
        assert_eq!(*map, [7; 3000]);
        pool.check();
        drop(map);
        assert_eq!(pool.stats().payload_bytes, 25 * 3000);

        for mode in 0..2 {
            let handle = pool.alloc(&[7; 3000]).unwrap();
            let free = || pool.free(handle).unwrap();
            if mode == 0 {
                let mut map = pool.map_mut(handle).unwrap();
                free();
                map.fill(9);
            } else {
                let mut map = pool.map_write(handle, 4000).unwrap();
                free();
                map.fill(9);
            }
            assert_stale(pool, handle);
            assert_eq!(pool.stats().payload_bytes, 25 * 3000);
            pool.check();
        }
    });
}

/// Each way of losing a guard: `mem::forget`, and a thread that never comes back to drop it.
#[test]
fn a_forgotten_guard_pins_that_one_object_and_nothing_else() {
    for pages in SOURCES {
        let tally = Tally::default();
        let pool: Pool<Tracked> = Setup::new(pages).pool();
        let alloc = || pool.alloc_record(tally.issue(), &[5; 1000]).unwrap();
        let handles: Vec<Handle> = (0..200).map(|_| alloc()).collect();
        let forgotten = [handles[0], handles[50], handles[100], handles[150]];
        std::mem::forget(pool.map(forgotten[0]).unwrap());
        std::mem::forget(pool.map_mut(forgotten[1]).unwrap());
        std::mem::forget(pool.map_write(forgotten[2], 2000).unwrap());
        std::mem::forget(pool.map(forgotten[3]).unwrap());
        pool.check();
        assert_eq!(*pool.map(forgotten[0]).unwrap(), [5; 1000], "shared with the lost one");
        assert_eq!(pool.map_mut(forgotten[0]).err(), Some(MapError::Busy));
        assert_eq!(pool.map(forgotten[1]).err(), Some(MapError::Busy));
        assert_eq!(pool.map(forgotten[2]).err(), Some(MapError::Busy));
        pool.free(forgotten[3]).unwrap();
        assert_eq!(pool.stats().pinned_after_free, 1);
        // Everything else moves and goes.
        for handle in handles.iter().filter(|handle| !forgotten.contains(handle)) {
            pool.free(*handle).unwrap();
        }
        pool.compact(usize::MAX);
        pool.trim();
        pool.check();
        assert_eq!((pool.len(), tally.alive()), (3, 4));
        let held: usize = pool.stats().classes.iter().map(|class| class.pages).sum();
        assert!(held <= 4 * 8, "{held} pages for four objects and a place");
        assert_eq!(*pool.map(forgotten[0]).unwrap(), [5; 1000]);
        drop(pool);
        tally.assert_each_dropped_once();
    }
}

#[test]
fn a_thread_that_dies_while_it_maps_leaves_a_usable_pool() {
    each_pool(|pool| {
        let handles: Vec<Handle> = (0..3).map(|_| pool.alloc(&[1; 5000]).unwrap()).collect();
        thread::scope(|scope| {
            for (mode, handle) in handles.iter().copied().enumerate() {
                let died = scope.spawn(move || {
                    let _shared = (mode == 0).then(|| pool.map(handle).unwrap());
                    let mut alone = (mode == 1).then(|| pool.map_mut(handle).unwrap());
                    let mut fresh = (mode == 2).then(|| pool.map_write(handle, 6000).unwrap());
                    alone.iter_mut().for_each(|map| map[..2500].fill(2));
                    fresh.iter_mut().for_each(|map| map.fill(3));
                    panic_quietly();
                });
                assert!(died.join().is_err());
            }
        });
        assert_eq!(read(pool, handles[0]), [1; 5000]);
        assert_eq!(read(pool, handles[1]), [[2; 2500], [1; 2500]].concat(), "written so far");
        assert_eq!(read(pool, handles[2]), [1; 5000], "the old object stays");
        handles.iter().for_each(|handle| drop(pool.map_mut(*handle).unwrap()));
        pool.check();
    });
}

#[test]
fn a_panic_in_alloc_with_stores_nothing() {
    each_pool(|pool| {
        for len in [0, 1, 100, 5000] {
            panics(|| {
                pool.alloc_with(len, |bytes| {
                    bytes.fill(1);
                    panic_quietly();
                })
            });
            assert!(pool.is_empty());
            pool.check();
            let slots: usize = pool.stats().classes.iter().map(|class| class.inuse).sum();
            assert_eq!(slots, 0, "its place went back");
        }
        let handle = pool.alloc(b"later").unwrap();
        assert_eq!(read(pool, handle), b"later");
        assert_eq!(pool.stats().handle_slots, 1, "and its slot");
    });
}

/// A guard made by a destructor that runs during a panic is no less a guard.
#[test]
fn a_map_write_made_while_unwinding_replaces() {
    struct Writes<'p>(&'p Pool, Handle);
    impl Drop for Writes<'_> {
        fn drop(&mut self) {
            self.0.map_write(self.1, 3).unwrap().copy_from_slice(b"new");
        }
    }
    each_pool(|pool| {
        let handle = pool.alloc(b"old one").unwrap();
        panics(|| {
            let _writes = Writes(pool, handle);
            panic_quietly()
        });
        assert_eq!(read(pool, handle), b"new");
    });
}

#[test]
fn closures_may_call_back_into_the_pool() {
    each_pool(|pool| {
        let mut inner = None;
        let outer = pool
            .alloc_with(5000, |bytes| {
                inner = pool.alloc_with(5000, |bytes| bytes.fill(2)).ok();
                bytes.copy_from_slice(&pool.map(inner.unwrap()).unwrap());
                pool.compact(usize::MAX);
                pool.trim();
            })
            .unwrap();
        assert_eq!(read(pool, outer), [2; 5000]);
        let seen = pool.with_record(outer, |()| {
            pool.free(outer).unwrap();
            assert_stale(pool, outer);
            read(pool, inner.unwrap())
        });
        assert_eq!(seen.unwrap(), [2; 5000]);
        assert_eq!((pool.len(), pool.stats().pinned_after_free), (1, 0));
        pool.check();
    });
}

/// No call waits for a guard: a second thread gets its answer while the first one holds.
#[test]
fn nobody_waits_for_a_guard() {
    each_pool(|pool| {
        let handle = pool.alloc(&[1; 5000]).unwrap();
        let held = pool.map_mut(handle).unwrap();
        let (send, receive) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                let busy = pool.map(handle).err();
                let other = pool.alloc(&[2; 5000]).unwrap();
                pool.free(handle).unwrap();
                pool.free(other).unwrap();
                pool.compact(usize::MAX);
                pool.trim();
                send.send((busy, pool.stats().objects)).unwrap();
            });
            let answer = receive.recv_timeout(tests::callbacks::DEADLINE);
            assert_eq!(answer, Ok((Some(MapError::Busy), 0)));
            drop(held);
        });
        pool.check();
    });
}

/// At a cap that leaves no room for a copy, a map says so and `read_into` still reads.
#[test]
fn a_copy_that_does_not_fit_is_an_error_and_read_into_needs_none() {
    for pages in [Pages::Heap(1), Pages::Memfd, Pages::Ram] {
        let pool: Pool = Setup::new(pages).pool();
        let handle = pool.alloc(&pattern::bytes(1, 60_000)).unwrap();
        pool.trim();
        pool.set_max_bytes(pool.held_bytes() + 50_000);
        assert_eq!(pool.map(handle).err(), Some(MapError::OutOfMemory), "{pages:?}");
        assert_eq!(pool.map_mut(handle).err(), Some(MapError::OutOfMemory));
        let refused = pool.map_write(handle, 60_000).err();
        assert_eq!(refused, Some(WriteError::Alloc(AllocError::OutOfPages)));
        assert_eq!(pool.alloc_with(60_000, |_| ()), Err(AllocError::OutOfPages));
        let mut to = vec![0; 60_000];
        assert_eq!(pool.read_into(handle, &mut to), Ok(60_000));
        assert!(to == pattern::bytes(1, 60_000));
        assert!(pool.stats().failures.no_scratch >= 2);
        pool.set_max_bytes(usize::MAX);
        assert!(pool.map_mut(handle).is_ok(), "nothing stayed locked");
        pool.check();
    }
}
