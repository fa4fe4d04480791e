//! Pages in one range of address space, reserved once and committed step by step.
//! ```text
//! base ............ committed .................................... end
//! | readable, writable        | no access: costs nothing           |
//! ```
//! Two mappings whatever happens, so that no limit on their number is met: unmapping alternating
//! pages fails after 65,509 holes, protecting them after 32,754, `MADV_DONTNEED` never.

use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};

use super::free_pages::{Backing, FreePages, page_size_fits};
use super::{Access, Base, PageSource, SourceError, most_pages};
use crate::ledger::Ledger;
use crate::sync::Mutex;

/// Bytes of a huge page where the system's page is 4 KiB.
const HUGE: usize = 2 << 20;
/// On systems with little address space, what can be hoped for in one piece.
const MOST_BYTES: Option<usize> =
    if cfg!(target_pointer_width = "64") { None } else { Some(1 << 30) };
/// The default number of pages is halved no further than to these bytes.
const LEAST_BYTES: usize = 1 << 20;

/// How an [`Mmap`] is made: plain data.
///
/// ```
/// use zpool::source::{Mmap, MmapOptions};
///
/// let source = Mmap::new(MmapOptions::new().max_pages(1 << 16).dont_dump(true))?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct MmapOptions {
    page_size: usize,
    max_pages: Option<u32>,
    huge_pages: bool,
    dont_dump: bool,
    dont_fork: bool,
}

impl Default for MmapOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl MmapOptions {
    /// As many pages of 4 KiB as the system grants; no huge pages; in core dumps; inherited on fork.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            page_size: 4096,
            max_pages: None,
            huge_pages: false,
            dont_dump: false,
            dont_fork: false,
        }
    }

    /// Bytes in a page: a power of two from 4 KiB to 64 KiB. Default: 4 KiB.
    #[must_use]
    pub const fn page_size(self, bytes: usize) -> Self {
        Self { page_size: bytes, ..self }
    }

    /// Pages to reserve address space for, just under 1 TiB together at most (32-bit: 1 GiB). Default: as many
    /// as the system agrees to, starting there and halving.
    #[must_use]
    pub const fn max_pages(self, pages: u32) -> Self {
        Self { max_pages: Some(pages), ..self }
    }

    /// Asks for huge pages (Linux). Reads of cold memory are about 20 % faster; memory is charged
    /// and given back 2 MiB at a time. Default: no, and the system is told to make none.
    #[must_use]
    pub const fn huge_pages(self, yes: bool) -> Self {
        Self { huge_pages: yes, ..self }
    }

    /// Keeps the pages out of core dumps (Linux; elsewhere without effect). Default: no.
    #[must_use]
    pub const fn dont_dump(self, yes: bool) -> Self {
        Self { dont_dump: yes, ..self }
    }

    /// Keeps the pages from child processes, for which the range is then a hole (Linux; elsewhere
    /// [`Mmap::new`] fails). Default: no; a child's writes make copies that no ledger knows of.
    #[must_use]
    pub const fn dont_fork(self, yes: bool) -> Self {
        Self { dont_fork: yes, ..self }
    }
}

/// Pages of anonymous memory in one reserved range.
///
/// Pages given back are kept up to a bound, 64 or 1/256 of those in use, whichever is more, and go
/// back to the system in batches. Systems other than Linux and Android take them lazily at best
/// (`MADV_FREE`: they count as gone at once) and elsewhere not at all (they stay kept).
///
/// Where the system's page is larger than the source's, or huge pages are asked for, memory is
/// charged in those units; less than one unit under the cap is then never used.
#[derive(Debug)]
pub struct Mmap {
    reserved: Reserved,
    capacity: u32,
    free: Mutex<FreePages>,
}

