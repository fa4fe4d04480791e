//! A table of words by number that grows and shrinks by chunks, each a page of the system's.
//! ```text
//! words of chunk n: n * per_chunk() .. (n + 1) * per_chunk()
//! beside each chunk: how many values are in use
//! ```
//! So growth moves nothing and its bytes are known beforehand. A chunk that is closed is given back
//! to the system. The caller says when a value comes into use ([`hold`](Chunks::hold)), and when it
//! is in use no more ([`let_go`](Chunks::let_go)). A chunk without a value in use can be closed.

use std::fmt;

use zpool::source::heap_cost;
use zpool::{NoMemory, Words};

/// Chunks in the first block of what stands beside them; each further block is as long as all
/// before it, and as the first one.
const FIRST: usize = 16;
/// Blocks: 2^22 - 16 chunks, enough for 2^30 values at 512 a chunk.
const BLOCKS: usize = 18;
/// The end of the list of unused chunks.
const END: u32 = u32::MAX;
/// What a chunk names as the next one that is not on the list.
const UNLISTED: u32 = u32::MAX - 1;

pub(super) struct Chunks {
    words: Words,
    beside: [Box<[Beside]>; BLOCKS],
    chunks: usize,
    bytes: usize,
    /// Chunks without a value in use.
    unused: usize,
    /// The first of a list that has all unused chunks, and some that are in use again.
    list: u32,
}

/// What stands beside a chunk.
#[derive(Clone, Copy)]
struct Beside {
    open: bool,
    /// Values in use.
    used: u16,
    /// The next chunk on the list, [`END`] or [`UNLISTED`].
    next: u32,
}

/// A chunk that is about to be opened, with the block beside it where that is missing. Dropped, it
/// leaves nothing behind.
pub(super) struct Made {
    number: usize,
    block: Box<[Beside]>,
}

const CLOSED: Beside = Beside { open: false, used: 0, next: UNLISTED };

/// The block and the place in it of chunk `number`.
#[inline]
const fn locate(number: usize) -> (usize, usize) {
    let shifted = number / FIRST + 1;
    let block = shifted.ilog2() as usize;
    (block, number - FIRST * ((1 << block) - 1))
}

/// Words of a chunk. Asks the system: not for what is done at each insert.
pub(super) fn per_chunk() -> usize {
    Words::page_words()
}

