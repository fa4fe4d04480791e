//! The pages of one database file in the cache, and what is known of the file that they are of:
//! which change of others' it has seen. All calls to zcache are here.
//!
//! When may a page that is cached be given out? When nobody else has written the file since.
//!
//! - *Rollback journals.* Whoever writes holds an exclusive lock, and leaves another change counter
//!   in the file's first page. So the counter is compared once after each shared lock: it is what
//!   SQLite decides by whether its own cache is good.
//! - *WAL.* The file is written by checkpoints alone, at any time, under no lock of the file's. A
//!   checkpoint writes no page that a reader of that moment may read from the file, and when it has
//!   written it raises the number of frames that are back in the file, in the index of the WAL that
//!   all processes share ("WAL-mode File Format", 2.1). A reader takes a page from the file if the
//!   WAL has no frame of it, or only such frames. So that number, with the salts that name the
//!   present WAL, is looked at before each page is given out: it is a version of the file. While a
//!   connection of this process has the lock for checkpoints, all that changes the file is its own
//!   writes. And while one has the locks to start the WAL anew, all frames are back in the file,
//!   and nobody has a reason to write it: the version changes, and the file does not.
//! - *Own writes*, of all connections of this process through this file system, go to the file
//!   first and to the cache after.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zcache::{Cache, Lease, Leased, Waited};

/// The name of a page in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Page {
    /// The number of the file: each one that is opened by the first connection has another.
    pub file: u32,
    /// Where the page starts in the file.
    pub offset: u64,
}

/// Bytes of the file's header that tell one change from the next: the counter, the file's length,
/// the list of free pages. SQLite compares the same.
pub(crate) const COUNTER: usize = 16;

/// Where they are.
pub(crate) const COUNTER_AT: u64 = 24;

/// A version of the file in WAL mode: frames that are back, and the WAL's salts.
pub(crate) type Checkpoint = [u32; 3];

/// The part of a connection's that says whether it may use the cache.
#[derive(Debug, Default)]
pub(crate) struct Handle {
    /// The counter was compared since the last shared lock.
    pub(crate) is_compared: bool,
    /// The index of the WAL is mapped.
    pub(crate) has_index: bool,
    /// How many of the locks it has under which nobody else changes the file.
    pub(crate) locks: usize,
}

#[derive(Debug, Default)]
struct Known {
    counter: Option<[u8; COUNTER]>,
    checkpoint: Option<Checkpoint>,
    /// Connections that have mapped the index.
    indexes: usize,
    /// How many of them have locks under which nobody else changes the file.
    lockers: usize,
    /// Bytes of a page, as the last one that was read or written had.
    page_size: usize,
}

/// A database file that this process has open, whatever the number of its connections.
#[derive(Debug)]
pub(crate) struct Pages {
    cache: Arc<Cache<Page>>,
    file: u32,
    known: Mutex<Known>,
}

/// What a reader gets.
pub(crate) enum Read {
    /// The page is in the buffer.
    Done,
    /// It is to be read from the file, and given to [`Pages::loaded`].
    Load(Lease<Page>),
    /// It is to be read from the file.
    Bypass,
}

fn is_page(len: usize) -> bool {
    len.is_power_of_two() && (512..=65_536).contains(&len)
}

