//! A chunk of slots whose memory is given back and returns, beside threads that look for its
//! objects.
//!
//! The first chunk is full, so that the second one, of slots 2 and 3, is the one that comes and
//! goes.

use std::sync::Arc;

use super::slots::{EACH, World};
use crate::handle::{Handle, Renumbered};
use crate::sync::Plant;
use crate::sync::model::{beside, model, twin};
use crate::word::Refusal;

/// The first slot of the second chunk.
const SLOT: u32 = EACH as u32;

/// Ends the second chunk's only object, and stores the next one: whether the memory of the first
/// has gone between, and the other's handle. A reader may hold the chunk open.
fn come_back(world: &World, old: Handle) -> (bool, Handle) {
    world.free(old);
    world.table.trim(&world.ledger);
    let gone = world.table.mapped() == 0;
    let (index, new) = world.store(20);
    assert!(index == SLOT || !gone, "the lowest slot is handed out");
    (gone, new)
}

/// After all threads.
fn over(world: &Arc<World>, old: Handle, new: Handle) {
    assert_eq!(world.read(new), Ok(20));
    assert_eq!(world.read(old), Err(Refusal::Stale), "a stale handle stays stale");
    assert_eq!(world.table.check(&world.ledger), EACH + 1);
}

/// A reader has the handle of an object whose chunk goes.
fn read_a_stale_handle() -> (bool, Option<u32>) {
    let (world, [.., old]) = World::of::<{ EACH + 1 }>();
    let reader = beside(&world, move |world| world.read(old));
    let (gone, new) = come_back(&world, old);
    let read = reader.join().unwrap();
    assert!(matches!(read, Ok(SLOT) | Err(Refusal::Stale)), "a handle leads to its own object");
    over(&world, old, new);
    (gone, read.ok())
}

#[test]
fn a_handle_is_stale_when_its_chunk_has_gone_and_come_back() {
    let seen: Vec<_> = model(None, read_a_stale_handle).into_keys().collect();
    assert_eq!(seen, [(false, Some(SLOT)), (true, None), (true, Some(SLOT))]);
}

#[test]
#[should_panic(expected = "a handle leads to its own object")]
fn forgetting_the_generations_of_a_chunk_is_noticed() {
    twin(None, Plant::ReopenedAtZero, read_a_stale_handle);
}

/// A reader looks for whatever object a slot has.
fn read_an_id() -> (bool, Option<u32>) {
    let (world, [.., old]) = World::of::<{ EACH + 1 }>();
    let reader = beside(&world, |world| world.read_index(SLOT));
    let (gone, new) = come_back(&world, old);
    let read = reader.join().unwrap();
    match read {
        Ok((record, handle)) => {
            let expected = if handle == old { (SLOT, old) } else { (20, new) };
            assert_eq!((record, handle), expected, "an id leads to one object or the next");
        }
        Err(refusal) => assert_eq!(refusal, Refusal::Stale),
    }
    over(&world, old, new);
    (gone, read.ok().map(|(record, _)| record))
}

