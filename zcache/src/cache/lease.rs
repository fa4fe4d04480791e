//! What a caller gets for a key that was missed: the lease to load it, or something to wait for.

use std::borrow::ToOwned;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use equivalent::Equivalent;

use super::{Cache, InsertOptions};
use crate::error::{BufferTooSmall, InsertError, LoadError};
use crate::index::{Arrival, Boarding, Pilot, Tag, Waiter, failed};
use crate::store::Entry;
use crate::sync::add;
use crate::tier::Tier;

/// The answer of [`Cache::get_or_lease`](Cache::get_or_lease), and of
/// [`get_into_or_lease`](Cache::get_into_or_lease), whose page is its length.
#[derive(Debug)]
#[must_use = "a lease is there to be inserted with"]
pub enum Leased<K, P = Bytes> {
    /// A hit.
    Page(P),
    /// A miss: this caller loads the page, and nobody else does.
    Lease(Lease<K>),
    /// A miss: another caller has the lease.
    Wait(Waiting<K>),
}

/// The right to load a key that was missed, and to store its page as long as nobody else has
/// changed the key: from [`Cache::get_or_lease`](Cache::get_or_lease), for
/// [`Cache::insert_if_valid`](Cache::insert_if_valid). There is one at a time for each key.
///
/// Dropped, it is handed over to the caller that has waited longest for it. It is not bound to a
/// thread, and may outlive its cache. As long as it is kept, or where it was forgotten by
/// `mem::forget`, all who ask for the key wait: its own thread, too, if that calls
/// [`get_or_insert_with`](Cache::get_or_insert_with) or [`load_into`](Cache::load_into).
#[must_use = "a lease is there to be inserted with"]
pub struct Lease<K> {
    pub(super) pilot: Pilot<K>,
    /// The number of the cache.
    pub(super) cache: u64,
}

/// A caller's place among those who wait for a page that another caller loads: a `Future`, or
/// [`wait`](Self::wait) for it. No runtime is needed.
///
/// Dropped, it leaves nothing behind. Drop it rather than keep it unused: the lease may be handed
/// over to it at any time.
#[must_use = "drop it to give up waiting"]
pub struct Waiting<K> {
    place: Place<K>,
    cache: u64,
}

enum Place<K> {
    Aboard(Waiter<K>),
    /// This caller is inside the loader that it would wait for.
    Recursive,
    /// There was an answer.
    Nowhere,
}

/// What a caller that has waited gets.
#[derive(Debug)]
#[must_use = "a lease is there to be inserted with"]
pub enum Waited<K> {
    /// The page.
    Page(Bytes),
    /// Whoever had the lease gave up: it is this caller's now.
    Lease(Lease<K>),
    /// There is no page. All who waited get the same error.
    Failed(LoadError),
}

impl<K: Hash + Eq + Send + Sync, S: BuildHasher> Cache<K, S> {
    /// The page of `key`, or the one lease to load it, or something to wait for where another
    /// caller has that. A miss of `n` callers so costs one load, in threads and in tasks. The key
    /// is cloned for the lease only.
    ///
    /// ```
    /// use zcache::{Bytes, Cache, Leased, LoadError, Waited};
    ///
    /// # fn read(_: u64) -> Vec<u8> { vec![7; 512] }
    /// fn page(cache: &Cache<u64>, number: u64) -> Result<Bytes, LoadError> {
    ///     let lease = match cache.get_or_lease(&number) {
    ///         Leased::Page(page) => return Ok(page),
    ///         Leased::Lease(lease) => lease,
    ///         // Or `.await` it.
    ///         Leased::Wait(waiting) => match waiting.wait() {
    ///             Waited::Page(page) => return Ok(page),
    ///             Waited::Lease(lease) => lease, // the other caller gave up
    ///             Waited::Failed(error) => return Err(error),
    ///         },
    ///     };
    ///     let page = read(number);
    ///     // Another caller may have written the page meanwhile, and called `remove` or `insert`.
    ///     // Then this older one is not stored. Callers that wait get it: they came before that.
    ///     let _ = cache.insert_if_valid(lease, &page);
    ///     Ok(page.into())
    /// }
    /// # let cache = Cache::new(zcache::Config::new(8 << 20))?;
    /// # assert_eq!(page(&cache, 42)?, [7; 512][..]);
    /// # assert_eq!(page(&cache, 42)?, [7; 512][..]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A caller inside a loader of `key` (see [`get_or_insert_with`](Self::get_or_insert_with))
    /// gets something to wait for that says [`LoadError::Recursive`] at once.
    #[doc(alias = "get_value_or_guard")]
    pub fn get_or_lease<Q>(&self, key: &Q) -> Leased<K>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
    {
        let tag = self.tag(key);
        match self.found_page(tag, key) {
            Some(page) => Leased::Page(page),
            None => self.leased(tag, key, |pilot| {
                let read = |entry: &Entry<'_, K>| self.read_new(entry);
                let page = pilot.at_work(|| self.found(tag, key, Tier::find_aboard, read))?;
                pilot.lands(Ok(page.clone()));
                Some(page)
            }),
        }
    }

