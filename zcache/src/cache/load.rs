//! Filling the cache on a miss without storing what has become stale meanwhile: single flight for those
//! who hand over a loader, leases for those who do not.

use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher, Hash};

use bytes::Bytes;

use super::{Cache, Insert};
use crate::error::{InsertError, LoadError};
use crate::index::{Boarding, Tag, Version, failed};
use crate::stats::Counters;
use crate::store::{Entry, Trouble, blank_page};
use crate::sync::add;
use crate::tier::Tier;

/// The right to store a page under a key that was missed, as long as nobody else has changed the key:
/// from [`Cache::get_or_lease`], for [`Cache::insert_if_valid`].
#[must_use = "a lease is there to be inserted with"]
pub struct Lease<K> {
    key: K,
    tag: Tag,
    version: Version,
    cache: u64,
}

impl<K> Lease<K> {
    /// The key that was missed.
    pub fn key(&self) -> &K {
        &self.key
    }
}

impl<K: fmt::Debug> fmt::Debug for Lease<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Counts a load that has failed, unless it is told that it has not.
struct Attempt<'c>(&'c Counters, bool);

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.1 {
            add(&self.0.load_failures, 1);
        }
    }
}

impl<K: Hash + Eq + Send + Sync, S: BuildHasher> Cache<K, S> {
    /// The page of `key`, or a lease to store it with.
    ///
    /// ```
    /// # use zcache::{Cache, Config};
    /// # let cache = Cache::new(Config::new(8 << 20))?;
    /// # fn read(_: &u64) -> [u8; 512] { [7; 512] }
    /// let page = match cache.get_or_lease(42) {
    ///     Ok(page) => page,
    ///     Err(lease) => {
    ///         let page = read(lease.key());
    ///         // Meanwhile somebody may have written page 42 and called `remove` or `insert`: then this
    ///         // older page is not stored.
    ///         let _ = cache.insert_if_valid(lease, &page);
    ///         page.to_vec().into()
    ///     }
    /// };
    /// # assert_eq!(page, &[7; 512][..]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A miss: the lease.
    pub fn get_or_lease(&self, key: K) -> Result<Bytes, Lease<K>> {
        let tag = self.tag(&key);
        let hot = self.hot_page(tag, &key);
        let look = || self.hit_or_version(tag, &key, Tier::find_or_version);
        match hot.map_or_else(look, Ok) {
            Ok(page) => {
                // Before there is a page to return, which a panic here would leak.
                drop(key);
                Ok(page)
            }
            Err(version) => {
                self.tier.missed(tag);
                Err(Lease { key, tag, version, cache: self.tier.number })
            }
        }
    }

    /// Stores `page` under the lease's key, if the key was not inserted, removed or cleared since the
    /// lease was given. (Changes of a few other keys count as such too: about one key in 1000.)
    ///
    /// # Errors
    /// [`InsertError::Outdated`]: it was, or the lease is another cache's; what the key has now stays.
    /// Otherwise as for [`insert`](Self::insert), but what the key has stays then too.
    pub fn insert_if_valid(&self, lease: Lease<K>, page: &[u8]) -> Result<(), InsertError> {
        self.insert_if_valid_with(lease, page, Insert::new())
    }

    /// [`insert_if_valid`](Self::insert_if_valid) with a priority or a time to live of the page's own.
    ///
    /// # Errors
    /// The same.
    pub fn insert_if_valid_with(
        &self,
        lease: Lease<K>,
        page: &[u8],
        how: Insert,
    ) -> Result<(), InsertError> {
        let Lease { key, tag, version, cache } = lease;
        if cache != self.tier.number {
            add(&self.tier.counters.outdated, 1);
            return Err(InsertError::Outdated);
        }
        let mut terms = self.terms(how);
        terms.condition = Some(version);
        self.tier.insert(tag, key, page, terms)
    }

