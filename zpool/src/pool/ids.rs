//! Ids that are to be dense: which objects should have lower ones, and giving them those.

use std::ops::Range;

use super::Pool;
use crate::handle::Handle;

impl<T: Send + Sync> Pool<T> {
    /// The ids of the highest chunk in use, if its objects should move to lower ids, so that less
    /// memory is held for ids, by the pool and in arrays of the caller's own.
    ///
    /// That is so where free ids of lower chunks are enough for them and leave `spare` more: few,
    /// where the memory is wanted at once; many, where ids that are free now are likely to be used
    /// again soon. [`renumber`](Self::renumber) moves the objects. `None`: nothing is to be gained.
    /// Looks at a few counts only, under a lock that is held for a moment.
    ///
    /// ```
    /// use zpool::{Config, Handle, Pool};
    ///
    /// let pool: Pool = Pool::new(Config::new())?;
    /// let mut handles: Vec<Handle> =
    ///     (0..20_000).map(|_| pool.alloc(b"object")).collect::<Result<_, _>>()?;
    /// let mut nth = 0;
    /// handles.retain(|handle| {
    ///     nth += 1;
    ///     nth % 1000 == 0 || pool.free(*handle).is_err()
    /// });
    /// while let Some(ids) = pool.sparse_ids(100) {
    ///     for id in ids {
    ///         if let Some(moved) = pool.renumber(id, |_| true) {
    ///             let old = |handle: &&mut Handle| pool.id(**handle) == Some(id);
    ///             *handles.iter_mut().find(old).unwrap() = moved;
    ///         }
    ///     }
    /// }
    /// assert!(handles.len() == 20 && pool.ids() < 20_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn sparse_ids(&self, spare: u32) -> Option<Range<u32>> {
        self.arena.table.sparse(spare as usize, None, &self.arena.ledger)
    }

    /// As [`sparse_ids`](Self::sparse_ids), of the highest chunk in use whose ids are all below
    /// `end`: where objects of the chunks above have to keep their ids. Memory of a chunk goes back
    /// whatever there is above it.
    #[must_use]
    pub fn sparse_ids_below(&self, end: u32, spare: u32) -> Option<Range<u32>> {
        self.arena.table.sparse(spare as usize, Some(end), &self.arena.ledger)
    }

    /// Whether an object has an id in a chunk of [`ID_CHUNK`](Self::ID_CHUNK) ids of which `ids`
    /// has some, or is about to get one: for arrays by id of the caller's own, of which parts come
    /// and go.
    ///
    /// It takes the lock that an id is handed out under. So who makes a part as good as gone for
    /// others first, and asks then, is told of whoever may have seen it there: `ready` of
    /// [`try_alloc_record_at`](Self::try_alloc_record_at) is asked after that lock.
    #[must_use]
    pub fn uses_ids(&self, ids: Range<u32>) -> bool {
        self.arena.table.uses(ids, &self.arena.ledger)
    }

    /// Gives the object with this id the lowest free id instead, and so another handle; its bytes
    /// stay where they are, and its record is moved. The old handle is stale from then on. Takes a
    /// lock for a moment, and no memory but what the lower id may need.
    ///
    /// `ready` is asked about the new id first, under no lock. `None`: no lower id is free, `ready`
    /// said no, or the id has no live object, or one that somebody maps; nothing has changed then.
    /// Between the two ids there is a moment in which neither leads to the object.
    pub fn renumber(&self, id: u32, ready: impl FnOnce(u32) -> bool) -> Option<Handle> {
        self.arena.renumber(id, ready)
    }
}
