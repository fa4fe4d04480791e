//! Pages in two pieces, beside those who replace them or let them go.

use super::{World, over, world};
use crate::sync::model::{beside, model, twin};
use crate::sync::{Plant, let_see_latest};

/// A page in its version `version`.
fn page(version: u8) -> [u8; 48] {
    [version; 48]
}

/// The version that a look-up finds, whole.
fn get(world: &World) -> Option<u8> {
    let page = world.get(&1)?;
    assert!(page.len() == 48 && page.iter().all(|byte| *byte == page[0]), "a page is whole");
    Some(page[0])
}

fn get_beside_a_replacement() -> Option<u8> {
    let_see_latest();
    let world = world();
    world.insert(1, &page(7)).unwrap();
    let reader = beside(&world, get);
    world.insert(1, &page(8)).unwrap();
    assert_eq!(get(&world), Some(8));
    let got = reader.join().unwrap();
    assert!(got.is_some(), "a long page that is replaced is never missed");
    over(&world, 1);
    got
}

#[test]
fn a_long_page_that_is_replaced_is_never_missed_nor_mixed() {
    assert_eq!(model(Some(2), get_beside_a_replacement).len(), 2);
}

#[test]
#[should_panic(expected = "a long page that is replaced is never missed")]
fn a_page_that_is_missed_for_its_pieces_is_noticed() {
    twin(Some(2), Plant::LeftIsMissed, get_beside_a_replacement);
}

fn get_beside_a_removal() -> (Option<u8>, bool) {
    let_see_latest();
    let world = world();
    world.insert(1, &page(7)).unwrap();
    let reader = beside(&world, get);
    let evicted = world.tier.evict(1).entries == 1;
    let removed = world.remove(&1);
    assert!(removed != evicted, "it goes once");
    assert_eq!(get(&world), None);
    let got = reader.join().unwrap();
    over(&world, 0);
    (got, evicted)
}

#[test]
fn a_long_page_goes_with_all_of_its_pieces() {
    assert_eq!(model(Some(2), get_beside_a_removal).len(), 2);
}

/// A reader in the middle of the pieces, and an insert of the key that frees them.
fn remove_beside_an_insert() -> bool {
    let_see_latest();
    let world = world();
    world.insert(1, &page(7)).unwrap();
    let writer = beside(&world, |world| world.insert(1, &page(8)));
    let removed = world.remove(&1);
    writer.join().unwrap().unwrap();
    let got = get(&world);
    assert!(matches!(got, None | Some(8)));
    over(&world, usize::from(got.is_some()));
    removed && got.is_some()
}

#[test]
fn a_long_page_may_be_removed_while_it_is_replaced() {
    // With 2 preemptions: 81,422 iterations, 213 s on a loaded machine.
    assert!(model(Some(1), remove_beside_an_insert).contains_key(&true));
}
