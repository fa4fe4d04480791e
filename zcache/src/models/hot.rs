//! Frames beside threads that take their entries away. In these models all readers share one pair
//! of counters, and two keys a slot.

use super::{World, get, over, page, world_with};
use crate::config::HotShare;
use crate::sync::model::{beside, model, twin};
use crate::sync::{Arc, Plant, let_grow, let_see_latest};

pub(super) fn hot_world() -> Arc<World> {
    let_see_latest();
    world_with(HotShare::Fraction(8))
}

impl World {
    pub(super) fn frames(&self) -> usize {
        self.tier.hot.as_ref().unwrap().frames().len()
    }

    fn demote(&self) {
        self.tier.hot.as_ref().unwrap().demote_all();
        self.tier.collect_frames();
    }
}

/// A world in which key 1 is page 7, and was hit so often.
pub(super) fn hit(times: usize) -> Arc<World> {
    let world = hot_world();
    world.insert(1, &page(7)).unwrap();
    (0..times).for_each(|_| assert_eq!(get(&world, 1), Some(7)));
    assert_eq!(world.frames(), usize::from(times > 1));
    world
}

fn hit_and_demote() -> usize {
    let world = hit(2);
    let reader = beside(&world, |world| get(world, 1));
    world.demote();
    assert_eq!(reader.join().unwrap(), Some(7), "a page whose frame goes is hit all the same");
    let hits = world.stats().hot_hits as usize;
    over(&world, 1);
    hits
}

#[test]
fn a_page_that_is_demoted_is_never_missed() {
    assert_eq!(model(Some(3), hit_and_demote).len(), 2);
}

fn promote_and_remove() -> (Option<u8>, usize) {
    let world = hit(1);
    let reader = beside(&world, |world| get(world, 1));
    assert!(world.remove(&1));
    assert_eq!(get(&world, 1), None, "a removed page is not found");
    let got = reader.join().unwrap();
    assert_eq!(get(&world, 1), None, "a removed page is not found");
    let promoted = world.stats().promotions as usize;
    assert_eq!(world.frames(), 0);
    over(&world, 0);
    (got, promoted)
}

#[test]
fn a_frame_does_not_outlast_its_entry() {
    let seen = model(Some(3), promote_and_remove);
    assert!(seen.contains_key(&(Some(7), 1)) && seen.contains_key(&(Some(7), 0)));
}

#[test]
#[should_panic(expected = "a removed page is not found")]
fn a_frame_that_stays_behind_is_noticed() {
    twin(Some(3), Plant::FrameLeft, promote_and_remove);
}

#[test]
#[should_panic(expected = "a removed page is not found")]
fn putting_a_frame_outside_the_shards_lock_is_noticed() {
    twin(Some(3), Plant::PutUnlocked, promote_and_remove);
}

/// A key that was hit so often is replaced beside a thread that hits it twice.
fn replace_beside_hits(times: usize) -> (Option<u8>, Option<u8>) {
    let world = hit(times);
    let reader = beside(&world, |world| (get(world, 1), get(world, 1)));
    world.insert(1, &page(8)).unwrap();
    assert_eq!(get(&world, 1), Some(8), "a page that was replaced is not found");
    let got = reader.join().unwrap();
    assert!(got.0.is_some() && got.1.is_some(), "a key that is replaced is never missed");
    assert!(got.0 <= got.1, "nobody who has seen the new page finds the old one");
    assert_eq!(get(&world, 1), Some(8), "a page that was replaced is not found");
    over(&world, 1);
    got
}

/// The reader's hits make the frame.
fn promote_and_replace() -> (Option<u8>, Option<u8>) {
    replace_beside_hits(1)
}

/// The frame is there.
fn hot_and_replace() -> (Option<u8>, Option<u8>) {
    replace_beside_hits(2)
}

#[test]
fn a_frame_of_a_page_that_was_replaced_is_not_found() {
    // With 2 preemptions: 106,264 iterations, 204 s on a loaded machine.
    assert!(model(Some(1), promote_and_replace).len() >= 2);
}

#[test]
fn a_hot_page_that_is_replaced_is_found_old_and_then_new() {
    assert!(model(Some(1), hot_and_replace).len() >= 2);
}

#[test]
#[should_panic(expected = "a page that was replaced is not found")]
fn a_frame_that_stays_behind_its_replacement_is_noticed() {
    twin(Some(1), Plant::FrameLeft, hot_and_replace);
}

fn promote_and_promote() {
    let world = hit(1);
    let other = beside(&world, |world| get(world, 1));
    assert_eq!((get(&world, 1), other.join().unwrap()), (Some(7), Some(7)));
    assert_eq!(world.frames(), 1, "one entry, one frame");
    assert_eq!(
        world.stats().promotions,
        1,
        "the slower of two finds a frame there, and makes none"
    );
    over(&world, 1);
}

