//! The page: a short head, every figure, and below each its numbers.

use std::fmt::Write as _;

use crate::charts::bars::Bars;
use crate::charts::curves::Curves;
use crate::charts::figures::Figure;
use crate::charts::scale::label;
use crate::charts::suite::Suite;
use crate::charts::turns::{self, Table};

const STYLE: &str = "\
body { font: 15px/1.45 Helvetica, Arial, 'DejaVu Sans', sans-serif; color: #1a1a1a; background: #fff;
  max-width: 860px; margin: 24px auto; padding: 0 12px; }
figure { margin: 36px 0; overflow-x: auto; }
pre { background: #f4f4f4; padding: 8px 12px; overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 2px 10px 2px 0; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd; }
th.name, td.name { text-align: left; }
summary { cursor: pointer; margin: 8px 0; }
";

const AGAIN: &str = "\
cargo run --release -p benches --bin versus -- suite      # the runs
cargo run --release -p benches --bin report -- measure    # density and scaling
cargo run --release -p benches --bin report               # this page
";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page of `suite`.
#[must_use]
pub fn page(suite: &Suite, figures: &[Figure]) -> String {
    let mut page = String::new();
    let mut put = |text: &str| page.push_str(text);
    put("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    put("<meta name=\"viewport\" content=\"width=device-width\">\n");
    put("<title>zcache: measurements</title>\n<style>\n");
    put(STYLE);
    put("</style>\n</head>\n<body>\n<h1>zcache: measurements</h1>\n");
    put(&head(suite));
    for figure in figures {
        let table = match figure {
            Figure::Bars(bars) => bars_table(bars),
            Figure::Curves(curves) => curves_table(curves),
        };
        let _ = write!(page, "<figure id=\"{}\">\n{}", figure.id(), figure.svg());
        if let Some(table) = table {
            let _ = write!(page, "<details><summary>numbers</summary>\n{table}</details>\n");
        }
        page.push_str("</figure>\n");
    }
    turns::tables(suite).iter().for_each(|table| page.push_str(&in_turns(table)));
    page.push_str("</body>\n</html>\n");
    page
}

/// Where, when and with what the figures were measured, and how they are again.
fn head(suite: &Suite) -> String {
    let unknown = "unknown".to_owned();
    let known = |text: &Option<String>| escape(text.as_ref().unwrap_or(&unknown));
    let machine = &suite.machine;
    let cores = machine.cores.map_or(unknown.clone(), |cores| cores.to_string());
    let form = match suite.full {
        Some(true) => "the full suite",
        Some(false) => "the short suite",
        None => "form unknown",
    };
    let all = suite.rows.len();
    let mut head = format!(
        "<p>Measured {} on {}, {cores} cores, kernel {}: {form}, {all} runs",
        known(&suite.date),
        known(&machine.cpu),
        known(&machine.kernel),
    );
    let phases = all - suite.plain_runs().count();
    if phases > 0 {
        let _ = write!(head, " (not drawn: {phases} over traces of phases)");
    }
    head.push_str(
        ". Times of one run are comparable with each other, not with another run's.</p>\n",
    );
    if !suite.versions.is_empty() {
        let versions: Vec<String> = suite
            .versions
            .iter()
            .map(|(name, version)| format!("{} {}", escape(name), known(version)))
            .collect();
        let _ = writeln!(head, "<p>Versions: {}.</p>", versions.join(", "));
    }
    let _ = writeln!(head, "<p>To print it again:</p>\n<pre>{AGAIN}</pre>");
    head
}

fn row(table: &mut String, tag: &str, names: &[&str], cells: impl Iterator<Item = Option<String>>) {
    table.push_str("<tr>");
    for name in names {
        let _ = write!(table, "<{tag} class=\"name\">{}</{tag}>", escape(name));
    }
    for cell in cells {
        let _ = write!(table, "<{tag}>{}</{tag}>", escape(&cell.unwrap_or_default()));
    }
    table.push_str("</tr>\n");
}

/// A table of what was timed in turns.
fn in_turns(table: &Table) -> String {
    let mut rows = String::new();
    for (at, line) in table.lines.iter().enumerate() {
        let tag = if at == 0 { "th" } else { "td" };
        let (names, figures) = line.split_at(table.names);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        row(&mut rows, tag, &names, figures.iter().cloned().map(Some));
    }
    let (title, note) = (escape(table.title), escape(&table.note));
    format!("<figure>\n<h2>{title}</h2>\n<p>{note}</p>\n<table>\n{rows}</table>\n</figure>\n")
}

fn bars_table(figure: &Bars) -> Option<String> {
    let mut table = String::from("<table>\n");
    let cells = [figure.unit, "least", "most", "marked"].map(|cell| Some(cell.to_owned()));
    row(&mut table, "th", &["pages", "cache"], cells.into_iter());
    for group in &figure.groups {
        for bar in &group.bars {
            let values =
                [Some(bar.value), Some(bar.span.0), Some(bar.span.1), bar.notch.or(group.mark)];
            let cells = values.into_iter().map(|value| value.map(label));
            row(&mut table, "td", &[&group.name, &figure.series[bar.series].name], cells);
        }
    }
    table.push_str("</table>\n");
    (!figure.groups.is_empty()).then_some(table)
}

fn curves_table(figure: &Curves) -> Option<String> {
    let curves = || figure.panels.iter().flat_map(|panel| &panel.curves);
    let mut at: Vec<f64> = curves().flat_map(|curve| &curve.points).map(|(x, _)| *x).collect();
    at.sort_by(f64::total_cmp);
    at.dedup();
    let mut table = format!("<p>{}, by {}</p>\n<table>\n", escape(figure.y.0), escape(figure.x.0));
    row(&mut table, "th", &["", "series"], at.iter().map(|x| Some(label(*x))));
    for panel in &figure.panels {
        for curve in &panel.curves {
            let value =
                |x: &f64| curve.points.iter().find(|(px, _)| px == x).map(|(_, y)| label(*y));
            row(
                &mut table,
                "td",
                &[&panel.name, &figure.series[curve.series].name],
                at.iter().map(value),
            );
        }
    }
    table.push_str("</table>\n");
    (!at.is_empty()).then_some(table)
}
