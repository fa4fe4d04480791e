//! Made traces, as a user of a database would know them. `options` says what each of them is.

use std::collections::HashMap;

use ::tests::traces::zipf;
use fastrand::Rng;

use crate::played::Played;

const PAGES: u64 = 20_000;
const REQUESTS: usize = 400_000;
const NAMES: [&str; 6] = ["loop", "scans", "drift", "front", "bursts", "phases"];

pub(crate) fn is(name: &str) -> bool {
    NAMES.contains(&name)
}

/// All of them, of at most `requests` requests.
pub(crate) fn all(requests: usize) -> impl Iterator<Item = Played> {
    NAMES.into_iter().map(move |name| named(name, requests))
}

/// The one called `name`, which [`is`] one.
pub(crate) fn named(name: &str, requests: usize) -> Played {
    let requests = requests.min(REQUESTS);
    let ids = match name {
        "loop" => (0..requests as u64).map(|step| step % PAGES).collect(),
        "scans" => scans(requests),
        "drift" => drift(requests),
        "front" => front(requests),
        "bursts" => bursts(requests),
        _ => phases(requests),
    };
    let mut numbers = HashMap::new();
    let mut number = |id: u64| {
        let next = numbers.len() as u32;
        *numbers.entry(id).or_insert(next)
    };
    Played::of(name, ids.into_iter().take(requests).map(&mut number).collect())
}

fn scans(requests: usize) -> Vec<u64> {
    let mut random = Rng::with_seed(1);
    let rows = zipf(PAGES as usize, requests, 1);
    let parts = rows.chunks(2000).flat_map(|rows| {
        let start = random.u64(..PAGES - 1500);
        rows.iter().copied().chain(start..start + 1500).collect::<Vec<_>>()
    });
    parts.collect()
}

/// Each request moves what is popular on: at the end the tenth part of the pages has become so.
fn drift(requests: usize) -> Vec<u64> {
    let ranks = zipf(PAGES as usize, requests, 2).into_iter().zip(0_u64..);
    ranks.map(|(rank, step)| (rank + step * PAGES / 10 / requests as u64) % PAGES).collect()
}

/// Half the pages are there at first, and the rest are appended.
fn front(requests: usize) -> Vec<u64> {
    let mut random = Rng::with_seed(3);
    let rows = zipf(PAGES as usize / 2, requests, 3).into_iter().zip(0_u64..);
    let page = |(row, step): (u64, u64)| {
        let last = PAGES / 2 + step * (PAGES / 2) / requests as u64;
        match random.f64() {
            // 200 pages behind the front on average.
            at if at < 0.25 => last.saturating_sub((-(random.f64() + 1e-12).ln() * 200.0) as u64),
            at if at < 0.4 => random.u64(..last),
            // Not by age.
            _ => row * 7919 % (PAGES / 2),
        }
    };
    rows.map(page).collect()
}

fn bursts(requests: usize) -> Vec<u64> {
    let mut random = Rng::with_seed(4);
    let mut ids = Vec::with_capacity(requests + 32);
    for query in zipf(PAGES as usize - 4, requests, 4).chunks(4) {
        let times = random.usize(1..=4);
        // Three of four queries read what is popular, the others anything.
        let pages: Vec<u64> = match random.u8(..4) {
            0 => (0..4).map(|_| random.u64(..PAGES)).collect(),
            _ => query.to_vec(),
        };
        (0..times).for_each(|_| ids.extend_from_slice(&pages));
        if ids.len() >= requests {
            break;
        }
    }
    ids
}

fn phases(requests: usize) -> Vec<u64> {
    let third = requests / 3;
    let table = PAGES / 4;
    let rows = zipf((PAGES - table) as usize, requests - third, 5);
    let (before, after) = rows.split_at(third.min(rows.len()));
    let scan = (0..third as u64).map(|step| PAGES - table + step % table);
    before.iter().copied().chain(scan).chain(after.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_as_long_as_is_asked_for_and_repeat() {
        for (one, other) in all(30_000).zip(all(30_000)) {
            assert_eq!((one.pages.len(), &one.pages), (30_000, &other.pages), "{}", one.name);
            assert!(one.distinct > 3000 && one.distinct <= PAGES as usize, "{}", one.name);
        }
    }
}
