//! Rows for the eye.

pub(crate) use benches::results::number;
use benches::results::{figure, packed, text};
use serde_json::Value;

/// The name of a row's cache, with what tells it from others.
fn name(row: &Value) -> String {
    let (cache, codec, policy) = (text(row, "cache"), text(row, "codec"), text(row, "policy"));
    let policy = if cache == "zcache" { format!(" {policy}") } else { String::new() };
    let allocator = if text(row, "allocator") == "system" { "" } else { text(row, "allocator") };
    format!("{cache} {codec}{policy} {allocator}").trim_end().to_owned()
}

/// One line a row, under a head.
pub(crate) fn table(rows: &[Value]) -> String {
    let mib = |row: &Value, name: &str| number(figure(row, name).map(|bytes| bytes / 1048576.0), 2);
    let mut table = String::new();
    if let Some(row) = rows.first() {
        let (trace, pages) = (text(row, "trace"), text(row, "pages"));
        table = format!("{trace} over {pages}, budget {} MiB\n", mib(row, "budget_bytes"));
    }
    let line = |first: &str, cells: [String; 6]| {
        let cells = cells.map(|cell| format!(" {cell:>9}")).concat();
        format!("{first:<26}{cells}\n")
    };
    let head = ["told MiB", "resident", "pages", "pages/MiB", "packed", "hit %"];
    table += &line("", head.map(str::to_owned));
    for row in rows {
        let cells = [
            mib(row, "configured_bytes"),
            mib(row, "resident_bytes"),
            number(figure(row, "pages_held"), 0),
            number(figure(row, "pages_per_mib"), 1),
            number(packed(row), 3),
            number(figure(row, "hit_ratio").map(|ratio| 100.0 * ratio), 2),
        ];
        table += &line(&name(row), cells);
    }
    table
}
