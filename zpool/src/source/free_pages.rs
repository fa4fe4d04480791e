//! Which pages of a source are free, and what that costs: shared by [`Mmap`](super::Mmap) and
//! [`File`](super::File).
//! ```text
//! 0 ........................... frontier ............................ limit
//! | in use | kept | clean |     | nothing known, nothing committed      |
//! ```
//! A page below the frontier is in use, *kept* (free, charged, holds memory) or *clean* (free, not
//! charged, holds none). Memory comes and goes in *grains*: as many pages as the operating system
//! hands out at once, one in most cases. Invariants:
//! 1. all pages of a grain are clean, or none is;
//! 2. the ledger carries `in_use + kept` pages;
//! 3. a page is charged before it may be touched, and released after its memory is gone.

use std::io;
use std::ops::Range;

use super::SourceError;
use super::bits::Bits;
use crate::ledger::{Ledger, Refused};

/// Where the memory of pages comes from. A failed call has changed nothing.
pub(super) trait Backing {
    /// Makes all pages below `end` usable.
    fn commit(&self, end: usize) -> io::Result<()>;

    /// Gives the memory of `pages`, whole grains, back; they stay usable.
    fn discard(&self, pages: Range<usize>) -> io::Result<()>;
}

/// Free runs looked at on each side before a search for a long one settles for less.
const TRIES: usize = 16;
/// Kept pages are not worth a call below this many.
const KEPT: usize = 64;
/// What may be kept beyond [`KEPT`]: in use / this.
const KEPT_SHARE: usize = 256;
/// Pages discarded beyond what passes the bound: few enough that nobody's call takes long, enough
/// that most calls discard nothing.
const BATCH: usize = 32;
/// The frontier moves for the sake of a run while no more than frontier / this is free behind it.
const SPARSE: usize = 4;
/// The frontier moves by about this many bytes.
const STEP_BYTES: usize = 1 << 20;

/// Whether a source may have pages of this many bytes.
pub(super) fn page_size_fits(bytes: usize) -> bool {
    bytes.is_power_of_two() && (4 << 10..=64 << 10).contains(&bytes)
}

#[derive(Debug)]
pub(super) struct FreePages {
    limit: usize,
    grain: usize,
    /// Pages the frontier moves by: whole grains.
    step: usize,
    frontier: usize,
    in_use: usize,
    /// Pages.
    kept: Bits,
    /// Grains.
    clean: Bits,
    /// Pages the two sets have room for.
    covered: usize,
    /// Where the frontier moved last: what is free behind it makes long runs.
    roomy: usize,
    /// Nothing is discarded while fewer are kept: the last attempt fell short.
    discard_at: usize,
    /// Where the last batch ended, and the next one starts.
    sweep: usize,
}

/// Where the next page comes from.
#[derive(Clone, Copy)]
enum Choice {
    Kept(usize),
    Clean(usize),
    Frontier,
}

impl FreePages {
    /// All of `limit` pages of `page_size` bytes, of which the system hands out `grain_bytes` at
    /// once.
    pub(super) fn new(limit: usize, page_size: usize, grain_bytes: usize) -> Self {
        let grain = (grain_bytes / page_size).max(1);
        Self {
            limit,
            grain,
            step: (STEP_BYTES / page_size).next_multiple_of(grain),
            frontier: 0,
            in_use: 0,
            kept: Bits::default(),
            clean: Bits::default(),
            covered: 0,
            roomy: 0,
            discard_at: 0,
            sweep: 0,
        }
    }

    /// Lowers the limit, though not under the frontier; returns it.
    pub(super) fn limit_to(&mut self, pages: usize) -> usize {
        self.limit = self.limit.min(pages.max(self.frontier));
        self.limit
    }

    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing was ever handed out, and so nothing is held.
    pub(super) fn is_fresh(&self) -> bool {
        self.frontier == 0 && self.covered == 0
    }

