//! Where frames may be, by tag: sets of slots, and what is known of each without a look at its frame.
//! ```text
//! tag: lowest bits -> set of 8 slots      hints of a set, in one cache line: tags of its frames, tags hit lately
//! ```
//! The table doubles when there are more frames than it is good for. Half of a set's frames are in the wrong one then:
//! nobody finds them there, and they go. A table never gets smaller. A tag's set is asked for again under the lock of the set
//! before a frame is put there, and growth takes the locks of all sets after it: so none is put into a wrong one later.
//!
//! A hint is right while its set's lock is held: frames come and go under it. Without the lock it is a guess, but for one
//! case: who holds the lock of the shard that all frames of a tag come and go under knows whether one is there, for
//! what was done under that lock is seen.

use zpool::source::heap_cost;

use crate::index::Tag;
use crate::sync::{
    AtomicU8, AtomicU32, AtomicUsize, DOUBLINGS, Mutex, OnceLock, Ordering, RECENT, WAYS, most_sets,
};

/// What is known of a set.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Set {
    /// Held while a frame is put into the set or taken out of it.
    pub(super) turn: Mutex<()>,
    /// The tags of the frames in the set's slots; 0 where there is none.
    here: [AtomicU32; WAYS],
    /// Tags of hits on entries without a frame.
    recent: [AtomicU32; RECENT],
    /// Falls on either side, never the same way round and round.
    coin: AtomicU8,
}

/// Sets in chunks: the first ones, and then as many more as there are, again and again.
#[derive(Debug)]
pub(super) struct Sets {
    first: Box<[Set]>,
    more: [OnceLock<Box<[Set]>>; DOUBLINGS],
    /// Sets that are in use, less one.
    mask: AtomicUsize,
}

impl Set {
    fn new() -> Self {
        Self {
            turn: Mutex::new(()),
            here: std::array::from_fn(|_| AtomicU32::new(0)),
            recent: std::array::from_fn(|_| AtomicU32::new(0)),
            coin: AtomicU8::new(1),
        }
    }

    /// The tag of the frame in slot `way`, 0 for none.
    #[inline]
    pub(super) fn here(&self, way: usize) -> Tag {
        self.here[way].load(Ordering::Relaxed)
    }

    pub(super) fn set_here(&self, way: usize, tag: Tag) {
        self.here[way].store(tag, Ordering::Relaxed);
    }

    fn place(&self, tag: Tag) -> &AtomicU32 {
        // Neither the bits that choose the set nor those that choose the shard.
        &self.recent[(tag >> 16) as usize % self.recent.len()]
    }

    /// A hit on an entry without a frame: whether it is not the first one of late. One that is remembered makes way for
    /// this one; where it is `patient`, every other time: of pages that are hit in turns, and share a place, none had ever
    /// its second hit there.
    pub(super) fn hit_again(&self, tag: Tag, patient: impl FnOnce() -> bool) -> bool {
        let place = self.place(tag);
        let before = place.load(Ordering::Relaxed);
        let again = before == tag;
        if !again && (before == 0 || !patient() || self.toss()) {
            place.store(tag, Ordering::Relaxed);
        }
        again
    }

    /// The low bit of a shift register that has all 255 states.
    fn toss(&self) -> bool {
        let state = self.coin.load(Ordering::Relaxed);
        let next = state >> 1 ^ if state & 1 == 1 { 0xb8 } else { 0 };
        self.coin.store(next, Ordering::Relaxed);
        next & 1 == 1
    }

    /// The hits so far do not count.
    pub(super) fn forget(&self, tag: Tag) {
        let _ = self.place(tag).compare_exchange(tag, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

const fn chunk_bytes(sets: usize) -> usize {
    heap_cost(sets * size_of::<Set>() + align_of::<Set>())
}

impl Sets {
    /// `sets` of them, a power of two.
    pub(super) fn new(sets: usize) -> Self {
        Self {
            first: (0..sets).map(|_| Set::new()).collect(),
            more: [const { OnceLock::new() }; DOUBLINGS],
            mask: AtomicUsize::new(sets - 1),
        }
    }

    pub(super) const fn fixed_bytes(sets: usize) -> usize {
        chunk_bytes(sets)
    }

    /// What growth has added to that.
    pub(super) fn grown_bytes(&self) -> usize {
        let chunks = (0..DOUBLINGS).map(|nth| self.first.len() << nth);
        chunks.take_while(|sets| *sets < self.len()).map(chunk_bytes).sum()
    }

    pub(super) fn len(&self) -> usize {
        // As in `number`.
        self.mask.load(Ordering::Acquire) + 1
    }

    /// The number of a tag's set. Who holds the lock of the tag's shard gets no older answer than who held it before.
    #[inline]
    pub(super) fn number(&self, tag: Tag) -> usize {
        // Acquire pairs with the Release in `grow`: the set is there, and its slots.
        tag as usize & self.mask.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn get(&self, number: usize) -> &Set {
        match self.first.get(number) {
            Some(set) => set,
            None => self.get_more(number),
        }
    }

    #[inline]
    fn get_more(&self, number: usize) -> &Set {
        let nth = (number / self.first.len()).ilog2() as usize;
        let chunk = self.more[nth].get().expect("there before its sets are in use");
        &chunk[number - (self.first.len() << nth)]
    }

    /// What the next doubling takes; 0: there is none.
    pub(super) fn growth(&self) -> usize {
        if self.len() >= most_sets() { 0 } else { chunk_bytes(self.len()) }
    }

    /// Doubles the sets; by one thread at a time, when there are slots for them. `false`: no memory.
    pub(super) fn grow(&self) -> bool {
        let sets = self.len();
        let mut chunk = Vec::new();
        if chunk.try_reserve_exact(sets).is_err() {
            return false;
        }
        chunk.resize_with(sets, Set::new);
        let nth = (sets / self.first.len()).ilog2() as usize;
        let set = self.more[nth].set(chunk.into()).is_ok();
        assert!(set, "one thread at a time");
        self.mask.store(2 * sets - 1, Ordering::Release);
        true
    }
}
