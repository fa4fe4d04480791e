//! The processes of a comparison: started, given equal memory, timed in turns.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use benches::packing::Failure;
use serde_json::{Value, json};

use crate::spec::{Kind, Spec};

/// How far from equal memory a run may be.
const EXACT: f64 = 0.01;
/// Runs of a calibration at most.
const RUNS: usize = 5;

/// How the other allocators are told to keep little that is free: jemalloc gives back pages that were free
/// for 0.1 s (its own default is 10), mimalloc after 0.1 s too.
const ENVIRONMENT: [(&str, &str); 2] =
    [("_RJEM_MALLOC_CONF", "dirty_decay_ms:100,muzzy_decay_ms:0"), ("MIMALLOC_PURGE_DELAY", "100")];

/// What a replay runs under.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) executable: PathBuf,
    pub(crate) stage: PathBuf,
    pub(crate) verify: bool,
}

/// A process whose replay is done.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    spec: Spec,
    pub(crate) row: Value,
}

impl Drop for Process {
    fn drop(&mut self) {
        // At the end of its input it leaves; nothing it could still say is of use.
        self.to = None;
        let _ = self.child.wait();
    }
}

impl Process {
    /// Replays the trace; returns when that is done.
    fn run(ground: &Ground, spec: Spec, configured: u64) -> Result<Self, Failure> {
        let mut command = Command::new(&ground.executable);
        command.args(["child", &spec.to_string(), "--configured", &configured.to_string()]);
        command.arg("--stage").arg(&ground.stage);
        if ground.verify {
            command.arg("--verify");
        }
        command.envs(ENVIRONMENT).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let from = BufReader::new(from.ok_or("a process has its output")?);
        let mut process = Self { child, to, from, spec, row: Value::Null };
        process.row = process.line()?;
        Ok(process)
    }

    fn line(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err(self.failure());
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// What a process said before it ended.
    fn failure(&mut self) -> Failure {
        let said = self.child.stderr.take().map(std::io::read_to_string);
        let said = said.and_then(Result::ok).unwrap_or_default();
        // An error is one line; of a panic the second says what it was.
        let line = said.lines().find_map(|line| line.strip_prefix("versus: "));
        let line = line.or_else(|| said.lines().filter(|line| !line.is_empty()).nth(1));
        format!("{}: {}", self.spec, line.unwrap_or("it ended without a word")).into()
    }

    fn ask(&mut self, question: &str) -> Result<Value, Failure> {
        let to = self.to.as_mut().ok_or("a process that is asked is there")?;
        writeln!(to, "{question}")?;
        self.line()
    }

    pub(crate) fn resident(&self) -> u64 {
        self.row["resident_bytes"].as_u64().unwrap_or(0)
    }
}

/// Replays with the budget as what the cache is told.
pub(crate) fn configured(ground: &Ground, spec: Spec, budget: u64) -> Result<Process, Failure> {
    Process::run(ground, spec, budget)
}

/// Budgets that were found: what a cache has to be told for each byte that it is to take. A good first
/// guess for the next budget.
#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<HashMap<Guessed, f64>>);

/// A cache, and the program that runs it.
type Guessed = (Spec, PathBuf);

impl Guesses {
    fn get(&self, key: &Guessed) -> Option<f64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    fn put(&self, key: Guessed, guess: f64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, guess);
    }
}

/// What a process is to be told so that its resident growth is `target`: by the secant through what was seen,
/// from a guess. The closest run stands.
pub(crate) fn calibrated(
    ground: &Ground,
    spec: Spec,
    target: u64,
    guesses: &Guesses,
) -> Result<Process, Failure> {
    let key = (spec, ground.executable.clone());
    let wanted = target as f64;
    let mut told = wanted * guesses.get(&key).unwrap_or(0.85);
    let mut seen: Vec<(f64, f64)> = Vec::new();
    let mut best: Option<(f64, Process)> = None;
    for _ in 0..RUNS {
        let process = Process::run(ground, spec, told as u64)?;
        let took = process.resident() as f64;
        let off = (took / wanted - 1.0).abs();
        seen.push((told, took));
        if best.as_ref().is_none_or(|(best, _)| off < *best) {
            guesses.put(key.clone(), told / wanted);
            best = Some((off, process));
        }
        if off <= EXACT {
            break;
        }
        told = next(&seen, wanted);
    }
    best.map(|(_, process)| process).ok_or_else(|| "no run".into())
}

/// The next budget to try, after what was seen: (told, took).
fn next(seen: &[(f64, f64)], wanted: f64) -> f64 {
    let (told, took) = seen[seen.len() - 1];
    let share = wanted / took.max(1.0);
    let by_secant = seen.len().checked_sub(2).map(|before| {
        let (told_before, took_before) = seen[before];
        let slope = (took - took_before) / (told - told_before);
        told + (wanted - took) / slope
    });
    // A slope that noise made negative, flat or steep leads nowhere.
    let sane = |next: &f64| next.is_finite() && (0.5..2.0).contains(&(next / (told * share)));
    by_secant.filter(sane).unwrap_or(told * share).max(1.0)
}

