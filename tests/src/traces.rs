//! Real access sequences, and made ones for where there are none.
//!
//! A trace file holds one little-endian `u64` a request, plain (`.u64`) or zstd (`.u64.zst`): the
//! id of a page. Where the name ends in `-rw`, bit 63 says that the request is a write. A shared
//! set stands beside the repository, where it is to be had at all.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::corpus;
use crate::pattern::Random;

const WRITE: u64 = 1 << 63;

/// Why there is no trace to read. Prints as one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum TraceError {
    /// The file or directory could not be read.
    Io(PathBuf, io::Error),
    /// The file has no requests.
    Empty(PathBuf),
    /// The file has this many bytes, which are no whole number of requests.
    NotWhole(PathBuf, usize),
    /// The directory holds no trace file.
    NoFiles(PathBuf),
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Empty(path) => write!(f, "{}: the file is empty", path.display()),
            Self::NotWhole(path, bytes) => {
                write!(f, "{}: {bytes} bytes are no whole number of u64", path.display())
            }
            Self::NoFiles(path) => {
                write!(f, "{}: no .u64 or .u64.zst file in this directory", path.display())
            }
        }
    }
}

impl Error for TraceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The page.
    pub id: u64,
    /// Whether it is written; `false` throughout where a trace does not tell.
    pub write: bool,
}

/// The requests of one file.
#[derive(Debug)]
pub struct Trace {
    name: String,
    words: Vec<u64>,
}

impl Trace {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let bytes = corpus::contents(path).map_err(|error| TraceError::Io(path.into(), error))?;
        if bytes.len() % 8 != 0 {
            return Err(TraceError::NotWhole(path.into(), bytes.len()));
        }
        if bytes.is_empty() {
            return Err(TraceError::Empty(path.into()));
        }
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("chunks of 8 bytes"));
        let words = bytes.chunks_exact(8).map(word).collect();
        Ok(Self { name: stem(path), words })
    }

    /// The file's name without its endings.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The requests in their order; at least one.
    pub fn requests(&self) -> impl ExactSizeIterator<Item = Request> {
        let write = if self.name.ends_with("-rw") { WRITE } else { 0 };
        self.words.iter().map(move |word| Request { id: word & !write, write: word & write != 0 })
    }

    /// The pages asked for, numbered as they first appear, and how many there are.
    #[must_use]
    pub fn dense(&self) -> (Vec<u32>, usize) {
        let mut numbers = HashMap::new();
        let mut number = |request: Request| {
            let next = numbers.len() as u32;
            *numbers.entry(request.id).or_insert(next)
        };
        let pages = self.requests().map(&mut number).collect();
        (pages, numbers.len())
    }
}

/// The shared trace files, by name; none where there are none.
#[must_use]
pub fn shared_files() -> Vec<PathBuf> {
    files(&shared().join("traces")).unwrap_or_default()
}

/// The hit ratios that came with the shared traces, a row a line; `None` where there are none.
#[must_use]
pub fn reference_hit_ratios() -> Option<String> {
    fs::read_to_string(shared().join("reference-hit-ratios.csv")).ok()
}

fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data")
}

/// The trace files at `path`: itself, or all that lie in the directory, by name.
///
/// # Errors
/// See [`TraceError`].
pub fn files(path: &Path) -> Result<Vec<PathBuf>, TraceError> {
    let failed = |error| TraceError::Io(path.into(), error);
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.into()]);
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let paths = entries.map_err(failed)?.into_iter().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| stem(path) != corpus::file_name(path)).collect();
    paths.sort();
    if paths.is_empty() { Err(TraceError::NoFiles(path.into())) } else { Ok(paths) }
}

/// The file's name without `.u64` and `.u64.zst`.
fn stem(path: &Path) -> String {
    let name = corpus::file_name(path);
    let plain = name.strip_suffix(".zst").unwrap_or(&name);
    plain.strip_suffix(".u64").map_or(name.clone(), str::to_owned)
}

