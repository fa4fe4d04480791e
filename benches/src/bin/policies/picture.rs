//! How far each policy is from the optimum, as bars, a group a trace.

use benches::charts::bars::{Bar, Bars, Group};
use benches::charts::series::{Entry, Style};

use crate::contestants::Contestant;
use crate::run::Row;

pub(crate) fn svg(policies: &[Contestant], rows: &[Row]) -> String {
    let entry = |(index, one): (usize, &Contestant)| Entry {
        name: one.name.to_owned(),
        style: Style::of(index),
    };
    let groups = rows.chunk_by(|one, other| one.trace == other.trace).map(|rows| {
        let bar = |series| {
            let distances = rows.iter().map(|row| row.optimum - row.ratios[series]);
            let mean = distances.clone().sum::<f64>() / rows.len() as f64;
            let span =
                (distances.clone().fold(f64::INFINITY, f64::min), distances.fold(0.0, f64::max));
            Bar { series, value: mean, span, notch: None }
        };
        let bars = (0..policies.len()).map(bar).collect();
        Group { name: rows[0].trace.clone(), bars, mark: None }
    });
    let bars = Bars {
        id: "policies",
        title: "Distance to the optimum, at equal numbers of equal entries",
        notes: vec![
            "The mean over all sizes, with the least and the most; shorter is better.".into(),
        ],
        unit: "points of hit ratio",
        series: policies.iter().enumerate().map(entry).collect(),
        groups: groups.collect(),
    };
    bars.svg()
}
