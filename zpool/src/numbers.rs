//! Numbers that are handed out lowest first, in chunks whose memory comes and goes.
//! ```text
//! closed --> open: the first `made` numbers have memory, each is free, in use or retired
//!    ^         |   none is in use, and a lower chunk is empty too
//!    +---------+-> gone for good, if a number of it is retired
//! ```
//! A number has a generation, which its user counts up. A chunk that closes keeps the highest one
//! that its numbers had, and all start there when it opens again. One empty chunk stays open.
//! Otherwise a pool at the edge of a chunk would open and close it in turns.
//!
//! Invariants: `ready` holds the chunks with a free number. `dry` holds those to which memory can
//! be added, and `used` those with a number in use. The sums are those over the open chunks.

use std::ops::Range;

use crate::bits::Bits;
use crate::directory::{boxed, stretch};
use crate::error::AllocError;
use crate::ledger::{Ledger, heap_cost};
use crate::sync::model_bug;

const WORD: usize = u64::BITS as usize;

/// No chunk.
const NONE: usize = usize::MAX;

#[derive(Debug, Default)]
struct Chunk {
    /// A bit for each free number; none while the chunk is closed.
    free: Box<[u64]>,
    made: u16,
    inuse: u16,
    retired: u16,
    /// Numbers below this were handed out since the chunk opened.
    reached: u16,
    /// No word of `free` before this one has a free number.
    low: u16,
    /// A number of it is retired, and it has closed.
    gone: bool,
    /// What numbers start at that come with new memory.
    start: u32,
    /// The highest generation of a number that came back.
    peak: u32,
}

/// A number that is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) number: u32,
    /// Its generation is this, or the one that it came back with if that is higher.
    pub(crate) start: u32,
}

/// Numbers in chunks of a power of two.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// Numbers of a chunk, and its `log2`.
    each: usize,
    shift: u32,
    /// Chunks at most.
    most: usize,
    chunks: Vec<Chunk>,
    ready: Bits,
    dry: Bits,
    used: Bits,
    /// The lowest of `ready`, and of `dry` or the next chunk that is none so far.
    first: (usize, usize),
    /// Chunks that the three sets have room for.
    room: usize,
    /// The empty chunk that stays open.
    idle: Option<usize>,
    made: usize,
    inuse: usize,
    reached: usize,
    retired: usize,
    /// Numbers of chunks that are gone.
    lost: usize,
    end: u32,
}

impl Numbers {
    /// Numbers below `end`, in chunks of `each`.
    pub(crate) fn new(each: usize, end: u32) -> Self {
        assert!(each.is_power_of_two() && each <= 1 << 15, "chunks of {each}");
        Self {
            each,
            shift: each.trailing_zeros(),
            most: end as usize / each,
            chunks: Vec::new(),
            ready: Bits::default(),
            dry: Bits::default(),
            used: Bits::default(),
            first: (NONE, 0),
            room: 0,
            idle: None,
            made: 0,
            inuse: 0,
            reached: 0,
            retired: 0,
            lost: 0,
            end: 0,
        }
    }

    /// The lowest number that is not in use. For one without memory, `make` is asked: it makes some
    /// for the given number, and says up to which one. Where there is none, the lowest that has
    /// memory is taken.
    ///
    /// # Errors
    /// There is none of either: whether the ledger refused the memory or the system.
    pub(crate) fn take(
        &mut self,
        ledger: &Ledger,
        make: impl FnOnce(usize) -> Result<usize, AllocError>,
    ) -> Result<Taken, AllocError> {
        let (ready, dry) = self.first;
        if ready > dry {
            let extended = self.extend(dry, ledger, make);
            extended.or_else(|error| if ready == NONE { Err(error) } else { Ok(()) })?;
        }
        Ok(self.take_from(self.first.0))
    }

    fn set_ready(&mut self, at: usize) {
        self.ready.insert(at);
        self.first.0 = self.first.0.min(at);
    }

    fn unset_ready(&mut self, at: usize) {
        self.ready.remove(at);
        if self.first.0 == at {
            self.first.0 = self.ready.next(at).unwrap_or(NONE);
        }
    }

    fn set_dry(&mut self, at: usize) {
        self.dry.insert(at);
        self.first.1 = self.first.1.min(at);
    }

