//! Statistics: what a cache counts as it goes, and the snapshot that a user gets.

use std::ops::Deref;
use std::time::{Duration, Instant};

use zpool::PoolStats;

use crate::record::{Form, State};
use crate::sync::{Apart, Counter, Ordering, thread_number};

mod balance;
mod maintenance;
mod table;

pub use balance::Balance;
pub use maintenance::{Recompression, Trainings};

/// One in this many hits and inserts is timed.
const SAMPLED: u64 = 64;
/// What took so many means was interrupted.
const CALM: u64 = 8;
/// And the first one, in nanoseconds.
const FIRST: u64 = 100_000;

/// What hits write: a thread has a stripe to itself as long as there are no more threads than stripes,
/// so that counting a hit moves no cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    hits: Counter,
    hot_hits: Counter,
    misses: Counter,
    decode: Times,
}

/// Times of the sampled ones of many operations.
#[derive(Debug, Default)]
struct Times {
    samples: Counter,
    nanoseconds: Counter,
    /// The same without interruptions: no more than a few means of each.
    calm: Counter,
}

/// The start of an operation that `count` counts, if it is one that is sampled.
#[inline]
fn start(count: &Counter) -> Option<Instant> {
    (count.load(Ordering::Relaxed) % SAMPLED == 0).then(Instant::now)
}

impl Times {
    #[inline]
    fn end(&self, start: Option<Instant>) {
        if let Some(start) = start {
            let passed = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            add(&self.nanoseconds, passed);
            let mean = get(&self.calm).checked_div(get(&self.samples)).filter(|mean| *mean > 0);
            add(&self.calm, passed.min(mean.map_or(FIRST, |mean| CALM * mean)));
            add(&self.samples, 1);
        }
    }
}

#[inline]
pub(crate) fn add(counter: &Counter, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn sub(counter: &Counter, amount: u64) {
    counter.fetch_sub(amount, Ordering::Relaxed);
}

pub(crate) fn get(counter: &Counter) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[derive(Debug)]
pub(crate) struct Counters {
    stripes: Box<[Stripe]>,
    /// What hits do not touch, apart from what they do.
    rest: Apart<Rest>,
}

/// A decoding that has started.
pub(crate) struct Decoding<'c> {
    stripe: &'c Stripe,
    start: Option<Instant>,
}

impl Decoding<'_> {
    #[inline]
    pub(crate) fn hit(self) {
        self.stripe.decode.end(self.start);
        add(&self.stripe.hits, 1);
    }

    pub(crate) fn miss(self) {
        add(&self.stripe.misses, 1);
    }
}

/// What inserts and removals count.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    encode: Times,
    pub(crate) inserts: Counter,
    pub(crate) too_large: Counter,
    pub(crate) no_room: Counter,
    pub(crate) outdated: Counter,
    pub(crate) unreadable: Counter,
    pub(crate) loads: Counter,
    pub(crate) load_failures: Counter,
    pub(crate) ended: [Counter; Cause::ALL.len()],
    entries: Counter,
    same_filled: Counter,
    raw: Counter,
    page_bytes: Counter,
    stored_bytes: Counter,
    pub(crate) maintenance: maintenance::Counts,
}

/// Why an entry went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Cause {
    /// Room was needed.
    Evicted,
    /// Its time to live was over.
    Expired,
    /// The key was inserted again, or that failed: never stale.
    Replaced,
    /// `remove`, `take` or `retain`.
    Removed,
    /// `clear`.
    Cleared,
    /// Its payload did not decode, or failed its checksum.
    Corrupt,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Evicted, Self::Expired, Self::Replaced, Self::Removed, Self::Cleared, Self::Corrupt];
}

impl Deref for Counters {
    type Target = Rest;

    #[inline]
    fn deref(&self) -> &Rest {
        &self.rest
    }
}

impl Counters {
    /// Counters for `threads` threads at once, a power of two.
    pub(crate) fn new(threads: usize) -> Self {
        let stripes = (0..threads).map(|_| Stripe::default()).collect();
        Self { stripes, rest: Apart::default() }
    }

    pub(crate) fn fixed_bytes(threads: usize) -> usize {
        zpool::source::heap_cost(threads * size_of::<Stripe>() + 128)
    }

    #[inline]
    fn stripe(&self) -> &Stripe {
        &self.stripes[thread_number() & (self.stripes.len() - 1)]
    }

