//! A trace, replayed against one cache by one thread.

use benches::arguments::Failure;

use crate::contestant::Contestant;
use crate::stage::{Stage, WRITE};

/// What came of a replay.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Reads.
    pub(crate) requests: u64,
    pub(crate) hits: u64,
    /// Hits that were compared with the file.
    pub(crate) verified: u64,
}

/// An error that names the first difference.
pub(crate) fn verify(number: u32, got: &[u8], want: &[u8]) -> Result<(), Failure> {
    match got.iter().zip(want).position(|(got, want)| got != want) {
        None if got.len() == want.len() => Ok(()),
        at => {
            let at = at.unwrap_or(got.len().min(want.len()));
            Err(format!("a hit on page {number} differs from the file at byte {at}").into())
        }
    }
}

/// Replays all requests: a read is looked up, and filled from the file where it misses; a write
/// stores the page.
pub(crate) fn replay(
    cache: &dyn Contestant,
    stage: &Stage,
    compare: bool,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let mut to = vec![0; stage.page_size];
    for request in &stage.requests {
        let number = request & !WRITE;
        if request & WRITE != 0 {
            cache.insert(number.into(), stage.page(number));
            continue;
        }
        outcome.requests += 1;
        if !cache.get(number.into(), &mut to) {
            cache.insert(number.into(), stage.page(number));
            continue;
        }
        outcome.hits += 1;
        if compare {
            verify(number, &to, stage.page(number))?;
            outcome.verified += 1;
        }
    }
    cache.settle();
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_page_that_differs_anywhere_is_refused() {
        let page = vec![7; 512];
        assert!(verify(0, &page, &page).is_ok());
        for at in [0, 100, 511] {
            let mut wrong = page.clone();
            wrong[at] ^= 1;
            let message = verify(3, &wrong, &page).unwrap_err().to_string();
            assert_eq!(message, format!("a hit on page 3 differs from the file at byte {at}"));
        }
        assert!(verify(0, &page[..511], &page).is_err());
    }

    /// Keeps all, and flips a bit of the page of one key.
    struct Liar(u64, Mutex<HashMap<u64, Vec<u8>>>);

    impl Contestant for Liar {
        fn get(&self, key: u64, to: &mut [u8]) -> bool {
            let pages = self.1.lock().unwrap();
            let Some(page) = pages.get(&key) else { return false };
            to.copy_from_slice(page);
            to[9] ^= u8::from(key == self.0);
            true
        }

        fn insert(&self, key: u64, page: &[u8]) {
            self.1.lock().unwrap().insert(key, page.to_vec());
        }

        fn contains(&self, key: u64) -> bool {
            self.1.lock().unwrap().contains_key(&key)
        }
    }

    #[test]
    fn a_cache_that_lies_is_caught_when_compared_and_only_then() {
        let stage = Stage {
            page_size: 512,
            bytes: vec![1; 1024],
            page_of: vec![0, 1, 0],
            requests: vec![0, 1, 0, 1 | WRITE, 1, 2],
            ..Stage::default()
        };
        let run = |lie, compare| replay(&Liar(lie, Mutex::default()), &stage, compare);
        let honest = run(u64::MAX, true).unwrap();
        assert_eq!((honest.requests, honest.hits, honest.verified), (5, 2, 2));
        assert!(run(1, true).unwrap_err().to_string().contains("page 1"));
        assert_eq!(run(1, false).unwrap().hits, 2);
    }
}
