//! The command line.

use std::path::PathBuf;

use benches::packing::Failure;
use lexopt::prelude::*;

use crate::budget::{Budget, bytes};
use crate::cost::options::{self as cost, Cost};
use crate::driver::Rounds;
use crate::load::Source;
use crate::pairs;
use crate::shares::options::{self as shares, Shares};
use crate::spec::{Codec, Kind, Spec};
use crate::tails::options::{self as tails, Tails};
use crate::terms;
use crate::variants::FEATURES;

/// What was asked for.
#[derive(Debug)]
pub(crate) enum Options {
    Run(Run),
    Suite(Suite),
    Shares(Shares),
    Cost(Cost),
    Tails(Tails),
    Child(Child),
}

/// A comparison.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) source: Source,
    pub(crate) caches: Vec<Spec>,
    pub(crate) budget: Budget,
    pub(crate) rounds: Rounds,
    /// Each cache gets the budget as what it is told.
    pub(crate) as_configured: bool,
    pub(crate) verify: bool,
    pub(crate) table: bool,
}

/// The table of everything.
#[derive(Debug)]
pub(crate) struct Suite {
    pub(crate) full: bool,
    /// All traces at full length, and no times.
    pub(crate) whole: bool,
    /// Traces that the results have already are left as they are.
    pub(crate) go_on: bool,
    /// By default a subset of the shared ones.
    pub(crate) traces: Vec<String>,
    pub(crate) percents: Vec<f64>,
    pub(crate) requests: Option<usize>,
    pub(crate) rounds: usize,
    pub(crate) out: PathBuf,
    /// Beside the system's.
    pub(crate) allocators: Vec<String>,
}

/// One cache's process.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) spec: Spec,
    pub(crate) configured: u64,
    pub(crate) stage: PathBuf,
    pub(crate) verify: bool,
}

pub(crate) fn usage() -> String {
    let own = [shares::USAGE, cost::USAGE, tails::USAGE, terms::USAGE].join("\n");
    format!("{USAGE}\n{own}\nTraces and their pages:\n{}", pairs::listed())
}