    /// See [`PageSource::take`](super::PageSource::take).
    pub(super) fn take(
        &mut self,
        after: Option<u32>,
        more: usize,
        ledger: &Ledger,
        backing: &impl Backing,
    ) -> Result<u32, SourceError> {
        let choice = self.choose(after, more).ok_or(SourceError::Full)?;
        let page = self
            .open(choice, ledger, backing)
            .or_else(|error| self.second_best(choice, ledger, backing).ok_or(error))?;
        self.kept.remove(page);
        self.in_use += 1;
        self.discard_at = self.discard_at.min(self.kept.len() + BATCH);
        Ok(page as u32)
    }

    /// See [`PageSource::give`](super::PageSource::give).
    pub(super) fn give(&mut self, pages: &[u32], ledger: &Ledger, backing: &impl Backing) {
        for &page in pages {
            let page = page as usize;
            assert!(page < self.frontier && !self.is_free(page), "page {page} is not handed out");
            self.kept.insert(page);
            self.in_use -= 1;
        }
        let bound = KEPT.max(self.in_use / KEPT_SHARE);
        if self.kept.len() > bound && self.kept.len() >= self.discard_at {
            self.discard(self.kept.len() - bound + BATCH, ledger, backing);
            if self.kept.len() > bound {
                self.discard_at = self.kept.len() + BATCH;
            }
        }
    }

    /// Discards kept pages, as far as they make whole grains: neighbours in one call, until `count`
    /// are gone or all were looked at.
    pub(super) fn discard(&mut self, count: usize, ledger: &Ledger, backing: &impl Backing) {
        let start = self.sweep;
        let mut left = count.min(self.frontier);
        for (from, to) in [(start, self.frontier), (0, start)] {
            let mut at = from;
            while let Some(page) = self.kept.next(at).filter(|page| *page < to && left > 0) {
                let first = page - page % self.grain;
                let mut end = first + self.kept.run(first, self.frontier - first);
                if end != self.limit {
                    end -= end % self.grain; // only the last grain of all may be a short one
                }
                end = end.min((first + left).next_multiple_of(self.grain));
                if end <= first {
                    at = first + self.grain;
                    continue;
                }
                if backing.discard(first..end).is_err() {
                    return; // they stay kept; the next batch tries again
                }
                (first..end).for_each(|page| self.kept.remove(page));
                let grains = (first..end).step_by(self.grain);
                grains.for_each(|page| self.clean.insert(page / self.grain));
                ledger.release_pages(end - first);
                left = left.saturating_sub(end - first);
                (at, self.sweep) = (end, end);
            }
        }
    }

    fn is_free(&self, page: usize) -> bool {
        self.kept.contains(page) || self.clean.contains(page / self.grain)
    }

    fn at(&self, page: usize) -> Choice {
        if self.kept.contains(page) { Choice::Kept(page) } else { Choice::Clean(page) }
    }

    fn next_clean(&self, from: usize) -> Option<usize> {
        self.clean.next(from.div_ceil(self.grain)).map(|grain| grain * self.grain)
    }

    /// How many pages from `first` on are free without a gap, `most` at most. What lies beyond the
    /// frontier counts when the run reaches it.
    fn run(&self, first: usize, most: usize) -> usize {
        let end = self.limit.min(first.saturating_add(most));
        let mut at = first;
        while at < end {
            if at >= self.frontier {
                return end - first;
            }
            let kept = self.kept.run(at, end - at);
            let clean = match (at + kept) % self.grain {
                0 => {
                    let grains = (end - at - kept).div_ceil(self.grain);
                    self.clean.run((at + kept) / self.grain, grains) * self.grain
                }
                _ => 0,
            };
            if kept + clean == 0 {
                break;
            }
            at += kept + clean;
        }
        at.min(end) - first
    }

