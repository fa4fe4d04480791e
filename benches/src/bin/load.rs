//! Does a cache stay right, and within its memory, under load? Many threads, every hit verified, resident
//! memory watched by another process; or a soak: does it stay as it is for as long as it runs?
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use benches::load::field::Plan;
use benches::load::phase::{Codec, Phase, Policy, Source};
use benches::load::watcher::{self, ALLOWANCE, Ended, Sample, Seen};
use benches::load::work;
use benches::packing::Failure;
use benches::program;
use benches::watch::Board;
use lexopt::prelude::*;
use tests::corpus;

const USAGE: &str = "\
usage: load [options]

  --minutes N        how long, all phases together (default 1)
  --soak MINUTES     inserts and look-ups only, of one phase; fails when memory or density is not flat
  --codec CODEC,...  none, lz4, zstd:LEVEL, zstd:LEVEL+dict (default: a mix, in phases)
  --policy POLICY    s3-fifo, sieve, lru (default: a mix, in phases)
  --source SOURCE    mmap, heap, memfd, huge (default: a mix of mmap and memfd, in phases)
  --data MIB         bytes of all pages together (default 256); the capacity is a tenth
  --threads N        threads that work, beside one that keeps house (default 8); a herd has 64
  --pages PATH       page files, or directories of them (default: the sample, and some of the shared ones)
  --seed N           seed of everything that is drawn (default 1)

Each phase has five stages: a mix of all calls; a run of zero pages; one of tiny pages; a herd of
threads; the mix again while the capacity goes from the greatest to the least and back. Then the
cache is filled, as it was left and after a clear, and holds at least 97 % of what a fresh one does.

Glibc's allocator keeps freed blocks, which are not the cache's: so a phase runs with
MALLOC_MMAP_THRESHOLD_=4096, unless that is set. A soak runs with what is set, or nothing.

The codes: 0, all is right; 1, the first thing that was not ended the run; 2, it could not be run.
";

/// Of the shared files, where they are to be had: all sizes of pages, and pages that do not shrink.
const SHARED: [&str; 6] = [
    "file-compressed-4k",
    "file-json-4k",
    "file-log-4k",
    "innodb-debpkgs-16k",
    "mem-python-4k",
    "pg-gitlog-8k",
];
/// What a soak's resident memory and density may move by from its first quarter on, as the line through
/// the samples goes: of the capacity, and in payload per byte of pages.
const DRIFT: (f64, f64) = (0.01, 0.01);
/// The least part of a fresh cache's entries that a used one holds, when both are filled alike.
const LEAST_HELD: f64 = 0.97;
/// A soak that replaces all entries less often than so shows nothing.
const TURNOVERS: f64 = 200.0;

#[derive(Debug)]
struct Options {
    minutes: Option<f64>,
    soak: bool,
    codecs: Vec<Codec>,
    policy: Option<Policy>,
    source: Option<Source>,
    data: Option<usize>,
    threads: usize,
    pages: Vec<PathBuf>,
    seed: u64,
    child: Child,
}

/// What a parent tells its child.
#[derive(Debug, Default)]
struct Child {
    phase: Option<Phase>,
    millis: u64,
    capacity: usize,
    data: usize,
    board: PathBuf,
}

