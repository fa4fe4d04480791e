//! What happened between two snapshots.

use super::{Balance, DictionaryCounts, Recompression, Rejected, RemovalCounts, Stats, Timing};

impl Timing {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            samples: self.samples.saturating_sub(earlier.samples),
            total: self.total.saturating_sub(earlier.total),
        }
    }
}

impl Stats {
    /// What was counted since `earlier`, a snapshot of the same cache. All that is no count, such
    /// as entries and bytes, is as in this one; ratios are those of the difference. A count that is
    /// lower here than there is 0.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(1 << 20))?;
    /// cache.insert(1, &[7; 512])?;
    /// assert!(cache.get(&2).is_none());
    /// let before = cache.stats();
    /// assert!(cache.get(&1).is_some());
    /// let since = cache.stats().since(&before);
    /// assert_eq!((since.hits, since.misses, since.hit_ratio()), (1, 0, 1.0));
    /// assert_eq!((since.inserts, since.entries), (0, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let count = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier));
        let balanced = |of: fn(&Balance) -> u64| {
            let [now, before] = [self, earlier].map(|stats| stats.balance.as_ref().map_or(0, of));
            now.saturating_sub(before)
        };
        let mut since = Self {
            hits: count(|stats| stats.hits),
            hot_hits: count(|stats| stats.hot_hits),
            misses: count(|stats| stats.misses),
            inserts: count(|stats| stats.inserts),
            rejected: Rejected {
                too_large: count(|stats| stats.rejected.too_large),
                no_room: count(|stats| stats.rejected.no_room),
                no_memory: count(|stats| stats.rejected.no_memory),
                outdated: count(|stats| stats.rejected.outdated),
                dropped: count(|stats| stats.rejected.dropped),
            },
            removals: RemovalCounts {
                evicted: count(|stats| stats.removals.evicted),
                expired: count(|stats| stats.removals.expired),
                replaced: count(|stats| stats.removals.replaced),
                removed: count(|stats| stats.removals.removed),
                cleared: count(|stats| stats.removals.cleared),
                corrupt: count(|stats| stats.removals.corrupt),
            },
            unreadable: count(|stats| stats.unreadable),
            loads: count(|stats| stats.loads),
            load_failures: count(|stats| stats.load_failures),
            balance: self.balance.map(|now| Balance {
                frame_returns: balanced(|balance| balance.frame_returns),
                raised: balanced(|balance| balance.raised),
                lowered: balanced(|balance| balance.lowered),
                ..now
            }),
            codec_changes: count(|stats| stats.codec_changes),
            promotions: count(|stats| stats.promotions),
            demotions: count(|stats| stats.demotions),
            recompression: Recompression {
                tried: count(|stats| stats.recompression.tried),
                recompressed: count(|stats| stats.recompression.recompressed),
                bytes_saved: count(|stats| stats.recompression.bytes_saved),
            },
            dictionaries: DictionaryCounts {
                held: self.dictionaries.held,
                adopted: count(|stats| stats.dictionaries.adopted),
                rejected: count(|stats| stats.dictionaries.rejected),
                failed: count(|stats| stats.dictionaries.failed),
                dropped: count(|stats| stats.dictionaries.dropped),
            },
            decode: self.decode.since(&earlier.decode),
            encode: self.encode.since(&earlier.encode),
            ..self.clone()
        };
        since.ratios = since.ratios_now();
        since
    }
}
