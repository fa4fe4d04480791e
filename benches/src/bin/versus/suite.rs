//! The table of everything: traces and budgets, zcache and its peers, the peers' best allocators.
//!
//! ```text
//! for each trace   which allocator packs best for each peer      short runs
//!     each budget  zcache; the peers in the memory it took       two processes at a time
//!     results are written: a run that is cut off leaves what it had
//! what operations cost, and their tails                          all caches in this process
//! ```
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "progress, and the table")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use benches::arguments::{Failure, percent};
use benches::parallel::each;
use benches::results::{self, figure, packed};
use clap::Parser;
use serde_json::{Value, json};

use crate::about;
use crate::budget;
use crate::child::label;
use crate::cost::{self, Cost};
use crate::driver::{self, GUESS, Ground};
use crate::load::{self, Source};
use crate::pairs;
use crate::spec::{Codec, Kind, Spec};
use crate::stage::Stage;
use crate::tails::{self, Tails};
use crate::variants::{self, OTHERS, Variant};

/// Runs traces at 5, 10 and 25 percent for zcache (lz4 and zstd:3) and all peers, each under the
/// allocator that packs best.
///
/// Writes suite.json, suite.md and two pictures. Without the shared data, there are made traces
/// over the sample. What operations cost and their tails come last, see `cost` and `tails`.
#[derive(Debug, clap::Args)]
pub(crate) struct Suite {
    /// All traces at full length, untimed, into benches/results/whole (three quarters of an hour)
    #[arg(long)]
    whole: bool,
    /// (default: a subset of the shared ones)
    #[arg(long, value_delimiter = ',')]
    traces: Vec<String>,
    /// Budgets in percent of the pages' LZ4 size
    #[arg(long, value_delimiter = ',', default_value = "5,10,25", value_parser = percent)]
    percents: Vec<f64>,
    /// Where traces are cut (default: 300000, or not at all with --whole)
    #[arg(long)]
    requests: Option<usize>,
    /// Neither cost nor tails
    #[arg(long)]
    untimed: bool,
    /// Where results go (default: benches/results)
    #[arg(long)]
    out: Option<PathBuf>,
    /// Beside the system's; they are built by cargo, into the same target
    #[arg(long, value_delimiter = ',', default_value = "mimalloc,jemalloc")]
    allocators: Vec<String>,
}

/// Traces of the default run, the quickest that differ most.
const SUBSET: [&str; 9] = [
    "sqlite-wordnet-4k",
    "pg-pgbench-8k",
    "innodb-debpkgs-16k",
    "cloudphysics-io-4k",
    "twitter-c52-a",
    "memref-python-4k",
    "pg-gitlog-8k",
    "web12",
    "lirs-multi3",
];
/// Where the default run cuts a trace.
const CUT: usize = 300_000;
/// Where there is no shared data: traces over the sample.
const MADE: [&str; 3] = ["zipf:0.7", "zipf:0.9", "zipf:1.1"];
/// Ids of those: so many that a twentieth of their pages is a cache to speak of.
const MADE_IDS: usize = 40_000;
/// Requests of the runs that choose an allocator, and their budget in percent.
const CHOICE: usize = 120_000;
const CHOICE_PERCENT: f64 = 10.0;
/// What a peer is told in those, for each byte of the budget.
const TOLD: f64 = 0.85;
/// Replays at once.
const AT_ONCE: usize = 2;

/// What a run has come to so far.
pub(crate) struct Results {
    head: Value,
    rows: Vec<Value>,
    cost: Vec<Value>,
    tails: Vec<Value>,
    notes: Vec<String>,
}

impl Results {
    fn json(&self) -> Value {
        let mut all = self.head.clone();
        all["notes"] = json!(self.notes);
        all["rows"] = json!(self.rows);
        all["cost"] = json!(self.cost);
        all["tails"] = json!(self.tails);
        all
    }

    /// Times all caches in turns, in this process.
    fn take_turns(&mut self) -> Result<(), Failure> {
        self.cost = cost::rows(&Cost::parse_from(["cost"]))?;
        self.tails = tails::rows(&Tails::parse_from(["tails"]))?;
        Ok(())
    }

    fn save(&self, dir: &Path) -> Result<(), Failure> {
        fs::create_dir_all(dir)?;
        let all = self.json();
        fs::write(dir.join("suite.json"), format!("{}\n", serde_json::to_string_pretty(&all)?))?;
        results::write(&all, dir)
    }
}

pub(crate) fn run(suite: &Suite) -> Result<(), Failure> {
    let unknown = |name: &&String| *name != "system" && !OTHERS.contains(&name.as_str());
    if let Some(name) = suite.allocators.iter().find(unknown) {
        return Err(format!("no allocator `{name}`: there are system, mimalloc, jemalloc").into());
    }
    let begin = Instant::now();
    let scratch = tempfile::tempdir()?;
    let mut notes = Vec::new();
    let traces = traces(suite, &mut notes);
    eprintln!("suite: building the other allocators' programs");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    let out = suite.out.clone();
    let out = out.unwrap_or(if suite.whole { kept.join("whole") } else { kept });
    let others = &suite.allocators;
    let variants = variants::build(scratch.path(), others, &mut |note| notes.push(note))?;
    let cut = suite.requests.or((!suite.whole).then_some(CUT));
    if let Some(cut) = cut {
        notes.push(format!("traces are cut to their first {cut} requests, for all caches alike"));
    }
    for note in &notes {
        eprintln!("suite: {note}");
    }
    let mut results =
        Results { head: about::head(), rows: vec![], cost: vec![], tails: vec![], notes };
    let table = Table { suite, variants, scratch: scratch.path().to_owned(), cut };
    for trace in &traces {
        let seconds = begin.elapsed().as_secs();
        eprintln!("suite: {trace}, {seconds} s so far");
        if let Err(error) = table.trace(trace, &mut results) {
            eprintln!("suite: {trace}: {error}");
            results.notes.push(format!("{trace} is left out: {error}"));
        }
        results.save(&out)?;
    }
    if !suite.untimed && !suite.whole {
        eprintln!("suite: cost and tails, {} s so far", begin.elapsed().as_secs());
        results.take_turns()?;
    }
    results.notes.push(format!("took {} s, building apart", begin.elapsed().as_secs()));
    results.save(&out)?;
    println!("{}", results::render(&results.json()));
    eprintln!("suite: done in {} s: {}", begin.elapsed().as_secs(), out.display());
    Ok(())
}

