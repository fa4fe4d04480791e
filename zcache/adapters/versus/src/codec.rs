//! Codecs by their names.

use std::error::Error;

use zcache::Config;
use zcache::codec::Zstd;

fn level(name: &str) -> Option<i32> {
    let level = name.strip_prefix("zstd:")?.parse().ok()?;
    (1..=19).contains(&level).then_some(level)
}

/// Whether there is such a codec.
pub(crate) fn is_codec(name: &str) -> bool {
    name == "lz4" || level(name).is_some()
}

/// The settings with a codec by its name: `lz4`, or `zstd:` and a level from 1 to 19.
///
/// # Errors
/// There is no such codec.
pub fn with_codec(config: Config, name: &str) -> Result<Config, Box<dyn Error>> {
    match level(name) {
        Some(level) => Ok(config.codec(Zstd::level(level)?)),
        None if name == "lz4" => Ok(config),
        None => Err(format!("no codec {name:?}").into()),
    }
}
