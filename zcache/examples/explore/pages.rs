//! The pages of all files, one after the other.

use std::path::{Path, PathBuf};

use tests::corpus::{PageFile, PagesError, sample};

use crate::options::Failure;

#[derive(Debug)]
pub(crate) struct Pages {
    files: Vec<PageFile>,
    /// File and page of each number.
    places: Vec<(u32, u32)>,
}

fn read(path: &Path, page_size: Option<usize>) -> Result<PageFile, PagesError> {
    match PageFile::read(path, page_size) {
        Err(PagesError::Unnamed(_)) => PageFile::read(path, Some(4096)),
        read => read,
    }
}

impl Pages {
    pub(crate) fn read(paths: &[PathBuf], page_size: Option<usize>) -> Result<Self, Failure> {
        let mut files = Vec::new();
        for path in paths {
            for path in tests::corpus::files(path)? {
                files.push(read(&path, page_size)?);
            }
        }
        if paths.is_empty() {
            let sample = sample();
            files.push(match page_size {
                Some(bytes) => sample.cut(bytes).ok_or_else(|| {
                    format!("the sample's pages of {} bytes cannot be cut so", sample.page_size())
                })?,
                None => sample,
            });
        }
        let of = |(file, number): (&PageFile, u32)| {
            (0..file.pages().len() as u32).map(move |page| (number, page)).collect::<Vec<_>>()
        };
        let places = files.iter().zip(0..).flat_map(of).collect();
        Ok(Self { files, places })
    }

    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// Page `number`, which wraps around.
    pub(crate) fn get(&self, number: usize) -> &[u8] {
        let (file, page) = self.places[number % self.places.len()];
        self.files[file as usize].page(page as usize)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.pages().len() * file.page_size()).sum()
    }

    pub(crate) fn largest(&self) -> usize {
        self.files.iter().map(PageFile::page_size).max().unwrap_or(0)
    }

    pub(crate) fn mean(&self) -> usize {
        self.bytes() / self.count()
    }

    pub(crate) fn name(&self) -> String {
        match &self.files[..] {
            [file] => file.name().to_owned(),
            files => format!("{} files", files.len()),
        }
    }
}
