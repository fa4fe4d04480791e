//! Loom models of the cache: the shipped code, on the shipped pool, with a stand-in for dashmap.
//!
//! Run them with `.ci/run models`, or with `RUSTFLAGS="--cfg zcache_loom --cfg crossbeam_loom --cfg
//! crossbeam_sanitize"` and `cargo nextest run -p zcache --release --lib models`. Pages are
//! same-filled, so that an entry is a slot of the handle table and no bytes. So models have the way
//! of entries through index, policy and pool. They do not have the bytes, which zpool's own models
//! watch. Bounds are numbers of preemptions.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use zpool::SourceKind;

use crate::cache::{Cache, InsertOptions};
use crate::codec;
use crate::config::{Config, HotShare};
use crate::error::{InsertError, LoadError};
use crate::policy::{Lru, Policy};
use crate::sync::model::{beside, model, twin};
use crate::sync::{AtomicU32, Ordering, Plant, let_see_latest};

mod chains;
mod coders;
mod cold;
mod flights;
mod hot;
mod ids;
mod leases;
mod long;
mod only_if;
mod scopes;
mod scratch;
mod shrink;
mod table;
mod waiting;

/// Hashes a small key to itself, spread.
#[derive(Debug, Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    }
}

type World = Cache<u8, BuildHasherDefault<Itself>>;

fn world_with(hot: HotShare) -> Arc<World> {
    world_of(hot, Lru::new())
}

#[allow(clippy::arc_with_non_send_sync, reason = "loom's threads are one; its cells are not Sync")]
fn world_of(hot: HotShare, policy: impl Policy + 'static) -> Arc<World> {
    let config = Config::new(4 << 20).max_page(64).shards(2).checksum(false);
    let config = config.source(SourceKind::Heap).codec(codec::Plain).policy(policy).hot(hot);
    Arc::new(World::with_hasher(config, BuildHasherDefault::default()).unwrap())
}

fn world() -> Arc<World> {
    world_with(HotShare::Off)
}

/// A page in its version `version`.
fn page(version: u8) -> [u8; 16] {
    [version; 16]
}

/// The version that a look-up of `key` finds, whole.
fn get(world: &World, key: u8) -> Option<u8> {
    let page = world.get(&key)?;
    assert!(page.len() == 16 && page.iter().all(|byte| *byte == page[0]), "a page is whole");
    Some(page[0])
}

/// After all threads: every invariant holds, and nothing is left of what is cleared.
fn over(world: &World, entries: usize) {
    world.check();
    assert_eq!(world.len(), entries, "entries");
    world.clear();
    world.check();
    assert!(world.is_empty(), "cleared");
    assert_eq!(world.tier.store.pool.stats().pinned_after_free, 0, "nothing is held");
}

fn get_and_evict() -> (Option<u8>, usize) {
    let world = world();
    world.insert(1, &page(7)).unwrap();
    let evictor = beside(&world, |world| world.tier.evict(1).entries);
    let got = get(&world, 1);
    assert!(matches!(got, None | Some(7)));
    let evicted = evictor.join().unwrap();
    over(&world, 1 - evicted);
    (got, evicted)
}

#[test]
fn a_hit_is_whole_while_its_entry_is_evicted() {
    let seen = model(Some(4), get_and_evict);
    assert!(seen.keys().any(|(got, _)| got.is_none()) && seen.keys().any(|(got, _)| got.is_some()));
}

fn get_and_replace() -> Option<u8> {
    let world = world();
    world.insert(1, &page(7)).unwrap();
    let writer = beside(&world, |world| world.insert(1, &page(8)));
    let got = get(&world, 1);
    assert!(got.is_some(), "a key that is replaced is never missed");
    writer.join().unwrap().unwrap();
    assert_eq!(get(&world, 1), Some(8));
    over(&world, 1);
    got
}

#[test]
fn a_key_that_is_replaced_is_never_missed() {
    assert_eq!(model(Some(3), get_and_replace).len(), 2);
}

#[test]
#[should_panic(expected = "a key that is replaced is never missed")]
fn replacing_by_removal_is_noticed() {
    twin(Some(3), Plant::ReplaceByRemoval, get_and_replace);
}