#[test]
fn an_id_leads_to_one_object_or_the_next_though_its_chunk_has_gone() {
    let seen: Vec<_> = model(None, read_an_id).into_keys().collect();
    assert_eq!(seen, [(false, Some(SLOT)), (true, None), (true, Some(SLOT)), (true, Some(20))]);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn pinning_a_dead_object_of_a_chunk_that_goes_is_noticed() {
    twin(None, Plant::PinDead, read_an_id);
}

/// A reader has handles that were never given out: of the old object's next generation, and of the
/// next but one.
fn read_forged_handles() -> bool {
    let (world, [.., old]) = World::of::<{ EACH + 1 }>();
    let forger = beside(&world, move |world| {
        let none = world.table.handle(SLOT, 5);
        assert_eq!(world.read(none), Err(Refusal::Stale), "a forged handle is refused");
        // Equal to the new object's handle, by chance.
        world.read(world.table.handle(SLOT, 3))
    });
    let (_, new) = come_back(&world, old);
    let read = forger.join().unwrap();
    assert!(matches!(read, Ok(20) | Err(Refusal::Stale)));
    over(&world, old, new);
    read.is_ok()
}

#[test]
fn a_forged_handle_is_refused_unless_it_equals_a_live_one() {
    assert_eq!(model(None, read_forged_handles).len(), 2);
}

/// A thread ends the last object but one of a chunk, another the last one, and a third closes the
/// chunk.
fn end_and_close() -> bool {
    let (world, [.., one, two]) = World::of::<{ EACH + 2 }>();
    let enders = [one, two].map(|handle| beside(&world, move |world| world.free(handle)));
    world.table.trim(&world.ledger);
    let closed = world.table.mapped() == 0;
    enders.into_iter().for_each(|ender| ender.join().unwrap());
    world.table.trim(&world.ledger);
    assert_eq!(world.table.check(&world.ledger), EACH, "no slot is lost");
    assert_eq!(world.table.mapped(), 0, "the chunk has gone");
    closed
}

#[test]
fn a_chunk_closes_when_its_last_slot_has_come_back() {
    assert_eq!(model(Some(3), end_and_close).len(), 2);
}

#[test]
#[should_panic(expected = "a live object is found")]
fn closing_a_chunk_beside_a_slot_on_its_way_back_is_noticed() {
    twin(Some(3), Plant::ClosedInUse, end_and_close);
}

#[test]
#[should_panic(expected = "a slot that came back has memory")]
fn closing_a_chunk_without_acquire_is_noticed() {
    twin(Some(3), Plant::TakeInRelaxed, end_and_close);
}

/// The same while a reader holds one of the objects.
fn hold_and_close() -> bool {
    let (world, [.., one, two]) = World::of::<{ EACH + 2 }>();
    let reader = beside(&world, move |world| world.read(one));
    world.free(one);
    world.free(two);
    world.table.trim(&world.ledger);
    let read = reader.join().unwrap();
    assert!(matches!(read, Ok(SLOT) | Err(Refusal::Stale)));
    world.table.trim(&world.ledger);
    assert_eq!(world.table.check(&world.ledger), EACH, "no slot is lost");
    assert_eq!(world.table.mapped(), 0, "the chunk has gone");
    read.is_ok()
}

#[test]
fn a_chunk_stays_while_a_reader_holds_an_object_of_it() {
    assert_eq!(model(Some(3), hold_and_close).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn closing_a_chunk_under_a_reader_is_noticed() {
    twin(Some(3), Plant::ClosedInUse, hold_and_close);
}

/// The only object of a chunk gets a lower slot, and the chunk goes, beside a reader.
fn renumber_out_of_a_chunk(by_id: bool) -> (bool, bool, bool) {
    let (world, [low, .., old]) = World::of::<{ EACH + 1 }>();
    world.free(low);
    let reader = beside(&world, move |world| {
        if by_id { world.read_index(SLOT).map(|(record, _)| record) } else { world.read(old) }
    });
    let to = world.table.vacant_below(SLOT, &world.ledger).expect("slot 0 is free");
    let moved = match world.table.renumber(SLOT, to, |_, _| ()) {
        Renumbered::Moved(handle, spent) => {
            world.table.recycle(spent, &world.ledger);
            Some(handle)
        }
        Renumbered::Held => None,
        Renumbered::Ended(..) => panic!("nobody frees it"),
    };
    world.table.trim(&world.ledger);
    let gone = world.table.mapped() == 0;
    let read = reader.join().unwrap();
    assert!(matches!(read, Ok(SLOT) | Err(Refusal::Stale | Refusal::Busy)), "{read:?}");
    world.table.trim(&world.ledger);
    assert_eq!(world.table.mapped() == 0, moved.is_some(), "an empty chunk goes");
    let now = moved.unwrap_or(old);
    assert_eq!(world.read(now), Ok(SLOT));
    assert!(moved.is_none() || world.read(old) == Err(Refusal::Stale));
    assert_eq!(world.table.check(&world.ledger), EACH);
    (moved.is_some(), gone, read.is_ok())
}

#[test]
fn an_object_that_leaves_its_chunk_is_read_whole_or_not_found() {
    for by_id in [false, true] {
        let seen = model(None, move || renumber_out_of_a_chunk(by_id));
        assert!(seen.contains_key(&(true, true, true)), "{seen:?}");
        assert!(seen.contains_key(&(true, true, false)), "{seen:?}");
        assert!(seen.contains_key(&(false, false, true)), "{seen:?}");
    }
}

#[test]
#[should_panic(expected = "Causality violation")]
fn renumbering_out_of_a_chunk_that_is_read_is_noticed() {
    twin(None, Plant::LockIgnoresPins, || renumber_out_of_a_chunk(false));
}
