//! Windows of work by one thread or by several at once, each timed alone, of one subject or of
//! several in turns.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use hdrhistogram::Histogram;

/// The longest time that is told from longer ones, in nanoseconds.
const LONGEST: u64 = 100_000_000_000;
/// Spins for some milliseconds, so that threads start a window together, then yields: the other may
/// want this processor. Threads beyond the cores yield at once.
const SPINS: usize = 100_000;

/// How long a race is.
#[derive(Debug, Clone, Copy)]
pub struct Length {
    /// Threads that run at once.
    pub threads: usize,
    /// Windows, each timed alone; the best counts. Windows of a millisecond or less often pass
    /// without the scheduler taking a thread's processor away, even on a machine that is shared.
    pub windows: usize,
    /// Operations of a thread in a window.
    pub ops: usize,
}

/// Which window a thread is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Whose turn it is: a number below the subjects'.
    pub subject: usize,
    /// The window, counted for each subject alone.
    pub window: usize,
}

/// What a thread does in windows.
pub trait Work {
    /// Goes before the window's clock is started: brings back to the processor's caches what the
    /// other subjects' windows took out of them.
    fn warm(&mut self, _turn: Turn) {}

    /// The window.
    fn run(&mut self, turn: Turn);
}

/// One thread's window.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// When the thread started.
    pub start: Instant,
    /// When it ended.
    pub end: Instant,
    /// Nanoseconds that the thread had a processor in between.
    pub cpu: u64,
}

/// An empty histogram of nanoseconds, to a part in a hundred.
///
/// # Panics
/// Never: the bounds fit.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 2).expect("bounds that fit")
}

/// Nanoseconds for which this thread has had a processor. Elsewhere than on Linux, nanoseconds of
/// the clock from some instant on.
#[must_use]
pub fn thread_nanoseconds() -> u64 {
    #[cfg(target_os = "linux")]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes to `time`, which is one `timespec`.
        let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        assert_eq!(status, 0, "a thread has a clock");
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
    #[cfg(not(target_os = "linux"))]
    {
        static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }
}

/// Runs `windows` windows of each of `subjects`, window by window in turns, with all threads in one
/// subject's window at a time. Each round starts with another subject, so that no subject always
/// follows the same one. Returns what each thread made, with its times by subject and window.
pub fn in_turns<W: Work + Send>(
    threads: usize,
    subjects: usize,
    windows: usize,
    make: impl Fn(usize) -> W + Sync,
) -> Vec<(W, Vec<Vec<Time>>)> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let patience = if threads > cores { 0 } else { SPINS };
    let arrived = AtomicUsize::new(0);
    let meet = |meetings: &mut usize| {
        *meetings += 1;
        arrived.fetch_add(1, Ordering::AcqRel); // pairs with the Acquire below
        let mut spins = 0;
        while arrived.load(Ordering::Acquire) < *meetings * threads {
            spins += 1;
            if spins < patience { spin_loop() } else { thread::yield_now() }
        }
    };
    let run = |thread: usize| {
        let (mut work, mut meetings) = (make(thread), 0);
        let mut times = vec![Vec::with_capacity(windows); subjects];
        for window in 0..windows {
            for turn in 0..subjects {
                let turn = Turn { subject: (window + turn) % subjects, window };
                meet(&mut meetings);
                work.warm(turn);
                meet(&mut meetings);
                let (cpu, start) = (thread_nanoseconds(), Instant::now());
                work.run(turn);
                let (end, cpu_end) = (Instant::now(), thread_nanoseconds());
                times[turn.subject].push(Time { start, end, cpu: cpu_end - cpu });
            }
        }
        (work, times)
    };
    thread::scope(|scope| {
        let run = &run;
        let spawned: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        spawned.into_iter().map(|thread| thread.join().expect("no operation panics")).collect()
    })
}

/// An operation on random keys.
struct Random<F> {
    operation: F,
    keys: usize,
    ops: usize,
    rng: fastrand::Rng,
}

impl<F: FnMut(usize) -> u64> Work for Random<F> {
    fn run(&mut self, _turn: Turn) {
        let mut seen = 0;
        for _ in 0..self.ops {
            seen ^= (self.operation)(self.rng.usize(..self.keys));
        }
        black_box(seen);
    }
}

/// Nanoseconds an operation takes: in the best window, the time from the first start to the last
/// end, divided by the operations of all threads. `make` makes each thread, by number, its
/// operation, which is called with random keys below `keys` and whose results are looked at.
pub fn nanoseconds<F>(length: Length, keys: usize, make: impl Fn(usize) -> F + Sync) -> f64
where
    F: FnMut(usize) -> u64 + Send,
{
    let Length { threads, windows, ops } = length;
    let work = |thread| Random { operation: make(thread), keys, ops, rng: fastrand::Rng::new() };
    let ended = in_turns(threads, 1, windows, work);
    let window = |window: usize| {
        let of_window = || ended.iter().map(|(_, times)| times[0][window]);
        let start = of_window().map(|time| time.start).min();
        let end = of_window().map(|time| time.end).max();
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

    const SPUN: u64 = 2_000_000;

    /// Keeps its turns. The first subject computes for some milliseconds, the second sleeps.
    struct Two(Vec<Turn>);

    impl Work for Two {
        fn run(&mut self, turn: Turn) {
            self.0.push(turn);
            let start = thread_nanoseconds();
            while turn.subject == 0 && thread_nanoseconds() - start < SPUN {
                spin_loop();
            }
            if turn.subject == 1 {
                thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }

    #[test]
    fn subjects_take_turns_and_a_sleep_is_no_work() {
        let ended = in_turns(2, 2, 3, |_| Two(Vec::new()));
        let turns: Vec<_> = [(0, 0), (1, 0), (1, 1), (0, 1), (0, 2), (1, 2)]
            .map(|(subject, window)| Turn { subject, window })
            .to_vec();
        for (work, times) in ended {
            assert_eq!(work.0, turns);
            assert_eq!(times.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
            for time in &times[1] {
                let took = (time.end - time.start).as_millis();
                // Elsewhere there is no such clock.
                assert!(took >= 20 && (time.cpu < 10_000_000 || !cfg!(target_os = "linux")));
            }
            assert!(times[0].iter().all(|time| time.cpu >= SPUN));
        }
    }
}
