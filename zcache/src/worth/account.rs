//! The arithmetic of the account: what a request costs by each codec, from what was counted and
//! measured. Nothing here looks at a clock or at a cache.
//! ```text
//! fit by c    (bytes of entries + context now - context of c) / bytes of an entry by c
//! cost of c   decodings x decoding + inserts x compression + misses x miss
//!             - what frames save at the share that is best by c
//! ```
//! A cache that holds more entries saves misses, and one that holds fewer has more of them. The
//! ratio is that of the misses of its miniature to those of the miniature of the codec in use.

/// Codecs that a page may be packed by.
pub(crate) const CANDIDATES: usize = 4;
/// Miniatures: of the first, the second and the last of these codecs.
pub(crate) const MINIATURES: usize = 3;
const OF: [usize; MINIATURES] = [0, 1, 3];
/// The miniature of each codec. The entries of the third one are nearly as small as those of the
/// second one.
const MINIATURE: [usize; CANDIDATES] = [0, 1, 1, 2];

/// Entries that a cache of each codec would have, as times of those that there are; `None`:
/// unknown.
pub(crate) type Times = [Option<f64>; CANDIDATES];

/// Entries of the second miniature, as times of the first, where the codec is fixed.
pub(super) const LARGER: f64 = 1.5;
/// What an insert takes beside the codec and the miss, in nanoseconds.
pub(super) const INSERT: f64 = 3000.0;
/// The share of frames is expected to move by no more than this factor.
const SHARE_FAR: f64 = 4.0;
/// A change has to be worth the packing of all entries within so many times that they are replaced.
const HORIZON: f64 = 4.0;

/// Another codec is judged when the entries evicted of late are this part of all entries.
const SEEN: f64 = 1.0 / 32.0;
/// And when there were requests for this part of the inserts.
const ASKED: f64 = 0.5;
/// Misses are expected to fall by this power of the entries, as long as miniatures have seen
/// little. With zstd:1 in the place of LZ4 it was 0.2 to 1.1 in nine of ten caches (five traces,
/// two sizes); a low one keeps the faster codec until more is known.
const ELASTICITY: f64 = 0.4;
/// The same where there are fewer entries: more than is likely, for what is lost was not seen.
const LOSS: f64 = 0.8;
/// Misses of a miniature that weigh as much as that expectation.
const PRIOR: f64 = 64.0;
/// The slope of misses is taken from a miniature whose entries differ by this factor or more.
const APART: f64 = 1.1;

/// Another codec has to save this part of what a request costs; and more where fewer entries would
/// fit: what is lost then was not seen missing.
const BETTER: f64 = 0.02;
const CLEARLY_BETTER: f64 = 0.06;
/// The part of what misses cost that a codec may cost more than the fastest in a cache that fills.
const LITTLE: f64 = 0.03;
/// Entries of up to so many times the bytes of the smallest are nearly as small.
const NEARLY: f64 = 1.015;

/// What one codec takes, on average over the sampled pages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Price {
    /// Bytes of an entry, all counted.
    pub(crate) entry: f64,
    /// Nanoseconds.
    pub(crate) encode: f64,
    pub(crate) decode: f64,
    /// Bytes of the contexts that it works with.
    pub(crate) context: f64,
}

/// What a cache has counted since it was made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) decodings: u64,
    pub(crate) misses: u64,
    pub(crate) inserts: u64,
    pub(crate) evictions: u64,
    /// Decodings that were timed, and what those took without interruptions.
    pub(crate) timed: u64,
    pub(crate) nanoseconds: u64,
}

/// What happened of late, older things counting less.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Flow {
    pub(crate) decodings: f64,
    pub(crate) misses: f64,
    pub(crate) inserts: f64,
    pub(crate) evictions: f64,
    /// What each miniature missed.
    pub(crate) missed: [f64; MINIATURES],
    /// Decodings that another byte of frames had saved.
    pub(crate) frame: f64,
}

