//! The pool: the public face of the allocator. Here is what is made of one object after another;
//! storing them is in `alloc`, the memory of them all in `memory`.

use std::fmt;

use crate::arena::Arena;
use crate::config::{Config, SourceKind};
use crate::error::{AllocError, ConfigError, MapError, ReadError, Stale, WriteError};
use crate::fresh::Lent;
use crate::geometry::MAX_OBJECT;
use crate::guard::{MapMut, MapRef, MapWrite};
use crate::handle::{Handle, Lock, Pin, Place};
use crate::ladder::{self, Reach};
use crate::ledger::Ledger;
use crate::pinned::Pinned;
use crate::scratch::Buffer;
use crate::source::{File, Heap, PageSource, most_pages};
use crate::stats::count;
use crate::word::Refusal;

mod alloc;
mod ids;
mod memory;

/// A pool of objects packed into zspages: a userspace zsmalloc.
///
/// Objects are byte strings of 0 to `max_object` bytes, named by [`Handle`]s. A handle has to be
/// mapped to be used; while it is not, compaction may move its object. Beside each object the pool
/// keeps a record `T`, in the same cache line as the object's location: keep it small, 16 bytes or
/// less is what it is made for. A record is given once, to [`alloc_record`](Self::alloc_record),
/// and shared from then on: what has to change with the bytes belongs into atomics in it, or into
/// the bytes. `Pool<()>`, the default, is the plain allocator.
///
/// A pool is `Send + Sync`. Mapping for reading takes no lock: one compare-exchange pins the object
/// and one lets it go. No call waits for a guard; what a guard excludes answers [`MapError::Busy`].
/// The pool never calls back into user code but for `fill` of [`alloc_with`](Self::alloc_with) and
/// the `Drop` of records, both outside every lock.
///
/// Dropping a pool ends all objects and drops their records. Guards borrow the pool, so none is
/// left then. After `fork` a child must not use a pool of its parent's; [`MmapOptions::dont_fork`]
/// keeps its pages from being copied.
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
    /// Ids of a chunk: chunk `n` has the ids from `n * ID_CHUNK` to `(n + 1) * ID_CHUNK`.
    ///
    /// The pool's memory for ids comes with the first object of a chunk and goes with its last one;
    /// on systems whose pages are larger than 4 KiB, that of 2, 4, 8 or 16 chunks at once.
    pub const ID_CHUNK: u32 = 512;

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
                let options = options.page_size(config.page_size).for_pages(config.most_pages());
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
        if !source.is_fresh() {
            return Err(ConfigError::SourceInUse);
        }
        let ledger = Ledger::new(page_size, config.max_pages, config.max_bytes)
            .with_huge_tables(source.has_huge_pages());
        let arena = Arena::new(source, ledger, &config).map_err(ConfigError::TooSmall)?;
        Ok(Self { arena, max_object: config.max_object })
    }

    /// A scratch buffer for one who may wait: what is kept goes first.
    fn scratch_or_trim(&self, len: usize) -> Result<Buffer, AllocError> {
        self.arena.scratch.take(len, &self.arena.ledger).or_else(|_| {
            self.arena.trim();
            self.arena.take_scratch(len)
        })
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
        let buffer = self.arena.take_scratch(len).map_err(|_| MapError::OutOfMemory)?;
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

    /// Maps an object for reading. Takes no lock; several threads, and one thread several times,
    /// may map an object at once.
    ///
    /// Keep maps short: [`MapRef`] tells what a long one costs. An object that crosses a seam, or
    /// has no address, is copied into a scratch buffer of the pool's; at the cap there may be no
    /// room for one, and [`read_into`](Self::read_into) is the way then.
    ///
    /// # Errors
    /// See [`MapError`].
    #[inline]
    pub fn map(&self, handle: Handle) -> Result<MapRef<'_, T>, MapError> {
        let (mut pinned, mut copy) = (self.pin(handle)?, None);
        if pinned.bytes().is_none() {
            (pinned, copy) = self.copied(pinned)?;
        }
        Ok(MapRef::new(pinned, copy))
    }

    /// By value, so that `map` takes no address of its guard, which then goes from registers to its
    /// caller: 7 of 24 ns (`hit`, map, 1000 objects).
    #[cold]
    fn copied<'p>(
        &'p self,
        pinned: Pinned<'p, T>,
    ) -> Result<(Pinned<'p, T>, Option<Buffer>), MapError> {
        let copy = pinned.place().map(|place| self.copy_of(place)).transpose()?;
        Ok((pinned, copy))
    }

    /// Pins an object for reading: [`map`](Self::map) without a copy where the bytes are not one
    /// piece of memory.
    ///
    /// # Errors
    /// See [`MapError`]; never [`OutOfMemory`](MapError::OutOfMemory) or
    /// [`Source`](MapError::Source).
    #[inline]
    pub fn pin(&self, handle: Handle) -> Result<Pinned<'_, T>, MapError> {
        self.pinned(self.arena.table.pin(handle))
    }

    /// Pins whatever object has this [id](Self::id) just now.
    ///
    /// For callers that know by other means which object that is: an index of theirs that keeps
    /// ids, 4 bytes instead of a handle's 8, and takes an id out before it frees the object. No
    /// generation is compared here, so an id that outlived its object leads to the slot's next one.
    /// Who may hold such an id compares what the pinned object says: its
    /// [`handle`](Pinned::handle), record or bytes.
    ///
    /// # Errors
    /// See [`MapError`]; [`Stale`](MapError::Stale) when no object that is live has this id.
    ///
    /// ```
    /// use zpool::{Config, MapError, Pool};
    ///
    /// let pool: Pool = Pool::new(Config::new())?;
    /// let handle = pool.alloc(b"indexed")?;
    /// let id = pool.id(handle).expect("a handle of this pool");
    /// assert_eq!(pool.pin_id(id)?.handle(), handle);
    /// pool.free(handle)?;
    /// assert_eq!(pool.pin_id(id).err(), Some(MapError::Stale));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn pin_id(&self, id: u32) -> Result<Pinned<'_, T>, MapError> {
        let zspages = &self.arena.zspages;
        self.pinned(self.arena.table.pin_index(id, false, |location| zspages.prefetch(location)))
    }

    /// The same, also where there are as many pins as [`TooManyMaps`](MapError::TooManyMaps) says:
    /// one more for each object. For who holds a lock that others may wait for while they have
    /// pins, and would wait for those pins under that lock.
    ///
    /// # Errors
    /// See [`pin_id`](Self::pin_id). [`TooManyMaps`](MapError::TooManyMaps) if that one is taken as
    /// well.
    pub fn pin_id_reserved(&self, id: u32) -> Result<Pinned<'_, T>, MapError> {
        self.pinned(self.arena.table.pin_index(id, true, |_| ()))
    }

    #[inline(always)]
    fn pinned<'p>(&'p self, pin: Result<Pin<'p, T>, Refusal>) -> Result<Pinned<'p, T>, MapError> {
        match pin {
            Ok(pin) => Ok(Pinned::new(&self.arena, pin)),
            Err(refusal) => Err(self.refused(refusal)),
        }
    }

    /// The id of the object that `handle` names: the number of its slot, below
    /// [`ids`](Self::ids) and never `u32::MAX`. `None`: `handle` cannot be of this pool. This is
    /// arithmetic; whether the object is live is not looked at.
    ///
    /// No two objects that have not ended have the same id. One is given out again after its object
    /// ended: was freed, and its last guard dropped. A new object gets the lowest id that is free,
    /// so ids are dense where objects come and go; at the cap, it may be the lowest for which the
    /// pool has memory.
    #[inline]
    #[must_use]
    pub fn id(&self, handle: Handle) -> Option<u32> {
        self.arena.table.index(handle)
    }

    /// All ids in use are below this. It falls when a chunk of ids is given back. Takes no lock.
    #[inline]
    #[must_use]
    pub fn ids(&self) -> u32 {
        self.arena.table.end()
    }

    /// Maps an object for reading and writing, alone; its length stays.
    ///
    /// # Errors
    /// See [`MapError`]; [`MapError::Busy`] when it is mapped already.
    pub fn map_mut(&self, handle: Handle) -> Result<MapMut<'_, T>, MapError> {
        let guard = MapMut::new(&self.arena, self.arena.zspages.map_mut(self.lock(handle)?));
        guard.with_copy(|place| self.copy_of(place))
    }

    /// Locks an object and gives `len` zeroed bytes that will replace it. The old bytes are not
    /// read; they keep their place until the new ones take over, so both exist side by side for a
    /// while, and a pool at its cap may have no room for a replacement even by fewer bytes. Then
    /// free something first, use [`map_mut`](Self::map_mut) when the length stays, or `free` and
    /// `alloc`.
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
            len => ladder::place(arena, Reach::Top, len, owner)
                .and_then(|place| write.prepare(place, |len| self.scratch_or_trim(len))),
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
        self.pin(handle)?.read_into(to)
    }

    /// Calls `f` with the record of an object, without mapping its bytes. The object is pinned
    /// meanwhile.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn with_record<R>(&self, handle: Handle, f: impl FnOnce(&T) -> R) -> Result<R, MapError> {
        Ok(f(self.pin(handle)?.record()))
    }

    /// The length of an object in bytes.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn object_len(&self, handle: Handle) -> Result<usize, MapError> {
        Ok(self.pin(handle)?.len())
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

    /// The largest object, in bytes.
    #[must_use]
    pub fn max_object(&self) -> usize {
        self.max_object
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
