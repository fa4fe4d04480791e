//! The same operation on random keys by one thread and by two.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// Spins for some milliseconds, so that threads start a window together, then yields: the other may
/// want this processor.
const SPINS: usize = 100_000;

/// How long a race is.
#[derive(Debug, Clone, Copy)]
pub struct Length {
    /// Threads that run at once.
    pub threads: usize,
    /// Windows, each timed alone; the best counts. Windows of a millisecond or less often pass without
    /// the scheduler taking a thread's processor away, even on a machine that is shared.
    pub windows: usize,
    /// Operations of a thread in a window.
    pub ops: usize,
}

/// Nanoseconds an operation takes: in the best window, the time from the first start to the last end,
/// by the operations of all threads. `make` makes each thread, by number, its operation, which is called with
/// random keys below `keys` and whose results are looked at.
pub fn nanoseconds<F>(length: Length, keys: usize, make: impl Fn(usize) -> F + Sync) -> f64
where
    F: FnMut(usize) -> u64,
{
    let Length { threads, windows, ops } = length;
    let arrived = AtomicUsize::new(0);
    let meet = |window: usize| {
        arrived.fetch_add(1, Ordering::AcqRel); // pairs with the Acquire below
        let mut spins = 0;
        while arrived.load(Ordering::Acquire) < (window + 1) * threads {
            spins += 1;
            if spins < SPINS { spin_loop() } else { thread::yield_now() }
        }
    };
    let run = |thread: usize| {
        let mut operation = make(thread);
        let mut rng = fastrand::Rng::new();
        let window = |window: usize| {
            meet(window);
            let start = Instant::now();
            let mut seen = 0;
            for _ in 0..ops {
                seen ^= operation(rng.usize(..keys));
            }
            black_box(seen);
            (start, Instant::now())
        };
        (0..windows).map(window).collect::<Vec<_>>()
    };
    let times: Vec<Vec<(Instant, Instant)>> = thread::scope(|scope| {
        let run = &run;
        let spawned: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        spawned.into_iter().map(|thread| thread.join().expect("no operation panics")).collect()
    });
    let window = |window: usize| {
        let of_window = || times.iter().map(|thread| thread[window]);
        let start = of_window().map(|(start, _)| start).min();
        let end = of_window().map(|(_, end)| end).max();
        start.zip(end).map_or(f64::INFINITY, |(start, end)| (end - start).as_nanos() as f64)
    };
    (0..windows).map(window).fold(f64::INFINITY, f64::min) / (threads * ops) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_does_its_operations_in_every_window() {
        let calls = AtomicUsize::new(0);
        let count = |_| |key: usize| (key + calls.fetch_add(1, Ordering::Relaxed)) as u64;
        let time = nanoseconds(Length { threads: 2, windows: 3, ops: 50 }, 10, count);
        assert!(time.is_finite());
        assert_eq!(calls.load(Ordering::Relaxed), 300);
    }
}
