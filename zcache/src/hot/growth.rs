//! How the tables of the hot tier grow and shrink.
//! ```text
//! more than 3 of 8 slots have frames   slots, lines -> twice the sets -> sweep all slots
//! at most 3 of 32                      half the sets -> sweep the upper slots -> their memory goes
//! ```
//! Sets also remember hits on entries without a frame. There have to be enough sets for that before
//! there is a frame. So the table also grows where such hits displace each other. It does not get
//! shorter while it is no longer than is good for the frames that are left when room is short.
//!
//! Either way half of the frames are in the wrong set then. The sweep moves them, some slots with
//! each operation, each under the lock of its tag's shard, as a frame is put. One sweep is over
//! before the length changes again.

use std::ops::Range;

use zpool::{AllocError, Frame};

use super::{COUNTED, FIRST_SETS, FULL, Hot, sets};
use crate::index::Tag;
use crate::sync::{Charge, MOST_UNUSED, Ordering, RECENT, WAYS, get, model_bug, thread_number};

/// The table halves when no more than 3 of 32 slots have frames: a quarter of what it is good for.
const SPARSE: (usize, usize) = (3, 32);
/// An operation looks at this many slots for frames that are in a wrong place.
const SWEPT: usize = 256;
/// One in this many refusals makes room for a longer table.
const GROWING: u64 = 64;
/// The table grows for hits when this many times as many as it remembers have displaced others.
const DISPLACED: usize = 2;

/// Calls under the lock of a tag's shard, if the index leads to the entry with this id.
pub(crate) type Under<'u> = &'u dyn Fn(Tag, u32, &mut dyn FnMut());

impl<K: Send + Sync> Hot<K> {
    /// Makes the table longer, if there are many frames for it. `Some`: it would, if there were so
    /// many bytes for it.
    pub(crate) fn grow(&self, memory: &impl Charge, under: Under<'_>) -> Option<usize> {
        let mut left = self.changing.try_lock()?;
        if !self.sweep(&mut left, SWEPT, under) {
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
            let asks = !full || self.refused.fetch_add(1, Ordering::Relaxed) % GROWING == 0;
            return asks.then_some(growth);
        }
        memory.release(growth);
        // Where the system has no memory the next try comes when as many hits have displaced
        // others.
        self.forgive();
        if self.make_longer(sets).is_ok() {
            self.sets.set_len(2 * sets);
            self.start_sweep(&mut left, 0..sets * WAYS);
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

    /// Slots and lines for twice as many sets; those of a growth that went no further are there
    /// already.
    fn make_longer(&self, sets: usize) -> Result<(), AllocError> {
        if self.frames.slots() < 2 * sets * WAYS {
            self.frames.grow()?;
        }
        if self.sets.lines().len() < 2 * sets { self.sets.lines().grow() } else { Ok(()) }
    }

    /// Whether the table is too long for the frames that there are, or has slots to be swept.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        get(&self.unswept) > 0 || self.has_few()
    }

    #[inline]
    fn has_few(&self) -> bool {
        let slots = self.sets.len() * WAYS;
        self.sets.is_long()
            && self.frames.len() * SPARSE.1 <= slots * SPARSE.0
            && self.sets.len() > self.usual_sets()
    }

    /// Makes the table shorter if it has few frames, and sweeps, some `steps` further.
    pub(crate) fn settle(&self, steps: usize, under: Under<'_>) {
        let Some(mut left) = self.changing.try_lock() else { return };
        if self.sweep(&mut left, steps.saturating_mul(SWEPT), under) && self.has_few() {
            let sets = self.sets.len() / 2;
            self.sets.set_len(sets);
            self.start_sweep(&mut left, sets * WAYS..self.frames.slots());
        }
    }

    /// Makes the table as short as its frames let it be, and sweeps all of it.
    pub(crate) fn settle_all(&self, under: Under<'_>) {
        // A change and a sweep each for every length that there is.
        let mut changes = 2 * usize::BITS;
        while changes > 0 && self.has_work() {
            self.settle(usize::MAX, under);
            changes -= 1;
        }
    }

    fn start_sweep(&self, left: &mut Range<usize>, slots: Range<usize>) {
        self.unswept.store(1, Ordering::Relaxed);
        *left = slots;
    }

    /// Frames in the next few slots go where they are looked for now; whether that was all. Slots
    /// and lines that are not in use go with the last.
    fn sweep(&self, left: &mut Range<usize>, slots: usize, under: Under<'_>) -> bool {
        if get(&self.unswept) == 0 {
            return true;
        }
        for slot in left.by_ref().take(slots) {
            self.put_right(slot, under);
        }
        let over = Range::is_empty(left);
        if over {
            while self.frames.slots() > self.sets.len() * WAYS && self.frames.shrink() {}
            while self.sets.lines().len() > self.sets.len() && self.sets.lines().shrink() {}
            self.unswept.store(0, Ordering::Relaxed);
        }
        over
    }

    /// Moves a frame that is looked for elsewhere to an empty slot there; where none is, or the
    /// index leads to another entry, it goes.
    fn put_right(&self, slot: usize, under: Under<'_>) {
        if self.frames.is_vacant(slot) {
            return;
        }
        let reading = self.frames.read(thread_number());
        let Some(head) = reading.frame(slot).map(Frame::head) else { return };
        let (tag, id) = (head.tag, head.id);
        if self.is_in_place(tag, slot) {
            return;
        }
        let mut moved = false;
        let mut to_its_set = || moved = self.to_its_set(slot, tag, id);
        if model_bug!(ShiftUnlocked) {
            to_its_set();
        } else {
            under(tag, id, &mut to_its_set);
        }
        if !moved && self.take_off(slot, |head| head.is_of(tag, id)).is_some() {
            self.demoted(tag);
        }
    }

    /// Under the lock of the tag's shard, the index leading to the entry.
    fn to_its_set(&self, slot: usize, tag: Tag, id: u32) -> bool {
        let (from, to) = (slot / WAYS, self.sets.number(tag));
        // One lock for both.
        let _turn = self.sets.lock(to);
        let there = self.frames.read(thread_number());
        let there = there.frame(slot).is_some_and(|frame| frame.head().is_of(tag, id));
        let vacant = (0..WAYS).find(|way| self.frames.is_vacant(to * WAYS + way));
        let Some(way) = vacant.filter(|_| there && !self.holds(tag, id)) else { return false };
        self.sets.get(from).set_here(slot - from * WAYS, 0);
        let moved = self.frames.shift(slot, to * WAYS + way);
        self.sets.get(to).set_here(way, tag);
        moved
    }

    /// No frame is in a wrong place any more: for checks.
    pub(crate) fn finish_sweep(&self, under: Under<'_>) {
        self.sweep(&mut self.changing.lock(), usize::MAX, under);
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
