//! Dictionaries, trained on inserted pages and put to use if that helps.
//! ```text
//! sample (an eighth of some stretch of inserts) -> three quarters train
//! -> held-out pages 5 % smaller? newest coder; else dropped, and the next try is twice as far
//! ```
//! All of it runs in the thread that calls `maintain`. Room for the sample and for a dictionary is
//! made as for an insert. So entries may be evicted for it, of about as many bytes as it takes.

use crate::codec::Codec;
use crate::store::{Charged, Memory, Sample, TrainingPlan, Trouble};
use crate::sync::{Arc, add, get};
use crate::tier::{Hand, Lack, Tier};

/// Bytes of the sample by those of the dictionary: what is wanted, and what is worth it.
const WANTED: usize = 100;
const LEAST: usize = 8;
/// The sample is at most the capacity by this.
const SHARE: usize = 16;
/// Room is made in such steps, so that no more entries go than have to.
const STEP: usize = 32 << 10;
/// What training takes is at most the capacity divided by this.
const WORKING: usize = 4;
/// Pages that have to be held out for a comparison.
const HELD_OUT: usize = 4;
/// A dictionary has to save so many percent.
const GAIN: u64 = 5;
/// A sample is given up where not one page in so many is compressed, after so many times more pages
/// than that.
const FUTILE: u64 = 16;
const PATIENCE: u64 = 200;
/// From one sample to the next there are so many times as many inserts as it was taken from.
const DISTANCE: u64 = 4;
/// And so many times as many at the most, however often it came to nothing.
const FARTHEST: u64 = 64;

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trained {
    /// There was nothing to train on yet, or no room.
    Nothing,
    Adopted,
    /// No gain on held-out pages.
    Rejected,
    /// The codec could not be trained on the sample.
    Failed,
}

/// Bytes of the sample for dictionaries of `dictionary_bytes` bytes: the least, and what is wanted.
pub(crate) fn sample_bytes(dictionary_bytes: usize, capacity: usize) -> (usize, usize) {
    let least = dictionary_bytes.saturating_mul(LEAST);
    (least, dictionary_bytes.saturating_mul(WANTED).min(capacity / SHARE).max(least))
}

impl<K: Eq + Send + Sync> Tier<K> {
    /// Opens a sample, if one is due; trains on one that is complete.
    pub(crate) fn train(&self, hand: &mut Hand) -> Trained {
        let Some(training) = &self.store.coders.training else { return Trained::Nothing };
        if !self.store.coders.trains() {
            self.give_sample_up();
            return Trained::Nothing;
        }
        if let Some(sample) = self.sampler.take() {
            return self.train_on(training, sample, hand);
        }
        let inserts = get(&self.counters.inserts);
        let futile =
            (inserts.saturating_sub(hand.opened)) / FUTILE > self.sampler.offered() + PATIENCE;
        if self.sampler.is_open() && futile {
            // Hardly any page is compressed at all.
            self.give_sample_up();
            add(&self.counters.maintenance.failed, 1);
            hand.distance = hand.distance.max(inserts - hand.opened).saturating_mul(2);
            hand.due = inserts.saturating_add(hand.distance);
            return Trained::Failed;
        }
        let due = self.sampler.is_closed() && inserts >= hand.due;
        if due && self.store.coders.next().is_some() {
            self.open_sample(training);
            hand.opened = inserts;
        }
        Trained::Nothing
    }