    fn unset_dry(&mut self, at: usize) {
        self.dry.remove(at);
        if self.first.1 == at {
            self.first.1 = self.dry.next(at).unwrap_or(self.chunks.len());
        }
    }

    fn take_from(&mut self, at: usize) -> Taken {
        let chunk = &mut self.chunks[at];
        let (mut word, words) = (usize::from(chunk.low), &mut chunk.free);
        while words[word] == 0 {
            word += 1;
        }
        let place = word * WORD + words[word].trailing_zeros() as usize;
        words[word] &= words[word] - 1;
        chunk.low = word as u16;
        chunk.inuse += 1;
        self.inuse += 1;
        let number = at << self.shift | place;
        if place >= usize::from(chunk.reached) {
            self.reached += place + 1 - usize::from(chunk.reached);
            chunk.reached = place as u16 + 1;
            self.end = self.end.max(number as u32 + 1);
        }
        let (start, full) = (chunk.start, chunk.inuse + chunk.retired == chunk.made);
        if chunk.inuse == 1 {
            self.used.insert(at);
            self.idle = self.idle.filter(|idle| *idle != at);
        }
        if full {
            self.unset_ready(at);
        }
        Taken { number: number as u32, start }
    }

    /// Memory for more numbers of a chunk, which is opened if it is closed.
    fn extend(
        &mut self,
        at: usize,
        ledger: &Ledger,
        make: impl FnOnce(usize) -> Result<usize, AllocError>,
    ) -> Result<(), AllocError> {
        if at >= self.most {
            return Err(AllocError::OutOfPages);
        }
        self.widen(at, ledger)?;
        let first = at << self.shift;
        let opens = self.chunks[at].free.is_empty();
        let words = self.each.div_ceil(WORD);
        if opens {
            ledger.reserve(heap_cost(words * size_of::<u64>()))?;
            self.chunks[at].free = boxed(words, || 0).unwrap_or_default();
        }
        let before = usize::from(self.chunks[at].made);
        let made = match &self.chunks[at].free {
            free if free.is_empty() => Err(AllocError::NoMemory),
            _ => make(first + before).map(|end| end.min(first + self.each) - first),
        };
        let made = made.inspect_err(|_| {
            if opens {
                self.chunks[at].free = Box::default();
                ledger.release(heap_cost(words * size_of::<u64>()));
            }
        })?;
        let chunk = &mut self.chunks[at];
        assert!(before < made, "memory was made for a number");
        (before..made).for_each(|place| chunk.free[place / WORD] |= 1 << (place % WORD));
        chunk.low = chunk.low.min((before / WORD) as u16);
        if opens && !model_bug!(ReopenedAtZero) {
            chunk.start = chunk.peak;
        }
        let full = chunk.inuse + chunk.retired == chunk.made;
        chunk.made = made as u16;
        self.made += made - before;
        if full {
            self.set_ready(at);
        }
        if made == self.each {
            self.unset_dry(at);
        }
        Ok(())
    }

    /// Sees to it that chunk `at`, the next one at most, has an entry everywhere.
    fn widen(&mut self, at: usize, ledger: &Ledger) -> Result<(), AllocError> {
        if at < self.chunks.len() {
            return Ok(());
        }
        if at >= self.room {
            let room = at + at / 8 + 64;
            let cost = 3 * Bits::bytes(room);
            ledger.reserve(cost)?;
            let wide = |bits: &Bits| bits.widened(room);
            let all = (wide(&self.ready), wide(&self.dry), wide(&self.used));
            let (Some(ready), Some(dry), Some(used)) = all else {
                ledger.release(cost);
                return Err(AllocError::NoMemory);
            };
            (self.ready, self.dry, self.used) = (ready, dry, used);
            ledger.release(3 * Bits::bytes(self.room));
            self.room = room;
        }
        stretch(&mut self.chunks, at + 1, ledger)?;
        self.set_dry(at);
        Ok(())
    }

    /// Takes a number back that was handed out, with the generation that it has now. What comes out
    /// are the numbers of a chunk that closes, if one does: their memory may go.
    #[must_use]
    pub(crate) fn give(&mut self, number: u32, generation: u32, ledger: &Ledger) -> Range<usize> {
        let (at, place) = (number as usize >> self.shift, number as usize & (self.each - 1));
        let chunk = &mut self.chunks[at];
        let bit = 1 << (place % WORD);
        assert_eq!(chunk.free[place / WORD] & bit, 0, "number {number} comes back once");
        chunk.free[place / WORD] |= bit;
        chunk.low = chunk.low.min((place / WORD) as u16);
        chunk.peak = chunk.peak.max(generation);
        if chunk.inuse + chunk.retired == chunk.made {
            self.set_ready(at);
        }
        self.returned(at, ledger)
    }

