//! redb's trait over another backend.

use std::io;
use std::ops::Bound;

use redb::{BackendError, StorageBackend};

use crate::blocks::{BLOCK, BlockCache, FileBlocks};

const STEP: u64 = BLOCK as u64;

/// A [`StorageBackend`] that asks a cache before another backend: made by
/// [`BlockCache::over`](crate::BlockCache::over).
///
/// Reads of whole blocks come from the cache, or fill it. A write goes to the other backend first
/// and to the cache after. One that fails removes its blocks from the cache, because nobody knows
/// which bytes of it were written.
///
/// Locks are the other backend's. Only locks of the whole storage are passed on, which is what redb
/// calls level 2: so [`ConcurrencyMode::ExclusiveWriter`](redb::ConcurrencyMode) works as it does
/// without a cache, and the modes in which other processes write the file beside this one are
/// refused when the database is opened. The cache would not see their writes.
#[derive(Debug)]
pub struct CachedBackend<B> {
    inner: B,
    blocks: FileBlocks,
}

impl BlockCache {
    /// A backend that asks this cache before `inner`.
    pub fn over<B: StorageBackend>(&self, inner: B) -> CachedBackend<B> {
        CachedBackend { inner, blocks: self.new_file() }
    }
}

impl<B: StorageBackend> CachedBackend<B> {
    /// The answer of a lock call that was passed on. Before a lock is held others may write.
    fn locked<T>(&self, answer: Result<T, BackendError>) -> Result<T, BackendError> {
        self.blocks.all_changed();
        answer
    }
}

/// Whether a range is the whole storage.
fn is_whole(start: Bound<u64>, end: Bound<u64>) -> bool {
    matches!(start, Bound::Unbounded | Bound::Included(0)) && end == Bound::Unbounded
}

impl<B: StorageBackend> StorageBackend for CachedBackend<B> {
    fn len(&self) -> Result<u64, io::Error> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let is_blocks = offset.is_multiple_of(STEP) && out.len().is_multiple_of(BLOCK);
        if !is_blocks {
            // Parts of the header.
            return self.inner.read(offset, out);
        }
        self.blocks.read(offset / STEP, out, |number, to| self.inner.read(number * STEP, to))
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let grows = self.inner.len().is_ok_and(|before| before <= len);
        let cut = self.inner.set_len(len);
        if !grows {
            // Also where it failed: what is read anew is right in any case. The block in which the
            // file ends is cut as well.
            self.blocks.cut(len / STEP);
        }
        cut
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let written = self.inner.write(offset, data);
        let end = offset.saturating_add(data.len() as u64);
        for number in offset / STEP..end.div_ceil(STEP) {
            let at = (number * STEP).checked_sub(offset).and_then(|at| usize::try_from(at).ok());
            let block = at.and_then(|at| data.get(at..at + BLOCK)).filter(|_| written.is_ok());
            match block {
                Some(block) => self.blocks.written(number, block),
                None => self.blocks.changed(number),
            }
        }
        written
    }

    fn close(&self) -> Result<(), io::Error> {
        self.blocks.all_changed();
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if !is_whole(start, end) {
            return Err(BackendError::Unsupported);
        }
        self.locked(self.inner.try_lock_range(start, end))
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        if !is_whole(start, end) {
            return Err(BackendError::Unsupported);
        }
        self.locked(self.inner.try_lock_shared_range(start, end))
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        if !is_whole(start, end) {
            return Err(BackendError::Unsupported);
        }
        self.locked(self.inner.lock_range(start, end))
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        if !is_whole(start, end) {
            return Err(BackendError::Unsupported);
        }
        self.locked(self.inner.lock_shared_range(start, end))
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
