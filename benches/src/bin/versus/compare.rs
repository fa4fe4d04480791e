//! A comparison of caches on one trace, and its rows.

use benches::packing::Failure;
use serde_json::{Value, json};

use crate::driver::{self, Ground, Guesses, Process};
use crate::load;
use crate::options::{Budget, Run};
use crate::spec::{Codec, Kind, Spec};
use crate::table;

/// A dictionary is this part of the budget at most, and no longer than this.
const DICTIONARY: (u64, usize) = (128, 64 << 10);

/// The budget that is a percentage of what all pages take.
pub(crate) fn percent_of(lz4_bytes: u64, percent: f64) -> u64 {
    (lz4_bytes as f64 * percent / 100.0) as u64
}

/// Runs the comparison and prints its rows.
#[allow(clippy::print_stdout, reason = "a program's answers")]
pub(crate) fn run(run: &Run) -> Result<(), Failure> {
    let rows = rows(run)?;
    if run.table {
        print!("{}", table::table(&rows));
        return Ok(());
    }
    rows.iter().for_each(|row| println!("{row}"));
    Ok(())
}

fn rows(run: &Run) -> Result<Vec<Value>, Failure> {
    let mut stage = load::stage(&run.source)?;
    let (budget, percent) = match run.budget {
        Budget::Bytes(bytes) => (bytes, None),
        Budget::Percent(percent) => (percent_of(stage.lz4_bytes, percent), Some(percent)),
    };
    if run.caches.iter().any(|spec| matches!(spec.codec, Codec::Zstd(_, true))) {
        stage.dictionary = load::dictionary(&stage, dictionary_bytes(budget))?;
    }
    let scratch = driver::scratch()?;
    let path = driver::staged(&scratch, "stage");
    stage.write(&path)?;
    drop(stage);
    let executable = std::env::current_exe()?;
    let ground = Ground { executable, stage: path, verify: run.verify };
    let guesses = Guesses::default();
    // All others are given what zcache took.
    let others = |spec: &Spec| spec.kind != Kind::Zcache;
    let target = if run.as_configured || !run.caches.iter().any(others) {
        budget
    } else {
        driver::configured(&ground, Spec::REFERENCE, budget)?.resident()
    };
    let mut processes: Vec<Process> = Vec::new();
    for spec in &run.caches {
        processes.push(if run.as_configured || spec.kind == Kind::Zcache {
            driver::configured(&ground, *spec, budget)?
        } else {
            driver::calibrated(&ground, *spec, target, &guesses)?
        });
    }
    if run.rounds.rounds > 0 {
        driver::time(&mut processes, &run.rounds)?;
    }
    let mut rows = Vec::new();
    for process in &mut processes {
        driver::label(&mut process.row, budget, percent);
        rows.push(process.row.take());
    }
    Ok(rows)
}

/// How long a dictionary may be that counts in a budget.
pub(crate) fn dictionary_bytes(budget: u64) -> usize {
    ((budget / DICTIONARY.0) as usize).clamp(1024, DICTIONARY.1)
}

/// Nothing, where there is no figure.
pub(crate) fn figure(row: &Value, name: &str) -> Option<f64> {
    row.get(name).unwrap_or(&json!(null)).as_f64()
}
