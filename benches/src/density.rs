//! A run of `density` as a JSON line and as a row of a Markdown table, and the bars it is held to.

use serde_json::{Map, Value, json};

use crate::packing::{Course, Held};
use crate::pooled::Station;

/// What a fill has to pack denser than the kernel's rules, in payload per byte of pages.
const FILL: f64 = 0.003;
/// Payload per byte held after a fill, from this many objects on.
const DENSITY: (f64, usize) = (0.955, 60_000);
/// Metadata per handle slot in bytes, beyond this share of the pages.
const METADATA: (f64, f64) = (16.0, 0.003);

/// A run: what was stored, and what it took.
#[derive(Debug)]
pub struct Run {
    /// The page file's name.
    pub file: String,
    /// Bytes in a page of the file.
    pub page_size: usize,
    /// The codec's name.
    pub codec: String,
    /// Seed of the order.
    pub seed: u64,
    /// Whether only sizes were stored.
    pub sizes: bool,
    /// Payload per byte of the file's pages.
    pub payload_share: f64,
    /// The pool's figures.
    pub pool: Course,
    /// What the pool said of itself at the three stations.
    pub stations: [Station; 3],
    /// The figures of the kernel's rules.
    pub kernel: Course,
    /// The kernel's own figures, or why there are none; absent when not asked for.
    pub zram: Option<Result<Course, String>>,
    /// How long it all took.
    pub seconds: f64,
}

/// A figure and the bar it has to reach.
#[derive(Debug, Clone, Copy)]
pub struct Bar {
    /// The figure's name.
    pub name: &'static str,
    /// The figure.
    pub figure: f64,
    /// Its bar.
    pub bar: f64,
    /// Whether the bar is the most that is allowed, not the least.
    pub most: bool,
}

impl Bar {
    /// Whether the figure reaches its bar.
    #[must_use]
    pub fn met(&self) -> bool {
        if self.most { self.figure <= self.bar } else { self.figure >= self.bar }
    }
}

/// Six digits behind the point are enough for every figure here.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

/// Metadata per handle slot beyond the part that pages pay for.
fn slot_metadata(held: &Held, station: &Station) -> f64 {
    let beyond = held.metadata_bytes as f64 - METADATA.1 * held.page_bytes as f64;
    beyond / station.handle_slots.max(1) as f64
}

impl Run {
    fn stations(&self) -> [(&Held, &Station); 3] {
        let [fill, churned, compacted] = &self.stations;
        let pool = &self.pool;
        [(&pool.fill, fill), (&pool.churned, churned), (&pool.compacted, compacted)]
    }

    /// Whether the codec shrinks these pages. The bars are made for pages that it does.
    #[must_use]
    pub fn compressible(&self) -> bool {
        self.payload_share < 0.99
    }

    /// Every bar that the run is held to, with its figure.
    #[must_use]
    pub fn bars(&self) -> Vec<Bar> {
        let (pool, kernel) = (&self.pool, &self.kernel);
        let over = |name, ours: f64, theirs: f64, bar| {
            let figure = rounded(ours - theirs);
            Bar { name, figure, bar, most: false }
        };
        let (ours, theirs) = (&pool.compacted, &kernel.compacted);
        let mut bars = vec![
            over("fill_over_kernel", pool.fill.pages_density(), kernel.fill.pages_density(), FILL),
            over(
                "churned_over_kernel",
                pool.churned.pages_density(),
                kernel.churned.pages_density(),
                0.0,
            ),
            over("all_in_over_kernel", ours.density(), theirs.density(), 0.0),
        ];
        let worst = self.stations().map(|(held, station)| slot_metadata(held, station));
        let figure = rounded(worst.into_iter().fold(f64::MIN, f64::max));
        bars.push(Bar { name: "metadata_per_object", figure, bar: METADATA.0, most: true });
        if pool.fill.objects >= DENSITY.1 {
            let figure = rounded(pool.fill.density());
            bars.push(Bar { name: "fill_density", figure, bar: DENSITY.0, most: false });
        }
        bars
    }

