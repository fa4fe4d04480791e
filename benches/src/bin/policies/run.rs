//! Every policy on every trace at every size.

use std::thread;

use benches::arguments::Failure;
use benches::parallel;

use crate::contestants::Contestant;
use crate::options::Options;
use crate::played::Played;
use crate::table::{self, Row};
use crate::{optimum, trace};

/// As many jobs at once as there are cores.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn row(policies: &[Contestant], trace: &Played, percent: f64) -> Row {
    let entries = trace.entries(percent);
    let ratio = |hits| trace.percent(hits);
    Row {
        trace: trace.name.clone(),
        percent,
        entries,
        optimum: ratio(optimum::hits(&trace.pages, trace.distinct, entries)),
        ratios: policies.iter().map(|one| ratio((one.play)(trace, entries))).collect(),
    }
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let traces = trace::read(&options.traces, options.requests)?;
    let policies = options.policies();
    let sizes = |trace| options.percents.iter().map(move |percent| (trace, *percent));
    let jobs: Vec<(&Played, f64)> = traces.iter().flat_map(sizes).collect();
    let job = |(trace, percent): &(&Played, f64)| Ok(row(&policies, trace, *percent));
    let rows = parallel::each(cores(), &jobs, job)?;
    print!("{}", table::text(&policies, &rows));
    Ok(())
}
