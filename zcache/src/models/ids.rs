//! Entries that get lower ids beside everybody else.

use std::ops::Range;

use super::hot::hot_world;
use super::{World, get, over, page, world, world_of};
use crate::config::HotShare;
use crate::policy::{Entries, Policy, Priority};
use crate::scope::UNNAMED;
use crate::store::Record;
use crate::sync::model::{beside, model, twin};
use crate::sync::{Arc, Plant};
use crate::tier::{Newcomer, Reach};

/// A free id, and the entry of key 2 in the next one.
fn gap() -> Arc<World> {
    let world = world();
    world.insert(1, &page(1)).unwrap();
    world.insert(2, &page(7)).unwrap();
    assert!(world.remove(&1));
    world
}

/// Moves the entry down beside `f`; whether it moved.
fn moving<R>(f: impl FnOnce(&World) -> R) -> (bool, R, Arc<World>) {
    let world = gap();
    let mover = beside(&world, |world| world.tier.move_one(1));
    let result = f(&world);
    (mover.join().unwrap(), result, world)
}

fn move_and_get() -> (bool, Option<u8>) {
    let (moved, got, world) = moving(|world| get(world, 2));
    assert_eq!(got, Some(7), "an entry that moves is never missed");
    over(&world, 1);
    (moved, got)
}

#[test]
fn an_entry_is_never_missed_while_it_moves() {
    assert_eq!(model(Some(3), move_and_get).len(), 2);
}

#[test]
#[should_panic(expected = "exceeded maximum number of branches")] // a look that never ends
fn moving_an_entry_outside_its_shards_lock_is_noticed() {
    twin(Some(3), Plant::MovedUnlocked, move_and_get);
}

fn move_and_replace() -> bool {
    let (moved, (), world) = moving(|world| world.insert(2, &page(8)).unwrap());
    assert_eq!(get(&world, 2), Some(8), "the new page is there");
    over(&world, 1);
    moved
}

#[test]
fn an_entry_that_is_replaced_while_it_moves_ends_once() {
    assert_eq!(model(Some(3), move_and_replace).len(), 2);
}

fn move_and_remove() -> bool {
    let (moved, removed, world) = moving(|world| world.remove(&2));
    assert!(removed, "it was there, whichever id it had");
    over(&world, 0);
    moved
}

#[test]
fn an_entry_that_is_removed_while_it_moves_ends_once() {
    assert_eq!(model(Some(3), move_and_remove).len(), 2);
}

/// An entry that has a frame moves and is replaced.
fn move_hot_and_replace() -> bool {
    let world = hot_world();
    world.insert(1, &page(1)).unwrap();
    world.insert(2, &page(7)).unwrap();
    assert!(world.remove(&1));
    assert_eq!([0; 2].map(|_| get(&world, 2)), [Some(7); 2]);
    assert_eq!(world.frames(), 1);
    let mover = beside(&world, |world| world.tier.move_one(1));
    world.insert(2, &page(8)).unwrap();
    assert_eq!(get(&world, 2), Some(8), "a page that was replaced is not found");
    let moved = mover.join().unwrap();
    over(&world, 1);
    moved
}

#[test]
fn a_frame_goes_when_its_entry_moves() {
    assert_eq!(model(Some(1), move_hot_and_replace).len(), 2);
}

fn move_and_evict() -> (bool, usize) {
    let (moved, evicted, world) = moving(|world| world.tier.evict(1).entries);
    over(&world, 1 - evicted);
    (moved, evicted)
}

#[test]
fn a_victim_is_evicted_by_the_id_it_has() {
    let seen = model(Some(3), move_and_evict);
    assert!(seen.contains_key(&(true, 1)) && seen.contains_key(&(false, 1)), "{seen:?}");
}

#[test]
#[should_panic(expected = "the policy knows each entry")]
fn an_entry_whose_new_id_the_policy_does_not_know_is_noticed() {
    twin(Some(3), Plant::MovedUnqueued, move_and_evict);
}

fn move_and_clear() -> bool {
    let (moved, (), world) = moving(World::clear);
    assert_eq!((get(&world, 2), world.len()), (None, 0), "cleared, whichever id it had");
    over(&world, 0);
    moved
}

#[test]
fn whoever_goes_through_all_entries_meets_one_that_moves() {
    assert_eq!(model(Some(3), move_and_clear).len(), 2);
}

#[test]
#[should_panic(expected = "cleared, whichever id it had")]
fn moving_beside_a_walk_is_noticed() {
    twin(Some(3), Plant::SwapPastWalk, move_and_clear);
}

