//! Objects of mixed zspages, beside everybody else.

use std::sync::Arc;

use super::{LEN, World};
use crate::handle::Handle;
use crate::sync::Plant;
use crate::sync::model::{beside, model, twin};

/// A mixed zspage of two pages with two gaps, and one of a page with an object that fits into one.
fn sparse() -> (Arc<World>, [Handle; 3]) {
    let world = World::mixed(3);
    let handles = [1, 2, 3, 4, 5].map(|value| world.alloc(value));
    world.pool.free(handles[0]).unwrap();
    world.pool.free(handles[2]).unwrap();
    (world, [handles[1], handles[3], handles[4]])
}

/// Reads the object that moves.
fn move_and_read() -> usize {
    let (world, handles) = sparse();
    let mover = beside(&world, |world| world.pool.compact(usize::MAX));
    assert_eq!(world.read(handles[2]), Ok(5), "readers are never held up");
    let did = mover.join().unwrap();
    assert_eq!(handles.map(|handle| world.read(handle)), [Ok(2), Ok(4), Ok(5)]);
    world.over(&handles);
    did.pages_freed
}

#[test]
fn a_reader_sees_an_object_of_a_mixed_zspage_whole_while_it_moves() {
    assert_eq!(model(Some(2), move_and_read).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn swinging_without_release_between_mixed_zspages_is_noticed() {
    twin(Some(2), Plant::SwingUnreleased, move_and_read);
}

/// Frees the object that moves, and stores another one where there is a gap by then.
fn move_and_replace() -> usize {
    let (world, [second, fourth, fifth]) = sparse();
    let mover = beside(&world, |world| world.pool.compact(usize::MAX));
    world.pool.free(fifth).unwrap();
    // Whole witness cells: neighbours share none.
    let other = world.alloc_of(6, LEN - 256);
    let did = mover.join().unwrap();
    assert_eq!([second, fourth, other].map(|handle| world.read(handle)), [Ok(2), Ok(4), Ok(6)]);
    world.over(&[second, fourth, other]);
    did.objects_moved
}

#[test]
fn an_object_takes_a_gap_beside_a_migration() {
    assert_eq!(model(Some(2), move_and_replace).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn freeing_under_a_migration_between_mixed_zspages_is_noticed() {
    twin(Some(2), Plant::FreeIgnoresPins, move_and_replace);
}

/// An object ends under its last reader while its class's lock is taken.
fn read_and_free() {
    let (world, [second, fourth, fifth]) = sparse();
    let reader = beside(&world, move |world| _ = world.read(fifth));
    world.pool.free(fifth).unwrap();
    let other = world.alloc(7);
    reader.join().unwrap();
    assert_eq!(world.read(other), Ok(7));
    world.pool.compact(usize::MAX);
    world.over(&[second, fourth, other]);
}

#[test]
fn an_object_of_a_mixed_zspage_ends_under_its_reader() {
    model(Some(2), read_and_free);
}
