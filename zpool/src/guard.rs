//! Mapped objects: what [`Pool::map`], [`Pool::map_mut`] and [`Pool::map_write`] give.
//!
//! A guard pins one object and derefs to its bytes. These are the object's own memory where that is
//! one piece. They are a copy in a scratch buffer where it crosses a true seam or has no address.
//! Which copies a mode implies is zsmalloc's rule: reading never copies back, writing only never
//! copies in.
//!
//! [`MapRef`] says what a guard holds up, and for how long.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::arena::Arena;
use crate::error::{AllocError, MapError, StoreError};
use crate::handle::{Handle, Place, Unlocked};
use crate::pinned::Pinned;
use crate::scratch::Buffer;
use crate::sync::Ordering;
use crate::zspage::MappedMut;

/// An object mapped for reading, by [`Pool::map`](crate::Pool::map). Derefs to its bytes.
///
/// Up to 1021 of these can share an object. Dropping it is one addition; if the object was
/// freed meanwhile and this was its last guard, the object ends here, without waiting for any lock.
///
/// Keep guards short-lived. While one exists its object cannot be moved, so its zspage, a chain of
/// up to 64 pages, cannot be given back by compaction; writers are refused; and a free of it takes
/// effect for the memory only when the last guard goes. A guard that is forgotten (`mem::forget`),
/// or whose thread dies, pins that one object for good, and nothing else.
///
/// A guard cannot outlive its pool:
///
/// ```compile_fail,E0597
/// # use zpool::{Config, Pool};
/// let map = {
///     let pool: Pool = Pool::new(Config::new()).unwrap();
///     let handle = pool.alloc(b"bytes").unwrap();
///     pool.map(handle).unwrap()
/// };
/// ```
#[must_use = "an object stays pinned as long as it is mapped"]
pub struct MapRef<'p, T = ()> {
    pinned: Pinned<'p, T>,
    copy: Option<Buffer>,
}

/// An object mapped for reading and writing, by [`Pool::map_mut`](crate::Pool::map_mut). Derefs to
/// its bytes, whose number is fixed.
///
/// A panic while it is mapped leaves the bytes written so far, as with any `&mut [u8]`.
#[must_use = "an object stays pinned as long as it is mapped"]
pub struct MapMut<'p, T = ()> {
    arena: &'p Arena<T>,
    mapped: Option<MappedMut<'p, T>>,
    copy: Option<Buffer>,
}

/// An object mapped for being replaced, by [`Pool::map_write`](crate::Pool::map_write). Derefs to
/// the new bytes, zeros at first; the old ones are never seen here.
///
/// The object takes its new bytes and length when this is dropped or [`finish`](Self::finish)ed.
/// When it is [`cancel`](Self::cancel)led, or dropped by a panic, the old object stays.
///
/// **Leaving a function early with `?` drops the guard and so stores what is there.** Where filling
/// it can fail, make the bytes elsewhere first and copy them, or cancel on the way out. The record
/// stays the one that was given to `alloc_record`.
#[must_use = "an object stays pinned as long as it is mapped"]
pub struct MapWrite<'p, T = ()> {
    arena: &'p Arena<T>,
    mapped: Option<MappedMut<'p, T>>,
    /// Where the new bytes go; `None` when there are none.
    to: Option<Place>,
    len: usize,
    copy: Option<Buffer>,
    /// Whether the thread was unwinding already when it mapped.
    unwinding: bool,
}

impl<'p, T> MapRef<'p, T> {
    /// An object and the copy that it needs if it is not one piece of memory.
    #[inline]
    pub(crate) fn new(pinned: Pinned<'p, T>, copy: Option<Buffer>) -> Self {
        Self { pinned, copy }
    }

    /// The record that was stored beside the object.
    #[inline]
    #[must_use]
    pub fn record(&self) -> &T {
        self.pinned.record()
    }

    /// The object's handle. It is stale by now if the object was freed while it was mapped.
    #[inline]
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.pinned.handle()
    }

    /// Whether this map is a copy: the object crosses a seam, or its pages have no address.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        self.copy.is_some()
    }
}

impl<T> Deref for MapRef<'_, T> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match (self.pinned.bytes(), &self.copy) {
            (Some(bytes), _) => bytes,
            (None, Some(copy)) => &copy[..self.pinned.len()],
            (None, None) => &[],
        }
    }
}

impl<T> Drop for MapRef<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(copy) = self.copy.take() {
            self.pinned.arena().give_scratch(copy);
        }
    }
}

/// What comes of giving an exclusive pin back.
fn settle<T>(arena: &Arena<T>, unlocked: Unlocked<T>) {
    if let Some(left) = unlocked.left {
        arena.release(left, None);
    }
    if let Some(ended) = unlocked.ended {
        arena.end(ended);
    }
}

impl<'p, T> MapMut<'p, T> {
    pub(crate) fn new(arena: &'p Arena<T>, mapped: MappedMut<'p, T>) -> Self {
        Self { arena, mapped: Some(mapped), copy: None }
    }

    /// Makes the copy that an object needs which is not one piece of memory; for the others
    /// `copy_of` is not called.
    pub(crate) fn with_copy(
        mut self,
        copy_of: impl FnOnce(&Place) -> Result<Buffer, MapError>,
    ) -> Result<Self, MapError> {
        if self.mapped().bytes().is_none() {
            self.copy = self.mapped().lock().pin().place().map(copy_of).transpose()?;
        }
        Ok(self)
    }

