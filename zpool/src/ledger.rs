//! The ledger: every byte a pool holds, and the cap it is held to.
//!
//! A thread that is about to take memory reserves it first and takes it second. So the cap is never
//! passed, not even by two threads together. A thread that gives memory back releases it after it
//! is gone.
//! ```text
//! held = pages * page_size + tables + own + lent      held <= max_bytes      pages <= max_pages
//! ```
//! One counter carries `held`; `pages` has its own because it has a cap of its own. `tables` are
//! the pool's, and released with it, though frames and their source may outlive it. `own` is the
//! source's bookkeeping. `lent` is what the pool's user charged for memory that is not the pool's.

use crate::error::AllocError;
use crate::sync::{AtomicUsize, Counter, Ordering, fence, model_bug};

/// The cap does not allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

impl From<Refused> for AllocError {
    fn from(Refused: Refused) -> Self {
        Self::OutOfPages
    }
}

/// Every byte a pool holds, and its caps. A page source reserves here before it takes memory.
#[derive(Debug)]
pub struct Ledger {
    held: AtomicUsize,
    tables: AtomicUsize,
    lent: AtomicUsize,
    max_bytes: AtomicUsize,
    pages: AtomicUsize,
    max_pages: AtomicUsize,
    page_size: usize,
    /// Whether tables may be on huge pages.
    huge: bool,
    peak: Counter,
}

/// Who is charged for a table.
pub(crate) trait Charge {
    /// # Errors
    /// [`Refused`] when that passes the cap; nothing is reserved then.
    fn reserve(&self, bytes: usize) -> Result<(), Refused>;

    /// Gives back what was reserved.
    fn release(&self, bytes: usize);

    /// Whether a huge page of so many bytes may be opened for a table.
    fn allows_huge(&self, bytes: usize) -> bool;
}

/// A table of the pool's own, released with the pool.
impl Charge for Ledger {
    fn reserve(&self, bytes: usize) -> Result<(), Refused> {
        self.reserve(bytes)
    }

    fn release(&self, bytes: usize) {
        self.release(bytes);
    }

    fn allows_huge(&self, bytes: usize) -> bool {
        self.huge && self.has_much_room(bytes)
    }
}

/// A table that may be there longer than the pool: its bytes are lent, and counted in `lent` too.
#[derive(Debug)]
pub(crate) struct Loan<'l> {
    pub(crate) ledger: &'l Ledger,
    pub(crate) lent: &'l Counter,
}

impl Charge for Loan<'_> {
    fn reserve(&self, bytes: usize) -> Result<(), Refused> {
        self.ledger.lend(bytes)?;
        self.lent.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn release(&self, bytes: usize) {
        self.lent.fetch_sub(bytes, Ordering::Relaxed);
        self.ledger.take_back(bytes);
    }

    fn allows_huge(&self, bytes: usize) -> bool {
        self.ledger.allows_huge(bytes)
    }
}

/// Adds `amount` to `counter` unless that passes `cap`.
fn add_under(counter: &AtomicUsize, amount: usize, cap: usize) -> Result<usize, Refused> {
    let mut seen = counter.load(Ordering::Relaxed);
    loop {
        let sum = seen.checked_add(amount).filter(|sum| *sum <= cap).ok_or(Refused)?;
        match counter.compare_exchange_weak(seen, sum, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Ok(sum),
            Err(now) => seen = now,
        }
    }
}

impl Ledger {
    /// A ledger of pages of `page_size` bytes, capped at `max_pages` pages and `max_bytes` bytes.
    #[must_use]
    pub fn new(page_size: usize, max_pages: usize, max_bytes: usize) -> Self {
        Self {
            held: AtomicUsize::new(0),
            tables: AtomicUsize::new(0),
            lent: AtomicUsize::new(0),
            max_bytes: AtomicUsize::new(max_bytes),
            pages: AtomicUsize::new(0),
            max_pages: AtomicUsize::new(max_pages),
            page_size,
            huge: false,
            peak: Counter::new(0),
        }
    }

    /// This ledger, with tables on huge pages, or on none.
    pub(crate) fn with_huge_tables(self, huge: bool) -> Self {
        Self { huge, ..self }
    }

