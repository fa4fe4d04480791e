//! Codecs by their names.

use std::error::Error;
use std::time::Duration;

use zcache::Config;
use zcache::codec::Zstd;

fn level(name: &str) -> Option<i32> {
    let level = name.strip_prefix("zstd:")?.parse().ok()?;
    (1..=19).contains(&level).then_some(level)
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
