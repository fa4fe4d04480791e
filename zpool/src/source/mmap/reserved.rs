//! One range of address space, reserved once and committed step by step.
//! ```text
//! base ............ committed .................................... end
//! | readable, writable        | no access, not locked: costs nothing |
//! ```
//! There are always two mappings, so that no limit on their number is met. Unmapping alternating
//! pages fails after 65,509 holes, protecting them after 32,754, `MADV_DONTNEED` never.

use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};

use super::locked::{self, Span};
use super::options::MmapOptions;
use crate::mapped::{HUGE_PAGE as HUGE, open_huge, split_huge};
use crate::source::Base;
use crate::source::limits::{self, done};
use crate::sync::{AtomicU32, Ordering};

/// The process does not lock its memory.
const UNLOCKED: u32 = 0;
/// It does, and so is what is committed.
const LOCKED: u32 = 1;
/// It does, and the system gives nothing back that is locked.
const KEPT: u32 = 2;

/// Positions in it are bytes behind its start, at multiples of `unit`.
#[derive(Debug)]
pub(super) struct Reserved {
    base: Base,
    /// Whole units: the last page may be followed by some that have no number.
    bytes: usize,
    /// What the system commits and takes back at once, in bytes: a multiple of its page.
    unit: usize,
    /// One of the three below. Known when it was made, and corrected when more is committed or some
    /// is given back. Relaxed: the source's lock orders those.
    locked: AtomicU32,
}

