//! The index's table: tag -> ids, read without a lock, changed under the lock of a shard.
//! ```text
//! line      12 ids of 4 B, plus one | 12 bytes of their tags | next line of the chain, plus one
//! shard     buckets 0..len, a chain of lines each: the first is a line of `first`, more of `spill`
//! find      tag -> shard -> bucket -> byte of the tag -> id -> held, and still in its place?
//!           -> the key's? found
//! ```
//! A shard's buckets are added one by one, as in linear hashing. Bucket `len` takes its part of the
//! entries of the bucket with the same lower bits. So no insert waits for a long table to be
//! copied, and no table is copied while readers use it. The last bucket is removed when there are
//! few entries. Line `n` of each shard stands side by side with those of the others, so that pages
//! come and go whole.
//!
//! **Readers** take no lock and write nothing but a pin. They hold an entry by its id, by a pin,
//! and look whether the id is still in its place. If it is, the entry was in the index at that
//! instant, because the id of an entry that is held belongs to no other. Then they compare keys. A
//! miss counts if no entry was moved, replaced or taken out meanwhile (`moves`, which is odd while
//! that is done). Otherwise they look again. Closed lines can be read, so a reader that follows an
//! old chain comes to no harm.
//!
//! **Writers** look for the key as readers do, so the key's `Eq` runs under no lock, and then take
//! the shard's lock. An entry that they found counts if it is still in its place. A miss counts if
//! `version` says that the shard is as it was. Otherwise they look again, because another writer
//! made progress.

use std::cell::Cell;

use zpool::{Pool, SparseLines};

use super::Tag;
use crate::sync::{
    AtomicU32, AtomicUsize, Counter, IDS, Lean, Mutex, MutexGuard, Ordering, PutError, TRIES, get,
    lean, model_bug, pause, seen, tell,
};

mod change;

/// Bytes of tags in a word.
const EACH: usize = 4;

/// How a key's entry is told from those of others. Nothing of it runs under a lock.
pub(crate) trait Seek {
    type Entry;

    /// Holds the entry `id`, so that the id is nobody else's. `None`: it is nobody's just now, or
    /// cannot be held, and is looked for again.
    fn hold(&mut self, id: u32) -> Option<Self::Entry>;

    /// Whether it is the one: may call the key's `Eq`.
    fn is(&mut self, entry: &Self::Entry) -> bool;
}

impl<R, H: FnMut(u32) -> Option<R>, I: FnMut(&R) -> bool> Seek for (H, I) {
    type Entry = R;

    #[inline(always)]
    fn hold(&mut self, id: u32) -> Option<R> {
        self.0(id)
    }

    #[inline(always)]
    fn is(&mut self, entry: &R) -> bool {
        self.1(entry)
    }
}

impl<S: Seek> Seek for &mut S {
    type Entry = S::Entry;

    #[inline(always)]
    fn hold(&mut self, id: u32) -> Option<S::Entry> {
        (**self).hold(id)
    }

    #[inline(always)]
    fn is(&mut self, entry: &S::Entry) -> bool {
        (**self).is(entry)
    }
}

/// What a look at a chain came to.
enum Look<R> {
    Found(u32, R),
    Missed,
    /// Something changed meanwhile.
    Again,
}

type Line = [AtomicU32; SparseLines::WORDS];

/// The word of a line that leads to the next one.
const NEXT: usize = SparseLines::WORDS - 1;

#[derive(Debug)]
#[repr(align(64))]
struct Shard {
    lock: Mutex<()>,
    /// Goes up by 2 with each entry that is replaced, taken out or moved; odd while that is done.
    moves: AtomicU32,
    /// Buckets.
    len: AtomicU32,
    /// Lines of `spill`.
    spilled: Counter,
    entries: Counter,
    /// Goes up with each change.
    version: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Table {
    first: Lean<SparseLines>,
    spill: Lean<SparseLines>,
    shards: Box<[Shard]>,
    /// There are `1 << bits` shards.
    bits: u32,
}

/// A shard whose lock is held, with what changes under that lock only.
struct Held<'t> {
    table: &'t Table,
    shard: &'t Shard,
    number: usize,
    len: Cell<u32>,
    version: Cell<usize>,
    _lock: MutexGuard<'t, ()>,
}

/// Entries move while this is there.
struct Moving<'s> {
    shard: &'s Shard,
    /// `moves` when nobody moves any more.
    after: u32,
}

/// An id that is out of its place for as long as this is there, and an id that takes the place
/// then.
struct Lifted<'t> {
    place: Place<'t>,
    id: u32,
    _moving: Moving<'t>,
}

/// Where an id stands.
struct Place<'t> {
    line: &'t Line,
    way: usize,
}

