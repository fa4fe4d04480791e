//! What a phase works on: a codec, a policy, a page source, and whether there are checksums.

use std::fmt;

use ::tests::corpus::PageFile;
use benches::arguments::Failure;
use benches::codec::Codec;
use benches::policy::Policy;
use serde::{Deserialize, Serialize};
use zcache::codec::Dictionary;
use zcache::{Config, HotShare};
use zpool::SourceKind;

/// The length of a dictionary in bytes, and the pages of each file that it is trained on.
const DICTIONARY: (usize, usize) = (32 << 10, 64);

/// Where the cache's pages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    /// One reserved range.
    Mmap,
    /// A memfd that nothing maps.
    Memfd,
}

/// A phase. Prints as `lz4,s3fifo,mmap`, with `,checksum` behind it if there are any, and with
/// `,hot` if pages are kept decoded as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Phase {
    pub(crate) codec: Codec,
    pub(crate) policy: Policy,
    pub(crate) source: Source,
    pub(crate) checksum: bool,
    /// Whether an eighth of the capacity is for decoded pages.
    pub(crate) hot: bool,
}

const fn phase(codec: Codec, policy: Policy, source: Source, checksum: bool) -> Phase {
    Phase { codec, policy, source, checksum, hot: false }
}

impl Phase {
    /// Every codec and policy at least once, and each source that gives memory back to the system
    /// when it is told to. Of the heap, the C library keeps as much as it decides to.
    pub(crate) const MIX: [Self; 7] = [
        phase(Codec::Lz4, Policy::S3Fifo, Source::Mmap, false),
        Self { hot: true, ..phase(Codec::Lz4, Policy::S3Fifo, Source::Mmap, true) },
        phase(Codec::Zstd(3, false), Policy::Sieve, Source::Mmap, true),
        phase(Codec::Lz4, Policy::Lru, Source::Memfd, true),
        phase(Codec::Zstd(1, true), Policy::S3Fifo, Source::Mmap, false),
        phase(Codec::None, Policy::Sieve, Source::Mmap, true),
        phase(Codec::Zstd(-5, true), Policy::Lru, Source::Mmap, true),
    ];

    /// The phases of [`MIX`](Self::MIX) that have one of these codecs, or one for each of them.
    pub(crate) fn chosen(codecs: &[Codec]) -> Vec<Self> {
        let wanted = |phase: &Self| codecs.is_empty() || codecs.contains(&phase.codec);
        let mix: Vec<Self> = Self::MIX.into_iter().filter(wanted).collect();
        if !mix.is_empty() {
            return mix;
        }
        let made = |codec: &Codec| phase(*codec, Policy::S3Fifo, Source::Mmap, false);
        codecs.iter().map(made).collect()
    }

    /// `config` with all of this. A dictionary is trained on some pages of `files`.
    pub(crate) fn apply(self, config: Config, files: &[PageFile]) -> Result<Config, Failure> {
        let mut dictionary = Vec::new();
        if matches!(self.codec, Codec::Zstd(_, true)) {
            let step = |file: &PageFile| file.pages().len().div_ceil(DICTIONARY.1);
            let pages: Vec<&[u8]> =
                files.iter().flat_map(|file| file.pages().step_by(step(file))).collect();
            dictionary = Dictionary::train(&pages, DICTIONARY.0)?.as_bytes().to_vec();
        }
        let config = self.policy.apply(self.codec.apply(config, &dictionary)?);
        let config = match self.source {
            Source::Mmap => config,
            #[cfg(target_os = "linux")]
            Source::Memfd => config.source(SourceKind::Memfd),
            #[cfg(not(target_os = "linux"))]
            Source::Memfd => return Err("there is no memfd on this system".into()),
        };
        let share = if self.hot { HotShare::Fraction(8) } else { HotShare::Off };
        Ok(config.checksum(self.checksum).hot(share))
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { codec, policy, source, checksum, hot } = self;
        let source = format!("{source:?}").to_lowercase();
        let [checksum, hot] =
            [(*checksum, ",checksum"), (*hot, ",hot")].map(|(is, name)| if is { name } else { "" });
        f.pad(&format!("{codec},{policy},{source}{checksum}{hot}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_is_worked_on() {
        assert_eq!(Phase::chosen(&[]), Phase::MIX);
        let lz4 = Phase::chosen(&[Codec::Lz4]);
        assert!(lz4.iter().all(|phase| phase.codec == Codec::Lz4) && lz4.len() > 1);
        let rare = Phase::chosen(&[Codec::Zstd(19, false)]);
        assert_eq!(rare.len(), 1);
        assert_eq!(rare[0].to_string(), "zstd:19,s3fifo,mmap");
    }
}