fn remove_and_remove() -> (bool, bool) {
    let_see_latest();
    let world = world();
    world.insert(1, &page(7)).unwrap();
    let other = beside(&world, |world| world.remove(&1));
    let removed = (world.remove(&1), other.join().unwrap());
    assert!(removed.0 != removed.1, "one of two removals removes");
    over(&world, 0);
    removed
}

#[test]
fn one_of_two_removals_removes() {
    assert_eq!(model(Some(4), remove_and_remove).len(), 2);
}

#[test]
#[should_panic(expected = "each entry may be evicted")]
fn freeing_what_the_policy_still_knows_is_noticed() {
    twin(Some(4), Plant::FreedQueued, remove_and_remove);
}

/// The id of a page that goes is that of the next page.
fn end_and_insert(end: impl FnOnce(&World) + 'static) {
    let world = world();
    world.insert(1, &page(7)).unwrap();
    let other = beside(&world, end);
    world.insert(2, &page(9)).unwrap();
    other.join().unwrap();
    assert_eq!(get(&world, 2), Some(9), "it is there");
    over(&world, 1);
}

#[test]
fn the_id_of_a_removed_page_is_the_next_ones() {
    let remove = |world: &World| assert!(world.remove(&1), "it is there");
    model(Some(2), move || end_and_insert(remove));
}

#[test]
fn the_id_of_a_page_that_is_not_retained_is_the_next_ones() {
    model(Some(2), || end_and_insert(|world| world.retain(|key| *key != 1)));
}

fn insert_and_remove() -> bool {
    let world = world();
    let other = beside(&world, |world| world.remove(&1));
    world.insert(1, &page(7)).unwrap();
    let removed = other.join().unwrap();
    over(&world, usize::from(!removed));
    removed
}

#[test]
fn an_entry_that_is_removed_at_once_is_known_to_nobody() {
    assert_eq!(model(Some(4), insert_and_remove).len(), 2);
}

#[test]
#[should_panic(expected = "each entry may be evicted")]
fn publishing_before_queueing_is_noticed() {
    twin(Some(4), Plant::PublishedUnqueued, insert_and_remove);
}

fn remove_and_evict() -> (bool, usize) {
    let world = world();
    world.insert(1, &page(7)).unwrap();
    world.insert(2, &page(9)).unwrap();
    let evictor = beside(&world, |world| world.tier.evict(1).entries);
    let removed = world.remove(&1);
    let evicted = evictor.join().unwrap();
    // Whoever it named, each entry ended once, and the other one is whole.
    assert!(matches!(get(&world, 2), None | Some(9)));
    let left = world.len();
    over(&world, left);
    (removed, evicted)
}

#[test]
fn an_entry_that_is_removed_and_evicted_ends_once() {
    model(Some(4), remove_and_evict);
}

#[test]
#[should_panic(expected = "each entry is counted")]
fn freeing_what_somebody_else_took_off_is_noticed() {
    twin(Some(4), Plant::LoserFrees, remove_and_evict);
}

fn insert_and_insert() -> Option<u8> {
    let world = world();
    let other = beside(&world, |world| world.insert(1, &page(7)));
    world.insert(1, &page(8)).unwrap();
    other.join().unwrap().unwrap();
    let got = get(&world, 1);
    over(&world, 1);
    got
}

#[test]
fn of_two_inserts_of_a_key_one_stays() {
    assert_eq!(model(Some(3), insert_and_insert).len(), 2);
}

fn insert_and_evict() -> usize {
    let world = world();
    let evictor = beside(&world, |world| world.tier.evict(1).entries);
    world.insert(1, &page(7)).unwrap();
    let evicted = evictor.join().unwrap();
    over(&world, 1 - evicted);
    evicted
}

#[test]
fn an_entry_is_evicted_when_it_is_there_and_not_before() {
    assert_eq!(model(Some(4), insert_and_evict).len(), 2);
}

#[test]
#[should_panic(expected = "each entry may be evicted")]
fn naming_an_unpublished_entry_is_noticed() {
    twin(Some(4), Plant::UnpublishedGoes, insert_and_evict);
}

