//! Who takes part: a cache, its codec, and its policy where it has a choice.

use std::fmt;
use std::str::FromStr;

use benches::arguments::Failure;
pub(crate) use benches::codec::Codec;
use benches::policy::Policy;
use clap::ValueEnum;

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
}

impl Kind {
    const ALL: [Self; 5] =
        [Self::Zcache, Self::Moka, Self::QuickCache, Self::FoyerS3Fifo, Self::FoyerLru];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Zcache => "zcache",
            Self::Moka => "moka",
            Self::QuickCache => "quick_cache",
            Self::FoyerS3Fifo => "foyer-s3fifo",
            Self::FoyerLru => "foyer-lru",
        }
    }

    /// Those that keep their values on the heap, as far as they are built in.
    pub(crate) fn peers() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().skip(1).filter(|_| cfg!(feature = "peers"))
    }
}

/// A cache with its settings; prints as it is parsed: `zcache/zstd:3/sieve`, `moka/lz4_flex`.
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

    /// zcache and all peers, with LZ4.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let peers = Kind::peers().map(|kind| Self::new(kind, Codec::Lz4));
        [Self::REFERENCE].into_iter().chain(peers)
    }

    /// The policy's name, where it is known.
    pub(crate) fn policy(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Zcache => Some(self.policy.name()),
            Kind::FoyerS3Fifo => Some(Policy::S3Fifo.name()),
            Kind::FoyerLru => Some(Policy::Lru.name()),
            Kind::Moka | Kind::QuickCache => None,
        }
    }

    /// The name among caches that all have one codec: the policy is told where it is a choice.
    pub(crate) fn short(&self) -> String {
        let mut name = self.kind.name().to_owned();
        if self.kind == Kind::Zcache && self.policy != Policy::S3Fifo {
            name += &format!("/{}", self.policy);
        }
        if self.huge {
            name += &format!("/{HUGE}");
        }
        name
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
        if kind != Kind::Zcache && !cfg!(feature = "peers") {
            return Err(format!("{name} is not built in: it comes with the feature `peers`").into());
        }
        let mut spec = Self::new(kind, Codec::Lz4);
        let ours = kind == Kind::Zcache;
        for part in parts {
            match Policy::from_str(part, false) {
                _ if part == HUGE && ours => spec.huge = true,
                Ok(policy) if ours => spec.policy = policy,
                Ok(_) => return Err(format!("{text}: only zcache has a choice of policies").into()),
                Err(_) => spec.codec = part.parse()?,
            }
        }
        let fits = match spec.codec {
            Codec::None | Codec::Lz4 => true,
            Codec::Flex => !ours,
            Codec::Zstd(..) => ours,
        };
        if fits {
            Ok(spec)
        } else {
            Err(format!("{text}: this cache has no such codec here").into())
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.name(), self.codec)?;
        if self.kind == Kind::Zcache {
            write!(f, "/{}", self.policy)?;
        }
        if self.huge { write!(f, "/{HUGE}") } else { Ok(()) }
    }
}

/// A list of caches, in which `all` stands for zcache and the peers.
#[derive(Debug, Clone)]
pub(crate) struct Specs(pub(crate) Vec<Spec>);

impl FromStr for Specs {
    type Err = Failure;

    fn from_str(list: &str) -> Result<Self, Failure> {
        let mut specs = Vec::new();
        for name in list.split(',') {
            match name {
                "all" => specs.extend(Spec::all()),
                name => specs.push(name.parse()?),
            }
        }
        Ok(Self(specs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_parsed_as_they_print() {
        let mut names =
            vec!["zcache/lz4/s3fifo/huge", "zcache/zstd:3+dict/sieve", "zcache/none/lru"];
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
        for name in ["", "mokka", "zcache/lz4_flex", "moka/zstd:3", "moka/sieve", "moka/huge"] {
            assert!(name.parse::<Spec>().is_err(), "{name}");
        }
    }
}
