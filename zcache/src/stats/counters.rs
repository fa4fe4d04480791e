//! What a cache counts as it goes, and the snapshot that is made of it.

use std::ops::Deref;
use std::time::{Duration, Instant};

use zpool::PoolStats;

use super::{
    ByteCounts, Rejected, RemovalCause, RemovalCounts, Stats, StoredSize, Timing, maintenance,
};
use crate::codec::Form;
#[cfg(feature = "metrics")]
use crate::error::MAX_PIECE;
use crate::sync::{Apart, Counter, NUMBERED, Ordering, add, get, sub, thread_number};

/// One in this many hits and inserts is timed.
const SAMPLED: u64 = 64;
/// Bytes of the shortest slot, or less.
#[cfg(feature = "metrics")]
const SHORTEST: usize = 16;
/// What took so many means was interrupted.
const CALM: u64 = 8;
/// And the first one, in nanoseconds.
const FIRST: u64 = 100_000;

/// What hits write. Threads whose numbers are low have a stripe each, so that counting a hit takes
/// no locked instruction and moves no cache line; all others share the last one.
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
    /// `add` is how their counters are added to.
    #[inline]
    fn end(&self, start: Option<Instant>, add: impl Fn(&Counter, u64)) {
        if let Some(start) = start {
            let passed = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            add(&self.nanoseconds, passed);
            let mean = get(&self.calm).checked_div(get(&self.samples)).filter(|mean| *mean > 0);
            add(&self.calm, passed.min(mean.map_or(FIRST, |mean| CALM * mean)));
            add(&self.samples, 1);
        }
    }
}

/// The stripe that this thread writes.
#[derive(Clone, Copy)]
struct Mine<'c> {
    stripe: &'c Stripe,
    /// No other thread writes it.
    alone: bool,
}

impl Mine<'_> {
    #[inline]
    fn add(&self, counter: &Counter, amount: u64) {
        if self.alone {
            counter.store(get(counter).wrapping_add(amount), Ordering::Relaxed);
        } else {
            add(counter, amount);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Counters {
    stripes: Box<[Stripe]>,
    /// What hits do not touch, apart from what they do.
    rest: Apart<Rest>,
}

/// A decoding that has started.
pub(crate) struct Decoding<'c> {
    mine: Mine<'c>,
    start: Option<Instant>,
}

impl Decoding<'_> {
    #[inline]
    pub(crate) fn hit(self) {
        let Mine { stripe, .. } = self.mine;
        stripe.decode.end(self.start, |counter, amount| self.mine.add(counter, amount));
        self.mine.add(&stripe.hits, 1);
    }

    pub(crate) fn miss(self) {
        self.mine.add(&self.mine.stripe.misses, 1);
    }
}

/// What inserts and removals count.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    encode: Times,
    pub(crate) inserts: Counter,
    pub(crate) too_large: Counter,
    pub(crate) no_room: Counter,
    pub(crate) no_memory: Counter,
    pub(crate) outdated: Counter,
    pub(crate) dropped: Counter,
    pub(crate) unreadable: Counter,
    pub(crate) loads: Counter,
    pub(crate) load_failures: Counter,
    pub(crate) ended: [Counter; RemovalCause::ALL.len()],
    entries: Counter,
    same_filled: Counter,
    raw: Counter,
    page_bytes: Counter,
    stored_bytes: Counter,
    /// What keys weigh.
    pub(crate) key_bytes: Counter,
    pub(crate) maintenance: maintenance::Counts,
}

impl Deref for Counters {
    type Target = Rest;

    #[inline]
    fn deref(&self) -> &Rest {
        &self.rest
    }
}

impl Counters {
    /// Counters for `threads` threads that have a stripe each, and any number of others.
    pub(crate) fn new(threads: usize) -> Self {
        let threads = threads.min(NUMBERED);
        let stripes = (0..=threads).map(|_| Stripe::default()).collect();
        Self { stripes, rest: Apart::default() }
    }

    pub(crate) fn fixed_bytes(threads: usize) -> usize {
        zpool::source::heap_cost((threads + 1) * size_of::<Stripe>() + 128)
    }

