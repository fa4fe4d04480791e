//! Frames: readers beside whoever replaces and collects.

use super::World;
use crate::frame::{Frame, Frames, SharedBytes};
use crate::sync::Plant;
use crate::sync::model::{beside, model, twin};

/// A set of one slot over a pool of its own, in which frame 7 stands.
pub(super) struct Room {
    pub(super) frames: Frames<u8>,
    pub(super) world: std::sync::Arc<World>,
}

#[allow(clippy::arc_with_non_send_sync, reason = "loom's threads are one; its cells are not Sync")]
pub(super) fn room_for(readers: usize) -> std::sync::Arc<Room> {
    let world = World::new();
    let frames = world.pool.frames(1, readers).unwrap();
    frames.put(0, frames.fill(&[7; 10]).unwrap(), 7);
    std::sync::Arc::new(Room { frames, world })
}

/// For readers of one pair of counters.
pub(super) fn room() -> std::sync::Arc<Room> {
    room_for(1)
}

/// What a frame is, whole: its head, which all its bytes equal.
pub(super) fn whole(frame: &Frame<u8>) -> u8 {
    let bytes = frame.bytes().unwrap();
    assert!(bytes.len() == 10 && bytes.iter().all(|byte| byte == frame.head()), "whole");
    *frame.head()
}

pub(super) fn look(room: &Room) -> Option<u8> {
    room.frames.read(0).frame(0).map(whole)
}

