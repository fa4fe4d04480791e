//! The life of a page, first half: from the caller's bytes to an entry that the index leads to.
//! ```text
//! draft (compress into a buffer) -> place (an object; room is made) -> queue -> publish
//! ```
//! Something may go wrong on the way, also in user code that evictions call. An insert that does
//! not end in its page then removes the key's old page: it never stays stale.

use super::evict::{Lack, Spent};
use super::{Condition, Newcomer, Tier};
use crate::codec::Form;
use crate::error::InsertError;
use crate::index::Tag;
use crate::policy::Priority;
use crate::scope::{SlotNumber, Ticket, UNNAMED};
use crate::stats::RemovalCause;
use crate::store::{Draft, Millis, Record, Rest};
use crate::sync::{Ordering, PutError, add, model_bug};

/// A page that is stored as it is takes no more than the capacity divided by this. Some 20 of them
/// are there at once while a scan goes on.
const UNPACKED: usize = 2048;

/// How a page goes in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'f> {
    pub(crate) priority: Priority,
    pub(crate) expiry: Option<Millis>,
    /// Whether the page, which enters with low priority, is stored as it is until it is hit.
    pub(crate) unpacked: bool,
    /// Without one the insert is a change of its key whatever that has.
    pub(crate) condition: Option<Condition<'f>>,
}

/// A key whose page is on its way. Dropped with the key in it, the key's old page is ended, unless
/// the insert was a conditional one.
struct Way<'t, K: Eq + Send + Sync> {
    tier: &'t Tier<K>,
    tag: Tag,
    key: Option<K>,
    conditional: bool,
    /// That of its scope.
    slot: SlotNumber,
}

impl<K: Eq + Send + Sync> Way<'_, K> {
    /// Ends the key's old page, and says whether there was one.
    fn end(&mut self) -> bool {
        match self.key.take() {
            Some(key) if !self.conditional => self.tier.end_stale(self.tag, &key),
            _ => false,
        }
    }
}

impl<K: Eq + Send + Sync> Drop for Way<'_, K> {
    fn drop(&mut self) {
        self.end();
    }
}

/// A newcomer that did not enter, for it lacked something that was not to be had.
type Refused<'t, K> = (Newcomer<'t, K>, Option<Lack>);

