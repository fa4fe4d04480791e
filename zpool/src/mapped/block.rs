//! The memory of one block of an array: address space that is opened from its start on, and whose
//! pages come and go.
//!
//! Memory that was never opened has no access and is no part of what a program locks (`mlockall`).

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// `layout` on the heap, all zeros. `None`: the allocator has no room.
pub(super) fn on_heap(layout: Layout) -> Option<NonNull<u8>> {
    assert!(layout.size() > 0, "a block has elements");
    // SAFETY: the size is not 0, as asserted.
    NonNull::new(unsafe { alloc_zeroed(layout) })
}

/// Gives a block of the heap back.
///
/// # Safety
/// `start` came from [`on_heap`] with this layout, and nobody uses it any more.
pub(super) unsafe fn off_heap(start: NonNull<u8>, layout: Layout) {
    // SAFETY: the caller's promise.
    unsafe { dealloc(start.as_ptr(), layout) };
}

/// Bytes of a huge page, where there are any.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// Whether blocks can be pages of the system's. Miri knows `mmap` only in part.
pub(super) const MAPS: bool = cfg!(all(unix, not(miri)));

#[cfg(all(unix, not(miri)))]
mod system {
    use std::ptr::{self, NonNull};

    use super::HUGE_PAGE;

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    const NO_RESERVE: libc::c_int = libc::MAP_NORESERVE;
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    const NO_RESERVE: libc::c_int = 0;

    /// Bytes in a page of the system's.
    pub(in crate::mapped) fn page() -> usize {
        // SAFETY: sysconf only reads its argument.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(bytes).unwrap_or(1 << 16)
    }

