//! Ghosts: the memory that a key was in the cache lately, in 5 bytes.
//! ```text
//! tag      bucket = high bits, by multiply-shift over any number of buckets
//!          fingerprint = low 23 bits
//! bucket   32 slots, of which 25 are taken on average
//! slot     | fingerprint: 23 | queue: 1 | born: 8 |         0: empty
//! born     a generation, modulo 256, of those that left this queue:   oldest ... live ... now
//! ```
//! An exact queue of ghosts would hold keys, links and a table. Here the order is that of
//! generations. When there are too many ghosts, the oldest generation is dead at once, and its
//! slots are free. A bucket that is full all the same loses its oldest ghost early. A new key is
//! taken for a ghost at 32/2^23 at most. Two queues leave ghosts, in one table, but each has
//! generations of its own. So a ghost's age is the number of entries that left its queue since.
//!
//! Why not 2 bytes: where pages are read in a circle, a hit ratio depends on when exactly a ghost
//! dies. In a small cache it depends on every new page let in. `tests/tests/policies.rs`, on every
//! trace, compares hit ratios with those of an exact queue. They are off by 0.001 here. With
//! fingerprints of 16 bits and generations they were off by 0.008. Fingerprints in buckets that are
//! little queues were off by up to 0.04 (8 to a bucket; 0.007 at 128).
//!
//! Room comes with the entries' own, so making ghosts at the cap needs none. The population decides
//! how much of it is used. Buckets change with their number, so a change forgets all ghosts. It
//! waits until twice as many are wanted, or a quarter. A large table is forgotten, and given back,
//! in steps, because its holder has a lock. No ghost is remembered until all of it is clean.
//!
//! Invariants: a queue's `live` ghosts are those whose generation is `oldest` to `now`, counted by
//! generation in `counts`. A dead one is swept before its generation's number is used again.

use std::fmt;

use zpool::NoMemory;

use super::chunks::{Chunks, Made, per_chunk};

/// Slots in a bucket.
const WAYS: usize = 32;
/// Ghosts in a bucket on average.
const LOAD: usize = 25;
/// Words of a bucket: two slots each.
const WORDS: usize = WAYS / 2;
/// Queues that leave ghosts.
const QUEUES: usize = 2;
/// Ghosts of both queues wanted for so many entries: nine for ten, and one for twenty.
const WANTED: (usize, usize) = (19, 20);
const BORN_BITS: u32 = 8;
const NUMBERS: usize = 1 << BORN_BITS;
/// Bits below the fingerprint: the queue and the generation.
const BELOW: u32 = BORN_BITS + 1;
/// Generations that a full table is born in.
const GENERATIONS: usize = 64;
/// Generations at the most, where ghosts are taken as fast as they come. The rest of the numbers is
/// time to sweep in.
const SPAN: u32 = 224;
/// One new ghost in so many sweeps a bucket. So all buckets are swept in 13 generations, and in 20
/// where a generation is one ghost.
const SWEEP: usize = 4;

/// Buckets that are cleaned in a step.
const CLEANED: usize = 256;
/// Chunks that are given back in a step.
const CLOSED: usize = 16;

/// Buckets in a chunk.
fn buckets_of_chunk() -> usize {
    per_chunk() / WORDS
}

/// What is left of a key, the queue that it went from, and the generation it was born in as a
/// ghost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// Two slots in a word.
type Bucket = [u64; WORDS];

/// A key that was remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ghost {
    /// The queue that it went from.
    pub(super) queue: usize,
    /// How many went from that queue since, to a generation less.
    pub(super) age: usize,
}

/// The ghosts of one queue, and its generations.
#[derive(Debug, Clone, Copy)]
struct Line {
    live: usize,
    /// Ghosts wanted.
    most: usize,
    counts: [u32; NUMBERS],
    oldest: u32,
    now: u32,
    /// Ghosts born in this generation, alive or not.
    born: usize,
}

pub(super) struct Ghosts {
    room: Chunks,
    /// Buckets in use; 0 before the first ghost.
    buckets: usize,
    lines: [Line; QUEUES],
    /// Ghosts born since a bucket was swept.
    unswept: usize,
    /// The bucket swept next.
    sweep: usize,
    /// The first so many buckets may have ghosts of before everything was forgotten. If there are
    /// any, no buckets are in use.
    dirty: usize,
    /// Chunks that stay, while others are given back.
    stay: Option<usize>,
}

