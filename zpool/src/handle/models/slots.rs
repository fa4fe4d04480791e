//! The table's slots: handed out once, found while the table grows, retired for good.

use std::sync::Arc;

use loom::thread;

use crate::handle::Handle;
use crate::handle::table::Table;
use crate::ledger::Ledger;
use crate::sync::Plant;
use crate::sync::model::{beside, model, twin};
use crate::word::{GENERATION_BITS, Refusal};

/// Slots of a chunk in models.
pub(super) const EACH: usize = 2;

pub(super) fn ledger() -> Ledger {
    Ledger::new(4096, 0, usize::MAX)
}

/// A table, and what charges its memory.
pub(super) struct World {
    pub(super) table: Table<u32>,
    pub(super) ledger: Ledger,
}

// SAFETY: a model runs on one thread, and loom checks each access.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

impl World {
    /// A table of `COUNT` objects of length 0, whose records are their numbers.
    pub(super) fn of<const COUNT: usize>() -> (Arc<Self>, [Handle; COUNT]) {
        let world = Self { table: Table::new(0), ledger: ledger() };
        let mut number = 0;
        let handles = [(); COUNT].map(|()| {
            number += 1;
            world.store(number - 1).1
        });
        (Arc::new(world), handles)
    }

    /// An object: the number of its slot, and its handle.
    pub(super) fn store(&self, record: u32) -> (u32, Handle) {
        let slot = self.table.vacant(&self.ledger).unwrap();
        (slot.index(), slot.publish(None, 0, record))
    }

    /// Ends an object that nobody else frees; whoever holds it last does the rest.
    pub(super) fn free(&self, handle: Handle) {
        let ended = self.table.free(handle).expect("a live object is found");
        if let Some((ended, _)) = ended {
            self.table.recycle(ended.split().1, &self.ledger);
        }
    }

    /// Reads what a handle leads to.
    pub(super) fn read(&self, handle: Handle) -> Result<u32, Refusal> {
        let pin = self.table.pin(handle)?;
        let record = *pin.record();
        if let Some((ended, _)) = pin.unpin() {
            self.table.recycle(ended.split().1, &self.ledger);
        }
        Ok(record)
    }

    /// Reads whatever object has slot `index`.
    pub(super) fn read_index(&self, index: u32) -> Result<(u32, Handle), Refusal> {
        let pin = self.table.pin_index(index, false, |_| ())?;
        let read = (*pin.record(), pin.handle());
        if let Some((ended, _)) = pin.unpin() {
            self.table.recycle(ended.split().1, &self.ledger);
        }
        Ok(read)
    }
}

/// Two threads end objects beside one who stores two.
fn end_and_store() -> (u32, u32) {
    let (world, handles) = World::of::<2>();
    let enders = handles.map(|handle| beside(&world, move |world| world.free(handle)));
    let (one, two) = (world.store(10), world.store(11));
    assert!(one.0 != two.0, "a slot is handed out once");
    enders.into_iter().for_each(|ender| ender.join().unwrap());
    assert_eq!(world.table.check(&world.ledger), 2, "no slot is lost");
    assert_eq!((world.read(one.1), world.read(two.1)), (Ok(10), Ok(11)));
    (one.0, two.0)
}

#[test]
fn slots_that_two_threads_give_back_are_handed_out_once() {
    let seen = model(Some(2), end_and_store);
    assert!(seen.contains_key(&(0, 1)) && seen.contains_key(&(2, 3)), "{seen:?}");
    assert!(seen.contains_key(&(1, 0)) && seen.contains_key(&(2, 0)), "{seen:?}");
}

#[test]
#[should_panic(expected = "a slot that came back has memory")]
fn taking_slots_in_without_acquire_is_noticed() {
    twin(Some(2), Plant::TakeInRelaxed, end_and_store);
}

#[test]
#[should_panic(expected = "a slot that came back has memory")]
fn giving_a_slot_without_release_is_noticed() {
    twin(Some(2), Plant::PushRelaxed, end_and_store);
}