    /// `None`: no page is free. See [`PageSource::take`](super::PageSource::take) for the order.
    fn choose(&self, after: Option<u32>, more: usize) -> Option<Choice> {
        if let Some(next) = after.map(|page| page as usize + 1) {
            if next == self.frontier && next < self.limit {
                return Some(Choice::Frontier);
            }
            if self.is_free(next) {
                return Some(self.at(next));
            }
        }
        let want = more.saturating_add(1);
        let mut longest = (0, 0); // length, first page
        let kept = |from| self.kept.next(from);
        let clean = |from| self.next_clean(from);
        let search = self
            .fitting(kept, 0, TRIES, want, &mut longest)
            .or_else(|| self.fitting(clean, 0, TRIES, want, &mut longest))
            .or_else(|| self.fitting(clean, self.roomy, 1, want, &mut longest));
        if let Some(page) = search {
            return Some(self.at(page));
        }
        let more_room = self.frontier < self.limit;
        let dense = (self.frontier - self.in_use) * SPARSE <= self.frontier;
        match longest {
            (0, _) if more_room => Some(Choice::Frontier),
            (0, _) => None,
            _ if more_room && dense => Some(Choice::Frontier),
            (_, page) => Some(self.at(page)),
        }
    }

    /// The first of up to `tries` runs, started where `next` says, that is `want` pages long.
    fn fitting(
        &self,
        next: impl Fn(usize) -> Option<usize>,
        from: usize,
        tries: usize,
        want: usize,
        longest: &mut (usize, usize),
    ) -> Option<usize> {
        let mut at = from;
        for _ in 0..tries {
            let first = next(at)?;
            let length = self.run(first, want);
            if length >= want {
                return Some(first);
            }
            if length > longest.0 {
                *longest = (length, first);
            }
            at = first + length;
        }
        None
    }

    /// Makes the chosen page a kept one.
    fn open(
        &mut self,
        choice: Choice,
        ledger: &Ledger,
        backing: &impl Backing,
    ) -> Result<usize, SourceError> {
        match choice {
            Choice::Kept(page) => Ok(page),
            Choice::Clean(page) => {
                let grain = self.charge(page, ledger)?;
                self.clean.remove(page / self.grain);
                grain.for_each(|page| self.kept.insert(page));
                Ok(page)
            }
            Choice::Frontier => self.advance(ledger, backing),
        }
    }

    /// What serves when `choice` was refused or failed.
    fn second_best(
        &mut self,
        choice: Choice,
        ledger: &Ledger,
        backing: &impl Backing,
    ) -> Option<usize> {
        if let Some(page) = self.kept.next(0) {
            return Some(page);
        }
        let page = self.next_clean(0).filter(|_| matches!(choice, Choice::Frontier))?;
        self.open(Choice::Clean(page), ledger, backing).ok()
    }

    /// Charges the grain of `page`, whole or not at all.
    fn charge(&self, page: usize, ledger: &Ledger) -> Result<Range<usize>, SourceError> {
        let first = page - page % self.grain;
        let grain = first..self.limit.min(first + self.grain);
        match ledger.reserve_all(grain.len()) {
            Ok(()) => Ok(grain),
            Err(Refused) => Err(SourceError::Refused),
        }
    }

    /// Moves the frontier; the grain that it stood at becomes kept, the others clean.
    fn advance(&mut self, ledger: &Ledger, backing: &impl Backing) -> Result<usize, SourceError> {
        let first = self.frontier;
        let grain = self.charge(first, ledger)?;
        let mut end = self.limit.min(first + self.step);
        // A commit that is not followed up does no harm: the next attempt repeats it.
        let ready = backing.commit(end).or_else(|_| {
            end = grain.end; // near a limit of the system's there may be room for no more
            backing.commit(end)
        });
        let ready = ready.map_err(SourceError::System);
        if let Err(error) = ready.and_then(|()| self.cover(end, ledger)) {
            ledger.release_pages(grain.len());
            return Err(error);
        }
        let rest = (grain.end..end).step_by(self.grain);
        rest.for_each(|page| self.clean.insert(page / self.grain));
        grain.for_each(|page| self.kept.insert(page));
        (self.frontier, self.roomy) = (end, first);
        Ok(first)
    }

