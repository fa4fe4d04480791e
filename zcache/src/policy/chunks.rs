//! A table by number that grows and shrinks by chunks of `N` values, and never moves one.
//! ```text
//! blocks [17] -> block k: [16 << k] -> chunk: [T; N], and how many of its values are in use
//! ```
//! So growth needs no room for a copy, has no slack but that of the last block (at most 16 bytes a
//! chunk), and is known to the byte beforehand. Growing is in two steps, [`make`](Chunks::make) and
//! [`install`](Chunks::install), so that two tables grow together or not at all. Whoever puts a value to
//! use says so ([`hold`](Chunks::hold)), and again when it is in use no more ([`let_go`](Chunks::let_go)):
//! a chunk without a value in use can be dropped.

use std::collections::TryReserveError;
use std::fmt;

use zpool::source::heap_cost;

/// Chunks in the first block.
const FIRST: usize = 16;
/// Blocks: 2^21 - 16 chunks, enough for 2^30 values at 1024 a chunk.
const BLOCKS: usize = 17;
/// The end of the list of unused chunks.
const END: u32 = u32::MAX;
/// What a chunk names as the next one that is not on the list.
const UNLISTED: u32 = u32::MAX - 1;

pub(super) struct Chunks<T, const N: usize> {
    blocks: [Block<T, N>; BLOCKS],
    chunks: usize,
    bytes: usize,
    /// Chunks without a value in use.
    unused: usize,
    /// The first of a list that has all unused chunks, and some that are in use again.
    list: u32,
}

type Block<T, const N: usize> = Box<[Option<Slab<T, N>>]>;

/// A box that can be made without ending the process where there is no memory.
type Slab<T, const N: usize> = Box<[Chunk<T, N>; 1]>;

struct Chunk<T, const N: usize> {
    values: [T; N],
    /// Values in use.
    used: u32,
    /// The next chunk on the list, [`END`] or [`UNLISTED`].
    next: u32,
}

/// A chunk on its way into the table, with its block where that is missing.
pub(super) struct Made<T, const N: usize> {
    block: Option<Block<T, N>>,
    chunk: Slab<T, N>,
}

/// The block and the place in it of chunk `number`.
#[inline]
const fn locate(number: usize) -> (usize, usize) {
    let shifted = number / FIRST + 1;
    let block = shifted.ilog2() as usize;
    (block, number - FIRST * ((1 << block) - 1))
}

impl<T, const N: usize> Default for Chunks<T, N> {
    fn default() -> Self {
        Self { blocks: Default::default(), chunks: 0, bytes: 0, unused: 0, list: END }
    }
}

impl<T: Default, const N: usize> Chunks<T, N> {
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.chunk(index / N).map(|chunk| &chunk.values[index % N])
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.chunk_mut(index / N).map(|chunk| &mut chunk.values[index % N])
    }

    #[inline]
    fn chunk(&self, number: usize) -> Option<&Chunk<T, N>> {
        let (block, at) = locate(number);
        self.blocks.get(block)?.get(at)?.as_ref().map(|slab| &slab[0])
    }

    #[inline]
    fn chunk_mut(&mut self, number: usize) -> Option<&mut Chunk<T, N>> {
        let (block, at) = locate(number);
        self.blocks.get_mut(block)?.get_mut(at)?.as_mut().map(|slab| &mut slab[0])
    }

    /// Every value there is room for.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten().flatten().flat_map(|slab| &slab[0].values)
    }

    /// Chunks in the table.
    pub(super) fn chunks(&self) -> usize {
        self.chunks
    }

    /// Bytes of heap held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that chunk `number` will cost; 0 if it is there.
    pub(super) fn growth(&self, number: usize) -> usize {
        if self.chunk(number).is_some() {
            return 0;
        }
        heap_cost(size_of::<Chunk<T, N>>())
            + self.missing_block(number).map_or(0, block_cost::<T, N>)
    }

    /// The length of the block that chunk `number` needs and that is not there.
    fn missing_block(&self, number: usize) -> Option<usize> {
        let (block, _) = locate(number);
        assert!(block < BLOCKS, "chunk {number}: ids are below 2^30");
        self.blocks[block].is_empty().then_some(FIRST << block)
    }

    /// Allocates chunk `number`, all values default.
    pub(super) fn make(&self, number: usize) -> Result<Made<T, N>, TryReserveError> {
        let block = self.missing_block(number).map(|length| boxed(length, || None)).transpose()?;
        let values = || std::array::from_fn(|_| T::default());
        let chunk = boxed(1, || Chunk { values: values(), used: 0, next: UNLISTED })?;
        let Ok(chunk) = chunk.try_into() else { unreachable!("one chunk was made") };
        Ok(Made { block, chunk })
    }

    /// Puts chunk `number`, made just now, into the table; none of its values is in use.
    pub(super) fn install(&mut self, number: usize, made: Made<T, N>) {
        self.bytes += self.growth(number);
        self.chunks += 1;
        self.unused += 1;
        let (block, at) = locate(number);
        if let Some(made) = made.block {
            self.blocks[block] = made;
        }
        self.blocks[block][at] = Some(made.chunk);
        self.enlist(number);
    }

    fn known(&mut self, number: usize) -> &mut Chunk<T, N> {
        self.chunk_mut(number).expect("a chunk with values in use, or on the list, is there")
    }

    /// Value `index`, which has room, is in use from now on.
    #[inline]
    pub(super) fn hold(&mut self, index: usize) {
        let chunk = self.known(index / N);
        chunk.used += 1;
        if chunk.used == 1 {
            self.unused -= 1;
        }
    }

    /// Value `index` is in use no more.
    #[inline]
    pub(super) fn let_go(&mut self, index: usize) {
        let chunk = self.known(index / N);
        chunk.used -= 1;
        if chunk.used == 0 {
            self.unused += 1;
            self.enlist(index / N);
        }
    }

    fn enlist(&mut self, number: usize) {
        let list = self.list;
        let chunk = self.known(number);
        if chunk.next == UNLISTED {
            chunk.next = list;
            self.list = number as u32;
        }
    }

    /// Chunks without a value in use.
    pub(super) fn unused(&self) -> usize {
        self.unused
    }

    /// Drops the unused chunks that `may_go` says yes to, as long as more than `keep` are there. What
    /// they took comes back, in bytes.
    pub(super) fn shrink(&mut self, keep: usize, may_go: &dyn Fn(usize) -> bool) -> usize {
        let (before, mut stay) = (self.bytes, END);
        while self.unused > keep && self.list != END {
            let number = self.list;
            let chunk = self.known(number as usize);
            let (used, next) = (chunk.used, std::mem::replace(&mut chunk.next, UNLISTED));
            self.list = next;
            if used == 0 && may_go(number as usize) {
                self.remove(number as usize);
            } else if used == 0 {
                self.known(number as usize).next = std::mem::replace(&mut stay, number);
            }
        }
        while stay != END {
            let (number, list) = (stay, self.list);
            stay = std::mem::replace(&mut self.known(number as usize).next, list);
            self.list = number;
        }
        before - self.bytes
    }

    /// Drops an unused chunk that is not on the list.
    fn remove(&mut self, number: usize) {
        let (block, at) = locate(number);
        self.blocks[block][at] = None;
        self.unused -= 1;
        self.chunks -= 1;
        self.bytes -= heap_cost(size_of::<Chunk<T, N>>());
    }

    /// Drops all chunks from number `chunks` on, none of whose values is in use.
    pub(super) fn truncate(&mut self, chunks: usize) {
        self.shrink(0, &|number| number >= chunks);
    }

    /// Asserts that values in use are counted; `is_used` tells which those are.
    pub(super) fn check(&self, is_used: impl Fn(&T) -> bool) {
        let (mut chunks, mut unused) = (0, 0);
        for [chunk] in self.blocks.iter().flatten().flatten().map(|slab| &**slab) {
            let used = chunk.values.iter().filter(|value| is_used(value)).count();
            assert_eq!(chunk.used as usize, used, "values in use");
            assert!(used > 0 || chunk.next != UNLISTED, "an unused chunk is on the list");
            chunks += 1;
            unused += usize::from(used == 0);
        }
        assert_eq!((self.chunks, self.unused), (chunks, unused), "chunks, and those without use");
    }
}

