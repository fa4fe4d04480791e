//! What a removal hook is told.

use std::fmt;

use crate::stats::RemovalCause;
use crate::store::{Entry, Millis, Store, blank_page};

/// An entry that has just gone, as the hook given to
/// [`Cache::on_removal`](crate::Cache::on_removal) sees it: it is off the cache already, and its
/// page can still be read.
pub struct Removal<'e, K> {
    entry: &'e Entry<'e, K>,
    stored_len: usize,
    store: &'e Store<K>,
    cause: RemovalCause,
}

/// The hook.
pub(crate) type Hook<K> = Box<dyn Fn(&Removal<'_, K>) + Send + Sync>;

impl<'e, K: Send + Sync> Removal<'e, K> {
    pub(crate) fn new(
        entry: &'e Entry<'e, K>,
        stored_len: usize,
        store: &'e Store<K>,
        cause: RemovalCause,
    ) -> Self {
        Self { entry, stored_len, store, cause }
    }

    /// The entry's key.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.entry.record().key
    }

    /// Why it went.
    #[must_use]
    pub fn cause(&self) -> RemovalCause {
        self.cause
    }

    /// Bytes of the page.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a page of no bytes is a page")]
    pub fn len(&self) -> usize {
        self.entry.record().state().len()
    }

    /// Bytes that were stored for it.
    #[must_use]
    pub fn stored_len(&self) -> usize {
        self.stored_len
    }

    /// Decodes the page into `to` and returns its length. `None`: `to` is shorter, the payload is
    /// corrupt, or no memory is left under the cap to decode with (codecs with contexts only; one
    /// that another call has left is used first).
    pub fn read_into(&self, to: &mut [u8]) -> Option<usize> {
        let len = self.len();
        // At the beginning of time nothing has expired.
        let start: Millis = 0;
        self.store.read(self.entry, start, to.get_mut(..len)?).ok().map(|()| len)
    }

    /// The page in memory of the caller's. `None` as for [`read_into`](Self::read_into), or the
    /// heap has none.
    #[must_use]
    pub fn page(&self) -> Option<bytes::Bytes> {
        let mut page = blank_page(self.len())?;
        self.read_into(&mut page).map(|_| page.into())
    }
}

impl<K: fmt::Debug + Send + Sync> fmt::Debug for Removal<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Removal")
            .field("key", self.key())
            .field("cause", &self.cause)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