#[test]
fn an_entry_that_is_promoted_twice_has_one_frame() {
    model(Some(1), promote_and_promote);
}

/// Keys 1 and 2 have one slot; each of the two is promoted there and found whole.
fn promote_and_take_the_slot() -> (Option<u8>, Option<u8>) {
    let world = hit(2);
    world.insert(2, &page(9)).unwrap();
    assert_eq!(get(&world, 2), Some(9));
    // The next hit on 2 finds the frame of 1 cold, and takes its place.
    world.tier.hot.as_ref().unwrap().each(|_, head, _| assert_eq!(head.key, 1));
    let reader = beside(&world, |world| get(world, 1));
    let got = (get(&world, 2), reader.join().unwrap());
    assert_eq!(got, (Some(9), Some(7)), "no page is another's");
    let left = world.len();
    over(&world, left);
    got
}

#[test]
fn two_keys_of_one_slot_never_find_each_others_pages() {
    model(Some(2), promote_and_take_the_slot);
}

fn hot_hit_then_evict() -> bool {
    let world = hit(2);
    world.insert(2, &page(9)).unwrap();
    // What the hits on the entry itself have earned is gone.
    let entry = (0..2).find_map(|id| world.tier.entry(id).filter(|entry| entry.record().key == 1));
    entry.unwrap().record().set_mark(0);
    let other = beside(&world, |world| get(world, 1) == Some(7));
    assert_eq!(get(&world, 1), Some(7));
    let seen = other.join().unwrap();
    assert_eq!(world.tier.evict(1).entries, 1);
    assert!(world.contains_key(&1), "a hit on a frame counts for its entry");
    over(&world, 1);
    seen
}

#[test]
fn a_hit_on_a_frame_spares_its_entry() {
    model(Some(2), hot_hit_then_evict);
}

#[test]
#[should_panic(expected = "a hit on a frame counts for its entry")]
fn a_policy_that_does_not_hear_of_frames_is_noticed() {
    twin(Some(2), Plant::FrameHitUnheard, hot_hit_then_evict);
}

/// A world whose table of frames grows with the next promotion; two keys, of which the first one
/// has a frame and the other one was hit, and the sets where they are looked for then.
fn about_to_grow(sets: [u32; 2]) -> (Arc<World>, [u8; 2]) {
    let world = hot_world();
    let keys = sets.map(|set| (1..).find(|key| world.tag(key) & 1 == set).unwrap());
    world.insert(keys[0], &page(7)).unwrap();
    world.insert(keys[1], &page(9)).unwrap();
    assert_eq!([0, 0, 1].map(|key| get(&world, keys[key])), [Some(7), Some(7), Some(9)]);
    assert_eq!(world.frames(), 1);
    let_grow(true);
    (world, keys)
}

/// The table grows over a frame whose page is replaced. The other thread does that, so that a frame
/// in the middle of its move is one preemption away.
fn grow_and_replace() -> usize {
    let (world, [hot, other]) = about_to_grow([1, 0]);
    let owner = beside(&world, move |world| {
        world.insert(hot, &page(8)).unwrap();
        get(world, hot)
    });
    assert_eq!(get(&world, other), Some(9));
    assert_eq!(owner.join().unwrap(), Some(8), "a page that was replaced is not found");
    assert_eq!(get(&world, hot), Some(8), "a page that was replaced is not found");
    assert_eq!(get(&world, other), Some(9));
    let frames = world.frames();
    over(&world, 2);
    let_grow(false);
    frames
}

#[test]
fn a_frame_that_is_replaced_while_the_table_grows_is_not_found() {
    model(Some(1), grow_and_replace);
}

#[test]
#[should_panic(expected = "a page that was replaced is not found")]
fn a_frame_that_moves_without_its_shards_lock_is_noticed() {
    twin(Some(1), Plant::ShiftUnlocked, grow_and_replace);
}

/// The table grows beside a promotion.
fn grow_and_promote() -> usize {
    let (world, [_, other]) = about_to_grow([0, 1]);
    let grower = beside(&world, |world| {
        let hot = world.tier.hot.as_ref().unwrap();
        world.tier.under(|under| hot.grow(&world.tier.store.pool, under));
        // What is in a wrong place goes now, and nothing is put there after it.
        world.tier.under(|under| hot.grow(&world.tier.store.pool, under));
    });
    assert_eq!(get(&world, other), Some(9));
    grower.join().unwrap();
    let frames = world.frames();
    over(&world, 2);
    let_grow(false);
    frames
}

