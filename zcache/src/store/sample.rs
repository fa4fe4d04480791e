//! The sample of inserted pages that a dictionary is trained on.
//! ```text
//! closed --open--> open: one page in `stride` is copied --full for the last time--> complete
//!                  full before that: every second page is dropped, the stride doubles
//! complete --take--> closed
//! ```
//! So the sample is spread evenly over eight times as many pages as it holds. Its memory was
//! charged and taken when it was opened. An insert reads one word while it is closed or complete,
//! and never waits.

use zpool::source::PageBuffer;

use crate::sync::{AtomicUsize, Counter, Mutex, Ordering};

/// How often the sample is thinned out.
const THINNED: u32 = 3;
/// A page of the sample has so many bytes at the least on average, or it counts as full.
const SHORTEST: usize = 256;
/// One page in so many is held out.
const HELD_OUT: usize = 4;

const CLOSED: usize = 0;
const OPEN: usize = 1;
const COMPLETE: usize = 2;

#[derive(Debug)]
pub(crate) struct Sampler {
    phase: AtomicUsize,
    /// Pages offered since it was opened, and the distance between those that are taken.
    offered: Counter,
    stride: Counter,
    sample: Mutex<Sample>,
}

/// Pages back to back.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    /// Not of the heap, which would keep what was so large.
    bytes: PageBuffer,
    /// How many of them may have pages.
    room: usize,
    /// Where each ends.
    ends: Vec<u32>,
    thinned: u32,
    /// What is charged for it.
    charged: usize,
    /// Pages that it was taken from.
    pub(crate) offered: u64,
}

impl Sample {
    /// Room for `bytes` bytes of pages. `None`: there is no memory.
    pub(crate) fn new(bytes: usize) -> Option<Self> {
        let mut ends = Vec::new();
        ends.try_reserve_exact(bytes / SHORTEST).ok()?;
        let (pages, charged) = (PageBuffer::new(bytes).ok()?, Self::cost(bytes));
        Some(Self { bytes: pages, room: bytes, ends, charged, ..Self::default() })
    }

    /// What such a one costs.
    pub(crate) fn cost(bytes: usize) -> usize {
        PageBuffer::cost(bytes) + zpool::source::heap_cost(bytes / SHORTEST * size_of::<u32>())
    }

    /// Where the last page ends.
    fn end(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    /// Whether there was room.
    fn add(&mut self, page: &[u8]) -> bool {
        let start = self.end();
        let end = start + page.len();
        let fits = end <= self.room && self.ends.len() < self.ends.capacity();
        if fits {
            self.bytes[start..end].copy_from_slice(page);
            self.ends.push(end as u32);
        }
        fits
    }

    /// Every second page goes.
    fn thin(&mut self) {
        let (mut to, mut kept) = (0, 0);
        for at in (0..self.ends.len()).step_by(2) {
            let range = self.range(at);
            let len = range.len();
            self.bytes.copy_within(range, to);
            to += len;
            self.ends[kept] = to as u32;
            kept += 1;
        }
        self.ends.truncate(kept);
        self.thinned += 1;
    }

    fn range(&self, at: usize) -> std::ops::Range<usize> {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        start as usize..self.ends[at] as usize
    }

    pub(crate) fn charged(&self) -> usize {
        self.charged
    }

    /// The pages to train on, and those that are held out.
    pub(crate) fn parts(&self) -> (Vec<&[u8]>, Vec<&[u8]>) {
        let page = |at: usize| &self.bytes[self.range(at)];
        let (held_out, rest): (Vec<_>, Vec<_>) =
            (0..self.ends.len()).partition(|at| at % HELD_OUT == HELD_OUT - 1);
        (rest.into_iter().map(page).collect(), held_out.into_iter().map(page).collect())
    }
}

impl Sampler {
    pub(crate) fn new() -> Self {
        Self {
            phase: AtomicUsize::new(CLOSED),
            offered: Counter::new(0),
            stride: Counter::new(1),
            sample: Mutex::new(Sample::default()),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == CLOSED
    }

    /// Whether pages are wanted.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        // Relaxed: what is in the sample is under its lock.
        self.phase.load(Ordering::Relaxed) == OPEN
    }