    /// A decoding starts.
    #[inline]
    pub(crate) fn decoding(&self) -> Decoding<'_> {
        let stripe = self.stripe();
        Decoding { stripe, start: start(&stripe.hits) }
    }

    /// A hit on a decoded page.
    #[inline]
    pub(crate) fn hot_hit(&self) {
        add(&self.stripe().hot_hits, 1);
    }

    pub(crate) fn miss(&self) {
        add(&self.stripe().misses, 1);
    }

    /// A compression starts.
    pub(crate) fn encoding(&self) -> Option<Instant> {
        start(&self.inserts)
    }

    pub(crate) fn encoded(&self, start: Option<Instant>) {
        self.encode.end(start);
    }

    /// An entry is on its way in, its object `stored` bytes long.
    pub(crate) fn entered(&self, state: State, stored: usize) {
        add(&self.entries, 1);
        add(&self.page_bytes, state.len() as u64);
        add(&self.stored_bytes, stored as u64);
        match state.form() {
            Form::Raw => add(&self.raw, 1),
            Form::Filled(_) => add(&self.same_filled, 1),
            Form::Coded(_) => {}
        }
    }

    /// An entry is gone.
    pub(crate) fn left(&self, state: State, stored: usize, cause: Cause) {
        self.withdrawn(state, stored);
        add(&self.ended[cause as usize], 1);
    }

    /// An entry went before it was there.
    pub(crate) fn withdrawn(&self, state: State, stored: usize) {
        sub(&self.entries, 1);
        sub(&self.page_bytes, state.len() as u64);
        sub(&self.stored_bytes, stored as u64);
        match state.form() {
            Form::Raw => sub(&self.raw, 1),
            Form::Filled(_) => sub(&self.same_filled, 1),
            Form::Coded(_) => {}
        }
    }

    pub(crate) fn entries(&self) -> usize {
        get(&self.entries) as usize
    }

    /// The mean of the decodings that were timed, in nanoseconds, interruptions left out.
    pub(crate) fn decode_nanoseconds(&self) -> Option<u64> {
        let sum = |of: fn(&Times) -> &Counter| -> u64 {
            self.stripes.iter().map(|stripe| get(of(&stripe.decode))).sum()
        };
        sum(|times| &times.calm).checked_div(sum(|times| &times.samples))
    }
}

/// Times of a part of all operations of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Sampled {
    /// Operations that were timed: one in 64.
    pub samples: u64,
    /// What they took together.
    pub total: Duration,
}

impl Sampled {
    /// What one took on average; 0 without samples.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let nanoseconds = self.total.as_nanos() / u128::from(self.samples.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// Where the bytes are. `held` is the sum of `pages`, `frames`, `waiting`, `metadata`, `index`, `policy`, `codec`, `sample`
/// and `fixed`, give or take what other threads change meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
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
    /// Objects of entries that are gone and still in a reader's hands, and of entries on their way in.
    pub pinned: usize,
    /// Pages of the pool, frames apart.
    pub pages: usize,
    /// Frames.
    pub frames: usize,
    /// Frames that went while somebody read them, and are not gone yet.
    pub waiting: usize,
    /// The pool's tables: words, records with their keys, lengths, owners, zspages.
    pub metadata: usize,
    /// Tables of the index.
    pub index: usize,
    /// Queues and ghosts of the policy.
    pub policy: usize,
    /// Buffers and contexts that compressions and decodings work with, those in use just now apart, and dictionaries that
    /// were trained here.
    pub codec: usize,
    /// Pages that were copied to train a dictionary on.
    pub sample: usize,
    /// What stands beside all these whatever the cache holds: shards, versions, counters, and 1/320 of the
    /// capacity for what the general-purpose allocator keeps of tables that have grown.
    pub fixed: usize,
}

/// Inserts that stored nothing, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Rejected {
    /// Pages longer than `max_page`.
    pub too_large: u64,
    /// No room could be made.
    pub no_room: u64,
    /// The lease was outdated.
    pub outdated: u64,
}

/// Entries that went, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Gone {
    /// See [`Cause::Evicted`].
    pub evicted: u64,
    /// See [`Cause::Expired`].
    pub expired: u64,
    /// See [`Cause::Replaced`].
    pub replaced: u64,
    /// See [`Cause::Removed`].
    pub removed: u64,
    /// See [`Cause::Cleared`].
    pub cleared: u64,
    /// See [`Cause::Corrupt`].
    pub corrupt: u64,
}

