//! Memory: what a pool holds, what it may hold, and giving back.

use super::Pool;
use crate::compact::{Compaction, compact};
use crate::error::AllocError;
use crate::frame::Frames;
use crate::mapped::{Lines, SparseLines};
use crate::snapshot::snapshot;
use crate::stats::PoolStats;
use crate::swapped::Swapped;

impl<T: Send + Sync> Pool<T> {
    /// Bytes held now, pages, metadata and [reserved](Self::reserve) ones: what `max_bytes` caps.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.arena.ledger.held()
    }

    /// Bytes of the pages held now, in zspages and kept by the source. Takes no lock.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        self.arena.ledger.page_bytes()
    }

    /// Sum of the lengths of all objects that have not ended. Takes no lock.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.arena.payload()
    }

    /// What an object of `len` bytes would cost in bytes of pages if it were stored now: its slot
    /// and its share of what its zspage leaves over. Metadata comes on top. Lengths above
    /// `max_object` are counted as `max_object`.
    #[must_use]
    pub fn slot_bytes(&self, len: usize) -> usize {
        self.arena.slot_bytes(len.min(self.max_object))
    }

    /// Bytes of the zspage that an object of `len` bytes would need just now, if no slot for it is
    /// free. Lengths above `max_object` are counted as `max_object`.
    #[must_use]
    pub fn zspage_bytes(&self, len: usize) -> usize {
        self.arena.zspage_bytes(len.min(self.max_object))
    }

    /// Bytes of pages that new objects can have without anything being freed or moved: what the
    /// caps leave, and pages that the source keeps. Other threads may take them at any time. Costs
    /// a few loads.
    #[must_use]
    pub fn slack_bytes(&self) -> usize {
        self.arena.slack()
    }

    /// Charges `bytes` of memory that the caller is about to take to the cap on bytes held, so that
    /// an index of the caller's, say, and the pool share one budget. It takes what is free under
    /// `max_bytes` at this moment and makes no room: nothing is moved or given back for it. The
    /// pool does not touch that memory; [`PoolStats::reserved_bytes`] tells how much it is.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`]: it would pass the cap. Nothing is reserved then, and nothing
    /// counted as a failure.
    ///
    /// ```
    /// use zpool::{Config, Pool};
    ///
    /// let pool: Pool = Pool::new(Config::new().max_bytes(1 << 20))?;
    /// pool.reserve(256 << 10)?;
    /// let index = vec![0_u8; 256 << 10];
    /// assert!(pool.reserve(1 << 20).is_err());
    /// drop(index);
    /// pool.release(256 << 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&self, bytes: usize) -> Result<(), AllocError> {
        self.arena.ledger.lend(bytes).map_err(|_| AllocError::OutOfPages)
    }

    /// Bytes of pages that huge pages of the system may back, whole. They are charged, in use or
    /// free.
    #[must_use]
    pub fn huge_bytes(&self) -> usize {
        self.arena.zspages.source().huge_bytes()
    }

    /// Gives back `bytes` of what was [reserved](Self::reserve), after the memory is gone. Where
    /// that is more than is reserved, only what is reserved goes back.
    ///
    /// # Panics
    /// With debug assertions: more is given back than is reserved.
    pub fn release(&self, bytes: usize) {
        let back = self.arena.ledger.take_back(bytes);
        debug_assert_eq!(back, bytes, "released more bytes than are reserved");
    }

    /// A set of `slots` empty [frames](Frames) that take their pages where the pool does, under the
    /// same cap, for readers that share `readers` pairs of counters; each number is a power of two,
    /// or the next one is taken. `None`: the source's pages have no address. What the set itself
    /// takes, [`Frames::fixed_bytes`], is the caller's to [reserve](Self::reserve).
    #[must_use]
    pub fn frames<H: Send + Sync>(&self, slots: usize, readers: usize) -> Option<Frames<H>> {
        Frames::new(self.arena.supply(), slots, readers)
    }

    /// A table of `lines` cache lines, a power of two or the next one, whose growth is charged to
    /// this pool's cap. What it takes at first, [`Lines::fixed_bytes`], is the caller's to
    /// [reserve](Self::reserve).
    #[must_use]
    pub fn lines(&self, lines: usize) -> Lines {
        Lines::new(lines, self.arena.supply().ledger)
    }

    /// Cache lines by number, none of which is open, charged to this pool's cap as they are opened.
    #[must_use]
    pub fn sparse_lines(&self) -> SparseLines {
        SparseLines::new(self.arena.supply().ledger)
    }

    /// A value that is read without a lock and replaced whole. `bytes` is what it holds on the heap
    /// beside its own size; this is charged to this pool's cap with it, and so are those that take
    /// its place. The pool may be dropped first.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`]: no room for it under the cap. [`AllocError::NoMemory`]: the heap
    /// has none. `value` is dropped.
    pub fn swapped<V: Send + Sync + 'static>(
        &self,
        value: V,
        bytes: usize,
    ) -> Result<Swapped<V>, AllocError> {
        Swapped::new(value, bytes, self.arena.supply().ledger)
    }

    /// Moves objects out of sparse zspages until `budget_bytes` bytes have moved (passed by less
    /// than one object) or nothing is left to gain. Resumable: call it again as long as it is not
    /// `done`. Readers are not held up; a writer may be told
    /// [`MapError::Busy`](crate::MapError::Busy) while its object is copied.
    pub fn compact(&self, budget_bytes: usize) -> Compaction {
        compact(&self.arena, budget_bytes)
    }

    /// Gives back what the pool holds without need: pages kept by the source, scratch buffers, what
    /// readers left behind, memory of tables that was locked and is so no more. Moves nothing. Of
    /// the source's huge pages of which a part is kept, one is split: call again as long as that
    /// gives something.
    pub fn trim(&self) {
        let arena = &self.arena;
        arena.tidy();
        arena.trim();
    }

    /// Changes the cap on bytes held. Below what is held now the pool takes no further memory:
    /// allocations that fit a free slot still succeed, the others compact first and then fail. This
    /// call itself frees nothing; to shrink, free objects, [`compact`](Self::compact) until it is
    /// done, then [`trim`](Self::trim). Where [`held_bytes`](Self::held_bytes) is within the new
    /// cap after it, it stays so, whatever was under way.
    pub fn set_max_bytes(&self, bytes: usize) {
        self.arena.ledger.set_max_bytes(bytes);
    }

    /// Changes the cap on pages held, likewise.
    pub fn set_max_pages(&self, pages: usize) {
        self.arena.ledger.set_max_pages(pages);
    }

    /// A snapshot of all counters. Takes each class's lock in turn.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        snapshot(&self.arena)
    }
}