    /// Pages offered since it was opened.
    pub(crate) fn offered(&self) -> u64 {
        self.offered.load(Ordering::Relaxed)
    }

    /// Starts with an empty sample.
    pub(crate) fn open(&self, sample: Sample) {
        let mut place = self.sample.lock();
        self.offered.store(0, Ordering::Relaxed);
        self.stride.store(1, Ordering::Relaxed);
        *place = sample;
        self.phase.store(OPEN, Ordering::Relaxed);
    }

    /// A page that was inserted. Nobody waits for it to be copied.
    #[cold]
    pub(crate) fn offer(&self, page: &[u8]) {
        let number = self.offered.fetch_add(1, Ordering::Relaxed);
        if number % self.stride.load(Ordering::Relaxed) != 0 {
            return;
        }
        let Some(mut sample) = self.sample.try_lock() else { return };
        // One page is no sample, however large it is.
        if !self.is_open() || page.len() > sample.room / 4 || sample.add(page) {
            return;
        }
        if sample.thinned < THINNED {
            sample.thin();
            let stride = 1 << sample.thinned;
            self.stride.store(stride, Ordering::Relaxed);
            if number % stride == 0 {
                sample.add(page);
            }
        } else {
            sample.offered = number;
            self.phase.store(COMPLETE, Ordering::Relaxed);
        }
    }

    /// The sample, if it is complete; what is charged for it becomes the caller's.
    pub(crate) fn take(&self) -> Option<Sample> {
        self.take_at(COMPLETE)
    }

    /// The sample, complete or not.
    pub(crate) fn give_up(&self) -> Option<Sample> {
        self.take_at(OPEN).or_else(|| self.take())
    }

    fn take_at(&self, phase: usize) -> Option<Sample> {
        if self.phase.load(Ordering::Relaxed) != phase {
            return None;
        }
        let mut sample = self.sample.lock();
        if self.phase.load(Ordering::Relaxed) != phase {
            return None;
        }
        self.phase.store(CLOSED, Ordering::Relaxed);
        Some(std::mem::take(&mut *sample))
    }

    /// Bytes charged for the sample.
    pub(crate) fn bytes(&self) -> usize {
        self.sample.lock().charged
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_evenly_over_eight_times_as_many_pages_as_it_holds() {
        let sampler = Sampler::new();
        assert!(sampler.take().is_none() && sampler.is_closed());
        sampler.open(Sample::new(64 << 10).unwrap());
        let mut offered = 0_u32;
        while sampler.is_open() {
            sampler.offer(&[&offered.to_le_bytes()[..], &[7; 996]].concat());
            offered += 1;
        }
        let sample = sampler.take().expect("it is complete");
        assert_eq!((sample.offered, sampler.bytes()), (u64::from(offered) - 1, 0));
        let (train, held_out) = sample.parts();
        let number = |page: &&[u8]| u32::from_le_bytes(page[..4].try_into().unwrap());
        let mut numbers: Vec<u32> = train.iter().chain(&held_out).map(number).collect();
        numbers.sort_unstable();
        assert!(
            (60..=66).contains(&numbers.len()) && held_out.len() >= 15,
            "{} pages",
            numbers.len()
        );
        assert!(
            numbers.windows(2).all(|pair| pair[1] - pair[0] == 8 && pair[0] % 8 == 0),
            "{numbers:?}"
        );
        assert!(train.iter().chain(&held_out).all(|page| page.len() == 1000 && page[999] == 7));
        assert!(sampler.give_up().is_none() && sampler.is_closed());
    }

    #[test]
    fn pages_that_are_too_long_or_too_many_do_not_harm() {
        let sampler = Sampler::new();
        sampler.open(Sample::new(8192).unwrap());
        sampler.offer(&[1; 2000]);
        (0..10_000).for_each(|_| sampler.offer(&[]));
        assert!(sampler.take().is_some_and(|sample| sample.parts().0.len() <= 32));
        sampler.open(Sample::new(8192).unwrap());
        assert_eq!(sampler.bytes(), Sample::cost(8192));
        assert!(sampler.give_up().is_some() && sampler.bytes() == 0);
    }
}