impl Pages {
    pub(crate) fn new(cache: &Arc<Cache<Page>>) -> Self {
        static FILES: AtomicU32 = AtomicU32::new(0);
        let file = FILES.fetch_add(1, Ordering::Relaxed);
        Self { cache: Arc::clone(cache), file, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self, offset: u64) -> Page {
        Page { file: self.file, offset }
    }

    fn clear(&self) {
        self.cache.scope(self.file).clear();
    }

    /// Whether a read could be one of a page, or in it.
    pub(crate) fn is_candidate(&self, offset: u64, len: usize) -> bool {
        let is_whole = is_page(len) && offset.is_multiple_of(len as u64);
        // The header is read under no lock: from the file.
        len <= self.cache.max_page() && (is_whole || offset >= 65_536)
    }

    /// Makes sure that the cache has nothing of a file that others have changed since, and says
    /// whether it may be used. `counter` reads the bytes at [`COUNTER_AT`]; `checkpoint` is what
    /// the index of the WAL says now, for a connection that has one.
    pub(crate) fn renewed(
        &self,
        handle: &mut Handle,
        checkpoint: Option<Checkpoint>,
        counter: impl FnOnce() -> Option<[u8; COUNTER]>,
    ) -> bool {
        if !handle.is_compared {
            match counter() {
                Some(counter) => self.compared(handle, counter),
                None => return false,
            }
        }
        let mut known = self.known();
        match checkpoint {
            Some(_) if known.lockers > 0 => {}
            Some(_) if known.checkpoint == checkpoint => {}
            Some(_) => {
                self.clear();
                known.checkpoint = checkpoint;
            }
            // Another connection has an index, and this one has not mapped it yet.
            None if known.indexes > 0 => return false,
            None => {}
        }
        true
    }

    /// The file's counter, read after a shared lock.
    pub(crate) fn compared(&self, handle: &mut Handle, counter: [u8; COUNTER]) {
        let mut known = self.known();
        if known.counter != Some(counter) {
            self.clear();
            known.counter = Some(counter);
        }
        handle.is_compared = true;
    }

    /// Pages of another size: those of the former size overlap them.
    fn sized(&self, len: usize) {
        let mut known = self.known();
        if known.page_size != len {
            self.clear();
            known.page_size = len;
        }
    }

    /// Looks for a page, or a part of one. Waits where another thread reads the page.
    pub(crate) fn read(&self, offset: u64, to: &mut [u8]) -> Read {
        if !(is_page(to.len()) && offset.is_multiple_of(to.len() as u64)) {
            return self.read_part(offset, to);
        }
        self.sized(to.len());
        let name = self.name(offset);
        let waiting = match self.cache.get_into_or_lease(&name, to) {
            Ok(Leased::Page(len)) if len == to.len() => return Read::Done,
            Ok(Leased::Lease(lease)) => return Read::Load(lease),
            Ok(Leased::Wait(waiting)) => waiting,
            // A page of another size, from before that changed.
            Ok(Leased::Page(_)) | Err(_) => {
                self.cache.remove(&name);
                return Read::Bypass;
            }
        };
        match waiting.wait() {
            Waited::Page(page) if page.len() == to.len() => {
                to.copy_from_slice(&page);
                Read::Done
            }
            Waited::Lease(lease) => Read::Load(lease),
            Waited::Page(_) | Waited::Failed(_) => Read::Bypass,
        }
    }

    /// SQLite reads parts of overflow pages.
    fn read_part(&self, offset: u64, to: &mut [u8]) -> Read {
        let page_size = self.known().page_size as u64;
        if page_size == 0 {
            return Read::Bypass;
        }
        let start = offset % page_size;
        if start + to.len() as u64 > page_size {
            return Read::Bypass;
        }
        let found = self.cache.get_range_into(&self.name(offset - start), start as usize, to);
        if found == Some(to.len()) { Read::Done } else { Read::Bypass }
    }

    /// The page of a lease, read from the file.
    pub(crate) fn loaded(&self, lease: Lease<Page>, page: &[u8]) {
        // Not stored is no error: the caller has the page.
        let _ = self.cache.insert_if_valid(lease, page);
    }

    /// What was written to the file: `data`, or so many bytes of which nobody knows what they are.
    pub(crate) fn written(&self, handle: &Handle, offset: u64, len: usize, data: Option<&[u8]>) {
        if is_page(len) && offset.is_multiple_of(len as u64) {
            self.sized(len);
            match data {
                // An insert that fails has removed what the page was before.
                Some(page) => drop(self.cache.insert(self.name(offset), page)),
                None => drop(self.cache.remove(&self.name(offset))),
            }
        } else {
            let page_size = self.known().page_size.max(512) as u64;
            let end = offset.saturating_add(len as u64);
            let mut at = offset - offset % page_size;
            while at < end {
                self.cache.remove(&self.name(at));
                at += page_size;
            }
        }
        let (start, end) = (COUNTER_AT, COUNTER_AT + COUNTER as u64);
        if offset < end && offset + len as u64 > start {
            // Of this process, so it is no reason to forget anything. But a connection that rolls
            // back what another process has left writes before it compares: what others have
            // changed before that is not known, and the next comparison is to find a difference.
            let bytes = data.filter(|_| offset == 0 && handle.is_compared);
            let counter = bytes.and_then(|data| data.get(start as usize..end as usize));
            self.known().counter = counter.map(|bytes| bytes.try_into().expect("16 bytes"));
        }
    }

    /// The file has got shorter, and ends at byte `len`.
    pub(crate) fn cut(&self, len: u64) {
        self.cache.retain(|page| page.file != self.file || page.offset < len);
        if let Some(last) = len.checked_sub(1) {
            // A page that is cut in the middle.
            let page_size = self.known().page_size.max(512) as u64;
            self.cache.remove(&self.name(last - last % page_size));
        }
    }

    /// A connection has mapped the index of the WAL.
    pub(crate) fn mapped(&self, handle: &mut Handle) {
        if !std::mem::replace(&mut handle.has_index, true) {
            self.known().indexes += 1;
        }
    }

    /// A connection has let go of it.
    pub(crate) fn unmapped(&self, handle: &mut Handle) {
        if !std::mem::replace(&mut handle.has_index, false) {
            return;
        }
        let mut known = self.known();
        known.indexes -= 1;
        if known.indexes == 0 {
            (known.counter, known.checkpoint) = (None, None);
            self.clear();
        }
        if std::mem::take(&mut handle.locks) > 0 {
            known.lockers -= 1;
        }
    }

    /// A connection has got a lock under which nobody else changes the file.
    pub(crate) fn locked(&self, handle: &mut Handle, now: Option<Checkpoint>) {
        handle.locks += 1;
        if handle.locks > 1 {
            return;
        }
        let mut known = self.known();
        if known.lockers == 0 && known.checkpoint != now {
            self.clear();
            known.checkpoint = now;
        }
        known.lockers += 1;
    }

    /// It is about to give it back: what has changed in between this process has written.
    pub(crate) fn unlocks(&self, handle: &mut Handle, now: Option<Checkpoint>) {
        match handle.locks {
            0 => {}
            1 => {
                handle.locks = 0;
                let mut known = self.known();
                known.checkpoint = now;
                known.lockers -= 1;
            }
            _ => handle.locks -= 1,
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTED: [u8; COUNTER] = [7; COUNTER];

    fn pages() -> Pages {
        let cache = Cache::new(zcache::Config::new(2 << 20)).unwrap();
        Pages::new(&Arc::new(cache.with_scopes(|page: &Page| page.file).unwrap()))
    }

    /// Whether the page is there, and is right.
    fn has(pages: &Pages, offset: u64, byte: u8) -> bool {
        let mut page = [0; 4096];
        let done = matches!(pages.read(offset, &mut page), Read::Done);
        assert!(!done || page == [byte; 4096]);
        done
    }

    fn is_usable(pages: &Pages, handle: &mut Handle, checkpoint: Option<Checkpoint>) -> bool {
        pages.renewed(handle, checkpoint, || Some(COUNTED))
    }

    #[test]
    fn what_is_cut_off_or_of_another_size_is_gone() {
        let (pages, handle) = (pages(), Handle::default());
        for page in 0..4 {
            pages.written(&handle, 4096 * page, 4096, Some(&[1; 4096]));
        }
        assert!((0..4).all(|page| has(&pages, 4096 * page, 1)));
        pages.cut(2 * 4096 + 100);
        assert!(has(&pages, 4096, 1) && !has(&pages, 2 * 4096, 1) && !has(&pages, 3 * 4096, 1));
        // A part of a page whose other bytes are not known.
        pages.written(&handle, 4096 + 100, 200, Some(&[2; 200]));
        assert!(has(&pages, 0, 1) && !has(&pages, 4096, 1));
        pages.written(&handle, 8192, 8192, Some(&[3; 8192]));
        assert!(!has(&pages, 0, 1));
    }

    #[test]
    fn a_write_that_failed_leaves_nothing() {
        let (pages, handle) = (pages(), Handle::default());
        pages.written(&handle, 65_536, 4096, Some(&[1; 4096]));
        assert!(has(&pages, 65_536, 1));
        let mut part = [0; 100];
        assert!(matches!(pages.read(65_536 + 50, &mut part), Read::Done) && part == [1; 100]);
        pages.written(&handle, 65_536, 4096, None);
        assert!(!has(&pages, 65_536, 1));
    }

    #[test]
    fn what_others_have_changed_is_forgotten() {
        let (pages, mut handle) = (pages(), Handle::default());
        let mut other = Handle::default();
        assert!(!pages.renewed(&mut handle, None, || None), "the counter cannot be read");
        assert!(is_usable(&pages, &mut handle, None));
        pages.written(&handle, 4096, 4096, Some(&[1; 4096]));
        assert!(is_usable(&pages, &mut other, None) && has(&pages, 4096, 1));
        pages.compared(&mut other, [8; COUNTER]);
        assert!(!has(&pages, 4096, 1), "another counter");

        // A connection that rolls back before it has compared.
        handle.is_compared = false;
        pages.written(&handle, 0, 4096, Some(&[8; 4096]));
        pages.written(&handle, 4096, 4096, Some(&[1; 4096]));
        pages.compared(&mut handle, [8; COUNTER]);
        assert!(!has(&pages, 4096, 1));
        // One that has compared.
        pages.written(&handle, 4096, 4096, Some(&[1; 4096]));
        pages.written(&handle, 0, 4096, Some(&[9; 4096]));
        pages.compared(&mut other, [9; COUNTER]);
        assert!(has(&pages, 4096, 1));
    }

    #[test]
    fn versions_of_a_wal_are_told_apart() {
        let (pages, mut handle) = (pages(), Handle::default());
        let mut other = Handle::default();
        assert!(is_usable(&pages, &mut handle, None));
        pages.mapped(&mut handle);
        assert!(!is_usable(&pages, &mut other, None), "it does not see the version");
        let is_kept = |handle: &mut Handle, checkpoint| {
            assert!(is_usable(&pages, handle, Some(checkpoint)));
            let kept = has(&pages, 4096, 1);
            pages.written(handle, 4096, 4096, Some(&[1; 4096]));
            kept
        };
        assert!(!is_kept(&mut handle, [0, 1, 1]) && is_kept(&mut handle, [0, 1, 1]));
        assert!(!is_kept(&mut handle, [5, 1, 1]), "a checkpoint of another process");
        // One of this process.
        pages.locked(&mut handle, Some([5, 1, 1]));
        pages.mapped(&mut other);
        assert!(is_kept(&mut other, [9, 1, 1]));
        pages.unlocks(&mut handle, Some([9, 1, 1]));
        assert!(is_kept(&mut other, [9, 1, 1]) && !is_kept(&mut other, [10, 1, 1]));
        pages.locked(&mut handle, Some([11, 1, 1]));
        assert!(!is_kept(&mut handle, [11, 1, 1]), "one of another process, before");
        // Closed in the middle of it.
        pages.unmapped(&mut handle);
        assert!(!is_kept(&mut other, [12, 1, 1]));
        pages.unmapped(&mut other);
        assert!(!has(&pages, 4096, 1));
        assert!(is_usable(&pages, &mut handle, None));
    }
}
