//! The command line of `versus shares`.

use std::path::PathBuf;
use std::time::Duration;

use benches::arguments::{Failure, count, duration};

use super::share::{self, Named};
use crate::budget::Budget;
use crate::pairs;
use crate::spec::Spec;

/// Replays traces against zcache with several shares of its hot tier, in equal memory.
///
/// Prints a table for each trace, codec and cost of a miss: what a request costs on average, misses
/// charged and not waited for.
#[derive(Debug, clap::Parser)]
pub(crate) struct Shares {
    /// Traces
    #[arg(long = "trace", value_delimiter = ',', default_value = TRACES)]
    pub(crate) traces: Vec<String>,
    /// Codecs
    #[arg(long = "codec", value_delimiter = ',', default_value = "lz4,zstd:3", value_parser = spec)]
    pub(crate) specs: Vec<Spec>,
    /// none, auto and 1/N
    #[arg(long = "share", value_delimiter = ',', default_value = share::ALL)]
    pub(crate) shares: Vec<Named>,
    /// Bytes or MiB, or, with %, of the LZ4 size of all pages of the trace
    #[arg(long, default_value = "25%")]
    pub(crate) memory: Budget,
    /// Costs of a miss, in ns, us, ms or s
    #[arg(long = "miss", value_delimiter = ',', default_value = "100us", value_parser = duration)]
    pub(crate) misses: Vec<Duration>,
    /// Each window of the trace counts in the one that was quietest
    #[arg(long, default_value = "3", value_parser = count)]
    rounds: usize,
    /// The first N of each trace
    #[arg(long, value_parser = count)]
    requests: Option<usize>,
    /// All rows, too
    #[arg(long)]
    pub(crate) csv: Option<PathBuf>,
    /// Traces cut and one round; a made trace over the sample where there is no shared data
    #[arg(long)]
    quick: bool,
}

/// Those that have the pages that were there when they were taken.
const TRACES: &str = "sqlite-wordnet-4k,pg-pgbench-8k,pg-gitlog-8k,innodb-debpkgs-16k";
/// A quick run's trace, where there is none to be had, and its requests.
const MADE: &str = "zipf:0.9";
const QUICK: usize = 20_000;

/// zcache with a codec that it has.
fn spec(codec: &str) -> Result<Spec, Failure> {
    format!("zcache/{codec}").parse()
}

impl Shares {
    pub(crate) fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds }
    }

    pub(crate) fn requests(&self) -> Option<usize> {
        self.requests.or(self.quick.then_some(QUICK))
    }

    /// The traces to replay. A quick run has one of those that stand there by default.
    pub(crate) fn traces(&self) -> Vec<String> {
        if !self.quick || self.traces.join(",") != TRACES {
            return self.traces.clone();
        }
        let there = pairs::locate(&self.traces[0], pairs::Place::Traces).is_ok();
        vec![if there { self.traces[0].clone() } else { MADE.to_owned() }]
    }
}