const USAGE: &str = "\
usage: versus --trace TRACE [options]
       versus suite [suite's options]
       versus shares [shares' options]
       versus cost [cost's options]
       versus tails [tails' options]

Replays a trace against caches, one process a cache, all in equal memory, and prints a row of JSON each.

  --trace TRACE     a .u64 or .u64.zst file, the name of a shared one, or zipf:ALPHA, scan, uniform
  --pages PAGES     a .bin or .bin.zst file, or the name of a shared one (default: the trace's, see
                    below; for made traces the sample). Id N has page N modulo the number of pages
  --page-size N     where the name does not end in one; a smaller one cuts the pages
  --requests N      the first N of the trace (made ones: 200000)
  --distinct N      ids of a made trace (default: four times the pages)
  --cache LIST      caches, with codec and, for zcache, policy: zcache, zcache/zstd:3+dict/sieve,
                    zcache/none/lru, moka, moka/lz4_flex, quick_cache/none (plain values), foyer-s3fifo,
                    foyer-lru, zram (root, /dev/zram0; oldest out, so no hit ratio); `all` is zcache and the four peers
  --percent P       the budget, in percent of the LZ4 size of all pages of the trace (default 10)
  --budget BYTES    the budget; 16MiB works too
  --phases A,B      the first half of the trace over pages A, the second over pages B under keys of its own;
                    pages in a MiB beside a fresh cache's that saw the second half only
  --configured      every cache is told the budget. Without it zcache is, and what it then takes, resident,
                    every peer is made to take within 1 %, by calibrating runs
  --verify          every hit is compared with the file
  --rounds N        rounds of timing, in turns between the caches (default 5; 0: none)
  --miss-us LIST    costs of a miss for the effective operations a second (default 0,20,100,1000),
                    spent (spun below 50 us, slept above) over up to 20000 requests from the trace's middle;
                    the times of hits and misses found there are weighed by the hit ratio of the whole run
  --table           a table instead of JSON

versus suite runs traces at 5, 10 and 25 percent for zcache (lz4 and zstd:3) and all peers, each under the
allocator that packs best, and writes benches/results/suite.json and suite.md; without the shared data, made
traces over the sample. Times are taken at 10 percent. Cost and tails, see below, come last.
  --whole           all traces at full length, without times, into benches/results/whole (three quarters of an hour)
  --full            the same with all allocators, codecs and policies, all timed (hours)
  --go-on           goes on where a suite with the same options was ended: traces that it has stay
  --traces LIST, --percents LIST, --requests N, --rounds N, --out DIR,
  --allocators LIST (default system,mimalloc,jemalloc; the others are built by cargo, into the same target)

Resident is what anonymous and shared memory grew by since before the cache was made, trace and pages loaded.
Hit ratios count reads; the writes of -rw traces store their page. hit_ns is the best window of 1000 hits
on random held keys by one thread, hit_ns_two the same for each of two threads at once (elapsed time by the
hits of one thread), decode_ns the bare codec beside it. p50 to p99.9 are of hits timed one by one, clock_ns
included. Other allocators: --features mimalloc-global or jemalloc-global.
";

fn caches(list: &str) -> Result<Vec<Spec>, Failure> {
    let mut specs = Vec::new();
    for name in list.split(',') {
        if name != "all" {
            specs.push(name.parse()?);
            continue;
        }
        specs.push(Spec::REFERENCE);
        let peers = Kind::PEERS.into_iter().filter(|_| cfg!(feature = "peers"));
        specs.extend(peers.map(|kind| Spec::new(kind, Codec::Lz4)));
    }
    Ok(specs)
}

pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, Failure> {
    let mut run = Run {
        source: Source::default(),
        caches: caches("all")?,
        budget: Budget::Percent(10.0),
        rounds: Rounds::default(),
        as_configured: false,
        verify: false,
        table: false,
    };
    let mut first = true;
    while let Some(argument) = parser.next()? {
        match argument {
            Value(name) if first && name == "child" => return child(parser).map(Some),
            Value(name) if first && name == "suite" => return suite(parser),
            Value(name) if first && name == "shares" => {
                return Ok(shares::parse(parser)?.map(Options::Shares));
            }
            Value(name) if first && name == "cost" => {
                return Ok(cost::parse(parser)?.map(Options::Cost));
            }
            Value(name) if first && name == "tails" => {
                return Ok(tails::parse(parser)?.map(Options::Tails));
            }
            Long("trace") => run.source.trace = parser.value()?.string()?,
            Long("pages") => run.source.pages = Some(parser.value()?.string()?),
            Long("page-size") => run.source.page_size = Some(parser.value()?.parse()?),
            Long("requests") => run.source.requests = Some(parser.value()?.parse()?),
            Long("distinct") => run.source.distinct = Some(parser.value()?.parse()?),
            Long("cache") => run.caches = caches(&parser.value()?.string()?)?,
            Long("percent") => run.budget = Budget::Percent(parser.value()?.parse()?),
            Long("budget") => run.budget = Budget::Bytes(bytes(&parser.value()?.string()?)?),
            Long("phases") => {
                let files = parser.value()?.string()?;
                let (first, second) = files.split_once(',').ok_or("--phases takes FILE,FILE")?;
                run.source.pages = Some(first.into());
                run.source.second = Some(second.into());
            }
            Long("configured") => run.as_configured = true,
            Long("verify") => run.verify = true,
            Long("rounds") => run.rounds.rounds = parser.value()?.parse()?,
            Long("miss-us") => {
                let list = parser.value()?.string()?;
                run.rounds.miss_us = list.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            Long("table") => run.table = true,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected().into()),
        }
        first = false;
    }
    if first {
        return Ok(None);
    }
    if run.source.trace.is_empty() {
        return Err("which trace? give --trace (see --help)".into());
    }
    if run.rounds.miss_us.iter().any(|us| *us > 100_000) {
        return Err("--miss-us goes up to 100000".into());
    }
    match run.budget {
        Budget::Percent(percent) if !(percent > 0.0 && percent <= 1000.0) => {
            Err("--percent is above 0 and at most 1000".into())
        }
        _ => Ok(Some(Options::Run(run))),
    }
}

fn suite(mut parser: lexopt::Parser) -> Result<Option<Options>, Failure> {
    let (mut out, results) = (None, concat!(env!("CARGO_MANIFEST_DIR"), "/results"));
    let mut suite = Suite {
        full: false,
        whole: false,
        go_on: false,
        traces: vec![],
        percents: vec![],
        requests: None,
        rounds: 4,
        out: results.into(),
        allocators: FEATURES.map(|(name, _)| name.to_owned()).to_vec(),
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("full") => suite.full = true,
            Long("whole") => suite.whole = true,
            Long("go-on") => suite.go_on = true,
            Long("traces") => {
                suite.traces = parser.value()?.string()?.split(',').map(str::to_owned).collect();
            }
            Long("percents") => {
                let list = parser.value()?.string()?;
                suite.percents = list.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            Long("requests") => suite.requests = Some(parser.value()?.parse()?),
            Long("rounds") => suite.rounds = parser.value()?.parse()?,
            Long("allocators") => {
                let list = parser.value()?.string()?;
                let other = |name: &&str| *name != "system";
                suite.allocators = list.split(',').filter(other).map(str::to_owned).collect();
            }
            Long("out") => out = Some(parser.value()?.into()),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected().into()),
        }
    }
    if suite.whole {
        suite.rounds = 0;
        suite.out.push("whole");
    }
    suite.out = out.unwrap_or(suite.out);
    if suite.percents.iter().any(|percent| !(*percent > 0.0 && *percent <= 1000.0)) {
        return Err("--percents are above 0 and at most 1000".into());
    }
    let known = |name: &&String| !FEATURES.iter().any(|(known, _)| known == name);
    if let Some(name) = suite.allocators.iter().find(known) {
        return Err(
            format!("no allocator `{name}`: there are system, mimalloc and jemalloc").into()
        );
    }
    Ok(Some(Options::Suite(suite)))
}

fn child(mut parser: lexopt::Parser) -> Result<Options, Failure> {
    let (mut spec, mut configured, mut stage, mut verify) = (None, None, None, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(name) if spec.is_none() => spec = Some(name.string()?.parse()?),
            Long("configured") => configured = Some(parser.value()?.parse()?),
            Long("stage") => stage = Some(parser.value()?.into()),
            Long("verify") => verify = true,
            _ => return Err(argument.unexpected().into()),
        }
    }
    match (spec, configured, stage) {
        (Some(spec), Some(configured), Some(stage)) => {
            Ok(Options::Child(Child { spec, configured, stage, verify }))
        }
        _ => Err("child: a cache, --configured and --stage are needed".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Option<Options>, Failure> {
        parse(lexopt::Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn bad_arguments_are_refused() {
        for line in [
            "--cache zcache",
            "--trace scan --percent 0",
            "--trace scan --budget 1.5",
            "--trace scan --budget 0",
            "--trace scan --cache mokka",
            "--trace scan --miss-us 1,x",
            "--trace scan extra",
            "--trace scan --frob",
            "child zcache",
        ] {
            assert!(of(line).is_err(), "{line}");
        }
        assert!(of("--help").unwrap().is_none());
    }

    #[test]
    fn the_whole_suite_has_a_place_of_its_own() {
        let out = |line| match of(line).unwrap() {
            Some(Options::Suite(suite)) => suite.out,
            _ => panic!("{line} is a suite"),
        };
        assert!(out("suite").ends_with("results") && out("suite --whole").ends_with("whole"));
        assert_eq!(out("suite --out here --whole"), PathBuf::from("here"));
    }
}
