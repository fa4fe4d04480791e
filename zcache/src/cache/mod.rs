//! The cache: construction, and the calls that concern one key.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::ops::Range;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use bytes::{Buf, Bytes};
use equivalent::Equivalent;

use crate::codec::Form;
use crate::error::{BufferTooSmall, InsertError};
use crate::index::{Tag, tag};
use crate::policy::Priority;
use crate::stats::RemovalCause;
use crate::store::{Entry, Millis, Trouble, blank_page};
use crate::sync::{add, model_bug};
use crate::tier::{Terms, Tier};

mod build;
mod fill;
mod inspect;
mod into;
mod lease;
mod load;
mod maintain;
mod maintainer;
mod many;
mod memory;
mod only_if;
mod options;
mod scope;

pub use lease::{Lease, Leased, Waited, Waiting};
pub use maintain::{Maintenance, TrainingOutcome};
pub use maintainer::Maintainer;
pub use options::InsertOptions;
pub use scope::{Scope, ScopeStats, TooManyScopes};

/// A concurrent, keyed cache of compressed pages that holds to a budget of resident memory.
///
/// All calls take `&self`; share it as `&Cache` or `Arc<Cache>`. It holds *clean* pages only: an
/// entry may go at any time, so whoever changes a page writes it to its home first and inserts it
/// here after. Two writers of one page need a latch over both steps, or have to `remove` the page
/// after the write: the last `remove` wins whatever the order.
///
/// - **Order**: the operations on one key are linearisable: a hit gives what the latest `insert` of
///   the key that has returned put there, or one that is still running. A key that is inserted
///   again is never missed in between. If an insert fails, the key's old page is gone too: never
///   stale. `keys`, `retain`, `clear` and `stats` see each entry at some instant while they run.
/// - **Waiting**: a hit takes no lock, so no number of readers keeps a writer waiting. Inserts take
///   the lock of one of many shards, the policy's lock and a lock of the pool for some hundred
///   nanoseconds each, and make room before they take it. No call waits for as long as a decoding
///   takes but one that waits for another caller's loader.
/// - **User code** (loaders, the removal hook, the key's `Hash`, `Eq` and drop) runs under no lock,
///   may call any method of the cache, and may panic: the cache stays as it was, but for the entry
///   concerned. What a hook or a key's drop inserts takes the room that there is and evicts
///   nothing. A codec must not call the cache that it works for.
/// - **Memory**: all that the cache holds counts, but the heap memory that keys themselves point
///   to, unless [`weigh_keys`](Self::weigh_keys) says how much that is (and that of clones of keys,
///   where pages are kept hot), and pages handed out as [`Bytes`], which are the caller's, and what
///   zstd takes while it trains a dictionary, and loads under way: some 200 bytes for each, and 100
///   for each caller that waits, which are gone with them. Dropping the cache drops all keys and
///   calls no hook.
///
/// ```
/// use zcache::{Cache, Config};
///
/// let cache = Cache::new(Config::new(64 << 20))?;
/// cache.insert((7, 42), &[1; 4096])?; // relation 7, page 42
/// let mut page = [0; 4096];
/// assert_eq!(cache.get_into(&(7, 42), &mut page)?, Some(4096));
/// assert_eq!(page, [1; 4096]);
/// assert!(cache.get(&(7, 43)).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Async callers use the same calls, of which none waits for longer than a decoding, but for
/// [`get_or_insert_with`](Self::get_or_insert_with) and [`load_into`](Self::load_into), which wait
/// for another caller's loader. Do not give those to a runtime's blocking pool: callers that wait
/// could fill it, and the loader that they wait for may need it. Tasks have
/// [`get_or_insert_async`](Self::get_or_insert_async), where whoever waits has no thread, and the
/// one load uses the pool if it has to:
///
/// ```
/// # use zcache::{Cache, Config};
/// use std::sync::Arc;
///
/// # fn read(page: u64) -> Vec<u8> { vec![page as u8; 4096] }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache: Arc<Cache<u64>> = Arc::new(Cache::new(Config::new(8 << 20))?);
/// let hit = cache.get(&7); // microseconds: called as it is
/// # assert!(hit.is_none());
/// let load = async { tokio::task::spawn_blocking(|| read(7)).await };
/// let page = cache.get_or_insert_async(&7, load).await?; // `Bytes`: owned, `'static`
/// assert_eq!(page, [7; 4096][..]);
/// # Ok(())
/// # }
/// ```
pub struct Cache<K, S = RandomState> {
    pub(crate) tier: Box<Tier<K>>,
    pub(crate) hasher: S,
    time_to_live: Option<Duration>,
    /// What an empty cache charges itself, the policy apart.
    charged: usize,
    least: usize,
}

