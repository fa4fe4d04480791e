//! The architecture, as rules that fail: imports go down, primitives and models have one home,
//! unsafe code has its rooms, and no file is a whole system.
#![cfg(not(zcache_loom))]

use std::fs;
use std::path::{Path, PathBuf};

/// Each crate's rooms, ground floor first; rooms on one floor never name each other. A room is a
/// file or a folder directly under `src`.
const TOWERS: [(&str, &[&[&str]]); 6] = [
    (
        "zpool",
        &[
            &["error", "geometry", "sync"],
            &["ledger", "stats", "word"],
            &["directory", "scratch"],
            &["bits", "mapped", "ripe", "swapped"],
            &["numbers"],
            &["handle", "source"],
            &["config", "frame", "zspage"],
            &["fullness"],
            &["class"],
            &["arena"],
            &["check", "compact", "fresh", "pinned"],
            &["guard", "ladder", "snapshot"],
            &["pool"],
            &["models"],
            &["lib"],
        ],
    ),
    (
        "zcache",
        &[
            &["sync"],
            &["codec", "error", "policy"],
            &["config", "index", "scope", "stats"],
            &["store", "worth"],
            &["hot"],
            &["tier"],
            &["cold"],
            &["cache"],
            &["models"],
            &["lib"],
        ],
    ),
    ("zcache/adapters/redb", &[&["blocks"], &["backend"], &["lib"]]),
    ("zcache/adapters/slatedb", &[&["decoded", "packed"], &["cache"], &["lib"]]),
    ("zcache/adapters/sqlite", &[&["ffi", "pages"], &["registry"], &["file"], &["vfs"], &["lib"]]),
    (
        "zcache/adapters/versus",
        &[
            &["codec", "load", "reads", "words"],
            &["rows"],
            &["child", "options"],
            &["table"],
            &["program"],
            &["lib"],
        ],
    ),
];

/// Modules with unsafe code; every other one is declared with `#[forbid(unsafe_code)]`.
const UNSAFE_ROOMS: [(&str, &[&str]); 6] = [
    ("zpool", &["source", "zspage", "handle", "frame", "mapped", "swapped"]),
    ("zcache", &[]),
    ("zcache/adapters/redb", &[]),
    ("zcache/adapters/slatedb", &[]),
    ("zcache/adapters/sqlite", &["ffi", "file", "vfs"]),
    ("zcache/adapters/versus", &[]),
];

/// A file longer than this is split.
const LONGEST_FILE: usize = 600;

struct File {
    /// The path under `src`.
    path: String,
    /// The module it belongs to.
    module: String,
    /// Whether it holds loom models: tests, beside what they need to see.
    models: bool,
    /// Its lines, without those that are comments.
    code: Vec<String>,
    lines: usize,
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let all = entries.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
    all.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(name: &str) -> Vec<File> {
    let src = top().join(name).join("src");
    let read = |path: &PathBuf| {
        let inside = path.strip_prefix(&src).unwrap();
        let module = inside.with_extension("").iter().next().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path).unwrap();
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        File {
            path: format!("{name}/src/{}", inside.display()),
            module,
            models: inside.iter().any(|part| part == "models" || part == "models.rs"),
            code: text.lines().filter(is_code).map(str::to_owned).collect(),
            lines: text.lines().count(),
        }
    };
    let files: Vec<File> = rust_files(&src).iter().map(read).collect();
    assert!(!files.is_empty(), "{name} has source files");
    files
}

fn each_file(mut f: impl FnMut(&str, &File)) {
    for (name, _) in TOWERS {
        files(name).iter().for_each(|file| f(name, file));
    }
}

#[test]
fn imports_only_go_down() {
    for (name, floors) in TOWERS {
        let floor = |module: &str| floors.iter().position(|names| names.contains(&module));
        for File { path, module, code, .. } in files(name) {
            let own = floor(&module).unwrap_or_else(|| panic!("{path}: {module} has no floor"));
            let code = code.join("\n");
            assert!(!code.contains("super::super"), "{path}: name the module instead");
            for used in code.split("crate::").skip(1) {
                let used = used.split(|c: char| c != '_' && !c.is_alphanumeric()).next().unwrap();
                assert!(!used.is_empty(), "{path}: one `use crate::x` for each module");
                let theirs = floor(used).unwrap_or_else(|| {
                    panic!("{path}: `crate::{used}` is no module; name the one it comes from")
                });
                assert!(theirs < own || used == module, "{path}: {module} may not use {used}");
            }
        }
    }
}

