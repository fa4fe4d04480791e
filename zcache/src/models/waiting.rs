//! Entries that wait to enter a policy that somebody else has.

use super::{World, get, over, page, world};
use crate::sync::model::{beside, model, twin};
use crate::sync::{Plant, let_wait};

/// An entry enters beside an eviction, and `f` is done as soon as it is in. Whether the entry
/// waited, and how many victims were named.
fn enter(f: impl FnOnce(&World) + 'static) -> (bool, usize) {
    let_wait();
    let world = world();
    world.insert(1, &page(1)).unwrap();
    let other = beside(&world, |world| {
        world.insert(2, &page(2)).unwrap();
        let waited = world.tier.policy.waiting() > 0;
        f(world);
        waited
    });
    let evicted = world.tier.evict(1).entries;
    let waited = other.join().unwrap();
    over(&world, world.len());
    (waited, evicted)
}

fn enter_and_remove() -> (bool, usize) {
    enter(|world| {
        world.remove(&2);
        assert_eq!(get(world, 2), None, "it is gone, whoever ended it");
    })
}

#[test]
fn what_waits_to_enter_the_policy_is_in_before_it_goes() {
    let seen = model(Some(2), enter_and_remove);
    assert!(seen.contains_key(&(true, 1)) && seen.contains_key(&(false, 1)), "{seen:?}");
}

#[test]
#[should_panic(expected = "each entry may be evicted")]
fn a_removal_that_leaves_its_entry_waiting_is_noticed() {
    twin(Some(2), Plant::WaitingForgotten, enter_and_remove);
}

/// The next insert finds the one place taken, if the first one waits.
fn enter_twice() -> (bool, usize) {
    enter(|world| world.insert(3, &page(3)).unwrap())
}

#[test]
fn where_too_many_wait_the_next_one_takes_the_lock() {
    let seen = model(Some(1), enter_twice);
    assert!(seen.contains_key(&(true, 1)) && seen.contains_key(&(false, 1)), "{seen:?}");
}

fn enter_and_move() -> (bool, usize) {
    enter(|world| {
        world.remove(&1);
        world.tier.move_one(1);
    })
}

#[test]
fn what_waits_to_enter_the_policy_is_in_before_it_gets_another_id() {
    let seen = model(Some(2), enter_and_move);
    assert!(seen.contains_key(&(true, 1)) && seen.contains_key(&(false, 1)), "{seen:?}");
}
