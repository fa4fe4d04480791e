//! Arrays whose memory comes and goes: index -> element, found without a lock.
//! ```text
//! root -> block 0: 64 | 1: 64 | 2: 128 | 3: 256 | ...     elements side by side in each
//!         [ heap: as many as are whole pages ][ mapped: pages come and go ... | no access ]
//! ```
//! A block never moves and ends with the array. So a reader with an index that is out of date finds
//! a blank element, never memory that is gone. Elements are counted from the first one on, and so
//! are pages of the system's. Page `n` holds the bytes from `n` times its size on, of all elements
//! in a row.
//!
//! Blocks of the heap stay. The pages behind them are held by the users of the elements on them. A
//! page that no user holds is given back. Where the system does not take it, it stays charged, is
//! used again, and keeps its bytes.
//!
//! Where huge pages are allowed, long parts of an array are on such pages: see `huge`.
//!
//! Invariants, under the lock: all elements below `reach` can be read. `mapped` is the bytes of
//! pages that are held or were not taken back. The ledger carries these and the heap's blocks.

use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::{self, NonNull};

mod block;
mod doubling;
mod huge;
mod lines;
mod run;
mod words;

pub(crate) use block::{HUGE_PAGE, open_huge, split_huge};
pub(crate) use doubling::Doubling;
pub use lines::{Lines, SparseLines};
pub use words::{NoMemory, Words};

use crate::directory::stretch;
use crate::error::AllocError;
use crate::ledger::{Charge, heap_cost};
use crate::sync::{
    ARRAY_BLOCKS as BLOCKS, AtomicPtr, AtomicU16, AtomicU32, AtomicUsize, FIRST_BLOCK as FIRST,
    Leaf, Ordering, PLAIN_ATOMICS, model_bug,
};

/// An element of a [`Sparse`].
///
/// # Safety
/// Bytes that are all 0 are a valid value, unless atomics are more than their bytes
/// ([`PLAIN_ATOMICS`]); so are the bytes of any earlier value. Nothing is lost where it is not
/// dropped.
pub(crate) unsafe trait Blank {
    /// What an element is whose bytes are all 0.
    fn blank() -> Self;

    /// Becomes blank, where that is not done by the system: as it does it, after all that came
    /// before in this thread, for it takes locks and tells the other processors.
    fn wipe(&self);
}

// SAFETY: an integer of any bits, without `Drop`.
unsafe impl Blank for AtomicU16 {
    fn blank() -> Self {
        Self::new(0)
    }

    fn wipe(&self) {
        self.store(0, Ordering::Release);
    }
}

// SAFETY: as above.
unsafe impl Blank for AtomicU32 {
    fn blank() -> Self {
        Self::new(0)
    }

    fn wipe(&self) {
        self.store(0, Ordering::Release);
    }
}

// SAFETY: a null pointer, or one that was stored; what it points to is its user's.
unsafe impl<T> Blank for AtomicPtr<T> {
    fn blank() -> Self {
        Self::new(ptr::null_mut())
    }

    fn wipe(&self) {
        self.store(ptr::null_mut(), Ordering::Release);
    }
}

/// Bytes in a page, as arrays count them.
pub(crate) fn page_bytes() -> usize {
    if PLAIN_ATOMICS { block::page() } else { 16 }
}

pub(crate) struct Sparse<V: Blank> {
    /// Elements that can be read.
    reach: AtomicUsize,
    /// Where each block would start if it were as long as all before it together: element `n` of
    /// the array is `n` elements behind this.
    root: [AtomicPtr<V>; BLOCKS],
    mapped: AtomicUsize,
    /// The `log2` of a page's bytes.
    page_bits: u32,
    state: Leaf<Pages>,
    elements: PhantomData<V>,
}

/// What is under the lock.
#[derive(Debug)]
struct Pages {
    /// How often each page behind the heap's blocks is held, and [`KEPT`].
    holds: Vec<u16>,
    /// Bytes of elements from the first one on that can be read.
    readable: usize,
    /// Whether a huge page backs each part of the array that is as long as one: see `huge`.
    huge: Vec<bool>,
}

/// Blocks whose address space is one mapping, from the first one behind the heap's on.
const TOGETHER: usize = 4;

/// Nobody holds the page, and its memory was not taken back.
const KEPT: u16 = 1 << 15;

/// The block of element `index`.
#[inline]
const fn block_of(index: u32) -> usize {
    (u32::BITS - (index / FIRST as u32).leading_zeros()) as usize
}

/// The first element of a block, and how many it has.
const fn extent(block: usize) -> (usize, usize) {
    if block == 0 { (0, FIRST) } else { (FIRST << (block - 1), FIRST << (block - 1)) }
}

