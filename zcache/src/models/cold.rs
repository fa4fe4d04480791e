//! Entries that get another object beside threads that read them, change them or walk over them.
//! The pages that are compressed again here are same-filled, like all pages of models: only the way
//! of the entry counts.

use super::hot::hit;
use super::{World, get, over, page, world};
use crate::codec::Form;
use crate::store::{Record, Rest};
use crate::sync::model::{beside, model, twin};
use crate::sync::{Arc, Plant, let_see_latest};
use crate::tier::Outcome;

/// What `maintain` does to a cold entry; whether it came to a new object.
fn recompress(world: &World, key: u8) -> bool {
    let (tier, tag) = (&world.tier, world.tag(&key));
    let Some(entry) = tier.find(tag, &key) else { return false };
    let mut page = [0; 16];
    tier.store.read_whole(&entry, 0, &mut page).unwrap();
    let draft = tier.store.draft(tag, &page, None).unwrap();
    match tier.exchange(entry, &draft, &mut |_| false) {
        Outcome::Saved(_) => true,
        other => {
            assert_eq!(other, Outcome::Lost, "there is room");
            false
        }
    }
}

fn one() -> Arc<World> {
    let_see_latest();
    let world = world();
    world.insert(1, &page(7)).unwrap();
    world
}

fn swap_and_replace() -> bool {
    let world = one();
    let other = beside(&world, |world| recompress(world, 1));
    world.insert(1, &page(8)).unwrap();
    assert_eq!(get(&world, 1), Some(8), "an old page never comes back");
    let swapped = other.join().unwrap();
    assert_eq!(get(&world, 1), Some(8), "an old page never comes back");
    over(&world, 1);
    swapped
}

#[test]
fn an_entry_that_is_recompressed_brings_no_old_page_back() {
    assert_eq!(model(Some(2), swap_and_replace).len(), 2);
}

#[test]
#[should_panic(expected = "an old page never comes back")]
fn a_swap_that_does_not_ask_for_the_entry_is_noticed() {
    twin(Some(2), Plant::SwapUnasked, swap_and_replace);
}

fn swap_and_remove() -> bool {
    let world = one();
    let other = beside(&world, |world| recompress(world, 1));
    assert!(world.remove(&1), "a key that is recompressed is there to be removed");
    assert_eq!(get(&world, 1), None, "a removed page is not found");
    let swapped = other.join().unwrap();
    assert_eq!(get(&world, 1), None, "a removed page is not found");
    over(&world, 0);
    swapped
}

#[test]
fn an_entry_that_is_recompressed_can_be_removed_at_any_time() {
    assert_eq!(model(Some(3), swap_and_remove).len(), 2);
}

/// The same of an entry that has a frame.
fn swap_hot_and_remove() -> bool {
    let world = hit(2);
    let other = beside(&world, |world| recompress(world, 1));
    assert!(world.remove(&1), "a key that is recompressed is there to be removed");
    let swapped = other.join().unwrap();
    assert_eq!(get(&world, 1), None, "a removed page is not found");
    over(&world, 0);
    swapped
}

#[test]
fn a_frame_goes_when_its_entry_is_recompressed() {
    assert_eq!(model(Some(2), swap_hot_and_remove).len(), 2);
}

fn swap_and_hit() -> bool {
    let world = one();
    let other = beside(&world, |world| recompress(world, 1));
    assert_eq!(get(&world, 1), Some(7), "a key that is recompressed is never missed");
    let swapped = other.join().unwrap();
    assert!(swapped, "nobody is in its way");
    over(&world, 1);
    swapped
}

#[test]
fn a_key_that_is_recompressed_is_never_missed() {
    model(Some(4), swap_and_hit);
}

#[test]
#[should_panic(expected = "exceeded maximum number of branches")] // a look that never ends
fn freeing_the_old_object_before_the_new_one_is_there_is_noticed() {
    twin(Some(4), Plant::SwapFreesFirst, swap_and_hit);
}

/// The id of the old object is that of the next page.
fn swap_and_insert() -> usize {
    let world = one();
    let other = beside(&world, |world| recompress(world, 1));
    world.insert(2, &page(9)).unwrap();
    assert!(other.join().unwrap(), "nobody is in its way");
    assert_eq!((get(&world, 1), get(&world, 2)), (Some(7), Some(9)), "both are there");
    over(&world, 2);
    2
}

#[test]
fn the_id_of_a_recompressed_entry_is_the_next_ones() {
    model(Some(2), swap_and_insert);
}

fn swap_and_evict() -> (bool, usize) {
    let world = one();
    let other = beside(&world, |world| recompress(world, 1));
    let evicted = world.tier.evict(1).entries;
    let swapped = other.join().unwrap();
    let got = get(&world, 1);
    assert!(matches!(got, None | Some(7)), "whole or gone");
    assert!(got.is_none() || swapped || evicted == 0);
    over(&world, usize::from(got.is_some()));
    (swapped, evicted)
}

#[test]
fn an_entry_that_is_recompressed_and_evicted_ends_once() {
    assert!(model(Some(3), swap_and_evict).len() >= 2);
}

/// The new object's id comes before the old one's: who walks has passed it when he comes to the old
/// one.
fn swap_and_clear() -> bool {
    let world = world();
    world.insert(2, &page(9)).unwrap();
    world.insert(1, &page(7)).unwrap();
    world.remove(&2);
    let other = beside(&world, |world| recompress(world, 1));
    world.clear();
    assert_eq!(get(&world, 1), None, "what was there before a clear is gone after it");
    let swapped = other.join().unwrap();
    assert_eq!(get(&world, 1), None, "what was there before a clear is gone after it");
    over(&world, 0);
    swapped
}

#[test]
fn clear_misses_no_entry_that_is_recompressed() {
    assert_eq!(model(Some(3), swap_and_clear).len(), 2);
}

#[test]
#[should_panic(expected = "what was there before a clear is gone after it")]
fn a_swap_beside_a_walk_is_noticed() {
    twin(Some(3), Plant::SwapPastWalk, swap_and_clear);
}

/// A page of a scan is hit twice at once, while the policy takes marks.
fn two_first_hits() -> [bool; 2] {
    let record = Arc::new(Record::new((), 7, 16, Form::Raw, false, 1));
    record.set_rest(record.state(), Rest::Unpacked);
    let hit = beside(&record, |record| record.hit(3));
    let told = [record.hit(3), hit.join().unwrap()];
    assert_ne!(told, [true; 2], "one hit alone is told");
    assert_eq!(record.state().rest(), Rest::Warm, "one of two hits is told");
    told
}

#[test]
fn one_hit_alone_is_told_of_an_unpacked_page() {
    assert_eq!(model(None, two_first_hits).len(), 2);
}

#[test]
#[should_panic(expected = "one hit alone is told")]
fn a_hit_that_lost_and_is_told_is_noticed() {
    twin(None, Plant::LoserPacks, two_first_hits);
}
