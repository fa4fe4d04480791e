//! Scopes that end beside readers, inserts and loads of theirs. There is one slot, beside that of
//! scopes without one.

use super::{World, get, over, page, world_with};
use crate::cache::Leased;
use crate::config::HotShare;
use crate::sync::model::{beside, model, twin};
use crate::sync::{Arc, AtomicU32, Ordering, Plant, let_see_latest};

/// A world in which each key is a scope.
#[allow(clippy::arc_with_non_send_sync, reason = "loom's threads are one; its cells are not Sync")]
fn world(hot: HotShare) -> Arc<World> {
    let world = Arc::into_inner(world_with(hot)).expect("it is nobody else's");
    Arc::new(world.with_scopes(|key| u32::from(*key)).unwrap())
}

fn end_and_hit() -> Option<u8> {
    let world = world(HotShare::Off);
    world.insert(1, &page(7)).unwrap();
    let reader = beside(&world, |world| get(world, 1));
    world.scope(1).clear();
    assert_eq!(get(&world, 1), None, "what has ended is not found");
    let got = reader.join().unwrap();
    assert!(matches!(got, None | Some(7)));
    assert_eq!((world.len(), world.stats().ended), (0, 1));
    over(&world, 0);
    got
}

#[test]
fn what_has_ended_is_not_found() {
    assert_eq!(model(Some(3), end_and_hit).len(), 2);
}

#[test]
#[should_panic(expected = "what has ended is not found")]
fn a_slot_that_goes_on_is_noticed() {
    twin(Some(1), Plant::ScopeGoesOn, end_and_hit);
}

/// A reader asks for what has ended, while its slot is emptied and gets another scope's entry.
fn reuse_beside_a_reader(hot: HotShare) -> (bool, usize) {
    let_see_latest();
    let world = world(hot);
    world.insert(1, &page(7)).unwrap();
    (0..2).for_each(|_| assert_eq!(get(&world, 1), Some(7)));
    world.scope(1).clear();
    let reader = beside(&world, |world| get(world, 1));
    let reclaimed = world.tier.reclaim(1).entries;
    world.insert(2, &page(8)).unwrap();
    let named = world.scope(2).len();
    assert_eq!(reader.join().unwrap(), None, "nobody finds what had ended before he asked");
    assert_eq!(get(&world, 2), Some(8));
    over(&world, 1);
    (reclaimed == 1, named)
}

fn reuse_beside_a_reader_of_entries() -> (bool, usize) {
    reuse_beside_a_reader(HotShare::Off)
}

fn reuse_beside_a_reader_of_frames() -> (bool, usize) {
    reuse_beside_a_reader(HotShare::Fraction(8))
}

#[test]
fn a_slot_that_is_used_again_brings_nothing_back() {
    let seen = model(Some(3), reuse_beside_a_reader_of_entries);
    assert!(seen.contains_key(&(true, 1)), "it was used again: {seen:?}");
}

#[test]
#[should_panic(expected = "nobody finds what had ended")]
fn a_reader_that_does_not_ask_whether_an_entry_left_is_noticed() {
    twin(Some(3), Plant::LeftUnasked, reuse_beside_a_reader_of_entries);
}

#[test]
#[should_panic(expected = "nobody finds what had ended")]
fn a_slot_that_is_free_too_early_is_noticed() {
    twin(Some(1), Plant::SlotFreedEarly, || {
        let world = world(HotShare::Off);
        world.insert(1, &page(7)).unwrap();
        world.scope(1).clear();
        world.insert(2, &page(8)).unwrap();
        assert_eq!(get(&world, 1), None, "nobody finds what had ended before he asked");
    });
}

#[test]
fn a_slot_that_is_used_again_brings_no_frame_back() {
    let seen = model(Some(2), reuse_beside_a_reader_of_frames);
    assert!(seen.contains_key(&(true, 1)), "it was used again: {seen:?}");
}

#[test]
#[should_panic(expected = "nobody finds what had ended")]
fn a_reader_that_does_not_ask_whether_a_frame_left_is_noticed() {
    twin(Some(2), Plant::LeftUnasked, reuse_beside_a_reader_of_frames);
}

