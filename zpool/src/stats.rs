//! Statistics: the counters of a pool, and the snapshot that a user gets.

use std::fmt;

use crate::sync::{AtomicU64, Ordering};

/// Counted where it happens; each is seldom, so that a hit writes none of them.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) copied_maps: AtomicU64,
    pub(crate) copied_bytes: AtomicU64,
    pub(crate) too_large: AtomicU64,
    pub(crate) out_of_pages: AtomicU64,
    pub(crate) busy: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) too_many_maps: AtomicU64,
    pub(crate) no_scratch: AtomicU64,
    pub(crate) load_failures: AtomicU64,
    pub(crate) store_failures: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) pages_freed: AtomicU64,
    pub(crate) bytes_moved: AtomicU64,
    pub(crate) objects_moved: AtomicU64,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            copied_maps: zero(),
            copied_bytes: zero(),
            too_large: zero(),
            out_of_pages: zero(),
            busy: zero(),
            stale: zero(),
            too_many_maps: zero(),
            no_scratch: zero(),
            load_failures: zero(),
            store_failures: zero(),
            compactions: zero(),
            pages_freed: zero(),
            bytes_moved: zero(),
            objects_moved: zero(),
        }
    }
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(amount as u64, Ordering::Relaxed);
}

/// Failed calls since the pool was made, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failures {
    /// Allocations of more than `max_object` bytes.
    pub too_large: u64,
    /// Allocations for which no page or slot was left, or the system gave no memory.
    pub out_of_pages: u64,
    /// Maps refused because of another map.
    pub busy: u64,
    /// Calls with a handle that names no live object.
    pub stale: u64,
    /// Maps refused because an object had 1021 of them.
    pub too_many_maps: u64,
    /// Maps for whose copy there was no memory.
    pub no_scratch: u64,
    /// Reads that the page source failed.
    pub load: u64,
    /// Writes that the page source failed.
    pub store: u64,
}

/// What compaction has done since the pool was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionTotals {
    /// Calls of [`Pool::compact`](crate::Pool::compact).
    pub calls: u64,
    /// Pages freed.
    pub pages_freed: u64,
    /// Bytes moved.
    pub bytes_moved: u64,
    /// Objects moved.
    pub objects_moved: u64,
}

/// One size class that has zspages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStats {
    /// Bytes of an object's slot; the mean, in the class of zspages that are mixed.
    pub size: usize,
    /// Slots.
    pub objects: usize,
    /// Slots in use.
    pub inuse: usize,
    /// Zspages.
    pub zspages: usize,
    /// Pages of all its zspages.
    pub pages: usize,
    /// Pages of the shortest zspage that it had since it last had none.
    pub shortest_chain: usize,
    /// The same of the longest one.
    pub longest_chain: usize,
    /// Zspages by fullness: empty, 14 groups ever fuller, full.
    pub groups: [usize; 16],
}

/// A snapshot of a pool. Numbers are exact when no other thread changes the pool meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Live objects.
    pub objects: usize,
    /// Sum of the lengths of all objects that have not ended.
    pub payload_bytes: usize,
    /// Bytes in a page.
    pub page_size: usize,
    /// Pages held: in zspages, in [frames](crate::Frames) and kept by the source.
    pub pages: usize,
    /// Of these, pages of frames.
    pub pages_framed: usize,
    /// Of these, pages kept by the source for the next zspage.
    pub pages_kept: usize,
    /// Bytes of all pages held.
    pub page_bytes: usize,
    /// Bytes of everything else: tables, classes, zspages' bookkeeping, scratch, the source's own.
    pub metadata_bytes: usize,
    /// Of these, bytes of tables that come and go by pages of the system's, outside the heap.
    pub mapped_bytes: usize,
    /// Bytes of the user's own, charged by [`Pool::reserve`](crate::Pool::reserve).
    pub reserved_bytes: usize,
    /// The most bytes, pages, metadata and reserved ones, ever held at once.
    pub peak_bytes: usize,
    /// Objects that ended under a reader and wait for their class's lock.
    pub pending: usize,
    /// Objects freed and still mapped.
    pub pinned_after_free: usize,
    /// Handle slots that have memory and were in use since they have it. Memory comes with the
    /// first object of a chunk of slots, and goes with the last one.
    pub handle_slots: usize,
    /// Handle slots whose generations are used up.
    pub retired_slots: usize,
    /// Maps that were copies, over a seam or from a page without an address.
    pub copied_maps: u64,
    /// Bytes of those copies.
    pub copied_bytes: u64,
    /// Compaction so far.
    pub compaction: CompactionTotals,
    /// Failures so far.
    pub failures: Failures,
    /// Each class that has zspages, smallest first.
    pub classes: Vec<ClassStats>,
}

impl PoolStats {
    /// Payload per byte of pages and metadata; 0 for an empty pool.
    #[must_use]
    pub fn density(&self) -> f64 {
        let held = self.page_bytes + self.metadata_bytes;
        if held == 0 { 0.0 } else { self.payload_bytes as f64 / held as f64 }
    }
}

/// `bytes` in the largest unit that leaves a number of at least 1.
fn human(bytes: usize) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (bytes.max(1).ilog2() / 10).min(4) as usize;
    let number = bytes as f64 / f64::powi(1024.0, unit as i32);
    if unit == 0 { format!("{bytes} B") } else { format!("{number:.1} {}", units[unit]) }
}

impl fmt::Display for PoolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} objects, {} in {} of pages and {} of metadata: density {:.3}; {} reserved beside \
             them",
            self.objects,
            human(self.payload_bytes),
            human(self.page_bytes),
            human(self.metadata_bytes),
            self.density(),
            human(self.reserved_bytes),
        )?;
        writeln!(
            f,
            "{} pages of {} B held, {} of them kept; {} objects pending, {} pinned after free",
            self.pages, self.page_size, self.pages_kept, self.pending, self.pinned_after_free,
        )?;
        let moved = &self.compaction;
        writeln!(
            f,
            "compaction: {} calls freed {} pages and moved {} objects, {}",
            moved.calls,
            moved.pages_freed,
            moved.objects_moved,
            human(moved.bytes_moved as usize),
        )?;
        let failed = &self.failures;
        writeln!(
            f,
            "maps copied: {} ({}); failed: {} out of pages, {} too large, {} busy, {} stale, {} at \
             the source",
            self.copied_maps,
            human(self.copied_bytes as usize),
            failed.out_of_pages,
            failed.too_large,
            failed.busy,
            failed.stale,
            failed.load + failed.store,
        )?;
        writeln!(
            f,
            "{:>7} {:>9} {:>9} {:>5} {:>8} {:>8} {:>6}  zspages by fullness, empty to full",
            "size", "objects", "inuse", "%", "zspages", "pages", "chain",
        )?;
        for class in &self.classes {
            let chain = if class.shortest_chain == class.longest_chain {
                format!("{}", class.longest_chain)
            } else {
                format!("{}-{}", class.shortest_chain, class.longest_chain)
            };
            let percent = 100.0 * class.inuse as f64 / class.objects.max(1) as f64;
            write!(
                f,
                "{:>7} {:>9} {:>9} {percent:>5.1} {:>8} {:>8} {chain:>6} ",
                class.size, class.objects, class.inuse, class.zspages, class.pages,
            )?;
            // Four columns tell enough: empty, to a half, beyond it, full.
            let sum = |groups: &[usize]| groups.iter().sum::<usize>();
            let groups = &class.groups;
            let columns = [groups[0], sum(&groups[1..8]), sum(&groups[8..15]), groups[15]];
            writeln!(f, " {columns:?}")?;
        }
        Ok(())
    }
}