/// The id that the entry had goes to a page of `key` that is never published, beside its move.
fn move_and_use_again(key: u8) -> bool {
    let (moved, got, world) = moving(|world| {
        let (page, tag) = (page(8), world.tag(&key));
        let draft = world.tier.store.draft(tag, &page, None).unwrap();
        let record = Record::new(key, tag, draft.len, draft.form, draft.expires, 0);
        let made = Newcomer::make(&world.tier, Reach::AtHand, record, draft.parts(), true, UNNAMED);
        let newcomer = made.map_err(|(lack, _)| lack).expect("there is room");
        let got = get(world, 2);
        newcomer.give_up();
        got
    });
    assert_eq!(got, Some(7), "what is there is found, and nothing that is not");
    over(&world, 1);
    moved
}

#[test]
fn the_id_of_before_leads_to_no_page_of_the_same_key() {
    assert_eq!(model(Some(3), || move_and_use_again(2)).len(), 2);
}

#[test]
fn the_id_of_before_hides_no_page_behind_another_keys() {
    assert_eq!(model(Some(3), || move_and_use_again(3)).len(), 2);
}

#[test]
#[should_panic(expected = "what is there is found, and nothing that is not")]
fn leading_to_the_id_of_before_is_noticed() {
    twin(Some(2), Plant::LiftedLeads, || move_and_use_again(2));
}

/// A queue whose room comes and goes for two ids at once.
#[derive(Debug, Default)]
struct Pairs {
    ids: Vec<u32>,
    room: Vec<bool>,
}

impl Policy for Pairs {
    fn name(&self) -> &'static str {
        "pairs"
    }

    fn fresh(&self) -> Box<dyn Policy> {
        Box::new(Self::default())
    }

    fn max_mark(&self) -> u8 {
        1
    }

    fn growth(&self, id: u32) -> usize {
        if self.room.get(id as usize / 2) == Some(&true) { 0 } else { 8 }
    }

    fn grow(&mut self, id: u32) -> Result<(), zpool::NoMemory> {
        let pair = id as usize / 2;
        self.room.resize(self.room.len().max(pair + 1), false);
        self.room[pair] = true;
        Ok(())
    }

    fn shrink(&mut self, in_use: &dyn Fn(Range<u32>) -> bool) -> usize {
        let before = self.bytes();
        for (pair, room) in (0..).zip(&mut self.room) {
            let ids = 2 * pair..2 * pair + 2;
            *room &= self.ids.iter().any(|id| ids.contains(id)) || in_use(ids);
        }
        before - self.bytes()
    }

    fn insert(&mut self, id: u32, _tag: u32, _priority: Priority) {
        assert_eq!(self.growth(id), 0, "id {id} has no room");
        self.ids.push(id);
    }

    fn remove(&mut self, id: u32) -> bool {
        let before = self.ids.len();
        self.ids.retain(|other| *other != id);
        self.ids.len() < before
    }

    fn replace(&mut self, old: u32, _new: u32) {
        self.remove(old);
    }

    fn evict(&mut self, entries: &dyn Entries, _effort: usize) -> Option<u32> {
        let at = self.ids.iter().position(|id| entries.mark(*id).is_some())?;
        Some(self.ids.remove(at))
    }

    fn contains(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }

    fn len(&self) -> usize {
        self.ids.len()
    }

    fn bytes(&self) -> usize {
        8 * self.room.iter().filter(|room| **room).count()
    }

    fn check(&self) {
        assert!(self.ids.iter().all(|id| self.growth(*id) == 0), "all ids have room");
    }
}

/// The policy's room for two ids that are free is given back while one of them is handed out.
fn insert_and_shrink() -> bool {
    let world = world_of(HotShare::Off, Pairs::default());
    (1..=3).for_each(|key| world.insert(key, &page(key)).unwrap());
    assert!(world.remove(&3));
    let other = beside(&world, |world| {
        assert!(world.remove(&2));
        world.tier.policy.roomy() < 4
    });
    world.insert(9, &page(9)).unwrap();
    let fell = other.join().unwrap();
    assert_eq!(get(&world, 9), Some(9));
    over(&world, 2);
    fell
}

#[test]
fn an_id_that_is_handed_out_has_room_in_the_policy() {
    assert_eq!(model(Some(2), insert_and_shrink).len(), 2);
}

#[test]
#[should_panic(expected = "has no room")]
fn room_that_is_given_back_unasked_is_noticed() {
    twin(Some(2), Plant::RoomUnasked, insert_and_shrink);
}

#[test]
#[should_panic(expected = "has no room")]
fn room_that_is_said_to_be_there_until_it_goes_is_noticed() {
    twin(Some(2), Plant::RoomLoweredLate, insert_and_shrink);
}
