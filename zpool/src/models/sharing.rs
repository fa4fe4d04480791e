//! Readers, writers and frees of one object.

use super::{LEN, World, first_handle};
use crate::error::MapError;
use crate::handle::Handle;
use crate::sync::Plant;
use crate::sync::model::{beside, model, twin};

fn alloc_and_read() -> Option<u8> {
    let world = World::new();
    let reader = beside(&world, |world| world.read(first_handle(0)));
    let handle = world.alloc(7);
    assert_eq!(handle, first_handle(0));
    let read = reader.join().unwrap();
    assert!(matches!(read, Ok(7) | Err(MapError::Stale)));
    world.over(&[handle]);
    read.ok()
}

#[test]
fn an_object_is_read_whole_or_not_at_all() {
    // 52 iterations, under 0.1 s.
    assert_eq!(model(None, alloc_and_read).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn publishing_without_release_is_noticed() {
    twin(None, Plant::PublishRelaxed, alloc_and_read);
}

/// An allocation beside a reader that asks for the object's length alone.
fn alloc_and_measure() -> Option<usize> {
    let world = World::new();
    let reader = beside(&world, |world| world.pool.map(first_handle(0)).map(|map| map.len()));
    let handle = world.alloc(7);
    let read = reader.join().unwrap();
    assert!(matches!(read, Ok(LEN) | Err(MapError::Stale)), "an object has its length");
    world.over(&[handle]);
    read.ok()
}

#[test]
fn an_object_is_read_at_its_length() {
    assert_eq!(model(None, alloc_and_measure).len(), 2);
}

#[test]
#[should_panic(expected = "an object has its length")]
fn a_length_that_is_noted_late_is_noticed() {
    twin(None, Plant::LengthLate, alloc_and_measure);
}

fn free_and_read() -> Option<u8> {
    let world = World::new();
    let handle = world.alloc(7);
    let reader = beside(&world, move |world| world.read(handle));
    world.pool.free(handle).unwrap();
    let read = reader.join().unwrap();
    assert!(matches!(read, Ok(7) | Err(MapError::Stale)));
    world.over(&[]);
    read.ok()
}

#[test]
fn a_freed_object_is_whole_for_its_reader() {
    // 74 iterations, 0.1 s.
    assert_eq!(model(None, free_and_read).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn freeing_under_a_reader_is_noticed() {
    twin(None, Plant::FreeIgnoresPins, free_and_read);
}

/// A slot is freed and used again beside a reader who knows its number: what the reader saw, and
/// whether the next object has that number.
fn reuse_and_pin_id() -> (Option<u8>, bool) {
    let world = World::new();
    let first = world.alloc(7);
    let reader = beside(&world, |world| world.read_id(0));
    world.pool.free(first).unwrap();
    let second = world.alloc(8);
    let reused = world.pool.id(second) == Some(0);
    let read = reader.join().unwrap();
    match read {
        Ok((value, handle)) => {
            assert_eq!((value, handle), if value == 7 { (7, first) } else { (8, second) })
        }
        Err(error) => assert_eq!(error, MapError::Stale),
    }
    world.over(&[second]);
    (read.ok().map(|(value, _)| value), reused)
}

#[test]
fn an_id_leads_to_one_object_or_the_next_and_to_none_between() {
    // 2,783 iterations, 1.0 s.
    let seen = model(None, reuse_and_pin_id);
    assert!(seen.keys().copied().eq([
        (None, true),
        (Some(7), false),
        (Some(7), true),
        (Some(8), true)
    ]));
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn pinning_a_dead_object_by_id_is_noticed() {
    twin(None, Plant::PinDead, reuse_and_pin_id);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn freeing_under_a_reader_by_id_is_noticed() {
    twin(None, Plant::FreeIgnoresPins, reuse_and_pin_id);
}

fn free_and_free() -> (bool, bool) {
    let world = World::new();
    let handle = world.alloc(7);
    let other = beside(&world, move |world| world.pool.free(handle).is_ok());
    let freed = (world.pool.free(handle).is_ok(), other.join().unwrap());
    assert!(freed.0 != freed.1, "one of two frees is told that the handle was live");
    world.over(&[]);
    freed
}

#[test]
fn one_of_two_frees_frees() {
    // 70 iterations, 0.1 s.
    assert_eq!(model(None, free_and_free).len(), 2);
}

#[test]
#[should_panic(expected = "zspage 0 exists")]
fn freeing_any_generation_is_noticed() {
    twin(None, Plant::FreeUnchecked, free_and_free);
}

fn write_and_read() -> (bool, Option<u8>) {
    let world = World::new();
    let handle = world.alloc(7);
    let writer = beside(&world, move |world| {
        let map = world.pool.map_mut(handle);
        assert!(matches!(map, Ok(_) | Err(MapError::Busy)));
        map.map(|mut map| map.fill(8)).is_ok()
    });
    let read = world.read(handle);
    assert!(matches!(read, Ok(7 | 8) | Err(MapError::Busy)));
    let written = writer.join().unwrap();
    world.over(&[handle]);
    (written, read.ok())
}

#[test]
fn a_reader_and_a_writer_exclude_each_other() {
    // 28 iterations, under 0.1 s.
    assert_eq!(model(None, write_and_read).len(), 4);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn writing_under_a_reader_is_noticed() {
    twin(None, Plant::LockIgnoresPins, write_and_read);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn unlocking_without_release_is_noticed() {
    twin(None, Plant::UnlockRelaxed, write_and_read);
}

/// Whether the object is replaced, by fewer bytes in another place of the same class, or refused
/// so.
fn replaces(world: &World, handle: Handle, refusal: MapError) -> bool {
    match world.pool.map_write(handle, LEN - 1) {
        Ok(mut map) => {
            map.fill(8);
            map.finish().is_ok()
        }
        Err(error) => {
            assert_eq!(error, refusal.into());
            false
        }
    }
}

fn replace_and_read() -> (bool, Option<u8>) {
    let world = World::new();
    let handle = world.alloc(7);
    let writer = beside(&world, move |world| replaces(world, handle, MapError::Busy));
    let read = world.read(handle);
    assert!(matches!(read, Ok(7 | 8) | Err(MapError::Busy)));
    let written = writer.join().unwrap();
    world.over(&[handle]);
    (written, read.ok())
}

#[test]
fn a_reader_sees_an_object_before_or_after_it_is_replaced() {
    // 28 iterations, under 0.1 s.
    assert_eq!(model(None, replace_and_read).len(), 4);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn replacing_under_a_reader_is_noticed() {
    twin(None, Plant::LockIgnoresPins, replace_and_read);
}

fn replace_and_free() -> bool {
    let world = World::new();
    let handle = world.alloc(7);
    let writer = beside(&world, move |world| replaces(world, handle, MapError::Stale));
    world.pool.free(handle).unwrap();
    let written = writer.join().unwrap();
    world.over(&[]);
    written
}

#[test]
fn an_object_freed_while_it_is_replaced_leaves_nothing() {
    // 401 iterations, 0.3 s.
    assert_eq!(model(None, replace_and_free).len(), 2);
}

#[test]
#[should_panic(expected = "nothing is held without objects")]
fn replacing_a_freed_object_as_if_it_lived_is_noticed() {
    twin(None, Plant::UnlockForgetsFree, replace_and_free);
}