impl Slot {
    fn new(tag: u32, queue: usize, born: u32) -> Self {
        Self(fingerprint(tag) << BELOW | (queue as u32) << BORN_BITS | born)
    }

    fn fingerprint(self) -> u32 {
        self.0 >> BELOW
    }

    fn queue(self) -> usize {
        (self.0 >> BORN_BITS) as usize % QUEUES
    }

    fn born(self) -> u32 {
        self.0 & (NUMBERS as u32 - 1)
    }

    /// Whether two have the same fingerprint.
    fn is_same(self, other: Self) -> bool {
        (self.0 ^ other.0) >> BELOW == 0
    }
}

fn fingerprint(tag: u32) -> u32 {
    (tag & (u32::MAX >> BELOW)).max(1)
}

/// The slots in a word, the one in its low half first.
#[inline]
const fn halves(word: u64) -> [Slot; 2] {
    [Slot(word as u32), Slot((word >> 32) as u32)]
}

/// The slots of a bucket.
#[inline]
fn slots(bucket: &Bucket) -> impl Iterator<Item = Slot> {
    bucket.iter().flat_map(|word| halves(*word))
}

/// The places of a bucket's slots that compare to `other` by `is`. All are looked at first, which
/// takes no branch.
#[inline]
fn places(
    bucket: &Bucket,
    other: Slot,
    is: impl Fn(Slot, Slot) -> bool,
) -> impl Iterator<Item = usize> {
    let mut found = bucket.iter().enumerate().fold(0_u32, |found, (at, word)| {
        let [low, high] = halves(*word);
        found | (u32::from(is(low, other)) | u32::from(is(high, other)) << 1) << (2 * at)
    });
    std::iter::from_fn(move || {
        let at = found.trailing_zeros() as usize;
        found &= found.wrapping_sub(1);
        (at < WAYS).then_some(at)
    })
}

#[inline]
fn slot(bucket: &Bucket, at: usize) -> Slot {
    halves(bucket[at / 2])[at % 2]
}

#[inline]
fn set_slot(bucket: &mut Bucket, at: usize, slot: Slot) {
    let shift = at % 2 * 32;
    let others = bucket[at / 2] & !(u64::from(u32::MAX) << shift);
    bucket[at / 2] = others | u64::from(slot.0) << shift;
}

/// `to` less `from`, as generations are numbered.
fn generations(from: u32, to: u32) -> u32 {
    to.wrapping_sub(from) % NUMBERS as u32
}

impl Line {
    const EMPTY: Self = Self { live: 0, most: 0, counts: [0; NUMBERS], oldest: 0, now: 0, born: 0 };

    /// Generations since that one; more than there may be if it is not a live one's.
    #[inline]
    fn age(&self, born: u32) -> u32 {
        generations(born, self.now)
    }

    #[inline]
    fn lives(&self, born: u32) -> bool {
        self.age(born) <= generations(self.oldest, self.now)
    }

    /// One is born, in a generation of so many.
    fn bear(&mut self, generation: usize) {
        if self.born == generation {
            (self.now, self.born) = ((self.now + 1) % NUMBERS as u32, 0);
            if generations(self.oldest, self.now) >= SPAN {
                self.retire();
            }
        }
        self.counts[self.now as usize] += 1;
        self.live += 1;
        self.born += 1;
    }

    /// A live one is one no longer.
    fn forget(&mut self, born: u32) {
        self.counts[born as usize] -= 1;
        self.live -= 1;
    }

    /// The oldest generation is dead.
    fn retire(&mut self) {
        self.live -= std::mem::take(&mut self.counts[self.oldest as usize]) as usize;
        self.oldest = (self.oldest + 1) % NUMBERS as u32;
    }
}

impl Ghosts {
    pub(super) fn new() -> Self {
        let lines = [Line::EMPTY; QUEUES];
        Self { room: Chunks::new(), buckets: 0, lines, unswept: 0, sweep: 0, dirty: 0, stay: None }
    }

    /// Chunks that have room for the ghosts of so many entries.
    fn chunks_for(entries: usize) -> usize {
        (entries * WANTED.0 / WANTED.1).div_ceil(LOAD * buckets_of_chunk())
    }