    /// As [`get_or_lease`](Self::get_or_lease). A hit is decoded to the start of `to`, and is its
    /// length; so nothing is allocated for it.
    ///
    /// # Errors
    /// The page is longer than `to`: as for [`get_into`](Self::get_into).
    pub fn get_into_or_lease<Q>(
        &self,
        key: &Q,
        to: &mut [u8],
    ) -> Result<Leased<K, usize>, BufferTooSmall>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
    {
        let tag = self.tag(key);
        match self.found_into(tag, key, to) {
            Some(found) => found.map(Leased::Page),
            None => {
                let mut failed = None;
                let leased = self.leased(tag, key, |pilot| {
                    let read = |entry: &Entry<'_, K>| self.read_into(entry, to);
                    let found = pilot.at_work(|| self.found(tag, key, Tier::find_aboard, read))?;
                    match found {
                        Ok(len) => pilot.brings(&to[..len]),
                        Err(error) => {
                            failed = Some(error);
                            // The page is there: nobody who waits needs to load it.
                            let read = |entry: &Entry<'_, K>| self.read_new(entry);
                            let find = Tier::find_aboard;
                            pilot.brings_what(|| self.found(tag, key, find, read));
                        }
                    }
                    Some(found.unwrap_or_default())
                });
                failed.map_or(Ok(leased), Err)
            }
        }
    }

    /// What a caller gets who has missed `key`. `look` is asked once more when nobody else loads
    /// it.
    fn leased<Q, P>(
        &self,
        tag: Tag,
        key: &Q,
        look: impl FnOnce(&mut Pilot<K>) -> Option<P>,
    ) -> Leased<K, P>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
    {
        let cache = self.tier.number;
        let leased = match self.tier.flights.board(tag, key) {
            Boarding::Load(mut pilot) => {
                if let Some(page) = look(&mut pilot) {
                    drop(pilot);
                    return Leased::Page(page);
                }
                Leased::Lease(Lease { pilot, cache })
            }
            Boarding::Wait(waiter) => Leased::Wait(Waiting::aboard(waiter, cache)),
            Boarding::Recursive => Leased::Wait(Waiting::recursive(cache)),
        };
        self.tier.missed(tag);
        leased
    }

    /// Stores `page` under the lease's key, if the key was not changed by `insert`, `remove`,
    /// `take`, `clear` or `retain` since the lease was given. Those who wait for the lease get the
    /// page in any case: they came before such a change. (A lease that is handed over counts from
    /// its start.)
    ///
    /// # Errors
    /// [`InsertError::Outdated`]: it was, or the lease is another cache's; what the key has now
    /// stays. Otherwise as for [`insert`](Self::insert), but what the key has stays then too.
    pub fn insert_if_valid(&self, lease: Lease<K>, page: &[u8]) -> Result<(), InsertError>
    where
        K: Clone,
    {
        self.insert_if_valid_with_options(lease, page, InsertOptions::new())
    }

