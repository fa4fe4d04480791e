//! Cold entries, compressed again with the stronger coder.
//!
//! A hand goes over all ids, a bounded way in each call of `maintain`. What it passes it marks idle, and a hit takes that back; what
//! is idle still when the hand comes again was not hit for a sweep. Such an entry is decoded, compressed with the stronger
//! coder, and if that takes a smaller slot its new object takes the place of the old one in the index, unless the key
//! was touched meanwhile: see `tier`. It is no replacement: the page, its expiry and its place in the policy are the
//! same, no hook is called, and leases and loads are not told.
//!
//! Room for the new object is what there is, or what compaction finds. A full cache may have none at all in the smaller classes, so that
//! nothing would ever begin; so entries are evicted for it, but of no more bytes than recompression has saved
//! before, and a first few: what it costs comes out of what it gains. Contexts and buffers make room as those of an insert do.

use crate::codec::Form;
use crate::policy::Priority;
use crate::scope::UNNAMED;
use crate::stats::{Cause, Recompression};
use crate::store::{Draft, Entry, Record, Rest, Trouble};
use crate::sync::{Inside, add, get};
use crate::tier::{Hand, Lack, Newcomer, Reach, STEP, Tier};

/// What passing an id counts in bytes of a budget.
const PASSED: usize = 64;
/// Bytes that may be evicted before anything was saved.
const FIRST: u64 = 64 << 10;
/// Rounds of room that a new object is worth.
const ROUNDS: usize = 8;
/// Entries in a row without room for their new objects that end a call.
const CROWDED: usize = 32;

/// What came of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It takes so many bytes of slots less.
    Saved(usize),
    /// The stronger coder had nothing to gain.
    NoGain,
    /// The key was touched, or somebody walks.
    Lost,
    /// There is no room for its new object.
    Crowded,
    /// It had expired, or could not be read.
    Over,
    /// There is no memory to work with.
    Full,
}

/// How an entry is compressed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// By the stronger coder.
    Stronger,
    /// As an insert compresses it.
    Packed,
}

/// Makes room for an object of so many bytes. `false`: there is none to be made.
pub(crate) type Room<'r> = &'r mut dyn FnMut(usize) -> bool;

/// What a step came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Step {
    pub(crate) counts: Recompression,
    pub(crate) expired: u64,
    pub(crate) swept: bool,
}

impl<K: Eq + Send + Sync> Tier<K> {
    /// Passes ids until `budget` bytes of pages were worked on, the last id was passed, or `stop`
    /// says so. It is asked before each entry.
    pub(crate) fn recompress(
        &self,
        hand: &mut Hand,
        budget: usize,
        stop: &dyn Fn() -> bool,
    ) -> Step {
        let (mut step, mut left, mut crowded) = (Step::default(), budget, 0);
        let all = self.ids().end;
        while left > 0 && crowded < CROWDED && !step.swept && !stop() {
            left = left.saturating_sub(PASSED);
            let id = hand.next;
            step.swept = id + 1 >= all;
            hand.next = if step.swept { 0 } else { id + 1 };
            let again = hand.again > 0;
            hand.again = hand.again.saturating_sub(1);
            let Some(entry) = self.entry(id) else { continue };
            if self.has_ended(id) {
                self.withdraw(entry, Cause::Cleared, false);
                continue;
            }
            let state = entry.record().state();
            if state.expires() && self.store.expired(&entry, self.clock()) == Ok(true) {
                step.expired += u64::from(self.withdraw(entry, Cause::Expired, false));
                continue;
            }
            if !self.may_gain(state.form()) {
                continue;
            }
            match state.rest() {
                Rest::Warm => {
                    entry.record().set_rest(state, Rest::Idle);
                    continue;
                }
                Rest::Tried if !again => continue,
                // An entry of a scan that is there still has stayed, as far as anybody knows.
                Rest::Idle | Rest::Tried | Rest::Unpacked => {}
            }
            let hot = self.hot.as_ref();
            if hot.is_some_and(|hot| hot.holds(entry.record().tag, id)) {
                continue;
            }
            left = left.saturating_sub(state.len());
            step.counts.tried += 1;
            let outcome =
                self.renew(entry, Renewal::Stronger, &mut |_| self.make_slots(&mut hand.spent));
            crowded = if outcome == Outcome::Crowded { crowded + 1 } else { 0 };
            match outcome {
                Outcome::Saved(bytes) => {
                    step.counts.recompressed += 1;
                    step.counts.bytes_saved += bytes as u64;
                    add(&self.counters.maintenance.bytes_saved, bytes as u64);
                }
                Outcome::Full => break,
                _ => {}
            }
        }
        let counters = &self.counters.maintenance;
        add(&counters.tried, step.counts.tried);
        add(&counters.recompressed, step.counts.recompressed);
        step
    }

