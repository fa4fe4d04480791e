//! A comparison of caches on one trace, and its rows.
#![allow(clippy::print_stdout, reason = "a program's answers")]

use benches::arguments::Failure;

use crate::budget::{Budget, dictionary_bytes};
use crate::child::label;
use crate::driver::{self, GUESS, Ground};
use crate::load::{self, Source};
use crate::spec::{Codec, Kind, Spec, Specs};
use crate::table;

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    #[command(flatten)]
    source: Source,
    /// Caches with codec and, for zcache, policy: zcache, zcache/zstd:3+dict/sieve,
    /// zcache/none/lru, moka, moka/lz4_flex, quick_cache/none (plain values), foyer-s3fifo,
    /// foyer-lru; `all` is zcache and the four peers
    #[arg(long, default_value = "all")]
    cache: Specs,
    /// The budget, in percent of the LZ4 size of all pages of the trace
    #[arg(long, default_value = "10", value_parser = benches::arguments::percent)]
    percent: f64,
    /// The budget in bytes; 16MiB works too
    #[arg(long, value_parser = benches::arguments::bytes)]
    budget: Option<u64>,
    /// Every cache is told the budget. Without it zcache is, and every peer is made to take what
    /// zcache then takes, resident, within 1 %, by calibrating runs
    #[arg(long)]
    configured: bool,
    /// Every hit is compared with the file
    #[arg(long)]
    verify: bool,
    /// A table instead of JSON
    #[arg(long)]
    table: bool,
}

/// Runs the comparison and prints its rows.
pub(crate) fn run(run: &Run) -> Result<(), Failure> {
    let scratch = tempfile::tempdir()?;
    let mut stage = load::stage(&run.source)?;
    let (percent, budget) = match run.budget {
        Some(bytes) => (None, Budget::Bytes(bytes)),
        None => (Some(run.percent), Budget::Percent(run.percent)),
    };
    let budget = budget.of(stage.lz4_bytes);
    let specs = &run.cache.0;
    if specs.iter().any(|spec| matches!(spec.codec, Codec::Zstd(_, true))) {
        stage.dictionary = load::dictionary(&stage, dictionary_bytes(budget))?;
    }
    let path = scratch.path().join("stage");
    stage.write(&path)?;
    let ground = Ground { executable: std::env::current_exe()?, stage: path, verify: run.verify };
    // All others are given what zcache took.
    let others = |spec: &Spec| spec.kind != Kind::Zcache;
    let target = if run.configured || !specs.iter().any(others) {
        budget
    } else {
        driver::resident(&driver::configured(&ground, Spec::REFERENCE, budget)?)
    };
    let replay = |spec: &Spec| match spec.kind {
        Kind::Zcache => driver::configured(&ground, *spec, budget),
        _ if run.configured => driver::configured(&ground, *spec, budget),
        _ => driver::calibrated(&ground, *spec, target, GUESS),
    };
    let label = |row| label(row, budget, percent);
    let rows = specs.iter().map(|spec| replay(spec).map(label)).collect::<Result<Vec<_>, _>>()?;
    if run.table {
        print!("{}", table::table(&rows));
    } else {
        rows.iter().for_each(|row| println!("{row}"));
    }
    Ok(())
}
