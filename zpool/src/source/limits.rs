//! Limits that the system sets for a process, where a page source has to keep them itself.

/// The most bytes that a file may have. A write behind them raises `SIGXFSZ`, which ends a process that
/// has not made provision. Asked anew for each write, because the limit may change at any time.
#[cfg(unix)]
pub(super) fn file_bytes() -> u64 {
    // SAFETY: `soft` passes a struct that the call may write.
    soft(|limit| unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, limit) }).unwrap_or(u64::MAX)
}

#[cfg(not(unix))]
pub(super) fn file_bytes() -> u64 {
    u64::MAX
}

/// The limit in force that `get` writes. `None`: there is none, or the system does not tell.
#[cfg(unix)]
fn soft(get: impl FnOnce(*mut libc::rlimit) -> libc::c_int) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    let told = get(&raw mut limit) == 0 && limit.rlim_cur != libc::RLIM_INFINITY;
    #[allow(clippy::useless_conversion, reason = "signed on some systems, of 32 bits on others")]
    told.then(|| u64::try_from(limit.rlim_cur).ok()).flatten()
}
