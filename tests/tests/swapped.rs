//! Values that are read without a lock and replaced whole, as their users see them. All tests of
//! this process share one collector, so each waits until the others let its versions end.
#![cfg(not(zcache_loom))]

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use zpool::{AllocError, Config, Pool, Swapped};

fn pool(max_bytes: usize) -> Pool {
    Pool::new(Config::new().max_bytes(max_bytes)).unwrap()
}

/// Collects until `done`, for ten minutes at most.
fn until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(600);
    while !done() {
        assert!(Instant::now() < end, "versions that nobody reads end");
        thread::yield_now();
    }
}

fn settle<T: Send + Sync>(value: &Swapped<T>) {
    until(|| value.collect() == 0);
}

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn dropped(count: &AtomicUsize) -> usize {
    count.load(Ordering::Relaxed)
}

#[test]
fn readers_see_whole_values_that_only_go_forward() {
    const LAST: u64 = 3000;
    let pool = pool(8 << 20);
    let start = pool.held_bytes();
    let value = pool.swapped(vec![0_u64; 64], 512).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while last < LAST {
                    let seen = value.read(|all| {
                        assert!(all.iter().all(|each| *each == all[0]), "whole");
                        all[0]
                    });
                    assert!(seen >= last, "a newer value is not taken back");
                    last = seen;
                }
            });
        }
        for version in 1..=LAST {
            // The cap may refuse a version while others wait for a reader that has no processor.
            until(|| value.replace(vec![version; 64], 512).is_ok());
        }
    });
    settle(&value);
    assert_eq!(pool.held_bytes() - start, Swapped::<Vec<u64>>::fixed_bytes() + 512);
    drop(value);
    assert_eq!(pool.held_bytes(), start);
    pool.check();
}

#[test]
fn each_of_many_replacements_at_once_ends_once() {
    let (pool, count) = (pool(8 << 20), Arc::new(AtomicUsize::new(0)));
    let value = pool.swapped(Counted(Arc::clone(&count)), 0).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    value.replace(Counted(Arc::clone(&count)), 0).unwrap();
                }
            });
        }
    });
    settle(&value);
    assert_eq!(dropped(&count), 2000);
    drop(value);
    assert_eq!(dropped(&count), 2001);
}

#[test]
fn a_stalled_reader_keeps_versions_charged_until_the_cap_refuses_more() {
    let pool = pool(4 << 20);
    let count = Arc::new(AtomicUsize::new(0));
    let made = || Counted(Arc::clone(&count));
    let value = pool.swapped(made(), 100 << 10).unwrap();
    let (came, leaves) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            value.read(|_| {
                came.wait();
                leaves.wait();
            });
        });
        came.wait();
        let mut replaced = 0;
        let refused = loop {
            match value.replace(made(), 100 << 10) {
                Ok(()) => replaced += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused, AllocError::OutOfPages);
        assert!((20..41).contains(&replaced), "{replaced} versions of 100 KiB in 4 MiB");
        assert_eq!((value.collect(), dropped(&count)), (replaced, 1), "all but the refused wait");
        assert!(value.bytes() > replaced * (100 << 10));
        leaves.wait();
        settle(&value);
        assert_eq!(dropped(&count), replaced + 1);
        assert_eq!(value.replace(made(), 100 << 10), Ok(()), "there is room again");
    });
}

#[test]
fn the_pool_and_the_value_may_go_while_versions_wait() {
    let count = Arc::new(AtomicUsize::new(0));
    let other_pool = pool(1 << 20);
    let other = other_pool.swapped((), 0).unwrap();
    other.read(|()| {
        let pool = pool(1 << 20);
        let value = pool.swapped(Counted(Arc::clone(&count)), 0).unwrap();
        value.replace(Counted(Arc::clone(&count)), 0).unwrap();
        drop(pool);
        assert_eq!(dropped(&count), 0);
        value.read(|_| ());
        drop(value);
        assert_eq!(dropped(&count), 1, "what is current ends at once, beside readers of others");
    });
    // Somebody's calls for some other value bring the end.
    until(|| {
        other.replace((), 0).unwrap();
        dropped(&count) == 2
    });
}

