//! What another byte is worth, and how it is best spent. One account finds the share of decoded
//! pages ([`HotShare::Auto`](crate::HotShare::Auto)) and the codec.
//! ```text
//! frames    a ghost of each that was dropped; a decoding while it is young: more frames had saved
//!           it
//! entries   a cache in miniature for each codec: how many misses more or fewer entries have
//! samples   pages packed and read back by each codec: what an entry, an insert and a hit take
//! ```
//! A frame is young if it was dropped not long ago: fewer bytes of frames were dropped since than a
//! part of the limit. So the decodings of young ones in some time say what those bytes had saved.
//!
//! Counts are kept, and prices are asked for anew at each judgement. So a miss that gets cheaper
//! changes both decisions at once.
//!
//! All of this is a sample (of tags) and an estimate. Counts that are lost between threads stay
//! lost. What the cache finds does not depend on it.

use std::time::{Duration, Instant};

use crate::index::Tag;
use crate::stats::{Balance, Candidate};
use crate::sync::{Apart, Counter, Mutex, Ordering, add, get};

mod account;
mod ghosts;
mod judge;
mod miniature;
mod samples;
mod weigh;

use account::MINIATURES;
pub(crate) use account::{CANDIDATES, Counts};
use ghosts::{Ghosts, is_of, pack};
pub(crate) use judge::Standing;
use judge::{ASSUMED_DECODE, Judge};
use miniature::Miniatures;
pub(crate) use samples::{Packed, Samples};

/// At most the capacity divided by this counts as bytes of young frames. When entries of twice
/// these bytes were evicted it is time for a judgement.
const WINDOW: usize = 16;
/// At least the capacity divided by this counts as bytes of young frames.
const LEAST_WINDOW: usize = 256;
/// Bytes of the capacity for each ghost of a frame, where all tags have ghosts.
const PER_GHOST: usize = 16 << 10;
/// Ghosts at the least and at the most. Where there should be more, only a part of all tags have
/// ghosts.
const LEAST_GHOSTS: usize = 64;
const MOST_GHOSTS: usize = 512;
/// At the least one tag in 2^this has ghosts.
const MOST_RARE: u32 = 16;
/// Misses that wait for the insert of their key.
const PENDING: usize = 64;
/// A miss whose key is inserted later than that was not answered by this insert.
const LONGEST_MISS: Duration = Duration::from_secs(10);
/// What a miss is taken to cost as long as nothing is known of it.
const ASSUMED_MISS: u64 = 100_000;
/// A tick is 2^this nanoseconds.
const TICK: u32 = 7;
/// One tag in so many has its misses timed.
const TIMED: u32 = 8;
/// Misses of which the mean is taken.
const MANY: u64 = 256;

/// What is decided by the account.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose {
    /// The share of frames, which is this at first; `None`: it is fixed.
    pub(crate) limit: Option<usize>,
    /// Whether the codec is.
    pub(crate) codec: bool,
}

impl Purpose {
    /// Those of the codecs that are chosen from, or two to tell what more entries would save.
    const fn miniatures(finds_codec: bool) -> usize {
        if finds_codec { MINIATURES } else { 2 }
    }
}

/// The account.
#[derive(Debug)]
pub(crate) struct Scales {
    frames: Ghosts,
    /// Entries that were evicted, of the sampled tags.
    evicted: Apart<Counter>,
    miniatures: Miniatures,
    /// One tag in 2^this is sampled for ghosts and evictions.
    rare: u32,
    /// Up to which age frames are young, and goings from one judgement to the next.
    young: Counter,
    period: Counter,
    frame_returns: Counter,
    /// Misses whose keys were not inserted yet: tag, and when in ticks.
    pending: Box<[Counter]>,
    born: Instant,
    /// Whether what a miss costs was told, and not measured; and the nanoseconds.
    is_told: Counter,
    told: Counter,
    /// Misses that were answered, and what that took.
    answered: Counter,
    nanoseconds: Counter,
    judge: Mutex<Judge>,
    limit: Counter,
    moves: bool,
    raised: Counter,
    lowered: Counter,
    /// What the codecs take, where one is to be found.
    samples: Option<Samples>,
    /// The codec in use, and how often it was changed.
    codec: Counter,
    changed: Counter,
    /// Whether entries are being packed again.
    pub(crate) repacking: Counter,
}

