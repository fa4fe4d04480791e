//! Pictures of a suite's figures: one HTML page, and the deciding ones as files for the README.
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use benches::charts::figures::{Figure, figures};
use benches::charts::page::page;
use benches::charts::suite::Suite;
use benches::packing::Failure;
use benches::program;
use lexopt::prelude::*;

const USAGE: &str = "\
usage: report [options]

Writes report.html, pages-per-mib.svg and hit-ratio.svg.

  --results FILE    a suite as JSON (default: benches/results/suite.json)
  --out DIR         where to (default: beside the suite)
";

/// The figures that are files of their own.
const FILES: [&str; 2] = ["pages-per-mib", "hit-ratio"];

struct Options {
    results: PathBuf,
    out: Option<PathBuf>,
}

fn options() -> Result<Option<Options>, Failure> {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/suite.json");
    let mut options = Options { results, out: None };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("results") => options.results = parser.value()?.into(),
            Long("out") => options.out = Some(parser.value()?.into()),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(Some(options))
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let path = dir.join(name);
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

fn run(options: &Options) -> Result<(), Failure> {
    let suite = Suite::read(&options.results)?;
    let figures = figures(&suite);
    let beside = options.results.parent().unwrap_or(Path::new("."));
    let out = options.out.as_deref().unwrap_or(beside);
    fs::create_dir_all(out).map_err(|error| format!("{}: {error}", out.display()))?;
    write(out, "report.html", &page(&suite, &figures))?;
    let files = figures.iter().filter(|figure| FILES.contains(&figure.id()));
    for figure in files {
        write(out, &format!("{}.svg", figure.id()), &Figure::svg(figure))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    program::run("report", USAGE, options(), run)
}
