//! The command line of `versus cost`.

use benches::packing::Failure;
use lexopt::prelude::*;

use crate::terms::{self, Terms};

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Hit,
    Miss,
    Insert,
}

impl What {
    const ALL: [Self; 3] = [Self::Hit, Self::Miss, Self::Insert];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Insert => "insert",
        }
    }

    fn named(name: &str) -> Result<Self, Failure> {
        let what = Self::ALL.into_iter().find(|what| what.name() == name);
        what.ok_or_else(|| format!("`{name}` is none of hit, miss and insert").into())
    }
}

/// What an operation costs.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    pub(crate) terms: Terms,
    pub(super) whats: Vec<What>,
    /// Populations of the caches that are read.
    pub(super) keys: Vec<u64>,
    /// Operations of a thread in a window; ten times as many misses.
    pub(super) ops: usize,
}

/// A debug build's times are of no interest, only that there are some.
const DEBUG: bool = cfg!(debug_assertions);
const WINDOWS: usize = if DEBUG { 3 } else { 60 };
/// Operations of a window. Work that a cache puts off falls into each window.
const OPS: usize = if DEBUG { 50 } else { 1000 };
/// The smaller is in the processor's caches, the larger is not.
const KEYS: [u64; 2] = if DEBUG { [50, 500] } else { [300, 100_000] };
const CAPACITIES: [u64; 2] = if DEBUG { [1 << 20, 2 << 20] } else { [4 << 20, 64 << 20] };
/// What `--large` adds: 15 GiB of memory with all caches.
const LARGE: (u64, u64) = (1_000_000, 1 << 30);

pub(crate) const USAGE: &str = "\
versus cost times hits, misses and evicting inserts of pages held as LZ4 blocks, by the CPU time of
the thread that does them, in windows. All caches take turns in one process, and so does the bare
codec; they get the same keys and pages in the same window. p10 and p50 are of the windows of all
threads, ratios are to quick_cache's. Look at p50 for what two threads cost each other: where other
processes take a core, the cheapest windows are those of a thread that ran alone. CPU time has no
waits in it; the clock's p10 has. Caches that are read hold all keys; caches that take inserts are
full, peers with as many entries as zcache (within 2 %; `held` tells).
  --what LIST       of hit, miss, insert (default all)
  --keys LIST       populations of hits and misses (default 300,100k)
  --capacity LIST   zcache's, for inserts (default 4MiB,64MiB)
  --large           1M keys and 1GiB as well: minutes, and up to 15 GiB of memory
  --threads LIST    (default 1,2)
  --windows N       of each cache (default 60)
  --ops N           operations of a thread in a window, ten times as many misses (default 1000)
";

impl Default for Cost {
    fn default() -> Self {
        let terms = Terms::new(&[1, 2], &CAPACITIES, WINDOWS);
        Self { terms, whats: What::ALL.to_vec(), keys: KEYS.to_vec(), ops: OPS }
    }
}

pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Option<Cost>, Failure> {
    let (mut cost, mut large) = (Cost::default(), false);
    while let Some(argument) = parser.next()? {
        let name = match argument {
            Short('h') | Long("help") => return Ok(None),
            Long(name) => name.to_owned(),
            _ => return Err(argument.unexpected().into()),
        };
        match &*name {
            "what" => cost.whats = terms::list(&name, &mut parser, What::named)?,
            "keys" => cost.keys = terms::list(&name, &mut parser, terms::keys)?,
            "ops" => cost.ops = parser.value()?.parse()?,
            "large" => large = true,
            _ if cost.terms.take(&name, &mut parser)? => {}
            _ => return Err(format!("cost has no option --{name} (see --help)").into()),
        }
    }
    if large {
        cost.keys.push(LARGE.0);
        cost.terms.capacities.push(LARGE.1);
    }
    if cost.ops == 0 {
        return Err("--ops is 1 or more".into());
    }
    cost.terms.check()?;
    Ok(Some(cost))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Option<Cost>, Failure> {
        parse(lexopt::Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn bad_arguments_are_refused() {
        for line in [
            "--what hits",
            "--keys 0",
            "--capacity 1.5",
            "--threads 0",
            "--threads 1,x",
            "--windows 0",
            "--ops 0",
            "--cache zcache/none",
            "--frob",
            "extra",
        ] {
            assert!(of(line).is_err(), "{line}");
        }
        assert!(of("--help").unwrap().is_none());
    }

    #[test]
    fn large_comes_on_top() {
        let cost = of("--what insert --keys 10 --capacity 1MiB --large").unwrap().unwrap();
        assert_eq!(cost.whats, [What::Insert]);
        assert_eq!((cost.keys, cost.terms.capacities), (vec![10, LARGE.0], vec![1 << 20, LARGE.1]));
    }
}
