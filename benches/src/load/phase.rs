//! What a phase works on: a codec, a policy, a page source, and whether there are checksums.

use std::fmt;
use std::str::FromStr;

use ::tests::corpus::PageFile;
use zcache::codec::{self, Dictionary, Lz4, Zstd};
use zcache::policy::{Lru, S3Fifo, Sieve};
use zcache::{Config, Share};
use zpool::SourceKind;
#[cfg(unix)]
use zpool::source::MmapOptions;

use crate::packing::Failure;

/// What a dictionary is trained to, in bytes, and on how many pages of each file.
const DICTIONARY: (usize, usize) = (32 << 10, 64);

/// What compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// Pages as they are.
    None,
    /// LZ4.
    Lz4,
    /// zstd at a level, with a dictionary or without.
    Zstd(i32, bool),
}

/// Who goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// S3-FIFO.
    S3Fifo,
    /// SIEVE.
    Sieve,
    /// LRU.
    Lru,
}

/// Where the cache's pages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// One reserved range.
    Mmap,
    /// Regions of the heap.
    Heap,
    /// A memfd that nothing maps.
    Memfd,
    /// One reserved range on huge pages.
    Huge,
}

/// A phase. Reads and prints as `lz4,s3-fifo,mmap`, with `,checksum` behind it if there are any, and with
/// `,hot` if pages are kept decoded as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    /// What compresses.
    pub codec: Codec,
    /// Who goes.
    pub policy: Policy,
    /// Where pages come from.
    pub source: Source,
    /// Whether there are checksums.
    pub checksum: bool,
    /// Whether an eighth of the capacity is for decoded pages.
    pub hot: bool,
}

const fn phase(codec: Codec, policy: Policy, source: Source, checksum: bool) -> Phase {
    Phase { codec, policy, source, checksum, hot: false }
}

impl Phase {
    /// Every codec and policy at least once, and each source that gives memory back to the system when it
    /// is told to: of the heap, the C library keeps what it likes.
    pub const MIX: [Self; 7] = [
        phase(Codec::Lz4, Policy::S3Fifo, Source::Mmap, false),
        Self { hot: true, ..phase(Codec::Lz4, Policy::S3Fifo, Source::Mmap, true) },
        phase(Codec::Zstd(3, false), Policy::Sieve, Source::Mmap, true),
        phase(Codec::Lz4, Policy::Lru, Source::Memfd, true),
        phase(Codec::Zstd(1, true), Policy::S3Fifo, Source::Mmap, false),
        phase(Codec::None, Policy::Sieve, Source::Mmap, true),
        phase(Codec::Zstd(-5, true), Policy::Lru, Source::Mmap, true),
    ];

    /// The phases of [`MIX`](Self::MIX) that have one of these codecs, this policy and this source, where
    /// they are given, or one that is made for them.
    #[must_use]
    pub fn chosen(codecs: &[Codec], policy: Option<Policy>, source: Option<Source>) -> Vec<Self> {
        let wanted = |phase: &Self| {
            (codecs.is_empty() || codecs.contains(&phase.codec))
                && policy.is_none_or(|policy| policy == phase.policy)
                && source.is_none_or(|source| source == phase.source)
        };
        let mix: Vec<Self> = Self::MIX.into_iter().filter(wanted).collect();
        if !mix.is_empty() {
            return mix;
        }
        let (policy, source) = (policy.unwrap_or(Policy::S3Fifo), source.unwrap_or(Source::Mmap));
        let codecs = if codecs.is_empty() { &[Codec::Lz4] } else { codecs };
        codecs.iter().map(|codec| phase(*codec, policy, source, false)).collect()
    }

    /// How much of the capacity is for decoded pages.
    #[must_use]
    pub const fn share(self) -> Share {
        if self.hot { Share::Of(8) } else { Share::None }
    }

