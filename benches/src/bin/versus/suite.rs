//! The table of everything: traces and budgets, zcache and its peers, the peers' best allocators.
//!
//! ```text
//! for each trace   which allocator packs best for each peer      short runs
//!     each budget  zcache; the peers in the memory it took       two processes at a time
//!                  times, in turns                               one process at a time
//!     results are written: a run that is cut off leaves what it had
//! what operations cost, and their tails                          all caches in this process
//! ```
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "progress, and the table")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use benches::packing::Failure;
use serde_json::{Value, json};

use crate::about;
use crate::budget;
use crate::cost::{self, options::Cost};
use crate::driver::{self, Ground, Guesses, Process, Rounds};
use crate::load::{self, Source};
use crate::markdown;
use crate::options::Suite;
use crate::pairs;
use crate::spec::{Codec, Kind, Policy, Spec};
use crate::stage::Stage;
use crate::table::{self, figure};
use crate::tails::{self, options::Tails};
use crate::variants::{self, Variant};

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
/// Percentages of the pages' LZ4 size.
const PERCENTS: [f64; 3] = [5.0, 10.0, 25.0];
/// The one that times are taken at by default.
const TIMED: f64 = 10.0;
/// Requests of the runs that choose an allocator.
const CHOICE: usize = 120_000;
/// What a peer is told in those, for each byte of the budget.
const TOLD: f64 = 0.85;
/// Replays at once, where no time is taken.
const AT_ONCE: usize = 2;

/// What a run has come to so far.
pub(crate) struct Results {
    head: Value,
    rows: Vec<Value>,
    density: Vec<Value>,
    scaling: Vec<Value>,
    cost: Vec<Value>,
    tails: Vec<Value>,
    notes: Vec<String>,
}

impl Results {
    fn json(&self) -> Value {
        let mut all = self.head.clone();
        all["notes"] = json!(self.notes);
        all["rows"] = json!(self.rows);
        all["density"] = json!(self.density);
        all["scaling"] = json!(self.scaling);
        all["cost"] = json!(self.cost);
        all["tails"] = json!(self.tails);
        all
    }

    /// Takes over the rows of a suite that was ended; the traces that it has.
    fn take_over(&mut self, dir: &Path) -> Result<Vec<String>, Failure> {
        let old: Value = serde_json::from_str(&fs::read_to_string(dir.join("suite.json"))?)?;
        let list = |name: &str| old[name].as_array().cloned().unwrap_or_default();
        (self.rows, self.density) = (list("rows"), list("density"));
        (self.cost, self.tails) = (list("cost"), list("tails"));
        let left_out =
            list("notes").into_iter().filter_map(|note| note.as_str().map(str::to_owned));
        self.notes.extend(left_out.filter(|note| note.contains(" is left out: ")));
        let traces = self.rows.iter().filter_map(|row| row["trace"].as_str().map(str::to_owned));
        Ok(traces.collect())
    }

    /// Times all caches in turns, in this process.
    fn take_turns(&mut self) -> Result<(), Failure> {
        self.cost = cost::rows(&Cost::default(), &mut |_| ())?;
        self.tails = tails::rows(&Tails::default(), &mut |_| ())?;
        Ok(())
    }

    fn save(&self, dir: &Path) -> Result<(), Failure> {
        fs::create_dir_all(dir)?;
        let all = self.json();
        fs::write(dir.join("suite.json"), format!("{}\n", serde_json::to_string_pretty(&all)?))?;
        Ok(fs::write(dir.join("suite.md"), markdown::render(&all))?)
    }
}

/// A cache to run, with the program to run it in.
type Entrant = (Spec, PathBuf);

