//! Compaction beside everybody else.

use std::sync::Arc;

use super::{LEN, World};
use crate::compact::Compaction;
use crate::error::MapError;
use crate::handle::Handle;
use crate::sync::Plant;
use crate::sync::model::{beside, model, twin};

/// Objects of 1s, 2s and so on in a zspage each, so that a compaction moves one beside another.
fn sparse<const COUNT: usize>() -> (Arc<World>, [Handle; COUNT]) {
    let world = World::new();
    let mut gaps = Vec::new();
    let mut value = 0;
    let handles = [(); COUNT].map(|()| {
        value += 1;
        let handle = world.alloc(value);
        gaps.push(world.alloc(0));
        handle
    });
    gaps.into_iter().for_each(|gap| world.pool.free(gap).unwrap());
    (world, handles)
}

/// Compacts in another thread, and `f` beside it.
fn compacting<R>(world: &Arc<World>, f: impl FnOnce(&World) -> R) -> (Compaction, R) {
    let mover = beside(world, |world| world.pool.compact(usize::MAX));
    let result = f(world);
    (mover.join().unwrap(), result)
}

/// Reads both objects, whichever moves.
fn move_and_read() -> usize {
    let (world, handles) = sparse::<2>();
    let (did, read) = compacting(&world, |world| handles.map(|handle| world.read(handle)));
    assert_eq!(read, [Ok(1), Ok(2)], "readers are never held up");
    assert_eq!(handles.map(|handle| world.read(handle)), [Ok(1), Ok(2)]);
    world.over(&handles);
    did.objects_moved
}

#[test]
fn a_reader_sees_objects_whole_while_they_move() {
    // 287 iterations, 0.4 s.
    assert_eq!(model(None, move_and_read).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn swinging_without_release_is_noticed() {
    twin(None, Plant::SwingUnreleased, move_and_read);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn swinging_without_acquire_is_noticed() {
    twin(None, Plant::SwingUnacquired, move_and_read);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn unpinning_without_release_before_a_move_is_noticed() {
    twin(None, Plant::UnpinRelaxed, move_and_read);
}

/// Frees both objects, so that one is freed before, while or after it moves.
fn move_and_free() -> usize {
    let (world, handles) = sparse::<2>();
    let (did, ()) = compacting(&world, |world| {
        handles.iter().for_each(|handle| world.pool.free(*handle).unwrap());
    });
    world.over(&[]);
    did.objects_moved
}

#[test]
fn an_object_freed_while_it_moves_ends_once() {
    // 1,800 iterations, 1.5 s.
    assert_eq!(model(None, move_and_free).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn freeing_under_a_migration_is_noticed() {
    twin(None, Plant::FreeIgnoresPins, move_and_free);
}

/// Writes to both objects in place.
fn move_and_write() -> (usize, usize) {
    let (world, handles) = sparse::<2>();
    let (did, written) = compacting(&world, |world| {
        handles.map(|handle| {
            let map = world.pool.map_mut(handle);
            assert!(matches!(map, Ok(_) | Err(MapError::Busy)));
            map.map(|mut map| map.fill(3)).is_ok()
        })
    });
    let expected = [1, 2].map(Ok);
    let read = handles.map(|handle| world.read(handle));
    for (at, written) in written.into_iter().enumerate() {
        assert_eq!(read[at], if written { Ok(3) } else { expected[at] }, "a write is not lost");
    }
    world.over(&handles);
    (did.objects_moved, written.into_iter().filter(|written| *written).count())
}

#[test]
fn a_writer_and_a_compaction_exclude_each_other() {
    // 213 iterations, 0.3 s.
    assert!(model(None, move_and_write).contains_key(&(1, 1)));
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn migrating_without_a_pin_under_a_writer_is_noticed() {
    twin(None, Plant::MigrateUnpinned, move_and_write);
}

/// Replaces the object that moves first, whose new place and old one the compaction may come
/// across.
fn move_and_replace() -> (usize, bool) {
    let (world, handles) = sparse::<3>();
    let (did, replaced) =
        compacting(&world, |world| match world.pool.map_write(handles[2], LEN - 1) {
            Ok(mut map) => {
                map.fill(9);
                map.finish().is_ok()
            }
            Err(error) => {
                assert_eq!(error, MapError::Busy.into());
                false
            }
        });
    let expected = [Ok(1), Ok(2), Ok(if replaced { 9 } else { 3 })];
    assert_eq!(handles.map(|handle| world.read(handle)), expected, "a write is not lost");
    world.over(&handles);
    (did.objects_moved, replaced)
}

#[test]
fn an_object_is_replaced_or_moved() {
    // 7,521 iterations, 10.3 s.
    model(Some(4), move_and_replace);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn believing_owners_is_noticed() {
    twin(Some(4), Plant::OwnerBelieved, move_and_replace);
}

/// Another object comes into the class.
fn move_and_alloc() -> usize {
    let (world, handles) = sparse::<2>();
    let (did, third) = compacting(&world, |world| world.alloc(3));
    let all = [handles[0], handles[1], third];
    assert_eq!(all.map(|handle| world.read(handle)), [Ok(1), Ok(2), Ok(3)]);
    world.over(&all);
    did.objects_moved
}

#[test]
fn an_allocation_and_a_compaction_share_a_class() {
    // 215 iterations, 0.2 s.
    assert_eq!(model(None, move_and_alloc).len(), 2);
}

fn move_and_move() -> (usize, usize) {
    let (world, handles) = sparse::<3>();
    let (did, mine) = compacting(&world, |world| world.pool.compact(usize::MAX));
    assert_eq!(handles.map(|handle| world.read(handle)), [Ok(1), Ok(2), Ok(3)]);
    world.over(&handles);
    (did.objects_moved, mine.objects_moved)
}

#[test]
fn two_compactions_keep_out_of_each_others_way() {
    // 615 iterations, 0.6 s.
    assert_eq!(model(Some(2), move_and_move).into_keys().collect::<Vec<_>>(), [(0, 1), (1, 0)]);
}

#[test]
#[should_panic(expected = "zspage 1 exists")]
fn two_movers_in_a_class_are_noticed() {
    twin(Some(2), Plant::TwoMovers, move_and_move);
}
