//! The free pages of a source against a set, against failing calls, and in the order of their
//! wishes.

use super::*;
use crate::source::PageSource;
use std::cell::Cell;
use std::cell::RefCell;
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
    /// The system takes nothing back, however often it was asked.
    keeps: Cell<bool>,
    asked: Cell<usize>,
    discarded: RefCell<Vec<(usize, usize)>>,
    /// A huge page that fails leaves it open how much memory there is.
    doubtful: Cell<bool>,
    split: RefCell<Vec<Range<usize>>>,
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
    fn open_huge(&self, _pages: Range<usize>) -> io::Result<bool> {
        match self.call() {
            Ok(()) => Ok(true),
            Err(error) if self.doubtful.get() => Err(error),
            Err(_) => Ok(false),
        }
    }

    fn split(&self, pages: Range<usize>) {
        self.split.borrow_mut().push(pages);
    }

    fn keeps(&self) -> bool {
        self.keeps.get()
    }

    fn commit(&self, _pages: Range<usize>) -> io::Result<()> {
        self.call()
    }

    fn discard(&self, pages: Range<usize>) -> io::Result<()> {
        self.asked.set(self.asked.get() + 1);
        if self.keeps.get() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
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
        assert!(self.frontier <= self.reserved && self.reserved <= self.limit);
        assert_eq!(self.frontier, self.in_use + self.kept.len() + clean);
        assert_eq!(ledger.pages(), self.in_use + self.kept.len());
        assert_eq!(ledger.held(), ledger.pages() * 4096 + self.table_bytes(self.covered));
        let whole = |page: &usize| self.huge.around(*page).is_some();
        let charged = |page: &usize| !self.clean.contains(page / self.grain);
        let of_huge = || (0..self.frontier).filter(whole);
        assert_eq!(of_huge().filter(charged).count(), self.huge_pages(), "all of it is charged");
        let kept = of_huge().filter(|page| self.kept.contains(*page)).count();
        assert_eq!(kept, self.kept.len() - self.loose(), "its kept pages are counted");
    }
}