/// The 64 bits that bucket and byte are taken from.
const fn spread(tag: Tag) -> u64 {
    (tag as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The byte of a tag by which most others are told apart.
const fn byte(tag: Tag) -> u8 {
    (spread(tag) >> 24) as u8
}

/// The bucket of a tag among `len`: those past a power of two have halved one of the first each.
const fn bucket(tag: Tag, len: u32) -> u32 {
    let mask = len.next_power_of_two() - 1;
    let wide = (spread(tag) >> 32) as u32 & mask;
    if wide < len { wide } else { wide & (mask >> 1) }
}

/// The bucket from which bucket `number` took its entries, or to which it gives them.
const fn parent(number: u32) -> u32 {
    number & !(1 << number.ilog2())
}

impl Place<'_> {
    #[inline(always)]
    fn id(&self) -> Option<u32> {
        seen(&self.line[self.way], Ordering::Acquire).checked_sub(1)
    }

    fn byte(&self) -> u8 {
        let word = self.line[IDS + self.way / EACH].load(Ordering::Relaxed);
        (word >> (8 * (self.way % EACH))) as u8
    }

    fn put(&self, id: u32, byte: u8) {
        let (word, shift) = (&self.line[IDS + self.way / EACH], 8 * (self.way % EACH));
        let others = word.load(Ordering::Relaxed) & !(0xff << shift);
        tell(word, others | u32::from(byte) << shift);
        self.set(id);
    }

    fn set(&self, id: u32) {
        // Release pairs with the Acquire of readers: they see the entry, and that entries move.
        tell(&self.line[self.way], id + 1);
    }

    fn clear(&self) {
        tell(&self.line[self.way], 0);
    }
}

/// The ways of a line whose tags have a certain byte, or had: way `4 * w + b` is bit `8 * b + w`.
#[derive(Clone, Copy)]
struct Matches(u32);

#[inline]
fn matching(line: &Line, byte: u8) -> Matches {
    const LOW: u32 = 0x0101_0101;
    let mut bits = 0;
    for word in 0..IDS.div_ceil(EACH) {
        // Acquire: what is found missing here was taken out or moved, which `moves` tells.
        let tags = seen(&line[IDS + word], Ordering::Acquire);
        let differ = tags ^ LOW.wrapping_mul(u32::from(byte));
        // The highest bit of each byte that is 0; of one above such a byte perhaps, wrongly.
        let equal = differ.wrapping_sub(LOW) & !differ & (LOW << 7);
        bits |= equal >> (7 - word);
    }
    Matches(bits)
}

impl Iterator for Matches {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.0 != 0 {
            let bit = self.0.trailing_zeros() as usize;
            self.0 &= self.0 - 1;
            let way = bit % 8 * EACH + bit / 8;
            if way < IDS {
                return Some(way);
            }
        }
        None
    }
}

/// All ways of a chain, from its first line on.
#[derive(Clone)]
struct Ways<'t> {
    table: &'t Table,
    number: usize,
    line: Option<&'t Line>,
    way: usize,
}

impl<'t> Iterator for Ways<'t> {
    type Item = Place<'t>;

    fn next(&mut self) -> Option<Place<'t>> {
        let line = self.line?;
        let place = Place { line, way: self.way };
        self.way += 1;
        if self.way == IDS {
            (self.line, self.way) = (self.table.next(line, self.number), 0);
        }
        Some(place)
    }
}

impl<'s> Moving<'s> {
    /// By the holder of the lock alone.
    fn start(shard: &'s Shard) -> Self {
        let moves = shard.moves.load(Ordering::Relaxed);
        let moving = Self { shard, after: moves.wrapping_add(2) };
        moving.tell(moves.wrapping_add(1));
        moving
    }

    fn tell(&self, moves: u32) {
        if !model_bug!(MovedUntold) {
            // Release at the end pairs with the Acquire of who looks next. At the start what
            // follows is Release, all of it, and so comes after this for whoever sees it.
            tell(&self.shard.moves, moves);
        }
    }
}

impl Drop for Lifted<'_> {
    fn drop(&mut self) {
        self.place.set(self.id);
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.tell(self.after);
    }
}

impl Table {
    /// A table of `shards` shards, a power of two above 1, without a line.
    #[inline(never)]
    pub(crate) fn new(shards: usize, pool: &Pool<impl Send + Sync>) -> Self {
        let shard = || Shard {
            lock: Mutex::new(()),
            moves: AtomicU32::new(0),
            len: AtomicU32::new(0),
            spilled: Counter::new(0),
            entries: Counter::new(0),
            version: AtomicUsize::new(0),
        };
        Self {
            first: lean(pool.sparse_lines()),
            spill: lean(pool.sparse_lines()),
            shards: (0..shards).map(|_| shard()).collect(),
            bits: shards.ilog2(),
        }
    }

