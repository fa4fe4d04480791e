//! Values that are replaced whole beside their readers, on the real collector.

use std::sync::Arc;

use crate::ledger::Ledger;
use crate::swapped::Swapped;
use crate::sync::model::{beside, model, twin};
use crate::sync::{AtomicU32, Ordering, Plant, pause};

/// Two numbers that are equal in each version, and a mark that the drop leaves.
struct Value {
    pair: [u8; 2],
    ledger: Arc<Ledger>,
    ended: Arc<AtomicU32>,
}

/// What the drop of a version leaves, that was replaced.
const CHARGED: u32 = 1;
const UNCHARGED: u32 = 2;

/// Bytes of the current version alone.
const ONE: usize = Swapped::<Value>::fixed_bytes();

impl Drop for Value {
    fn drop(&mut self) {
        let charged = self.ledger.lent() > ONE;
        self.ended.store(if charged { CHARGED } else { UNCHARGED }, Ordering::Relaxed);
    }
}

struct Room {
    value: Swapped<Value>,
    ledger: Arc<Ledger>,
    /// What the drop of version 7 left.
    ended: Arc<AtomicU32>,
    /// A reader was done with version 7. Nothing orders this but the protocol.
    left: AtomicU32,
}

fn value(ledger: &Arc<Ledger>, of: u8) -> Value {
    Value { pair: [of; 2], ledger: Arc::clone(ledger), ended: Arc::new(AtomicU32::new(0)) }
}

fn room() -> Arc<Room> {
    let ledger = Arc::new(Ledger::new(4096, 0, usize::MAX));
    let first = value(&ledger, 7);
    let ended = Arc::clone(&first.ended);
    let value = Swapped::new(first, 0, Arc::clone(&ledger)).unwrap();
    Arc::new(Room { value, ledger, ended, left: AtomicU32::new(0) })
}

fn read(room: &Room) -> u8 {
    room.value.read(|value| {
        let [one, other] = value.pair;
        assert_eq!(one, other, "a reader sees a version whole");
        if one == 7 {
            room.left.store(1, Ordering::Relaxed);
        }
        one
    })
}

impl Room {
    fn replace(&self, by: u8) {
        self.value.replace(value(&self.ledger, by), 0).unwrap();
    }

    /// Replaces version 7. Says whether it has ended, and whether its reader is seen to have left.
    fn replace_and_look(&self) -> (bool, bool) {
        self.replace(8);
        let over = self.value.collect() == 0;
        let ended = self.ended.load(Ordering::Relaxed);
        assert!(ended != 0 || !over, "the end of a version is seen");
        (over, self.left.load(Ordering::Relaxed) == 1)
    }

    /// After all threads: what waits ends, and its bytes have gone back once.
    fn over(&self) {
        assert_eq!(read(self), 8);
        // A thread of loom's is joined before its thread-locals, a handle among them, are dropped.
        let ended = (0..10).any(|_| {
            pause();
            self.value.collect() == 0
        });
        assert!(ended, "nobody reads");
        assert_eq!(self.ended.load(Ordering::Relaxed), CHARGED, "what waits is charged");
        assert_eq!(self.ledger.lent(), ONE, "each version gives back once");
    }
}

/// The other thread replaces, so that a reader in the middle of its work is one preemption away.
fn read_and_replace() -> (u8, bool) {
    let room = room();
    let writer = beside(&room, Room::replace_and_look);
    let seen = read(&room);
    let (over, left) = writer.join().unwrap();
    assert!(!over || left || seen == 8, "after a 0 no reader has the old version");
    room.over();
    (seen, over)
}

#[test]
fn a_version_that_is_replaced_is_whole_for_its_reader() {
    let seen = model(Some(2), read_and_replace);
    assert!(seen.contains_key(&(7, false)) && seen.contains_key(&(8, true)));
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn ending_a_version_at_once_is_noticed() {
    twin(Some(2), Plant::VersionEndsAtOnce, read_and_replace);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn a_version_that_is_current_before_it_is_whole_is_noticed() {
    twin(Some(2), Plant::VersionPutRelaxed, read_and_replace);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn finding_a_version_without_acquire_is_noticed() {
    twin(Some(2), Plant::VersionFindRelaxed, read_and_replace);
}

#[test]
#[should_panic(expected = "what waits is charged")]
fn giving_back_what_still_waits_is_noticed() {
    twin(Some(2), Plant::VersionUncharged, read_and_replace);
}

#[test]
#[should_panic(expected = "the end of a version is seen")]
fn a_version_that_does_not_count_as_waiting_is_noticed() {
    twin(Some(2), Plant::VersionUncounted, read_and_replace);
}

/// The old version ends in either thread.
fn collect_and_replace() -> (bool, bool) {
    let room = room();
    let other = beside(&room, |room| room.value.collect() == 0);
    let (over, _) = room.replace_and_look();
    let other = other.join().unwrap();
    room.over();
    (over, other)
}

#[test]
fn a_version_that_another_thread_ends_is_seen_to_have_ended() {
    model(Some(2), collect_and_replace);
}

#[test]
#[should_panic(expected = "the end of a version is seen")]
fn counting_an_end_without_release_is_noticed() {
    twin(Some(2), Plant::VersionEndUnreleased, collect_and_replace);
}

#[test]
#[should_panic(expected = "the end of a version is seen")]
fn looking_at_what_waits_without_acquire_is_noticed() {
    twin(Some(2), Plant::VersionLookUnacquired, collect_and_replace);
}

/// Two threads replace: each ends what the other one made, or the first version.
fn replace_and_replace() -> u8 {
    let room = room();
    let other = beside(&room, |room| room.replace(9));
    room.replace(8);
    other.join().unwrap();
    let last = room.value.read(|value| value.pair[0]);
    room.replace(8);
    room.over();
    last
}

#[test]
fn of_two_that_replace_a_version_each_ends_another_one() {
    assert_eq!(model(Some(2), replace_and_replace).len(), 2);
}
