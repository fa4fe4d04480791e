//! Codecs by their names.

use std::error::Error;
use std::hash::Hash;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use zcache::codec::Zstd;
use zcache::{Cache, Config, Maintainer};

fn level(name: &str) -> Option<i32> {
    let level = name.strip_prefix("zstd:")?.parse().ok()?;
    (1..=19).contains(&level).then_some(level)
}

/// Maintains a cache that finds its codec, which then has dictionaries; `None` for any other one.
///
/// # Errors
/// The system has no thread for it.
pub fn maintainer<K>(cache: &Arc<Cache<K>>, name: &str) -> io::Result<Option<Maintainer>>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    const INTERVAL: Duration = Duration::from_millis(20);
    (name == "auto").then(|| Maintainer::start(cache, INTERVAL, 1 << 20)).transpose()
}

/// Whether there is such a codec.
pub(crate) fn is_codec(name: &str) -> bool {
    ["lz4", "auto"].contains(&name) || level(name).is_some()
}

/// The settings with the codec that is wanted, by its name: `lz4`, `zstd:` and a level from 1 to
/// 19, or `auto`, which finds its own by what a read costs.
///
/// # Errors
/// There is no such codec.
pub fn with_codec(config: Config, name: &str, cost: Duration) -> Result<Config, Box<dyn Error>> {
    let config = config.miss_cost(cost);
    match (name, level(name)) {
        (_, Some(level)) => Ok(config.codec(Zstd::level(level)?)),
        ("lz4", None) => Ok(config),
        ("auto", None) => Ok(config.auto_codec()),
        _ => Err(format!("no codec {name:?}").into()),
    }
}
