//! Statistics: the snapshot that a user gets of what a cache counts as it goes.

use std::time::Duration;

mod balance;
mod candidate;
mod counters;
mod maintenance;
#[cfg(feature = "metrics")]
mod publish;
mod since;
mod table;
#[cfg(feature = "serde")]
mod times;

pub use balance::Balance;
pub use candidate::Candidate;
pub(crate) use counters::Counters;
pub use maintenance::{DictionaryCounts, Recompression};

/// Why an entry went.
#[doc(alias = "Event")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum RemovalCause {
    /// Room was needed.
    Evicted,
    /// Its time to live was over.
    Expired,
    /// The key was inserted again, or that failed: never stale.
    Replaced,
    /// `remove`, `take` or `retain`.
    Removed,
    /// `clear`, of the cache or of its [scope](crate::Scope).
    Cleared,
    /// Its payload did not decode, or failed its checksum.
    Corrupt,
}

impl RemovalCause {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Evicted, Self::Expired, Self::Replaced, Self::Removed, Self::Cleared, Self::Corrupt];
}

/// Times of a part of all operations of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Timing {
    /// Operations that were timed: one in 64.
    pub samples: u64,
    /// What they took together.
    #[cfg_attr(feature = "serde", serde(rename = "total_nanoseconds", with = "times"))]
    pub total: Duration,
}

impl Timing {
    /// What one took on average; 0 without samples.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let nanoseconds = self.total.as_nanos() / u128::from(self.samples.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// Where the bytes are. `held` is the sum of `pages`, `frames`, `waiting`, `metadata`, `keys`,
/// `index`, `policy`, `codec`, `sample` and `fixed`, give or take what other threads change
/// meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ByteCounts {
    /// The cap.
    pub capacity: usize,
    /// Held now, everything counted.
    pub held: usize,
    /// The pages that the entries stand for, before compression.
    pub uncompressed: usize,
    /// Objects of all entries: payloads, checksums, expiries.
    pub payload: usize,
    /// Objects of entries that are gone and still in a reader's hands, and of entries on their way
    /// in.
    pub pinned: usize,
    /// Pages of the pool, frames apart.
    pub pages: usize,
    /// Frames.
    pub frames: usize,
    /// Frames that went while somebody read them, and are not gone yet.
    pub waiting: usize,
    /// The pool's tables: words, records with their keys, lengths, owners, zspages.
    pub metadata: usize,
    /// What keys point to, by [`weigh_keys`](crate::Cache::weigh_keys).
    pub keys: usize,
    /// Tables of the index.
    pub index: usize,
    /// Queues and ghosts of the policy.
    pub policy: usize,
    /// Buffers and contexts that compressions and decodings work with, those in use just now apart,
    /// and dictionaries that were trained here.
    pub codec: usize,
    /// Pages that were copied to train a dictionary on.
    pub sample: usize,
    /// What stands beside all these whatever the cache holds: shards, counters, and 1/320
    /// of the capacity for what the general-purpose allocator keeps of tables that have grown.
    pub fixed: usize,
}

/// Inserts that stored nothing, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Rejected {
    /// Pages longer than `max_page`.
    pub too_large: u64,
    /// No room could be made.
    pub no_room: u64,
    /// The system gave no memory, though the capacity had room.
    pub no_memory: u64,
    /// The lease was outdated.
    pub outdated: u64,
    /// Of those too large or without room, inserts whose key had a page, which is gone now.
    pub dropped: u64,
}

/// Entries that went, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RemovalCounts {
    /// See [`RemovalCause::Evicted`].
    pub evicted: u64,
    /// See [`RemovalCause::Expired`].
    pub expired: u64,
    /// See [`RemovalCause::Replaced`].
    pub replaced: u64,
    /// See [`RemovalCause::Removed`].
    pub removed: u64,
    /// See [`RemovalCause::Cleared`].
    pub cleared: u64,
    /// See [`RemovalCause::Corrupt`].
    pub corrupt: u64,
}

/// Objects of about one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct StoredSize {
    /// Bytes of the largest slot of this size.
    pub up_to_bytes: usize,
    /// Objects in such slots.
    pub objects: usize,
}

