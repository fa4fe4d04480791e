//! A suite as Markdown.

use serde_json::Value;

use super::row::{figure, number, packed, size, text};

/// Hit ratios this close are a tie.
const TIE: f64 = 0.0005;
/// Pages in a MiB over the best peer's: LZ4, zstd.
const BARS: [f64; 2] = [1.10, 1.30];

/// The runs of one trace under one budget.
struct Group<'a> {
    rows: Vec<&'a Value>,
}

impl<'a> Group<'a> {
    fn all(rows: &'a [Value]) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for row in rows {
            let same = |group: &&mut Self| {
                let first = group.rows[0];
                ["trace", "percent", "budget_bytes"].iter().all(|name| first[*name] == row[*name])
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.rows.push(row),
                None => groups.push(Self { rows: vec![row] }),
            }
        }
        groups
    }

    fn ours(&self, codec: &str) -> Option<&'a Value> {
        let is = |row: &&&Value| {
            row["cache"] == "zcache" && row["codec"] == codec && row["policy"] == "s3fifo"
        };
        self.rows.iter().find(is).copied()
    }

    /// Peers with values by the same engine; of several allocators the best.
    fn peers(&self) -> impl Iterator<Item = &'a Value> {
        let peer = |row: &&Value| !["zcache", "zram"].contains(&text(row, "cache"));
        self.rows.iter().copied().filter(peer).filter(|row| row["codec"] == "lz4")
    }

    fn most(&self, name: &str) -> Option<&'a Value> {
        let by = |a: &&Value, b: &&Value| {
            let of = |row: &Value| figure(row, name).unwrap_or(f64::MIN);
            of(a).total_cmp(&of(b))
        };
        self.peers().filter(|row| figure(row, name).is_some()).max_by(by)
    }

    /// The best of a peer's runs.
    fn peer(&self, cache: &str, name: &str) -> Option<f64> {
        let of = self.peers().filter(|row| row["cache"] == cache);
        of.filter_map(|row| figure(row, name)).reduce(f64::max)
    }

    /// Trace, and budget with the percentage.
    fn label(&self) -> String {
        let row = self.rows[0];
        let percent = number(figure(row, "percent"), 0);
        let mib = number(figure(row, "budget_bytes").map(|bytes| bytes / 1048576.0), 1);
        format!("{} | {percent} % = {mib} MiB", text(row, "trace"))
    }
}

fn percent(ratio: Option<f64>) -> String {
    number(ratio.map(|ratio| 100.0 * ratio), 2)
}

const PEERS: [&str; 4] = ["moka", "quick_cache", "foyer-s3fifo", "foyer-lru"];

/// Rows won, tied, lost.
#[derive(Debug, Default, PartialEq, Eq)]
struct Score([usize; 3]);

impl Score {
    fn count(&mut self, margin: f64) -> &'static str {
        let (at, word) = match margin {
            margin if margin.abs() <= TIE => (1, "tied"),
            margin if margin > 0.0 => (0, "won"),
            _ => (2, "lost"),
        };
        self.0[at] += 1;
        word
    }
}