/// Traces that need no file, of some 60,000 requests each: a few pages are popular; the same with
/// scans in between; the same with a loop over a tenth of the pages.
#[must_use]
pub fn made() -> [Trace; 3] {
    let trace = |name: &str, words| Trace { name: name.to_owned(), words };
    let popular = |seed| zipf(PAGES, 40_000, seed);
    let between = popular(1);
    let scans = between.chunks(5000).zip(0..).flat_map(|(part, scan)| {
        let scan = (0..2000).map(move |page| (scan * 2000 + page) % 10_000 + PAGES as u64);
        part.iter().copied().chain(scan).collect::<Vec<u64>>()
    });
    let loops = popular(2).into_iter().zip(0..).flat_map(|(page, step)| {
        [Some(page), (step % 2 == 0).then_some(step / 2 % 500 + PAGES as u64)].into_iter().flatten()
    });
    [
        trace("made-popular", popular(0)),
        trace("made-scans", scans.collect()),
        trace("made-loop", loops.collect()),
    ]
}

/// Pages of the made traces, scanned and looped ones apart.
const PAGES: usize = 5000;

/// Requests for pages below `pages` by Zipf's law: the n-th most popular, which is page n - 1, is
/// asked for as often as 1/n^0.9 says.
///
/// # Panics
/// `pages` is 0.
#[must_use]
pub fn zipf(pages: usize, requests: usize, seed: u64) -> Vec<u64> {
    zipf_by(0.9, pages, requests, seed)
}

/// Requests by Zipf's law, with an exponent other than 0.9.
///
/// # Panics
/// `pages` is 0.
#[must_use]
pub fn zipf_by(exponent: f64, pages: usize, requests: usize, seed: u64) -> Vec<u64> {
    assert!(pages > 0, "requests for no page");
    let mut random = Random::new(seed);
    let mut sum = 0.0;
    let upto: Vec<f64> = (1..=pages)
        .map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        })
        .collect();
    let page = |_| {
        let at = random.bits() as f64 / u64::MAX as f64 * sum;
        upto.partition_point(|upto| *upto < at).min(pages - 1) as u64
    };
    (0..requests).map(page).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_endings_hold_the_same_requests() {
        let dir = std::env::temp_dir().join(format!("tests-traces-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory to write to");
        let words = [7, 7 | WRITE, 3, 7];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
        fs::write(dir.join("a-rw.u64"), &bytes).expect("written");
        fs::write(dir.join("b.u64.zst"), zstd::bulk::compress(&bytes, 3).expect("compressed"))
            .expect("written");
        fs::write(dir.join("notes.txt"), "no trace").expect("written");
        let found = files(&dir).expect("two files");
        let read = |at: usize| Trace::read(&found[at]).expect("readable");
        assert_eq!((found.len(), read(0).name(), read(1).name()), (2, "a-rw", "b"));
        let requests: Vec<_> = read(0).requests().map(|r| (r.id, r.write)).collect();
        assert_eq!(requests, [(7, false), (7, true), (3, false), (7, false)]);
        assert_eq!(read(0).dense(), (vec![0, 0, 1, 0], 2));
        assert_eq!(read(1).dense(), (vec![0, 1, 2, 0], 3)); // bit 63 is part of the id
        fs::write(dir.join("short.u64"), &bytes[..9]).expect("written");
        fs::write(dir.join("void.u64"), "").expect("written");
        let fails = |name| Trace::read(&dir.join(name)).expect_err("no trace");
        assert!(matches!(fails("short.u64"), TraceError::NotWhole(_, 9)));
        assert!(matches!(fails("void.u64"), TraceError::Empty(_)));
        assert!(matches!(fails("none.u64"), TraceError::Io(..)));
        fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn made_traces_repeat() {
        for (trace, again) in made().into_iter().zip(made()) {
            assert_eq!(trace.words, again.words);
            let (pages, distinct) = trace.dense();
            assert!((40_000..=70_000).contains(&pages.len()) && distinct > 4000, "{distinct}");
        }
    }
}