/// An insert that began before its scope ended comes to an end after one that began since.
fn insert_beside_an_end() -> Option<u8> {
    let_see_latest();
    let world = world(HotShare::Off);
    world.insert(1, &page(6)).unwrap();
    let writer = beside(&world, |world| world.insert(1, &page(7)).unwrap());
    world.scope(1).clear();
    world.insert(1, &page(8)).unwrap();
    assert!(get(&world, 1).is_some(), "a page that came after the end is there");
    writer.join().unwrap();
    let got = get(&world, 1);
    assert!(got.is_some(), "a page that came after the end is there");
    over(&world, 1);
    got
}

#[test]
fn an_insert_that_its_scopes_end_overtakes_takes_no_newer_page_away() {
    assert_eq!(model(Some(2), insert_beside_an_end).len(), 2);
}

#[test]
#[should_panic(expected = "a page that came after the end is there")]
fn an_insert_of_an_ended_scope_is_noticed() {
    twin(Some(2), Plant::EndedEnters, insert_beside_an_end);
}

/// Two scopes come beside each other, and one of them ends: slots and counts add up.
fn end_beside_inserts() -> (Option<u8>, Option<u8>) {
    let_see_latest();
    let world = world(HotShare::Off);
    let writer = beside(&world, |world| {
        world.insert(1, &page(7)).unwrap();
        world.insert(2, &page(8)).unwrap();
    });
    world.scope(1).clear();
    writer.join().unwrap();
    let got = (get(&world, 1), get(&world, 2));
    assert_eq!(got.1, Some(8), "another scope's end takes nothing");
    assert_eq!(world.len(), 1 + usize::from(got.0.is_some()));
    over(&world, world.len());
    got
}

#[test]
fn a_scope_may_end_while_its_entries_come() {
    assert_eq!(model(Some(2), end_beside_inserts).len(), 2);
}

/// The last entry of a scope goes while the scope ends: its slot is free, and gets the next scope.
fn end_beside_a_removal() -> bool {
    let_see_latest();
    let world = world(HotShare::Off);
    world.insert(1, &page(7)).unwrap();
    let remover = beside(&world, |world| world.remove(&1));
    world.scope(1).clear();
    let removed = remover.join().unwrap();
    world.tier.reclaim(1);
    world.check();
    world.insert(2, &page(8)).unwrap();
    assert_eq!(world.scope(2).len(), 1, "a slot that has ended and is empty is free");
    over(&world, 1);
    removed
}

#[test]
fn a_scope_may_end_while_its_last_entry_goes() {
    assert_eq!(model(Some(3), end_beside_a_removal).len(), 2);
}

/// A caller misses the key beside the end of its scope, reads its page and stores it.
fn lease_beside_the_end() -> Option<u8> {
    let (world, source) = (world(HotShare::Off), Arc::new(AtomicU32::new(7)));
    let read = Arc::clone(&source);
    let reader = beside(&world, move |world| {
        if let Leased::Lease(lease) = world.get_or_lease(&1) {
            let _ = world.insert_if_valid(lease, &page(read.load(Ordering::Relaxed) as u8));
        }
    });
    source.store(8, Ordering::Relaxed);
    world.scope(1).clear();
    reader.join().unwrap();
    let got = get(&world, 1);
    assert!(matches!(got, None | Some(8)), "what was read before the end does not outlast it");
    over(&world, usize::from(got.is_some()));
    got
}

#[test]
fn what_is_read_before_a_scope_ends_does_not_outlast_it() {
    assert_eq!(model(Some(2), lease_beside_the_end).len(), 2);
}

#[test]
#[should_panic(expected = "what was read before the end does not outlast it")]
fn an_end_that_tells_no_lease_is_noticed() {
    twin(Some(2), Plant::EndUntold, lease_beside_the_end);
}

#[test]
#[should_panic(expected = "what was read before the end does not outlast it")]
fn an_end_that_tells_leases_too_late_is_noticed() {
    twin(Some(2), Plant::EndToldLate, lease_beside_the_end);
}
