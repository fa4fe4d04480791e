//! What [`maintain`](crate::Cache::maintain) counts.

use crate::sync::{Counter, get};

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) tried: Counter,
    pub(crate) recompressed: Counter,
    pub(crate) bytes_saved: Counter,
    pub(crate) adopted: Counter,
    pub(crate) rejected: Counter,
    pub(crate) failed: Counter,
    pub(crate) dropped: Counter,
}

/// Cold entries that were compressed again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Recompression {
    /// Entries that the stronger codec was tried on.
    pub tried: u64,
    /// Of these, those that now take a smaller slot.
    pub recompressed: u64,
    /// Bytes of slots that this saved, whatever came of the entries later.
    pub bytes_saved: u64,
}

/// Dictionaries that were trained on inserted pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct DictionaryCounts {
    /// Dictionaries there are: the one in use, and earlier ones of which entries are left.
    pub held: usize,
    /// Dictionaries that were put to use.
    pub adopted: u64,
    /// Dictionaries that were no gain on held-out pages.
    pub rejected: u64,
    /// Samples that no dictionary could be trained on.
    pub failed: u64,
    /// Dictionaries that were dropped, with the last entry that needed them.
    pub dropped: u64,
}

impl Counts {
    pub(super) fn recompression(&self) -> Recompression {
        Recompression {
            tried: get(&self.tried),
            recompressed: get(&self.recompressed),
            bytes_saved: get(&self.bytes_saved),
        }
    }

    /// But for how many there are.
    pub(super) fn dictionaries(&self) -> DictionaryCounts {
        DictionaryCounts {
            held: 0,
            adopted: get(&self.adopted),
            rejected: get(&self.rejected),
            failed: get(&self.failed),
            dropped: get(&self.dropped),
        }
    }
}
