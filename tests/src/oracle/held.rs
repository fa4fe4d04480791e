//! A guard that the oracle holds, with the bytes that it should show.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use zpool::{
    Handle, MapError, MapMut, MapRef, MapWrite, Pinned, Pool, ReadError, StoreError, WriteError,
};

use crate::ops::End;
use crate::pattern;
use crate::records::Tracked;

#[derive(Debug)]
enum Guard<'p> {
    Shared(MapRef<'p, Tracked>),
    Pinned(Pinned<'p, Tracked>),
    Mut(MapMut<'p, Tracked>),
    Write(MapWrite<'p, Tracked>),
}

#[derive(Debug)]
pub(super) struct Held<'p> {
    pub(super) handle: Handle,
    guard: Guard<'p>,
    /// What the object was when it was mapped; `None` for a map that does not show that.
    was: Option<Vec<u8>>,
    /// What the guard shows.
    bytes: Vec<u8>,
    record: u32,
}

impl<'p> Held<'p> {
    pub(super) fn shared(pool: &'p Pool<Tracked>, handle: Handle) -> Result<Self, MapError> {
        let guard = pool.map(handle)?;
        let (bytes, record) = (guard.to_vec(), guard.record().number());
        Ok(Self { handle, was: Some(bytes.clone()), bytes, record, guard: Guard::Shared(guard) })
    }

    /// By `pin`, or by `pin_id`; reads the object only if the page source lets it.
    pub(super) fn pinned(
        pool: &'p Pool<Tracked>,
        handle: Handle,
        by_id: bool,
    ) -> Result<Self, MapError> {
        let id = pool.id(handle).expect("a live handle has an id");
        let guard = if by_id { pool.pin_id(id) } else { pool.pin(handle) }?;
        assert_eq!((guard.handle(), guard.id()), (handle, id));
        let mut bytes = vec![0; guard.len()];
        match guard.read_into(&mut bytes) {
            Ok(len) => assert_eq!((len, len == 0), (bytes.len(), guard.is_empty())),
            Err(ReadError::Map(error)) => return Err(error),
            Err(error) => panic!("a buffer as long as the object: {error}"),
        }
        let record = guard.record().number();
        Ok(Self { handle, was: Some(bytes.clone()), bytes, record, guard: Guard::Pinned(guard) })
    }

    /// Overwrites the middle of the object.
    pub(super) fn exclusive_over(
        pool: &'p Pool<Tracked>,
        handle: Handle,
        seed: u64,
    ) -> Result<Self, MapError> {
        let mut guard = pool.map_mut(handle)?;
        let (was, record) = (guard.to_vec(), guard.record().number());
        let quarter = was.len() / 4;
        let end = was.len() - quarter;
        pattern::fill(seed, &mut guard[quarter..end]);
        let mut bytes = was.clone();
        pattern::fill(seed, &mut bytes[quarter..end]);
        Ok(Self { handle, was: Some(was), bytes, record, guard: Guard::Mut(guard) })
    }

    /// Writes `len` new bytes.
    pub(super) fn replacing(
        pool: &'p Pool<Tracked>,
        handle: Handle,
        len: usize,
        seed: u64,
    ) -> Result<Self, WriteError> {
        let mut guard = pool.map_write(handle, len)?;
        assert_eq!(guard.len(), len);
        assert!(guard.iter().all(|byte| *byte == 0), "map_write shows zeros");
        pattern::fill(seed, &mut guard);
        let record = guard.record().number();
        let bytes = pattern::bytes(seed, len);
        Ok(Self { handle, was: None, bytes, record, guard: Guard::Write(guard) })
    }

    pub(super) fn exclusive(&self) -> bool {
        !matches!(self.guard, Guard::Shared(_) | Guard::Pinned(_))
    }

    pub(super) fn is_mut(&self) -> bool {
        matches!(self.guard, Guard::Mut(_))
    }

    /// Whether it holds a slot beside its object's.
    pub(super) fn has_new_place(&self) -> bool {
        matches!(&self.guard, Guard::Write(guard) if !guard.is_empty())
    }

    pub(super) fn assert_was(&self, bytes: &[u8], record: u32) {
        assert!(self.was.as_ref().is_none_or(|was| was == bytes), "{} bytes", bytes.len());
        assert_eq!(self.record, record);
    }

    pub(super) fn assert_unchanged(&self) {
        let (bytes, record): (&[u8], _) = match &self.guard {
            Guard::Shared(guard) => (guard, guard.record()),
            Guard::Mut(guard) => (guard, guard.record()),
            Guard::Pinned(guard) => {
                assert_eq!(guard.handle(), self.handle, "also of an object freed meanwhile");
                (guard.bytes().unwrap_or(&self.bytes), guard.record())
            }
            Guard::Write(guard) => (guard, guard.record()),
        };
        assert!(*bytes == *self.bytes, "a guard's {} bytes changed under it", bytes.len());
        assert_eq!(record.number(), self.record);
    }

    /// What the object's bytes are from now on, if `Some`.
    pub(super) fn end(self, end: End) -> Result<Option<Vec<u8>>, StoreError> {
        let Self { guard, bytes, .. } = self;
        match (guard, end) {
            (Guard::Shared(guard), _) => {
                by_panic(guard, end == End::Panic);
                Ok(None)
            }
            (Guard::Pinned(guard), _) => {
                by_panic(guard, end == End::Panic);
                Ok(None)
            }
            (Guard::Mut(guard), End::Finish | End::Cancel) => guard.finish().map(|()| Some(bytes)),
            (Guard::Mut(guard), _) => {
                by_panic(guard, end == End::Panic);
                Ok(Some(bytes))
            }
            (Guard::Write(guard), End::Finish) => guard.finish().map(|()| Some(bytes)),
            (Guard::Write(guard), End::Cancel) => {
                guard.cancel();
                Ok(None)
            }
            (Guard::Write(guard), _) => {
                by_panic(guard, end == End::Panic);
                Ok((end != End::Panic).then_some(bytes))
            }
        }
    }

    /// What the object's bytes are behind the lost guard; nobody will see them.
    pub(super) fn forget(self) -> Option<Vec<u8>> {
        let Self { guard, bytes, .. } = self;
        match guard {
            Guard::Shared(guard) => std::mem::forget(guard),
            Guard::Pinned(guard) => std::mem::forget(guard),
            Guard::Mut(guard) => {
                std::mem::forget(guard);
                return Some(bytes);
            }
            Guard::Write(guard) => std::mem::forget(guard),
        }
        None
    }
}

/// Drops `guard`, by a panic if need be.
fn by_panic<G>(guard: G, panics: bool) {
    let caught = catch_unwind(AssertUnwindSafe(move || {
        let _guard = guard;
        if panics {
            resume_unwind(Box::new("planned"));
        }
    }));
    assert_eq!(caught.is_err(), panics);
}
