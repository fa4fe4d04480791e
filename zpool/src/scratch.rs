//! Scratch: buffers for objects that are not one piece of memory, pooled and charged.
//!
//! A map that needs a copy takes a buffer from a short stack or makes one. A few go back to the
//! stack, the rest to the allocator. No thread waits for the stack: when another one has it, a
//! buffer is made or dropped instead.

use crate::error::AllocError;
use crate::ledger::{Ledger, heap_cost};
use crate::sync::Mutex;

/// Buffers kept for the next map.
const KEPT: usize = 4;
/// Buffers are made in these steps, so that one fits many objects.
const STEP: usize = 4096;

/// A buffer of a pool, all zeros or bytes of the object that it was last used for.
pub(crate) type Buffer = Box<[u8]>;

#[derive(Debug)]
pub(crate) struct Scratch {
    spare: Mutex<[Option<Buffer>; KEPT]>,
    /// Buffers are overwritten with zeros before they are kept.
    scrub: bool,
}

impl Scratch {
    pub(crate) fn new(scrub: bool) -> Self {
        Self { spare: Mutex::new([const { None }; KEPT]), scrub }
    }

    /// A buffer of at least `len` bytes, of any content.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`] where the ledger refuses, [`AllocError::NoMemory`] where the heap
    /// does.
    pub(crate) fn take(&self, len: usize, ledger: &Ledger) -> Result<Buffer, AllocError> {
        if let Some(mut spare) = self.spare.try_lock() {
            let fits = |slot: &&mut Option<Buffer>| {
                slot.as_ref().is_some_and(|buffer| buffer.len() >= len)
            };
            let fitting = spare.iter_mut().find(fits);
            if let Some(buffer) = fitting.and_then(|slot| slot.take()) {
                return Ok(buffer);
            }
        }
        let bytes = len.next_multiple_of(STEP);
        ledger.reserve(heap_cost(bytes))?;
        let mut made = Vec::new();
        if made.try_reserve_exact(bytes).is_err() {
            ledger.release(heap_cost(bytes));
            return Err(AllocError::NoMemory);
        }
        made.resize(bytes, 0);
        Ok(made.into_boxed_slice())
    }

    pub(crate) fn give(&self, mut buffer: Buffer, ledger: &Ledger) {
        if self.scrub {
            buffer.fill(0);
        }
        if let Some(mut spare) = self.spare.try_lock() {
            if let Some(slot) = spare.iter_mut().find(|slot| slot.is_none()) {
                *slot = Some(buffer);
                return;
            }
        }
        discard(buffer, ledger);
    }

    /// Drops the kept buffers.
    pub(crate) fn trim(&self, ledger: &Ledger) {
        for slot in self.spare.lock().iter_mut() {
            if let Some(buffer) = slot.take() {
                discard(buffer, ledger);
            }
        }
    }
}

/// Drops a buffer, and then says so.
fn discard(buffer: Buffer, ledger: &Ledger) {
    let cost = heap_cost(buffer.len());
    drop(buffer);
    ledger.release(cost);
}
