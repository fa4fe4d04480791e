//! What the user asks for.

use benches::arguments::{count, percent};
use clap::{Parser, ValueEnum};

use crate::contestants::{self, Contestant};

/// Plays traces at equal numbers of equal entries, and prints hit ratios.
///
/// Beside them stands how far each policy is from quick_cache's and from the optimum that sees the
/// future.
///
/// policies choose asks whether the rules of s3-fifo and their constants are fitted to the traces
/// at hand: each rule is left out, each constant is halved and doubled. For each trace the best of
/// all settings is chosen on the other traces, and read on this one.
///
/// Made traces, of 400,000 requests for 20,000 pages: loop, a table read from end to end, again and
/// again; scans, popular rows, and every 2000 requests a scan of 1500 pages; drift, popular rows,
/// other ones as time goes on; front, rows are appended and read soon after, older ones by
/// popularity, and some at random; bursts, a query reads each of its pages one to four times within
/// moments; phases, popular rows, then a loop over another table, then the rows again.
#[derive(Debug, Parser)]
#[command(name = "policies")]
pub(crate) struct Options {
    pub(crate) task: Option<Task>,
    /// .u64 and .u64.zst files, directories of them, names of shared ones, `shared` for all of
    /// those, names of made ones, `made` for all of those
    #[arg(long = "trace", value_delimiter = ',', default_value = "shared,made")]
    pub(crate) traces: Vec<String>,
    /// Entries, in percent of the distinct pages of a trace
    #[arg(long, value_delimiter = ',', default_value = "1,5,10,25", value_parser = percent)]
    pub(crate) percents: Vec<f64>,
    /// Of s3-fifo, s3-fifo-plain, sieve, clock, lru, arc, moka, quick_cache, foyer (default: all)
    #[arg(long = "policy", value_delimiter = ',', value_parser = contestants::named)]
    policies: Vec<Contestant>,
    /// The first N of each trace
    #[arg(long, value_parser = count)]
    pub(crate) requests: Option<usize>,
}

/// What is to be done beside playing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Task {
    Choose,
}

impl Options {
    pub(crate) fn policies(&self) -> Vec<Contestant> {
        if self.policies.is_empty() { contestants::all() } else { self.policies.clone() }
    }
}
