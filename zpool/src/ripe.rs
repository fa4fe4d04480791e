//! Which classes a compaction may gain from: a bit for each class, changed under the class's lock.
//!
//! A thread that finds a bit takes the class's lock and looks again. So a bit says only where to
//! look, and Relaxed is enough: a bit that is missed is seen at the next look. But a bit must not
//! be lost while its class stays as it is. So a bit changes by an operation that leaves the others
//! of its word alone, because their classes have other locks.

use crate::directory::boxed;
use crate::ledger::heap_cost;
use crate::sync::{AtomicU64, Ordering, model_bug};

#[derive(Debug)]
pub(crate) struct Ripe {
    words: Box<[AtomicU64]>,
}

impl Ripe {
    /// None of so many classes is ripe. `None`: the allocator has no room.
    pub(crate) fn new(classes: usize) -> Option<Self> {
        Some(Self { words: boxed(classes.div_ceil(64), || AtomicU64::new(0))? })
    }

    /// What it holds on the heap in bytes.
    pub(crate) const fn bytes(classes: usize) -> usize {
        heap_cost(classes.div_ceil(64) * size_of::<u64>())
    }

    /// The class is ripe from now on, or no more. Callers hold its lock.
    pub(crate) fn set(&self, class: u16, ripe: bool) {
        let (word, bit) = (&self.words[usize::from(class / 64)], 1 << (class % 64));
        if model_bug!(RipeStored) {
            let others = word.load(Ordering::Relaxed) & !bit;
            word.store(if ripe { others | bit } else { others }, Ordering::Relaxed);
        } else if ripe {
            word.fetch_or(bit, Ordering::Relaxed);
        } else {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Whether a class is ripe.
    pub(crate) fn has(&self, class: u16) -> bool {
        self.words[usize::from(class / 64)].load(Ordering::Relaxed) >> (class % 64) & 1 == 1
    }

    /// Whether no class is ripe.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| word.load(Ordering::Relaxed) == 0)
    }

    /// The classes that are ripe.
    pub(crate) fn classes(&self) -> impl Iterator<Item = u16> {
        self.words.iter().zip(0_u16..).flat_map(|(word, at)| {
            let mut bits = word.load(Ordering::Relaxed);
            std::iter::from_fn(move || {
                let lowest = bits.trailing_zeros() as u16;
                let rest = bits.checked_sub(1)?;
                bits &= rest;
                Some(at * 64 + lowest)
            })
        })
    }
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
mod tests {
    use super::*;

    #[test]
    fn holds_the_classes_that_were_set() {
        let ripe = Ripe::new(300).unwrap();
        assert!(ripe.is_empty());
        let classes = [0, 63, 64, 130, 299];
        classes.iter().rev().for_each(|class| ripe.set(*class, true));
        ripe.set(63, true);
        assert!(!ripe.is_empty() && ripe.classes().eq(classes));
        ripe.set(64, false);
        ripe.set(65, false);
        assert!(ripe.classes().eq([0, 63, 130, 299]));
        classes.iter().for_each(|class| ripe.set(*class, false));
        assert!(ripe.is_empty() && ripe.classes().next().is_none());
    }
}
