//! The judgement: what happened since the last one is given to the account, which finds the share
//! of frames and the codec.

use super::account::{self, Books, CANDIDATES, Flow, INSERT, LARGER, MINIATURES, Price, Times};
use super::judge::{Judge, Seen, Standing, Wait};
use super::samples::Samples;
use super::{Scales, WINDOW};
use crate::sync::{Ordering, add, get};

/// What a judgement leaves of what was counted before. Eight judgements or so are a turnover.
const FADES: f64 = 31.0 / 32.0;
/// The limit of frames moves where a byte on one side is worth so many times a byte on the other.
const CLEARLY: f64 = 1.25;
/// It moves four times as far where a byte is worth so many times the other.
const FAR: f64 = 4.0;
/// A step of the limit: the limit divided by this, and the capacity divided by that.
const STEP: usize = 16;
const LEAST_STEP: usize = 4096;
/// The least limit of frames is the capacity divided by this, and one frame. Or it is 0: some
/// frames have to be there to tell what more of them would save.
pub(super) const LEAST_SHARE: usize = 256;
/// Misses of which the time has to be known before a codec is chosen by it.
const LEAST_ANSWERED: u64 = 8;
/// All entries have to be replaced so many times after the first change of the codec before the
/// next one, and twice as many times after each change that follows, up to so many.
const FIRST_WAIT: f64 = 1.0;
const MOST_WAIT: f64 = 64.0;
/// What a judgement leaves of that number.
const FORGETS: f64 = 511.0 / 512.0;
/// The first change starts anew where the cost of a miss has changed by this factor.
const REPRICED: f64 = 1.5;

impl Scales {
    /// Moves the limit and changes the codec, if it is time for that and something else is clearly
    /// worth more. To be called where room is short: where it is not there is nothing to share.
    pub(crate) fn judge(&self, standing: impl FnOnce() -> Standing) {
        let Some(mut judge) = self.judge.try_lock() else { return };
        let goings = self.goings();
        if !judge.full {
            return self.fill_up(&mut judge, &standing());
        }
        if goings.wrapping_sub(judge.goings) < get(&self.period) {
            return;
        }
        judge.goings = goings;
        let standing = standing();
        self.count(&mut judge, &standing);
        let (prices, price) = self.prices(&judge, &standing);
        let books = self.books(&judge, &standing, &price);
        let times = self.times(&books, &prices);
        let slope = books.flow.slope(&times, self.codec());
        judge.worth = [books.frame(&price), books.entry(&price, slope)];
        if self.moves {
            self.judge_share(&judge, &standing, books.frames_pay(&price, slope));
        }
        if self.samples().is_some() {
            self.judge_codec(&mut judge, &books, &prices);
        }
        self.fit(&standing, &books, &times, &mut judge);
    }

    /// The cache is full for the first time: what it missed so far says nothing of what it will
    /// miss.
    #[cold]
    fn fill_up(&self, judge: &mut Judge, standing: &Standing) {
        judge.full = true;
        judge.goings = self.goings();
        judge.seen = Seen {
            frame_returns: get(&self.frame_returns),
            missed: [0; MINIATURES],
            counts: standing.counts,
        };
        let (prices, price) = self.prices(judge, standing);
        let books = self.books(judge, standing, &price);
        let times = self.times(&books, &prices);
        self.fit(standing, &books, &times, judge);
    }

    /// Miniatures, and the ages up to which frames are young, follow the cache.
    fn fit(&self, standing: &Standing, books: &Books, times: &Times, judge: &mut Judge) {
        judge.seen.missed = self.miniatures.fit(books.entries_by(times));
        self.set_windows(*standing);
    }

    /// While the cache fills nobody knows whether all pages will fit: the codec with the smallest
    /// entries is taken among those whose work is little beside the misses.
    pub(crate) fn start(&self, standing: impl FnOnce() -> Standing) {
        let Some(samples) = self.samples() else { return };
        let Some(judge) = self.judge.try_lock() else { return };
        let known = self.is_told() || get(&self.answered) >= LEAST_ANSWERED;
        if !judge.full && known {
            let counts = standing().counts;
            self.change(account::first(&samples.prices(), &counts, self.miss() as f64));
        }
    }

    fn change(&self, codec: usize) {
        if codec != self.codec() {
            self.codec.store(codec as u64, Ordering::Relaxed);
            add(&self.changed, 1);
        }
    }

