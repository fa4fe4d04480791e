//! What a suite has measured, as it is shown: tables in Markdown, and pictures.
//!
//! A suite is JSON: its rows are those that `versus` prints. What a row does not say is absent,
//! never 0.

mod pictures;
mod tables;

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::arguments::Failure;

pub use pictures::{hit_ratios, pages_held};
pub use tables::{costs, render, tails};

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

/// The suite in the file at `path`.
///
/// # Errors
/// One line that names the file: it cannot be read, is not JSON, or holds no suite.
pub fn read(path: &Path) -> Result<Value, Failure> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| told(&error))?;
    let suite: Value = serde_json::from_str(&text).map_err(|error| told(&error))?;
    match suite["kind"] == "suite" && suite["rows"].is_array() {
        true => Ok(suite),
        false => Err(told(&"no suite").into()),
    }
}

/// Writes the tables and the pictures of `suite` into the directory `to`.
///
/// # Errors
/// One line: a file cannot be written.
pub fn write(suite: &Value, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    for (name, text) in [
        ("suite.md", render(suite)),
        ("hit-ratio.svg", hit_ratios(suite)?),
        ("pages-per-mib.svg", pages_held(suite)?),
    ] {
        let path = to.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