#[test]
fn no_frame_is_put_where_it_was_before_the_table_grew() {
    model(Some(2), grow_and_promote);
}

#[test]
#[should_panic(expected = "a frame is where it is looked for")]
fn a_frame_that_is_put_where_it_was_is_noticed() {
    twin(Some(2), Plant::PutWhereItWas, grow_and_promote);
}

/// The table shrinks beside a promotion into a set that goes, and may grow again with it.
fn shrink_and_promote() -> (usize, usize) {
    let (world, [hot, other]) = about_to_grow([0, 1]);
    assert_eq!(get(&world, other), Some(9));
    let table = |world: &World| world.tier.hot.as_ref().unwrap().frames().slots();
    assert_eq!((world.frames(), table(&world)), (2, 2), "the table has grown");
    world.tier.hot.as_ref().unwrap().demote_all();
    assert_eq!(get(&world, other), Some(9));
    let promoter = beside(&world, move |world| get(world, other));
    world.tier.settle_frames();
    assert_eq!(promoter.join().unwrap(), Some(9));
    assert_eq!((get(&world, other), get(&world, hot)), (Some(9), Some(7)));
    let seen = (world.frames(), table(&world));
    over(&world, 2);
    let_grow(false);
    seen
}

#[test]
fn no_frame_is_put_where_it_was_before_the_table_shrank() {
    let seen = model(Some(2), shrink_and_promote);
    assert!(seen.contains_key(&(1, 1)) && seen.contains_key(&(1, 2)), "{seen:?}");
}

#[test]
#[should_panic(expected = "frames are counted")]
fn a_frame_that_is_put_into_a_set_that_goes_is_noticed() {
    twin(Some(2), Plant::PutWhereItWas, shrink_and_promote);
}

#[test]
#[should_panic(expected = "frames are counted")]
fn a_change_of_length_that_waits_for_nobody_is_noticed() {
    twin(Some(3), Plant::LengthUntold, shrink_and_promote);
}

/// The table shrinks under a frame whose page is replaced.
fn shrink_and_replace() -> Option<u8> {
    let (world, [other, hot]) = about_to_grow([0, 1]);
    assert_eq!(get(&world, hot), Some(9));
    let table = |world: &World| world.tier.hot.as_ref().unwrap().frames().slots();
    assert_eq!((world.frames(), table(&world)), (2, 2), "the table has grown");
    let shrinker = beside(&world, |world| {
        let hot = world.tier.hot.as_ref().unwrap();
        hot.demote_all();
        world.tier.settle_frames();
    });
    world.insert(hot, &page(8)).unwrap();
    assert_eq!(get(&world, hot), Some(8), "a page that was replaced is not found");
    shrinker.join().unwrap();
    assert_eq!((get(&world, hot), get(&world, other)), (Some(8), Some(7)));
    over(&world, 2);
    let_grow(false);
    Some(8)
}

#[test]
fn a_frame_that_is_replaced_while_the_table_shrinks_is_not_found() {
    model(Some(1), shrink_and_replace);
}

/// A page that was read while it was hot is held beside whoever takes its entry away.
fn hold_and_remove() -> (bool, usize) {
    let world = hit(2);
    let reader = beside(&world, |world| world.get(&1).map(|page| (page.to_vec(), page)));
    assert!(world.remove(&1));
    world.tier.collect_frames();
    assert_eq!(get(&world, 1), None, "a removed page is not found");
    let held = reader.join().unwrap();
    let waiting = world.stats().bytes.waiting;
    if let Some((was, page)) = &held {
        assert!(*page == was[..] && page.iter().all(|byte| *byte == 7), "it is what it was");
    }
    let found = held.is_some();
    drop(held);
    over(&world, 0);
    (found, waiting.min(1))
}

#[test]
fn a_page_in_hand_stays_whole_and_counted_when_its_entry_goes() {
    let seen = model(Some(2), hold_and_remove);
    assert!(seen.contains_key(&(true, 1)) && seen.contains_key(&(false, 0)));
}

/// The same beside a page that takes the frame's slot.
fn hold_and_take_the_slot() -> bool {
    let world = hit(2);
    world.insert(2, &page(9)).unwrap();
    assert_eq!(get(&world, 2), Some(9));
    let reader = beside(&world, |world| world.get(&1));
    assert_eq!(get(&world, 2), Some(9));
    let held = reader.join().unwrap().expect("there all the time");
    assert!(held.iter().all(|byte| *byte == 7), "it is what it was");
    drop(held);
    let hot = world.stats().hot_hits > 0;
    over(&world, 2);
    hot
}

#[test]
fn a_page_in_hand_stays_whole_when_another_takes_its_slot() {
    model(Some(1), hold_and_take_the_slot);
}
