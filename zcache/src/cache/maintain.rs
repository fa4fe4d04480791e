//! What a cache does beside its callers: dictionaries, and cold entries.

use std::hash::{BuildHasher, Hash};

use super::Cache;
use crate::codec::{Codec, Lz4};
use crate::cold::{Trained, sample_bytes};
use crate::config::Config;
use crate::error::ConfigError;
use crate::stats::Recompression;
use crate::store::{TRAINABLE, TrainingPlan, context_bytes};
use crate::sync::{Arc, Inside};

/// What a call of [`Cache::maintain`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maintenance {
    /// Cold entries compressed again.
    pub recompression: Recompression,
    /// Whether a dictionary was trained.
    pub training: TrainingOutcome,
    /// Dictionaries dropped, of which no entry is left.
    pub dropped: u64,
    /// Entries that had expired, and went.
    pub expired: u64,
    /// Whether the hand came to the end of the entries; the next call starts again.
    pub swept: bool,
    /// Another thread is at it: nothing was done.
    pub busy: bool,
}

/// What came of a dictionary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrainingOutcome {
    /// None was trained.
    #[default]
    Nothing,
    /// Held-out pages are at least 5 % smaller with it: it is used from now on.
    Adopted,
    /// They are not. The next one is trained after twice as many inserts.
    Rejected,
    /// The codec could not be trained on the sample.
    Failed,
}

impl<K: Hash + Eq + Clone + Send + Sync, S: BuildHasher> Cache<K, S> {
    /// Does a step of what makes entries smaller beside the callers, in this thread: call it now
    /// and then from one of yours, or have a [`Maintainer`](crate::Maintainer) do so. Without a
    /// [cold codec](Config::cold_codec), [training](Config::train) and a codec that the cache
    /// [finds](Config::auto_codec) it ends entries that have expired, and nothing else.
    ///
    /// - *Cold entries.* A hand goes from entry to entry and round again. An entry that was not hit
    ///   between two of its visits is compressed with the stronger codec, and stays so if that
    ///   takes a smaller slot of the pool. Nobody is told: it is the same page, with the same time
    ///   to live and the same place in the policy. It is back with the faster codec when its key is
    ///   inserted again. The hand stops when `budget_bytes` bytes of pages were worked on, with 64
    ///   for each entry that was only passed, or where a sweep ends.
    /// - *Dictionaries.* The first call starts a sample of the pages that are inserted. The call
    ///   that finds it complete trains a dictionary, which takes a tenth of a second for a MiB and
    ///   is not bounded by `budget_bytes`. The sample, and the MiB at most that training takes,
    ///   count. If it makes held-out pages at least 5 % smaller it is used from then on; entries
    ///   keep the dictionary that they were compressed with until they are cold, and a dictionary
    ///   is dropped with its last entry. A cache uses 30 in its life at the most, or 28 where it
    ///   finds its codec.
    ///
    /// Calls that come while another thread is at it return at once, as does one from the removal
    /// hook. Room for a sample, a dictionary or a codec's context is made as for an insert, and the
    /// removal hook is called for what is evicted or has expired. Recompressed pages evict others
    /// of no more bytes than recompression has saved before, and 64 KiB. Each time the last one of
    /// them may be as long as a page can be, so an eviction may go beyond that by
    /// [`max_page`](Config::max_page) bytes. Keys are cloned; a clone or a hook that panics ends
    /// the call, and leaves the cache as it was.
    ///
    /// ```
    /// use zcache::codec::Zstd;
    /// use zcache::{Cache, Config};
    ///
    /// let config = Config::new(8 << 20).max_page(4096);
    /// let config = config.cold_codec(Zstd::level(3)?).train(16 << 10);
    /// let cache = Cache::new(config)?;
    /// # let row = |n: u32| format!("{{\"id\": {n}, \"owner\": \"user {}\"}}", n % 97);
    /// # let page = |n: u32| (0..120).map(|i| row(n * 120 + i)).collect::<String>().into_bytes();
    /// # let page = |n: u32| page(n)[..4096.min(page(n).len())].to_vec();
    /// for key in 0..200 {
    ///     cache.insert(key, &page(key))?;
    /// }
    /// let before = cache.stats().bytes.payload;
    /// for _ in 0..3 {
    ///     cache.maintain(1 << 20); // or have a `Maintainer` call it
    /// }
    /// assert!(cache.stats().bytes.payload < before);
    /// assert_eq!(cache.get(&7).as_deref(), Some(&page(7)[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "run_pending_tasks")]
    pub fn maintain(&self, budget_bytes: usize) -> Maintenance {
        self.maintain_until(budget_bytes, &|| false)
    }

