//! The record of a zspage: one heap block of atomic words, laid out as [`super`] says.

use std::marker::PhantomData;

use crate::directory::boxed;
use crate::geometry::Shape;
use crate::sync::{AtomicU32, Ordering};

/// No zspage, no page.
pub(crate) const NONE: u32 = u32::MAX >> 1;
/// No slot.
const NO_SLOT: u16 = u16::MAX;
/// In a record's first word: the chain's page numbers follow each other, and none is listed.
const RUN: u32 = 1 << 31;
/// Words of a record before its owners.
const HEAD: usize = 5;
/// Bits of a class's number in a record.
const CLASS_BITS: u32 = 10;
/// The most classes.
pub(super) const CLASSES: usize = 1 << CLASS_BITS;
/// Bits of the number of pages, less one.
const PAGES_BITS: u32 = 6;

/// How full a zspage is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill {
    /// Slots in use.
    pub(crate) inuse: u16,
    /// Slots.
    pub(crate) objects: u16,
    /// Pages it is made of.
    pub(crate) pages: u16,
}

/// Whether the page numbers of a chain follow each other.
pub(super) fn is_run(chain: &[u32]) -> bool {
    chain.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

/// Words of the record of a zspage of `shape`.
pub(super) fn words(shape: Shape, run: bool) -> usize {
    let listed = if run { 0 } else { usize::from(shape.pages) };
    HEAD + usize::from(shape.objects) + listed
}

/// A record of class `class`, all slots free, on the heap. `None`: the allocator has no room.
pub(super) fn new(shape: Shape, class: u16, chain: &[u32]) -> Option<Box<[AtomicU32]>> {
    let run = is_run(chain);
    let numbers = u32::from(class) << PAGES_BITS | u32::from(shape.pages - 1);
    let head = [
        chain[0] | if run { RUN } else { 0 },
        NONE,
        NONE,
        u32::from(shape.objects) << 16 | numbers,
        0, // none in use, slot 0 free
    ];
    let next = |slot: u16| if slot == shape.objects { NO_SLOT } else { slot };
    let free = (1..=shape.objects).map(|slot| next(slot).into());
    let mut values = head.into_iter().chain(free).chain(chain.iter().copied());
    boxed(words(shape, run), || AtomicU32::new(values.next().unwrap_or(NONE)))
}

/// A zspage's record, borrowed from the heap.
///
/// Relaxed throughout: the class's lock, or a place's way between threads, orders these.
#[derive(Clone, Copy)]
pub(super) struct Record<'z> {
    block: *const AtomicU32,
    lent: PhantomData<&'z AtomicU32>,
}

impl<'z> Record<'z> {
    /// # Safety
    /// `block` is what [`new`] made, as a raw box, and not dropped while `'z` lasts.
    pub(super) unsafe fn borrow(block: *const AtomicU32) -> Self {
        Self { block, lent: PhantomData }
    }

    /// # Safety
    /// `block` is what [`new`] made, as a raw box; nobody else uses it any more.
    pub(super) unsafe fn unbox(block: *mut AtomicU32) -> Box<[AtomicU32]> {
        // SAFETY: the caller's promise; the borrow ends before the box is made.
        let length = unsafe { Record::borrow(block) }.length();
        let block = std::ptr::slice_from_raw_parts_mut(block, length);
        // SAFETY: the caller's promise, and the length is the box's.
        unsafe { Box::from_raw(block) }
    }

    fn length(self) -> usize {
        let Fill { objects, pages, .. } = self.fill();
        words(Shape { pages, objects }, self.run())
    }

    #[inline]
    fn word(self, word: usize) -> &'z AtomicU32 {
        debug_assert!(word < HEAD || word < self.length());
        // SAFETY: `word` is in the head, or `owner` and `page` checked it against the head.
        let at = unsafe { self.block.add(word) };
        // SAFETY: `borrow` promised the block for `'z`.
        unsafe { &*at }
    }

    #[inline]
    fn get(self, word: usize) -> u32 {
        self.word(word).load(Ordering::Relaxed)
    }

    fn set(self, word: usize, value: u32) {
        self.word(word).store(value, Ordering::Relaxed);
    }

    fn run(self) -> bool {
        self.get(0) & RUN != 0
    }

    /// The zspages before and behind this one on its list.
    pub(super) fn links(self) -> (u32, u32) {
        (self.get(1), self.get(2))
    }

    pub(super) fn set_previous(self, id: u32) {
        self.set(1, id);
    }

    pub(super) fn set_next(self, id: u32) {
        self.set(2, id);
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

    pub(super) fn fill(self) -> Fill {
        let inuse = (self.get(4) >> 16) as u16;
        Fill { inuse, objects: self.objects(), pages: self.pages() }
    }

    /// The first free slot; none, if it is no slot of the zspage.
    pub(super) fn free(self) -> u16 {
        self.get(4) as u16
    }

    pub(super) fn set_use(self, inuse: u16, free: u16) {
        self.set(4, u32::from(inuse) << 16 | u32::from(free));
    }

    pub(super) fn owner(self, slot: u16) -> Option<&'z AtomicU32> {
        (slot < self.objects()).then(|| self.word(HEAD + usize::from(slot)))
    }

    /// The page that is `nth` in the chain.
    pub(super) fn page(self, nth: usize) -> u32 {
        assert!(nth < usize::from(self.pages()), "a chain has pages up to its length");
        if self.run() {
            (self.get(0) & !RUN) + nth as u32
        } else {
            self.get(HEAD + usize::from(self.objects()) + nth)
        }
    }

    /// Where in the chain `page` is.
    pub(super) fn position(self, page: u32) -> usize {
        if self.run() {
            return (page - (self.get(0) & !RUN)) as usize;
        }
        let mut chain = 0..usize::from(self.pages());
        chain.position(|nth| self.page(nth) == page).expect("an entry names its page's zspage")
    }
}
