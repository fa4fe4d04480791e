//! The word between a writer, who holds it alone, and everybody else.

use super::sharing::{Object, beside};
use crate::sync::Plant;
use crate::sync::model::{model, twin};
use crate::word::Refusal;

const HALF: u32 = 7;
const WRITTEN: u32 = 42;

/// Writes the object in place, in two steps of which nobody may see the first.
fn write(object: &Object) -> Result<(), Refusal> {
    let at = object.word.lock(1)?;
    object.set(at, HALF);
    object.set(at, WRITTEN);
    object.settle(object.word.unlock(at));
    Ok(())
}

fn read_and_write() -> (bool, bool) {
    let object = Object::live();
    let reader = beside(&object, Object::read);
    let written = write(&object);
    let read = reader.join().unwrap();
    assert!(matches!(written, Ok(()) | Err(Refusal::Busy)));
    assert!(matches!(read, Ok(()) | Err(Refusal::Busy)));
    assert!(!object.over(None));
    (written.is_ok(), read.is_ok())
}

#[test]
fn readers_and_a_writer_exclude_each_other() {
    // 28 iterations, under 0.1 s.
    let seen = model(None, read_and_write);
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), [(false, true), (true, false), (true, true)]);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn writing_under_a_reader_is_noticed() {
    twin(None, Plant::LockIgnoresPins, read_and_write);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn locking_without_acquire_is_noticed() {
    twin(None, Plant::LockRelaxed, read_and_write);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn unlocking_without_release_is_noticed() {
    twin(None, Plant::UnlockRelaxed, read_and_write);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write")]
fn unpinning_without_release_before_a_write_is_noticed() {
    twin(None, Plant::UnpinRelaxed, read_and_write);
}

fn two_writers() -> (bool, bool) {
    let object = Object::live();
    let other = beside(&object, |object| write(object).is_ok());
    let mine = write(&object).is_ok();
    let written = (mine, other.join().unwrap());
    assert!(written.0 || written.1, "one of two writers has its turn");
    assert!(!object.over(None));
    written
}

#[test]
fn two_writers_exclude_each_other() {
    // 28 iterations, under 0.1 s.
    assert_eq!(model(None, two_writers).len(), 3);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent write")]
fn writing_under_a_writer_is_noticed() {
    twin(None, Plant::LockIgnoresPins, two_writers);
}

/// The thread that frees has read before.
fn write_and_free() -> bool {
    let object = Object::live();
    let writer = beside(&object, |object| write(object).is_ok());
    let read = object.read();
    assert!(matches!(read, Ok(()) | Err(Refusal::Busy)));
    assert_eq!(object.free(), Ok(()));
    let written = writer.join().unwrap();
    assert!(object.over(None), "a freed object ends");
    written
}

#[test]
fn an_object_freed_while_it_is_written_ends_with_its_writer() {
    // 189 iterations, under 0.1 s.
    assert_eq!(model(None, write_and_free).len(), 2);
}

#[test]
#[should_panic(expected = "an object that is freed ends")]
fn unlocking_a_freed_object_as_if_it_lived_is_noticed() {
    twin(None, Plant::UnlockForgetsFree, write_and_free);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent write")]
fn freeing_under_a_writer_is_noticed() {
    twin(None, Plant::FreeIgnoresPins, write_and_free);
}

fn write_and_migrate() -> (bool, Option<bool>) {
    let object = Object::live();
    let mover = beside(&object, |object| object.migrate(0, 1));
    let written = write(&object).is_ok();
    let moved = mover.join().unwrap();
    assert!(!object.over(moved));
    (written, moved)
}

#[test]
fn a_writer_and_a_migration_exclude_each_other() {
    // 27 iterations, under 0.1 s.
    assert_eq!(model(None, write_and_migrate).len(), 3);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn migrating_under_a_writer_is_noticed() {
    twin(None, Plant::MigrateUnpinned, write_and_migrate);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn writing_under_a_migration_is_noticed() {
    twin(None, Plant::LockIgnoresPins, write_and_migrate);
}

fn write_and_migrate_and_free() -> (bool, Option<bool>) {
    let object = Object::live();
    let mover = beside(&object, |object| object.migrate(0, 1));
    let writer = beside(&object, |object| write(object).is_ok());
    assert_eq!(object.free(), Ok(()));
    let (written, moved) = (writer.join().unwrap(), mover.join().unwrap());
    assert!(object.over(moved));
    (written, moved)
}

#[test]
fn an_object_written_moved_and_freed_at_once_ends_once() {
    // 3,635 iterations, 0.2 s.
    assert_eq!(model(Some(5), write_and_migrate_and_free).len(), 6);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn migrating_without_a_pin_under_a_writer_and_a_free_is_noticed() {
    twin(Some(3), Plant::MigrateUnpinned, write_and_migrate_and_free);
}
