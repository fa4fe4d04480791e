//! Ids: the lowest free one is handed out, and memory for those that nobody has goes back.
#![cfg(not(zcache_loom))]
#![allow(clippy::print_stdout, reason = "a test that the system does not let run says so")]

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tests::oracle::assert_stale;
use tests::pattern::Random;
use tests::setups::{Pages, Setup};
use zpool::{AllocError, Config, Handle, Pool};

const CAP: usize = 16 << 20;
const MANY: usize = 600_000;

fn id(pool: &Pool, handle: Handle) -> u32 {
    pool.id(handle).expect("a handle of this pool")
}

fn capped() -> Pool {
    Pool::new(Config::new().max_bytes(CAP)).unwrap()
}

/// Objects of length 0: ids, and nothing else.
fn nothings(pool: &Pool, count: usize) -> Vec<Handle> {
    (0..count).map(|_| pool.alloc(b"").unwrap()).collect()
}

/// How many objects of 3000 bytes a pool holds at its cap.
fn fills(pool: &Pool) -> usize {
    std::iter::from_fn(|| pool.alloc(&[7; 3000]).ok()).count()
}

#[test]
fn a_new_object_has_the_lowest_id_that_is_free() {
    let pool: Pool = Setup::new(Pages::Mmap).pool();
    let (mut random, mut used, mut objects) = (Random::new(3), BTreeSet::new(), Vec::new());
    for round in 0..8 {
        for _ in 0..4000 {
            if random.below(100) < if round % 2 == 0 { 85 } else { 15 } || objects.is_empty() {
                let handle = pool.alloc(&[1; 40][..random.below(40)]).unwrap();
                let lowest = (0..).find(|id| !used.contains(id));
                assert_eq!(Some(id(&pool, handle)), lowest);
                used.insert(id(&pool, handle));
                objects.push(handle);
            } else {
                let gone = objects.swap_remove(random.below(objects.len()));
                used.remove(&id(&pool, gone));
                pool.free(gone).unwrap();
            }
            assert!(used.last().is_none_or(|highest| *highest < pool.ids()));
        }
        pool.check();
    }
    objects.drain(..).for_each(|handle| pool.free(handle).unwrap());
    pool.check();
    assert!(pool.ids() <= 2 * Pool::<()>::ID_CHUNK * 16, "{} ids", pool.ids());
}

#[test]
fn a_pool_that_held_many_objects_holds_what_a_fresh_one_does() {
    let (pool, fresh) = (capped(), capped());
    let empty = fresh.held_bytes();
    let handles = nothings(&pool, MANY);
    assert!(pool.held_bytes() > empty + MANY * 10, "ids take memory");
    handles.iter().for_each(|handle| pool.free(*handle).unwrap());
    // What the last frees left is taken in by the next objects.
    for _ in 0..10 {
        pool.free(pool.alloc(b"").unwrap()).unwrap();
    }
    let left = pool.held_bytes() - empty;
    assert!(left < CAP / 100, "{left} bytes are left of {MANY} objects");
    assert!(pool.stats().mapped_bytes < 64 << 10 && pool.ids() < 20_000);
    handles.iter().step_by(999).for_each(|handle| assert_stale(&pool, *handle));
    let (now, before) = (fills(&pool), fills(&fresh));
    assert!(now * 100 >= before * 98, "{now} objects in a pool, {before} in a fresh one");
    pool.check();
}

#[test]
fn a_storm_of_frees_gives_back_by_itself() {
    let pool = capped();
    let handles = nothings(&pool, MANY / 4);
    let full = pool.held_bytes();
    handles.iter().for_each(|handle| pool.free(*handle).unwrap());
    assert!(pool.held_bytes() < full / 10, "{} of {full}", pool.held_bytes());
}

/// A few objects in every chunk keep all of them, until they move to where there is room.
#[test]
fn objects_that_move_down_let_the_chunks_above_go() {
    let (pool, fresh) = (capped(), capped());
    let mut handles = nothings(&pool, MANY);
    let mut nth = 0;
    handles.retain(|handle| {
        nth += 1;
        nth % (MANY / 200) == 0 || pool.free(*handle).is_err()
    });
    assert_eq!(handles.len(), 200);
    let (mut calls, mut moved) = (0, 0);
    while let Some(ids) = pool.sparse_ids(100) {
        calls += 1;
        let sparse = |handle: &&mut Handle| ids.contains(&id(&pool, **handle));
        for handle in handles.iter_mut().filter(sparse) {
            let new = pool.alloc(b"").unwrap();
            assert!(id(&pool, new) < ids.start, "there is room below");
            pool.free(std::mem::replace(handle, new)).unwrap();
            moved += 1;
        }
    }
    assert!(calls <= 200 && moved <= 200, "{calls} calls moved {moved} objects");
    let left = pool.held_bytes() - fresh.held_bytes();
    assert!(left < CAP / 100, "{left} bytes are left");
    assert!(handles.iter().all(|handle| pool.contains(*handle)));
    assert!(fills(&pool) * 100 >= fills(&fresh) * 98);
    pool.check();
}

