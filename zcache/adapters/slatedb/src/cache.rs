//! SlateDB's trait.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use slatedb::Error;
use slatedb::db_cache::{CacheFetch, CacheLoader, CachedEntry, CachedKey, DbCache};
use zcache::{Cache, Config, ConfigError, HotShare, MAX_PAGE};

use crate::decoded::Decoded;
use crate::packed::{Found, Packed, scope};

/// How a cache is made.
#[derive(Debug)]
pub struct Options {
    config: Config,
    decoded: usize,
}

impl Options {
    /// A cache of `capacity_bytes` bytes of resident memory: an eighth of it holds indexes and
    /// filters decoded, and the rest all entries, compressed by LZ4. Entries of up to a sixteenth
    /// of it are cached.
    #[must_use]
    pub fn new(capacity_bytes: usize) -> Self {
        let decoded = capacity_bytes / 8;
        // Indexes of large files are long; a cache keeps room for one entry of the longest.
        let longest = (capacity_bytes / 16).clamp(128 << 10, MAX_PAGE);
        let config = Config::new(capacity_bytes - decoded).max_page(longest).hot(HotShare::Off);
        Self { config, decoded }
    }

    /// A cache with another codec or policy for the compressed entries, and `decoded_bytes` beside
    /// its capacity for indexes and filters. Entries longer than its `max_page`, 64 KiB unless it
    /// says something else, are held decoded only.
    #[must_use]
    pub fn with_config(config: Config, decoded_bytes: usize) -> Self {
        Self { config, decoded: decoded_bytes }
    }

    /// Makes the cache.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn build(self) -> Result<CompressedCache, ConfigError> {
        Ok(CompressedCache {
            packed: Packed::new(self.config)?,
            decoded: Decoded::new(self.decoded),
        })
    }
}

/// A [`DbCache`] that holds blocks, indexes, filters and statistics compressed.
///
/// Tasks that miss the same entry share one read of the store. If that fails, each of the others
/// reads for itself, as without a cache. Indexes, filters and statistics that are in use are held
/// decoded as well.
///
/// ```
/// use std::sync::Arc;
/// use slatedb::{Db, object_store::memory::InMemory};
/// use zcache_slatedb::CompressedCache;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = Arc::new(CompressedCache::new(32 << 20)?);
/// // Each database has a number of its own in a cache that they share.
/// let orders = Db::builder("orders", Arc::new(InMemory::new())).with_db_cache(cache.clone(), 1);
/// let users = Db::builder("users", Arc::new(InMemory::new())).with_db_cache(cache.clone(), 2);
/// let (orders, users) = (orders.build().await?, users.build().await?);
/// # orders.close().await?;
/// users.close().await?;
/// cache.remove_database(2); // takes microseconds, however many entries it has
/// # Ok(())
/// # }
/// ```
pub struct CompressedCache {
    packed: Packed,
    decoded: Decoded,
}

impl CompressedCache {
    /// A cache with the defaults of [`Options::new`].
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] says how many bytes are the least.
    pub fn new(capacity_bytes: usize) -> Result<Self, ConfigError> {
        Options::new(capacity_bytes).build()
    }

    /// Removes all entries of the database that has this number in the cache: for one that is
    /// closed for good. (`flush_scope`, which SlateDB has for caches on disks, does nothing here.)
    pub fn remove_database(&self, db_cache_id: u64) {
        self.packed.cache.scope(scope(db_cache_id)).clear();
        self.decoded.retain(|key| scope(key.db_cache_id()) != scope(db_cache_id));
    }

    /// The cache of compressed entries: for its figures, its capacity and a
    /// [`Maintainer`](zcache::Maintainer).
    #[must_use]
    pub fn cache(&self) -> &Arc<Cache<CachedKey>> {
        &self.packed.cache
    }

    /// Bytes of the indexes, filters and statistics that are held decoded.
    #[must_use]
    pub fn decoded_bytes(&self) -> usize {
        self.decoded.bytes()
    }

    fn get_decoded(&self, key: &CachedKey) -> Option<CachedEntry> {
        self.decoded.get(key).or_else(|| {
            let entry = self.packed.get(key)?;
            self.decoded.insert(key, &entry);
            Some(entry)
        })
    }

    async fn fetch(&self, key: &CachedKey, loader: CacheLoader) -> Result<CacheFetch, Error> {
        let lease = match self.packed.find(key).await {
            Found::Entry(entry) => return Ok(CacheFetch::hit(entry)),
            Found::Load(lease) => Some(lease),
            Found::Nothing => None,
        };
        match (loader().await, lease) {
            (Ok(entry), lease) => {
                if let Some(lease) = lease {
                    self.packed.loaded(lease, &entry);
                }
                Ok(CacheFetch::miss(entry))
            }
            (Err(error), lease) => {
                if let Some(lease) = lease {
                    lease.fail(error.to_string());
                }
                Err(error)
            }
        }
    }

    async fn fetch_decoded(
        &self,
        key: &CachedKey,
        loader: CacheLoader,
    ) -> Result<CacheFetch, Error> {
        if let Some(entry) = self.decoded.get(key) {
            return Ok(CacheFetch::hit(entry));
        }
        let fetched = self.fetch(key, loader).await?;
        self.decoded.insert(key, &fetched.entry);
        Ok(fetched)
    }
}

#[async_trait]
impl DbCache for CompressedCache {
    async fn get_block(&self, key: &CachedKey) -> Result<Option<CachedEntry>, Error> {
        Ok(self.packed.get(key))
    }

    async fn get_index(&self, key: &CachedKey) -> Result<Option<CachedEntry>, Error> {
        Ok(self.get_decoded(key))
    }

    async fn get_filter(&self, key: &CachedKey) -> Result<Option<CachedEntry>, Error> {
        Ok(self.get_decoded(key))
    }

    async fn get_stats(&self, key: &CachedKey) -> Result<Option<CachedEntry>, Error> {
        Ok(self.get_decoded(key))
    }

    async fn insert(&self, key: CachedKey, value: CachedEntry) {
        // A filter comes back when SlateDB has decoded it with its policies.
        if !self.decoded.replace(&key, &value) {
            self.packed.insert(key, &value);
        }
    }

    async fn remove(&self, key: &CachedKey) {
        self.decoded.remove(key);
        self.packed.cache.remove(key);
    }

    fn entry_count(&self) -> u64 {
        self.packed.cache.len() as u64
    }

    async fn fetch_block(&self, key: CachedKey, loader: CacheLoader) -> Result<CacheFetch, Error> {
        self.fetch(&key, loader).await
    }

    async fn fetch_index(&self, key: CachedKey, loader: CacheLoader) -> Result<CacheFetch, Error> {
        self.fetch_decoded(&key, loader).await
    }

    async fn fetch_filter(&self, key: CachedKey, loader: CacheLoader) -> Result<CacheFetch, Error> {
        self.fetch_decoded(&key, loader).await
    }

    async fn fetch_stats(&self, key: CachedKey, loader: CacheLoader) -> Result<CacheFetch, Error> {
        self.fetch_decoded(&key, loader).await
    }
}

impl fmt::Debug for CompressedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompressedCache").field("decoded", &self.decoded).finish_non_exhaustive()
    }
}