    /// Takes what happened since the last judgement to the account.
    fn count(&self, judge: &mut Judge, standing: &Standing) {
        let missed = self.miniatures.all_missed();
        let frame_returns = get(&self.frame_returns);
        let now = Seen { frame_returns, missed, counts: standing.counts };
        let before = std::mem::replace(&mut judge.seen, now);
        let new = |now: u64, before: u64| now.wrapping_sub(before) as f64;
        let (counts, past) = (now.counts, before.counts);
        let timed = new(counts.timed, past.timed);
        if timed >= 1.0 {
            let mean = new(counts.nanoseconds, past.nanoseconds) / timed;
            let before = judge.decode.unwrap_or(mean);
            judge.decode = Some(before * FADES + mean * (1.0 - FADES));
        }
        let flow = &mut judge.flow;
        flow.fade(FADES);
        flow.decodings += new(counts.decodings, past.decodings);
        flow.misses += new(counts.misses, past.misses);
        flow.inserts += new(counts.inserts, past.inserts);
        flow.evictions += new(counts.evictions, past.evictions);
        let window = self.window(standing.capacity) as f64;
        let returned = new(frame_returns, before.frame_returns) / window;
        flow.frame += returned * (1_u64 << self.rare) as f64;
        let missed = missed.into_iter().zip(before.missed);
        flow.missed
            .iter_mut()
            .zip(missed)
            .for_each(|(sum, (now, before))| *sum += new(now, before));
    }

    /// What each codec takes, and the one in use: what was sampled, or what all decodings and
    /// inserts took.
    fn prices(&self, judge: &Judge, standing: &Standing) -> ([Option<Price>; CANDIDATES], Price) {
        let prices = self.samples().map(Samples::prices).unwrap_or_default();
        let (entry, encode) = (standing.entry as f64, standing.encode as f64);
        let known = Price { entry, encode, decode: judge.decoding(), context: 0.0 };
        let used = prices[self.codec()].unwrap_or(known);
        (prices, Price { decode: known.decode, ..used })
    }

    /// Entries that the cache would have by each codec, or as large as the second miniature is, as
    /// times of those that it has.
    fn times(&self, books: &Books, prices: &[Option<Price>; CANDIDATES]) -> Times {
        match (self.samples(), &prices[self.codec()]) {
            (None, _) => [Some(1.0), Some(LARGER), None, None],
            (_, None) => [None; CANDIDATES],
            (_, Some(used)) => prices.map(|price| price.map(|price| books.times(used, &price))),
        }
    }

    /// The least and the most that the limit may be, if it is not 0.
    fn bounds(&self, standing: &Standing) -> (usize, usize) {
        let least = (standing.capacity / LEAST_SHARE).max(standing.frame);
        (least.min(standing.most), standing.most)
    }

    fn judge_share(&self, judge: &Judge, standing: &Standing, pay: bool) {
        let [of_frames, of_entries] = judge.worth;
        // One return of a frame more must not change it.
        let window = self.window(standing.capacity) as f64;
        let one = judge.decoding() * (1_u64 << self.rare) as f64 / window;
        let (limit, capacity) = (self.limit(), standing.capacity);
        let (more, less) = (of_frames.max(of_entries), of_frames.min(of_entries));
        let far = more > FAR * (less + one);
        let step = limit / if far { STEP / 4 } else { STEP } + capacity / LEAST_STEP;
        let next = if of_frames > CLEARLY * of_entries {
            limit.saturating_add(step)
        } else if of_entries > CLEARLY * (of_frames + one) {
            limit.saturating_sub(step)
        } else {
            limit
        };
        let (least, most) = self.bounds(standing);
        let next = if pay { next.clamp(least, most) } else { 0 };
        if next != limit {
            add(if next > limit { &self.raised } else { &self.lowered }, 1);
            self.set_limit(next);
        }
    }

    fn books(&self, judge: &Judge, standing: &Standing, price: &Price) -> Books {
        let (least, most) = if self.moves { self.bounds(standing) } else { (0, 0) };
        Books {
            flow: judge.flow,
            miss: match self.is_told() {
                true => self.miss() as f64,
                false => (self.miss() as f64 - price.encode - INSERT).max(0.0),
            },
            bytes: standing.packed as f64,
            free: standing.free as f64,
            entries: standing.entries as f64,
            frames: self.limit().max(1) as f64,
            least: least as f64,
            most: most as f64,
        }
    }

    fn judge_codec(&self, judge: &mut Judge, books: &Books, prices: &[Option<Price>; CANDIDATES]) {
        // One choice is carried out before the next is made.
        if get(&self.repacking) != 0 {
            return;
        }
        let estimate = books.judge(prices, self.codec());
        judge.estimate = Some(estimate);
        judge.wait.next *= FORGETS;
        let (more, less) = (judge.wait.miss.max(books.miss), judge.wait.miss.min(books.miss));
        if more > REPRICED * less {
            judge.wait = Wait::default();
        }
        if estimate.best == self.codec() || judge.flow.evictions < judge.wait.now * books.entries {
            return;
        }
        self.change(estimate.best);
        let now = judge.wait.next.clamp(FIRST_WAIT, MOST_WAIT);
        judge.wait = Wait { now, next: 2.0 * now, miss: books.miss };
        // What happens from now on happens with other entries. What miniatures missed goes on to
        // tell: it is of the same requests for all of them.
        judge.flow = Flow { missed: judge.flow.missed, ..Flow::default() };
    }

    /// Bytes of frames that count as young.
    pub(super) fn window(&self, capacity: usize) -> usize {
        let entries = (capacity / WINDOW).max(1);
        (self.limit() / 2).clamp((capacity / super::LEAST_WINDOW).max(1), entries)
    }
}
