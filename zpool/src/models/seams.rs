//! Objects that lie on two pages, which no piece of memory has: they are copied, piece by piece.

use std::sync::Arc;

use super::first_handle;
use crate::config::Config;
use crate::error::MapError;
use crate::handle::Handle;
use crate::pool::Pool;
use crate::source::Heap;
use crate::sync::Plant;
use crate::sync::model::{beside, model, twin};

/// Bytes of an object: four fill a chain of three pages, and each has witness cells of its own.
const LONG: usize = 3072;

/// A pool in which no page lies behind another one.
#[allow(clippy::arc_with_non_send_sync, reason = "loom's threads are one; its cells are not Sync")]
fn pool() -> Arc<Pool<()>> {
    let heap = Heap::with_region_pages(4096, 1);
    Arc::new(Pool::with_source(Config::new().max_object(LONG), heap).unwrap())
}

/// What all bytes of an object are.
fn read(pool: &Pool<()>, handle: Handle) -> Result<u8, MapError> {
    let map = pool.map(handle)?;
    assert!(map.len() == LONG && map.iter().all(|byte| *byte == map[0]), "whole");
    Ok(map[0])
}

/// After all threads: nothing is left.
fn over(pool: &Pool<()>, left: &[Handle]) {
    pool.check();
    left.iter().for_each(|handle| pool.free(*handle).unwrap());
    pool.trim();
    assert_eq!((pool.stats().pages, pool.stats().pending), (0, 0));
}

/// A chain is built, and an object on two of its pages published, beside a reader of that.
fn alloc_and_read() -> Option<u8> {
    let pool = pool();
    let reader = beside(&pool, |pool| read(pool, first_handle(1)));
    let handles = [6, 7].map(|value| pool.alloc(&[value; LONG]).unwrap());
    assert_eq!(pool.stats().pages, 3, "object 1 lies on two pages");
    let read = reader.join().unwrap();
    assert!(matches!(read, Ok(7) | Err(MapError::Stale)));
    over(&pool, &handles);
    read.ok()
}

#[test]
fn an_object_on_two_pages_is_read_whole() {
    assert_eq!(model(Some(3), alloc_and_read).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn publishing_an_object_on_two_pages_without_release_is_noticed() {
    twin(Some(3), Plant::PublishRelaxed, alloc_and_read);
}

/// An object on two pages moves to two others, or its reader is in the way.
fn move_and_read() -> usize {
    let pool = pool();
    let handles: Vec<Handle> = (0..8).map(|value| pool.alloc(&[value; LONG]).unwrap()).collect();
    // The second object of each chain stays.
    let (kept, gone): (Vec<_>, Vec<_>) =
        handles.into_iter().enumerate().partition(|(at, _)| at % 4 == 1);
    gone.into_iter().for_each(|(_, handle)| pool.free(handle).unwrap());
    let kept = [kept[0].1, kept[1].1];
    let mover = beside(&pool, |pool| pool.compact(usize::MAX));
    assert_eq!(kept.map(|handle| read(&pool, handle)), [Ok(1), Ok(5)]);
    let did = mover.join().unwrap();
    assert_eq!(kept.map(|handle| read(&pool, handle)), [Ok(1), Ok(5)]);
    over(&pool, &kept);
    did.objects_moved
}

#[test]
fn an_object_on_two_pages_is_read_whole_while_it_moves() {
    assert_eq!(model(Some(3), move_and_read).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn unpinning_an_object_on_two_pages_without_release_is_noticed() {
    twin(Some(3), Plant::UnpinRelaxed, move_and_read);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn swinging_an_object_on_two_pages_without_release_is_noticed() {
    twin(Some(3), Plant::SwingUnreleased, move_and_read);
}
