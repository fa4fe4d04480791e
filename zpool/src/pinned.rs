//! Pinned objects: what [`Pool::pin`] and [`Pool::pin_id`] give, and what a shared map stands on.
//!
//! [`Pool::pin`]: crate::Pool::pin
//! [`Pool::pin_id`]: crate::Pool::pin_id

use std::fmt;

use crate::arena::Arena;
use crate::error::{MapError, ReadError};
use crate::handle::{Handle, Pin, Place};
use crate::stats::count;
use crate::zspage::Mapped;

/// An object pinned for reading, by [`Pool::pin`](crate::Pool::pin): a [`MapRef`](crate::MapRef)
/// without the copy that one makes of an object over a seam. It never needs memory, and is as cheap
/// where the bytes are not wanted.
///
/// What holds for a `MapRef` holds for this as well: up to 1021 share an object, dropping the last
/// one of a freed object ends it, and while one exists its object cannot be moved or written to.
///
/// ```
/// use zpool::{Config, Pool};
///
/// let pool: Pool<u32> = Pool::new(Config::new())?;
/// let handle = pool.alloc_record(7, b"packed")?;
/// let pinned = pool.pin(handle)?;
/// assert_eq!((*pinned.record(), pinned.len(), pinned.handle()), (7, 6, handle));
/// let mut buffer = [0; 4096];
/// let packed = match pinned.bytes() {
///     Some(bytes) => bytes,
///     None => {
///         let len = pinned.read_into(&mut buffer)?;
///         &buffer[..len]
///     }
/// };
/// assert_eq!(packed, b"packed");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "an object stays in its place as long as it is pinned"]
pub struct Pinned<'p, T = ()> {
    arena: &'p Arena<T>,
    mapped: Option<Mapped<'p, T>>,
}

impl<'p, T> Pinned<'p, T> {
    #[inline]
    pub(crate) fn new(arena: &'p Arena<T>, pin: Pin<'p, T>) -> Self {
        Self { arena, mapped: Some(arena.zspages.map(pin)) }
    }

    #[inline]
    pub(crate) fn arena(&self) -> &'p Arena<T> {
        self.arena
    }

    #[inline]
    fn mapped(&self) -> &Mapped<'p, T> {
        self.mapped.as_ref().expect("pinned until it is dropped")
    }

    /// Where the object is; `None` for one of length 0.
    #[inline]
    pub(crate) fn place(&self) -> Option<&Place> {
        self.mapped().pin().place()
    }

    /// The record that was stored beside the object.
    #[inline]
    #[must_use]
    pub fn record(&self) -> &T {
        self.mapped().pin().record()
    }

    /// The object's length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.mapped().pin().len()
    }

    /// Whether the object has length 0.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The object's bytes where they are. `None`: they cross a seam or have no address, and
    /// [`read_into`](Self::read_into) is the way to them. An object of length 0 is always `Some`.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        self.mapped().bytes()
    }

    /// Copies the object to the start of `to` and returns its length: needs no memory, whatever the
    /// object lies on.
    ///
    /// # Errors
    /// See [`ReadError`]. Beyond a buffer that is too small, only a page source can fail here:
    /// [`MapError::Source`].
    #[inline]
    pub fn read_into(&self, to: &mut [u8]) -> Result<usize, ReadError> {
        let len = self.len();
        let to = to.get_mut(..len).ok_or(ReadError::BufferTooSmall(len))?;
        match self.bytes() {
            Some(bytes) => to.copy_from_slice(bytes),
            None => self.read_pieces(to)?,
        }
        Ok(len)
    }

    fn read_pieces(&self, to: &mut [u8]) -> Result<(), MapError> {
        let read = self.place().map_or(Ok(()), |place| self.arena.zspages.read_at(place, 0, to));
        read.map_err(|_| {
            count(&self.arena.counters.load_failures, 1);
            MapError::Source
        })
    }

    /// The object's handle. It is stale by now if the object was freed while it was pinned.
    #[inline]
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.mapped().pin().handle()
    }

    /// The object's [id](crate::Pool::id), no other object's as long as this is pinned.
    #[inline]
    #[must_use]
    pub fn id(&self) -> u32 {
        self.mapped().pin().index()
    }
}

impl<T> Drop for Pinned<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let Some(pin) = self.mapped.take().map(Mapped::into_pin) else { return };
        self.arena.zspages.touch(pin.place(), false);
        if let Some(ended) = pin.unpin() {
            self.arena.end_unwaiting(ended);
        }
    }
}

impl<T> fmt::Debug for Pinned<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned")
            .field("id", &self.id())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
