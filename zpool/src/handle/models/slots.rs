//! The table's slots: handed out once, found while the table grows, retired for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loom::thread;

use crate::handle::Handle;
use crate::handle::table::Table;
use crate::ledger::Ledger;
use crate::sync::model::{model, twin};
use crate::sync::{CHUNK, Plant};
use crate::word::{GENERATION_BITS, Refusal};

fn ledger() -> Ledger {
    Ledger::new(4096, 0, usize::MAX)
}

/// A table, and which of its slots somebody holds.
struct Slots {
    table: Table<()>,
    ledger: Ledger,
    held: [AtomicBool; 3],
}

impl Slots {
    /// A table whose free list has slots 0 and 1, and no fresh slot left in its chunk.
    fn two() -> Arc<Self> {
        let slots = Self { table: Table::new(0), ledger: ledger(), held: Default::default() };
        drop([(); CHUNK].map(|()| slots.table.vacant(&slots.ledger).unwrap()));
        Arc::new(slots)
    }

    fn take(&self) -> Option<u32> {
        let index = self.table.pop()?;
        let held = self.held[index as usize].swap(true, Ordering::Relaxed);
        assert!(!held, "slot {index} is handed out once");
        Some(index)
    }

    fn give(&self, index: u32) {
        self.held[index as usize].store(false, Ordering::Relaxed);
        self.table.push(index, self.table.word(index).unwrap());
    }

    /// The slots that are free once all threads are through.
    fn rest(&self) -> usize {
        std::iter::from_fn(|| self.take()).count()
    }
}

/// One thread takes a slot while the other takes both and gives the first back.
fn take_and_take_two() -> (Option<u32>, usize) {
    let slots = Slots::two();
    let other = Arc::clone(&slots);
    let taker = thread::spawn(move || other.take());
    let (first, second) = (slots.take(), slots.take());
    if let (Some(first), Some(_)) = (first, second) {
        slots.give(first);
    }
    let taken = taker.join().unwrap();
    let (rest, kept) = (slots.rest(), first.or(second).is_some());
    assert_eq!(rest + usize::from(kept) + usize::from(taken.is_some()), 2, "no slot is lost");
    (taken, rest)
}

#[test]
fn a_free_slot_is_handed_out_once() {
    // 192 iterations, under 0.1 s.
    model(None, take_and_take_two);
}

#[test]
#[should_panic(expected = "is handed out once")]
fn a_free_list_without_tags_is_noticed() {
    twin(None, Plant::PopUntagged, take_and_take_two);
}

/// Two threads take and give slots.
fn churn() -> (bool, bool) {
    let slots = Slots::two();
    let turn = |slots: &Slots| match slots.take() {
        Some(index) => {
            slots.give(index);
            true
        }
        None => false,
    };
    let other = Arc::clone(&slots);
    let churner = thread::spawn(move || turn(&other) & turn(&other));
    let mine = turn(&slots) & turn(&slots);
    let theirs = churner.join().unwrap();
    assert_eq!(slots.rest(), 2, "no slot is lost");
    (mine, theirs)
}

#[test]
fn no_free_slot_is_lost() {
    // 1,277 iterations, 0.1 s.
    assert!(model(Some(3), churn).contains_key(&(true, true)));
}

#[test]
#[should_panic(expected = "is handed out once")]
fn taking_a_slot_without_acquire_is_noticed() {
    twin(Some(3), Plant::PopRelaxed, churn);
}

#[test]
#[should_panic(expected = "is handed out once")]
fn giving_a_slot_without_release_is_noticed() {
    twin(Some(3), Plant::PushRelaxed, churn);
}

/// The object of slot `index` in its first generation; a reader may know it before it is there.
fn first_handle(table: &Table<u32>, index: u32) -> Handle {
    table.handle(index, 1)
}

/// A reader looks for the object of a chunk that is being added.
fn grow_and_read() -> bool {
    let (table, ledger) = (Arc::new(Table::new(0)), ledger());
    let taken = [(); CHUNK].map(|()| table.vacant(&ledger).unwrap());
    let handle = first_handle(&table, CHUNK as u32);
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
#[should_panic(expected = "Causality violation")]
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
    assert_eq!(table.counts().slots, 3);
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
    let (table, ledger) = (Arc::new(Table::<()>::new(0)), Arc::new(ledger()));
    let handles = [(); CHUNK].map(|()| {
        let slot = table.vacant(&ledger).unwrap();
        table.word(slot.index()).unwrap().age(LAST - 1);
        slot.publish(None, 0, ())
    });
    let end = |table: &Table<()>, ledger: &Ledger, handle: Handle| {
        let (ended, ()) = table.free(handle).unwrap().unwrap();
        table.recycle(ended.split().1, ledger);
    };
    let (other, charged) = (Arc::clone(&table), Arc::clone(&ledger));
    let freer = thread::spawn(move || end(&other, &charged, handles[1]));
    let other = Arc::clone(&table);
    let reader = thread::spawn(move || {
        let first = other.handle(0, 1);
        assert_eq!(other.pin(first).map(|_| ()), Err(Refusal::Stale));
        other.contains(handles[1])
    });
    end(&table, &ledger, handles[0]);
    freer.join().unwrap();
    let contained = reader.join().unwrap();
    assert_eq!(table.counts().retired, CHUNK, "slots are retired when they wrap");
    assert_eq!(table.pop(), None, "retired slots are never handed out");
    contained
}

#[test]
fn a_chunk_of_retired_slots_is_never_used_again() {
    // 1,837 iterations, 0.3 s.
    assert_eq!(model(Some(3), retire).len(), 2);
}

#[test]
#[should_panic(expected = "slots are retired when they wrap")]
fn starting_a_chunk_over_is_noticed() {
    twin(Some(3), Plant::WrapStartsOver, retire);
}
