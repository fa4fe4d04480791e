//! Filling the cache on a miss without storing pages that have become stale meanwhile. All callers
//! that miss a key at once share one load, by a loader or by a future. Leases are in
//! [`super::lease`].

use std::borrow::ToOwned;
use std::error::Error;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use equivalent::Equivalent;

use super::{Cache, InsertOptions};
use crate::error::{BufferTooSmall, InsertError, LoadError};
use crate::index::{Arrival, Boarding, Landing, Pilot, Tag, failed};
use crate::stats::Counters;
use crate::store::{Entry, Trouble, blank_page};
use crate::sync::add;
use crate::tier::{Condition, Tier};

/// Counts a load that has failed, or was given up, unless it is told that it has not.
struct Attempt<'c>(&'c Counters, bool);

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.1 {
            add(&self.0.load_failures, 1);
        }
    }
}

/// A load by a future, which is dropped as inside it, also where the load is given up: what its
/// drop asks for is told of a recursion.
struct Loading<'l, K, F> {
    /// `None`: it is done.
    pilot: Option<Pilot<K>>,
    load: Pin<&'l mut Option<F>>,
}

impl<K, F: Future> Future for Loading<'_, K, F> {
    type Output = (Pilot<K>, F::Output);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { pilot, load } = &mut *self;
        let run = || {
            let going = load.as_mut().as_pin_mut().expect("it is polled until it is done");
            let loaded = ready!(going.poll(context));
            load.set(None);
            Poll::Ready(loaded)
        };
        let loaded = ready!(pilot.as_mut().expect("as above").run(run));
        Poll::Ready((pilot.take().expect("as above"), loaded))
    }
}

impl<K, F> Drop for Loading<'_, K, F> {
    fn drop(&mut self) {
        if let Some(pilot) = &self.pilot {
            pilot.at_work(|| self.load.set(None));
        }
    }
}

/// How an entry is looked up: under the lock of its shard or without it.
type Find<'t, K, Q> = fn(&'t Tier<K>, Tag, &Q) -> Option<Entry<'t, K>>;

/// What becomes of a page that is there.
type Hit<P> = Result<P, BufferTooSmall>;

impl<K: Hash + Eq + Send + Sync, S: BuildHasher> Cache<K, S> {
    /// Stores a page that was loaded, and gives it to those who wait unless they get something
    /// else; also where a hook panics.
    pub(super) fn store(
        &self,
        pilot: Pilot<K>,
        page: &[u8],
        options: InsertOptions,
    ) -> Result<(), InsertError>
    where
        K: Clone,
    {
        let bringing = pilot.bringing(page);
        let pilot = bringing.pilot();
        let mut terms = self.terms(options);
        terms.condition = Some(Condition::Untold(pilot.told()));
        let insert = || self.tier.insert(pilot.tag(), pilot.key().clone(), page, terms);
        if pilot.at_work(insert)? {
            return Ok(());
        }
        add(&self.tier.counters.outdated, 1);
        Err(InsertError::Outdated)
    }