#[test]
fn any_failing_call_leaves_everything_as_it_was() {
    for (grain, huge) in [(4096, 0), (4 * 4096, 0), (4096, 8 * 4096)] {
        for fail_at in 0..40 {
            let (ledger, backing) = (uncapped(), Faulty::default());
            let mut free = FreePages::new(1000, 1000, 4096, grain);
            if huge > 0 {
                free = free.with_huge(huge, 4096);
            }
            backing.calls_left.set(Some(fail_at));
            let mut taken = Vec::new();
            let mut failures = 0;
            while taken.len() < 1000 && failures < 3 {
                let before = (free.in_use, ledger.pages(), free.frontier);
                match free.take(taken.last().copied(), 3, &ledger, &backing) {
                    Ok(page) => taken.push(page),
                    Err(error) => {
                        assert!(matches!(error, SourceError::System(_)));
                        assert_eq!(before, (free.in_use, ledger.pages(), free.frontier));
                        free.check(&ledger);
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
            free.trim(&ledger, &backing);
            free.check(&ledger);
            assert_eq!(ledger.pages(), 0);
        }
    }
}

#[test]
fn refused_bookkeeping_leaves_everything_as_it_was() {
    for room in 0..400 {
        let ledger = Ledger::new(4096, usize::MAX, 4096 + room);
        let mut free = FreePages::new(1 << 20, 1 << 20, 4096, 4096);
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
    let mut free = FreePages::new(1000, 1000, 4096, 4 * 4096);
    let pages: Vec<u32> = (0..8).map(|_| free.take(None, 0, &ledger, &backing).unwrap()).collect();
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
    let mut free = FreePages::new(6, 6, 4096, 4 * 4096);
    let pages: Vec<u32> = (0..6).map(|_| free.take(None, 0, &ledger, &backing).unwrap()).collect();
    assert_eq!(ledger.pages(), 6);
    assert!(matches!(free.take(None, 0, &ledger, &backing), Err(SourceError::Full)));
    free.give(&pages, &ledger, &backing);
    free.discard(usize::MAX, &ledger, &backing);
    assert_eq!((&*backing.discarded.borrow(), ledger.pages()), (&vec![(0, 6)], 0));
}

#[test]
fn neighbours_go_in_one_call() {
    let (ledger, backing) = (uncapped(), Faulty::default());
    let mut free = FreePages::new(10_000, 10_000, 4096, 4096);
    let pages: Vec<u32> =
        (0..4000).map(|_| free.take(None, 0, &ledger, &backing).unwrap()).collect();
    free.give(&pages, &ledger, &backing);
    assert_eq!((&*backing.discarded.borrow(), free.kept()), (&vec![(0, 3968)], 32));
}

#[test]
fn wishes_are_granted_in_their_order() {
    let (ledger, backing) = (uncapped(), Faulty::default());
    let mut free = FreePages::new(10_000, 10_000, 4096, 4096);
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
    let mut free = FreePages::new(10_000, 10_000, 4096, 4096);
    (0..10).for_each(|_| assert!(free.take(None, 0, &ledger, &backing).is_ok()));
    free.give(&[3, 5], &ledger, &backing);
    assert_eq!(free.take(Some(9), 4, &ledger, &backing).unwrap(), 3);
    assert_eq!(free.take(None, 4, &ledger, &backing).unwrap(), 5);
    assert!(matches!(free.take(None, 0, &ledger, &backing), Err(SourceError::Refused)));
}

#[test]
fn fragments_are_used_before_the_range_runs_away() {
    let (ledger, backing) = (uncapped(), Faulty::default());
    let mut free = FreePages::new(1 << 20, 1 << 20, 4096, 4096);
    (0..8192).for_each(|_| assert!(free.take(None, 0, &ledger, &backing).is_ok()));
    let odd: Vec<u32> = (0..8192).filter(|page| page % 2 == 1).collect();
    free.give(&odd, &ledger, &backing);
    (0..4096).for_each(|_| assert!(free.take(None, 7, &ledger, &backing).is_ok()));
    assert!(free.frontier <= 8192 * 4 / 3 + 256, "a quarter is free at most: {}", free.frontier);
    free.check(&ledger);
}

#[test]
#[should_panic(expected = "page 3 is not handed out")]
fn giving_twice_is_a_bug() {
    let (ledger, backing) = (uncapped(), Faulty::default());
    let mut free = FreePages::new(100, 100, 4096, 4096);
    (0..9).for_each(|_| assert!(free.take(None, 0, &ledger, &backing).is_ok()));
    free.give(&[3, 3], &ledger, &backing);
}

#[test]
fn pages_that_the_system_does_not_take_back_are_counted_and_serve_before_any_others() {
    let (ledger, backing) = (uncapped(), Faulty::default());
    backing.keeps.set(true);
    let mut free = FreePages::new(1 << 20, 1 << 20, 4096, 4096);
    let mut taken: Vec<u32> =
        (0..20_000).map(|_| free.take(None, 7, &ledger, &backing).unwrap()).collect();
    let frontier = free.frontier;
    // Each second page first: no run is as long as what is asked for.
    let (odd, even): (Vec<u32>, Vec<u32>) = taken.drain(..).partition(|page| page % 2 == 1);
    for pages in [odd, even] {
        pages.iter().for_each(|page| free.give(&[*page], &ledger, &backing));
        free.check(&ledger);
        assert!(free.stuck);
        let kept = free.kept();
        let mut last = None;
        for left in (0..kept).rev() {
            last = Some(free.take(last, 11, &ledger, &backing).unwrap());
            taken.extend(last);
            assert_eq!((free.kept(), ledger.pages(), free.frontier), (left, 20_000, frontier));
        }
        free.give(&taken, &ledger, &backing);
        taken.clear();
    }
    assert_eq!((free.kept(), ledger.pages()), (20_000, 20_000));
    assert!(backing.asked.get() < 400, "{} calls that gave nothing", backing.asked.get());
    backing.asked.set(0);
    free.discard(usize::MAX, &ledger, &backing);
    assert!(backing.asked.get() <= REFUSED, "a trim ends");
    // The system takes them back again, as after `munlockall`.
    backing.keeps.set(false);
    free.discard(usize::MAX, &ledger, &backing);
    assert_eq!((free.kept(), ledger.pages(), free.stuck), (0, 0, false));
    free.check(&ledger);
}

#[test]
fn a_run_that_the_system_refuses_holds_no_other_one_up() {
    let (ledger, backing) = (uncapped(), Faulty::default());
    let mut free = FreePages::new(10_000, 10_000, 4096, 4096);
    (0..1000).for_each(|_| assert!(free.take(None, 0, &ledger, &backing).is_ok()));
    free.give(&(0..60).step_by(2).collect::<Vec<_>>(), &ledger, &backing);
    backing.keeps.set(true);
    for _ in 0..4 {
        free.discard(usize::MAX, &ledger, &backing);
    }
    assert!(backing.asked.get() >= 30, "each run was tried, {} calls", backing.asked.get());
    assert_eq!(free.kept(), 30);
    free.check(&ledger);
}

#[test]
fn pages_that_are_never_given_back_leave_room_for_tables() {
    let (ledger, backing) = (Ledger::new(4096, usize::MAX, 1 << 20), Faulty::default());
    let mut free = FreePages::new(10_000, 10_000, 4096, 4096);
    let taken = (0..).find(|_| free.take(None, 0, &ledger, &backing).is_err());
    assert!(taken.is_some_and(|pages| pages > 253), "all of them where pages can be given back");
    let pages: Vec<u32> = (0..taken.unwrap_or(0)).collect();
    free.give(&pages, &ledger, &backing);
    free.discard(usize::MAX, &ledger, &backing);
    backing.keeps.set(true);
    let taken = (0..).find(|_| free.take(None, 0, &ledger, &backing).is_err());
    assert!(taken.is_some_and(|pages| (240..250).contains(&pages)), "{taken:?} of 256 pages");
    free.check(&ledger);
    assert!(ledger.reserve(24 << 10).is_ok());
}

/// Free pages with huge ones of 8 pages.
fn with_huge(limit: usize, reserved: usize) -> FreePages {
    FreePages::new(limit, reserved, 4096, 4096).with_huge(8 * 4096, 4096)
}

#[test]
fn with_huge_pages_all_is_counted_whatever_fails() {
    let (ledger, backing) = (Ledger::new(4096, usize::MAX, 600 * 4096), Faulty::default());
    let mut free = with_huge(1000, 996);
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let (mut taken, mut most) = (BTreeSet::new(), 0);
    for step in 0..20_000 {
        // Now and then the first or the second call from here on fails, and those after it.
        let fails = random(20) == 0;
        backing.calls_left.set(fails.then(|| random(2)));
        let filling = step / 2000 % 3 != 2;
        if random(10) < if filling { 7 } else { 3 } {
            let after = taken.last().copied().filter(|_| random(2) == 0);
            match free.take(after, random(9), &ledger, &backing) {
                Ok(page) => assert!(taken.insert(page), "page {page} is handed out twice"),
                Err(_) => assert_eq!(free.kept(), 0, "kept pages go before anything is refused"),
            }
        } else {
            let from = random(1000) as u32;
            let pages: Vec<u32> = taken.range(from..).take(random(6)).copied().collect();
            free.give(&pages, &ledger, &backing);
            pages.iter().for_each(|page| assert!(taken.remove(page)));
        }
        if random(100) == 0 {
            free.trim(&ledger, &backing);
        }
        assert_eq!(free.in_use, taken.len());
        free.check(&ledger);
        most = most.max(free.huge_pages());
    }
    assert!(most > 300, "{most} of 600 pages in huge ones");
}

#[test]
fn a_huge_page_is_opened_where_there_is_room_beside_it() {
    let (ledger, backing) = (Ledger::new(4096, usize::MAX, 404 * 4096), Faulty::default());
    let mut free = with_huge(1000, 1000);
    let mut opened = 0;
    while free.take(None, 0, &ledger, &backing).is_ok() {
        assert!(free.kept() < 8);
        if free.huge_pages() > opened {
            opened = free.huge_pages();
            assert!(ledger.headroom() >= (ledger.held() - 8 * 4096) / 32);
        }
    }
    assert!((376..=392).contains(&opened), "{opened} pages in huge ones");
    assert!(free.in_use > 400, "single pages up to the cap");
    free.check(&ledger);
}

#[test]
fn a_huge_page_goes_whole_or_is_split_where_its_free_pages_are_wanted() {
    let (ledger, backing) = (uncapped(), Faulty::default());
    let mut free = with_huge(10_000, 10_000);
    (0..8 * 400).for_each(|_| assert!(free.take(None, 0, &ledger, &backing).is_ok()));
    let gone = || backing.discarded.borrow_mut().drain(..).collect::<Vec<_>>();
    // All of the third one, and three pages of the fifth.
    free.give(&[16, 17, 18, 19, 20, 21, 22, 23], &ledger, &backing);
    assert_eq!(gone(), [], "kept for the next chain");
    free.give(&[33, 34, 37], &ledger, &backing);
    assert_eq!((gone(), free.huge_pages()), (vec![], 8 * 400));
    free.trim(&ledger, &backing);
    assert_eq!((gone(), free.huge_pages()), (vec![(16, 24)], 8 * 399), "whole");
    // Few are kept: none is split, whoever asks.
    free.trim(&ledger, &backing);
    assert_eq!((gone(), free.kept()), (vec![], 3));
    let each =
        |step: usize| (0..8 * 400).filter(move |page| page % step == 1 && !(16..40).contains(page));
    free.give(&each(32).map(|page| page as u32).collect::<Vec<_>>(), &ledger, &backing);
    assert_eq!((gone(), free.kept()), (vec![], 3 + 99));
    free.trim(&ledger, &backing);
    assert_eq!((gone(), free.huge_pages()), (vec![(33, 35), (37, 38)], 8 * 398), "the emptiest");
    let split: Vec<u32> =
        backing.split.borrow_mut().drain(..).flatten().map(|p| p as u32).collect();
    assert_eq!(split, (32..40).collect::<Vec<u32>>());
    // Pages of one that was split go one by one.
    free.give(&[36], &ledger, &backing);
    free.trim(&ledger, &backing);
    assert_eq!(gone().first(), Some(&(36, 37)));
    free.check(&ledger);
    // Where a sixteenth is free one is split by whoever gives the next page.
    let mut more = each(4).filter(|page| page % 32 != 1).map(|page| page as u32);
    while gone().is_empty() {
        free.give(&[more.next().unwrap()], &ledger, &backing);
    }
    assert!((free.in_use / 17..=free.in_use / 16).contains(&free.kept()));
    free.check(&ledger);
}

#[test]
fn what_stays_in_huge_pages_is_little_whatever_a_page_is() {
    let (ledger, backing) = (Ledger::new(65_536, usize::MAX, usize::MAX), Faulty::default());
    let mut free = FreePages::new(1024, 1024, 65_536, 65_536).with_huge(2 << 20, 65_536);
    (0..3 * 32).for_each(|_| assert!(free.take(None, 0, &ledger, &backing).is_ok()));
    let rest: Vec<u32> = (0..3 * 32).filter(|page| page % 32 != 7).collect();
    free.give(&rest, &ledger, &backing);
    (0..4).for_each(|_| free.trim(&ledger, &backing));
    assert!(free.kept() <= 4, "{} pages of 64 KiB are kept beside 3", free.kept());
}

#[test]
fn a_huge_page_that_may_hold_more_than_is_known_stays_charged() {
    let (ledger, backing) = (uncapped(), Faulty::default());
    let mut free = with_huge(1000, 1000);
    backing.doubtful.set(true);
    backing.calls_left.set(Some(1)); // the pages are committed
    assert!(matches!(free.take(None, 0, &ledger, &backing), Err(SourceError::System(_))));
    assert_eq!((free.in_use, ledger.pages(), free.huge_pages()), (8, 8, 0));
    backing.calls_left.set(None);
    assert_eq!(free.take(None, 0, &ledger, &backing).unwrap(), 8, "nobody gets its pages");
    free.check(&ledger);
}

#[test]
fn no_huge_page_is_opened_where_the_system_takes_nothing_back() {
    let (ledger, backing) = (uncapped(), Faulty::default());
    let mut free = with_huge(1000, 1000);
    backing.keeps.set(true);
    (0..20).for_each(|_| assert!(free.take(None, 0, &ledger, &backing).is_ok()));
    assert_eq!((free.huge_pages(), ledger.pages()), (0, 20), "it is known to");
    backing.keeps.set(false);
    let mut pages: Vec<u32> =
        (0..20).map(|_| free.take(None, 0, &ledger, &backing).unwrap()).collect();
    assert!(free.huge_pages() > 0);
    backing.calls_left.set(Some(0));
    free.give(&pages, &ledger, &backing);
    free.trim(&ledger, &backing);
    assert!(free.stuck, "it was found out");
    let opened = free.huge_pages();
    backing.calls_left.set(None);
    pages = (0..40).map(|_| free.take(None, 0, &ledger, &backing).unwrap()).collect();
    assert_eq!((pages.len(), free.huge_pages()), (40, opened));
    free.check(&ledger);
}