    /// What an empty one of `shards` shards holds in bytes.
    pub(crate) const fn fixed_bytes(shards: usize) -> usize {
        zpool::source::heap_cost((shards + 1) * size_of::<Shard>())
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Bytes of all lines.
    pub(crate) fn bytes(&self) -> usize {
        self.first.bytes() + self.spill.bytes()
    }

    /// Entries.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| get(&shard.entries) as usize).sum()
    }

    /// Gives back memory of lines that was locked when they went.
    pub(crate) fn trim(&self) {
        self.first.trim();
        self.spill.trim();
    }

    #[inline]
    fn shard(&self, tag: Tag) -> usize {
        (tag >> (u32::BITS - self.bits)) as usize
    }

    /// The number of a shard's line.
    #[inline]
    fn line_number(&self, number: usize, line: u32) -> u32 {
        (line << self.bits) + number as u32
    }

    #[inline]
    fn first_line(&self, number: usize, bucket: u32) -> Option<&Line> {
        self.first.get(self.line_number(number, bucket))
    }

    #[inline]
    fn next(&self, line: &Line, number: usize) -> Option<&Line> {
        let next = seen(&line[NEXT], Ordering::Acquire).checked_sub(1)?;
        self.spill.get(self.line_number(number, next))
    }

    /// One look for a tag.
    #[inline]
    fn look_once<S: Seek>(&self, number: usize, tag: Tag, seek: &mut S) -> Look<S::Entry> {
        let shard = &self.shards[number];
        let moves = seen(&shard.moves, Ordering::Acquire);
        let len = seen(&shard.len, Ordering::Acquire);
        let mut line = if len == 0 { None } else { self.first_line(number, bucket(tag, len)) };
        let mut sure = moves & 1 == 0;
        while let Some(words) = line {
            for way in matching(words, byte(tag)) {
                let place = Place { line: words, way };
                let Some(id) = place.id() else { continue };
                let entry = seek.hold(id);
                // Held and still there: it is in the index at this instant, whatever comes.
                let here = place.id() == Some(id) || model_bug!(FoundUnasked);
                match entry {
                    Some(entry) if here => {
                        if seek.is(&entry) {
                            return Look::Found(id, entry);
                        }
                    }
                    _ => sure = false,
                }
            }
            line = self.next(words, number);
            // A chain that changes may lead round and round.
            if line.is_some() && seen(&shard.moves, Ordering::Relaxed) != moves {
                return Look::Again;
            }
        }
        // Relaxed: whoever saw what a change did has acquired it, and sees here that there was one.
        let same = seen(&shard.moves, Ordering::Relaxed) == moves || model_bug!(MissedUnasked);
        if sure && same { Look::Missed } else { Look::Again }
    }

    /// The entry that is sought, under no lock.
    #[inline]
    pub(crate) fn look<S: Seek>(&self, tag: Tag, mut seek: S) -> Option<S::Entry> {
        let number = self.shard(tag);
        let mut tries = 0;
        loop {
            match self.look_once(number, tag, &mut seek) {
                Look::Found(_, entry) => return Some(entry),
                Look::Missed => return None,
                Look::Again => self.wait(number, &mut tries),
            }
        }
    }

    /// Before another look at a shard that changes.
    #[cold]
    fn wait(&self, number: usize, tries: &mut usize) {
        *tries += 1;
        if *tries < TRIES {
            return pause();
        }
        // Its writer may have lost the processor.
        drop(self.shards[number].lock.lock());
        *tries = 0;
    }

    /// As a writer looks, before it takes the lock: the version, and what it found then.
    fn search<S: Seek>(&self, tag: Tag, seek: &mut S) -> (usize, Option<(u32, S::Entry)>) {
        let number = self.shard(tag);
        let mut tries = 0;
        loop {
            // Acquire pairs with the Release in `Held::changed`: what is found is no older.
            let version = self.shards[number].version.load(Ordering::Acquire);
            match self.look_once(number, tag, seek) {
                Look::Found(id, entry) => return (version, Some((id, entry))),
                Look::Missed => return (version, None),
                Look::Again => self.wait(number, &mut tries),
            }
        }
    }