    /// Gives the sets room for pages below `end`: twice that for the time to come, or, where the
    /// ledger does not allow it, just that.
    fn cover(&mut self, end: usize, ledger: &Ledger) -> Result<(), SourceError> {
        if end <= self.covered {
            return Ok(());
        }
        let bytes = |pages: usize| Bits::bytes(pages) + Bits::bytes(pages.div_ceil(self.grain));
        let twice = self.limit.min(end * 2);
        let fits = |pages: &usize| ledger.reserve_own(bytes(*pages)) == Ok(());
        let pages = [twice, end].into_iter().find(fits).ok_or(Refused);
        let pages = pages.map_err(|Refused| SourceError::Refused)?;
        let wide = self.kept.widened(pages).zip(self.clean.widened(pages.div_ceil(self.grain)));
        let Some((kept, clean)) = wide else {
            ledger.release_own(bytes(pages));
            return Err(SourceError::System(io::ErrorKind::OutOfMemory.into()));
        };
        let before = if self.covered == 0 { 0 } else { bytes(self.covered) };
        (self.kept, self.clean, self.covered) = (kept, clean, pages);
        ledger.release_own(before);
        Ok(())
    }
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
pub(super) mod tests {
    use super::*;
    use crate::source::PageSource;
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;

    /// Random takes and gives, held against a set; the ledger agrees after each.
    pub(in crate::source) fn churn(source: &dyn PageSource, ledger: &Ledger, steps: usize) {
        let mut state = 7_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        let mut taken = BTreeSet::new();
        let mut last = None;
        for step in 0..steps {
            let filling = step / 500 % 3 != 2;
            if random(10) < if filling { 7 } else { 3 } {
                let after = last.filter(|_| random(3) != 0);
                match source.take(after, random(9), ledger) {
                    Ok(page) => {
                        assert!(page < source.capacity());
                        assert!(taken.insert(page), "page {page} is handed out twice");
                        last = Some(page);
                    }
                    Err(error) => {
                        assert!(matches!(error, SourceError::Refused), "{error:?}");
                        assert_eq!(source.kept(), 0, "kept pages go before anything is refused");
                    }
                }
            } else if !taken.is_empty() {
                let some = random(6) + 1;
                let from = random(*taken.last().unwrap() as usize + 1) as u32;
                let pages: Vec<u32> = taken.range(from..).take(some).copied().collect();
                source.give(&pages, ledger);
                pages.iter().for_each(|page| assert!(taken.remove(page)));
            }
            if random(400) == 0 {
                source.trim(ledger);
            }
            assert_eq!(ledger.pages(), taken.len() + source.kept());
        }
        source.give(&taken.into_iter().collect::<Vec<_>>(), ledger);
        assert_eq!(ledger.pages(), source.kept());
    }

    /// Counts down to its failures, and knows which pages hold memory.
    #[derive(Debug, Default)]
    struct Faulty {
        calls_left: Cell<Option<usize>>,
        discarded: RefCell<Vec<(usize, usize)>>,
    }

    impl Faulty {
        fn call(&self) -> io::Result<()> {
            match self.calls_left.get() {
                Some(0) => Err(io::ErrorKind::OutOfMemory.into()),
                left => {
                    self.calls_left.set(left.map(|left| left - 1));
                    Ok(())
                }
            }
        }
    }

    impl Backing for Faulty {
        fn commit(&self, _end: usize) -> io::Result<()> {
            self.call()
        }

        fn discard(&self, pages: Range<usize>) -> io::Result<()> {
            self.call()?;
            self.discarded.borrow_mut().push((pages.start, pages.end));
            Ok(())
        }
    }