impl Room {
    /// After all threads: what waits goes, and nothing is left of it.
    pub(super) fn over(&self, frames: usize) {
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

fn shared(room: &Room) -> Option<SharedBytes> {
    room.frames.read(0).frame(0).and_then(Frame::share)
}

/// Shared bytes are whole: what is all of them.
fn whole_bytes(bytes: &SharedBytes) -> u8 {
    let byte = bytes[0];
    assert!(bytes.len() == 10 && bytes.iter().all(|other| *other == byte), "whole");
    byte
}

impl Room {
    /// What waits when all threads are done: the memory of so many frames that are held.
    fn held(&self, frames: usize) {
        self.frames.collect();
        assert_eq!(self.frames.collect() / 4096, frames, "held pages wait");
    }
}

/// A reader shares what another thread takes off, and looks at it when the frame has ended.
fn share_and_clear() -> (Option<u8>, bool) {
    let room = room();
    let holder = beside(&room, |room| {
        let shared = shared(room);
        shared.as_ref().map(whole_bytes);
        shared
    });
    assert!(room.frames.read(0).clear_if(0, |head| *head == 7));
    let waits = room.frames.collect() > 0;
    let shared = holder.join().unwrap();
    room.held(usize::from(shared.is_some()));
    room.world.pool.check();
    let read = shared.as_ref().map(whole_bytes);
    drop(shared);
    room.over(0);
    (read, waits)
}

#[test]
fn shared_bytes_are_whole_when_their_frame_has_ended() {
    let seen = model(Some(4), share_and_clear);
    assert!(seen.contains_key(&(Some(7), true)) && seen.contains_key(&(None, false)));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn ending_shared_memory_with_its_frame_is_noticed() {
    twin(Some(4), Plant::FrameSharedEnded, share_and_drop);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn sharing_a_frame_that_ends_under_its_reader_is_noticed() {
    twin(Some(4), Plant::FrameUncounted, share_and_clear);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn letting_go_of_shared_memory_without_release_is_noticed() {
    twin(Some(4), Plant::HolderLeaveUnreleased, share_and_drop);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn ending_shared_memory_without_acquire_is_noticed() {
    twin(Some(4), Plant::HolderLeaveUnacquired, share_and_drop);
}

/// The holder reads and drops beside the collections that end the frame: either is the last.
fn share_and_drop() -> bool {
    let room = room();
    let holder = beside(&room, |room| shared(room).map(|bytes| whole_bytes(&bytes)));
    assert!(room.frames.read(0).clear_if(0, |_| true));
    let (once, twice) = (room.frames.collect(), room.frames.collect());
    assert!(twice <= once, "nothing comes back");
    let read = holder.join().unwrap();
    room.over(0);
    assert_eq!(room.frames.heap_bytes(), 0);
    read.is_some()
}

#[test]
fn whoever_drops_last_gives_the_memory_back() {
    assert_eq!(model(Some(4), share_and_drop).len(), 2);
}

fn share_and_replace() -> u8 {
    let room = room();
    let holder = beside(&room, |room| shared(room).unwrap());
    room.frames.put(0, room.frames.fill(&[8; 10]).unwrap(), 8);
    room.frames.collect();
    let bytes = holder.join().unwrap();
    let read = whole_bytes(&bytes);
    room.held(usize::from(read == 7));
    assert_eq!(look(&room), Some(8));
    drop(bytes);
    room.over(1);
    read
}

#[test]
fn shared_bytes_are_those_of_one_frame() {
    assert_eq!(model(Some(4), share_and_replace).len(), 2);
}

/// Two holders in two threads beside the collection that ends the frame.
fn drop_and_drop() -> bool {
    let room = room();
    let mine = shared(&room).unwrap();
    let (one, two) = (mine.clone(), mine);
    let other = beside(&room, move |_| drop(one));
    let third = beside(&room, move |_| drop(two));
    assert!(room.frames.read(0).clear_if(0, |_| true));
    let waits = room.frames.collect() > 0;
    other.join().unwrap();
    third.join().unwrap();
    room.frames.collect();
    let blocks = blocks(&room);
    assert_eq!((blocks, room.frames.waiting_bytes()), (0, 0), "nothing is left");
    room.over(0);
    waits
}

#[test]
fn holders_are_counted_in_all_threads() {
    assert_eq!(model(Some(3), drop_and_drop).len(), 2);
}

/// The set goes, and then the pool, beside a holder.
fn drop_the_set() -> usize {
    let world = World::new();
    let frames = world.pool.frames(1, 1).unwrap();
    frames.put(0, frames.fill(&[7; 10]).unwrap(), 7_u8);
    let bytes = frames.read(0).frame(0).and_then(Frame::share).unwrap();
    let holder = beside(&world, move |_| whole_bytes(&bytes));
    drop(frames);
    let left = world.pool.stats().pages_framed;
    assert_eq!(holder.join().unwrap(), 7);
    let stats = world.pool.stats();
    assert_eq!((stats.pages_framed, stats.reserved_bytes), (0, 0), "nothing is left");
    world.pool.check();
    left
}

#[test]
fn a_holder_of_a_set_that_has_gone_gives_all_back() {
    assert_eq!(model(Some(4), drop_the_set).len(), 2);
}

/// The pool goes as well, and the holder has its pages and their source for itself.
fn drop_the_pool() -> u8 {
    let pool = std::sync::Arc::into_inner(World::new()).unwrap().pool;
    let frames = pool.frames(1, 1).unwrap();
    frames.put(0, frames.fill(&[7; 10]).unwrap(), 7_u8);
    let bytes = frames.read(0).frame(0).and_then(Frame::share).unwrap();
    let other = bytes.clone();
    let holder = loom::thread::spawn(move || whole_bytes(&other));
    drop(frames);
    drop(pool);
    let read = whole_bytes(&bytes);
    drop(bytes);
    assert_eq!(holder.join().unwrap(), read);
    read
}

#[test]
fn shared_bytes_are_whole_when_the_pool_has_gone() {
    assert_eq!(model(Some(4), drop_the_pool).into_keys().collect::<Vec<_>>(), [7]);
}

/// Growth beside one who reads slots that are there, and slots as they come.
fn grow_and_put() -> (usize, Option<u8>) {
    let room = room();
    let reader = beside(&room, |room| {
        let slots = room.frames.slots();
        let read = room.frames.read(0).frame(slots - 1).map(whole);
        assert_eq!(look(room), Some(7), "growth moves nothing");
        (slots, read)
    });
    room.frames.grow().unwrap();
    room.frames.put(1, room.frames.fill(&[8; 10]).unwrap(), 8);
    let seen = reader.join().unwrap();
    assert_eq!(room.world.pool.stats().reserved_bytes, room.frames.table_bytes() + blocks(&room));
    room.over(2);
    seen
}

fn blocks(room: &Room) -> usize {
    room.frames.heap_bytes()
}

#[test]
fn slots_grow_beside_their_readers() {
    let seen: Vec<_> = model(Some(4), grow_and_put).into_keys().collect();
    assert_eq!(seen, [(1, Some(7)), (2, None), (2, Some(8))]);
}

#[test]
#[should_panic(expected = "place 1 of")]
fn announcing_slots_that_are_not_there_yet_is_noticed() {
    twin(Some(4), Plant::SlotsRelaxed, grow_and_put);
}

/// Two threads grow at once.
fn grow_and_grow() -> usize {
    let room = room();
    let other = beside(&room, |room| room.frames.grow().unwrap());
    room.frames.grow().unwrap();
    other.join().unwrap();
    let slots = room.frames.slots();
    assert!(room.frames.is_vacant(slots - 1) && look(&room) == Some(7));
    assert_eq!(room.world.pool.stats().reserved_bytes, room.frames.table_bytes() + blocks(&room));
    room.over(1);
    slots
}

#[test]
fn of_two_that_grow_each_is_charged_or_none() {
    assert_eq!(model(None, grow_and_grow).into_keys().collect::<Vec<_>>(), [2, 4]);
}

/// Another thread grows twice, up to the last doubling of a model.
fn grow_and_grow_twice() -> bool {
    let room = room();
    let other = beside(&room, |room| [(); 2].map(|()| room.frames.grow().is_ok()));
    let grown = room.frames.grow().is_ok();
    let both = other.join().unwrap();
    assert_eq!(room.frames.slots(), 4, "slots that are there stay");
    assert!(both[0] && (both[1] || grown));
    room.over(1);
    grown && both[1]
}

#[test]
fn growth_never_takes_slots_away() {
    assert_eq!(model(Some(3), grow_and_grow_twice).len(), 2);
}

#[test]
#[should_panic(expected = "slots that are there stay")]
fn growing_by_what_was_there_before_is_noticed() {
    twin(Some(3), Plant::SlotsGrownOver, grow_and_grow_twice);
}

/// The upper slots go, and come again with a frame, beside one who reads the last of them by an old
/// number. A page of a model has two slots, and the first one stays.
fn shrink_and_read() -> (Option<u8>, Option<u8>) {
    let room = room();
    while room.frames.slots() < 4 {
        room.frames.grow().unwrap();
    }
    room.frames.put(3, room.frames.fill(&[8; 10]).unwrap(), 8);
    let reader = beside(&room, |room| {
        let reading = room.frames.read(0);
        (reading.frame(3).map(whole), reading.frame(3).map(whole))
    });
    assert!(!room.frames.shrink(), "the last slot is not empty");
    assert!(room.frames.read(0).clear_if(3, |head| *head == 8));
    assert!(room.frames.shrink());
    room.frames.grow().unwrap();
    assert!(room.frames.is_vacant(3));
    room.frames.put(3, room.frames.fill(&[9; 10]).unwrap(), 9);
    room.frames.collect();
    let seen = reader.join().unwrap();
    assert_eq!(look(&room), Some(7), "shrinking moves nothing");
    room.over(2);
    seen
}

#[test]
fn slots_go_and_come_again_beside_their_readers() {
    let seen: Vec<_> = model(Some(3), shrink_and_read).into_keys().collect();
    let old_or_new = |read: &Option<u8>| matches!(read, None | Some(8 | 9));
    assert!(seen.iter().all(|(one, two)| old_or_new(one) && old_or_new(two)));
    assert!(seen.contains(&(Some(8), None)) && seen.contains(&(None, Some(9))), "{seen:?}");
    assert!(!seen.contains(&(Some(9), Some(8))), "{seen:?}");
}

#[test]
#[should_panic(expected = "the last slot is not empty")]
fn slots_that_go_with_their_frames_are_noticed() {
    twin(Some(3), Plant::SlotsUnasked, shrink_and_read);
}
