//! Flights alone: keys of one tag are compared while others come and go, and pilots and those who
//! wait give up.

use bytes::Bytes;

use crate::error::LoadError;
use crate::index::{Arrival, Boarding, Flights, Pilot, Waiter};
use crate::sync::model::{beside, model, twin};
use crate::sync::{Arc, AtomicUsize, Ordering, Plant};

/// The tag of all keys.
const TAG: u32 = 7;

struct World {
    flights: Arc<Flights<u8>>,
    /// Loads of key 1 that run.
    running: AtomicUsize,
}

#[allow(clippy::arc_with_non_send_sync, reason = "loom's threads are one")]
fn world() -> Arc<World> {
    Arc::new(World { flights: Arc::new(Flights::new()), running: AtomicUsize::new(0) })
}

fn pilot(world: &World, key: u8) -> Pilot<u8> {
    let Boarding::Load(pilot) = world.flights.board(TAG, &key) else { panic!("it is under way") };
    pilot
}

fn waiter(world: &World) -> Waiter<u8> {
    let Boarding::Wait(waiter) = world.flights.board(TAG, &1) else { panic!("nobody loads it") };
    waiter
}

/// Loads key 1.
fn load(world: &World, mut pilot: Pilot<u8>) {
    let others = world.running.fetch_add(1, Ordering::Relaxed);
    assert_eq!(others, 0, "one at a time loads a key");
    world.running.fetch_sub(1, Ordering::Relaxed);
    pilot.lands(Err(LoadError::Recursive));
}

/// What a caller gets who waits; says whether it had to load.
fn wait(world: &World, waiter: Waiter<u8>) -> bool {
    match waiter.wait_on() {
        Arrival::Landed(landing) => {
            assert!(matches!(landing, Err(LoadError::Recursive)), "the loader's own");
            false
        }
        Arrival::Pilot(pilot) => {
            load(world, pilot);
            true
        }
    }
}

/// Whether this caller loads key 1, or has somebody else do it.
fn ask(world: &World) -> bool {
    match world.flights.board(TAG, &1) {
        Boarding::Load(pilot) => {
            load(world, pilot);
            true
        }
        Boarding::Wait(waiter) => wait(world, waiter),
        Boarding::Recursive => unreachable!("no loader runs"),
    }
}

/// Two callers compare key 1 with key 2, whose flight ends meanwhile, and load it.
fn ask_and_ask() -> (bool, bool) {
    let world = world();
    let second = pilot(&world, 2);
    let other = beside(&world, ask);
    let mine = ask(&world);
    drop(second);
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
    let world = world();
    let first = pilot(&world, 2);
    let other = beside(&world, |world| drop(pilot(world, 1)));
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

/// A pilot gives up beside a caller that comes: that one loads the key, as the next pilot of the
/// flight or with a flight of its own.
fn give_up_and_ask() -> bool {
    let world = world();
    let first = pilot(&world, 1);
    let other = beside(&world, ask);
    drop(first);
    assert!(other.join().unwrap(), "nobody else loads it");
    assert_eq!(world.flights.len(), 0, "nothing is under way");
    true
}

#[test]
fn a_pilot_that_gives_up_keeps_nobody_waiting() {
    model(None, give_up_and_ask);
}

#[test]
#[should_panic(expected = "deadlock")]
fn an_offer_that_wakes_nobody_is_noticed() {
    twin(None, Plant::OfferUntold, give_up_and_ask);
}

/// A pilot gives up, as does the one who waits first, beside a second one who waits.
fn give_up_and_leave() -> bool {
    let world = world();
    let (pilot, first, second) = (pilot(&world, 1), waiter(&world), waiter(&world));
    let leaver = beside(&world, |_| drop(first));
    let loader = beside(&world, |world| wait(world, second));
    drop(pilot);
    leaver.join().unwrap();
    assert!(loader.join().unwrap(), "the last one loads it");
    assert_eq!(world.flights.len(), 0, "nothing is under way");
    true
}

#[test]
fn who_leaves_with_an_offer_passes_it_on() {
    model(Some(3), give_up_and_leave);
}

#[test]
#[should_panic(expected = "deadlock")]
fn an_offer_that_is_kept_is_noticed() {
    twin(Some(3), Plant::OfferKept, give_up_and_leave);
}

/// All who could load the key leave at once.
fn all_leave() -> bool {
    let world = world();
    let (pilot, first) = (pilot(&world, 1), waiter(&world));
    let other = beside(&world, |_| drop(first));
    drop(pilot);
    other.join().unwrap();
    assert_eq!(world.flights.len(), 0, "nothing is under way");
    true
}

#[test]
fn a_flight_that_all_have_left_is_on_no_list() {
    model(None, all_leave);
}

#[test]
#[should_panic(expected = "nothing is under way")]
fn an_offer_that_is_kept_leaves_a_flight() {
    twin(None, Plant::OfferKept, all_leave);
}

/// A page is brought beside a caller that comes, which shares it unless it came too late.
fn bring_and_ask() -> bool {
    let world = world();
    let bringing = pilot(&world, 1).bringing(b"page");
    let other = beside(&world, |world| match world.flights.board(TAG, &1) {
        Boarding::Wait(waiter) => match waiter.wait_on() {
            Arrival::Landed(Ok(page)) => Some(page),
            _ => panic!("it is there"),
        },
        _ => None,
    });
    drop(bringing);
    let page = other.join().unwrap();
    assert!(page.as_ref().is_none_or(|page| *page == Bytes::from_static(b"page")));
    assert_eq!(world.flights.len(), 0, "nothing is under way");
    page.is_some()
}

#[test]
fn who_waits_for_a_page_gets_it_however_late_it_comes_aboard() {
    assert_eq!(model(None, bring_and_ask).len(), 2);
}
