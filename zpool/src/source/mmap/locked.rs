//! Memory of a process that locks its memory (`mlockall`), so that the system pages nothing out.
//! This is for Linux; on other systems nothing is found to be locked.
//!
//! Such a process locks every new mapping whole. For a reserve this means address space that holds
//! nothing. It counts against the limit on locked memory, and the system fills it as soon as it is
//! accessible. So a reserve is unlocked at once. Committed memory is locked again, each page from
//! its first use on. The system takes locked pages back only on an explicit request (Linux 5.18).
//! Older ones keep them.

use std::io;

#[cfg(target_os = "linux")]
pub(super) use linux::{give_back, is, lock, map, unlock};
#[cfg(not(target_os = "linux"))]
pub(super) use other::{give_back, is, lock, map, unlock};

/// Address and length of a part of a mapping of the source's.
pub(super) type Span = (*mut libc::c_void, usize);

#[cfg(target_os = "linux")]
mod linux {
    use super::{Span, io};
    use crate::source::limits::{self, done};
    use std::ptr;

    /// `madvise`: as `MADV_DONTNEED`, of locked pages too.
    const DONTNEED_LOCKED: libc::c_int = 24;
    /// `mlock2`: from the first use of each page on.
    const ONFAULT: libc::c_uint = 1;

    /// Whether a part that nobody uses is locked: the system does not take it back then.
    pub(in crate::source::mmap) fn is((start, bytes): Span) -> bool {
        // SAFETY: a part of a mapping of the caller's, in which there are no bytes that anybody
        // needs.
        let taken = done(unsafe { libc::madvise(start, bytes, libc::MADV_DONTNEED) });
        taken.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
    }

    pub(in crate::source::mmap) fn unlock((start, bytes): Span) -> io::Result<()> {
        // SAFETY: locking changes no byte and no access.
        done(unsafe { libc::munlock(start, bytes) })
    }

    /// Locks what is accessible. Fails at the limit on locked memory.
    pub(in crate::source::mmap) fn lock((start, bytes): Span) -> io::Result<()> {
        // SAFETY: as above.
        if unsafe { libc::syscall(libc::SYS_mlock2, start, bytes, ONFAULT) } == 0 {
            return Ok(());
        }
        // Before Linux 4.4, pages are locked and filled at once.
        // SAFETY: as above.
        done(unsafe { libc::mlock(start, bytes) })
    }

    /// Gives locked pages back, which nobody refers to.
    pub(in crate::source::mmap) fn give_back((start, bytes): Span) -> io::Result<()> {
        // SAFETY: the caller vouches for the pages; their addresses stay mapped.
        done(unsafe { libc::madvise(start, bytes, DONTNEED_LOCKED) })
    }

    /// A new mapping without access that is not locked, though it would pass the limit if it were:
    /// a small one is unlocked, and then grows.
    pub(in crate::source::mmap) fn map(bytes: usize, flags: libc::c_int) -> io::Result<*mut u8> {
        let named = |_| {
            let text = "the limit on locked memory is reached (RLIMIT_MEMLOCK, mlockall)";
            io::Error::new(io::ErrorKind::OutOfMemory, text)
        };
        let seed = limits::system_page()?;
        // SAFETY: a new mapping wherever the system likes touches no memory that is in use.
        let start = unsafe { libc::mmap(ptr::null_mut(), seed, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(named(io::Error::last_os_error()));
        }
        let grown = unlock((start, seed)).map(|()| {
            // SAFETY: our own mapping, which nobody knows of yet, may move.
            unsafe { libc::mremap(start, seed, bytes, libc::MREMAP_MAYMOVE) }
        });
        match grown {
            Ok(grown) if grown != libc::MAP_FAILED => Ok(grown.cast()),
            failed => {
                let error = failed.err().unwrap_or_else(io::Error::last_os_error);
                // SAFETY: what was mapped above, and nobody knows of.
                let _ = unsafe { libc::munmap(start, seed) };
                Err(error)
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use super::{Span, io};

    pub(in crate::source::mmap) fn is(_: Span) -> bool {
        false
    }

    pub(in crate::source::mmap) fn unlock(_: Span) -> io::Result<()> {
        Ok(())
    }

    pub(in crate::source::mmap) fn lock(_: Span) -> io::Result<()> {
        Ok(())
    }

    pub(in crate::source::mmap) fn give_back(_: Span) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(in crate::source::mmap) fn map(_: usize, _: libc::c_int) -> io::Result<*mut u8> {
        Err(io::ErrorKind::OutOfMemory.into())
    }
}