impl<K: Hash + Eq + Send + Sync, S: BuildHasher> Cache<K, S> {
    #[inline]
    pub(crate) fn tag<Q: Hash + ?Sized>(&self, key: &Q) -> Tag {
        tag(self.hasher.hash_one(key))
    }

    /// Stores a copy of `page`, compressed, under `key`, in the place of what was there. Other
    /// entries may go for it.
    ///
    /// ```
    /// use zcache::{Cache, Config, InsertError};
    ///
    /// let cache = Cache::new(Config::new(4 << 20).max_page(4096))?;
    /// cache.insert("page 1", &[1; 4096])?;
    /// cache.insert("page 1", &[2; 100])?; // takes its place
    /// assert_eq!(cache.get("page 1").as_deref(), Some(&[2; 100][..]));
    /// let refused = cache.insert("page 1", &[3; 5000]);
    /// assert!(matches!(refused, Err(InsertError::TooLarge { len: 5000, .. })));
    /// assert!(cache.get("page 1").is_none(), "never stale");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`InsertError`]: nothing is stored, and what the key had before is gone.
    #[doc(alias("put", "set"))]
    pub fn insert(&self, key: K, page: &[u8]) -> Result<(), InsertError> {
        self.insert_with_options(key, page, InsertOptions::new())
    }

    /// [`insert`](Self::insert) with a priority or a time to live of the page's own.
    ///
    /// ```
    /// use std::time::Duration;
    /// use zcache::{Cache, Config, InsertOptions};
    ///
    /// let cache = Cache::new(Config::new(4 << 20))?;
    /// let short = InsertOptions::new().time_to_live(Duration::from_millis(1));
    /// cache.insert_with_options(7, &[1; 4096], short)?;
    /// std::thread::sleep(Duration::from_millis(20));
    /// assert!(cache.get(&7).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`InsertError`]: nothing is stored, and what the key had before is gone.
    #[doc(alias = "insert_with_properties")]
    pub fn insert_with_options(
        &self,
        key: K,
        page: &[u8],
        options: InsertOptions,
    ) -> Result<(), InsertError> {
        let tag = self.tag(&key);
        self.tier.insert(tag, key, page, self.terms(options)).map(|_| ())
    }

