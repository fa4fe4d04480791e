//! What the user asks for.

use std::path::PathBuf;

use benches::packing::Failure;
use lexopt::prelude::*;

use crate::contestants::{self, Contestant};

pub(crate) const USAGE: &str = "\
usage: policies [options]
       policies choose [options]

Plays traces at equal numbers of equal entries and prints hit ratios, and how far each policy is from
quick_cache's and from the optimum that sees the future.

  --trace LIST      .u64 and .u64.zst files, directories of them, names of shared ones, `shared` for all of
                    those, names of made ones, `made` for all of those (default: shared,made)
  --percents LIST   entries, in percent of the distinct pages of a trace (default 1,5,10,25)
  --policy LIST     of s3-fifo, s3-fifo-plain, sieve, clock, lru, arc, moka, quick_cache, foyer
                    (default: all)
  --requests N      the first N of each trace
  --json            one line of JSON for each trace, size and policy, instead of a table
  --svg FILE        a picture of the distances to the optimum

policies choose asks whether the rules of s3-fifo and their constants are fitted to the traces at hand:
each rule is left out, each constant is halved and doubled. For each trace the best of all settings is
chosen on the other traces, and read on this one.

Made traces, of 400,000 requests for 20,000 pages:
  loop      a table read from end to end, again and again
  scans     popular rows, and every 2000 requests a scan of 1500 pages
  drift     popular rows, other ones as time goes on
  front     rows are appended and read soon after; older ones by popularity, and some at random
  bursts    a query reads each of its pages one to four times within moments
  phases    popular rows, then a loop over another table, then the rows again
";

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Run,
    Choose,
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) task: Task,
    pub(crate) traces: Vec<String>,
    pub(crate) percents: Vec<f64>,
    pub(crate) policies: Vec<Contestant>,
    pub(crate) requests: usize,
    pub(crate) json: bool,
    pub(crate) svg: Option<PathBuf>,
}

/// The parts of a list.
fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').filter(|part| !part.is_empty())
}

fn percent(text: &str) -> Result<f64, Failure> {
    let percent: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if percent > 0.0 && percent <= 100.0 {
        Ok(percent)
    } else {
        Err(format!("{text} percent: more than 0 and at most 100").into())
    }
}

/// Those of the command line, or `None` where usage is asked for.
pub(crate) fn parse() -> Result<Option<Options>, Failure> {
    let mut options = Options {
        task: Task::Run,
        traces: vec!["shared".into(), "made".into()],
        percents: vec![1.0, 5.0, 10.0, 25.0],
        policies: contestants::all(),
        requests: usize::MAX,
        json: false,
        svg: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Value(task) if task == "choose" => options.task = Task::Choose,
            Long("trace") => {
                let value = parser.value()?.string()?;
                options.traces = list(&value).map(str::to_owned).collect();
            }
            Long("percents") => {
                let value = parser.value()?.string()?;
                options.percents = list(&value).map(percent).collect::<Result<_, _>>()?;
            }
            Long("policy") => {
                let value = parser.value()?.string()?;
                options.policies =
                    list(&value).map(contestants::named).collect::<Result<_, _>>()?;
            }
            Long("requests") => options.requests = parser.value()?.parse()?,
            Long("json") => options.json = true,
            Long("svg") => options.svg = Some(parser.value()?.into()),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let lacks = [
        (options.traces.is_empty(), "no trace"),
        (options.percents.is_empty(), "no size"),
        (options.policies.is_empty(), "no policy"),
        (options.requests == 0, "no request"),
    ];
    match lacks.into_iter().find(|(is, _)| *is) {
        Some((_, what)) => Err(format!("{what} is asked for").into()),
        None => Ok(Some(options)),
    }
}
