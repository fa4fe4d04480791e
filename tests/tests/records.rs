//! Records: each is dropped exactly once, outside every lock, whatever its `Drop` does.
#![cfg(not(zcache_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tests::records::{Tally, Tracked};
use tests::setups::{Pages, Setup};
use zpool::{AllocError, Handle, Pool};

const SOURCES: [Pages; 4] = [Pages::Heap(1), Pages::Mmap, Pages::Ranges, Pages::Memfd];

#[test]
fn a_record_is_dropped_once_in_every_path() {
    for pages in SOURCES {
        let setup = Setup { max_pages: 8, max_object: 4096, ..Setup::new(pages) };
        let (pool, tally): (Pool<Tracked>, _) = (setup.pool(), Tally::default());
        let alloc = |len: usize| pool.alloc_record(tally.issue(), &vec![1; len]);
        // Freed.
        pool.free(alloc(100).unwrap()).unwrap();
        assert_eq!(tally.alive(), 0);
        // Freed under two guards and under an exclusive one.
        let handle = alloc(100).unwrap();
        let (one, two) = (pool.map(handle).unwrap(), pool.map(handle).unwrap());
        pool.free(handle).unwrap();
        drop(one);
        assert_eq!((tally.alive(), two.record().number()), (1, 1), "it outlives every guard");
        drop(two);
        assert_eq!(tally.alive(), 0);
        let handle = alloc(100).unwrap();
        let map = pool.map_mut(handle).unwrap();
        pool.free(handle).unwrap();
        assert_eq!((tally.alive(), map.record().number()), (1, 2));
        drop(map);
        assert_eq!(tally.alive(), 0);
        // Freed inside `with_record`.
        let handle = alloc(0).unwrap();
        let seen = pool.with_record(handle, |record| {
            pool.free(handle).unwrap();
            assert_eq!(tally.alive(), 1);
            record.number()
        });
        assert_eq!((seen, tally.alive()), (Ok(3), 0));
        // Kept by map_write, whatever becomes of it.
        let handle = alloc(100).unwrap();
        pool.map_write(handle, 3000).unwrap().finish().unwrap();
        pool.map_write(handle, 0).unwrap().cancel();
        assert_eq!((tally.alive(), pool.with_record(handle, Tracked::number)), (1, Ok(4)));
        // Refused.
        assert_eq!(alloc(4097), Err(AllocError::TooLarge(4097)));
        while alloc(4096).is_ok() {}
        assert_eq!(
            pool.alloc_record_with(tally.issue(), 4096, |_| ()),
            Err(AllocError::OutOfPages)
        );
        assert_eq!(tally.alive(), pool.len());
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            pool.alloc_record_with(tally.issue(), 0, |_| resume_unwind(Box::new("planned")))
        }));
        assert!(unwound.is_err() && tally.alive() == pool.len());
        // Moved: the record stays.
        pool.compact(usize::MAX);
        pool.check();
        // And the rest with the pool.
        drop(pool);
        tally.assert_each_dropped_once();
    }
}

/// Panics when it is dropped, if it is told to.
#[derive(Debug)]
struct Explosive(Arc<AtomicUsize>, bool);

impl Drop for Explosive {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        if self.1 {
            resume_unwind(Box::new("planned"));
        }
    }
}

#[test]
fn a_record_that_panics_when_dropped_leaves_a_usable_pool() {
    for pages in SOURCES {
        let pool: Pool<Explosive> = Setup::new(pages).pool();
        let drops = Arc::new(AtomicUsize::new(0));
        let alloc =
            |bytes: &[u8]| pool.alloc_record(Explosive(drops.clone(), true), bytes).unwrap();
        let calm = pool.alloc_record(Explosive(drops.clone(), false), b"calm").unwrap();
        let paths: [&dyn Fn(Handle); 5] = [
            &|handle| pool.free(handle).unwrap(),
            &|handle| {
                let map = pool.map(handle).unwrap();
                pool.free(handle).unwrap();
                drop(map);
            },
            &|handle| {
                let map = pool.map_mut(handle).unwrap();
                pool.free(handle).unwrap();
                drop(map);
            },
            &|handle| {
                let map = pool.map_write(handle, 5000).unwrap();
                pool.free(handle).unwrap();
                drop(map);
            },
            &|handle| pool.with_record(handle, |_| pool.free(handle).unwrap()).unwrap(),
        ];
        for (at, path) in paths.iter().enumerate() {
            for bytes in [&[][..], &[1; 3000]] {
                let before = drops.load(Ordering::Relaxed);
                let handle = alloc(bytes);
                assert!(catch_unwind(AssertUnwindSafe(|| path(handle))).is_err());
                assert_eq!(drops.load(Ordering::Relaxed), before + 1, "path {at}");
                pool.check();
                let stats = pool.stats();
                assert_eq!((stats.objects, stats.payload_bytes), (1, 4), "path {at}");
            }
        }
        assert_eq!(*pool.map(calm).unwrap(), *b"calm");
    }
}

#[test]
fn a_pool_dropped_with_records_that_panic_drops_the_others_too() {
    let pool: Pool<Explosive> = Setup::new(Pages::Mmap).pool();
    let drops = Arc::new(AtomicUsize::new(0));
    for at in 0..20 {
        pool.alloc_record(Explosive(drops.clone(), at == 7), b"object").unwrap();
    }
    assert!(catch_unwind(AssertUnwindSafe(|| drop(pool))).is_err());
    assert_eq!(drops.load(Ordering::Relaxed), 20, "as a Vec does");
}

/// Calls back into its pool when it is dropped.
#[derive(Debug)]
struct Caller {
    pool: Weak<Pool<Caller>>,
    other: Arc<Mutex<Option<Handle>>>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        // Everything that takes a lock of the pool's, on the class that this object was of.
        let none = || Caller { pool: Weak::new(), other: Arc::default() };
        let handle = pool.alloc_record(none(), &[3; 700]).unwrap();
        drop(pool.map(handle).unwrap());
        pool.map_write(handle, 701).unwrap().finish().unwrap();
        pool.free(handle).unwrap();
        let other = self.other.lock().unwrap().take();
        other.into_iter().for_each(|other| pool.free(other).unwrap());
        pool.compact(usize::MAX);
        pool.trim();
        let _ = pool.stats();
    }
}

#[test]
fn a_record_may_call_back_into_the_pool_when_dropped() {
    for pages in SOURCES {
        let pool: Arc<Pool<Caller>> = Arc::new(Setup::new(pages).pool());
        let others: Vec<_> = (0..4).map(|_| Arc::new(Mutex::new(None))).collect();
        let alloc = |other: &Arc<Mutex<Option<Handle>>>| {
            let record = Caller { pool: Arc::downgrade(&pool), other: Arc::clone(other) };
            pool.alloc_record(record, &[1; 700]).unwrap()
        };
        // Each one frees the next.
        let handles: Vec<Handle> = others.iter().map(alloc).collect();
        for (other, next) in others.iter().zip(&handles[1..]) {
            *other.lock().unwrap() = Some(*next);
        }
        let map = pool.map(handles[0]).unwrap();
        pool.free(handles[0]).unwrap();
        assert_eq!(pool.len(), 3);
        drop(map);
        assert_eq!((pool.len(), pool.stats().payload_bytes), (0, 0));
        pool.check();
    }
}