    fn hold(&self, tag: Tag) -> Held<'_> {
        self.hold_shard(self.shard(tag))
    }

    fn hold_shard(&self, number: usize) -> Held<'_> {
        let shard = &self.shards[number];
        let lock = shard.lock.lock();
        let len = Cell::new(shard.len.load(Ordering::Relaxed));
        let version = Cell::new(shard.version.load(Ordering::Relaxed));
        Held { table: self, shard, number, len, version, _lock: lock }
    }

    /// The shard of a tag, held, with the entry that is sought.
    fn hold_with<S: Seek>(&self, tag: Tag, seek: &mut S) -> (Held<'_>, Option<(u32, S::Entry)>) {
        loop {
            let (version, found) = self.search(tag, seek);
            let held = self.hold(tag);
            // What was found is held: where its id is, it is. So the changes of others cost no
            // look.
            let there = |(id, _): &(u32, S::Entry)| held.place(tag, *id).is_some();
            let same = held.version.get() == version || found.as_ref().is_some_and(there);
            if same || model_bug!(SearchedUnasked) {
                return (held, found);
            }
            // `found` may be the last hold of an entry: not to be dropped under the lock.
            drop(held);
        }
    }

    /// The entry that is sought, in a hold of the lock.
    pub(crate) fn look_held<S: Seek>(&self, tag: Tag, mut seek: S) -> Option<S::Entry> {
        let (held, found) = self.hold_with(tag, &mut seek);
        drop(held);
        found.map(|(_, entry)| entry)
    }

    /// Puts `id` in, in the place of the entry that is sought, if there is one, unless `admit` says
    /// no under the lock.
    ///
    /// # Errors
    /// See [`PutError`]; nothing has changed.
    pub(crate) fn put<S: Seek>(
        &self,
        (tag, id): (Tag, u32),
        tag_of: &dyn Fn(u32) -> Tag,
        mut seek: S,
        admit: impl FnOnce(Option<&S::Entry>) -> bool,
    ) -> Result<Option<S::Entry>, PutError> {
        let (held, found) = self.hold_with(tag, &mut seek);
        if let Some((old, entry)) = found {
            let admitted = admit(Some(&entry));
            if admitted {
                held.replace(tag, old, id);
            }
            drop(held);
            return if admitted { Ok(Some(entry)) } else { Err(PutError::NotAdmitted) };
        }
        let place = held.make_place(tag, tag_of)?;
        if !admit(None) {
            held.tidy(tag, tag_of);
            return Err(PutError::NotAdmitted);
        }
        place.put(id, byte(tag));
        held.count(1);
        held.changed();
        Ok(None)
    }

    /// Puts the id that `f` gives under the lock in the place of `old`, if that is there; whether
    /// it did. `f` may let go of `old`: nobody is led there any more when it is called.
    pub(crate) fn swap(&self, tag: Tag, old: u32, f: impl FnOnce() -> Option<u32>) -> bool {
        let held = self.hold(tag);
        let Some(place) = held.place(tag, old) else { return false };
        let mut moved = held.lift(place, old);
        let Some(new) = f() else { return false };
        moved.id = new;
        drop(moved);
        held.changed();
        true
    }

    /// Runs `f` under the lock if `id` is there; whether it is.
    pub(crate) fn with(&self, tag: Tag, id: u32, f: impl FnOnce()) -> bool {
        let held = self.hold(tag);
        let there = held.place(tag, id).is_some();
        if there {
            f();
        }
        there
    }

    /// Takes the entry out that is sought; `f` runs under the lock with it, or with `None`.
    pub(crate) fn take<S: Seek>(
        &self,
        tag: Tag,
        tag_of: &dyn Fn(u32) -> Tag,
        mut seek: S,
        f: impl FnOnce(Option<&S::Entry>),
    ) -> Option<S::Entry> {
        let (held, found) = self.hold_with(tag, &mut seek);
        f(found.as_ref().map(|(_, entry)| entry));
        if let Some((id, _)) = &found {
            held.remove(held.place_of(tag, *id), tag, tag_of);
        }
        drop(held);
        found.map(|(_, entry)| entry)
    }

    /// Takes `id` out, if it is there; `f` runs under the lock with whether it is.
    pub(crate) fn take_id(
        &self,
        tag: Tag,
        id: u32,
        tag_of: &dyn Fn(u32) -> Tag,
        f: impl FnOnce(bool),
    ) -> bool {
        let held = self.hold(tag);
        let place = held.place(tag, id);
        f(place.is_some());
        place.map(|place| held.remove(place, tag, tag_of)).is_some()
    }

    /// Runs `f` under the lock of a tag's shard.
    pub(crate) fn locked<T>(&self, tag: Tag, f: impl FnOnce() -> T) -> T {
        let _held = self.hold(tag);
        f()
    }

    /// Asserts every invariant.
    pub(crate) fn check(&self, tag_of: &dyn Fn(u32) -> Tag) {
        (0..self.shards()).for_each(|number| self.hold_shard(number).check(tag_of));
    }

    /// Lets buckets go that are not needed, a few in each hold of a lock.
    pub(crate) fn shrink(&self, tag_of: &dyn Fn(u32) -> Tag) {
        (0..self.shards()).for_each(|number| while self.hold_shard(number).shrink(tag_of) {});
    }
}

/// The ids in a line.
fn ids(line: &Line) -> impl Iterator<Item = u32> + '_ {
    (0..IDS).filter_map(|way| Place { line, way }.id())
}
