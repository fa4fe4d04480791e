//! Quantiles of times, beside those of quick_cache.

use std::time::Instant;

use serde_json::{Value, json};

use crate::rivals::Rivals;
use crate::spec::Kind;

/// The figures in their order.
pub(crate) fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// The figure that `share` of all are below.
///
/// # Panics
/// There are none.
pub(crate) fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() as f64 * share) as usize).min(sorted.len() - 1)]
}

/// Nanoseconds between two looks at the clock, in the median.
pub(crate) fn clock() -> u64 {
    let look = |_| {
        let start = Instant::now();
        start.elapsed().as_nanos() as u64
    };
    let mut times: Vec<u64> = (0..1001).map(look).collect();
    times.sort_unstable();
    times[500]
}

/// Nanoseconds to a tenth.
pub(crate) fn rounded(nanoseconds: f64) -> f64 {
    (nanoseconds * 10.0).round() / 10.0
}

/// One figure of each rival, and what they are to quick_cache's, where it takes part.
pub(crate) struct Beside {
    figures: Vec<f64>,
    yardstick: Option<f64>,
}

impl Beside {
    pub(crate) fn new(rivals: &Rivals<'_>, of: impl Fn(usize) -> f64) -> Self {
        let figures: Vec<f64> = (0..rivals.all.len()).map(of).collect();
        let name = Kind::QuickCache.name();
        let yardstick = rivals.all.iter().position(|rival| rival.name == name);
        Self { yardstick: yardstick.map(|at| figures[at]), figures }
    }

    pub(crate) fn figure(&self, rival: usize) -> f64 {
        rounded(self.figures[rival])
    }

    pub(crate) fn ratio(&self, rival: usize) -> Value {
        let ratio = |yardstick: f64| (self.figures[rival] / yardstick * 1e3).round() / 1e3;
        json!(self.yardstick.filter(|yardstick| *yardstick > 0.0).map(ratio))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_figures_is_below_a_quantile() {
        let figures = sorted([5.0, 1.0, 4.0, 2.0, 3.0, 10.0, 9.0, 8.0, 7.0, 6.0].into_iter());
        assert_eq!(
            [0.0, 0.1, 0.5, 0.9, 1.0].map(|share| at(&figures, share)),
            [1.0, 2.0, 6.0, 10.0, 10.0]
        );
        assert_eq!(at(&[7.0], 0.5), 7.0);
    }
}