    /// A hit, or how the key stands, by what `find` finds in the index.
    fn hit_or_version(
        &self,
        tag: Tag,
        key: &K,
        find: impl for<'t> Fn(&'t Tier<K>, Tag, &K) -> Result<Entry<'t, K>, Version>,
    ) -> Result<Bytes, Version> {
        loop {
            let entry = find(&self.tier, tag, key)?;
            let Some(mut page) = blank_page(entry.record().state().len()) else {
                add(&self.tier.counters.unreadable, 1);
                return Err(self.tier.version(tag));
            };
            let decoding = self.tier.counters.decoding();
            match self.decode(&entry, &mut page) {
                Ok(()) => {
                    self.tier.mark(&entry);
                    decoding.hit();
                    self.tier.warmed(&entry, &page);
                    drop(entry);
                    return Ok(page.into());
                }
                // There is no memory to read it with. It stays: what is loaded takes its place.
                Err(Trouble::Full(_)) => return Err(self.tier.version(tag)),
                // It is off the index already.
                Err(Trouble::Expired | Trouble::Corrupt) => {}
            }
        }
    }

    /// The page of `key`, loaded if need be. Of all callers that miss it at once one runs its `load`,
    /// which fills the buffer it is given, and the others wait for that and share its page or its error.
    /// The page is stored, unless the key was changed by `insert`, `remove` or `clear` meanwhile, or there
    /// is no room: it is returned all the same. A caller that comes after such a change does not get a
    /// page whose load started before.
    ///
    /// `load` gets an empty buffer, and what it leaves there is the page, of no bytes if need be. It runs under
    /// no lock and may use the cache, for other keys; so may the key's `Eq`. If it waits, in two threads, for each other's keys, they
    /// wait for ever. A look-up that missed before this call is counted beside this one's.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing is stored then, and the next caller tries anew. What `load` returned is
    /// shared by all who waited:
    /// ```
    /// use std::io::{Error, ErrorKind};
    /// use zcache::{Cache, Config, LoadError};
    ///
    /// let cache = Cache::new(Config::new(1 << 20))?;
    /// let Err(LoadError::Failed(error)) = cache.get_or_insert_with(7, |_| Err(Error::from(ErrorKind::NotFound)))
    /// else { unreachable!() };
    /// let error = error.downcast_ref::<Error>().expect("what the loader returned");
    /// assert_eq!(error.kind(), ErrorKind::NotFound);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// When `load` does, in its caller's thread.
    pub fn get_or_insert_with<E>(
        &self,
        key: K,
        load: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Bytes, LoadError>
    where
        K: Clone,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.get_or_insert_as(key, Insert::new(), load)
    }

    /// [`get_or_insert_with`](Self::get_or_insert_with), storing the page with a priority or a time to live of
    /// its own: [`Priority::Low`](crate::policy::Priority::Low) for what a scan reads, say.
    ///
    /// # Errors
    /// The same.
    ///
    /// # Panics
    /// The same.
    pub fn get_or_insert_as<E>(
        &self,
        key: K,
        how: Insert,
        load: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Bytes, LoadError>
    where
        K: Clone,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        // Wherever this returns, keys and the loader are dropped first: a panic in that would leak what
        // is about to be returned.
        if let Some(page) = self.get(&key) {
            drop((key, load));
            return Ok(page);
        }
        self.load_missed(key, how, load)
    }

    /// The page of a key that was missed.
    pub(crate) fn load_missed<E>(
        &self,
        key: K,
        how: Insert,
        load: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Bytes, LoadError>
    where
        K: Clone,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let tag = self.tag(&key);
        let mut pilot = match self.tier.flights.board(tag, key.clone()) {
            Boarding::Load(pilot) => pilot,
            Boarding::Wait(flight) => {
                drop((key, load));
                return flight.wait();
            }
            Boarding::Recursive => return Err(LoadError::Recursive),
        };
        // Another flight may have landed since the key was missed. Not by a frame, which is looked
        // up without the lock that orders this and a change of the key.
        let version = match self.hit_or_version(tag, &key, Tier::find_or_version_aboard) {
            Ok(page) => {
                pilot.lands(Ok(page.clone()));
                drop((pilot, key, load));
                return Ok(page);
            }
            Err(version) => version,
        };
        let counters = &self.tier.counters;
        add(&counters.loads, 1);
        let mut attempt = Attempt(counters, false);
        let mut page = Vec::new();
        let (len, max_page) = match load(&mut page) {
            Ok(()) => (page.len(), self.max_page()),
            Err(error) => {
                let error = failed(error);
                pilot.lands(Err(error.clone()));
                drop((pilot, key));
                return Err(error);
            }
        };
        if len > max_page {
            let error = LoadError::TooLarge { len, max_page };
            pilot.lands(Err(error.clone()));
            return Err(error);
        }
        attempt.1 = true;
        let page = Bytes::from(page);
        // Those who wait get it even if a hook that the insert calls panics.
        pilot.lands(Ok(page.clone()));
        let mut terms = self.terms(how);
        terms.condition = Some(version);
        // Not stored is no error here: the page is there.
        let _ = self.tier.insert(tag, key, &page, terms);
        drop(pilot);
        Ok(page)
    }
}