    fn mapped(&self) -> &MappedMut<'p, T> {
        self.mapped.as_ref().expect("mapped until it is dropped")
    }

    /// The record that was stored beside the object.
    #[must_use]
    pub fn record(&self) -> &T {
        self.mapped().lock().pin().record()
    }

    /// Unmaps the object and says whether its bytes were stored, which a drop cannot.
    ///
    /// # Errors
    /// The page source could not store them all. The object is freed then: it is lost rather than
    /// torn. Addressable sources never fail here.
    pub fn finish(mut self) -> Result<(), StoreError> {
        self.close()
    }

    fn close(&mut self) -> Result<(), StoreError> {
        let Some(mut mapped) = self.mapped.take() else { return Ok(()) };
        let arena = self.arena;
        let mut stored = Ok(());
        if let Some(copy) = self.copy.take() {
            stored = mapped.write_back(&arena.zspages, &copy).map_err(|_| StoreError);
            arena.give_scratch(copy);
        }
        let lock = mapped.into_lock();
        arena.zspages.touch(lock.pin().place(), true);
        if stored.is_ok() {
            settle(arena, lock.unlock());
        } else {
            arena.counters.store_failures.fetch_add(1, Ordering::Relaxed);
            arena.end(lock.free());
        }
        stored
    }
}

impl<T> Deref for MapMut<'_, T> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let mapped = self.mapped();
        match (mapped.bytes(), &self.copy) {
            (Some(bytes), _) => bytes,
            (None, Some(copy)) => &copy[..mapped.lock().pin().len()],
            (None, None) => &[],
        }
    }
}

impl<T> DerefMut for MapMut<'_, T> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let mapped = self.mapped.as_mut().expect("mapped until it is dropped");
        let len = mapped.lock().pin().len();
        match (mapped.bytes_mut(), &mut self.copy) {
            (Some(bytes), _) => bytes,
            (None, Some(copy)) => &mut copy[..len],
            (None, None) => &mut [],
        }
    }
}

impl<T> Drop for MapMut<'_, T> {
    fn drop(&mut self) {
        // Counted in the statistics; `finish` is for those who want to know.
        let _ = self.close();
    }
}

impl<'p, T> MapWrite<'p, T> {
    pub(crate) fn new(arena: &'p Arena<T>, mapped: MappedMut<'p, T>, len: usize) -> Self {
        let unwinding = std::thread::panicking();
        Self { arena, mapped: Some(mapped), to: None, len, copy: None, unwinding }
    }

    /// Takes the place for the new bytes and makes them zeros, in a buffer where they are not one
    /// piece of memory. An error is that of `scratch`.
    pub(crate) fn prepare(
        &mut self,
        place: Place,
        scratch: impl FnOnce(usize) -> Result<Buffer, AllocError>,
    ) -> Result<(), AllocError> {
        let place = self.to.insert(place);
        let bytes = match self.arena.zspages.bytes_mut(place, self.len) {
            Some(bytes) => bytes,
            None => &mut self.copy.insert(scratch(self.len)?)[..self.len],
        };
        bytes.fill(0);
        Ok(())
    }

    /// The record that was stored beside the object.
    #[must_use]
    pub fn record(&self) -> &T {
        self.mapped.as_ref().expect("mapped until it is dropped").lock().pin().record()
    }

    /// Replaces the object and says whether that was done, which a drop cannot.
    ///
    /// # Errors
    /// The page source could not store the new bytes; the old object stays. Addressable sources
    /// never fail here.
    pub fn finish(mut self) -> Result<(), StoreError> {
        self.close(true)
    }

    /// Leaves the object as it was.
    pub fn cancel(mut self) {
        let _ = self.close(false);
    }

    fn close(&mut self, replace: bool) -> Result<(), StoreError> {
        let Some(mapped) = self.mapped.take() else { return Ok(()) };
        let arena = self.arena;
        let mut stored = Ok(());
        if let (Some(copy), Some(to), true) = (&self.copy, &mut self.to, replace) {
            stored = arena.zspages.write_at(to, 0, &copy[..self.len]).map_err(|_| StoreError);
        }
        if let Some(copy) = self.copy.take() {
            arena.give_scratch(copy);
        }
        let lock = mapped.into_lock();
        if replace && stored.is_ok() {
            let before = lock.pin().len();
            arena.grew(self.len);
            let unlocked = lock.unlock_at(self.to.take(), self.len);
            // An object that ended meanwhile ended at its old length.
            arena.shrank(if unlocked.ended.is_some() { self.len } else { before });
            settle(arena, unlocked);
        } else {
            if stored.is_err() {
                arena.counters.store_failures.fetch_add(1, Ordering::Relaxed);
            }
            // First the place: what settling ends may have a record whose drop panics.
            if let Some(to) = self.to.take() {
                arena.release(to, None);
            }
            settle(arena, lock.unlock());
        }
        stored
    }
}

impl<T> Deref for MapWrite<'_, T> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match (&self.copy, &self.to) {
            (Some(copy), _) => &copy[..self.len],
            (None, Some(to)) => self.arena.zspages.bytes(to, self.len).unwrap_or(&[]),
            (None, None) => &[],
        }
    }
}

impl<T> DerefMut for MapWrite<'_, T> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match (&mut self.copy, &mut self.to) {
            (Some(copy), _) => &mut copy[..self.len],
            (None, Some(to)) => self.arena.zspages.bytes_mut(to, self.len).unwrap_or(&mut []),
            (None, None) => &mut [],
        }
    }
}

impl<T> Drop for MapWrite<'_, T> {
    fn drop(&mut self) {
        let _ = self.close(self.unwinding || !std::thread::panicking());
    }
}

impl<T> fmt::Debug for MapRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapRef").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for MapMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapMut").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for MapWrite<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapWrite").field("len", &self.len).finish_non_exhaustive()
    }
}
