//! Who takes part: a cache, its codec, and its policy where it has a choice.

use std::fmt;
use std::str::FromStr;

use benches::packing::Failure;

/// The part of a name that stands for huge pages.
const HUGE: &str = "huge";

/// The caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Zcache,
    Moka,
    QuickCache,
    FoyerS3Fifo,
    FoyerLru,
    Zram,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Zcache, Self::Moka, Self::QuickCache, Self::FoyerS3Fifo, Self::FoyerLru, Self::Zram];
    /// Those that keep their values on the heap.
    pub(crate) const PEERS: [Self; 4] =
        [Self::Moka, Self::QuickCache, Self::FoyerS3Fifo, Self::FoyerLru];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Zcache => "zcache",
            Self::Moka => "moka",
            Self::QuickCache => "quick_cache",
            Self::FoyerS3Fifo => "foyer-s3fifo",
            Self::FoyerLru => "foyer-lru",
            Self::Zram => "zram",
        }
    }

    pub(crate) fn is_peer(self) -> bool {
        Self::PEERS.contains(&self)
    }
}

/// What compresses the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Codec {
    /// liblz4, as zcache uses it.
    Lz4,
    /// lz4_flex.
    Flex,
    /// zstd at this level; with a dictionary if so.
    Zstd(i32, bool),
    /// Plain values.
    None,
}

impl FromStr for Codec {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        match text {
            "lz4" => return Ok(Self::Lz4),
            "lz4_flex" => return Ok(Self::Flex),
            "none" | "plain" => return Ok(Self::None),
            _ => {}
        }
        let level = text.strip_prefix("zstd:").map(|rest| match rest.strip_suffix("+dict") {
            Some(level) => (level, true),
            None => (rest, false),
        });
        let level = level.and_then(|(level, dictionary)| Some((level.parse().ok()?, dictionary)));
        match level {
            Some((level, dictionary)) if (-7..=22).contains(&level) && level != 0 => {
                Ok(Self::Zstd(level, dictionary))
            }
            _ => Err(format!(
                "no codec `{text}`: there are lz4, lz4_flex, zstd:LEVEL, zstd:LEVEL+dict and none"
            )
            .into()),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lz4 => f.write_str("lz4"),
            Self::Flex => f.write_str("lz4_flex"),
            Self::Zstd(level, false) => write!(f, "zstd:{level}"),
            Self::Zstd(level, true) => write!(f, "zstd:{level}+dict"),
            Self::None => f.write_str("none"),
        }
    }
}

/// zcache's policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Policy {
    S3Fifo,
    Sieve,
    Lru,
}

impl Policy {
    const fn name(self) -> &'static str {
        match self {
            Self::S3Fifo => "s3fifo",
            Self::Sieve => "sieve",
            Self::Lru => "lru",
        }
    }
}

/// A cache with its settings; prints as it is parsed: `zcache/zstd:3/sieve`, `moka/lz4_flex`, `zram`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Spec {
    pub(crate) kind: Kind,
    pub(crate) codec: Codec,
    pub(crate) policy: Policy,
    /// zcache's pages are huge ones, if the system has them.
    pub(crate) huge: bool,
}

impl Spec {
    /// The one whose memory all others are given.
    pub(crate) const REFERENCE: Self = Self::new(Kind::Zcache, Codec::Lz4);

    pub(crate) const fn new(kind: Kind, codec: Codec) -> Self {
        Self { kind, codec, policy: Policy::S3Fifo, huge: false }
    }

    /// The policy's name, where it is known.
    pub(crate) fn policy(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Zcache => Some(self.policy.name()),
            Kind::FoyerS3Fifo => Some("s3fifo"),
            Kind::FoyerLru => Some("lru"),
            Kind::Moka | Kind::QuickCache | Kind::Zram => None,
        }
    }

    /// The name among caches that all have one codec: the policy is told where it is a choice.
    pub(crate) fn short(&self) -> String {
        if self.huge {
            return format!("{}/{HUGE}", Self { huge: false, ..*self }.short());
        }
        match (self.kind, self.policy) {
            (Kind::Zcache, Policy::Sieve | Policy::Lru) => {
                format!("{}/{}", self.kind.name(), self.policy.name())
            }
            _ => self.kind.name().to_owned(),
        }
    }

    fn checked(self, text: &str) -> Result<Self, Failure> {
        let fits = match self.kind {
            Kind::Zcache => self.codec != Codec::Flex,
            Kind::Zram => self.codec == Codec::Lz4,
            _ => !matches!(self.codec, Codec::Zstd(..)),
        };
        if fits {
            Ok(self)
        } else {
            Err(format!("{text}: this cache has no such codec here").into())
        }
    }
}

impl FromStr for Spec {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let mut parts = text.split('/');
        let name = parts.next().unwrap_or_default();
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
            let all = Kind::ALL.map(Kind::name).join(", ");
            return Err(format!("no cache `{name}`: there are {all}").into());
        };
        if kind.is_peer() && !cfg!(feature = "peers") {
            return Err(format!("{name} is not built in: it comes with the feature `peers`").into());
        }
        let mut spec = Self::new(kind, Codec::Lz4);
        for part in parts {
            if part == HUGE && kind == Kind::Zcache {
                spec.huge = true;
                continue;
            }
            let policy = [Policy::S3Fifo, Policy::Sieve, Policy::Lru]
                .into_iter()
                .find(|policy| policy.name() == part);
            match policy {
                Some(policy) if kind == Kind::Zcache => spec.policy = policy,
                Some(_) => {
                    return Err(format!("{text}: only zcache has a choice of policies").into());
                }
                None => spec.codec = part.parse()?,
            }
        }
        spec.checked(text)
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if self.kind != Kind::Zram {
            write!(f, "/{}", self.codec)?;
        }
        if self.kind == Kind::Zcache {
            write!(f, "/{}", self.policy.name())?;
        }
        if self.huge { write!(f, "/{HUGE}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_parsed_as_they_print() {
        let mut names =
            vec!["zcache/lz4/s3fifo/huge", "zcache/zstd:3+dict/sieve", "zcache/none/lru", "zram"];
        if cfg!(feature = "peers") {
            names.extend(["moka/lz4_flex", "quick_cache/none", "foyer-lru/lz4"]);
        }
        for name in names {
            assert_eq!(name.parse::<Spec>().unwrap().to_string(), name);
        }
        assert_eq!("zcache".parse::<Spec>().unwrap(), Spec::REFERENCE);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for name in
            ["", "mokka", "zcache/lz4_flex", "moka/zstd:3", "moka/sieve", "moka/huge", "zram/none"]
        {
            assert!(name.parse::<Spec>().is_err(), "{name}");
        }
        for codec in ["zstd", "zstd:0", "zstd:99", "lz4+dict", ""] {
            assert!(codec.parse::<Codec>().is_err(), "{codec}");
        }
    }
}
