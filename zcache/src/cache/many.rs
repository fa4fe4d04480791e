//! The calls that concern many keys.

use std::hash::{BuildHasher, Hash};

use bytes::Bytes;
use equivalent::Equivalent;

use super::Cache;
use crate::error::{BufferTooSmall, InsertError};
use crate::index::Tag;
use crate::stats::RemovalCause;
use crate::store::{Entry, Trouble};
use crate::sync::model_bug;

/// Keys looked up before the first of them is decoded: their payloads come from memory meanwhile.
const AT_ONCE: usize = 16;

/// What a look-up in a batch has found.
enum Found<'c, K: Send + Sync, P> {
    Entry(Entry<'c, K>),
    /// The answer is there, as that of a page that is there decoded.
    Known(Option<P>),
}

/// Look-ups of a batch: what each has found, its key, and where its page goes.
type Batch<'c, 'k, K, Q, P, T> = Vec<(Found<'c, K, P>, &'k Q, T)>;

impl<K: Hash + Eq + Send + Sync, S: BuildHasher> Cache<K, S> {
    /// The pages of many keys, in their order. Each look-up stands for itself; they are made in
    /// batches, so that one key's payload is fetched from memory while another's is decoded.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(4 << 20))?;
    /// cache.insert(1, &[1; 512])?;
    /// cache.insert(3, &[3; 512])?;
    /// let found = cache.get_many(&[1, 2, 3]).into_iter().map(|page| page.map(|page| page[0]));
    /// assert_eq!(found.collect::<Vec<_>>(), [Some(1), None, Some(3)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_many<'k, Q: Hash + Equivalent<K> + ?Sized + 'k>(
        &self,
        keys: impl IntoIterator<Item = &'k Q>,
    ) -> Vec<Option<Bytes>> {
        let wanted = keys.into_iter().map(|key| (key, ()));
        let hot = |tag, key: &Q, (): &mut ()| self.hot_page(tag, key);
        let read = |entry: &Entry<'_, K>, (): &mut ()| {
            let Some(mut page) = self.blank_page(entry.record().state().len()) else {
                return Some(None);
            };
            self.hit(entry, &mut page).map(|hit| hit.then(|| page.into()))
        };
        self.look_many_up(wanted, hot, read, |key, ()| self.get(key))
    }

    /// The pages of many keys, each decoded to the start of the key's own buffer: their lengths, in
    /// the order of the keys. As [`get_into`](Self::get_into) for each of them, in the batches of
    /// [`get_many`](Self::get_many). Nothing is allocated for a page, but a few vectors for the
    /// call.
    ///
    /// A page that is longer than its buffer is an error of its own, which leaves that buffer as it
    /// was and the other keys' answers as they are.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// struct Frame {
    ///     page: u64,
    ///     bytes: [u8; 4096],
    /// }
    ///
    /// let cache = Cache::new(Config::new(1 << 20))?;
    /// cache.insert(1, &[1; 4096])?;
    /// cache.insert(3, &[3; 4096])?;
    /// let mut frames = [1, 2, 3].map(|page| Frame { page, bytes: [0; 4096] });
    /// let wanted = frames.iter_mut().map(|frame| (&frame.page, &mut frame.bytes[..]));
    /// let found = cache.get_many_into(wanted);
    /// for (frame, found) in frames.iter_mut().zip(found) {
    ///     match found? {
    ///         Some(len) => assert_eq!(frame.bytes[..len], [frame.page as u8; 4096]),
    ///         None => assert_eq!(frame.page, 2), // a miss: read it from disk
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_many_into<'k, 'b, Q: Hash + Equivalent<K> + ?Sized + 'k>(
        &self,
        pages: impl IntoIterator<Item = (&'k Q, &'b mut [u8])>,
    ) -> Vec<Result<Option<usize>, BufferTooSmall>> {
        let hot = |tag, key: &Q, to: &mut &'b mut [u8]| self.hot_into(tag, key, to);
        let read = |entry: &Entry<'_, K>, to: &mut &'b mut [u8]| {
            self.hit_into(entry, to).map(Result::transpose)
        };
        let again = |key: &Q, to: &'b mut [u8]| self.get_into(key, to).transpose();
        let found = self.look_many_up(pages.into_iter(), hot, read, again);
        found.into_iter().map(Option::transpose).collect()
    }

    /// What there is for each of many keys: what `hot` finds, or else `read` makes of the entry.
    /// Where that is `None` the entry has left the index, and the answer is `again`'s.
    fn look_many_up<'k, Q: Hash + Equivalent<K> + ?Sized + 'k, T, P>(
        &self,
        mut wanted: impl Iterator<Item = (&'k Q, T)>,
        hot: impl Fn(Tag, &Q, &mut T) -> Option<P>,
        read: impl Fn(&Entry<'_, K>, &mut T) -> Option<Option<P>>,
        again: impl Fn(&Q, T) -> Option<P>,
    ) -> Vec<Option<P>> {
        let mut answers = Vec::with_capacity(wanted.size_hint().0);
        let mut keys: Vec<(Tag, &Q, T)> = Vec::with_capacity(AT_ONCE);
        let mut batch: Batch<'_, '_, K, Q, P, T> = Vec::with_capacity(AT_ONCE);
        loop {
            // The iterator and the hasher are the user's: they run while nothing is pinned.
            let next = wanted.by_ref().take(AT_ONCE);
            keys.extend(next.map(|(key, to)| (self.tag(key), key, to)));
            if keys.is_empty() {
                return answers;
            }
            for (tag, key, mut to) in keys.drain(..) {
                if let Some(page) = hot(tag, key, &mut to) {
                    batch.push((Found::Known(Some(page)), key, to));
                    continue;
                }
                let found = self.tier.find_unless_busy(tag, key).unwrap_or_else(|_| {
                    // Too many pins on it, and some may be ours: who waits holds none.
                    Self::read_all(&mut batch, &read, &again, &mut answers);
                    self.tier.find(tag, key)
                });
                let found = found.map_or_else(
                    || {
                        self.tier.missed(tag);
                        Found::Known(None)
                    },
                    Found::Entry,
                );
                batch.push((found, key, to));
            }
            Self::read_all(&mut batch, &read, &again, &mut answers);
        }
    }

    /// Reads what a batch of look-ups has found, and lets go of each entry. Who looks again may
    /// wait for a pin, and so holds none.
    fn read_all<Q: ?Sized, P, T>(
        batch: &mut Batch<'_, '_, K, Q, P, T>,
        read: impl Fn(&Entry<'_, K>, &mut T) -> Option<Option<P>>,
        again: impl Fn(&Q, T) -> Option<P>,
        answers: &mut Vec<Option<P>>,
    ) {
        let mut left = Vec::new();
        for (found, key, mut to) in batch.drain(..) {
            let answer = match found {
                Found::Known(answer) => answer,
                Found::Entry(entry) => {
                    let answer = read(&entry, &mut to);
                    drop(entry);
                    answer.unwrap_or_else(|| {
                        left.push((answers.len(), key, to));
                        None
                    })
                }
            };
            answers.push(answer);
        }
        for (at, key, to) in left {
            answers[at] = again(key, to);
        }
    }

    /// Inserts many pages, one after the other, and says for each what came of it.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(4 << 20))?;
    /// let stored = cache.insert_many((0..10).map(|page| (page, [page as u8; 512])));
    /// assert!(stored.iter().all(Result::is_ok) && cache.len() == 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert_many<P: AsRef<[u8]>>(
        &self,
        pages: impl IntoIterator<Item = (K, P)>,
    ) -> Vec<Result<(), InsertError>> {
        pages.into_iter().map(|(key, page)| self.insert(key, page.as_ref())).collect()
    }

    /// Removes the entries whose keys `keep` says no to. Loads and leases of such keys that are
    /// under way store nothing, whether the key has an entry or not. `keep` runs under no lock and
    /// may use the cache. Entries that come or go meanwhile may or may not be asked about, and a
    /// key that is being loaded may be asked about twice.
    ///
    /// Visits every entry. One that goes takes about 0.5 us of CPU time (`cargo run --release -p
    /// benches --bin cache_bulk`), one that stays far less, and `keep` on top. Other calls
    /// go on meanwhile.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(4 << 20))?;
    /// for page in 0..10 {
    ///     cache.insert((page % 2, page), &[page as u8; 512])?;
    /// }
    /// cache.retain(|(relation, _)| *relation != 1);
    /// assert!(cache.len() == 5 && cache.get(&(1, 3)).is_none() && cache.get(&(0, 4)).is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "invalidate_entries_if")]
    pub fn retain(&self, mut keep: impl FnMut(&K) -> bool) {
        let _walk = self.tier.walk();
        // Loads first: what they stored by then is met as an entry.
        for (tag, flight) in self.tier.flights.listed() {
            if !keep(flight.key()) && !model_bug!(RetainUntold) {
                self.tier.fence(tag);
            }
        }
        for id in self.tier.ids() {
            let Some(entry) = self.tier.entry(id) else { continue };
            if self.tier.has_ended(id) {
                self.tier.withdraw(entry, RemovalCause::Cleared, false);
            } else if !keep(&entry.record().key) {
                self.tier.withdraw(entry, RemovalCause::Removed, true);
            }
        }
        self.tier.shrink_policy();
    }

    /// Calls `f` with each key and its page, in no order; no effect on evictions, or on the hits
    /// and misses that are counted. Pages are decoded one after the other into a buffer of the
    /// cache's.
    ///
    /// `f` runs under no lock and may use the cache. Each entry is seen as it is at some instant of
    /// the call. One that comes or goes meanwhile may or may not be seen, and one that is replaced
    /// may be seen twice. A page that there is no memory to decode with is left out, and counted as
    /// `unreadable`.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(1 << 20))?;
    /// cache.insert(1, &[7; 512])?;
    /// cache.insert(2, &[9; 512])?;
    /// let mut sum = 0;
    /// cache.for_each(|key, page| sum += key * u64::from(page[0]));
    /// assert_eq!(sum, 1 * 7 + 2 * 9);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "iter")]
    pub fn for_each(&self, mut f: impl FnMut(&K, &[u8])) {
        let _walk = self.tier.walk();
        for id in self.tier.ids() {
            let entry = self.tier.entry(id).filter(|_| !self.tier.has_ended(id));
            let Some(entry) = entry else { continue };
            let Some(mut lent) = self.lent(entry.record().state().len()) else { continue };
            if self.decode(&entry, lent.bytes_mut()).is_ok() {
                f(&entry.record().key, lent.bytes());
            }
        }
    }

    /// Removes all entries that were there when it was called. Loads and leases that are under way
    /// store nothing. In a cache with scopes all entries are misses at once; otherwise one after
    /// the other.
    ///
    /// Takes about 0.6 us of CPU time for each entry (`cargo run --release -p benches --bin
    /// cache_bulk`), and the removal hook on top. Other calls go on meanwhile. To drop all pages of
    /// a file or a table at once, see [`scope`](Self::scope).
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(4 << 20))?;
    /// cache.insert(7, &[1; 4096])?;
    /// cache.clear();
    /// assert!(cache.is_empty() && cache.get(&7).is_none());
    /// assert_eq!(cache.stats().removals.cleared, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "invalidate_all")]
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
                self.tier.withdraw(entry, RemovalCause::Cleared, true);
            }
        }
        self.tier.shrink_policy();
        self.tier.shrink_scopes();
    }

    /// The keys of all entries that have not expired, and whose scopes have not ended, in no order.
    ///
    /// Visits every entry, clones its key, and makes a vector of all of them, which is the caller's
    /// memory. An entry takes about as long as one that stays in [`retain`](Self::retain).
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(4 << 20))?;
    /// cache.insert(2, &[2; 512])?;
    /// cache.insert(1, &[1; 512])?;
    /// let mut keys = cache.keys();
    /// keys.sort_unstable();
    /// assert_eq!(keys, [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn keys(&self) -> Vec<K>
    where
        K: Clone,
    {
        let (tier, now) = (&self.tier, self.tier.now());
        let _walk = tier.walk();
        let key = |id| {
            let entry = tier.entry(id).filter(|entry| tier.is_hit(entry))?;
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
