//! Mixed zspages: what small pools hold, give back, and become when they grow.
#![cfg(not(zcache_loom))]

use std::collections::VecDeque;

use tests::pattern::{self, Random};
use zpool::{Config, Handle, Pool};

const CAP: usize = 512 << 10;

fn pool(mixed: bool, cap: usize) -> Pool {
    let config = Config::new().max_bytes(cap).mixed_up_to(if mixed { CAP } else { 0 });
    Pool::new(config).unwrap()
}

/// Stores objects of 500 to 4095 bytes; where there is no room, the oldest one goes.
fn turn_over(pool: &Pool, live: &mut VecDeque<(Handle, u32)>, objects: u32) {
    for seed in 0..objects {
        let bytes = bytes(seed);
        loop {
            match pool.alloc(&bytes) {
                Ok(handle) => break live.push_back((handle, seed)),
                Err(_) => pool.free(live.pop_front().unwrap().0).unwrap(),
            }
        }
    }
}

fn len(seed: u32) -> usize {
    500 + Random::new(seed.into()).below(3596)
}

fn bytes(seed: u32) -> Vec<u8> {
    pattern::bytes(seed.into(), len(seed))
}

fn assert_whole(pool: &Pool, live: &VecDeque<(Handle, u32)>) {
    for (handle, seed) in live {
        let mut to = [0; 4096];
        let len = pool.read_into(*handle, &mut to).unwrap();
        assert_eq!(to[..len], bytes(*seed), "object {seed}");
    }
    pool.check();
}

fn packing(pool: &Pool) -> f64 {
    let stats = pool.stats();
    stats.payload_bytes as f64 / stats.page_bytes as f64
}

#[test]
fn a_small_pool_packs_what_classes_leave_half_empty() {
    let [mixed, classes] = [true, false].map(|mixed| {
        let (pool, mut live) = (pool(mixed, CAP), VecDeque::new());
        turn_over(&pool, &mut live, 2000);
        assert_whole(&pool, &live);
        packing(&pool)
    });
    assert!(mixed > 0.9 && mixed > classes + 0.05, "{mixed:.3}, by classes {classes:.3}");
}

#[test]
fn compaction_gives_the_pages_of_freed_objects_back() {
    let (pool, mut live) = (pool(true, CAP), VecDeque::new());
    turn_over(&pool, &mut live, 600);
    let (before, mut random) = (pool.stats().pages, Random::new(9));
    live.retain(|(handle, _)| random.below(3) == 0 || pool.free(*handle).is_err());
    let scattered = packing(&pool);
    while !pool.compact(1 << 16).done {}
    pool.trim();
    let packed = packing(&pool);
    assert!(pool.stats().pages < before / 2, "{} of {before} pages", pool.stats().pages);
    assert!(packed > 0.75 && packed > 1.5 * scattered, "{scattered:.3}, then {packed:.3}");
    assert_whole(&pool, &live);
}

#[test]
fn a_pool_that_may_grow_packs_like_one_that_was_large() {
    let [grown, large] = [CAP, 64 << 20].map(|cap| {
        let (pool, mut live) = (pool(true, cap), VecDeque::new());
        turn_over(&pool, &mut live, 1000);
        pool.set_max_bytes(64 << 20);
        turn_over(&pool, &mut live, 30_000);
        assert_whole(&pool, &live);
        packing(&pool)
    });
    assert!(large > 0.97 && grown > large - 0.002, "{grown:.4}, {large:.4}");
}

#[test]
fn a_pool_that_shrinks_packs_no_worse_than_by_classes() {
    let [mixed, classes] = [true, false].map(|mixed| {
        let (pool, mut live) = (pool(mixed, 64 << 20), VecDeque::new());
        turn_over(&pool, &mut live, 10_000);
        pool.set_max_bytes(CAP);
        while pool.held_bytes() > CAP {
            pool.free(live.pop_front().unwrap().0).unwrap();
            pool.compact(1 << 16);
            pool.trim();
        }
        turn_over(&pool, &mut live, 2000);
        assert_whole(&pool, &live);
        packing(&pool)
    });
    assert!(mixed > 0.75 && mixed > classes, "{mixed:.3}, by classes {classes:.3}");
}

#[test]
fn compaction_ends_whatever_it_may_move_at_once_and_whoever_is_in_its_way() {
    for seed in 0..16 {
        let (pool, mut live) = (pool(true, CAP), VecDeque::new());
        let mut random = Random::new(seed);
        turn_over(&pool, &mut live, 200);
        live.retain(|(handle, _)| random.below(5) < 2 || pool.free(*handle).is_err());
        let held = live.iter().filter(|_| random.below(5) == 0);
        let held: Vec<_> = held.map(|(handle, _)| pool.pin(*handle).unwrap()).collect();
        let ended = (0..10_000).any(|_| pool.compact(512).done);
        assert!(ended, "seed {seed}");
        drop(held);
        assert_whole(&pool, &live);
    }
}

#[test]
fn a_zspage_that_a_reader_left_empty_is_used_before_another_is_made() {
    let pool = pool(true, CAP);
    let handle = pool.alloc(&[1; 1000]).unwrap();
    let pages = pool.stats().pages;
    let read = pool.map(handle).unwrap();
    pool.free(handle).unwrap();
    drop(read);
    pool.alloc(&[2; 2000]).unwrap();
    assert_eq!(pool.stats().pages, pages);
    pool.check();
}

#[test]
fn an_object_that_is_held_keeps_compaction_from_its_zspage_only() {
    let [held, free] = [true, false].map(|holds| {
        let (pool, mut live) = (pool(true, CAP), VecDeque::new());
        turn_over(&pool, &mut live, 150);
        let one = live.pop_front().unwrap();
        let held = holds.then(|| pool.pin(one.0).unwrap());
        // The zspage of the one that is held is the sparsest, and two thirds of all stay.
        live.drain(..8).for_each(|(handle, _)| pool.free(handle).unwrap());
        let mut random = Random::new(9);
        live.retain(|(handle, _)| random.below(3) > 0 || pool.free(*handle).is_err());
        live.push_front(one);
        while !pool.compact(1 << 16).done {}
        pool.trim();
        drop(held);
        assert_whole(&pool, &live);
        pool.stats().pages
    });
    assert!(held <= free + 8, "{held} pages with a held object, {free} without");
}
