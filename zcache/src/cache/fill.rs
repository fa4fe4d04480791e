//! Pages that the caller's code writes into memory of the cache's.

use std::convert::Infallible;
use std::hash::{BuildHasher, Hash};

use super::{Cache, InsertOptions};
use crate::error::InsertError;

impl<K: Hash + Eq + Send + Sync, S: BuildHasher> Cache<K, S> {
    /// [`insert`](Self::insert)s what `fill` writes: for callers that serialise, and have no page
    /// of bytes at hand. `fill` gets an empty vector, and what it leaves there is the page.
    ///
    /// The cache keeps the vector for the next call, with what room it has by then; at most one for
    /// each processor, and one as large as two of the longest pages. What is kept is charged to the
    /// capacity, and goes before any entry does where room is short. While `fill` runs, what it
    /// makes the vector longer by is not counted.
    ///
    /// `fill` runs under no lock and may call the cache, this method as well: each call has a
    /// vector of its own. If it panics, nothing has been inserted yet, and the key's old page
    /// stays.
    ///
    /// ```
    /// use std::io::Write;
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(1 << 20))?;
    /// cache.insert_from("totals", |page| {
    ///     for (row, total) in [17, 4].iter().enumerate() {
    ///         writeln!(page, "{row} {total}").expect("a vector takes all");
    ///     }
    /// })?;
    /// assert_eq!(cache.get("totals").as_deref(), Some(&b"0 17\n1 4\n"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`InsertError`]: nothing is stored, and what the key had before is gone.
    ///
    /// # Panics
    /// When `fill` does.
    pub fn insert_from(&self, key: K, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), InsertError> {
        self.insert_from_with_options(key, InsertOptions::new(), fill)
    }

    /// [`insert_from`](Self::insert_from) with a priority or a time to live of the page's own. The
    /// time begins when `fill` has returned.
    ///
    /// # Errors
    /// As for [`insert_from`](Self::insert_from).
    ///
    /// # Panics
    /// As for [`insert_from`](Self::insert_from).
    pub fn insert_from_with_options(
        &self,
        key: K,
        options: InsertOptions,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), InsertError> {
        let fill = |page: &mut Vec<u8>| {
            fill(page);
            Ok::<(), Infallible>(())
        };
        match self.try_insert_from_with_options(key, options, fill) {
            Ok(inserted) => inserted,
            Err(never) => match never {},
        }
    }

    /// [`insert_from`](Self::insert_from) where `fill` may fail.
    ///
    /// ```
    /// use std::io::{self, Read};
    /// use zcache::{Cache, Config};
    ///
    /// fn store(cache: &Cache<u64>, key: u64, mut from: impl Read) -> Result<(), io::Error> {
    ///     let read = |page: &mut Vec<u8>| from.read_to_end(page).map(|_| ());
    ///     // An error of `read` says that there is no page; that the cache has no room for it does
    ///     // not matter here.
    ///     let _stored = cache.try_insert_from(key, read)?;
    ///     Ok(())
    /// }
    /// let cache = Cache::new(Config::new(1 << 20))?;
    /// store(&cache, 7, &[1; 4096][..])?;
    /// assert_eq!(cache.get(&7).as_deref(), Some(&[1; 4096][..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What `fill` returns, and the key's old page stays, for the insert has not begun. Inside `Ok`
    /// is what came of the insert: see [`insert`](Self::insert).
    ///
    /// # Panics
    /// When `fill` does.
    pub fn try_insert_from<E>(
        &self,
        key: K,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Result<(), InsertError>, E> {
        self.try_insert_from_with_options(key, InsertOptions::new(), fill)
    }

    /// [`try_insert_from`](Self::try_insert_from) with a priority or a time to live of the page's
    /// own.
    ///
    /// # Errors
    /// As for [`try_insert_from`](Self::try_insert_from).
    ///
    /// # Panics
    /// As for [`try_insert_from`](Self::try_insert_from).
    pub fn try_insert_from_with_options<E>(
        &self,
        key: K,
        options: InsertOptions,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Result<(), InsertError>, E> {
        let mut page = self.tier.store.vec();
        fill(page.get())?;
        Ok(self.insert_with_options(key, page.bytes(), options))
    }
}
