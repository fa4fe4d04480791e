//! Tables of what was timed with all caches in turns: what operations cost, and their tails.
//!
//! A table is made once, and printed as Markdown and as HTML.

use crate::charts::suite::{Cost, Figures, Setting, Suite, Tails};

/// Whose figures are told as ratios to the yardstick's.
const OURS: &str = "zcache";
const YARDSTICK: &str = "quick_cache";

/// A table: the first columns name the row, the others are figures.
#[derive(Debug)]
pub struct Table {
    /// What it shows.
    pub title: &'static str,
    /// How to read it.
    pub note: String,
    /// The head, and the rows.
    pub lines: Vec<Vec<String>>,
    /// How many columns name the row.
    pub names: usize,
}

/// The tables of `suite` that have rows.
#[must_use]
pub fn tables(suite: &Suite) -> Vec<Table> {
    [cost(&suite.cost), tails(&suite.tails)].into_iter().flatten().collect()
}

/// How large a cache is: `300 keys`, or `64 MiB`.
#[must_use]
pub fn size(keys: Option<f64>, capacity_bytes: Option<f64>) -> String {
    match (keys, capacity_bytes) {
        (Some(keys), _) => format!("{keys} keys"),
        (None, Some(bytes)) => format!("{} MiB", bytes / f64::from(1 << 20)),
        (None, None) => String::new(),
    }
}

/// The cells that name a row.
fn names(setting: &Setting) -> Vec<String> {
    let size = size(setting.keys, setting.capacity_bytes);
    vec![setting.what.clone(), size, setting.threads.to_string()]
}

fn number(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "-".into(), |figure| format!("{figure:.digits$}"))
}