fn hit_ratios(groups: &[Group<'_>], to: &mut String) -> Score {
    *to += "## Hit ratio, in percent\n\nAll in the memory that zcache with LZ4 took, within 1 % \
            (*: further off, see the rows). The margin is zcache's with LZ4 over the best peer's, \
            in points.\n\n\
            | trace | budget | zcache lz4 | zcache zstd:3 | moka | quick_cache | foyer S3-FIFO | \
            foyer LRU | margin | |\n\
            |---|---|---|---|---|---|---|---|---|---|\n";
    let mut score = Score::default();
    for group in groups {
        let ours = group.ours("lz4").and_then(|row| figure(row, "hit_ratio"));
        let best = group.most("hit_ratio").and_then(|row| figure(row, "hit_ratio"));
        let margin = ours.zip(best).map(|(ours, best)| ours - best);
        let word = margin.map_or("", |margin| score.count(margin));
        let zstd = group.ours("zstd:3").and_then(|row| figure(row, "hit_ratio"));
        let wanted = group.ours("lz4").and_then(|row| figure(row, "resident_bytes"));
        *to += &format!("| {} | {} | {} |", group.label(), percent(ours), percent(zstd));
        for peer in PEERS {
            let of = |row: &&Value| row["cache"] == peer;
            let took = group.peers().find(of).and_then(|row| figure(row, "resident_bytes"));
            let off =
                took.zip(wanted).is_some_and(|(took, wanted)| (took / wanted - 1.0).abs() > 0.01);
            let mark = if off { "*" } else { "" };
            *to += &format!(" {}{mark} |", percent(group.peer(peer, "hit_ratio")));
        }
        let margin = margin.map_or_else(|| "-".into(), |margin| format!("{:+.2}", 100.0 * margin));
        *to += &format!(" {margin} | {word} |\n");
    }
    score
}

fn pages_held(groups: &[Group<'_>], to: &mut String) {
    *to += &format!(
        "\n## Pages in a MiB of resident memory\n\nThe ratio is to the best peer; bars {:.2} with \
         LZ4, {:.2} with zstd. A policy may keep pages that are smaller than others, so beside it \
         stands how well a cache packs: the LZ4 bytes of the pages held, by \
         what is resident, of zcache with LZ4 and of the peer that packs best.\n\n\
         | trace | budget | best peer | | zcache lz4 | ratio | zcache zstd:3 | ratio | packed \
         |\n|---|---|---|---|---|---|---|---|---|\n",
        BARS[0], BARS[1]
    );
    for group in groups {
        let Some(best) = group.most("pages_per_mib") else { continue };
        let theirs = figure(best, "pages_per_mib");
        let ours = |codec, bar: f64| {
            let ours = group.ours(codec).and_then(|row| figure(row, "pages_per_mib"));
            let ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
            let missed = if ratio.is_some_and(|ratio| ratio < bar) { " missed" } else { "" };
            format!("{} | {}{missed}", number(ours, 1), number(ratio, 2))
        };
        *to += &format!(
            "| {} | {} {} | {} | {} | {} | {} / {} |\n",
            group.label(),
            text(best, "cache"),
            text(best, "allocator"),
            number(theirs, 1),
            ours("lz4", BARS[0]),
            ours("zstd:3", BARS[1]),
            number(group.ours("lz4").and_then(packed), 3),
            number(group.peers().filter_map(packed).reduce(f64::max), 3),
        );
    }
}

/// A section about what was timed with all caches in turns: a line a setting and a way of timing,
/// a column a cache, and what our figures are to quick_cache's.
fn section(
    rows: &[Value],
    (title, note): (&str, &str),
    (ratios, ways): (&[&str], &[&str]),
    cells: impl Fn(&Value, &str) -> String,
    ratio: impl Fn(&Value, &str, &str) -> Option<f64>,
) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let mut caches: Vec<&str> = Vec::new();
    let mut groups: Vec<Vec<&Value>> = Vec::new();
    for row in rows {
        if !caches.contains(&text(row, "cache")) {
            caches.push(text(row, "cache"));
        }
        let same = |group: &&mut Vec<&Value>| {
            let of = ["what", "keys", "capacity_bytes", "threads", "pages", "page_bytes"];
            of.iter().all(|name| group[0][*name] == row[*name])
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    let heads: Vec<String> = ratios.iter().map(|name| format!("{name} ratio")).collect();
    let head = ["", "", "threads", "by"].into_iter().chain(caches.iter().copied());
    let head: Vec<&str> = head.chain(heads.iter().map(String::as_str)).collect();
    let mut to = format!(
        "\n## {title}\n\n{note} All caches in turns in one process, pages of {} bytes of {}, LZ4. \
         Ratios: zcache's to quick_cache's.\n\n| {} |\n|{}\n",
        first["page_bytes"],
        text(first, "pages"),
        head.join(" | "),
        "---|".repeat(head.len()),
    );
    for group in &groups {
        let of = |cache: &str| group.iter().find(|row| row["cache"] == cache);
        for way in ways {
            let names = [text(group[0], "what").to_owned(), size(group[0])];
            let mut line: Vec<String> = names.into_iter().collect();
            line.extend([group[0]["threads"].to_string(), (*way).to_owned()]);
            line.extend(caches.iter().map(|cache| of(cache).map_or("-".into(), |r| cells(r, way))));
            let ours = |name: &&str| number(of("zcache").and_then(|row| ratio(row, way, name)), 2);
            line.extend(ratios.iter().map(ours));
            to += &format!("| {} |\n", line.join(" | "));
        }
    }
    to
}

/// What operations cost, as a section.
#[must_use]
pub fn costs(rows: &[Value]) -> String {
    section(
        rows,
        (
            "CPU time of an operation, in nanoseconds",
            "The tenth part of windows that was cheapest.",
        ),
        (&["p10", "p50"], &["CPU"]),
        |row, _| number(figure(row, "cpu_p10_ns"), usize::from(row["what"] == "miss")),
        |row, _, name| figure(row, &format!("{name}_ratio")),
    )
}

/// How long single operations take, as a section.
#[must_use]
pub fn tails(rows: &[Value]) -> String {
    let note = "p50 / p99 / p99.9 / maximum, under requests of which the misses are inserted. A \
                window's p99 is the median over windows.";
    section(
        rows,
        ("Tails of hits and inserts, in microseconds", note),
        (&["p99", "p999", "window_p99"], &["clock", "cpu"]),
        |row, way| {
            let times = &row[format!("{way}_ns")];
            let us = |name| number(figure(times, name).map(|ns| ns / 1e3), 1);
            ["p50", "p99", "p999", "max"].map(us).join(" / ")
        },
        |row, way, name| figure(&row[format!("{way}_ratio")], name),
    )
}

/// A page's prose at no more than so many columns.
const COLUMNS: usize = 100;

/// The page with its prose folded. Rows of tables stay whole.
fn folded(page: &str) -> String {
    let mut to = String::with_capacity(page.len());
    for line in page.lines() {
        let indent = if line.starts_with("- ") { "  " } else { "" };
        let mut column = 0;
        for word in line.split_inclusive(' ') {
            let full = column > indent.len() && column + word.trim_end().len() > COLUMNS;
            if full && !line.starts_with('|') {
                to.truncate(to.trim_end_matches(' ').len());
                to += "\n";
                to += indent;
                column = indent.len();
            }
            to += word;
            column += word.len();
        }
        to += "\n";
    }
    to
}

/// The whole page.
#[must_use]
pub fn render(all: &Value) -> String {
    let rows = all["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let groups = Group::all(rows);
    let machine = &all["machine"];
    let mut to = format!(
        "# zcache beside its peers\n\n{}, {}, {} cores, Linux {}.\n",
        text(all, "date"),
        text(machine, "cpu"),
        machine["cores"],
        text(machine, "kernel"),
    );
    let versions = all["versions"].as_object().into_iter().flatten();
    let versions: Vec<String> = versions
        .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("-")))
        .collect();
    to += &format!("{}.\n\n", versions.join(", "));
    for note in all["notes"].as_array().into_iter().flatten() {
        to += &format!("- {}\n", note.as_str().unwrap_or_default());
    }
    to += "- Peers hold LZ4 values by the same engine (liblz4), each under the allocator that \
        packs these pages best.\n\n";
    let score = hit_ratios(&groups, &mut to);
    pages_held(&groups, &mut to);
    let list = |name: &str| all[name].as_array().map_or(&[][..], Vec::as_slice);
    to += &(costs(list("cost")) + &tails(list("tails")));
    let [won, tied, lost] = score.0;
    to += &format!(
        "\nOf {} rows of hit ratios zcache with LZ4 has won {won}, tied {tied} (within {} points) \
         and lost {lost}.\n",
        won + tied + lost,
        100.0 * TIE,
    );
    folded(&to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(cache: &str, codec: &str, percent: f64, ratio: f64, held: f64) -> Value {
        json!({
            "kind": "run", "trace": "t", "pages": "p",
            "percent": percent, "cache": cache, "codec": codec,
            "policy": if cache == "zcache" { json!("s3fifo") } else { Value::Null },
            "allocator": "system",
            "budget_bytes": (percent * 1e6) as u64, "resident_bytes": 1_000_000,
            "hit_ratio": ratio, "pages_per_mib": held,
        })
    }

    #[test]
    fn rows_are_won_tied_and_lost_against_the_best_peer() {
        let rows = vec![
            row("zcache", "lz4", 5.0, 0.60, 120.0),
            row("moka", "lz4", 5.0, 0.50, 100.0),
            row("foyer-lru", "lz4", 5.0, 0.55, 90.0),
            row("zcache", "lz4", 10.0, 0.7002, 105.0),
            row("moka", "lz4", 10.0, 0.7000, 100.0),
            row("zcache", "lz4", 25.0, 0.80, 110.0),
            row("quick_cache", "lz4", 25.0, 0.81, 100.0),
        ];
        let page = render(&json!({ "machine": {}, "versions": {}, "rows": rows }));
        assert!(page.contains("has won 1, tied 1 (within 0.05 points) and lost 1."), "{page}");
        assert!(
            page.contains(
                "| t | 5 % = 4.8 MiB | 60.00 | - | 50.00 | - | - | 55.00 | +5.00 | won |"
            ),
            "{page}"
        );
        assert!(
            page.contains("| moka system | 100.0 | 105.0 | 1.05 missed | - | - | - / - |"),
            "{page}"
        );
    }

    #[test]
    fn prose_ends_at_column_100_and_rows_of_tables_stay_whole() {
        let (note, row) = (format!("- {}last", "word ".repeat(30)), "| cell ".repeat(20));
        let page = folded(&format!("{note}\n\n{row}\nshort\n"));
        let [first, second, rest @ ..] = &page.lines().collect::<Vec<_>>()[..] else {
            panic!("{page}")
        };
        assert!(first.len() > 94 && first.len() <= 100, "{first}");
        assert!(second.starts_with("  word") && second.ends_with("last"), "{second}");
        assert_eq!(rest, ["", &row, "short"]);
    }

    #[test]
    fn what_was_timed_is_a_line_a_setting_and_what_is_not_there_a_dash() {
        let setting = |what: &str, cache: &str| {
            json!({
                "what": what, "threads": 1, "pages": "p", "page_bytes": 4096, "cache": cache,
            })
        };
        let cost = |cache: &str, ns: f64| {
            let mut row = setting("miss", cache);
            (row["keys"], row["cpu_p10_ns"], row["p10_ratio"]) =
                (json!(300), json!(ns), json!(1.282));
            row
        };
        let mut tail = setting("hit", "zcache");
        (tail["capacity_bytes"], tail["clock_ns"]) =
            (json!(4 << 20), json!({ "p50": 900, "max": 1e6 }));
        tail["clock_ratio"] = json!({ "p99": 0.93 });
        let all = json!({
            "machine": {}, "rows": [], "tails": [tail],
            "cost": [cost("zcache", 21.74), cost("quick_cache", 16.9)],
        });
        let page = render(&all);
        for line in [
            "|  |  | threads | by | zcache | quick_cache | p10 ratio | p50 ratio |",
            "| miss | 300 keys | 1 | CPU | 21.7 | 16.9 | 1.28 | - |",
            "| hit | 4 MiB | 1 | clock | 0.9 / - / - / 1000.0 | 0.93 | - | - |",
            "| hit | 4 MiB | 1 | cpu | - / - / - / - | - | - | - |",
        ] {
            assert!(page.lines().any(|at| at == line), "{line}: {page}");
        }
    }
}
