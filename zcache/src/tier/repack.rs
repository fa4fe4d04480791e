//! The codec that the cache finds: what codecs take is sampled, and entries are packed again by the
//! one that was chosen.
//! ```text
//! insert   a sample is due? pack the page by each codec, read it back, drop it
//!          another codec was found? inserts use it, and the hand starts at the first id
//!          the hand is under way? the next few entries are packed again
//! hand     id -> id, once for each choice: decode, pack, swap                also with `maintain`
//! ```
//! Room for objects that are larger is made as for an insert. Smaller objects take the room there
//! is, or what compaction finds. A full cache may have none in the smaller classes. So entries are
//! evicted for them too, but of no more bytes than was saved before, and a first few.

use super::evict::{Lack, Spent};
use super::renew::{Outcome, Renewal};
use super::{Hand, Tier};
use crate::codec::{Form, RAW, looks_incompressible, same_filled};
use crate::stats::Recompression;
use crate::store::{Bench, Rest, TRAINABLE, Trouble, context_size};
use crate::sync::{Inside, Ordering, add, get};
use crate::worth::{CANDIDATES, Packed, Samples, Scales};

/// What one insert packs again: bytes of pages, entries, and ids that are passed.
const BYTES: usize = 32 << 10;
const ENTRIES: usize = 4;
const IDS: usize = 128;
/// Shorter pages are no sample.
const SHORTEST: usize = 512;
/// Pages that a new dictionary is priced by.
const REPRICED: usize = 16;
/// Contexts for a sample in a full cache take no more than the inserts between two samples, by
/// this.
const RARELY: usize = 256;

/// How small a coder's pages are, among those that are chosen from.
fn strength(coder: u8) -> u8 {
    match coder {
        RAW => 0,
        // With a dictionary: of an older one, too.
        coder if coder > RAW => TRAINABLE + 2,
        coder => coder + 1,
    }
}

impl<K: Eq + Send + Sync> Tier<K> {
    /// After an insert of `page`: a sample, if one is due, and some entries packed again, if they
    /// are to be.
    #[inline(never)]
    pub(super) fn look_after_codec(&self, scales: &Scales, samples: &Samples, page: &[u8]) {
        // What a hook inserts evicts nothing.
        if Inside::is(self.number) {
            return;
        }
        let inserts = get(&self.counters.inserts);
        if samples.is_due(inserts) {
            self.sample(samples, page, inserts);
            scales.start(|| self.standing());
        }
        if !self.follows(scales) {
            return;
        }
        if let Some(mut hand) = self.hand.try_lock() {
            let bounds = (BYTES, ENTRIES, IDS);
            self.repack(scales, &mut hand, bounds, &|| false);
        }
    }

    /// Has inserts use the codec that was found; whether anything is to be packed again.
    fn follows(&self, scales: &Scales) -> bool {
        let (found, coders) = (scales.codec() as u8, &self.store.coders);
        if found != coders.chosen() {
            coders.choose(found);
            scales.repacking.store(1, Ordering::Relaxed);
        }
        get(&scales.repacking) != 0
    }

    /// Packs a page by each codec, and takes what that took to the account.
    #[cold]
    fn sample(&self, samples: &Samples, page: &[u8], inserts: u64) {
        if page.len() < SHORTEST || same_filled(page).is_some() {
            return;
        }
        let others = self.store.coders.others();
        let context = |chosen: u8| self.context_bytes(chosen, page.len());
        let all: usize = (1..=others.len() as u8).map(context).sum();
        let full = self.is_full(all);
        let between = Samples::LAST as usize * self.standing().entry.max(1);
        let times = if full { RARELY * all / between + 1 } else { 1 };
        if !samples.claim(inserts, times as u64) {
            return;
        }
        let random = looks_incompressible(page);
        let mut packed = [None; CANDIDATES];
        let Some(mut bench) = self.bench(page.len()) else { return };
        for (coder, packed) in (0..).zip(&mut packed) {
            if coder == RAW || usize::from(coder) <= others.len() {
                let by = if random { RAW } else { coder };
                let found = self.try_out(page, by, &mut bench);
                *packed = found.map(|found| Packed { context: context(coder), ..found });
            }
        }
        samples.take(&packed);
        if full {
            self.drop_contexts();
        }
    }

    /// Bytes of a context for a page of so many bytes, by a codec that may be chosen.
    fn context_bytes(&self, chosen: u8, len: usize) -> usize {
        let codec = self.store.coders.candidate(chosen);
        codec.map_or(0, |codec| codec.context_bytes(context_size(len)))
    }

