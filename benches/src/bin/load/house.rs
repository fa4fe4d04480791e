//! The thread that owns the cache of a phase: it resizes, clears and compacts beside the workers.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use ::tests::pattern::Random;
use zcache::ResizeError;

use crate::board::{Board, Limit};
use crate::field::Field;
use crate::stage::Stage;

/// Zero and tiny pages for each entry of the mix.
const RUN: u64 = 16;
/// How often a sweep goes to the least capacity and back.
const SWEEPS: u32 = 4;

/// What an owner does now and then.
pub(crate) struct House<'f> {
    field: &'f Field,
    board: &'f Board,
    random: Random,
    room: Vec<u64>,
    /// Entries after the mix.
    entries: Option<u64>,
    changes: u64,
    pub(crate) resizes: u64,
    pub(crate) compactions: u64,
    pub(crate) clears: u64,
    pub(crate) retains: u64,
}

impl<'f> House<'f> {
    pub(crate) fn new(field: &'f Field, board: &'f Board) -> Self {
        let room = vec![1; field.versions.keys()];
        let random = Random::new(field.plan.seed);
        Self {
            field,
            board,
            random,
            room,
            entries: None,
            changes: 0,
            resizes: 0,
            compactions: 0,
            clears: 0,
            retains: 0,
        }
    }

    pub(crate) fn tell(&mut self, bytes: usize) {
        self.changes += 1;
        let told = self.board.tell(Limit { changes: self.changes, bytes });
        told.unwrap_or_else(|error| panic!("the capacity could not be told: {error}"));
    }

    /// Does what the owner does in a stage, until the stage's time is over.
    pub(crate) fn keep(&mut self, stage: Stage, time: Duration) {
        match stage {
            Stage::Mix => self.mix(time),
            Stage::Sweep => self.sweep(time),
            _ => self.wait(stage, time),
        }
    }

    /// Waits. A run of zero or tiny pages has at least [`RUN`] pages for each entry that the cache
    /// had after the mix, however slow the machine is.
    fn wait(&mut self, stage: Stage, time: Duration) {
        let end = Instant::now() + time;
        let entries = *self.entries.get_or_insert_with(|| self.field.cache().len() as u64);
        let least = if stage == Stage::Herd { 0 } else { RUN * entries };
        while Instant::now() < end || self.field.numbers.load(Ordering::Relaxed) < least {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The whole range of capacities, again and again. The last change is from the least to the
    /// greatest.
    fn sweep(&mut self, time: Duration) {
        let most = self.field.plan.capacity;
        let mut now = most;
        for _ in 0..SWEEPS {
            let least = self.least();
            let between = least + self.random.below(most - least);
            for to in [between, least, most] {
                self.resize(now, to);
                now = to;
                thread::sleep(time / (3 * SWEEPS));
            }
        }
        let least = self.least();
        self.resize(now, least);
        thread::sleep(time / (3 * SWEEPS));
        self.resize(least, most);
    }

    fn mix(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let cache = self.field.cache();
        let mut now = self.field.plan.capacity;
        while Instant::now() < end {
            match self.random.below(3000) {
                0..=59 => {
                    let most = self.field.plan.capacity;
                    let to = most - self.random.below(most / 3);
                    self.resize(now, to);
                    now = to;
                }
                60..=399 => {
                    self.compactions += 1;
                    let _ = cache.compact(self.random.below(1 << 18));
                }
                400..=429 => cache.trim(),
                430 => {
                    self.clears += 1;
                    self.field.versions.clear(&mut self.room, || cache.clear());
                }
                431..=434 => {
                    self.retains += 1;
                    let residue = self.random.below(16) as u64;
                    cache.retain(|key| key % 16 != residue);
                }
                435..=534 => {
                    let stats = cache.stats();
                    assert_eq!(
                        (stats.removals.corrupt, stats.rejected.too_large),
                        (0, 0),
                        "{stats}"
                    );
                }
                _ => thread::sleep(Duration::from_millis(1)),
            }
        }
        self.resize(now, self.field.plan.capacity);
    }

    /// The least capacity, which the cache names where it refuses a smaller one.
    fn least(&self) -> usize {
        match self.field.cache().resize(1) {
            Err(ResizeError::TooSmall { least }) => least,
            other => panic!("to 1 byte: {other:?}"),
        }
    }

    /// The larger of both is in force until the call has ended well.
    fn resize(&mut self, from: usize, to: usize) {
        self.tell(from.max(to));
        let start = Instant::now();
        loop {
            match self.field.cache().resize(to) {
                Ok(()) => break,
                // Readers at work hold some; they are done in microseconds, or have no processor
                // just now.
                Err(ResizeError::StillHeld { held }) => {
                    let waited = start.elapsed();
                    assert!(
                        waited < Duration::from_secs(10),
                        "{held} held of {to} after {waited:?}"
                    );
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("from {from} to {to} bytes: {error}"),
            }
        }
        self.resizes += 1;
        self.tell(to);
    }
}
