//! Pages that are longer than an object can be: the pieces that they are cut into.
//! ```text
//! entry's id -> its pieces' handles, and their bytes
//! ```
//! A piece is an object of its own, stored like a page. It has a record with a clone of the key,
//! but no place in the index and the policy. Its page's entry stands there for all of them. The
//! entry has an object without a payload.
//!
//! The pieces are freed when their entry ends, whoever reads them. A reader that finds one freed
//! knows that the entry has left the index, and looks the key up again: all pieces or nothing.

use std::collections::HashMap;

use zpool::Handle;
use zpool::source::heap_cost;

use super::Full;
use crate::sync::{Counter, Mutex, add, get, sub};

/// What a page's place in the map is charged for, in bytes. The map has no more than this for each
/// page: its places take 33 bytes, and no more than one in seven of them is in use where it gets
/// smaller.
const PLACE: usize = 256;
/// Places beyond which the map gets smaller when most are free.
const FEW: usize = 16;
const SPARSE: usize = 6;

/// The pieces of one page, in their order.
#[derive(Debug)]
pub(crate) struct Pieces {
    pub(crate) handles: Box<[Handle]>,
    /// Bytes of their objects.
    pub(crate) bytes: usize,
}

/// The pages of a cache that have pieces.
#[derive(Debug)]
pub(crate) struct Large {
    pages: Mutex<HashMap<u32, Pieces>>,
    /// Pieces of all pages.
    pieces: Counter,
}

impl Large {
    /// What it takes with few pages or none.
    pub(crate) const FIXED_BYTES: usize = heap_cost(size_of::<Self>()) + heap_cost(2 << 10);

    pub(super) fn new() -> Self {
        Self { pages: Mutex::new(HashMap::new()), pieces: Counter::new(0) }
    }

    /// What a page with so many pieces is charged for.
    pub(crate) const fn cost(pieces: usize) -> usize {
        PLACE + heap_cost(pieces * size_of::<Handle>())
    }

    /// Entry `id` has these pieces from now on. What they cost is charged.
    ///
    /// # Errors
    /// No memory; they are given back.
    pub(crate) fn put(&self, id: u32, pieces: Pieces) -> Result<(), (Full, Pieces)> {
        let mut pages = self.pages.lock();
        if pages.try_reserve(1).is_err() {
            return Err((Full::NoMemory, pieces));
        }
        add(&self.pieces, pieces.handles.len() as u64);
        let before = pages.insert(id, pieces);
        debug_assert!(before.is_none(), "an entry has its pieces once");
        Ok(())
    }

    /// Takes the pieces of entry `id`, which ends.
    pub(crate) fn take(&self, id: u32) -> Option<Pieces> {
        let mut pages = self.pages.lock();
        let pieces = pages.remove(&id)?;
        sub(&self.pieces, pieces.handles.len() as u64);
        let mut fewer = HashMap::new();
        // Where the heap has no memory for that, the map stays as it is until the next one goes.
        if pages.capacity() > FEW
            && pages.len() < pages.capacity() / SPARSE
            && fewer.try_reserve(2 * pages.len()).is_ok()
        {
            fewer.extend(pages.drain());
            *pages = fewer;
        }
        Some(pieces)
    }

    /// The piece of entry `id` with this number. `None`: it has none, or has ended.
    pub(crate) fn piece(&self, id: u32, number: usize) -> Option<Handle> {
        self.pages.lock().get(&id)?.handles.get(number).copied()
    }

    /// Bytes of the objects of an entry's pieces.
    pub(crate) fn bytes(&self, id: u32) -> usize {
        self.pages.lock().get(&id).map_or(0, |pieces| pieces.bytes)
    }

    /// Pieces of all pages.
    pub(crate) fn pieces(&self) -> usize {
        get(&self.pieces) as usize
    }

    /// What all of it is charged for.
    pub(crate) fn charged(&self) -> usize {
        self.pages.lock().values().map(|pieces| Self::cost(pieces.handles.len())).sum()
    }
}
