//! Lines of words that many threads read and write at once.

use std::fmt;

use super::{Blank, Doubling, Sparse};
use crate::error::AllocError;
use crate::ledger::{Ledger, Loan};
use crate::sync::{Arc, AtomicU32, Counter, LINE, Ordering};

/// A table of cache lines of atomic words, which doubles and halves beside its readers: made by
/// [`Pool::lines`](crate::Pool::lines), for what stands beside [`Frames`](crate::Frames).
///
/// All words are 0 at first. What growing adds is memory of the system's, charged to the pool's
/// cap, that goes back when the table shrinks.
///
/// ```
/// use std::sync::atomic::Ordering::Relaxed;
/// use zpool::{Config, Pool};
///
/// let pool: Pool = Pool::new(Config::new())?;
/// let lines = pool.lines(64);
/// lines.get(63)[15].store(7, Relaxed);
/// lines.grow()?;
/// assert_eq!((lines.len(), lines.get(63)[15].load(Relaxed)), (128, 7));
/// assert!(lines.shrink() && !lines.shrink());
/// assert_eq!(lines.len(), 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Lines {
    table: Doubling<Line>,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
#[repr(align(64))]
struct Line([AtomicU32; LINE]);

// SAFETY: integers of any bits, without `Drop`.
unsafe impl Blank for Line {
    fn blank() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }

    fn wipe(&self) {
        self.0.iter().for_each(Blank::wipe);
    }
}

impl Lines {
    /// Words in a line.
    pub const WORDS: usize = LINE;

    pub(crate) fn new(lines: usize, ledger: Arc<Ledger>) -> Self {
        Self { table: Doubling::new(lines), ledger }
    }

    /// What `lines` lines take in bytes at first, which whoever makes them has to charge.
    #[must_use]
    pub const fn fixed_bytes(lines: usize) -> usize {
        Doubling::<Line>::first_bytes(lines)
    }

    /// Lines: a power of two.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.table.count()
    }

    /// The words of line `number`. One that [`shrink`](Self::shrink) took away can still be looked
    /// at. What is stored there may be lost, and may cost a page that nothing is charged for until
    /// the table has grown over it and shrunk again.
    ///
    /// # Panics
    /// There never was such a line.
    #[inline]
    #[must_use]
    pub fn get(&self, number: usize) -> &[AtomicU32; Self::WORDS] {
        &self.table.at(number).0
    }

    /// Doubles the lines. New ones are 0, or what they were when the table shrank if the system did
    /// not take their memory. Of threads that grow at once some may find that done.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`]: no room under the cap, or no further doubling.
    /// [`AllocError::NoMemory`]: no memory. Nothing has changed.
    pub fn grow(&self) -> Result<(), AllocError> {
        self.table.grow(&self.ledger)
    }

    /// Halves the lines; `false`: there are no more than at first.
    pub fn shrink(&self) -> bool {
        self.table.shrink(&self.ledger, |_| true)
    }

    /// What [`grow`](Self::grow) has added to [`fixed_bytes`](Self::fixed_bytes).
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.table.lent_bytes()
    }

    /// What the next doubling takes, or a few pages less.
    #[must_use]
    pub fn growth_bytes(&self) -> usize {
        self.table.next_bytes()
    }

    /// Gives back memory that the system did not take when the table shrank, as in a program that
    /// had locked its memory then.
    pub fn trim(&self) {
        self.table.trim(&self.ledger);
    }
}

/// Cache lines of atomic words by number, of which each is opened and closed on its own: made by
/// [`Pool::sparse_lines`](crate::Pool::sparse_lines).
///
/// A page of the system's holds 64 lines. It is charged to the pool's cap while one of them is
/// open, and goes back with the last. A line that is closed can still be looked at, if it was ever
/// open: it is all 0, or what it was where the system does not take its memory.
///
/// ```
/// use std::sync::atomic::Ordering::Relaxed;
/// use zpool::{Config, Pool};
///
/// let pool: Pool = Pool::new(Config::new())?;
/// let lines = pool.sparse_lines();
/// assert!(lines.get(1000).is_none());
/// lines.open(1000)?;
/// lines.get(1000).expect("open")[15].store(7, Relaxed);
/// let bytes = lines.bytes();
/// lines.close(1000);
/// assert!(lines.bytes() < bytes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SparseLines {
    lines: Sparse<Line>,
    lent: Counter,
    ledger: Arc<Ledger>,
}

impl SparseLines {
    /// Words in a line.
    pub const WORDS: usize = LINE;

    pub(crate) fn new(ledger: Arc<Ledger>) -> Self {
        Self { lines: Sparse::new(), lent: Counter::new(0), ledger }
    }

    fn loan(&self) -> Loan<'_> {
        Loan { ledger: &self.ledger, lent: &self.lent }
    }

    /// The words of line `number`; `None`, if neither it nor one behind it or near it was ever
    /// open.
    #[inline]
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&[AtomicU32; Self::WORDS]> {
        self.lines.get(number).map(|line| &line.0)
    }

    /// Memory for line `number`, which is not open. It may hold what it held when it was closed.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`] where the cap does not allow it, [`AllocError::NoMemory`] where
    /// the heap or the system has no memory. The line is not open.
    pub fn open(&self, number: u32) -> Result<(), AllocError> {
        let page = self.lines.page_of(number as usize);
        self.lines.open(page..page + 1, number as usize + 1, &self.loan())
    }

    /// Line `number`, which is open, is needed no more.
    ///
    /// # Panics
    /// With a page none of whose lines is open.
    pub fn close(&self, number: u32) {
        let page = self.lines.page_of(number as usize);
        self.lines.close(page..page + 1, &self.loan());
    }

    /// What all of it is charged for.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }

    /// What opening a line takes at the most, beside what counts pages.
    #[must_use]
    pub fn open_bytes() -> usize {
        super::page_bytes()
    }

    /// Gives back memory that the system did not take when lines were closed.
    pub fn trim(&self) {
        self.lines.trim(&self.loan());
    }
}

impl Drop for SparseLines {
    fn drop(&mut self) {
        // Sources and caps may be there longer; the memory goes with `lines` in a moment.
        self.ledger.take_back(self.bytes());
    }
}

impl fmt::Debug for SparseLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SparseLines({:?})", self.lines)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.table.end(&self.ledger);
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("lines", &self.len()).finish_non_exhaustive()
    }
}
