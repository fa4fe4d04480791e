//! A table by number that grows by chunks of `N` values, chunk by chunk, and never moves one.
//! ```text
//! blocks [17] -> block k: [16 << k] -> chunk: [T; N]
//! ```
//! So growth needs no room for a copy, has no slack but that of the last block (at most 16 bytes a
//! chunk), and is known to the byte beforehand. Growing is in two steps, [`make`](Chunks::make) and
//! [`install`](Chunks::install), so that two tables grow together or not at all.

use std::collections::TryReserveError;
use std::fmt;

use zpool::source::heap_cost;

/// Chunks in the first block.
const FIRST: usize = 16;
/// Blocks: 2^21 - 16 chunks, enough for 2^30 values at 1024 a chunk.
const BLOCKS: usize = 17;

#[derive(Default)]
pub(super) struct Chunks<T, const N: usize> {
    blocks: [Block<T, N>; BLOCKS],
    chunks: usize,
    bytes: usize,
}

type Block<T, const N: usize> = Box<[Option<Box<[T; N]>>]>;

/// A chunk on its way into the table, with its block where that is missing.
pub(super) struct Made<T, const N: usize> {
    block: Option<Block<T, N>>,
    chunk: Box<[T; N]>,
}

/// The block and the place in it of chunk `number`.
#[inline]
const fn locate(number: usize) -> (usize, usize) {
    let shifted = number / FIRST + 1;
    let block = shifted.ilog2() as usize;
    (block, number - FIRST * ((1 << block) - 1))
}

impl<T: Default, const N: usize> Chunks<T, N> {
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.chunk(index / N).map(|chunk| &chunk[index % N])
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let (block, at) = locate(index / N);
        let chunk = self.blocks.get_mut(block)?.get_mut(at)?.as_mut()?;
        Some(&mut chunk[index % N])
    }

    #[inline]
    fn chunk(&self, number: usize) -> Option<&[T; N]> {
        let (block, at) = locate(number);
        self.blocks.get(block)?.get(at)?.as_deref()
    }

    /// Every value there is room for.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        let chunks = self.blocks.iter().flat_map(|block| block.iter().flatten());
        chunks.flat_map(|chunk| chunk.iter())
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
        heap_cost(size_of::<[T; N]>()) + self.missing_block(number).map_or(0, block_cost::<T, N>)
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
        let Ok(chunk) = boxed(N, T::default)?.try_into() else {
            unreachable!("N values were made")
        };
        Ok(Made { block, chunk })
    }

    /// Puts chunk `number`, made just now, into the table.
    pub(super) fn install(&mut self, number: usize, made: Made<T, N>) {
        self.bytes += self.growth(number);
        self.chunks += 1;
        let (block, at) = locate(number);
        if let Some(made) = made.block {
            self.blocks[block] = made;
        }
        self.blocks[block][at] = Some(made.chunk);
    }
}

const fn block_cost<T, const N: usize>(length: usize) -> usize {
    heap_cost(length * size_of::<Option<Box<[T; N]>>>())
}

fn boxed<V>(count: usize, make: impl FnMut() -> V) -> Result<Box<[V]>, TryReserveError> {
    let mut values = Vec::new();
    values.try_reserve_exact(count)?;
    values.resize_with(count, make);
    Ok(values.into_boxed_slice())
}

impl<T, const N: usize> fmt::Debug for Chunks<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks: _, chunks, bytes } = self;
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
}
