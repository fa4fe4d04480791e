//! Changes of a key that depend on the page that it has, beside others. They are made if it has
//! that page, and then at one instant.

use super::{World, get, over, page, world};
use crate::sync::model::{beside, model, twin};
use crate::sync::{Plant, let_see_latest};

fn insert(world: &World, version: u8) -> bool {
    world.insert_if_absent(1, &page(version)).unwrap()
}

fn absent_and_absent() -> (bool, bool) {
    let_see_latest();
    let world = world();
    let other = beside(&world, |world| insert(world, 7));
    let stored = (insert(&world, 8), other.join().unwrap());
    assert!(stored.0 != stored.1, "one of the two finds no page");
    assert_eq!(get(&world, 1), Some(if stored.0 { 8 } else { 7 }), "and its page is there");
    over(&world, 1);
    stored
}

#[test]
fn of_two_that_insert_for_a_key_without_a_page_one_does() {
    assert_eq!(model(Some(2), absent_and_absent).len(), 2);
}

#[test]
#[should_panic(expected = "one of the two finds no page")]
fn inserting_without_a_question_is_noticed() {
    twin(Some(2), Plant::AbsentUnasked, absent_and_absent);
}

fn absent_and_insert() -> bool {
    let_see_latest();
    let world = world();
    let other = beside(&world, |world| world.insert(1, &page(8)));
    let stored = insert(&world, 7);
    other.join().unwrap().unwrap();
    assert_eq!(get(&world, 1), Some(8), "a page that is there is not replaced");
    over(&world, 1);
    stored
}

#[test]
fn a_page_that_is_there_is_not_replaced() {
    assert_eq!(model(Some(2), absent_and_insert).len(), 2);
}

#[test]
#[should_panic(expected = "a page that is there is not replaced")]
fn replacing_a_page_that_is_there_is_noticed() {
    twin(Some(2), Plant::AbsentUnasked, absent_and_insert);
}

fn absent_and_remove() -> (bool, bool) {
    let_see_latest();
    let world = world();
    world.insert(1, &page(8)).unwrap();
    let other = beside(&world, |world| world.remove(&1));
    let stored = insert(&world, 7);
    let removed = other.join().unwrap();
    let got = get(&world, 1);
    // The removal came first, or it took the page that was there.
    assert!(removed, "there was a page at any time");
    assert_eq!(got, stored.then_some(7), "it says whether it is there");
    over(&world, usize::from(stored));
    (stored, removed)
}

#[test]
fn a_page_is_inserted_after_a_removal_and_not_before_it() {
    assert_eq!(model(Some(3), absent_and_remove).len(), 2);
}

/// A lease of the key stores its page, or the other one is stored: the first one that is there.
fn absent_and_lease() -> bool {
    let world = world();
    let lease = world.get_or_lease(&1).lease().unwrap();
    let other = beside(&world, |world| insert(world, 7));
    let leased = world.insert_if_valid(lease, &page(8)).is_ok();
    let stored = other.join().unwrap();
    assert!(leased != stored, "one of the two is stored");
    assert_eq!(get(&world, 1), Some(if stored { 7 } else { 8 }), "and it is there");
    over(&world, 1);
    stored
}

#[test]
fn a_lease_is_told_of_a_page_that_was_inserted_and_of_no_other() {
    assert_eq!(model(Some(2), absent_and_lease).len(), 2);
}

fn remove_if_and_insert() -> (bool, u8) {
    let_see_latest();
    let world = world();
    world.insert(1, &page(7)).unwrap();
    let other = beside(&world, |world| world.insert(1, &page(8)));
    let mut asked = 0;
    let removed = world.remove_if(&1, |page| {
        asked = page[0];
        asked == 7
    });
    other.join().unwrap().unwrap();
    assert_eq!(get(&world, 1), Some(8), "only what was asked about is removed");
    assert_eq!(removed, asked == 7, "it says what it did");
    over(&world, 1);
    (removed, asked)
}

#[test]
fn a_page_that_was_not_asked_about_is_not_removed() {
    assert_eq!(model(Some(3), remove_if_and_insert).len(), 2);
}

#[test]
#[should_panic(expected = "only what was asked about is removed")]
fn removing_what_was_not_asked_about_is_noticed() {
    twin(Some(3), Plant::RemovedUnasked, remove_if_and_insert);
}

fn remove_if_and_remove() -> (bool, bool) {
    let_see_latest();
    let world = world();
    world.insert(1, &page(7)).unwrap();
    let other = beside(&world, |world| world.remove(&1));
    let removed = (world.remove_if(&1, |_| true), other.join().unwrap());
    assert!(removed.0 != removed.1, "one of two removals removes");
    over(&world, 0);
    removed
}

#[test]
fn one_of_two_removals_removes() {
    assert_eq!(model(Some(3), remove_if_and_remove).len(), 2);
}
