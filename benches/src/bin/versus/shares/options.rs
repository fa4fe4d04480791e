//! The command line of `versus shares`.

use std::path::PathBuf;
use std::time::Duration;

use benches::packing::Failure;
use lexopt::prelude::*;

use super::share::{self, Named};
use crate::budget::{Budget, bytes};
use crate::pairs;
use crate::spec::{Codec, Spec};

/// Shares of the hot tier beside each other.
#[derive(Debug)]
pub(crate) struct Shares {
    pub(crate) traces: Vec<String>,
    pub(crate) specs: Vec<Spec>,
    pub(crate) shares: Vec<Named>,
    pub(crate) memory: Budget,
    pub(crate) misses: Vec<Duration>,
    pub(crate) rounds: usize,
    pub(crate) requests: Option<usize>,
    pub(crate) csv: Option<PathBuf>,
}

/// Those that have the pages that were there when they were taken.
const TRACES: &str = "sqlite-wordnet-4k,pg-pgbench-8k,pg-gitlog-8k,innodb-debpkgs-16k";
const CODECS: &str = "lz4,zstd:3";
/// A quick run's trace, where there is none to be had, and its requests.
const MADE: &str = "zipf:0.9";
const QUICK: usize = 20_000;

pub(crate) const USAGE: &str = "\
versus shares replays traces against zcache with several shares of its hot tier, in equal memory, and prints a
table for each trace, codec and cost of a miss: what a request costs on average, misses charged and not waited for.
  --trace LIST      (default sqlite-wordnet-4k,pg-pgbench-8k,pg-gitlog-8k,innodb-debpkgs-16k)
  --codec LIST      (default lz4,zstd:3)
  --share LIST      none and 1/N (default none,1/32,1/16,1/8,1/4,1/2)
  --memory M        bytes or MiB, or, with %, of the LZ4 size of all pages of the trace (default 25%)
  --miss LIST       costs of a miss, in ns, us, ms or s (default 100us)
  --rounds N        each window of the trace counts in the one that was quietest (default 3)
  --requests N      the first N of each trace
  --csv FILE        all rows, too
  --quick           one trace, cut, one round; a made trace over the sample where there is no shared data
";

fn duration(text: &str) -> Result<Duration, Failure> {
    let units = [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let unit = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let number = unit.and_then(|(number, unit)| Some((number.parse::<f64>().ok()?, unit)));
    let seconds = number.map(|(number, unit)| number * unit);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| format!("`{text}` is no time: 20us is one").into())
}

fn memory(text: &str) -> Result<Budget, Failure> {
    let Some(percent) = text.strip_suffix('%') else { return bytes(text).map(Budget::Bytes) };
    match percent.parse() {
        Ok(percent) if percent > 0.0 && percent <= 1000.0 => Ok(Budget::Percent(percent)),
        _ => Err("--memory in percent is above 0 and at most 1000".into()),
    }
}

fn each<T>(list: &str, of: impl Fn(&str) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    list.split(',').map(of).collect()
}

/// zcache with a codec that it has.
fn spec(codec: &str) -> Result<Spec, Failure> {
    let codec: Codec = codec.parse()?;
    format!("zcache/{codec}").parse()
}

pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Option<Shares>, Failure> {
    let mut quick = false;
    let mut traces = None;
    let mut shares = Shares {
        traces: vec![],
        specs: each(CODECS, spec)?,
        shares: each(share::ALL, str::parse)?,
        memory: Budget::Percent(25.0),
        misses: vec![Duration::from_micros(100)],
        rounds: 3,
        requests: None,
        csv: None,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("trace") => traces = Some(parser.value()?.string()?),
            Long("codec") => shares.specs = each(&parser.value()?.string()?, spec)?,
            Long("share") => shares.shares = each(&parser.value()?.string()?, str::parse)?,
            Long("memory") => shares.memory = memory(&parser.value()?.string()?)?,
            Long("miss") => shares.misses = each(&parser.value()?.string()?, duration)?,
            Long("rounds") => shares.rounds = parser.value()?.parse()?,
            Long("requests") => shares.requests = Some(parser.value()?.parse()?),
            Long("csv") => shares.csv = Some(parser.value()?.into()),
            Long("quick") => quick = true,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected().into()),
        }
    }
    if quick {
        let first = TRACES.split(',').next().unwrap_or(MADE);
        let there = pairs::locate(first, pairs::Place::Traces).is_ok();
        let trace = if there { first } else { MADE };
        traces.get_or_insert_with(|| trace.into());
        shares.requests = shares.requests.or(Some(QUICK));
        shares.rounds = 1;
    }
    if shares.rounds == 0 {
        return Err("--rounds is 1 or more".into());
    }
    let traces = traces.as_deref().unwrap_or(TRACES);
    shares.traces = traces.split(',').map(str::to_owned).collect();
    Ok(Some(shares))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Option<Shares>, Failure> {
        parse(lexopt::Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn bad_arguments_are_refused() {
        for line in [
            "--codec lz4_flex",
            "--share 1/0",
            "--memory 0%",
            "--memory x",
            "--miss 5",
            "--miss -1us",
            "--rounds 0",
            "extra",
        ] {
            assert!(of(line).is_err(), "{line}");
        }
        assert!(of("--help").unwrap().is_none());
    }

    #[test]
    fn lists_are_parsed() {
        let shares = of("--miss 5us,1ms,0.5s,20ns --memory 16MiB --share none").unwrap().unwrap();
        assert_eq!(shares.misses, [5_000, 1_000_000, 500_000_000, 20].map(Duration::from_nanos));
        assert!(matches!(shares.memory, Budget::Bytes(bytes) if bytes == 16 << 20));
        assert_eq!((shares.traces.len(), shares.shares.len(), shares.specs.len()), (4, 1, 2));
        let quick = of("--quick").unwrap().unwrap();
        assert_eq!((quick.traces.len(), quick.rounds, quick.requests), (1, 1, Some(QUICK)));
    }
}