    /// Charges up to `bytes`, room being made step by step.
    fn charge_with_room(&self, bytes: usize) -> Charged<'_, Memory<K>> {
        let mut charged = Charged::of(&self.store.pool, 0);
        while charged.bytes() < bytes {
            let step = STEP.min(bytes - charged.bytes());
            let more = || charged.more(step).map_err(|full| Some(Lack::from(full)));
            if self.with_room(more).is_err() {
                break;
            }
        }
        charged
    }

    fn open_sample(&self, training: &TrainingPlan) {
        let (least, wanted) = sample_bytes(training.dictionary_bytes, self.capacity());
        let mut charged = self.charge_with_room(Sample::cost(wanted));
        // As large as the room there is.
        let mut bytes = wanted;
        while Sample::cost(bytes) > charged.bytes() && bytes > least {
            bytes = (bytes - bytes / 8).max(least);
        }
        let Some(sample) = Sample::new(bytes) else { return };
        if sample.charged() <= charged.bytes() {
            charged.cut(sample.charged());
            charged.keep();
            self.sampler.open(sample);
        }
    }

    fn train_on(&self, training: &TrainingPlan, sample: Sample, hand: &mut Hand) -> Trained {
        let counters = &self.counters.maintenance;
        // Declared first: the bytes are released when the sample is gone, also by a panic.
        let charged_sample = Charged::of(&self.store.pool, sample.charged());
        let pages = sample;
        let (nearest, farthest) = (pages.offered * DISTANCE, pages.offered * FARTHEST);
        let trained = self.compare(training, &pages);
        drop(pages);
        drop(charged_sample);
        match trained {
            Trained::Nothing => {}
            Trained::Adopted => {
                add(&counters.adopted, 1);
                hand.again = self.ids().end;
            }
            Trained::Rejected => add(&counters.rejected, 1),
            Trained::Failed => add(&counters.failed, 1),
        }
        // A try that came to nothing is not repeated soon.
        let failed = matches!(trained, Trained::Rejected | Trained::Failed);
        let next = if failed { hand.distance.saturating_mul(2) } else { 0 };
        hand.distance = next.clamp(nearest, farthest);
        hand.due = get(&self.counters.inserts).saturating_add(hand.distance);
        trained
    }

    /// Trains a codec and makes it the newest coder if it does better on the held-out pages than
    /// what is in use.
    fn compare(&self, training: &TrainingPlan, sample: &Sample) -> Trained {
        let store = &self.store;
        let (pages, held_out) = sample.parts();
        if store.coders.next().is_none() {
            return Trained::Nothing;
        }
        if held_out.len() < HELD_OUT {
            return Trained::Failed;
        }
        let mut charged = self.charge_with_room(training.shared_bytes);
        if charged.bytes() < training.shared_bytes {
            return Trained::Nothing;
        }
        let wanted = training.base.training_bytes(training.dictionary_bytes);
        if wanted > self.capacity() / WORKING {
            // Nothing is evicted for it.
            return Trained::Failed;
        }
        let working = self.charge_with_room(wanted);
        if working.bytes() < wanted {
            return Trained::Nothing;
        }
        let codec = training.base.trained(&pages, training.dictionary_bytes);
        drop(working);
        let Ok(codec) = codec else { return Trained::Failed };
        // As good as said by `blank`, or a codec of the user's that says something else.
        let shared = codec.shared_bytes();
        charged.cut(shared);
        let missing = shared - charged.bytes();
        if missing > 0 && charged.more(missing).is_err() {
            return Trained::Nothing;
        }
        match self.compressed(&held_out, &codec) {
            None => Trained::Nothing,
            Some((before, after)) if after * 100 <= before * (100 - GAIN) => {
                let adopt = || store.coders.adopt(&codec, charged.bytes());
                if self.with_room(|| adopt().map_err(|full| Some(full.into()))).is_err() {
                    return Trained::Nothing;
                }
                charged.keep();
                self.reprice(&held_out);
                Trained::Adopted
            }
            Some(_) => Trained::Rejected,
        }
    }

    /// Bytes that pages take by the coder in use, and by `codec`. `None`: no memory for that.
    fn compressed(&self, pages: &[&[u8]], codec: &Arc<dyn Codec>) -> Option<(u64, u64)> {
        let store = &self.store;
        let longest = pages.iter().map(|page| page.len()).max()?;
        let in_use = store.coders.rival();
        let mut buffer = store.buffer();
        let room = || buffer.stretch(longest).map(|_| ()).map_err(|full| Some(full.into()));
        self.with_room(room).ok()?;
        let to = buffer.stretch(longest).ok()?;
        let mut before = 0;
        for page in pages {
            let room = page.len().saturating_sub(1);
            let len = self.with_room(|| match store.context(page.len(), in_use) {
                Ok(mut context) => Ok(context.get().compress(page, &mut to[..room])),
                Err(Trouble::Full(full)) => Err(Some(full.into())),
                Err(_) => Err(None),
            });
            let len = len.ok()?;
            before += len.unwrap_or(page.len()) as u64;
        }
        // In no place where others would find it: the codec is no coder yet.
        let make = || store.loose_context(longest, codec);
        let context = self.with_room(|| make().map_err(|full| Some(Lack::from(full))));
        let mut context = context.ok()?;
        let mut after = 0;
        for page in pages {
            let room = page.len().saturating_sub(1);
            let len = context.get().compress(page, &mut to[..room]);
            after += len.unwrap_or(page.len()) as u64;
        }
        drop(context);
        Some((before, after))
    }

    /// Drops dictionaries that nothing is left of, and says how many.
    pub(crate) fn expel_coders(&self) -> u64 {
        let (store, pool) = (&self.store, &self.store.pool);
        let mut gone = 0;
        while let Some(trained) = store.coders.expel(|| pool.stats().pinned_after_free) {
            add(&self.counters.maintenance.dropped, 1);
            gone += 1;
            store.scratch.purge(trained.number(), pool);
            trained.discard(pool);
        }
        gone
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    #[test]
    fn samples_are_a_hundred_dictionaries_within_a_sixteenth_of_the_capacity() {
        assert_eq!(sample_bytes(16 << 10, 64 << 20), (128 << 10, 1600 << 10));
        assert_eq!(sample_bytes(16 << 10, 16 << 20), (128 << 10, 1 << 20));
        assert_eq!(sample_bytes(16 << 10, 1 << 20), (128 << 10, 128 << 10));
        assert_eq!(sample_bytes(usize::MAX, 1).0, usize::MAX);
    }
}
