//! What a writer does to a shard of the table whose lock it holds.
//!
//! Chains are kept tight: only the last line with entries has holes, and none behind it is kept. So
//! the lines of `spill` have entries, by which the chain of each is found where it has to get
//! another number.

use zpool::{AllocError, SparseLines};

use super::{
    Held, IDS, Lifted, Line, Moving, NEXT, Place, Ways, bucket, byte, ids, matching, parent,
};
use crate::index::Tag;
use crate::sync::{FULL, MERGED, Ordering, PutError, get, may_split, model_bug, tell};

/// Entries for each bucket below which the last one goes, where [`FULL`] of them are too many.
const SPARSE: usize = FULL / 2;

impl<'t> Held<'t> {
    pub(super) fn len(&self) -> u32 {
        self.len.get()
    }

    fn set_len(&self, len: u32) {
        tell(&self.shard.len, len);
        self.len.set(len);
    }

    fn entries(&self) -> usize {
        get(&self.shard.entries) as usize
    }

    pub(super) fn count(&self, by: i64) {
        let entries = get(&self.shard.entries);
        self.shard.entries.store(entries.wrapping_add_signed(by), Ordering::Relaxed);
    }

    /// After each change, before the lock goes.
    pub(super) fn changed(&self) {
        self.version.set(self.version.get().wrapping_add(1));
        // Release pairs with the Acquire in `search`.
        self.shard.version.store(self.version.get(), Ordering::Release);
    }