/// Ghosts in a cache of that capacity, and how rare they are.
fn ghosts(capacity: usize) -> (usize, u32) {
    let wanted = (capacity / PER_GHOST).next_power_of_two();
    let kept = wanted.clamp(LEAST_GHOSTS, MOST_GHOSTS);
    (kept, (wanted / kept).max(1).ilog2().min(MOST_RARE))
}

impl Scales {
    pub(crate) fn fixed_bytes(capacity: usize, finds_codec: bool) -> usize {
        let table = |slots: usize| zpool::source::heap_cost(slots * size_of::<Counter>());
        let own = zpool::source::heap_cost(size_of::<Self>() + 16);
        let miniatures = Miniatures::fixed_bytes(capacity, Purpose::miniatures(finds_codec));
        table(ghosts(capacity).0) + table(PENDING) + own + miniatures
    }

    pub(crate) fn new(standing: Standing, purpose: Purpose, told: Option<Duration>) -> Self {
        let (slots, rare) = ghosts(standing.capacity);
        let miniatures = Purpose::miniatures(purpose.codec);
        let scales = Self {
            frames: Ghosts::new(slots),
            evicted: Apart::default(),
            miniatures: Miniatures::new(standing.capacity, miniatures),
            rare,
            young: Counter::new(0),
            period: Counter::new(0),
            frame_returns: Counter::new(0),
            pending: (0..PENDING).map(|_| Counter::new(0)).collect(),
            born: Instant::now(),
            is_told: Counter::new(told.is_some().into()),
            told: Counter::new(told.map_or(0, nanoseconds)),
            answered: Counter::new(0),
            nanoseconds: Counter::new(0),
            judge: Mutex::new(Judge::default()),
            limit: Counter::new(purpose.limit.unwrap_or(0) as u64),
            moves: purpose.limit.is_some(),
            raised: Counter::new(0),
            lowered: Counter::new(0),
            samples: purpose.codec.then(Samples::new),
            codec: Counter::new(0),
            changed: Counter::new(0),
            repacking: Counter::new(0),
        };
        scales.set_windows(standing);
        scales
    }

    /// What the codecs take, where one is to be found.
    #[inline]
    pub(crate) fn samples(&self) -> Option<&Samples> {
        self.samples.as_ref()
    }

    /// A hit, on a frame or on an entry.
    #[inline]
    pub(crate) fn hit(&self, tag: Tag) {
        self.miniatures.hit(tag);
    }

    /// What a miss costs from now on.
    pub(crate) fn tell_miss(&self, time: Duration) {
        self.told.store(nanoseconds(time), Ordering::Relaxed);
        self.is_told.store(1, Ordering::Relaxed);
    }

    /// The codec that is in use.
    #[inline]
    pub(crate) fn codec(&self) -> usize {
        get(&self.codec) as usize
    }