impl Reserved {
    /// Room for `bytes` bytes from a multiple of `align` to another one, in units of `unit` bytes.
    pub(super) fn new(
        bytes: usize,
        (align, unit): (usize, usize),
        options: MmapOptions,
    ) -> io::Result<Self> {
        let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
        let bytes = bytes.checked_next_multiple_of(align).ok_or_else(too_large)?;
        // The system aligns to its own page only: ask for more and cut the ends off.
        let slack = align - limits::system_page()?;
        let asked = bytes.checked_add(slack).ok_or_else(too_large)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | NO_RESERVE;
        let (start, locked) = match map(asked, flags) {
            // A new mapping would be locked, which is more than the process may lock.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                (locked::map(asked, flags)?, LOCKED)
            }
            mapped => (mapped?, UNLOCKED),
        };
        let head = start.addr().next_multiple_of(align) - start.addr();
        let first = start.wrapping_add(head);
        unmap(start, head);
        unmap(first.wrapping_add(bytes), slack - head);
        let base = Base::new(NonNull::new(first).ok_or_else(too_large)?);
        limits::reserved(bytes);
        let made = Self { base, bytes, unit, locked: AtomicU32::new(locked) };
        made.advise(options)?;
        made.unlock_from(0)?;
        Ok(made)
    }

    #[inline]
    pub(super) fn base(&self) -> Base {
        self.base
    }

    /// The address and the length of `at`, widened at the end to a whole unit.
    fn span(&self, at: Range<usize>) -> Span {
        let end = at.end.next_multiple_of(self.unit);
        assert!(at.start < end && end <= self.bytes && at.start % self.unit == 0);
        (self.base.first().as_ptr().wrapping_add(at.start).cast(), end - at.start)
    }

    /// Unlocks what is not committed, from `from` on, where the process has locked it.
    fn unlock_from(&self, from: usize) -> io::Result<()> {
        if from < self.bytes && locked::is(self.span(from..from + 1)) {
            let kept = locked::give_back(self.span(from..from + 1)).is_err();
            locked::unlock(self.span(from..self.bytes))?;
            self.locked.store(if kept { KEPT } else { LOCKED }, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes `at` readable and writable, in front of which all is so already.
    pub(super) fn commit(&self, at: Range<usize>) -> io::Result<()> {
        // The process may have begun to lock its memory since this was made.
        self.unlock_from(at.start)?;
        // The whole prefix, so that it stays one mapping; what is accessible already does not
        // change.
        let (start, bytes) = self.span(0..at.end);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: `span` asserts that this is inside our mapping; more access harms nobody.
        done(unsafe { libc::mprotect(start, bytes, access) })?;
        if self.locked.load(Ordering::Relaxed) == UNLOCKED {
            return Ok(());
        }
        locked::lock(self.span(at))
    }

    /// Gives the memory of `at` back, which nobody refers to; it stays usable.
    pub(super) fn discard(&self, at: Range<usize>) -> io::Result<()> {
        let (start, bytes) = self.span(at.clone());
        let advice = GIVE_BACK.ok_or(io::ErrorKind::Unsupported)?;
        // SAFETY: inside our mapping (`span` asserts it), and all of these pages are free:
        // nobody has a reference to their bytes.
        let given = done(unsafe { libc::madvise(start, bytes, advice) });
        let (given, locked) = match given {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let given = locked::give_back(self.span(at));
                let locked = if given.is_ok() { LOCKED } else { KEPT };
                (given, locked)
            }
            Err(error) => return Err(error),
            Ok(()) => (Ok(()), UNLOCKED),
        };
        self.locked.store(locked, Ordering::Relaxed);
        given
    }

    /// Has a huge page back `at`, which holds no memory. `false`: the system may not. An error: it
    /// may take one later.
    pub(super) fn open_huge(&self, at: Range<usize>) -> io::Result<bool> {
        let (start, bytes) = self.span(at);
        let start = start.cast::<u8>();
        // SAFETY: `at` is committed and free, so nobody has a reference to its bytes.
        let touch = || unsafe { start.write_volatile(0) };
        // SAFETY: inside our mapping (`span` asserts it), and committed.
        unsafe { open_huge(start, bytes, touch) }
    }

    /// Has single pages back `at`, which a huge page may back.
    pub(super) fn split(&self, at: Range<usize>) {
        let (start, _) = self.span(at);
        // SAFETY: `span` asserts that this is inside our mapping, in whole units.
        unsafe { split_huge(start.cast(), self.unit) };
    }

    /// Whether the system takes nothing back.
    pub(super) fn keeps(&self) -> bool {
        GIVE_BACK.is_none() || self.locked.load(Ordering::Relaxed) == KEPT
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn advise(&self, options: MmapOptions) -> io::Result<()> {
        let all = |advice| {
            let (start, bytes) = self.span(0..self.bytes);
            // SAFETY: the range is our own mapping, and none of these touches its bytes.
            done(unsafe { libc::madvise(start, bytes, advice) })
        };
        // Only where the source allows one: khugepaged would fill holes again that were given back,
        // past the budget. A kernel without huge pages refuses, rightly.
        let _ = all(libc::MADV_NOHUGEPAGE);
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
        let _ = options.dont_dump; // without effect
        if options.dont_fork { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        unmap(self.base.first().as_ptr(), self.bytes);
        limits::unreserved(self.bytes);
    }
}

/// Whether the system has huge pages for those who ask, of the size that is known here.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn has_huge_pages() -> bool {
    let says =
        |what: &str| std::fs::read_to_string(format!("/sys/kernel/mm/transparent_hugepage/{what}"));
    let asked = says("enabled").is_ok_and(|enabled| !enabled.contains("[never]"));
    let size = says("hpage_pmd_size").is_ok_and(|size| size.trim().parse() == Ok(HUGE));
    // SAFETY: this only reads a flag of the process.
    let off = unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) };
    asked && size && off == 0
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn has_huge_pages() -> bool {
    false
}

/// A new mapping without access.
fn map(bytes: usize, flags: libc::c_int) -> io::Result<*mut u8> {
    // SAFETY: a new mapping wherever the system likes touches no memory that is in use.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
    if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(start.cast()) }
}

/// Unmaps a part of our own mapping that nobody will use again.
fn unmap(start: *mut u8, bytes: usize) {
    if bytes > 0 {
        // SAFETY: all callers pass what they mapped themselves and hand out no longer.
        let result = done(unsafe { libc::munmap(start.cast(), bytes) });
        debug_assert!(result.is_ok(), "{result:?}");
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
