//! Codecs, and the payloads they make: each page compressed alone, raw where that does not shrink it.

use std::error::Error;
use std::fmt;
use std::io;
use std::str::FromStr;

use lz4::block::CompressionMode;

use ::tests::corpus::PageFile;

/// What compresses the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// Pages are stored as they are.
    None,
    /// LZ4 blocks by `lz4_flex`.
    Lz4,
    /// LZ4 blocks by liblz4.
    Lz4C,
    /// zstd frames at this level.
    Zstd(i32),
}

/// The text names no codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoCodec(String);

impl fmt::Display for NoCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no codec `{}`: there are none, lz4, lz4-c and zstd:LEVEL", self.0)
    }
}

impl Error for NoCodec {}

impl FromStr for Codec {
    type Err = NoCodec;

    fn from_str(text: &str) -> Result<Self, NoCodec> {
        let level = |level: &str| level.parse().ok().filter(|level| (-7..=22).contains(level));
        match (text, text.strip_prefix("zstd:").map(level)) {
            ("none", _) => Ok(Self::None),
            ("lz4", _) => Ok(Self::Lz4),
            ("lz4-c", _) => Ok(Self::Lz4C),
            (_, Some(Some(level))) => Ok(Self::Zstd(level)),
            _ => Err(NoCodec(text.into())),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Lz4C => f.write_str("lz4-c"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

/// A codec with its working memory.
enum Engine {
    None,
    Lz4,
    Lz4C,
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Engine {
    fn new(codec: Codec) -> io::Result<Self> {
        Ok(match codec {
            Codec::None => Self::None,
            Codec::Lz4 => Self::Lz4,
            Codec::Lz4C => Self::Lz4C,
            Codec::Zstd(level) => Self::Zstd(zstd::bulk::Compressor::new(level)?),
        })
    }

    /// Room for what any codec makes of a page of `bytes`.
    fn bound(bytes: usize) -> usize {
        lz4_flex::block::get_maximum_output_size(bytes).max(bytes * 2)
    }

    /// Compresses `page` to the start of `to`; `None` where the codec leaves pages alone.
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(Some(match self {
            Self::None => return Ok(None),
            Self::Lz4 => lz4_flex::block::compress_into(page, to).map_err(io::Error::other)?,
            Self::Lz4C => {
                lz4::block::compress_to_buffer(page, Some(CompressionMode::DEFAULT), false, to)?
            }
            Self::Zstd(compressor) => compressor.compress_to_buffer(page, to)?,
        }))
    }
}

/// What is stored for the pages of a file, page by page.
#[derive(Debug)]
pub struct Payloads {
    bytes: Vec<u8>,
    /// Where each payload ends in `bytes`.
    ends: Vec<usize>,
    original: usize,
}

impl Payloads {
    /// Compresses each page of `file` alone.
    ///
    /// # Errors
    /// What the codec reports; none does so for a page.
    pub fn compress(file: &PageFile, codec: Codec) -> io::Result<Self> {
        let mut engine = Engine::new(codec)?;
        let mut to = vec![0; Engine::bound(file.page_size())];
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for page in file.pages() {
            match engine.compress(page, &mut to)? {
                Some(len) if len < page.len() => bytes.extend_from_slice(&to[..len]),
                _ => bytes.extend_from_slice(page),
            }
            ends.push(bytes.len());
        }
        let original = ends.len() * file.page_size();
        Ok(Self { bytes, ends, original })
    }

    /// `count` payloads of random bytes and random lengths in `lens`.
    #[must_use]
    pub fn random(count: usize, lens: std::ops::RangeInclusive<usize>, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut end = 0;
        let ends: Vec<usize> = (0..count)
            .map(|_| {
                end += rng.usize(lens.clone());
                end
            })
            .collect();
        let mut bytes = vec![0; end];
        rng.fill(&mut bytes);
        Self { bytes, ends, original: end }
    }

    /// Payload number `index`.
    #[must_use]
    pub fn get(&self, index: u32) -> &[u8] {
        let index = index as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// Payloads.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Bytes that all payloads take, by bytes of pages they stand for.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.bytes.len() as f64 / self.original.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_are_named_as_they_print() {
        for name in ["none", "lz4", "lz4-c", "zstd:3", "zstd:-5"] {
            assert_eq!(name.parse::<Codec>().map(|codec| codec.to_string()), Ok(name.to_owned()));
        }
        for name in ["", "zstd", "zstd:", "zstd:99", "lzo"] {
            assert!(name.parse::<Codec>().is_err(), "{name}");
        }
    }

    #[test]
    fn payloads_lie_back_to_back() {
        let payloads = Payloads::random(100, 10..=20, 1);
        let sum: usize = (0..100).map(|index| payloads.get(index).len()).sum();
        assert_eq!((payloads.count(), payloads.bytes.len()), (100, sum));
        assert!((0..100).all(|index| (10..=20).contains(&payloads.get(index).len())));
    }
}
