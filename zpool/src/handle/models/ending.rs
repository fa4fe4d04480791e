//! The end of an object comes after all that the freeing thread did before, as with an `Arc`. The
//! object's record may count on that when it is dropped.

use std::sync::Arc;

use super::sharing::Object;
use crate::sync::model::{beside, model, twin};
use crate::sync::{Plant, UnsafeCell};
use crate::word::Outcome;

/// An object, and what the freeing thread does beside it.
struct Noted {
    object: Arc<Object>,
    note: UnsafeCell<bool>,
}

// SAFETY: loom checks each access to `note`, and a model runs on one thread.
unsafe impl Sync for Noted {}
// SAFETY: as above.
unsafe impl Send for Noted {}

impl Noted {
    fn new() -> Arc<Self> {
        Arc::new(Self { object: Object::live(), note: UnsafeCell::new(false) })
    }

    /// What the end of the record would look at.
    fn settle(&self, outcome: Outcome) -> bool {
        if outcome == Outcome::Kept {
            return false;
        }
        self.object.settle(outcome);
        // SAFETY: loom has just checked that nobody writes here, and nobody runs beside us.
        let noted = unsafe { *self.note.to_read() };
        assert!(noted, "an object ends after what was done before its free");
        true
    }

    fn free(&self) -> bool {
        // SAFETY: as above, and nobody reads here.
        unsafe { *self.note.to_write() = true };
        self.settle(self.object.word.free(1).unwrap())
    }

    /// After all threads: the holder held it, and it was the one who ended it.
    fn over(&self, (held, ended): (bool, bool), freed: bool) -> (bool, bool) {
        assert!(ended != freed && self.object.over(None), "one of two ends it");
        (held, ended)
    }
}

/// A reader, who reads nothing, may be the last.
fn pin_and_free() -> (bool, bool) {
    let noted = Noted::new();
    let reader = beside(&noted, |noted| match noted.object.word.pin(1) {
        Ok(_) => (true, noted.settle(noted.object.word.unpin())),
        Err(_) => (false, false),
    });
    let freed = noted.free();
    noted.over(reader.join().unwrap(), freed)
}

#[test]
fn a_reader_ends_an_object_after_what_was_done_before_its_free() {
    let seen: Vec<_> = model(None, pin_and_free).into_keys().collect();
    assert_eq!(seen, [(false, false), (true, false), (true, true)]);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn freeing_without_release_is_noticed() {
    twin(None, Plant::FreeUnreleased, pin_and_free);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn ending_by_a_reader_without_a_fence_is_noticed() {
    twin(None, Plant::LastUnpinUnfenced, pin_and_free);
}

/// A writer may be the last.
fn lock_and_free() -> (bool, bool) {
    let noted = Noted::new();
    let writer = beside(&noted, |noted| match noted.object.word.lock(1) {
        Ok(at) => (true, noted.settle(noted.object.word.unlock(at))),
        Err(_) => (false, false),
    });
    let freed = noted.free();
    noted.over(writer.join().unwrap(), freed)
}

#[test]
fn a_writer_ends_an_object_after_what_was_done_before_its_free() {
    let seen: Vec<_> = model(None, lock_and_free).into_keys().collect();
    assert_eq!(seen, [(false, false), (true, false), (true, true)]);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn freeing_under_a_writer_without_release_is_noticed() {
    twin(None, Plant::FreeUnreleased, lock_and_free);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn ending_by_a_writer_without_a_fence_is_noticed() {
    twin(None, Plant::UnlockUnfenced, lock_and_free);
}
