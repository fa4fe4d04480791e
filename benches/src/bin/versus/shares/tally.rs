//! What requests came to, and what they cost.

use std::time::Duration;

/// Hits that took longer were interrupted: even a hit that makes room for its frame takes a part of
/// it. They are counted, and their time is not.
const INTERRUPTED: u64 = 1_000_000;

/// Times to take the mean of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    count: u64,
    nanoseconds: u64,
}

/// What a hit was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Found decoded.
    Hot,
    /// Decoded, and no more.
    Decoded,
    /// Decoded, and made a frame.
    Promoting,
}

/// The reads of a stretch of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) hits: u64,
    pub(crate) hot_hits: u64,
    pub(crate) interrupted: u64,
    pub(super) times: Times,
    /// By kind, of those that were sampled.
    pub(super) kinds: [Times; 3],
}

impl Times {
    fn take(&mut self, nanoseconds: u64) {
        self.add(&Self { count: 1, nanoseconds });
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.nanoseconds += other.nanoseconds;
    }

    /// `None`: there are none.
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.nanoseconds as f64 / self.count as f64)
    }
}

impl Tally {
    /// A hit took so long. Whether it counts.
    pub(crate) fn time(&mut self, nanoseconds: u64) -> bool {
        let counts = nanoseconds <= INTERRUPTED;
        if counts {
            self.times.take(nanoseconds);
        } else {
            self.interrupted += 1;
        }
        counts
    }

    /// A hit of this kind took so long, which was told by [`time`](Self::time) as well.
    pub(crate) fn sample(&mut self, kind: Kind, nanoseconds: u64) {
        self.kinds[kind as usize].take(nanoseconds);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.hits += other.hits;
        self.hot_hits += other.hot_hits;
        self.interrupted += other.interrupted;
        self.times.add(&other.times);
        self.kinds.iter_mut().zip(&other.kinds).for_each(|(kind, other)| kind.add(other));
    }

    /// Nanoseconds of all hits that were timed.
    pub(crate) fn hit_time(&self) -> u64 {
        self.times.nanoseconds
    }

    /// Nanoseconds of a hit.
    pub(crate) fn hit(&self) -> Option<f64> {
        self.times.mean()
    }

    /// Nanoseconds of a hit of this kind.
    pub(crate) fn hit_of(&self, kind: Kind) -> Option<f64> {
        self.kinds[kind as usize].mean()
    }

    /// Hits by requests, and those that were hot.
    pub(crate) fn ratios(&self) -> [f64; 2] {
        [self.hits, self.hot_hits].map(|hits| hits as f64 / self.requests.max(1) as f64)
    }

    /// Microseconds that a request costs where a miss costs `miss`.
    pub(crate) fn effective(&self, miss: Duration) -> f64 {
        let hits = self.hits as f64 * self.hit().unwrap_or(0.0) / 1e3;
        let misses = (self.requests - self.hits) as f64 * miss.as_secs_f64() * 1e6;
        (hits + misses) / self.requests.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 requests, 8 hits of which one was interrupted.
    fn tally() -> Tally {
        let mut tally = Tally { requests: 10, hits: 8, hot_hits: 5, ..Tally::default() };
        for nanoseconds in [1000, 2000, 3000, 1000, 2000, 3000, 2000, 3_000_000] {
            if tally.time(nanoseconds) {
                tally.sample(
                    if nanoseconds == 1000 { Kind::Hot } else { Kind::Decoded },
                    nanoseconds,
                );
            }
        }
        tally
    }

    #[test]
    fn a_request_costs_its_part_of_hits_and_misses() {
        let tally = tally();
        assert_eq!((tally.hit(), tally.interrupted), (Some(2000.0), 1));
        assert_eq!(tally.ratios(), [0.8, 0.5]);
        // 8 hits of 2 us, the interrupted one too, and 2 misses.
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-9, "{got}, not {want}");
        near(tally.effective(Duration::from_micros(100)), (16.0 + 200.0) / 10.0);
        near(tally.effective(Duration::ZERO), 1.6);
        near(Tally::default().effective(Duration::from_secs(1)), 0.0);
    }

    #[test]
    fn sums_have_the_means_of_all() {
        let mut sum = tally();
        let mut other = Tally { requests: 2, hits: 1, ..Tally::default() };
        assert!(other.time(10_000));
        other.sample(Kind::Promoting, 10_000);
        sum.add(&other);
        assert_eq!((sum.requests, sum.hits, sum.hit_time()), (12, 9, 24_000));
        assert_eq!(sum.hit(), Some(3000.0));
        let kinds = [Kind::Hot, Kind::Decoded, Kind::Promoting].map(|kind| sum.hit_of(kind));
        assert_eq!(kinds, [Some(1000.0), Some(2400.0), Some(10_000.0)]);
        assert_eq!(Tally::default().hit_of(Kind::Hot), None);
    }
}
