//! Which pages of a source are free, and what that costs: shared by [`Mmap`](super::Mmap) and
//! [`File`](super::File).
//! ```text
//! 0 .............. frontier ................... reserved ............. limit
//! | in use, kept, clean    | nothing committed | no place yet          |
//! ```
//! A page below the frontier is in use, *kept* (free, charged, holds memory) or *clean* (free, not
//! charged, holds none). Memory comes and goes in *grains*: as many pages as the operating system
//! hands out at once, one in most cases. Invariants:
//! 1. all pages of a grain are clean, or none is;
//! 2. the ledger carries `in_use + kept` pages;
//! 3. a page is charged before it may be touched, and released after its memory is gone;
//! 4. what a huge page may back is charged whole: `whole` has how these come and go.

use std::io;
use std::ops::Range;

use super::SourceError;
use crate::bits::Bits;
use crate::ledger::{Ledger, Refused};

mod backing;
mod huge;
mod whole;

pub(super) use backing::Backing;
use huge::Huge;

/// Free runs looked at on each side before a search for a long one settles for less.
const TRIES: usize = 16;
/// Kept pages are not worth a call below this many.
const KEPT: usize = 64;
/// What may be kept beyond [`KEPT`]: in use / this.
const KEPT_SHARE: usize = 256;
/// Pages discarded beyond what passes the bound: few enough that nobody's call takes long, enough
/// that most calls discard nothing.
const BATCH: usize = 32;
/// Runs that the system may refuse to take back in one attempt.
const REFUSED: usize = 8;
/// Where the system takes no page back, no further page is taken when less than held / this is
/// free: what pages have is lost for tables.
const TABLES: usize = 32;
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
    /// Where the pages end that have a place: at whole grains, or at the limit.
    reserved: usize,
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
    /// The system did not take pages back when it was asked last, as where memory is locked: kept
    /// ones are taken before any others then.
    stuck: bool,
    /// Where the last batch ended, and the next one starts.
    sweep: usize,
    huge: Huge,
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
    /// once. Those below `reserved` have a place.
    pub(super) fn new(limit: usize, reserved: usize, page_size: usize, grain_bytes: usize) -> Self {
        let grain = (grain_bytes / page_size).max(1);
        Self {
            limit,
            reserved,
            grain,
            step: (STEP_BYTES / page_size).next_multiple_of(grain),
            frontier: 0,
            in_use: 0,
            kept: Bits::default(),
            clean: Bits::default(),
            covered: 0,
            roomy: 0,
            discard_at: 0,
            stuck: false,
            sweep: 0,
            huge: Huge::default(),
        }
    }

    /// Lowers the limit, though not under the frontier; returns it.
    pub(super) fn limit_to(&mut self, pages: usize) -> usize {
        self.limit = self.limit.min(pages.max(self.frontier));
        self.reserved = self.reserved.min(self.limit);
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
        self.unkeep(page);
        self.in_use += 1;
        self.discard_at = self.discard_at.min(self.patience());
        Ok(page as u32)
    }

    /// See [`PageSource::give`](super::PageSource::give).
    pub(super) fn give(&mut self, pages: &[u32], ledger: &Ledger, backing: &impl Backing) {
        for &page in pages {
            let page = page as usize;
            assert!(page < self.frontier && !self.is_free(page), "page {page} is not handed out");
            self.keep(page);
            self.in_use -= 1;
        }
        let bound = KEPT.max(self.in_use / KEPT_SHARE);
        if self.loose() > bound && self.kept.len() >= self.discard_at {
            self.discard(self.loose() - bound + BATCH, ledger, backing);
            if self.loose() > bound {
                self.discard_at = self.patience();
            }
        }
        self.give_huge(pages, ledger, backing);
    }

    /// So many pages are kept before the next attempt to discard, after one that fell short. Where
    /// the system takes none back, a part more than now, so that attempts stay cheap for each page.
    fn patience(&self) -> usize {
        let part = if self.stuck { self.kept.len() / SPARSE } else { 0 };
        self.kept.len() + BATCH.max(part)
    }

    /// Discards kept pages, as far as they make whole grains: neighbours in one call, until `count`
    /// are gone, all were looked at, or the system has refused a few runs.
    pub(super) fn discard(&mut self, count: usize, ledger: &Ledger, backing: &impl Backing) {
        let start = self.sweep;
        let (mut left, mut refused) = (count.min(self.frontier), 0);
        for (from, to) in [(start, self.frontier), (0, start)] {
            let mut at = from;
            while let Some(page) = self.kept.next(at).filter(|page| *page < to && left > 0) {
                let run = self.run_to_discard(page, left, backing);
                at = run.end;
                if run.is_empty() {
                    continue;
                }
                self.sweep = run.end;
                if self.give_back(run.clone(), ledger, backing) {
                    left = left.saturating_sub(run.len());
                    continue;
                }
                refused += 1;
                if refused == REFUSED {
                    return; // they stay kept; the next batch goes on behind them
                }
            }
        }
    }

    /// The kept pages from `page` on that go in one call, about `most` of them: whole grains, or a
    /// whole huge page. If none can go, a range of none, behind which others may.
    fn run_to_discard(&self, page: usize, most: usize, backing: &impl Backing) -> Range<usize> {
        if let Some(whole) = self.huge.around(page) {
            return if self.is_kept(&whole) { whole } else { whole.end..whole.end };
        }
        let first = page - page % self.grain;
        let mut end = self.frontier.min(self.huge.end(first));
        end = first + self.kept.run(first, end - first);
        if end != self.limit {
            end -= end % self.grain; // only the last grain of all may be a short one
        }
        end = end.min((first + most).next_multiple_of(self.grain));
        end = end.min(backing.border(first));
        if end > first { first..end } else { first + self.grain..first + self.grain }
    }

    /// Gives kept `pages` back, a run as above. `false`: the system does not take them.
    fn give_back(&mut self, pages: Range<usize>, ledger: &Ledger, backing: &impl Backing) -> bool {
        self.stuck = backing.discard(pages.clone()).is_err();
        if self.stuck {
            return false;
        }
        self.forget_huge(pages.start);
        pages.clone().for_each(|page| self.kept.remove(page));
        let grains = pages.clone().step_by(self.grain);
        grains.for_each(|page| self.clean.insert(page / self.grain));
        ledger.release_pages(pages.len());
        true
    }

    fn is_kept(&self, pages: &Range<usize>) -> bool {
        self.kept.run(pages.start, pages.len()) == pages.len()
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
        let end = self.reserved.min(first.saturating_add(most));
        if self.grain == 1 {
            let below = self.frontier.min(end).saturating_sub(first);
            let length = self.kept.run_of_either(&self.clean, first, below);
            return if length < below { length } else { end - first };
        }
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
        let keeps = self.stuck && self.kept.len() > 0;
        if let Some(next) = after.map(|page| page as usize + 1) {
            if next == self.frontier && next < self.reserved && !keeps {
                return Some(Choice::Frontier);
            }
            if self.kept.contains(next) || self.is_free(next) && !keeps {
                return Some(self.at(next));
            }
        }
        let want = more.saturating_add(1);
        let mut longest = (0, 0); // length, first page
        let kept = |from| self.kept.next(from);
        let clean = |from| self.next_clean(from);
        let search = self
            .fitting(kept, 0, TRIES, want, &mut longest)
            .or_else(|| keeps.then_some(longest.1))
            .or_else(|| self.fitting(clean, 0, TRIES, want, &mut longest))
            .or_else(|| self.fitting(clean, self.roomy, 1, want, &mut longest));
        if let Some(page) = search {
            return Some(self.at(page));
        }
        let dense = (self.frontier - self.in_use) * SPARSE <= self.frontier;
        match longest {
            (0, _) if self.frontier < self.limit => Some(Choice::Frontier),
            (0, _) => None,
            // No new places are made for the sake of a run.
            _ if self.frontier < self.reserved && dense => Some(Choice::Frontier),
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
            Choice::Clean(page) if self.open_huge(page, ledger, backing)? => Ok(page),
            Choice::Clean(page) => {
                let grain = self.charge(page, ledger, backing)?;
                self.clean.remove(page / self.grain);
                grain.for_each(|page| self.kept.insert(page));
                Ok(page)
            }
            Choice::Frontier => {
                let page = self.frontier;
                match self.open_huge(page, ledger, backing)? {
                    true => Ok(page),
                    false => self.advance(ledger, backing),
                }
            }
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
    fn charge(
        &self,
        page: usize,
        ledger: &Ledger,
        backing: &impl Backing,
    ) -> Result<Range<usize>, SourceError> {
        let first = page - page % self.grain;
        let grain = first..self.limit.min(first + self.grain);
        let for_good = self.stuck || backing.keeps();
        if for_good && ledger.headroom() < ledger.held() / TABLES {
            return Err(SourceError::Refused);
        }
        match ledger.reserve_all(grain.len()) {
            Ok(()) => Ok(grain),
            Err(Refused) => Err(SourceError::Refused),
        }
    }

    /// Moves the frontier; the grain that it stood at becomes kept, the others clean.
    fn advance(&mut self, ledger: &Ledger, backing: &impl Backing) -> Result<usize, SourceError> {
        let first = self.frontier;
        let grain = self.charge(first, ledger, backing)?;
        let ready = self.prepare(grain.clone(), ledger, backing);
        let end = ready.inspect_err(|_| ledger.release_pages(grain.len()))?;
        let rest = (grain.end..end).step_by(self.grain);
        rest.for_each(|page| self.clean.insert(page / self.grain));
        grain.for_each(|page| self.kept.insert(page));
        (self.frontier, self.roomy) = (end, first);
        Ok(first)
    }

    /// Makes the grain at the frontier usable, and some behind it; says where they end. If this
    /// fails half way, no harm is done: the next attempt does it again.
    fn prepare(
        &mut self,
        grain: Range<usize>,
        ledger: &Ledger,
        backing: &impl Backing,
    ) -> Result<usize, SourceError> {
        let first = grain.start;
        if first == self.reserved {
            self.reserved = backing.extend(first, self.limit, ledger)?;
        }
        let mut end = self.reserved.min(first + self.step);
        let committed = backing.commit(first..end).or_else(|_| {
            end = grain.end; // near a limit of the system's there may be room for no more
            backing.commit(first..end)
        });
        committed.map_err(SourceError::System)?;
        self.cover(end, ledger)?;
        Ok(end)
    }

    /// Gives the sets room for pages below `end`: twice that for the time to come, or, where the
    /// ledger does not allow it, just that.
    fn cover(&mut self, end: usize, ledger: &Ledger) -> Result<(), SourceError> {
        if end <= self.covered {
            return Ok(());
        }
        let twice = self.reserved.min(end * 2);
        let fits = |pages: &usize| ledger.reserve_own(self.table_bytes(*pages)) == Ok(());
        let pages = [twice, end].into_iter().find(fits).ok_or(Refused);
        let pages = pages.map_err(|Refused| SourceError::Refused)?;
        let wide = self.kept.widened(pages).zip(self.clean.widened(pages.div_ceil(self.grain)));
        let Some(((kept, clean), huge)) = wide.zip(self.huge.widened(pages)) else {
            ledger.release_own(self.table_bytes(pages));
            return Err(SourceError::System(io::ErrorKind::OutOfMemory.into()));
        };
        let before = self.table_bytes(self.covered);
        (self.kept, self.clean, self.covered) = (kept, clean, pages);
        self.huge.whole = huge;
        ledger.release_own(before);
        Ok(())
    }

    /// What the sets hold where they have room for pages below `pages`.
    fn table_bytes(&self, pages: usize) -> usize {
        if pages == 0 {
            return 0;
        }
        let grains = Bits::bytes(pages.div_ceil(self.grain));
        Bits::bytes(pages) + grains + self.huge.table_bytes(pages)
    }
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
pub(super) mod tests;
