//! What the system says a process holds and has used.
//!
//! `smaps_rollup` counts page by page and is exact. Reading it allocates nothing, so that looking
//! does not change what is seen. Linux only: elsewhere there is no such file, and an error says so.

use std::fs::{self, File};
use std::io::{self, Read, Seek};

/// A file of `/proc` of one process, which is read again and again.
#[derive(Debug)]
pub struct Memory(File);

/// The kibibytes that follow `name` in a text of `/proc`, as bytes.
fn field(text: &str, name: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: usize = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

impl Memory {
    /// This process's.
    ///
    /// # Errors
    /// The system has no such file.
    pub fn own() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// That of the process `pid`.
    ///
    /// # Errors
    /// There is none, or the system has no such file.
    pub fn of(pid: u32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/smaps_rollup")).map(Self)
    }

    /// Bytes of anonymous memory, and of shared memory without a file that is mapped.
    ///
    /// # Errors
    /// The process has ended.
    pub fn resident(&self) -> io::Result<usize> {
        let (mut to, mut file) = ([0; 4096], &self.0);
        file.rewind()?;
        let len = file.read(&mut to)?;
        let text = std::str::from_utf8(&to[..len]).map_err(io::Error::other)?;
        let anonymous = field(text, "Anonymous:").ok_or(io::ErrorKind::Unsupported)?;
        Ok(anonymous + field(text, "Pss_Shmem:").unwrap_or(0))
    }
}

/// Bytes in the memfds of the process `pid`. Nothing maps those of a pool, so no mapping tells of
/// them.
///
/// # Errors
/// There is no such process.
pub fn memfd_bytes(pid: u32) -> io::Result<usize> {
    let mut bytes = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        // Descriptors come and go.
        let Ok(target) = fs::read_link(&path) else { continue };
        if target.to_string_lossy().starts_with("/memfd:") {
            bytes += fs::metadata(&path).map_or(0, |data| blocks(&data) * 512);
        }
    }
    Ok(bytes)
}

#[cfg(unix)]
fn blocks(data: &fs::Metadata) -> usize {
    std::os::unix::fs::MetadataExt::blocks(data) as usize
}

#[cfg(not(unix))]
fn blocks(_: &fs::Metadata) -> usize {
    0
}

/// Gives back what this process's allocator keeps of freed memory, as far as it can: else it would
/// be given back, or used again, at some time after a baseline was taken.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call gives free memory back and touches none that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_is_seen() {
        let memory = Memory::own().expect("Linux");
        // Tests beside this one hold memory too, and give it back between two looks.
        let is_seen = |_| {
            let before = memory.resident().expect("a figure");
            let block = std::hint::black_box(vec![1_u8; 64 << 20]);
            let after = memory.resident().expect("a figure");
            drop(block);
            (before + (63 << 20)..before + (80 << 20)).contains(&after)
        };
        assert!((0..100).any(is_seen));
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "Rss: 9 kB\nAnonHugePages: 8 kB\nAnonymous:   7 kB\n";
        assert_eq!(field(text, "Anonymous:"), Some(7 << 10));
        assert_eq!(field(text, "Pss_Shmem:"), None);
    }
}