/// How the cache stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Books {
    pub(crate) flow: Flow,
    /// Nanoseconds of a miss, up to the insert that answers it.
    pub(crate) miss: f64,
    /// Bytes of all entries, bytes that more entries may take, and how many there are.
    pub(crate) bytes: f64,
    pub(crate) free: f64,
    pub(crate) entries: f64,
    /// Bytes of frames, the least and the most; equal where they are not to be moved.
    pub(crate) frames: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    /// Nanoseconds of a request by each codec that there is a price of.
    pub(crate) request: [Option<f64>; CANDIDATES],
    /// The codec that is clearly better than the one in use, or that one.
    pub(crate) best: usize,
}

impl Flow {
    /// Takes off what was long ago.
    pub(crate) fn fade(&mut self, part: f64) {
        let Self { decodings, misses, inserts, evictions, missed, frame } = self;
        let all = [decodings, misses, inserts, evictions, frame];
        all.into_iter().chain(missed).for_each(|sum| *sum *= part);
    }

    /// Misses that codec `other` saves where `now` is in use; less than none where it has more.
    /// Each codec may have so many times the entries. Miniatures tell what is missed, and an
    /// expectation as long as they have seen little.
    pub(crate) fn saved(&self, now: usize, other: usize, times: &Times) -> f64 {
        let at = |codec: usize| times[codec].unwrap_or(1.0).max(1e-3);
        let missed = |codec: usize| {
            let of = MINIATURE[codec];
            self.missed[of] * (at(codec) / at(OF[of])).powf(-ELASTICITY)
        };
        let power = if at(other) < 1.0 { LOSS } else { ELASTICITY };
        let expected = PRIOR * at(other).powf(-power);
        let part = (missed(other) + expected) / (missed(now) + PRIOR);
        self.misses * (1.0 - part)
    }

    /// Misses that another part of the entries saves: by the miniature whose entries are nearest to
    /// those of codec `now`. Each may have so many times the entries.
    pub(crate) fn slope(&self, times: &Times, now: usize) -> f64 {
        let by = |other: usize| {
            let log = times[other]?.ln();
            (log.abs() > APART.ln()).then(|| (log.abs(), self.saved(now, other, times) / log))
        };
        let nearest = (0..CANDIDATES).filter_map(by).min_by(|a, b| a.0.total_cmp(&b.0));
        nearest.map_or(ELASTICITY * self.misses, |(_, slope)| slope.max(0.0))
    }
}

/// The codec with the smallest entries among those whose work would have been little beside the
/// misses.
pub(super) fn first(prices: &[Option<Price>; CANDIDATES], counts: &Counts, miss: f64) -> usize {
    let Some(fast) = prices[0].filter(|_| counts.misses > 0) else { return 0 };
    let most = LITTLE * counts.misses as f64 * miss;
    let work = |price: &Price| {
        counts.decodings as f64 * (price.decode - fast.decode)
            + counts.inserts as f64 * (price.encode - fast.encode)
    };
    let of = |at: usize| prices[at].filter(|price| work(price) <= most);
    let bytes = |at: usize| of(at).map_or(f64::INFINITY, |price| price.entry);
    let least = (0..CANDIDATES).map(bytes).fold(f64::INFINITY, f64::min);
    // The fastest of those that are nearly as small.
    (0..CANDIDATES).find(|at| bytes(*at) <= NEARLY * least).unwrap_or(0)
}

impl Books {
    /// What a miss costs more than a hit that is decoded.
    pub(crate) fn avoided(&self, price: &Price) -> f64 {
        (self.miss + price.encode + INSERT - price.decode).max(0.0)
    }

    /// What frames save at the share that is best, over what they save now, where another byte of
    /// entries saves so much.
    fn framed(&self, price: &Price, loss: f64) -> f64 {
        let now = self.frames.max(1.0);
        let one = price.decode * self.flow.frame;
        if self.least >= self.most || one <= 0.0 {
            return 0.0;
        }
        let best = if loss > 0.0 { now * one / loss } else { self.most };
        let best = best.clamp(now / SHARE_FAR, now * SHARE_FAR).clamp(self.least, self.most);
        let saved = (one * now * (best / now).ln()).min(self.flow.decodings * price.decode / 2.0);
        saved - loss * (best - now)
    }