fn replace_and_evict() -> (Option<u8>, usize) {
    let_see_latest();
    let world = world();
    world.insert(1, &page(7)).unwrap();
    let evictor = beside(&world, |world| world.tier.evict(1).entries);
    world.insert(1, &page(8)).unwrap();
    let evicted = evictor.join().unwrap();
    let got = get(&world, 1);
    assert!(matches!(got, None | Some(8)), "an old page never comes back");
    over(&world, usize::from(got.is_some()));
    (got, evicted)
}

#[test]
fn an_evicted_version_takes_no_newer_one_with_it() {
    model(Some(3), replace_and_evict);
}

fn hit_and_evict() -> (Option<u8>, bool) {
    let_see_latest();
    let world = world();
    world.insert(1, &page(7)).unwrap();
    world.insert(2, &page(8)).unwrap();
    let reader = beside(&world, |world| get(world, 1));
    world.tier.evict(1);
    let got = reader.join().unwrap();
    let spared = world.contains_key(&1);
    assert!(got.is_some() || !spared, "who is there is found");
    over(&world, 1);
    (got, spared)
}

#[test]
fn a_hit_before_an_eviction_spares_its_entry() {
    let seen = model(Some(4), hit_and_evict);
    assert!(seen.contains_key(&(Some(7), true)), "the mark counts");
    assert!(seen.keys().any(|(_, spared)| !spared), "and one that comes too late does not");
}

fn resize_and_insert() -> bool {
    let world = world();
    let most = world.capacity();
    let least = most / 2;
    let other = beside(&world, move |world| world.resize(least).is_ok());
    world.insert(1, &page(7)).unwrap();
    assert!(world.held_bytes() <= most, "the larger capacity holds in any case");
    let resized = other.join().unwrap();
    assert!(resized && world.held_bytes() <= least, "the smaller one afterwards");
    over(&world, 1);
    resized
}

#[test]
fn a_capacity_that_is_lowered_holds_for_inserts_under_way() {
    model(Some(3), resize_and_insert);
}

/// Two threads charge for the cache; only one of the two fits.
fn charge_and_charge() -> (bool, bool) {
    use crate::sync::Charge;
    let world = world();
    let pool = &world.tier.store.pool;
    let room = world.capacity() - world.held_bytes();
    let bytes = room / 2 + 1;
    let other = beside(&world, move |world| world.tier.store.pool.charge(bytes));
    let charged = pool.charge(bytes);
    assert!(world.held_bytes() <= world.capacity(), "the budget is never passed");
    let both = (charged, other.join().unwrap());
    assert!(both.0 != both.1, "one of the two fits");
    assert!(world.held_bytes() <= world.capacity(), "the budget is never passed");
    pool.release(bytes);
    over(&world, 0);
    both
}

#[test]
fn two_inserters_never_pass_the_budget() {
    assert_eq!(model(Some(4), charge_and_charge).len(), 2);
}

fn load(world: &World, version: Option<u8>) -> Result<u8, String> {
    let loaded = world.get_or_insert_with(&1, |to| {
        to.extend_from_slice(&page(version.ok_or("no such page")?));
        Ok::<(), &str>(())
    });
    loaded.map(|page| page[0]).map_err(|error| error.to_string())
}

fn failing_loader_and_loader() -> (Result<u8, String>, Result<u8, String>) {
    let world = world();
    let other = beside(&world, |world| load(world, None));
    let mine = load(&world, Some(7));
    let other = other.join().unwrap();
    let failed =
        |got: &Result<u8, String>| got.as_ref().is_err_and(|error| error.contains("no such page"));
    assert!(mine == Ok(7) || failed(&mine), "a page, or the loader's own error: {mine:?}");
    assert!(other == Ok(7) || failed(&other), "{other:?}");
    // Nothing is left behind: the next call loads, or finds what was loaded.
    assert_eq!(load(&world, Some(7)), Ok(7), "the next call is served");
    over(&world, 1);
    (mine, other)
}

#[test]
fn a_loader_that_fails_wakes_those_who_wait_and_leaves_nothing() {
    assert!(model(Some(3), failing_loader_and_loader).len() >= 3);
}

#[test]
#[should_panic(expected = "the next call is served")]
fn a_flight_that_is_left_behind_is_noticed() {
    twin(Some(3), Plant::FlightLeft, failing_loader_and_loader);
}