    /// The same of a number that is never handed out again.
    #[must_use]
    pub(crate) fn retire(&mut self, number: u32, ledger: &Ledger) -> Range<usize> {
        let at = number as usize >> self.shift;
        self.chunks[at].retired += 1;
        self.retired += 1;
        self.returned(at, ledger)
    }

    fn returned(&mut self, at: usize, ledger: &Ledger) -> Range<usize> {
        let chunk = &mut self.chunks[at];
        chunk.inuse -= 1;
        self.inuse -= 1;
        let early = u16::from(model_bug!(ClosedInUse));
        if chunk.inuse > early {
            return 0..0;
        }
        if chunk.inuse == 0 {
            self.used.remove(at);
        }
        if usize::from(chunk.retired) == self.each {
            return self.close(at, ledger);
        }
        match self.idle {
            Some(other) if other != at => {
                self.idle = Some(at.min(other));
                self.close(at.max(other), ledger)
            }
            _ => {
                self.idle = Some(at);
                0..0
            }
        }
    }

    /// Closes the empty chunk that stays open, unless it is the first.
    #[must_use]
    pub(crate) fn close_idle(&mut self, ledger: &Ledger) -> Range<usize> {
        match self.idle.filter(|idle| *idle != 0) {
            Some(idle) => {
                self.idle = None;
                self.close(idle, ledger)
            }
            None => 0..0,
        }
    }

    fn close(&mut self, at: usize, ledger: &Ledger) -> Range<usize> {
        let chunk = &mut self.chunks[at];
        let (first, made) = (at << self.shift, usize::from(chunk.made));
        let Chunk { start, peak, reached, retired, .. } = *chunk;
        *chunk = Chunk { start, peak, gone: retired != 0, ..Chunk::default() };
        self.made -= made;
        self.reached -= usize::from(reached);
        self.retired -= usize::from(retired);
        if usize::from(retired) != made {
            self.unset_ready(at);
        }
        if retired == 0 && made == self.each {
            self.set_dry(at);
        }
        if retired != 0 {
            self.lost += self.each;
            if made != self.each {
                self.unset_dry(at);
            }
        }
        ledger.release(heap_cost(self.each.div_ceil(WORD) * size_of::<u64>()));
        self.end =
            self.used.last().max(self.idle).map_or(0, |top| {
                ((top << self.shift) + usize::from(self.chunks[top].reached)) as u32
            });
        first..first + made
    }

    /// The number that is handed out next, if there is room for the memory that it may need.
    pub(crate) fn lowest(&self) -> usize {
        let (ready, dry) = self.first;
        if ready > dry {
            let made = self.chunks.get(dry).map_or(0, |chunk| usize::from(chunk.made));
            return (dry << self.shift) + made;
        }
        let chunk = &self.chunks[ready];
        let low = usize::from(chunk.low);
        let word = chunk.free[low..].iter().position(|word| *word != 0);
        let word = low + word.expect("a chunk that is ready has a free number");
        (ready << self.shift) + word * WORD + chunk.free[word].trailing_zeros() as usize
    }

    /// No free number is below this.
    pub(crate) fn floor(&self) -> u32 {
        let at = self.first.0.min(self.first.1);
        let low = self.chunks.get(at).map_or(0, |chunk| usize::from(chunk.low) * WORD);
        (at << self.shift | low) as u32
    }

