//! From values to pixels, ticks at round values, and numbers as labels.

/// Ticks that an axis should have at least, where its range allows.
const TICKS: usize = 3;

/// How values are spread over an axis.
#[derive(Debug, Clone, PartialEq)]
pub enum Spread {
    /// Evenly, from the first tick to the last.
    Linear,
    /// Evenly, from 0.
    FromZero,
    /// By their logarithm.
    Log,
    /// By their logarithm, with ticks at these values. With a 0 among them, values below the least other
    /// one are spread evenly.
    LogAt(Vec<f64>),
}

/// What is drawn in equal steps.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// The value.
    Value,
    /// Its logarithm.
    Ln,
    /// Its logarithm, but for values up to about this one, which are drawn evenly down to 0.
    Asinh(f64),
}

impl Step {
    fn of(self, value: f64) -> f64 {
        match self {
            Self::Value => value,
            Self::Ln => value.ln(),
            Self::Asinh(even) => (value / even).asinh(),
        }
    }
}

/// An axis: values from `low` to `high`, in steps, on pixels from `from` to `to`.
#[derive(Debug, Clone)]
pub struct Scale {
    step: Step,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Scale {
    /// An axis for `values` on the pixels from `from` to `to`, or `None` where there is nothing to show.
    #[must_use]
    pub fn new(
        spread: &Spread,
        values: impl Iterator<Item = f64>,
        (from, to): (f64, f64),
    ) -> Option<Self> {
        let log = matches!(spread, Spread::Log | Spread::LogAt(_));
        let at = match spread {
            Spread::LogAt(at) => &at[..],
            _ => &[],
        };
        let shown = values.chain(at.iter().copied());
        let shown: Vec<f64> = shown.filter(|value| value.is_finite()).collect();
        let positive = shown.iter().copied().filter(|value| !log || *value > 0.0);
        let least = positive.clone().fold(f64::INFINITY, f64::min);
        let most = positive.fold(f64::NEG_INFINITY, f64::max);
        if least > most {
            return None;
        }
        let (step, low, high, ticks) = match spread {
            Spread::Linear => {
                let ticks = linear_ticks(least, most);
                (Step::Value, ticks[0].min(least), ticks[ticks.len() - 1].max(most), ticks)
            }
            Spread::FromZero => {
                let high = if most > 0.0 { most * 1.03 } else { 1.0 };
                let ticks = linear_ticks(0.0, high).into_iter().filter(|tick| *tick <= high);
                (Step::Value, 0.0, high, ticks.collect())
            }
            Spread::Log => {
                let (low, high) = ((least / 1.15).ln(), (most * 1.15).ln());
                (Step::Ln, low, high, log_ticks(least / 1.15, most * 1.15))
            }
            Spread::LogAt(at) => {
                let step = if at.contains(&0.0) { Step::Asinh(least / 2.0) } else { Step::Ln };
                let low = step.of(if at.contains(&0.0) { 0.0 } else { least });
                let pad = (step.of(most) - low).max(0.1) * 0.05;
                (step, low - pad, step.of(most) + pad, at.clone())
            }
        };
        Some(Self { step, low, high, from, to, ticks })
    }

    /// The pixel of `value`, or `None` where it has none.
    #[must_use]
    pub fn at(&self, value: f64) -> Option<f64> {
        let part = (self.step.of(value) - self.low) / (self.high - self.low);
        // A thousandth for what rounding does to values at the edge.
        let pixel = self.from + part * (self.to - self.from);
        (-0.001..=1.001).contains(&part).then_some(pixel)
    }

    /// Values that are to be labelled.
    #[must_use]
    pub fn ticks(&self) -> &[f64] {
        &self.ticks
    }
}

/// Round values in steps of 1, 2 or 5, from the last one below `least` to the first above `most`.
fn linear_ticks(least: f64, most: f64) -> Vec<f64> {
    let span = if most > least { most - least } else { least.abs().max(1e-9) };
    let raw = span / 5.0;
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= raw * 0.999);
    let step = factor.unwrap_or(10.0) * power;
    let first = (least / step + 1e-6).floor() as i64;
    let last = ((most / step - 1e-6).ceil() as i64).max(first + 1);
    (first..=last).map(|number| number as f64 * step).collect()
}

