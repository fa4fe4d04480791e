//! Objects that get lower ids beside those who read, free and move them.

use std::sync::Arc;

use super::World;
use crate::error::MapError;
use crate::handle::Handle;
use crate::sync::Plant;
use crate::sync::model::{beside, model, twin};

/// A free slot, and an object in a higher one.
fn gap() -> (Arc<World>, Handle) {
    let world = World::new();
    let (low, high) = (world.alloc(1), world.alloc(2));
    world.pool.free(low).unwrap();
    (world, high)
}

/// Renumbers the object in another thread, and `f` beside it; the object's handle afterwards, if it
/// moved.
fn renumbering<R>(world: &Arc<World>, f: impl FnOnce(&World) -> R) -> (Option<Handle>, R) {
    let mover = beside(world, |world| world.pool.renumber(1, |_| true));
    let result = f(world);
    (mover.join().unwrap(), result)
}

/// Reads the object by its old handle and by both ids.
fn renumber_and_read() -> (bool, [bool; 3]) {
    let (world, handle) = gap();
    let (moved, read) = renumbering(&world, |world| {
        let by_handle = world.read(handle);
        let by_id = [1, 0].map(|id| world.read_id(id).map(|(value, _)| value));
        [by_handle, by_id[0], by_id[1]]
    });
    for read in read {
        assert!(matches!(read, Ok(2) | Err(MapError::Stale | MapError::Busy)), "{read:?}");
    }
    let now = moved.unwrap_or(handle);
    assert_eq!((world.read(now), world.pool.id(now)), (Ok(2), Some(u32::from(moved.is_none()))));
    assert!(moved.is_none() || world.read(handle) == Err(MapError::Stale));
    world.over(&[now]);
    (moved.is_some(), read.map(|read| read.is_ok()))
}

#[test]
fn a_reader_sees_an_object_whole_by_one_id_or_the_other() {
    // 2,555 iterations, 1.2 s.
    let seen = model(None, renumber_and_read);
    assert!(seen.contains_key(&(true, [true, false, true])), "{seen:?}");
    assert!(seen.contains_key(&(false, [true, true, false])), "held by its reader, it stays");
}

#[test]
#[should_panic(expected = "unpinned more often than pinned")]
fn renumbering_under_a_reader_is_noticed() {
    twin(None, Plant::LockIgnoresPins, renumber_and_read);
}

/// Frees the object by its old handle.
fn renumber_and_free() -> (bool, bool) {
    let (world, handle) = gap();
    let (moved, freed) = renumbering(&world, |world| world.pool.free(handle).is_ok());
    assert!(freed != moved.is_some(), "it is freed, or has another handle");
    world.over(moved.as_slice());
    (moved.is_some(), freed)
}

#[test]
fn an_object_that_is_freed_while_it_is_renumbered_ends_once() {
    // 54,943 iterations, 23 s: with three preemptions 1 s.
    assert_eq!(model(Some(3), renumber_and_free).len(), 2);
}

#[test]
#[should_panic(expected = "a dying object ends")]
fn forgetting_a_free_beside_is_noticed() {
    twin(None, Plant::UnlockForgetsFree, renumber_and_free);
}

/// Two threads renumber two objects, and take two free slots.
fn renumber_twice() -> (bool, bool) {
    let world = World::new();
    let all = [1, 2, 3, 4].map(|value| world.alloc(value));
    all[..2].iter().for_each(|low| world.pool.free(*low).unwrap());
    let mover = beside(&world, |world| world.pool.renumber(2, |_| true));
    let other = world.pool.renumber(3, |_| true);
    let moved = [mover.join().unwrap(), other];
    let now = [moved[0].unwrap_or(all[2]), moved[1].unwrap_or(all[3])];
    assert_eq!(now.map(|handle| world.read(handle)), [Ok(3), Ok(4)]);
    world.over(&now);
    (moved[0].is_some(), moved[1].is_some())
}

#[test]
fn two_objects_never_get_one_id() {
    assert!(model(Some(3), renumber_twice).contains_key(&(true, true)));
}

/// A compaction moves the object, or finds its neighbour, while it gets another id.
fn renumber_and_compact() -> (bool, usize) {
    let world = World::new();
    let all = [1, 2, 3, 4].map(|value| world.alloc(value));
    // Two zspages with an object each, and two free ids.
    [0, 2].iter().for_each(|gone| world.pool.free(all[*gone]).unwrap());
    let mover = beside(&world, |world| world.pool.renumber(3, |_| true));
    let did = world.pool.compact(usize::MAX);
    let moved = mover.join().unwrap();
    let now = [all[1], moved.unwrap_or(all[3])];
    assert_eq!(now.map(|handle| world.read(handle)), [Ok(2), Ok(4)]);
    // Whatever came of it, the owner's entry leads to the object: it can be moved later.
    let later = world.pool.compact(usize::MAX);
    assert_eq!(did.objects_moved + later.objects_moved, 1);
    world.over(&now);
    (moved.is_some(), did.objects_moved)
}

#[test]
fn an_object_is_renumbered_moved_or_both() {
    assert!(model(Some(3), renumber_and_compact).len() >= 2);
}

#[test]
#[should_panic(expected = "assertion")]
fn an_owner_that_is_left_as_it_was_is_noticed() {
    twin(Some(3), Plant::OwnerLeft, renumber_and_compact);
}
