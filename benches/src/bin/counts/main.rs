//! Counts the instructions of the paths that matter, and compares them with those kept in the tree: a
//! busy machine blurs times, and these not.
//!
//! Each path is run by this same program under callgrind, in a process of its own, and counted in three
//! parts: what this workspace's code and the standard library take, what the codec takes, and what shared
//! libraries take (memcpy, malloc). The first is what a change here moves. All of this stands in the program and not in
//! the library, whose other code would move what the compiler inlines into the paths.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use benches::packing::Failure;
use benches::program;
use lexopt::prelude::*;

use kept::{BOUND, Count, Counts, WIDE};
use paths::{PATHS, Path};
use stages::stages;

mod callgrind;
mod kept;
mod paths;
mod stages;

const USAGE: &str = "\
usage: counts [options]

Counts instructions an operation under callgrind, and fails where a path takes 5 % more of them than
the file of this compiler in benches/counts says; where there is none, 15 % more than the newest one.

  --update          write that file
  --path NAME       this path only; nothing is compared
  --stages NAME     where the instructions of this path go
  --run NAME        run the path and count nothing: what callgrind is given
  --compiler VER    what compiled this program (default: what `rustc` is)
";

#[derive(Default)]
struct Options {
    update: bool,
    path: Option<&'static Path>,
    stages: Option<&'static Path>,
    run: Option<&'static Path>,
    compiler: Option<String>,
}

fn options() -> Result<Option<Options>, Failure> {
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_env();
    let named = |name: String| {
        let names: Vec<&str> = PATHS.iter().map(|path| path.name).collect();
        Path::named(&name).ok_or(format!("no path `{name}`: there are {}", names.join(", ")))
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("update") => options.update = true,
            Long("path") => options.path = Some(named(parser.value()?.string()?)?),
            Long("stages") => options.stages = Some(named(parser.value()?.string()?)?),
            Long("run") => options.run = Some(named(parser.value()?.string()?)?),
            Long("compiler") => options.compiler = Some(parser.value()?.string()?),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(Some(options))
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
    let next = AtomicUsize::new(0);
    let counted = Mutex::new(Vec::new());
    let work = || {
        // Relaxed: each number is handed out once, and nothing else goes with it.
        while let Some(path) = PATHS.get(next.fetch_add(1, Ordering::Relaxed)) {
            let count = count(path, program).map_err(|error| format!("{}: {error}", path.name));
            counted.lock().expect("no counting panics").push((path.name, count));
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let mut counted = counted.into_inner()?;
    let place = |name: &str| PATHS.iter().position(|path| path.name == name);
    counted.sort_by_key(|(name, _)| place(name));
    counted.into_iter().map(|(name, count)| Ok((name.to_owned(), count?))).collect()
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
    if let Some(path) = options.run {
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
    if let Some(path) = options.path {
        print!(
            "{}",
            kept::write(
                &vec![(path.name.to_owned(), count(path, &program)?)],
                &compiler(options.compiler.as_deref())?
            )
        );
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
    program::run("counts", USAGE, options(), run)
}
