//! The record of a zspage: one heap block of atomic words, laid out as [`super`] says.
//!
//! A mixed zspage counts grains where others count slots: in use, in all, and in its longest gap.

use std::marker::PhantomData;

use crate::directory::boxed;
use crate::geometry::{MIXED_UNIT, Shape};
use crate::sync::{AtomicU32, Ordering};

/// No zspage, no page.
pub(crate) const NONE: u32 = u32::MAX >> 1;
/// No slot.
const NO_SLOT: u16 = u16::MAX;
/// In a record's first word: the chain's page numbers follow each other, and none is listed.
const RUN: u32 = 1 << 31;
/// In a record's first word: the zspage is mixed.
const MIXED: u32 = 1 << 30;
/// Units that a word has a bit each for.
const WORD: usize = u32::BITS as usize;
/// Words of a record before its owners.
const HEAD: usize = 5;
/// Bits of a class's number in a record.
const CLASS_BITS: u32 = 10;
/// The most classes.
pub(super) const CLASSES: usize = 1 << CLASS_BITS;
/// Bits of the number of pages, less one.
const PAGES_BITS: u32 = 6;

/// How full a zspage is: in slots, or in grains where it is mixed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill {
    /// In use.
    pub(crate) inuse: u16,
    /// In all.
    pub(crate) objects: u16,
    /// How much of what is free is good for one list: all free slots, or the longest gap.
    pub(crate) open: u16,
    /// Pages it is made of.
    pub(crate) pages: u16,
}

