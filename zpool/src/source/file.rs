//! Pages in a file or a memfd: without an address, copied in and out.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use super::free_pages::{Backing, FreePages, page_size_fits};
use super::{Access, PageSource, SourceError, limits, most_pages};
use crate::ledger::Ledger;
use crate::sync::Mutex;

/// Pages in a file, page `n` at byte `n * page_size`.
///
/// Pages given back are kept up to a bound, 64 or 1/256 of those in use, whichever is more; beyond
/// it Linux and Android punch them out of the file in batches. Other systems, and file systems
/// without holes, keep them all: they stay charged until the source is dropped.
///
/// A limit on the size of files (`ulimit -f`, `RLIMIT_FSIZE`) is an error and raises no signal:
/// pages behind it are not handed out, and writes to them fail where the limit was lowered later.
/// For this, each write asks the system for the limit.
///
/// ```
/// use zpool::source::{File, PageSource};
///
/// let source = File::temporary(4096)?.with_max_pages(1000);
/// assert_eq!(source.capacity(), 1000);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct File {
    medium: Medium,
    page_size: usize,
    capacity: u32,
    free: Mutex<FreePages>,
}

impl File {
    /// Pages in memory that no address leads to (it counts as shared memory, `RssShmem`), freed
    /// with the source.
    ///
    /// # Errors
    /// `InvalidInput` unless `page_size` is a power of two from 4 KiB to 64 KiB, else what the
    /// system says.
    #[cfg(target_os = "linux")]
    pub fn memfd(page_size: usize) -> io::Result<Self> {
        use std::os::fd::{FromRawFd, OwnedFd};
        // SAFETY: the name is a C string, and the call keeps no pointer to it.
        let fd = unsafe { libc::memfd_create(c"zpool".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: memfd_create has just made `fd`, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Self::from_file(fs::File::from(fd), page_size)
    }

    /// Pages in `file`, which must be open for reading and writing, not for appending, and belong
    /// to this source alone. A regular file is truncated first, since what is in it nobody has
    /// charged.
    ///
    /// # Errors
    /// `InvalidInput` unless `page_size` is a power of two from 4 KiB to 64 KiB, or for a file
    /// opened for appending (where the system tells), else what the system says.
    pub fn from_file(file: fs::File, page_size: usize) -> io::Result<Self> {
        if !page_size_fits(page_size) || appends(&file)? {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let regular = file.metadata()?.is_file();
        if regular {
            file.set_len(0)?;
        }
        let pages = most_pages(page_size) as usize;
        let free = Mutex::new(FreePages::new(
            pages,
            pages,
            page_size,
            limits::hole_bytes()?.max(page_size),
        ));
        let mut medium = Medium { file, regular, keeps: false, page_size: page_size as u64 };
        medium.keeps = regular && medium.discard(0..1).is_err();
        Ok(Self { medium, page_size, capacity: pages as u32, free })
    }

    /// Pages in a new file of the directory for temporary files; it goes with the source, and on
    /// Unix has no name from the start.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn temporary(page_size: usize) -> io::Result<Self> {
        use std::hash::{BuildHasher, Hasher, RandomState};
        loop {
            let random = RandomState::new().build_hasher().finish();
            let path = std::env::temp_dir().join(format!("zpool-{random:016x}"));
            match create_temporary(&path) {
                Ok(file) => return Self::from_file(file, page_size),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Caps the pages, though not under what was handed out before. Default: 1 TiB of them.
    #[must_use]
    pub fn with_max_pages(mut self, pages: u32) -> Self {
        self.capacity = self.free.lock().limit_to(pages as usize) as u32;
        self
    }

    fn place(&self, page: u32, offset: usize, bytes: usize) -> u64 {
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= self.page_size);
        assert!(page < self.capacity && inside, "{bytes} bytes at {offset} of page {page}");
        u64::from(page) * self.medium.page_size + offset as u64
    }
}

// SAFETY: `FreePages` hands a number below the limit out once at a time, and each page has bytes of
// its own in the file, which belongs to this source (asked of the caller; were it not so, bytes
// would be wrong, which the contract allows).
unsafe impl PageSource for File {
    fn page_size(&self) -> usize {
        self.page_size
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn access(&self) -> Access {
        Access::Unaddressable
    }

    fn take(&self, after: Option<u32>, more: usize, ledger: &Ledger) -> Result<u32, SourceError> {
        self.free.lock().take(after, more, ledger, &self.medium)
    }

    fn give(&self, pages: &[u32], ledger: &Ledger) {
        self.free.lock().give(pages, ledger, &self.medium);
    }

    fn trim(&self, ledger: &Ledger) {
        self.free.lock().discard(usize::MAX, ledger, &self.medium);
    }

    fn kept(&self) -> usize {
        self.free.lock().kept()
    }

    fn is_fresh(&self) -> bool {
        self.free.lock().is_fresh()
    }

    /// What was never written, or was punched out since, reads as zeros.
    fn read(&self, page: u32, offset: usize, to: &mut [u8]) -> io::Result<()> {
        let mut at = self.place(page, offset, to.len());
        let mut rest = to;
        while !rest.is_empty() {
            match read_at(&self.medium.file, rest, at) {
                Ok(0) => {
                    rest.fill(0); // the end of the file
                    break;
                }
                Ok(bytes) => {
                    rest = &mut rest[bytes..];
                    at += bytes as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&self, page: u32, offset: usize, from: &[u8]) -> io::Result<()> {
        let mut at = self.place(page, offset, from.len());
        if !from.is_empty() {
            self.medium.reach(at + from.len() as u64)?;
        }
        let mut rest = from;
        while !rest.is_empty() {
            match write_at(&self.medium.file, rest, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    rest = &rest[bytes..];
                    at += bytes as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Medium {
    file: fs::File,
    /// A device has no size that could be limited.
    regular: bool,
    /// The file takes no holes.
    keeps: bool,
    page_size: u64,
}

impl Medium {
    /// Whether bytes below `end` may be written: a write behind the limit would raise a signal.
    fn reach(&self, end: u64) -> io::Result<()> {
        if self.regular && end > limits::file_bytes() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(())
    }
}

impl Backing for Medium {
    fn keeps(&self) -> bool {
        self.keeps
    }

    /// Writing extends a file, as far as the process may.
    fn commit(&self, pages: Range<usize>) -> io::Result<()> {
        self.reach(pages.end as u64 * self.page_size)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn discard(&self, pages: Range<usize>) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let start = pages.start as u64 * self.page_size;
        let bytes = pages.len() as u64 * self.page_size;
        let too_far = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let start = libc::off64_t::try_from(start).map_err(too_far)?;
        let bytes = libc::off64_t::try_from(bytes).map_err(too_far)?;
        loop {
            // SAFETY: the descriptor is open, being our file's; the call touches no memory.
            let result = unsafe { libc::fallocate64(self.file.as_raw_fd(), mode, start, bytes) };
            if result == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn discard(&self, _pages: Range<usize>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Whether writes go to the end wherever they are asked to go.
#[cfg(unix)]
fn appends(file: &fs::File) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open, being the file's, and F_GETFL takes no pointer.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 { Err(io::Error::last_os_error()) } else { Ok(flags & libc::O_APPEND != 0) }
}

#[cfg(not(unix))]
fn appends(_file: &fs::File) -> io::Result<bool> {
    Ok(false)
}

#[cfg(unix)]
fn create_temporary(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

#[cfg(windows)]
fn create_temporary(path: &Path) -> io::Result<fs::File> {
    use std::os::windows::fs::OpenOptionsExt;
    const FILE_FLAG_DELETE_ON_CLOSE: u32 = 0x0400_0000;
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create_new(true).share_mode(0);
    options.custom_flags(FILE_FLAG_DELETE_ON_CLOSE).open(path)
}

#[cfg(not(any(unix, windows)))]
fn create_temporary(_path: &Path) -> io::Result<fs::File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
use std::os::unix::fs::FileExt;
#[cfg(windows)]
use std::os::windows::fs::FileExt;

#[cfg(unix)]
fn read_at(file: &fs::File, to: &mut [u8], at: u64) -> io::Result<usize> {
    file.read_at(to, at)
}

#[cfg(unix)]
fn write_at(file: &fs::File, from: &[u8], at: u64) -> io::Result<usize> {
    file.write_at(from, at)
}

#[cfg(windows)]
fn read_at(file: &fs::File, to: &mut [u8], at: u64) -> io::Result<usize> {
    file.seek_read(to, at)
}

#[cfg(windows)]
fn write_at(file: &fs::File, from: &[u8], at: u64) -> io::Result<usize> {
    file.seek_write(from, at)
}

#[cfg(not(any(unix, windows)))]
fn read_at(_file: &fs::File, _to: &mut [u8], _at: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(any(unix, windows)))]
fn write_at(_file: &fs::File, _from: &[u8], _at: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
mod tests {
    use super::*;
    use crate::source::free_pages::tests::churn;

    fn sources(page_size: usize) -> Vec<File> {
        vec![
            File::temporary(page_size).unwrap(),
            #[cfg(target_os = "linux")]
            File::memfd(page_size).unwrap(),
        ]
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no file that is read and written at an offset")]
    fn agrees_with_a_set_and_its_ledger() {
        for page_size in [4096, 65536] {
            for source in sources(page_size) {
                let ledger = Ledger::new(page_size, 700, usize::MAX);
                churn(&source, &ledger, 6000);
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no file that is read and written at an offset")]
    fn reads_what_was_written_and_zeros_elsewhere() {
        for source in sources(4096) {
            let ledger = Ledger::new(4096, 10, usize::MAX);
            let pages: Vec<u32> = (0..5).map(|_| source.take(None, 0, &ledger).unwrap()).collect();
            assert_eq!(pages, [0, 1, 2, 3, 4]);
            let mut bytes = vec![1; 4096];
            source.read(2, 0, &mut bytes).unwrap();
            assert_eq!(bytes, [0; 4096]);
            source.write(2, 4000, &[7; 96]).unwrap();
            source.write(1, 4, b"page").unwrap();
            source.read(2, 0, &mut bytes).unwrap();
            assert_eq!((&bytes[..4000], &bytes[4000..]), (&[0; 4000][..], &[7; 96][..]));
            source.read(1, 4, &mut bytes[..4]).unwrap();
            assert_eq!(&bytes[..4], b"page");
            // The last page ends behind the file's end.
            source.read(3, 100, &mut bytes[..50]).unwrap();
            assert_eq!(bytes[..50], [0; 50]);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no file that is read and written at an offset")]
    #[should_panic(expected = "2 bytes at 4095 of page 0")]
    fn a_read_over_the_end_of_a_page_is_a_bug() {
        let _ = sources(4096)[0].read(0, 4095, &mut [0; 2]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    #[cfg_attr(miri, ignore = "Miri has no file that is read and written at an offset")]
    fn blocks_are_what_the_ledger_says() {
        use std::os::unix::fs::MetadataExt;
        for page_size in [4096, 65536] {
            let source = File::memfd(page_size).unwrap();
            let ledger = Ledger::new(page_size, 700, usize::MAX);
            let blocks = || source.medium.file.metadata().unwrap().blocks() as usize * 512;
            let page = vec![3; page_size];
            let pages: Vec<u32> = (0..700)
                .map(|_| source.take(None, 0, &ledger).unwrap())
                .inspect(|number| source.write(*number, 0, &page).unwrap())
                .collect();
            assert!(matches!(source.take(None, 0, &ledger), Err(SourceError::Refused)));
            assert_eq!(blocks(), 700 * page_size);
            source.give(&pages[100..600], &ledger);
            assert_eq!(blocks(), ledger.pages() * page_size);
            assert!(source.kept() <= 64);
            source.give(&pages[..100], &ledger);
            source.give(&pages[600..], &ledger);
            source.trim(&ledger);
            assert_eq!((blocks(), ledger.pages()), (0, 0));
        }
    }

    #[cfg(unix)]
    #[test]
    #[cfg_attr(miri, ignore = "Miri has no file that is read and written at an offset")]
    fn files_that_cannot_serve_are_refused() {
        let path = std::env::temp_dir().join(format!("zpool-appends-{}", std::process::id()));
        let file = fs::OpenOptions::new().append(true).read(true).create(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let error = File::from_file(file, 4096).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(File::temporary(1000).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no file that is read and written at an offset")]
    fn the_limit_holds() {
        let source = File::temporary(4096).unwrap().with_max_pages(3);
        let ledger = Ledger::new(4096, 10, usize::MAX);
        (0..3).for_each(|_| assert!(source.take(None, 0, &ledger).is_ok()));
        assert!(matches!(source.take(None, 0, &ledger), Err(SourceError::Full)));
    }
}