    /// Reserves `bytes` of a source's own bookkeeping.
    ///
    /// # Errors
    /// [`Refused`] when that passes the cap; nothing is reserved then.
    pub fn reserve_own(&self, bytes: usize) -> Result<(), Refused> {
        let sum = add_under(&self.held, bytes, self.max_bytes.load(Ordering::Relaxed))?;
        if sum > self.cap_after() {
            self.release_own(bytes);
            return Err(Refused);
        }
        self.peak.fetch_max(sum, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back `bytes` of a source's own bookkeeping.
    pub fn release_own(&self, bytes: usize) {
        let before = self.held.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "released {bytes} bytes of {before} held");
    }

    /// Reserves `bytes` of the pool's tables.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), Refused> {
        self.reserve_own(bytes)?;
        self.tables.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back `bytes` of the pool's tables.
    pub(crate) fn release(&self, bytes: usize) {
        let before = self.tables.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "released {bytes} bytes of {before} for tables");
        self.release_own(bytes);
    }

    /// Counts `bytes` that were reserved as tables as the source's own from now on.
    pub(crate) fn make_own(&self, bytes: usize) {
        self.tables.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Gives back all that is reserved for tables: the pool is gone.
    pub(crate) fn release_tables(&self) {
        self.release_own(self.tables.swap(0, Ordering::Relaxed));
    }

    /// Bytes of the pool's tables.
    pub(crate) fn tables(&self) -> usize {
        self.tables.load(Ordering::Relaxed)
    }

    /// Reserves `bytes` for the pool's user.
    pub(crate) fn lend(&self, bytes: usize) -> Result<(), Refused> {
        if bytes > 0 {
            self.reserve_own(bytes)?;
            self.lent.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes `bytes` back from the pool's user, or what is lent, if that is less; says how many.
    pub(crate) fn take_back(&self, bytes: usize) -> usize {
        let mut lent = self.lent();
        loop {
            let back = bytes.min(lent);
            let order = Ordering::Relaxed;
            match self.lent.compare_exchange_weak(lent, lent - back, order, order) {
                Ok(_) => {
                    self.release_own(back);
                    return back;
                }
                Err(now) => lent = now,
            }
        }
    }

    /// Lends `bytes` that the pool's user has reserved so far and is about to give back: past the
    /// cap for that moment, if need be.
    pub(crate) fn take_over(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.lent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes lent to the pool's user, a part of those held.
    pub(crate) fn lent(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }

    /// Reserves as many pages as the caps allow, `wanted` at most, and says how many.
    pub fn reserve_pages(&self, wanted: usize) -> usize {
        let mut pages = wanted;
        while pages > 0 && self.reserve_all(pages).is_err() {
            let by_pages = self.max_pages.load(Ordering::Relaxed).saturating_sub(self.pages());
            pages = by_pages.min(self.headroom() / self.page_size).min(pages - 1);
        }
        pages
    }

    /// Reserves `pages` pages.
    ///
    /// # Errors
    /// [`Refused`] when that passes a cap; nothing is reserved then.
    pub fn reserve_all(&self, pages: usize) -> Result<(), Refused> {
        add_under(&self.pages, pages, self.max_pages.load(Ordering::Relaxed))?;
        let bytes = pages.checked_mul(self.page_size).ok_or(Refused);
        bytes.and_then(|bytes| self.reserve_own(bytes)).inspect_err(|Refused| {
            self.pages.fetch_sub(pages, Ordering::Relaxed);
        })
    }

    /// Gives back `pages` pages.
    pub fn release_pages(&self, pages: usize) {
        let before = self.pages.fetch_sub(pages, Ordering::Relaxed);
        debug_assert!(before >= pages, "released {pages} pages of {before} held");
        self.release_own(pages * self.page_size);
    }

    /// Bytes held now: pages, metadata, and what the pool's user reserved.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes that may still be reserved.
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.max_bytes.load(Ordering::Relaxed).saturating_sub(self.held())
    }

    /// The lower cap, in bytes.
    #[inline]
    pub(crate) fn cap(&self) -> usize {
        let pages = self.max_pages.load(Ordering::Relaxed).saturating_mul(self.page_size);
        self.max_bytes.load(Ordering::Relaxed).min(pages)
    }

    /// Whether 1/32 of what is held is free beside `bytes`: enough that nobody misses some of them.
    pub(crate) fn has_much_room(&self, bytes: usize) -> bool {
        self.headroom() >= self.held() / 32 + bytes
    }

    /// Bytes that may still be taken as pages: both caps count.
    pub(crate) fn page_headroom(&self) -> usize {
        let pages = self.max_pages.load(Ordering::Relaxed).saturating_sub(self.pages());
        self.headroom().min(pages.saturating_mul(self.page_size))
    }

    /// Whether more than three quarters of a cap are used. Never inlined: it is seldom needed where
    /// a level is asked for.
    #[inline(never)]
    pub(crate) fn about_full(&self) -> bool {
        let cap = self.max_bytes.load(Ordering::Relaxed);
        let pages = self.max_pages.load(Ordering::Relaxed);
        self.headroom() < cap / 4 || pages.saturating_sub(self.pages()) < pages / 4
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// Pages held now.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.pages.load(Ordering::Relaxed)
    }

    /// Bytes of the pages held now.
    pub(crate) fn page_bytes(&self) -> usize {
        self.pages() * self.page_size
    }

    /// The cap, asked after what is held has grown.
    fn cap_after(&self) -> usize {
        if model_bug!(CapAskedOnce) {
            return usize::MAX;
        }
        // Pairs with the fence in `set_max_bytes`. If that comes first, the lower cap is seen here,
        // and if this one does, what was just reserved is seen there.
        fence(Ordering::SeqCst);
        self.max_bytes.load(Ordering::Relaxed)
    }

    /// Changes the cap. What the caller sees held from here on has all in it that goes by the cap
    /// of before: who reserves later finds this one.
    pub(crate) fn set_max_bytes(&self, bytes: usize) {
        self.max_bytes.store(bytes, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn set_max_pages(&self, pages: usize) {
        self.max_pages.store(pages, Ordering::Relaxed);
    }
}

/// What a heap block of `bytes` costs a general-purpose allocator: 8 bytes of its own bookkeeping,
/// rounded to 16. Heap blocks are charged at this.
#[must_use]
pub const fn heap_cost(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16) }
}

/// The same for what an `Arc` holds, before which it puts two counts.
pub(crate) const fn shared_cost(bytes: usize) -> usize {
    heap_cost(bytes + 2 * size_of::<usize>())
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
mod tests {
    use super::*;

    #[test]
    fn caps_hold_and_releases_return() {
        let ledger = Ledger::new(4096, 10, 5 * 4096 + 100);
        assert_eq!(ledger.reserve_pages(8), 5);
        assert_eq!(ledger.reserve(101), Err(Refused));
        assert_eq!(ledger.reserve(100), Ok(()));
        assert_eq!(ledger.reserve_pages(1), 0);
        ledger.release(100);
        ledger.release_pages(5);
        assert_eq!((ledger.held(), ledger.pages()), (0, 0));
        assert_eq!(ledger.peak(), 5 * 4096 + 100);
    }

    #[test]
    fn what_is_lent_is_under_the_same_cap_and_comes_back_once() {
        let ledger = Ledger::new(4096, 10, 4096 + 100);
        assert_eq!(ledger.lend(100), Ok(()));
        assert_eq!(ledger.reserve_pages(2), 1);
        assert_eq!((ledger.lend(1), ledger.lend(0)), (Err(Refused), Ok(())));
        assert_eq!((ledger.take_back(60), ledger.lent()), (60, 40));
        assert_eq!((ledger.take_back(usize::MAX), ledger.lent()), (40, 0));
        assert_eq!((ledger.held(), ledger.page_bytes()), (4096, 4096));
    }

    #[test]
    fn tables_are_released_at_once_and_nothing_else_is() {
        let ledger = Ledger::new(4096, 10, 3 * 4096);
        assert_eq!(
            (ledger.reserve(500), ledger.reserve_own(70), ledger.lend(9)),
            (Ok(()), Ok(()), Ok(()))
        );
        assert_eq!((ledger.reserve_pages(1), ledger.reserve(1 << 20)), (1, Err(Refused)));
        ledger.release(100);
        ledger.make_own(40);
        assert_eq!((ledger.tables(), ledger.held()), (360, 4096 + 479));
        ledger.release_tables();
        assert_eq!((ledger.tables(), ledger.held()), (0, 4096 + 119));
    }

    #[test]
    fn a_sum_past_usize_is_refused() {
        let ledger = Ledger::new(4096, usize::MAX, usize::MAX);
        assert_eq!(ledger.reserve(usize::MAX), Ok(()));
        assert_eq!(ledger.reserve(1), Err(Refused));
    }

    #[test]
    fn page_cap_alone() {
        let ledger = Ledger::new(4096, 3, usize::MAX);
        assert_eq!(ledger.reserve_pages(2), 2);
        assert_eq!(ledger.reserve_pages(2), 1);
        assert_eq!(ledger.reserve_pages(2), 0);
    }
}