#[test]
fn no_move_is_asked_for_where_nothing_is_to_be_gained() {
    let pool = capped();
    assert_eq!(pool.sparse_ids(10_000), None);
    let handles = nothings(&pool, 50_000);
    assert_eq!(pool.sparse_ids(0), None, "ids are dense");
    // A fifth is free, in every chunk.
    handles.iter().step_by(5).for_each(|handle| pool.free(*handle).unwrap());
    assert_eq!(pool.sparse_ids(10_000), None);
    pool.check();
}

/// Chunks go and come back with new handles only.
#[test]
fn handles_of_every_life_of_a_chunk_stay_stale() {
    let pool = capped();
    let mut dead: Vec<Handle> = Vec::new();
    for round in 0..40 {
        let live = nothings(&pool, 2100);
        let known: BTreeSet<Handle> = live.iter().copied().collect();
        assert_eq!(known.len(), live.len());
        for old in dead.iter().skip(round % 7).step_by(7) {
            assert!(!known.contains(old) && !pool.contains(*old), "round {round}");
        }
        for handle in live.iter().step_by(500) {
            assert_eq!(pool.pin_id(id(&pool, *handle)).unwrap().handle(), *handle);
        }
        live.iter().for_each(|handle| pool.free(*handle).unwrap());
        pool.trim();
        pool.check();
        let ids = live.iter().map(|handle| id(&pool, *handle));
        assert!(ids.step_by(100).all(|id| pool.pin_id(id).is_err()));
        dead.extend(live);
    }
    dead.iter().step_by(301).for_each(|handle| assert_stale(&pool, *handle));
}

#[test]
fn an_id_that_the_caller_is_not_ready_for_goes_back() {
    let pool: Pool<u32> = Setup::new(Pages::Mmap).pool();
    let parts: [&[u8]; 2] = [b"payload", b"trailer"];
    let first = pool.try_alloc_record(1, parts).unwrap();
    let before = pool.stats();
    for offered in [1, 1] {
        let refused = pool.try_alloc_record_at(2, parts, |id| {
            assert_eq!(id, offered);
            false
        });
        assert_eq!(refused, Err((AllocError::NotReady, 2)));
        assert_eq!(pool.alloc_record_parts_at(3, parts, |_| false), Err((AllocError::NotReady, 3)));
    }
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        pool.try_alloc_record_at(4, parts, |_| resume_unwind(Box::new("planned")))
    }));
    assert!(unwound.is_err());
    let after = pool.stats();
    assert_eq!((after.objects, after.failures), (1, before.failures));
    pool.check();
    // `ready` may use the pool, whose locks are free, and its budget.
    let mut inner = None;
    let outer = pool.try_alloc_record_at(5, parts, |offered| {
        inner = Some(pool.alloc_record(6, b"inside").unwrap());
        assert!(pool.id(inner.unwrap()).unwrap() != offered && pool.reserve(100).is_ok());
        pool.trim();
        true
    });
    let ids = [first, outer.unwrap(), inner.unwrap()].map(|handle| pool.id(handle).unwrap());
    assert_eq!(ids, [0, 1, 2]);
    assert_eq!(*pool.pin_id(1).unwrap().record(), 5);
    pool.release(100);
    pool.check();
    // Without room for an id, nobody is asked.
    let full: Pool<u32> = Setup { max_bytes: pool.held_bytes(), ..Setup::new(Pages::Mmap) }.pool();
    while full.try_alloc_record(7, [b"", b""]).is_ok() {}
    let refused = full.try_alloc_record_at(8, [b"", b""], |id| panic!("{id} is no id"));
    assert_eq!(refused, Err((AllocError::OutOfPages, 8)));
}

/// Threads whose objects come in waves over several chunks, beside one who looks for whatever there
/// is.
#[test]
fn chunks_come_and_go_beside_those_who_look() {
    let pool: Pool<u64> = Pool::new(Config::new().max_bytes(CAP)).unwrap();
    let (pool, done) = (&pool, &AtomicBool::new(false));
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3_u64)
            .map(|writer| {
                scope.spawn(move || {
                    let mut random = Random::new(writer);
                    let mut dead: Vec<Handle> = Vec::new();
                    for _ in 0..40 {
                        let count = random.below(3000);
                        let made = (0..count as u64).map(|nth| {
                            let record = writer << 32 | nth;
                            (pool.alloc_record(record, b"").unwrap(), record)
                        });
                        let live: HashMap<Handle, u64> = made.collect();
                        for (handle, record) in &live {
                            assert_eq!(pool.with_record(*handle, |seen| *seen), Ok(*record));
                        }
                        assert!(dead.iter().all(|handle| !pool.contains(*handle)));
                        live.keys().for_each(|handle| pool.free(*handle).unwrap());
                        dead = live.into_keys().collect();
                    }
                })
            })
            .collect();
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                for id in 0..pool.ids() + 2000 {
                    if let Ok(pinned) = pool.pin_id(id) {
                        assert_eq!(pinned.id(), id);
                        assert!(pinned.record() >> 32 < 3, "a record is whole");
                    }
                }
                let _ = (pool.sparse_ids(100), pool.stats());
                pool.trim();
            }
        });
        let ended: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    assert!(pool.is_empty());
    pool.trim();
    let first = Pool::<u64>::ID_CHUNK as usize * 16 * size_of::<(u64, u64)>();
    assert!(pool.stats().mapped_bytes < first, "no chunk is left but the first");
    pool.check();
}

