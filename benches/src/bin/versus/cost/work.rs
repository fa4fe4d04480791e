//! What a thread does in the windows of `cost`.

use std::hint::black_box;

use benches::race::{Turn, Work};
use clap::ValueEnum;

use crate::rivals::{self, Rivals};

/// A part of a window's misses and inserts, before its clock is started.
const WARM: usize = 4;

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    Hit,
    Miss,
    Insert,
}

pub(super) struct Worker<'a> {
    rivals: &'a Rivals<'a>,
    what: What,
    /// Keys that are held.
    keys: u64,
    ops: usize,
    thread: usize,
    to: Vec<u8>,
    /// The next fresh key, for each rival.
    fresh: Vec<u64>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        rivals: &'a Rivals<'a>,
        what: What,
        keys: u64,
        ops: usize,
        thread: usize,
    ) -> Self {
        let (to, fresh) = (vec![0; rivals.stage.page_size], vec![rivals.fresh(); rivals.all.len()]);
        Self { rivals, what, keys, ops, thread, to, fresh }
    }

    /// `count` operations, the same ones for each rival.
    fn work(&mut self, turn: Turn, count: usize, seed: usize) {
        let mut random =
            fastrand::Rng::with_seed((turn.window << 16 | self.thread << 1 | seed) as u64);
        let cache = &*self.rivals.all[turn.subject].cache;
        let stage = self.rivals.stage;
        match self.what {
            What::Hit => {
                for _ in 0..count {
                    assert!(cache.get(random.u64(..self.keys), &mut self.to), "a hit");
                    black_box(self.to[0]);
                }
            }
            What::Miss => {
                for _ in 0..count {
                    assert!(!cache.get(rivals::absent(&mut random), &mut self.to), "a miss");
                }
            }
            What::Insert => {
                let fresh = &mut self.fresh[turn.subject];
                let pages = stage.page_of.len() as u32;
                for _ in 0..count {
                    cache.insert(*fresh, stage.page(random.u32(..pages)));
                    *fresh += 1;
                }
            }
        }
    }
}

impl Work for Worker<'_> {
    fn warm(&mut self, turn: Turn) {
        let keys = usize::try_from(self.keys).unwrap_or(usize::MAX);
        if self.what == What::Hit && keys <= self.ops {
            // All that a window reads.
            let cache = &*self.rivals.all[turn.subject].cache;
            (0..self.keys).for_each(|key| assert!(cache.get(key, &mut self.to), "a hit"));
            return;
        }
        self.work(turn, self.ops.div_ceil(WARM), 1);
    }

    fn run(&mut self, turn: Turn) {
        self.work(turn, self.ops, 0);
    }
}
