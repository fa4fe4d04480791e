//! A chunk of the handle table: slots, each a word with its record, and their lengths.

use std::mem::MaybeUninit;

use super::prefetch;
use crate::directory::boxed;
use crate::ledger::heap_cost;
use crate::sync::{AtomicU16, AtomicU32, CHUNK, Ordering, PLAIN_ATOMICS, UnsafeCell};
use crate::word::Word;

#[derive(Debug)]
pub(super) struct Slot<T> {
    pub(super) word: Word,
    pub(super) record: UnsafeCell<MaybeUninit<T>>,
}

/// Lengths less one; objects of length 0 are nowhere and need none.
#[derive(Debug)]
enum Lengths {
    Narrow(Box<[AtomicU16; CHUNK]>),
    Wide(Box<[AtomicU32; CHUNK]>),
}

/// Arrays of a known length: looking into one cannot fail, so nothing has to be ready for that while an
/// object is pinned.
#[derive(Debug)]
pub(super) struct Chunk<T> {
    pub(super) slots: Box<[Slot<T>; CHUNK]>,
    lengths: Lengths,
    pub(super) retired: AtomicU32,
}

fn filled<V>(make: impl FnMut() -> V) -> Option<Box<[V; CHUNK]>> {
    boxed(CHUNK, make)?.try_into().ok()
}

impl<T> Chunk<T> {
    /// What a chunk holds in bytes.
    pub(super) const fn bytes(wide: bool) -> usize {
        heap_cost(CHUNK * size_of::<Slot<T>>()) + heap_cost(CHUNK * if wide { 4 } else { 2 })
    }

    /// A chunk of FREE slots. `None`: the allocator has no room.
    pub(super) fn new(wide: bool) -> Option<Self> {
        let record = || UnsafeCell::new(MaybeUninit::uninit());
        Some(Self {
            slots: filled(|| Slot { word: Word::new(), record: record() })?,
            lengths: if wide {
                Lengths::Wide(filled(|| AtomicU32::new(0))?)
            } else {
                Lengths::Narrow(filled(|| AtomicU16::new(0))?)
            },
            retired: AtomicU32::new(0),
        })
    }

    /// Relaxed: a length is written and read under a pin, like the bytes it measures.
    #[inline]
    pub(super) fn len(&self, at: usize) -> usize {
        1 + match &self.lengths {
            Lengths::Narrow(lengths) => usize::from(lengths[at].load(Ordering::Relaxed)),
            Lengths::Wide(lengths) => lengths[at].load(Ordering::Relaxed) as usize,
        }
    }

    /// Hints the processor that the length is about to be read.
    #[inline]
    pub(super) fn prefetch_len(&self, at: usize) {
        prefetch(match &self.lengths {
            Lengths::Narrow(lengths) => (&raw const lengths[at]).cast(),
            Lengths::Wide(lengths) => (&raw const lengths[at]).cast(),
        });
    }

    pub(super) fn set_len(&self, at: usize, len: usize) {
        let less = len.saturating_sub(1);
        match &self.lengths {
            Lengths::Narrow(lengths) => lengths[at].store(less as u16, Ordering::Relaxed),
            Lengths::Wide(lengths) => lengths[at].store(less as u32, Ordering::Relaxed),
        }
    }

    /// Gives back the whole pages inside `slots`, all of them retired; they read as zeros from here
    /// on, as they did before. Returns the bytes that are gone.
    #[cfg(target_os = "linux")]
    pub(super) fn discard(&self) -> usize {
        // SAFETY: sysconf reads a constant of the system.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(1 << 16);
        let first = self.slots.as_ptr().cast::<u8>().cast_mut();
        let skip = first.align_offset(page);
        let whole = size_of_val::<[_]>(&*self.slots).saturating_sub(skip) / page * page;
        if whole == 0 || !PLAIN_ATOMICS {
            return 0;
        }
        // SAFETY: `skip < skip + whole <= size_of_val`, so the pointer stays inside the box.
        let inside = unsafe { first.add(skip) };
        // SAFETY: every word in there is 0 and stays 0, no record is initialised, and whole pages of
        // a box of ours hold nothing else: zeros instead of the same zeros, whoever loads a word.
        let gone = unsafe { libc::madvise(inside.cast(), whole, libc::MADV_DONTNEED) };
        if gone == 0 { whole } else { 0 }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn discard(&self) -> usize {
        0
    }
}
