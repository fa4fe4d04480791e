//! Rows put together by what they have in common, and the middle of what they say.

use std::collections::BTreeMap;

use crate::charts::curves::Curve;
use crate::charts::series::Series;
use crate::charts::suite::Run;

/// A number that sorts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number(pub(super) f64);

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The middle one of some values, or the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// Medians by number, of values that came with it.
pub(super) fn medians(values: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut grouped: BTreeMap<Number, Vec<f64>> = BTreeMap::new();
    for (number, value) in values {
        grouped.entry(Number(number)).or_default().push(value);
    }
    grouped.iter().filter_map(|(number, values)| Some((number.0, median(values)?))).collect()
}

/// Runs by trace and page set, under a name that holds the page set where a trace has several.
pub(super) fn by_trace<'a>(runs: impl Iterator<Item = &'a Run>) -> Vec<(String, Vec<&'a Run>)> {
    let mut grouped: BTreeMap<(&str, &str), Vec<&Run>> = BTreeMap::new();
    for run in runs {
        grouped.entry((&run.trace, &run.pages)).or_default().push(run);
    }
    let traces: Vec<&str> = grouped.keys().map(|(trace, _)| *trace).collect();
    let several = |trace: &str| traces.iter().filter(|other| **other == trace).count() > 1;
    let name = |trace: &str, pages: &str| match several(trace) {
        true => format!("{trace}, {pages}"),
        false => trace.to_owned(),
    };
    grouped.into_iter().map(|((trace, pages), runs)| (name(trace, pages), runs)).collect()
}

/// A curve for each series that has points.
pub(super) fn curves(
    series: &Series,
    runs: &[&Run],
    points: impl Fn(&Run) -> Vec<(f64, f64)>,
) -> Vec<Curve> {
    let curve = |number: usize| {
        let own = runs.iter().filter(|run| series.of_run(run) == Some(number));
        let points = medians(own.flat_map(|run| points(run)));
        (!points.is_empty()).then_some(Curve { series: number, points, line: Vec::new() })
    };
    (0..series.entries().len()).filter_map(curve).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 30.0]), Some(3.0));
        let values = [(2.0, 5.0), (1.0, 4.0), (2.0, 7.0)];
        assert_eq!(medians(values.into_iter()), [(1.0, 4.0), (2.0, 6.0)]);
    }
}
