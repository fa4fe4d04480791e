//! Heap blocks that may be refused: one for a value to come, and one that counts who holds its
//! value.
//! ```text
//! Blank -> value -> pointer       Blank -> Held, Held, ... -> the last one ends the value
//! ```
//! A `Box` or an `Arc` ends the process where the heap gives no memory. Here a missing block is an
//! error, which comes before anything else is done.

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;

use crate::directory::boxed;
use crate::error::AllocError;
use crate::ledger::heap_cost;
use crate::sync::{AtomicUsize, Ordering, model_bug};

/// The heap block of a `T` that is not there yet.
#[derive(Debug)]
pub(super) struct Blank<T>(Box<[MaybeUninit<T>; 1]>);

/// A value with the number of its holders.
struct Block<T> {
    holders: AtomicUsize,
    value: T,
}

/// A holder of a value, which ends with the last of its holders.
pub(super) struct Held<T>(NonNull<Block<T>>);

// SAFETY: holders in several threads share the value (`T: Sync`), and the last one drops it in its
// own (`T: Send`).
unsafe impl<T: Send + Sync> Send for Held<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Held<T> {}

impl<T> Blank<T> {
    /// Takes the block.
    ///
    /// # Errors
    /// [`AllocError::NoMemory`].
    pub(super) fn take() -> Result<Self, AllocError> {
        let block = boxed(1, MaybeUninit::uninit).and_then(|block| block.try_into().ok());
        block.map(Self).ok_or(AllocError::NoMemory)
    }

    /// Puts the value into the block, which is a `Box<T>` from here on: whoever gets this ends it
    /// as one.
    pub(super) fn fill(self, value: T) -> NonNull<T> {
        let Self(mut block) = self;
        block[0].write(value);
        NonNull::from(Box::leak(block)).cast()
    }
}

impl<T> Held<T> {
    /// What the heap block costs.
    pub(super) const BYTES: usize = heap_cost(size_of::<Block<T>>());

    /// Takes the block, then has `make` make the value: that may fail, too.
    ///
    /// # Errors
    /// [`AllocError::NoMemory`] for want of the block, or what `make` says.
    pub(super) fn new(make: impl FnOnce() -> Result<T, AllocError>) -> Result<Self, AllocError> {
        let block = Blank::take()?;
        let value = make()?;
        Ok(Self(block.fill(Block { holders: AtomicUsize::new(1), value })))
    }

    fn block(&self) -> &Block<T> {
        // SAFETY: the block ends in the drop of the last holder, and this one was not dropped.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Clone for Held<T> {
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed: the value stays for this holder, and so for the new one.
        let before = self.block().holders.fetch_add(1, Ordering::Relaxed);
        if before > isize::MAX as usize {
            // So many were forgotten that the count would come to zero beside holders.
            std::process::abort();
        }
        Self(self.0)
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.block().value
    }
}

impl<T> Drop for Held<T> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquire of the last holder to go: it ends the value after all
        // others read it.
        let order = model_bug!(HolderLeaveUnacquired, Ordering::AcqRel => Ordering::Release);
        let order = model_bug!(HolderLeaveUnreleased, order => Ordering::Acquire);
        if self.block().holders.fetch_sub(1, order) == 1 {
            // SAFETY: `Blank::fill` made the block a box, and the count came to zero once: no other
            // holder is left, and none can be cloned.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_value_ends_with_the_last_of_its_holders() {
        let value = Arc::new(7);
        let first = Held::new(|| Ok(Arc::clone(&value))).unwrap();
        let second = first.clone();
        drop(first);
        assert_eq!((**second, Arc::strong_count(&value)), (7, 2));
        drop(second);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_value_that_cannot_be_made_leaves_no_block() {
        let made = Held::<u8>::new(|| Err(AllocError::OutOfPages));
        assert_eq!(made.err(), Some(AllocError::OutOfPages));
    }
}