const fn block_cost<T, const N: usize>(length: usize) -> usize {
    heap_cost(length * size_of::<Option<Slab<T, N>>>())
}

fn boxed<V>(count: usize, make: impl FnMut() -> V) -> Result<Box<[V]>, TryReserveError> {
    let mut values = Vec::new();
    values.try_reserve_exact(count)?;
    values.resize_with(count, make);
    Ok(values.into_boxed_slice())
}

impl<T, const N: usize> fmt::Debug for Chunks<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chunks, bytes, .. } = self;
        f.debug_struct("Chunks").field("chunks", chunks).field("bytes", bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_has_its_own_place() {
        let mut expected = (0, 0);
        for number in 0..100_000 {
            assert_eq!(locate(number), expected, "chunk {number}");
            expected.1 += 1;
            if expected.1 == FIRST << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(locate((1 << 20) - 1).0 < BLOCKS);
    }

    #[test]
    fn chunks_come_in_any_order_at_the_price_that_was_said() {
        let mut table = Chunks::<u64, 4>::default();
        for number in [3, 0, 40, 1, 16] {
            let (growth, before) = (table.growth(number), table.bytes());
            assert_eq!(table.get(number * 4), None);
            let made = table.make(number).expect("room");
            table.install(number, made);
            assert_eq!(table.bytes() - before, growth);
            assert_eq!((table.growth(number), table.get(number * 4)), (0, Some(&0)));
            *table.get_mut(number * 4 + 3).expect("there") = number as u64;
        }
        assert_eq!((table.get(163), table.get(164), table.chunks()), (Some(&40), None, 5));
        assert_eq!(table.values().sum::<u64>(), 3 + 40 + 1 + 16);
    }

    #[test]
    fn chunks_without_a_value_in_use_go_at_the_price_they_came_for() {
        let mut table = Chunks::<u64, 4>::default();
        for number in 0..6 {
            let made = table.make(number).expect("room");
            table.install(number, made);
        }
        let growth = table.bytes() / 6;
        for index in [0, 5, 6, 9] {
            table.hold(index);
            *table.get_mut(index).expect("room") = 1;
        }
        table.check(|value| *value == 1);
        assert_eq!((table.unused(), table.shrink(3, &|_| true)), (3, 0));
        let chunk = heap_cost(32);
        assert!(growth >= chunk);
        // Chunk 4 may not go, and one more is kept.
        assert_eq!(table.shrink(1, &|number| number != 4), 2 * chunk);
        assert_eq!((table.chunks(), table.get(16), table.get(12)), (4, Some(&0), None));
        table.check(|value| *value == 1);
        // A chunk that was let go and taken up again stays.
        table.let_go(9);
        *table.get_mut(9).expect("room") = 0;
        table.hold(8);
        *table.get_mut(8).expect("room") = 1;
        assert_eq!((table.shrink(0, &|_| true), table.chunks()), (chunk, 3));
        table.check(|value| *value == 1);
        let made = table.make(4).expect("room");
        table.install(4, made);
        assert_eq!((table.get(16), table.chunks()), (Some(&0), 4));
        table.check(|value| *value == 1);
    }
}
