//! This program under each allocator: built by cargo in the same target directory, where only this
//! package differs, and copied aside, since the next build replaces what the last one left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use benches::arguments::Failure;

/// The allocator that this program was built with.
pub(crate) const ALLOCATOR: &str = if cfg!(feature = "jemalloc-global") {
    "jemalloc"
} else if cfg!(feature = "mimalloc-global") {
    "mimalloc"
} else {
    "system"
};

/// An allocator, and the program built with it.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) allocator: &'static str,
    pub(crate) executable: PathBuf,
}

/// The others, which are features of this package with `-global` behind.
pub(crate) const OTHERS: [&str; 2] = ["mimalloc", "jemalloc"];

/// The program as it runs, and with `others` of the allocators where they can be built; why not
/// goes to `note`.
pub(crate) fn build(
    dir: &Path,
    others: &[String],
    note: &mut dyn FnMut(String),
) -> Result<Vec<Variant>, Failure> {
    let own = std::env::current_exe()?;
    let mut variants = vec![aside(dir, ALLOCATOR, &own)?];
    if others.is_empty() {
        return Ok(variants);
    }
    if !cfg!(feature = "peers") || ALLOCATOR != "system" {
        note(
            "other allocators are built from a build with peers and the system's allocator".into(),
        );
        return Ok(variants);
    }
    // target/release/versus
    let target = own.parent().and_then(Path::parent).ok_or("a target directory")?;
    for allocator in OTHERS.into_iter().filter(|name| others.iter().any(|other| other == name)) {
        match compile(target, &format!("{allocator}-global")) {
            Ok(executable) => variants.push(aside(dir, allocator, &executable)?),
            Err(error) => note(format!("{allocator} is left out: {error}")),
        }
    }
    Ok(variants)
}

fn aside(dir: &Path, allocator: &'static str, executable: &Path) -> Result<Variant, Failure> {
    let copy = dir.join(format!("versus-{allocator}"));
    fs::copy(executable, &copy)?;
    Ok(Variant { allocator, executable: copy })
}

fn compile(target: &Path, feature: &str) -> Result<PathBuf, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet", "--locked", "-p", "benches", "--bin", "versus"]);
    command.args(["--features", feature]).arg("--target-dir").arg(target);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().find(|line| line.starts_with("error")).unwrap_or("cargo failed");
        return Err(line.to_owned().into());
    }
    Ok(target.join("release").join("versus"))
}
