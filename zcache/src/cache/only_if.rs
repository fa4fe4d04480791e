//! Changes of a key that depend on what the key has.

use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;

use super::{Cache, InsertOptions};
use crate::error::InsertError;
use crate::stats::RemovalCause;
use crate::store::Trouble;
use crate::sync::model_bug;
use crate::tier::Condition;

impl<K: Hash + Eq + Send + Sync, S: BuildHasher> Cache<K, S> {
    /// Stores a copy of `page` under `key` if the key has no page; says whether it did. A page that
    /// the key has stays, and is not compared with this one. Not counted as a hit or a miss.
    ///
    /// Linearisable: `true` says that the key had no page at one instant, and this one from that
    /// instant on. Of all callers that do this at once one gets `true`. Loads and leases of the key
    /// that are under way store nothing after that; if it says `false`, they are not concerned.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(1 << 20))?;
    /// assert!(cache.insert_if_absent(7, b"read ahead")?);
    /// cache.insert(8, b"written since")?;
    /// assert!(!cache.insert_if_absent(8, b"read ahead")?);
    /// assert_eq!(cache.get(&8).as_deref(), Some(&b"written since"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`InsertError`], but what the key has by then stays, and `dropped` is `false`. Where the
    /// key has a page to begin with, there is no error whatever `page` is.
    pub fn insert_if_absent(&self, key: K, page: &[u8]) -> Result<bool, InsertError> {
        self.insert_if_absent_with_options(key, page, InsertOptions::new())
    }

    /// [`insert_if_absent`](Self::insert_if_absent) with a priority or a time to live of the page's
    /// own.
    ///
    /// # Errors
    /// As for [`insert_if_absent`](Self::insert_if_absent).
    pub fn insert_if_absent_with_options(
        &self,
        key: K,
        page: &[u8],
        options: InsertOptions,
    ) -> Result<bool, InsertError> {
        let tag = self.tag(&key);
        // Most often this saves compressing the page.
        if self.tier.has_page(tag, &key) {
            return Ok(false);
        }
        let mut terms = self.terms(options);
        terms.condition = Some(Condition::Absent);
        self.tier.insert(tag, key, page, terms)
    }

    /// [`remove`](Self::remove)s the page of `key` if `is_unwanted` says so of it, and says whether
    /// it did. No other page of the key is removed: if this one was replaced while `is_unwanted`
    /// ran, it is asked again about the new one. Not counted as a hit or a miss.
    ///
    /// `is_unwanted` runs under no lock, on a copy, and may call the cache. It is not asked about a
    /// page that there is no memory to decode with; that page stays.
    /// Loads and leases of the key that are under way store nothing if the page is removed.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// fn version(page: &[u8]) -> u8 {
    ///     page[0]
    /// }
    /// let cache = Cache::new(Config::new(1 << 20))?;
    /// cache.insert(7, &[3; 512])?;
    /// // The log says that version 2 is outdated: what is newer stays.
    /// assert!(!cache.remove_if(&7, |page| version(page) <= 2));
    /// assert!(cache.remove_if(&7, |page| version(page) <= 3));
    /// assert!(!cache.contains_key(&7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// When `is_unwanted` does; the page stays.
    pub fn remove_if<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        mut is_unwanted: impl FnMut(&[u8]) -> bool,
    ) -> bool {
        let tag = self.tag(key);
        loop {
            let Some(entry) = self.tier.find(tag, key) else { return false };
            let len = entry.record().state().len();
            let Some(mut lent) = self.lent(len) else { return false };
            match self.decode(&entry, lent.bytes_mut()) {
                Ok(()) => {}
                Err(Trouble::Full(_)) => return false,
                // It is off the index already.
                Err(Trouble::Expired | Trouble::Corrupt | Trouble::Left) => continue,
            }
            // Not pinned while it is asked about. The handle is the object's and never another's:
            // an entry that was replaced, evicted or stored anew meanwhile has none of its own.
            let handle = entry.handle();
            drop(entry);
            if !is_unwanted(lent.bytes()) {
                return false;
            }
            drop(lent);
            let same = if model_bug!(RemovedUnasked) {
                self.tier.find(tag, key)
            } else {
                self.tier.store.pool.pin(handle).ok()
            };
            // Nor is it there if its scope has ended.
            let same = same.filter(|same| !self.tier.has_ended(same.id()));
            if same.is_some_and(|same| self.tier.withdraw(same, RemovalCause::Removed, true)) {
                return true;
            }
        }
    }
}