    /// Whether the ghosts of so many entries take one more chunk.
    pub(super) fn lacks(&self, entries: usize) -> bool {
        self.room.chunks() < Self::chunks_for(entries)
    }

    /// Bytes that room for the ghosts of so many entries will cost, a few more than there were.
    pub(super) fn growth(&self, entries: usize) -> usize {
        if self.lacks(entries) { self.room.growth(self.room.chunks()) } else { 0 }
    }

    /// Makes that room, in two halves: the first one takes what can be refused.
    ///
    /// # Errors
    /// [`NoMemory`]; nothing has changed.
    pub(super) fn make(&mut self, entries: usize) -> Result<Option<Made>, NoMemory> {
        let lacks = self.lacks(entries);
        lacks.then(|| self.room.make(self.room.chunks())).transpose()
    }

    pub(super) fn install(&mut self, made: Option<Made>) {
        made.into_iter().for_each(|made| self.room.install(made));
    }

    /// Whether room is being given back.
    #[inline]
    pub(super) fn is_closing(&self) -> bool {
        self.stay.is_some()
    }

    /// Gives back room for the ghosts of more than `entries` entries, where that is more than half
    /// of it; the ghosts are forgotten then. What one step gave comes back, in bytes.
    pub(super) fn shrink(&mut self, entries: usize) -> usize {
        let (wanted, chunks) = (Self::chunks_for(entries), self.room.chunks());
        if 2 * wanted < chunks {
            self.forget_all();
            self.stay = Some(wanted);
        }
        let Some(stay) = self.stay.map(|stay| stay.max(wanted)) else { return 0 };
        // From the end on: those that stay have the lowest numbers.
        let from = stay.max(chunks.saturating_sub(CLOSED));
        let freed = self.room.shrink(0, &|number| number >= from);
        let left = self.room.chunks();
        self.dirty = self.dirty.min(left * buckets_of_chunk());
        // Where nothing came, the system takes nothing back.
        self.stay = (freed > 0 && left > stay).then_some(stay);
        freed
    }

    pub(super) fn bytes(&self) -> usize {
        self.room.bytes()
    }

    /// A key went from `queue`, 0 or 1, of a policy that has so many entries. Of queue 0 nine
    /// ghosts are kept for ten entries, of queue 1 one for twenty, and one at the least; but no
    /// more than there is room for.
    pub(super) fn remember(&mut self, queue: usize, tag: u32, entries: usize) {
        let wanted = (entries * WANTED.0 / WANTED.1).div_ceil(LOAD).max(1);
        if wanted > 2 * self.buckets || 4 * wanted < self.buckets {
            self.forget_all();
            self.clean();
            if self.dirty > 0 {
                return;
            }
            self.buckets = wanted;
        }
        let entries = entries.min(self.buckets * LOAD * WANTED.1 / WANTED.0);
        let most = if queue == 0 { entries - (entries / 10).max(1) } else { entries / 20 };
        self.lines[queue].most = most.max(1);
        self.unswept += 1;
        if self.unswept == SWEEP {
            self.unswept = 0;
            self.sweep_one();
        }
        self.place(queue, tag);
        let most = self.bound(queue);
        let line = &mut self.lines[queue];
        while line.live > most && line.oldest != line.now {
            line.retire();
        }
    }

    /// Ghosts of a queue at the most: half a generation more or less than are wanted, so that it is
    /// these on average. A generation that began is never too many by itself.
    fn bound(&self, queue: usize) -> usize {
        let generation = self.generation();
        (self.lines[queue].most + generation / 2).max(generation)
    }

    /// The ghost of a key, if it is remembered; it is not any longer.
    pub(super) fn take(&mut self, tag: u32) -> Option<Ghost> {
        let number = self.number(tag)?;
        let bucket = self.bucket(number);
        let is_alive = |at: &usize| self.lives(slot(bucket, *at));
        let at = places(bucket, Slot::new(tag, 0, 0), Slot::is_same).find(is_alive)?;
        let (queue, born) = (slot(bucket, at).queue(), slot(bucket, at).born());
        let age = self.lines[queue].age(born) as usize * self.generation();
        self.forget(number, at);
        Some(Ghost { queue, age })
    }

