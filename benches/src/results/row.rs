//! What a row says.

use serde_json::Value;

/// A row's figure of this name, if there is one.
#[must_use]
pub fn figure(row: &Value, name: &str) -> Option<f64> {
    row.get(name).and_then(Value::as_f64)
}

/// A row's text of this name, or a dash.
#[must_use]
pub fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or("-")
}

/// A figure with so many digits behind the point, or a dash.
#[must_use]
pub fn number(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "-".into(), |figure| format!("{figure:.digits$}"))
}

/// The LZ4 bytes of the pages held, divided by the resident memory.
#[must_use]
pub fn packed(row: &Value) -> Option<f64> {
    let held = figure(row, "held_lz4_bytes")?;
    figure(row, "resident_bytes").filter(|bytes| *bytes > 0.0).map(|bytes| held / bytes)
}

/// How large a row's cache is: `300 keys`, or `64 MiB`.
#[must_use]
pub fn size(row: &Value) -> String {
    match (figure(row, "keys"), figure(row, "capacity_bytes")) {
        (Some(keys), _) => format!("{keys} keys"),
        (None, Some(bytes)) => format!("{} MiB", bytes / f64::from(1 << 20)),
        (None, None) => String::new(),
    }
}
