//! Limits of the operating system, for tests of what happens at them: each in a process of its own.

use std::env;
use std::process::Command;

/// Set in a child.
const CHILD: &str = "ZPOOL_LIMITED_CHILD";

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// Address space: no further mapping is made.
    AddressSpace,
    /// Memory that is written to: reserved address space cannot be committed.
    Data,
    /// The length of a file: a write beyond it ends the process by a signal.
    FileSize,
    /// Memory that is locked, for those without the right to lock any: see [`drop_rights`].
    LockedMemory,
}

/// Limits this process to `bytes` of something, or takes the limit back.
///
/// # Panics
/// It cannot be done.
pub fn set(limit: Limit, bytes: Option<u64>) {
    let resource = match limit {
        Limit::AddressSpace => libc::RLIMIT_AS,
        Limit::Data => libc::RLIMIT_DATA,
        Limit::FileSize => libc::RLIMIT_FSIZE,
        Limit::LockedMemory => libc::RLIMIT_MEMLOCK,
    };
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes the struct that it is given.
    let read = unsafe { libc::getrlimit(resource, &raw mut now) };
    let bytes = bytes.and_then(|bytes| libc::rlim_t::try_from(bytes).ok());
    now.rlim_cur = bytes.unwrap_or(now.rlim_max);
    // SAFETY: the call reads the struct that it is given.
    let set = unsafe { libc::setrlimit(resource, &raw const now) };
    assert_eq!((read, set), (0, 0), "{limit:?} is limited");
}

/// A line of `/proc/self/status`, in bytes.
///
/// # Panics
/// This system does not tell.
#[must_use]
pub fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("a number") << 10
}

/// Bytes of address space in use, and of memory that can be written to.
///
/// # Panics
/// This system does not tell.
#[must_use]
pub fn used() -> (u64, u64) {
    (status("VmSize:"), status("VmData:"))
}

/// Locks what this process maps from now on, and with `all` what it has; says whether the system
/// agreed.
#[must_use]
pub fn lock_memory(all: bool) -> bool {
    let flags = libc::MCL_FUTURE | if all { libc::MCL_CURRENT } else { 0 };
    // SAFETY: locking changes no byte.
    unsafe { libc::mlockall(flags) == 0 }
}

/// Makes this process one of nobody's, without the rights of root, if it has them.
///
/// # Panics
/// It cannot be done.
pub fn drop_rights() {
    const NOBODY: libc::uid_t = 65534;
    // SAFETY: the call reads no memory.
    if unsafe { libc::geteuid() } == 0 {
        // SAFETY: as above.
        let set = unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }
}

/// Runs `body` in a process of its own, which is this test, `name`, once more.
///
/// # Panics
/// It fails there.
pub fn in_child(name: &str, body: impl FnOnce()) {
    if env::var_os(CHILD).is_some() {
        return body();
    }
    let mut child = Command::new(env::current_exe().expect("a path"));
    child.args(["--exact", name, "--test-threads=1", "--nocapture"]);
    let output = child.env(CHILD, "1").output().expect("a child");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}
