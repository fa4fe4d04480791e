//! Frames that wait: batches of them, and several threads that replace, clear and collect.

use std::sync::Arc;

use super::LEN;
use super::framing::{Room, look, room, room_for, whole};
use crate::config::Config;
use crate::pool::Pool;
use crate::source::Heap;
use crate::sync::Plant;
use crate::sync::model::{beside, model, twin};

/// Puts a frame of `value`s into the slot; says whether there was one.
fn put(room: &Room, value: u8) -> bool {
    room.frames.put(0, room.frames.fill(&[value; 10]).unwrap(), value)
}

/// Two batches of frames wait, one behind the other, beside a reader.
fn two_batches() -> Option<u8> {
    let room = room();
    let reader = beside(&room, look);
    for value in [8, 9] {
        put(&room, value);
        room.frames.collect();
    }
    let read = reader.join().unwrap();
    room.over(1);
    read
}

#[test]
fn a_reader_of_the_second_batch_is_looked_for_again() {
    let seen = model(Some(3), two_batches);
    assert!(seen.into_keys().eq([7, 8, 9].map(Some)));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_look_that_counts_for_the_next_batch_is_noticed() {
    twin(Some(3), Plant::FrameSeenBefore, two_batches);
}

/// One thread replaces, another one collects, a third one reads.
fn put_and_collect_and_read() -> Option<u8> {
    let room = room();
    let reader = beside(&room, look);
    let putter = beside(&room, |room| put(room, 8));
    let waiting = room.frames.collect();
    assert!(waiting <= room.frames.frame_bytes(10), "{waiting} bytes of one frame wait");
    let read = reader.join().unwrap();
    assert!(putter.join().unwrap(), "frame 7 was there");
    room.over(1);
    read
}

#[test]
fn a_frame_that_another_thread_takes_off_waits_for_its_reader() {
    assert_eq!(model(Some(3), put_and_collect_and_read).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn retiring_without_release_is_noticed() {
    twin(Some(3), Plant::FrameRetireRelaxed, put_and_collect_and_read);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn collecting_without_acquire_is_noticed() {
    twin(Some(3), Plant::FrameCollectRelaxed, put_and_collect_and_read);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn finding_a_frame_without_acquire_is_noticed() {
    twin(Some(3), Plant::FrameFindRelaxed, put_and_collect_and_read);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn looking_at_a_counter_without_acquire_is_noticed() {
    twin(Some(3), Plant::FrameLookUnacquired, two_batches);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn looking_at_a_counter_without_release_is_noticed() {
    twin(Some(3), Plant::FrameLookUnreleased, two_batches);
}

#[test]
#[should_panic(expected = "bytes of one frame wait")]
fn counting_what_waits_when_it_may_have_ended_is_noticed() {
    twin(Some(3), Plant::FrameLeaveLate, put_and_collect_and_read);
}

/// A thread takes off what another one has just put into the empty slot.
fn put_and_clear() -> bool {
    let room = room();
    assert!(room.frames.read(0).clear_if(0, |_| true));
    room.frames.collect();
    let putter = beside(&room, |room| put(room, 8));
    let cleared = room.frames.read(0).clear_if(0, |_| true);
    let (frames, bytes) = (room.frames.len(), room.frames.bytes());
    assert!(
        frames <= 1 && bytes <= room.frames.frame_bytes(10),
        "{frames} of one frame are counted"
    );
    assert!(!putter.join().unwrap(), "the slot was empty");
    room.over(usize::from(!cleared));
    cleared
}

#[test]
fn a_frame_is_counted_before_it_can_be_taken_off() {
    assert_eq!(model(Some(3), put_and_clear).len(), 2);
}

#[test]
#[should_panic(expected = "of one frame are counted")]
fn counting_a_frame_when_it_may_be_off_again_is_noticed() {
    twin(Some(3), Plant::FrameEnterLate, put_and_clear);
}

/// Two threads replace, so that the second one retires what the first one has just put there.
fn put_and_put() -> Option<u8> {
    let room = room();
    let other = beside(&room, |room| put(room, 8));
    let both = (put(&room, 9), other.join().unwrap());
    assert_eq!(both, (true, true), "the slot is never empty");
    let left = look(&room);
    room.over(1);
    left
}

#[test]
fn of_two_that_replace_a_frame_one_retires_the_others() {
    assert_eq!(model(Some(3), put_and_put).len(), 2);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn replacing_without_acquire_is_noticed() {
    twin(Some(3), Plant::FramePutUnacquired, put_and_put);
}

/// A thread clears a slot of what it found there, while another one replaces that.
fn clear_and_put() -> (bool, bool) {
    let room = room();
    let other = beside(&room, |room| {
        let replaced = put(room, 8);
        room.frames.collect();
        replaced
    });
    let cleared = room.frames.read(0).clear_if(0, |head| *head == 7);
    room.frames.collect();
    let replaced = other.join().unwrap();
    assert!(cleared != replaced, "one of two takes it off");
    room.over(1);
    (cleared, replaced)
}

#[test]
fn a_frame_is_cleared_or_replaced() {
    assert_eq!(model(Some(2), clear_and_put).len(), 2);
}

#[test]
#[should_panic(expected = "one of two takes it off")]
fn clearing_whatever_is_there_is_noticed() {
    twin(Some(2), Plant::FrameClearedUnasked, clear_and_put);
}

/// Two pairs of counters, a reader in each.
fn two_pairs() -> (Option<u8>, Option<u8>) {
    let room = room_for(2);
    let readers =
        [0, 1].map(|by| beside(&room, move |room| room.frames.read(by).frame(0).map(whole)));
    assert!(room.frames.read(0).clear_if(0, |_| true));
    room.frames.collect();
    let [one, two] = readers.map(|reader| reader.join().unwrap());
    room.over(0);
    (one, two)
}

#[test]
fn a_frame_waits_for_the_readers_of_all_pairs() {
    assert_eq!(model(Some(2), two_pairs).len(), 4);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn looking_at_one_pair_alone_is_noticed() {
    twin(Some(2), Plant::FrameFirstPairOnly, two_pairs);
}

/// The pool goes, with an object in it, beside a reader of its frames; they stay in use.
#[allow(clippy::arc_with_non_send_sync, reason = "loom's threads are one; its cells are not Sync")]
fn drop_the_pool() -> Option<u8> {
    let heap = Heap::with_region_pages(4096, 1);
    let pool = Pool::<()>::with_source(Config::new().max_object(LEN), heap).unwrap();
    pool.alloc(&[1; LEN]).unwrap();
    let frames = Arc::new(pool.frames(1, 1).unwrap());
    frames.put(0, frames.fill(&[7; 10]).unwrap(), 7);
    let supply = pool.arena().supply();
    let reader = beside(&frames, |frames| frames.read(0).frame(0).map(whole));
    drop(pool);
    assert_eq!(supply.ledger.pages(), 1, "the frame's page is left");
    assert!(frames.read(0).clear_if(0, |head| *head == 7));
    frames.collect();
    let read = reader.join().unwrap();
    frames.collect();
    assert_eq!((frames.collect(), frames.len()), (0, 0));
    drop(Arc::into_inner(frames).expect("the reader is over"));
    supply.source.trim(&supply.ledger);
    assert_eq!((supply.ledger.pages(), supply.ledger.lent()), (0, 0), "nothing is left");
    read
}

#[test]
fn frames_are_read_and_replaced_while_their_pool_goes() {
    assert_eq!(model(Some(3), drop_the_pool).len(), 2);
}

#[test]
#[should_panic(expected = "the frame's page is left")]
fn a_pool_that_keeps_its_pages_is_noticed() {
    twin(Some(3), Plant::VacateForgotten, drop_the_pool);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn ending_a_frame_under_its_reader_when_the_pool_has_gone_is_noticed() {
    twin(Some(3), Plant::FrameUncounted, drop_the_pool);
}
