//! Elements side by side whose memory comes and goes.

use std::alloc::{Layout, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;

use super::{Blank, block, page_bytes};
use crate::sync::{AtomicUsize, Ordering, PLAIN_ATOMICS};

/// Elements side by side, as many as were asked for, blank at first. Those below `reach` can be
/// looked at: what the system takes back of them is blank again, and is memory again when somebody
/// writes there.
#[derive(Debug)]
pub(super) struct Run<V: Blank> {
    start: NonNull<V>,
    len: usize,
    reach: AtomicUsize,
    mapped: bool,
    owns: PhantomData<V>,
}

// SAFETY: it owns its elements, and hands out shared references alone.
unsafe impl<V: Blank + Send> Send for Run<V> {}
// SAFETY: as above.
unsafe impl<V: Blank + Sync> Sync for Run<V> {}

impl<V: Blank> Run<V> {
    /// Bytes of an element.
    const SIZE: usize = size_of::<V>();

    /// Whether `len` elements can be pages of the system's, which come and go.
    pub(super) fn is_mapped(len: usize) -> bool {
        let page = page_bytes();
        let whole = Self::SIZE.is_power_of_two() && align_of::<V>() <= page;
        block::MAPS && PLAIN_ATOMICS && whole && len * Self::SIZE >= page
    }

    fn layout(len: usize) -> Option<Layout> {
        Layout::array::<V>(len).ok().filter(|layout| layout.size() > 0)
    }

    /// `len` elements that nobody can look at yet, in address space alone. `None`: there is none.
    pub(super) fn mapped(len: usize) -> Option<Self> {
        let bytes = Self::layout(len)?.size().checked_next_multiple_of(page_bytes())?;
        let start = block::reserve(bytes)?;
        // What is opened of it is locked where the program locks what it gets.
        // SAFETY: `reserve` made it, of as many bytes.
        unsafe { block::unlock(start, bytes) };
        let start = start.cast();
        Some(Self { start, len, reach: AtomicUsize::new(0), mapped: true, owns: PhantomData })
    }

    /// `len` elements on the heap. `None`: it has no memory.
    pub(super) fn on_heap(len: usize) -> Option<Self> {
        let start = block::on_heap(Self::layout(len)?)?.cast::<V>();
        for at in (0..len).take_while(|_| !PLAIN_ATOMICS) {
            // SAFETY: `at < len`, inside the block.
            let element = unsafe { start.add(at) };
            // SAFETY: memory of the new block, which nobody else knows of.
            unsafe { element.write(V::blank()) };
        }
        Some(Self { start, len, reach: AtomicUsize::new(len), mapped: false, owns: PhantomData })
    }

    /// As std does where a `Box` gets no memory: the process ends.
    pub(super) fn on_heap_or_end(len: usize) -> Self {
        let layout = Self::layout(len).expect("elements that fit the address space");
        Self::on_heap(len).unwrap_or_else(|| handle_alloc_error(layout))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Element `index`, if it can be looked at.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&V> {
        // Acquire pairs with the Release in `open`.
        if index >= self.reach.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: `index < reach <= len`, so it is inside the run.
        let element = unsafe { self.start.add(index) };
        // SAFETY: below `reach` memory can be read, and holds a value: blank, or what was stored
        // there. It stays until the run, which is borrowed, goes.
        Some(unsafe { element.as_ref() })
    }

    /// Lets the elements below `end` be looked at; by one thread at a time. `false`: the system
    /// refuses.
    pub(super) fn open(&self, end: usize) -> bool {
        assert!(end <= self.len, "{end} elements of {}", self.len);
        let reach = self.reach.load(Ordering::Relaxed);
        if end <= reach {
            return true;
        }
        let page = page_bytes();
        let bytes = (reach * Self::SIZE).next_multiple_of(page)..end * Self::SIZE;
        if !bytes.is_empty() {
            let start = self.start.as_ptr().cast::<u8>().wrapping_add(bytes.start);
            // SAFETY: whole pages of what `mapped` reserved, which is whole pages as well.
            if !unsafe { block::commit(start, bytes.len().next_multiple_of(page)) } {
                return false;
            }
        }
        self.reach.store(end, Ordering::Release);
        true
    }

    /// Gives the memory of elements that nobody needs back, as far as it is whole pages; `false`:
    /// it stays, with their values.
    pub(super) fn discard(&self, elements: Range<usize>) -> bool {
        assert!(elements.end <= self.len, "{elements:?} of {}", self.len);
        if !PLAIN_ATOMICS {
            elements.filter_map(|index| self.get(index)).for_each(V::wipe);
            return true;
        }
        let page = page_bytes();
        let start = (elements.start * Self::SIZE).next_multiple_of(page);
        let bytes = start..(elements.end * Self::SIZE).next_multiple_of(page);
        let start = self.start.as_ptr().cast::<u8>().wrapping_add(bytes.start);
        // SAFETY: whole pages of what `mapped` reserved, behind those of elements that stay; nobody
        // needs what is there, and blank elements are as good.
        self.mapped && (bytes.is_empty() || unsafe { block::discard(start, bytes.len()) })
    }
}

impl<V: Blank> Drop for Run<V> {
    fn drop(&mut self) {
        for at in (0..self.len).take_while(|_| !PLAIN_ATOMICS) {
            // SAFETY: `at < len`, inside the run.
            let element = unsafe { self.start.add(at) };
            // SAFETY: `on_heap` wrote an element there, and nobody looks at it any more.
            unsafe { element.drop_in_place() };
        }
        let layout = Self::layout(self.len).expect("as when it was made");
        if self.mapped {
            let bytes = layout.size().next_multiple_of(page_bytes());
            // SAFETY: `mapped` reserved as many bytes there, and the run ends here.
            unsafe { block::unmap(self.start.cast(), bytes) };
        } else {
            // SAFETY: `on_heap` took it from the heap with this layout, and the run ends here.
            unsafe { block::off_heap(self.start.cast(), layout) };
        }
    }
}
