//! Scopes: the pages of a file, a table or a tenant, which end together and can have a limit.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Cache;
use super::build::with_aside;
use crate::error::ConfigError;
use crate::scope::Scopes;
use crate::sync::{Charge, model_bug};
use crate::tier::rethrow;

/// The pages of one scope of a cache: made by [`Cache::scope`], at no cost.
pub struct Scope<'c, K, S = RandomState> {
    cache: &'c Cache<K, S>,
    id: u32,
}

/// What a scope has at one instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ScopeStats {
    /// Entries.
    pub entries: usize,
    /// What the entries take: stored bytes, their records and tables. What the pool loses between
    /// them, a few percent, and decoded pages are not counted.
    pub bytes: u64,
    /// The limit of these bytes, if there is one.
    pub limit: Option<u64>,
    /// Entries that came since the scope was empty, was without a limit and had to give its slot to
    /// another, or since it was cleared; those that were compressed again among them.
    pub inserts: u64,
    /// Entries that went for the limit, since then.
    pub evicted: u64,
}

impl<K: Hash + Eq + Send + Sync, S: BuildHasher> Cache<K, S> {
    /// Has each entry belong to the scope that `of` gives for its key, such as a file, a table or a
    /// tenant; see [`scope`](Self::scope). `of` gives the same for equal keys at any time. It is
    /// called once an insert, before anything has changed, and never for a hit.
    ///
    /// An entry takes 2 bytes for it, and the cache 1/800 of its capacity for a table of scopes:
    /// one for each 64 KiB, 16 at least and 65,535 at most. A scope is in it while it has entries
    /// or a limit, and for some time after it was cleared. Where there are more scopes, some have
    /// no place there. To clear one of these takes as long as [`retain`](Self::retain), it has no
    /// figures, and [it cannot get a limit](Scope::set_limit). A limit that was set is held, but
    /// for one case: a scope that is cleared while no place is free waits for one, and until it
    /// gets one its new pages count for no scope.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// // The page of a table, by the number of the table and its own.
    /// let cache = Cache::new(Config::new(8 << 20))?.with_scopes(|key: &(u32, u32)| key.0)?;
    /// for page in 0..100 {
    ///     cache.insert((1, page), &[1; 4096])?;
    ///     cache.insert((2, page), &[2; 4096])?;
    /// }
    /// cache.scope(2).set_limit(Some(1 << 20))?; // a tenant that gets no more than a MiB
    /// assert_eq!(cache.scope(2).len(), 100);
    /// cache.scope(1).clear(); // the table is dropped
    /// assert!(cache.get(&(1, 7)).is_none() && cache.get(&(2, 7)).is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`]: the capacity has no room for the table.
    ///
    /// # Panics
    /// The cache has entries, or scopes already.
    pub fn with_scopes(
        mut self,
        of: impl Fn(&K) -> u32 + Send + Sync + 'static,
    ) -> Result<Self, ConfigError> {
        let tier = &mut self.tier;
        assert!(tier.scopes.is_none(), "a cache has one kind of scopes");
        assert_eq!(tier.counters.entries(), 0, "entries that are there have no scopes");
        let (capacity, pool) = (tier.capacity(), &tier.store.pool);
        let bytes = Scopes::<K>::fixed_bytes(capacity);
        let least = |bytes| self.least + with_aside(bytes + Scopes::<K>::growth_bytes());
        if least(bytes) > capacity || !pool.charge(bytes) {
            // In a larger cache there are more scopes.
            let least = least(Scopes::<K>::fixed_bytes(least(bytes)));
            return Err(ConfigError::TooSmall { least });
        }
        let least = least(bytes);
        tier.scopes = Some(Box::new(Scopes::new(capacity, pool, Box::new(of))));
        self.charged += bytes;
        self.least = least;
        Ok(self)
    }