    /// Takes a free slot for a new ghost, or that of the oldest in its bucket.
    fn place(&mut self, queue: usize, tag: u32) {
        let number = self.number(tag).expect("there are buckets");
        let generation = self.generation();
        let bucket = self.bucket(number);
        let age = |at: &usize| {
            let slot = slot(bucket, *at);
            self.lines[slot.queue()].age(slot.born())
        };
        let empty = places(bucket, Slot::default(), |slot, empty| slot == empty).next();
        let free = empty.or_else(|| slots(bucket).position(|slot| !self.lives(slot)));
        let at = free.or_else(|| (0..WAYS).max_by_key(age)).expect("a bucket has slots");
        if free.is_none() {
            self.forget(number, at);
        }
        self.lines[queue].bear(generation);
        let ghost = Slot::new(tag, queue, self.lines[queue].now);
        set_slot(self.bucket_mut(number), at, ghost);
    }

    /// A live ghost is one no longer.
    fn forget(&mut self, number: usize, at: usize) {
        let bucket = self.bucket_mut(number);
        let ghost = slot(bucket, at);
        set_slot(bucket, at, Slot::default());
        self.lines[ghost.queue()].forget(ghost.born());
    }

    /// Empties the slots of the dead in the next bucket.
    fn sweep_one(&mut self) {
        let mut bucket = *self.bucket(self.sweep);
        for word in &mut bucket {
            let [low, high] = halves(*word).map(|slot| if self.lives(slot) { slot.0 } else { 0 });
            *word = u64::from(low) | u64::from(high) << 32;
        }
        *self.bucket_mut(self.sweep) = bucket;
        self.sweep = (self.sweep + 1) % self.buckets;
    }

    fn forget_all(&mut self) {
        let room = std::mem::replace(&mut self.room, Chunks::new());
        let (dirty, stay) = (self.dirty.max(self.buckets), self.stay);
        *self = Self { room, dirty, stay, ..Self::new() };
    }

    /// Empties some of the buckets that may have forgotten ghosts.
    fn clean(&mut self) {
        let left = self.dirty.saturating_sub(CLEANED);
        (left..self.dirty).for_each(|number| *self.bucket_mut(number) = [0; WORDS]);
        self.dirty = left;
    }

    /// Ghosts born in a generation.
    fn generation(&self) -> usize {
        (self.buckets * LOAD / GENERATIONS).max(1)
    }

    #[inline]
    fn lives(&self, slot: Slot) -> bool {
        slot.fingerprint() != 0 && self.lines[slot.queue()].lives(slot.born())
    }

    fn number(&self, tag: u32) -> Option<usize> {
        let number = (u64::from(tag) * self.buckets as u64) >> u32::BITS;
        (self.buckets > 0).then_some(number as usize)
    }

    #[inline]
    fn bucket(&self, number: usize) -> &Bucket {
        self.room.row(number * WORDS)
    }

    #[inline]
    fn bucket_mut(&mut self, number: usize) -> &mut Bucket {
        self.room.row_mut(number * WORDS)
    }

    /// Asserts what the header says.
    pub(super) fn check(&self) {
        let mut counts = [[0; NUMBERS]; QUEUES];
        let all = self.room.chunks() * buckets_of_chunk();
        assert!(self.buckets <= all, "buckets in use have room");
        assert!(self.dirty == 0 || self.buckets == 0, "buckets in use are clean");
        for number in self.dirty..all {
            for slot in slots(self.bucket(number)) {
                assert!(slot.0 == 0 || number < self.buckets, "bucket {number} is not in use");
                counts[slot.queue()][slot.born() as usize] += u32::from(self.lives(slot));
            }
        }
        for (queue, (line, counts)) in self.lines.iter().zip(counts).enumerate() {
            assert_eq!(counts, line.counts, "live ghosts by generation");
            assert_eq!(line.live, counts.iter().sum::<u32>() as usize, "live ghosts");
            assert!(line.live <= self.bound(queue), "no more than are wanted");
            assert!(generations(line.oldest, line.now) <= SPAN, "generations are in their order");
        }
    }
}

impl fmt::Debug for Ghosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [live, most] = [self.lines.map(|line| line.live), self.lines.map(|line| line.most)];
        f.debug_struct("Ghosts").field("live", &live).field("most", &most).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