    fn uncapped() -> Ledger {
        Ledger::new(4096, usize::MAX, usize::MAX)
    }

    impl FreePages {
        fn check(&self, ledger: &Ledger) {
            let clean: usize = (0..self.frontier)
                .filter(|page| self.clean.contains(page / self.grain))
                .inspect(|page| assert!(!self.kept.contains(*page)))
                .count();
            assert_eq!(self.frontier, self.in_use + self.kept.len() + clean);
            assert_eq!(ledger.pages(), self.in_use + self.kept.len());
        }
    }

    #[test]
    fn any_failing_call_leaves_everything_as_it_was() {
        for grain in [4096, 4 * 4096] {
            for fail_at in 0..12 {
                let (ledger, backing) = (uncapped(), Faulty::default());
                let mut free = FreePages::new(1000, 4096, grain);
                backing.calls_left.set(Some(fail_at));
                let mut taken = Vec::new();
                let mut failures = 0;
                while taken.len() < 1000 && failures < 3 {
                    let before = (ledger.held(), ledger.pages(), free.frontier);
                    match free.take(taken.last().copied(), 3, &ledger, &backing) {
                        Ok(page) => taken.push(page),
                        Err(error) => {
                            assert!(matches!(error, SourceError::System(_)));
                            assert_eq!(before, (ledger.held(), ledger.pages(), free.frontier));
                            failures += 1;
                        }
                    }
                }
                free.check(&ledger);
                for pages in taken.chunks(7) {
                    free.give(pages, &ledger, &backing);
                    free.check(&ledger);
                }
                backing.calls_left.set(None);
                free.discard(usize::MAX, &ledger, &backing);
                free.check(&ledger);
                assert_eq!(ledger.pages(), 0);
            }
        }
    }

    #[test]
    fn refused_bookkeeping_leaves_everything_as_it_was() {
        for room in 0..400 {
            let ledger = Ledger::new(4096, usize::MAX, 4096 + room);
            let mut free = FreePages::new(1 << 20, 4096, 4096);
            let taken = free.take(None, 0, &ledger, &Faulty::default());
            match taken {
                Ok(page) => assert_eq!((page, ledger.pages()), (0, 1)),
                Err(_) => assert_eq!((ledger.held(), free.frontier), (0, 0)),
            }
            assert_eq!(taken.is_ok(), room >= Bits::bytes(256) * 2);
        }
    }

    #[test]
    fn grains_are_charged_and_discarded_whole() {
        let (ledger, backing) = (Ledger::new(4096, 10, usize::MAX), Faulty::default());
        let mut free = FreePages::new(1000, 4096, 4 * 4096);
        let pages: Vec<u32> =
            (0..8).map(|_| free.take(None, 0, &ledger, &backing).unwrap()).collect();
        assert_eq!((pages, ledger.pages()), ((0..8).collect(), 8));
        // Two pages of room are not a grain.
        assert!(matches!(free.take(None, 0, &ledger, &backing), Err(SourceError::Refused)));
        free.give(&[1, 2, 3, 4, 5, 6, 7], &ledger, &backing);
        free.discard(usize::MAX, &ledger, &backing);
        free.check(&ledger);
        assert_eq!((&*backing.discarded.borrow(), ledger.pages()), (&vec![(4, 8)], 4));
        assert_eq!(free.take(None, 0, &ledger, &backing).unwrap(), 1);
    }

    #[test]
    fn the_last_grain_may_be_short() {
        let (ledger, backing) = (uncapped(), Faulty::default());
        let mut free = FreePages::new(6, 4096, 4 * 4096);
        let pages: Vec<u32> =
            (0..6).map(|_| free.take(None, 0, &ledger, &backing).unwrap()).collect();
        assert_eq!(ledger.pages(), 6);
        assert!(matches!(free.take(None, 0, &ledger, &backing), Err(SourceError::Full)));
        free.give(&pages, &ledger, &backing);
        free.discard(usize::MAX, &ledger, &backing);
        assert_eq!((&*backing.discarded.borrow(), ledger.pages()), (&vec![(0, 6)], 0));
    }

