//! What a suite has measured, as it is shown: tables in Markdown, and pictures.
//!
//! A suite is JSON: its rows are those that `versus` prints. What a row does not say is absent,
//! never 0.

mod pictures;
mod row;
mod tables;

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::arguments::Failure;

pub use pictures::{hit_ratios, pages_held};
pub use row::{figure, number, packed, size, text};
pub use tables::{costs, render, tails};

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
