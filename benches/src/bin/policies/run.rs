//! Every policy on every trace at every size.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use benches::packing::Failure;
use serde_json::json;

use crate::options::Options;
use crate::trace::Played;
use crate::{optimum, picture, table, trace};

/// Hit ratios in percent, of one trace at one size.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) trace: String,
    pub(crate) percent: f64,
    pub(crate) entries: usize,
    pub(crate) optimum: f64,
    /// In the order of the policies.
    pub(crate) ratios: Vec<f64>,
}

/// What `work` makes of each of `0..jobs`, on as many threads as there are cores.
pub(crate) fn each<T: Send>(jobs: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let part = || {
        let mut done = Vec::new();
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= jobs {
                return done;
            }
            done.push((job, work(job)));
        }
    };
    let mut all: Vec<(usize, T)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(part)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    all.sort_by_key(|(job, _)| *job);
    all.into_iter().map(|(_, done)| done).collect()
}

fn row(options: &Options, trace: &Played, percent: f64) -> Row {
    let entries = trace.entries(percent);
    let ratio = |hits| trace.percent(hits);
    Row {
        trace: trace.name.clone(),
        percent,
        entries,
        optimum: ratio(optimum::hits(&trace.pages, trace.distinct, entries)),
        ratios: options.policies.iter().map(|one| ratio((one.play)(trace, entries))).collect(),
    }
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let traces = trace::read(&options.traces, options.requests)?;
    let sizes = options.percents.len();
    let job = |job: usize| row(options, &traces[job / sizes], options.percents[job % sizes]);
    let rows = each(traces.len() * sizes, job);
    if options.json {
        for row in &rows {
            let ratios = options.policies.iter().zip(&row.ratios);
            for (name, ratio) in
                ratios.map(|(one, ratio)| (one.name, ratio)).chain([("optimum", &row.optimum)])
            {
                let (trace, entries) = (&row.trace, row.entries);
                println!(
                    "{}",
                    json!({ "trace": trace, "percent": row.percent, "entries": entries, "policy": name, "hit_percent": ratio })
                );
            }
        }
    } else {
        print!("{}", table::text(&options.policies, &rows));
    }
    if let Some(file) = &options.svg {
        std::fs::write(file, picture::svg(&options.policies, &rows))
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}
