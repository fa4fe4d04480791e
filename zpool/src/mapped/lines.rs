//! Lines of words that many threads read and write at once.

use std::fmt;

use super::{Blank, Doubling};
use crate::error::AllocError;
use crate::ledger::Ledger;
use crate::sync::{Arc, AtomicU32, LINE};

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

    /// The words of line `number`. One that [`shrink`](Self::shrink) took away can still be looked at.
    /// What is stored there may be lost, and may cost a page that nothing is charged for until the
    /// table has grown over it and shrunk again.
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