/// A thread ends an object whose slot is the lowest that can be handed out.
fn end_and_store_again() -> u32 {
    let (world, handles) = World::of::<EACH>();
    let ender = beside(&world, move |world| world.free(handles[0]));
    let (index, handle) = world.store(10);
    ender.join().unwrap();
    assert_eq!(world.table.check(&world.ledger), EACH, "no slot is lost");
    assert_eq!(world.read(handle), Ok(10));
    index
}

#[test]
fn the_only_slot_that_came_back_is_handed_out_next() {
    assert!(model(None, end_and_store_again).into_keys().eq([0, EACH as u32]));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn taking_the_only_slot_without_acquire_is_noticed() {
    twin(None, Plant::TakeOnlyRelaxed, end_and_store_again);
}

/// A reader ends an object while somebody has the lock of the slots that are sorted in.
fn end_beside_a_holder() -> bool {
    let (world, handles) = World::of::<2>();
    let sorting = world.table.numbers.lock();
    let ender = beside(&world, move |world| handles.map(|handle| world.free(handle)));
    let read = world.read(handles[1]).is_ok();
    ender.join().unwrap();
    drop(sorting);
    assert_eq!(world.table.check(&world.ledger), 0, "no slot is lost");
    read
}

#[test]
fn a_slot_that_comes_back_waits_for_no_lock() {
    assert_eq!(model(None, end_beside_a_holder).len(), 2);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_slot_that_waits_is_noticed() {
    twin(None, Plant::RecycleWaits, end_beside_a_holder);
}

/// A lower slot is sorted in when one comes back.
fn end_and_store_lower() -> u32 {
    let (world, handles) = World::of::<{ 2 * EACH }>();
    world.free(handles[0]);
    world.table.tidy(&world.ledger);
    let ender = beside(&world, move |world| world.free(handles[EACH]));
    assert_eq!(world.store(10).0, 0, "the lowest slot is handed out");
    let next = world.store(11).0;
    ender.join().unwrap();
    assert_eq!(world.table.check(&world.ledger), 2 * EACH, "no slot is lost");
    next
}

#[test]
fn a_lower_slot_is_handed_out_before_the_only_one_that_came_back() {
    let each = EACH as u32;
    assert!(model(None, end_and_store_lower).into_keys().eq([each, 2 * each]));
}

#[test]
#[should_panic(expected = "the lowest slot is handed out")]
fn handing_a_higher_slot_out_is_noticed() {
    twin(None, Plant::TakeOnlyHigher, end_and_store_lower);
}

/// The only slot that comes back has used its generations up.
fn retire_and_store() -> bool {
    let (world, []) = World::of::<0>();
    let slot = world.table.vacant(&world.ledger).unwrap();
    world.table.word(slot.index()).unwrap().age((1 << GENERATION_BITS) - 2);
    let old = slot.publish(None, 0, 7);
    (1..EACH as u32).for_each(|record| assert_eq!(world.store(record).0, record));
    let freer = beside(&world, move |world| world.free(old));
    let lives = world.read(old).is_ok();
    assert_eq!(world.store(8).0, EACH as u32, "a retired slot is not handed out");
    freer.join().unwrap();
    world.table.check(&world.ledger);
    lives
}

#[test]
fn the_only_slot_that_came_back_is_not_handed_out_when_it_is_retired() {
    assert_eq!(model(None, retire_and_store).len(), 2);
}

#[test]
#[should_panic(expected = "a retired slot is not handed out")]
fn handing_a_retired_slot_out_is_noticed() {
    twin(None, Plant::TakeOnlyRetired, retire_and_store);
}

/// Two threads store and end objects.
fn churn() -> (u32, u32) {
    let (world, []) = World::of::<0>();
    let turn = |world: &World| {
        let (index, handle) = world.store(7);
        world.free(handle);
        index
    };
    let churner = beside(&world, move |world| turn(world).max(turn(world)));
    let mine = turn(&world).max(turn(&world));
    let highest = (mine, churner.join().unwrap());
    assert_eq!(world.table.check(&world.ledger), 0, "no slot is lost");
    highest
}

#[test]
fn no_free_slot_is_lost() {
    let seen = model(Some(3), churn);
    assert!(seen.keys().copied().eq([(0, 0), (0, 1), (1, 0), (1, 1)]), "{seen:?}");
}

/// The object of slot `index` in its first generation; a reader may know it before it is there.
fn first_handle(table: &Table<u32>, index: u32) -> Handle {
    table.handle(index, 1)
}

/// A reader looks for the object of a chunk that is being added.
fn grow_and_read() -> bool {
    let (table, ledger) = (Arc::new(Table::new(0)), ledger());
    let taken = [(); EACH].map(|()| table.vacant(&ledger).unwrap());
    let handle = first_handle(&table, EACH as u32);
    let other = Arc::clone(&table);
    let reader = thread::spawn(move || match other.pin(handle) {
        Ok(pin) => {
            assert_eq!(*pin.record(), 7, "a reader sees the record whole");
            assert!(pin.unpin().is_none());
            true
        }
        Err(refusal) => {
            assert_eq!(refusal, Refusal::Stale);
            false
        }
    });
    assert_eq!(table.vacant(&ledger).unwrap().publish(None, 0, 7), handle);
    drop(taken);
    reader.join().unwrap()
}

#[test]
fn a_growing_table_is_read() {
    // 20 iterations, under 0.1 s.
    assert_eq!(model(None, grow_and_read).len(), 2);
}

#[test]
#[should_panic(expected = "a block is there before it is announced")]
fn announcing_a_chunk_without_release_is_noticed() {
    twin(None, Plant::GrowRelaxed, grow_and_read);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn publishing_a_record_without_release_is_noticed() {
    twin(None, Plant::PublishRelaxed, grow_and_read);
}

/// Two threads make the table grow at once.
fn grow_and_grow() -> u32 {
    let (table, ledger) = (Arc::new(Table::<()>::new(0)), Arc::new(ledger()));
    let taken = table.vacant(&ledger).unwrap();
    let (other, charged) = (Arc::clone(&table), Arc::clone(&ledger));
    let grower = thread::spawn(move || {
        let slot = other.vacant(&charged).unwrap();
        let index = slot.index();
        std::mem::forget(slot);
        index
    });
    let slot = table.vacant(&ledger).unwrap();
    let (mine, theirs) = (slot.index(), grower.join().unwrap());
    assert!(mine != theirs && mine + theirs == 3, "two threads get two fresh slots");
    assert_eq!(table.check(&ledger), 3);
    drop(taken);
    mine
}

#[test]
fn a_table_grows_by_one_chunk_at_a_time() {
    // 6 iterations, under 0.1 s.
    assert_eq!(model(None, grow_and_grow).len(), 2);
}

/// Two threads free the last objects of a chunk's two slots, and a third has stale handles.
fn retire() -> bool {
    const LAST: u64 = (1 << GENERATION_BITS) - 1;
    let (world, _) = World::of::<EACH>();
    let handles = [(); EACH].map(|()| {
        let slot = world.table.vacant(&world.ledger).unwrap();
        world.table.word(slot.index()).unwrap().age(LAST - 1);
        slot.publish(None, 0, 7)
    });
    let freer = beside(&world, move |world| world.free(handles[1]));
    let reader = beside(&world, move |world| {
        let first = world.table.handle(EACH as u32, 1);
        assert_eq!(world.read(first), Err(Refusal::Stale));
        world.table.contains(handles[1])
    });
    world.free(handles[0]);
    freer.join().unwrap();
    let contained = reader.join().unwrap();
    world.table.tidy(&world.ledger);
    assert_eq!(world.table.counts().retired, EACH, "slots are retired when they wrap");
    assert_eq!(world.table.mapped(), 0, "and their memory goes");
    let next = world.store(8).0 as usize;
    assert_eq!(next, 2 * EACH, "retired slots are never handed out");
    world.table.check(&world.ledger);
    contained
}

#[test]
fn a_chunk_of_retired_slots_is_never_used_again() {
    assert_eq!(model(Some(3), retire).len(), 2);
}

#[test]
#[should_panic(expected = "slots are retired when they wrap")]
fn starting_a_chunk_over_is_noticed() {
    twin(Some(3), Plant::WrapStartsOver, retire);
}