/// Whether the page numbers of a chain follow each other.
pub(super) fn is_run(chain: &[u32]) -> bool {
    chain.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

/// Places of a zspage of `shape` that have an owner entry: slots, or units.
fn slots(shape: Shape, mixed: bool) -> u16 {
    if mixed { shape.objects / MIXED_UNIT as u16 } else { shape.objects }
}

/// Words of the record of a zspage of `shape`.
pub(super) fn words(shape: Shape, mixed: bool, run: bool) -> usize {
    let listed = if run { 0 } else { usize::from(shape.pages) };
    let slots = usize::from(slots(shape, mixed));
    HEAD + listed + if mixed { slots + slots + slots.div_ceil(WORD) } else { slots }
}

/// A record of class `class`, all of it free, on the heap. `None`: the allocator has no room.
pub(super) fn new(
    shape: Shape,
    class: u16,
    mixed: bool,
    chain: &[u32],
) -> Option<Box<[AtomicU32]>> {
    let run = is_run(chain);
    let numbers = u32::from(class) << PAGES_BITS | u32::from(shape.pages - 1);
    let head = [
        chain[0] | if run { RUN } else { 0 } | if mixed { MIXED } else { 0 },
        NONE,
        NONE,
        u32::from(slots(shape, mixed)) << 16 | numbers,
        // None in use, slot 0 free; or all of it one gap.
        if mixed { shape.objects.into() } else { 0 },
    ];
    let next = |slot: u16| if slot == shape.objects { NO_SLOT } else { slot };
    let free = (1..=shape.objects).map(|slot| next(slot).into());
    let listed = if run { 0 } else { chain.len() };
    let blank = std::iter::repeat_n(0, words(shape, mixed, run) - HEAD - listed);
    let slots = free.take(if mixed { 0 } else { usize::MAX });
    let slots = slots.chain(blank.take(if mixed { usize::MAX } else { 0 }));
    let mut values = head.into_iter().chain(slots).chain(chain.iter().copied());
    boxed(words(shape, mixed, run), || AtomicU32::new(values.next().unwrap_or(NONE)))
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
        words(Shape { pages, objects }, self.is_mixed(), self.run())
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

    fn first_page(self) -> u32 {
        self.get(0) & !(RUN | MIXED)
    }

    pub(super) fn is_mixed(self) -> bool {
        self.get(0) & MIXED != 0
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

    /// Places that have an owner entry: slots, or units of a mixed zspage.
    pub(super) fn slots(self) -> u16 {
        (self.get(3) >> 16) as u16
    }

    pub(super) fn fill(self) -> Fill {
        let (inuse, slots) = ((self.get(4) >> 16) as u16, self.slots());
        let (objects, open) = if self.is_mixed() {
            (slots * MIXED_UNIT as u16, self.get(4) as u16)
        } else {
            (slots, slots - inuse)
        };
        Fill { inuse, objects, open, pages: self.pages() }
    }

    /// The first free slot; none, if it is no slot of the zspage. Of a mixed one, its longest gap.
    pub(super) fn free(self) -> u16 {
        self.get(4) as u16
    }

    pub(super) fn set_use(self, inuse: u16, free: u16) {
        self.set(4, u32::from(inuse) << 16 | u32::from(free));
    }

    pub(super) fn owner(self, slot: u16) -> Option<&'z AtomicU32> {
        (slot < self.slots()).then(|| self.word(HEAD + usize::from(slot)))
    }

    /// The object that starts in a unit of a mixed zspage: its first grain, and its grains; 0
    /// grains, if none does.
    pub(super) fn span(self, unit: u16) -> (u16, u16) {
        assert!(self.is_mixed() && unit < self.slots(), "a mixed zspage has units");
        let word = self.get(HEAD + usize::from(self.slots() + unit));
        ((word >> 16) as u16, word as u16)
    }

    /// Calls `f` with each object of a mixed zspage, as [`span`](Self::span) has it, in order.
    #[inline]
    pub(super) fn each_span(self, mut f: impl FnMut((u16, u16))) {
        assert!(self.is_mixed(), "a mixed zspage has units");
        let slots = usize::from(self.slots());
        for word in 0..slots.div_ceil(WORD) {
            let mut bits = self.starts(word);
            while bits != 0 {
                let unit = word * WORD + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let span = self.get(HEAD + slots + unit);
                f(((span >> 16) as u16, span as u16));
            }
        }
    }

    /// A bit for each of the units of a word in which an object starts.
    fn starts(self, word: usize) -> u32 {
        self.get(HEAD + 2 * usize::from(self.slots()) + word)
    }

    /// The units of the objects before and behind unit `unit`, in which none starts.
    pub(super) fn neighbours(self, unit: u16) -> (Option<u16>, Option<u16>) {
        assert!(self.is_mixed() && unit < self.slots(), "a mixed zspage has units");
        let (word, bit) = (usize::from(unit) / WORD, usize::from(unit) % WORD);
        let words = usize::from(self.slots()).div_ceil(WORD);
        let below = self.starts(word) & ((1 << bit) - 1);
        let mut lower = std::iter::once((word, below))
            .chain((0..word).rev().map(|word| (word, self.starts(word))));
        let above = self.starts(word) & (u32::MAX << bit);
        let mut higher = std::iter::once((word, above))
            .chain((word + 1..words).map(|word| (word, self.starts(word))));
        let before = lower.find(|(_, bits)| *bits != 0);
        let behind = higher.find(|(_, bits)| *bits != 0);
        (
            before.map(|(word, bits)| (word * WORD) as u16 + bits.ilog2() as u16),
            behind.map(|(word, bits)| (word * WORD) as u16 + bits.trailing_zeros() as u16),
        )
    }

    pub(super) fn set_span(self, unit: u16, (start, grains): (u16, u16)) {
        assert!(self.is_mixed() && unit < self.slots(), "a mixed zspage has units");
        let (slots, unit) = (usize::from(self.slots()), usize::from(unit));
        self.set(HEAD + slots + unit, u32::from(start) << 16 | u32::from(grains));
        let (word, bit) = (HEAD + 2 * slots + unit / WORD, 1 << (unit % WORD));
        let others = self.get(word) & !bit;
        self.set(word, if grains > 0 { others | bit } else { others });
    }

    /// The page that is `nth` in the chain.
    pub(super) fn page(self, nth: usize) -> u32 {
        assert!(nth < usize::from(self.pages()), "a chain has pages up to its length");
        if self.run() {
            self.first_page() + nth as u32
        } else {
            self.get(self.length() - usize::from(self.pages()) + nth)
        }
    }

    /// Where in the chain `page` is.
    pub(super) fn position(self, page: u32) -> usize {
        if self.run() {
            return (page - self.first_page()) as usize;
        }
        let mut chain = 0..usize::from(self.pages());
        chain.position(|nth| self.page(nth) == page).expect("an entry names its page's zspage")
    }
}
