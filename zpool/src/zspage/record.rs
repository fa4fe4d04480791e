//! The record of a zspage: one heap block of atomic words, laid out as [`super`] says.

use crate::sync::{AtomicU32, Ordering};

/// No slot.
pub(super) const NO_SLOT: u16 = u16::MAX;
/// In a page entry: the next page of the chain lies behind this one in one piece of memory.
/// In a record's first word: the chain is one piece of memory, and the record lists no pages.
pub(super) const JOINED: u32 = 1 << 31;
/// Words of a record before its owners.
pub(super) const HEAD: usize = 5;
/// Bits of a class's number in a record.
const CLASS_BITS: u32 = 10;
/// Bits of the number of pages, less one.
pub(super) const PAGES_BITS: u32 = 6;

/// Words of the record of a zspage: head, owners, and pages unless `first` says that they are joined.
pub(super) fn words(objects: u16, first: u32, pages: u16) -> usize {
    let listed = if first & JOINED == 0 { usize::from(pages) } else { 0 };
    HEAD + usize::from(objects) + listed
}

/// A zspage's record, borrowed from the heap: see the head of this file.
#[derive(Clone, Copy)]
pub(super) struct Record<'z>(pub(super) &'z [AtomicU32]);

/// Relaxed throughout: the class's lock, or a place's way between threads, orders these.
impl<'z> Record<'z> {
    pub(super) fn get(self, word: usize) -> u32 {
        self.0[word].load(Ordering::Relaxed)
    }

    pub(super) fn set(self, word: usize, value: u32) {
        self.0[word].store(value, Ordering::Relaxed);
    }

    pub(super) fn first(self) -> u32 {
        self.get(0) & !JOINED
    }

    pub(super) fn previous(self) -> u32 {
        self.get(1)
    }

    pub(super) fn next(self) -> u32 {
        self.get(2)
    }

    pub(super) fn class(self) -> u16 {
        (self.get(3) >> PAGES_BITS) as u16 & ((1 << CLASS_BITS) - 1)
    }

    pub(super) fn pages(self) -> u16 {
        1 + (self.get(3) as u16 & ((1 << PAGES_BITS) - 1))
    }

    pub(super) fn objects(self) -> u16 {
        (self.get(3) >> 16) as u16
    }

    pub(super) fn inuse(self) -> u16 {
        (self.get(4) >> 16) as u16
    }

    pub(super) fn free(self) -> u16 {
        self.get(4) as u16
    }

    pub(super) fn set_use(self, inuse: u16, free: u16) {
        self.set(4, u32::from(inuse) << 16 | u32::from(free));
    }

    pub(super) fn owner(self, slot: u16) -> Option<&'z AtomicU32> {
        if slot < self.objects() { self.0.get(HEAD + usize::from(slot)) } else { None }
    }

    /// The page that is `nth` in the chain.
    pub(super) fn page(self, nth: usize) -> u32 {
        if self.get(0) & JOINED != 0 {
            self.first() + nth as u32
        } else {
            self.get(HEAD + usize::from(self.objects()) + nth)
        }
    }

    /// Where in the chain `page` is.
    pub(super) fn position(self, page: u32) -> usize {
        let mut chain = 0..usize::from(self.pages());
        if self.get(0) & JOINED != 0 {
            (page - self.first()) as usize
        } else {
            chain.position(|nth| self.page(nth) == page).expect("an entry names its page's zspage")
        }
    }
}