    /// The run as one line of JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let [fill, churned, compacted] = self.stations().map(|(held, station)| {
            let mut figures = held_json(held);
            figures.insert("handle_slots".into(), json!(station.handle_slots));
            let slots = station.handle_slots.max(1) as f64;
            let metadata = held.metadata_bytes as f64 / slots;
            figures.insert("metadata_per_slot".into(), json!(rounded(metadata)));
            let beyond = rounded(slot_metadata(held, station));
            figures.insert("metadata_per_slot_beyond_pages".into(), json!(beyond));
            figures.insert("zspages".into(), json!(station.zspages));
            figures.insert("kept_pages_before_trim".into(), json!(station.kept_pages));
            figures.insert("metadata_before_trim".into(), json!(station.untrimmed_metadata));
            figures.insert("verified".into(), json!(station.verified));
            figures
        });
        let bar = |bar: Bar| {
            let figure = json!({ "figure": bar.figure, "bar": bar.bar, "met": bar.met() });
            (bar.name.to_owned(), figure)
        };
        let mut line = fill;
        line.insert("churned".into(), churned.into());
        line.insert("compacted".into(), compacted.into());
        line.insert("kernel".into(), course_json(&self.kernel));
        match &self.zram {
            Some(Ok(course)) => line.insert("zram".into(), course_json(course)),
            Some(Err(why)) => line.insert("zram".into(), json!({ "unavailable": why })),
            None => None,
        };
        line.insert("bars".into(), self.bars().into_iter().map(bar).collect::<Map<_, _>>().into());
        line.insert("file".into(), json!(self.file));
        line.insert("page_size".into(), json!(self.page_size));
        line.insert("codec".into(), json!(self.codec));
        line.insert("seed".into(), json!(self.seed));
        line.insert("stored".into(), json!(if self.sizes { "sizes" } else { "bytes" }));
        line.insert("payload_per_page_byte".into(), json!(rounded(self.payload_share)));
        line.insert("compressible".into(), json!(self.compressible()));
        line.insert("seconds".into(), json!((self.seconds * 10.0).round() / 10.0));
        line.into()
    }

    /// The run as a row under [`TABLE_HEAD`].
    #[must_use]
    pub fn row(&self) -> String {
        let (pool, kernel) = (&self.pool, &self.kernel);
        let pair = |ours: f64, theirs: f64| format!("{ours:.4} / {theirs:.4}");
        let pages = |ours: &Held, theirs: &Held| pair(ours.pages_density(), theirs.pages_density());
        let missed: Vec<String> = self
            .bars()
            .iter()
            .filter(|bar| !bar.met())
            .map(|bar| format!("{} {:+.4}", bar.name, bar.figure - bar.bar))
            .collect();
        let worst = self.stations().map(|(held, station)| slot_metadata(held, station));
        format!(
            "| {} | {} | {} | {} | {} | {} | {:.4} | {} | {:.1} | {} |",
            self.file,
            count(pool.fill.objects),
            self.seed,
            pages(&pool.fill, &kernel.fill),
            pages(&pool.churned, &kernel.churned),
            pages(&pool.compacted, &kernel.compacted),
            pool.fill.density(),
            pair(pool.compacted.density(), kernel.compacted.density()),
            worst.into_iter().fold(f64::MIN, f64::max),
            missed.join(", "),
        )
    }
}

/// Head of the Markdown table. Each pair is the pool's figure and that of the kernel's rules.
pub const TABLE_HEAD: &str = "\
| pages | objects | seed | fill, pages only | churned, pages only | compacted, pages only | fill, all-in \
| compacted, all-in | B a slot | bars missed by |
|---|---|---|---|---|---|---|---|---|---|";

fn held_json(held: &Held) -> Map<String, Value> {
    let mut figures = Map::new();
    figures.insert("objects".into(), json!(held.objects));
    figures.insert("payload_bytes".into(), json!(held.payload_bytes));
    figures.insert("page_bytes".into(), json!(held.page_bytes));
    figures.insert("metadata_bytes".into(), json!(held.metadata_bytes));
    figures.insert("density".into(), json!(rounded(held.density())));
    figures.insert("pages_density".into(), json!(rounded(held.pages_density())));
    figures
}

fn course_json(course: &Course) -> Value {
    json!({
        "fill": held_json(&course.fill),
        "churned": held_json(&course.churned),
        "compacted": held_json(&course.compacted),
    })
}

/// A count with a k or an M where that is exact.
fn count(objects: usize) -> String {
    match objects {
        0 => "0".into(),
        n if n % 1_000_000 == 0 => format!("{}M", n / 1_000_000),
        n if n % 1000 == 0 => format!("{}k", n / 1000),
        n => n.to_string(),
    }
}
