//! The pool: the public face of the allocator.

use std::fmt;

use crate::arena::Arena;
use crate::compact::{Compaction, compact};
use crate::config::{Config, SourceKind};
use crate::error::{AllocError, ConfigError, MapError, ReadError, Stale, WriteError};
use crate::fresh::{Fresh, Lent};
use crate::geometry::MAX_OBJECT;
use crate::guard::{MapMut, MapRef, MapWrite, Pinned, read_into};
use crate::handle::{Handle, Lock, Pin, Place};
use crate::ladder;
use crate::ledger::Ledger;
use crate::scratch::Buffer;
use crate::snapshot::snapshot;
use crate::source::{File, Heap, PageSource, most_pages};
use crate::stats::{PoolStats, count};
use crate::sync::Ordering;
use crate::word::Refusal;

/// A pool of objects packed into zspages: a userspace zsmalloc.
///
/// Objects are byte strings of 0 to `max_object` bytes, named by [`Handle`]s. A handle has to be
/// mapped to be used; while it is not, compaction may move its object. Beside each object the pool
/// keeps a record `T`, in the same cache line as the object's location: keep it small, 16 bytes or
/// less is what it is made for. A record is given once, to [`alloc_record`](Self::alloc_record), and
/// shared from then on: what has to change with the bytes belongs into atomics in it, or into the
/// bytes. `Pool<()>`, the default, is the plain allocator.
///
/// A pool is `Send + Sync`. Mapping for reading takes no lock: one compare-exchange pins the object
/// and one lets it go. No call waits for a guard; what a guard excludes answers [`MapError::Busy`].
/// The pool never calls back into user code but for `fill` of [`alloc_with`](Self::alloc_with) and the
/// `Drop` of records, both outside every lock.
///
/// Dropping a pool ends all objects and drops their records. Guards borrow the pool, so none is left
/// then. After `fork` a child must not use a pool of its parent's; [`MmapOptions::dont_fork`] keeps
/// its pages from being copied.
///
/// [`MmapOptions::dont_fork`]: crate::source::MmapOptions::dont_fork
///
/// ```
/// use zpool::{Config, Pool};
///
/// let pool: Pool = Pool::new(Config::new())?;
/// let handle = pool.alloc(b"a compressed page")?;
/// assert_eq!(&*pool.map(handle)?, b"a compressed page");
/// pool.free(handle)?;
/// assert!(pool.map(handle).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pool<T = ()> {
    arena: Arena<T>,
    max_object: usize,
}

