//! What the command line says.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::*;

/// Any error, printed as one line.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) const USAGE: &str = "\
usage: explore [FILE...] [options]

Reads the files as pages (a .zst file is unpacked first), fills a cache with them, replays a skewed
access pattern from two threads, and prints what that saves and costs. Without a FILE: a sample of a
PostgreSQL database.

  --page-size SIZE     a power of two, 512 to 64KiB; default: what a file's name ends in (-8k), else
                       4096; the last page of a file may be short
  --budget SIZE        the cache's capacity, at most 1024GiB (default 16MiB)
  --codec CODEC,...    the codecs that caches have: lz4, zstd:LEVEL, zstd:LEVEL+dict, auto, none;
                       default: lz4,zstd:3,zstd:3+dict,auto; `auto` finds its own
  --miss TIME          what a miss costs beside its insert, in ns, us, ms or s: the time that
                       reading a page takes (default 100us)
  --keys N             distinct pages asked for; default: as many as the files have, and at least 16
                       budgets full; numbers beyond the files' pages get their contents over again
  --skew S             exponent of the Zipf distribution of the accesses (default 0.9; 0 is uniform)
  --ops N              accesses in all (default 1000000)
  --most SIZE          bytes of pages that are read at most, unpacked (default 1GiB)
  --quiet              no progress bar

A SIZE is a number of bytes with a unit or none: 65536, 64K or 64KiB, 64M, 1G; 64MB is 64 million.
A TIME is a number with a unit: 20us, 5ms.
";

/// The largest capacity that can be asked for, in bytes.
const MOST_BUDGET: u64 = 1 << 40;

/// The most keys that can be asked for: their chances are a table of 8 bytes each.
pub(crate) const MOST_KEYS: usize = 1 << 26;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CodecName {
    None,
    Lz4,
    Zstd {
        level: i32,
        dictionary: bool,
    },
    /// The cache finds its own.
    Auto,
}

impl CodecName {
    /// Those that are compared where no others are asked for.
    const ALL: &[Self] = &[
        Self::Lz4,
        Self::Zstd { level: 3, dictionary: false },
        Self::Zstd { level: 3, dictionary: true },
        Self::Auto,
    ];
}

impl FromStr for CodecName {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let named = match text {
            "none" => Some(Self::None),
            "lz4" => Some(Self::Lz4),
            "auto" => Some(Self::Auto),
            _ => text.strip_prefix("zstd:").and_then(|rest| {
                let (level, dictionary) = match rest.strip_suffix("+dict") {
                    Some(level) => (level, true),
                    None => (rest, false),
                };
                Some(Self::Zstd { level: level.parse().ok()?, dictionary })
            }),
        };
        named.ok_or_else(|| {
            let there = "lz4, zstd:LEVEL, zstd:LEVEL+dict, auto and none";
            format!("no codec `{text}`: there are {there}").into()
        })
    }
}

impl fmt::Display for CodecName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::None => "none".to_owned(),
            Self::Lz4 => "lz4".to_owned(),
            Self::Auto => "auto".to_owned(),
            Self::Zstd { level, dictionary } => {
                format!("zstd:{level}{}", if *dictionary { "+dict" } else { "" })
            }
        };
        f.pad(&text)
    }
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) page_size: Option<usize>,
    pub(crate) budget: usize,
    pub(crate) codecs: Vec<CodecName>,
    /// Whether these codecs were asked for: none of them is left out then.
    pub(crate) chosen: bool,
    pub(crate) miss: Duration,
    pub(crate) keys: Option<usize>,
    pub(crate) skew: f64,
    pub(crate) ops: usize,
    pub(crate) most: usize,
    pub(crate) quiet: bool,
}

/// A number of bytes: `65536`, `512KiB`, `64M`, `1GB`.
fn bytes(text: &str) -> Result<usize, Failure> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: Option<usize> = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kib" => Some(1 << 10),
        "m" | "mib" => Some(1 << 20),
        "g" | "gib" => Some(1 << 30),
        "kb" => Some(1000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        _ => None,
    };
    let wanted = "wanted is one such as 64MiB or 4096";
    let Some(unit) = unit.filter(|_| digits > 0) else {
        return Err(format!("`{text}` is no size: {wanted}").into());
    };
    let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    match bytes.filter(|bytes| *bytes <= isize::MAX as usize) {
        Some(0) => Err(format!("a size of 0 bytes: {wanted}").into()),
        Some(bytes) => Ok(bytes),
        None => Err(format!("`{text}` is too large a size: {wanted}").into()),
    }
}

/// Codecs by their names, each of them once.
fn codecs(text: &str) -> Result<Vec<CodecName>, Failure> {
    let mut all = Vec::new();
    for name in text.split(',') {
        let name = name.parse()?;
        if !all.contains(&name) {
            all.push(name);
        }
    }
    Ok(all)
}

/// A time: `20us`, `5ms`.
fn time(text: &str) -> Result<Duration, Failure> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: Option<u64> = match unit {
        "ns" => Some(1),
        "us" => Some(1000),
        "ms" => Some(1_000_000),
        "s" => Some(1_000_000_000),
        _ => None,
    };
    let of = |unit: u64| number.parse::<u64>().ok()?.checked_mul(unit);
    let time = unit.and_then(of).map(Duration::from_nanos);
    time.ok_or_else(|| format!("`{text}` is no time: wanted is one such as 20us or 5ms").into())
}

impl Options {
    /// `None`: help was asked for.
    pub(crate) fn from_env() -> Result<Option<Self>, Failure> {
        let mut options = Self {
            files: Vec::new(),
            page_size: None,
            budget: 16 << 20,
            codecs: CodecName::ALL.to_vec(),
            chosen: false,
            miss: Duration::from_micros(100),
            keys: None,
            skew: 0.9,
            ops: 1_000_000,
            most: 1 << 30,
            quiet: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("page-size") => {
                    let size = bytes(&parser.value()?.string()?)?;
                    if !size.is_power_of_two() || !(512..=64 << 10).contains(&size) {
                        let wanted = "wanted is a power of two from 512 to 65536";
                        return Err(format!("a page of {size} bytes: {wanted}").into());
                    }
                    options.page_size = Some(size);
                }
                Long("budget") => options.budget = bytes(&parser.value()?.string()?)?,
                Long("codec") => {
                    options.codecs = codecs(&parser.value()?.string()?)?;
                    options.chosen = true;
                }
                Long("miss") => options.miss = time(&parser.value()?.string()?)?,
                Long("keys") => options.keys = Some(parser.value()?.parse()?),
                Long("skew") => options.skew = parser.value()?.parse()?,
                Long("ops") => options.ops = parser.value()?.parse()?,
                Long("most") => options.most = bytes(&parser.value()?.string()?)?,
                Long("quiet") => options.quiet = true,
                Short('h') | Long("help") => return Ok(None),
                Value(file) => options.files.push(file.into()),
                _ => return Err(argument.unexpected().into()),
            }
        }
        if options.keys.is_some_and(|keys| keys == 0 || keys > MOST_KEYS) || options.ops < 2 {
            return Err(format!("--keys is 1 to {MOST_KEYS}, --ops 2 or more").into());
        }
        if options.budget as u64 > MOST_BUDGET {
            return Err("--budget is 1024GiB or less".into());
        }
        if !(0.0..=4.0).contains(&options.skew) {
            return Err("--skew is a number from 0 to 4".into());
        }
        Ok(Some(options))
    }
}
