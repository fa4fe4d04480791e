//! A page source that fails: once at each call of a script in turn, or from there on.
#![cfg(not(zcache_loom))]
#![allow(clippy::print_stdout, reason = "figures for who asks for them by --nocapture")]

use std::sync::Arc;

use tests::faults::{Faulty, Switch};
use tests::ops::PoolOp;
use tests::oracle::PoolOracle;
use tests::pattern::Random;
use tests::ram::Ram;
use tests::records::Tracked;
use tests::setups::{Pages, Setup};
use zpool::source::Heap;
use zpool::{AllocError, Config, Handle, MapError, Pool, StoreError};

/// A few hundred calls of the source: allocations, maps of each kind, frees, compactions. Pages
/// with addresses are taken only, so it takes more to make so many.
fn script(pages: Pages, seed: u64) -> Vec<PoolOp> {
    let words = if pages == Pages::Ram { 22 } else { 90 };
    let mut random = Random::new(seed);
    let mut bytes = Vec::new();
    bytes.extend((0..words).flat_map(|_| random.bits().to_le_bytes()));
    let mut ops: Vec<PoolOp> = PoolOp::from_bytes(&bytes).collect();
    // A lost guard may keep a page for good, which is another test's business.
    ops.retain(|op| !format!("{op:?}").contains("Forget"));
    ops.insert(ops.len() / 2, PoolOp::CompactAll);
    ops
}

fn pool_over(pages: Pages, zero_on_free: bool) -> (Pool<Tracked>, Arc<Switch>, Setup) {
    let setup = Setup { zero_on_free, ..Setup::new(pages) };
    if pages == Pages::Ram {
        let (source, switch) = Faulty::new(Ram::new(4096).0);
        (Pool::with_source(setup.config(), source).unwrap(), switch, setup)
    } else {
        let (source, switch) = Faulty::new(Heap::with_region_pages(4096, 1));
        (Pool::with_source(setup.config(), source).unwrap(), switch, setup)
    }
}

/// Replays the script with a fault at call `nth`; says how many calls there were, and how many
/// failed.
fn replay(pages: Pages, seed: u64, nth: usize, forever: bool) -> (usize, usize) {
    let (pool, switch, setup) = pool_over(pages, seed % 2 == 1);
    let mut oracle = PoolOracle::new(&setup).faulty();
    switch.arm(nth, forever);
    let ops = script(pages, seed);
    let (first, rest) = ops.split_at(ops.len() * 3 / 4);
    first.iter().for_each(|op| oracle.step(&pool, *op));
    let (calls, failed) = (switch.calls(), switch.failed());
    // The fault is over: all goes on.
    switch.disarm();
    oracle.step(&pool, PoolOp::Uncap);
    rest.iter().for_each(|op| oracle.step(&pool, *op));
    let tally = oracle.drain(&pool);
    drop(pool);
    tally.assert_each_dropped_once();
    (calls, failed)
}

fn fails_everywhere(forever: bool) {
    let (mut faults, mut runs) = (0, 0);
    for (pages, seed) in [(Pages::Ram, 1), (Pages::Ram, 2), (Pages::Heap(1), 3)] {
        let (calls, none) = replay(pages, seed, 0, false);
        assert!(calls > 20 && none == 0, "{calls} calls, {none} failed");
        for nth in 1..=calls {
            let (_, failed) = replay(pages, seed, nth, forever);
            assert!(failed == 1 || forever && failed > 1, "{failed} at call {nth} of {pages:?}");
            (faults, runs) = (faults + failed, runs + 1);
        }
    }
    let often = if forever { "from one call on" } else { "once" };
    println!("a source that fails {often}: {faults} faults in {runs} runs of a script");
}

#[test]
fn a_source_that_fails_once_costs_no_more_than_the_call() {
    fails_everywhere(false);
}

#[test]
fn a_source_that_fails_from_some_call_on_leaves_a_pool_that_recovers() {
    fails_everywhere(true);
}

fn ram_pool() -> (Pool, Arc<Switch>) {
    let (source, switch) = Faulty::new(Ram::new(4096).0);
    (Pool::with_source(Config::new(), source).unwrap(), switch)
}

#[test]
fn each_call_says_what_failed_and_counts_it() {
    let (pool, switch) = ram_pool();
    let handle = pool.alloc(&[1; 2000]).unwrap();
    switch.arm(1, true);
    assert_eq!(pool.alloc(&[2; 2000]), Err(AllocError::Source));
    assert_eq!(pool.alloc_with(2000, |_| ()), Err(AllocError::Source));
    assert_eq!(pool.alloc(&[2; 3000]), Err(AllocError::NoMemory), "no page came");
    assert_eq!(pool.map(handle).err(), Some(MapError::Source));
    assert_eq!(pool.map_mut(handle).err(), Some(MapError::Source));
    let failed = pool.read_into(handle, &mut [0; 2000]);
    assert_eq!(failed, Err(MapError::Source.into()));
    assert_eq!(pool.map_write(handle, 1900).unwrap().finish(), Err(StoreError));
    drop(pool.map_write(handle, 1900).unwrap());
    switch.disarm();
    assert_eq!(*pool.map(handle).unwrap(), [1; 2000], "the old object stays");
    let failures = pool.stats().failures;
    assert_eq!((failures.load, failures.store, failures.out_of_pages), (3, 4, 1));
    assert_eq!((pool.len(), pool.stats().payload_bytes), (1, 2000));
    pool.check();
}

/// Lost rather than torn: half of the new bytes have arrived.
#[test]
fn an_object_whose_bytes_cannot_be_written_back_is_freed() {
    for finishes in [true, false] {
        let (pool, switch) = ram_pool();
        let handle = pool.alloc(&[1; 2000]).unwrap();
        let mut map = pool.map_mut(handle).unwrap();
        map.fill(2);
        switch.arm(1, false);
        if finishes {
            assert_eq!(map.finish(), Err(StoreError));
        } else {
            drop(map);
        }
        assert_eq!(pool.map(handle).err(), Some(MapError::Stale));
        let stats = pool.stats();
        assert_eq!((stats.objects, stats.payload_bytes, stats.failures.store), (0, 0, 1));
        pool.check();
    }
}

#[test]
fn a_move_that_fails_leaves_its_object_where_it_was() {
    for nth in 1..60 {
        for forever in [true, false] {
            let (pool, switch) = ram_pool();
            let objects: Vec<Handle> = (0..90).map(|at| pool.alloc(&[at; 900]).unwrap()).collect();
            let (kept, freed): (Vec<_>, Vec<_>) = (0..90_u8).partition(|at| at % 3 == 0);
            freed.iter().for_each(|at| pool.free(objects[usize::from(*at)]).unwrap());
            switch.arm(nth, forever);
            assert!(pool.compact(usize::MAX).done, "it gives up");
            switch.disarm();
            pool.check();
            let whole = || {
                for at in &kept {
                    assert_eq!(*pool.map(objects[usize::from(*at)]).unwrap(), [*at; 900]);
                }
            };
            whole();
            pool.compact(usize::MAX);
            whole();
            let sizes = pool.stats().classes;
            assert_eq!(
                sizes[0].zspages,
                sizes[0].inuse.div_ceil(sizes[0].objects / sizes[0].zspages)
            );
        }
    }
}
