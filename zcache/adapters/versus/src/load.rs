//! The load: rows by Zipf's law, spread over the table, and scans now and then, which start at such
//! rows and are as long as those of YCSB's workload E.

use fastrand::Rng;

/// The exponent of Zipf's law.
const SKEW: f64 = 0.9;

/// One request in so many is a scan.
const SCANS: u32 = 50;

/// Rows of a scan, at most.
const SCANNED: usize = 100;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request {
    /// The row of a number.
    Row(u64),
    /// Rows with consecutive numbers: the first number, and how many rows.
    Scan(u64, usize),
}

/// The requests, one after the other, without an end: the same for the same table.
///
/// Ranks are drawn as in "Quickly generating billion-record synthetic databases" (Gray et al.
/// 1994).
#[derive(Debug)]
pub(crate) struct Load {
    rng: Rng,
    rows: u64,
    step: u64,
    zeta: f64,
    eta: f64,
}

fn divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Load {
    pub(crate) fn new(rows: u64, seed: u64) -> Self {
        let zeta = |n: u64| (1..=n).map(|rank| (rank as f64).powf(-SKEW)).sum::<f64>();
        let all = zeta(rows);
        let eta = (1.0 - (2.0 / rows as f64).powf(1.0 - SKEW)) / (1.0 - zeta(2) / all);
        // Without a common divisor, steps of this width meet each row once.
        let wide = (rows as f64 * 0.618) as u64 | 1;
        let step = (wide..).find(|step| divisor(*step, rows) == 1).expect("a prime, say");
        Self { rng: Rng::with_seed(seed), rows, step, zeta: all, eta }
    }

    fn rank(&mut self) -> u64 {
        let (drawn, rows) = (self.rng.f64(), self.rows as f64);
        let at = drawn * self.zeta;
        if at < 1.0 {
            return 0;
        }
        if at < 1.0 + 0.5_f64.powf(SKEW) {
            return 1;
        }
        let rank = rows * (self.eta * drawn - self.eta + 1.0).powf(1.0 / (1.0 - SKEW));
        (rank as u64).min(self.rows - 1)
    }

    fn row(&mut self) -> u64 {
        (u128::from(self.rank()) * u128::from(self.step) % u128::from(self.rows)) as u64
    }

    pub(crate) fn next(&mut self) -> Request {
        if self.rng.u32(..SCANS) == 0 {
            let rows = self.rng.usize(1..=SCANNED);
            return Request::Scan(self.row(), rows);
        }
        Request::Row(self.row())
    }
}

#[cfg(test)]
mod tests {
    use super::{Load, Request};

    #[test]
    fn a_tenth_of_the_rows_has_more_than_half_of_the_requests() {
        let (mut load, mut counts) = (Load::new(10_000, 1), vec![0_u32; 10_000]);
        for _ in 0..200_000 {
            if let Request::Row(row) = load.next() {
                counts[row as usize] += 1;
            }
        }
        counts.sort_unstable();
        let (top, all) = (counts[9000..].iter().sum::<u32>(), counts.iter().sum::<u32>());
        assert!((0.55..0.85).contains(&(f64::from(top) / f64::from(all))), "{top} of {all}");
    }
}
