//! Work that is done some at once.

use std::sync::Mutex;
use std::thread;

use crate::arguments::Failure;

/// Does the jobs, so many at once, and returns what came of them in their order.
///
/// # Errors
/// That of the first job in the order that has one.
///
/// # Panics
/// A job panics.
pub fn each<J: Sync, R: Send>(
    at_once: usize,
    jobs: &[J],
    work: impl Fn(&J) -> Result<R, Failure> + Sync,
) -> Result<Vec<R>, Failure> {
    let next = Mutex::new(jobs.iter().enumerate());
    let done: Mutex<Vec<(usize, Result<R, Failure>)>> = Mutex::new(Vec::new());
    let worker = || {
        loop {
            let job = next.lock().expect("no worker panics").next();
            let Some((at, job)) = job else { return };
            let came = work(job);
            done.lock().expect("no worker panics").push((at, came));
        }
    };
    thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(worker))));
    let mut done = done.into_inner().expect("no worker panics");
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, came)| came).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_come_back_in_their_order() {
        let jobs: Vec<u64> = (0..50).collect();
        let doubled = each(3, &jobs, |job| Ok(job * 2)).unwrap();
        assert_eq!(doubled, (0..100).step_by(2).collect::<Vec<_>>());
        assert!(each(2, &jobs, |job| if *job == 7 { Err("no".into()) } else { Ok(()) }).is_err());
    }
}
