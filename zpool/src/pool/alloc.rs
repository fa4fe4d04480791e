//! Storing objects: a slot and a place are found, the bytes written, and then the object published.

use super::Pool;
use crate::error::AllocError;
use crate::fresh::{Fresh, Lent};
use crate::handle::Handle;
use crate::ladder::{self, Reach};
use crate::stats::count;

impl<T: Send + Sync> Pool<T> {
    /// Stores a copy of `bytes` with `record` beside it.
    ///
    /// # Errors
    /// See [`AllocError`]; the record is dropped then.
    pub fn alloc_record(&self, record: T, bytes: &[u8]) -> Result<Handle, AllocError> {
        self.alloc_record_parts(record, [bytes, &[]]).map_err(|(error, _)| error)
    }

    /// Stores a copy of two `parts`, back to back, as one object, with `record` beside it.
    ///
    /// # Errors
    /// See [`AllocError`]; the record comes back.
    ///
    /// ```
    /// # use zpool::{Config, Pool};
    /// # let pool: Pool<u32> = Pool::new(Config::new()).unwrap();
    /// let handle = pool.alloc_record_parts(7, [b"payload", b"trailer"]).unwrap();
    /// assert_eq!(&*pool.map(handle).unwrap(), b"payloadtrailer");
    /// ```
    pub fn alloc_record_parts(
        &self,
        record: T,
        parts: [&[u8]; 2],
    ) -> Result<Handle, (AllocError, T)> {
        self.alloc_parts(Reach::Top, record, parts, |_| true)
    }

    /// The same, and `ready` is asked first whether the object may have its [id](Self::id): see
    /// [`try_alloc_record_at`](Self::try_alloc_record_at).
    ///
    /// # Errors
    /// See [`AllocError`]; the record comes back.
    pub fn alloc_record_parts_at(
        &self,
        record: T,
        parts: [&[u8]; 2],
        ready: impl FnOnce(u32) -> bool,
    ) -> Result<Handle, (AllocError, T)> {
        self.alloc_parts(Reach::Top, record, parts, ready)
    }

    /// The same where there is room at hand: a free slot of a class that is made for the length, or
    /// pages under the cap for one more zspage of the usual chain. Moves nothing, gives back
    /// nothing and uses neither shorter chains nor larger classes, so that a caller who can make
    /// room in another way, or do without, is answered at once.
    ///
    /// # Errors
    /// See [`AllocError`]; the record comes back. [`AllocError::OutOfPages`] says that there is no
    /// room at hand; it does not count as a failure in the [statistics](crate::Failures).
    ///
    /// ```
    /// # use zpool::{AllocError, Config, Pool};
    /// let pool: Pool<u32> = Pool::new(Config::new().max_pages(0)).unwrap();
    /// let refused = pool.try_alloc_record(7, [b"payload", b"trailer"]);
    /// assert_eq!(refused, Err((AllocError::OutOfPages, 7)));
    /// ```
    pub fn try_alloc_record(
        &self,
        record: T,
        parts: [&[u8]; 2],
    ) -> Result<Handle, (AllocError, T)> {
        self.alloc_parts(Reach::AtHand, record, parts, |_| true)
    }

    /// [`try_alloc_record`](Self::try_alloc_record), and `ready` is asked first whether the object
    /// may have its [id](Self::id), before anything else is taken for it.
    ///
    /// For callers with arrays beside the ids, which need room for this one. `ready` runs outside
    /// every lock, so it may take memory, [reserve](Self::reserve) bytes or call the pool. Where it
    /// says no or panics, the id goes back and nothing is stored; the next object may well be
    /// offered the same id.
    ///
    /// # Errors
    /// See [`AllocError`]; the record comes back. [`AllocError::NotReady`]: `ready` said no.
    ///
    /// ```
    /// # use zpool::{AllocError, Config, Pool};
    /// # use std::cell::RefCell;
    /// let pool: Pool<u32> = Pool::new(Config::new()).unwrap();
    /// // A byte for each id, with memory for whole chunks of them.
    /// let marks = RefCell::new(Vec::<u8>::new());
    /// let ready = |id: u32| {
    ///     let end = (id as usize + 1).next_multiple_of(Pool::<u32>::ID_CHUNK as usize);
    ///     let mut marks = marks.borrow_mut();
    ///     let missing = end.saturating_sub(marks.len());
    ///     let room = marks.try_reserve(missing).is_ok();
    ///     if room && missing > 0 {
    ///         marks.resize(end, 0);
    ///     }
    ///     room
    /// };
    /// let handle = pool.try_alloc_record_at(7, [b"payload", b"trailer"], ready).unwrap();
    /// marks.borrow_mut()[pool.id(handle).unwrap() as usize] = 1;
    ///
    /// let refused = pool.try_alloc_record_at(8, [b"payload", b""], |_| false);
    /// assert_eq!(refused, Err((AllocError::NotReady, 8)));
    /// ```
    pub fn try_alloc_record_at(
        &self,
        record: T,
        parts: [&[u8]; 2],
        ready: impl FnOnce(u32) -> bool,
    ) -> Result<Handle, (AllocError, T)> {
        self.alloc_parts(Reach::AtHand, record, parts, ready)
    }

    fn alloc_parts(
        &self,
        reach: Reach,
        record: T,
        [first, second]: [&[u8]; 2],
        ready: impl FnOnce(u32) -> bool,
    ) -> Result<Handle, (AllocError, T)> {
        let len = first.len() + second.len();
        let mut fresh = match self.fresh(reach, len, ready) {
            Ok(fresh) => fresh,
            Err(error) => return Err((error, record)),
        };
        if let Some(place) = &mut fresh.place {
            let zspages = &self.arena.zspages;
            if let Some(to) = zspages.bytes_mut(place, len) {
                to[..first.len()].copy_from_slice(first);
                to[first.len()..].copy_from_slice(second);
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

    /// Stores an object of `len` bytes that `fill` writes, with `record` beside it. `fill` sees
    /// zeros and runs outside every lock; if it panics, nothing is stored.
    ///
    /// # Errors
    /// See [`AllocError`]; the record is dropped then.
    pub fn alloc_record_with(
        &self,
        record: T,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Handle, AllocError> {
        let mut fresh = self.fresh(Reach::Top, len, |_| true)?;
        let arena = &self.arena;
        match &mut fresh.place {
            None => fill(&mut []),
            Some(place) => match arena.zspages.bytes_mut(place, len) {
                Some(bytes) => {
                    bytes.fill(0);
                    fill(bytes);
                }
                None => {
                    let buffer = self.scratch_or_trim(len)?;
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

    fn fresh(
        &self,
        reach: Reach,
        len: usize,
        ready: impl FnOnce(u32) -> bool,
    ) -> Result<Fresh<'_, T>, AllocError> {
        let counters = &self.arena.counters;
        if len > self.max_object {
            count(&counters.too_large, 1);
            return Err(AllocError::TooLarge(len));
        }
        let arena = &self.arena;
        let failed = |error| {
            if reach == Reach::Top {
                count(&counters.out_of_pages, 1);
            }
            error
        };
        let vacant = ladder::vacant(arena, reach).map_err(failed)?;
        if !ready(vacant.index()) {
            return Err(AllocError::NotReady);
        }
        let place = match len {
            0 => None,
            len => Some(ladder::place(arena, reach, len, vacant.index()).map_err(failed)?),
        };
        Ok(Fresh { arena, vacant: Some(vacant), place })
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
