//! The rows as a table, and what they come to.

use std::fmt::Write as _;

use crate::contestants::{Contestant, RIVAL};

/// Points of hit ratio that two policies have to differ by for one to win.
const CLEARLY: f64 = 0.05;

/// Hit ratios in percent, of one trace at one size.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) trace: String,
    pub(crate) percent: f64,
    pub(crate) entries: usize,
    pub(crate) optimum: f64,
    /// In the order of the policies.
    pub(crate) ratios: Vec<f64>,
}

/// What a policy comes to over all rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sum {
    /// Points above the rival: on average, at worst, at best.
    pub(crate) mean: f64,
    pub(crate) worst: f64,
    pub(crate) best: f64,
    /// Rows won and lost by more than [`CLEARLY`].
    pub(crate) won: usize,
    pub(crate) lost: usize,
    /// Points below the optimum, on average.
    pub(crate) distance: f64,
}

impl Sum {
    /// Of rows of a policy's ratio, its rival's and the optimum. At least one row.
    pub(crate) fn of(rows: &[[f64; 3]]) -> Self {
        let more: Vec<f64> = rows.iter().map(|[own, rival, _]| own - rival).collect();
        let mean = |sum: f64| sum / rows.len() as f64;
        Self {
            mean: mean(more.iter().sum()),
            worst: more.iter().copied().fold(f64::INFINITY, f64::min),
            best: more.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            won: more.iter().filter(|more| **more > CLEARLY).count(),
            lost: more.iter().filter(|more| **more < -CLEARLY).count(),
            distance: mean(rows.iter().map(|[own, _, optimum]| optimum - own).sum()),
        }
    }
}

pub(crate) fn text(policies: &[Contestant], rows: &[Row]) -> String {
    let mut text = String::new();
    let _ = write!(text, "{:<20} {:>3} {:>8}", "hits in percent", "%", "entries");
    for one in policies {
        let _ = write!(text, " {:>13}", one.name);
    }
    let _ = writeln!(text, " {:>8}", "optimum");
    for row in rows {
        let _ = write!(text, "{:<20} {:>3} {:>8}", row.trace, row.percent, row.entries);
        for ratio in &row.ratios {
            let _ = write!(text, " {ratio:>13.2}");
        }
        let _ = writeln!(text, " {:>8.2}", row.optimum);
    }
    let Some(rival) = policies.iter().position(|one| one.name == RIVAL) else { return text };
    let _ = writeln!(
        text,
        "\n{:<14} {:>8} {:>8} {:>8} {:>5} {:>5} {:>12}   points to {RIVAL}; below the optimum",
        "over all rows", "mean", "worst", "best", "won", "lost", "to optimum"
    );
    for (at, one) in policies.iter().enumerate() {
        let rows: Vec<_> =
            rows.iter().map(|row| [row.ratios[at], row.ratios[rival], row.optimum]).collect();
        let Sum { mean, worst, best, won, lost, distance } = Sum::of(&rows);
        let _ = writeln!(
            text,
            "{:<14} {mean:>+8.2} {worst:>+8.2} {best:>+8.2} {won:>5} {lost:>5} {distance:>12.2}",
            one.name
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_of_the_rows() {
        let sum = Sum::of(&[[50.0, 48.0, 60.0], [30.0, 31.0, 40.0], [20.0, 20.0, 20.0]]);
        let expected =
            Sum { mean: 1.0 / 3.0, worst: -1.0, best: 2.0, won: 1, lost: 1, distance: 20.0 / 3.0 };
        assert_eq!(sum, expected);
    }
}
