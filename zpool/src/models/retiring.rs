//! Frames that wait: batches of them, and several threads that replace, clear and collect.

use super::framing::{Room, look, room, room_for, whole};
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
    room.frames.collect();
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