#[test]
fn a_thread_that_ends_leaves_its_versions_to_others() {
    let (pool, count) = (pool(1 << 20), Arc::new(AtomicUsize::new(0)));
    let value = pool.swapped(Counted(Arc::clone(&count)), 0).unwrap();
    thread::scope(|scope| {
        value.read(|_| {
            let writer = scope.spawn(|| value.replace(Counted(Arc::clone(&count)), 0).unwrap());
            writer.join().unwrap();
            assert_eq!((value.collect(), dropped(&count)), (1, 0));
        });
    });
    settle(&value);
    assert_eq!(dropped(&count), 1);
}

/// Reads and replaces when its thread ends, perhaps after the thread's handle has gone.
struct AtTheEnd(Option<Arc<Swapped<u32>>>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        let Some(value) = self.0.take() else { return };
        let seen = value.read(|value| *value);
        value.replace(seen + 1, 0).unwrap();
        assert_eq!(value.read(|value| *value), seen + 1);
    }
}

#[test]
fn thread_locals_that_end_may_read_and_replace() {
    thread_local! {
        static EARLY: RefCell<AtTheEnd> = const { RefCell::new(AtTheEnd(None)) };
        static LATE: RefCell<AtTheEnd> = const { RefCell::new(AtTheEnd(None)) };
    }
    let pool = pool(1 << 20);
    let value = Arc::new(pool.swapped(0_u32, 0).unwrap());
    for round in 1..=20 {
        let inside = Arc::clone(&value);
        let thread = thread::spawn(move || {
            // One thread-local is there before the thread's handle, and one is made after it. They
            // are dropped in some order.
            EARLY.with(|end| end.borrow_mut().0 = Some(Arc::clone(&inside)));
            inside.read(|_| ());
            LATE.with(|end| end.borrow_mut().0 = Some(inside));
        });
        thread.join().unwrap();
        assert_eq!(value.read(|value| *value), 2 * round);
    }
    settle(&value);
    assert_eq!(value.bytes(), Swapped::<u32>::fixed_bytes());
    assert_eq!(Arc::strong_count(&value), 1);
}

struct Panics;

impl Drop for Panics {
    fn drop(&mut self) {
        panic!("in a drop");
    }
}

#[test]
fn a_panic_in_the_drop_of_a_value_is_swallowed_and_its_bytes_go_back() {
    let pool = pool(1 << 20);
    let start = pool.held_bytes();
    let value = pool.swapped(Panics, 0).unwrap();
    value.replace(Panics, 0).unwrap();
    settle(&value);
    assert_eq!(value.bytes(), Swapped::<Panics>::fixed_bytes());
    drop(value);
    assert_eq!(pool.held_bytes(), start);
}

#[test]
fn a_reader_that_panics_has_left() {
    let (pool, refuse) = (pool(1 << 20), AtomicBool::new(true));
    let value = pool.swapped(1, 0).unwrap();
    let read = || value.read(|_| assert!(!refuse.load(Ordering::Relaxed), "a reader's own"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).is_err());
    value.replace(2, 0).unwrap();
    settle(&value);
    assert_eq!(value.read(|value| *value), 2);
}

/// Whose drop replaces another value.
struct Chained(Arc<Swapped<u32>>);

impl Drop for Chained {
    fn drop(&mut self) {
        self.0.replace(self.0.read(|value| value + 1), 0).unwrap();
    }
}

#[test]
fn the_drop_of_a_value_may_read_and_replace_others() {
    let pool = pool(1 << 20);
    let other = Arc::new(pool.swapped(0, 0).unwrap());
    let value = pool.swapped(Chained(Arc::clone(&other)), 0).unwrap();
    for _ in 0..100 {
        value.replace(Chained(Arc::clone(&other)), 0).unwrap();
        settle(&value);
    }
    drop(value);
    settle(&other);
    assert_eq!(other.read(|value| *value), 101);
    assert_eq!(other.bytes(), Swapped::<u32>::fixed_bytes());
}
