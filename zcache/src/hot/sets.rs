//! Where frames may be, by tag: sets of slots, and hints on each that need no look at its frame.
//! ```text
//! tag: lowest bits -> set of 8 slots
//! hints of a set, in one cache line: tags of its frames, tags hit lately
//! ```
//! The table doubles when there are more frames than it is good for, and halves when there are few.
//! Frames that are in the wrong set then are not found there, and are moved (`growth`). Sets with
//! the same lowest bits share a lock, so a tag has one lock however long the table is. A tag's set
//! is looked up again under that lock before a frame is put there. Whoever changes the length takes
//! all locks in turns after it. So no frame is put into a wrong set later.
//!
//! A hint is right while its set's lock is held: frames come and go under it. Without the lock it
//! is a guess, but for one case. All frames of a tag come and go under the lock of one shard. A
//! thread that holds it knows whether a frame is there, because it sees what was done under that
//! lock.

use zpool::Lines;

use crate::index::Tag;
use crate::sync::{
    Apart, AtomicU32, AtomicUsize, Mutex, MutexGuard, Ordering, RECENT, WAYS, model_bug, most_sets,
};

/// Sets of the shortest table that share a lock.
const SETS_A_LOCK: usize = 4;
/// Locks at most.
const LOCKS: usize = 16;
/// One in this many hits that find another one remembered is counted.
pub(super) const COUNTED: u32 = 255;

/// What is known of a set: the words of its line.
#[derive(Debug)]
pub(super) struct Set<'s>(&'s [AtomicU32; Lines::WORDS]);

/// The sets that there are.
#[derive(Debug)]
pub(super) struct Sets {
    lines: Lines,
    locks: Box<[Apart<Mutex<()>>]>,
    /// Sets that are in use, less one: at most as many as there are lines.
    mask: AtomicUsize,
    /// Sets that there were at first.
    least: usize,
}

impl<'s> Set<'s> {
    /// The tags of the frames in the set's slots; 0 where there is none.
    #[inline]
    fn tags(&self) -> &'s [AtomicU32; WAYS] {
        self.0.first_chunk().expect("a line has words enough")
    }

    /// Tags of hits on entries without a frame.
    fn recent(&self) -> &'s [AtomicU32; RECENT] {
        let rest = self.0.get(WAYS..).and_then(<[_]>::first_chunk);
        rest.expect("a line has words enough")
    }

    /// The tag of the frame in slot `way`, 0 for none.
    #[inline]
    pub(super) fn here(&self, way: usize) -> Tag {
        self.tags()[way].load(Ordering::Relaxed)
    }

    pub(super) fn set_here(&self, way: usize, tag: Tag) {
        self.tags()[way].store(tag, Ordering::Relaxed);
    }

    fn place(&self, tag: Tag) -> &'s AtomicU32 {
        // Neither the bits that choose the set nor those that choose the shard.
        let recent = self.recent();
        &recent[(tag >> 16) as usize % recent.len()]
    }

    /// A hit on an entry without a frame: whether it is not the first one of late. One that is
    /// remembered makes way for this one; where it is `patient`, every other time: of pages that
    /// are hit in turns, and share a place, none had ever its second hit there. Of those that find
    /// another one remembered, one in [`COUNTED`] is `counted`.
    pub(super) fn hit_again(
        &self,
        tag: Tag,
        patient: impl FnOnce() -> bool,
        counted: impl FnOnce(),
    ) -> bool {
        let place = self.place(tag);
        let before = place.load(Ordering::Relaxed);
        if before == tag {
            return true;
        }
        let coin = if before == 0 { 1 } else { self.toss() };
        if coin & 1 == 1 || !patient() {
            place.store(tag, Ordering::Relaxed);
        }
        if coin == COUNTED {
            counted();
        }
        false
    }

    /// 255 numbers in turns, that look like chance: the states of a shift register. Their lowest
    /// bits fall on either side, never the same way round and round.
    fn toss(&self) -> u32 {
        let coin = &self.0[WAYS + RECENT];
        // A new set has 0, where the register would stay.
        let state = coin.load(Ordering::Relaxed).max(1);
        let next = state >> 1 ^ if state & 1 == 1 { 0xb8 } else { 0 };
        coin.store(next, Ordering::Relaxed);
        next
    }

    /// The hits so far do not count.
    pub(super) fn forget(&self, tag: Tag) {
        let _ = self.place(tag).compare_exchange(tag, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Locks for a table of so many sets at first.
const fn locks(sets: usize) -> usize {
    let locks = sets / SETS_A_LOCK;
    if locks > LOCKS { LOCKS } else { locks.next_power_of_two() }
}

impl Sets {
    /// `sets` of them, a power of two, in a table charged to `pool` where it grows.
    pub(super) fn new(sets: usize, pool: &zpool::Pool<impl Send + Sync>) -> Self {
        Self {
            lines: pool.lines(sets),
            locks: (0..locks(sets)).map(|_| Apart(Mutex::new(()))).collect(),
            mask: AtomicUsize::new(sets - 1),
            least: sets,
        }
    }

    pub(super) const fn fixed_bytes(sets: usize) -> usize {
        let lock = size_of::<Apart<Mutex<()>>>();
        Lines::fixed_bytes(sets) + zpool::source::heap_cost(locks(sets) * lock + lock)
    }

    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    pub(super) fn len(&self) -> usize {
        // As in `number`.
        self.mask.load(Ordering::Acquire) + 1
    }

    /// Whether it is longer than at first.
    pub(super) fn is_long(&self) -> bool {
        self.mask.load(Ordering::Relaxed) >= self.least
    }

    /// The number of a tag's set. Who holds the lock of the tag's shard gets no older answer than
    /// who held it before.
    #[inline]
    pub(super) fn number(&self, tag: Tag) -> usize {
        // Acquire pairs with the Release in `set_len`: the set is there, and its slots.
        tag as usize & self.mask.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn get(&self, number: usize) -> Set<'_> {
        Set(self.lines.get(number))
    }

    /// Held while a frame is put into a set or taken out of it.
    pub(super) fn lock(&self, number: usize) -> MutexGuard<'_, ()> {
        self.locks[number & (self.locks.len() - 1)].lock()
    }

    /// Whether there can be twice as many.
    pub(super) fn may_grow(&self) -> bool {
        self.len() < most_sets()
    }

    /// Changes how many are in use, a power of two of those that there are; by one thread at a
    /// time. Nobody puts a frame by the length of before when this returns.
    pub(super) fn set_len(&self, sets: usize) {
        self.mask.store(sets - 1, Ordering::Release);
        if !model_bug!(LengthUntold) {
            self.locks.iter().for_each(|lock| drop(lock.lock()));
        }
    }
}
