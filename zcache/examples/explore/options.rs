//! What the command line says.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use lexopt::prelude::*;

/// Any error, printed as one line.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) const USAGE: &str = "\
usage: explore [FILE...] [options]

Reads the files as pages (a .zst file is unpacked first), fills a cache with them, replays a skewed
access pattern from two threads, and prints what that saves and costs. Without a FILE: a sample of a
PostgreSQL database.

  --page-size BYTES    a power of two, 512 to 65536; default: what a file's name ends in (-8k), else 4096
  --budget SIZE        the cache's capacity, such as 64MiB or 512KiB (default 16MiB)
  --codec CODEC        lz4 (default), zstd:LEVEL, zstd:LEVEL+dict, none
  --keys N             distinct pages asked for; default: as many as the files have, and at least 16 budgets
                       full; numbers beyond the files' pages get their contents over again
  --skew S             exponent of the Zipf distribution of the accesses (default 0.9; 0 is uniform)
  --ops N              accesses in all (default 1000000)
  --quiet              no progress bar
";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CodecName {
    None,
    Lz4,
    Zstd { level: i32, dictionary: bool },
}

impl CodecName {
    /// Those that the table of codecs always shows.
    pub(crate) const ALL: &[Self] = &[
        Self::Lz4,
        Self::Zstd { level: 3, dictionary: false },
        Self::Zstd { level: 3, dictionary: true },
    ];
}

impl FromStr for CodecName {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let named = match text {
            "none" => Some(Self::None),
            "lz4" => Some(Self::Lz4),
            _ => text.strip_prefix("zstd:").and_then(|rest| {
                let (level, dictionary) = match rest.strip_suffix("+dict") {
                    Some(level) => (level, true),
                    None => (rest, false),
                };
                Some(Self::Zstd { level: level.parse().ok()?, dictionary })
            }),
        };
        named.ok_or_else(|| {
            format!("no codec `{text}`: there are lz4, zstd:LEVEL, zstd:LEVEL+dict and none").into()
        })
    }
}

impl fmt::Display for CodecName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::None => "none".to_owned(),
            Self::Lz4 => "lz4".to_owned(),
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
    pub(crate) codec: CodecName,
    pub(crate) keys: Option<usize>,
    pub(crate) skew: f64,
    pub(crate) ops: usize,
    pub(crate) quiet: bool,
}

/// A number of bytes: `65536`, `512KiB`, `64MiB`, `1GiB`.
fn bytes(text: &str) -> Result<usize, Failure> {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    let (number, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))
        .unwrap_or((text, 0));
    let number = number.trim().parse::<usize>().ok().filter(|number| *number > 0);
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| format!("`{text}` is no size: wanted is one such as 64MiB or 4096").into())
}

impl Options {
    /// `None`: help was asked for.
    pub(crate) fn from_env() -> Result<Option<Self>, Failure> {
        let mut options = Self {
            files: Vec::new(),
            page_size: None,
            budget: 16 << 20,
            codec: CodecName::Lz4,
            keys: None,
            skew: 0.9,
            ops: 1_000_000,
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
                Long("codec") => options.codec = parser.value()?.string()?.parse()?,
                Long("keys") => options.keys = Some(parser.value()?.parse()?),
                Long("skew") => options.skew = parser.value()?.parse()?,
                Long("ops") => options.ops = parser.value()?.parse()?,
                Long("quiet") => options.quiet = true,
                Short('h') | Long("help") => return Ok(None),
                Value(file) => options.files.push(file.into()),
                _ => return Err(argument.unexpected().into()),
            }
        }
        if options.keys == Some(0) || options.ops < 2 {
            return Err("--keys is 1 or more, --ops 2 or more".into());
        }
        if !(0.0..=4.0).contains(&options.skew) {
            return Err("--skew is a number from 0 to 4".into());
        }
        Ok(Some(options))
    }
}