fn options() -> Result<Option<Options>, Failure> {
    let mut options = Options {
        minutes: None,
        soak: false,
        codecs: Vec::new(),
        policy: None,
        source: None,
        data: None,
        threads: 8,
        pages: Vec::new(),
        seed: 1,
        child: Child::default(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("minutes") => options.minutes = Some(parser.value()?.parse()?),
            Long("soak") => {
                options.minutes = Some(parser.value()?.parse()?);
                options.soak = true;
            }
            Long("codec") => {
                let codecs = parser.value()?.string()?;
                options.codecs = codecs.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            Long("policy") => options.policy = Some(parser.value()?.string()?.parse()?),
            Long("source") => options.source = Some(parser.value()?.string()?.parse()?),
            Long("data") => options.data = Some(parser.value()?.parse()?),
            Long("threads") => options.threads = parser.value()?.parse()?,
            Long("pages") => options.pages.push(parser.value()?.into()),
            Long("seed") => options.seed = parser.value()?.parse()?,
            Long("child") => options.child.phase = Some(parser.value()?.string()?.parse()?),
            Long("millis") => options.child.millis = parser.value()?.parse()?,
            Long("capacity") => options.child.capacity = parser.value()?.parse()?,
            Long("data-bytes") => options.child.data = parser.value()?.parse()?,
            Long("board") => options.child.board = parser.value()?.into(),
            Long("soaking") => options.soak = true,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let minutes = options.minutes.unwrap_or(1.0);
    if !(minutes > 0.0 && minutes <= 1e5) {
        return Err(format!("{minutes} minutes: wanted are more than 0").into());
    }
    if !(1..=256).contains(&options.threads) {
        return Err(format!("{} threads: wanted are 1 to 256", options.threads).into());
    }
    if let Some(data @ (0..32 | 65_537..)) = options.data {
        return Err(format!("{data} MiB of data: wanted are 32 to 65536").into());
    }
    Ok(Some(options))
}

/// The page files to read.
fn page_files(options: &Options) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in &options.pages {
        files.extend(corpus::files(path)?);
    }
    if options.pages.is_empty() {
        files.push(corpus::sample_path());
        let shared = |path: &PathBuf| {
            let name =
                |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
            name(path).is_some_and(|name| SHARED.iter().any(|shared| name.starts_with(shared)))
        };
        files.extend(corpus::shared_files().into_iter().filter(shared));
    }
    Ok(files)
}

fn number(seen: &Seen, name: &str) -> u64 {
    seen.counted[name].as_u64().unwrap_or(0)
}

fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

fn print_phase(phase: Phase, plan: &Plan, seen: &Seen) {
    let count = |name| number(seen, name);
    println!(
        "{:<28} {:>10} operations, {:>10} hits verified, {:>5.1} % hits, {} of them hot, {} inserts, {} evicted; {} resizes, \
         {} compactions, {} clears, {} retains; resident at most {:.2} of {:.2} MiB, {:+.2} over what \
         was in force, {} looks; hits p50 {:.1}, p99 {:.0}, p99.9 {:.0} us; {} inserts refused \
         while resizing; refilled it holds {:.1} % of a fresh cache's {} entries, {:.1} % after a clear",
        phase.to_string(),
        count("operations"),
        count("hits"),
        100.0 * count("hits") as f64 / (count("hits") + count("misses")).max(1) as f64,
        count("hot"),
        count("inserts"),
        count("evicted"),
        count("resizes"),
        count("compactions"),
        count("clears"),
        count("retains"),
        mib(seen.peak as f64),
        mib(plan.capacity as f64),
        mib(seen.over as f64),
        seen.samples,
        micros(count("p50")),
        micros(count("p99")),
        micros(count("p999")),
        count("refused"),
        100.0 * part(seen, "used"),
        count("fresh"),
        100.0 * part(seen, "cleared"),
    );
}

/// Of what a fresh cache holds, the part that a used one holds after the same fill.
fn part(seen: &Seen, name: &str) -> f64 {
    seen.counted[name].as_f64().unwrap_or(0.0)
}

/// What is wrong with what a used cache holds.
fn judge_fill(seen: &Seen) -> Result<(), Ended> {
    for (name, when) in [("used", "as it was left"), ("cleared", "after a clear")] {
        let held = part(seen, name);
        if held < LEAST_HELD {
            return Err(Ended::Violation(format!(
                "{when}, the used cache holds {:.1} % of what a fresh one does",
                100.0 * held
            )));
        }
    }
    Ok(())
}

/// The slope of the least squares' line through `points`, times the time they span.
fn drift(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let variance: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let span = points.last().map_or(0.0, |last| last.0 - points[0].0);
    if variance == 0.0 { 0.0 } else { covariance / variance * span }
}

/// Prints a soak's samples; what is wrong with them.
fn judge(plan: &Plan, samples: &[Sample]) -> Result<(), Ended> {
    println!(
        "{:>8} {:>10} {:>10} {:>9} {:>13}",
        "seconds", "turnovers", "entries", "density", "resident MiB"
    );
    for sample in samples {
        println!(
            "{:>8.1} {:>10.0} {:>10.0} {:>9.4} {:>13.3}",
            sample.at,
            sample.turnovers,
            sample.entries,
            sample.density,
            mib(sample.resident)
        );
    }
    let settled = &samples[samples.len() / 4..];
    let points = |of: fn(&Sample) -> f64| -> Vec<(f64, f64)> {
        settled.iter().map(|sample| (sample.at, of(sample))).collect()
    };
    let resident = drift(&points(|sample| sample.resident)) / plan.capacity as f64;
    let density = drift(&points(|sample| sample.density));
    let turnovers = samples.last().map_or(0.0, |last| last.turnovers);
    println!(
        "from the first quarter on: resident {:+.3} % of the capacity, density {density:+.4}, over \
         {:.0} of {turnovers:.0} turnovers",
        100.0 * resident,
        turnovers - settled[0].turnovers,
    );
    if turnovers < TURNOVERS {
        return Err(Ended::Failed(
            format!("{turnovers:.0} turnovers: wanted are {TURNOVERS}").into(),
        ));
    }
    // Less memory for as much, and more payload for a page, are no faults.
    if resident > DRIFT.0 {
        return Err(Ended::Violation(format!(
            "resident memory grew by {resident:.4} of the capacity"
        )));
    }
    if density < -DRIFT.1 {
        return Err(Ended::Violation(format!("density fell by {:.4}", -density)));
    }
    Ok(())
}

fn run_all(options: &Options) -> Result<(), Ended> {
    let pages = page_files(options)?;
    let board = Board::make()?;
    let data = options.data.unwrap_or(256) << 20;
    let mut phases = Phase::chosen(&options.codecs, options.policy, options.source);
    if options.soak {
        phases.truncate(1);
    }
    let minutes = options.minutes.unwrap_or(1.0) / phases.len() as f64;
    let (mut operations, mut verified, mut over, mut slowest) = (0, 0, i64::MIN, 0);
    let mut least_held = f64::INFINITY;
    for phase in phases {
        let plan = Plan {
            phase,
            time: Duration::from_secs_f64(60.0 * minutes),
            capacity: data / 10,
            data,
            threads: options.threads,
            soak: options.soak,
            pages: pages.clone(),
            board: board.path().to_owned(),
            seed: options.seed,
        };
        let seen = watcher::watch(&plan, &board).map_err(|ended| match ended {
            Ended::Violation(what) => Ended::Violation(format!("{phase}: {what}")),
            Ended::Failed(why) => Ended::Failed(format!("{phase}: {why}").into()),
        })?;
        print_phase(phase, &plan, &seen);
        judge_fill(&seen).map_err(|ended| match ended {
            Ended::Violation(what) => Ended::Violation(format!("{phase}: {what}")),
            failed @ Ended::Failed(_) => failed,
        })?;
        least_held = least_held.min(part(&seen, "used")).min(part(&seen, "cleared"));
        if options.soak {
            judge(&plan, &seen.soak)?;
        }
        operations += number(&seen, "operations");
        verified += number(&seen, "hits");
        over = over.max(seen.over);
        slowest = slowest.max(number(&seen, "p999"));
    }
    println!(
        "load: {operations} operations, {verified} hits verified, 0 wrong; peak resident {:+.2} MiB over the \
         capacity, {} allowed; p99.9 of hits {:.0} us, the worst \
         phase's; a used cache holds at least {:.1} % of what a fresh one does",
        mib(over as f64),
        mib(ALLOWANCE as f64),
        micros(slowest),
        100.0 * least_held,
    );
    Ok(())
}

fn main() -> ExitCode {
    let violated = Cell::new(false);
    let code = program::run("load", USAGE, options(), |options| {
        if let Some(phase) = options.child.phase {
            return work::work(&Plan {
                phase,
                time: Duration::from_millis(options.child.millis),
                capacity: options.child.capacity,
                data: options.child.data,
                threads: options.threads,
                soak: options.soak,
                pages: options.pages.clone(),
                board: options.child.board.clone(),
                seed: options.seed,
            });
        }
        match run_all(options) {
            Ok(()) => Ok(()),
            Err(Ended::Failed(why)) => Err(why),
            Err(Ended::Violation(what)) => {
                violated.set(true);
                Err(format!("VIOLATION: {what}").into())
            }
        }
    });
    if violated.get() { ExitCode::FAILURE } else { code }
}
