//! A storage that loses power: what was not synced is there, or not, write by write.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

/// Writes are kept or lost in units of this many bytes.
const SECTOR: usize = 512;

#[derive(Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Debug, Default)]
struct Content {
    /// What is there for sure.
    synced: Vec<u8>,
    /// What was changed since.
    changes: Vec<Change>,
    /// What a reader sees.
    seen: Vec<u8>,
    /// Calls that change something until the power goes.
    calls_left: Option<u64>,
}

/// Clones share the storage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Storage {
    content: Arc<Mutex<Content>>,
    reads: Arc<AtomicU64>,
    /// One read in so many fails; 0 for none.
    failing: Arc<AtomicU64>,
}

fn apply(to: &mut Vec<u8>, change: &Change, mut keeps: impl FnMut() -> bool) {
    match change {
        Change::Length(len) => {
            if keeps() {
                to.resize(*len as usize, 0);
            }
        }
        Change::Write(offset, data) => {
            for (sector, bytes) in data.chunks(SECTOR).enumerate() {
                let at = *offset as usize + sector * SECTOR;
                if keeps() {
                    let end = at + bytes.len();
                    to.resize(to.len().max(end), 0);
                    to[at..end].copy_from_slice(bytes);
                }
            }
        }
    }
}

impl Storage {
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// From now on, one read in `reads` fails; 0 for none.
    pub(crate) fn fail_reads(&self, reads: u64) {
        self.failing.store(reads, Ordering::Relaxed);
    }

    /// The power goes after so many calls that change something.
    pub(crate) fn cut_power_after(&self, calls: u64) {
        self.content.lock().unwrap().calls_left = Some(calls);
    }

    /// The power is back: of what was not synced some sectors are there. A file's new length is,
    /// for redb grows a file before it writes there, and a file system orders that.
    pub(crate) fn power_on(&self, rng: &mut fastrand::Rng) {
        let content = &mut *self.content.lock().unwrap();
        content.calls_left = None;
        for change in content.changes.drain(..) {
            let is_length = matches!(change, Change::Length(_));
            apply(&mut content.synced, &change, || is_length || rng.bool());
        }
        content.seen = content.synced.clone();
    }

    fn change(&self, change: Option<Change>) -> io::Result<()> {
        let content = &mut *self.content.lock().unwrap();
        if let Some(left) = &mut content.calls_left {
            // The last write before the end is done in part.
            *left = left.checked_sub(1).ok_or_else(|| io::Error::other("no power"))?;
        }
        match change {
            Some(change) => {
                apply(&mut content.seen, &change, || true);
                content.changes.push(change);
            }
            None => {
                content.changes.clear();
                content.synced.clone_from(&content.seen);
            }
        }
        Ok(())
    }
}

impl StorageBackend for Storage {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.content.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed);
        let failing = self.failing.load(Ordering::Relaxed);
        if failing > 0 && reads % failing == failing - 1 {
            return Err(io::Error::other("a read fails"));
        }
        let content = self.content.lock().unwrap();
        if content.calls_left == Some(0) {
            return Err(io::Error::other("no power"));
        }
        let range = offset as usize..offset as usize + out.len();
        let bytes = content.seen.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.change(Some(Change::Length(len)))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.change(None)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.change(Some(Change::Write(offset, data.to_vec())))
    }
}
