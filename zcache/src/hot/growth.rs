//! How the tables of the hot tier grow.

use std::ops::Range;

use super::{FULL, Hot};
use crate::sync::{Charge, WAYS, get};

/// After a growth, each promotion looks at this many slots for frames that are in a wrong place
/// now.
const SWEPT: usize = 256;
/// One promotion in this many makes room for a longer table.
const GROWING: u64 = 64;

impl<K: Send + Sync> Hot<K> {
    /// Makes the table longer, if there are many frames for it; goes on looking for frames that are
    /// in a wrong place since. `Some`: it would, if there were so many bytes for it.
    pub(crate) fn grow(&self, memory: &impl Charge) -> Option<usize> {
        let mut left = self.growing.try_lock()?;
        if !left.is_empty() {
            self.sweep(&mut left, SWEPT);
            return None;
        }
        let (sets, growth) = (self.sets.len(), self.sets.growth());
        if growth == 0 || self.frames.len() * FULL.1 <= sets * WAYS * FULL.0 {
            return None;
        }
        if !memory.charge(growth) {
            return (get(&self.promotions) % GROWING == 0).then_some(growth);
        }
        // Slots of a growth that went no further are there already.
        let slots = || self.frames.slots() >= 2 * sets * WAYS || self.frames.grow().is_ok();
        if !slots() || !self.sets.grow() {
            memory.release(growth);
            return None;
        }
        *left = 0..sets * WAYS;
        None
    }

    /// Frames in the next few slots go if they are looked for elsewhere now.
    fn sweep(&self, left: &mut Range<usize>, slots: usize) {
        for slot in left.by_ref().take(slots) {
            let tag = self.take_off_locked(slot, |head| !self.is_in_place(head.tag, slot));
            if let Some(tag) = tag {
                self.demoted(tag);
            }
        }
    }

    /// No frame is in a wrong place any more: for checks.
    pub(crate) fn finish_growth(&self) {
        self.sweep(&mut self.growing.lock(), usize::MAX);
    }

    /// What growth has added to the tables, and was charged.
    pub(crate) fn grown_bytes(&self) -> usize {
        self.sets.grown_bytes() + self.frames.table_bytes()
    }
}
