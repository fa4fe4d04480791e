//! What a share of the capacity for decoded pages costs and gives: the same trace over the same
//! pages in the same memory, by share, for misses of several costs.
//!
//! ```text
//! options -> mod -> window -> share, tally
//!                   table  -> tally
//! ```
//! All caches of a codec go through the trace together, window by window, so that what else the
//! machine does falls on all of them; this is done in rounds, and a window counts in the round in
//! which it took all caches together least. Keys are hashed alike in all caches and rounds, so a
//! fixed share has the same hits in each.
//!
//! A miss is not waited for. A request costs on average
//! ```text
//! (hits x time of a hit + misses x told cost of a miss) / requests
//! ```

pub(crate) mod options;
mod share;
mod table;
mod tally;
mod window;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use benches::arguments::Failure;

use self::options::Shares;
use self::share::Contender;
use self::table::Table;
use self::tally::Tally;
use crate::budget::dictionary_bytes;
use crate::load::{self, Source};
use crate::spec::{Codec, Spec};
use crate::stage::Stage;

/// Windows of a round: some ten thousand requests each, so that a cache that comes back to its turn
/// pays for refilling the processor's caches in a small part of its window only.
const WINDOWS: usize = 32;

/// Runs all, prints a table each, and leaves all rows in a file if asked to.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]
pub(crate) fn run(shares: &Shares) -> Result<(), Failure> {
    let mut csv = match &shares.csv {
        Some(path) => {
            let file =
                File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let mut file = BufWriter::new(file);
            writeln!(file, "{}", table::CSV)?;
            Some(file)
        }
        None => None,
    };
    for trace in &shares.traces() {
        let source =
            Source { trace: trace.clone(), requests: shares.requests(), ..Source::default() };
        let mut stage = load::stage(&source)?;
        for spec in &shares.specs {
            let start = Instant::now();
            for table in tables(shares, &mut stage, *spec)? {
                println!("{table}");
                if let Some(csv) = &mut csv {
                    csv.write_all(table.csv().as_bytes())?;
                    csv.flush()?;
                }
            }
            eprintln!("shares: {trace}, {}: {:.0} s", spec.codec, start.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

/// A table for each cost of a miss.
fn tables(shares: &Shares, stage: &mut Stage, spec: Spec) -> Result<Vec<Table>, Failure> {
    let capacity = shares.memory.of(stage.lz4_bytes);
    if matches!(spec.codec, Codec::Zstd(_, true)) {
        stage.dictionary = load::dictionary(stage, dictionary_bytes(capacity))?;
    }
    let contenders = contenders(shares);
    let rounds = (0..shares.rounds())
        .map(|round| replay_all(&contenders, stage, spec, capacity, round))
        .collect::<Result<Vec<_>, _>>()?;
    let tallies = quietest(&rounds);
    let table = |miss: &Duration| {
        let rows = contenders.iter().zip(&tallies);
        let rows = rows.filter(|(contender, _)| contender.miss.is_none_or(|told| told == *miss));
        Table::new(
            &stage.trace,
            spec.codec,
            capacity,
            *miss,
            rows.map(|(contender, tally)| (contender.share, *tally)).collect(),
        )
    };
    Ok(shares.misses.iter().map(table).collect())
}

/// One cache a share; of those that are told what a miss costs, one a cost.
fn contenders(shares: &Shares) -> Vec<Contender> {
    let of = |share: &share::Named| match share.told {
        false => vec![Contender { share: *share, miss: None }],
        true => {
            let each = |miss: &Duration| Contender { share: *share, miss: Some(*miss) };
            shares.misses.iter().map(each).collect()
        }
    };
    shares.shares.iter().flat_map(of).collect()
}

/// A round: for each window what each contender's cache made of it.
fn replay_all(
    contenders: &[Contender],
    stage: &Stage,
    spec: Spec,
    capacity: u64,
    round: usize,
) -> Result<Vec<Vec<Tally>>, Failure> {
    let caches = contenders.iter().map(|contender| contender.cache(spec, capacity, stage));
    let caches = caches.collect::<Result<Vec<_>, _>>()?;
    let every = stage.requests.len().div_ceil(WINDOWS);
    let mut windows = Vec::with_capacity(WINDOWS);
    for (at, requests) in stage.requests.chunks(every).enumerate() {
        let mut tallies = vec![Tally::default(); caches.len()];
        for turn in 0..caches.len() {
            let who = (turn + at + round) % caches.len();
            tallies[who] = window::replay(&caches[who], stage, requests, (at * every) as u64)?;
        }
        windows.push(tallies);
    }
    Ok(windows)
}

/// Each contender's sum over the windows, of which each counts in the round in which hits took all
/// contenders together least: the same one for all, so that none is picked for its luck.
fn quietest(rounds: &[Vec<Vec<Tally>>]) -> Vec<Tally> {
    let windows = rounds.iter().map(Vec::len).min().unwrap_or(0);
    let took = |tallies: &Vec<Tally>| tallies.iter().map(Tally::hit_time).sum::<u64>();
    let best =
        |window: usize| rounds.iter().map(move |round| &round[window]).min_by_key(|t| took(t));
    let mut sums: Vec<Tally> = Vec::new();
    for tallies in (0..windows).filter_map(best) {
        sums.resize(tallies.len(), Tally::default());
        sums.iter_mut().zip(tallies).for_each(|(sum, tally)| sum.add(tally));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_in_the_round_that_was_quietest_for_all() {
        let tally = |nanoseconds: u64| {
            let mut tally = Tally { requests: 1, hits: 1, ..Tally::default() };
            tally.time(nanoseconds);
            tally
        };
        // The second contender's least time of the first window is in the first round, but not the
        // sum's.
        let rounds = [
            vec![vec![tally(900), tally(10)], vec![tally(5), tally(5)]],
            vec![vec![tally(100), tally(20)], vec![tally(6), tally(6)]],
        ];
        let sums = quietest(&rounds);
        assert_eq!(sums.iter().map(Tally::hit_time).collect::<Vec<_>>(), [105, 25]);
        assert!(sums.iter().all(|sum| (sum.requests, sum.hits) == (2, 2)));
    }
}