/// What is loaded before a removal is not handed out after it.
fn load_and_remove() -> (Result<u8, String>, Option<u8>) {
    let world = world();
    let current = Arc::new(AtomicU32::new(7));
    let read = Arc::clone(&current);
    let loader = beside(&world, move |world| {
        let loaded = world.get_or_insert_with(&1, |to| {
            let version = read.load(Ordering::Relaxed);
            to.extend_from_slice(&page(version as u8));
            Ok::<(), LoadError>(())
        });
        loaded.map(|page| page[0]).map_err(|error| error.to_string())
    });
    // The owner writes a new version, and says so.
    current.store(8, Ordering::Relaxed);
    world.remove(&1);
    let after = load(&world, Some(8));
    assert_eq!(after, Ok(8), "what was loaded before a removal is not handed out after it");
    let loaded = loader.join().unwrap();
    let got = get(&world, 1);
    assert!(matches!(got, None | Some(8)), "nor stored");
    over(&world, usize::from(got.is_some()));
    (loaded, got)
}

#[test]
fn a_removal_outdates_the_loads_under_way() {
    model(Some(3), load_and_remove);
}

#[test]
#[should_panic(expected = "what was loaded before a removal is not handed out after it")]
fn a_flight_that_is_not_told_is_noticed() {
    twin(Some(3), Plant::FlightUntold, load_and_remove);
}

/// The page that a flight of key 1 finds in the index; `None`: it would have to load it.
fn find_aboard(world: &World) -> Option<u8> {
    let load = |_: &mut Vec<u8>| Err::<(), _>("it is loaded anew");
    world.load_missed(&1, InsertOptions::new(), load).map(|page| page[0]).ok()
}

/// What a flight finds before a removal is not handed out after it.
fn find_aboard_and_remove() -> Option<u8> {
    let world = world();
    world.insert(1, &page(7)).unwrap();
    let loader = beside(&world, find_aboard);
    assert!(world.remove(&1));
    let after = find_aboard(&world);
    assert_eq!(after, None, "what was found before a removal is not handed out after it");
    let found = loader.join().unwrap();
    over(&world, 0);
    found
}

#[test]
fn a_removal_outdates_what_flights_find() {
    assert_eq!(model(Some(2), find_aboard_and_remove).len(), 2);
}

#[test]
#[should_panic(expected = "what was found before a removal is not handed out after it")]
fn a_loader_that_looks_without_the_lock_is_noticed() {
    twin(Some(2), Plant::FlightUnordered, find_aboard_and_remove);
}

fn lease_and_remove() -> (Result<(), InsertError>, bool) {
    let world = world();
    let lease = world.get_or_lease(&1).lease().unwrap();
    let owner = beside(&world, |world| world.remove(&1));
    let stored = world.insert_if_valid(lease, &page(7));
    let removed = owner.join().unwrap();
    assert!(get(&world, 1).is_none(), "a page from before a removal does not outlast it");
    assert!(stored == Ok(()) || stored == Err(InsertError::Outdated));
    assert_eq!(stored.is_ok(), removed, "it was refused, or stored and removed");
    over(&world, 0);
    (stored, removed)
}

impl PartialOrd for InsertError {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for InsertError {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        format!("{self:?}").cmp(&format!("{other:?}"))
    }
}

#[test]
fn a_lease_stores_nothing_that_a_removal_outdates() {
    assert_eq!(model(Some(4), lease_and_remove).len(), 2);
}

#[test]
#[should_panic(expected = "a page from before a removal does not outlast it")]
fn a_lease_that_is_not_told_is_noticed() {
    twin(Some(4), Plant::FlightUntold, lease_and_remove);
}

#[test]
#[should_panic(expected = "a page from before a removal does not outlast it")]
fn storing_without_a_question_is_noticed() {
    twin(Some(4), Plant::ToldUnasked, lease_and_remove);
}

fn clear_and_lease() -> bool {
    let world = world();
    let lease = world.get_or_lease(&1).lease().unwrap();
    let owner = beside(&world, World::clear);
    let stored = world.insert_if_valid(lease, &page(7)).is_ok();
    owner.join().unwrap();
    assert!(get(&world, 1).is_none(), "what was there before a clear is gone after it");
    over(&world, 0);
    stored
}

#[test]
fn clear_leaves_nothing_from_before() {
    assert_eq!(model(Some(3), clear_and_lease).len(), 2);
}
