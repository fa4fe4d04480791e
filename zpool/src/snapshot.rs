//! A snapshot of all counters of a pool.

use crate::arena::Arena;
use crate::geometry::GRAIN;
use crate::stats::{ClassStats, CompactionTotals, Failures, PoolStats};
use crate::sync::{AtomicU64, Ordering};

/// Takes each class's lock in turn, for as long as it takes to copy a few numbers.
pub(crate) fn snapshot<T>(arena: &Arena<T>) -> PoolStats {
    let counters = &arena.counters;
    let classes = arena.classes().map(|(number, class)| {
        let counts = class.counts(arena.ground());
        let mean = (counts.inuse * GRAIN).div_ceil(counts.objects.max(1));
        let mixed = number == arena.zspages.mixed();
        let size = arena.zspages.size(number).max(if mixed { mean } else { 0 });
        let room = if mixed { counts.room * GRAIN / size } else { counts.room };
        ClassStats {
            size,
            objects: counts.objects + room,
            inuse: counts.objects,
            zspages: counts.zspages,
            pages: counts.pages,
            shortest_chain: counts.chains.0.into(),
            longest_chain: counts.chains.1.into(),
            groups: counts.groups,
        }
    });
    let mut classes: Vec<_> = classes.filter(|class| class.zspages != 0).collect();
    classes.sort_by_key(|class| class.size);
    let slots = arena.table.counts();
    let page_size = arena.zspages.source().page_size();
    let (page_bytes, reserved_bytes) = (arena.ledger.page_bytes(), arena.ledger.lent());
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    PoolStats {
        objects: slots.live,
        payload_bytes: arena.payload(),
        page_size,
        pages: arena.ledger.pages(),
        pages_framed: arena.framed(),
        pages_kept: arena.zspages.source().kept(),
        page_bytes,
        metadata_bytes: arena.ledger.held().saturating_sub(page_bytes + reserved_bytes),
        mapped_bytes: arena.mapped(),
        reserved_bytes,
        peak_bytes: arena.ledger.peak(),
        pending: arena.zspages.pending(),
        pinned_after_free: slots.dying,
        handle_slots: slots.slots,
        retired_slots: slots.retired,
        copied_maps: get(&counters.copied_maps),
        copied_bytes: get(&counters.copied_bytes),
        compaction: CompactionTotals {
            calls: get(&counters.compactions),
            pages_freed: get(&counters.pages_freed),
            bytes_moved: get(&counters.bytes_moved),
            objects_moved: get(&counters.objects_moved),
        },
        failures: Failures {
            too_large: get(&counters.too_large),
            out_of_pages: get(&counters.out_of_pages),
            busy: get(&counters.busy),
            stale: get(&counters.stale),
            too_many_maps: get(&counters.too_many_maps),
            no_scratch: get(&counters.no_scratch),
            load: get(&counters.load_failures),
            store: get(&counters.store_failures),
        },
        classes,
    }
}
