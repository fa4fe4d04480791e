//! A trace and its pages, made ready once for all the processes that replay them.
//!
//! Pages that a request names are numbered as they first appear, and each number has its page of
//! the file. The processes read it all from a file that holds it as they keep it: so nothing is
//! unpacked in them whose memory they would have free when the cache under test comes to ask for
//! some.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use benches::arguments::Failure;
use serde_json::{Value, json};

/// Set in a request that writes.
pub(crate) const WRITE: u32 = 1 << 31;
/// Words are read by so many bytes.
const CHUNK: usize = 1 << 16;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Stage {
    pub(crate) trace: String,
    pub(crate) pages: String,
    pub(crate) page_size: usize,
    /// The pages, back to back.
    pub(crate) bytes: Vec<u8>,
    /// The page of each number.
    pub(crate) page_of: Vec<u32>,
    /// Numbers, some with [`WRITE`].
    pub(crate) requests: Vec<u32>,
    /// Empty where no codec asks for one.
    pub(crate) dictionary: Vec<u8>,
    /// Bytes that all numbers' pages take as LZ4 blocks.
    pub(crate) lz4_bytes: u64,
}

impl Stage {
    /// The page of a number.
    pub(crate) fn page(&self, number: u32) -> &[u8] {
        &self.bytes[self.page_of[number as usize] as usize * self.page_size..][..self.page_size]
    }

    pub(crate) fn file_pages(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.page_size)
    }

    /// Bytes of a number's page as an LZ4 block, on average.
    pub(crate) fn mean_lz4(&self) -> u64 {
        self.lz4_bytes / self.page_of.len() as u64
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let head = json!({
            "trace": self.trace, "pages": self.pages,
            "page_size": self.page_size,
            "bytes": self.bytes.len(), "numbers": self.page_of.len(),
            "requests": self.requests.len(), "dictionary": self.dictionary.len(),
            "lz4_bytes": self.lz4_bytes,
        })
        .to_string();
        let mut to = BufWriter::new(File::create(path)?);
        to.write_all(&(head.len() as u64).to_le_bytes())?;
        to.write_all(head.as_bytes())?;
        to.write_all(&self.bytes)?;
        to.write_all(&self.dictionary)?;
        for word in self.page_of.iter().chain(&self.requests) {
            to.write_all(&word.to_le_bytes())?;
        }
        Ok(to.flush()?)
    }

    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let mut from = File::open(path)?;
        let mut len = [0; 8];
        from.read_exact(&mut len)?;
        let head = bytes(&mut from, usize::try_from(u64::from_le_bytes(len))?)?;
        let head: Value = serde_json::from_slice(&head)?;
        let number = |name: &str| head[name].as_u64().ok_or("a damaged stage");
        let count = |name: &str| Ok::<_, Failure>(usize::try_from(number(name)?)?);
        let text = |name: &str| head[name].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            trace: text("trace"),
            pages: text("pages"),
            page_size: count("page_size")?,
            bytes: bytes(&mut from, count("bytes")?)?,
            dictionary: bytes(&mut from, count("dictionary")?)?,
            page_of: words(&mut from, count("numbers")?)?,
            requests: words(&mut from, count("requests")?)?,
            lz4_bytes: number("lz4_bytes")?,
        })
    }
}

fn bytes(from: &mut impl Read, len: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![0; len];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn words(from: &mut impl Read, len: usize) -> Result<Vec<u32>, Failure> {
    let mut words = Vec::with_capacity(len);
    let mut chunk = [0; CHUNK];
    while words.len() < len {
        let chunk = &mut chunk[..CHUNK.min((len - words.len()) * 4)];
        from.read_exact(chunk)?;
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("chunks of 4 bytes"));
        words.extend(chunk.chunks_exact(4).map(word));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_read_as_it_was_written() {
        let stage = Stage {
            trace: "t".into(),
            pages: "p".into(),
            page_size: 512,
            bytes: (0..=255).cycle().take(1024).collect(),
            page_of: vec![1, 0, 1],
            requests: (0..100_000).map(|n| (n % 3) | if n % 7 == 0 { WRITE } else { 0 }).collect(),
            dictionary: vec![1, 2, 3],
            lz4_bytes: 99,
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        stage.write(file.path()).unwrap();
        assert_eq!(Stage::read(file.path()).unwrap(), stage);
        assert_eq!(stage.page(0), &stage.bytes[512..]);
    }
}
