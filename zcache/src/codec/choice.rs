//! The codecs that a cache finds its own among.

#[cfg(feature = "zstd")]
use super::Zstd;
use super::{Codec, Lz4};
use crate::sync::Arc;

/// Codecs that a cache chooses from, the fastest first; beside none at all. All but the first are
/// of one family: each of them reads what another has written.
pub(crate) fn candidates() -> Vec<Arc<dyn Codec>> {
    let mut all: Vec<Arc<dyn Codec>> = vec![Arc::new(Lz4)];
    #[cfg(feature = "zstd")]
    all.extend([1, 3].into_iter().filter_map(|level| {
        let codec: Arc<dyn Codec> = Arc::new(Zstd::level(level).ok()?);
        Some(codec)
    }));
    all
}
