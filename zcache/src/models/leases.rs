//! Leases and flights beside the owner of their key. The owner writes its new page elsewhere and
//! then tells the cache. A page that was read before that is neither kept nor handed out after it.

use super::{World, find_aboard, get, load, over, page, world};
use crate::cache::Leased;
use crate::error::LoadError;
use crate::index::Boarding;
use crate::sync::model::{beside, model, twin};
use crate::sync::{Arc, AtomicU32, Ordering, Plant};

/// Where pages come from: its version of key 1.
#[derive(Clone)]
struct Source(Arc<AtomicU32>);

impl Source {
    fn new() -> Self {
        Self(Arc::new(AtomicU32::new(7)))
    }

    /// No more ordered than it has to be: what orders a reader after a writer is the cache.
    fn read(&self) -> [u8; 16] {
        page(self.0.load(Ordering::Relaxed) as u8)
    }

    fn write(&self) {
        self.0.store(8, Ordering::Relaxed);
    }
}

fn lease_and_insert() -> bool {
    let world = world();
    let lease = world.get_or_lease(&1).lease().unwrap();
    let owner = beside(&world, |world| world.insert(1, &page(8)));
    let stored = world.insert_if_valid(lease, &page(7)).is_ok();
    owner.join().unwrap().unwrap();
    assert_eq!(get(&world, 1), Some(8), "an older page replaces no newer one");
    over(&world, 1);
    stored
}

#[test]
fn a_lease_replaces_no_newer_page() {
    assert_eq!(model(Some(3), lease_and_insert).len(), 2);
}

/// A caller misses the key beside its owner, reads its page and stores it; what is found then.
fn lease_beside(change: impl FnOnce(&World) + 'static) -> Option<u8> {
    let (world, source) = (world(), Source::new());
    let read = source.clone();
    let reader = beside(&world, move |world| {
        if let Leased::Lease(lease) = world.get_or_lease(&1) {
            let _ = world.insert_if_valid(lease, &read.read());
        }
    });
    source.write();
    change(&world);
    reader.join().unwrap();
    let got = get(&world, 1);
    assert!(matches!(got, None | Some(8)), "what was read before a change does not outlast it");
    over(&world, got.map_or(0, |_| 1));
    got
}

#[test]
fn what_is_read_before_an_insert_does_not_outlast_it() {
    let seen = model(Some(2), || lease_beside(|world| world.insert(1, &page(8)).unwrap()));
    assert_eq!(seen.len(), 1, "it is there");
}

#[test]
fn what_is_read_before_a_removal_does_not_outlast_it() {
    let remove = || {
        lease_beside(|world| {
            world.remove(&1);
        })
    };
    assert_eq!(model(Some(2), remove).len(), 2);
}

#[test]
fn what_is_read_before_a_clear_does_not_outlast_it() {
    assert_eq!(model(Some(2), || lease_beside(World::clear)).len(), 2);
}

#[test]
fn what_is_read_before_a_retain_does_not_outlast_it() {
    let retain = || lease_beside(|world| world.retain(|key| *key != 1));
    assert_eq!(model(Some(2), retain).len(), 2);
}

#[test]
#[should_panic(expected = "what was read before a change does not outlast it")]
fn a_retain_that_tells_no_lease_is_noticed() {
    let retain = || lease_beside(|world| world.retain(|key| *key != 1));
    twin(Some(2), Plant::RetainUntold, retain);
}

/// What is loaded before `change` is not handed out after it.
fn load_beside(change: impl FnOnce(&World)) -> Option<u8> {
    let (world, source) = (world(), Source::new());
    let read = source.clone();
    let loader = beside(&world, move |world| {
        let loaded = world.get_or_insert_with(&1, |to| {
            to.extend_from_slice(&read.read());
            Ok::<(), LoadError>(())
        });
        loaded.map(|page| page[0]).ok()
    });
    source.write();
    change(&world);
    let after = load(&world, Some(8));
    assert_eq!(after, Ok(8), "what was loaded before a change is not handed out after it");
    let loaded = loader.join().unwrap();
    let got = get(&world, 1);
    assert!(matches!(got, None | Some(8)), "nor stored");
    over(&world, got.map_or(0, |_| 1));
    loaded
}

