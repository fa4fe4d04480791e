//! Tokens around the word: records, lengths and places, each given back once and not read after.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::handle::table::Table;
use crate::handle::{Ended, Handle, Place, Unlocked};
use crate::ledger::Ledger;
use crate::sync::model::{beside, model, twin};
use crate::sync::{Plant, UnsafeCell};
use crate::word::Refusal;

/// Bytes in each place.
const ROOM: usize = 8;

/// A record whose drop is a write that loom sees, and is counted.
#[derive(Debug)]
struct Record {
    value: UnsafeCell<u32>,
    drops: Arc<AtomicU32>,
}

// SAFETY: loom checks each access to `value`, and a model runs on one thread.
unsafe impl Sync for Record {}
// SAFETY: as above.
unsafe impl Send for Record {}

impl Record {
    fn read(&self) -> u32 {
        // SAFETY: loom has just checked that nobody writes here, and nobody runs beside us.
        unsafe { *self.value.to_read() }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // SAFETY: as above, and nobody reads here.
        unsafe { *self.value.to_write() = 0 };
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

/// A table with one object, its two possible places, and who holds those.
struct World {
    table: Table<Record>,
    ledger: Ledger,
    handle: Handle,
    places: [UnsafeCell<u32>; 2],
    /// Bit p: place p is given back.
    left: AtomicU32,
    drops: Arc<AtomicU32>,
}

// SAFETY: as for `Record`.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

impl World {
    /// One object of 4 bytes at place 0, whose bytes and record are 4.
    fn new() -> Arc<Self> {
        let (table, ledger) = (Table::new(64), Ledger::new(4096, 0, usize::MAX));
        let drops = Arc::new(AtomicU32::new(0));
        let record = Record { value: UnsafeCell::new(4), drops: Arc::clone(&drops) };
        let handle = table.vacant(&ledger).unwrap().publish(Some(place(0)), 4, record);
        let places = [UnsafeCell::new(4), UnsafeCell::new(0)];
        Arc::new(Self { table, ledger, handle, places, left: AtomicU32::new(0), drops })
    }

    fn write(&self, place: &mut Place, value: u32) {
        // SAFETY: loom has just checked that nobody reads or writes here.
        unsafe { *self.places[place.location() as usize].to_write() = value };
    }

    fn leave(&self, mut place: Place) {
        self.write(&mut place, 0);
        let bit = 1 << place.location();
        assert_eq!(self.left.fetch_or(bit, Ordering::Relaxed) & bit, 0, "a place is left once");
    }

    fn end(&self, ended: Option<(Ended, Record)>) -> bool {
        let Some((ended, record)) = ended else { return false };
        let (place, slot) = ended.split();
        place.into_iter().for_each(|place| self.leave(place));
        self.table.recycle(slot, &self.ledger);
        drop(record);
        true
    }

    fn read(&self) -> Result<(), Refusal> {
        let pin = self.table.pin(self.handle)?;
        let at = pin.place().unwrap().location() as usize;
        // SAFETY: as in `write`.
        let bytes = unsafe { *self.places[at].to_read() };
        assert_eq!(bytes as usize, pin.len(), "bytes and length belong together");
        assert_eq!(pin.record().read(), 4, "a record is read before it is dropped");
        self.end(pin.unpin());
        Ok(())
    }

    fn free(&self) -> bool {
        self.table.free(self.handle).is_ok_and(|ended| {
            self.end(ended);
            true
        })
    }

    /// Replaces the object by one of 8 bytes at place 1.
    fn replace(&self) -> Result<bool, Refusal> {
        let lock = self.table.lock(self.handle)?;
        let mut to = place(1);
        self.write(&mut to, 8);
        let Unlocked { left, ended } = lock.unlock_at(Some(to), 8);
        left.into_iter().for_each(|place| self.leave(place));
        assert_eq!(
            ended.as_ref().map_or(4, |(ended, _)| ended.len()),
            4,
            "it ends at its old length"
        );
        Ok(self.end(ended))
    }

    /// After all threads: the places that are left, and how often the record was dropped.
    fn over(&self) -> (u32, u32) {
        (self.left.load(Ordering::Relaxed), self.drops.load(Ordering::Relaxed))
    }
}

fn place(location: u64) -> Place {
    // SAFETY: each model makes each place once.
    unsafe { Place::new(location, ROOM) }
}

fn free_and_read() -> bool {
    let world = World::new();
    let reader = beside(&world, |world| world.read().is_ok());
    assert!(world.free());
    let read = reader.join().unwrap();
    assert_eq!(world.over(), (1, 1), "the record is dropped once");
    assert_eq!((world.table.live(), world.table.counts().dying), (0, 0));
    read
}

#[test]
fn a_record_is_dropped_once_and_after_its_readers() {
    // 74 iterations, under 0.1 s.
    assert_eq!(model(None, free_and_read).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn dropping_a_record_under_a_reader_is_noticed() {
    twin(None, Plant::FreeIgnoresPins, free_and_read);
}

fn two_readers_and_free() -> usize {
    let world = World::new();
    let readers = [(); 2].map(|()| beside(&world, |world| world.read().is_ok()));
    assert!(world.free());
    let read = readers.map(|reader| usize::from(reader.join().unwrap()));
    assert_eq!(world.over(), (1, 1), "the record is dropped once");
    read.iter().sum()
}

#[test]
fn a_record_is_dropped_by_the_last_of_two_readers() {
    // 2,854 iterations, 0.5 s.
    assert_eq!(model(Some(3), two_readers_and_free).len(), 3);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn dropping_a_record_without_a_fence_is_noticed() {
    twin(Some(3), Plant::LastUnpinUnfenced, two_readers_and_free);
}

/// The table goes with a live object, or with one that a forgotten guard holds.
fn forget_and_drop_the_table() -> bool {
    let world = World::new();
    let forgetful = beside(&world, |world| world.table.pin(world.handle).map(|_| ()).is_ok());
    assert!(world.free());
    let forgotten = forgetful.join().unwrap();
    assert_eq!(world.over().1, u32::from(!forgotten));
    let drops = Arc::clone(&world.drops);
    drop(world);
    assert_eq!(drops.load(Ordering::Relaxed), 1, "a forgotten object's record goes with the table");
    forgotten
}

#[test]
fn a_forgotten_pin_leaves_the_record_to_the_table() {
    // 66 iterations, under 0.1 s.
    assert_eq!(model(None, forget_and_drop_the_table).len(), 2);
}

fn replace_and_free() -> Option<bool> {
    let world = World::new();
    let writer = beside(&world, World::replace);
    assert!(world.free());
    let replaced = writer.join().unwrap().ok();
    let left = if replaced.is_some() { 3 } else { 1 };
    assert_eq!(world.over(), (left, 1), "each place is given back");
    replaced
}

#[test]
fn an_object_freed_while_it_is_replaced_leaves_both_places() {
    // 74 iterations, under 0.1 s.
    assert_eq!(model(None, replace_and_free).len(), 3);
}

#[test]
#[should_panic(expected = "each place is given back")]
fn replacing_a_freed_object_as_if_it_lived_is_noticed() {
    twin(None, Plant::UnlockForgetsFree, replace_and_free);
}

fn replace_and_read() -> (bool, bool) {
    let world = World::new();
    let writer = beside(&world, |world| world.replace() == Ok(false));
    let read = world.read();
    assert!(matches!(read, Ok(()) | Err(Refusal::Busy)));
    let replaced = writer.join().unwrap();
    assert_eq!(world.over(), (u32::from(replaced), 0));
    (replaced, read.is_ok())
}

#[test]
fn a_reader_sees_an_object_before_or_after_it_is_replaced() {
    // 28 iterations, under 0.1 s.
    assert_eq!(model(None, replace_and_read).len(), 3);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn replacing_without_release_is_noticed() {
    twin(None, Plant::UnlockRelaxed, replace_and_read);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn replacing_under_a_reader_is_noticed() {
    twin(None, Plant::LockIgnoresPins, replace_and_read);
}

/// What a failed store does: the writer frees what it holds, while somebody else frees it too.
fn free_alone_and_free() -> (bool, bool) {
    let world = World::new();
    let writer = beside(&world, |world| match world.table.lock(world.handle) {
        Ok(lock) => world.end(Some(lock.free())),
        Err(refusal) => {
            assert_eq!(refusal, Refusal::Stale);
            false
        }
    });
    let freed = world.free();
    let ended = writer.join().unwrap();
    assert_eq!(world.over(), (1, 1), "the object ends once");
    assert_eq!((world.table.live(), world.table.counts().dying), (0, 0));
    (freed, ended)
}

#[test]
fn an_object_freed_by_its_writer_and_another_ends_once() {
    // 106 iterations, under 0.1 s.
    assert_eq!(model(None, free_alone_and_free).len(), 3);
}

#[test]
#[should_panic(expected = "a dying object ends when it is unlocked")]
fn freeing_a_held_object_as_if_it_lived_is_noticed() {
    twin(None, Plant::UnlockForgetsFree, free_alone_and_free);
}
