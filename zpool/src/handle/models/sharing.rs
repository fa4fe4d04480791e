//! The word among readers, frees and migrations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use loom::thread;

use crate::sync::model::{model, twin};
use crate::sync::{Plant, UnsafeCell};
use crate::word::{GENERATION_BITS, MAX_PINS, NOWHERE, Outcome, Refusal, Word};

/// What the object's bytes read as, wherever it is.
const BYTES: u32 = 42;
/// What a place reads as once it is given back.
const GONE: u32 = 0;

/// A word, the places its object can be at, and how often those were given back.
pub(super) struct Object {
    pub(super) word: Word,
    places: [UnsafeCell<u32>; 3],
    left: AtomicU32,
    ended: AtomicU32,
}

// SAFETY: loom checks each access to `places`, and a model runs on one thread.
unsafe impl Sync for Object {}
// SAFETY: as above.
unsafe impl Send for Object {}

impl Object {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            word: Word::new(),
            places: std::array::from_fn(|_| UnsafeCell::new(GONE)),
            left: AtomicU32::new(0),
            ended: AtomicU32::new(0),
        })
    }

    /// Live at place 0 in generation 1.
    pub(super) fn live() -> Arc<Self> {
        let object = Self::new();
        object.publish(0, BYTES);
        object
    }

    pub(super) fn value(&self, at: u64) -> u32 {
        // SAFETY: loom has just checked that nobody writes here, and nobody runs beside us.
        unsafe { *self.places[at as usize].to_read() }
    }

    pub(super) fn set(&self, at: u64, value: u32) {
        // SAFETY: as above, and nobody reads here.
        unsafe { *self.places[at as usize].to_write() = value };
    }

    fn publish(&self, at: u64, value: u32) {
        self.set(at, value);
        self.word.publish(at);
    }

    /// The object is gone from here; the next one writes here at once.
    pub(super) fn leave(&self, at: u64) {
        self.set(at, GONE);
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn settle(&self, outcome: Outcome) {
        if let Outcome::Ended(at) = outcome {
            self.leave(at);
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> Result<(), Refusal> {
        let at = self.word.pin(1)?;
        let value = self.value(at);
        self.settle(self.word.unpin());
        assert_eq!(value, BYTES, "a reader sees the object whole");
        Ok(())
    }

    pub(super) fn free(&self) -> Result<(), Refusal> {
        self.word.free(1).map(|outcome| self.settle(outcome))
    }

    /// Moves the object from one place to another, as a compaction does: whether it did, if it had
    /// reason to take the other place.
    pub(super) fn migrate(&self, from: u64, to: u64) -> Option<bool> {
        let generation = self.word.pin_at(from)?;
        self.set(to, self.value(from));
        let swung = self.word.swing(generation, from, to);
        self.leave(if swung { from } else { to });
        if !swung {
            self.settle(self.word.unpin());
        }
        Some(swung)
    }

    /// After all threads: whether the object has ended, at most once; each place is given back
    /// once, `moved` naming those beside the first, but for the one that a live object keeps.
    pub(super) fn over(&self, moved: Option<bool>) -> bool {
        let places = 1 + u32::from(moved.is_some());
        let (ended, left) = (self.ended.load(Ordering::Relaxed), self.left.load(Ordering::Relaxed));
        assert!(ended <= 1, "an object ends once");
        assert_eq!(left, places - u32::from(ended == 0), "each place is given back once");
        let (generation, pins, at) = self.word.glance();
        assert_eq!((generation, pins), (1 + u64::from(ended), 0), "an object that is freed ends");
        if ended == 0 {
            assert_eq!(self.value(at), BYTES);
        }
        ended == 1
    }
}

/// Runs `f` on the object in another thread.
pub(super) fn beside<R: 'static>(
    object: &Arc<Object>,
    f: impl FnOnce(&Object) -> R + 'static,
) -> thread::JoinHandle<R> {
    let object = Arc::clone(object);
    thread::spawn(move || f(&object))
}

fn publish_and_read() -> bool {
    let object = Object::new();
    let reader = beside(&object, Object::read);
    object.publish(0, BYTES);
    reader.join().unwrap().is_ok()
}

#[test]
fn a_published_object_is_read_whole_or_not_at_all() {
    // 6 iterations, under 0.1 s.
    assert_eq!(model(None, publish_and_read).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn publishing_without_release_is_noticed() {
    twin(None, Plant::PublishRelaxed, publish_and_read);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn pinning_without_acquire_is_noticed() {
    twin(None, Plant::PinRelaxed, publish_and_read);
}

fn publish_and_migrate() -> Option<bool> {
    let object = Object::new();
    let mover = beside(&object, |object| object.migrate(0, 1));
    object.publish(0, BYTES);
    let moved = mover.join().unwrap();
    assert_eq!(object.read(), Ok(()));
    assert!(!object.over(moved));
    moved
}

#[test]
fn a_migration_copies_a_published_object_whole() {
    // 6 iterations, under 0.1 s.
    assert_eq!(model(None, publish_and_migrate).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn migrating_without_acquire_is_noticed() {
    twin(None, Plant::PinRelaxed, publish_and_migrate);
}

fn read_and_migrate() -> Option<bool> {
    let object = Object::live();
    let mover = beside(&object, |object| object.migrate(0, 1));
    assert_eq!(object.read(), Ok(()));
    let moved = mover.join().unwrap();
    assert!(!object.over(moved));
    moved
}

#[test]
fn a_reader_sees_an_object_that_moves() {
    // 41 iterations, under 0.1 s.
    assert_eq!(model(None, read_and_migrate).len(), 3);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn swinging_without_release_is_noticed() {
    twin(None, Plant::SwingUnreleased, read_and_migrate);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn unpinning_without_release_before_a_move_is_noticed() {
    twin(None, Plant::UnpinRelaxed, read_and_migrate);
}

fn free_and_free() -> (bool, bool) {
    let object = Object::live();
    let other = beside(&object, |object| object.free().is_ok());
    let freed = (object.free().is_ok(), other.join().unwrap());
    assert!(freed.0 != freed.1, "one of two frees is told that the handle was live");
    assert!(object.over(None));
    freed
}

#[test]
fn one_of_two_frees_ends_the_object() {
    // 7 iterations, under 0.1 s.
    assert_eq!(model(None, free_and_free).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent write")]
fn freeing_any_generation_is_noticed() {
    twin(None, Plant::FreeUnchecked, free_and_free);
}

fn free_and_read() -> bool {
    let object = Object::live();
    let reader = beside(&object, |object| object.read().is_ok());
    assert_eq!(object.free(), Ok(()));
    let read = reader.join().unwrap();
    assert!(object.over(None));
    read
}

#[test]
fn a_read_object_ends_after_its_reader() {
    // 15 iterations, under 0.1 s.
    assert_eq!(model(None, free_and_read).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn freeing_under_a_reader_is_noticed() {
    twin(None, Plant::FreeIgnoresPins, free_and_read);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn freeing_without_acquire_is_noticed() {
    twin(None, Plant::FreeUnacquired, free_and_read);
}

/// The thread that frees has read before; the other only pins, and may be the one that ends it.
/// (What orders the two is the Release of the first one's unpin: that of its free is not needed.)
fn read_then_free_and_pin() -> bool {
    let object = Object::live();
    let other = beside(&object, |object| {
        let pinned = object.word.pin(1);
        if pinned.is_ok() {
            object.settle(object.word.unpin());
        }
        pinned.is_ok()
    });
    assert_eq!(object.read(), Ok(()));
    assert_eq!(object.free(), Ok(()));
    let pinned = other.join().unwrap();
    assert!(object.over(None));
    pinned
}

#[test]
fn a_last_unpin_comes_after_what_the_freeing_thread_did() {
    // 804 iterations, under 0.1 s.
    assert_eq!(model(None, read_then_free_and_pin).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn ending_without_a_fence_is_noticed() {
    twin(None, Plant::LastUnpinUnfenced, read_then_free_and_pin);
}

fn two_frees_and_read() -> (bool, bool, bool) {
    let object = Object::live();
    let other = beside(&object, |object| object.free().is_ok());
    let reader = beside(&object, |object| object.read().is_ok());
    let freed = (object.free().is_ok(), other.join().unwrap());
    assert!(freed.0 != freed.1, "one of two frees is told that the handle was live");
    let read = reader.join().unwrap();
    assert!(object.over(None));
    (freed.0, freed.1, read)
}

#[test]
fn one_of_two_frees_ends_a_read_object() {
    // 12,924 iterations, 2.1 s.
    assert_eq!(model(None, two_frees_and_read).len(), 4);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn one_of_two_frees_under_a_reader_is_noticed() {
    twin(None, Plant::FreeIgnoresPins, two_frees_and_read);
}

fn free_and_migrate() -> Option<bool> {
    let object = Object::live();
    let mover = beside(&object, |object| object.migrate(0, 1));
    assert_eq!(object.free(), Ok(()));
    let moved = mover.join().unwrap();
    assert!(object.over(moved), "freed objects end");
    moved
}

#[test]
fn an_object_freed_while_it_moves_ends_once() {
    // 10 iterations, under 0.1 s.
    assert_eq!(model(None, free_and_migrate).len(), 3);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn migrating_without_a_pin_is_noticed() {
    twin(None, Plant::MigrateUnpinned, free_and_migrate);
}

fn free_and_migrate_and_read() -> (Option<bool>, bool) {
    let object = Object::live();
    let mover = beside(&object, |object| object.migrate(0, 1));
    let reader = beside(&object, |object| object.read().is_ok());
    assert_eq!(object.free(), Ok(()));
    let (moved, read) = (mover.join().unwrap(), reader.join().unwrap());
    assert!(object.over(moved), "freed objects end");
    (moved, read)
}

#[test]
fn an_object_freed_and_read_while_it_moves_ends_once() {
    // 137,495 iterations, 19.6 s.
    assert_eq!(model(None, free_and_migrate_and_read).len(), 6);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn migrating_a_read_object_without_a_pin_is_noticed() {
    twin(None, Plant::MigrateUnpinned, free_and_migrate_and_read);
}

fn two_readers_and_free() -> (bool, bool) {
    let object = Object::live();
    let readers = [(); 2].map(|()| beside(&object, |object| object.read().is_ok()));
    assert_eq!(object.free(), Ok(()));
    let [first, second] = readers.map(|reader| reader.join().unwrap());
    assert!(object.over(None));
    (first, second)
}

#[test]
fn an_object_ends_with_the_last_of_two_readers() {
    // 12,719 iterations, 1.2 s.
    assert_eq!(model(Some(5), two_readers_and_free).len(), 4);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn unpinning_without_release_is_noticed() {
    twin(Some(3), Plant::UnpinRelaxed, two_readers_and_free);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn ending_after_another_reader_without_a_fence_is_noticed() {
    twin(Some(3), Plant::LastUnpinUnfenced, two_readers_and_free);
}

fn two_readers_and_migrate() -> Option<bool> {
    let object = Object::live();
    let readers = [(); 2].map(|()| beside(&object, Object::read));
    let moved = object.migrate(0, 1);
    for reader in readers {
        assert!(matches!(reader.join().unwrap(), Ok(()) | Err(Refusal::Full)));
    }
    assert!(!object.over(moved));
    moved
}

#[test]
fn an_object_moves_only_when_neither_of_two_readers_holds_it() {
    // 59,713 iterations, 8.4 s.
    assert_eq!(model(Some(5), two_readers_and_migrate).len(), 3);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn swinging_under_two_readers_without_release_is_noticed() {
    twin(Some(3), Plant::SwingUnreleased, two_readers_and_migrate);
}

/// A slot is freed and used again while somebody still has the handle of its former object.
fn reuse_and_read() -> bool {
    let object = Object::live();
    let reader = beside(&object, |object| object.read().is_ok());
    assert_eq!(object.free(), Ok(()));
    if object.ended.load(Ordering::Relaxed) == 1 {
        assert!(object.word.recycle(NOWHERE));
        object.publish(1, BYTES + 1);
    }
    reader.join().unwrap()
}

#[test]
fn a_stale_reader_never_sees_the_next_object() {
    // 74 iterations, under 0.1 s.
    assert_eq!(model(None, reuse_and_read).len(), 2);
}

#[test]
#[should_panic(expected = "a reader sees the object whole")]
fn reusing_a_generation_is_noticed() {
    twin(None, Plant::ReuseKeepsGeneration, reuse_and_read);
}

/// The same while somebody asks for whatever object the slot holds: the generation that was pinned.
fn reuse_and_pin_live() -> Option<u64> {
    let object = Object::live();
    let reader = beside(&object, |object| match object.word.pin_live(false) {
        Ok((generation, at)) => {
            assert_eq!(generation & 1, 1, "a reader pins what is live");
            let value = object.value(at);
            object.settle(object.word.unpin());
            let expected = if generation == 1 { BYTES } else { BYTES + 1 };
            assert_eq!(value, expected, "a generation has its own bytes");
            Some(generation)
        }
        Err(refusal) => {
            assert_eq!(refusal, Refusal::Stale);
            None
        }
    });
    assert_eq!(object.free(), Ok(()));
    if object.ended.load(Ordering::Relaxed) == 1 {
        assert!(object.word.recycle(NOWHERE));
        object.publish(1, BYTES + 1);
    }
    let pinned = reader.join().unwrap();
    assert_eq!(object.left.load(Ordering::Relaxed), 1, "the first object ends once");
    assert_eq!(object.word.glance().1, 0, "no pin is left");
    pinned
}

#[test]
fn a_pin_of_whatever_is_live_says_what_it_is() {
    // 74 iterations, under 0.1 s.
    assert_eq!(model(None, reuse_and_pin_live).len(), 3);
}

#[test]
#[should_panic(expected = "a reader pins what is live")]
fn pinning_what_is_dead_is_noticed() {
    twin(None, Plant::PinDead, reuse_and_pin_live);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn pinning_whatever_is_live_without_acquire_is_noticed() {
    twin(None, Plant::PinRelaxed, reuse_and_pin_live);
}

/// More readers at once than fit: loom's limit is 2.
fn saturate() -> usize {
    let object = Object::live();
    let held = Arc::new(AtomicU32::new(0));
    let reader = |object: &Object, held: &AtomicU32| {
        let pinned = object.word.pin(1);
        if let Ok(at) = pinned {
            let before = held.fetch_add(1, Ordering::Relaxed);
            assert!(u64::from(before) < MAX_PINS, "no more pins than fit");
            assert_eq!(object.value(at), BYTES);
            object.settle(object.word.unpin());
            held.fetch_sub(1, Ordering::Relaxed);
        }
        assert!(matches!(pinned, Ok(0) | Err(Refusal::Full)));
        usize::from(pinned.is_ok())
    };
    let others = [(); 2].map(|()| {
        let held = Arc::clone(&held);
        beside(&object, move |object| reader(object, &held))
    });
    let mut read = reader(&object, &held);
    others.into_iter().for_each(|other| read += other.join().unwrap());
    assert!(!object.over(None));
    read
}

#[test]
fn one_reader_too_many_is_refused() {
    // 5,192 iterations, 0.7 s.
    assert_eq!(model(Some(3), saturate).into_keys().collect::<Vec<_>>(), [2, 3]);
}

#[test]
#[should_panic(expected = "no more pins than fit")]
fn pinning_past_the_limit_is_noticed() {
    twin(Some(3), Plant::PinUnbounded, saturate);
}

/// The last use of a slot, while somebody still has the handle of its first.
fn wrap() -> bool {
    const LAST: u64 = (1 << GENERATION_BITS) - 1;
    let object = Object::new();
    object.word.age(LAST - 1);
    object.publish(0, BYTES);
    let stale = beside(&object, Object::read);
    let holder = beside(&object, |object| {
        let pinned = object.word.pin(LAST);
        if pinned.is_ok() {
            retire(object, object.word.unpin());
        }
        pinned.is_ok()
    });
    retire(&object, object.word.free(LAST).unwrap());
    assert_eq!(stale.join().unwrap(), Err(Refusal::Stale), "a slot is retired when it wraps");
    let held = holder.join().unwrap();
    assert_eq!(object.word.glance(), (0, 0, 0), "a slot is retired when it wraps");
    assert_eq!(object.ended.load(Ordering::Relaxed), 1);
    held
}

/// Whoever ended the object retires its slot; with the bug planted, the slot is used again.
fn retire(object: &Object, outcome: Outcome) {
    object.settle(outcome);
    if outcome != Outcome::Kept && object.word.recycle(NOWHERE) {
        object.publish(1, BYTES);
    }
}

#[test]
fn a_slot_is_retired_when_its_generations_are_used_up() {
    // 5,358 iterations, 0.6 s.
    assert_eq!(model(None, wrap).len(), 2);
}

#[test]
#[should_panic(expected = "a slot is retired when it wraps")]
fn starting_over_is_noticed() {
    twin(None, Plant::WrapStartsOver, wrap);
}
