//! The caches that operations are replayed on: codecs, policies, page sources, and capacities that
//! are tight.

use std::time::Duration;

use zcache::codec::{self, Dictionary, Zstd};
use zcache::policy::{Lru, S3Fifo, Sieve};
use zcache::{Cache, Config, ConfigError, HotShare, MAX_PIECE};
use zpool::SourceKind;

/// The caches that operations are replayed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say what they differ in")]
#[non_exhaustive]
pub enum CacheSetup {
    Lz4,
    Tiny,
    SieveUnchecked,
    LruHeap,
    Memfd,
    Plain,
    Zstd,
    Ageing,
    ZstdTight,
    Dictionary,
    LongKept,
    Hot,
    HotAgeing,
    HotTight,
    Cold,
    ColdTight,
    Trained,
}

impl CacheSetup {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Lz4,
        Self::Tiny,
        Self::SieveUnchecked,
        Self::LruHeap,
        Self::Memfd,
        Self::Plain,
        Self::Zstd,
        Self::Ageing,
        Self::ZstdTight,
        Self::Dictionary,
        Self::LongKept,
        Self::Hot,
        Self::HotAgeing,
        Self::HotTight,
        Self::Cold,
        Self::ColdTight,
        Self::Trained,
    ];

    /// How much of it holds pages decoded.
    pub(crate) const fn share(self) -> HotShare {
        match self {
            Self::Hot => HotShare::Fraction(3),
            Self::HotAgeing | Self::HotTight | Self::ColdTight => HotShare::Fraction(1),
            _ => HotShare::Off,
        }
    }

    pub(crate) fn config(self) -> Config {
        let config = |capacity: usize| Config::new(capacity).max_page(16 << 10).shards(2);
        let heap = |config: Config| config.source(SourceKind::Heap).checksum(true);
        match self {
            Self::Lz4 => heap(config(1 << 20)),
            Self::Tiny => config(240 << 10).max_page(4096).checksum(true),
            Self::SieveUnchecked => config(600 << 10).policy(Sieve::new()).checksum(false),
            Self::LruHeap => heap(config(1000 << 10).policy(Lru::new())),
            Self::Memfd => config(800 << 10).policy(S3Fifo::new()).source(SourceKind::Memfd),
            Self::Plain => heap(config(1000 << 10).codec(codec::Plain)),
            Self::Zstd => heap(config(4 << 20)).codec(zstd()),
            Self::ZstdTight => least(|bytes| config(bytes).max_page(5000).codec(zstd())),
            Self::Dictionary => {
                let dictionary = Dictionary::new(&[7; 3000]).expect("any bytes");
                config(4 << 20).codec(zstd().with_dictionary(&dictionary)).checksum(true)
            }
            Self::LongKept => config(3 << 20).max_page(MAX_PIECE).policy(Sieve::new()),
            Self::Hot => config(1 << 20).checksum(true),
            Self::HotAgeing => heap(config(1 << 20)).time_to_live(Duration::from_secs(3600)),
            Self::HotTight => {
                let small = |bytes| config(bytes).max_page(5000).codec(zstd());
                small(least_bytes(small) + (60 << 10))
            }
            Self::Cold => config(2 << 20).cold_codec(zstd()).checksum(true),
            Self::ColdTight => {
                let config = |bytes| config(bytes).max_page(5000).cold_codec(zstd()).train(256);
                least(config).time_to_live(Duration::from_secs(3600))
            }
            Self::Trained => config(5 << 20).codec(zstd()).train(2500).checksum(true),
            Self::Ageing => heap(config(1 << 20)).time_to_live(Duration::from_secs(3600)),
        }
    }
}

/// The least capacity that works.
fn least(config: impl Fn(usize) -> Config) -> Config {
    config(least_bytes(&config))
}

fn least_bytes(config: impl Fn(usize) -> Config) -> usize {
    match Cache::<u8>::new(config(0)) {
        Err(ConfigError::TooSmall { least }) => least,
        other => panic!("a capacity of nothing gave {other:?}"),
    }
}

fn zstd() -> Zstd {
    Zstd::level(1).expect("a level")
}