/// Rows of one setting together, settings and caches in the order in which they come first.
fn grouped<R>(
    rows: &[R],
    setting: impl Fn(&R) -> &Setting,
    cache: impl Fn(&R) -> &str,
) -> (Vec<String>, Vec<Vec<&R>>) {
    let (mut caches, mut groups): (Vec<String>, Vec<Vec<&R>>) = (Vec::new(), Vec::new());
    for row in rows {
        if !caches.iter().any(|name| *name == *cache(row)) {
            caches.push(cache(row).to_owned());
        }
        match groups.iter_mut().find(|group| setting(group[0]) == setting(row)) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    (caches, groups)
}

fn over(setting: &Setting) -> String {
    format!("pages of {} bytes of {}, LZ4", setting.page_bytes, setting.pages)
}

/// What operations cost.
#[must_use]
pub fn cost(rows: &[Cost]) -> Option<Table> {
    let (caches, groups) = grouped(rows, |row| &row.setting, |row| &row.cache);
    let head = ["", "", "threads"].map(str::to_owned).into_iter().chain(caches.clone());
    let mut lines = vec![head.chain(["p10 ratio", "p50 ratio"].map(str::to_owned)).collect()];
    for group in groups {
        let of = |cache: &str| group.iter().find(|row| row.cache == cache);
        let setting = &group[0].setting;
        let digits = usize::from(setting.what == "miss");
        let mut line = names(setting);
        line.extend(
            caches.iter().map(|cache| number(of(cache).and_then(|row| row.cpu_p10_ns), digits)),
        );
        let ours = of(OURS);
        line.push(number(ours.and_then(|row| row.p10_ratio), 2));
        line.push(number(ours.and_then(|row| row.p50_ratio), 2));
        lines.push(line);
    }
    let note = format!(
        "p10 of windows; all caches in turns in one process, {}. Ratios: {OURS}'s to \
         {YARDSTICK}'s.",
        over(&rows.first()?.setting),
    );
    Some(Table { title: "CPU time of an operation, in nanoseconds", note, lines, names: 2 })
}

/// How long single operations take.
#[must_use]
pub fn tails(rows: &[Tails]) -> Option<Table> {
    let (caches, groups) = grouped(rows, |row| &row.setting, |row| &row.cache);
    let head = ["", "", "threads", "by"].map(str::to_owned).into_iter().chain(caches.clone());
    let ratios = ["p99 ratio", "p99.9 ratio", "window p99 ratio"].map(str::to_owned);
    let mut lines = vec![head.chain(ratios).collect()];
    for group in groups {
        let of = |cache: &str| group.iter().find(|row| row.cache == cache);
        let mut line = |by: &str, figures: fn(&Tails) -> [&Figures; 2]| {
            let figure = |of: &Figures, name: &str| of.get(name).copied().flatten();
            let mut line = names(&group[0].setting);
            line.push(by.to_owned());
            line.extend(caches.iter().map(|cache| {
                let us = |name| {
                    let ns = of(cache).and_then(|row| figure(figures(row)[0], name));
                    number(ns.map(|ns| ns / 1e3), 1)
                };
                ["p50", "p99", "p999", "max"].map(us).join(" / ")
            }));
            line.extend(
                ["p99", "p999", "window_p99"]
                    .map(|name| number(of(OURS).and_then(|row| figure(figures(row)[1], name)), 2)),
            );
            lines.push(line);
        };
        line("clock", |row| [&row.clock_ns, &row.clock_ratio]);
        line("CPU", |row| [&row.cpu_ns, &row.cpu_ratio]);
    }
    let note = format!(
        "p50 / p99 / p99.9 / maximum, under requests of which the misses are inserted; all caches \
         in turns in one process, {}. Ratios: {OURS}'s to {YARDSTICK}'s; a window's p99 is the \
         median over windows.",
        over(&rows.first()?.setting),
    );
    Some(Table { title: "Tails of hits and inserts, in microseconds", note, lines, names: 2 })
}

impl Table {
    /// A section of a Markdown page.
    #[must_use]
    pub fn markdown(&self) -> String {
        let line = |cells: &Vec<String>| format!("| {} |\n", cells.join(" | "));
        let rule = format!("|{}\n", "---|".repeat(self.lines[0].len()));
        let (head, rows) = (line(&self.lines[0]), self.lines[1..].iter().map(line));
        let rows = rows.collect::<String>();
        format!("\n## {}\n\n{}\n\n{head}{rule}{rows}", self.title, self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: &str = r#"[
        {"what":"miss","keys":300,"capacity_bytes":null,"threads":1,"pages":"p","page_bytes":4096,
         "cache":"zcache","cpu_p10_ns":21.74,"p10_ratio":1.282,"p50_ratio":1.3},
        {"what":"miss","keys":300,"capacity_bytes":null,"threads":1,"pages":"p","page_bytes":4096,
         "cache":"quick_cache","cpu_p10_ns":16.9,"p10_ratio":1.0,"p50_ratio":1.0},
        {"what":"insert","keys":null,"capacity_bytes":67108864,"threads":2,"pages":"p",
         "page_bytes":4096,"cache":"zcache","cpu_p10_ns":4198.8,"p10_ratio":null,"p50_ratio":null}
    ]"#;

    #[test]
    fn a_setting_is_a_line_and_what_is_not_there_a_dash() {
        let rows: Vec<Cost> = serde_json::from_str(COST).expect("rows");
        let table = cost(&rows).expect("a table");
        let lines: Vec<String> = table.lines.iter().map(|line| line.join(" ")).collect();
        assert_eq!(
            lines,
            [
                "  threads zcache quick_cache p10 ratio p50 ratio",
                "miss 300 keys 1 21.7 16.9 1.28 1.30",
                "insert 64 MiB 2 4199 - - -",
            ]
        );
        let page = table.markdown();
        assert!(
            page.contains("\n|  |  | threads | zcache | quick_cache | p10 ratio | p50 ratio |\n")
        );
        assert!(
            page.contains("\n|---|---|---|---|---|---|---|\n| miss | 300 keys | 1 |"),
            "{page}"
        );
        assert!(cost(&[]).is_none() && tails(&[]).is_none());
    }

    #[test]
    fn tails_have_a_line_for_each_clock() {
        let row = r#"[{"what":"hit","capacity_bytes":4194304,"threads":8,"pages":"p",
            "page_bytes":4096,"cache":"zcache",
            "clock_ns":{"p50":900,"p99":2400,"p999":null,"max":1e6},
            "cpu_ns":{"p50":800},"clock_ratio":{"p99":0.93},"cpu_ratio":{"window_p99":0.9}}]"#;
        let rows: Vec<Tails> = serde_json::from_str(row).expect("rows");
        let lines = tails(&rows).expect("a table").lines;
        assert_eq!(lines[1].join(" "), "hit 4 MiB 8 clock 0.9 / 2.4 / - / 1000.0 0.93 - -");
        assert_eq!(lines[2].join(" "), "hit 4 MiB 8 CPU 0.8 / - / - / - - - 0.90");
    }
}
