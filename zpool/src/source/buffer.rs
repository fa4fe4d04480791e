//! Buffers whose memory the system has back when they are dropped.
//!
//! A general-purpose allocator keeps what many threads free, in an arena for each of them, where
//! the bytes are not counted. On Unix a [`PageBuffer`] is a mapping of its own instead. That costs
//! two system calls and a page fault for each page, so users that need a buffer often keep it.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};

#[cfg(unix)]
use self::mapped::Block;
#[cfg(not(unix))]
use self::on_heap::Block;

/// A buffer of whole pages of the system's, all zeros when it is made.
///
/// No pool counts it: charge [`cost`](Self::cost) to one with
/// [`Pool::reserve`](crate::Pool::reserve) before it is made, and release the same when it is gone.
///
/// ```
/// use zpool::source::PageBuffer;
///
/// let mut buffer = PageBuffer::new(10_000)?;
/// buffer[9_999] = 7;
/// assert!(buffer.len() >= 10_000 && buffer.len() <= PageBuffer::cost(10_000));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Default)]
pub struct PageBuffer(Option<Block>);

impl PageBuffer {
    /// A buffer of `len` bytes, rounded up to whole pages; 0 bytes take no memory.
    ///
    /// # Errors
    /// The system, or the global allocator where there is no `mmap`, has no memory.
    pub fn new(len: usize) -> io::Result<Self> {
        Ok(Self(if len == 0 { None } else { Some(Block::new(len)?) }))
    }

    /// Bytes that a buffer of `len` bytes holds, everything counted.
    #[must_use]
    pub fn cost(len: usize) -> usize {
        if len == 0 { 0 } else { Block::cost(len) }
    }
}

impl Deref for PageBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], Block::bytes)
    }
}

impl DerefMut for PageBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_mut().map_or(&mut [], Block::bytes_mut)
    }
}

impl fmt::Debug for PageBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageBuffer").field("len", &self.len()).finish()
    }
}

/// An anonymous mapping for each buffer.
#[cfg(unix)]
mod mapped {
    use std::io;
    use std::ptr::{self, NonNull};
    use std::slice;

    use crate::source::limits::system_page;

    /// `len` bytes from `start` on: a mapping of ours, readable and writable, until this is
    /// dropped.
    pub(super) struct Block {
        start: NonNull<u8>,
        len: usize,
    }

    // SAFETY: a block owns its mapping as a `Box` owns its bytes, and `&Block` only reads them.
    unsafe impl Send for Block {}
    // SAFETY: as above.
    unsafe impl Sync for Block {}

    impl Block {
        /// A block of `len` bytes, above 0, rounded up to whole pages.
        pub(super) fn new(len: usize) -> io::Result<Self> {
            let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
            let len = len.checked_next_multiple_of(system_page()?).ok_or_else(too_large)?;
            if isize::try_from(len).is_err() {
                return Err(too_large());
            }
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
            // SAFETY: a new mapping wherever the system likes touches no memory that is in use.
            let start = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, -1, 0) };
            if start == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let start = NonNull::new(start.cast()).ok_or_else(too_large)?;
            let block = Self { start, len };
            block.forbid_huge_pages();
            Ok(block)
        }

        /// Bytes that a block of `len` bytes takes.
        pub(super) fn cost(len: usize) -> usize {
            let page = system_page().unwrap_or(4096);
            len.checked_next_multiple_of(page).unwrap_or(usize::MAX)
        }

        /// Buffers that lie side by side could become one huge page, of which no part would come
        /// back.
        fn forbid_huge_pages(&self) {
            #[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
            // SAFETY: the range is our own mapping, and the advice does not touch its bytes. A
            // kernel without huge pages refuses, rightly.
            unsafe {
                libc::madvise(self.start.as_ptr().cast(), self.len, libc::MADV_NOHUGEPAGE)
            };
        }

        #[inline]
        pub(super) fn bytes(&self) -> &[u8] {
            // SAFETY: `new` mapped `len` readable bytes, zeros at first; they are mapped as long as
            // this is there, and only `bytes_mut`, which takes it exclusively, writes to them.
            unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
        }

        #[inline]
        pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
            // SAFETY: as above, and the borrow is exclusive.
            unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
        }
    }

    impl Drop for Block {
        fn drop(&mut self) {
            // SAFETY: `new` mapped this range, and every borrow of its bytes ended before the
            // block.
            let result = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
            debug_assert_eq!(result, 0, "{}", io::Error::last_os_error());
        }
    }
}

/// A heap block for each buffer, where there is no `mmap`.
#[cfg(any(test, not(unix)))]
#[cfg_attr(unix, allow(dead_code, reason = "the block of other systems is tested here, too"))]
mod on_heap {
    use std::io;

    use crate::ledger::heap_cost;

    const STEP: usize = 4096;

    pub(super) struct Block(Vec<u8>);

    impl Block {
        pub(super) fn new(len: usize) -> io::Result<Self> {
            let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
            let len = len.checked_next_multiple_of(STEP).ok_or_else(too_large)?;
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(len)?;
            bytes.resize(len, 0);
            Ok(Self(bytes))
        }

        pub(super) fn cost(len: usize) -> usize {
            len.checked_next_multiple_of(STEP).map_or(usize::MAX, heap_cost)
        }

        #[inline]
        pub(super) fn bytes(&self) -> &[u8] {
            &self.0
        }

        #[inline]
        pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
            &mut self.0
        }
    }
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_zeros_as_long_as_asked_and_no_dearer_than_it_says() {
        for len in [1, 4095, 4096, 4097, 132 << 10] {
            let mut buffer = PageBuffer::new(len).unwrap();
            assert!(buffer.len() >= len && buffer.len() <= PageBuffer::cost(len));
            assert!(buffer.iter().all(|byte| *byte == 0));
            buffer.fill(0xa5);
            let other = PageBuffer::new(len).unwrap();
            assert!(other.iter().all(|byte| *byte == 0), "no two buffers share a byte");
            assert!(buffer.iter().all(|byte| *byte == 0xa5));
            let mut block = on_heap::Block::new(len).unwrap();
            block.bytes_mut().fill(1);
            assert!(block.bytes().len() >= len);
            assert!(block.bytes().len() < on_heap::Block::cost(len));
        }
    }

    #[test]
    fn no_bytes_take_no_memory_and_more_than_there_can_be_is_an_error() {
        let mut none = PageBuffer::new(0).unwrap();
        assert!(none.is_empty() && none.deref_mut().is_empty());
        assert_eq!((PageBuffer::cost(0), PageBuffer::default().len()), (0, 0));
        for len in [usize::MAX, usize::MAX - 5000, isize::MAX as usize] {
            assert!(PageBuffer::new(len).is_err());
            assert!(PageBuffer::cost(len) > isize::MAX as usize);
            assert!(on_heap::Block::new(len).is_err());
        }
    }
}