impl<V: Blank> Sparse<V> {
    /// Bytes of an element, as they are counted.
    const SIZE: usize = if PLAIN_ATOMICS { size_of::<V>() } else { 8 };

    pub(crate) fn new() -> Self {
        Self {
            reach: AtomicUsize::new(0),
            root: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            mapped: AtomicUsize::new(0),
            page_bits: page_bytes().trailing_zeros(),
            state: Leaf::new(Pages { holds: Vec::new(), readable: 0, huge: Vec::new() }),
            elements: PhantomData,
        }
    }

    /// Element `index`, blank if it has no memory now; `None`, if it never had any.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&V> {
        // Acquire pairs with the Release in `extend`: the block is in the root, and can be read.
        if index as usize >= self.reach.load(Ordering::Acquire) {
            return None;
        }
        let start = self.root[block_of(index)].load(Ordering::Relaxed);
        debug_assert!(!start.is_null(), "a block is there before it is announced");
        let element = start.wrapping_add(index as usize);
        // SAFETY: `index < reach`, so `extend` has made this part of the block readable, and it
        // holds a value, blank at first; a block stays until the array, which is borrowed, goes.
        Some(unsafe { &*element })
    }

    fn page(&self) -> usize {
        1 << self.page_bits
    }

    /// Bytes of pages that are charged; the blocks of the heap are not among them.
    pub(crate) fn mapped(&self) -> usize {
        self.mapped.load(Ordering::Relaxed)
    }

    /// The page on which element `index` starts.
    pub(crate) fn page_of(&self, index: usize) -> usize {
        (index * Self::SIZE) >> self.page_bits
    }

    /// Pages that the elements below `end` touch.
    pub(crate) fn pages_below(&self, end: usize) -> usize {
        (end * Self::SIZE + self.page() - 1) >> self.page_bits
    }

    /// Elements of a page, where it has room for some.
    pub(crate) fn each_page(&self) -> usize {
        self.page() / Self::SIZE
    }

    /// How far a holder of all elements below `from` gets by as little memory as there is: elements
    /// below the result come with element `from`.
    pub(crate) fn next_end(&self, from: usize) -> usize {
        if from < self.on_heap() {
            let (start, count) = extent(block_of(from as u32));
            return start + count;
        }
        (self.pages_below(from + 1) << self.page_bits) / Self::SIZE
    }

    /// Elements of the blocks of the heap: the least power of two that is whole pages.
    fn on_heap(&self) -> usize {
        let whole = self.page() >> (Self::SIZE | self.page()).trailing_zeros();
        whole.max(FIRST)
    }

    fn heap_pages(&self) -> usize {
        (self.on_heap() * Self::SIZE) >> self.page_bits
    }

    /// Sees to it that the elements below `end` can be read, and holds `pages`, charged.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`] where the ledger refuses, [`AllocError::NoMemory`] where the
    /// system or the heap does. No page is held.
    pub(crate) fn open(
        &self,
        pages: Range<usize>,
        end: usize,
        ledger: &impl Charge,
    ) -> Result<(), AllocError> {
        let mut state = self.state.lock();
        if end * Self::SIZE > state.readable {
            self.extend(&mut state, end, ledger)?;
        }
        if pages.end <= self.heap_pages() {
            return Ok(());
        }
        self.hold(&mut state, pages, ledger)
    }

    fn extend(
        &self,
        state: &mut Pages,
        end: usize,
        ledger: &impl Charge,
    ) -> Result<(), AllocError> {
        let end = end * Self::SIZE;
        while state.readable < end {
            let next = u32::try_from(state.readable / Self::SIZE);
            let block = next.map_or(BLOCKS, block_of);
            let (first, count) = extent(block);
            let root = self.root.get(block).ok_or(AllocError::OutOfPages)?;
            let mut start = root.load(Ordering::Relaxed);
            if start.is_null() {
                start = self.make(block, ledger)?;
                // Relaxed: announced by `reach`.
                root.store(start, Ordering::Relaxed);
            }
            let mut readable = (first + count) * Self::SIZE;
            if !self.by_heap(block) {
                readable = readable.min(end.next_multiple_of(self.page()));
                let bytes = readable - state.readable;
                let start = start.cast::<u8>().wrapping_add(state.readable);
                // SAFETY: `reserve` made the block, and what is readable of it ends at a page.
                if !unsafe { block::commit(start, bytes) } {
                    return Err(AllocError::NoMemory);
                }
            }
            state.readable = readable;
            // Release pairs with the Acquire in `get`.
            let order = model_bug!(GrowRelaxed, Ordering::Release => Ordering::Relaxed);
            self.reach.store(readable / Self::SIZE, order);
        }
        Ok(())
    }

    /// Whether a block is memory of the heap, as all are that cannot be pages of the system's.
    fn by_heap(&self, block: usize) -> bool {
        let odd = !block::MAPS || !PLAIN_ATOMICS || align_of::<V>() > self.page();
        odd || extent(block).0 + extent(block).1 <= self.on_heap()
    }

    fn layout(block: usize) -> Option<Layout> {
        Layout::array::<V>(extent(block).1).ok()
    }

    /// A block, as the root has it, charged if it stays.
    fn make(&self, block: usize, ledger: &impl Charge) -> Result<*mut V, AllocError> {
        if !self.by_heap(block) {
            return self.reserve(block).ok_or(AllocError::NoMemory);
        }
        let (first, count) = extent(block);
        let charged = if first < self.on_heap() { heap_cost(count * Self::SIZE) } else { 0 };
        ledger.reserve(charged)?;
        let start = Self::layout(block).and_then(block::on_heap).ok_or(AllocError::NoMemory);
        let start = start.inspect_err(|_| ledger.release(charged))?.cast::<V>();
        for at in (0..count).take_while(|_| !PLAIN_ATOMICS) {
            // SAFETY: `at < count`, inside the block.
            let element = unsafe { start.add(at) };
            // SAFETY: memory of the new block, which nobody else knows of.
            unsafe { element.write(V::blank()) };
        }
        Ok(start.as_ptr().wrapping_sub(first))
    }

    /// Address space for a block, and for the next ones too if it is the first: a process has only
    /// so many mappings, and small arrays should take two of them.
    fn reserve(&self, block: usize) -> Option<*mut V> {
        let first = extent(block).0;
        let together = if first == self.on_heap() { TOGETHER } else { 1 };
        let span = |end: usize| {
            let bytes = (extent(end).0 - first).checked_mul(Self::SIZE)?;
            Some((block::reserve_at(bytes, first * Self::SIZE)?, end))
        };
        let (start, end) = span(BLOCKS.min(block + together)).or_else(|| span(block + 1))?;
        let start = start.cast::<V>().as_ptr().wrapping_sub(first);
        // They lie behind each other, so all of them start at the same place.
        self.root[block..end].iter().for_each(|link| link.store(start, Ordering::Relaxed));
        Some(start)
    }

    fn hold(
        &self,
        state: &mut Pages,
        pages: Range<usize>,
        ledger: &impl Charge,
    ) -> Result<(), AllocError> {
        let before = self.heap_pages();
        let held = pages.start.max(before)..pages.end;
        if !held.is_empty() {
            stretch(&mut state.holds, held.end - before, ledger)?;
        }
        for page in held.clone() {
            if state.holds[page - before] == 0 {
                self.open_huge(state, page, ledger);
            }
            let holds = &mut state.holds[page - before];
            if *holds == 0 {
                if let Err(refused) = ledger.reserve(self.page()) {
                    self.let_go(state, held.start..page, ledger);
                    return Err(refused.into());
                }
                self.mapped.fetch_add(self.page(), Ordering::Relaxed);
            }
            *holds = (*holds & !KEPT) + 1;
        }
        Ok(())
    }

    /// Lets go of `pages`; the memory of those that nobody holds any more goes back.
    pub(crate) fn close(&self, pages: Range<usize>, ledger: &impl Charge) {
        self.let_go(&mut self.state.lock(), pages, ledger);
    }

    fn let_go(&self, state: &mut Pages, pages: Range<usize>, ledger: &impl Charge) {
        let before = self.heap_pages();
        let mut unheld = 0;
        for page in pages.start.max(before)..pages.end.max(before) {
            let holds = &mut state.holds[page - before];
            assert!((1..KEPT).contains(holds), "page {page} is held");
            *holds -= 1;
            if *holds == 0 {
                unheld += 1;
            } else if unheld > 0 {
                self.discard(state, page - unheld..page, ledger);
                unheld = 0;
            }
        }
        if unheld > 0 {
            self.discard(state, pages.end - unheld..pages.end, ledger);
        }
    }

    /// Gives back what the system did not take when it was asked first, as far as it takes it now.
    pub(crate) fn trim(&self, ledger: &impl Charge) {
        let (mut state, mut end) = (self.state.lock(), 0);
        loop {
            let kept = |holds: &u16| *holds == KEPT;
            let Some(start) = state.holds[end..].iter().position(kept) else { return };
            let start = end + start;
            end = start + state.holds[start..].iter().take_while(|holds| kept(holds)).count();
            let before = self.heap_pages();
            self.split_huge(&mut state, before + start..before + end);
            self.discard(&mut state, before + start..before + end, ledger);
            if kept(&state.holds[end - 1]) {
                return; // memory is locked as a whole, in most cases
            }
        }
    }

    /// Gives the memory of pages that nobody holds back.
    fn discard(&self, state: &mut Pages, pages: Range<usize>, ledger: &impl Charge) {
        // Pages of one call are those of a few elements, and blocks are whole pages: split where
        // one ends.
        let mut rest = pages;
        while !rest.is_empty() {
            let block = block_of((rest.start * self.page() / Self::SIZE) as u32);
            let (first, count) = extent(block);
            let end = rest.end.min(self.pages_below(first + count));
            let end = end.min(self.huge_around(rest.start).end);
            let mut part = rest.start..end;
            rest.start = end;
            let before = self.heap_pages();
            let held = |part: &Range<usize>| part.start - before..part.end - before;
            if state.is_huge(self.huge_number(part.start)) {
                state.holds[held(&part)].fill(KEPT);
                part = self.huge_around(part.start);
                if !state.holds[held(&part)].iter().all(|holds| *holds == KEPT) {
                    continue; // it goes whole, or is split
                }
                let number = self.huge_number(part.start);
                state.huge[number] = false;
            }
            let held = held(&part);
            if self.taken_back(block, part.clone()) {
                let bytes = part.len() * self.page();
                self.mapped.fetch_sub(bytes, Ordering::Relaxed);
                ledger.release(bytes);
                state.holds[held].fill(0);
            } else {
                state.holds[held].fill(KEPT);
            }
        }
    }

    /// Whether the system took the memory of these pages of a block.
    fn taken_back(&self, block: usize, pages: Range<usize>) -> bool {
        if !PLAIN_ATOMICS {
            let elements =
                pages.start * self.page() / Self::SIZE..pages.end * self.page() / Self::SIZE;
            elements.filter_map(|index| self.get(index as u32)).for_each(V::wipe);
            return true;
        }
        if self.by_heap(block) {
            return false;
        }
        let start = self.root[block].load(Ordering::Relaxed).cast::<u8>();
        let start = start.wrapping_add(pages.start * self.page());
        // SAFETY: pages of a block that `reserve` made. Nobody holds them, so no element on them
        // is in use, and blank ones are as good: whoever looks at one by chance is told the same.
        unsafe { block::discard(start, pages.len() * self.page()) }
    }

    /// Asserts what the header lists, and that each page behind the heap's is held as often as it
    /// is one of `pages`.
    pub(crate) fn check(&self, pages: impl Iterator<Item = usize>) {
        let state = self.state.lock();
        let charged = state.holds.iter().filter(|holds| **holds != 0).count();
        assert_eq!(self.mapped(), charged * self.page(), "bytes of pages that are charged");
        self.check_huge(&state);
        assert_eq!(self.reach.load(Ordering::Relaxed), state.readable / Self::SIZE);
        let mut holds = vec![0; state.holds.len()];
        let behind = pages.filter_map(|page| page.checked_sub(self.heap_pages()));
        behind.for_each(|page| holds[page] += 1);
        let held = state.holds.iter().map(|holds| holds & !KEPT);
        assert!(held.eq(holds), "pages are held by those who use them");
    }
}

