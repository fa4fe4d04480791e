//! Budgets: in bytes, or as a part of what all pages take compressed.

use std::str::FromStr;

use benches::arguments::{bytes, percent};

/// A dictionary is at most this part of the budget, and no longer than this.
const DICTIONARY: (u64, usize) = (128, 64 << 10);

/// What a cache may take: `16MiB`, or `25%` of the LZ4 size of all pages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Budget {
    Bytes(u64),
    Percent(f64),
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix('%') {
            Some(number) => percent(number).map(Self::Percent),
            None => bytes(text).map(Self::Bytes),
        }
    }
}

impl Budget {
    /// In bytes, where all pages take `lz4_bytes`.
    pub(crate) fn of(self, lz4_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => percent_of(lz4_bytes, percent),
        }
    }
}

/// The budget that is a percentage of what all pages take.
pub(crate) fn percent_of(lz4_bytes: u64, percent: f64) -> u64 {
    (lz4_bytes as f64 * percent / 100.0) as u64
}

/// How long a dictionary may be that counts in a budget.
pub(crate) fn dictionary_bytes(budget: u64) -> usize {
    ((budget / DICTIONARY.0) as usize).clamp(1024, DICTIONARY.1)
}
