//! A cache that is used by a thread that ends, after the thread's other thread-locals are gone: it
//! works like in any thread.
#![cfg(not(zcache_loom))]

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;

use tests::pattern;
use zcache::policy::Priority;
use zcache::{Cache, Config, InsertOptions, RemovalCause};

const CAPACITY: usize = 1 << 20;
const PAGE: usize = 4096;
/// More pages than there is room for.
const KEYS: u64 = 1000;

/// Does its work when it is dropped.
struct Late(Box<dyn FnOnce()>);

struct Slot(Option<Late>);

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(Late(work)) = self.0.take() {
            work();
        }
    }
}

thread_local! {
    static LATE: RefCell<Slot> = const { RefCell::new(Slot(None)) };
}

/// Has a thread do `early`, and then `late` as it ends: the thread-local whose drop does that was
/// touched first, so it goes last.
fn in_thread_that_ends(
    early: impl FnOnce() + Send + 'static,
    late: impl FnOnce() + Send + 'static,
) {
    let ends = thread::spawn(move || {
        LATE.with(|slot| slot.borrow_mut().0 = Some(Late(Box::new(late))));
        early();
    });
    ends.join().unwrap();
}

fn full() -> Arc<Cache<u64>> {
    let cache = Cache::new(Config::new(CAPACITY).max_page(PAGE)).unwrap();
    (0..KEYS).for_each(|key| cache.insert(key, &pattern::bytes(key, PAGE)).unwrap());
    assert!(cache.stats().removals.evicted > 0, "it is full");
    Arc::new(cache)
}

#[test]
fn an_insert_in_a_thread_that_ends_evicts_like_any_other() {
    let cache = full();
    let (early, late, seen) = (Arc::clone(&cache), Arc::clone(&cache), Arc::new(Mutex::new(0)));
    let inserted = Arc::clone(&seen);
    in_thread_that_ends(
        move || (KEYS..2 * KEYS).for_each(|key| early.insert(key, &[key as u8; 900]).unwrap()),
        move || {
            for key in 2 * KEYS..3 * KEYS {
                let page = pattern::bytes(key, PAGE);
                let stored = late.insert(key, &page).is_ok();
                *inserted.lock().unwrap() += u64::from(stored && late.get(&key).unwrap() == page);
            }
        },
    );
    assert_eq!(*seen.lock().unwrap(), KEYS, "each page was stored and found: {}", cache.stats());
    assert_eq!(cache.stats().rejected.no_room, 0);
    cache.check();
}

#[test]
fn every_call_works_in_a_thread_that_ends() {
    let cache = full();
    let (early, late, done) = (Arc::clone(&cache), Arc::clone(&cache), Arc::new(Mutex::new(0)));
    let count = Arc::clone(&done);
    in_thread_that_ends(
        move || drop(early.get(&(KEYS - 1))),
        move || {
            let load = |page: &mut Vec<u8>| {
                page.resize(PAGE, 3);
                Ok::<(), io::Error>(())
            };
            assert_eq!(late.get_or_insert_with(&(9 * KEYS), load).unwrap(), vec![3; PAGE]);
            let lease = late.get_or_lease(&(9 * KEYS + 1)).lease().unwrap();
            late.insert_if_valid(lease, &[4; PAGE]).unwrap();
            assert!(late.remove(&(9 * KEYS)) && late.take(&(9 * KEYS + 1)).is_some());
            late.insert_with_options(5, &[5; PAGE], InsertOptions::new().priority(Priority::High))
                .unwrap();
            let mut to = vec![0; PAGE];
            (0..9).for_each(|_| assert_eq!(late.get_into(&5, &mut to), Ok(Some(PAGE))));
            assert_eq!(late.get_many([&5]).len(), 1);
            late.retain(|key| key % 2 == 1);
            let _ = late.maintain(1 << 16);
            late.trim();
            late.check();
            late.clear();
            *count.lock().unwrap() += 1;
        },
    );
    assert_eq!((*done.lock().unwrap(), cache.len()), (1, 0));
    cache.check();
}

/// What a hook inserts evicts nothing there either, or it would be called again and again.
#[test]
fn a_hook_in_a_thread_that_ends_is_known_to_be_one() {
    let told = Arc::new(Mutex::new((0, 0)));
    let seen = Arc::clone(&told);
    let cache = Arc::new_cyclic(|weak: &std::sync::Weak<Cache<u64>>| {
        let weak = weak.clone();
        let cache = Cache::new(Config::new(CAPACITY).max_page(PAGE)).unwrap();
        cache.on_removal(move |gone| {
            let (RemovalCause::Evicted, Some(cache)) = (gone.cause(), weak.upgrade()) else {
                return;
            };
            seen.lock().unwrap().0 += 1;
            let before = seen.lock().unwrap().0;
            let _ = cache.insert(gone.key() | 1 << 40, &pattern::bytes(*gone.key(), PAGE));
            let evicted = seen.lock().unwrap().0 - before;
            seen.lock().unwrap().1 += evicted;
        })
    });
    let fill = |cache: &Cache<u64>, keys: std::ops::Range<u64>| {
        keys.for_each(|key| {
            // The hook may use up the room that an insert was making.
            let _ = cache.insert(key, &pattern::bytes(key, PAGE));
        });
    };
    fill(&cache, 0..KEYS);
    let before = told.lock().unwrap().0;
    let (early, late) = (Arc::clone(&cache), Arc::clone(&cache));
    in_thread_that_ends(
        move || fill(&early, KEYS..KEYS + 300),
        move || fill(&late, 2 * KEYS..3 * KEYS),
    );
    let (evicted, nested) = *told.lock().unwrap();
    assert!(
        evicted > before + 500 && nested == 0,
        "{evicted} evicted, {nested} of them in the hook"
    );
    cache.check();
}
