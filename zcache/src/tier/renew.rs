//! An entry's page, compressed again: its new object takes the place of the old one.
//! ```text
//! new object -> queued -> index: old id -> new id, if it leads to the old one -> its place in the
//! policy -> old one freed
//! ```
//! That is no replacement: page, expiry and place in the policy are the same, no hook is called,
//! and leases and loads are not told.

use super::evict::{Lack, Reach, STEP};
use super::{Newcomer, Tier};
use crate::codec::Form;
use crate::policy::Priority;
use crate::scope::UNNAMED;
use crate::stats::RemovalCause;
use crate::store::{Draft, Entry, Record, Rest, Trouble};
use crate::sync::{Inside, get};

/// Rounds of room that a new object is worth.
const ROUNDS: usize = 8;
/// Bytes that may be evicted for smaller objects before anything was saved.
const FIRST: u64 = 64 << 10;

/// Makes room for an object of so many bytes. `false`: there is none to be made.
pub(crate) type Room<'r> = &'r mut dyn FnMut(usize) -> bool;

/// What came of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It takes so many bytes of slots less.
    Saved(usize),
    /// The codec had nothing to gain.
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
pub(crate) enum Renewal {
    /// By the stronger coder.
    Stronger,
    /// As an insert compresses it.
    Packed,
    /// By this coder, [`RAW`](crate::codec::RAW) among them, into a smaller slot or into any.
    By { coder: u8, smaller: bool },
}

impl<K: Eq + Send + Sync> Tier<K> {
    /// Makes slots for smaller objects. `false`: there is nothing to gain, or no more to spend.
    pub(crate) fn make_slots(&self, spent: &mut u64) -> bool {
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
    pub(crate) fn renew(&self, entry: Entry<'_, K>, renewal: Renewal, room: Room<'_>) -> Outcome {
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
                self.withdraw_again(
                    &entry,
                    if expired { RemovalCause::Expired } else { RemovalCause::Corrupt },
                );
                return Outcome::Over;
            }
            Err(_) => return Outcome::Full,
        };
        let slot = store.pool.slot_bytes(entry.len());
        // A dictionary that has a successor is worth more than a slot: what has it need only not
        // grow.
        let superseded =
            matches!(seen.form(), Form::Coded(coder) if store.coders.is_superseded(coder));
        let bound = slot + usize::from(superseded);
        let draft = self.with_room(|| {
            let page = buffer.bytes(seen.len());
            let draft = match renewal {
                Renewal::Stronger => store.redraft(record.tag, page, expiry, bound),
                Renewal::Packed => store.draft_packed(record.tag, page, expiry),
                Renewal::By { coder, smaller } => {
                    let bound = if smaller { slot } else { usize::MAX };
                    store.repack(record.tag, page, expiry, (coder, bound))
                }
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
