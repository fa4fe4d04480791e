//! A page source without memory, for populations that this machine has no room for.
//!
//! Pages are numbers; writing to one does nothing and reading one gives zeros. Everything that the
//! pool decides and counts is as with real pages, and what a real source books for itself is
//! charged here too.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zpool::source::{Access, Ledger, PageSource, Refused, SourceError, heap_cost, most_pages};

const PAGE_SIZE: usize = 4096;

#[derive(Debug, Default)]
struct State {
    /// Pages below this have been handed out before.
    frontier: u32,
    free: Vec<u32>,
    /// Pages that the charged bookkeeping covers.
    covered: usize,
}

/// Pages of 4 KiB that are not there.
#[derive(Debug, Default)]
pub(crate) struct Unbacked {
    state: Mutex<State>,
}

impl Unbacked {
    /// A source of as many pages as can be numbered.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What zpool's own sources book for `pages` pages: two sets of bits that are searched by levels of
/// 64.
fn bookkeeping(pages: usize) -> usize {
    let set = |level: u32| heap_cost(pages.div_ceil(64_usize.pow(level)) * 8);
    if pages == 0 { 0 } else { 2 * (1..=4).map(set).sum::<usize>() }
}

// SAFETY: a page is handed out once until it is given back (the free list holds what was given
// back, the frontier passes each number once), numbers stay below `capacity`, and no page has an
// address; `read` returns other bytes than were written, which the trait allows at the price of
// wrong bytes.
unsafe impl PageSource for Unbacked {
    fn page_size(&self) -> usize {
        PAGE_SIZE
    }

    fn capacity(&self) -> u32 {
        most_pages(PAGE_SIZE)
    }

    fn access(&self) -> Access {
        Access::Unaddressable
    }

    fn take(&self, _: Option<u32>, _: usize, ledger: &Ledger) -> Result<u32, SourceError> {
        let mut state = self.state();
        if state.free.is_empty() && state.frontier as usize >= state.covered {
            let pages = (state.covered * 2).max(512);
            ledger.reserve_own(bookkeeping(pages)).map_err(|Refused| SourceError::Refused)?;
            ledger.release_own(bookkeeping(state.covered));
            state.covered = pages;
        }
        if ledger.reserve_pages(1) == 0 {
            return Err(SourceError::Refused);
        }
        Ok(state.free.pop().unwrap_or_else(|| {
            state.frontier += 1;
            state.frontier - 1
        }))
    }

    fn give(&self, pages: &[u32], ledger: &Ledger) {
        self.state().free.extend_from_slice(pages);
        ledger.release_pages(pages.len());
    }

    fn trim(&self, _: &Ledger) {}

    fn kept(&self) -> usize {
        0
    }

    fn read(&self, _: u32, _: usize, to: &mut [u8]) -> io::Result<()> {
        to.fill(0);
        Ok(())
    }

    fn write(&self, _: u32, _: usize, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
