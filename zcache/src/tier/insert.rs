//! The life of a page, first half: from the caller's bytes to an entry that the index leads to.
//! ```text
//! draft (compress into a bench's buffer) -> place (an object; room is made) -> queue -> publish
//! ```
//! Whatever goes wrong on the way, also in user code that evictions call, an insert that does not end in
//! its page takes the key's old page with it: never stale.

use super::evict::Lack;
use super::{Newcomer, Tier};
use crate::codec::Form;
use crate::error::InsertError;
use crate::index::{Tag, Version};
use crate::policy::Priority;
use crate::stats::Cause;
use crate::store::{Draft, MAX_MARK, Millis, Record};
use crate::sync::{Ordering, Plant, PutError, add, planted};

/// How a page goes in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) priority: Priority,
    pub(crate) expiry: Option<Millis>,
    /// Only if the key was not touched since. Without this, the insert is a touch.
    pub(crate) condition: Option<Version>,
}

/// A key whose page is on its way. Dropped with the key in it, the key's old page goes, unless the
/// insert was a conditional one.
struct Way<'t, K: Eq + Send + Sync> {
    tier: &'t Tier<K>,
    tag: Tag,
    key: Option<K>,
    conditional: bool,
}

impl<K: Eq + Send + Sync> Drop for Way<'_, K> {
    fn drop(&mut self) {
        if let (Some(key), false) = (&self.key, self.conditional) {
            self.tier.end_stale(self.tag, key);
        }
    }
}

impl<K: Eq + Send + Sync> Tier<K> {
    /// Stores `page` under `key`.
    ///
    /// # Errors
    /// See [`InsertError`].
    pub(crate) fn insert(
        &self,
        tag: Tag,
        key: K,
        page: &[u8],
        terms: Terms,
    ) -> Result<(), InsertError> {
        let conditional = terms.condition.is_some();
        let mut way = Way { tier: self, tag, key: Some(key), conditional };
        let too_large = |max_page| {
            add(&self.counters.too_large, 1);
            Err(InsertError::TooLarge { len: page.len(), max_page })
        };
        if page.len() > self.store.max_page() {
            return too_large(self.store.max_page());
        }
        if terms.expiry.is_some() {
            self.ageing.store(1, Ordering::Relaxed);
        }
        self.sweep_in_passing();
        let no_room = || {
            add(&self.counters.no_room, 1);
            InsertError::NoRoom
        };
        let start = self.counters.encoding();
        let draft = || self.store.draft(tag, page, terms.expiry);
        let draft = self.with_room(|| draft().map_err(|full| Some(full.into())));
        let draft = draft.ok_or_else(no_room)?;
        if draft.bytes() > self.store.pool.max_object() {
            return too_large(self.store.longest(terms.expiry.is_some()));
        }
        self.counters.encoded(start);
        if self.sampler.is_open() && matches!(draft.form, Form::Coded(_)) {
            self.sampler.offer(page);
        }
        if planted(Plant::ReplaceByRemoval) {
            if let Some(key) = &way.key {
                self.end(tag, key, Cause::Replaced);
            }
        }
        let newcomer = self.place(&mut way, &draft, terms.priority).ok_or_else(no_room)?;
        drop(draft);
        self.enter(newcomer, terms).inspect_err(|error| match error {
            InsertError::Outdated => add(&self.counters.outdated, 1),
            _ => add(&self.counters.no_room, 1),
        })?;
        if let Some(scales) = self.scales() {
            scales.came(tag);
        }
        Ok(())
    }

    /// An object for a draft; the key goes into its record.
    fn place<'t>(
        &'t self,
        way: &mut Way<'t, K>,
        draft: &Draft<'_, K>,
        priority: Priority,
    ) -> Option<Newcomer<'t, K>> {
        let (pool, bytes, tag) = (&self.store.pool, draft.bytes(), way.tag);
        let mark = if priority == Priority::High { self.most } else { self.credit(bytes) };
        let record = |way: &mut Way<'_, K>| {
            let key = way.key.take().expect("a failed attempt gives the key back");
            Record::new(key, tag, draft.len, draft.form, draft.expires, mark)
        };
        let placed = self.with_room(|| {
            pool.try_alloc_record(record(way), draft.parts()).map_err(|(error, record)| {
                way.key = Some(record.key);
                Lack::of(error, bytes)
            })
        });
        // What no room could be made for may still fit a larger class or a shorter chain.
        let placed = placed.or_else(|| {
            pool.alloc_record_parts(record(way), draft.parts())
                .map_err(|(_, record)| way.key = Some(record.key))
                .ok()
        });
        placed.map(|handle| Newcomer::new(self, handle, tag, way.conditional))
    }

    /// What an entry of `bytes` bytes starts with: a hit is worth more per byte in a small one, so it
    /// needs fewer of them to stay.
    fn credit(&self, bytes: usize) -> u8 {
        let pool = &self.store.pool;
        let mean = pool.payload_bytes() / pool.len().max(1);
        let ratio = mean / pool.slot_bytes(bytes).max(1);
        let most = u32::from(self.most);
        (ratio.checked_ilog2().unwrap_or(0) * most / u32::from(MAX_MARK)).min(most) as u8
    }

    /// Queues and publishes a newcomer.
    fn enter(&self, mut newcomer: Newcomer<'_, K>, terms: Terms) -> Result<(), InsertError> {
        let id = newcomer.id();
        let room = self.with_room(|| self.stretch_policy(id).map_err(|b| Some(Lack::Bytes(b))));
        room.ok_or(InsertError::NoRoom)?;
        if !planted(Plant::PublishedUnqueued) {
            newcomer.queue(terms.priority);
        }
        let published = self.with_room(|| match newcomer.publish(terms.condition) {
            Ok(()) => Ok(Ok(())),
            Err(PutError::NotAdmitted) => Ok(Err(InsertError::Outdated)),
            Err(PutError::NoRoom(bytes)) => Err(Some(Lack::Bytes(bytes))),
        });
        if planted(Plant::PublishedUnqueued) {
            newcomer.queue(terms.priority);
        }
        published.unwrap_or(Err(InsertError::NoRoom))
    }
}
