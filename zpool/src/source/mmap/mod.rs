//! Pages in ranges of address space, each reserved once and committed step by step.

use std::io;
use std::ptr::NonNull;

use super::free_pages::{FreePages, page_size_fits};
use super::{Access, PageSource, SourceError, limits};
use crate::ledger::Ledger;
use crate::sync::Mutex;

mod locked;
mod options;
mod ranges;
mod reserved;

use crate::mapped::HUGE_PAGE as HUGE;
pub use options::MmapOptions;
use ranges::Ranges;

/// Pages of anonymous memory in reserved address space.
///
/// Address space is reserved in ranges, the first one as [`MmapOptions`] say, and committed as
/// pages are taken. Where pages run out, another range is reserved, as long as all before together.
/// Under a limit on address space (`RLIMIT_AS`; Linux and Android) a range takes an eighth of what
/// is left at most, or 1 MiB, and the first ranges of all sources leave the program three quarters
/// of what it had.
///
/// Pages given back are kept up to a bound, 64 or 1/256 of those in use, whichever is more, and go
/// back to the system in batches. Systems other than Linux and Android take them lazily at best
/// (`MADV_FREE`: they count as gone at once) and elsewhere not at all (they stay kept).
///
/// In a process that locks its memory (`mlockall`; Linux), reserved address space is not locked and
/// counts against no limit. Pages are locked from their first use on, as the process wishes. Linux
/// 5.18 gives locked pages back like others; before that they are [kept](PageSource::kept), and
/// taken before any others. At the limit on locked memory (`RLIMIT_MEMLOCK`) the source has no
/// further page.
///
/// Where the system's page is larger than the source's, memory is charged in those units; less than
/// one unit under the cap is then never used.
#[derive(Debug)]
pub struct Mmap {
    ranges: Ranges,
    page_size: usize,
    capacity: u32,
    huge: bool,
    free: Mutex<FreePages>,
}

impl Mmap {
    /// Reserves the first range.
    ///
    /// # Errors
    /// `InvalidInput` for a page size or a number of pages out of range, `Unsupported` for an
    /// option that this system does not have, else what the system says.
    pub fn new(options: MmapOptions) -> io::Result<Self> {
        let page_size = options.page_size;
        let limit = page_size_fits(page_size).then(|| options.limit()).flatten();
        let limit = limit.ok_or(io::ErrorKind::InvalidInput)?;
        let unit = limits::system_page()?.max(page_size);
        // A page of the system's that is larger than ours cannot be split: huge ones are not for
        // it.
        let huge = options.huge_pages && unit == page_size && reserved::has_huge_pages();
        let align = if huge { HUGE } else { unit };
        let (first, fewer) = options.first(limit);
        let first = limit.min(first.next_multiple_of(align / page_size));
        let ranges = Ranges::new(first, fewer, (align, unit), options)?;
        let mut free = FreePages::new(limit, ranges.first_pages(), page_size, unit);
        if huge {
            free = free.with_huge(HUGE, page_size);
        }
        Ok(Self { ranges, page_size, capacity: limit as u32, huge, free: Mutex::new(free) })
    }
}

