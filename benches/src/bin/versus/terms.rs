//! What `cost` and `tails` have in common on the command line.

use std::str::FromStr;

use benches::arguments::{Failure, bytes};

use crate::spec::{Codec, Spec, Specs};

/// Threads at once, at most.
pub(crate) const THREADS: i64 = 64;
/// A debug build's times are of no interest, only that there are some.
pub(crate) const DEBUG: bool = cfg!(debug_assertions);
const CAPACITIES: &str = if DEBUG { "1MiB,2MiB" } else { "4MiB,64MiB" };

/// Which caches work on which pages.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Terms {
    /// Caches beside zcache, which always takes part; `all` is the four peers
    #[arg(long = "cache", default_value = "all")]
    pub(crate) rivals: Rivalry,
    /// A page file or the name of a shared one (default: the sample); pages in which one word
    /// repeats are left out
    #[arg(long)]
    pub(crate) pages: Option<String>,
    /// What its pages are cut to
    #[arg(long, default_value_t = 4096)]
    pub(crate) page_size: usize,
    /// zcache's capacity where caches are full; peers hold as many entries, within 2 %
    #[arg(long, value_delimiter = ',', default_value = CAPACITIES, value_parser = bytes)]
    pub(crate) capacity: Vec<u64>,
    /// A row of JSON each instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// zcache with LZ4 first, and the others that were named.
#[derive(Debug, Clone)]
pub(crate) struct Rivalry(pub(crate) Vec<Spec>);

impl FromStr for Rivalry {
    type Err = Failure;

    fn from_str(list: &str) -> Result<Self, Failure> {
        let mut specs = vec![Spec::REFERENCE];
        for spec in list.parse::<Specs>()?.0 {
            if spec.codec != Codec::Lz4 {
                return Err(format!("{spec}: the caches beside each other hold LZ4 blocks").into());
            }
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
        Ok(Self(specs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zcache_always_takes_part_and_nobody_twice() {
        let names = |list: &str| {
            let specs = list.parse::<Rivalry>().unwrap().0;
            specs.iter().map(Spec::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names("zcache/lz4/lru"), ["zcache/lz4/s3fifo", "zcache/lz4/lru"]);
        assert_eq!(names("zcache,zcache"), ["zcache/lz4/s3fifo"]);
        for list in ["zcache/none", "zcache/zstd:3", ""] {
            assert!(list.parse::<Rivalry>().is_err(), "{list}");
        }
    }
}
