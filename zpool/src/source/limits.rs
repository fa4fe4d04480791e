//! What the system answers, and what it lets a process have.

use std::io;

#[cfg(unix)]
use crate::sync::{Counter, Ordering};

/// Bytes of address space that sources of this process have reserved.
#[cfg(unix)]
static RESERVED: Counter = Counter::new(0);
/// Of the address space that is left under a limit, one range takes this part at most.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SHARE: usize = 8;
/// The first ranges of all sources together leave three of so many parts to the program.
#[cfg(any(target_os = "linux", target_os = "android"))]
const ALL: usize = 4;

/// `Ok` for 0, errno for the rest.
#[cfg(unix)]
pub(super) fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes in a page of the operating system.
#[cfg(unix)]
pub(super) fn system_page() -> io::Result<usize> {
    // SAFETY: sysconf only reads its argument.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let bytes = usize::try_from(bytes).map_err(|_| io::Error::last_os_error())?;
    if bytes.is_power_of_two() { Ok(bytes) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// The least that is worth punching out of a file: a page of the system, which a page cache is made
/// of.
pub(super) fn hole_bytes() -> io::Result<usize> {
    #[cfg(unix)]
    return system_page();
    #[cfg(not(unix))]
    return Ok(1);
}

/// The most bytes that a file may have. A write behind them raises `SIGXFSZ`, which ends a process
/// that has not made provision. Asked anew for each write, because the limit may change at any
/// time.
pub(super) fn file_bytes() -> u64 {
    #[cfg(unix)]
    // SAFETY: `soft` passes a struct that the call may write.
    return soft(|limit| unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, limit) }).unwrap_or(u64::MAX);
    #[cfg(not(unix))]
    return u64::MAX;
}

/// The limit in force that `get` writes. `None`: there is none, or the system does not tell.
#[cfg(unix)]
fn soft(get: impl FnOnce(*mut libc::rlimit) -> libc::c_int) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    let told = get(&raw mut limit) == 0 && limit.rlim_cur != libc::RLIM_INFINITY;
    #[allow(clippy::useless_conversion, reason = "signed on some systems, of 32 bits on others")]
    told.then(|| u64::try_from(limit.rlim_cur).ok()).flatten()
}

/// Counts `bytes` of address space as reserved.
#[cfg(unix)]
pub(super) fn reserved(bytes: usize) {
    RESERVED.fetch_add(bytes, Ordering::Relaxed);
}

/// Counts `bytes` as reserved no longer.
#[cfg(unix)]
pub(super) fn unreserved(bytes: usize) {
    RESERVED.fetch_sub(bytes, Ordering::Relaxed);
}

/// Of `wanted` bytes of address space, how many a first range may take: all where the process has
/// no limit (`RLIMIT_AS`), else what leaves the program most of what it had before there were
/// sources.
#[cfg(unix)]
pub(super) fn first_share(wanted: usize) -> usize {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(left) = space_left() {
        let ours = RESERVED.load(Ordering::Relaxed);
        let all = (left.saturating_add(ours) / ALL).saturating_sub(ours);
        return wanted.min(left / SHARE).min(all);
    }
    wanted
}

/// The same for a further range, whose pages are needed.
#[cfg(unix)]
pub(super) fn share(wanted: usize) -> usize {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(left) = space_left() {
        return wanted.min(left / SHARE);
    }
    wanted
}

/// Bytes of address space left under the limit of the process. `None`: it has none.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn space_left() -> Option<usize> {
    // SAFETY: `soft` passes a struct that the call may write.
    let limit = soft(|limit| unsafe { libc::getrlimit(libc::RLIMIT_AS, limit) })?;
    let limit = usize::try_from(limit).ok()?;
    // The first number of it is the address space in use, in pages.
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split_whitespace().next().and_then(|pages| pages.parse().ok());
    let used = pages.unwrap_or(0_usize).saturating_mul(system_page().unwrap_or(4096));
    Some(limit.saturating_sub(used))
}
