//! The pool: the public face of the allocator.

use std::fmt;

use crate::arena::Arena;
use crate::compact::{Compaction, compact};
use crate::config::{Config, SourceKind};
use crate::error::{AllocError, ConfigError, MapError, ReadError, Stale, WriteError};
use crate::geometry::MAX_OBJECT;
use crate::guard::{MapMut, MapRef, MapWrite};
use crate::handle::{Handle, Lock, Pin, Place};
use crate::ladder;
use crate::ledger::Ledger;
use crate::scratch::{Buffer, Scratch};
use crate::shared::{Fresh, Lent, Shared};
use crate::snapshot::snapshot;
use crate::source::{File, Heap, PageSource};
use crate::stats::{Counters, PoolStats, count};
use crate::word::Refusal;

/// A pool of objects packed into zspages: a userspace zsmalloc.
///
/// Objects are byte strings of 0 to `max_object` bytes, named by [`Handle`]s. A handle has to be
/// mapped to be used; while it is not, compaction may move its object. Beside each object the pool
/// keeps a record `T`, in the same cache line as the object's location: keep it small, 16 bytes or
/// less is what it is made for. `Pool<()>`, the default, is the plain allocator.
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
    shared: Shared<T>,
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
                let capped = match config.max_pages.min(config.max_bytes / config.page_size) {
                    pages if pages < u32::MAX as usize => options.max_pages(pages as u32),
                    _ => options,
                };
                Box::new(crate::source::Mmap::new(capped).map_err(ConfigError::Source)?)
            }
            SourceKind::Memfd => Box::new(memfd(config.page_size).map_err(ConfigError::Source)?),
        };
        Self::with_boxed(config, source)
    }

    /// A pool over a page source of the user's.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn with_source(
        config: Config,
        source: impl PageSource + 'static,
    ) -> Result<Self, ConfigError> {
        Self::with_boxed(config, Box::new(source))
    }

    fn with_boxed(config: Config, source: Box<dyn PageSource>) -> Result<Self, ConfigError> {
        let page_size = source.page_size();
        if !matches!(page_size, 0x1000 | 0x2000 | 0x4000 | 0x8000 | 0x10000) {
            return Err(ConfigError::PageSize(page_size));
        }
        if config.max_object == 0 || config.max_object > MAX_OBJECT {
            return Err(ConfigError::MaxObject(config.max_object));
        }
        let ledger = Ledger::new(page_size, config.max_pages, config.max_bytes);
        let arena = Arena::new(source, ledger, config.max_object, config.zero_on_free)
            .map_err(ConfigError::TooSmall)?;
        let shared = Shared { arena, scratch: Scratch::new(), counters: Counters::new() };
        Ok(Self { shared, max_object: config.max_object })
    }

    /// Stores a copy of `bytes` with `record` beside it.
    ///
    /// # Errors
    /// See [`AllocError`]; the record is dropped then.
    pub fn alloc_record(&self, record: T, bytes: &[u8]) -> Result<Handle, AllocError> {
        let mut fresh = self.fresh(bytes.len())?;
        if let Some(place) = &mut fresh.place {
            if self.shared.arena.zspages.write_at(place, 0, bytes).is_err() {
                count(&self.shared.counters.store_failures, 1);
                return Err(AllocError::Source);
            }
        }
        Ok(fresh.publish(bytes.len(), record))
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
        let arena = &self.shared.arena;
        match &mut fresh.place {
            None => fill(&mut []),
            Some(place) => match arena.zspages.bytes_mut(place, len) {
                Some(bytes) => {
                    bytes.fill(0);
                    fill(bytes);
                }
                None => {
                    let buffer = self.scratch(len).ok_or(AllocError::OutOfPages)?;
                    let mut copy = Lent { shared: &self.shared, buffer: Some(buffer) };
                    let bytes = &mut copy.bytes()[..len];
                    bytes.fill(0);
                    fill(bytes);
                    if arena.zspages.write_at(place, 0, bytes).is_err() {
                        count(&self.shared.counters.store_failures, 1);
                        return Err(AllocError::Source);
                    }
                }
            },
        }
        Ok(fresh.publish(len, record))
    }

    fn fresh(&self, len: usize) -> Result<Fresh<'_, T>, AllocError> {
        let counters = &self.shared.counters;
        if len > self.max_object {
            count(&counters.too_large, 1);
            return Err(AllocError::TooLarge(len));
        }
        let arena = &self.shared.arena;
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

    fn scratch(&self, len: usize) -> Option<Buffer> {
        let Shared { arena, scratch, .. } = &self.shared;
        let buffer = scratch.take(len, &arena.ledger).or_else(|| {
            arena.zspages.source().trim(&arena.ledger);
            scratch.take(len, &arena.ledger)
        });
        if buffer.is_none() {
            count(&self.shared.counters.no_scratch, 1);
        }
        buffer
    }

    fn pin(&self, handle: Handle) -> Result<Pin<'_, T>, MapError> {
        self.shared.arena.table.pin(handle).map_err(|refusal| self.refused(refusal))
    }

    fn lock(&self, handle: Handle) -> Result<Lock<'_, T>, MapError> {
        self.shared.arena.table.lock(handle).map_err(|refusal| self.refused(refusal))
    }

    #[cold]
    fn refused(&self, refusal: Refusal) -> MapError {
        let counters = &self.shared.counters;
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
        let mut copy = self.scratch(len).ok_or(MapError::OutOfMemory)?;
        let Shared { arena, scratch, counters } = &self.shared;
        if arena.zspages.read_at(place, 0, &mut copy[..len]).is_err() {
            scratch.give(copy, &arena.ledger);
            count(&counters.load_failures, 1);
            return Err(MapError::Source);
        }
        count(&counters.copied_maps, 1);
        count(&counters.copied_bytes, len);
        Ok(copy)
    }

    /// Maps an object for reading. Takes no lock; several threads, and one thread several times, may
    /// map an object at once.
    ///
    /// # Errors
    /// See [`MapError`].
    #[inline]
    pub fn map(&self, handle: Handle) -> Result<MapRef<'_, T>, MapError> {
        let pin = self.pin(handle)?;
        let mapped = self.shared.arena.zspages.map(pin);
        if mapped.bytes().is_some() {
            return Ok(MapRef::new(&self.shared, mapped, None));
        }
        match mapped.pin().place().map(|place| self.copy_of(place)).transpose() {
            Ok(copy) => Ok(MapRef::new(&self.shared, mapped, copy)),
            Err(error) => {
                drop(MapRef::new(&self.shared, mapped, None));
                Err(error)
            }
        }
    }

    /// Maps an object for reading and writing, alone; its length stays.
    ///
    /// # Errors
    /// See [`MapError`]; [`MapError::Busy`] when it is mapped already.
    pub fn map_mut(&self, handle: Handle) -> Result<MapMut<'_, T>, MapError> {
        let mapped = self.shared.arena.zspages.map_mut(self.lock(handle)?);
        if mapped.bytes().is_some() {
            return Ok(MapMut::new(&self.shared, mapped, None));
        }
        match mapped.lock().pin().place().map(|place| self.copy_of(place)).transpose() {
            Ok(copy) => Ok(MapMut::new(&self.shared, mapped, copy)),
            Err(error) => {
                drop(MapMut::new(&self.shared, mapped, None));
                Err(error)
            }
        }
    }

    /// Maps an object for being replaced by `len` new bytes, alone. The old bytes are not read; they
    /// keep their place until the new ones take over.
    ///
    /// # Errors
    /// See [`WriteError`]; the object is as before then.
    pub fn map_write(&self, handle: Handle, len: usize) -> Result<MapWrite<'_, T>, WriteError> {
        if len > self.max_object {
            count(&self.shared.counters.too_large, 1);
            return Err(AllocError::TooLarge(len).into());
        }
        let arena = &self.shared.arena;
        let mapped = arena.zspages.map_mut(self.lock(handle)?);
        let owner = mapped.lock().pin().index();
        let mut write = MapWrite::new(&self.shared, mapped, len);
        let prepared = match len {
            0 => Ok(()),
            len => ladder::place(arena, len, owner).and_then(|place| {
                write.prepare(place, |len| self.scratch(len)).ok_or(AllocError::OutOfPages)
            }),
        };
        match prepared {
            Ok(()) => Ok(write),
            Err(error) => {
                count(&self.shared.counters.out_of_pages, 1);
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
        let pin = self.pin(handle)?;
        let arena = &self.shared.arena;
        let len = pin.len();
        let read = match (to.get_mut(..len), pin.place()) {
            (None, _) => Err(ReadError::BufferTooSmall(len)),
            (Some(to), Some(place)) => {
                arena.zspages.read_at(place, 0, to).map(|()| len).map_err(|_| {
                    count(&self.shared.counters.load_failures, 1);
                    MapError::Source.into()
                })
            }
            (Some(_), None) => Ok(0),
        };
        self.unpin(pin);
        read
    }

    fn unpin(&self, pin: Pin<'_, T>) {
        if let Some(ended) = pin.unpin() {
            self.shared.arena.end_unwaiting(ended);
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
        let pinned = Pinned(self, Some(self.pin(handle)?));
        Ok(f(pinned.1.as_ref().expect("pinned just now").record()))
    }

    /// The length of an object in bytes.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn object_len(&self, handle: Handle) -> Result<usize, MapError> {
        let pin = self.pin(handle)?;
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
        let arena = &self.shared.arena;
        let ended = arena.table.free(handle).map_err(|_| {
            count(&self.shared.counters.stale, 1);
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
        self.shared.arena.table.contains(handle)
    }

    /// Live objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.arena.table.live()
    }

    /// Whether there is no live object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held now, pages and metadata: what `max_bytes` caps.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.shared.arena.ledger.held()
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
        self.shared.arena.slot_bytes(len.min(self.max_object))
    }

    /// Hints the processor that the handle is about to be mapped. A handle that names nothing is
    /// ignored. For batches: first this for all, then [`prefetch_bytes`](Self::prefetch_bytes) for
    /// all, then map.
    #[inline]
    pub fn prefetch(&self, handle: Handle) {
        self.shared.arena.table.prefetch(handle);
    }

    /// Hints the processor that the object's bytes are about to be read.
    #[inline]
    pub fn prefetch_bytes(&self, handle: Handle) {
        if let Some(location) = self.shared.arena.table.glance(handle) {
            self.shared.arena.zspages.prefetch(location);
        }
    }

    /// Moves objects out of sparse zspages until `budget` bytes have moved (passed by less than one
    /// object) or nothing is left to gain. Resumable: call it again as long as it is not `done`.
    /// Readers are not held up; a writer may be told [`MapError::Busy`] while its object is copied.
    pub fn compact(&self, budget: usize) -> Compaction {
        let did = compact(&self.shared.arena, budget);
        let counters = &self.shared.counters;
        count(&counters.compactions, 1);
        count(&counters.pages_freed, did.pages_freed);
        count(&counters.bytes_moved, did.bytes_moved);
        count(&counters.objects_moved, did.objects_moved);
        did
    }

    /// Gives back what the pool holds without need: pages kept by the source, scratch buffers, what
    /// readers left behind. Moves nothing.
    pub fn trim(&self) {
        let arena = &self.shared.arena;
        arena.tidy();
        self.shared.scratch.trim(&arena.ledger);
        arena.zspages.source().trim(&arena.ledger);
    }

    /// Changes the cap on bytes held. Below what is held now, allocations fail until enough is freed;
    /// nothing is freed by this call.
    pub fn set_max_bytes(&self, bytes: usize) {
        self.shared.arena.ledger.set_max_bytes(bytes);
    }

    /// Changes the cap on pages held, likewise.
    pub fn set_max_pages(&self, pages: usize) {
        self.shared.arena.ledger.set_max_pages(pages);
    }

    /// A snapshot of all counters. Takes each class's lock in turn.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        snapshot(&self.shared)
    }

    /// Asserts every invariant of the pool. For tests; call it while no other thread uses the pool
    /// and no object is being written.
    ///
    /// # Panics
    /// An invariant does not hold: a bug of this crate, or a page source that lies.
    pub fn check(&self) {
        crate::check::check(&self.shared.arena);
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
            .field("objects", &self.shared.arena.table.live())
            .field("held_bytes", &self.shared.arena.ledger.held())
            .finish_non_exhaustive()
    }
}
