//! Storing objects.

use super::Pool;
use crate::error::AllocError;
use crate::fresh::{Fresh, Lent};
use crate::handle::Handle;
use crate::ladder;
use crate::scratch::Buffer;
use crate::stats::count;

impl<T: Send + Sync> Pool<T> {
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
    pub(super) fn scratch_or_trim(&self, len: usize) -> Option<Buffer> {
        self.arena.scratch.take(len, &self.arena.ledger).or_else(|| {
            self.arena.trim();
            self.arena.take_scratch(len)
        })
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