    /// Buffers to try codecs out in, for a page of so many bytes. `None`: there is no memory.
    fn bench(&self, len: usize) -> Option<Bench<'_, K>> {
        let room = || self.store.trial_buffers(len).map_err(|full| Some(Lack::from(full)));
        self.with_room(room).ok()
    }

    /// What it takes to pack a page and to read it back, but for the context.
    fn try_out(&self, page: &[u8], chosen: u8, bench: &mut Bench<'_, K>) -> Option<Packed> {
        let mut tried = || {
            self.with_room(|| match self.store.try_out(page, chosen, bench) {
                Err(Trouble::Full(full)) => Err(Some(Lack::from(full))),
                tried => Ok(tried),
            })
        };
        // The first time finds the processor's caches cold, as a codec in use never does.
        let _ = tried();
        let (len, [encode, decode]) = tried().ok()?.ok()?;
        let entry = self.cost(len).min(self.cost(page.len()));
        Some(Packed { entry, encode, decode, context: 0 })
    }

    /// There is a new dictionary, which these pages were held out from: what it takes is sampled by
    /// them, and entries are packed again by it.
    pub(crate) fn reprice(&self, pages: &[&[u8]]) {
        let Some(scales) = self.scales() else { return };
        let Some(samples) = scales.samples() else { return };
        samples.forget(TRAINABLE);
        let pages = pages.iter().filter(|page| page.len() >= SHORTEST);
        for page in pages.take(REPRICED) {
            let context = self.context_bytes(TRAINABLE, page.len());
            let mut packed = [None; CANDIDATES];
            let Some(mut bench) = self.bench(page.len()) else { break };
            let found = self.try_out(page, TRAINABLE, &mut bench);
            packed[usize::from(TRAINABLE)] = found.map(|found| Packed { context, ..found });
            samples.take(&packed);
        }
        scales.start(|| self.standing());
        scales.repacking.store(1, Ordering::Relaxed);
    }

    /// Drops contexts of codecs that are not in use.
    fn drop_contexts(&self) {
        let coders = &self.store.coders;
        let others = (1..=coders.others().len() as u8).filter(|coder| *coder != coders.chosen());
        others.for_each(|coder| self.store.scratch.purge(coder, &self.store.pool));
    }

    /// Packs some entries again by the chosen codec, as the hand comes to them: pages of so many
    /// bytes, so many entries, so many ids. Ends before the next one when `stop` says so.
    pub(crate) fn repack(
        &self,
        scales: &Scales,
        hand: &mut Hand,
        (mut bytes, mut entries, mut ids): (usize, usize, usize),
        stop: &dyn Fn() -> bool,
    ) -> Recompression {
        let mut done = Recompression::default();
        if !self.follows(scales) {
            return done;
        }
        let (chosen, goal) = (self.store.coders.chosen(), self.store.coders.goal());
        if hand.goal != Some(goal) {
            (hand.goal, hand.repacked) = (Some(goal), 0);
        }
        while bytes > 0 && entries > 0 && ids > 0 && !stop() {
            let id = hand.repacked;
            if id >= self.ids().end {
                hand.goal = None;
                scales.repacking.store(0, Ordering::Relaxed);
                self.drop_contexts();
                break;
            }
            hand.repacked += 1;
            ids -= 1;
            let Some(entry) = self.entry(id) else { continue };
            let (tag, state) = (entry.record().tag, entry.record().state());
            let now = match state.form() {
                Form::Raw => RAW,
                Form::Coded(coder) => coder,
                Form::Filled(_) | Form::Pieces => continue,
            };
            let hot = self.hot.as_ref();
            // A page of a scan is packed when it is hit.
            let waits = state.rest() == Rest::Unpacked;
            if now == goal || waits || hot.is_some_and(|hot| hot.holds(tag, id)) {
                continue;
            }
            bytes = bytes.saturating_sub(state.len());
            entries -= 1;
            done.tried += 1;
            let smaller = strength(goal) > strength(now);
            let mut spent = Spent::default();
            let renewal = Renewal::By { coder: chosen, smaller };
            let outcome = self.renew(entry, renewal, &mut |bytes| {
                if smaller {
                    self.make_slots(&mut hand.spent)
                } else {
                    self.make_room_of_entries(Lack::Place(bytes), &mut spent)
                }
            });
            match outcome {
                Outcome::Saved(saved) => {
                    done.recompressed += 1;
                    done.bytes_saved += saved as u64;
                }
                Outcome::Full => break,
                _ => {}
            }
        }
        let counters = &self.counters.maintenance;
        add(&counters.tried, done.tried);
        add(&counters.recompressed, done.recompressed);
        add(&counters.bytes_saved, done.bytes_saved);
        done
    }
}