impl<K: Eq + Send + Sync> Tier<K> {
    /// Stores `page` under `key`, and says whether it did: not where its condition does not hold.
    ///
    /// # Errors
    /// See [`InsertError`].
    pub(crate) fn insert(
        &self,
        tag: Tag,
        key: K,
        page: &[u8],
        terms: Terms<'_>,
    ) -> Result<bool, InsertError> {
        // User code, before anything has changed.
        let weight = self.weight_of(&key, page.len());
        let ticket = self.ticket(&key);
        let slot = ticket.as_ref().map_or(UNNAMED, Ticket::slot);
        let conditional = terms.condition.is_some();
        let mut way = Way { tier: self, tag, key: Some(key), conditional, slot };
        if page.len() > self.store.max_page() {
            return Err(self.too_large(&mut way, page, self.store.max_page()));
        }
        // Most often this saves compressing the page of a key that was changed.
        if matches!(terms.condition, Some(Condition::Untold(told)) if told.is_told_by_now()) {
            return Ok(false);
        }
        if terms.expiry.is_some() {
            self.ageing.store(1, Ordering::Relaxed);
        }
        self.sweep_in_passing();
        let mut spent = Spent::default();
        let weighed = self.weigh_in(weight, &mut spent);
        let weighed = weighed.map_err(|lack| self.refused(lack, way.end()))?;
        let made = if page.len() > self.store.max_piece() {
            self.make_in_pieces(&mut way, page, &terms, &mut spent)
        } else {
            self.make(&mut way, page, &terms, &mut spent)
        };
        let newcomer = made?;
        weighed.keep();
        match self.enter(newcomer, terms, &mut spent) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err((newcomer, lack)) => return Err(self.refused(lack, newcomer.give_up())),
        }
        if let Some(scales) = self.scales() {
            scales.came(tag);
            if let Some(samples) = scales.samples() {
                self.look_after_codec(scales, samples, page);
            }
        }
        self.grant_wish();
        Ok(true)
    }

    /// An object of a page, which nobody knows yet.
    #[inline(always)]
    fn make<'t>(
        &'t self,
        way: &mut Way<'t, K>,
        page: &[u8],
        terms: &Terms<'_>,
        spent: &mut Spent,
    ) -> Result<Newcomer<'t, K>, InsertError> {
        let tag = way.tag;
        let unpacked = terms.unpacked && self.may_stay_unpacked(way.slot, page.len());
        let start = if unpacked { None } else { self.counters.encoding() };
        let draft = self.insist(spent, |_| {
            let draft = self.store.draft_as(tag, page, terms.expiry, unpacked);
            draft.map_err(|full| Some(full.into()))
        });
        let draft = draft.map_err(|lack| self.refused(lack, way.end()))?;
        if draft.bytes() > self.store.pool.max_object() {
            let longest = self.store.longest(terms.expiry.is_some());
            return Err(self.too_large(way, page, longest));
        }
        self.counters.encoded(start);
        if self.sampler.is_open() && matches!(draft.form, Form::Coded(_)) {
            self.sampler.offer(page);
        }
        if model_bug!(ReplaceByRemoval) {
            if let Some(key) = &way.key {
                self.end(tag, key, RemovalCause::Replaced);
            }
        }
        self.keep_to_limit(way.slot, tag, draft.bytes());
        let paid = self.pay(draft.bytes(), draft.slot_bytes(&self.store.pool), spent);
        paid.map_err(|lack| self.refused(Some(lack), way.end()))?;
        self.place(way, &draft, terms.priority, unpacked, spent)
    }

    /// Whether a page of `len` bytes that would be stored as it is takes little of the capacity,
    /// and of its scope's limit.
    fn may_stay_unpacked(&self, slot: SlotNumber, len: usize) -> bool {
        len <= self.capacity() / UNPACKED && self.is_within_limit(slot, len)
    }

    /// The same of a page that is too long for one object: its pieces, and an object for its entry.
    #[cold]
    fn make_in_pieces<'t>(
        &'t self,
        way: &mut Way<'t, K>,
        page: &[u8],
        terms: &Terms<'_>,
        spent: &mut Spent,
    ) -> Result<Newcomer<'t, K>, InsertError> {
        let key = way.key.as_ref().expect("it is there until it is placed");
        let cut = self.cut(way.tag, key, page);
        let cut = cut.map_err(|lack| self.refused(lack, way.end()))?;
        self.keep_to_limit(way.slot, way.tag, cut.bytes());
        let draft = self.store.draft_of_pieces(way.tag, page.len(), terms.expiry);
        let newcomer = self.place(way, &draft, terms.priority, false, spent)?;
        if let Err(lack) = self.keep_pieces(newcomer.id(), cut) {
            return Err(self.refused(lack, newcomer.give_up()));
        }
        Ok(newcomer)
    }

    /// Counts a page that is too long, and ends the key's old one.
    fn too_large(&self, way: &mut Way<'_, K>, page: &[u8], max_page: usize) -> InsertError {
        add(&self.counters.too_large, 1);
        let dropped = self.note_dropped(way.end());
        InsertError::TooLarge { len: page.len(), max_page, dropped }
    }

    /// Counts a refused insert that ended the key's old page.
    fn note_dropped(&self, dropped: bool) -> bool {
        add(&self.counters.dropped, dropped.into());
        dropped
    }

    /// What an insert that lacks this is told; counted.
    fn refused(&self, lack: Option<Lack>, dropped: bool) -> InsertError {
        let dropped = self.note_dropped(dropped);
        let (counter, error) = match lack {
            Some(Lack::NoMemory) => (&self.counters.no_memory, InsertError::NoMemory { dropped }),
            _ => (&self.counters.no_room, InsertError::NoRoom { dropped }),
        };
        add(counter, 1);
        error
    }

    /// An object for a draft; the key goes into its record.
    ///
    /// # Errors
    /// What it lacks; counted, and the key's old page has ended.
    fn place<'t>(
        &'t self,
        way: &mut Way<'t, K>,
        draft: &Draft<'_, K>,
        priority: Priority,
        unpacked: bool,
        spent: &mut Spent,
    ) -> Result<Newcomer<'t, K>, InsertError> {
        let (tag, conditional, slot) = (way.tag, way.conditional, way.slot);
        let mark = if priority == Priority::High { self.most } else { 0 };
        let placed = self.insist(spent, |reach| {
            let key = way.key.take().expect("a failed attempt gives the key back");
            let record = Record::new(key, tag, draft.len, draft.form, draft.expires, mark);
            if unpacked && draft.form == Form::Raw {
                record.set_rest(record.state(), Rest::Unpacked);
            }
            let made = Newcomer::make(self, reach, record, draft.parts(), conditional, slot);
            made.map_err(|(lack, record)| {
                way.key = Some(record.key);
                lack
            })
        });
        placed.map_err(|lack| self.refused(lack, way.end()))
    }

    /// Queues and publishes a newcomer; whether its condition holds.
    fn enter<'t>(
        &self,
        mut newcomer: Newcomer<'t, K>,
        terms: Terms<'_>,
        spent: &mut Spent,
    ) -> Result<bool, Refused<'t, K>> {
        if !model_bug!(PublishedUnqueued) {
            newcomer.queue(terms.priority);
        }
        let published = loop {
            let published = self.insist(spent, |_| match newcomer.publish(terms.condition) {
                Ok(()) => Ok(true),
                Err(PutError::NotAdmitted) => Ok(false),
                Err(PutError::NoRoom(bytes)) => Err(Some(Lack::Bytes(bytes))),
                Err(PutError::NoMemory) => Err(Some(Lack::NoMemory)),
            });
            // The page that keeps it out may have gone since, or its time is over.
            let absent = matches!(terms.condition, Some(Condition::Absent));
            if published != Ok(false) || !absent || newcomer.is_late() {
                break published;
            }
        };
        if model_bug!(PublishedUnqueued) {
            newcomer.queue(terms.priority);
        }
        published.map_err(|lack| (newcomer, lack))
    }
}