    /// `config` with all of this, but the share. A dictionary is trained on some pages of `files`.
    ///
    /// # Errors
    /// The level is none of zstd's, or no dictionary could be trained.
    pub fn apply(self, config: Config, files: &[PageFile]) -> Result<Config, Failure> {
        let config = match self.codec {
            Codec::None => config.codec(codec::None),
            Codec::Lz4 => config.codec(Lz4),
            Codec::Zstd(level, false) => config.codec(Zstd::level(level)?),
            Codec::Zstd(level, true) => {
                let step = |file: &PageFile| file.pages().len().div_ceil(DICTIONARY.1);
                let pages: Vec<&[u8]> =
                    files.iter().flat_map(|file| file.pages().step_by(step(file))).collect();
                let dictionary = Dictionary::train(&pages, DICTIONARY.0)?;
                config.codec(Zstd::level(level)?.with_dictionary(&dictionary))
            }
        };
        let config = match self.policy {
            Policy::S3Fifo => config.policy(S3Fifo::new()),
            Policy::Sieve => config.policy(Sieve::new()),
            Policy::Lru => config.policy(Lru::new()),
        };
        let config = match self.source {
            Source::Mmap => config,
            Source::Heap => config.source(SourceKind::Heap),
            #[cfg(target_os = "linux")]
            Source::Memfd => config.source(SourceKind::Memfd),
            #[cfg(unix)]
            Source::Huge => config.source(SourceKind::Mmap(MmapOptions::new().huge_pages(true))),
            #[cfg(not(unix))]
            Source::Huge => return Err("there are no huge pages on this system".into()),
            #[cfg(not(target_os = "linux"))]
            Source::Memfd => return Err("there is no memfd on this system".into()),
        };
        Ok(config.checksum(self.checksum))
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Zstd(level, dictionary) => {
                write!(f, "zstd:{level}{}", if *dictionary { "+dict" } else { "" })
            }
        }
    }
}

impl FromStr for Codec {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let (name, dictionary) = match text.strip_suffix("+dict") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let level = |level: &str| level.parse().ok().filter(|level| Zstd::level(*level).is_ok());
        match (name, name.strip_prefix("zstd:").map(level)) {
            ("none", _) if !dictionary => Ok(Self::None),
            ("lz4", _) if !dictionary => Ok(Self::Lz4),
            (_, Some(Some(level))) => Ok(Self::Zstd(level, dictionary)),
            _ => Err(format!("no codec `{text}`: none, lz4, zstd:LEVEL, zstd:LEVEL+dict").into()),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::S3Fifo => "s3-fifo",
            Self::Sieve => "sieve",
            Self::Lru => "lru",
        })
    }
}

impl FromStr for Policy {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let all = [Self::S3Fifo, Self::Sieve, Self::Lru];
        let named = all.into_iter().find(|policy| policy.to_string() == text);
        named.ok_or_else(|| format!("no policy `{text}`: s3-fifo, sieve, lru").into())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mmap => "mmap",
            Self::Heap => "heap",
            Self::Memfd => "memfd",
            Self::Huge => "huge",
        })
    }
}

impl FromStr for Source {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let all = [Self::Mmap, Self::Heap, Self::Memfd, Self::Huge];
        let named = all.into_iter().find(|source| source.to_string() == text);
        named.ok_or_else(|| format!("no source `{text}`: mmap, heap, memfd, huge").into())
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { codec, policy, source, checksum, hot } = self;
        let (checksum, hot) =
            (if *checksum { ",checksum" } else { "" }, if *hot { ",hot" } else { "" });
        write!(f, "{codec},{policy},{source}{checksum}{hot}")
    }
}

impl FromStr for Phase {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let parts: Vec<&str> = text.split(',').collect();
        let (hot, parts) = match &parts[..] {
            [parts @ .., "hot"] => (true, parts),
            parts => (false, parts),
        };
        let (checksum, parts) = match parts {
            [parts @ .., "checksum"] => (true, parts),
            parts => (false, parts),
        };
        let [codec, policy, source] = parts else {
            return Err(format!("no phase `{text}`: CODEC,POLICY,SOURCE[,checksum][,hot]").into());
        };
        Ok(Self { hot, ..phase(codec.parse()?, policy.parse()?, source.parse()?, checksum) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_read_as_they_print() {
        for phase in Phase::MIX {
            assert_eq!(phase.to_string().parse::<Phase>().expect("a phase"), phase);
        }
        for bad in
            ["", "lz4", "lz4+dict,lru,mmap", "zstd:0,lru,heap", "lz4,lru,disk", "lz4,lru,heap,x"]
        {
            assert!(bad.parse::<Phase>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_chosen_is_worked_on() {
        assert_eq!(Phase::chosen(&[], None, None), Phase::MIX);
        let lz4 = Phase::chosen(&[Codec::Lz4], None, None);
        assert!(lz4.iter().all(|phase| phase.codec == Codec::Lz4) && lz4.len() > 1);
        let rare = Phase::chosen(&[Codec::Zstd(19, false)], Some(Policy::Lru), Some(Source::Heap));
        assert_eq!(rare, [phase(Codec::Zstd(19, false), Policy::Lru, Source::Heap, false)]);
    }
}
