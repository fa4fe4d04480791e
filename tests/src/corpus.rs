//! Real pages, and what they compress to.
//!
//! A page file holds pages of one size back to back, no header, plain (`.bin`) or zstd
//! (`.bin.zst`). A shared set of them stands beside the repository, where it is to be had at all; a
//! sample of one is part of the repository.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The example has this file, so that its package is complete.
#[path = "../../zcache/examples/explore/files.rs"]
mod files;

pub use files::{WINDOW_LOG, named_size, stem};

const PAGE_SIZES: std::ops::RangeInclusive<usize> = 512..=256 << 10;

/// Why there are no pages to read. Prints as one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum PagesError {
    /// The file or directory could not be read.
    Io(PathBuf, io::Error),
    /// The file has no bytes.
    Empty(PathBuf),
    /// The file has this many bytes, which are no whole pages of this many.
    NotWhole(PathBuf, usize, usize),
    /// Pages of this many bytes are not supported.
    PageSize(usize),
    /// No page size was given, and the name does not end in one, such as `-4k`.
    Unnamed(PathBuf),
    /// The directory holds no page file.
    NoFiles(PathBuf),
}

impl fmt::Display for PagesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Empty(path) => write!(f, "{}: the file is empty", path.display()),
            Self::NotWhole(path, bytes, page_size) => {
                let path = path.display();
                write!(f, "{path}: {bytes} bytes are no whole number of {page_size}-byte pages")
            }
            Self::PageSize(bytes) => {
                let (least, most) = (PAGE_SIZES.start(), PAGE_SIZES.end());
                write!(f, "a page of {bytes} bytes: wanted is a power of two, {least} to {most}")
            }
            Self::Unnamed(path) => {
                let path = path.display();
                write!(f, "{path}: the name does not end in a page size (-4k); give --page-size")
            }
            Self::NoFiles(path) => {
                write!(f, "{}: no .bin or .bin.zst file in this directory", path.display())
            }
        }
    }
}

impl Error for PagesError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

/// The pages of one file.
#[derive(Debug)]
pub struct PageFile {
    name: String,
    page_size: usize,
    bytes: Vec<u8>,
}

impl PageFile {
    /// Reads the file at `path`. Without a `page_size` the end of its name says it: `-4k`, `-16k`.
    ///
    /// # Errors
    /// See [`PagesError`].
    pub fn read(path: &Path, page_size: Option<usize>) -> Result<Self, PagesError> {
        let name = stem(path);
        let page_size = match page_size {
            Some(bytes) => bytes,
            None => named_size(&name).ok_or_else(|| PagesError::Unnamed(path.into()))?,
        };
        if !page_size.is_power_of_two() || !PAGE_SIZES.contains(&page_size) {
            return Err(PagesError::PageSize(page_size));
        }
        let bytes = contents(path).map_err(|error| PagesError::Io(path.into(), error))?;
        Self::new(name, page_size, bytes).map_err(|error| match error {
            PagesError::NotWhole(_, bytes, size) => PagesError::NotWhole(path.into(), bytes, size),
            _ => PagesError::Empty(path.into()),
        })
    }

    fn new(name: String, page_size: usize, bytes: Vec<u8>) -> Result<Self, PagesError> {
        if bytes.is_empty() {
            return Err(PagesError::Empty(name.into()));
        }
        if bytes.len() % page_size != 0 {
            return Err(PagesError::NotWhole(name.into(), bytes.len(), page_size));
        }
        Ok(Self { name, page_size, bytes })
    }

    /// The file's name without its endings.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes in a page.
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// Page `number` of the file.
    ///
    /// # Panics
    /// It has no such page.
    #[must_use]
    pub fn page(&self, number: usize) -> &[u8] {
        &self.bytes[number * self.page_size..][..self.page_size]
    }

    /// The pages, in the order of the file; at least one.
    pub fn pages(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.page_size)
    }

    /// The same bytes cut into pages of `bytes` each, or `None` where a page has fewer.
    #[must_use]
    pub fn cut(&self, bytes: usize) -> Option<Self> {
        let whole = bytes > 0 && self.page_size % bytes == 0;
        whole.then(|| Self { page_size: bytes, name: self.name.clone(), bytes: self.bytes.clone() })
    }
}

