//! The pages of all files, one after the other.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::files::{WINDOW_LOG, files, named_size, stem};
use crate::options::Failure;

/// Bytes of a page where neither the command line nor the file's name says it.
const PAGE_SIZE: usize = 4096;

/// Read where no file is named.
const SAMPLE: &str = "examples/data/pg-pgbench-8k.bin.zst";

/// What was read of a file: at least a byte.
#[derive(Debug)]
struct PageFile {
    name: String,
    page_size: usize,
    bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Pages {
    files: Vec<PageFile>,
    /// File and first byte of each page.
    places: Vec<(u32, usize)>,
    /// What of the files is left out, and why: a line each.
    left_out: Vec<String>,
}

impl PageFile {
    /// Where the page that starts at `first` is: at the end of a file a page may be short.
    fn page(&self, first: usize) -> Range<usize> {
        first..self.bytes.len().min(first + self.page_size)
    }
}

/// The first `most` bytes of a file, unpacked where its name ends in `.zst`, and whether it has
/// more.
fn read(path: &Path, most: usize) -> io::Result<(Vec<u8>, bool)> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    let most_and_one = most as u64 + 1;
    if path.extension().is_some_and(|ending| ending == "zst") {
        let mut decoder = zstd::stream::read::Decoder::new(file)?;
        decoder.window_log_max(WINDOW_LOG)?;
        decoder.take(most_and_one).read_to_end(&mut bytes)?;
    } else {
        file.take(most_and_one).read_to_end(&mut bytes)?;
    }
    let more = bytes.len() > most;
    bytes.truncate(most);
    Ok((bytes, more))
}

/// The page size of a file: what is asked for, else what its name says.
fn page_size(name: &str, asked: Option<usize>) -> Result<usize, Failure> {
    let bytes = asked.or_else(|| named_size(name)).unwrap_or(PAGE_SIZE);
    if bytes.is_power_of_two() && (512..=zcache::MAX_PAGE).contains(&bytes) {
        return Ok(bytes);
    }
    Err(format!("{name}: the name says pages of {bytes} bytes, which cannot be; give --page-size")
        .into())
}

impl Pages {
    /// At most `most` bytes of the files at `paths`, or of the sample where there are none.
    pub(crate) fn read(
        paths: &[PathBuf],
        asked: Option<usize>,
        most: usize,
    ) -> Result<Self, Failure> {
        let mut all = Vec::new();
        for path in paths {
            let found = files(path).map_err(|error| format!("{}: {error}", path.display()))?;
            if found.is_empty() {
                let shown = path.display();
                return Err(format!("{shown}: no .bin or .bin.zst file in this directory").into());
            }
            all.extend(found);
        }
        if paths.is_empty() {
            all.push(Path::new(env!("CARGO_MANIFEST_DIR")).join(SAMPLE));
        }
        let mut pages = Self { files: Vec::new(), places: Vec::new(), left_out: Vec::new() };
        let mut left = most;
        for path in &all {
            let (name, shown) = (stem(path), path.display());
            let page_size = page_size(&name, asked)?;
            // Whole pages where the limit cuts, so that only a file's end is short.
            let (bytes, more) = read(path, left / page_size * page_size)
                .map_err(|error| format!("{shown}: {error}"))?;
            left -= bytes.len();
            if more {
                pages.left_out.push(format!("{shown}: all but {} bytes (--most)", bytes.len()));
            } else if bytes.is_empty() {
                pages.left_out.push(format!("{shown}: the file is empty"));
            }
            if !bytes.is_empty() {
                pages.push(PageFile { name, page_size, bytes });
            }
        }
        match pages.left_out.first() {
            Some(reason) if pages.files.is_empty() => Err(format!("no pages: {reason}").into()),
            _ => Ok(pages),
        }
    }

    fn push(&mut self, file: PageFile) {
        let number = self.files.len() as u32;
        let firsts = (0..file.bytes.len()).step_by(file.page_size);
        self.places.extend(firsts.map(|first| (number, first)));
        self.files.push(file);
    }

    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// Page `number`, which wraps around.
    pub(crate) fn get(&self, number: usize) -> &[u8] {
        let (file, first) = self.places[number % self.places.len()];
        let file = &self.files[file as usize];
        &file.bytes[file.page(first)]
    }

    pub(crate) fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.bytes.len()).sum()
    }

    pub(crate) fn largest(&self) -> usize {
        self.files.iter().map(|file| file.page(0).len()).max().unwrap_or(0)
    }

    pub(crate) fn mean(&self) -> usize {
        self.bytes() / self.count()
    }

    pub(crate) fn name(&self) -> String {
        match &self.files[..] {
            [file] => file.name.clone(),
            files => format!("{} files", files.len()),
        }
    }

    pub(crate) fn left_out(&self) -> &[String] {
        &self.left_out
    }
}
