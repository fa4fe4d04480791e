//! Compressed entries: all calls to zcache, and the form in which an entry is a page.

use std::sync::Arc;

use slatedb::db_cache::{CachedEntry, CachedKey};
use zcache::{Cache, Config, ConfigError, Lease, Leased, Waited};

/// Entries as pages. Nothing ever changes under a key: SlateDB's files are written once.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) cache: Arc<Cache<CachedKey>>,
}

/// What a look-up has found.
pub(crate) enum Found {
    Entry(CachedEntry),
    /// This caller loads the entry, and others wait for it.
    Load(Lease<CachedKey>),
    /// There is none, and nobody to share a load with: one has failed just now.
    Nothing,
}

/// The scope of a database: two databases whose numbers agree in their lower half share one, so
/// that both are removed with either.
pub(crate) fn scope(database: u64) -> u32 {
    database as u32
}

fn decode(page: &[u8]) -> Option<CachedEntry> {
    postcard::from_bytes(page).ok()
}

fn encode(entry: &CachedEntry) -> Option<Vec<u8>> {
    postcard::to_stdvec(entry).ok()
}

impl Packed {
    pub(crate) fn new(config: Config) -> Result<Self, ConfigError> {
        let cache = Cache::new(config)?;
        let cache = cache.with_scopes(|key: &CachedKey| scope(key.db_cache_id()))?;
        Ok(Self { cache: Arc::new(cache) })
    }

    /// The entry of `key`, if it is there.
    pub(crate) fn get(&self, key: &CachedKey) -> Option<CachedEntry> {
        self.cache.read(key, decode).flatten()
    }

    /// The entry of `key`, once it is there, or what to do about it.
    pub(crate) async fn find(&self, key: &CachedKey) -> Found {
        let page = match self.cache.get_or_lease(key) {
            Leased::Page(page) => page,
            Leased::Lease(lease) => return Found::Load(lease),
            Leased::Wait(waiting) => match waiting.await {
                Waited::Page(page) => page,
                Waited::Lease(lease) => return Found::Load(lease),
                Waited::Failed(_) => return Found::Nothing,
            },
        };
        match decode(&page) {
            Some(entry) => Found::Entry(entry),
            None => {
                self.cache.remove(key);
                Found::Nothing
            }
        }
    }

    /// Stores what a lease was given for.
    pub(crate) fn loaded(&self, lease: Lease<CachedKey>, entry: &CachedEntry) {
        match encode(entry) {
            // Not stored is no error: the caller has the entry.
            Some(page) => drop(self.cache.insert_if_valid(lease, &page)),
            None => lease.fail("the entry has no form as bytes"),
        }
    }

    /// Stores an entry, unless it is there.
    pub(crate) fn insert(&self, key: CachedKey, entry: &CachedEntry) {
        if self.cache.contains_key(&key) {
            return;
        }
        if let Some(page) = encode(entry) {
            let _ = self.cache.insert(key, &page);
        }
    }
}
