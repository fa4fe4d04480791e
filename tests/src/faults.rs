//! A page source that fails on demand and watches the ledger.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use zpool::source::{Access, Ledger, PageSource, SourceError};

/// Says when a [`Faulty`] source fails. Takes, reads and writes are counted as calls, in order.
#[derive(Debug, Default)]
pub struct Switch {
    calls: AtomicUsize,
    /// The call that fails, counted from 1; 0: none.
    at: AtomicUsize,
    forever: AtomicBool,
    failed: AtomicUsize,
    /// The most bytes that the ledger ever carried when pages came or went.
    peak: AtomicUsize,
    /// The bytes that it carried when a page came last.
    held: AtomicUsize,
    /// Pages handed out now.
    taken: AtomicUsize,
}

impl Switch {
    /// Lets the `nth` call from now on fail, the next one being 1, and with `forever` all behind
    /// it.
    pub fn arm(&self, nth: usize, forever: bool) {
        self.calls.store(0, Ordering::Relaxed);
        self.forever.store(forever, Ordering::Relaxed);
        self.at.store(nth, Ordering::Relaxed);
    }

    /// No call fails from now on.
    pub fn disarm(&self) {
        self.at.store(0, Ordering::Relaxed);
    }

    /// Calls since it was armed.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Calls that failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }

    /// The most bytes that the ledger ever carried when pages came or went.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// The bytes that the ledger carried when a page came last.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Pages handed out now.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn fails(&self) -> bool {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let at = self.at.load(Ordering::Relaxed);
        let fails = at != 0 && (call == at || call > at && self.forever.load(Ordering::Relaxed));
        self.failed.fetch_add(usize::from(fails), Ordering::Relaxed);
        fails
    }
}

/// `inner`, failing when the switch says so.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    switch: Arc<Switch>,
}

impl<S: PageSource> Faulty<S> {
    /// A source that works, and the switch that changes that.
    pub fn new(inner: S) -> (Self, Arc<Switch>) {
        let switch = Arc::new(Switch::default());
        (Self { inner, switch: Arc::clone(&switch) }, switch)
    }

    fn watch(&self, ledger: &Ledger) {
        self.switch.peak.fetch_max(ledger.held(), Ordering::Relaxed);
    }
}

// SAFETY: everything is said by `inner`, which keeps the contract; a call that fails here does
// nothing.
unsafe impl<S: PageSource> PageSource for Faulty<S> {
    fn page_size(&self) -> usize {
        self.inner.page_size()
    }

    fn capacity(&self) -> u32 {
        self.inner.capacity()
    }

    fn access(&self) -> Access {
        self.inner.access()
    }

    fn take(&self, after: Option<u32>, more: usize, ledger: &Ledger) -> Result<u32, SourceError> {
        if self.switch.fails() {
            return Err(SourceError::System(io::ErrorKind::OutOfMemory.into()));
        }
        let taken = self.inner.take(after, more, ledger);
        self.watch(ledger);
        self.switch.held.store(ledger.held(), Ordering::Relaxed);
        self.switch.taken.fetch_add(usize::from(taken.is_ok()), Ordering::Relaxed);
        taken
    }

    fn give(&self, pages: &[u32], ledger: &Ledger) {
        self.watch(ledger);
        self.switch.taken.fetch_sub(pages.len(), Ordering::Relaxed);
        self.inner.give(pages, ledger);
    }

    fn trim(&self, ledger: &Ledger) {
        self.inner.trim(ledger);
    }

    fn kept(&self) -> usize {
        self.inner.kept()
    }

    fn is_fresh(&self) -> bool {
        self.inner.is_fresh()
    }

    fn joined(&self, page: u32) -> bool {
        self.inner.joined(page)
    }

    unsafe fn address(&self, page: u32) -> NonNull<u8> {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.address(page) }
    }

    fn read(&self, page: u32, offset: usize, to: &mut [u8]) -> io::Result<()> {
        if self.switch.fails() {
            to.fill(0xa5);
            return Err(io::ErrorKind::Other.into());
        }
        self.inner.read(page, offset, to)
    }

    fn write(&self, page: u32, offset: usize, from: &[u8]) -> io::Result<()> {
        if self.switch.fails() {
            // Torn: half of the bytes arrive.
            let _ = self.inner.write(page, offset, &from[..from.len() / 2]);
            return Err(io::ErrorKind::Other.into());
        }
        self.inner.write(page, offset, from)
    }
}