    #[inline]
    fn mine(&self) -> Mine<'_> {
        let (number, last) = (thread_number(), self.stripes.len() - 1);
        Mine { stripe: &self.stripes[number.min(last)], alone: number < last }
    }

    /// A decoding starts.
    #[inline]
    pub(crate) fn decoding(&self) -> Decoding<'_> {
        let mine = self.mine();
        Decoding { mine, start: start(&mine.stripe.hits) }
    }

    /// A hit on a decoded page.
    #[inline]
    pub(crate) fn hot_hit(&self) {
        let mine = self.mine();
        mine.add(&mine.stripe.hot_hits, 1);
    }

    pub(crate) fn miss(&self) {
        let mine = self.mine();
        mine.add(&mine.stripe.misses, 1);
    }

    /// A compression starts.
    pub(crate) fn encoding(&self) -> Option<Instant> {
        start(&self.inserts)
    }

    pub(crate) fn encoded(&self, start: Option<Instant>) {
        self.encode.end(start, add);
    }

    /// An entry is on its way in, its object `stored` bytes long.
    pub(crate) fn entered(&self, form: Form, page: usize, stored: usize) {
        add(&self.entries, 1);
        add(&self.page_bytes, page as u64);
        add(&self.stored_bytes, stored as u64);
        match form {
            Form::Raw => add(&self.raw, 1),
            Form::Filled(_) => add(&self.same_filled, 1),
            Form::Coded(_) | Form::Pieces => {}
        }
    }

    /// Pieces of an entry that is on its way in, so many bytes long.
    pub(crate) fn has_pieces(&self, stored: usize) {
        add(&self.stored_bytes, stored as u64);
    }

    /// An entry is gone.
    pub(crate) fn left(&self, form: Form, page: usize, stored: usize, cause: RemovalCause) {
        self.withdrawn(form, page, stored);
        add(&self.ended[cause as usize], 1);
    }

    /// An entry went before it was there.
    pub(crate) fn withdrawn(&self, form: Form, page: usize, stored: usize) {
        sub(&self.entries, 1);
        sub(&self.page_bytes, page as u64);
        sub(&self.stored_bytes, stored as u64);
        match form {
            Form::Raw => sub(&self.raw, 1),
            Form::Filled(_) => sub(&self.same_filled, 1),
            Form::Coded(_) | Form::Pieces => {}
        }
    }

    pub(crate) fn entries(&self) -> usize {
        get(&self.entries) as usize
    }

    /// Hits that were decoded, misses, decodings that were timed, and the nanoseconds that those
    /// took, interruptions left out.
    pub(crate) fn decodings(&self) -> [u64; 4] {
        let sum = |of: fn(&Stripe) -> &Counter| self.stripes.iter().map(|s| get(of(s))).sum();
        [
            sum(|stripe| &stripe.hits),
            sum(|stripe| &stripe.misses),
            sum(|stripe| &stripe.decode.samples),
            sum(|stripe| &stripe.decode.calm),
        ]
    }

    /// The mean of the inserts that were timed up to where the page is compressed, in nanoseconds,
    /// interruptions left out.
    pub(crate) fn encode_nanoseconds(&self) -> u64 {
        get(&self.encode.calm).checked_div(get(&self.encode.samples)).unwrap_or(0)
    }
}

