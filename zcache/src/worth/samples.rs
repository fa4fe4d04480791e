//! What each codec takes: sampled pages, packed and read back each way.
//! ```text
//! the first inserts   one in 4, then every eighth part of all that there were: a few dozen
//! later               one in 1024, or less often where a codec's context takes much of the cache
//! ```
//! A time counts up to a few times the mean of the others: what took longer was interrupted.

use super::account::{CANDIDATES, Price};
use crate::sync::{Counter, Mutex, Ordering, get};

/// Samples without which there is no price.
const LEAST: u64 = 6;
/// Samples of which the mean is taken: after so many, those of before count half.
const MANY: u64 = 64;
/// A time counts up to so many means.
const CALM: f64 = 4.0;
/// Inserts from one sample to the next: the first distance, the part of all inserts, and the last.
const FIRST: u64 = 4;
const PART: u64 = 8;

/// What one codec made of one page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Packed {
    /// Bytes of the entry, all counted.
    pub(crate) entry: usize,
    /// Nanoseconds.
    pub(crate) encode: u64,
    pub(crate) decode: u64,
    /// Bytes of a context.
    pub(crate) context: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    samples: u64,
    entry: f64,
    encode: f64,
    decode: f64,
    context: usize,
}

impl Sums {
    fn take(&mut self, packed: &Packed) {
        if self.samples >= MANY {
            self.samples /= 2;
            for sum in [&mut self.entry, &mut self.encode, &mut self.decode] {
                *sum /= 2.0;
            }
        }
        let before = self.samples as f64;
        // What was interrupted is cut off, be it this one or those before.
        let calm = |sum: &mut f64, time: u64| {
            let time = time as f64;
            *sum = sum.min(CALM * time * before);
            *sum += if before > 0.0 { time.min(CALM * *sum / before) } else { time };
        };
        calm(&mut self.encode, packed.encode);
        calm(&mut self.decode, packed.decode);
        self.entry += packed.entry as f64;
        self.context = packed.context;
        self.samples += 1;
    }

    fn price(&self) -> Option<Price> {
        let mean = |sum: f64| sum / self.samples as f64;
        (self.samples >= LEAST).then(|| Price {
            entry: mean(self.entry),
            encode: mean(self.encode),
            decode: mean(self.decode),
            context: self.context as f64,
        })
    }
}

#[derive(Debug)]
pub(crate) struct Samples {
    sums: Mutex<[Sums; CANDIDATES]>,
    /// The number of inserts at which the next one is due.
    due: Counter,
}

impl Samples {
    /// Inserts from one sample to the next, in the long run.
    pub(crate) const LAST: u64 = 1024;

    pub(super) fn new() -> Self {
        Self { sums: Mutex::new([Sums::default(); CANDIDATES]), due: Counter::new(FIRST) }
    }

    /// Whether the insert of this number is to be sampled.
    #[inline]
    pub(crate) fn is_due(&self, inserts: u64) -> bool {
        inserts >= get(&self.due)
    }

    /// The next sample is due later: by `times` the usual distance. Whether this caller is the one
    /// to take the sample that is due.
    pub(crate) fn claim(&self, inserts: u64, times: u64) -> bool {
        let due = get(&self.due);
        let distance = (inserts / PART).clamp(FIRST, Self::LAST) * times;
        let next = inserts + distance;
        // Relaxed: of two callers one takes it, and no more hangs on that.
        due <= inserts
            && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A page was packed by these; those that could not be are left out.
    pub(crate) fn take(&self, packed: &[Option<Packed>; CANDIDATES]) {
        let mut sums = self.sums.lock();
        for (sums, packed) in sums.iter_mut().zip(packed) {
            if let Some(packed) = packed {
                sums.take(packed);
            }
        }
    }

    /// What was found of a codec counts no more.
    pub(crate) fn forget(&self, codec: u8) {
        self.sums.lock()[usize::from(codec)] = Sums::default();
    }

    pub(crate) fn prices(&self) -> [Option<Price>; CANDIDATES] {
        self.sums.lock().map(|sums| sums.price())
    }

    /// Samples of each.
    pub(crate) fn counts(&self) -> [u64; CANDIDATES] {
        self.sums.lock().map(|sums| sums.samples)
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    fn packed(entry: usize, encode: u64, decode: u64) -> Option<Packed> {
        Some(Packed { entry, encode, decode, context: 7 })
    }

    #[test]
    fn a_price_is_the_mean_of_calm_samples() {
        let samples = Samples::new();
        let take = |packed| samples.take(&[packed, None, None, None]);
        (0..LEAST - 1).for_each(|_| take(packed(1000, 500, 100)));
        assert_eq!(samples.prices(), [None; CANDIDATES], "too few");
        take(packed(2000, 500, 100));
        let price = samples.prices()[0].unwrap();
        let wanted = (1000.0 * (LEAST - 1) as f64 + 2000.0) / LEAST as f64;
        assert_eq!((price.entry, price.decode, price.context), (wanted, 100.0, 7.0));
        take(packed(1000, 500, 1 << 40));
        assert!(samples.prices()[0].unwrap().decode < 200.0, "it was interrupted");
        samples.take(&[None, packed(1000, 1 << 40, 1 << 40), None, None]);
        (0..LEAST).for_each(|_| samples.take(&[None, packed(1000, 500, 100), None, None]));
        assert!(samples.prices()[1].unwrap().encode < 2000.0, "so was the first one");
        // What was long ago is forgotten.
        (0..20 * MANY).for_each(|_| take(packed(3000, 50, 10)));
        let price = samples.prices()[0].unwrap();
        assert!((2990.0..=3000.0).contains(&price.entry) && price.encode < 52.0, "{price:?}");
        assert_eq!(samples.prices()[2], None);
    }

    #[test]
    fn few_inserts_are_sampled_and_ever_fewer() {
        let samples = Samples::new();
        let taken = |from: u64, to: u64| {
            (from..to).filter(|at| samples.is_due(*at) && samples.claim(*at, 1)).count()
        };
        let first = taken(0, 1000);
        assert!((20..50).contains(&first), "{first}");
        let (more, last) = (taken(1000, 10_000), taken(100_000, 1_124_000));
        assert!(more < 30 && last <= 1000, "{more} {last}");
        assert!(samples.claim(2_000_000, 100) && !samples.claim(2_000_000, 1));
        assert!(
            !samples.is_due(2_000_000 + 99 * Samples::LAST)
                && samples.is_due(2_000_000 + 100 * Samples::LAST)
        );
    }
}
