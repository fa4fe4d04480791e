//! Times of single operations, and how they are told.

use hdrhistogram::Histogram;

/// The longest time that is told from longer ones, in nanoseconds.
const LONGEST: u64 = 100_000_000_000;

/// An empty histogram of nanoseconds, to a part in a hundred.
///
/// # Panics
/// Never: the bounds fit.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 2).expect("bounds that fit")
}