    /// What another byte of frames saves.
    pub(crate) fn frame(&self, price: &Price) -> f64 {
        self.flow.frame * price.decode
    }

    /// What another byte of entries saves, where a part more of them saves so many misses.
    pub(crate) fn entry(&self, price: &Price, slope: f64) -> f64 {
        self.avoided(price) * slope / self.bytes.max(1.0)
    }

    /// Whether all decodings are worth more than what the least share of frames takes from entries.
    pub(crate) fn frames_pay(&self, price: &Price, slope: f64) -> bool {
        self.flow.decodings * price.decode >= self.entry(price, slope) * self.least
    }

    /// Entries that fit by a codec, as times of those by the one in use.
    pub(crate) fn times(&self, used: &Price, price: &Price) -> f64 {
        let bytes = (self.bytes + used.context - price.context).max(1.0);
        bytes / self.bytes.max(1.0) * used.entry / price.entry.max(1.0)
    }

    /// Entries of a full cache that has so many times the entries of this one.
    pub(crate) fn entries_by(&self, times: &Times) -> [usize; MINIATURES] {
        let full = self.entries * (1.0 + self.free / self.bytes.max(1.0));
        OF.map(|codec| (full * times[codec].unwrap_or(1.0)) as usize)
    }

    /// What all requests of late had cost by a codec that saves so many misses.
    fn cost(&self, price: &Price, saved: f64, slope: f64) -> f64 {
        let flow = &self.flow;
        let saved = saved.clamp(-flow.decodings, flow.misses);
        let decodings = (flow.decodings + saved).max(0.0);
        let inserts = (flow.inserts - saved).max(0.0);
        let misses = (flow.misses - saved).max(0.0);
        let work = decodings * price.decode + inserts * (price.encode + INSERT);
        work + misses * self.miss - self.framed(price, self.entry(price, slope))
    }

