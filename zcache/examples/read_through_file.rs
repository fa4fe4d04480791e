//! A database's read path: pages of a file, through the cache, into the buffer pool's own frames.
//!
//! The file is opened with `O_DIRECT`, so that the kernel does not cache the same pages again. That
//! wants buffers, offsets and lengths in multiples of the disk's blocks: a [`PageBuffer`] begins on
//! a page of memory. Not every file system has it; then this example says so, and reads as usual.
//!
//! ```sh
//! cargo run --release -p zcache --example read_through_file -- DIRECTORY
//! ```
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use zcache::{Cache, Config, LoadError};
use zpool::source::PageBuffer;

const PAGE: usize = 8192;
const PAGES: u64 = 1024;

/// A file of pages, and the pages of it that are in memory.
struct Pages {
    file: File,
    cache: Cache<u64>,
    reads: AtomicU64,
}

impl Pages {
    /// Fills a frame of the buffer pool with page `number`: by a decoding, or by a read. Threads
    /// that miss a page at once share one read.
    fn fetch(&self, number: u64, frame: &mut [u8]) -> Result<(), LoadError> {
        let read = |frame: &mut [u8]| {
            self.reads.fetch_add(1, Ordering::Relaxed);
            read_at(&self.file, frame, number * PAGE as u64).map(|()| PAGE)
        };
        let len = self.cache.load_into(&number, frame, read)?;
        assert_eq!(len, PAGE);
        Ok(())
    }
}

#[cfg(unix)]
fn read_at(file: &File, to: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, to, at)
}

#[cfg(not(unix))]
fn read_at(mut file: &File, to: &mut [u8], at: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(at))?; // one thread reads in this example
    file.read_exact(to)
}

/// The file, past the kernel's cache. `None`: its file system cannot do that.
fn open_direct(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Some file systems refuse the flag at once, and some the first read.
        let refused = |error: &io::Error| error.raw_os_error() == Some(libc::EINVAL);
        let file = match options.custom_flags(libc::O_DIRECT).open(path) {
            Err(error) if refused(&error) => return Ok(None),
            opened => opened?,
        };
        match read_at(&file, &mut PageBuffer::new(PAGE)?[..PAGE], 0) {
            Err(error) if refused(&error) => Ok(None),
            read => read.map(|()| Some(file)),
        }
    }
    #[cfg(not(target_os = "linux"))]
    options.open(path).map(|_| None)
}

/// What page `number` holds.
fn content(number: u64) -> Vec<u8> {
    let row = |row| format!("{number:08} {row:03} paid, shipped, closed;").into_bytes();
    let mut page: Vec<u8> = (0..).flat_map(row).take(PAGE).collect();
    page[..8].copy_from_slice(&number.to_le_bytes());
    page
}

/// Reads through a file in `directory`; says whether that was past the kernel's cache.
pub(crate) fn run(directory: &Path) -> Result<bool, Box<dyn Error>> {
    let contents: Vec<Vec<u8>> = (0..PAGES).map(content).collect();
    let path = directory.join(format!("read_through_file-{}", std::process::id()));
    let mut file = File::create(&path)?;
    contents.iter().try_for_each(|page| file.write_all(page))?;
    file.sync_all()?;
    let direct = open_direct(&path)?;
    let is_direct = direct.is_some();
    let file = direct.map_or_else(|| File::open(&path), Ok)?;
    fs::remove_file(&path)?; // it is there for as long as it is open

    let cache = Cache::new(Config::new(1 << 20).max_page(PAGE))?;
    let pages = Pages { file, cache, reads: AtomicU64::new(0) };
    let mut frame = PageBuffer::new(PAGE)?;
    let mut random = 1_u64;
    for _ in 0..20_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Half of all look-ups go to an eighth of the pages.
        let page = random % if random & 1 << 40 == 0 { PAGES / 8 } else { PAGES };
        pages.fetch(page, &mut frame[..PAGE])?;
        assert_eq!(frame[..PAGE], contents[page as usize], "page {page}");
    }

    let (stats, reads) = (pages.cache.stats(), pages.reads.load(Ordering::Relaxed));
    println!("{}", if is_direct { "read with O_DIRECT" } else { "there is no O_DIRECT here" });
    println!("20000 look-ups, {reads} reads; {} of {PAGES} pages are cached", stats.entries);
    assert_eq!((stats.hits, stats.misses, stats.loads), (20_000 - reads, reads, reads));
    assert!(reads < 10_000, "most look-ups are hits");
    Ok(is_direct)
}

fn main() -> Result<(), Box<dyn Error>> {
    // By default beside the program: the usual place for temporary files may be memory.
    let beside = || std::env::current_exe().map(|program| program.with_file_name(""));
    let directory = std::env::args_os().nth(1).map(PathBuf::from).map_or_else(beside, Ok)?;
    run(&directory).map(|_| ())
}