    pub(crate) fn terms(&self, options: InsertOptions) -> Terms<'static> {
        let expiry = options
            .time_to_live
            .or(self.time_to_live)
            .map(|time| self.tier.clock().saturating_add(rounded_up(time)));
        let unpacked = options.scan && options.priority == Priority::Low;
        Terms { priority: options.priority, expiry, unpacked, condition: None }
    }

    /// The decoded page of `key`, to keep.
    #[inline]
    pub(crate) fn hot_page<Q: Equivalent<K> + ?Sized>(&self, tag: Tag, key: &Q) -> Option<Bytes> {
        self.tier.hot_page(tag, key, |page| {
            let kept = page.keep()?;
            self.tier.counters.hot_hit();
            Some(kept)
        })
    }

    /// Memory for a page of `len` bytes that the caller keeps. `None`, and a miss: the heap has
    /// none.
    pub(crate) fn blank_page(&self, len: usize) -> Option<Vec<u8>> {
        let page = blank_page(len);
        if page.is_none() {
            add(&self.tier.counters.unreadable, 1);
            self.tier.counters.miss();
        }
        page
    }

    /// The entry of `key`; a miss is counted.
    #[inline]
    fn look_up<Q: Equivalent<K> + ?Sized>(&self, tag: Tag, key: &Q) -> Option<Entry<'_, K>> {
        match self.tier.find(tag, key) {
            Some(entry) => Some(entry),
            None => {
                self.tier.missed(tag);
                None
            }
        }
    }

    /// Fills `to` with the first bytes of the entry's page: a hit, or a miss where that does not
    /// work. `None`: the entry has left the index, and the key is to be looked up again.
    #[inline]
    pub(crate) fn hit(&self, entry: &Entry<'_, K>, to: &mut [u8]) -> Option<bool> {
        let decoding = self.tier.counters.decoding();
        match self.decode(entry, to) {
            Ok(()) => {
                decoding.hit();
                let unpacked = self.tier.mark(entry);
                self.tier.warmed(entry, to, unpacked);
                self.tier.grant_wish();
                Some(true)
            }
            Err(Trouble::Left) if !model_bug!(LeftIsMissed) => None,
            Err(_) => {
                decoding.miss();
                Some(false)
            }
        }
    }

    /// The same for those who are not to be noticed.
    #[inline]
    pub(crate) fn decode(&self, entry: &Entry<'_, K>, to: &mut [u8]) -> Result<(), Trouble> {
        let tier = &self.tier;
        tier.store.read(entry, tier.now(), to).or_else(|trouble| self.troubled(entry, to, trouble))
    }

    /// Tries again with more memory, or ends an entry that cannot be read any more.
    #[cold]
    fn troubled(
        &self,
        entry: &Entry<'_, K>,
        to: &mut [u8],
        trouble: Trouble,
    ) -> Result<(), Trouble> {
        let tier = &self.tier;
        let mut last = trouble;
        if let Trouble::Full(_) = trouble {
            let in_pieces = entry.record().state().form() == Form::Pieces;
            let keeps = in_pieces.then(|| entry.id());
            let read = tier.with_room_beside(keeps, || {
                tier.store.read(entry, tier.now(), to).map_err(|trouble| {
                    last = trouble;
                    if let Trouble::Full(full) = trouble { Some(full.into()) } else { None }
                })
            });
            if read.is_ok() {
                return Ok(());
            }
        }
        match last {
            Trouble::Expired => tier.withdraw_again(entry, RemovalCause::Expired),
            Trouble::Corrupt => tier.withdraw_again(entry, RemovalCause::Corrupt),
            Trouble::Full(_) => add(&tier.counters.unreadable, 1),
            // Somebody has taken it off the index.
            Trouble::Left => {}
        }
        Err(last)
    }

    /// The page of `key`, in memory of the caller's. Where the heap has none for it, that is a
    /// miss; a [hot](crate::Config::hot) page takes a block of some 80 bytes, and the process ends
    /// without it as for any `Box`.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(4 << 20))?;
    /// cache.insert(String::from("page 1"), &[1; 4096])?;
    /// let page = cache.get("page 1").expect("it was inserted"); // by `&str`
    /// cache.remove("page 1");
    /// assert_eq!(page, [1; 4096][..]); // yours to keep
    /// assert!(cache.get("page 2").is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Bytes> {
        let tag = self.tag(key);
        if let Some(page) = self.hot_page(tag, key) {
            return Some(page);
        }
        self.start_of(tag, key, usize::MAX).map(Bytes::from)
    }

    /// The first `most` bytes of the page of `key`, as far as it has them, in memory of their own:
    /// a hit, or a miss.
    fn start_of<Q: Equivalent<K> + ?Sized>(
        &self,
        tag: Tag,
        key: &Q,
        most: usize,
    ) -> Option<Vec<u8>> {
        loop {
            let entry = self.look_up(tag, key)?;
            let mut start = self.blank_page(entry.record().state().len().min(most))?;
            let hit = self.hit(&entry, &mut start);
            // The last one to hold an entry drops its key, which may panic: what a function has
            // made to be returned would be leaked then, so that comes after. Here and wherever keys
            // are dropped.
            drop(entry);
            if let Some(hit) = hit {
                return hit.then_some(start);
            }
        }
    }

    /// Decodes the page of `key` to the start of `to` and returns its length. Allocates nothing;
    /// codecs with contexts do on their first uses, and a hit that makes a page
    /// [hot](crate::Config::hot) does.
    ///
    /// ```
    /// use zcache::{BufferTooSmall, Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(4 << 20))?;
    /// cache.insert(7, &[1; 100])?;
    /// let mut frame = [0; 4096];
    /// assert_eq!(cache.get_into(&7, &mut frame)?, Some(100));
    /// assert!(frame[..100] == [1; 100] && frame[100..] == [0; 3996]);
    /// assert_eq!(cache.get_into(&8, &mut frame)?, None);
    /// assert_eq!(cache.get_into(&7, &mut frame[..50]), Err(BufferTooSmall { needed: 100 }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The page is longer than `to`, which is as before; but if it just took the place of one
    /// [in pieces](crate::Config::max_page), a part of that may be there.
    #[inline]
    pub fn get_into<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        to: &mut [u8],
    ) -> Result<Option<usize>, BufferTooSmall> {
        let tag = self.tag(key);
        if let Some(found) = self.hot_into(tag, key, to) {
            return found.map(Some);
        }
        loop {
            let Some(entry) = self.look_up(tag, key) else { return Ok(None) };
            if let Some(hit) = self.hit_into(&entry, to) {
                return hit;
            }
        }
    }

    /// Calls `f` with the page of `key`, decoded into a buffer of the cache's that is reused; no
    /// lock is held and the entry is not pinned meanwhile, so `f` may take its time and may call
    /// the cache. A [hot](crate::Config::hot) page is lent as it is: pages that get cold while `f`
    /// runs keep their memory until it is done, and when they have a quarter of the share no page
    /// gets hot any more.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(4 << 20))?;
    /// cache.insert(7, b"a header, and much more")?;
    /// let header = cache.read(&7, |page| page.starts_with(b"a header"));
    /// assert_eq!(header, Some(true));
    /// assert_eq!(cache.read(&8, <[u8]>::len), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read<Q: Hash + Equivalent<K> + ?Sized, R>(
        &self,
        key: &Q,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        let tag = self.tag(key);
        let mut f = Some(f);
        let hot = self.tier.hot_page(tag, key, |page| {
            let (bytes, f) = (page.bytes()?, f.take()?);
            self.tier.counters.hot_hit();
            Some(f(bytes))
        });
        if hot.is_some() {
            return hot;
        }
        self.lend(tag, key, |len| 0..len, f?)
    }

    /// The bytes `range` of the page of `key`, as far as it has them. Decodes no more than the
    /// page's first `range.end` bytes where the codec can stop there.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(4 << 20))?;
    /// cache.insert(7, b"a header, and much more")?;
    /// assert_eq!(cache.get_range(&7, 2..8).as_deref(), Some(&b"header"[..]));
    /// assert_eq!(cache.get_range(&7, 19..99).as_deref(), Some(&b"more"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_range<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        range: Range<usize>,
    ) -> Option<Bytes> {
        let tag = self.tag(key);
        let cut = |start: Vec<u8>| {
            let from = range.start.min(start.len());
            let mut bytes = Bytes::from(start);
            bytes.advance(from); // a slice would take memory
            bytes
        };
        let hot = self.tier.hot_page(tag, key, |page| {
            let start = page.start(range.end.min(page.len()))?;
            self.tier.counters.hot_hit();
            Some(cut(start))
        });
        if hot.is_some() {
            return hot;
        }
        self.start_of(tag, key, range.end).map(cut)
    }

    /// The page of `key`, without an effect on evictions or on the hits and misses that are
    /// counted.
    pub fn peek<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Bytes> {
        loop {
            let entry = self.tier.find(self.tag(key), key)?;
            let mut page = blank_page(entry.record().state().len())?;
            let read = self.decode(&entry, &mut page);
            drop(entry);
            match read {
                Err(Trouble::Left) => {}
                read => return read.ok().map(|()| page.into()),
            }
        }
    }

    /// Whether `key` has a page at this instant; no effect on evictions or counts.
    #[doc(alias = "contains")]
    pub fn contains_key<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        let entry = self.tier.find(self.tag(key), key);
        entry.is_some_and(|entry| self.decode(&entry, &mut []).is_ok())
    }

    /// Ends the entry of `key` and says whether there was one. Loads and leases of the key that are
    /// under way store nothing, whether there was one or not.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(4 << 20))?;
    /// cache.insert(7, &[1; 4096])?;
    /// // The page was written to its home: what is here is old.
    /// assert!(cache.remove(&7));
    /// assert!(!cache.remove(&7) && cache.get(&7).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("invalidate", "delete", "erase"))]
    pub fn remove<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        let tag = self.tag(key);
        self.tier.end(tag, key, RemovalCause::Removed)
    }

    /// [`remove`](Self::remove)s the entry of `key` and returns its page. Not counted as a hit or a
    /// miss.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(4 << 20))?;
    /// cache.insert(7, &[1; 4096])?;
    /// assert_eq!(cache.take(&7).as_deref(), Some(&[1; 4096][..]));
    /// assert_eq!(cache.take(&7), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "pop")]
    pub fn take<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Bytes> {
        let tag = self.tag(key);
        let gone = self.tier.unlink(tag, key, RemovalCause::Removed)?;
        let mut page = blank_page(gone.entry().record().state().len());
        let read = page.as_mut().map(|page| self.decode(gone.entry(), page));
        gone.bury(match read {
            Some(Err(Trouble::Expired)) => RemovalCause::Expired,
            Some(Err(Trouble::Corrupt)) => RemovalCause::Corrupt,
            _ => RemovalCause::Removed,
        });
        page.filter(|_| read == Some(Ok(()))).map(Bytes::from)
    }
}

