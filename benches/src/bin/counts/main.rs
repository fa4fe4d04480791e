//! Counts the instructions of the paths that matter, and compares them with those kept in the tree:
//! a busy machine blurs times, and these not.
//!
//! Each path is run by this same program under callgrind, in a process of its own, and counted in
//! three parts: what this workspace's code and the standard library take, what the codec takes, and
//! what shared libraries take (memcpy, malloc). The first is what a change here moves. All of this
//! stands in the program and not in the library, whose other code would move what the compiler
//! inlines into the paths.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;

use benches::arguments::Failure;
use benches::{arguments, parallel};
use clap::Parser;

use kept::{BOUND, Count, Counts, WIDE};
use paths::{PATHS, Path};
use stages::stages;

mod callgrind;
mod kept;
mod paths;
mod stages;

/// Counts instructions an operation under callgrind, and fails where a path takes more than before.
///
/// More are 5 % more than the file of this compiler in benches/counts says; where there is none, 15
/// % more than the newest one.
#[derive(Debug, Parser)]
#[command(name = "counts")]
struct Options {
    /// Writes that file
    #[arg(long)]
    update: bool,
    /// Where the instructions of this path go
    #[arg(long, value_parser = named)]
    stages: Option<&'static Path>,
    /// Runs the path and counts nothing: what callgrind is given
    #[arg(long = "run", value_parser = named)]
    one: Option<&'static Path>,
    /// What compiled this program (default: what `rustc` is)
    #[arg(long)]
    compiler: Option<String>,
}

fn named(name: &str) -> Result<&'static Path, String> {
    let names: Vec<&str> = PATHS.iter().map(|path| path.name).collect();
    Path::named(name).ok_or_else(|| format!("no path `{name}`: there are {}", names.join(", ")))
}

/// The compiler's architecture and version, as in the names of the files.
fn compiler(version: Option<&str>) -> Result<String, Failure> {
    let version = match version {
        Some(version) => version.to_owned(),
        None => {
            let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
            let said = Command::new(rustc).arg("--version").output()?.stdout;
            let said = String::from_utf8(said)?;
            said.split_whitespace().nth(1).ok_or("rustc does not say its version")?.to_owned()
        }
    };
    Ok(format!("{}-{version}", std::env::consts::ARCH))
}

fn count(path: &Path, program: &FilePath) -> Result<Count, Failure> {
    let costs = callgrind::count(program, &["--run", path.name])?;
    Ok(Count::of(&costs, program, path.times))
}

/// Counts all paths, as many at once as there are processors.
fn count_all(program: &FilePath) -> Result<Counts, Failure> {
    let counted = |path: &Path| {
        let count = count(path, program).map_err(|error| format!("{}: {error}", path.name))?;
        Ok((path.name.to_owned(), count))
    };
    parallel::each(thread::available_parallelism().map_or(1, usize::from), PATHS, counted)
}

/// Compares with what is kept, and says so. `false`: something grew.
fn judge(dir: &FilePath, compiler: &str, counts: &Counts) -> Result<bool, Failure> {
    let compilers = kept::compilers(dir, compiler)?;
    let known = compilers.iter().any(|other| other == compiler);
    let (of, bound) = match compilers.last() {
        _ if known => (compiler, BOUND),
        Some(newest) => (newest.as_str(), WIDE),
        None => {
            println!("NOT COMPARED: no counts of this architecture are kept for {compiler}");
            return Ok(true);
        }
    };
    if !known {
        println!(
            "no counts are kept for {compiler}: compared with those for {of}, within {} %; \
             `.ci/counts --update` keeps these",
            WIDE * 100.0
        );
    }
    let verdict =
        kept::compare(&kept::read(&fs::read_to_string(kept::file(dir, of))?)?, counts, bound);
    verdict.shrunk.iter().for_each(|line| println!("shrunk, --update keeps it: {line}"));
    verdict.grown.iter().for_each(|line| println!("GROWN: {line}"));
    if verdict.grown.is_empty() {
        println!("{} paths within {} % of {of}", counts.len(), bound * 100.0);
    }
    Ok(verdict.grown.is_empty())
}

fn run(options: &Options) -> Result<(), Failure> {
    if let Some(path) = options.one {
        path.run();
        return Ok(());
    }
    let program = std::env::current_exe()?;
    if let Some(path) = options.stages {
        let costs = callgrind::count(&program, &["--run", path.name])?;
        for (stage, instructions) in stages(&costs, &program, path.times)? {
            println!("{stage:<28} {instructions:>9.1}");
        }
        return Ok(());
    }
    let compiler = compiler(options.compiler.as_deref())?;
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("counts");
    let counts = count_all(&program)?;
    let text = kept::write(&counts, &compiler);
    print!("{text}");
    let passed = judge(&dir, &compiler, &counts);
    if options.update {
        fs::create_dir_all(&dir)?;
        let file = kept::file(&dir, &compiler);
        fs::write(&file, text)?;
        println!("kept for {compiler}");
        return Ok(());
    }
    if passed? { Ok(()) } else { Err("more instructions than before".into()) }
}

fn main() -> ExitCode {
    arguments::run(run)
}
