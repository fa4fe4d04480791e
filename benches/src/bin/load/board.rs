//! A process watched from outside: what it has resident, and what it may have.
//!
//! The watched process says what it may hold through a file: a number that it writes before it may
//! hold more and after it holds less, with a count of such changes before and behind it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use benches::memory::{Memory, memfd_bytes};

/// What a process has in memory that no file backs.
#[derive(Debug)]
pub(crate) struct Resident(Memory, u32);

impl Resident {
    /// That of the process `pid`.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Ok(Self(Memory::of(pid)?, pid))
    }

    /// Bytes: anonymous, and shared without a file, pages of a memfd among them whether they are
    /// mapped or not. An error where the process has ended.
    pub(crate) fn bytes(&self) -> io::Result<usize> {
        Ok(self.0.resident()? + memfd_bytes(self.1)?)
    }
}

/// What a process may hold at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    /// How often it has changed.
    pub(crate) changes: u64,
    /// Bytes.
    pub(crate) bytes: usize,
}

/// The limit in force, told by one process to another in a file.
#[derive(Debug)]
pub(crate) struct Board(PathBuf);

impl Board {
    /// The board in the file at `path`.
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Tells the limit that holds from now on.
    pub(crate) fn tell(&self, limit: Limit) -> io::Result<()> {
        let count = limit.changes.to_le_bytes();
        fs::write(&self.0, [count, (limit.bytes as u64).to_le_bytes(), count].concat())
    }

    /// The limit as it was told last.
    pub(crate) fn limit(&self) -> io::Result<Limit> {
        loop {
            let bytes = fs::read(&self.0)?;
            let words = bytes.chunks_exact(8).map(|word| word.try_into().expect("8 bytes"));
            let words: Vec<u64> = words.map(u64::from_le_bytes).collect();
            match words[..] {
                [before, bytes, behind] if before == behind => {
                    return Ok(Limit { changes: before, bytes: bytes as usize });
                }
                // It is being written just now.
                _ => {}
            }
        }
    }
}

/// What may have been held at most between two readings: with more than one change in between, as
/// much as ever.
pub(crate) fn most(before: Limit, after: Limit, ever: usize) -> usize {
    match after.changes - before.changes {
        0 | 1 => before.bytes.max(after.bytes),
        _ => ever,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_tells_what_was_told_last() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let (board, other) = (Board::at(file.path()), Board::at(file.path()));
        for changes in 0..100 {
            let limit = Limit { changes, bytes: changes as usize * 1000 };
            other.tell(limit).expect("written");
            assert_eq!(board.limit().expect("read"), limit);
        }
    }

    #[test]
    fn two_changes_between_readings_allow_all_there_ever_was() {
        let limit = |changes, bytes| Limit { changes, bytes };
        assert_eq!(most(limit(3, 10), limit(3, 10), 99), 10);
        assert_eq!(most(limit(3, 10), limit(4, 7), 99), 10);
        assert_eq!(most(limit(3, 7), limit(5, 7), 99), 99);
    }
}
