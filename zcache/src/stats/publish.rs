//! Figures handed to the `metrics` facade.
//! ```text
//! PREFIX_NAME_total{cache}    counts, and sums of nanoseconds: absolute counters
//! PREFIX_NAME{cache}          what there is at one instant: gauges
//! ```

use std::time::Duration;

use metrics::{Label, Unit};

use super::counters::bounds;
use super::{Stats, Timing};

/// Whom the figures are handed to, and as what.
struct Publisher<'p> {
    prefix: &'p str,
    cache: &'p str,
}

impl Publisher<'_> {
    fn labels(&self, more: Option<(&'static str, String)>) -> Vec<Label> {
        let cache = Label::new("cache", self.cache.to_owned());
        [Some(cache), more.map(|(key, value)| Label::new(key, value))]
            .into_iter()
            .flatten()
            .collect()
    }

    /// What has been counted so far.
    fn count(&self, name: &str, unit: Unit, description: &'static str, value: u64) {
        let name = format!("{}_{name}_total", self.prefix);
        metrics::describe_counter!(name.clone(), unit, description);
        metrics::counter!(name, self.labels(None)).absolute(value);
    }

    fn counts<const N: usize>(&self, counts: [(&str, &'static str, u64); N]) {
        for (name, description, value) in counts {
            self.count(name, Unit::Count, description, value);
        }
    }

    /// Times of sampled operations: their sum and their number, of which a mean of any span is
    /// made.
    fn timing(&self, name: &str, descriptions: [&'static str; 2], timing: &Timing) {
        let sum = u64::try_from(timing.total.as_nanos()).unwrap_or(u64::MAX);
        let [of_sum, of_count] = descriptions;
        self.count(&format!("{name}_nanoseconds"), Unit::Nanoseconds, of_sum, sum);
        self.count(&format!("{name}_samples"), Unit::Count, of_count, timing.samples);
    }

    /// What there is now, of one of several kinds.
    fn gauge_of(
        &self,
        name: &str,
        unit: Unit,
        description: &'static str,
        kind: Option<(&'static str, String)>,
        value: f64,
    ) {
        let name = format!("{}_{name}", self.prefix);
        metrics::describe_gauge!(name.clone(), unit, description);
        metrics::gauge!(name, self.labels(kind)).set(value);
    }

    fn gauges<const N: usize>(&self, gauges: [(&str, &'static str, usize); N]) {
        for (name, description, value) in gauges {
            let unit = if name.ends_with("_bytes") { Unit::Bytes } else { Unit::Count };
            self.gauge_of(name, unit, description, None, value as f64);
        }
    }

    fn seconds(&self, name: &str, description: &'static str, time: Duration) {
        self.gauge_of(name, Unit::Seconds, description, None, time.as_secs_f64());
    }
}

impl Stats {
    /// Hands every figure to the [`metrics`] facade, under names that begin with `prefix`, such as
    /// `zcache`, and with the label `cache`, which tells the caches of a process apart. Call it as
    /// often as your exporter reads.
    ///
    /// Counts are absolute counters, whose names end in `_total`. Times of sampled operations are
    /// two of these: a sum, as in `zcache_decode_nanoseconds_total`, and a number, as in
    /// `zcache_decode_samples_total`. All else are gauges. Each has a unit and a description.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache: Cache<u64> = Cache::new(Config::new(1 << 20))?;
    /// let shard = 3;
    /// cache.stats().publish("pages", &format!("shard {shard}")); // `pages_hits_total` and so on
    /// # Ok::<(), zcache::ConfigError>(())
    /// ```
    pub fn publish(&self, prefix: &str, cache: &str) {
        let to = Publisher { prefix, cache };
        self.publish_counts(&to);
        self.publish_maintenance(&to);
        self.publish_bytes(&to);
        self.publish_balance(&to);
        self.publish_candidates(&to);
        to.gauges([
            ("entries", "Entries", self.entries),
            ("ended_entries", "Entries of scopes that have ended", self.ended),
            ("same_filled_entries", "Entries of same-filled pages", self.same_filled),
            ("raw_entries", "Entries that are stored as they are", self.raw),
            ("frames", "Entries whose pages are there decoded as well", self.frames),
        ]);
        // Sizes that have gone are 0, and do not keep what they were.
        let mut sizes = self.stored_sizes.iter().peekable();
        for bound in bounds() {
            let mut objects = 0;
            while let Some(size) = sizes.next_if(|size| size.up_to_bytes <= bound) {
                objects += size.objects;
            }
            let kind = Some(("up_to_bytes", bound.to_string()));
            let description = "Objects in slots of about that many bytes";
            to.gauge_of("stored_objects", Unit::Count, description, kind, objects as f64);
        }
    }

    fn publish_counts(&self, to: &Publisher<'_>) {
        let (rejected, removals) = (&self.rejected, &self.removals);
        to.counts([
            ("hits", "Look-ups that found a page", self.hits),
            ("hot_hits", "Look-ups that found a page decoded", self.hot_hits),
            ("misses", "Look-ups that found no page", self.misses),
            ("unreadable", "Look-ups without memory to decode a page with", self.unreadable),
            ("inserts", "Pages stored", self.inserts),
            ("rejected_too_large", "Pages that were too long", rejected.too_large),
            ("rejected_no_room", "Pages that no room was made for", rejected.no_room),
            ("rejected_no_memory", "Pages that the system had no memory for", rejected.no_memory),
            ("rejected_outdated", "Pages whose lease was outdated", rejected.outdated),
            ("rejected_dropped", "Inserts that failed and ended an old page", rejected.dropped),
            ("evicted", "Entries that went for room", removals.evicted),
            ("expired", "Entries whose time to live was over", removals.expired),
            ("replaced", "Entries whose key was inserted again", removals.replaced),
            ("removed", "Entries that were removed", removals.removed),
            ("cleared", "Entries that were cleared", removals.cleared),
            ("corrupt", "Entries that did not decode", removals.corrupt),
            ("loads", "Loaders that ran", self.loads),
            ("load_failures", "Loaders that failed", self.load_failures),
            ("promotions", "Frames made", self.promotions),
            ("demotions", "Frames that went, and their entries stayed", self.demotions),
            ("codec_changes", "Changes of the codec", self.codec_changes),
        ]);
        let decode = ["What the timed decodings took together", "Decodings that were timed"];
        to.timing("decode", decode, &self.decode);
        let encode = ["What the timed compressions took together", "Compressions that were timed"];
        to.timing("encode", encode, &self.encode);
    }

    fn publish_maintenance(&self, to: &Publisher<'_>) {
        let (recompression, dictionaries) = (&self.recompression, &self.dictionaries);
        to.counts([
            ("recompressions_tried", "Entries compressed again", recompression.tried),
            ("recompressed", "Entries that got smaller by that", recompression.recompressed),
            ("dictionaries_adopted", "Dictionaries put to use", dictionaries.adopted),
            ("dictionaries_rejected", "Dictionaries that were no gain", dictionaries.rejected),
            ("dictionaries_failed", "Samples without a dictionary", dictionaries.failed),
            ("dictionaries_dropped", "Dictionaries that went", dictionaries.dropped),
        ]);
        let saved = recompression.bytes_saved;
        let description = "Bytes of slots saved by compressing again";
        to.count("recompression_saved_bytes", Unit::Bytes, description, saved);
        to.gauges([("dictionaries", "Dictionaries there are", dictionaries.held)]);
    }

    fn publish_bytes(&self, to: &Publisher<'_>) {
        let bytes = &self.bytes;
        to.gauges([
            ("capacity_bytes", "The cap on bytes held", bytes.capacity),
            ("held_bytes", "Bytes held, everything counted", bytes.held),
            ("uncompressed_bytes", "Pages before compression", bytes.uncompressed),
            ("payload_bytes", "Objects of all entries", bytes.payload),
            ("pinned_bytes", "Objects still in a reader's hands", bytes.pinned),
            ("pages_bytes", "Held in pages of the pool", bytes.pages),
            ("frames_bytes", "Held in frames", bytes.frames),
            ("waiting_bytes", "Held in frames that readers keep", bytes.waiting),
            ("metadata_bytes", "Held in the pool's tables", bytes.metadata),
            ("keys_bytes", "Held by what keys point to", bytes.keys),
            ("index_bytes", "Held in tables of the index", bytes.index),
            ("policy_bytes", "Held in queues and ghosts", bytes.policy),
            ("codec_bytes", "Held in buffers, contexts and dictionaries", bytes.codec),
            ("sample_bytes", "Held in pages to train on", bytes.sample),
            ("fixed_bytes", "Held whatever the cache has", bytes.fixed),
        ]);
    }

    fn publish_balance(&self, to: &Publisher<'_>) {
        let Some(balance) = &self.balance else { return };
        to.counts([
            ("frame_returns", "Decodings whose frame had just gone", balance.frame_returns),
            ("frames_limit_raised", "Times the limit of frames was raised", balance.raised),
            ("frames_limit_lowered", "Times the limit of frames was lowered", balance.lowered),
        ]);
        to.gauges([("frames_limit_bytes", "What frames are left in need", balance.limit)]);
        to.seconds("frames_worth_seconds", "What a MiB of frames would save", balance.frame_worth);
        to.seconds("entries_worth_seconds", "What a MiB of entries saves", balance.entry_worth);
        to.seconds("decode_estimate_seconds", "What a decoding is taken to cost", balance.decode);
        to.seconds("miss_estimate_seconds", "What a miss is taken to cost", balance.miss);
    }

    fn publish_candidates(&self, to: &Publisher<'_>) {
        for candidate in &self.candidates {
            let gauge = |name: &str, unit, description, value| {
                let kind = Some(("codec", candidate.name.clone()));
                to.gauge_of(name, unit, description, kind, value);
            };
            let seconds = |name: &str, description, time: Duration| {
                gauge(name, Unit::Seconds, description, time.as_secs_f64());
            };
            let (samples, bytes) = (candidate.samples as f64, candidate.entry_bytes as f64);
            let in_use = f64::from(u8::from(candidate.in_use));
            gauge("candidate_in_use", Unit::Count, "1 for the codec in use", in_use);
            gauge("candidate_samples", Unit::Count, "Pages it was measured on", samples);
            gauge("candidate_entry_bytes", Unit::Bytes, "Bytes of an entry with it", bytes);
            seconds("candidate_encode_seconds", "What packing a page takes", candidate.encode);
            seconds("candidate_decode_seconds", "What reading a page takes", candidate.decode);
            if let Some(request) = candidate.request {
                seconds("candidate_request_seconds", "What a request would cost", request);
            }
        }
    }
}
