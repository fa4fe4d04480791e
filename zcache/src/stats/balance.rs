//! Why hot pages have the share that they have.

use std::time::Duration;

/// The reasons for the share of a cache's capacity that its hot pages have: see
/// [`HotShare::Auto`](crate::HotShare::Auto).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Balance {
    /// Bytes that frames are left when room is needed. Where it is not, they may have more.
    pub limit: usize,
    /// What a decoding takes, if it is not interrupted.
    #[cfg_attr(feature = "serde", serde(rename = "decode_nanoseconds", with = "super::times"))]
    pub decode: Duration,
    /// What a miss takes: from the miss to the end of the insert of its key, or as the cache was
    /// [told](crate::Config::miss_cost).
    #[cfg_attr(feature = "serde", serde(rename = "miss_nanoseconds", with = "super::times"))]
    pub miss: Duration,
    /// What another MiB of frames would have saved of late.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "frame_worth_nanoseconds", with = "super::times")
    )]
    pub frame_worth: Duration,
    /// What another MiB of compressed pages would have saved in the same time.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "entry_worth_nanoseconds", with = "super::times")
    )]
    pub entry_worth: Duration,
    /// How often a page was decoded whose frame had just gone; of a sample of the pages.
    pub frame_returns: u64,
    /// How often the limit was raised.
    pub raised: u64,
    /// How often it was lowered.
    pub lowered: u64,
}

impl Balance {
    /// How it stands.
    pub(super) fn standing(&self) -> String {
        let kib = self.limit >> 10;
        format!("{kib} KiB; {} times raised, {} lowered", self.raised, self.lowered)
    }

    /// And why.
    pub(super) fn reasons(&self) -> String {
        format!(
            "a MiB more saves {:.1?} as frames, {:.1?} as entries; {:.1?} a decoding, {:.1?} a \
             miss",
            self.frame_worth, self.entry_worth, self.decode, self.miss
        )
    }
}
