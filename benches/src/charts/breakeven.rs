//! Where two kinds of caches are equally fast: the miss cost from which on one gains more by its hits
//! than it loses by their price.
//!
//! The time of an operation is the time of a hit or a failed look-up plus the share of misses by what
//! one costs, so between two measured costs it is a straight line over the cost. Operations per second
//! are its inverse.

/// Pieces into which the stretch between two measured costs is cut in search of crossings.
const PIECES: u32 = 64;
/// Halvings of a piece that holds a crossing.
const HALVINGS: u32 = 50;

/// Operations per second by microseconds of a miss, from the cheapest on.
pub type Rates = Vec<(f64, f64)>;

/// What comparing two sets of curves tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// They have no cost in common.
    Unknown,
    /// The first set is faster at every cost.
    Above,
    /// The second set is as fast or faster at every cost.
    Below,
    /// They change places at these costs.
    At(Vec<f64>),
}

/// Operations per second at a cost between measured ones, or `None` beyond them.
#[must_use]
pub fn rate_at(rates: &[(f64, f64)], cost: f64) -> Option<f64> {
    if let Some((_, rate)) = rates.iter().find(|(at, _)| *at == cost) {
        return Some(*rate);
    }
    let pair = rates.windows(2).find(|pair| pair[0].0 < cost && cost < pair[1].0)?;
    let part = (cost - pair[0].0) / (pair[1].0 - pair[0].0);
    Some(1.0 / ((1.0 - part) / pair[0].1 + part / pair[1].1))
}

/// The measured costs and `PIECES` in between each two of them, in order.
#[must_use]
pub fn costs<'a>(curves: impl Iterator<Item = &'a Rates>) -> Vec<f64> {
    let mut measured: Vec<f64> = curves.flatten().map(|(cost, _)| *cost).collect();
    measured.sort_by(f64::total_cmp);
    measured.dedup();
    let between = measured.windows(2).flat_map(|pair| {
        let step = (pair[1] - pair[0]) / f64::from(PIECES);
        (0..PIECES).map(move |piece| pair[0] + step * f64::from(piece))
    });
    between.chain(measured.last().copied()).collect()
}

/// Compares the fastest of `ours` with the fastest of `theirs`, cost by cost.
#[must_use]
pub fn compare(ours: &[Rates], theirs: &[Rates]) -> Outcome {
    let best = |curves: &[Rates], cost: f64| {
        curves.iter().filter_map(|rates| rate_at(rates, cost)).reduce(f64::max)
    };
    let ahead = |cost: f64| Some(best(ours, cost)? > best(theirs, cost)?);
    let costs = costs(ours.iter().chain(theirs));
    let known: Vec<(f64, bool)> =
        costs.into_iter().filter_map(|cost| Some((cost, ahead(cost)?))).collect();
    let Some((_, first)) = known.first() else { return Outcome::Unknown };
    let changes = known.windows(2).filter(|pair| pair[0].1 != pair[1].1);
    let crossings: Vec<f64> = changes
        .map(|pair| {
            let (mut low, mut high) = (pair[0].0, pair[1].0);
            for _ in 0..HALVINGS {
                let middle = (low + high) / 2.0;
                match ahead(middle) == Some(pair[0].1) {
                    true => low = middle,
                    false => high = middle,
                }
            }
            high
        })
        .collect();
    match (crossings.is_empty(), first) {
        (true, true) => Outcome::Above,
        (true, false) => Outcome::Below,
        _ => Outcome::At(crossings),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache whose look-ups take `look_up` microseconds and miss by `misses`.
    fn rates(look_up: f64, misses: f64) -> Rates {
        [0.0, 20.0, 100.0, 1000.0].map(|cost| (cost, 1e6 / (look_up + misses * cost))).to_vec()
    }

    #[test]
    fn the_crossing_is_where_the_formula_has_it() {
        // 1.0 + 0.2 c = 0.4 + 0.3 c at c = 6; the third one is passed before, at c = 2.
        let (ours, plain, other) = (rates(1.0, 0.2), rates(0.4, 0.3), rates(0.9, 0.25));
        for theirs in [vec![plain.clone()], vec![plain, other]] {
            let Outcome::At(crossings) = compare(std::slice::from_ref(&ours), &theirs) else {
                panic!("none")
            };
            assert!(crossings.len() == 1 && (crossings[0] - 6.0).abs() < 1e-6, "{crossings:?}");
        }
    }

    #[test]
    fn without_a_crossing_the_faster_one_is_named() {
        let [fast, slow] = [rates(1.0, 0.2), rates(1.1, 0.3)].map(|rates| [rates]);
        assert_eq!(compare(&fast, &slow), Outcome::Above);
        assert_eq!(compare(&slow, &fast), Outcome::Below);
        assert_eq!(compare(&fast, &fast), Outcome::Below);
        assert_eq!(compare(&fast, &[]), Outcome::Unknown);
        let (early, late) = (fast[0][..2].to_vec(), fast[0][2..].to_vec());
        assert_eq!(compare(&[early], &[late]), Outcome::Unknown);
    }

    #[test]
    fn measured_rates_are_kept_and_none_is_made_up_beyond_them() {
        let rates = rates(1.0, 0.2);
        for (cost, rate) in &rates {
            assert_eq!(rate_at(&rates, *cost), Some(*rate));
        }
        let half = rate_at(&rates, 500.0).expect("between");
        assert!((half - 1e6 / 101.0).abs() < 1e-6);
        assert_eq!(rate_at(&rates, 1001.0), None);
        assert_eq!(rate_at(&rates[1..], 0.0), None);
    }
}
