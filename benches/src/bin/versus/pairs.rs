//! Which pages belong to which trace, and where the shared files are.

use std::path::{Path, PathBuf};

use benches::arguments::Failure;

/// A trace, its pages, and the size they are cut to where that is not their own.
pub(crate) struct Pair {
    pub(crate) trace: &'static str,
    pub(crate) pages: &'static str,
    pub(crate) cut: Option<usize>,
}

const fn pair(trace: &'static str, pages: &'static str) -> Pair {
    Pair { trace, pages, cut: None }
}

/// Request id N is page N of the set, modulo its length. The first four have the pages that were
/// there when the trace was taken.
pub(crate) const PAIRS: [Pair; 17] = [
    pair("sqlite-wordnet-4k", "sqlite-wordnet-4k"),
    pair("pg-pgbench-8k", "pg-pgbench-8k"),
    pair("pg-pgbench-8k-rw", "pg-pgbench-8k"),
    pair("pg-gitlog-8k", "pg-gitlog-8k"),
    pair("innodb-debpkgs-16k", "innodb-debpkgs-16k"),
    pair("pg-debpkgs-8k", "pg-debpkgs-8k"),
    pair("cloudphysics-io-4k", "mem-redis-4k"),
    pair("arc-p6-4k", "file-elf-4k"),
    pair("memref-python-4k", "mem-python-4k"),
    pair("twitter-c52-a", "file-json-4k"),
    pair("arc-oltp", "mem-node-4k"),
    Pair { trace: "arc-p3-512", pages: "file-source-4k", cut: Some(512) },
    pair("orm-night", "file-json-4k"),
    pair("web12", "file-source-4k"),
    pair("lirs-2pools", "file-log-4k"),
    pair("lirs-glimpse", "file-text-novels-4k"),
    pair("lirs-multi3", "file-chemdb-4k"),
];

/// The kinds of shared files.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    Traces,
    Pages,
}

/// Where shared files are, if anywhere: beside the repository.
pub(crate) fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data")
}

/// The file that the user means: a path, or the name of a shared one.
pub(crate) fn locate(name: &str, place: Place) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(name);
    if path.exists() {
        return Ok(path);
    }
    let (dir, ending) = match place {
        Place::Traces => ("traces", "u64"),
        Place::Pages => ("pages", "bin"),
    };
    let dir = shared().join(dir);
    let candidates = ["", ".zst"].map(|zst| dir.join(format!("{name}.{ending}{zst}")));
    let found = candidates.into_iter().find(|path| path.is_file());
    found
        .ok_or_else(|| format!("{name}: no such file, nor one of the shared {ending} files").into())
}

fn of(trace: &str) -> Option<&'static Pair> {
    let name = Path::new(trace).file_name()?.to_str()?;
    let name = name.strip_suffix(".zst").unwrap_or(name);
    let name = name.strip_suffix(".u64").unwrap_or(name);
    PAIRS.iter().find(|pair| pair.trace == name)
}

/// The page set of a trace, by the name of either's file.
pub(crate) fn pages_of(trace: &str) -> Option<&'static str> {
    of(trace).map(|pair| pair.pages)
}

/// What the page set of a trace is to be cut to.
pub(crate) fn page_size_of(trace: &str) -> Option<usize> {
    of(trace).and_then(|pair| pair.cut)
}

/// Whether a trace needs no file.
pub(crate) fn is_made(trace: &str) -> bool {
    ["scan", "uniform"].contains(&trace) || trace.starts_with("zipf:")
}

/// The pairs, as the usage lists them.
pub(crate) fn listed() -> String {
    let line = |pair: &Pair| {
        let cut = pair.cut.map_or_else(String::new, |bytes| format!(", cut into {bytes} B"));
        format!("  {:<20} -> {}{cut}\n", pair.trace, pair.pages)
    };
    format!("Traces and their pages:\n{}", PAIRS.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_known_by_name_and_by_file() {
        assert_eq!(pages_of("arc-oltp"), Some("mem-node-4k"));
        assert_eq!(pages_of("some/dir/arc-p3-512.u64.zst"), Some("file-source-4k"));
        assert_eq!(page_size_of("arc-p3-512"), Some(512));
        assert_eq!(pages_of("zipf:1"), None);
    }
}
