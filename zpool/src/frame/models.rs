//! A set of frames, all of which somebody else is collecting.

use super::{Frames, Supply};
use crate::ledger::Ledger;
use crate::source::Heap;
use crate::sync::model::{beside, model, twin};
use crate::sync::{Arc, AtomicUsize, Plant};

/// A frame is cleared while another thread is in the middle of a collection, for long.
#[allow(clippy::arc_with_non_send_sync, reason = "loom's threads are one; its cells are not Sync")]
fn collect_beside_a_collector() -> (bool, bool) {
    let supply = Supply {
        source: Arc::new(Heap::with_region_pages(4096, 1)),
        ledger: Arc::new(Ledger::new(4096, 1, usize::MAX)),
        framed: Arc::new(AtomicUsize::new(0)),
    };
    let frames = Arc::new(Frames::new(supply, 1, 1).unwrap());
    frames.put(0, frames.fill(&[7; 10]).unwrap(), 7_u8);
    let collecting = frames.sealed.lock();
    let other = beside(&frames, |frames| {
        assert!(frames.read(0).clear_if(0, |_| true));
        frames.collect() > 0
    });
    let found = frames.read(0).frame(0).is_some();
    let waits = other.join().unwrap();
    drop(collecting);
    frames.collect();
    assert_eq!((frames.collect(), frames.len()), (0, 0));
    (found, waits)
}

#[test]
fn a_collection_waits_for_no_other() {
    let seen: Vec<_> = model(None, collect_beside_a_collector).into_keys().collect();
    assert_eq!(seen, [(false, true), (true, true)]);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_collection_that_waits_is_noticed() {
    twin(None, Plant::CollectWaits, collect_beside_a_collector);
}