pub(crate) fn run(suite: &Suite) -> Result<(), Failure> {
    let begin = Instant::now();
    let scratch = driver::scratch()?;
    let mut notes = Vec::new();
    let traces = traces(suite, &mut notes);
    let full = suite.full;
    eprintln!("suite: building the other allocators' programs");
    let others = &suite.allocators;
    let variants = variants::build(scratch.path(), others, &mut |note| notes.push(note))?;
    let cut = suite.requests.or((!full && !suite.whole).then_some(CUT));
    if let Some(cut) = cut {
        notes.push(format!("traces are cut to their first {cut} requests, for all caches alike"));
    }
    for note in &notes {
        eprintln!("suite: {note}");
    }
    let mut results = Results {
        head: about::head(full),
        rows: vec![],
        density: vec![],
        scaling: vec![],
        cost: vec![],
        tails: vec![],
        notes,
    };
    let table = Table { suite, variants, scratch: scratch.path().to_owned(), cut };
    let there = if suite.go_on { results.take_over(&suite.out)? } else { vec![] };
    for trace in traces.iter().filter(|trace| !there.contains(trace)) {
        let seconds = begin.elapsed().as_secs();
        eprintln!("suite: {trace}, {seconds} s so far");
        if let Err(error) = table.trace(trace, &mut results) {
            eprintln!("suite: {trace}: {error}");
            results.notes.push(format!("{trace} is left out: {error}"));
        }
        results.scaling = about::scaling(&results.rows);
        results.save(&suite.out)?;
    }
    if suite.rounds > 0 {
        eprintln!("suite: cost and tails, {} s so far", begin.elapsed().as_secs());
        results.take_turns()?;
    }
    let part = if suite.go_on { "the last part " } else { "" };
    results.notes.push(format!("{part}took {} s, building apart", begin.elapsed().as_secs()));
    results.save(&suite.out)?;
    println!("{}", markdown::render(&results.json()));
    eprintln!("suite: done in {} s: {}", begin.elapsed().as_secs(), suite.out.display());
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
    if suite.full || suite.whole {
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

    /// The program under the system's allocator.
    fn system(&self) -> PathBuf {
        self.variants[0].executable.clone()
    }

    fn trace(&self, trace: &str, results: &mut Results) -> Result<(), Failure> {
        let distinct = Some(MADE_IDS);
        let source =
            Source { trace: trace.into(), requests: self.cut, distinct, ..Source::default() };
        let mut stage = load::stage(&source)?;
        let percents =
            if self.suite.percents.is_empty() { &PERCENTS[..] } else { &self.suite.percents };
        let known = |row: &Value| row["pages"] == stage.pages;
        if !results.density.iter().any(known) {
            results.density.push(about::density(trace)?);
        }
        let chosen = self.chosen(&stage)?;
        let guesses = Guesses::default();
        for percent in percents {
            let budget = budget::percent_of(stage.lz4_bytes, *percent);
            if self.suite.full {
                stage.dictionary = load::dictionary(&stage, budget::dictionary_bytes(budget))?;
            }
            stage.write(&self.scratch.join("stage"))?;
            match self.budget(budget, *percent, &chosen, &guesses) {
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
        let budget = budget::percent_of(stage.lz4_bytes, TIMED);
        let mut short = stage.clone();
        short.requests.truncate(CHOICE);
        short.write(&self.scratch.join("short"))?;
        let told = (budget as f64 * TOLD) as u64;
        let peers = peers();
        let jobs: Vec<(Kind, &Variant)> = peers
            .iter()
            .flat_map(|kind| self.variants.iter().map(|variant| (*kind, variant)))
            .collect();
        let held = at_once(&jobs, |(kind, variant)| {
            let ground = self.ground(&variant.executable, "short");
            let process = driver::configured(&ground, Spec::new(*kind, Codec::Lz4), told)?;
            // Memory that was free before the cache came is no saving: such a figure says nothing.
            let took = figure(&process.row, "resident_bytes").unwrap_or(0.0);
            let packed = table::packed(&process.row).unwrap_or(0.0);
            Ok(if took < told as f64 / 2.0 { 0.0 } else { packed })
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

    /// zcache's configurations, and the peers'.
    fn entrants(&self, chosen: &HashMap<Kind, PathBuf>) -> (Vec<Entrant>, Vec<Entrant>) {
        let mut ours = vec![Spec::REFERENCE, Spec::new(Kind::Zcache, Codec::Zstd(3, false))];
        let mut theirs = Vec::new();
        for kind in peers() {
            let spec = Spec::new(kind, Codec::Lz4);
            theirs.push((spec, chosen.get(&kind).cloned().unwrap_or_else(|| self.system())));
        }
        if self.suite.full {
            let with = |codec, policy| Spec { kind: Kind::Zcache, codec, policy, huge: false };
            ours.push(with(Codec::Zstd(3, true), Policy::S3Fifo));
            ours.push(with(Codec::None, Policy::S3Fifo));
            ours.push(with(Codec::Lz4, Policy::Sieve));
            ours.push(with(Codec::Lz4, Policy::Lru));
            for (spec, best) in theirs.clone() {
                let other = |variant: &&Variant| variant.executable != best;
                let others = self.variants.iter().filter(other);
                theirs.extend(others.map(|variant| (spec, variant.executable.clone())));
                for codec in [Codec::Flex, Codec::None] {
                    theirs.push((Spec { codec, ..spec }, best.clone()));
                }
            }
        }
        (ours.into_iter().map(|spec| (spec, self.system())).collect(), theirs)
    }

    fn budget(
        &self,
        budget: u64,
        percent: f64,
        chosen: &HashMap<Kind, PathBuf>,
        guesses: &Guesses,
    ) -> Result<Vec<Value>, Failure> {
        let (ours, theirs) = self.entrants(chosen);
        let mut processes = at_once(&ours, |(spec, executable)| {
            driver::configured(&self.ground(executable, "stage"), *spec, budget)
        })?;
        let target = processes[0].resident();
        let calibrated = at_once(&theirs, |(spec, executable)| {
            let ground = self.ground(executable, "stage");
            driver::calibrated(&ground, *spec, target, guesses)
        })?;
        processes.extend(calibrated);
        let rounds = if self.suite.full || percent == TIMED { self.suite.rounds } else { 0 };
        if rounds > 0 {
            driver::time(&mut processes, &Rounds { rounds, ..Rounds::default() })?;
        }
        Ok(processes.iter_mut().map(|process| finished(process, budget, percent)).collect())
    }
}

fn finished(process: &mut Process, budget: u64, percent: f64) -> Value {
    driver::label(&mut process.row, budget, Some(percent));
    process.row.take()
}

fn peers() -> Vec<Kind> {
    Kind::PEERS.into_iter().filter(|_| cfg!(feature = "peers")).collect()
}

/// Does the jobs, some at once, and returns what came of them in their order.
fn at_once<J: Sync, R: Send>(
    jobs: &[J],
    work: impl Fn(&J) -> Result<R, Failure> + Sync,
) -> Result<Vec<R>, Failure> {
    let next = Mutex::new(jobs.iter().enumerate());
    let done: Mutex<Vec<(usize, Result<R, Failure>)>> = Mutex::new(Vec::new());
    let worker = || {
        loop {
            let job = next.lock().expect("no worker panics").next();
            let Some((at, job)) = job else { return };
            let came = work(job);
            done.lock().expect("no worker panics").push((at, came));
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(worker);
        }
    });
    let mut done = done.into_inner().expect("no worker panics");
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, came)| came).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_come_back_in_their_order() {
        let jobs: Vec<u64> = (0..50).collect();
        assert_eq!(
            at_once(&jobs, |job| Ok(job * 2)).unwrap(),
            (0..100).step_by(2).collect::<Vec<_>>()
        );
        assert!(at_once(&jobs, |job| if *job == 7 { Err("no".into()) } else { Ok(()) }).is_err());
    }
}
