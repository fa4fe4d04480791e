//! The shares, and the caches that have them.

use std::fmt;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::str::FromStr;
use std::time::Duration;

use benches::arguments::Failure;
use zcache::{Cache, HotShare};

use crate::caches;
use crate::spec::Spec;
use crate::stage::Stage;

/// Hashes alike in every process: which keys share a slot of the hot tier is then no matter of
/// luck.
pub(crate) type Hasher = BuildHasherDefault<DefaultHasher>;

/// A share by its name: `none`, `auto`, or `1/N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) share: HotShare,
    /// Whether its cache is told what a miss costs: then there is one for each cost, and it is not
    /// among the fixed ones, the best of which is what all are held against.
    pub(crate) told: bool,
}

/// A share, and the cost of a miss that its cache is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contender {
    pub(crate) share: Named,
    pub(crate) miss: Option<Duration>,
}

/// The names of those that are compared unless told otherwise.
pub(crate) const ALL: &str = "none,auto,1/32,1/16,1/8,1/4,1/2";

impl FromStr for Named {
    type Err = Failure;

    fn from_str(name: &str) -> Result<Self, Failure> {
        if name == "none" {
            return Ok(Self { share: HotShare::Off, told: false });
        }
        if name == "auto" {
            return Ok(Self { share: HotShare::Auto, told: true });
        }
        let part = name.strip_prefix("1/").and_then(|part| part.parse().ok());
        match part {
            Some(part) if part > 0 => Ok(Self { share: HotShare::Fraction(part), told: false }),
            _ => Err(format!("no share `{name}`: there are none, auto and 1/N").into()),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.share {
            HotShare::Off => f.pad("none"),
            HotShare::Auto => f.pad("auto"),
            HotShare::Fraction(part) => f.pad(&format!("1/{part}")),
            share => f.pad(&format!("{share:?}")),
        }
    }
}

impl Contender {
    pub(crate) fn cache(
        &self,
        spec: Spec,
        capacity: u64,
        stage: &Stage,
    ) -> Result<Cache<u64, Hasher>, Failure> {
        let config = caches::config(spec, capacity, stage)?.hot(self.share.share);
        let config = match self.miss {
            Some(miss) => config.miss_cost(miss),
            None => config,
        };
        Ok(Cache::with_hasher(config, Hasher::default())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_parsed_as_they_print() {
        for name in ALL.split(',') {
            assert_eq!(name.parse::<Named>().unwrap().to_string(), name);
        }
        for name in ["", "1/0", "1/x", "2/3", "8"] {
            assert!(name.parse::<Named>().is_err(), "{name}");
        }
    }
}