#[test]
fn every_module_has_one_floor() {
    for (name, floors) in TOWERS {
        let mut placed: Vec<&str> = floors.iter().flat_map(|names| names.iter().copied()).collect();
        let mut there: Vec<String> = files(name).into_iter().map(|file| file.module).collect();
        placed.sort_unstable();
        there.sort_unstable();
        there.dedup();
        assert_eq!(placed, there, "{name}");
    }
}

/// Loom sees only what comes through `sync`. Adapters have no models.
#[test]
fn primitives_come_from_sync() {
    each_file(|name, File { path, module, models, code, .. }| {
        if module == "sync" || *models || name.starts_with("zcache/adapters/") {
            return;
        }
        // Tests at the end of a file run on the real thing.
        let code = code.join("\n");
        let code = code.split("#[cfg(test)]").next().unwrap();
        for banned in ["std::sync", "core::sync", "std::cell::UnsafeCell", "core::cell::UnsafeCell"]
        {
            assert!(!code.contains(banned), "{path} names {banned}; use crate::sync");
        }
        assert!(!code.contains("cell::{"), "{path}: a list of cells hides `UnsafeCell`");
        for foreign in ["loom::", "crossbeam_epoch"] {
            assert!(!code.contains(foreign), "{path} names {foreign}; use crate::sync");
        }
    });
}

#[test]
fn only_sync_and_tests_know_of_models() {
    each_file(|_, File { path, module, code, .. }| {
        for (at, line) in code.iter().enumerate().filter(|(_, line)| line.contains("zcache_loom")) {
            let before = at.checked_sub(1).map_or("", |before| &code[before]);
            let test = line.contains("test") || before.contains("cfg(test)");
            assert!(test || module == "sync", "{path}: {line}: make it a constant in sync");
        }
    });
}

#[test]
fn unsafe_code_has_its_rooms() {
    for (name, rooms) in UNSAFE_ROOMS {
        let files = files(name);
        let lib = files.iter().find(|file| file.module == "lib").unwrap();
        let whole = lib.code.iter().any(|line| line.trim() == "#![forbid(unsafe_code)]");
        for (at, line) in lib.code.iter().enumerate() {
            let declared = line.trim_start_matches("pub ").strip_prefix("mod ");
            let Some(module) = declared.and_then(|rest| rest.strip_suffix(';')) else { continue };
            let forbidden = at > 0 && lib.code[at - 1].trim() == "#[forbid(unsafe_code)]";
            let room = rooms.contains(&module);
            assert_eq!(forbidden || whole, !room, "{name}: `{module}` beside its unsafe rooms");
        }
        for room in rooms {
            assert!(files.iter().any(|file| file.module == *room), "{name}: {room} is gone");
        }
        let forbids = |file: &&File| rooms.contains(&file.module.as_str()) || file.module == "lib";
        for File { path, code, .. } in files.iter().filter(|file| !forbids(file)) {
            let stray = code.iter().find(|line| line.contains("unsafe "));
            assert_eq!(stray, None, "{path}");
        }
    }
}

#[test]
fn no_file_is_a_whole_system() {
    each_file(|_, File { path, lines, .. }| {
        assert!(*lines <= LONGEST_FILE, "{path} has {lines} lines");
    });
    let adapters =
        ["redb", "slatedb", "sqlite", "versus"].map(|name| format!("zcache/adapters/{name}"));
    let adapters =
        adapters.iter().flat_map(|dir| ["tests", "examples"].map(|of| format!("{dir}/{of}")));
    let dirs = ["tests/src", "tests/tests", "benches", "fuzz/fuzz_targets"].map(String::from);
    for dir in dirs.into_iter().chain(adapters) {
        for path in rust_files(&top().join(dir)) {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= LONGEST_FILE, "{} has {lines} lines", path.display());
        }
    }
}

/// No access is `SeqCst`: loom reads those as `AcqRel`, and would pass what the hardware does not.
/// It does know fences.
#[test]
fn no_access_is_sequentially_consistent() {
    each_file(|_, File { path, code, .. }| {
        let bad = |line: &String| line.contains("SeqCst") && !line.contains("fence(");
        assert!(!code.iter().any(bad), "{path}");
    });
}

/// The repository's top shows the architecture: folders that are members, and nothing else.
#[test]
fn every_source_folder_is_a_member() {
    let manifest = fs::read_to_string(top().join("Cargo.toml")).unwrap();
    let entries = fs::read_dir(top()).unwrap().map(|entry| entry.unwrap());
    for entry in entries.filter(|entry| entry.path().join("Cargo.toml").is_file()) {
        let name = entry.file_name().into_string().unwrap();
        assert!(manifest.contains(&format!("\"{name}\"")), "{name} is neither member nor excluded");
    }
}