    #[test]
    fn neighbours_go_in_one_call() {
        let (ledger, backing) = (uncapped(), Faulty::default());
        let mut free = FreePages::new(10_000, 4096, 4096);
        let pages: Vec<u32> =
            (0..4000).map(|_| free.take(None, 0, &ledger, &backing).unwrap()).collect();
        free.give(&pages, &ledger, &backing);
        assert_eq!((&*backing.discarded.borrow(), free.kept()), (&vec![(0, 3968)], 32));
    }

    #[test]
    fn wishes_are_granted_in_their_order() {
        let (ledger, backing) = (uncapped(), Faulty::default());
        let mut free = FreePages::new(10_000, 4096, 4096);
        let take =
            |free: &mut FreePages, after, more| free.take(after, more, &ledger, &backing).unwrap();
        (0..500).for_each(|page| assert_eq!(take(&mut free, None, 5), page));
        free.give(&[7, 20, 21, 22, 23, 40], &ledger, &backing);
        assert_eq!(take(&mut free, Some(21), 0), 22, "the page behind, though lower ones are free");
        assert_eq!(take(&mut free, Some(22), 1), 23);
        assert_eq!(take(&mut free, Some(39), 0), 40);
        assert_eq!(take(&mut free, Some(400), 1), 20, "a run of two, though 7 is lower");
        assert_eq!(take(&mut free, None, 3), 500, "a run of four is at the frontier only");
        assert_eq!(take(&mut free, Some(511), 0), 512, "the frontier is a neighbour too");
        assert_eq!(take(&mut free, None, 0), 7, "kept before clean, low before high");
        assert_eq!(take(&mut free, None, 0), 21);
        assert_eq!(take(&mut free, None, 0), 501);
    }

    #[test]
    fn a_kept_page_serves_where_a_clean_one_is_refused() {
        let (ledger, backing) = (Ledger::new(4096, 10, usize::MAX), Faulty::default());
        let mut free = FreePages::new(10_000, 4096, 4096);
        (0..10).for_each(|_| assert!(free.take(None, 0, &ledger, &backing).is_ok()));
        free.give(&[3, 5], &ledger, &backing);
        assert_eq!(free.take(Some(9), 4, &ledger, &backing).unwrap(), 3);
        assert_eq!(free.take(None, 4, &ledger, &backing).unwrap(), 5);
        assert!(matches!(free.take(None, 0, &ledger, &backing), Err(SourceError::Refused)));
    }

    #[test]
    fn fragments_are_used_before_the_range_runs_away() {
        let (ledger, backing) = (uncapped(), Faulty::default());
        let mut free = FreePages::new(1 << 20, 4096, 4096);
        (0..8192).for_each(|_| assert!(free.take(None, 0, &ledger, &backing).is_ok()));
        let odd: Vec<u32> = (0..8192).filter(|page| page % 2 == 1).collect();
        free.give(&odd, &ledger, &backing);
        (0..4096).for_each(|_| assert!(free.take(None, 7, &ledger, &backing).is_ok()));
        assert!(
            free.frontier <= 8192 * 4 / 3 + 256,
            "a quarter is free at most: {}",
            free.frontier
        );
        free.check(&ledger);
    }

    #[test]
    #[should_panic(expected = "page 3 is not handed out")]
    fn giving_twice_is_a_bug() {
        let (ledger, backing) = (uncapped(), Faulty::default());
        let mut free = FreePages::new(100, 4096, 4096);
        (0..9).for_each(|_| assert!(free.take(None, 0, &ledger, &backing).is_ok()));
        free.give(&[3, 3], &ledger, &backing);
    }
}