/// A time to live in whole milliseconds: a fraction counts as one, or a short time would be none.
fn rounded_up(time: Duration) -> Millis {
    Millis::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(Millis::MAX)
}

impl<K, S> fmt::Debug for Cache<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("entries", &self.tier.entries())
            .field("capacity", &self.tier.capacity())
            .field("codec", &self.codec_name())
            .finish_non_exhaustive()
    }
}

/// A panic of user code leaves the cache as it was, but for the entry concerned: so it may be used
/// on both sides of a [`catch_unwind`](std::panic::catch_unwind).
impl<K: UnwindSafe + RefUnwindSafe, S: UnwindSafe> UnwindSafe for Cache<K, S> {}

/// As for [`UnwindSafe`].
impl<K: UnwindSafe + RefUnwindSafe, S: RefUnwindSafe> RefUnwindSafe for Cache<K, S> {}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;
    use crate::config::{Config, HotShare};

    #[test]
    fn a_cache_is_shared_and_sent() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<Cache<u64>>();
        shared::<Cache<String>>();
    }

    #[test]
    fn fractions_of_a_millisecond_round_up() {
        let of = |nanoseconds| rounded_up(Duration::from_nanos(nanoseconds));
        assert_eq!([0, 1, 999_999, 1_000_000, 1_000_001].map(of), [0, 1, 1, 1, 2]);
        assert_eq!(rounded_up(Duration::MAX), Millis::MAX);
    }

    /// An entry was given a lower id in the place of one with an equal byte of its tag, which had
    /// the id before: its frame kept the old id, and stayed when the page was replaced.
    #[test]
    fn an_entry_is_not_moved_in_the_name_of_another_one() {
        let config = Config::new(8 << 20).max_page(4096).shards(2).hot(HotShare::Fraction(2));
        let cache: Cache<u64> = Cache::new(config).unwrap();
        let page = |seed: usize| (0..4096).map(|at| ((at / 9) ^ seed) as u8).collect::<Vec<_>>();
        cache.insert(0, &page(0)).unwrap();
        cache.insert(1, &page(1)).unwrap();
        (0..9).for_each(|_| assert_eq!(cache.get(&1).unwrap(), page(1)));
        assert!(cache.stats().frames == 1 && cache.remove(&0), "there is a lower id");
        let tag = cache.tag(&1_u64);
        let id = cache.tier.find(tag, &1).unwrap().id();
        // The index tells tags by some bits: some of these stand where the entry's does.
        let others = (1..1 << 16).map(|bits| tag ^ bits);
        assert!(!others.into_iter().any(|other| cache.tier.move_if_tagged(other, id)));
        cache.check();
        assert!(cache.tier.move_if_tagged(tag, id));
        cache.check();
        cache.insert(1, &page(2)).unwrap();
        assert_eq!(cache.get(&1).unwrap(), page(2));
    }
}