impl<T: Send + Sync> Pool<T> {
    /// A pool as `config` says.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        if !matches!(config.page_size, 0x1000 | 0x2000 | 0x4000 | 0x8000 | 0x10000) {
            return Err(ConfigError::PageSize(config.page_size));
        }
        let source: Box<dyn PageSource> = match config.source.clone() {
            SourceKind::Heap => Box::new(Heap::new(config.page_size)),
            #[cfg(unix)]
            SourceKind::Mmap(options) => {
                let options = options.page_size(config.page_size);
                Box::new(crate::source::Mmap::new(options).map_err(ConfigError::Source)?)
            }
            SourceKind::Memfd => Box::new(memfd(config.page_size).map_err(ConfigError::Source)?),
        };
        Self::with_boxed_source(config, source)
    }

    /// A pool over a page source of the user's.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn with_source(
        config: Config,
        source: impl PageSource + 'static,
    ) -> Result<Self, ConfigError> {
        Self::with_boxed_source(config, Box::new(source))
    }

    /// The same for a source whose type is known no more.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn with_boxed_source(
        config: Config,
        source: Box<dyn PageSource>,
    ) -> Result<Self, ConfigError> {
        let page_size = source.page_size();
        if !matches!(page_size, 0x1000 | 0x2000 | 0x4000 | 0x8000 | 0x10000) {
            return Err(ConfigError::PageSize(page_size));
        }
        if config.max_object == 0 || config.max_object > MAX_OBJECT {
            return Err(ConfigError::MaxObject(config.max_object));
        }
        if source.capacity() > most_pages(page_size) {
            return Err(ConfigError::Capacity(source.capacity()));
        }
        if source.kept() != 0 {
            return Err(ConfigError::SourceInUse);
        }
        let ledger = Ledger::new(page_size, config.max_pages, config.max_bytes);
        let arena = Arena::new(source, ledger, config.max_object, config.zero_on_free)
            .map_err(ConfigError::TooSmall)?;
        Ok(Self { arena, max_object: config.max_object })
    }

    /// Stores a copy of `bytes` with `record` beside it.
    ///
    /// # Errors
    /// See [`AllocError`]; the record is dropped then.
    pub fn alloc_record(&self, record: T, bytes: &[u8]) -> Result<Handle, AllocError> {
        self.alloc_record_parts(record, [bytes, &[]]).map_err(|(error, _)| error)
    }

    /// Stores a copy of two byte strings as one object, back to back, with `record` beside it.
    ///
    /// # Errors
    /// See [`AllocError`]; the record comes back.
    pub fn alloc_record_parts(
        &self,
        record: T,
        parts: [&[u8]; 2],
    ) -> Result<Handle, (AllocError, T)> {
        let len = parts[0].len() + parts[1].len();
        match self.fresh(len) {
            Ok(fresh) => self.write(fresh, record, parts),
            Err(error) => Err((error, record)),
        }
    }

    /// The same where there is room just now: a free slot in a class for such a length, or growth of
    /// that class under the cap. Nothing is moved and nothing kept is given back for it, so it takes a
    /// bounded time, and says no where [`alloc_record_parts`](Self::alloc_record_parts) goes on to
    /// compact, to take shorter chains and larger slots. For callers who would rather free something
    /// of theirs.
    ///
    /// # Errors
    /// See [`AllocError`]; the record comes back. `OutOfPages` is not counted as a failure.
    pub fn try_alloc_record(
        &self,
        record: T,
        parts: [&[u8]; 2],
    ) -> Result<Handle, (AllocError, T)> {
        let arena = &self.arena;
        let len = parts[0].len() + parts[1].len();
        if len > self.max_object {
            count(&arena.counters.too_large, 1);
            return Err((AllocError::TooLarge(len), record));
        }
        arena.tidy_up();
        let fresh = || {
            let vacant = arena.table.vacant(&arena.ledger)?;
            let place = match len {
                0 => None,
                len => Some(arena.place(len, vacant.index()).ok()?),
            };
            Some(Fresh { arena, vacant: Some(vacant), place })
        };
        match fresh() {
            Some(fresh) => self.write(fresh, record, parts),
            None => Err((AllocError::OutOfPages, record)),
        }
    }

    /// Writes an object's bytes and publishes it.
    fn write(
        &self,
        mut fresh: Fresh<'_, T>,
        record: T,
        [first, second]: [&[u8]; 2],
    ) -> Result<Handle, (AllocError, T)> {
        let len = first.len() + second.len();
        if let Some(place) = &mut fresh.place {
            let zspages = &self.arena.zspages;
            if let Some(to) = zspages.bytes_mut(place, len) {
                let (start, end) = to.split_at_mut(first.len());
                start.copy_from_slice(first);
                end.copy_from_slice(second);
            } else {
                let written = zspages.write_at(place, 0, first);
                if written.and_then(|()| zspages.write_at(place, first.len(), second)).is_err() {
                    count(&self.arena.counters.store_failures, 1);
                    return Err((AllocError::Source, record));
                }
            }
        }
        Ok(fresh.publish(len, record))
    }

    /// Stores an object of `len` bytes that `fill` writes, with `record` beside it. `fill` sees zeros
    /// and runs outside every lock; if it panics, nothing is stored.
    ///
    /// # Errors
    /// See [`AllocError`]; the record is dropped then.
    pub fn alloc_record_with(
        &self,
        record: T,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Handle, AllocError> {
        let mut fresh = self.fresh(len)?;
        let arena = &self.arena;
        match &mut fresh.place {
            None => fill(&mut []),
            Some(place) => match arena.zspages.bytes_mut(place, len) {
                Some(bytes) => {
                    bytes.fill(0);
                    fill(bytes);
                }
                None => {
                    let buffer = self.scratch_or_trim(len).ok_or(AllocError::OutOfPages)?;
                    let mut copy = Lent { arena: &self.arena, buffer: Some(buffer) };
                    let bytes = &mut copy.bytes()[..len];
                    bytes.fill(0);
                    fill(bytes);
                    if arena.zspages.write_at(place, 0, bytes).is_err() {
                        count(&self.arena.counters.store_failures, 1);
                        return Err(AllocError::Source);
                    }
                }
            },
        }
        Ok(fresh.publish(len, record))
    }

    fn fresh(&self, len: usize) -> Result<Fresh<'_, T>, AllocError> {
        let counters = &self.arena.counters;
        if len > self.max_object {
            count(&counters.too_large, 1);
            return Err(AllocError::TooLarge(len));
        }
        let arena = &self.arena;
        let failed = |error| {
            count(&counters.out_of_pages, 1);
            error
        };
        let vacant = ladder::vacant(arena).map_err(failed)?;
        let place = match len {
            0 => None,
            len => Some(ladder::place(arena, len, vacant.index()).map_err(failed)?),
        };
        Ok(Fresh { arena, vacant: Some(vacant), place })
    }

    /// A scratch buffer for one who may wait: what is kept goes first.
    fn scratch_or_trim(&self, len: usize) -> Option<Buffer> {
        self.arena.scratch.take(len, &self.arena.ledger).or_else(|| {
            self.arena.trim();
            self.arena.take_scratch(len)
        })
    }

    #[inline]
    fn share(&self, handle: Handle) -> Result<Pin<'_, T>, MapError> {
        self.arena.table.pin(handle).map_err(|refusal| self.refused(refusal))
    }

    fn lock(&self, handle: Handle) -> Result<Lock<'_, T>, MapError> {
        self.arena.table.lock(handle).map_err(|refusal| self.refused(refusal))
    }

    #[cold]
    fn refused(&self, refusal: Refusal) -> MapError {
        let counters = &self.arena.counters;
        let (counter, error) = match refusal {
            Refusal::Stale => (&counters.stale, MapError::Stale),
            Refusal::Busy => (&counters.busy, MapError::Busy),
            Refusal::Full => (&counters.too_many_maps, MapError::TooManyMaps),
        };
        count(counter, 1);
        error
    }

    /// A copy of the object at `place` in a scratch buffer.
    #[cold]
    fn copy_of(&self, place: &Place) -> Result<Buffer, MapError> {
        let len = place.room();
        let buffer = self.arena.take_scratch(len).ok_or(MapError::OutOfMemory)?;
        let mut copy = Lent { arena: &self.arena, buffer: Some(buffer) };
        let counters = &self.arena.counters;
        if self.arena.zspages.read_at(place, 0, &mut copy.bytes()[..len]).is_err() {
            count(&counters.load_failures, 1);
            return Err(MapError::Source);
        }
        count(&counters.copied_maps, 1);
        count(&counters.copied_bytes, len);
        copy.buffer.take().ok_or(MapError::OutOfMemory)
    }

    /// Maps an object for reading. Takes no lock; several threads, and one thread several times, may
    /// map an object at once.
    ///
    /// Keep maps short: [`MapRef`] tells what a long one costs. An object that crosses a seam, or has no
    /// address, is copied into a scratch buffer of the pool's; at the cap there may be no room for one,
    /// and [`read_into`](Self::read_into) is the way then.
    ///
    /// # Errors
    /// See [`MapError`].
    #[inline]
    pub fn map(&self, handle: Handle) -> Result<MapRef<'_, T>, MapError> {
        MapRef::new(self.pin(handle)?).with_copy(|place| self.copy_of(place))
    }

    /// Pins an object for reading without making a copy of it, whatever it lies on. Takes no lock and
    /// no memory.
    ///
    /// # Errors
    /// See [`MapError`]; never [`OutOfMemory`](MapError::OutOfMemory).
    #[inline]
    pub fn pin(&self, handle: Handle) -> Result<Pinned<'_, T>, MapError> {
        let pin = self.share(handle)?;
        Ok(Pinned::new(&self.arena, self.arena.zspages.map(pin)))
    }

    /// Pins the object that has the id `id` at this instant: see [`id`](Self::id).
    ///
    /// # Errors
    /// See [`MapError`]; [`MapError::Stale`] when no live object has it.
    #[inline]
    pub fn pin_id(&self, id: u32) -> Result<Pinned<'_, T>, MapError> {
        let pin = self.arena.table.pin_index(id).map_err(|refusal| self.refused(refusal))?;
        Ok(Pinned::new(&self.arena, self.arena.zspages.map(pin)))
    }

    /// The object's id: 4 bytes where a handle has 8, for tables of the user's own. Pure arithmetic;
    /// `None` for a handle that cannot be one of this pool's.
    ///
    /// Of the objects that have not ended, no two have the same id, and all ids are below
    /// [`ids`](Self::ids). An id is given to another object once its own has ended: been freed, and
    /// let go by the last guard. So an id is for those who know by other means that the object lives,
    /// such as an index from which it is taken before it is freed; a handle is checked, an id is not.
    ///
    /// ```
    /// use zpool::{Config, Pool};
    ///
    /// let pool: Pool = Pool::new(Config::new())?;
    /// let handle = pool.alloc(b"bytes")?;
    /// let id = pool.id(handle).expect("a handle of this pool");
    /// let object = pool.pin_id(id)?;
    /// assert_eq!((object.handle(), object.bytes()), (handle, Some(&b"bytes"[..])));
    /// # drop(object);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn id(&self, handle: Handle) -> Option<u32> {
        self.arena.table.index_of(handle)
    }

    /// The ids ever given out: all are below this.
    #[must_use]
    pub fn ids(&self) -> u32 {
        self.arena.table.slots()
    }

    /// Charges `bytes` of memory of the user's own to this pool: one budget for pages and for what is
    /// built on them, held to at every instant. Takes what is free under the cap; nothing is compacted
    /// or given back for it.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`]: it would pass `max_bytes`. Nothing is charged then.
    pub fn reserve(&self, bytes: usize) -> Result<(), AllocError> {
        self.arena.ledger.reserve(bytes).map_err(|_| AllocError::OutOfPages)?;
        self.arena.reserved.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back what was [`reserve`](Self::reserve)d, after that memory is gone.
    ///
    /// # Panics
    /// More is given back than was reserved.
    pub fn release(&self, bytes: usize) {
        let before = self.arena.reserved.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "released {bytes} bytes of {before} reserved");
        self.arena.ledger.release(bytes);
    }

    /// Sum of the lengths of all objects that have not ended.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.arena.payload()
    }

    /// Bytes of all pages held, in use and kept.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        self.arena.ledger.pages() * self.arena.zspages.source().page_size()
    }

    /// Maps an object for reading and writing, alone; its length stays.
    ///
    /// # Errors
    /// See [`MapError`]; [`MapError::Busy`] when it is mapped already.
    pub fn map_mut(&self, handle: Handle) -> Result<MapMut<'_, T>, MapError> {
        let guard = MapMut::new(&self.arena, self.arena.zspages.map_mut(self.lock(handle)?));
        guard.with_copy(|place| self.copy_of(place))
    }

    /// Locks an object and gives `len` zeroed bytes that will replace it. The old bytes are not read;
    /// they keep their place until the new ones take over, so both exist side by side for a while, and
    /// a pool at its cap may have no room for a replacement even by fewer bytes. Then free something
    /// first, use [`map_mut`](Self::map_mut) when the length stays, or `free` and `alloc`.
    ///
    /// # Errors
    /// See [`WriteError`]; the object is as before then.
    pub fn map_write(&self, handle: Handle, len: usize) -> Result<MapWrite<'_, T>, WriteError> {
        if len > self.max_object {
            count(&self.arena.counters.too_large, 1);
            return Err(AllocError::TooLarge(len).into());
        }
        let arena = &self.arena;
        let mapped = arena.zspages.map_mut(self.lock(handle)?);
        let owner = mapped.lock().pin().index();
        let mut write = MapWrite::new(&self.arena, mapped, len);
        let prepared = match len {
            0 => Ok(()),
            len => ladder::place(arena, len, owner).and_then(|place| {
                write.prepare(place, |len| self.scratch_or_trim(len)).ok_or(AllocError::OutOfPages)
            }),
        };
        match prepared {
            Ok(()) => Ok(write),
            Err(error) => {
                count(&self.arena.counters.out_of_pages, 1);
                write.cancel();
                Err(error.into())
            }
        }
    }

    /// Copies an object to the start of `to` and returns its length: needs no memory, whatever the
    /// object lies on.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_into(&self, handle: Handle, to: &mut [u8]) -> Result<usize, ReadError> {
        let pin = self.share(handle)?;
        let read = read_into(&self.arena, &pin, to);
        self.unpin(pin);
        read
    }

    fn unpin(&self, pin: Pin<'_, T>) {
        if let Some(ended) = pin.unpin() {
            self.arena.end_unwaiting(ended);
        }
    }

    /// Calls `f` with the record of an object, without mapping its bytes. The object is pinned
    /// meanwhile.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn with_record<R>(&self, handle: Handle, f: impl FnOnce(&T) -> R) -> Result<R, MapError> {
        struct Pinned<'p, T: Send + Sync>(&'p Pool<T>, Option<Pin<'p, T>>);
        impl<T: Send + Sync> Drop for Pinned<'_, T> {
            fn drop(&mut self) {
                if let Some(pin) = self.1.take() {
                    self.0.unpin(pin);
                }
            }
        }
        let pinned = Pinned(self, Some(self.share(handle)?));
        Ok(f(pinned.1.as_ref().expect("pinned just now").record()))
    }

    /// The length of an object in bytes.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn object_len(&self, handle: Handle) -> Result<usize, MapError> {
        let pin = self.share(handle)?;
        let len = pin.len();
        self.unpin(pin);
        Ok(len)
    }

    /// Frees an object. Its handle fails from here on; where it is mapped, the object itself ends
    /// with its last guard.
    ///
    /// # Errors
    /// [`Stale`]: the handle names no live object, or another thread freed it first.
    pub fn free(&self, handle: Handle) -> Result<(), Stale> {
        let arena = &self.arena;
        let ended = arena.table.free(handle).map_err(|_| {
            count(&self.arena.counters.stale, 1);
            Stale
        })?;
        if let Some(ended) = ended {
            arena.end(ended);
        }
        Ok(())
    }

    /// Whether the handle names a live object at this instant.
    #[must_use]
    pub fn contains(&self, handle: Handle) -> bool {
        self.arena.table.contains(handle)
    }

    /// Live objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.arena.table.live()
    }

    /// Whether there is no live object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held now, pages and metadata: what `max_bytes` caps.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.arena.ledger.held()
    }

    /// The largest object, in bytes.
    #[must_use]
    pub fn max_object(&self) -> usize {
        self.max_object
    }

    /// What an object of `len` bytes would cost in bytes of pages if it were stored now: its slot and
    /// its share of what its zspage leaves over. Metadata comes on top. Lengths above `max_object`
    /// are counted as `max_object`.
    #[must_use]
    pub fn slot_bytes(&self, len: usize) -> usize {
        self.arena.slot_bytes(len.min(self.max_object))
    }

    /// Hints the processor that the handle is about to be mapped. A handle that names nothing is
    /// ignored. For batches: first this for all, then [`prefetch_bytes`](Self::prefetch_bytes) for
    /// all, then map.
    #[inline]
    pub fn prefetch(&self, handle: Handle) {
        self.arena.table.prefetch(handle);
    }

    /// Hints the processor that the object's bytes are about to be read.
    #[inline]
    pub fn prefetch_bytes(&self, handle: Handle) {
        if let Some(location) = self.arena.table.glance(handle) {
            self.arena.zspages.prefetch(location);
        }
    }

    /// Moves objects out of sparse zspages until `budget` bytes have moved (passed by less than one
    /// object) or nothing is left to gain. Resumable: call it again as long as it is not `done`.
    /// Readers are not held up; a writer may be told [`MapError::Busy`] while its object is copied.
    pub fn compact(&self, budget: usize) -> Compaction {
        compact(&self.arena, budget)
    }

    /// Gives back what the pool holds without need: pages kept by the source, scratch buffers, what
    /// readers left behind. Moves nothing.
    pub fn trim(&self) {
        let arena = &self.arena;
        arena.tidy();
        arena.trim();
    }

    /// Changes the cap on bytes held. Below what is held now the pool takes no further memory:
    /// allocations that fit a free slot still succeed, the others compact first and then fail. This
    /// call itself frees nothing; to shrink, free objects, [`compact`](Self::compact) until it is done,
    /// then [`trim`](Self::trim).
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

    /// Asserts every invariant of the pool. For tests; call it while no other thread uses the pool.
    /// Guards may exist.
    ///
    /// # Panics
    /// An invariant does not hold: a bug of this crate, or a page source that lies.
    pub fn check(&self) {
        crate::check::check(&self.arena);
    }
}

#[cfg(all(test, zcache_loom))]
impl<T> Pool<T> {
    pub(crate) fn arena(&self) -> &Arena<T> {
        &self.arena
    }
}

impl<T: Send + Sync + Default> Pool<T> {
    /// Stores a copy of `bytes`.
    ///
    /// # Errors
    /// See [`AllocError`].
    pub fn alloc(&self, bytes: &[u8]) -> Result<Handle, AllocError> {
        self.alloc_record(T::default(), bytes)
    }

    /// Stores an object of `len` bytes that `fill` writes. `fill` sees zeros and runs outside every
    /// lock; if it panics, nothing is stored.
    ///
    /// # Errors
    /// See [`AllocError`].
    pub fn alloc_with(
        &self,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Handle, AllocError> {
        self.alloc_record_with(T::default(), len, fill)
    }
}

#[cfg(target_os = "linux")]
fn memfd(page_size: usize) -> std::io::Result<File> {
    File::memfd(page_size)
}

#[cfg(not(target_os = "linux"))]
fn memfd(page_size: usize) -> std::io::Result<File> {
    File::temporary(page_size)
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("objects", &self.arena.table.live())
            .field("held_bytes", &self.arena.ledger.held())
            .finish_non_exhaustive()
    }
}
