//! Which rows make which figure.

use std::collections::{BTreeMap, BTreeSet};

use crate::charts::bars::{Bar, Bars, Group};
use crate::charts::curves::{Curve, Curves, Panel};
use crate::charts::grouping::{Number, by_trace, curves, median, medians};
use crate::charts::scale::{Spread, label};
use crate::charts::series::{Entry, Series, Style};
use crate::charts::suite::{Run, Suite};
use crate::charts::throughput::{effective, relative};

const MIB: f64 = 1024.0 * 1024.0;
/// The style of the kernel's curve.
const KERNEL: usize = 1;

/// A figure.
#[derive(Debug)]
pub enum Figure {
    /// Of bars.
    Bars(Bars),
    /// Of curves.
    Curves(Curves),
}

impl Figure {
    /// A word that tells it from others; also the name of its file.
    #[must_use]
    pub fn id(&self) -> &'static str {
        match self {
            Self::Bars(bars) => bars.id,
            Self::Curves(curves) => curves.id,
        }
    }

    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        match self {
            Self::Bars(bars) => bars.svg(),
            Self::Curves(curves) => curves.svg(),
        }
    }
}

/// The figures of `suite`, in the order of the page.
#[must_use]
pub fn figures(suite: &Suite) -> Vec<Figure> {
    let series = Series::new(suite);
    vec![
        Figure::Bars(pages_per_mib(suite, &series)),
        Figure::Curves(hit_ratio(suite, &series)),
        Figure::Bars(hit_time(suite, &series)),
        Figure::Curves(effective(suite, &series)),
        Figure::Curves(relative(suite, &series)),
        Figure::Curves(density(suite)),
        Figure::Curves(scaling(suite, &series)),
    ]
}

/// Bars of one field by page set.
fn by_pages(
    suite: &Suite,
    series: &Series,
    value: impl Fn(&Run) -> Option<f64>,
    notch: impl Fn(&Run) -> Option<f64>,
    mark: impl Fn(&Run) -> Option<f64>,
) -> Vec<Group> {
    // Sets of one page size side by side: their figures are of one order.
    let mut sets: BTreeMap<(Option<Number>, &str), Vec<&Run>> = BTreeMap::new();
    for run in suite.plain_runs().filter(|run| value(run).is_some()) {
        sets.entry((run.page_bytes.map(Number), &run.pages)).or_default().push(run);
    }
    // A file may be cut into pages of several sizes.
    let names: Vec<&str> = sets.keys().map(|(_, name)| *name).collect();
    let several = |name: &str| names.iter().filter(|other| **other == name).count() > 1;
    let group = |((bytes, name), runs): ((Option<Number>, &str), Vec<&Run>)| {
        let cut = bytes.filter(|_| several(name));
        let name = cut.map_or(name.to_owned(), |bytes| format!("{name}, {} B", bytes.0));
        let bar = |number: usize| {
            let own = || runs.iter().filter(|run| series.of_run(run) == Some(number));
            let values: Vec<f64> = own().filter_map(|run| value(run)).collect();
            let notches: Vec<f64> = own().filter_map(|run| notch(run)).collect();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let value = median(&values)?;
            Some(Bar { series: number, value, span: (least, most), notch: median(&notches) })
        };
        let bars = (0..series.entries().len()).filter_map(bar).collect();
        let mark = runs.iter().find_map(|run| mark(run));
        Group { name, bars, mark }
    };
    sets.into_iter().map(group).collect()
}

const MEDIANS: &str = "A bar is the median over traces and budgets; the thin line on it goes from the least \
                       to the most.";

fn pages_per_mib(suite: &Suite, series: &Series) -> Bars {
    let bound = |run: &Run| run.page_bytes.filter(|bytes| *bytes > 0.0).map(|bytes| MIB / bytes);
    Bars {
        id: "pages-per-mib",
        title: "Pages held in each MiB of resident memory",
        notes: vec![
            format!("By page set, at the end of a run. {MEDIANS}"),
            "Dashed: uncompressed pages in a MiB.".into(),
        ],
        unit: "pages per MiB",
        series: series.entries().to_vec(),
        groups: by_pages(suite, series, |run| run.pages_per_mib, |_| None, bound),
    }
}

fn hit_time(suite: &Suite, series: &Series) -> Bars {
    Bars {
        id: "hit-time",
        title: "Time of a hit beside the bare codec's",
        notes: vec![
            format!("By page set, one thread. {MEDIANS}"),
            "Black bar across: what the cache's codec alone takes to decode such a page.".into(),
        ],
        unit: "nanoseconds a hit",
        series: series.entries().to_vec(),
        groups: by_pages(suite, series, |run| run.hit_ns, |run| run.decode_ns, |_| None),
    }
}

