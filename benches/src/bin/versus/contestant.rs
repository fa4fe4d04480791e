//! The one face that all caches have here.

/// A cache of pages of one size.
pub(crate) trait Contestant: Sync {
    /// The page of `key`, decoded into `to`; `false`: a miss.
    fn get(&self, key: u64, to: &mut [u8]) -> bool;

    /// Stores a page under `key`, in the place of what was there.
    fn insert(&self, key: u64, page: &[u8]);

    /// Whether `key` is held; not a hit.
    fn contains(&self, key: u64) -> bool;

    /// Does what the cache put off.
    fn settle(&self) {}
}
