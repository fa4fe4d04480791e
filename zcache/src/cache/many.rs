//! The calls that concern many keys.

use std::hash::{BuildHasher, Hash};

use bytes::Bytes;
use equivalent::Equivalent;

use super::Cache;
use crate::error::InsertError;
use crate::index::Tag;
use crate::stats::Cause;
use crate::store::{Entry, Trouble};
use crate::sync::{Plant, planted};

/// Keys looked up before the first of them is decoded: their payloads come from memory meanwhile.
const AT_ONCE: usize = 16;

/// What a look-up in a batch has found.
enum Found<'c, K: Send + Sync> {
    Entry(Entry<'c, K>),
    /// The page is there decoded.
    Page(Bytes),
    Nothing,
}

impl<K: Hash + Eq + Send + Sync, S: BuildHasher> Cache<K, S> {
    /// The pages of many keys, in their order. Each look-up stands for itself; they are made in batches,
    /// so that one key's payload is fetched from memory while another's is decoded.
    pub fn get_many<'k, Q: Hash + Equivalent<K> + ?Sized + 'k>(
        &self,
        keys: impl IntoIterator<Item = &'k Q>,
    ) -> Vec<Option<Bytes>> {
        // The iterator and the hasher are the user's: they run before anything is pinned.
        let keys: Vec<(Tag, &Q)> = keys.into_iter().map(|key| (self.tag(key), key)).collect();
        let mut pages = Vec::with_capacity(keys.len());
        let mut batch: Vec<Found<'_, K>> = Vec::with_capacity(AT_ONCE);
        for (tag, key) in keys {
            if let Some(page) = self.hot_page(tag, key) {
                batch.push(Found::Page(page));
                continue;
            }
            let found = self.tier.find_unless_busy(tag, key).unwrap_or_else(|_| {
                // Too many pins on it, and some may be ours: who waits holds none.
                self.decode_all(&mut batch, &mut pages);
                self.tier.find(tag, key)
            });
            batch.push(found.map_or_else(
                || {
                    self.tier.missed(tag);
                    Found::Nothing
                },
                Found::Entry,
            ));
            if batch.len() >= AT_ONCE {
                self.decode_all(&mut batch, &mut pages);
            }
        }
        self.decode_all(&mut batch, &mut pages);
        pages
    }

    /// Decodes a batch of look-ups, and lets go of each entry.
    fn decode_all(&self, batch: &mut Vec<Found<'_, K>>, pages: &mut Vec<Option<Bytes>>) {
        pages.extend(batch.drain(..).map(|found| {
            let entry = match found {
                Found::Entry(entry) => entry,
                Found::Page(page) => return Some(page),
                Found::Nothing => return None,
            };
            let mut page = self.blank_page(entry.record().state().len())?;
            let hit = self.hit(&entry, &mut page);
            if hit.is_none() {
                return self.get(&entry.record().key);
            }
            drop(entry);
            (hit == Some(true)).then(|| page.into())
        }));
    }

    /// Inserts many pages, one after the other, and says for each what came of it.
    pub fn insert_many<P: AsRef<[u8]>>(
        &self,
        pages: impl IntoIterator<Item = (K, P)>,
    ) -> Vec<Result<(), InsertError>> {
        pages.into_iter().map(|(key, page)| self.insert(key, page.as_ref())).collect()
    }

    /// Removes the entries whose keys `keep` says no to. Loads and leases of such keys that are under
    /// way store nothing, whether the key has an entry or not. `keep` runs under no lock and may use
    /// the cache. Entries that come or go meanwhile may or may not be asked about, and a key that is
    /// being loaded may be asked about twice.
    pub fn retain(&self, mut keep: impl FnMut(&K) -> bool) {
        let _walk = self.tier.walk();
        // Loads first: what they stored by then is met as an entry.
        for (tag, flight) in self.tier.flights.listed() {
            if !keep(flight.key()) && !planted(Plant::RetainUntold) {
                self.tier.fence(tag);
            }
        }
        for id in self.tier.ids() {
            let Some(entry) = self.tier.entry(id) else { continue };
            if self.tier.has_ended(id) {
                self.tier.withdraw(entry, Cause::Cleared, false);
            } else if !keep(&entry.record().key) {
                self.tier.withdraw(entry, Cause::Removed, true);
            }
        }
        self.tier.shrink_policy();
    }

    /// Removes all entries that were there when it was called. Loads and leases that are under way store
    /// nothing. In a cache with scopes all entries are misses at once; otherwise one after the other.
    pub fn clear(&self) {
        let _walk = self.tier.walk();
        for (tag, _) in self.tier.flights.listed() {
            self.tier.fence(tag);
        }
        if let Some(scopes) = &self.tier.scopes {
            scopes.end_all();
        }
        for id in self.tier.ids() {
            if let Some(entry) = self.tier.entry(id) {
                self.tier.withdraw(entry, Cause::Cleared, true);
            }
        }
        self.tier.shrink_policy();
        self.tier.shrink_scopes();
    }

    /// The keys of all entries that have not expired, and whose scopes have not ended, in no order.
    #[must_use]
    pub fn keys(&self) -> Vec<K>
    where
        K: Clone,
    {
        let (tier, now) = (&self.tier, self.tier.now());
        let _walk = tier.walk();
        let key = |id| {
            let entry = tier.entry(id).filter(|_| !tier.has_ended(id))?;
            // An object over a seam takes memory to look at.
            let expired = tier.with_room(|| match tier.store.expired(&entry, now) {
                Err(Trouble::Full(full)) => Err(Some(full.into())),
                known => Ok(known == Ok(true)),
            });
            let key = (expired != Ok(true)).then(|| entry.record().key.clone());
            drop(entry);
            key
        };
        tier.ids().filter_map(key).collect()
    }
}