    /// [`insert_if_valid`](Self::insert_if_valid) with a priority or a time to live of the page's
    /// own.
    ///
    /// # Errors
    /// As for [`insert_if_valid`](Self::insert_if_valid).
    pub fn insert_if_valid_with_options(
        &self,
        lease: Lease<K>,
        page: &[u8],
        options: InsertOptions,
    ) -> Result<(), InsertError>
    where
        K: Clone,
    {
        let Lease { mut pilot, cache } = lease;
        if cache != self.tier.number {
            add(&self.tier.counters.outdated, 1);
            return Err(InsertError::Outdated);
        }
        let (len, max_page) = (page.len(), self.max_page());
        if len > max_page {
            pilot.lands(Err(LoadError::TooLarge { len, max_page }));
        }
        self.store(pilot, page, options)
    }
}

impl<K, P> Leased<K, P> {
    /// The page, if it was a hit.
    pub fn page(self) -> Option<P> {
        match self {
            Self::Page(page) => Some(page),
            _ => None,
        }
    }

    /// The lease, if this caller has it.
    pub fn lease(self) -> Option<Lease<K>> {
        match self {
            Self::Lease(lease) => Some(lease),
            _ => None,
        }
    }

    /// The place among those who wait, if another caller has the lease.
    pub fn waiting(self) -> Option<Waiting<K>> {
        match self {
            Self::Wait(waiting) => Some(waiting),
            _ => None,
        }
    }
}

impl<K> Lease<K> {
    /// The key that was missed.
    pub fn key(&self) -> &K {
        self.pilot.key()
    }

    /// Tells all who wait that there is no page, and why.
    pub fn fail<E: Into<Box<dyn Error + Send + Sync>>>(mut self, error: E) {
        self.pilot.lands(Err(failed(error)));
    }
}

impl<K> Waiting<K> {
    pub(super) fn aboard(waiter: Waiter<K>, cache: u64) -> Self {
        Self { place: Place::Aboard(waiter), cache }
    }

    pub(super) fn recursive(cache: u64) -> Self {
        Self { place: Place::Recursive, cache }
    }

    /// Waits in this thread until there is an answer: not for a lease that this thread itself has,
    /// which would be for ever.
    pub fn wait(mut self) -> Waited<K> {
        self.wait_until(None).expect("there is no time to give up at")
    }

    /// Waits in this thread for `time` at the most.
    ///
    /// # Errors
    /// There is no answer yet: the place, to go on waiting at.
    pub fn wait_timeout(mut self, time: Duration) -> Result<Waited<K>, Self> {
        // As good as for ever, where the clock does not go as far.
        let until = Instant::now().checked_add(time);
        self.wait_until(until).ok_or(self)
    }

    fn wait_until(&mut self, until: Option<Instant>) -> Option<Waited<K>> {
        let arrival = match &mut self.place {
            Place::Aboard(waiter) => waiter.wait(until)?,
            Place::Recursive => Arrival::Landed(Err(LoadError::Recursive)),
            Place::Nowhere => unreachable!("it takes `self`"),
        };
        Some(self.arrived(arrival))
    }

    fn arrived(&mut self, arrival: Arrival<K>) -> Waited<K> {
        // The key may be dropped here, while what is returned is still in a variable.
        self.place = Place::Nowhere;
        match arrival {
            Arrival::Landed(Ok(page)) => Waited::Page(page),
            Arrival::Landed(Err(error)) => Waited::Failed(error),
            Arrival::Pilot(pilot) => Waited::Lease(Lease { pilot, cache: self.cache }),
        }
    }
}

impl<K> Future for Waiting<K> {
    type Output = Waited<K>;

    /// # Panics
    /// When it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Waited<K>> {
        let polled = match &mut self.place {
            Place::Aboard(waiter) => Pin::new(waiter).poll(context),
            Place::Recursive => Poll::Ready(Arrival::Landed(Err(LoadError::Recursive))),
            Place::Nowhere => panic!("polled after it was ready"),
        };
        polled.map(|arrival| self.arrived(arrival))
    }
}

impl<K: fmt::Debug> fmt::Debug for Lease<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", self.key()).finish_non_exhaustive()
    }
}

impl<K> fmt::Debug for Waiting<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}
