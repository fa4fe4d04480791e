//! One class under its lock: allocations side by side, and objects whose end meets a taken lock.

use super::{LEN, World};
use crate::compact::Compaction;
use crate::error::MapError;
use crate::sync::Plant;
use crate::sync::model::{beside, model, twin};

/// Both threads find the class unborn.
fn alloc_and_alloc() -> bool {
    let world = World::new();
    let other = beside(&world, |world| world.alloc(8));
    let mine = world.alloc(7);
    let theirs = other.join().unwrap();
    assert_eq!((world.read(mine), world.read(theirs)), (Ok(7), Ok(8)), "objects share no byte");
    world.over(&[mine, theirs]);
    mine < theirs
}

#[test]
fn two_allocations_get_places_of_their_own() {
    // 3,154 iterations, 2.0 s.
    assert_eq!(model(Some(3), alloc_and_alloc).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn announcing_a_class_without_release_is_noticed() {
    twin(Some(2), Plant::GrowRelaxed, alloc_and_alloc);
}

/// A reader may be the last to hold a freed object, while this thread has its class's lock.
fn end_and_free() -> (bool, usize) {
    let world = World::new();
    let handles = [world.alloc(7), world.alloc(8)];
    let reader = beside(&world, move |world| world.read(handles[0]));
    let freer = beside(&world, move |world| world.pool.free(handles[0]).unwrap());
    freer.join().unwrap();
    world.pool.free(handles[1]).unwrap();
    let read = reader.join().unwrap();
    assert!(matches!(read, Ok(7) | Err(MapError::Stale)));
    let pending = world.pool.arena().zspages.pending();
    world.over(&[]);
    (read.is_ok(), pending)
}

#[test]
fn an_object_that_ends_beside_a_taken_lock_is_taken_in() {
    // 548 iterations, 0.5 s.
    assert!(model(Some(3), end_and_free).contains_key(&(true, 1)), "the lock was taken");
}

#[test]
#[should_panic(expected = "nothing is held without objects")]
fn forgetting_what_is_pending_is_noticed() {
    twin(Some(2), Plant::PendingForgotten, end_and_free);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent write")]
fn suspending_without_release_is_noticed() {
    twin(Some(2), Plant::SuspendRelaxed, end_and_free);
}

/// Two readers end an object each, at once, while this thread may have their class's lock.
fn end_and_end() -> usize {
    let world = World::new();
    let handles = [7, 8, 9].map(|value| world.alloc(value));
    let ends = [0, 1].map(|at| {
        let ended = world.pool.arena().table.free(handles[at]).unwrap().unwrap();
        beside(&world, move |world| world.pool.arena().end_unwaiting(ended))
    });
    world.pool.free(handles[2]).unwrap();
    ends.into_iter().for_each(|end| end.join().unwrap());
    let pending = world.pool.arena().zspages.pending();
    world.over(&[]);
    pending
}

#[test]
fn objects_that_two_readers_end_are_taken_in() {
    // 79,202 iterations, 47.4 s.
    assert_eq!(model(Some(3), end_and_end).len(), 3, "none, one or both met a taken lock");
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent write")]
fn suspending_two_objects_without_release_is_noticed() {
    twin(Some(2), Plant::SuspendRelaxed, end_and_end);
}

/// Two threads free an object each, after which a compaction can gain from both classes.
fn ripen_and_ripen() -> usize {
    let world = World::new();
    // Two to a zspage, and three: two zspages of each, in which one more slot has to come free.
    let alloc = |len| [1, 2, 3, 4].map(|value| world.alloc_of(value, len));
    let (a, b) = (alloc(LEN), alloc(LEN / 8 * 5));
    world.pool.free(a[0]).unwrap();
    assert!(world.pool.arena().ripe.is_empty());
    let other = beside(&world, move |world| world.pool.free(a[2]).unwrap());
    world.pool.free(b[0]).unwrap();
    other.join().unwrap();
    let numbers: Vec<_> = world.pool.arena().classes().map(|(number, _)| number / 64).collect();
    assert!(numbers[0] == numbers[1], "the bits of both are in one word");
    let Compaction { pages_freed, objects_moved, done, .. } = world.pool.compact(usize::MAX);
    assert_eq!((pages_freed, objects_moved, done), (2, 2, true), "no class is overlooked");
    let left = [a[1], a[3], b[1], b[2], b[3]];
    assert_eq!(left.map(|handle| world.read(handle)), [2, 4, 2, 3, 4].map(Ok));
    world.over(&left);
    objects_moved
}

#[test]
fn classes_of_which_two_threads_free_are_both_compacted() {
    model(Some(3), ripen_and_ripen);
}

#[test]
#[should_panic(expected = "no class is overlooked")]
fn noting_a_class_by_a_store_is_noticed() {
    twin(Some(3), Plant::RipeStored, ripen_and_ripen);
}

/// Readers end objects of so many classes beside one who tidies.
fn end_and_tidy<const CLASSES: usize>() -> (usize, bool) {
    let world = World::new();
    let handles = std::array::from_fn::<_, CLASSES, _>(|nth| world.alloc_of(7, LEN >> nth));
    let others = handles.map(|handle| world.alloc_of(8, world.pool.map(handle).unwrap().len()));
    let readers = handles.map(|handle| {
        let ended = world.pool.arena().table.free(handle).unwrap().unwrap();
        beside(&world, move |world| world.pool.arena().end_unwaiting(ended))
    });
    world.pool.arena().tidy();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let pending = world.pool.arena().zspages.pending();
    let told = world.pool.arena().tidy_up();
    assert!(pending == 0 || told, "{pending} objects are left to a holder that nobody sends");
    world.over(&others);
    (pending, told)
}

#[test]
fn whoever_tidies_takes_in_what_is_left_or_is_told_of_it() {
    let seen = model(Some(3), end_and_tidy::<1>);
    assert!(seen.contains_key(&(0, false)) && seen.contains_key(&(1, true)), "{seen:?}");
}

#[test]
fn whoever_tidies_is_told_of_all_that_two_readers_leave() {
    assert!(model(Some(2), end_and_tidy::<2>).contains_key(&(2, true)));
}

#[test]
#[should_panic(expected = "a holder that nobody sends")]
fn telling_of_an_object_without_release_is_noticed() {
    twin(Some(3), Plant::UntidyRelaxed, end_and_tidy::<1>);
}

#[test]
#[should_panic(expected = "a holder that nobody sends")]
fn tidying_without_acquire_is_noticed() {
    twin(Some(3), Plant::TidyRelaxed, end_and_tidy::<1>);
}

#[test]
#[should_panic(expected = "a holder that nobody sends")]
fn hiding_what_another_reader_left_is_noticed() {
    twin(Some(2), Plant::UntidyStored, end_and_tidy::<2>);
}

/// A reader ends an object while somebody has the lock of its class for long.
fn end_beside_a_holder() -> [usize; 2] {
    let world = World::new();
    let handles = [7, 8].map(|value| world.alloc(value));
    let arena = world.pool.arena();
    let ended = arena.table.free(handles[0]).unwrap().unwrap();
    let (_, class) = arena.classes().next().expect("it has objects");
    let pending = class.locked(|| {
        let reader = beside(&world, move |world| world.pool.arena().end_unwaiting(ended));
        let before = arena.zspages.pending();
        reader.join().unwrap();
        [before, arena.zspages.pending()]
    });
    world.over(&[handles[1]]);
    pending
}

#[test]
fn a_reader_waits_for_no_lock() {
    let seen = model(None, end_beside_a_holder);
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), [[0, 1], [1, 1]]);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_reader_that_waits_is_noticed() {
    twin(None, Plant::EndWaits, end_beside_a_holder);
}

/// Somebody reserves memory while the cap falls to what is held.
fn reserve_and_lower() -> (bool, bool) {
    let world = World::new();
    let cap = world.pool.held_bytes();
    let other = beside(&world, |world| world.pool.reserve(64).is_ok());
    world.pool.set_max_bytes(cap);
    let fits = world.pool.held_bytes() <= cap;
    let reserved = other.join().unwrap();
    assert!(!fits || !reserved, "what fits under a lower cap goes on to fit");
    world.pool.release(if reserved { 64 } else { 0 });
    assert_eq!(world.pool.held_bytes(), cap);
    world.over(&[]);
    (fits, reserved)
}

#[test]
fn a_cap_that_falls_holds_for_reservations_under_way() {
    assert!(model(None, reserve_and_lower).len() >= 2);
}

#[test]
#[should_panic(expected = "what fits under a lower cap goes on to fit")]
fn a_reservation_by_the_cap_of_before_is_noticed() {
    twin(None, Plant::CapAskedOnce, reserve_and_lower);
}