// SAFETY: `FreePages` hands a number below the limit out once at a time. Each page has its place in
// one range, a mapping of ours that lives as long as the source: page `n` of the first one `n`
// pages behind its base. It was made readable and writable before the frontier passed it; anonymous
// memory is initialised, with zeros at first. Bases are aligned to the page size.
unsafe impl PageSource for Mmap {
    fn page_size(&self) -> usize {
        self.page_size
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn access(&self) -> Access {
        Access::Ranged(self.ranges.base(), self.ranges.first_pages() as u32)
    }

    fn take(&self, after: Option<u32>, more: usize, ledger: &Ledger) -> Result<u32, SourceError> {
        self.free.lock().take(after, more, ledger, &self.ranges)
    }

    fn give(&self, pages: &[u32], ledger: &Ledger) {
        self.free.lock().give(pages, ledger, &self.ranges);
    }

    fn trim(&self, ledger: &Ledger) {
        self.free.lock().trim(ledger, &self.ranges);
    }

    fn kept(&self) -> usize {
        self.free.lock().kept()
    }

    fn has_huge_pages(&self) -> bool {
        self.huge
    }

    fn huge_bytes(&self) -> usize {
        self.free.lock().huge_pages() * self.page_size
    }

    fn is_fresh(&self) -> bool {
        self.free.lock().is_fresh()
    }

    fn joined(&self, page: u32) -> bool {
        page as usize + 1 != self.ranges.border(page as usize)
    }

    unsafe fn address(&self, page: u32) -> NonNull<u8> {
        self.ranges.address(page as usize)
    }
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
mod tests {
    use super::reserved::has_huge_pages;
    use super::*;
    use crate::source::free_pages::tests::churn;

    fn source(options: MmapOptions) -> Mmap {
        Mmap::new(options).unwrap()
    }

    fn first(source: &Mmap) -> *mut u8 {
        source.ranges.base().first().as_ptr()
    }

    fn fill(source: &Mmap, page: u32, value: u8) {
        let start = source.ranges.address(page as usize);
        // SAFETY: the caller has taken the page.
        unsafe { start.write_bytes(value, source.page_size()) }
    }

    fn is_full_of(source: &Mmap, page: u32, value: u8) -> bool {
        let start = source.ranges.address(page as usize);
        // SAFETY: the caller has taken the page; its bytes are initialised, and nobody writes to
        // them now.
        let bytes = unsafe { std::slice::from_raw_parts(start.as_ptr(), source.page_size()) };
        bytes.iter().all(|byte| *byte == value)
    }

    /// Resident KiB of the first range.
    #[cfg(target_os = "linux")]
    fn resident(source: &Mmap) -> usize {
        let bytes = source.ranges.first_pages() * source.page_size;
        let page = limits::system_page().unwrap();
        let mut answers = vec![0_u8; bytes.div_ceil(page)];
        // SAFETY: asks about the pages of the range and writes a byte of ours for each.
        let asked = unsafe { libc::mincore(first(source).cast(), bytes, answers.as_mut_ptr()) };
        assert_eq!(asked, 0);
        answers.iter().filter(|answer| **answer & 1 == 1).count() * page / 1024
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no memory without an access right")]
    fn agrees_with_a_set_and_its_ledger() {
        for page_size in [4096, 16384, 65536] {
            let options = MmapOptions::new().page_size(page_size).max_pages(16_000);
            for options in [options, options.first_pages(1), options.first_pages(300)] {
                for cap in [1, 100, 1000, usize::MAX] {
                    let (source, ledger) =
                        (source(options), Ledger::new(page_size, cap, usize::MAX));
                    churn(&source, &ledger, 6000);
                    source.trim(&ledger);
                    assert_eq!((ledger.pages(), source.kept()), (0, 0));
                }
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no memory without an access right")]
    fn ranges_follow_each_other_to_the_last_page_and_are_not_joined() {
        let source = source(MmapOptions::new().max_pages(777).first_pages(3));
        let ledger = Ledger::new(4096, usize::MAX, usize::MAX);
        let mut last = None;
        for page in 0..777 {
            last = Some(source.take(last, 5, &ledger).unwrap());
            assert_eq!(last, Some(page));
            fill(&source, page, page as u8);
        }
        assert!(matches!(source.take(last, 0, &ledger), Err(SourceError::Full)));
        assert!((0..777).all(|page| is_full_of(&source, page, page as u8)));
        let borders: Vec<u32> = (1..777).filter(|page| !source.joined(page - 1)).collect();
        assert_eq!(borders, [3, 6, 12, 24, 48, 96, 192, 384, 768]);
        let address = |page: u32| source.ranges.address(page as usize).addr().get();
        let mut joined = (0..776).filter(|page| source.joined(*page));
        assert!(joined.all(|page| address(page + 1) - address(page) == 4096));
        source.give(&(0..777).collect::<Vec<u32>>(), &ledger);
        source.trim(&ledger);
        assert_eq!((ledger.pages(), source.kept()), (0, 0));
        let page = source.take(None, 700, &ledger).unwrap();
        assert!(is_full_of(&source, page, 0), "what was given back reads as zeros");
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no memory without an access right")]
    fn the_first_range_is_what_the_caps_may_need() {
        let pages = |options: MmapOptions| source(options).ranges.first_pages();
        let options = MmapOptions::new();
        assert_eq!(pages(options.for_pages(1)), 64 << 8, "64 MiB at least");
        assert_eq!(pages(options.for_pages(1 << 16)), 1 << 17);
        assert_eq!(pages(options.for_pages(usize::MAX - 1)), options.limit().unwrap());
        assert_eq!(pages(options.for_pages(usize::MAX)), pages(options));
        assert_eq!(pages(options.first_pages(100).for_pages(1 << 16)), 100);
        assert_eq!(pages(options.max_pages(100).for_pages(1 << 16)), 100);
        assert_eq!(pages(options.max_pages(100).first_pages(200)), 100);
        let huge = if cfg!(target_os = "linux") && reserved::has_huge_pages() { 512 } else { 1 };
        assert_eq!(pages(options.first_pages(1).huge_pages(true)), huge);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no memory without an access right")]
    fn a_fresh_source_is_consecutive_and_reaches_its_end() {
        let source = source(MmapOptions::new().max_pages(777));
        let ledger = Ledger::new(4096, usize::MAX, usize::MAX);
        for page in 0..777 {
            assert_eq!(source.take(None, 3, &ledger).unwrap(), page);
            fill(&source, page, page as u8);
        }
        assert!(matches!(source.take(None, 0, &ledger), Err(SourceError::Full)));
        assert_eq!(ledger.pages(), 777);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no memory without an access right")]
    fn the_cap_is_reached_to_the_page() {
        let source = source(MmapOptions::new());
        let ledger = Ledger::new(4096, 1001, usize::MAX);
        (0..1001).for_each(|_| assert!(source.take(None, 0, &ledger).is_ok()));
        assert!(matches!(source.take(None, 0, &ledger), Err(SourceError::Refused)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no memory without an access right")]
    fn resident_is_what_the_ledger_says() {
        for page_size in [4096, 65536] {
            let source = source(MmapOptions::new().page_size(page_size));
            let ledger = Ledger::new(page_size, usize::MAX, usize::MAX);
            let says = |ledger: &Ledger| ledger.pages() * page_size / 1024;
            let pages: Vec<u32> = (0..1500)
                .map(|_| source.take(None, 0, &ledger).unwrap())
                .inspect(|page| fill(&source, *page, 0xa5))
                .collect();
            assert_eq!(resident(&source), says(&ledger));
            let odd: Vec<u32> = pages.iter().copied().filter(|page| page % 2 == 1).collect();
            source.give(&odd, &ledger);
            assert_eq!(resident(&source), says(&ledger));
            assert!(source.kept() <= 64);
            source.trim(&ledger);
            assert_eq!((resident(&source), ledger.pages()), (says(&ledger), 750));
            let even: Vec<u32> = pages.into_iter().filter(|page| page % 2 == 0).collect();
            source.give(&even, &ledger);
            source.trim(&ledger);
            assert_eq!((resident(&source), ledger.pages()), (0, 0));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no memory without an access right")]
    fn huge_pages_are_charged_whole_and_split_for_what_is_free() {
        let options = MmapOptions::new().huge_pages(true).max_pages(4000);
        for options in [options, options.first_pages(1)] {
            churn(&source(options), &Ledger::new(4096, 1700, usize::MAX), 6000);
            churn(&source(options), &Ledger::new(4096, usize::MAX, 8 << 20), 6000);
        }
        if !has_huge_pages() {
            return;
        }
        let source = source(options);
        assert_eq!(first(&source).addr() % HUGE, 0);
        // Room for three huge pages and what is left free beside them.
        let ledger = Ledger::new(4096, usize::MAX, 7 << 20);
        let take = || source.take(None, 0, &ledger);
        // The system may have no huge page just now: less is resident then.
        let assert_charged = |what: &str| {
            let (resident, charged) = (resident(&source), ledger.pages() * 4);
            assert!(resident <= charged, "{what}: {resident} KiB resident, {charged} charged");
        };
        let mut pages = Vec::new();
        while let Ok(page) = take() {
            assert_charged("before it is touched");
            fill(&source, page, 0xa5);
            pages.push(page);
            assert!(ledger.pages() % 512 == 0 || source.huge_bytes() == 3 * HUGE);
        }
        assert!(pages.len() > 1700, "single pages up to the cap");
        assert_eq!(resident(&source), ledger.pages() * 4);
        // Half of each huge page: one is split for it after the other, and nobody's bytes change.
        let odd: Vec<u32> = pages.iter().copied().filter(|page| page % 2 == 1).collect();
        pages.retain(|page| page % 2 == 0);
        source.give(&odd, &ledger);
        while source.kept() > 64 {
            let before = source.kept();
            source.trim(&ledger);
            assert!(source.kept() < before);
            assert_charged("split");
        }
        assert!(pages.iter().all(|page| is_full_of(&source, *page, 0xa5)));
        assert_eq!(source.huge_bytes(), 0);
        source.give(&pages, &ledger);
        source.trim(&ledger);
        assert_eq!((ledger.pages(), source.kept(), resident(&source)), (0, 0, 0));
        let page = take().unwrap();
        assert_charged("opened once more");
        assert_eq!((source.huge_bytes(), ledger.pages()), (HUGE, 512));
        assert!(is_full_of(&source, page, 0), "what was given back reads as zeros");
        source.give(&[page], &ledger);
        source.trim(&ledger);
        assert_eq!((ledger.pages(), resident(&source), source.huge_bytes()), (0, 0, 0));
        // A single page that is opened where a huge one was stays one.
        let tight = Ledger::new(4096, usize::MAX, 1 << 20);
        let page = source.take(None, 0, &tight).unwrap();
        fill(&source, page, 1);
        assert_eq!((tight.pages(), resident(&source)), (1, 4));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no memory without an access right")]
    fn options_out_of_range_are_refused() {
        let kind = |options| Mmap::new(options).unwrap_err().kind();
        for options in [
            MmapOptions::new().page_size(2048),
            MmapOptions::new().page_size(5000),
            MmapOptions::new().page_size(1 << 17),
            MmapOptions::new().max_pages(0),
            MmapOptions::new().page_size(65536).max_pages(u32::MAX),
        ] {
            assert_eq!(kind(options), io::ErrorKind::InvalidInput);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no memory without an access right")]
    fn locked_memory_has_no_huge_pages_which_would_not_be_split() {
        let source = source(MmapOptions::new().huge_pages(true).max_pages(2000));
        // SAFETY: locking changes no byte and no access; pages are filled when they are used.
        let locked = unsafe { libc::syscall(libc::SYS_mlock2, first(&source), 2 * HUGE, 1) };
        if locked != 0 {
            return; // it may lock less than that
        }
        let ledger = Ledger::new(4096, usize::MAX, usize::MAX);
        let pages: Vec<u32> = (0..600).map(|_| source.take(None, 0, &ledger).unwrap()).collect();
        pages.iter().for_each(|page| fill(&source, *page, 1));
        assert_eq!((source.huge_bytes(), ledger.pages(), resident(&source)), (0, 600, 2400));
    }

    #[cfg(target_os = "linux")]
    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no memory without an access right")]
    fn a_range_is_two_mappings_whatever_happens() {
        for huge in [false, true] {
            let options = MmapOptions::new().dont_dump(true).dont_fork(true).huge_pages(huge);
            let source = source(options);
            let ledger = Ledger::new(4096, usize::MAX, usize::MAX);
            churn(&source, &ledger, 20_000);
            let bytes = source.ranges.first_pages() * 4096;
            let (start, end) = (first(&source).addr(), first(&source).addr() + bytes);
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let inside = maps.lines().filter(|line| {
                let address = usize::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
                (start..end).contains(&address)
            });
            assert_eq!(inside.count(), 2, "huge pages: {huge}");
        }
    }
}
