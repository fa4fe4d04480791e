//! The command line of `versus tails`.

use std::time::Duration;

use benches::packing::Failure;
use lexopt::prelude::*;

use crate::terms::Terms;

/// How long single operations take.
#[derive(Debug, Clone)]
pub(crate) struct Tails {
    pub(crate) terms: Terms,
    /// How long a window is.
    pub(super) window: Duration,
    /// Keys are asked for by Zipf's law with this exponent.
    pub(super) alpha: f64,
}

/// A debug build's times are of no interest, only that there are some.
const DEBUG: bool = cfg!(debug_assertions);
const WINDOWS: usize = if DEBUG { 2 } else { 40 };
/// So long that threads beyond the cores take turns in it.
const WINDOW: Duration = Duration::from_millis(if DEBUG { 20 } else { 50 });
const CAPACITIES: [u64; 2] = if DEBUG { [1 << 20, 2 << 20] } else { [4 << 20, 64 << 20] };
const ALPHA: f64 = 0.9;

pub(crate) const USAGE: &str = "\
versus tails times operations one by one, by the clock and by the CPU time of the thread, in full
caches: look-ups by Zipf's law over four times the keys that zcache holds, each miss followed by an
insert. All caches take turns in one process, and so does the bare codec. p50, p99, p99.9 and the
maximum of hits and of inserts are over all windows and threads, in microseconds; `window` is the
median over windows of their p99, which some bad windows do not change. Ratios are to quick_cache's.
What the clocks take in the median is taken off. The bare codec's tail is the machine's.
  --threads LIST    (default 2,8)
  --capacity LIST   zcache's (default 4MiB,64MiB); peers hold as many entries, within 2 %
  --windows N       of each cache (default 40)
  --window-ms N     how long a window is (default 50)
  --alpha A         the exponent (default 0.9)
";

impl Default for Tails {
    fn default() -> Self {
        Self { terms: Terms::new(&[2, 8], &CAPACITIES, WINDOWS), window: WINDOW, alpha: ALPHA }
    }
}

pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Option<Tails>, Failure> {
    let mut tails = Tails::default();
    while let Some(argument) = parser.next()? {
        let name = match argument {
            Short('h') | Long("help") => return Ok(None),
            Long(name) => name.to_owned(),
            _ => return Err(argument.unexpected().into()),
        };
        match &*name {
            "window-ms" => tails.window = Duration::from_millis(parser.value()?.parse()?),
            "alpha" => tails.alpha = parser.value()?.parse()?,
            _ if tails.terms.take(&name, &mut parser)? => {}
            _ => return Err(format!("tails has no option --{name} (see --help)").into()),
        }
    }
    if !(1..=10_000).contains(&tails.window.as_millis()) {
        return Err("--window-ms is 1 to 10000".into());
    }
    if !(0.0..=2.0).contains(&tails.alpha) {
        return Err("--alpha is 0 to 2".into());
    }
    tails.terms.check()?;
    Ok(Some(tails))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_arguments_are_refused() {
        let of = |line: &str| parse(lexopt::Parser::from_args(line.split_whitespace()));
        for line in [
            "--window-ms 0",
            "--alpha -1",
            "--alpha x",
            "--threads 0",
            "--keys 100",
            "--capacity 0",
            "extra",
        ] {
            assert!(of(line).is_err(), "{line}");
        }
        assert!(of("-h").unwrap().is_none());
        let tails = of("--threads 1,3 --window-ms 7").unwrap().unwrap();
        assert_eq!((tails.terms.threads, tails.window), (vec![1, 3], Duration::from_millis(7)));
    }
}