    /// `bytes` of address space without access, whole pages. `None`: the system refuses.
    pub(in crate::mapped) fn reserve(bytes: usize) -> Option<NonNull<u8>> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | NO_RESERVE;
        // SAFETY: a new mapping wherever the system likes touches no memory that is in use.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        // A huge page would hold memory that no ledger knows of.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if bytes >= HUGE {
            // SAFETY: the mapping is ours and new. A kernel without huge pages refuses, rightly.
            unsafe { libc::madvise(start, bytes, libc::MADV_NOHUGEPAGE) };
        }
        NonNull::new(start.cast())
    }

    /// Reserves `bytes`, behind a multiple of a huge page as far as `offset` is, where there is
    /// room.
    pub(in crate::mapped) fn reserve_at(bytes: usize, offset: usize) -> Option<NonNull<u8>> {
        let more = bytes.checked_add(HUGE_PAGE).filter(|_| bytes >= HUGE_PAGE);
        let Some(start) = more.and_then(reserve) else { return reserve(bytes) };
        let head = offset.wrapping_sub(start.addr().get()) % HUGE_PAGE;
        let cut = |from: usize, bytes: usize| {
            // SAFETY: inside what was reserved above.
            let start = unsafe { start.add(from) };
            if bytes > 0 {
                // SAFETY: what nobody knows of yet.
                unsafe { unmap(start, bytes) };
            }
        };
        cut(0, head);
        cut(head + bytes, HUGE_PAGE - head);
        // SAFETY: `head` is less than what was reserved beyond `bytes`.
        Some(unsafe { start.add(head) })
    }

    /// Has a huge page back `bytes` bytes from `start` on, which hold no memory: `touch` writes to
    /// them while the system may take one. `Ok(false)`: the system may not. An error: it may take
    /// one later.
    ///
    /// # Safety
    /// They are a huge page long, a part of a mapping of the caller's, and can be written to.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) unsafe fn open_huge(
        start: *mut u8,
        bytes: usize,
        touch: impl FnOnce(),
    ) -> std::io::Result<bool> {
        let advise = |advice| {
            // SAFETY: a part of a mapping of the caller's, in which nobody needs a byte.
            let done = unsafe { libc::madvise(start.cast(), bytes, advice) };
            if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // Linux 6.14 gives up its table of single pages for this, beside which it takes no huge
        // one. It fails where memory is locked: the system does not split a huge page there.
        if advise(libc::MADV_DONTNEED).is_err() || advise(libc::MADV_HUGEPAGE).is_err() {
            return Ok(false);
        }
        touch();
        // What backs them stays. Mappings are one again, and khugepaged keeps away.
        advise(libc::MADV_NOHUGEPAGE).map(|()| true)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) unsafe fn open_huge(
        _start: *mut u8,
        _bytes: usize,
        _touch: impl FnOnce(),
    ) -> std::io::Result<bool> {
        Ok(false)
    }

    /// Has single pages back what a huge page may back.
    ///
    /// # Safety
    /// `page` bytes from `start` on are a page of the system's in it, in a mapping of the caller's.
    pub(crate) unsafe fn split_huge(start: *mut u8, page: usize) {
        // A huge page of which a part is cold is split, since Linux 5.4. If it is not, the system
        // splits it when parts of it are given back and memory is short.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        // SAFETY: a page in a mapping of the caller's; this touches no byte.
        unsafe {
            libc::madvise(start.cast(), page, libc::MADV_COLD)
        };
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = (start, page);
    }

    /// `madvise`: as `MADV_DONTNEED`, of locked pages too.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const DONTNEED_LOCKED: libc::c_int = 24;

    /// The least size of a huge page.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const HUGE: usize = 64 << 10;

    /// Has pages of a mapping not locked that the program's locked memory would take in.
    ///
    /// # Safety
    /// They are a mapping that [`reserve`] made.
    pub(in crate::mapped) unsafe fn unlock(start: NonNull<u8>, bytes: usize) {
        // SAFETY: a mapping of ours; what is not locked is not changed.
        unsafe { libc::munlock(start.as_ptr().cast(), bytes) };
    }

    /// Makes whole pages readable and writable.
    ///
    /// # Safety
    /// They are a part of a mapping that [`reserve`] made.
    pub(in crate::mapped) unsafe fn commit(start: *mut u8, bytes: usize) -> bool {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a part of a mapping of ours; more access harms nobody.
        unsafe { libc::mprotect(start.cast(), bytes, access) == 0 }
    }

    /// Gives the memory of whole pages back, which are zeros from here on. `false`: they keep it,
    /// as they do in a program that has locked its memory.
    ///
    /// # Safety
    /// They are a part of a mapping that [`reserve`] made, and zeros are as good as what they hold.
    pub(in crate::mapped) unsafe fn discard(start: *mut u8, bytes: usize) -> bool {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        // Locked pages are taken back by the second advice, since Linux 5.18.
        return [libc::MADV_DONTNEED, DONTNEED_LOCKED]
            .into_iter()
            // SAFETY: a part of a mapping of ours, whose bytes nobody needs.
            .any(|advice| unsafe { libc::madvise(start.cast(), bytes, advice) == 0 });
        // Elsewhere pages are taken late, if at all, and do not read as zeros at once.
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        return {
            let _ = (start, bytes);
            false
        };
    }

    /// Gives whole pages of a mapping back for good.
    ///
    /// # Safety
    /// They are a part of a mapping that [`reserve`] made, and nobody uses them any more.
    pub(in crate::mapped) unsafe fn unmap(start: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's promise.
        let result = unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
        debug_assert_eq!(result, 0, "a mapping of ours is unmapped");
    }
}

/// Where there are no such pages, every block is one of the heap.
#[cfg(not(all(unix, not(miri))))]
mod system {
    use std::ptr::NonNull;

    pub(in crate::mapped) fn page() -> usize {
        4096
    }

    pub(in crate::mapped) fn reserve(_bytes: usize) -> Option<NonNull<u8>> {
        None
    }

    pub(in crate::mapped) fn reserve_at(_bytes: usize, _offset: usize) -> Option<NonNull<u8>> {
        None
    }

    pub(crate) unsafe fn open_huge(
        _start: *mut u8,
        _bytes: usize,
        _touch: impl FnOnce(),
    ) -> std::io::Result<bool> {
        Ok(false)
    }

    pub(crate) unsafe fn split_huge(_start: *mut u8, _page: usize) {}

    pub(in crate::mapped) unsafe fn unlock(_start: NonNull<u8>, _bytes: usize) {}

    pub(in crate::mapped) unsafe fn commit(_start: *mut u8, _bytes: usize) -> bool {
        true
    }

    pub(in crate::mapped) unsafe fn discard(_start: *mut u8, _bytes: usize) -> bool {
        false
    }

    pub(in crate::mapped) unsafe fn unmap(_start: NonNull<u8>, _bytes: usize) {}
}

pub(super) use system::{commit, discard, page, reserve, reserve_at, unlock, unmap};
pub(crate) use system::{open_huge, split_huge};