    /// What a request costs by each codec, and which is best; `now` is in use.
    pub(crate) fn judge(&self, prices: &[Option<Price>; CANDIDATES], now: usize) -> Estimate {
        let flow = &self.flow;
        let requests = (flow.decodings + flow.misses).max(1.0);
        // Pages that are inserted and not asked for say nothing.
        let asked = flow.decodings + flow.misses >= ASKED * flow.inserts;
        let known = asked && flow.evictions >= SEEN * self.entries;
        let Some(used) = prices[now].filter(|_| known) else {
            return Estimate { request: [None; CANDIDATES], best: now };
        };
        let times = prices.map(|price| price.map(|price| self.times(&used, &price)));
        let slope = flow.slope(&times, now);
        let request: [Option<f64>; CANDIDATES] = std::array::from_fn(|other| {
            let price = prices[other].as_ref()?;
            let saved = flow.saved(now, other, &times);
            Some(self.cost(price, saved, slope) / requests)
        });
        let order = |a: &usize, b: &usize| {
            let of = |at: usize| request[at].unwrap_or(f64::INFINITY);
            of(*a).total_cmp(&of(*b))
        };
        let least = (0..CANDIDATES).min_by(order).unwrap_or(now);
        let (Some(here), Some(there), Some(price)) = (request[now], request[least], prices[least])
        else {
            return Estimate { request, best: now };
        };
        let gain = here - there;
        let packing = self.entries * (used.decode + price.encode);
        let replaced = flow.evictions / self.entries.max(1.0);
        // Entries that do not fit any more were to be hit, as the others are.
        let lost = (1.0 - self.times(&used, &price)).max(0.0) * self.entries;
        let lost = lost * self.avoided(&price) * flow.decodings / requests;
        let pays = gain * requests * HORIZON > (packing + lost) * replaced;
        let smaller = times[least].is_some_and(|times| times >= 1.0);
        let clear = gain > if smaller { BETTER } else { CLEARLY_BETTER } * here.abs();
        Estimate { request, best: if pays && clear { least } else { now } }
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    const LZ4: usize = 0;
    const LIGHT: usize = 1;
    const STRONG: usize = 2;
    const RAW: usize = 3;

    fn price(entry: f64, encode: f64, decode: f64, context: f64) -> Option<Price> {
        Some(Price { entry, encode, decode, context })
    }

    fn prices() -> [Option<Price>; CANDIDATES] {
        [
            price(2000.0, 3000.0, 1000.0, 0.0),
            price(1333.0, 15_000.0, 6000.0, 200e3),
            price(1300.0, 20_000.0, 6000.0, 200e3),
            price(4096.0, 0.0, 200.0, 0.0),
        ]
    }

    /// 10 MB of entries. Half of the requests miss; the miniatures have seen nothing yet.
    fn books(miss: f64) -> Books {
        let flow = Flow {
            decodings: 5000.0,
            misses: 5000.0,
            inserts: 5000.0,
            evictions: 5000.0,
            ..Flow::default()
        };
        let (frames, least, most) = (40e3, 40e3, 40e3);
        Books { flow, miss, bytes: 10e6, free: 0.0, entries: 5000.0, frames, least, most }
    }

    fn best(books: &Books, now: usize) -> usize {
        books.judge(&prices(), now).best
    }

    #[test]
    fn what_is_saved_is_expected_at_first_and_seen_later() {
        let times = [Some(1.0), Some(1.5), Some(1.53), Some(0.5)];
        let mut flow = books(0.0).flow;
        let part = |flow: &Flow, now, other| flow.saved(now, other, &times) / flow.misses;
        assert!((part(&flow, 0, 1) - (1.0 - 1.5_f64.powf(-ELASTICITY))).abs() < 1e-9);
        assert!(part(&flow, 0, 3) < -0.5, "what is lost is feared more");
        assert!(part(&flow, 0, 2) > part(&flow, 0, 1) && part(&flow, 0, 0) == 0.0);
        // Miniatures have seen that larger caches miss as much, and smaller ones twice as much.
        flow.missed = [64e3, 64e3, 128e3];
        assert!(part(&flow, 0, 1).abs() < 0.01, "{}", part(&flow, 0, 1));
        assert!((part(&flow, 0, 3) + 1.0).abs() < 0.01, "{}", part(&flow, 0, 3));
        // The third codec has the second one's miniature, and but a few entries more.
        let few = part(&flow, 0, 2) - part(&flow, 0, 1);
        assert!((0.005..0.01).contains(&few), "{few}");
        assert!(flow.slope(&times, 0) < 0.02 * flow.misses, "the nearest one tells");
    }

    #[test]
    fn dear_misses_have_a_strong_codec_and_cheap_ones_a_fast_one() {
        for now in [LZ4, LIGHT, STRONG] {
            assert!([LIGHT, STRONG].contains(&best(&books(1e6), now)), "from {now}");
        }
        for now in [LZ4, LIGHT, STRONG, RAW] {
            assert_eq!(best(&books(0.0), now), RAW, "from {now}");
        }
        // Where hardly anything is missed, nothing is worth a decoding.
        let mut hit = books(1e5);
        hit.flow = Flow { decodings: 1e6, misses: 1000.0, inserts: 1000.0, ..hit.flow };
        assert_eq!(best(&hit, STRONG), RAW);
    }

    #[test]
    fn pages_that_nobody_asks_for_change_nothing() {
        let mut loaded = books(1e6);
        (loaded.flow.decodings, loaded.flow.misses) = (0.0, 10.0);
        assert_eq!(best(&loaded, LZ4), LZ4);
        loaded.miss = 0.0;
        assert_eq!(best(&loaded, LZ4), LZ4, "not even to leave them as they are");
    }

    #[test]
    fn a_context_that_takes_a_small_cache_whole_is_no_gain() {
        let mut small = books(1e6);
        (small.bytes, small.entries) = (300e3, 150.0);
        assert_eq!(best(&small, LZ4), LZ4);
    }

    #[test]
    fn a_change_has_to_be_clear_and_to_pay_for_itself() {
        let mut books = books(300e3);
        let of = |books: &Books, codec: usize| books.judge(&prices(), LZ4).request[codec].unwrap();
        assert!(of(&books, LIGHT) < (1.0 - BETTER) * of(&books, LZ4));
        assert_eq!(best(&books, LZ4), LIGHT);
        // The same requests, in which everything was replaced a thousand times as often.
        let mut churn = books;
        churn.flow.evictions *= 1e3;
        assert_eq!(best(&churn, LZ4), LZ4, "what is packed is gone too soon");
        // A little better is not enough, and less so where fewer entries would fit.
        books.miss = (1..)
            .map(|miss| f64::from(miss) * 1e3)
            .find(|miss| {
                let books = Books { miss: *miss, ..books };
                of(&books, LIGHT) < of(&books, LZ4)
            })
            .unwrap();
        assert_eq!((best(&books, LZ4), best(&books, LIGHT)), (LZ4, LIGHT));
    }

    #[test]
    fn nothing_is_changed_before_something_was_evicted() {
        let mut books = books(1e6);
        books.flow.evictions = SEEN * books.entries - 1.0;
        assert_eq!(best(&books, LZ4), LZ4);
    }

    #[test]
    fn what_is_not_measured_is_not_chosen() {
        let mut some = prices();
        (some[LIGHT], some[STRONG]) = (None, None);
        let estimate = books(1e6).judge(&some, LZ4);
        assert_eq!((estimate.best, estimate.request[STRONG]), (LZ4, None));
        assert_eq!(books(1e6).judge(&[None; CANDIDATES], LZ4).best, LZ4);
    }

    #[test]
    fn a_cache_that_fills_has_a_strong_codec_where_its_work_is_little() {
        let counts = Counts { decodings: 1000, misses: 1000, inserts: 1000, ..Counts::default() };
        // Its work is 17 us more for a miss.
        assert_eq!(first(&prices(), &counts, 10e6), STRONG);
        assert_eq!(first(&prices(), &counts, 100e3), LZ4);
        let hit = Counts { decodings: 1_000_000, ..counts };
        assert_eq!(first(&prices(), &hit, 1e6), LZ4, "hits take longer");
        let mut alike = prices();
        alike[STRONG] = price(1332.0, 20_000.0, 6000.0, 200e3);
        assert_eq!(first(&alike, &counts, 10e6), LIGHT, "the faster one of two that are as small");
        assert_eq!(first(&[None; CANDIDATES], &counts, 10e6), LZ4);
        assert_eq!(first(&prices(), &Counts::default(), 10e6), LZ4, "nothing was asked for");
    }

    #[test]
    fn frames_that_cannot_pay_are_told() {
        let price = prices()[LZ4].unwrap();
        let pay = |miss: f64, least: f64| {
            let books = Books { least, ..books(miss) };
            books.frames_pay(&price, 500.0)
        };
        // All decodings are 5 ms; 10 MB of entries more would save 500 misses.
        assert!(!pay(1e6, 200e3) && pay(1e6, 1e3) && pay(10e3, 200e3));
    }

    #[test]
    fn frames_take_the_edge_off_a_slow_codec() {
        let mut books = books(20e3);
        books.flow.decodings = 20_000.0;
        let over = |books: &Books| {
            let request = books.judge(&prices(), LZ4).request;
            request[STRONG].unwrap() - request[LZ4].unwrap()
        };
        let without = over(&books);
        // Many decodings are of few pages.
        (books.frames, books.least, books.most) = (100e3, 40e3, 5e6);
        books.flow.frame = 4000.0 / 100e3;
        let with = over(&books);
        assert!(with < without, "{with} {without}");
        (books.least, books.most) = (books.frames, books.frames);
        assert_eq!(over(&books), without, "a share that is fixed saves what it saves");
    }
}