impl Stats {
    /// A snapshot of what is counted here; the rest is filled in by who knows it.
    pub(crate) fn of(counters: &Counters, pool: &PoolStats) -> Self {
        let sum = |of: fn(&Stripe) -> &Counter| counters.stripes.iter().map(|s| get(of(s))).sum();
        let ended = |cause: RemovalCause| get(&counters.ended[cause as usize]);
        let stored = get(&counters.stored_bytes) as usize;
        Self {
            hits: sum(|stripe| &stripe.hits) + sum(|stripe| &stripe.hot_hits),
            hot_hits: sum(|stripe| &stripe.hot_hits),
            misses: sum(|stripe| &stripe.misses),
            inserts: get(&counters.inserts),
            rejected: Rejected {
                too_large: get(&counters.too_large),
                no_room: get(&counters.no_room),
                no_memory: get(&counters.no_memory),
                outdated: get(&counters.outdated),
                dropped: get(&counters.dropped),
            },
            removals: RemovalCounts {
                evicted: ended(RemovalCause::Evicted),
                expired: ended(RemovalCause::Expired),
                replaced: ended(RemovalCause::Replaced),
                removed: ended(RemovalCause::Removed),
                cleared: ended(RemovalCause::Cleared),
                corrupt: ended(RemovalCause::Corrupt),
            },
            unreadable: get(&counters.unreadable),
            loads: get(&counters.loads),
            load_failures: get(&counters.load_failures),
            entries: counters.entries(),
            same_filled: get(&counters.same_filled) as usize,
            raw: get(&counters.raw) as usize,
            recompression: counters.maintenance.recompression(),
            dictionaries: counters.maintenance.dictionaries(),
            bytes: ByteCounts {
                uncompressed: get(&counters.page_bytes) as usize,
                payload: stored,
                keys: get(&counters.key_bytes) as usize,
                pinned: pool.payload_bytes.saturating_sub(stored),
                pages: pool.page_bytes.saturating_sub(pool.pages_framed * pool.page_size),
                metadata: pool.metadata_bytes,
                ..ByteCounts::default()
            },
            stored_sizes: stored_sizes(pool),
            decode: Timing {
                samples: sum(|stripe| &stripe.decode.samples),
                total: Duration::from_nanos(sum(|stripe| &stripe.decode.nanoseconds)),
            },
            encode: Timing {
                samples: get(&counters.encode.samples),
                total: Duration::from_nanos(get(&counters.encode.nanoseconds)),
            },
            ..Self::default()
        }
    }
}

/// The upper bound of the quarter of an octave that `size` falls into.
fn bound(size: usize) -> usize {
    let quarter = (size.next_power_of_two() / 8).max(1);
    size.next_multiple_of(quarter)
}

/// All of these bounds, up to that of the longest slot.
#[cfg(feature = "metrics")]
pub(super) fn bounds() -> impl Iterator<Item = usize> {
    let all = std::iter::successors(Some(SHORTEST), |last| Some(bound(last + 1)));
    all.take_while(|bound| *bound <= 2 * MAX_PIECE)
}

fn stored_sizes(pool: &PoolStats) -> Vec<StoredSize> {
    let mut sizes: Vec<StoredSize> = Vec::new();
    for class in pool.classes.iter().filter(|class| class.inuse != 0) {
        match sizes.last_mut() {
            Some(last) if last.up_to_bytes == bound(class.size) => last.objects += class.inuse,
            _ => {
                sizes.push(StoredSize { up_to_bytes: bound(class.size), objects: class.inuse });
            }
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
    fn each_hit_counts_whatever_threads_come_and_go() {
        const THREADS: u64 = 8;
        const HITS: u64 = 20_000;
        let counters = Counters::new(3);
        for round in 1..=20 {
            std::thread::scope(|scope| {
                (0..THREADS).for_each(|_| {
                    scope.spawn(|| (0..HITS).for_each(|_| counters.hot_hit()));
                });
            });
            let hits: u64 = counters.stripes.iter().map(|stripe| get(&stripe.hot_hits)).sum();
            assert_eq!(hits, round * THREADS * HITS);
        }
    }

    #[test]
    fn a_stripe_is_one_threads_or_that_of_all_others() {
        const THREADS: u64 = 8;
        let counters = Counters::new(3);
        let arrived = Counter::new(0);
        let mine = || {
            let Mine { stripe, alone } = counters.mine();
            add(&arrived, 1);
            while get(&arrived) < THREADS {
                std::thread::yield_now(); // all are there at once
            }
            (std::ptr::from_ref(stripe) as usize, alone)
        };
        let stripes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(mine)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let shared = std::ptr::from_ref(&counters.stripes[3]) as usize;
        assert!(stripes.iter().all(|(stripe, alone)| *alone == (*stripe != shared)));
        let mut alone: Vec<_> = stripes.iter().filter(|(_, alone)| *alone).collect();
        alone.sort_unstable();
        assert!(alone.windows(2).all(|pair| pair[0] != pair[1]), "no two share one");
    }
}
