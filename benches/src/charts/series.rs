//! What is compared, how it is called, and how it is drawn.
//!
//! A series is a cache, with those of its settings in the name that differ between its own rows. All
//! figures of a suite draw it in one style.

use std::collections::{BTreeMap, BTreeSet};

use crate::charts::suite::{Run, Suite};

/// The cache that stands first.
pub const OURS: &str = "zcache";

/// Colours in steps of lightness that differ also for the colour-blind.
const COLORS: [&str; 8] =
    ["#0b3c8c", "#d55e00", "#1b9e77", "#e6a800", "#7b4fa3", "#56b4e9", "#555555", "#c2478f"];
const DASHES: [&str; 8] =
    ["none", "9 4", "2 3", "9 3 2 3", "5 3", "14 4", "9 3 2 3 2 3", "4 2 1 2"];

/// The form of a point on a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// A disc.
    Circle,
    /// A square.
    Square,
    /// A triangle that stands on its side.
    Triangle,
    /// A square that stands on its corner.
    Diamond,
    /// Two strokes, aslant.
    Cross,
    /// A triangle that stands on its tip.
    Wedge,
    /// Two strokes, upright.
    Plus,
    /// An upright bar.
    Bar,
}

/// The filling of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hatch {
    /// The colour alone.
    Solid,
    /// Lines that rise.
    Rising,
    /// Lines that fall.
    Falling,
    /// Lines that lie.
    Lying,
    /// Both kinds of slanted lines.
    Crossed,
    /// Upright lines.
    Upright,
    /// Dots.
    Dotted,
    /// A pale filling.
    Pale,
}

const MARKERS: [Marker; 8] = [
    Marker::Circle,
    Marker::Square,
    Marker::Triangle,
    Marker::Diamond,
    Marker::Cross,
    Marker::Wedge,
    Marker::Plus,
    Marker::Bar,
];
const HATCHES: [Hatch; 8] = [
    Hatch::Solid,
    Hatch::Rising,
    Hatch::Lying,
    Hatch::Falling,
    Hatch::Crossed,
    Hatch::Upright,
    Hatch::Dotted,
    Hatch::Pale,
];

/// How a series is drawn. Any one of the four tells the first eight apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Of everything.
    pub color: &'static str,
    /// Of its lines, as SVG writes it.
    pub dash: &'static str,
    /// Of its points.
    pub marker: Marker,
    /// Of its bars.
    pub hatch: Hatch,
}

impl Style {
    /// The style of the series at `index`. The ninth has the colour of the first, and another form.
    #[must_use]
    pub fn of(index: usize) -> Self {
        let form = (index + index / COLORS.len()) % COLORS.len();
        Self {
            color: COLORS[index % COLORS.len()],
            dash: DASHES[form],
            marker: MARKERS[form],
            hatch: HATCHES[form],
        }
    }
}

/// A name and its style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// The style.
    pub style: Style,
}

/// Those of `series` that `numbers` name.
pub fn entries_of(series: &[Entry], numbers: impl Iterator<Item = usize>) -> Vec<Entry> {
    let numbers: BTreeSet<usize> = numbers.collect();
    numbers.into_iter().filter_map(|number| series.get(number).cloned()).collect()
}

/// Every series of a suite, in the order in which they are drawn.
#[derive(Debug, Default)]
pub struct Series {
    entries: Vec<Entry>,
    /// For each cache: which settings its rows differ in.
    differing: BTreeMap<String, [bool; SETTINGS]>,
    /// The first series of each cache.
    first: BTreeMap<String, usize>,
}

const SETTINGS: usize = 4;

fn settings(run: &Run) -> [Option<&str>; SETTINGS] {
    [&run.values, &run.codec, &run.policy, &run.allocator].map(Option::as_deref)
}

