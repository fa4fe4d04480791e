//! A block of a global allocator, called directly: the row that a pool's object stands beside.

use std::alloc::{GlobalAlloc, Layout, handle_alloc_error};
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::slice;

/// A copy of some bytes in memory of `A`: what `Vec<u8>` is when `A` is the program's allocator.
pub struct Block<'a, A: GlobalAlloc> {
    allocator: &'a A,
    start: NonNull<u8>,
    len: usize,
}

/// The layout of a block of `len` bytes, which is never 0.
fn layout(len: usize) -> Layout {
    Layout::array::<u8>(len.max(1)).expect("a block is smaller than the address space")
}

impl<'a, A: GlobalAlloc> Block<'a, A> {
    /// Copies `bytes`.
    pub fn new(allocator: &'a A, bytes: &[u8]) -> Self {
        let layout = layout(bytes.len());
        // SAFETY: the layout has at least one byte.
        let start = unsafe { allocator.alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        // SAFETY: the block has room for `bytes.len()` bytes, and nothing else knows it yet.
        unsafe { start.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Self { allocator, start, len: bytes.len() }
    }
}

impl<A: GlobalAlloc> Deref for Block<'_, A> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `new` wrote `len` bytes at `start`; they are this block's until it is dropped.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<A: GlobalAlloc> Drop for Block<'_, A> {
    fn drop(&mut self) {
        // SAFETY: `new` got the block from this allocator with this layout; it is given back once.
        unsafe { self.allocator.dealloc(self.start.as_ptr(), layout(self.len)) };
    }
}

// SAFETY: a block owns its bytes alone, and may be freed from a thread that shares its allocator.
unsafe impl<A: GlobalAlloc + Sync> Send for Block<'_, A> {}
// SAFETY: a shared block gives shared bytes only.
unsafe impl<A: GlobalAlloc + Sync> Sync for Block<'_, A> {}

impl<A: GlobalAlloc> fmt::Debug for Block<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;

    use super::*;

    #[test]
    fn a_block_holds_its_bytes() {
        let blocks: Vec<_> = (0..200_u8).map(|n| Block::new(&System, &vec![n; n.into()])).collect();
        assert!(blocks.iter().zip(0_u8..).all(|(block, n)| block[..] == vec![n; n.into()][..]));
    }
}
