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

/// The bytes of a frame, by `Owned` alone: `Supply::fill` makes it, `Supply::give` ends it.
#[derive(Debug)]
pub(super) struct Memory {
    start: NonNull<u8>,
    len: usize,
    first: u32,
    count: u32,
    /// All pages, where they are not one run in memory.
    pieces: Box<[Piece]>,
}

/// A page of a frame in pieces.
#[derive(Debug, Clone, Copy)]
struct Piece {
    page: u32,
    /// Of its bytes, as many as the frame has there.
    len: u32,
    start: NonNull<u8>,
}

impl Supply {
    fn address(&self, page: u32) -> Option<NonNull<u8>> {
        let access = self.source.access();
        let (linear, base) = access.line();
        if page < linear {
            let offset = page as usize * self.source.page_size();
            // SAFETY: a taken page of those in a line lies at this offset of one allocation.
            return Some(unsafe { base.first().add(offset) });
        }
        match access {
            Access::Unaddressable => None,
            // SAFETY: callers have taken the page.
            _ => Some(unsafe { self.source.address(page) }),
        }
    }

    /// Copies `bytes` to pages that are taken for it.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`] where the ledger refuses, [`AllocError::NoMemory`] where the heap
    /// or the system does.
    pub(super) fn fill(&self, bytes: &[u8]) -> Result<Memory, AllocError> {
        let page_size = self.source.page_size();
        let pages = self.take(bytes.len().div_ceil(page_size).max(1))?;
        self.framed.fetch_add(pages.len(), Ordering::Relaxed);
        let (first, count) = (pages[0], pages.len() as u32);
        let start = self.address(first).expect("pages with addresses");
        let whole = self.is_run(&pages);
        if whole {
            // SAFETY: the pages are one piece of memory of at least `bytes.len()` bytes, and were
            // just taken, so nobody else touches them.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), start.as_ptr(), bytes.len()) };
        }
        let pieces = match whole {
            true => Box::default(),
            false => self.fill_pieces(&pages, bytes)?,
        };
        Ok(Memory { start, len: bytes.len(), first, count, pieces })
    }

    /// The same for pages that are not one run.
    fn fill_pieces(&self, pages: &[u32], bytes: &[u8]) -> Result<Box<[Piece]>, AllocError> {
        let mut pieces = Vec::new();
        if pieces.try_reserve_exact(pages.len()).is_err() {
            self.source.give(pages, &self.ledger);
            self.framed.fetch_sub(pages.len(), Ordering::Relaxed);
            return Err(AllocError::NoMemory);
        }
        for (page, part) in pages.iter().zip(bytes.chunks(self.source.page_size())) {
            let start = self.address(*page).expect("pages with addresses");
            // SAFETY: the page was just taken, so nobody else touches it, and `part` is no longer.
            unsafe { ptr::copy_nonoverlapping(part.as_ptr(), start.as_ptr(), part.len()) };
            pieces.push(Piece { page: *page, len: part.len() as u32, start });
        }
        Ok(pieces.into())
    }

    /// Takes `count` pages, as one run if the source has one.
    fn take(&self, count: usize) -> Result<Vec<u32>, AllocError> {
        let mut pages = Vec::new();
        pages.try_reserve_exact(count).map_err(|_| AllocError::NoMemory)?;
        while pages.len() < count {
            let more = count - pages.len() - 1;
            match self.source.take(pages.last().copied(), more, &self.ledger) {
                Ok(page) => pages.push(page),
                Err(error) => {
                    self.source.give(&pages, &self.ledger);
                    return Err(error.into());
                }
            }
        }
        Ok(pages)
    }

    fn is_run(&self, pages: &[u32]) -> bool {
        let follows = |pair: &[u32]| pair[1] == pair[0] + 1 && self.source.joined(pair[0]);
        pages.windows(2).all(follows)
    }

    /// Gives the pages of a memory of this supply's back, and drops what it has beside them: it
    /// ends here.
    pub(super) fn give(&self, memory: &mut Memory) {
        let page = |nth: u32| match memory.pieces.get(nth as usize) {
            Some(piece) => piece.page,
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
        memory.pieces = Box::default();
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

    /// Where the bytes are, unless they are in pieces.
    #[inline]
    pub(super) fn start(&self) -> Option<NonNull<u8>> {
        self.pieces.is_empty().then_some(self.start)
    }

    /// The bytes, unless they are in pieces.
    #[inline]
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        self.start()?;
        // SAFETY: `fill` wrote `len` bytes from `start` on, to pages that are one piece of memory;
        // they are taken, and nobody writes to them, as long as this is there.
        Some(unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) })
    }

    /// Copies the start of bytes that are in pieces to `to`, which is no longer.
    #[cold]
    pub(super) fn copy_pieces(&self, mut to: &mut [u8]) {
        assert!(to.len() <= self.len, "no more than there is");
        for piece in &self.pieces {
            let (part, rest) = to.split_at_mut(to.len().min(piece.len as usize));
            // SAFETY: `fill_pieces` wrote `piece.len` bytes there, `part` is no longer, and the
            // page is taken, and written to by nobody, as long as this is there.
            unsafe {
                ptr::copy_nonoverlapping(piece.start.as_ptr(), part.as_mut_ptr(), part.len())
            };
            to = rest;
        }
    }

    /// What it takes beside its pages.
    pub(super) fn heap_bytes(&self) -> usize {
        heap_cost(size_of_val(&*self.pieces))
    }
}