/// Powers of ten, with their doubles and fives where the range is short.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let within = |factors: &[f64]| -> Vec<f64> {
        let powers = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
        let values = powers.flat_map(|power| factors.iter().map(move |f| f * 10_f64.powi(power)));
        values.filter(|value| (low..=high).contains(value)).collect()
    };
    let sets: [&[f64]; 3] = [&[1.0], &[1.0, 3.0], &[1.0, 2.0, 5.0]];
    let enough = sets.into_iter().map(within).find(|ticks| ticks.len() >= TICKS);
    enough.unwrap_or_else(|| {
        let ticks = linear_ticks(low, high).into_iter();
        ticks.filter(|tick| (low..=high).contains(tick)).collect()
    })
}

/// A number as a label: three digits that count, and k, M or G.
#[must_use]
pub fn label(value: f64) -> String {
    let size = value.abs();
    let (value, unit) = match size {
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e4.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(spread: Spread, values: &[f64]) -> Scale {
        Scale::new(&spread, values.iter().copied(), (0.0, 100.0)).expect("an axis")
    }

    #[test]
    fn every_value_and_every_tick_is_on_its_axis() {
        let mut rng = fastrand::Rng::with_seed(1);
        for round in 0..2000 {
            let size = 10_f64.powi(rng.i32(-3..8));
            let values: Vec<f64> = (0..rng.usize(1..5)).map(|_| rng.f64() * size + 1e-6).collect();
            for spread in [Spread::Linear, Spread::Log, Spread::LogAt(values.clone())] {
                let scale = scale(spread.clone(), &values);
                for value in values.iter().chain(scale.ticks()) {
                    assert!(scale.at(*value).is_some(), "{round} {spread:?} {values:?} {value}");
                }
                assert!(scale.ticks().len() <= 14, "{values:?} {:?}", scale.ticks());
            }
        }
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(scale(Spread::Linear, &[0.0, 772.0]).ticks(), [0.0, 200.0, 400.0, 600.0, 800.0]);
        assert_eq!(scale(Spread::Log, &[900.0, 1.2e6]).ticks(), [1e3, 1e4, 1e5, 1e6]);
        assert_eq!(scale(Spread::Linear, &[5.0, 5.0]).ticks(), [5.0, 6.0]);
    }

    #[test]
    fn a_zero_has_its_place_on_a_logarithmic_axis_and_what_is_between_lies_between() {
        let with = scale(Spread::LogAt(vec![0.0, 20.0, 1000.0]), &[]);
        let places: Vec<f64> =
            [0.0, 0.1, 5.0, 20.0, 1000.0].iter().filter_map(|value| with.at(*value)).collect();
        assert!(places.len() == 5 && places.is_sorted_by(|a, b| a < b), "{places:?}");
        assert_eq!(scale(Spread::Log, &[20.0, 1000.0]).at(0.0), None);
    }

    #[test]
    fn nothing_to_show_is_no_axis() {
        for spread in [Spread::Linear, Spread::Log, Spread::LogAt(Vec::new())] {
            assert!(Scale::new(&spread, [f64::NAN].into_iter(), (0.0, 1.0)).is_none());
        }
        assert!(Scale::new(&Spread::Log, [0.0, -1.0].into_iter(), (0.0, 1.0)).is_none());
    }

    #[test]
    fn labels_keep_three_digits() {
        let labels = [0.0, 0.05, 0.973, 2.5, 42.0, 772.0, 1217.0, 20_000.0, 1_250_000.0, 3e9];
        let labels = labels.map(label);
        let wanted = ["0", "0.05", "0.973", "2.5", "42", "772", "1217", "20k", "1.25M", "3G"];
        assert_eq!(labels, wanted);
    }
}