/// A snapshot of a cache. Counts since it was made; numbers are exact when no other thread uses the
/// cache meanwhile. Prints as a table.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
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
    pub gone: Gone,
    /// Look-ups that found a page and no memory to decode it with; counted as misses too.
    pub unreadable: u64,
    /// Loaders run by `get_or_insert_with`.
    pub loads: u64,
    /// Of these, how many failed or panicked.
    pub load_failures: u64,
    /// Entries.
    pub entries: usize,
    /// Of these, same-filled: no bytes stored.
    pub same_filled: usize,
    /// Of these, stored as they are.
    pub raw: usize,
    /// Entries that have a frame: their pages are there decoded as well.
    pub frames: usize,
    /// Why hot pages have the share they have, if that is [`Share::Auto`](crate::Share::Auto).
    pub balance: Option<Balance>,
    /// Frames made.
    pub promotions: u64,
    /// Frames that went for others, or where room was needed; their entries stayed.
    pub demotions: u64,
    /// Entries compressed again.
    pub recompression: Recompression,
    /// Dictionaries that were trained here.
    pub trainings: Trainings,
    /// Where the bytes are.
    pub bytes: ByteCounts,
    /// Bytes of a slot, and how many objects have such a one: the stored sizes, in quarters of octaves,
    /// smallest first; those that nothing is stored in are left out.
    pub stored_sizes: Vec<(usize, usize)>,
    /// Decodings.
    pub decode: Sampled,
    /// Inserts up to where the page is compressed.
    pub encode: Sampled,
}

impl Stats {
    /// Bytes of pages per byte of payload: what the codec alone achieves; 1 for an empty cache, infinite for
    /// one whose pages are all same-filled.
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

    /// A snapshot of what is counted here; the rest is filled in by who knows it.
    pub(crate) fn of(counters: &Counters, pool: &PoolStats) -> Self {
        let sum = |of: fn(&Stripe) -> &Counter| counters.stripes.iter().map(|s| get(of(s))).sum();
        let ended = |cause: Cause| get(&counters.ended[cause as usize]);
        let stored = get(&counters.stored_bytes) as usize;
        Self {
            hits: sum(|stripe| &stripe.hits) + sum(|stripe| &stripe.hot_hits),
            hot_hits: sum(|stripe| &stripe.hot_hits),
            misses: sum(|stripe| &stripe.misses),
            inserts: get(&counters.inserts),
            rejected: Rejected {
                too_large: get(&counters.too_large),
                no_room: get(&counters.no_room),
                outdated: get(&counters.outdated),
            },
            gone: Gone {
                evicted: ended(Cause::Evicted),
                expired: ended(Cause::Expired),
                replaced: ended(Cause::Replaced),
                removed: ended(Cause::Removed),
                cleared: ended(Cause::Cleared),
                corrupt: ended(Cause::Corrupt),
            },
            unreadable: get(&counters.unreadable),
            loads: get(&counters.loads),
            load_failures: get(&counters.load_failures),
            entries: counters.entries(),
            same_filled: get(&counters.same_filled) as usize,
            raw: get(&counters.raw) as usize,
            recompression: counters.maintenance.recompression(),
            trainings: counters.maintenance.trainings(),
            bytes: ByteCounts {
                uncompressed: get(&counters.page_bytes) as usize,
                payload: stored,
                pinned: pool.payload_bytes.saturating_sub(stored),
                pages: pool.page_bytes.saturating_sub(pool.pages_framed * pool.page_size),
                metadata: pool.metadata_bytes,
                ..ByteCounts::default()
            },
            stored_sizes: stored_sizes(pool),
            decode: Sampled {
                samples: sum(|stripe| &stripe.decode.samples),
                total: Duration::from_nanos(sum(|stripe| &stripe.decode.nanoseconds)),
            },
            encode: Sampled {
                samples: get(&counters.encode.samples),
                total: Duration::from_nanos(get(&counters.encode.nanoseconds)),
            },
            ..Self::default()
        }
    }