impl<V: Blank> Drop for Sparse<V> {
    fn drop(&mut self) {
        for block in 0..BLOCKS {
            let (first, count) = extent(block);
            let start = self.root[block].load(Ordering::Relaxed);
            let Some(layout) = Self::layout(block).filter(|_| !start.is_null()) else { continue };
            let Some(start) = NonNull::new(start.wrapping_add(first)) else { continue };
            for at in (0..count).take_while(|_| !PLAIN_ATOMICS) {
                // SAFETY: `at < count`, inside the block.
                let element = unsafe { start.add(at) };
                // SAFETY: `make` wrote an element there, and nobody looks at it any more.
                unsafe { element.drop_in_place() };
            }
            if self.by_heap(block) {
                // SAFETY: `make` took it from the heap with this layout, and the array ends here.
                unsafe { block::off_heap(start.cast(), layout) };
            } else {
                // SAFETY: `reserve` made it, a part of a mapping, and the array ends here.
                unsafe { block::unmap(start.cast(), layout.size()) };
            }
        }
    }
}

impl<V: Blank> fmt::Debug for Sparse<V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reach, mapped) = (&self.reach, &self.mapped);
        write!(formatter, "Sparse({reach:?} elements, {mapped:?} bytes mapped)")
    }
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
mod tests;
