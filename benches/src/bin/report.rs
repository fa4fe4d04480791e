//! Pictures of a suite's figures: one HTML page, and the deciding ones as files for the README.
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use benches::charts::figures::figures;
use benches::charts::page::page;
use benches::charts::suite::Suite;
use benches::measure::{self, ENTRIES, POPULATIONS, THREADS};
use benches::packing::Failure;
use benches::program;
use lexopt::prelude::*;
use tests::corpus::{self, PageFile};

const USAGE: &str = "\
usage: report [options]             writes report.html, pages-per-mib.svg and hit-ratio.svg
       report measure [options]     puts rows of density and of scaling into the suite; half a minute

  --results FILE    a suite as JSON (default: benches/results/suite.json)
  --out DIR         where pictures go (default: beside the suite)
  --pages FILE      what to measure with (default: mem-redis-4k of the shared files, or the sample)
";

/// The figures that are files of their own.
const FILES: [&str; 2] = ["pages-per-mib", "hit-ratio"];
/// The shared file that is measured with.
const PAGES: &str = "mem-redis-4k.";

struct Options {
    measure: bool,
    results: PathBuf,
    out: Option<PathBuf>,
    pages: Option<PathBuf>,
}

fn options() -> Result<Option<Options>, Failure> {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/suite.json");
    let mut options = Options { measure: false, results, out: None, pages: None };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Value(word) if word == "measure" => options.measure = true,
            Long("results") => options.results = parser.value()?.into(),
            Long("out") => options.out = Some(parser.value()?.into()),
            Long("pages") => options.pages = Some(parser.value()?.into()),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected().into()),
        }
    }
    match (options.measure, &options.out, &options.pages) {
        (true, Some(_), _) => Err("measure draws nothing: no --out".into()),
        (false, _, Some(_)) => Err("--pages is for measure".into()),
        _ => Ok(Some(options)),
    }
}

fn measure(options: &Options) -> Result<(), Failure> {
    // A suite that is none should be told before the work is done.
    Suite::read(&options.results)?;
    let shared = || {
        let named = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PAGES))
        };
        corpus::shared_files().into_iter().find(named)
    };
    let file = match options.pages.clone().or_else(shared) {
        Some(path) => PageFile::read(&path, None)?,
        None => corpus::sample(),
    };
    let density = measure::density(&file, &POPULATIONS)?;
    let scaling = measure::own_scaling(&file, ENTRIES, &THREADS)?;
    density.iter().chain(&scaling).for_each(|row| println!("{row}"));
    measure::put(&options.results, "density", "pages", density)?;
    measure::put(&options.results, "scaling", "cache", scaling)
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let path = dir.join(name);
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

fn draw(options: &Options) -> Result<(), Failure> {
    let suite = Suite::read(&options.results)?;
    let figures = figures(&suite);
    let beside = options.results.parent().unwrap_or(Path::new("."));
    let out = options.out.as_deref().unwrap_or(beside);
    fs::create_dir_all(out).map_err(|error| format!("{}: {error}", out.display()))?;
    write(out, "report.html", &page(&suite, &figures))?;
    for figure in figures.iter().filter(|figure| FILES.contains(&figure.id())) {
        write(out, &format!("{}.svg", figure.id()), &figure.svg())?;
    }
    Ok(())
}

fn main() -> ExitCode {
    program::run("report", USAGE, options(), |options| match options.measure {
        true => measure(options),
        false => draw(options),
    })
}
