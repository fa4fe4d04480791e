//! Frames: readers beside whoever replaces and collects.

use super::World;
use crate::frame::{Frame, Frames};
use crate::sync::Plant;
use crate::sync::model::{beside, model, twin};

/// A set of one slot over a pool of its own, in which frame 7 stands.
struct Room {
    frames: Frames<u8>,
    world: std::sync::Arc<World>,
}

#[allow(clippy::arc_with_non_send_sync, reason = "loom's threads are one; its cells are not Sync")]
fn room() -> std::sync::Arc<Room> {
    let world = World::new();
    let frames = world.pool.frames(1, 1).unwrap();
    frames.put(0, frames.fill(&[7; 10]).unwrap(), 7);
    std::sync::Arc::new(Room { frames, world })
}

/// What a frame is, whole: its head, which all its bytes equal.
fn whole(frame: &Frame<u8>) -> u8 {
    let bytes = frame.bytes().unwrap();
    assert!(bytes.len() == 10 && bytes.iter().all(|byte| byte == frame.head()), "whole");
    *frame.head()
}

fn look(room: &Room) -> Option<u8> {
    room.frames.read(0).frame(0).map(whole)
}

impl Room {
    /// After all threads: what waits goes, and nothing is left of it.
    fn over(&self, frames: usize) {
        self.frames.collect();
        assert_eq!((self.frames.collect(), self.frames.len()), (0, frames));
        self.world.pool.check();
        assert_eq!(self.world.pool.stats().pages_framed, frames);
    }
}

fn read_and_clear() -> (Option<u8>, bool) {
    let room = room();
    let reader = beside(&room, look);
    assert!(room.frames.read(0).clear_if(0, |head| *head == 7));
    let waits = room.frames.collect() > 0;
    let read = reader.join().unwrap();
    room.over(0);
    (read, waits)
}

#[test]
fn a_frame_that_is_cleared_is_whole_for_its_reader() {
    let seen = model(Some(4), read_and_clear);
    assert!(seen.contains_key(&(Some(7), true)) && seen.contains_key(&(None, false)));
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn ending_a_frame_under_its_reader_is_noticed() {
    twin(Some(4), Plant::FrameUncounted, read_and_clear);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn leaving_a_frame_without_release_is_noticed() {
    twin(Some(4), Plant::FrameLeaveRelaxed, read_and_clear);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn entering_without_acquire_is_noticed() {
    twin(Some(4), Plant::FrameEnterRelaxed, read_and_clear);
}

fn read_and_replace() -> u8 {
    let room = room();
    let reader = beside(&room, |room| look(room).unwrap());
    room.frames.put(0, room.frames.fill(&[8; 10]).unwrap(), 8);
    room.frames.collect();
    let read = reader.join().unwrap();
    assert_eq!(look(&room), Some(8));
    room.over(1);
    read
}

#[test]
fn a_slot_that_is_replaced_is_never_empty() {
    assert_eq!(model(Some(4), read_and_replace).len(), 2);
}

fn put_and_read() -> Option<u8> {
    let room = room();
    assert!(room.frames.read(0).clear_if(0, |_| true));
    room.frames.collect();
    let reader = beside(&room, look);
    room.frames.put(0, room.frames.fill(&[8; 10]).unwrap(), 8);
    let read = reader.join().unwrap();
    room.over(1);
    read
}

#[test]
fn a_frame_is_found_whole_or_not_at_all() {
    assert_eq!(model(Some(4), put_and_read).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn putting_without_release_is_noticed() {
    twin(Some(4), Plant::FramePutRelaxed, put_and_read);
}

/// Two threads clear and collect beside a reader.
fn clear_and_clear() -> (Option<u8>, bool) {
    let room = room();
    let reader = beside(&room, look);
    let other = beside(&room, |room| {
        let cleared = room.frames.read(0).clear_if(0, |_| true);
        room.frames.collect();
        cleared
    });
    let mine = room.frames.read(0).clear_if(0, |_| true);
    room.frames.collect();
    let read = reader.join().unwrap();
    assert!(mine != other.join().unwrap(), "one of two clears");
    room.over(0);
    (read, mine)
}

#[test]
fn of_two_that_clear_a_slot_one_does() {
    assert_eq!(model(Some(2), clear_and_clear).len(), 4);
}
