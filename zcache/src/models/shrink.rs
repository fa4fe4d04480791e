//! A cache that shrinks beside who takes memory, and beside another change of its capacity.

use super::{over, world};
use crate::sync::model::{beside, model, twin};
use crate::sync::{Charge, Plant, let_see_latest};
use crate::tier::aside;

/// A cache holds a byte more than it may from now on. Eight come free, and sixteen are wanted, as
/// by an insert.
fn shrink_and_charge() -> (bool, bool) {
    let_see_latest();
    let world = world();
    let (pool, half) = (&world.tier.store.pool, world.capacity() / 2);
    let charged = half - aside(half) + 1 - pool.held_bytes();
    assert!(pool.charge(charged));
    let other = beside(&world, move |world| world.resize(half).is_ok());
    pool.release(8);
    let more = pool.charge(16);
    let resized = other.join().unwrap();
    assert!(!resized || world.held_bytes() <= half, "a resize that is done holds for inserts");
    pool.release(charged - 8 + if more { 16 } else { 0 });
    over(&world, 0);
    (resized, more)
}

#[test]
fn what_is_taken_beside_a_resize_fits_or_is_told() {
    let seen = model(Some(3), shrink_and_charge);
    assert!(seen.contains_key(&(true, false)) && seen.contains_key(&(false, true)), "{seen:?}");
}

#[test]
#[should_panic(expected = "a resize that is done holds for inserts")]
fn a_cap_that_falls_late_is_noticed() {
    twin(Some(3), Plant::CapFallsLate, shrink_and_charge);
}

/// Two threads change the capacity.
fn shrink_and_grow() -> usize {
    let world = world();
    let (small, large) = (world.capacity() / 2, world.capacity() * 2);
    let other = beside(&world, move |world| world.resize(small).is_ok());
    assert!(world.resize(large).is_ok() && other.join().unwrap(), "both hold what there is");
    let capacity = world.capacity();
    over(&world, 0);
    capacity
}

#[test]
fn of_two_resizes_one_is_the_last() {
    assert_eq!(model(Some(3), shrink_and_grow).len(), 2);
}

#[test]
#[should_panic(expected = "the pool's cap is the capacity's")]
fn a_cap_by_the_capacity_of_before_is_noticed() {
    twin(Some(3), Plant::CapacityReadEarly, shrink_and_grow);
}