#[test]
fn a_clear_outdates_the_loads_under_way() {
    assert_eq!(model(Some(2), || load_beside(World::clear)).len(), 2);
}

#[test]
fn a_retain_outdates_the_loads_under_way() {
    assert_eq!(model(Some(2), || load_beside(|world| world.retain(|_| false))).len(), 2);
}

/// A change of another key takes nothing from a lease.
fn lease_beside_another_key() -> bool {
    let world = world();
    let lease = world.get_or_lease(&1).lease().unwrap();
    let owner = beside(&world, |world| world.insert(2, &page(8)));
    assert_eq!(world.insert_if_valid(lease, &page(7)), Ok(()), "its own key was not changed");
    owner.join().unwrap().unwrap();
    over(&world, 2);
    true
}

#[test]
fn a_change_of_another_key_outdates_no_lease() {
    model(Some(2), lease_beside_another_key);
}

/// A caller that waits for a lease loads the page when the lease is given up.
fn give_up_beside_a_load() -> Option<u8> {
    let world = world();
    let lease = world.get_or_lease(&1).lease().unwrap();
    let other = beside(&world, |world| load(world, Some(7)));
    drop(lease);
    let got = get(&world, 1);
    assert_eq!(other.join().unwrap(), Ok(7), "it is loaded");
    assert_eq!(world.stats().loads, 1, "once");
    over(&world, 1);
    got
}

#[test]
fn a_lease_that_is_given_up_is_loaded_by_who_waits() {
    assert_eq!(model(Some(3), give_up_beside_a_load).len(), 2);
}

/// A caller that waits for a lease gets the page that is inserted with it, and loads nothing.
fn insert_beside_a_load() -> u64 {
    let world = world();
    let lease = world.get_or_lease(&1).lease().unwrap();
    let other = beside(&world, |world| load(world, Some(9)));
    assert_eq!(world.insert_if_valid(lease, &page(7)), Ok(()));
    assert_eq!(other.join().unwrap(), Ok(7), "one loads for both");
    let stats = world.stats();
    assert_eq!(stats.loads, 0);
    over(&world, 1);
    stats.misses
}

#[test]
fn who_waits_for_a_lease_gets_its_page() {
    // The other caller missed it, too, or found it.
    assert_eq!(model(Some(3), insert_beside_a_load).len(), 2);
}

/// A flight finds the page in the index beside a call that retains nothing.
fn find_aboard_and_retain() -> Option<u8> {
    let world = world();
    world.insert(1, &page(7)).unwrap();
    let loader = beside(&world, find_aboard);
    world.retain(|_| false);
    let after = find_aboard(&world);
    assert_eq!(after, None, "what was found before a change is not handed out after it");
    let found = loader.join().unwrap();
    over(&world, 0);
    found
}

#[test]
fn retaining_nothing_outdates_what_flights_find() {
    assert_eq!(model(Some(2), find_aboard_and_retain).len(), 2);
}

/// A caller boards after an insert, beside a flight that finds the entry of before or the new one.
/// Says whether they share a flight, and the id of what that finds.
fn insert_and_board() -> (bool, Option<u32>) {
    let world = world();
    world.insert(1, &page(7)).unwrap();
    let pilot = beside(&world, |world| {
        let (tier, tag) = (&world.tier, world.tag(&1_u8));
        let Boarding::Load(mut pilot) = tier.flights.board(tag, &1) else { return None };
        let found = tier.find_aboard(tag, &1).map(|entry| entry.id());
        pilot.lands(Err(LoadError::Recursive));
        Some(found.expect("the key is there"))
    });
    world.insert(1, &page(8)).unwrap();
    let shared = matches!(world.tier.flights.board(world.tag(&1_u8), &1), Boarding::Wait(_));
    let found = pilot.join().unwrap();
    assert!(
        !shared || found == Some(1),
        "what was found before a change is not handed out after it"
    );
    over(&world, 1);
    (shared, found)
}

#[test]
fn an_insert_outdates_what_flights_find() {
    let seen = model(Some(3), insert_and_board);
    assert!(seen.contains_key(&(true, Some(1))) && seen.contains_key(&(false, Some(0))));
}