impl Mmap {
    /// Reserves the range.
    ///
    /// # Errors
    /// `InvalidInput` for a page size or a number of pages out of range, `Unsupported` for an option
    /// that this system does not have, else what the system says.
    pub fn new(options: MmapOptions) -> io::Result<Self> {
        let MmapOptions { page_size, max_pages, .. } = options;
        if !page_size_fits(page_size) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let most = match MOST_BYTES {
            Some(bytes) => bytes / page_size,
            None => most_pages(page_size) as usize,
        };
        let wanted = max_pages.map_or(most, |pages| pages as usize);
        if wanted == 0 || wanted > most {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut grain_bytes = system_page()?.max(page_size);
        if options.huge_pages {
            grain_bytes = grain_bytes.max(HUGE);
        }
        let mut pages = wanted;
        let reserved = loop {
            match Reserved::new(pages, page_size, grain_bytes) {
                Ok(reserved) => break reserved,
                Err(error) if max_pages.is_some() || pages * page_size / 2 < LEAST_BYTES => {
                    return Err(error);
                }
                Err(_) => pages /= 2,
            }
        };
        reserved.advise(options)?;
        let free = Mutex::new(FreePages::new(pages, page_size, grain_bytes));
        Ok(Self { reserved, capacity: pages as u32, free })
    }
}

// SAFETY: `FreePages` hands a number below the limit out once at a time. Page `n` lies `n` pages
// behind the base in one mapping of ours, which lives as long as the source, and was made readable
// and writable before the frontier passed it; anonymous memory is initialised, with zeros at first.
// The base is aligned to the page size.
unsafe impl PageSource for Mmap {
    fn page_size(&self) -> usize {
        self.reserved.page_size
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn access(&self) -> Access {
        Access::Linear(self.reserved.base)
    }

    fn take(&self, after: Option<u32>, more: usize, ledger: &Ledger) -> Result<u32, SourceError> {
        self.free.lock().take(after, more, ledger, &self.reserved)
    }

    fn give(&self, pages: &[u32], ledger: &Ledger) {
        self.free.lock().give(pages, ledger, &self.reserved);
    }

    fn trim(&self, ledger: &Ledger) {
        self.free.lock().discard(usize::MAX, ledger, &self.reserved);
    }

    fn kept(&self) -> usize {
        self.free.lock().kept()
    }

    fn is_fresh(&self) -> bool {
        self.free.lock().is_fresh()
    }
}

/// Bytes in a page of the operating system.
pub(super) fn system_page() -> io::Result<usize> {
    // SAFETY: sysconf only reads its argument.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let bytes = usize::try_from(bytes).map_err(|_| io::Error::last_os_error())?;
    if bytes.is_power_of_two() { Ok(bytes) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// `Ok` for 0, errno for the rest.
fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[derive(Debug)]
struct Reserved {
    base: Base,
    /// Whole grains: the last page may be followed by some that have no number.
    bytes: usize,
    page_size: usize,
    grain_bytes: usize,
}

impl Reserved {
    fn new(pages: usize, page_size: usize, grain_bytes: usize) -> io::Result<Self> {
        let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
        let bytes = pages.checked_mul(page_size).ok_or_else(too_large)?;
        let bytes = bytes.checked_next_multiple_of(grain_bytes).ok_or_else(too_large)?;
        // The system aligns to its own page only: ask for a grain more and cut the ends off.
        let slack = grain_bytes - system_page()?;
        let asked = bytes.checked_add(slack).ok_or_else(too_large)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | NO_RESERVE;
        // SAFETY: a new mapping wherever the system likes touches no memory that is in use.
        let start = unsafe { libc::mmap(ptr::null_mut(), asked, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = start.cast::<u8>();
        let head = start.addr().next_multiple_of(grain_bytes) - start.addr();
        let first = start.wrapping_add(head);
        unmap(start, head);
        unmap(first.wrapping_add(bytes), slack - head);
        let base = Base::new(NonNull::new(first).ok_or_else(too_large)?);
        Ok(Self { base, bytes, page_size, grain_bytes })
    }

    /// The address and the length of `pages`, widened at the end to a whole grain.
    fn span(&self, pages: Range<usize>) -> (*mut libc::c_void, usize) {
        let start = pages.start * self.page_size;
        let end = (pages.end * self.page_size).next_multiple_of(self.grain_bytes);
        assert!(start < end && end <= self.bytes && start % self.grain_bytes == 0);
        (self.base.first().as_ptr().wrapping_add(start).cast(), end - start)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn advise(&self, options: MmapOptions) -> io::Result<()> {
        let all = |advice| {
            let base = self.base.first().as_ptr().cast();
            // SAFETY: the range is our own mapping, and none of these touches its bytes.
            done(unsafe { libc::madvise(base, self.bytes, advice) })
        };
        // khugepaged would fill holes again that were given back, past the budget. A kernel without
        // huge pages refuses both, rightly.
        let _ = all(if options.huge_pages { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE });
        if options.dont_dump {
            all(libc::MADV_DONTDUMP)?;
        }
        if options.dont_fork {
            all(libc::MADV_DONTFORK)?;
        }
        Ok(())
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn advise(&self, options: MmapOptions) -> io::Result<()> {
        if options.dont_fork { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
const NO_RESERVE: libc::c_int = libc::MAP_NORESERVE;
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
const NO_RESERVE: libc::c_int = 0;

/// What gives pages back and leaves them mapped.
#[cfg(any(target_os = "linux", target_os = "android"))]
const GIVE_BACK: Option<libc::c_int> = Some(libc::MADV_DONTNEED);
#[cfg(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd"
))]
const GIVE_BACK: Option<libc::c_int> = Some(libc::MADV_FREE);
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd"
)))]
const GIVE_BACK: Option<libc::c_int> = None;

impl Backing for Reserved {
    /// The whole prefix, so that it stays one mapping; what is accessible already does not change.
    fn commit(&self, end: usize) -> io::Result<()> {
        let (start, bytes) = self.span(0..end);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: `span` asserts that this is inside our mapping; more access harms nobody.
        done(unsafe { libc::mprotect(start, bytes, access) })
    }

    fn discard(&self, pages: Range<usize>) -> io::Result<()> {
        let (start, bytes) = self.span(pages);
        let advice = GIVE_BACK.ok_or(io::ErrorKind::Unsupported)?;
        // SAFETY: inside our mapping (`span` asserts it), and all of these pages are free:
        // nobody has a reference to their bytes.
        done(unsafe { libc::madvise(start, bytes, advice) })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        unmap(self.base.first().as_ptr(), self.bytes);
    }
}

/// Unmaps a part of our own mapping that nobody will use again.
fn unmap(start: *mut u8, bytes: usize) {
    if bytes > 0 {
        // SAFETY: both callers pass what they mapped themselves and hand out no longer.
        let result = done(unsafe { libc::munmap(start.cast(), bytes) });
        debug_assert!(result.is_ok(), "{result:?}");
    }
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
mod tests {
    use super::*;
    use crate::source::free_pages::tests::churn;

    fn source(options: MmapOptions) -> Mmap {
        Mmap::new(options).unwrap()
    }

    fn first(source: &Mmap) -> *mut u8 {
        source.reserved.base.first().as_ptr()
    }

    fn fill(source: &Mmap, page: u32, value: u8) {
        let bytes = source.page_size();
        let start = first(source).wrapping_add(page as usize * bytes);
        // SAFETY: the caller has taken the page.
        unsafe { start.write_bytes(value, bytes) }
    }

    /// Resident KiB of the mapping that starts at the base.
    #[cfg(target_os = "linux")]
    fn resident(source: &Mmap) -> usize {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let start = format!("{:x}-", first(source).addr());
        let mapping = smaps.split_inclusive('\n').skip_while(|line| !line.starts_with(&start));
        let resident = mapping.into_iter().find_map(|line| line.strip_prefix("Rss:")).unwrap();
        resident.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no memory without an access right")]
    fn agrees_with_a_set_and_its_ledger() {
        for page_size in [4096, 16384, 65536] {
            for cap in [1, 100, 1000, usize::MAX] {
                let source = source(MmapOptions::new().page_size(page_size).max_pages(16_000));
                let ledger = Ledger::new(page_size, cap, usize::MAX);
                churn(&source, &ledger, 6000);
                source.trim(&ledger);
                assert_eq!((ledger.pages(), source.kept()), (0, 0));
            }
        }
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

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no memory without an access right")]
    fn huge_pages_are_charged_and_returned_whole() {
        let options = MmapOptions::new().huge_pages(true).max_pages(2000);
        let source = self::source(options);
        assert_eq!(first(&source).addr() % HUGE, 0);
        let ledger = Ledger::new(4096, 1300, usize::MAX);
        let pages: Vec<u32> = (0..1024)
            .map(|_| source.take(None, 0, &ledger).unwrap())
            .inspect(|page| fill(&source, *page, 1))
            .collect();
        assert!(matches!(source.take(None, 0, &ledger), Err(SourceError::Refused)));
        source.give(&pages[1..], &ledger);
        source.trim(&ledger);
        assert_eq!((ledger.pages(), source.kept()), (512, 511));
        #[cfg(target_os = "linux")]
        assert!(resident(&source) <= 2048);
        churn(&self::source(options), &Ledger::new(4096, 1700, usize::MAX), 6000);
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
    fn two_mappings_whatever_happens() {
        let source = source(MmapOptions::new().dont_dump(true).dont_fork(true));
        let ledger = Ledger::new(4096, usize::MAX, usize::MAX);
        churn(&source, &ledger, 20_000);
        let (start, end) = (first(&source).addr(), first(&source).addr() + source.reserved.bytes);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let inside = maps.lines().filter(|line| {
            let address = usize::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
            (start..end).contains(&address)
        });
        assert_eq!(inside.count(), 2);
    }
}
