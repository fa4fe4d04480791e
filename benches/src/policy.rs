//! zcache's policies by their names.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use zcache::Config;
use zcache::policy::{Lru, S3Fifo, Sieve};

/// A policy of zcache's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[allow(clippy::exhaustive_enums, reason = "matched by the programs of this package only")]
pub enum Policy {
    /// S3-FIFO with our rules.
    #[value(name = "s3fifo")]
    S3Fifo,
    /// SIEVE.
    Sieve,
    /// CLOCK, for what zcache calls LRU.
    Lru,
}

impl Policy {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::S3Fifo => "s3fifo",
            Self::Sieve => "sieve",
            Self::Lru => "lru",
        }
    }

    /// `config` with this policy.
    #[must_use]
    pub fn apply(self, config: Config) -> Config {
        match self {
            Self::S3Fifo => config.policy(S3Fifo::new()),
            Self::Sieve => config.policy(Sieve::new()),
            Self::Lru => config.policy(Lru::new()),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
