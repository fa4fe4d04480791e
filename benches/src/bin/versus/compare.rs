//! A comparison of caches on one trace, and its rows.

use std::path::Path;

use benches::packing::Failure;
use serde_json::{Value, json};

use crate::budget::{Budget, dictionary_bytes, percent_of};
use crate::driver::{self, Ground, Guesses, Process};
use crate::load::{self, Source};
use crate::options::Run;
use crate::spec::{Codec, Kind, Spec};
use crate::stage::Stage;
use crate::table::{self, figure};

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
    let scratch = driver::scratch()?;
    let mut stage = load::stage(&run.source)?;
    let (budget, percent) = match run.budget {
        Budget::Bytes(bytes) => (bytes, None),
        Budget::Percent(percent) => (percent_of(stage.lz4_bytes, percent), Some(percent)),
    };
    let mut processes = replayed(run, &mut stage, budget, &driver::staged(&scratch, "stage"))?;
    if run.rounds.rounds > 0 {
        driver::time(&mut processes, &run.rounds)?;
    }
    let mut rows = Vec::new();
    for process in &mut processes {
        driver::label(&mut process.row, budget, percent);
        rows.push(process.row.take());
    }
    drop(processes);
    if run.source.second.is_some() {
        let source = Source { second_only: true, ..run.source.clone() };
        let mut stage = load::stage(&source)?;
        let fresh = replayed(run, &mut stage, budget, &driver::staged(&scratch, "fresh"))?;
        for (row, fresh) in rows.iter_mut().zip(&fresh) {
            beside_fresh(row, &fresh.row);
        }
    }
    Ok(rows)
}

/// Puts beside what a cache holds after both phases what a fresh one holds that saw the second only: in pages, to
/// which pages of the first phase that are held still contribute, and in how well it packs, to which they do not.
fn beside_fresh(row: &mut Value, fresh: &Value) {
    let [packed, fresh_packed] = [&*row, fresh].map(table::packed);
    row["fresh_packed"] = json!(fresh_packed);
    row["phases_packed_ratio"] =
        json!(packed.zip(fresh_packed).map(|(packed, fresh)| packed / fresh));
    let [both, fresh] = [&*row, fresh].map(|row| figure(row, "pages_per_mib"));
    row["fresh_pages_per_mib"] = json!(fresh);
    row["phases_ratio"] = json!(both.zip(fresh).map(|(both, fresh)| both / fresh));
    let (first, second) = (row["pages"].take(), row["second_pages"].take());
    let names = [&first, &second].map(|name| name.as_str().unwrap_or_default());
    row["phases"] = json!(names.join(","));
    row["pages"] = first;
    if let Some(row) = row.as_object_mut() {
        row.remove("second_pages");
    }
}

/// All caches of a run, after their replays.
fn replayed(
    run: &Run,
    stage: &mut Stage,
    budget: u64,
    path: &Path,
) -> Result<Vec<Process>, Failure> {
    if run.caches.iter().any(|spec| matches!(spec.codec, Codec::Zstd(_, true))) {
        stage.dictionary = load::dictionary(stage, dictionary_bytes(budget))?;
    }
    stage.write(path)?;
    let executable = std::env::current_exe()?;
    let ground = Ground { executable, stage: path.to_owned(), verify: run.verify };
    let guesses = Guesses::default();
    // All others are given what zcache took.
    let others = |spec: &Spec| spec.kind != Kind::Zcache;
    let target = if run.as_configured || !run.caches.iter().any(others) {
        budget
    } else {
        driver::configured(&ground, Spec::REFERENCE, budget)?.resident()
    };
    let replay = |spec: &Spec| match spec.kind {
        Kind::Zcache => driver::configured(&ground, *spec, budget),
        // Its own account is all there is to its memory.
        Kind::Zram => driver::configured(&ground, *spec, target),
        _ if run.as_configured => driver::configured(&ground, *spec, budget),
        _ => driver::calibrated(&ground, *spec, target, &guesses),
    };
    run.caches.iter().map(replay).collect()
}