    /// The page of `key`, if it is there: a hit. No miss is counted.
    pub(super) fn found_page<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        tag: Tag,
        key: &Q,
    ) -> Option<Bytes> {
        let hot = self.hot_page(tag, key);
        hot.or_else(|| self.found(tag, key, Tier::find, |entry| self.read_new(entry)))
    }

    /// The page of `key` at the start of `to`, and its length, if it is there. No miss is counted.
    pub(super) fn found_into<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        tag: Tag,
        key: &Q,
        to: &mut [u8],
    ) -> Option<Hit<usize>> {
        let hot = self.hot_into(tag, key, to);
        hot.or_else(|| self.found(tag, key, Tier::find, |entry| self.read_into(entry, to)))
    }

    /// What `read` makes of the entry of `key`. An entry that there is no memory to read with
    /// stays: what is loaded takes its place.
    pub(super) fn found<'t, Q, P>(
        &'t self,
        tag: Tag,
        key: &Q,
        find: Find<'t, K, Q>,
        mut read: impl FnMut(&Entry<'t, K>) -> Result<P, Trouble>,
    ) -> Option<P>
    where
        Q: Equivalent<K> + ?Sized,
    {
        loop {
            let entry = find(&self.tier, tag, key)?;
            let made = read(&entry);
            drop(entry);
            match made {
                Ok(page) => return Some(page),
                Err(Trouble::Full(_)) => return None,
                // It is off the index already.
                Err(Trouble::Expired | Trouble::Corrupt | Trouble::Left) => {}
            }
        }
    }

    /// The entry's page in memory of its own.
    pub(super) fn read_new(&self, entry: &Entry<'_, K>) -> Result<Bytes, Trouble> {
        let Some(mut page) = blank_page(entry.record().state().len()) else {
            add(&self.tier.counters.unreadable, 1);
            return Err(Trouble::no_memory());
        };
        self.read_hit(entry, &mut page)?;
        Ok(page.into())
    }

    /// The entry's page at the start of `to`.
    pub(super) fn read_into(
        &self,
        entry: &Entry<'_, K>,
        to: &mut [u8],
    ) -> Result<Hit<usize>, Trouble> {
        let needed = entry.record().state().len();
        let Some(to) = to.get_mut(..needed) else {
            // Nothing is decoded, but what has expired is a miss and no error.
            self.decode(entry, &mut [])?;
            return Ok(Err(BufferTooSmall { needed }));
        };
        self.read_hit(entry, to)?;
        Ok(Ok(needed))
    }

    fn read_hit(&self, entry: &Entry<'_, K>, to: &mut [u8]) -> Result<(), Trouble> {
        let decoding = self.tier.counters.decoding();
        self.decode(entry, to)?;
        decoding.hit();
        let unpacked = self.tier.mark(entry);
        self.tier.warmed(entry, to, unpacked);
        Ok(())
    }

    /// The page of `key`, loaded if need be. Of all callers that miss it at once one runs its
    /// `load`, which fills the buffer it is given, and the others wait for that and share its page
    /// or its error. If that caller is a task or has a lease, and gives up, one of those who wait
    /// runs its own `load`. The key is cloned on a miss only, which is counted once.
    ///
    /// The page is stored, unless the key was changed by `insert`, `remove`, `take`, `clear` or
    /// `retain` meanwhile, or there is no room: it is returned all the same. A caller that comes
    /// after such a change does not get a page whose load started before.
    ///
    /// `load` gets an empty buffer, and what it leaves there is the page, of no bytes if need be.
    /// It runs under no lock and may use the cache, for other keys; so may the key's `Eq`. If it
    /// waits, in two threads, for each other's keys, they wait for ever. In a task use
    /// [`get_or_insert_async`](Self::get_or_insert_async): this call would keep its thread.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache: Cache<u64> = Cache::new(Config::new(4 << 20))?;
    /// for _ in 0..2 {
    ///     let page = cache.get_or_insert_with(&7, |page| {
    ///         page.extend([1; 4096]); // read from disk, the first time
    ///         Ok::<(), std::io::Error>(())
    ///     })?;
    ///     assert_eq!(page, [1; 4096][..]);
    /// }
    /// assert_eq!(cache.stats().loads, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`LoadError`]; nothing is stored then, and the next caller tries anew. What `load`
    /// returned is shared by all who waited:
    /// ```
    /// use std::io::{Error, ErrorKind};
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::<u64>::new(Config::new(1 << 20))?;
    /// let load = |_: &mut Vec<u8>| Err(Error::from(ErrorKind::NotFound));
    /// let failed = cache.get_or_insert_with(&7, load).unwrap_err();
    /// let error = failed.downcast_ref::<Error>().expect("what the loader returned");
    /// assert_eq!(error.kind(), ErrorKind::NotFound);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    /// [`LoadError::Recursive`] is for whoever asks for `key` inside `load`, in its thread: also
    /// for another task of a thread pool which runs there because `load` waits for the pool, and
    /// for a hook that this call runs when it stores the page. That one reads the page itself, or
    /// asks again later.
    ///
    /// # Panics
    /// When `load` does, in its caller's thread. Those who wait get [`LoadError::Panicked`].
    #[doc(alias("get_with", "try_get_with", "fetch"))]
    pub fn get_or_insert_with<Q, E>(
        &self,
        key: &Q,
        load: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Bytes, LoadError>
    where
        K: Clone,
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.get_or_insert_with_options(key, InsertOptions::new(), load)
    }

    /// [`get_or_insert_with`](Self::get_or_insert_with), storing the page with a priority or a time
    /// to live of its own: [`Priority::Low`](crate::policy::Priority::Low) for what a scan reads,
    /// say.
    ///
    /// # Errors
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Panics
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    pub fn get_or_insert_with_options<Q, E>(
        &self,
        key: &Q,
        options: InsertOptions,
        load: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Bytes, LoadError>
    where
        K: Clone,
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        // Wherever this returns, keys and the loader are dropped first: a panic in that would leak
        // what is about to be returned.
        if let Some(page) = self.found_page(self.tag(key), key) {
            drop(load);
            return Ok(page);
        }
        self.load_missed(key, options, load)
    }

    /// The page of a key that was missed.
    pub(crate) fn load_missed<Q, E>(
        &self,
        key: &Q,
        options: InsertOptions,
        load: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Bytes, LoadError>
    where
        K: Clone,
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let tag = self.tag(key);
        let mut pilot = match self.to_load_here(tag, key) {
            Ok(pilot) => pilot,
            Err(landing) => {
                drop(load);
                return landing;
            }
        };
        let mut attempt = Attempt(&self.tier.counters, false);
        let mut page = Vec::new();
        let loaded = pilot.run(|| load(&mut page)).map(|()| Bytes::from(page));
        self.loaded(pilot, loaded, options, &mut attempt)
    }

    /// As [`get_or_insert_with`](Self::get_or_insert_with), with a loader that fills the caller's
    /// own buffer: a hit or what is loaded is at the start of `to`, and its length is returned.
    /// `load` gets all of `to`, in which there may be anything, and returns the length of the page.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache: Cache<u64> = Cache::new(Config::new(4 << 20))?;
    /// let mut frame = [0; 4096];
    /// let len = cache.load_into(&7, &mut frame, |frame| {
    ///     frame.fill(1); // read from disk, at once to where it belongs
    ///     Ok::<usize, std::io::Error>(frame.len())
    /// })?;
    /// assert_eq!((len, frame), (4096, [1; 4096]));
    /// assert!(cache.contains_key(&7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`get_or_insert_with`](Self::get_or_insert_with), and [`LoadError::BufferTooSmall`]
    /// for a page that is there, that another caller has loaded, or that is longer than `to` by
    /// what `load` says. Then one of those who wait loads it.
    ///
    /// # Panics
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    pub fn load_into<Q, E>(
        &self,
        key: &Q,
        to: &mut [u8],
        load: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, LoadError>
    where
        K: Clone,
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let tag = self.tag(key);
        if let Some(found) = self.found_into(tag, key, to) {
            return found.map_err(LoadError::BufferTooSmall);
        }
        let copy = |page: Bytes, to: &mut [u8]| {
            let needed = page.len();
            let to = to.get_mut(..needed).ok_or(BufferTooSmall { needed });
            to.map(|to| to.copy_from_slice(&page)).map_err(LoadError::BufferTooSmall)?;
            Ok(needed)
        };
        let mut pilot = match self.to_load_here(tag, key) {
            Ok(pilot) => pilot,
            Err(landing) => return copy(landing?, to),
        };
        let mut attempt = Attempt(&self.tier.counters, false);
        let (loaded, max_page) = (pilot.run(|| load(to)), self.max_page());
        let error = match loaded {
            Ok(len) if len > max_page => LoadError::TooLarge { len, max_page },
            // Others may have room for it: one of them loads it.
            Ok(needed) if needed > to.len() => {
                return Err(LoadError::BufferTooSmall(BufferTooSmall { needed }));
            }
            Ok(len) => {
                attempt.1 = true;
                // Not stored is no error here: the page is there.
                let _ = self.store(pilot, &to[..len], InsertOptions::new());
                return Ok(len);
            }
            Err(error) => failed(error),
        };
        pilot.lands(Err(error.clone()));
        drop(pilot);
        Err(error)
    }

    /// As [`get_or_insert_with`](Self::get_or_insert_with) in a task: `load` is a future of the
    /// page, which is polled by one of the callers that miss `key` at once, in its own task. The
    /// others wait without a thread, on whatever executor they run. If a caller is dropped while it
    /// loads, one of those who wait polls its own `load`. A future that works before it is polled,
    /// such as a handle of a task, belongs into an `async` block, or it works for hits, too.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use zcache::{Cache, Config};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache: Arc<Cache<u64>> = Arc::new(Cache::new(Config::new(8 << 20))?);
    /// # async fn read(page: u64) -> std::io::Result<Vec<u8>> { Ok(vec![page as u8; 4096]) }
    /// let tasks: Vec<_> = (0..100)
    ///     .map(|_| {
    ///         let cache = Arc::clone(&cache);
    ///         tokio::spawn(async move { cache.get_or_insert_async(&7, read(7)).await })
    ///     })
    ///     .collect();
    /// for task in tasks {
    ///     assert_eq!(task.await??, [7; 4096][..]);
    /// }
    /// assert_eq!(cache.stats().loads, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`get_or_insert_with`](Self::get_or_insert_with). `load` that awaits `key` itself is
    /// [`LoadError::Recursive`], as is whatever its poll runs that asks for `key`. A task of its
    /// own that it waits for, and which asks for `key`, is not noticed: they wait for each other
    /// for ever.
    ///
    /// # Panics
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    #[doc(alias("get_with", "try_get_with", "get_or_fetch", "fetch"))]
    pub async fn get_or_insert_async<Q, P, E>(
        &self,
        key: &Q,
        load: impl Future<Output = Result<P, E>>,
    ) -> Result<Bytes, LoadError>
    where
        K: Clone,
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        P: Into<Bytes>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.get_or_insert_async_with_options(key, InsertOptions::new(), load).await
    }

    /// [`get_or_insert_async`](Self::get_or_insert_async), storing the page with a priority or a
    /// time to live of its own.
    ///
    /// # Errors
    /// As for [`get_or_insert_async`](Self::get_or_insert_async).
    ///
    /// # Panics
    /// As for [`get_or_insert_async`](Self::get_or_insert_async).
    pub async fn get_or_insert_async_with_options<Q, P, E>(
        &self,
        key: &Q,
        options: InsertOptions,
        load: impl Future<Output = Result<P, E>>,
    ) -> Result<Bytes, LoadError>
    where
        K: Clone,
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        P: Into<Bytes>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let tag = self.tag(key);
        if let Some(page) = self.found_page(tag, key) {
            return Ok(page);
        }
        let to_load = match self.tier.flights.board(tag, key) {
            Boarding::Load(pilot) => self.to_load(pilot, key, false),
            Boarding::Recursive => Err(self.recursive(tag)),
            Boarding::Wait(waiter) => {
                self.tier.missed(tag);
                self.arrived(waiter.await, key)
            }
        };
        let pilot = match to_load {
            Ok(pilot) => Some(pilot),
            Err(landing) => return landing,
        };
        let mut attempt = Attempt(&self.tier.counters, false);
        let (pilot, loaded) = Loading { pilot, load: pin!(Some(load)) }.await;
        self.loaded(pilot, loaded.map(Into::into), options, &mut attempt)
    }

    /// The pilot of this thread's load of a key that was missed. If another caller loads it this
    /// waits.
    ///
    /// # Errors
    /// Nothing is to be loaded: what there is instead.
    fn to_load_here<Q>(&self, tag: Tag, key: &Q) -> Result<Pilot<K>, Landing>
    where
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
    {
        match self.tier.flights.board(tag, key) {
            Boarding::Load(pilot) => self.to_load(pilot, key, false),
            Boarding::Recursive => Err(self.recursive(tag)),
            Boarding::Wait(waiter) => {
                self.tier.missed(tag);
                self.arrived(waiter.wait_on(), key)
            }
        }
    }

    fn recursive(&self, tag: Tag) -> Landing {
        self.tier.missed(tag);
        Err(LoadError::Recursive)
    }

    /// What becomes of a caller that has waited: it is to load the key itself, or there is an
    /// answer.
    fn arrived<Q>(&self, arrival: Arrival<K>, key: &Q) -> Result<Pilot<K>, Landing>
    where
        Q: Equivalent<K> + ?Sized,
    {
        match arrival {
            Arrival::Pilot(pilot) => self.to_load(pilot, key, true),
            Arrival::Landed(landing) => Err(landing),
        }
    }

    /// Whoever is to load a key looks it up once more: it may be there since it was missed. Not by
    /// a frame, which is looked up without the lock that orders this and a change of the key.
    ///
    /// # Errors
    /// The page, which those who wait have got by then.
    fn to_load<Q>(&self, mut pilot: Pilot<K>, key: &Q, waited: bool) -> Result<Pilot<K>, Landing>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let tag = pilot.tag();
        let look = || self.found(tag, key, Tier::find_aboard, |entry| self.read_new(entry));
        match pilot.at_work(look) {
            Some(page) => {
                pilot.lands(Ok(page.clone()));
                drop(pilot);
                Err(Ok(page))
            }
            None => {
                if !waited {
                    self.tier.missed(tag);
                }
                add(&self.tier.counters.loads, 1);
                Ok(pilot)
            }
        }
    }

    /// What was loaded, for the loader and all who wait; stored, if it may be.
    fn loaded<E: Into<Box<dyn Error + Send + Sync>>>(
        &self,
        mut pilot: Pilot<K>,
        loaded: Result<Bytes, E>,
        options: InsertOptions,
        attempt: &mut Attempt<'_>,
    ) -> Result<Bytes, LoadError>
    where
        K: Clone,
    {
        let max_page = self.max_page();
        let loaded = loaded.map_err(failed).and_then(|page| match page.len() {
            len if len > max_page => Err(LoadError::TooLarge { len, max_page }),
            _ => Ok(page),
        });
        attempt.1 = loaded.is_ok();
        // Those who wait get it even if a hook that the insert calls panics.
        pilot.lands(loaded.clone());
        match &loaded {
            // Not stored is no error here: the page is there.
            Ok(page) => _ = self.store(pilot, page, options),
            Err(_) => drop(pilot),
        }
        loaded
    }
}
