//! The bytes of frames: pages of the pool's source, as one run where it has one.

use std::ptr::{self, NonNull};

use crate::error::AllocError;
use crate::ledger::{Ledger, heap_cost};
use crate::source::{Access, PageSource};
use crate::sync::{Arc, AtomicUsize, Ordering};

/// Pages given back at once.
const BATCH: usize = 32;

/// Where the pages of frames come from; what a pool and its sets of frames share.
#[derive(Debug, Clone)]
pub(crate) struct Supply {
    pub(crate) source: Arc<dyn PageSource>,
    pub(crate) ledger: Arc<Ledger>,
    /// Pages that frames have.
    pub(crate) framed: Arc<AtomicUsize>,
}

/// The bytes of a frame, by whoever has the frame: `Supply::fill` makes it, `Supply::give` ends it.
#[derive(Debug)]
pub(super) struct Memory {
    start: NonNull<u8>,
    len: usize,
    first: u32,
    count: u32,
    /// All pages, where they are not one run in memory.
    pieces: Box<[u32]>,
}

impl Supply {
    fn address(&self, page: u32) -> Option<NonNull<u8>> {
        match self.source.access() {
            Access::Linear(base) => {
                let offset = page as usize * self.source.page_size();
                // SAFETY: a taken page of a linear source lies at this offset of one allocation.
                Some(unsafe { base.first().add(offset) })
            }
            // SAFETY: callers have taken the page.
            Access::Paged => Some(unsafe { self.source.address(page) }),
            Access::Unaddressable => None,
        }
    }

    /// Copies `bytes` to pages that are taken for it.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`].
    pub(super) fn fill(&self, bytes: &[u8]) -> Result<Memory, AllocError> {
        let page_size = self.source.page_size();
        let pages = self.take(bytes.len().div_ceil(page_size).max(1))?;
        self.framed.fetch_add(pages.len(), Ordering::Relaxed);
        let (first, count) = (pages[0], pages.len() as u32);
        let start = self.address(first).expect("pages with addresses");
        let whole = self.is_run(&pages);
        if whole {
            // SAFETY: the pages are one piece of memory of at least `bytes.len()` bytes, and were just taken, so
            // nobody else touches them.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), start.as_ptr(), bytes.len()) };
        } else {
            for (page, part) in pages.iter().zip(bytes.chunks(page_size)) {
                let to = self.address(*page).expect("pages with addresses");
                // SAFETY: the same for one page, of which `part` is no longer.
                unsafe { ptr::copy_nonoverlapping(part.as_ptr(), to.as_ptr(), part.len()) };
            }
        }
        let pieces = if whole { Box::default() } else { pages.into_boxed_slice() };
        Ok(Memory { start, len: bytes.len(), first, count, pieces })
    }

    /// Takes `count` pages, as one run if the source has one.
    fn take(&self, count: usize) -> Result<Vec<u32>, AllocError> {
        let mut pages = Vec::new();
        pages.try_reserve_exact(count).map_err(|_| AllocError::OutOfPages)?;
        while pages.len() < count {
            let more = count - pages.len() - 1;
            match self.source.take(pages.last().copied(), more, &self.ledger) {
                Ok(page) => pages.push(page),
                Err(_) => {
                    self.source.give(&pages, &self.ledger);
                    return Err(AllocError::OutOfPages);
                }
            }
        }
        Ok(pages)
    }

    fn is_run(&self, pages: &[u32]) -> bool {
        let follows = |pair: &[u32]| pair[1] == pair[0] + 1 && self.source.joined(pair[0]);
        pages.windows(2).all(follows)
    }

    /// Gives the pages of a memory of this supply's back.
    pub(super) fn give(&self, memory: Memory) {
        let page = |nth: u32| match memory.pieces.get(nth as usize) {
            Some(page) => *page,
            None => memory.first + nth,
        };
        let mut batch = [0; BATCH];
        let mut nth = 0;
        while nth < memory.count {
            let some = BATCH.min((memory.count - nth) as usize);
            batch[..some].iter_mut().zip(nth..).for_each(|(to, nth)| *to = page(nth));
            self.source.give(&batch[..some], &self.ledger);
            nth += some as u32;
        }
        self.framed.fetch_sub(memory.count as usize, Ordering::Relaxed);
    }

    /// Copies the start of a memory of this supply's, that is in pieces, to `to`, which is no longer.
    #[cold]
    pub(super) fn copy_pieces(&self, memory: &Memory, to: &mut [u8]) {
        assert!(to.len() <= memory.len, "no more than there is");
        for (page, part) in memory.pieces.iter().zip(to.chunks_mut(self.source.page_size())) {
            let from = self.address(*page).expect("pages with addresses");
            // SAFETY: `fill` wrote at least `part.len()` bytes to that page, which is taken, and written to by
            // nobody, as long as the memory is there.
            unsafe { ptr::copy_nonoverlapping(from.as_ptr(), part.as_mut_ptr(), part.len()) };
        }
    }
}

impl Memory {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn pages(&self) -> usize {
        self.count as usize
    }

    /// The bytes, unless they are in pieces.
    #[inline]
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        if !self.pieces.is_empty() {
            return None;
        }
        // SAFETY: `fill` wrote `len` bytes from `start` on, to pages that are one piece of memory; they are taken,
        // and nobody writes to them, as long as this is there.
        Some(unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) })
    }

    /// What it takes beside its pages.
    pub(super) fn heap_bytes(&self) -> usize {
        heap_cost(size_of_val(&*self.pieces))
    }
}
