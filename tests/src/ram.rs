//! A page source without addresses whose pages a test can look at.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use zpool::source::{Access, Ledger, PageSource, SourceError};

/// Page numbers end here.
const CAPACITY: u32 = 1 << 16;

#[derive(Debug, Default)]
struct State {
    /// The bytes of every page that was ever handed out, and whether it is now.
    pages: Vec<(Vec<u8>, bool)>,
}

/// Pages in a vector. New pages are full of 0xcd, and pages given back keep their bytes, so that
/// whatever a pool lets through shows.
#[derive(Debug)]
pub struct Ram {
    page_size: usize,
    state: Arc<Mutex<State>>,
}

/// A look into the pages of a [`Ram`] while a pool uses it.
#[derive(Debug)]
pub struct Window(Arc<Mutex<State>>);

impl Window {
    /// Whether `bytes` stand anywhere in one page, in use or not.
    #[must_use]
    pub fn shows(&self, bytes: &[u8]) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.pages.iter().any(|(page, _)| page.windows(bytes.len()).any(|part| part == bytes))
    }

    /// Pages handed out now to which nothing was ever written.
    #[must_use]
    pub fn untouched(&self) -> usize {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |(page, taken): &&(Vec<u8>, bool)| *taken && page.iter().all(|byte| *byte == 0xcd);
        state.pages.iter().filter(is).count()
    }

    /// Pages handed out now.
    #[must_use]
    pub fn taken(&self) -> usize {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.pages.iter().filter(|(_, taken)| *taken).count()
    }
}

/// Where bytes stand in a [`Ram`]: the page and the offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    page: usize,
    offset: usize,
}

impl Window {
    /// The place of the only copy of `bytes` in the pages that are handed out.
    ///
    /// # Panics
    /// There is none in one page, or more than one.
    #[must_use]
    pub fn find(&self, bytes: &[u8]) -> At {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for (page, (now, _)) in state.pages.iter().enumerate().filter(|(_, (_, taken))| *taken) {
            let windows = now.windows(bytes.len()).enumerate();
            let same = windows.filter(|(_, part)| *part == bytes);
            found.extend(same.map(|(offset, _)| At { page, offset }));
        }
        assert_eq!(found.len(), 1, "one copy of {} bytes", bytes.len());
        found[0]
    }

    /// Whether `bytes` stand at `at`, in a page that is handed out.
    #[must_use]
    pub fn stands(&self, at: At, bytes: &[u8]) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (page, taken) = &state.pages[at.page];
        *taken && page[at.offset..].starts_with(bytes)
    }

    /// Overwrites what stands at `at`, behind the pool's back, and returns what stood there.
    pub fn overwrite(&self, at: At, bytes: &[u8]) -> Vec<u8> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut state.pages[at.page].0[at.offset..][..bytes.len()];
        let before = place.to_vec();
        place.copy_from_slice(bytes);
        before
    }

    /// Flips bits of the byte that stands `by` bytes behind `at`.
    pub fn flip(&self, at: At, by: usize, bits: u8) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.pages[at.page].0[at.offset + by] ^= bits;
    }
}

impl Ram {
    /// Pages of `page_size` bytes, and a window on them.
    #[must_use]
    pub fn new(page_size: usize) -> (Self, Window) {
        let state = Arc::new(Mutex::new(State::default()));
        (Self { page_size, state: Arc::clone(&state) }, Window(state))
    }

    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// SAFETY: a page is handed out when its mark is clear and given back by clearing it, under the
// lock; it has no address, so no reference to its bytes leaves this file.
unsafe impl PageSource for Ram {
    fn page_size(&self) -> usize {
        self.page_size
    }

    fn capacity(&self) -> u32 {
        CAPACITY
    }

    fn access(&self) -> Access {
        Access::Unaddressable
    }

    fn take(&self, _after: Option<u32>, _more: usize, ledger: &Ledger) -> Result<u32, SourceError> {
        self.with(|state| {
            let free = state.pages.iter().position(|(_, taken)| !taken);
            let page = free.unwrap_or(state.pages.len());
            if page >= CAPACITY as usize {
                return Err(SourceError::Full);
            }
            if ledger.reserve_pages(1) == 0 {
                return Err(SourceError::Refused);
            }
            if page == state.pages.len() {
                state.pages.push((vec![0xcd; self.page_size], false));
            }
            state.pages[page].1 = true;
            Ok(page as u32)
        })
    }

    fn give(&self, pages: &[u32], ledger: &Ledger) {
        self.with(|state| {
            for &page in pages {
                let taken = std::mem::take(&mut state.pages[page as usize].1);
                assert!(taken, "page {page} is given back once");
            }
        });
        ledger.release_pages(pages.len());
    }

    fn trim(&self, _ledger: &Ledger) {}

    fn kept(&self) -> usize {
        0
    }

    fn read(&self, page: u32, offset: usize, to: &mut [u8]) -> io::Result<()> {
        self.with(|state| {
            let (page, taken) = &state.pages[page as usize];
            assert!(*taken, "a page is read while it is handed out");
            to.copy_from_slice(&page[offset..offset + to.len()]);
        });
        Ok(())
    }

    fn write(&self, page: u32, offset: usize, from: &[u8]) -> io::Result<()> {
        self.with(|state| {
            let (page, taken) = &mut state.pages[page as usize];
            assert!(*taken, "a page is written while it is handed out");
            page[offset..offset + from.len()].copy_from_slice(from);
        });
        Ok(())
    }
}
