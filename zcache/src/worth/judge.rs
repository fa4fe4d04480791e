//! What a judgement starts from: how the cache stands, and what earlier judgements left.

use super::account::{Counts, Estimate, Flow, MINIATURES};

/// What a decoding is taken to cost as long as none was timed, in nanoseconds.
pub(super) const ASSUMED_DECODE: u64 = 1000;

/// How things stand when it is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) capacity: usize,
    /// The most bytes that frames can have.
    pub(crate) most: usize,
    /// Bytes of a frame.
    pub(crate) frame: usize,
    /// Bytes of an entry, what stands beside it among them.
    pub(crate) entry: usize,
    /// Entries, their bytes, and bytes of the capacity that nothing has.
    pub(crate) entries: usize,
    pub(crate) packed: usize,
    pub(crate) free: usize,
    /// Nanoseconds of an insert up to where its page is compressed.
    pub(crate) encode: u64,
    pub(crate) counts: Counts,
}

/// What the last judgements came to.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// What happened of late.
    pub(super) flow: Flow,
    /// Nanoseconds of a decoding of late.
    pub(super) decode: Option<f64>,
    /// Whether the cache was full once.
    pub(super) full: bool,
    /// Frames and entries that had gone at the last judgement, and what was counted up to it.
    pub(super) goings: u64,
    pub(super) seen: Seen,
    /// What each codec would cost, by the last judgement.
    pub(super) estimate: Option<Estimate>,
    pub(super) wait: Wait,
    /// Nanoseconds that another byte saved of late: of frames, and of entries.
    pub(super) worth: [f64; 2],
}

/// What was counted up to some judgement.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) frame_returns: u64,
    pub(super) missed: [u64; MINIATURES],
    pub(super) counts: Counts,
}

/// How long a choice of the codec stays, in replacements of all entries.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wait {
    pub(super) now: f64,
    /// After the next change.
    pub(super) next: f64,
    /// Nanoseconds of a miss at the last change.
    pub(super) miss: f64,
}

impl Judge {
    /// Nanoseconds of a decoding.
    pub(super) fn decoding(&self) -> f64 {
        self.decode.unwrap_or(ASSUMED_DECODE as f64)
    }
}
