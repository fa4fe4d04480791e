//! What `cost` and `tails` have in common on the command line.

use benches::packing::Failure;
use lexopt::ValueExt;

use crate::budget::bytes;
use crate::spec::{Codec, Kind, Spec};

/// Threads at once, at most.
const THREADS: usize = 64;
/// Keys that are looked up, at most: their pages take a gigabyte and more in each cache.
const KEYS: u64 = 10_000_000;

/// Which caches work on which pages, and how often.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// By default the sample's.
    pub(crate) pages: Option<String>,
    pub(crate) page_size: usize,
    /// zcache first.
    pub(crate) specs: Vec<Spec>,
    pub(crate) threads: Vec<usize>,
    pub(crate) capacities: Vec<u64>,
    pub(crate) windows: usize,
    pub(crate) json: bool,
}

pub(crate) const USAGE: &str = "\
Both modes take:
  --cache LIST      caches beside zcache, which always takes part (default: the four peers)
  --pages PAGES     a page file or the name of a shared one (default: the sample); pages in which
                    one word repeats are left out
  --page-size N     what its pages are cut to (default 4096)
  --json            a row of JSON each instead of a table
";

impl Terms {
    pub(crate) fn new(threads: &[usize], capacities: &[u64], windows: usize) -> Self {
        let peers = Kind::PEERS.into_iter().filter(|_| cfg!(feature = "peers"));
        let peers = peers.map(|kind| Spec::new(kind, Codec::Lz4));
        Self {
            pages: None,
            page_size: 4096,
            specs: [Spec::REFERENCE].into_iter().chain(peers).collect(),
            threads: threads.to_vec(),
            capacities: capacities.to_vec(),
            windows,
            json: false,
        }
    }

    /// Takes the option `name`, if it is one of these.
    pub(crate) fn take(
        &mut self,
        name: &str,
        parser: &mut lexopt::Parser,
    ) -> Result<bool, Failure> {
        match name {
            "pages" => self.pages = Some(parser.value()?.string()?),
            "page-size" => self.page_size = parser.value()?.parse()?,
            "cache" => self.specs = specs(&parser.value()?.string()?)?,
            "threads" => self.threads = list(name, parser, |text| Ok(text.parse()?))?,
            "capacity" => self.capacities = list(name, parser, bytes)?,
            "windows" => self.windows = parser.value()?.parse()?,
            "json" => self.json = true,
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.threads.iter().any(|threads| !(1..=THREADS).contains(threads)) {
            return Err(format!("--threads are 1 to {THREADS}").into());
        }
        if self.windows == 0 {
            return Err("--windows is 1 or more".into());
        }
        Ok(())
    }
}

/// Each part of the value of the option `name`.
pub(crate) fn list<T>(
    name: &str,
    parser: &mut lexopt::Parser,
    of: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let list = parser.value()?.string()?;
    let told = |error| format!("--{name} {list}: {error}").into();
    list.split(',').map(of).collect::<Result<_, Failure>>().map_err(told)
}

/// A number of keys: `300`, `100k`, `1M`.
pub(crate) fn keys(text: &str) -> Result<u64, Failure> {
    let units = [("k", 1000), ("M", 1_000_000)];
    let unit = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let (number, unit) = unit.unwrap_or((text, 1));
    let keys = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    let keys = keys.filter(|keys| (1..=KEYS).contains(keys));
    keys.ok_or_else(|| format!("`{text}` is no number of keys from 1 to {KEYS}").into())
}

/// zcache with LZ4, and what else was named.
fn specs(list: &str) -> Result<Vec<Spec>, Failure> {
    let mut specs = vec![Spec::REFERENCE];
    for name in list.split(',') {
        let spec: Spec = name.parse()?;
        if spec.codec != Codec::Lz4 || spec.kind == Kind::Zram {
            return Err(format!("{name}: the caches beside each other here hold LZ4 blocks").into());
        }
        if !specs.contains(&spec) {
            specs.push(spec);
        }
    }
    Ok(specs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_units() {
        assert_eq!(
            ["300", "100k", "1M"].map(|text| keys(text).unwrap()),
            [300, 100_000, 1_000_000]
        );
        for text in ["", "0", "k", "1K", "1.5k", "11M", "99999999999999999999M"] {
            assert!(keys(text).is_err(), "{text}");
        }
    }

    #[test]
    fn zcache_always_takes_part_and_nobody_twice() {
        let names = |list| specs(list).unwrap().iter().map(Spec::to_string).collect::<Vec<_>>();
        assert_eq!(names("zcache/lz4/lru"), ["zcache/lz4/s3fifo", "zcache/lz4/lru"]);
        assert_eq!(names("zcache,zcache"), ["zcache/lz4/s3fifo"]);
        for list in ["zcache/none", "zram", "zcache/zstd:3", ""] {
            assert!(specs(list).is_err(), "{list}");
        }
    }
}