#[cfg(target_os = "linux")]
mod system {
    use tests::limits::{self, in_child};

    use super::*;

    /// A field of this process's status, in bytes.
    fn status(name: &str) -> usize {
        usize::try_from(limits::status(name)).unwrap()
    }

    /// A pool whose source makes room for 4096 pages, in a process that locks its memory. `None`:
    /// this system does not let us.
    fn locked() -> Option<Pool> {
        if !limits::lock_memory(true) {
            println!("not tested: this system locks no memory for this user");
            return None;
        }
        let source = zpool::source::MmapOptions::new().max_pages(4096);
        let config = Config::new().max_bytes(CAP).source(zpool::SourceKind::Mmap(source));
        Some(Pool::new(config).unwrap())
    }

    #[test]
    fn the_system_gets_back_what_the_ledger_says() {
        in_child("system::the_system_gets_back_what_the_ledger_says", || {
            let pool = capped();
            let mut handles: Vec<Handle> = Vec::with_capacity(MANY);
            handles.resize(MANY, pool.alloc(b"").unwrap());
            let (before, held) = (status("VmRSS:"), pool.held_bytes());
            handles.iter_mut().for_each(|handle| *handle = pool.alloc(b"").unwrap());
            // Objects of length 0 have lengths that are never written.
            let lengths = MANY * size_of::<u16>();
            let full = (status("VmRSS:") - before, pool.held_bytes() - held - lengths);
            assert!(full.0.abs_diff(full.1) < 1 << 20, "resident and held: {full:?}");
            handles.iter().for_each(|handle| pool.free(*handle).unwrap());
            let left = status("VmRSS:").saturating_sub(before);
            assert!(left < 1 << 20, "{left} bytes are resident");
        });
    }

    /// Memory that a program has locked does not go back before Linux 5.18: it stays charged, and
    /// serves again.
    #[test]
    fn locked_memory_is_counted_and_used_again() {
        in_child("system::locked_memory_is_counted_and_used_again", || {
            let Some(pool) = locked() else { return };
            let mut handles: Vec<Handle> = vec![pool.alloc(b"").unwrap(); MANY / 2];
            let (before, held) = (status("VmRSS:"), pool.held_bytes());
            let mut full = 0;
            for round in 0..3 {
                handles.iter_mut().for_each(|handle| *handle = pool.alloc(b"").unwrap());
                let now = (status("VmRSS:") - before, pool.held_bytes() - held);
                assert!(now.0.abs_diff(now.1) < 1 << 20, "resident and held: {now:?}");
                assert!(round == 0 || now.1 == full, "{now:?} after {full}");
                full = now.1;
                handles.iter().for_each(|handle| pool.free(*handle).unwrap());
                let left = (status("VmRSS:").saturating_sub(before), pool.held_bytes() - held);
                assert!(left.0 <= left.1 + (1 << 20), "what stays is charged: {left:?}");
                assert!(left.1 > full / 2 || left.1 < full / 8, "{left:?} of {full}");
                handles.iter().step_by(999).for_each(|handle| assert_stale(&pool, *handle));
                pool.check();
            }
        });
    }

    #[test]
    fn memory_that_is_locked_no_more_goes_back() {
        in_child("system::memory_that_is_locked_no_more_goes_back", || {
            let Some(pool) = locked() else { return };
            let pages: Vec<Handle> = (0..2500).map(|_| pool.alloc(&[7; 4096]).unwrap()).collect();
            let ids = nothings(&pool, MANY / 4);
            pages.iter().chain(&ids).for_each(|handle| pool.free(*handle).unwrap());
            pool.trim();
            let kept = pool.stats().mapped_bytes;
            assert!(kept > MANY / 4 * 8 || kept == 0, "what is locked stays charged: {kept} bytes");
            // SAFETY: unlocking changes no byte.
            assert_eq!(unsafe { libc::munlockall() }, 0);
            pool.trim();
            assert_eq!(pool.stats().mapped_bytes, 0, "nothing uses it");
            pool.check();
            pages.iter().chain(&ids).step_by(99).for_each(|handle| assert_stale(&pool, *handle));
            nothings(&pool, MANY / 4);
            assert!(ids.iter().all(|handle| !pool.contains(*handle)), "handles stay stale");
            pool.check();
        });
    }
}
