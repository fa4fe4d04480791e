//! No two files of a crate need each other, neither directly nor by way of others.
#![cfg(not(zcache_loom))]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders that hold the files of one crate each.
const CRATES: [&str; 13] = [
    "zpool/src",
    "zcache/src",
    "zcache/examples/explore",
    "benches/src",
    "benches/src/bin/versus",
    "benches/src/bin/counts",
    "benches/src/bin/density",
    "benches/src/bin/load",
    "benches/src/bin/policies",
    "zcache/adapters/redb/src",
    "zcache/adapters/slatedb/src",
    "zcache/adapters/sqlite/src",
    "zcache/adapters/versus/src",
];

/// A module by its path from the crate's root, such as `["tier", "evict"]`.
type Module = Vec<String>;

struct File {
    /// The code outside comments, in front of the unit tests.
    code: String,
    /// Names that the file only passes on, and the child module that has each of them.
    passed_on: BTreeMap<String, String>,
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| c != '_' && !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// The statements of `code` that start with `pub use` or `pub(...) use`.
fn reexports(code: &str) -> Vec<&str> {
    let starts = code.match_indices("pub").filter(|(at, _)| code[..*at].ends_with('\n'));
    let statements = starts.map(|(at, _)| code[at..].split(';').next().unwrap());
    let is_use = |statement: &&str| {
        let rest = statement.trim_start_matches("pub").trim_start();
        let rest =
            rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |r| r.1);
        rest.trim_start().starts_with("use ")
    };
    statements.filter(is_use).collect()
}

fn file(text: &str) -> File {
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = format!("\n{}", lines.join("\n"));
    let code = code.split("#[cfg(test)]").next().unwrap();
    let code = code.split("#[cfg(all(test, not(zcache_loom)))]\nmod ").next().unwrap();
    let (mut rest, mut passed_on) = (code.to_owned(), BTreeMap::new());
    for statement in reexports(code) {
        let path = statement.split("use ").nth(1).unwrap();
        let path = path.trim_start_matches("self::");
        let child = words(path).next().unwrap().to_owned();
        for name in words(path).skip(1) {
            passed_on.insert(name.to_owned(), child.clone());
        }
        rest = rest.replacen(statement, "", 1);
    }
    File { code: rest, passed_on }
}

