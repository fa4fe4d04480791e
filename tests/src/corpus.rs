//! Real pages, and what they compress to.
//!
//! The shared page files stand beside the repository, in `../shared/data/pages`, where they are to be
//! had at all; a sample of one of them is part of this package. A page file holds pages back to back;
//! its name ends in the page size: `-4k`, `-8k`, `-16k`. `.bin` and `.bin.zst` are read alike.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest window a file may have been compressed with, as a power of two.
const WINDOW_LOG: u32 = 31;

/// Pages of one size.
#[derive(Debug, Clone)]
pub struct Pages {
    /// Its file's name without what follows the page size.
    pub name: String,
    /// Bytes in a page.
    pub page_size: usize,
    bytes: Vec<u8>,
}

impl Pages {
    /// Each page.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.page_size)
    }

    /// How many pages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / self.page_size
    }

    /// Whether there is no page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same bytes cut into pages of another size.
    #[must_use]
    pub fn cut(self, page_size: usize) -> Self {
        Self { page_size, ..self }
    }

    /// What a compressed page cache would store: each page as an LZ4 block, or as it is where that is
    /// no shorter.
    pub fn lz4(&self) -> impl ExactSizeIterator<Item = Vec<u8>> {
        self.iter().map(|page| {
            let packed = lz4_flex::block::compress(page);
            if packed.len() < page.len() { packed } else { page.to_vec() }
        })
    }
}

/// Reads `path` whole; `.zst` files are unpacked.
///
/// # Errors
/// What the file system or the decoder says.
pub fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "zst") {
        return fs::read(path);
    }
    let mut decoder = zstd::Decoder::new(fs::File::open(path)?)?;
    decoder.window_log_max(WINDOW_LOG)?;
    let mut bytes = Vec::new();
    decoder.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a page file.
///
/// # Errors
/// As [`read_bytes`]; `InvalidInput` for a name that says no page size.
pub fn read(path: &Path) -> io::Result<Pages> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.trim_end_matches(".zst").trim_end_matches(".bin");
    let size = name.rsplit('-').next().and_then(|size| size.strip_suffix('k')?.parse().ok());
    let kib: usize = size.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(Pages { name: name.into(), page_size: kib << 10, bytes: read_bytes(path)? })
}

/// Where the shared data would be.
#[must_use]
pub fn shared_data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data")
}

/// The shared page files, by name; none where there are none.
#[must_use]
pub fn shared_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(shared_data().join("pages")).into_iter().flatten().flatten();
    let is_pages = |path: &PathBuf| {
        let name = path.to_string_lossy();
        name.ends_with(".bin") || name.ends_with(".bin.zst")
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_pages).collect();
    files.sort();
    files
}

/// The sample that comes with this package.
///
/// # Panics
/// The file is damaged.
#[must_use]
pub fn sample() -> Pages {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/pg-pgbench-8k.bin.zst");
    read(&path).expect("the sample is part of the package")
}

/// All shared pages, or the sample where there are none.
///
/// # Errors
/// As [`read`].
pub fn all() -> io::Result<Vec<Pages>> {
    let files = shared_files();
    if files.is_empty() {
        Ok(vec![sample()])
    } else {
        files.iter().map(|path| read(path)).collect()
    }
}
