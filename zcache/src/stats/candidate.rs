//! Why pages are packed by the codec that they are packed by.

use std::time::Duration;

/// What a cache that [finds its codec](crate::Config::auto_codec) knows of one that it may choose.
/// Means over sampled pages; zero as long as there are too few.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Whether pages are packed by it now.
    pub in_use: bool,
    /// Pages that it was measured on; those of long ago count half.
    pub samples: u64,
    /// Bytes of an entry, all counted.
    pub entry_bytes: usize,
    /// What it takes to pack a page.
    #[cfg_attr(feature = "serde", serde(rename = "encode_nanoseconds", with = "super::times"))]
    pub encode: Duration,
    /// What it takes to read one back.
    #[cfg_attr(feature = "serde", serde(rename = "decode_nanoseconds", with = "super::times"))]
    pub decode: Duration,
    /// What a request would cost with it, hits and misses, frames taken into account. `None`: that
    /// is not known, or what misses would come with it is not.
    #[cfg_attr(feature = "serde", serde(rename = "request_nanoseconds", with = "super::times"))]
    pub request: Option<Duration>,
}

impl Candidate {
    /// The candidate in a few words.
    pub(super) fn words(&self) -> String {
        let used = if self.in_use { "*" } else { "" };
        if self.samples == 0 {
            return format!("{}{used} -", self.name);
        }
        let request = match self.request {
            Some(request) => format!("{request:.2?} a request"),
            None => "unknown".to_owned(),
        };
        format!(
            "{}{used} {} B, {:.1?} in, {:.1?} out: {request}",
            self.name, self.entry_bytes, self.encode, self.decode
        )
    }
}
