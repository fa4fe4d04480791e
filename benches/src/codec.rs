//! Codecs by their names, and the payloads that they make. A payload as long as its page is the
//! page.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use ::tests::corpus::PageFile;
use serde::{Deserialize, Serialize};
use zcache::codec::{self, Context, Dictionary, Lz4, Zstd};

use crate::arguments::Failure;

/// What compresses pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_enums, reason = "matched by the programs of this package only")]
pub enum Codec {
    /// Pages are stored as they are.
    None,
    /// LZ4 blocks by liblz4, as zcache makes them.
    Lz4,
    /// LZ4 blocks by `lz4_flex`. zcache has no such codec in this build.
    Flex,
    /// zstd frames at this level; with a dictionary if so.
    Zstd(i32, bool),
}

impl FromStr for Codec {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let (level, with) = match text.strip_suffix("+dict") {
            Some(level) => (level, true),
            None => (text, false),
        };
        let level = level.strip_prefix("zstd:").and_then(|level| level.parse().ok());
        match (text, level.filter(|level| Zstd::level(*level).is_ok())) {
            ("none", _) => Ok(Self::None),
            ("lz4", _) => Ok(Self::Lz4),
            ("lz4_flex", _) => Ok(Self::Flex),
            (_, Some(level)) => Ok(Self::Zstd(level, with)),
            _ => Err(format!(
                "no codec `{text}`: there are none, lz4, lz4_flex, zstd:LEVEL and zstd:LEVEL+dict"
            )
            .into()),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.pad("none"),
            Self::Lz4 => f.pad("lz4"),
            Self::Flex => f.pad("lz4_flex"),
            Self::Zstd(level, false) => f.pad(&format!("zstd:{level}")),
            Self::Zstd(level, true) => f.pad(&format!("zstd:{level}+dict")),
        }
    }
}

impl Codec {
    /// zstd at `level` with the bytes of a dictionary, or without one.
    fn zstd(level: i32, dictionary: Option<&[u8]>) -> Result<Zstd, Failure> {
        let plain = Zstd::level(level)?;
        Ok(match dictionary {
            Some(bytes) => plain.with_dictionary(&Dictionary::new(bytes)?),
            None => plain,
        })
    }

    /// `config` with this codec, and with this dictionary where it has one.
    ///
    /// # Errors
    /// zcache has no such codec, or the bytes are no dictionary.
    pub fn apply(
        self,
        config: zcache::Config,
        dictionary: &[u8],
    ) -> Result<zcache::Config, Failure> {
        Ok(match self {
            Self::None => config.codec(codec::Plain),
            Self::Lz4 => config.codec(Lz4),
            Self::Zstd(level, with) => config.codec(Self::zstd(level, with.then_some(dictionary))?),
            Self::Flex => return Err("zcache has no codec lz4_flex here".into()),
        })
    }
}

/// A codec, ready to make workers of.
#[derive(Debug, Clone)]
pub enum Engine {
    /// `lz4_flex`.
    Flex,
    /// One of zcache's.
    Codec(Arc<dyn codec::Codec>),
}

/// One thread's side of an [`Engine`].
pub struct Worker(Work);

enum Work {
    /// With room for the longest output.
    Flex(Vec<u8>),
    Codec(Arc<dyn codec::Codec>, Box<dyn Context>),
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Engine {
    /// The codec's, with this dictionary where it has one.
    ///
    /// # Errors
    /// The bytes are no dictionary.
    pub fn new(codec: Codec, dictionary: &[u8]) -> Result<Self, Failure> {
        Ok(match codec {
            Codec::None => Self::Codec(Arc::new(codec::Plain)),
            Codec::Flex => Self::Flex,
            Codec::Lz4 => Self::Codec(Arc::new(Lz4)),
            Codec::Zstd(level, with) => {
                Self::Codec(Arc::new(Codec::zstd(level, with.then_some(dictionary))?))
            }
        })
    }

    /// A worker for pages of `page_size` bytes.
    ///
    /// # Errors
    /// The codec has no memory for a context.
    pub fn worker(&self, page_size: usize) -> io::Result<Worker> {
        Ok(Worker(match self {
            Self::Flex => Work::Flex(vec![0; lz4_flex::block::get_maximum_output_size(page_size)]),
            Self::Codec(codec) => Work::Codec(Arc::clone(codec), codec.context(page_size)?),
        }))
    }

    /// What is stored for each of `pages`, which have `page_size` bytes.
    ///
    /// # Errors
    /// The codec has no memory for a context.
    pub fn payloads<'p>(
        &self,
        pages: impl Iterator<Item = &'p [u8]>,
        page_size: usize,
    ) -> io::Result<Vec<Vec<u8>>> {
        let (mut worker, mut to) = (self.worker(page_size)?, vec![0; page_size]);
        Ok(pages.map(|page| worker.encode(page, &mut to).to_vec()).collect())
    }
}