    /// Hands every figure to the [`metrics`] facade, as `zcache_...` with a label `cache`: counts as
    /// absolute counters, the others as gauges. Call it as often as your exporter reads.
    #[cfg(feature = "metrics")]
    pub fn publish(&self, cache: &'static str) {
        let gone = &self.gone;
        let counters = [
            ("zcache_hits", self.hits),
            ("zcache_hot_hits", self.hot_hits),
            ("zcache_misses", self.misses),
            ("zcache_inserts", self.inserts),
            ("zcache_rejected_too_large", self.rejected.too_large),
            ("zcache_rejected_no_room", self.rejected.no_room),
            ("zcache_rejected_outdated", self.rejected.outdated),
            ("zcache_evicted", gone.evicted),
            ("zcache_expired", gone.expired),
            ("zcache_replaced", gone.replaced),
            ("zcache_removed", gone.removed),
            ("zcache_cleared", gone.cleared),
            ("zcache_corrupt", gone.corrupt),
            ("zcache_unreadable", self.unreadable),
            ("zcache_loads", self.loads),
            ("zcache_load_failures", self.load_failures),
            ("zcache_promotions", self.promotions),
            ("zcache_demotions", self.demotions),
        ];
        let (recompression, trainings) = (&self.recompression, &self.trainings);
        let maintained = [
            ("zcache_recompressions_tried", recompression.tried),
            ("zcache_recompressed", recompression.recompressed),
            ("zcache_recompression_saved_bytes", recompression.bytes_saved),
            ("zcache_dictionaries_adopted", trainings.adopted),
            ("zcache_dictionaries_rejected", trainings.rejected),
            ("zcache_dictionaries_dropped", trainings.dropped),
            ("zcache_trainings_failed", trainings.failed),
        ];
        for (name, count) in counters.into_iter().chain(maintained) {
            metrics::counter!(name, "cache" => cache).absolute(count);
        }
        let bytes = &self.bytes;
        let gauges = [
            ("zcache_entries", self.entries as f64),
            ("zcache_same_filled", self.same_filled as f64),
            ("zcache_raw", self.raw as f64),
            ("zcache_frames", self.frames as f64),
            ("zcache_dictionaries", trainings.dictionaries as f64),
            ("zcache_capacity_bytes", bytes.capacity as f64),
            ("zcache_held_bytes", bytes.held as f64),
            ("zcache_uncompressed_bytes", bytes.uncompressed as f64),
            ("zcache_payload_bytes", bytes.payload as f64),
            ("zcache_pinned_bytes", bytes.pinned as f64),
            ("zcache_pages_bytes", bytes.pages as f64),
            ("zcache_frames_bytes", bytes.frames as f64),
            ("zcache_waiting_bytes", bytes.waiting as f64),
            ("zcache_metadata_bytes", bytes.metadata as f64),
            ("zcache_index_bytes", bytes.index as f64),
            ("zcache_policy_bytes", bytes.policy as f64),
            ("zcache_codec_bytes", bytes.codec as f64),
            ("zcache_sample_bytes", bytes.sample as f64),
            ("zcache_decode_mean_seconds", self.decode.mean().as_secs_f64()),
            ("zcache_encode_mean_seconds", self.encode.mean().as_secs_f64()),
        ];
        let balanced = self.balance.as_ref().map(|balance| {
            [
                ("zcache_frames_limit_bytes", balance.limit as f64),
                ("zcache_frames_worth_seconds", balance.frame_worth.as_secs_f64()),
                ("zcache_entries_worth_seconds", balance.entry_worth.as_secs_f64()),
                ("zcache_miss_mean_seconds", balance.miss.as_secs_f64()),
            ]
        });
        for (name, value) in gauges.into_iter().chain(balanced.into_iter().flatten()) {
            metrics::gauge!(name, "cache" => cache).set(value);
        }
    }
}

/// The upper bound of the quarter of an octave that `size` falls into.
fn bound(size: usize) -> usize {
    let quarter = (size.next_power_of_two() / 8).max(1);
    size.next_multiple_of(quarter)
}

fn stored_sizes(pool: &PoolStats) -> Vec<(usize, usize)> {
    let mut sizes: Vec<(usize, usize)> = Vec::new();
    for class in pool.classes.iter().filter(|class| class.inuse != 0) {
        match sizes.last_mut() {
            Some((size, objects)) if *size == bound(class.size) => *objects += class.inuse,
            _ => sizes.push((bound(class.size), class.inuse)),
        }
    }
    sizes
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    #[test]
    fn sizes_fall_into_quarters_of_octaves() {
        assert_eq!([1, 32, 33, 1000, 1024, 1025].map(bound), [1, 32, 40, 1024, 1024, 1280]);
        assert_eq!([1281, 2048, 2049].map(bound), [1536, 2048, 2560]);
    }

    #[test]
    fn an_empty_cache_has_figures_too() {
        let stats = Stats::default();
        assert_eq!((stats.hit_ratio(), stats.compression_ratio()), (0.0, 1.0));
        assert!(stats.to_string().contains("0 hits"));
        assert_eq!(stats.decode.mean(), Duration::ZERO);
    }
}
