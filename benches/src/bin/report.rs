//! The tables and the pictures of a suite that was measured, as the documents show them.
//!
//! `versus suite` ends with the same: this is for results that are kept.

use std::path::PathBuf;
use std::process::ExitCode;

use benches::{arguments, results};
use clap::Parser;

/// Writes suite.md, hit-ratio.svg and pages-per-mib.svg of a suite
#[derive(Debug, Parser)]
#[command(name = "report")]
struct Options {
    /// The suite, as JSON
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results/suite.json"))]
    results: PathBuf,
    /// Where to (default: beside the suite)
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    arguments::run(|options: &Options| {
        let suite = results::read(&options.results)?;
        let beside = options.results.parent().unwrap_or(".".as_ref());
        results::write(&suite, options.out.as_deref().unwrap_or(beside))
    })
}
