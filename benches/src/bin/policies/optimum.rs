//! The optimum: what is needed last goes first (Belady). Nobody can do better who has to hold what
//! is missing.

use std::collections::BinaryHeap;

/// Hits that a cache of `capacity` entries has at best.
pub(crate) fn hits(pages: &[u32], distinct: usize, capacity: usize) -> usize {
    // When each request's page is asked for next.
    let mut next = vec![usize::MAX; pages.len()];
    let mut last = vec![usize::MAX; distinct];
    for (at, page) in pages.iter().enumerate().rev() {
        next[at] = std::mem::replace(&mut last[*page as usize], at);
    }
    // What is held, by when it is needed; those that were needed meanwhile are stale.
    let mut held = BinaryHeap::new();
    let mut needed = vec![None; distinct];
    let (mut len, mut hits) = (0, 0);
    for (at, page) in pages.iter().enumerate() {
        let slot = *page as usize;
        if needed[slot].is_some() {
            hits += 1;
        } else {
            while len == capacity {
                let (when, page) = held.pop().expect("as many as are held");
                if needed[page] == Some(when) {
                    needed[page] = None;
                    len -= 1;
                }
            }
            len += 1;
        }
        needed[slot] = Some(next[at]);
        held.push((next[at], slot));
    }
    hits
}

#[cfg(test)]
mod tests {
    use ::tests::traces;

    use super::*;
    use crate::trace;

    /// Of a loop over n pages all but one of the entries are hit in each turn of n - 1 requests.
    #[test]
    fn the_optimum_of_a_loop_is_known() {
        for (pages, capacity) in [(50_u32, 10), (100, 99), (20, 1)] {
            let requests: Vec<u32> = (0..pages * 200).map(|step| step % pages).collect();
            let ratio = hits(&requests, pages as usize, capacity) as f64 / requests.len() as f64;
            let known = (capacity - 1) as f64 / f64::from(pages - 1);
            assert!((ratio - known).abs() < 0.01, "{pages}, {capacity}: {ratio}, {known}");
        }
    }

    #[test]
    fn it_is_what_the_reference_has() {
        let Some(reference) = traces::reference_hit_ratios() else { return };
        let mut compared = 0;
        for name in ["lirs-glimpse", "lirs-multi3", "web12"] {
            let trace = &trace::read(&[name.to_owned()], None).expect("shared")[0];
            for row in reference.lines().filter(|row| row.starts_with(name)) {
                let row: Vec<&str> = row.split(',').collect();
                let capacity = row[4].parse().expect("a number");
                let ratio = trace.percent(hits(&trace.pages, trace.distinct, capacity)) / 100.0;
                assert_eq!(format!("{ratio:.6}"), row[8], "{name}, {capacity}");
                compared += 1;
            }
        }
        assert_eq!(compared, 12);
    }
}