    /// The pages whose keys belong to scope `id`.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(4 << 20))?.with_scopes(|key: &(u32, u32)| key.0)?;
    /// cache.insert((1, 7), &[1; 4096])?;
    /// cache.insert((2, 7), &[2; 4096])?;
    /// assert_eq!((cache.scope(1).len(), cache.scope(3).len()), (1, 0));
    /// cache.scope(1).clear();
    /// assert!(cache.get(&(1, 7)).is_none() && cache.get(&(2, 7)).is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// The cache has no scopes: see [`with_scopes`](Self::with_scopes).
    pub fn scope(&self, id: u32) -> Scope<'_, K, S> {
        assert!(self.tier.scopes.is_some(), "a cache without scopes");
        Scope { cache: self, id }
    }
}

impl<K: Hash + Eq + Send + Sync, S: BuildHasher> Scope<'_, K, S> {
    fn scopes(&self) -> &Scopes<K> {
        self.cache.tier.scopes.as_ref().expect("asked when this was made")
    }

    /// Ends all entries that the scope has: when this returns they are misses. Loads and leases of
    /// its keys that are under way store nothing. What is inserted later is in the scope again, and
    /// the limit stays.
    ///
    /// Takes some microseconds, however many entries there are, and a little for each load that is
    /// under way in the cache. The entries' memory comes back when it is needed, before any other
    /// entry goes for it, and by [`maintain`](Cache::maintain). The removal hook is told of each
    /// then.
    ///
    /// # Panics
    /// When the function of [`with_scopes`](Cache::with_scopes) does, which is called for loads
    /// under way and for entries of scopes without a place. All the scope's entries have ended
    /// then, and with them each that the function panicked for.
    pub fn clear(&self) {
        let (tier, scopes) = (&self.cache.tier, self.scopes());
        let panic = Cell::new(None);
        let is_ours = |key: &K| {
            // A key that panics is taken for one of ours: that its page goes is never wrong.
            let of = catch_unwind(AssertUnwindSafe(|| scopes.scope_of(key)));
            of.map_err(|caught| panic.set(Some(caught))).map_or(true, |of| of == self.id)
        };
        let late = model_bug!(EndToldLate);
        if late {
            scopes.end(self.id);
        }
        // First: a load that is not told has its page in the slot that ends.
        for (tag, flight) in tier.flights.listed() {
            if is_ours(flight.key()) && !model_bug!(EndUntold) {
                tier.fence(tag);
            }
        }
        if !late {
            scopes.end(self.id);
        }
        tier.end_unnamed(is_ours);
        rethrow(panic.into_inner());
    }

    /// Entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stats().entries
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the entries take: see [`ScopeStats::bytes`].
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.stats().bytes
    }

    /// Limits what the entries take, by [`ScopeStats::bytes`]. An insert that would go beyond it
    /// ends entries of the scope first, those first that were not hit lately. `None`: no limit.
    ///
    /// A new limit is for the inserts that follow: nothing goes at once. One page may be longer
    /// than the limit and go beyond it, and of threads that insert at once each may go beyond it by
    /// its page, until the next insert. An insert looks at no more than 32,768 entries of the cache
    /// for ones of its scope. So in a cache of more entries a scope may be beyond its limit for
    /// some inserts, and one that should have less than one entry in 32,768 may come to have as
    /// many.
    ///
    /// # Errors
    /// [`TooManyScopes`]; nothing has changed.
    pub fn set_limit(&self, bytes: Option<u64>) -> Result<(), TooManyScopes> {
        self.scopes().set_limit(self.id, bytes).then_some(()).ok_or(TooManyScopes)
    }

    /// All figures at one instant.
    #[must_use]
    pub fn stats(&self) -> ScopeStats {
        let figures = self.scopes().figures(self.id);
        ScopeStats {
            entries: figures.entries,
            bytes: figures.bytes,
            limit: figures.limit,
            inserts: figures.inserts,
            evicted: figures.evicted,
        }
    }
}

/// A scope cannot have a limit: as many as there can be have entries or limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyScopes;

impl fmt::Display for TooManyScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cache's table of scopes is full")
    }
}

impl std::error::Error for TooManyScopes {}

impl<K, S> fmt::Debug for Scope<'_, K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("id", &self.id).finish_non_exhaustive()
    }
}