    /// Misses do not count until this is dropped.
    fn moving(&self) -> Moving<'t> {
        Moving::start(self.shard)
    }

    /// The ways of a bucket's chain.
    fn ways(&self, bucket: u32) -> Ways<'t> {
        let line = self.table.first_line(self.number, bucket);
        Ways { table: self.table, number: self.number, line, way: 0 }
    }

    /// Where an id of this tag stands, or of another tag with the same byte. So the caller holds
    /// the entry, whose tag this is, or compares tags.
    pub(super) fn place(&self, tag: Tag, id: u32) -> Option<Place<'t>> {
        let mut line = match self.len() {
            0 => None,
            len => self.table.first_line(self.number, bucket(tag, len)),
        };
        while let Some(words) = line {
            let place = |way| Place { line: words, way };
            let found = matching(words, byte(tag)).map(place).find(|at| at.id() == Some(id));
            if found.is_some() {
                return found;
            }
            line = self.table.next(words, self.number);
        }
        None
    }

    /// Where an id stands that was found, as by [`Table::hold_with`](super::Table).
    pub(super) fn place_of(&self, tag: Tag, id: u32) -> Place<'t> {
        self.place(tag, id).expect("what was found is there")
    }

    pub(super) fn replace(&self, tag: Tag, old: u32, new: u32) {
        let place = self.place_of(tag, old);
        let moving = self.moving();
        place.set(new);
        drop(moving);
        self.changed();
    }

    /// Takes an id out of its place, until what this returns is dropped.
    pub(super) fn lift(&self, place: Place<'t>, id: u32) -> Lifted<'t> {
        let moving = self.moving();
        if !model_bug!(LiftedLeads) {
            place.clear();
        }
        Lifted { place, id, _moving: moving }
    }

    /// Memory for a line; its words are 0.
    fn open(&self, lines: &'t SparseLines, line: u32) -> Result<&'t Line, PutError> {
        // No hash that is any good puts so many keys into one shard.
        if line >= u32::MAX >> self.table.bits {
            return Err(PutError::NoMemory);
        }
        let number = self.table.line_number(self.number, line);
        lines.open(number).map_err(|error| match error {
            AllocError::OutOfPages => PutError::NoRoom(SparseLines::open_bytes()),
            _ => PutError::NoMemory,
        })?;
        Ok(lines.get(number).expect("it is open"))
    }

    /// A free way in the chain of a tag. A bucket is added if there are few for so many entries.
    pub(super) fn make_place(
        &self,
        tag: Tag,
        tag_of: &dyn Fn(u32) -> Tag,
    ) -> Result<Place<'t>, PutError> {
        let len = self.len();
        if len == 0 {
            self.open(&self.table.first, 0)?;
            self.set_len(1);
        } else if self.entries() >= len as usize * FULL && may_split() {
            // Where there is no memory for it chains get longer.
            self.split(tag_of);
        }
        self.free_way(bucket(tag, self.len()))
    }

    /// A free way in the chain of a bucket, which gets longer by a line where it has none.
    fn free_way(&self, bucket: u32) -> Result<Place<'t>, PutError> {
        let last = self.last_line(bucket);
        let free = |way: &usize| last[*way].load(Ordering::Relaxed) == 0;
        match (0..IDS).find(free) {
            Some(way) => Ok(Place { line: last, way }),
            None => Ok(Place { line: self.extend(last)?, way: 0 }),
        }
    }

    /// The last line of a chain, the only one with free ways.
    fn last_line(&self, bucket: u32) -> &'t Line {
        let mut last = self.table.first_line(self.number, bucket).expect("a bucket has a line");
        while let Some(next) = self.table.next(last, self.number) {
            last = next;
        }
        last
    }

    /// Another line behind the last one of a chain.
    fn extend(&self, last: &'t Line) -> Result<&'t Line, PutError> {
        let number = get(&self.shard.spilled) as u32;
        let line = self.open(&self.table.spill, number)?;
        self.shard.spilled.store(u64::from(number) + 1, Ordering::Relaxed);
        tell(&last[NEXT], number + 1);
        Ok(line)
    }

    pub(super) fn remove(&self, place: Place<'t>, tag: Tag, tag_of: &dyn Fn(u32) -> Tag) {
        let moving = self.moving();
        place.clear();
        drop(moving);
        self.count(-1);
        self.changed();
        self.tidy(tag, tag_of);
    }

    /// After an entry of this tag went, or did not come: its chain gets tight, and the last bucket
    /// goes where there are few entries.
    pub(super) fn tidy(&self, tag: Tag, tag_of: &dyn Fn(u32) -> Tag) {
        self.tighten(bucket(tag, self.len()), tag_of);
        let len = self.len() as usize;
        let few = self.entries() < (len - 1) * SPARSE || self.entries() == 0;
        if few && (may_split() || len == 1) {
            self.merge(tag_of);
        }
    }

    /// Fills the holes of a chain of several lines from its end, and lets lines go that come empty.
    fn tighten(&self, bucket: u32, tag_of: &dyn Fn(u32) -> Tag) {
        let first = self.table.first_line(self.number, bucket).expect("a bucket has a line");
        if first[NEXT].load(Ordering::Relaxed) == 0 {
            return;
        }
        let _moving = self.moving();
        let mut ways = self.ways(bucket);
        while let Some(hole) = ways.find(|place| place.id().is_none()) {
            let entries = ways.clone().filter_map(|place| place.id().map(|id| (place, id)));
            let Some((last, id)) = entries.last() else { break };
            if std::ptr::eq(hole.line, last.line) {
                break; // the last line that has entries
            }
            hole.put(id, last.byte());
            last.clear();
        }
        while self.drop_tail(bucket, first, tag_of) {}
    }

    /// Lets the last line of a chain go if it is one of `spill` and empty; whether it did. While
    /// entries move.
    fn drop_tail(&self, bucket: u32, first: &'t Line, tag_of: &dyn Fn(u32) -> Tag) -> bool {
        let mut before = first;
        let Some(mut tail) = self.table.next(first, self.number) else { return false };
        while let Some(next) = self.table.next(tail, self.number) {
            (before, tail) = (tail, next);
        }
        if ids(tail).next().is_some() {
            return false;
        }
        let number = before[NEXT].load(Ordering::Relaxed) - 1;
        tell(&before[NEXT], 0);
        let last = get(&self.shard.spilled) as u32 - 1;
        if number != last {
            self.renumber(last, number, bucket, tag_of);
        }
        self.table.spill.close(self.table.line_number(self.number, last));
        self.shard.spilled.store(last.into(), Ordering::Relaxed);
        true
    }

    /// Moves line `from` of `spill`, which is in the chain of `bucket` if it is empty, to line
    /// `to`, which is empty. While entries move.
    fn renumber(&self, from: u32, to: u32, bucket_if_empty: u32, tag_of: &dyn Fn(u32) -> Tag) {
        let line = |number| {
            let line = self.table.spill.get(self.table.line_number(self.number, number));
            line.expect("a line that is open")
        };
        let owner = ids(line(from)).next().map(|id| bucket(tag_of(id), self.len()));
        let owner = owner.unwrap_or(bucket_if_empty);
        let mut link = self.table.first_line(self.number, owner).expect("a bucket has a line");
        while link[NEXT].load(Ordering::Relaxed) != from + 1 {
            link = self.table.next(link, self.number).expect("a line is in its bucket's chain");
        }
        // Tags, and what comes after the line, before the entries; these before the way to them.
        for word in (0..SparseLines::WORDS).rev() {
            tell(&line(to)[word], line(from)[word].load(Ordering::Relaxed));
        }
        tell(&link[NEXT], to + 1);
        line(from).iter().for_each(|word| tell(word, 0));
    }

    /// Adds a bucket, with its part of the entries of another one. Nothing has changed where there
    /// is no memory for that.
    fn split(&self, tag_of: &dyn Fn(u32) -> Tag) {
        let len = self.len();
        let old = parent(len);
        let Ok(mut last) = self.open(&self.table.first, len) else { return };
        let first = last;
        let moving = self.moving();
        let mut way = 0;
        for place in self.ways(old) {
            let moves = |id: &u32| bucket(tag_of(*id), len + 1) == len;
            let Some(id) = place.id().filter(moves) else { continue };
            if way == IDS {
                let Ok(line) = self.extend(last) else {
                    self.unite(len, old);
                    while self.drop_tail(len, first, tag_of) {}
                    drop(moving);
                    return self.table.first.close(self.table.line_number(self.number, len));
                };
                (last, way) = (line, 0);
            }
            Place { line: last, way }.put(id, place.byte());
            place.clear();
            way += 1;
        }
        self.set_len(len + 1);
        drop(moving);
        self.tighten(old, tag_of);
        self.changed();
    }

    /// Moves all entries of a bucket to ways of another one, which has as many that are free. While
    /// entries move.
    fn unite(&self, from: u32, into: u32) {
        let mut to = self.ways(into).filter(|place| place.id().is_none());
        for place in self.ways(from) {
            if let Some(id) = place.id() {
                to.next().expect("there are as many ways").put(id, place.byte());
                place.clear();
            }
        }
    }

    /// Takes the last bucket away; `false`: it is needed, or there is no memory to do without it.
    fn merge(&self, tag_of: &dyn Fn(u32) -> Tag) -> bool {
        let len = self.len();
        let Some(old) = len.checked_sub(1) else { return false };
        let gone = self.table.first_line(self.number, old).expect("a bucket has a line");
        if old == 0 && self.entries() > 0 {
            return false;
        }
        if old > 0 {
            // The rest of its chain goes along; what is in its first line needs free ways.
            let into = parent(old);
            let free = |bucket| self.ways(bucket).filter(|place| place.id().is_none()).count();
            let mut tail = self.last_line(into);
            let own = IDS - ids(gone).count();
            if free(into) + free(old) - own < ids(gone).count() {
                match self.extend(tail) {
                    Ok(line) => tail = line,
                    Err(_) => return false,
                }
            }
            let _moving = self.moving();
            tell(&tail[NEXT], gone[NEXT].load(Ordering::Relaxed));
            tell(&gone[NEXT], 0);
            self.unite(old, into);
            self.set_len(old);
        } else {
            let _moving = self.moving();
            self.set_len(0);
        }
        self.table.first.close(self.table.line_number(self.number, old));
        if old > 0 {
            self.tighten(parent(old), tag_of);
        }
        self.changed();
        true
    }

    /// Lets some buckets go that are not needed; whether there may be more of them.
    pub(super) fn shrink(&self, tag_of: &dyn Fn(u32) -> Tag) -> bool {
        let few = || self.entries() <= (self.len() as usize - 1) * FULL * 7 / 8;
        (0..MERGED).all(|_| self.len() > 0 && few() && self.merge(tag_of))
    }

    /// Asserts what the head of this file says, and that each entry is in the bucket of its tag.
    pub(super) fn check(&self, tag_of: &dyn Fn(u32) -> Tag) {
        let (mut entries, mut lines) = (0, 0);
        for number in 0..self.len() {
            let first = self.table.first_line(self.number, number);
            let chain: Vec<_> =
                std::iter::successors(first, |line| self.table.next(line, self.number)).collect();
            lines += chain.len() - 1;
            for (at, line) in chain.iter().enumerate() {
                let here = ids(line).count();
                assert!(here == IDS || at + 1 == chain.len(), "a hole in the middle of a chain");
                assert!(here > 0 || at == 0, "a line without entries");
                entries += here;
            }
            for place in self.ways(number) {
                let Some(id) = place.id() else { continue };
                let tag = tag_of(id);
                assert_eq!(bucket(tag, self.len()), number, "entries are in their tags' buckets");
                assert_eq!(place.byte(), byte(tag), "bytes are their tags'");
            }
        }
        assert_eq!(entries, self.entries(), "entries are counted");
        assert_eq!(lines as u64, get(&self.shard.spilled), "lines are counted");
        assert_eq!(self.shard.moves.load(Ordering::Relaxed) % 2, 0, "nobody moves");
    }
}