/// What the other figures of a snapshot come to, for those who read it elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Ratios {
    /// See [`Stats::hit_ratio`].
    pub hit: f64,
    /// See [`Stats::compression_ratio`]. `None`: all pages are same-filled.
    pub compression: Option<f64>,
    /// See [`Stats::effective_ratio`].
    pub effective: f64,
}

/// A snapshot of a cache. Counts since it was made; numbers are exact when no other thread uses the
/// cache meanwhile. Prints as a table.
///
/// With the feature `serde` it is written and read. Times are then numbers of nanoseconds, and
/// their names end so: `decode.total_nanoseconds`.
#[doc(alias = "metrics")]
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Stats {
    /// The codec's name.
    pub codec: String,
    /// The name of the stronger codec for cold entries; empty without one.
    pub cold_codec: String,
    /// The policy's name.
    pub policy: String,
    /// Look-ups that found a page.
    pub hits: u64,
    /// Of these, those that found it decoded.
    pub hot_hits: u64,
    /// Look-ups that found none.
    pub misses: u64,
    /// Pages stored.
    pub inserts: u64,
    /// Pages not stored.
    pub rejected: Rejected,
    /// Entries that went.
    pub removals: RemovalCounts,
    /// Look-ups that found a page and no memory to decode it with; counted as misses too.
    pub unreadable: u64,
    /// Loaders run by `get_or_insert_with`.
    pub loads: u64,
    /// Of these, how many failed or panicked.
    pub load_failures: u64,
    /// Entries.
    pub entries: usize,
    /// Of these, of scopes that have ended: they are misses, and go when room is needed.
    pub ended: usize,
    /// Of the entries, same-filled: no bytes stored.
    pub same_filled: usize,
    /// Of the entries, stored as they are.
    pub raw: usize,
    /// Entries that have a frame: their pages are there decoded as well.
    pub frames: usize,
    /// Why hot pages have the share they have; for [`HotShare::Auto`](crate::HotShare::Auto) only.
    pub balance: Option<Balance>,
    /// What is known of each codec, if the cache [finds its own](crate::Config::auto_codec).
    pub candidates: Vec<Candidate>,
    /// How often the codec was changed.
    pub codec_changes: u64,
    /// Frames made.
    pub promotions: u64,
    /// Frames that went for others, or where room was needed; their entries stayed.
    pub demotions: u64,
    /// Entries compressed again.
    pub recompression: Recompression,
    /// Dictionaries that were trained here.
    pub dictionaries: DictionaryCounts,
    /// Where the bytes are.
    pub bytes: ByteCounts,
    /// How many objects have slots of which size, in quarters of octaves, smallest first. Sizes
    /// that nothing is stored in are left out.
    pub stored_sizes: Vec<StoredSize>,
    /// Decodings.
    pub decode: Timing,
    /// Inserts up to where the page is compressed.
    pub encode: Timing,
    /// Hits of look-ups, and bytes of pages by bytes that they take.
    pub ratios: Ratios,
}

impl Stats {
    /// Bytes of pages per byte of payload: what the codec alone achieves; 1 for an empty cache,
    /// infinite for one whose pages are all same-filled.
    #[must_use]
    pub fn compression_ratio(&self) -> f64 {
        if self.bytes.payload == 0 {
            return if self.bytes.uncompressed == 0 { 1.0 } else { f64::INFINITY };
        }
        self.bytes.uncompressed as f64 / self.bytes.payload as f64
    }

    /// Bytes of pages per byte held: what the cache achieves.
    #[must_use]
    pub fn effective_ratio(&self) -> f64 {
        self.bytes.uncompressed as f64 / self.bytes.held.max(1) as f64
    }

    /// Hits by look-ups; 0 without any.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }

    /// The ratios of the other figures.
    pub(crate) fn ratios_now(&self) -> Ratios {
        Ratios {
            hit: self.hit_ratio(),
            compression: Some(self.compression_ratio()).filter(|ratio| ratio.is_finite()),
            effective: self.effective_ratio(),
        }
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_empty_cache_has_figures_too() {
        let stats = Stats::default();
        assert_eq!((stats.hit_ratio(), stats.compression_ratio()), (0.0, 1.0));
        assert!(stats.to_string().contains("0 hits"));
        assert_eq!(stats.decode.mean(), Duration::ZERO);
    }
}
