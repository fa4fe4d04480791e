//! What is left of the throughput when misses cost something, and where caches break even.

use std::collections::BTreeSet;

use crate::charts::breakeven::{Outcome, Rates, compare, costs, rate_at};
use crate::charts::curves::{Curve, Curves, Panel};
use crate::charts::grouping::{Number, by_trace, curves};
use crate::charts::scale::{Spread, label};
use crate::charts::series::Series;
use crate::charts::suite::{Effective, Run, Suite};

/// The budget whose throughput is shown, in percent: the nearest one that was measured.
const PERCENT: f64 = 10.0;

fn rates(run: &Run) -> Rates {
    let rate = |at: &Effective| Some((at.miss_us, at.ops_per_second?));
    run.effective
        .iter()
        .filter_map(rate)
        .filter(|(cost, rate)| *cost >= 0.0 && *rate > 0.0)
        .collect()
}

/// Those of `runs` that have the budget that is shown, under a name that tells it.
fn one_budget((name, runs): (String, Vec<&Run>)) -> (String, Vec<&Run>) {
    let distance = |percent: &Number| Number((percent.0 / PERCENT).ln().abs());
    let percents = runs.iter().filter_map(|run| run.percent).filter(|percent| *percent > 0.0);
    let percent = percents.map(Number).min_by_key(distance).map(|percent| percent.0);
    let at = percent.map_or(String::new(), |percent| format!(", {} %", label(percent)));
    let runs = runs.into_iter().filter(|run| run.percent == percent).collect();
    (format!("{name}{at}"), runs)
}

/// Runs with rates, by trace.
fn runs_by_trace(suite: &Suite) -> Vec<(String, Vec<&Run>)> {
    let runs = suite.plain_runs().filter(|run| !rates(run).is_empty());
    by_trace(runs).into_iter().map(one_budget).collect()
}

/// A curve for each series, bent as the formula has it between measured costs.
fn bent(series: &Series, runs: &[&Run]) -> Vec<Curve> {
    let bend = |curve: Curve| {
        let costs = costs([&curve.points].into_iter());
        let rate = |cost| Some((cost, rate_at(&curve.points, cost)?));
        Curve { line: costs.into_iter().filter_map(rate).collect(), ..curve }
    };
    curves(series, runs, rates).into_iter().map(bend).collect()
}

fn of(curves: &[Curve], wanted: impl Fn(usize) -> bool) -> Vec<Rates> {
    let wanted = curves.iter().filter(|curve| wanted(curve.series));
    wanted.map(|curve| curve.points.clone()).collect()
}

/// All costs, as ticks.
fn cost_axis(panels: &[Panel]) -> (&'static str, Spread) {
    let curves = panels.iter().flat_map(|panel| &panel.curves);
    let costs: BTreeSet<Number> =
        curves.flat_map(|curve| &curve.points).map(|(cost, _)| Number(*cost)).collect();
    ("cost of a miss, us", Spread::LogAt(costs.into_iter().map(|cost| cost.0).collect()))
}

const BUDGET: &str = "By trace, at the budget nearest 10 %. Between measured costs the time of an operation is interpolated.";

/// Operations per second, with the break-even marked.
pub(super) fn effective(suite: &Suite, series: &Series) -> Curves {
    let panel = |(name, runs): (String, Vec<&Run>)| {
        let curves = bent(series, &runs);
        let ours = of(&curves, |number| series.is_ours(number));
        let (note, marks) = match compare(&ours, &of(&curves, |number| !series.is_ours(number))) {
            Outcome::Unknown => ("nothing to compare".to_owned(), Vec::new()),
            Outcome::Above => ("zcache first at every cost".to_owned(), Vec::new()),
            Outcome::Below => ("another first at every cost".to_owned(), Vec::new()),
            Outcome::At(marks) => {
                let costs: Vec<String> = marks.iter().map(|cost| label(*cost)).collect();
                (format!("break-even: {} us", costs.join(", ")), marks)
            }
        };
        Panel { name, note: Some(note), marks, curves }
    };
    let panels: Vec<Panel> = runs_by_trace(suite).into_iter().map(panel).collect();
    Curves {
        id: "effective",
        title: "Operations per second by what a miss costs",
        notes: vec![
            BUDGET.into(),
            "Dashed, upright: the cost at which the fastest zcache and the fastest other cache change places."
                .into(),
        ],
        x: cost_axis(&panels),
        y: ("operations per second", Spread::Log),
        level: None,
        series: series.entries().to_vec(),
        panels,
    }
}

/// The same by those of the fastest cache that is not ours.
pub(super) fn relative(suite: &Suite, series: &Series) -> Curves {
    let panel = |(name, runs): (String, Vec<&Run>)| {
        let mut curves = bent(series, &runs);
        let others = of(&curves, |number| !series.is_ours(number));
        let best = |cost| others.iter().filter_map(|rates| rate_at(rates, cost)).reduce(f64::max);
        let by_best = |points: &Rates| -> Rates {
            points.iter().filter_map(|(cost, rate)| Some((*cost, rate / best(*cost)?))).collect()
        };
        for curve in &mut curves {
            (curve.points, curve.line) = (by_best(&curve.points), by_best(&curve.line));
        }
        curves.retain(|curve| !curve.points.is_empty());
        Panel { name, note: None, marks: Vec::new(), curves }
    };
    let mut panels: Vec<Panel> = runs_by_trace(suite).into_iter().map(panel).collect();
    panels.retain(|panel| !panel.curves.is_empty());
    Curves {
        id: "relative",
        title: "Operations per second by those of the fastest other cache",
        notes: vec![
            BUDGET.into(),
            "Dashed: the fastest cache that is not zcache, at that cost.".into(),
        ],
        x: cost_axis(&panels),
        y: ("by the fastest other", Spread::FromZero),
        level: Some(1.0),
        series: series.entries().to_vec(),
        panels,
    }
}
