//! The consistency check: every invariant of a pool that no thread is changing, asserted.
//!
//! - each class: its counters are the sums over its zspages, each on the list its fill names;
//! - each zspage: its pages name it and no other has them, and the notes on its free slots or gaps
//!   are right;
//! - each slot in use: its owner's word is live and points here. Or its object waits to be taken
//!   in, or is freed and still mapped. Or it is the new place of an object that `map_write` holds;
//! - each live handle: its location is a slot in use that names it as owner, its length fits;
//! - each handle slot: it is free, with a word that says so, or in use;
//! - the memory of slots, page entries and zspage records: held by what uses it, and charged;
//! - all together: payload, populations and page counts add up to what the arena and the ledger
//!   say. What is reserved by the user is a part of that.

use std::collections::{HashMap, HashSet};

use crate::arena::Arena;
use crate::word::NOWHERE;

pub(crate) fn check<T>(arena: &Arena<T>) {
    let zspages = &arena.zspages;
    let mut pages = HashSet::new();
    let mut slots: HashMap<u64, (u32, usize)> = HashMap::new();
    let (mut held, mut chains) = (0, Vec::new());
    for (_, class) in arena.classes() {
        held += class.check(arena.ground(), |zspages, token, id| {
            let chain = zspages.fill(token, id).pages;
            let named = zspages.chain(token, id);
            assert_eq!(named.len(), usize::from(chain), "zspage {id} has its pages");
            chains.push(named.iter().map(|(page, _)| *page).collect());
            for (page, zspage) in named {
                assert_eq!(zspage, id, "page {page} names its zspage");
                assert!(pages.insert(page), "page {page} is in one zspage");
            }
            let used = zspages.used(token, id).into_iter();
            slots.extend(used.map(|(owner, location, size)| (location, (owner, size))));
        });
    }
    let (mut payload, mut live, mut exclusive, mut orphans) = (0, 0, 0, slots.len());
    let mut population = vec![0; arena.geometry.sizes().len()];
    arena.table.each(|index, location, alive, alone| {
        exclusive += usize::from(alone);
        if !alive {
            return;
        }
        live += 1;
        if location == NOWHERE {
            return;
        }
        let (owner, size) = slots.get(&location).expect("a live handle points to a slot in use");
        assert_eq!(*owner, index, "the slot names the handle that points to it");
        let len = arena.table.len_at(index);
        assert!((1..=*size).contains(&len), "{len} bytes in a slot of {size}");
        payload += len;
        population[usize::from(arena.geometry.group(len))] += 1;
        orphans -= 1;
    });
    assert_eq!(live, arena.table.live(), "live handles");
    let dying = arena.table.counts().dying;
    let due = dying + zspages.pending() + exclusive;
    assert!(orphans <= due, "{orphans} slots in use without an object, {due} may be");
    if dying == 0 {
        assert_eq!(payload, arena.payload(), "sum of lengths");
        assert!(arena.populations().eq(population), "objects of each group");
    }
    let inuse = arena.table.check(&arena.ledger);
    assert_eq!(inuse, live + dying + zspages.pending(), "handle slots in use");
    zspages.check(&chains);
    let kept = zspages.source().kept();
    assert_eq!(held, pages.len(), "pages of all zspages");
    let framed = arena.framed();
    assert_eq!(held + kept + framed, arena.ledger.pages(), "pages in zspages, in frames and kept");
    let ledger = &arena.ledger;
    let parts = ledger.page_bytes() + ledger.lent() + ledger.tables();
    assert!(ledger.tables() >= arena.mapped(), "tables have pages of the system's");
    assert!(ledger.held() >= parts, "the ledger's parts");
}