fn collect(dir: &Path, module: &Module, skip: &[PathBuf], to: &mut BTreeMap<Module, File>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if skip.contains(&path) || stem == "models" || stem == "bin" {
            continue;
        }
        let inner = || module.iter().cloned().chain([stem.clone()]).collect::<Module>();
        if path.is_dir() {
            collect(&path, &inner(), skip, to);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let root = ["mod", "lib", "main"].contains(&stem.as_str());
            let name = if root { module.clone() } else { inner() };
            to.insert(name, file(&fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The module that a path of `code` leads to from `from` on, by way of what modules pass on.
fn resolve(files: &BTreeMap<Module, File>, mut at: Module, path: &str) -> Vec<Module> {
    let mut rest = path;
    loop {
        let rest_trimmed = rest.trim_start();
        if let Some(list) = rest_trimmed.strip_prefix('{') {
            let list = list.split('}').next().unwrap();
            return list.split(',').flat_map(|each| resolve(files, at.clone(), each)).collect();
        }
        let Some(name) = words(rest_trimmed).next().filter(|name| rest_trimmed.starts_with(name))
        else {
            return Vec::new(); // a glob
        };
        if name == "super" {
            at.pop();
        } else {
            let passed = files.get(&at).and_then(|file| file.passed_on.get(name));
            let child = passed.map_or(name, String::as_str).to_owned();
            let mut inner = at.clone();
            inner.push(child);
            if !files.contains_key(&inner) {
                return vec![at];
            }
            at = inner;
            if passed.is_some() {
                return vec![at];
            }
        }
        match rest_trimmed[name.len()..].strip_prefix("::") {
            Some(more) => rest = more,
            None => return vec![at],
        }
    }
}

/// Whether `code` names `name`, which is no variant of `Option`.
fn is_used(code: &str, name: &str) -> bool {
    words(&code.replace("Option::None", "")).any(|word| word == name)
}

/// Whether the place `at` is in a module that the file itself holds.
fn is_inline(code: &str, at: usize) -> bool {
    code[..at].rfind("\nmod ").is_some_and(|start| {
        code[start..].lines().nth(1).unwrap().ends_with('{') && !code[start..at].contains("\n}")
    })
}

/// The modules that `module` needs.
fn needs(files: &BTreeMap<Module, File>, module: &Module) -> BTreeSet<Module> {
    let File { code, passed_on } = &files[module];
    let mut found = BTreeSet::new();
    for (prefix, from) in
        [("crate::", Vec::new()), ("super::", module[..module.len().max(1) - 1].to_vec())]
    {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            // The rest of a longer path, or the `pub(in ..)` of something that others need.
            let no_start = code[..at].ends_with("super::") || code[..at].ends_with("(in ");
            if before == '_' || before.is_alphanumeric() || no_start {
                continue;
            }
            let own = prefix == "super::" && is_inline(code, at);
            let from = if own { module.clone() } else { from.clone() };
            found.extend(resolve(files, from, &code[at + prefix.len()..]));
        }
    }
    // A root file of a folder names its children without a prefix, and uses what it passes on.
    for (child, _) in
        files.iter().filter(|(name, _)| name.len() == module.len() + 1 && name.starts_with(module))
    {
        let name = child.last().unwrap();
        let direct = code.match_indices(&format!("{name}::")).any(|(at, _)| {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            before != '_' && before != ':' && !before.is_alphanumeric()
        });
        let passed = passed_on.iter().filter(|(_, from)| *from == name);
        let used = passed.map(|(name, _)| name.as_str()).any(|name| is_used(code, name));
        if direct || used {
            found.insert(child.clone());
        }
    }
    found.remove(module);
    found
}

/// The first circle that is found from `module` on.
fn circle(
    graph: &BTreeMap<Module, BTreeSet<Module>>,
    module: &Module,
    way: &mut Vec<Module>,
    done: &mut BTreeSet<Module>,
) -> Option<Vec<Module>> {
    if let Some(at) = way.iter().position(|passed| passed == module) {
        return Some(way[at..].to_vec());
    }
    if !done.insert(module.clone()) {
        return None;
    }
    way.push(module.clone());
    let found = graph[module].iter().find_map(|next| circle(graph, next, way, done));
    way.pop();
    found
}

#[test]
fn no_two_files_need_each_other() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut circles = Vec::new();
    for name in CRATES {
        let root = top.join(name);
        let mut files = BTreeMap::new();
        collect(&root, &Vec::new(), &[], &mut files);
        assert!(files.len() > 2, "{name} has files");
        let graph: BTreeMap<Module, BTreeSet<Module>> =
            files.keys().map(|module| (module.clone(), needs(&files, module))).collect();
        let mut done = BTreeSet::new();
        for module in graph.keys() {
            if let Some(found) = circle(&graph, module, &mut Vec::new(), &mut done) {
                let names: Vec<String> = found.iter().map(|module| module.join("/")).collect();
                circles.push(format!("{name}: {}", names.join(" -> ")));
            }
        }
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

/// The reading of sources has to find what it is to find.
#[test]
fn a_circle_is_found() {
    let sources = [
        ("", "mod a;\nmod b;\n"),
        ("a", "use crate::b::Thing;\n"),
        ("b", "mod c;\npub(crate) use c::Thing;\n"),
        ("b/c", "use super::Other;\nuse crate::a;\n"),
    ];
    let module = |path: &str| {
        path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Module>()
    };
    let files: BTreeMap<Module, File> =
        sources.iter().map(|(path, text)| (module(path), file(text))).collect();
    assert_eq!(needs(&files, &module("a")), BTreeSet::from([module("b/c")]));
    assert_eq!(needs(&files, &module("b")), BTreeSet::new());
    assert_eq!(needs(&files, &module("b/c")), BTreeSet::from([module("a"), module("b")]));
}