/// How long the timing takes.
#[derive(Debug, Clone)]
pub(crate) struct Rounds {
    pub(crate) rounds: usize,
    pub(crate) miss_us: Vec<u64>,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { rounds: 5, miss_us: vec![0, 20, 100, 1000] }
    }
}

/// Takes the least of each figure.
fn least(row: &mut Value, figures: &Value) {
    for (name, figure) in figures.as_object().into_iter().flatten() {
        let so_far = row[name.as_str()].as_f64().unwrap_or(f64::INFINITY);
        if figure.as_f64().is_some_and(|figure| figure < so_far) {
            row[name.as_str()] = figure.clone();
        }
    }
}

/// One stretch with this cost of a miss, by each in turn; the most operations a second stand.
fn effective(processes: &mut [Process], at: usize, miss_us: u64) -> Result<(), Failure> {
    for process in processes.iter_mut().filter(|process| process.spec.kind != Kind::Zram) {
        let ratio = process.row["hit_ratio"].as_f64().unwrap_or(0.0);
        let figure = process.ask(&format!("effective {miss_us} {ratio}"))?;
        let Some(so_far) = process.row["effective"].as_array_mut() else { continue };
        let speed = |figure: &Value| figure["ops_per_second"].as_f64();
        match so_far.get_mut(at) {
            Some(best) if speed(best) < speed(&figure) => *best = figure,
            Some(_) => {}
            None => so_far.push(figure),
        }
    }
    Ok(())
}

/// Has all processes timed in turns, round after round, and their figures put into their rows.
pub(crate) fn time(processes: &mut [Process], rounds: &Rounds) -> Result<(), Failure> {
    let mut round = |question: &str| -> Result<(), Failure> {
        for process in processes.iter_mut() {
            let figures = process.ask(question)?;
            least(&mut process.row, &figures);
        }
        Ok(())
    };
    for _ in 0..rounds.rounds {
        round("hits")?;
    }
    for _ in 0..rounds.rounds.div_ceil(3) {
        round("singles")?;
    }
    // These take longest, and wait for the most part.
    for _ in 0..rounds.rounds.div_ceil(3) {
        for (at, miss_us) in rounds.miss_us.iter().enumerate() {
            effective(processes, at, *miss_us)?;
        }
    }
    let mut round = |question: &str| -> Result<(), Failure> {
        for process in processes.iter_mut() {
            let figures = process.ask(question)?;
            least(&mut process.row, &figures);
        }
        Ok(())
    };
    for _ in 0..rounds.rounds.div_ceil(2) {
        round("inserts")?;
    }
    Ok(())
}

/// Puts in what the process does not know.
pub(crate) fn label(row: &mut Value, budget: u64, percent: Option<f64>) {
    row["budget_bytes"] = json!(budget);
    row["percent"] = json!(percent);
    if let Some(row) = row.as_object_mut().filter(|row| row["second_pages"] == "") {
        row.remove("second_pages");
    }
    for name in [
        "hit_ns",
        "hit_ns_two",
        "decode_ns",
        "decode_ns_two",
        "insert_ns",
        "insert_ns_two",
        "encode_ns",
    ] {
        if let Some(figure) = row[name].as_f64() {
            row[name] = json!((figure * 10.0).round() / 10.0);
        }
    }
}

/// A directory for staged files, which goes with it.
pub(crate) fn scratch() -> Result<tempfile::TempDir, Failure> {
    Ok(tempfile::Builder::new().prefix("versus-").tempdir()?)
}

/// A file's path in there.
pub(crate) fn staged(scratch: &tempfile::TempDir, name: &str) -> PathBuf {
    Path::new(scratch.path()).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secant_finds_a_budget_in_a_few_steps() {
        // What a cache takes: a fixed part, and more than it was told.
        let takes = |told: f64| 300_000.0 + 1.4 * told;
        let wanted = 8e6;
        let mut seen = vec![(6.8e6, takes(6.8e6))];
        while (seen[seen.len() - 1].1 / wanted - 1.0).abs() > EXACT {
            let told = next(&seen, wanted);
            seen.push((told, takes(told)));
        }
        assert!(seen.len() <= 3, "{seen:?}");
    }

    #[test]
    fn noise_does_not_lead_the_secant_astray() {
        let told = next(&[(100.0, 150.0), (100.1, 149.0)], 120.0);
        assert!((60.0..120.0).contains(&told), "{told}");
        assert!(next(&[(1.0, 0.0)], 10.0).is_finite());
    }

    #[test]
    fn the_least_figure_stands() {
        let mut row = json!({ "hit_ns": null, "p50_ns": 5 });
        least(&mut row, &json!({ "hit_ns": 7.5, "p50_ns": 6 }));
        least(&mut row, &json!({ "hit_ns": 8.0, "p50_ns": 4 }));
        assert_eq!(row, json!({ "hit_ns": 7.5, "p50_ns": 4 }));
    }
}
