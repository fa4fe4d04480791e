//! Operations on a cache, as data: made by proptest strategies, or out of a fuzzer's bytes.
//!
//! As in [`ops`](crate::ops), numbers are raw and mean something on every cache.

use crate::pattern::{self, Random};

/// A page, as a kind and a raw length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSpec {
    /// What the page is filled with.
    pub kind: u8,
    /// Its length, raw.
    pub len: u16,
    /// What tells it from others of its kind and length.
    pub seed: u16,
}

impl PageSpec {
    /// The page, in a cache of pages of at most `max_page` bytes; now and then it is longer.
    #[must_use]
    pub fn page(self, max_page: usize) -> Vec<u8> {
        let raw = usize::from(self.len);
        let len = match raw & 15 {
            0 => raw >> 4 & 15,
            1..=8 => 4096.min(max_page),
            9..=12 => raw % (max_page + 1),
            13 => max_page,
            14 => max_page - raw % 17.min(max_page),
            _ => max_page + raw % 3,
        };
        let mut random = Random::new(u64::from(self.seed) << 20 | u64::from(self.kind));
        let mut page = vec![0; len];
        match self.kind % 8 {
            0 => {}
            1 => page.fill(self.seed as u8),
            2 => {
                let word = random.bits().to_le_bytes();
                page.iter_mut().zip(word.iter().cycle()).for_each(|(byte, of)| *byte = *of);
            }
            3 => pattern::fill(random.bits(), &mut page),
            // Half random, half not.
            4 => pattern::fill(random.bits(), &mut page[..len / 2]),
            // Few values in runs, as in the pages of a database.
            5 => {
                let mut at = 0;
                while at < len {
                    let run = (random.below(60) + 1).min(len - at);
                    page[at..at + run].fill(random.below(12) as u8);
                    at += run;
                }
            }
            6 => pattern::words(1, random.bits(), &mut page),
            // Same-filled but for the last byte.
            _ => {
                if let Some(last) = page.last_mut() {
                    *last = self.seed as u8 | 1;
                }
            }
        }
        page
    }
}

/// How a loader ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadEnd {
    /// With a page.
    Page,
    /// With an error.
    Error,
    /// With a panic.
    Panic,
    /// It asks for its own key, and then gives a page.
    Recursive,
    /// It removes its own key, and then gives a page.
    Removes,
}

/// One operation. A key is a small number; there are 64 of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheOp {
    /// `insert`.
    Insert(u8, PageSpec),
    /// `insert_with_options` or, with 32, `insert_if_absent_with_options`: a priority, with 128 the
    /// hint of a scan, and a time to live of nothing or of hours.
    InsertWith(u8, PageSpec, u8),
    /// `get`, `get_into`, `read`, `peek`, `get_range_into`, `get_many_into` or `contains_key`.
    Read(u8, u8),
    /// `get_range`.
    Range(u8, u16, u16),
    /// `remove`, or from 128 on `remove_if`.
    Remove(u8),
    /// `take`.
    Take(u8),
    /// `get_or_lease` and `insert_if_valid`; in between, with 1 `insert`, 2 `remove`, 3 `clear`.
    Lease(u8, PageSpec, u8),
    /// `get_or_insert_with`.
    Load(u8, PageSpec, LoadEnd),
    /// `insert_many`, `insert_from` and `get_many` from this key on.
    Many(u8, PageSpec),
    /// `retain` the keys whose bit is set.
    Retain(u64),
    /// `clear`.
    Clear,
    /// `keys` and `for_each`.
    Keys,
    /// `resize` to so many percent of the first capacity.
    Resize(u8),
    /// `compact`.
    Compact(u16),
    /// `maintain`.
    Maintain(u16),
    /// `trim`.
    Trim,
    /// The next hook call panics, or calls the cache.
    Hook(bool),
}

/// Numbers out of a fuzzer's bytes: zeros when they run out.
struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    fn page(&mut self) -> PageSpec {
        PageSpec { kind: self.u8(), len: self.u16(), seed: self.u16() }
    }

    fn op(&mut self) -> CacheOp {
        match self.u8() % 32 {
            0..=8 => CacheOp::Insert(self.u8(), self.page()),
            9 | 10 => CacheOp::InsertWith(self.u8(), self.page(), self.u8()),
            11..=15 => CacheOp::Read(self.u8(), self.u8()),
            16 => CacheOp::Range(self.u8(), self.u16(), self.u16()),
            17 => CacheOp::Remove(self.u8()),
            18 => CacheOp::Take(self.u8()),
            19 | 20 => CacheOp::Lease(self.u8(), self.page(), self.u8()),
            21 | 22 => CacheOp::Load(self.u8(), self.page(), self.load()),
            23 => CacheOp::Many(self.u8(), self.page()),
            24 => CacheOp::Retain(u64::from_le_bytes(std::array::from_fn(|_| self.u8()))),
            25 => CacheOp::Clear,
            26 => CacheOp::Keys,
            27 => CacheOp::Resize(self.u8()),
            28 => CacheOp::Maintain(self.u16()),
            29 => CacheOp::Compact(self.u16()),
            30 => CacheOp::Trim,
            _ => CacheOp::Hook(self.u8() % 2 == 0),
        }
    }

    fn load(&mut self) -> LoadEnd {
        match self.u8() % 8 {
            0..=3 => LoadEnd::Page,
            4 => LoadEnd::Error,
            5 => LoadEnd::Panic,
            6 => LoadEnd::Recursive,
            _ => LoadEnd::Removes,
        }
    }
}

impl CacheOp {
    /// The operations that a fuzzer's bytes stand for.
    pub fn from_bytes(mut bytes: &[u8]) -> impl Iterator<Item = Self> + '_ {
        std::iter::from_fn(move || Self::take(&mut bytes))
    }

    /// The first of them, which is taken off the bytes.
    pub fn take(bytes: &mut &[u8]) -> Option<Self> {
        let mut rest = Bytes(bytes);
        let op = (!bytes.is_empty()).then(|| rest.op())?;
        *bytes = rest.0;
        Some(op)
    }
}
