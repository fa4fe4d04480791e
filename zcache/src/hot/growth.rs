//! How the tables of the hot tier grow and shrink.
//! ```text
//! more than 3 of 8 slots have frames    slots, lines -> twice the sets -> sweep all slots
//! at most 3 of 32                       half the sets -> sweep the upper slots -> their memory goes
//! ```
//! Sets remember hits on entries without a frame, too, for which there have to be enough of them before
//! there is a frame. So the table also grows where such hits displace each other, and does not get
//! shorter, while it is no longer than is good for what frames are left when room is short.
//!
//! Either way half of the frames are in the wrong set then, and go as the sweep comes by, some slots
//! with each operation. One sweep is over before the length changes again.

use std::ops::Range;

use zpool::AllocError;

use super::{COUNTED, FIRST_SETS, FULL, Hot, sets};
use crate::sync::{Charge, MOST_UNUSED, Ordering, RECENT, WAYS, get};

/// It halves when no more than 3 of 32 have: half of what it is good for, and twice that again.
const SPARSE: (usize, usize) = (3, 32);
/// An operation looks at this many slots for frames that are in a wrong place.
const SWEPT: usize = 256;
/// One promotion in this many makes room for a longer table.
const GROWING: u64 = 64;
/// So many times as many hits as are remembered have to displace others before the table grows for them.
const DISPLACED: usize = 2;

impl<K: Send + Sync> Hot<K> {
    /// Makes the table longer, if there are many frames for it. `Some`: it would, if there were so
    /// many bytes for it.
    pub(crate) fn grow(&self, memory: &impl Charge) -> Option<usize> {
        let mut left = self.changing.try_lock()?;
        if !self.sweep(&mut left, SWEPT) {
            return None;
        }
        let sets = self.sets.len();
        let full = self.frames.len() * FULL.1 > sets * WAYS * FULL.0;
        if !(full || self.is_crowded()) || !self.sets.may_grow() {
            return None;
        }
        // Asked for as a whole: of a growth that is refused nothing is to be undone, in most cases.
        let growth = self.frames.growth_bytes() + self.sets.lines().growth_bytes();
        if !memory.charge(growth) {
            return (!full || get(&self.promotions) % GROWING == 0).then_some(growth);
        }
        memory.release(growth);
        if self.make_longer(sets).is_ok() {
            self.sets.set_len(2 * sets);
            self.forgive();
            *left = 0..sets * WAYS;
        }
        None
    }

    /// Whether hits on entries without a frame displace each other more than they should.
    #[inline]
    pub(crate) fn is_crowded(&self) -> bool {
        let (sets, displaced) = (self.sets.len(), get(&self.displaced) as usize);
        displaced * COUNTED as usize > DISPLACED * RECENT * sets && sets < self.usual_sets()
    }

    /// What hits displaced each other so far does not count.
    pub(crate) fn forgive(&self) {
        self.displaced.store(0, Ordering::Relaxed);
    }

    /// Sets for what frames are left when room is short.
    fn usual_sets(&self) -> usize {
        sets(self.limit()).min(MOST_UNUSED)
    }

    /// Makes a new table as long as it is at first.
    pub(crate) fn start(&self) {
        while self.sets.len() < self.usual_sets().min(FIRST_SETS) {
            let sets = self.sets.len();
            if self.make_longer(sets).is_err() {
                return;
            }
            self.sets.set_len(2 * sets);
        }
    }

    /// Slots and lines for twice as many sets; those of a growth that went no further are there already.
    fn make_longer(&self, sets: usize) -> Result<(), AllocError> {
        if self.frames.slots() < 2 * sets * WAYS {
            self.frames.grow()?;
        }
        if self.sets.lines().len() < 2 * sets { self.sets.lines().grow() } else { Ok(()) }
    }

    /// Whether the table is too long for the frames that there are, or there are slots that nobody
    /// looks for frames in.
    #[inline]
    pub(crate) fn is_sparse(&self) -> bool {
        self.has_few() || self.frames.slots() > self.sets.len() * WAYS
    }

    fn has_few(&self) -> bool {
        let slots = self.sets.len() * WAYS;
        self.sets.is_long()
            && self.frames.len() * SPARSE.1 <= slots * SPARSE.0
            && self.sets.len() > self.usual_sets()
    }

    /// Makes the table shorter if it [is sparse](Self::is_sparse), or goes some `steps` on with that.
    pub(crate) fn shrink(&self, steps: usize) {
        let Some(mut left) = self.changing.try_lock() else { return };
        if !self.sweep(&mut left, steps.saturating_mul(SWEPT)) || !self.is_sparse() {
            return;
        }
        if self.has_few() {
            self.sets.set_len(self.sets.len() / 2);
        }
        *left = self.sets.len() * WAYS..self.frames.slots();
    }

    /// The same, until it is as short as it will be.
    pub(crate) fn shrink_all(&self) {
        let mut changes = usize::BITS;
        while changes > 0 && self.is_sparse() {
            self.shrink(usize::MAX);
            changes -= 1;
        }
    }

    /// Frames in the next few slots go if they are looked for elsewhere now; whether that was all. Slots and lines
    /// that are not in use go with the last.
    fn sweep(&self, left: &mut Range<usize>, slots: usize) -> bool {
        if Range::is_empty(left) {
            return true;
        }
        for slot in left.by_ref().take(slots) {
            let tag = self.take_off(slot, |head| !self.is_in_place(head.tag, slot));
            if let Some(tag) = tag {
                self.demoted(tag);
            }
        }
        let over = Range::is_empty(left);
        if over {
            while self.frames.slots() > self.sets.len() * WAYS && self.frames.shrink() {}
            while self.sets.lines().len() > self.sets.len() && self.sets.lines().shrink() {}
        }
        over
    }

    /// No frame is in a wrong place any more: for checks.
    pub(crate) fn finish_sweep(&self) {
        self.sweep(&mut self.changing.lock(), usize::MAX);
    }

    /// What growth has added to the tables, and was charged.
    pub(crate) fn grown_bytes(&self) -> usize {
        self.sets.lines().table_bytes() + self.frames.table_bytes()
    }

    /// Gives back memory of tables that was locked when they got shorter.
    pub(crate) fn trim(&self) {
        self.frames.trim();
        self.sets.lines().trim();
    }
}
