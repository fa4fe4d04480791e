//! Handles: what is accepted, and that nothing else is.
#![cfg(not(zcache_loom))]

use std::collections::HashSet;

use tests::oracle::assert_stale;
use tests::pattern::Random;
use zpool::source::Heap;
use zpool::{Config, Handle, MapMut, MapRef, MapWrite, Pool};

fn heap_pool() -> Pool {
    Pool::with_source(Config::new().max_object(4096), Heap::new(4096)).unwrap()
}

#[test]
fn a_handle_is_eight_bytes_and_its_option_too() {
    assert_eq!((size_of::<Handle>(), size_of::<Option<Handle>>()), (8, 8));
    fn copies<T: Copy + Eq + std::hash::Hash + Ord + Send + Sync>() {}
    copies::<Handle>();
}

#[test]
fn pools_and_guards_go_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Pool>();
    shared::<Pool<String>>();
    shared::<MapRef<'_>>();
    shared::<MapMut<'_>>();
    shared::<MapWrite<'_>>();
    let pool = heap_pool();
    let handle = pool.alloc(b"sent").unwrap();
    let map = pool.map(handle).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || assert_eq!(*map, *b"sent"));
    });
    let mut map = pool.map_mut(handle).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || map.copy_from_slice(b"back"));
    });
    assert_eq!(*pool.map(handle).unwrap(), *b"back");
}

#[test]
fn a_handle_survives_as_a_number() {
    let pool = heap_pool();
    for len in 0..200 {
        let handle = pool.alloc(&vec![1; len]).unwrap();
        let bits: u64 = handle.into();
        assert!(bits != 0 && bits == handle.to_bits());
        assert_eq!(Handle::from_bits(bits), Some(handle));
        assert_eq!(pool.object_len(Handle::from_bits(bits).unwrap()), Ok(len));
    }
    assert_eq!(Handle::from_bits(0), None);
    assert_eq!(Handle::from_bits(2), None, "even bits name nothing");
}

#[test]
fn a_freed_handle_is_refused_by_every_call_also_after_reuse() {
    let pool = heap_pool();
    let mut dead = Vec::new();
    for round in 0..50 {
        let handles: Vec<Handle> = (0..20).map(|_| pool.alloc(&[round; 64]).unwrap()).collect();
        dead.iter().for_each(|handle| assert_stale(&pool, *handle));
        handles.iter().for_each(|handle| pool.free(*handle).unwrap());
        dead.extend(handles);
    }
    assert_eq!(dead.iter().collect::<HashSet<_>>().len(), dead.len(), "all are different");
    assert!(pool.stats().handle_slots <= 20, "slots are used again");
    pool.check();
}

#[test]
fn handles_of_other_pools_are_refused() {
    let pools: Vec<Pool> = (0..4).map(|_| heap_pool()).collect();
    let handles: Vec<Vec<Handle>> =
        pools.iter().map(|pool| (0..100).map(|_| pool.alloc(b"mine").unwrap()).collect()).collect();
    for (at, pool) in pools.iter().enumerate() {
        for (of, handles) in handles.iter().enumerate().filter(|(of, _)| *of != at) {
            handles.iter().for_each(|handle| assert_stale(pool, *handle));
            assert_ne!(of, at);
        }
        assert_eq!(pool.len(), 100);
    }
}

/// Two million random numbers, and every change of one or two bits of live handles.
#[test]
fn forged_handles_are_accepted_only_where_they_equal_a_live_one() {
    let pool = heap_pool();
    let mut live: Vec<Handle> = (0..3000).map(|_| pool.alloc(b"real").unwrap()).collect();
    for _ in 0..10 {
        // Some slots in their 10th generation, some free, most in their first.
        live.drain(1000..2000).for_each(|handle| pool.free(handle).unwrap());
        live.extend((0..950).map(|_| pool.alloc(b"real").unwrap()));
    }
    let known: HashSet<u64> = live.iter().map(|handle| handle.to_bits()).collect();
    let judge = |bits: u64| {
        let Some(forged) = Handle::from_bits(bits) else { return assert!(bits & 1 == 0) };
        assert_eq!(pool.contains(forged), known.contains(&bits), "{bits:#x}");
        if !known.contains(&bits) {
            assert!(pool.map(forged).is_err());
        }
    };
    let mut random = Random::new(11);
    (0..2_000_000).for_each(|_| judge(random.bits()));
    for handle in live.iter().step_by(7) {
        for one in 0..64 {
            judge(handle.to_bits() ^ 1 << one);
        }
    }
    for handle in live.iter().step_by(301) {
        (0..64 * 64).for_each(|pair| judge(handle.to_bits() ^ 1 << (pair / 64) ^ 1 << (pair % 64)));
    }
    // Frees and writes with forged handles end nothing.
    for handle in live.iter().step_by(100) {
        for bit in 1..64 {
            let bits = handle.to_bits() ^ 1 << bit;
            if let Some(forged) = Handle::from_bits(bits).filter(|_| !known.contains(&bits)) {
                assert_stale(&pool, forged);
            }
        }
    }
    assert_eq!(pool.len(), live.len());
    pool.check();
}

/// 2^17 uses of one slot: then it is retired, and its old handles stay dead.
#[test]
fn a_slot_whose_generations_are_used_up_is_retired() {
    let pool = heap_pool();
    let first = pool.alloc(b"").unwrap();
    pool.free(first).unwrap();
    let mut uses = 1;
    while pool.stats().retired_slots == 0 {
        for _ in 0..1000 {
            let handle = pool.alloc(b"").unwrap();
            pool.free(handle).unwrap();
            uses += 1;
            assert!(!pool.contains(first), "after {uses} uses");
        }
        assert!(uses <= 133_000);
    }
    assert!(uses >= 131_000);
    let handle = pool.alloc(b"the next slot").unwrap();
    assert_stale(&pool, first);
    assert_eq!(*pool.map(handle).unwrap(), *b"the next slot");
    pool.check();
}