impl PageFile {
    /// The file's bytes in longer pages, those at the end left out that make no whole one; `None`
    /// where a page has more bytes already or does not divide `bytes`.
    #[must_use]
    pub fn join(&self, bytes: usize) -> Option<Self> {
        let whole = bytes >= self.page_size && bytes % self.page_size == 0;
        let len = self.bytes.len() / bytes.max(1) * bytes;
        let name = self.name.clone();
        (whole && len > 0).then(|| Self { page_size: bytes, name, bytes: self.bytes[..len].into() })
    }

    /// What a compressed page cache would store: each page as an LZ4 block, or as it is where that
    /// is no shorter.
    pub fn lz4(&self) -> impl ExactSizeIterator<Item = Vec<u8>> {
        self.pages().map(|page| {
            let packed = lz4_flex::block::compress(page);
            if packed.len() < page.len() { packed } else { page.to_vec() }
        })
    }
}

/// The sample that comes with the repository.
///
/// # Panics
/// The file is damaged.
#[must_use]
pub fn sample() -> PageFile {
    PageFile::read(&sample_path(), None).expect("the sample is part of the repository")
}

/// Where the sample is.
#[must_use]
pub fn sample_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../zcache/examples/data/pg-pgbench-8k.bin.zst")
}

/// The shared page files, by name; none where there are none.
#[must_use]
pub fn shared_files() -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/pages");
    files(&data).unwrap_or_default()
}

/// The page files at `path`: itself, or all that lie in the directory, by name.
///
/// # Errors
/// See [`PagesError`].
pub fn files(path: &Path) -> Result<Vec<PathBuf>, PagesError> {
    let paths = files::files(path).map_err(|error| PagesError::Io(path.into(), error))?;
    if paths.is_empty() { Err(PagesError::NoFiles(path.into())) } else { Ok(paths) }
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The bytes of a file, unpacked where its name ends in `.zst`.
pub(crate) fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    if path.extension().is_some_and(|ending| ending == "zst") {
        let mut decoder = zstd::stream::read::Decoder::new(file)?;
        decoder.window_log_max(WINDOW_LOG)?;
        decoder.read_to_end(&mut bytes)?;
    } else {
        file.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_tell_page_sizes() {
        assert_eq!(named_size(&stem(Path::new("/a/pg-gitlog-8k.bin.zst"))), Some(8192));
        assert_eq!(named_size(&stem(Path::new("file-elf-4k.bin"))), Some(4096));
        assert_eq!(named_size("pages"), None);
        assert_eq!(named_size("pages-k"), None);
    }

    #[test]
    fn only_whole_pages_are_taken() {
        let read = |bytes: usize| PageFile::new("p".into(), 4096, vec![0; bytes]);
        assert!(matches!(read(0), Err(PagesError::Empty(_))));
        assert!(matches!(read(4097), Err(PagesError::NotWhole(_, 4097, 4096))));
        assert_eq!(read(8192).expect("two pages").pages().len(), 2);
    }

    #[test]
    fn cutting_keeps_the_bytes() {
        let bytes: Vec<u8> = (0..32768_u32).map(|i| (i / 4096) as u8).collect();
        let file = PageFile::new("p".into(), 16384, bytes).expect("two pages");
        let cut = file.cut(4096).expect("4096 divides 16384");
        assert!(cut.pages().zip(0_u8..).all(|(page, number)| page == [number; 4096]));
        assert_eq!(cut.pages().len(), 8);
        assert!(file.cut(32768).is_none());
    }

    #[test]
    fn both_endings_hold_the_same_pages() {
        let dir = std::env::temp_dir().join(format!("benches-pages-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory to write to");
        let bytes: Vec<u8> = (0..8192_u32).map(|i| (i % 251) as u8).collect();
        fs::write(dir.join("x-4k.bin"), &bytes).expect("written");
        let packed = zstd::bulk::compress(&bytes, 3).expect("compressed");
        fs::write(dir.join("y-4k.bin.zst"), packed).expect("written");
        fs::write(dir.join("notes.txt"), "no pages").expect("written");
        let found = files(&dir).expect("two files");
        assert_eq!(found.len(), 2);
        for path in found {
            assert_eq!(PageFile::read(&path, None).expect("readable").bytes, bytes);
        }
        fs::remove_dir_all(&dir).expect("removed");
    }
}