impl Worker {
    /// What is stored for `page`: made in `to`, of a page's length, or the page itself.
    pub fn encode<'a>(&mut self, page: &'a [u8], to: &'a mut [u8]) -> &'a [u8] {
        let len = match &mut self.0 {
            Work::Flex(room) => {
                let len = lz4_flex::block::compress_into(page, room).ok();
                let len = len.filter(|len| *len < page.len());
                len.inspect(|&len| to[..len].copy_from_slice(&room[..len]))
            }
            Work::Codec(_, context) => context.compress(page, &mut to[..page.len() - 1]),
        };
        len.map_or(page, |len| &to[..len])
    }

    /// Decodes a payload to the whole of `to`.
    ///
    /// # Panics
    /// The payload does not decode to a page.
    #[inline]
    pub fn decode(&mut self, payload: &[u8], to: &mut [u8]) {
        if payload.len() == to.len() {
            return to.copy_from_slice(payload);
        }
        let whole = match &mut self.0 {
            Work::Flex(_) => {
                lz4_flex::block::decompress_into(payload, to).is_ok_and(|len| len == to.len())
            }
            Work::Codec(codec, context) => {
                codec.decode(payload, to).unwrap_or_else(|| context.decompress(payload, to)).is_ok()
            }
        };
        assert!(whole, "a payload of this codec");
    }
}

/// Payloads, and the bytes of the pages that they stand for.
#[derive(Debug)]
pub struct Payloads {
    /// The payloads.
    pub all: Vec<Vec<u8>>,
    original: usize,
}

impl Payloads {
    /// Compresses each page of `file` alone.
    ///
    /// # Errors
    /// What the codec reports; none does so for a page.
    pub fn compress(file: &PageFile, codec: Codec) -> Result<Self, Failure> {
        let all = Engine::new(codec, &[])?.payloads(file.pages(), file.page_size())?;
        Ok(Self { original: all.len() * file.page_size(), all })
    }

    /// `count` payloads of random bytes and random lengths in `lens`.
    #[must_use]
    pub fn random(count: usize, lens: std::ops::RangeInclusive<usize>, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut all: Vec<Vec<u8>> = (0..count).map(|_| vec![0; rng.usize(lens.clone())]).collect();
        all.iter_mut().for_each(|payload| rng.fill(payload));
        Self { original: all.iter().map(Vec::len).sum(), all }
    }

    /// Payload number `index`.
    #[must_use]
    pub fn get(&self, index: u32) -> &[u8] {
        &self.all[index as usize]
    }

    /// Payloads.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Bytes of all payloads, divided by the bytes of their pages.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.all.iter().map(Vec::len).sum::<usize>() as f64 / self.original.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_are_named_as_they_print() {
        for name in ["none", "lz4", "lz4_flex", "zstd:3", "zstd:-5", "zstd:3+dict"] {
            assert_eq!(name.parse::<Codec>().unwrap().to_string(), name);
        }
        for name in ["", "zstd", "zstd:", "zstd:0", "zstd:99", "lzo", "lz4+dict"] {
            assert!(name.parse::<Codec>().is_err(), "{name}");
        }
    }

    #[test]
    fn every_engine_gives_back_its_pages() {
        let sample = ::tests::corpus::sample();
        let mut noise = vec![0; sample.page_size()];
        fastrand::Rng::with_seed(1).fill(&mut noise);
        for codec in [Codec::Lz4, Codec::Flex, Codec::Zstd(3, false), Codec::None] {
            let mut worker = Engine::new(codec, &[]).unwrap().worker(sample.page_size()).unwrap();
            let (mut to, mut read) = (noise.clone(), noise.clone());
            for page in sample.pages().step_by(101).chain([&noise[..]]) {
                let payload = worker.encode(page, &mut to).to_vec();
                assert!(payload.len() <= page.len());
                worker.decode(&payload, &mut read);
                assert_eq!(read, page, "{codec}");
            }
        }
    }
}