impl Series {
    /// The series of `suite`: ours first, then the others by name.
    #[must_use]
    pub fn new(suite: &Suite) -> Self {
        let mut seen: BTreeMap<&str, [BTreeSet<Option<&str>>; SETTINGS]> = BTreeMap::new();
        for run in suite.plain_runs() {
            let of_cache = seen.entry(&run.cache).or_default();
            for (seen, setting) in of_cache.iter_mut().zip(settings(run)) {
                seen.insert(setting);
            }
        }
        let differing = seen
            .into_iter()
            .map(|(cache, seen)| (cache.to_owned(), seen.map(|values| values.len() > 1)));
        let mut series = Self { differing: differing.collect(), ..Self::default() };
        let runs = suite.plain_runs().map(|run| (run.cache.clone(), series.name(run)));
        let scaled = suite.scaling.iter().map(|row| &row.cache);
        let scaled = scaled.filter(|cache| !series.differing.contains_key(*cache));
        let scaled = scaled.map(|cache| (cache.clone(), cache.clone()));
        let mut names: Vec<(String, String)> = runs.chain(scaled).collect();
        names.sort_by_key(|(cache, name)| (cache != OURS, cache.clone(), name.clone()));
        names.dedup();
        for (index, (cache, name)) in names.into_iter().enumerate() {
            series.first.entry(cache).or_insert(index);
            series.entries.push(Entry { name, style: Style::of(index) });
        }
        series
    }

    /// What the series of `run` is called.
    #[must_use]
    pub fn name(&self, run: &Run) -> String {
        let differing = self.differing.get(&run.cache).copied().unwrap_or_default();
        let mut name = run.cache.clone();
        for (setting, _) in settings(run).into_iter().zip(differing).filter(|(_, differs)| *differs)
        {
            // Plain values have no codec to tell of, and others are compressed as a matter of course.
            if let Some(setting) =
                setting.filter(|setting| !["compressed", "none"].contains(setting))
            {
                name = format!("{name} {setting}");
            }
        }
        name
    }

    /// The number of the series of `run`.
    #[must_use]
    pub fn of_run(&self, run: &Run) -> Option<usize> {
        let name = self.name(run);
        self.entries.iter().position(|entry| entry.name == name)
    }

    /// The number of the first series of `cache`.
    #[must_use]
    pub fn of_cache(&self, cache: &str) -> Option<usize> {
        self.first.get(cache).copied()
    }

    /// Whether series number `index` is ours.
    #[must_use]
    pub fn is_ours(&self, index: usize) -> bool {
        let name = self.entries.get(index).map(|entry| entry.name.as_str());
        name.is_some_and(|name| name == OURS || name.starts_with("zcache "))
    }

    /// All of them.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_the_settings_that_differ_and_no_other() {
        let row = |cache: &str, codec: &str| {
            format!(
                r#"{{"trace":"t","pages":"p","cache":"{cache}","codec":"{codec}","policy":"s3fifo"}}"#
            )
        };
        let rows = [row("moka", "lz4"), row("zcache", "zstd:3"), row("zcache", "lz4")].join(",");
        let text = format!(
            r#"{{"kind":"suite","rows":[{rows}],"scaling":[{{"cache":"arc","threads":1}}]}}"#
        );
        let series = Series::new(&Suite::parse(&text).expect("a suite"));
        let names: Vec<&str> = series.entries().iter().map(|entry| &*entry.name).collect();
        assert_eq!(names, ["zcache lz4", "zcache zstd:3", "arc", "moka"]);
        assert_eq!(series.of_cache("zcache"), Some(0));
        assert!(series.is_ours(1) && !series.is_ours(2));
    }

    #[test]
    fn each_part_of_a_style_tells_the_first_eight_apart_and_the_whole_many_more() {
        let styles: Vec<Style> = (0..56).map(Style::of).collect();
        for (index, style) in styles.iter().enumerate() {
            assert!(!styles[..index].contains(style), "{index}");
            if index < 8 {
                for other in &styles[..index] {
                    assert_ne!((style.color, style.dash), (other.color, other.dash));
                    assert!(style.marker != other.marker && style.hatch != other.hatch);
                }
            }
        }
    }
}
