//! Scratch: the memory that a compression or a decoding works with, buffers and the codecs'
//! contexts. And vectors, which callers write pages into.
//!
//! The two are lent apart. A buffer may be out while user code runs, so no thread waits for one
//! ([`Buffers`]). A context is out only while the codec works, so threads may wait for it, and
//! there are few ([`Contexts`]). However deep look-ups and hooks are in each other, a thread has
//! one context out at a time.
//!
//! All that is kept or out is charged. Memory that was not needed for some hundreds of operations
//! is dropped ([`Clock`]). That happens by itself, or when room is short: before any entry is
//! evicted.

use std::fmt;

use zpool::source::PageBuffer;

use super::buffers::{Buffers, LentBuffer, LentVec};
use super::charged::Full;
use super::clock::Clock;
use super::contexts::{Contexts, LentContext, Wanted};
use crate::sync::{AtomicUsize, Charge, Ordering};

/// Places for contexts, for each thread that can run at once: contexts that take no memory may be
/// in all of them, so that threads that were stopped in the middle of a page do not hold up others.
const DESKS: usize = 2;

pub(crate) struct Scratch {
    clock: Clock,
    buffers: Buffers,
    vecs: Buffers<Vec<u8>>,
    contexts: Contexts,
    /// The cache's capacity.
    capacity: AtomicUsize,
}

impl Scratch {
    /// For so many threads that can run at once.
    pub(crate) fn new(cores: usize, capacity: usize) -> Self {
        Self {
            clock: Clock::new(cores),
            buffers: Buffers::new(cores),
            vecs: Buffers::new(cores),
            contexts: Contexts::new(DESKS * cores, cores),
            capacity: AtomicUsize::new(capacity),
        }
    }

    pub(crate) const fn fixed_bytes(cores: usize) -> usize {
        Buffers::<PageBuffer>::fixed_bytes(cores)
            + Buffers::<Vec<u8>>::fixed_bytes(cores)
            + Contexts::fixed_bytes(DESKS * cores)
    }

    fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed) // an old value is a moment's
    }

    /// The capacity is another one.
    pub(crate) fn set_capacity(&self, capacity: usize, memory: &impl Charge) {
        self.capacity.store(capacity, Ordering::Relaxed);
        self.contexts.fit(capacity, memory);
    }

    /// A buffer, used before or new and empty.
    #[inline]
    pub(crate) fn buffer<'s, M: Charge>(&'s self, memory: &'s M) -> LentBuffer<'s, M> {
        self.buffers.lend(&self.clock, self.capacity(), memory)
    }

    /// An empty vector, used before or new, which is not kept with more room than `most` bytes.
    pub(crate) fn vec<'s, M: Charge>(&'s self, most: usize, memory: &'s M) -> LentVec<'s, M> {
        LentVec::new(self.vecs.lend(&self.clock, self.capacity(), memory), most)
    }

    /// A context of `coder` for pages of up to `len` bytes, if one is there that nobody has.
    #[inline]
    pub(crate) fn context<'s, M: Charge>(
        &'s self,
        len: usize,
        coder: u8,
        memory: &'s M,
    ) -> Option<LentContext<'s, M>> {
        self.contexts.find(len, coder, &self.clock, memory)
    }

    /// The same, or a new one; waits where there may be no more.
    ///
    /// # Errors
    /// No room for one.
    pub(crate) fn context_of<'s, M: Charge>(
        &'s self,
        wanted: Wanted<'_>,
        memory: &'s M,
    ) -> Result<LentContext<'s, M>, Full> {
        self.contexts.find_or_make(wanted, &self.clock, self.capacity(), memory)
    }

    /// Bytes of a context more that the calling thread, with none out, is to make room for.
    #[inline]
    pub(crate) fn take_wish(&self) -> Option<usize> {
        self.contexts.take_wish(&self.clock)
    }

    /// Drops the contexts of `coder`, with which nobody works any more.
    pub(crate) fn purge(&self, coder: u8, memory: &impl Charge) {
        self.contexts.purge(coder, memory);
    }

    /// Room is short: drops what is idle, and says whether that gave anything.
    #[inline]
    pub(crate) fn make_room(&self, memory: &impl Charge) -> bool {
        self.clock.round() && self.drop_idle(memory)
    }

    #[cold]
    fn drop_idle(&self, memory: &impl Charge) -> bool {
        let before = self.bytes();
        self.buffers.drop_idle(&self.clock, memory);
        self.vecs.drop_idle(&self.clock, memory);
        self.contexts.drop_idle(&self.clock, memory);
        self.bytes() < before
    }

    /// Drops whatever nobody has, and says whether that gave anything.
    pub(crate) fn trim(&self, memory: &impl Charge) -> bool {
        let before = self.bytes();
        self.buffers.trim(memory);
        self.vecs.trim(memory);
        self.contexts.trim(memory);
        self.bytes() < before
    }

    /// Bytes of all buffers, vectors and contexts, of those that are out as well.
    pub(crate) fn bytes(&self) -> usize {
        self.buffers.bytes() + self.vecs.bytes() + self.contexts.bytes()
    }

    /// Asserts that bytes are counted; nothing may be out.
    ///
    /// # Panics
    /// They are not.
    pub(crate) fn check(&self) {
        let kept = self.buffers.kept_bytes();
        assert_eq!(self.buffers.bytes(), kept, "bytes of buffers are counted");
        assert_eq!(self.vecs.bytes(), self.vecs.kept_bytes(), "bytes of vectors are counted");
        let counted = self.contexts.counted_bytes();
        assert_eq!(self.contexts.bytes(), counted, "bytes of contexts are counted");
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("contexts", &self.contexts).finish_non_exhaustive()
    }
}