    /// Whether the stronger coder, if there is one, is another than the one that a page is stored by.
    fn may_gain(&self, form: Form) -> bool {
        let target = self.store.coders.target();
        target != 0
            && match form {
                Form::Raw => true,
                Form::Coded(coder) => coder != target,
                Form::Filled(_) | Form::Pieces => false,
            }
    }

    /// Makes slots for new objects. `false`: there is nothing to gain, or no more to spend.
    fn make_slots(&self, spent: &mut u64) -> bool {
        if self.store.pool.compact(STEP).pages_freed > 0 {
            return true;
        }
        let batch = self.batch();
        let left = (FIRST + get(&self.counters.maintenance.bytes_saved)).saturating_sub(*spent);
        if left < batch as u64 {
            return false;
        }
        *spent += batch as u64;
        self.evict(batch).entries > 0
    }

    /// Compresses an entry again.
    pub(super) fn renew(&self, entry: Entry<'_, K>, renewal: Renewal, room: Room<'_>) -> Outcome {
        let (store, record, seen) = (&self.store, entry.record(), entry.record().state());
        let mut buffer = store.buffer();
        let read = self.with_room(|| {
            let page = buffer.stretch(seen.len()).map_err(|full| Some(Lack::from(full)))?;
            match store.read_whole(&entry, self.now(), page) {
                Err(Trouble::Full(full)) => Err(Some(full.into())),
                read => Ok(read),
            }
        });
        let expiry = match read {
            Ok(Ok(expiry)) => expiry,
            Ok(Err(trouble)) => {
                let expired = trouble == Trouble::Expired;
                self.withdraw_again(&entry, if expired { Cause::Expired } else { Cause::Corrupt });
                return Outcome::Over;
            }
            Err(_) => return Outcome::Full,
        };
        let slot = store.pool.slot_bytes(entry.len());
        // A dictionary that has a successor is worth more than a slot: what has it need only not grow.
        let superseded =
            matches!(seen.form(), Form::Coded(coder) if store.coders.is_superseded(coder));
        let bound = slot + usize::from(superseded);
        let draft = self.with_room(|| {
            let page = buffer.bytes(seen.len());
            let draft = match renewal {
                Renewal::Stronger => store.redraft(record.tag, page, expiry, bound),
                Renewal::Packed => store.draft_packed(record.tag, page, expiry),
            };
            draft.map_err(|full| Some(full.into()))
        });
        match draft {
            Ok(Some(draft)) => self.exchange(entry, &draft, room),
            Ok(None) => {
                record.set_rest(seen, Rest::Tried);
                Outcome::NoGain
            }
            Err(_) => Outcome::Full,
        }
    }

    /// Stores `draft`, which is the same page, in the place of an entry.
    pub(crate) fn exchange(
        &self,
        old: Entry<'_, K>,
        draft: &Draft<'_, K>,
        room: Room<'_>,
    ) -> Outcome {
        let (pool, tag) = (&self.store.pool, old.record().tag);
        // The slot is the entry's if the index leads to it when they are swapped.
        let slot = self.scopes.as_ref().map_or(UNNAMED, |scopes| scopes.slot_of(old.id()));
        let key = {
            // The clone is user code: what it inserts evicts nothing.
            let _inside = Inside::enter(self.number);
            (self.clone)(&old.record().key)
        };
        let Ok(weighed) = self.weighed(self.weight_of(&key, draft.len)) else {
            // The drop of a key is the user's.
            let _inside = Inside::enter(self.number);
            drop(key);
            return Outcome::Crowded;
        };
        let mark = old.record().state().mark();
        let mut record = Some(Record::new(key, tag, draft.len, draft.form, draft.expires, mark));
        let mut place = || {
            let given = record.take().expect("a failed attempt gives the record back");
            let made = Newcomer::make(self, Reach::AtHand, given, draft.parts(), true, slot);
            made.map_err(|(lack, back)| {
                record = Some(back);
                lack
            })
        };
        let mut placed = place();
        for _ in 0..ROUNDS {
            // As for an insert: only where the cap refuses does anybody make way.
            let helps = matches!(placed, Err(Some(Lack::Place(_) | Lack::Bytes(_))));
            if !helps || !room(draft.bytes()) {
                break;
            }
            placed = place();
        }
        let Ok(mut newcomer) = placed else {
            let _inside = Inside::enter(self.number);
            drop(record);
            return Outcome::Crowded;
        };
        weighed.keep();
        newcomer.queue(Priority::Low);
        let before = pool.slot_bytes(old.len());
        let saved = before.saturating_sub(pool.slot_bytes(draft.bytes()));
        if newcomer.swap(old) { Outcome::Saved(saved) } else { Outcome::Lost }
    }
}
