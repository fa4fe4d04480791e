//! A snapshot as a table.

use std::fmt;

use super::{Candidate, Stats, StoredSize};

/// `bytes` in MiB or KiB.
fn human(bytes: usize) -> String {
    let kib = bytes as f64 / 1024.0;
    if kib < 1024.0 { format!("{kib:.1} KiB") } else { format!("{:.1} MiB", kib / 1024.0) }
}

/// A ratio, if there is one to speak of: pages that are all same-filled have no payload.
fn times(ratio: f64) -> String {
    if ratio.is_finite() { format!("{ratio:.2}x") } else { "-".into() }
}

impl Stats {
    /// How the codec was found.
    fn found(&self) -> String {
        if self.candidates.is_empty() {
            return format!("{}, fixed", self.codec);
        }
        let words: Vec<String> = self.candidates.iter().map(Candidate::words).collect();
        format!("{}; {} times changed", words.join("; "), self.codec_changes)
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, gone, rejected) = (&self.bytes, &self.removals, &self.rejected);
        let (recompression, dictionaries) = (&self.recompression, &self.dictionaries);
        let (share, worth) = self.balance.map_or_else(
            || ("fixed".to_owned(), "-".to_owned()),
            |balance| (balance.standing(), balance.reasons()),
        );
        let rows: [(&str, String); 17] = [
            (
                "entries",
                format!(
                    "{} ({} same-filled, {} raw), {} by {}",
                    self.entries, self.same_filled, self.raw, self.codec, self.policy
                ),
            ),
            (
                "look-ups",
                format!(
                    "{} hits, {} misses: {:.2} %; {} unreadable",
                    self.hits,
                    self.misses,
                    100.0 * self.hit_ratio(),
                    self.unreadable
                ),
            ),
            (
                "frames",
                format!(
                    "{}; {} hits; {} promoted, {} demoted",
                    self.frames, self.hot_hits, self.promotions, self.demotions
                ),
            ),
            ("codec", self.found()),
            ("share", share),
            ("  worth", worth),
            (
                "inserts",
                format!(
                    "{}; rejected {} too large, {} no room, {} no memory, {} outdated",
                    self.inserts,
                    rejected.too_large,
                    rejected.no_room,
                    rejected.no_memory,
                    rejected.outdated
                ),
            ),
            (
                "gone",
                format!(
                    "{} evicted, {} expired, {} replaced, {} removed, {} cleared, {} corrupt",
                    gone.evicted,
                    gone.expired,
                    gone.replaced,
                    gone.removed,
                    gone.cleared,
                    gone.corrupt
                ),
            ),
            (
                "cold",
                format!(
                    "{} of {} smaller{}; {} saved",
                    recompression.recompressed,
                    recompression.tried,
                    if self.cold_codec.is_empty() {
                        String::new()
                    } else {
                        format!(" by {}", self.cold_codec)
                    },
                    human(recompression.bytes_saved as usize)
                ),
            ),
            (
                "trained",
                format!(
                    "{} dictionaries; {} adopted, {} rejected, {} failed, {} dropped",
                    dictionaries.held,
                    dictionaries.adopted,
                    dictionaries.rejected,
                    dictionaries.failed,
                    dictionaries.dropped
                ),
            ),
            ("loads", format!("{}, {} failed", self.loads, self.load_failures)),
            (
                "held",
                format!(
                    "{} of {} ({:.2} %)",
                    human(bytes.held),
                    human(bytes.capacity),
                    100.0 * bytes.held as f64 / bytes.capacity.max(1) as f64
                ),
            ),
            (
                "  in",
                format!(
                    "pages {}, frames {}, waiting frames {}, keys {}, pool metadata {}",
                    human(bytes.pages),
                    human(bytes.frames),
                    human(bytes.waiting),
                    human(bytes.keys),
                    human(bytes.metadata)
                ),
            ),
            (
                "  and",
                format!(
                    "index {}, policy {}, codec {}, sample {}, fixed {}",
                    human(bytes.index),
                    human(bytes.policy),
                    human(bytes.codec),
                    human(bytes.sample),
                    human(bytes.fixed)
                ),
            ),
            (
                "payload",
                format!(
                    "{} for {} of pages: {}, all-in {}; {} pinned after removal",
                    human(bytes.payload),
                    human(bytes.uncompressed),
                    times(self.compression_ratio()),
                    times(self.effective_ratio()),
                    human(bytes.pinned)
                ),
            ),
            (
                "decode",
                format!("{:?} on average of {} sampled", self.decode.mean(), self.decode.samples),
            ),
            (
                "encode",
                format!("{:?} on average of {} sampled", self.encode.mean(), self.encode.samples),
            ),
        ];
        rows.iter().try_for_each(|(name, text)| writeln!(f, "{name:<9} {text}"))?;
        let most = self.stored_sizes.iter().map(|size| size.objects).max().unwrap_or(1);
        for StoredSize { up_to_bytes: size, objects } in &self.stored_sizes {
            let bar = "#".repeat((objects * 40).div_ceil(most));
            writeln!(f, "  up to {size:>6} B {objects:>9} {bar}")?;
        }
        Ok(())
    }
}