const fn block_cost(length: usize) -> usize {
    heap_cost(length * size_of::<Beside>())
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self {
            words: Words::new(),
            beside: std::array::from_fn(|_| Box::default()),
            chunks: 0,
            bytes: 0,
            unused: 0,
            list: END,
        }
    }

    /// Word `index`; 0 where its chunk is not open.
    #[inline]
    pub(super) fn get(&self, index: usize) -> u64 {
        self.words.get(index)
    }

    /// The `W` words from `index` on, of one chunk that is open.
    #[inline]
    pub(super) fn row<const W: usize>(&self, index: usize) -> &[u64; W] {
        self.words.row(index)
    }

    /// The same, to be changed.
    #[inline]
    pub(super) fn row_mut<const W: usize>(&mut self, index: usize) -> &mut [u64; W] {
        self.words.row_mut(index)
    }

    /// Sets word `index`, whose chunk is open.
    #[inline]
    pub(super) fn set(&mut self, index: usize, value: u64) {
        self.words.set(index, value);
    }

    #[inline]
    fn beside(&self, number: usize) -> Beside {
        let (block, at) = locate(number);
        let beside = self.beside.get(block).and_then(|block| block.get(at));
        beside.copied().unwrap_or(CLOSED)
    }

    #[inline]
    fn beside_mut(&mut self, number: usize) -> &mut Beside {
        let (block, at) = locate(number);
        &mut self.beside[block][at]
    }

    /// The numbers of all open chunks.
    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> {
        let all = 0..self.beside.iter().map(|block| block.len()).sum();
        all.filter(|number| self.beside(*number).open)
    }

    /// Open chunks.
    pub(super) fn chunks(&self) -> usize {
        self.chunks
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that chunk `number` will cost; 0 if it is open.
    pub(super) fn growth(&self, number: usize) -> usize {
        if self.beside(number).open {
            return 0;
        }
        Words::page_bytes() + self.missing_block(number).map_or(0, block_cost)
    }

    /// The length of the block that chunk `number` needs and that is not there.
    fn missing_block(&self, number: usize) -> Option<usize> {
        let (block, _) = locate(number);
        assert!(block < BLOCKS, "chunk {number}: ids are below 2^30");
        self.beside[block].is_empty().then_some(FIRST << block)
    }

    /// The first half of opening chunk `number`, which is not open: takes what can be refused.
    ///
    /// # Errors
    /// [`NoMemory`]; nothing has changed.
    pub(super) fn make(&mut self, number: usize) -> Result<Made, NoMemory> {
        let mut block = Vec::new();
        if let Some(length) = self.missing_block(number) {
            block.try_reserve_exact(length).map_err(|_| NoMemory)?;
            block.resize(length, CLOSED);
        }
        self.words.open(number)?;
        Ok(Made { number, block: block.into() })
    }

    /// The second half: all words of the chunk are 0, and none of its values is in use.
    pub(super) fn install(&mut self, made: Made) {
        let Made { number, block } = made;
        self.bytes += self.growth(number);
        self.chunks += 1;
        self.unused += 1;
        if !block.is_empty() {
            self.beside[locate(number).0] = block;
        }
        self.beside_mut(number).open = true;
        self.enlist(number);
    }

    /// The chunk that word `index` is on.
    #[inline]
    pub(super) fn chunk_of(&self, index: usize) -> usize {
        self.words.page_of(index)
    }

    /// A value at word `index`, whose chunk is open, is in use from now on.
    #[inline]
    pub(super) fn hold(&mut self, index: usize) {
        let number = self.chunk_of(index);
        let beside = self.beside_mut(number);
        assert!(beside.open, "word {index} has no room");
        beside.used += 1;
        if beside.used == 1 {
            self.unused -= 1;
        }
    }

    /// A value at word `index` is in use no more.
    #[inline]
    pub(super) fn let_go(&mut self, index: usize) {
        let number = self.chunk_of(index);
        let beside = self.beside_mut(number);
        beside.used -= 1;
        if beside.used == 0 {
            self.unused += 1;
            self.enlist(number);
        }
    }

    fn enlist(&mut self, number: usize) {
        let list = self.list;
        let beside = self.beside_mut(number);
        if beside.next == UNLISTED {
            beside.next = list;
            self.list = number as u32;
        }
    }

    /// Chunks without a value in use.
    pub(super) fn unused(&self) -> usize {
        self.unused
    }

    /// Closes unused chunks that `may_go` says yes to, as long as more than `keep` are there; all
    /// words of theirs are 0. What they took comes back, in bytes.
    pub(super) fn shrink(&mut self, keep: usize, may_go: &dyn Fn(usize) -> bool) -> usize {
        let (before, mut stay) = (self.bytes, END);
        while self.unused > keep && self.list != END {
            let number = self.list;
            let beside = self.beside_mut(number as usize);
            let (used, next) = (beside.used, std::mem::replace(&mut beside.next, UNLISTED));
            self.list = next;
            let stays = used == 0 && !(may_go(number as usize) && self.close(number as usize));
            if stays {
                self.beside_mut(number as usize).next = std::mem::replace(&mut stay, number);
            }
        }
        while stay != END {
            let (number, list) = (stay, self.list);
            stay = std::mem::replace(&mut self.beside_mut(number as usize).next, list);
            self.list = number;
        }
        before - self.bytes
    }

    /// Closes an unused chunk. `false`: the system does not take the memory back; the chunk stays
    /// open.
    fn close(&mut self, number: usize) -> bool {
        if !self.words.close(number) {
            return false;
        }
        self.beside_mut(number).open = false;
        self.unused -= 1;
        self.chunks -= 1;
        self.bytes -= Words::page_bytes();
        true
    }

    /// Asserts that values in use are counted; `used` tells how many a chunk has.
    pub(super) fn check(&self, used: impl Fn(&Self, usize) -> usize) {
        let (mut chunks, mut unused) = (0, 0);
        for number in self.numbers() {
            let beside = self.beside(number);
            assert_eq!(usize::from(beside.used), used(self, number), "values in use");
            assert!(beside.used > 0 || beside.next != UNLISTED, "an unused chunk is on the list");
            chunks += 1;
            unused += usize::from(beside.used == 0);
        }
        assert_eq!((self.chunks, self.unused), (chunks, unused), "chunks, and those without use");
    }
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chunks, bytes, .. } = self;
        f.debug_struct("Chunks").field("chunks", chunks).field("bytes", bytes).finish()
    }
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
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
        assert!(locate((1 << 21) - 1).0 < BLOCKS);
    }

    fn open(table: &mut Chunks, number: usize) {
        let made = table.make(number).expect("room");
        table.install(made);
    }

    #[test]
    fn chunks_come_in_any_order_at_the_price_that_was_said() {
        let (mut table, each) = (Chunks::new(), per_chunk());
        for number in [3, 0, 40, 1, 16] {
            let (growth, before) = (table.growth(number), table.bytes());
            assert_eq!(table.get(number * each), 0);
            open(&mut table, number);
            assert_eq!(table.bytes() - before, growth);
            assert_eq!((table.growth(number), table.get(number * each)), (0, 0));
            table.set(number * each + 3, number as u64);
        }
        assert_eq!((table.get(40 * each + 3), table.get(41 * each), table.chunks()), (40, 0, 5));
        assert_eq!(table.numbers().collect::<Vec<_>>(), [0, 1, 3, 16, 40]);
    }

    /// Values in use: words that are not 0.
    fn used(table: &Chunks, number: usize) -> usize {
        let words = number * per_chunk()..(number + 1) * per_chunk();
        words.filter(|index| table.get(*index) != 0).count()
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn chunks_without_a_value_in_use_go_at_the_price_they_came_for() {
        let (mut table, each) = (Chunks::new(), per_chunk());
        let put = |table: &mut Chunks, index: usize, value: u64| {
            if value == 0 {
                table.let_go(index);
            } else {
                table.hold(index);
            }
            table.set(index, value);
        };
        (0..6).for_each(|number| open(&mut table, number));
        [0, each + 1, each + 2, 2 * each + 1].iter().for_each(|at| put(&mut table, *at, 1));
        table.check(used);
        assert_eq!((table.unused(), table.shrink(3, &|_| true)), (3, 0));
        // Chunk 4 may not go, and one more is kept.
        let page = Words::page_bytes();
        assert_eq!(table.shrink(1, &|number| number != 4), 2 * page);
        assert_eq!((table.chunks(), table.growth(4), table.growth(3)), (4, 0, page));
        table.check(used);
        // A chunk that was let go and taken up again stays.
        put(&mut table, 2 * each + 1, 0);
        put(&mut table, 2 * each, 1);
        assert_eq!((table.shrink(0, &|_| true), table.chunks()), (page, 3));
        table.check(used);
        open(&mut table, 4);
        assert_eq!((table.growth(4), table.chunks()), (0, 4));
        table.check(used);
    }
}
