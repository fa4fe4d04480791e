//! Flights alone: keys of one tag are compared while others come and go.

use crate::error::LoadError;
use crate::index::{Boarding, Flights};
use crate::sync::model::{beside, model, twin};
use crate::sync::{Arc, AtomicUsize, Ordering, Plant};

/// The tag of all keys.
const TAG: u32 = 7;

struct World {
    flights: Flights<u8>,
    /// Loads of key 1 that run.
    running: AtomicUsize,
}

/// Whether this caller loads key 1, or has somebody else do it.
fn ask(world: &World) -> bool {
    match world.flights.board(TAG, 1) {
        Boarding::Load(mut pilot) => {
            let others = world.running.fetch_add(1, Ordering::Relaxed);
            assert_eq!(others, 0, "one at a time loads a key");
            world.running.fetch_sub(1, Ordering::Relaxed);
            pilot.lands(Err(LoadError::Recursive));
            true
        }
        Boarding::Wait(flight) => {
            assert!(matches!(flight.wait(), Err(LoadError::Recursive)), "the loader's own");
            false
        }
        Boarding::Recursive => unreachable!("it is another thread's"),
    }
}

/// Two callers compare key 1 with key 2, whose flight ends meanwhile, and load it.
fn ask_and_ask() -> (bool, bool) {
    #[allow(clippy::arc_with_non_send_sync, reason = "loom's threads are one")]
    let world = Arc::new(World { flights: Flights::new(), running: AtomicUsize::new(0) });
    let boarding = world.flights.board(TAG, 2);
    assert!(matches!(boarding, Boarding::Load(_)), "key 2 is not loaded yet");
    let other = beside(&world, ask);
    let mine = ask(&world);
    drop(boarding);
    let other = other.join().unwrap();
    assert!(mine || other, "one of them loads it");
    assert_eq!(world.flights.len(), 0, "nothing is under way");
    (mine, other)
}

#[test]
fn of_two_who_miss_a_key_one_at_a_time_loads_it() {
    assert_eq!(model(None, ask_and_ask).len(), 3);
}

#[test]
#[should_panic(expected = "one at a time loads a key")]
fn adding_a_flight_beside_one_of_the_same_key_is_noticed() {
    twin(None, Plant::FlightUncompared, ask_and_ask);
}

/// A flight comes beside a change of another key of its tag.
fn board_and_tell() -> usize {
    #[allow(clippy::arc_with_non_send_sync, reason = "loom's threads are one")]
    let world = Arc::new(World { flights: Flights::new(), running: AtomicUsize::new(0) });
    let first = world.flights.board(TAG, 2);
    let other = beside(&world, |world| drop(world.flights.board(TAG, 1)));
    world.flights.tell(TAG);
    let left = world.flights.len();
    assert!(left <= 1, "no flight is taken off before it is counted");
    drop(first);
    other.join().unwrap();
    assert_eq!(world.flights.len(), 0, "nothing is under way");
    left
}

#[test]
fn a_flight_is_counted_before_it_is_taken_off() {
    assert_eq!(model(None, board_and_tell).len(), 2);
}
