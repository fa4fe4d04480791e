//! A suite as Markdown.

use benches::charts::suite::{Cost, Tails};
use benches::charts::turns;
use serde_json::Value;

use crate::table::figure;
use crate::table::{number, packed};

/// Hit ratios this close are a tie.
const TIE: f64 = 0.0005;
/// Pages in a MiB over the best peer's: LZ4, zstd.
const BARS: [f64; 2] = [1.10, 1.30];

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or("-")
}

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

    fn least(&self, name: &str) -> Option<&'a Value> {
        let by = |a: &&Value, b: &&Value| {
            let of = |row: &Value| figure(row, name).unwrap_or(f64::MAX);
            of(a).total_cmp(&of(b))
        };
        self.peers().filter(|row| figure(row, name).is_some()).min_by(by)
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
    *to += "## Hit ratio, in percent\n\nAll in the memory that zcache with LZ4 took, within 1 % (*: further off, see the rows). The \
            margin is zcache's with LZ4 over the best peer's, in points.\n\n\
            | trace | budget | zcache lz4 | zcache zstd:3 | moka | quick_cache | foyer S3-FIFO | foyer LRU | margin | |\n\
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
        "\n## Pages in a MiB of resident memory\n\nThe ratio is to the best peer; bars {:.2} with LZ4, {:.2} with zstd. \
         A policy may keep pages that are smaller than others, so beside it stands how well a cache packs: the LZ4 bytes of the pages held, by \
         what is resident, of zcache with LZ4 and of the peer that packs best.\n\n\
         | trace | budget | best peer | | zcache lz4 | ratio | zcache zstd:3 | ratio | packed |\n|---|---|---|---|---|---|---|---|---|\n",
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

fn times(groups: &[Group<'_>], to: &mut String) {
    *to += "\n## Times, in nanoseconds\n\nzcache with LZ4 / the fastest LZ4 peer, taken in turns; the bare codec beside them. Bar for hits: \
            no slower, one thread and two.\n\n\
            | trace | budget | hit | two threads | bare codec | p50 | p99.9 | insert | bare codec |\n|---|---|---|---|---|---|---|---|---|\n";
    for group in groups {
        let Some(ours) = group.ours("lz4").filter(|row| figure(row, "hit_ns").is_some()) else {
            continue;
        };
        let pair = |name: &str, bar: bool| {
            let (a, b) = (figure(ours, name), group.least(name).and_then(|row| figure(row, name)));
            let over = a.zip(b).is_some_and(|(a, b)| a > b);
            let missed = if bar && over { " missed" } else { "" };
            format!("{} / {}{missed}", number(a, 0), number(b, 0))
        };
        *to += &format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            group.label(),
            pair("hit_ns", true),
            pair("hit_ns_two", true),
            number(figure(ours, "decode_ns"), 0),
            pair("p50_ns", false),
            pair("p999_ns", false),
            pair("insert_ns", false),
            number(figure(ours, "encode_ns"), 0),
        );
    }
}

fn effective(groups: &[Group<'_>], to: &mut String) {
    *to += "\n## Effective operations a second, in thousands\n\nBy what a miss costs: zcache with LZ4 / with zstd:3 / the best peer.\n\n";
    let waits = |row: &Value| row["effective"].as_array().cloned().unwrap_or_default();
    let timed = |group: &&Group<'_>| group.ours("lz4").is_some_and(|row| !waits(row).is_empty());
    let Some(first) = groups.iter().find(timed).and_then(|group| group.ours("lz4")) else { return };
    let first = waits(first);
    *to += "| trace | budget |";
    first.iter().for_each(|one| *to += &format!(" {} us |", one["miss_us"]));
    *to += &format!("\n|---|---|{}\n", "---|".repeat(first.len()));
    for group in groups.iter().filter(timed) {
        *to += &format!("| {} |", group.label());
        for at in 0..first.len() {
            let speed = |row: &Value| row["effective"][at]["ops_per_second"].as_f64();
            let thousands = |speed: Option<f64>| number(speed.map(|speed| speed / 1000.0), 1);
            let best = group.peers().filter_map(speed).reduce(f64::max);
            let ours = ["lz4", "zstd:3"].map(|codec| thousands(group.ours(codec).and_then(speed)));
            *to += &format!(" {} / {} / {} |", ours[0], ours[1], thousands(best));
        }
        *to += "\n";
    }
}

fn rest(all: &Value, to: &mut String) {
    let list = |name: &str| all[name].as_array().cloned().unwrap_or_default();
    *to += "\n## The allocator\n\nPayload by all bytes held, LZ4, after 4x replacement and compaction, beside the kernel's rules.\n\n\
            | pages | objects | zpool | zsmalloc |\n|---|---|---|---|\n";
    for row in list("density") {
        let [ours, kernel] = ["zcache", "kernel"].map(|name| number(figure(&row, name), 4));
        *to += &format!("| {} | {} | {ours} | {kernel} |\n", text(&row, "pages"), row["objects"]);
    }
    *to += "\n## Hits a second, in thousands, by threads\n\n| cache | threads | hits |\n|---|---|---|\n";
    for row in list("scaling") {
        let hits = number(figure(&row, "hits_per_second").map(|hits| hits / 1000.0), 0);
        *to += &format!("| {} | {} | {hits} |\n", text(&row, "cache"), row["threads"]);
    }
}

/// What was timed with all caches in turns.
fn in_turns(all: &Value, to: &mut String) {
    let costs: Vec<Cost> = serde_json::from_value(all["cost"].clone()).unwrap_or_default();
    let tails: Vec<Tails> = serde_json::from_value(all["tails"].clone()).unwrap_or_default();
    for table in [turns::cost(&costs), turns::tails(&tails)].into_iter().flatten() {
        *to += &table.markdown();
    }
}

/// The whole page.
pub(crate) fn render(all: &Value) -> String {
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
    to += "- Peers hold LZ4 values by the same engine (liblz4), each under the allocator that packs these pages best.\n\n";
    let score = hit_ratios(&groups, &mut to);
    pages_held(&groups, &mut to);
    times(&groups, &mut to);
    effective(&groups, &mut to);
    rest(all, &mut to);
    in_turns(all, &mut to);
    let [won, tied, lost] = score.0;
    to += &format!(
        "\nOf {} rows of hit ratios zcache with LZ4 has won {won}, tied {tied} (within {} points) and lost {lost}.\n",
        won + tied + lost,
        100.0 * TIE,
    );
    to
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(cache: &str, codec: &str, percent: f64, ratio: f64, held: f64) -> Value {
        json!({
            "kind": "run", "trace": "t", "pages": "p", "percent": percent, "cache": cache, "codec": codec,
            "policy": if cache == "zcache" { json!("s3fifo") } else { Value::Null },
            "allocator": "system", "budget_bytes": (percent * 1e6) as u64, "resident_bytes": 1_000_000,
            "hit_ratio": ratio, "pages_per_mib": held, "hit_ns": null, "effective": [],
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
}
