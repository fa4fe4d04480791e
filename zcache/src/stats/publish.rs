//! Figures handed to the `metrics` facade.

use super::Stats;

impl Stats {
    /// Hands every figure to the [`metrics`] facade, as `zcache_...` with a label `cache`: counts
    /// as absolute counters, the others as gauges. Call it as often as your exporter reads.
    pub fn publish(&self, cache: &'static str) {
        let gone = &self.removals;
        let counters = [
            ("zcache_hits", self.hits),
            ("zcache_hot_hits", self.hot_hits),
            ("zcache_misses", self.misses),
            ("zcache_inserts", self.inserts),
            ("zcache_rejected_too_large", self.rejected.too_large),
            ("zcache_rejected_no_room", self.rejected.no_room),
            ("zcache_rejected_no_memory", self.rejected.no_memory),
            ("zcache_rejected_outdated", self.rejected.outdated),
            ("zcache_rejected_dropped", self.rejected.dropped),
            ("zcache_evicted", gone.evicted),
            ("zcache_expired", gone.expired),
            ("zcache_replaced", gone.replaced),
            ("zcache_removed", gone.removed),
            ("zcache_cleared", gone.cleared),
            ("zcache_corrupt", gone.corrupt),
            ("zcache_unreadable", self.unreadable),
            ("zcache_loads", self.loads),
            ("zcache_load_failures", self.load_failures),
            ("zcache_promotions", self.promotions),
            ("zcache_demotions", self.demotions),
        ];
        let (recompression, dictionaries) = (&self.recompression, &self.dictionaries);
        let maintained = [
            ("zcache_recompressions_tried", recompression.tried),
            ("zcache_recompressed", recompression.recompressed),
            ("zcache_recompression_saved_bytes", recompression.bytes_saved),
            ("zcache_dictionaries_adopted", dictionaries.adopted),
            ("zcache_dictionaries_rejected", dictionaries.rejected),
            ("zcache_dictionaries_dropped", dictionaries.dropped),
            ("zcache_trainings_failed", dictionaries.failed),
        ];
        for (name, count) in counters.into_iter().chain(maintained) {
            metrics::counter!(name, "cache" => cache).absolute(count);
        }
        let bytes = &self.bytes;
        let gauges = [
            ("zcache_entries", self.entries as f64),
            ("zcache_same_filled", self.same_filled as f64),
            ("zcache_raw", self.raw as f64),
            ("zcache_frames", self.frames as f64),
            ("zcache_dictionaries", dictionaries.held as f64),
            ("zcache_capacity_bytes", bytes.capacity as f64),
            ("zcache_held_bytes", bytes.held as f64),
            ("zcache_uncompressed_bytes", bytes.uncompressed as f64),
            ("zcache_payload_bytes", bytes.payload as f64),
            ("zcache_pinned_bytes", bytes.pinned as f64),
            ("zcache_pages_bytes", bytes.pages as f64),
            ("zcache_frames_bytes", bytes.frames as f64),
            ("zcache_waiting_bytes", bytes.waiting as f64),
            ("zcache_metadata_bytes", bytes.metadata as f64),
            ("zcache_keys_bytes", bytes.keys as f64),
            ("zcache_index_bytes", bytes.index as f64),
            ("zcache_policy_bytes", bytes.policy as f64),
            ("zcache_codec_bytes", bytes.codec as f64),
            ("zcache_sample_bytes", bytes.sample as f64),
            ("zcache_decode_mean_seconds", self.decode.mean().as_secs_f64()),
            ("zcache_encode_mean_seconds", self.encode.mean().as_secs_f64()),
        ];
        let balanced = self.balance.as_ref().map(|balance| {
            [
                ("zcache_frames_limit_bytes", balance.limit as f64),
                ("zcache_frames_worth_seconds", balance.frame_worth.as_secs_f64()),
                ("zcache_entries_worth_seconds", balance.entry_worth.as_secs_f64()),
                ("zcache_miss_mean_seconds", balance.miss.as_secs_f64()),
            ]
        });
        for (name, value) in gauges.into_iter().chain(balanced.into_iter().flatten()) {
            metrics::gauge!(name, "cache" => cache).set(value);
        }
    }
}
