//! The memory of the handle table: slots, each a word with its record, and their lengths.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::prefetch;
use crate::error::AllocError;
use crate::ledger::Ledger;
use crate::mapped::{Blank, Sparse, page_bytes};
use crate::sync::{AtomicU16, Ordering, UnsafeCell};
use crate::word::Word;

#[derive(Debug)]
pub(super) struct Slot<T> {
    pub(super) word: Word,
    pub(super) record: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: a word is an integer of any bits, a record may be uninitialised, and what is in one is
// dropped by the table.
unsafe impl<T> Blank for Slot<T> {
    fn blank() -> Self {
        Self { word: Word::new(), record: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    fn wipe(&self) {
        self.word.wipe();
        // For models: nobody reads a record whose memory goes.
        self.record.to_write();
    }
}

#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Sparse<Slot<T>>,
    /// Lengths less one; objects of length 0 are nowhere and need none.
    lengths: Sparse<AtomicU16>,
    /// Their higher halves, where objects can be longer than 64 KiB.
    more: Option<Sparse<AtomicU16>>,
}

/// Slots of a chunk: the least power of two that makes whole pages of any record.
pub(super) fn slots_of_chunk() -> usize {
    page_bytes() / 8
}

impl<T> Slots<T> {
    /// Slots for objects of at most `max_object` bytes.
    pub(super) fn new(max_object: usize) -> Self {
        let more = (max_object > 1 << 16).then(Sparse::new);
        Self { slots: Sparse::new(), lengths: Sparse::new(), more }
    }

    /// The slot, FREE if it has no memory now. `None`: it never had any.
    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&Slot<T>> {
        self.slots.get(index)
    }

    /// Relaxed: a length is written and read under a pin, like the bytes it measures.
    #[inline]
    pub(super) fn len(&self, index: u32) -> usize {
        let half = |all: &Sparse<AtomicU16>| {
            all.get(index).map_or(0, |half| usize::from(half.load(Ordering::Relaxed)))
        };
        1 + half(&self.lengths) + self.more.as_ref().map_or(0, |more| half(more) << 16)
    }

    pub(super) fn set_len(&self, index: u32, len: usize) {
        let less = len.saturating_sub(1);
        let set = |all: &Sparse<AtomicU16>, half: usize| {
            all.get(index).inspect(|place| place.store(half as u16, Ordering::Relaxed));
        };
        set(&self.lengths, less);
        self.more.iter().for_each(|more| set(more, less >> 16));
    }

    /// Hints the processor that the length is about to be read.
    #[inline]
    pub(super) fn prefetch_len(&self, index: u32) {
        self.lengths.get(index).inspect(|length| prefetch((&raw const **length).cast()));
    }

    fn halves(&self) -> impl Iterator<Item = &Sparse<AtomicU16>> {
        std::iter::once(&self.lengths).chain(&self.more)
    }

    /// The pages of lengths that a chunk holds, which it does from its first slot on.
    fn length_pages(&self, first: usize) -> Range<usize> {
        let page = self.lengths.page_of(first);
        page..if first % slots_of_chunk() == 0 { page + 1 } else { page }
    }

    /// Memory for slot `from`, the first of its chunk without any, and for those that come with it;
    /// says up to which one.
    ///
    /// # Errors
    /// Whether the ledger refused or the system. Nothing is held that was not before.
    pub(super) fn open(&self, from: usize, ledger: &Ledger) -> Result<usize, AllocError> {
        let end = self.slots.next_end(from);
        let pages = self.slots.pages_below(from)..self.slots.pages_below(from + 1);
        self.slots.open(pages.clone(), end, ledger)?;
        for (nth, half) in self.halves().enumerate() {
            if let Err(error) = half.open(self.length_pages(from), end, ledger) {
                let opened = self.halves().take(nth);
                opened.for_each(|half| half.close(self.length_pages(from), ledger));
                self.slots.close(pages, ledger);
                return Err(error);
            }
        }
        Ok(end)
    }

    /// Gives the memory of a chunk's slots back, all that were opened.
    pub(super) fn close(&self, made: Range<usize>, ledger: &Ledger) {
        let pages = self.slots.pages_below(made.start)..self.slots.pages_below(made.end);
        self.slots.close(pages, ledger);
        self.halves().for_each(|half| half.close(self.length_pages(made.start), ledger));
    }

    /// Gives back what the system did not take when chunks were closed.
    pub(super) fn trim(&self, ledger: &Ledger) {
        self.slots.trim(ledger);
        self.halves().for_each(|half| half.trim(ledger));
    }

    /// Bytes of pages that are charged.
    pub(super) fn mapped(&self) -> usize {
        self.slots.mapped() + self.halves().map(Sparse::mapped).sum::<usize>()
    }

    /// Asserts that the slots of open chunks, of which `made` have memory, are held and no others.
    pub(super) fn check(&self, made: &[Range<usize>]) {
        let pages = |made: &Range<usize>| {
            self.slots.pages_below(made.start)..self.slots.pages_below(made.end)
        };
        self.slots.check(made.iter().flat_map(pages));
        for half in self.halves() {
            half.check(made.iter().flat_map(|made| self.length_pages(made.start)));
        }
    }
}
