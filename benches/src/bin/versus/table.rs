//! Rows for the eye.

use benches::charts::turns;
use serde_json::Value;

/// A row's figure of this name; nothing, where there is none.
pub(crate) fn figure(row: &Value, name: &str) -> Option<f64> {
    row.get(name).and_then(Value::as_f64)
}

/// A figure with so many digits behind the point, or a dash.
pub(crate) fn number(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "-".into(), |figure| format!("{figure:.digits$}"))
}

/// How large a row's cache is.
pub(crate) fn size(row: &Value) -> String {
    turns::size(figure(row, "keys"), figure(row, "capacity_bytes"))
}

/// The name of a row's cache, with what tells it from others.
pub(crate) fn name(row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let (cache, codec, policy) = (text("cache"), text("codec"), text("policy"));
    let policy = if cache == "zcache" { format!(" {policy}") } else { String::new() };
    let allocator = if text("allocator") == "system" { "" } else { text("allocator") };
    format!("{cache} {codec}{policy} {allocator}").trim_end().to_owned()
}

/// The LZ4 bytes of the pages held, by what is resident.
pub(crate) fn packed(row: &Value) -> Option<f64> {
    let held = figure(row, "held_lz4_bytes")?;
    figure(row, "resident_bytes").filter(|bytes| *bytes > 0.0).map(|bytes| held / bytes)
}

/// One line a row, under a head.
pub(crate) fn table(rows: &[Value]) -> String {
    let mib = |row: &Value, name: &str| number(figure(row, name).map(|bytes| bytes / 1048576.0), 2);
    let mut table = String::new();
    if let Some(row) = rows.first() {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let (trace, pages) = (text("trace"), text("pages"));
        table = format!("{trace} over {pages}, budget {} MiB\n", mib(row, "budget_bytes"));
    }
    table += &format!(
        "{:<26} {:>9} {:>9} {:>8} {:>9} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}\n",
        "",
        "told MiB",
        "resident",
        "pages",
        "pages/MiB",
        "packed",
        "hit %",
        "hit ns",
        "by two",
        "decode",
        "p50",
        "p99",
        "p99.9",
        "insert",
        "encode"
    );
    for row in rows {
        let ns = |name: &str| number(figure(row, name), 0);
        table += &format!(
            "{:<26} {:>9} {:>9} {:>8} {:>9} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}\n",
            name(row),
            mib(row, "configured_bytes"),
            mib(row, "resident_bytes"),
            number(figure(row, "pages_held"), 0),
            number(figure(row, "pages_per_mib"), 1),
            number(packed(row), 3),
            number(figure(row, "hit_ratio").map(|ratio| 100.0 * ratio), 2),
            ns("hit_ns"),
            ns("hit_ns_two"),
            ns("decode_ns"),
            ns("p50_ns"),
            ns("p99_ns"),
            ns("p999_ns"),
            ns("insert_ns"),
            ns("encode_ns"),
        );
    }
    for row in rows.iter().filter(|row| !row["phases"].is_null()) {
        table += &format!(
            "{:<26} after {}: {} pages/MiB, a fresh one {}: ratio {} (bar 0.97); packed {}, {}: ratio {}\n",
            name(row),
            row["phases"],
            number(figure(row, "pages_per_mib"), 1),
            number(figure(row, "fresh_pages_per_mib"), 1),
            number(figure(row, "phases_ratio"), 3),
            number(packed(row), 3),
            number(figure(row, "fresh_packed"), 3),
            number(figure(row, "phases_packed_ratio"), 3),
        );
    }
    for row in rows {
        let each = |one: &Value| format!("{} us {}", one["miss_us"], one["ops_per_second"]);
        let effective: Vec<String> =
            row["effective"].as_array().into_iter().flatten().map(each).collect();
        if !effective.is_empty() {
            table += &format!(
                "{:<26} operations a second by the cost of a miss: {}\n",
                name(row),
                effective.join(", ")
            );
        }
    }
    table
}