fn traces(suite: &Suite, notes: &mut Vec<String>) -> Vec<String> {
    if !suite.traces.is_empty() {
        return suite.traces.clone();
    }
    if !pairs::shared().join("traces").is_dir() {
        notes.push("there is no shared data: made traces over the sample".into());
        return MADE.map(str::to_owned).to_vec();
    }
    if suite.whole {
        return pairs::PAIRS.iter().map(|pair| pair.trace.to_owned()).collect();
    }
    SUBSET.map(str::to_owned).to_vec()
}

/// What does not change from trace to trace.
struct Table<'a> {
    suite: &'a Suite,
    variants: Vec<Variant>,
    scratch: PathBuf,
    cut: Option<usize>,
}

impl Table<'_> {
    fn ground(&self, executable: &Path, stage: &str) -> Ground {
        let stage = self.scratch.join(stage);
        Ground { executable: executable.to_owned(), stage, verify: false }
    }

    fn trace(&self, trace: &str, results: &mut Results) -> Result<(), Failure> {
        let distinct = Some(MADE_IDS);
        let source =
            Source { trace: trace.into(), requests: self.cut, distinct, ..Source::default() };
        let stage = load::stage(&source)?;
        let chosen = self.chosen(&stage)?;
        let mut guesses = HashMap::new();
        for percent in &self.suite.percents {
            let budget = budget::percent_of(stage.lz4_bytes, *percent);
            stage.write(&self.scratch.join("stage"))?;
            match self.budget(budget, *percent, &chosen, &mut guesses) {
                Ok(rows) => results.rows.extend(rows),
                Err(error) => {
                    eprintln!("suite: {trace}, {percent} %: {error}");
                    results.notes.push(format!("{trace} at {percent} % is left out: {error}"));
                }
            }
        }
        Ok(())
    }

    /// The allocator under which each peer holds the most in its memory, by short runs at a tenth.
    fn chosen(&self, stage: &Stage) -> Result<HashMap<Kind, PathBuf>, Failure> {
        let budget = budget::percent_of(stage.lz4_bytes, CHOICE_PERCENT);
        let mut short = stage.clone();
        short.requests.truncate(CHOICE);
        short.write(&self.scratch.join("short"))?;
        let told = (budget as f64 * TOLD) as u64;
        let jobs: Vec<(Kind, &Variant)> = Kind::peers()
            .flat_map(|kind| self.variants.iter().map(move |variant| (kind, variant)))
            .collect();
        let held = each(AT_ONCE, &jobs, |(kind, variant)| {
            let ground = self.ground(&variant.executable, "short");
            let row = driver::configured(&ground, Spec::new(*kind, Codec::Lz4), told)?;
            // Memory that was free before the cache came is no saving: such a figure says nothing.
            let took = figure(&row, "resident_bytes").unwrap_or(0.0);
            Ok(if took < told as f64 / 2.0 { 0.0 } else { packed(&row).unwrap_or(0.0) })
        })?;
        let mut best: HashMap<Kind, (f64, &Variant)> = HashMap::new();
        for ((kind, variant), held) in jobs.iter().zip(held) {
            if best.get(kind).is_none_or(|(so_far, _)| held > *so_far) {
                best.insert(*kind, (held, variant));
            }
        }
        let names = best.iter().map(|(kind, (held, variant))| {
            format!("{} {} ({held:.3})", kind.name(), variant.allocator)
        });
        eprintln!("suite: packing best: {}", names.collect::<Vec<_>>().join(", "));
        let executable =
            |(kind, (_, variant)): (Kind, (f64, &Variant))| (kind, variant.executable.clone());
        Ok(best.into_iter().map(executable).collect())
    }

    fn budget(
        &self,
        budget: u64,
        percent: f64,
        chosen: &HashMap<Kind, PathBuf>,
        guesses: &mut HashMap<Kind, f64>,
    ) -> Result<Vec<Value>, Failure> {
        let ours = [Spec::REFERENCE, Spec::new(Kind::Zcache, Codec::Zstd(3, false))];
        let system = self.ground(&self.variants[0].executable, "stage");
        let mut rows = each(AT_ONCE, &ours, |spec| driver::configured(&system, *spec, budget))?;
        let target = driver::resident(&rows[0]);
        let theirs: Vec<Kind> = Kind::peers().collect();
        rows.extend(each(AT_ONCE, &theirs, |kind| {
            let executable = chosen.get(kind).unwrap_or(&system.executable);
            let ground = self.ground(executable, "stage");
            let guess = guesses.get(kind).copied().unwrap_or(GUESS);
            driver::calibrated(&ground, Spec::new(*kind, Codec::Lz4), target, guess)
        })?);
        // The next budget's first guesses.
        for (kind, row) in theirs.iter().zip(&rows[ours.len()..]) {
            let told = figure(row, "configured_bytes").map(|told| told / target as f64);
            told.and_then(|guess| guesses.insert(*kind, guess));
        }
        Ok(rows.into_iter().map(|row| label(row, budget, Some(percent))).collect())
    }
}
