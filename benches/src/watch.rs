//! A process watched from outside: what it has resident, and what it may have.
//!
//! The watched process says what it may hold through a file: a number that it writes before it may hold
//! more and after it holds less, with a count of such changes before and behind it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Bytes of memory that only the process `pid` has in RAM: anonymous, and shared without a file, pages
/// of a memfd among them whether they are mapped or not.
///
/// # Errors
/// The process has ended, or this system does not tell.
pub fn resident(pid: u32) -> io::Result<usize> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
        kib.map(|kib| kib << 10).ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    };
    Ok(field("Anonymous:")? + field("Pss_Shmem:")? + memfd_bytes(pid)?)
}

/// Bytes in the memfds of a process. Nothing maps those of a pool, so no mapping tells of them.
#[cfg(target_os = "linux")]
fn memfd_bytes(pid: u32) -> io::Result<usize> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        // Descriptors come and go.
        let Ok(target) = fs::read_link(&path) else { continue };
        if target.to_string_lossy().starts_with("/memfd:") {
            bytes += fs::metadata(&path).map_or(0, |data| data.blocks() as usize * 512);
        }
    }
    Ok(bytes)
}

#[cfg(not(target_os = "linux"))]
fn memfd_bytes(_pid: u32) -> io::Result<usize> {
    Ok(0)
}

/// Gives back what this process's allocator keeps of freed memory, as far as it can: else it would go, or
/// be used again, at some time after a baseline was taken.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call gives free memory back and touches none that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What a process may hold at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How often it has changed.
    pub changes: u64,
    /// Bytes.
    pub bytes: usize,
}

/// The limit in force, told by one process to another.
#[derive(Debug)]
pub struct Board {
    file: Mutex<File>,
    path: PathBuf,
    /// Whether this end made the file.
    owned: bool,
}

impl Board {
    /// A board for a process to be watched; it goes with this value.
    ///
    /// # Errors
    /// The directory for temporary files cannot be written to.
    pub fn make() -> io::Result<Self> {
        let name = format!("zcache-load-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path)?;
        let board = Self { file: Mutex::new(file), path, owned: true };
        board.tell(Limit { changes: 0, bytes: 0 })?;
        Ok(board)
    }

    /// The board that another process made at `path`.
    ///
    /// # Errors
    /// There is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self { file: Mutex::new(file), path: path.into(), owned: false })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self) -> std::sync::MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Tells the limit that holds from now on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn tell(&self, limit: Limit) -> io::Result<()> {
        let count = limit.changes.to_le_bytes();
        let words = [count, (limit.bytes as u64).to_le_bytes(), count].concat();
        let mut file = self.file();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&words)
    }

    /// The limit as it was told last.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn limit(&self) -> io::Result<Limit> {
        let mut file = self.file();
        loop {
            let mut words = [[0; 8]; 3];
            file.seek(SeekFrom::Start(0))?;
            file.read_exact(words.as_flattened_mut())?;
            let [before, bytes, behind] = words.map(u64::from_le_bytes);
            // Else it is being written just now.
            if before == behind {
                return Ok(Limit { changes: before, bytes: bytes as usize });
            }
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if self.owned {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What may have been held at most between two readings: with more than one change in between, as much
/// as ever.
#[must_use]
pub fn most(before: Limit, after: Limit, ever: usize) -> usize {
    match after.changes - before.changes {
        0 | 1 => before.bytes.max(after.bytes),
        _ => ever,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_tells_what_was_told_last_and_goes_with_its_maker() {
        let board = Board::make().expect("a file");
        let other = Board::open(board.path()).expect("the same");
        for changes in 0..100 {
            let limit = Limit { changes, bytes: changes as usize * 1000 };
            other.tell(limit).expect("written");
            assert_eq!(board.limit().expect("read"), limit);
        }
        let path = board.path().to_owned();
        drop(other);
        assert!(path.exists());
        drop(board);
        assert!(!path.exists());
    }

    #[test]
    fn two_changes_between_readings_allow_all_there_ever_was() {
        let limit = |changes, bytes| Limit { changes, bytes };
        assert_eq!(most(limit(3, 10), limit(3, 10), 99), 10);
        assert_eq!(most(limit(3, 10), limit(4, 7), 99), 10);
        assert_eq!(most(limit(3, 7), limit(5, 7), 99), 99);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_that_is_touched_is_resident() {
        let me = std::process::id();
        // Tests beside this one hold memory too, and give it back between two looks.
        let is_seen = |_| {
            let before = resident(me).expect("a figure");
            let bytes = std::hint::black_box(vec![1_u8; 64 << 20]);
            let after = resident(me).expect("a figure");
            drop(bytes);
            (before + (63 << 20)..before + (80 << 20)).contains(&after)
        };
        assert!((0..100).any(is_seen));
    }
}
