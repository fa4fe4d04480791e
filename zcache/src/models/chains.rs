//! Chains of lines that change beside readers. A reader that looks for a key that is there finds
//! it, whichever lines are linked, left, used again or given another number meanwhile.

use super::table::{World, tag, with};
use crate::sync::model::{beside, model};
use crate::sync::{Arc, let_split};

const FOUND: &str = "a key that moves is never missed";

/// A world with these keys, each in its first version and under the id of its place here. The shard
/// has a bucket more for each of the first `buckets` keys.
fn with_keys<const N: usize>(keys: [u32; N], buckets: usize) -> Arc<World> {
    let world = World::new();
    for (id, key) in (0..).zip(keys) {
        let_split((id as usize) < buckets);
        world.make(id, key, 1);
        assert_eq!(world.put(id, key), None);
    }
    let_split(false);
    world
}

/// What a reader finds of `key` beside `change`.
fn look_beside(world: &Arc<World>, key: u32, change: impl FnOnce(&World)) {
    let reader = beside(world, move |world| world.look(key));
    change(world);
    assert_eq!(reader.join().unwrap(), Some(1), "{FOUND}");
    assert_eq!(world.look(key), Some(1), "{FOUND}");
}

fn shrink(world: &World) {
    world.table.shrink(&|id| world.tag_of(id));
    world.table.check(&|id| world.tag_of(id));
}

/// Key 2 moves up its chain, and `comes` takes the place where it was.
fn move_up_and_come(comes: u32) -> Option<u32> {
    let world = with(2);
    world.make(2, comes, 1);
    look_beside(&world, 2, |world| {
        assert_eq!((world.take(1), world.put(2, comes)), (Some(1), None));
    });
    world.look(comes)
}

#[test]
fn a_key_whose_place_another_one_takes_is_never_missed() {
    model(Some(2), || move_up_and_come(3));
}

#[test]
fn a_key_whose_place_one_of_its_tag_takes_is_never_missed() {
    model(Some(2), || move_up_and_come(4));
}

/// Two buckets with two lines each. The second line of the first one goes, and that of the other
/// one gets its number.
fn renumber(key: u32) -> usize {
    let world = with_keys([5, 1, 6, 2], 2);
    look_beside(&world, key, |world| assert_eq!(world.take(5), Some(1)));
    world.table.check(&|id| world.tag_of(id));
    world.table.len()
}

#[test]
fn a_key_whose_line_gets_another_number_is_never_missed() {
    model(Some(2), || renumber(2));
}

#[test]
fn a_key_whose_line_another_one_gets_is_never_missed() {
    model(Some(2), || renumber(6));
}

/// The last of four buckets goes, which has two lines; the second one goes along as it is.
fn merge_lines(key: u32) -> usize {
    let world = with_keys([1, 5, 7, 8], 4);
    assert_eq!((world.take(1), world.take(5)), (Some(1), Some(1)));
    look_beside(&world, key, shrink);
    world.table.len()
}

#[test]
fn a_key_whose_bucket_goes_is_never_missed() {
    model(Some(2), || merge_lines(7));
}

#[test]
fn a_key_in_the_second_line_of_a_bucket_that_goes_is_never_missed() {
    model(Some(2), || merge_lines(8));
}

/// The last of four buckets goes, and the bucket that stays needs another line for what comes.
fn merge_into_another_line(key: u32) -> usize {
    let world = with_keys([1, 5, 7, 8], 4);
    assert_eq!((world.take(8), world.take(5)), (Some(1), Some(1)));
    look_beside(&world, key, shrink);
    world.table.len()
}

#[test]
fn a_key_that_moves_to_another_line_is_never_missed() {
    model(Some(2), || merge_into_another_line(7));
}

#[test]
fn a_key_whose_bucket_gets_another_line_is_never_missed() {
    model(Some(2), || merge_into_another_line(1));
}

/// Of two keys of a chain key 1 goes to a new bucket, and key 5 stays.
fn split(keys: [u32; 2], key: u32) -> usize {
    let world = with_keys(keys, 0);
    world.make(2, 3, 1);
    look_beside(&world, key, |world| {
        let_split(true);
        assert_eq!(world.put(2, 3), None);
        let_split(false);
    });
    world.table.check(&|id| world.tag_of(id));
    world.table.len()
}

#[test]
fn a_key_that_moves_up_when_another_one_goes_is_never_missed() {
    model(Some(2), || split([1, 5], 5));
}

#[test]
fn a_key_that_goes_to_a_new_bucket_is_never_missed() {
    model(Some(2), || split([1, 5], 1));
    model(Some(2), || split([5, 1], 1));
}

/// The id of a key's page changes, as where an entry is renumbered: the old id is nobody's then.
fn change_id() -> Option<u32> {
    let world = with(1);
    let reader = beside(&world, |world| world.look(1));
    let changed = world.table.swap(tag(1), 0, || {
        world.make(1, 1, 2);
        world.end(0);
        Some(1)
    });
    assert!(changed, "it is there");
    let found = reader.join().unwrap();
    assert!(found.is_some(), "{FOUND}");
    found
}

#[test]
fn a_key_whose_id_changes_is_never_missed() {
    assert_eq!(model(Some(3), change_id).len(), 2);
}

/// Two writers replace the page of a key.
fn replace_and_replace() -> (Option<u32>, Option<u32>) {
    let world = with(1);
    world.make(1, 1, 2);
    world.make(2, 1, 3);
    let other = beside(&world, |world| world.put(1, 1));
    let put = (world.put(2, 1), other.join().unwrap());
    assert!(matches!(put, (Some(1), Some(3)) | (Some(2), Some(1))), "each replaces one: {put:?}");
    assert_eq!(world.table.len(), 1, "a key is there once");
    put
}

#[test]
fn of_two_that_replace_a_page_the_later_one_replaces_the_others() {
    assert_eq!(model(Some(3), replace_and_replace).len(), 2);
}

/// Two writers take a key out of a shard that has another one.
fn take_and_take() -> (Option<u32>, Option<u32>) {
    let world = with(2);
    let other = beside(&world, |world| world.take(2));
    let taken = (world.take(2), other.join().unwrap());
    assert!(matches!(taken, (Some(1), None) | (None, Some(1))), "one takes it: {taken:?}");
    assert_eq!((world.look(1), world.table.len()), (Some(1), 1), "and the other key stays");
    taken
}

#[test]
fn of_two_that_take_a_key_one_takes_it() {
    assert_eq!(model(Some(3), take_and_take).len(), 2);
}

/// A writer takes a key out whose id changes.
fn change_id_and_take() -> bool {
    let world = with(1);
    world.make(1, 1, 2);
    let other = beside(&world, |world| world.take(1));
    let changed = world.table.swap(tag(1), 0, || Some(1));
    let taken = other.join().unwrap();
    assert_eq!(taken, Some(1 + u32::from(changed)), "it is taken out under the id that it has");
    assert_eq!((world.look(1), world.table.len()), (None, 0));
    changed
}

#[test]
fn a_key_whose_id_changes_is_taken_out() {
    assert_eq!(model(Some(3), change_id_and_take).len(), 2);
}
