//! Objects that get lower ids: their bytes and records stay, their old handles are stale.
#![cfg(not(zcache_loom))]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use tests::oracle::assert_stale;
use tests::pattern::{self, Random};
use tests::setups::{Pages, Setup};
use zpool::{Config, Handle, Pool};

#[test]
fn an_object_keeps_its_bytes_and_its_record_under_its_lower_id() {
    for setup in Setup::ALL {
        let pool: Pool<Arc<u32>> = setup.pool();
        let lengths = [0, 1, 100, 700.min(setup.max_object), setup.max_object];
        let record = Arc::new(7);
        let store = |seed: u64| {
            let page = pattern::bytes(seed, lengths[seed as usize % lengths.len()]);
            pool.alloc_record(Arc::clone(&record), &page)
        };
        let Ok(handles) = (0..20).map(store).collect::<Result<Vec<_>, _>>() else { continue };
        (0..10).for_each(|at| pool.free(handles[at]).unwrap());
        for (at, handle) in handles.iter().enumerate().skip(10).rev() {
            let id = pool.id(*handle).unwrap();
            let (mut asked, expected) = (None, (at as u64, lengths[at % lengths.len()]));
            assert_eq!(
                pool.renumber(id, |new| {
                    asked = Some(new);
                    false
                }),
                None,
                "not ready"
            );
            let moved = pool.renumber(id, |new| asked == Some(new)).expect("a lower id is free");
            assert_eq!(pool.id(moved), asked);
            assert!(asked.unwrap() < id && pool.map(*handle).is_err(), "the old handle is stale");
            let mut bytes = vec![0; expected.1];
            assert_eq!(pool.read_into(moved, &mut bytes), Ok(expected.1));
            assert_eq!(bytes, pattern::bytes(expected.0, expected.1));
            assert_eq!(pool.with_record(moved, |record| **record).unwrap(), 7);
            pool.check();
        }
        assert!(pool.renumber(0, |_| true).is_none(), "there is no lower one");
        assert!(pool.renumber(19, |_| true).is_none(), "it has no object");
        assert_eq!(Arc::strong_count(&record), 11, "records are moved, not copied nor dropped");
        drop(pool);
        assert_eq!(Arc::strong_count(&record), 1);
    }
}

/// However many objects there are, and whether the next id has memory already or opens a chunk.
#[test]
fn where_an_id_stays_no_memory_is_taken_for_another() {
    for count in [64, 128, 512, 1000, 1024, 4096] {
        let pool: Pool = Pool::new(Config::new()).unwrap();
        let handles: Vec<_> = (0..count).map(|_| pool.alloc(b"").unwrap()).collect();
        let state = || (pool.held_bytes(), pool.ids(), pool.stats().handle_slots);
        let before = state();
        let asked = |id: u32| panic!("{id} is offered");
        assert_eq!(pool.renumber(3, asked), None, "no lower id is free");
        assert_eq!(pool.renumber(count, asked), None, "it has no object");
        assert_eq!(pool.renumber(count + 10_000, asked), None, "it never had memory");
        assert_eq!(state(), before, "{count} objects");
        pool.free(handles[0]).unwrap();
        let map = pool.map(handles[9]).unwrap();
        assert_eq!(pool.renumber(9, asked), None, "somebody maps the object");
        drop(map);
        assert!(pool.renumber(9, |id| id == 0).is_some());
        pool.check();
    }
}

#[test]
fn an_object_that_is_mapped_keeps_its_id() {
    let pool: Pool = Pool::new(Config::new()).unwrap();
    let [low, high] = [1, 2].map(|value| pool.alloc(&[value; 100]).unwrap());
    pool.free(low).unwrap();
    let map = pool.map(high).unwrap();
    assert_eq!(pool.renumber(1, |_| true), None);
    drop(map);
    let moved = pool.renumber(1, |_| true).unwrap();
    assert_eq!((&*pool.map(moved).unwrap(), pool.id(moved)), (&[2; 100][..], Some(0)));
    assert_stale(&pool, high);
    pool.check();
}

/// Readers, writers, frees, compactions and renumberings at once; every object stays whole.
#[test]
fn objects_get_lower_ids_beside_everybody_else() {
    let pool: Pool<u64> = Setup::new(Pages::Mmap).pool();
    let (objects, done) = (Mutex::new(HashMap::<u64, Handle>::new()), AtomicBool::new(false));
    let moved = AtomicUsize::new(0);
    // Whoever renumbers an object tells its new handle under this lock, as a cache does under a
    // shard's.
    thread::scope(|scope| {
        let (pool, objects, done, moved) = (&pool, &objects, &done, &moved);
        for seed in 0..2 {
            scope.spawn(move || {
                let mut random = Random::new(seed);
                let steps = if cfg!(debug_assertions) { 20_000_u64 } else { 100_000 };
                // As long as it takes the others to have something to do.
                let goes_on = |step: &u64| *step < steps || moved.load(Ordering::Relaxed) == 0;
                for step in (0..).take_while(goes_on) {
                    let key = random.bits() % 3000;
                    let len = 8 + (key % 700) as usize;
                    if random.below(3) == 0 || step < 3000 {
                        let handle = pool.alloc_record(key, &pattern::bytes(key, len)).unwrap();
                        let old = objects.lock().unwrap().insert(key, handle);
                        old.into_iter().for_each(|old| pool.free(old).unwrap());
                    } else if random.below(2) == 0 {
                        let old = objects.lock().unwrap().remove(&key);
                        old.into_iter().for_each(|old| pool.free(old).unwrap());
                    } else {
                        let known = objects.lock().unwrap().get(&key).copied();
                        // Stale by now, or the object itself.
                        let Some(map) = known.and_then(|known| pool.map(known).ok()) else {
                            continue;
                        };
                        assert!(*map.record() == key && *map == pattern::bytes(key, len)[..]);
                    }
                }
                done.store(true, Ordering::Relaxed);
            });
        }
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                pool.compact(16 << 10);
            }
        });
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                for id in pool.sparse_ids(0).into_iter().flatten() {
                    let mut objects = objects.lock().unwrap();
                    let Ok(key) = pool.pin_id(id).map(|pinned| *pinned.record()) else { continue };
                    if objects.get(&key).and_then(|handle| pool.id(*handle)) == Some(id) {
                        if let Some(new) = pool.renumber(id, |_| true) {
                            objects.insert(key, new);
                            moved.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
        });
    });
    pool.check();
    let objects = objects.into_inner().unwrap();
    assert_eq!(pool.len(), objects.len());
    for (key, handle) in objects {
        let len = 8 + (key % 700) as usize;
        assert_eq!(*pool.map(handle).unwrap(), pattern::bytes(key, len)[..]);
        pool.free(handle).unwrap();
    }
    pool.check();
}