    /// [`maintain`](Self::maintain), which ends before the next entry once `stop` says so.
    pub(super) fn maintain_until(
        &self,
        budget_bytes: usize,
        stop: &dyn Fn() -> bool,
    ) -> Maintenance {
        let tier = &self.tier;
        if Inside::is(tier.number) {
            return Maintenance { busy: true, ..Maintenance::default() };
        }
        let Some(mut hand) = tier.hand.try_lock() else {
            return Maintenance { busy: true, ..Maintenance::default() };
        };
        let dropped = tier.expel_coders();
        let training = match tier.train(&mut hand) {
            Trained::Nothing => TrainingOutcome::Nothing,
            Trained::Adopted => TrainingOutcome::Adopted,
            Trained::Rejected => TrainingOutcome::Rejected,
            Trained::Failed => TrainingOutcome::Failed,
        };
        let step = tier.recompress(&mut hand, budget_bytes, stop);
        let mut recompression = step.counts;
        if let Some(scales) = tier.scales().filter(|scales| scales.samples().is_some()) {
            let bounds = (budget_bytes, usize::MAX, usize::MAX);
            recompression = tier.repack(scales, &mut hand, bounds, stop);
        }
        Maintenance {
            recompression,
            training,
            dropped,
            expired: step.expired,
            swept: step.swept,
            busy: false,
        }
    }
}

/// A cache that finds its codec trains dictionaries from this capacity on: below, what a dictionary
/// takes itself is too large a part.
const LEAST_TO_TRAIN: usize = 32 << 20;
/// Bytes of such a dictionary.
const DICTIONARY: usize = 32 << 10;

/// What is trained where the codec is found among these, beside the first one.
pub(super) fn found_training(others: &[Arc<dyn Codec>], capacity: usize) -> Option<TrainingPlan> {
    let base = Arc::clone(others.get(usize::from(TRAINABLE) - 1)?);
    let blank = base.blank(DICTIONARY).filter(|_| capacity >= LEAST_TO_TRAIN)?;
    Some(TrainingPlan { base, dictionary_bytes: DICTIONARY, shared_bytes: blank.shared_bytes() })
}

/// The stronger codec; and what is trained, with the bytes that this needs at the least.
type Strength = (Option<Arc<dyn Codec>>, Option<(TrainingPlan, usize)>);

/// What a configuration says of the two.
pub(super) fn strength(config: &Config) -> Result<Strength, ConfigError> {
    let (cold, dictionary_bytes) = (config.cold_codec.clone(), config.dictionary_bytes);
    if dictionary_bytes == 0 {
        return Ok((cold, None));
    }
    let base = cold.clone().or_else(|| config.codec.clone()).unwrap_or_else(|| Arc::new(Lz4));
    let blank = base.blank(dictionary_bytes).ok_or(ConfigError::Training(dictionary_bytes))?;
    let shared_bytes = blank.shared_bytes();
    // Two dictionaries, while entries of an earlier one are left.
    let needed = context_bytes(config.max_page, &*blank)
        .saturating_add(shared_bytes.saturating_mul(2))
        .saturating_add(sample_bytes(dictionary_bytes, 0).0);
    let training = TrainingPlan { base, dictionary_bytes, shared_bytes };
    Ok((cold, Some((training, needed))))
}
