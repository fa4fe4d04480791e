//! A run as a JSON line and as a row of a Markdown table, and the bars that it is held to.

use serde_json::{Value, json};

use crate::packing::{Course, Held};

/// How much denser than by the kernel's rules a fill has to be, in payload per byte of pages.
const FILL: f64 = 0.003;
/// Payload per byte held after a fill, from this many objects on.
const DENSITY: (f64, usize) = (0.955, 60_000);
/// Metadata per handle slot in bytes, beyond this share of the pages.
const METADATA: (f64, f64) = (16.0, 0.003);

/// What was stored, and what it took.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) file: String,
    pub(crate) codec: String,
    pub(crate) seed: u64,
    /// Payload per byte of the file's pages.
    pub(crate) payload_share: f64,
    pub(crate) pool: Course,
    /// Handle slots that the pool had made at each station.
    pub(crate) slots: [usize; 3],
    /// The figures of the kernel's rules.
    pub(crate) kernel: Course,
    /// The kernel's own figures, where they were asked for and can be had.
    pub(crate) zram: Option<Course>,
}

/// A figure by its name, what it has to reach, and whether it does.
type Bar = (&'static str, f64, f64, bool);

/// Six digits behind the point are enough for every figure here.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

impl Run {
    /// Metadata per handle slot beyond the part that pages pay for, at the worst station.
    fn slot_metadata(&self) -> f64 {
        let at = |(held, slots): (&Held, &usize)| {
            let beyond = held.metadata_bytes as f64 - METADATA.1 * held.page_bytes as f64;
            beyond / (*slots).max(1) as f64
        };
        self.pool.stations().into_iter().zip(&self.slots).map(at).fold(f64::MIN, f64::max)
    }

    /// Every bar that the run is held to, with its figure.
    fn bars(&self) -> Vec<Bar> {
        let (pool, kernel) = (&self.pool, &self.kernel);
        let over = |name, ours: f64, theirs: f64, bar| {
            let figure = rounded(ours - theirs);
            (name, figure, bar, figure >= bar)
        };
        let pages = |of: fn(&Course) -> &Held| [pool, kernel].map(|one| of(one).pages_density());
        let [fill, kernel_fill] = pages(|course| &course.fill);
        let [churned, kernel_churned] = pages(|course| &course.churned);
        let all_in = [pool, kernel].map(|course| course.compacted.density());
        let metadata = rounded(self.slot_metadata());
        let mut bars = vec![
            over("fill_over_kernel", fill, kernel_fill, FILL),
            over("churned_over_kernel", churned, kernel_churned, 0.0),
            over("all_in_over_kernel", all_in[0], all_in[1], 0.0),
            ("metadata_per_object", metadata, METADATA.0, metadata <= METADATA.0),
        ];
        if pool.fill.objects >= DENSITY.1 {
            bars.push(over("fill_density", pool.fill.density(), 0.0, DENSITY.0));
        }
        bars
    }

    /// The run as one line of JSON.
    pub(crate) fn json(&self) -> Value {
        let course = |course: &Course| {
            course.stations().map(|held| {
                json!({
                    "pages_density": rounded(held.pages_density()),
                    "density": rounded(held.density()),
                })
            })
        };
        json!({
            "file": self.file, "codec": self.codec, "seed": self.seed,
            "objects": self.pool.fill.objects, "density": rounded(self.pool.fill.density()),
            "payload_per_page_byte": rounded(self.payload_share),
            "pool": course(&self.pool), "kernel": course(&self.kernel),
            "zram": self.zram.as_ref().map(course),
        })
    }

    /// The run as a row under [`TABLE_HEAD`].
    pub(crate) fn row(&self) -> String {
        let pair = |ours: f64, theirs: f64| format!("{ours:.4} / {theirs:.4}");
        let stations = self.pool.stations().into_iter().zip(self.kernel.stations());
        let pages: Vec<String> = stations
            .map(|(ours, theirs)| pair(ours.pages_density(), theirs.pages_density()))
            .collect();
        let missed = self.bars().into_iter().filter(|(.., met)| !met);
        let missed = missed.map(|(name, figure, bar, _)| format!("{name} {:+.4}", figure - bar));
        format!(
            "| {} | {} | {} | {} | {:.4} | {} | {:.1} | {} |",
            self.file,
            self.pool.fill.objects,
            self.seed,
            pages.join(" | "),
            self.pool.fill.density(),
            pair(self.pool.compacted.density(), self.kernel.compacted.density()),
            self.slot_metadata(),
            missed.collect::<Vec<_>>().join(", "),
        )
    }
}

/// Head of the Markdown table. Each pair is the pool's figure and that of the kernel's rules.
pub(crate) const TABLE_HEAD: &str = "\
| pages | objects | seed | fill, pages only | churned, pages only | compacted, pages only \
| fill, all-in | compacted, all-in | B a slot | bars missed by |
|---|---|---|---|---|---|---|---|---|---|";