    pub(crate) fn limit(&self) -> usize {
        get(&self.limit) as usize
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit as u64, Ordering::Relaxed);
    }

    fn is_sampled(&self, tag: Tag) -> bool {
        tag.wrapping_mul(0x9e37_79b9) >> 8 & ((1 << self.rare) - 1) == 0
    }

    /// A frame was dropped for want of room.
    pub(crate) fn demoted(&self, tag: Tag) {
        if self.is_sampled(tag) {
            self.frames.remember(tag);
        }
    }

    /// An entry was evicted.
    pub(crate) fn evicted(&self, tag: Tag) {
        if self.is_sampled(tag) {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sampled frames and entries that are there no more.
    fn goings(&self) -> u64 {
        self.frames.gone() + get(&self.evicted)
    }

    /// A hit on an entry without a frame.
    pub(crate) fn decoded(&self, tag: Tag) {
        let young = get(&self.young);
        if self.is_sampled(tag) && self.frames.returned(tag, young).is_some() {
            add(&self.frame_returns, 1);
        }
    }

    pub(crate) fn missed(&self, tag: Tag) {
        self.miniatures.missed(tag);
        if let Some(pending) = self.pending(tag) {
            pending.store(pack(tag, self.tick()), Ordering::Relaxed);
        }
    }

    /// A key's page was inserted: perhaps an answer to its miss.
    pub(crate) fn came(&self, tag: Tag) {
        self.miniatures.came(tag);
        let Some(pending) = self.pending(tag) else { return };
        let seen = pending.load(Ordering::Relaxed);
        if !is_of(seen, tag) || seen == 0 {
            return;
        }
        pending.store(0, Ordering::Relaxed);
        let took = u64::from(self.tick().wrapping_sub(seen as u32)) << TICK;
        if Duration::from_nanos(took) <= LONGEST_MISS {
            if get(&self.answered) >= MANY {
                // What was long ago fades.
                for sum in [&self.answered, &self.nanoseconds] {
                    sum.store(get(sum) / 2, Ordering::Relaxed);
                }
            }
            add(&self.nanoseconds, took);
            add(&self.answered, 1);
        }
    }

    /// Where a miss of that tag waits; `None`: it is not timed.
    fn pending(&self, tag: Tag) -> Option<&Counter> {
        let timed = !self.is_told() && tag >> 8 & (TIMED - 1) == 0;
        timed.then(|| &self.pending[(tag >> 16) as usize & (PENDING - 1)])
    }

    fn tick(&self) -> u32 {
        (self.born.elapsed().as_nanos() >> TICK) as u32
    }

    /// Whether the cost of a miss was told, and not measured.
    fn is_told(&self) -> bool {
        get(&self.is_told) != 0
    }

    /// What a miss costs, in nanoseconds.
    fn miss(&self) -> u64 {
        match get(&self.answered) {
            _ if self.is_told() => get(&self.told),
            0 => ASSUMED_MISS,
            answered => get(&self.nanoseconds) / answered,
        }
    }

    fn set_windows(&self, Standing { capacity, frame, entry, .. }: Standing) {
        let sampled = |amount: usize| (amount >> self.rare) as u64;
        let young = sampled(self.window(capacity) / frame.max(1)).max(1);
        let period = sampled(2 * (capacity / WINDOW) / entry.max(1)).max(16);
        self.young.store(young, Ordering::Relaxed);
        self.period.store(period, Ordering::Relaxed);
    }

    pub(crate) fn balance(&self, standing: Standing) -> Option<Balance> {
        if !self.moves {
            return None;
        }
        let judge = self.judge.lock();
        let mib = |worth: f64| Duration::from_nanos((worth * f64::from(1 << 20)) as u64);
        let counts = standing.counts;
        let decode = match judge.decode {
            Some(decode) => decode as u64,
            None => counts.nanoseconds.checked_div(counts.timed).unwrap_or(ASSUMED_DECODE),
        };
        let [frame_worth, entry_worth] = judge.worth.map(mib);
        Some(Balance {
            limit: self.limit(),
            decode: Duration::from_nanos(decode),
            miss: Duration::from_nanos(self.miss()),
            frame_worth,
            entry_worth,
            frame_returns: get(&self.frame_returns),
            raised: get(&self.raised),
            lowered: get(&self.lowered),
        })
    }

    /// What is known of each codec, by its number; and how often the codec was changed.
    pub(crate) fn candidates(&self) -> Option<([Candidate; CANDIDATES], u64)> {
        let samples = self.samples()?;
        let estimate = self.judge.lock().estimate;
        let (prices, counts, now) = (samples.prices(), samples.counts(), self.codec());
        let time = |nanoseconds: f64| Duration::from_nanos(nanoseconds as u64);
        let of = |at: usize| {
            let price = prices[at];
            Candidate {
                name: String::new(),
                in_use: at == now,
                samples: counts[at],
                entry_bytes: price.map_or(0, |price| price.entry as usize),
                encode: price.map_or(Duration::ZERO, |price| time(price.encode)),
                decode: price.map_or(Duration::ZERO, |price| time(price.decode)),
                request: estimate.and_then(|found| found.request[at]).map(time),
            }
        };
        Some((std::array::from_fn(of), get(&self.changed)))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    const CAPACITY: usize = 16 << 20;
    const STANDING: Standing = Standing {
        capacity: CAPACITY,
        most: CAPACITY / 2,
        frame: 4096,
        entry: 2048,
        entries: CAPACITY / 2048,
        packed: CAPACITY,
        free: 0,
        encode: 2000,
        counts: Counts {
            decodings: 0,
            misses: 0,
            inserts: 0,
            evictions: 0,
            timed: 0,
            nanoseconds: 0,
        },
    };

    /// As many pages as fit, and a fourth more.
    const LOOP: u32 = (CAPACITY / 2048 * 5 / 4) as u32;

    fn scales(told: Option<u64>) -> Scales {
        let purpose = Purpose { limit: Some(CAPACITY / 16), codec: false };
        Scales::new(STANDING, purpose, told.map(Duration::from_nanos))
    }

    /// Tags that are spread like hashes.
    fn tag(nth: u32) -> Tag {
        nth.wrapping_mul(0x9e37_79b9) | 1
    }

    /// So many requests that miss one of so many pages; with each a frame is dropped, of which a
    /// part of a hundred is asked for at once.
    fn live(scales: &Scales, requests: u32, pages: u32, frames: u32) {
        for nth in 0..requests {
            let frame = tag(2 * nth);
            scales.demoted(frame);
            if nth % 100 < frames {
                scales.decoded(frame);
            }
            request(scales, nth, pages);
        }
    }

    /// A request that misses, the `nth` one.
    fn request(scales: &Scales, nth: u32, pages: u32) {
        let page = tag(2 * (nth % pages) + 1);
        scales.missed(page);
        scales.came(page);
        scales.evicted(page);
        let count = u64::from(nth);
        let counts = Counts {
            decodings: 200 * count,
            misses: count,
            inserts: count,
            evictions: count,
            ..STANDING.counts
        };
        scales.judge(|| Standing { counts, ..STANDING });
    }

    #[test]
    fn the_limit_follows_what_is_worth_more_and_stays_within_its_bounds() {
        let dear = scales(Some(12_000));
        live(&dear, 400_000, LOOP, 10);
        assert_eq!(dear.limit(), CAPACITY / weigh::LEAST_SHARE, "more entries would be hit");
        let dearest = scales(Some(100_000_000));
        live(&dearest, 400_000, LOOP, 20);
        assert_eq!(dearest.limit(), 0, "all decodings are worth less than a few entries");
        let cheap = scales(Some(1000));
        live(&cheap, 400_000, u32::MAX, 50);
        assert_eq!(cheap.limit(), CAPACITY / 2, "more entries would not be hit");
        let balance = cheap.balance(STANDING).unwrap();
        assert!(balance.raised > 0 && balance.frame_worth > balance.entry_worth, "{balance:?}");
        assert_eq!((balance.decode.as_nanos(), balance.miss.as_nanos()), (1000, 1000));
    }

    #[test]
    fn a_frame_that_was_dropped_long_ago_had_not_been_saved() {
        let scales = scales(Some(100_000));
        let sampled: Vec<Tag> =
            (0..).map(tag).filter(|tag| scales.is_sampled(*tag)).take(200).collect();
        sampled.iter().for_each(|tag| scales.demoted(*tag));
        scales.decoded(sampled[0]);
        assert_eq!(get(&scales.frame_returns), 0);
        scales.decoded(sampled[199]);
        assert_eq!(get(&scales.frame_returns), 1);
    }

    /// Requests until the codec is another one, where a miss costs so much.
    fn requests_until(scales: &Scales, from: u32, miss: Duration, codec: &[usize]) -> u32 {
        scales.tell_miss(miss);
        let until = from + 8 * STANDING.entries as u32;
        let found = (from..until).find(|nth| {
            request(scales, *nth, LOOP);
            codec.contains(&scales.codec())
        });
        found.unwrap_or_else(|| panic!("it follows {miss:?}: {:?}", scales.candidates())) - from
    }

    #[test]
    fn the_codec_follows_what_a_miss_costs_within_a_turnover() {
        let purpose = Purpose { limit: None, codec: true };
        let scales = Scales::new(STANDING, purpose, None);
        let samples = scales.samples().expect("a codec is to be found");
        let packed =
            |entry, encode, decode, context| Some(Packed { entry, encode, decode, context });
        let (fast, strong) = (packed(2000, 3000, 1000, 0), packed(1300, 20_000, 6000, 200_000));
        (0..20).for_each(|_| samples.take(&[fast, strong, None, None]));
        let (dear, cheap) = (Duration::from_millis(10), Duration::from_micros(5));
        let entries = STANDING.entries as u32;
        let mut at = 1 + requests_until(&scales, 0, dear, &[1]);
        for (miss, codec) in [(cheap, 0), (dear, 1), (cheap, 0)] {
            let took = requests_until(&scales, at, miss, &[codec]);
            assert!(took <= entries / 2, "{took} evictions of {entries} for {miss:?}");
            at += took + 1;
        }
        let (candidates, changes) = scales.candidates().expect("it is found");
        assert!(changes == 4 && candidates[0].in_use && candidates[1].request.is_some());
        assert_eq!(scales.balance(STANDING), None, "the share is fixed");
    }

    #[test]
    fn misses_are_timed_up_to_the_insert_of_their_key() {
        let scales = scales(None);
        assert_eq!(scales.miss(), ASSUMED_MISS);
        let timed: Vec<Tag> = (0..4000).map(tag).filter(|tag| tag >> 8 & 7 == 0).collect();
        assert!(timed.len() > 300, "one in eight");
        let mut slowest = 0;
        for tag in &timed {
            let start = Instant::now();
            scales.missed(*tag);
            scales.came(tag.wrapping_add(8 << 8)); // another one's
            std::thread::sleep(Duration::from_micros(50));
            scales.came(*tag);
            scales.came(*tag); // no miss
            slowest = slowest.max(start.elapsed().as_nanos() as u64);
        }
        // A tick is lost or won at either end.
        let (miss, slowest) = (scales.miss() + (1 << TICK), slowest + (2 << TICK));
        assert!((50_000..=slowest).contains(&miss), "{miss} ns, {slowest} at the most");
        let answered = get(&scales.answered);
        assert!((MANY / 2..=MANY).contains(&answered), "{answered} in the mean");
    }

    #[test]
    fn tables_are_a_small_part_of_the_capacity() {
        for capacity in [1 << 18, 4 << 20, 64 << 20, 1 << 30, 1 << 36] {
            let (slots, rare) = ghosts(capacity);
            assert!((LEAST_GHOSTS..=MOST_GHOSTS).contains(&slots));
            assert!(rare == MOST_RARE || slots << rare >= capacity / PER_GHOST, "{capacity}");
            for finds in [false, true] {
                let bytes = Scales::fixed_bytes(capacity, finds);
                assert!(bytes <= (capacity / 128).max(6 << 10), "{bytes} of {capacity}");
            }
        }
    }
}