fn hit_ratio(suite: &Suite, series: &Series) -> Curves {
    let point = |run: &Run| run.percent.zip(run.hit_ratio);
    let runs = || suite.plain_runs().filter(|run| point(run).is_some());
    let panel = |(name, runs): (String, Vec<&Run>)| {
        let curves = curves(series, &runs, |run| point(run).into_iter().collect());
        Panel { name, note: None, marks: Vec::new(), curves }
    };
    let percents: BTreeSet<Number> = runs().filter_map(|run| run.percent).map(Number).collect();
    let mut notes =
        vec!["By trace, at equal resident memory; upright axes differ and leave 0 out.".to_owned()];
    let bytes = suite.plain_runs().filter(|run| run.percent.is_none() && run.hit_ratio.is_some());
    match bytes.count() {
        0 => {}
        1 => notes.push("Not shown: 1 run whose budget is not in percent.".into()),
        count => notes.push(format!("Not shown: {count} runs whose budgets are not in percent.")),
    }
    Curves {
        id: "hit-ratio",
        title: "Hit ratio by memory",
        notes,
        x: (
            "memory, % of compressed data",
            Spread::LogAt(percents.into_iter().map(|percent| percent.0).collect()),
        ),
        y: ("hits per request", Spread::Linear),
        level: None,
        series: series.entries().to_vec(),
        panels: by_trace(runs()).into_iter().map(panel).collect(),
    }
}

fn density(suite: &Suite) -> Curves {
    let mut sets: BTreeMap<&str, [Vec<(f64, f64)>; 2]> = BTreeMap::new();
    for row in &suite.density {
        let columns = [row.zcache, row.kernel];
        for (number, value) in columns.into_iter().enumerate() {
            let points = &mut sets.entry(&row.pages).or_default()[number];
            points.extend(value.map(|value| (row.objects, value)));
        }
    }
    let panel = |(name, columns): (&str, [Vec<(f64, f64)>; 2])| {
        let curve = |(series, points): (usize, Vec<(f64, f64)>)| Curve {
            series,
            points: medians(points.into_iter()),
            line: Vec::new(),
        };
        let columns = columns.into_iter().enumerate().filter(|(_, points)| !points.is_empty());
        let curves = columns.map(curve).collect();
        Panel { name: name.to_owned(), note: None, marks: Vec::new(), curves }
    };
    let objects: BTreeSet<Number> = suite.density.iter().map(|row| Number(row.objects)).collect();
    let entry = |name: &str, style| Entry { name: name.into(), style: Style::of(style) };
    Curves {
        id: "density",
        title: "Payload per byte held, by population",
        notes: vec![
            "After a fill; pages and metadata together. The upright axis leaves 0 out.".into(),
        ],
        x: ("objects", Spread::LogAt(objects.into_iter().map(|objects| objects.0).collect())),
        y: ("payload per byte held", Spread::Linear),
        level: None,
        series: vec![
            entry("zcache's allocator (zpool)", 0),
            entry("the kernel's rules (zsmalloc)", KERNEL),
        ],
        panels: sets.into_iter().map(panel).collect(),
    }
}

fn scaling(suite: &Suite, series: &Series) -> Curves {
    let mut caches: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
    for row in &suite.scaling {
        if let Some((number, hits)) = series.of_cache(&row.cache).zip(row.hits_per_second) {
            caches.entry(number).or_default().push((row.threads, hits));
        }
    }
    let threads: BTreeSet<Number> = suite.scaling.iter().map(|row| Number(row.threads)).collect();
    let curve = |(series, points): (usize, Vec<(f64, f64)>)| Curve {
        series,
        points: medians(points.into_iter()),
        line: Vec::new(),
    };
    let curves: Vec<Curve> = caches.into_iter().map(curve).collect();
    let cores = suite.machine.cores.map(f64::from);
    let most = threads.last().map_or(0.0, |threads| threads.0);
    let marks: Vec<f64> = cores.into_iter().filter(|cores| *cores <= most).collect();
    let note = marks.first().map(|cores| format!("dashed: the machine's {} cores", label(*cores)));
    // One line of a cache stands for all its rows here, whatever settings others were measured with.
    let mut entries = series.entries().to_vec();
    for row in &suite.scaling {
        if let Some(entry) = series.of_cache(&row.cache).and_then(|at| entries.get_mut(at)) {
            entry.name.clone_from(&row.cache);
        }
    }
    let panel = Panel { name: "Hits on random keys".into(), note, marks, curves };
    let panels = if panel.curves.is_empty() { Vec::new() } else { vec![panel] };
    Curves {
        id: "scaling",
        title: "Hits per second by threads",
        notes: vec!["All threads together, each on random keys of one population.".into()],
        x: ("threads", Spread::LogAt(threads.into_iter().map(|threads| threads.0).collect())),
        y: ("hits per second", Spread::FromZero),
        level: None,
        series: entries,
        panels,
    }
}
