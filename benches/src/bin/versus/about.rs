//! What stands around a suite's rows: the machine, and the versions.

use std::fs;
use std::process::Command;

use serde_json::{Map, Value, json};

const LOCK: &str = include_str!("../../../../Cargo.lock");
/// Packages whose versions are told.
const PACKAGES: [&str; 9] = [
    "zcache",
    "moka",
    "quick_cache",
    "foyer-memory",
    "lz4",
    "lz4_flex",
    "zstd",
    "mimalloc",
    "tikv-jemallocator",
];

/// The version of a package in the lock file.
fn version(package: &str) -> Option<&'static str> {
    let mut lines = LOCK.lines();
    let name = format!("name = \"{package}\"");
    lines.find(|line| **line == *name)?;
    lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')
}

/// What a program says, if it can be run.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// All but the results.
pub(crate) fn head() -> Value {
    let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let rustc = said("rustc", &["--version"]);
    let word = rustc.as_deref().and_then(|text| text.split_whitespace().nth(1));
    let versions = PACKAGES.map(|name| (name.to_owned(), json!(version(name))));
    let mut versions: Map<String, Value> = versions.into_iter().collect();
    versions.insert("rustc".into(), json!(word));
    json!({
        "kind": "suite", "date": said("date", &["-u", "+%F"]),
        "machine": {
            "cpu": cpu, "cores": std::thread::available_parallelism().map_or(1, usize::from),
            "kernel": said("uname", &["-r"]),
        },
        "versions": versions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_the_date_are_known() {
        assert!(PACKAGES.iter().all(|name| version(name).is_some()));
        assert_eq!(version("no-such-package"), None);
        assert!(head()["date"].as_str().is_some_and(|date| date.len() == 10 && *date >= *"2026"));
    }
}
