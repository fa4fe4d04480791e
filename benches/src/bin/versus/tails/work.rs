//! What a thread does in the windows of `tails`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::race::{self, Turn, Work, thread_nanoseconds};
use hdrhistogram::Histogram;

use crate::rivals::{self, Rivals};

/// This part of a window's time goes before it.
const WARM: u32 = 8;

/// Times by one clock.
pub(super) struct Times {
    all: Histogram<u64>,
    /// Of the window that a thread is in.
    window: Histogram<u64>,
    /// The p99 of each thread's windows.
    p99s: Vec<u64>,
}

impl Times {
    fn new() -> Self {
        let [all, window] = [(); 2].map(|()| race::histogram());
        Self { all, window, p99s: Vec::new() }
    }

    fn end_window(&mut self) {
        if !self.window.is_empty() {
            self.p99s.push(self.window.value_at_quantile(0.99));
        }
        self.all += &self.window;
        self.window.reset();
    }

    fn add(&mut self, other: &Self) {
        self.all += &other.all;
        self.p99s.extend(&other.p99s);
    }

    pub(super) fn count(&self) -> u64 {
        self.all.len()
    }

    /// The figures of [`FIGURES`].
    pub(super) fn figures(&self) -> [u64; FIGURES.len()] {
        let [p50, p99, p999, max] =
            [0.5, 0.99, 0.999, 1.0].map(|share| self.all.value_at_quantile(share));
        let mut p99s = self.p99s.clone();
        p99s.sort_unstable();
        [p50, p99, p999, max, p99s.get(p99s.len() / 2).copied().unwrap_or(0)]
    }
}

/// Names of what is told of times: quantiles over all, and the median over windows of their p99,
/// which some bad windows do not change.
pub(super) const FIGURES: [&str; 5] = ["p50", "p99", "p999", "max", "window_p99"];

/// One rival's times of one kind of operation: by the clock, and in CPU time.
pub(super) type Both = [Times; 2];

/// One rival's times, of hits and of inserts.
pub(super) struct Seen(pub(super) [Both; 2]);

impl Seen {
    pub(super) fn new() -> Self {
        Self([(); 2].map(|()| [(); 2].map(|()| Times::new())))
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Times> {
        self.0.as_flattened_mut().iter_mut()
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.all().zip(other.0.as_flattened()).for_each(|(all, times)| all.add(times));
    }
}

/// What two looks at both clocks take of the time between them: by the clock, and in CPU time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks([u64; 2]);

impl Looks {
    /// The medians.
    pub(super) fn new() -> Self {
        let none = Self([0; 2]);
        let mut looks: Vec<[u64; 2]> = (0..1001).map(|_| none.timed(|| ()).1).collect();
        Self([0, 1].map(|clock| {
            let (_, median, _) = looks.select_nth_unstable_by_key(500, |look| look[clock]);
            median[clock]
        }))
    }

    /// What `operation` returns and takes.
    fn timed<R>(self, operation: impl FnOnce() -> R) -> (R, [u64; 2]) {
        let (cpu, start) = (thread_nanoseconds(), Instant::now());
        let returned = operation();
        let clock = start.elapsed().as_nanos() as u64;
        let cpu = thread_nanoseconds() - cpu;
        let Self(looks) = self;
        (returned, [clock.saturating_sub(looks[0]), cpu.saturating_sub(looks[1])])
    }
}

pub(super) struct Worker<'a> {
    rivals: &'a Rivals<'a>,
    requests: &'a [u64],
    /// How long a window is.
    window: Duration,
    looks: Looks,
    thread: usize,
    to: Vec<u8>,
    /// Each rival's.
    pub(super) seen: Vec<Seen>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        rivals: &'a Rivals<'a>,
        requests: &'a [u64],
        window: Duration,
        looks: Looks,
        thread: usize,
    ) -> Self {
        let to = vec![0; rivals.stage.page_size];
        let seen = rivals.all.iter().map(|_| Seen::new()).collect();
        Self { rivals, requests, window, looks, thread, to, seen }
    }

    /// Works for `time`, from the same request on for every rival.
    fn work(&mut self, turn: Turn, time: Duration, counts: bool) {
        let seed = turn.window << 8 | self.thread << 1 | usize::from(counts);
        let from = fastrand::Rng::with_seed(seed as u64).usize(..self.requests.len());
        let (before, after) = self.requests.split_at(from);
        let cache = &*self.rivals.all[turn.subject].cache;
        let seen = &mut self.seen[turn.subject];
        let end = Instant::now() + time;
        for key in after.iter().chain(before).cycle() {
            let (hit, took) = self.looks.timed(|| cache.get(*key, &mut self.to));
            black_box(self.to[0]);
            let took = if hit {
                took
            } else {
                let page = rivals::page(self.rivals.stage, *key);
                self.looks.timed(|| cache.insert(*key, page)).1
            };
            if counts {
                let both = seen.0[usize::from(!hit)].iter_mut().zip(took);
                both.for_each(|(times, took)| times.window.saturating_record(took));
            }
            if Instant::now() >= end {
                break;
            }
        }
        seen.all().for_each(Times::end_window);
    }
}

impl Work for Worker<'_> {
    fn warm(&mut self, turn: Turn) {
        self.work(turn, self.window / WARM, false);
    }

    fn run(&mut self, turn: Turn) {
        self.work(turn, self.window, true);
    }
}