    /// All numbers in use are below this.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    pub(crate) fn inuse(&self) -> usize {
        self.inuse
    }

    /// Numbers of open chunks that were handed out since the chunk opened.
    pub(crate) fn reached(&self) -> usize {
        self.reached
    }

    /// Numbers that are never handed out again.
    pub(crate) fn retired(&self) -> usize {
        self.retired + self.lost
    }

    /// The numbers of the highest chunk in use, if free ones of lower chunks are enough for its
    /// users, and leave `spare` more.
    pub(crate) fn sparse(&self, spare: usize) -> Option<Range<u32>> {
        self.sparse_of(self.used.last()?, spare)
    }

    /// The same of the highest chunk that has all of its numbers below `end`.
    pub(crate) fn sparse_below(&self, end: u32, spare: usize) -> Option<Range<u32>> {
        let chunks = (end as usize >> self.shift).min(self.chunks.len());
        let top = self.chunks[..chunks].iter().rposition(|chunk| chunk.inuse > 0)?;
        self.sparse_of(top, spare)
    }

    fn sparse_of(&self, top: usize, spare: usize) -> Option<Range<u32>> {
        let free = |chunk: &Chunk| usize::from(chunk.made - chunk.inuse - chunk.retired);
        let open = |chunk: &&Chunk| chunk.made > 0;
        let chunk = &self.chunks[top];
        let all = self.made - self.inuse - self.retired;
        let below = all - self.chunks[top..].iter().filter(open).map(free).sum::<usize>();
        let first = (top << self.shift) as u32;
        let wanted = usize::from(chunk.inuse).saturating_add(spare);
        (below >= wanted).then(|| first..first + self.each as u32)
    }

    /// Whether a number of the chunks in which these numbers are is in use.
    pub(crate) fn uses(&self, numbers: Range<usize>) -> bool {
        let chunks = numbers.start >> self.shift..numbers.end.div_ceil(self.each);
        let last = self.chunks.len();
        let known = chunks.start.min(last)..chunks.end.min(last);
        self.chunks[known].iter().any(|chunk| chunk.inuse > 0)
    }

    /// Calls `f` with the range of each open chunk that has memory.
    pub(crate) fn each_open(&self, mut f: impl FnMut(Range<usize>)) {
        for (at, chunk) in self.chunks.iter().enumerate().filter(|(_, chunk)| chunk.made > 0) {
            let first = at << self.shift;
            f(first..first + usize::from(chunk.made));
        }
    }

    /// Whether a number is free and has memory.
    pub(crate) fn is_free(&self, number: usize) -> bool {
        let word = number & (self.each - 1);
        let free = &self.chunks[number >> self.shift].free;
        free.get(word / WORD).is_some_and(|bits| bits >> (word % WORD) & 1 == 1)
    }

    /// What generations a chunk's numbers start at, and the highest one that came back.
    pub(crate) fn generations(&self, number: usize) -> (u32, u32) {
        let chunk = &self.chunks[number >> self.shift];
        (chunk.start, chunk.peak.max(chunk.start))
    }

    /// Asserts what the header lists.
    pub(crate) fn check(&self) {
        let mut sums = [0; 4];
        let mut empty = Vec::new();
        for (at, chunk) in self.chunks.iter().enumerate() {
            let below = &chunk.free[..usize::from(chunk.low)];
            assert!(below.iter().all(|word| *word == 0), "free numbers of chunk {at} start there");
            let free: usize = chunk.free.iter().map(|word| word.count_ones() as usize).sum();
            let counts = [chunk.made, chunk.inuse, chunk.retired, chunk.reached].map(usize::from);
            let [made, inuse, retired, reached] = counts;
            assert_eq!(free + inuse + retired, made, "numbers of chunk {at}");
            assert!(
                reached <= made
                    && reached >= inuse + retired
                    && chunk.free.is_empty() == (made == 0)
            );
            assert_eq!(self.ready.contains(at), free > 0, "chunk {at} has a free number");
            assert_eq!(self.dry.contains(at), !chunk.gone && made < self.each, "chunk {at}");
            assert_eq!(self.used.contains(at), inuse > 0, "chunk {at} is in use");
            if made > 0 && inuse == 0 {
                empty.push(at);
            }
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        let free = self.chunks.iter().position(|chunk| chunk.free.iter().any(|word| *word != 0));
        assert!(
            free.is_none_or(|at| self.floor() as usize >> self.shift <= at),
            "the floor is low"
        );
        let first = (self.ready.next(0).unwrap_or(NONE), self.dry.next(0));
        assert_eq!(self.first, (first.0, first.1.unwrap_or(self.chunks.len())), "the lowest ones");
        assert_eq!([self.made, self.inuse, self.retired, self.reached], sums, "sums over chunks");
        assert!(empty.iter().copied().eq(self.idle), "{empty:?} are empty, {:?} stays", self.idle);
    }
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
mod tests;
