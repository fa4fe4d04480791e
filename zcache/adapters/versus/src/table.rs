//! What was measured, as Markdown and as JSON.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::child::Measured;
use crate::rows::Kind;

/// One cache with one amount of memory.
#[derive(Debug)]
pub(crate) struct Line {
    /// Percent of the file that is resident. `None`: everything fits the database's own cache.
    pub(crate) percent: Option<f64>,
    pub(crate) cache: String,
    pub(crate) is_own: bool,
    pub(crate) measured: Measured,
}

/// What a program has measured.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) rows: Kind,
    /// Bytes of the database.
    pub(crate) file: f64,
    pub(crate) amount: u64,
    pub(crate) cost: Duration,
    pub(crate) lines: Vec<Line>,
}

const MIB: f64 = (1 << 20) as f64;

fn time(cost: Duration) -> String {
    let micros = cost.as_micros();
    if micros >= 1000 && micros.is_multiple_of(1000) {
        format!("{} ms", micros / 1000)
    } else {
        format!("{micros} us")
    }
}

impl Table {
    /// The best of the database's own caches with the same memory.
    fn own(&self, line: &Line) -> Measured {
        let same = |other: &&Line| other.is_own && other.percent == line.percent;
        let own = self.lines.iter().filter(same).map(|own| own.measured);
        let best = own.min_by(|a, b| (a.reads, a.cpu).partial_cmp(&(b.reads, b.cpu)).unwrap());
        best.unwrap_or(line.measured)
    }

    pub(crate) fn markdown(&self) -> String {
        let (cost, micros) = (time(self.cost), self.cost.as_secs_f64() * 1e6);
        let mut text = format!(
            "{}: {:.0} MiB of {} rows of {}, gets by Zipf 0.9, 2 % scans of 1 to 100 rows\n\n\
             | memory | cache | resident | reads/op | of own | CPU us | us at {cost} \
             | measured | break-even |\n\
             |---|---|---|---|---|---|---|---|---|\n",
            self.name,
            self.file / MIB,
            self.amount,
            self.rows.name(),
        );
        for line in &self.lines {
            let Measured { resident, reads, cpu, slow, ratio } = line.measured;
            let own = self.own(line);
            let memory = line.percent.map_or_else(|| "all fits".into(), |of| format!("{of} %"));
            let cache = if line.is_own || line.percent.is_none() {
                line.cache.clone()
            } else {
                format!("{} ({ratio:.2}x)", line.cache)
            };
            let part =
                if own.reads > 0.0005 { format!("{:.2}", reads / own.reads) } else { "-".into() };
            let even = if line.is_own || own.reads - reads < 0.0005 {
                "-".into()
            } else {
                format!("{:.0} us", ((cpu - own.cpu) / (own.reads - reads)).max(0.0))
            };
            let _ = writeln!(
                text,
                "| {memory} | {cache} | {:.1} MiB | {reads:.3} | {part} | {cpu:.1} | {:.1} \
                 | {slow:.1} | {even} |",
                resident / MIB,
                cpu + reads * micros,
            );
        }
        text.trim_end().to_owned()
    }

    pub(crate) fn json(&self) -> Value {
        let lines = self.lines.iter().map(|line| {
            json!({"percent": line.percent, "cache": line.cache, "own": line.is_own,
                "measured": line.measured.json()})
        });
        json!({"database": self.name, "rows": self.rows.name(), "amount": self.amount,
            "bytes": self.file, "read_cost_us": self.cost.as_secs_f64() * 1e6,
            "lines": lines.collect::<Vec<_>>()})
    }
}
