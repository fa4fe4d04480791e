//! Words in pages of the system's that come and go one by one.

use std::fmt;
use std::ptr::NonNull;

use super::block;

/// Pages in the first block; each further one is as long as all before it together, and 16 more.
const FIRST: usize = 16;
/// Blocks: 2^24 - 16 pages, enough for 2^32 words.
const BLOCKS: usize = 20;
/// Bytes of a word.
const WORD: usize = size_of::<u64>();

/// The system has no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMemory;

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system has no memory")
    }
}

impl std::error::Error for NoMemory {}

/// An array of words of 64 bits whose memory comes and goes by pages: for tables beside a pool's
/// [ids](crate::Pool::id), which are to give back what they do not need.
///
/// A general-purpose allocator keeps much of what tables give back, for other blocks of its own.
/// Here a page that is [closed](Self::close) goes back to the system at once. The array counts
/// nothing: a page takes [`page_bytes`](Self::page_bytes) from when it is opened until it is
/// closed, and address space is taken in blocks, of 16 pages at first, that double.
///
/// ```
/// use zpool::Words;
///
/// let mut words = Words::new();
/// words.open(3)?;
/// let first = 3 * Words::page_words();
/// words.set(first, 7);
/// assert_eq!((words.get(first), words.get(first + 1)), (7, 0));
/// if words.close(3) {
///     assert_eq!(words.get(first), 0); // a closed page reads as zeros
/// }
/// # Ok::<(), zpool::NoMemory>(())
/// ```
pub struct Words {
    blocks: [Option<Block>; BLOCKS],
    /// Where to find words, for each block.
    roots: [Root; BLOCKS],
    /// Bytes in a page.
    page: usize,
    /// `log2` of the words in a page.
    shift: u32,
}

/// What a look at a word needs to know of its block.
#[derive(Clone, Copy)]
struct Root {
    /// Where word 0 would be, if the words of the block were followed downwards.
    base: *mut u64,
    /// The words of the block below this one can be read and written.
    end: usize,
}

/// A piece of address space. It has no access behind the pages that were opened: a program that
/// locks its memory (`mlockall`) would fill it.
struct Block {
    start: NonNull<u64>,
    pages: usize,
    /// Pages from the first one on that can be read and written.
    open: usize,
    /// Whether pages can be given back one by one: the block is a mapping, not memory of the heap.
    mapped: bool,
}

// SAFETY: a block is memory that its `Words` alone owns.
unsafe impl Send for Words {}
// SAFETY: through a shared reference words are only read, and only `&mut` writes or closes.
unsafe impl Sync for Words {}

/// The block that page `number` is in, and its place there.
#[inline]
const fn locate(number: usize) -> (usize, usize) {
    let shifted = number / FIRST + 1;
    let block = shifted.ilog2() as usize;
    (block, number - FIRST * ((1 << block) - 1))
}

impl Words {
    /// An array without a page, which holds no memory.
    #[must_use]
    pub fn new() -> Self {
        let root = Root { base: std::ptr::null_mut(), end: 0 };
        let (page, shift) = (Self::page_bytes(), Self::page_words().ilog2());
        Self { blocks: [const { None }; BLOCKS], roots: [root; BLOCKS], page, shift }
    }

    /// Bytes in a page: those of the system.
    #[must_use]
    pub fn page_bytes() -> usize {
        block::page()
    }

    /// Words in a page: word `n` is on page `n / page_words()`.
    #[must_use]
    pub fn page_words() -> usize {
        Self::page_bytes() / WORD
    }

    /// The page that word `index` is on.
    #[inline]
    #[must_use]
    pub fn page_of(&self, index: usize) -> usize {
        index >> self.shift
    }

    /// Makes page `number` one that can be written. Its words are 0, unless it was open before and
    /// the system did not take its memory back.
    ///
    /// # Errors
    /// [`NoMemory`]; nothing has changed.
    ///
    /// # Panics
    /// `number` is 2^24 - 16 or more.
    pub fn open(&mut self, number: usize) -> Result<(), NoMemory> {
        let (block, at) = locate(number);
        assert!(block < BLOCKS, "page {number} of a table");
        if self.blocks[block].is_none() {
            self.blocks[block] = Some(Block::new(FIRST << block, self.page).ok_or(NoMemory)?);
        }
        // The first block is opened whole: small tables then are mappings that the system can join.
        let end = if block == 0 { FIRST } else { at + 1 };
        let made = self.blocks[block].as_mut().expect("made above");
        made.open(end, self.page).ok_or(NoMemory)?;
        let first = (FIRST * ((1 << block) - 1)) << self.shift;
        let base = made.start.as_ptr().wrapping_sub(first);
        self.roots[block] = Root { base, end: first + (made.open << self.shift) };
        Ok(())
    }

    /// Gives the memory of page `number` back, whose words are 0 from here on. `false`: the system
    /// did not take it, and they stay as they are; so it is in a program that has locked its
    /// memory.
    pub fn close(&mut self, number: usize) -> bool {
        let (block, at) = locate(number);
        let Some(block) = self.blocks.get(block).and_then(Option::as_ref) else { return true };
        if at >= block.open {
            return true;
        }
        if !block.mapped {
            return false;
        }
        let start = block.start.as_ptr().cast::<u8>().wrapping_add(at * self.page);
        // SAFETY: a whole page of a mapping of ours, as `locate` says; `&mut self`: nobody reads
        // it.
        unsafe { block::discard(start, self.page) }
    }

    /// Word `index`; 0 where its page was never opened.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> u64 {
        let Some(word) = self.word(index) else { return 0 };
        // SAFETY: on an opened page of ours, readable and initialised, as `word` checked.
        unsafe { word.read() }
    }

    /// Sets word `index`.
    ///
    /// # Panics
    /// Its page was never opened, and no later page of its block was.
    #[inline]
    pub fn set(&mut self, index: usize, value: u64) {
        let word = self.word(index).expect("a page is opened before its words are set");
        // SAFETY: on an opened page of ours, as `word` checked; `&mut self`: nobody else looks.
        unsafe { word.write(value) };
    }

    /// The `N` words from `index` on, all on one page.
    ///
    /// # Panics
    /// They are not on one page, or the page was never opened, and no later page of its block was.
    #[inline]
    #[must_use]
    pub fn row<const N: usize>(&self, index: usize) -> &[u64; N] {
        let start = self.row_start(index, N);
        // SAFETY: `N` words of an opened page of ours, as `row_start` checked; `&self`: nobody
        // writes.
        unsafe { &*start.cast() }
    }

    /// The same, to be changed.
    ///
    /// # Panics
    /// As for [`row`](Self::row).
    #[inline]
    pub fn row_mut<const N: usize>(&mut self, index: usize) -> &mut [u64; N] {
        let start = self.row_start(index, N);
        // SAFETY: as in `row`; `&mut self`: nobody else looks.
        unsafe { &mut *start.cast() }
    }

    #[inline]
    fn row_start(&self, index: usize, words: usize) -> *mut u64 {
        let on_page = index & ((1 << self.shift) - 1);
        assert!(on_page + words <= 1 << self.shift, "a row is on one page");
        self.word(index).expect("a page is opened before its words are used")
    }

    #[inline]
    fn word(&self, index: usize) -> Option<*mut u64> {
        // As `locate`, by words.
        let block = ((index >> self.shift) / FIRST + 1).ilog2() as usize;
        let root = self.roots.get(block).filter(|root| index < root.end)?;
        Some(root.base.wrapping_add(index))
    }
}

impl Block {
    fn new(pages: usize, page: usize) -> Option<Self> {
        let bytes = pages.checked_mul(page)?;
        if !block::MAPS {
            let start = block::on_heap(Self::layout(bytes)?)?;
            return Some(Self { start: start.cast(), pages, open: pages, mapped: false });
        }
        let start = block::reserve(bytes)?;
        // SAFETY: the mapping is ours and new. What it would lock is memory that is not there yet.
        unsafe { block::unlock(start, bytes) };
        Some(Self { start: start.cast(), pages, open: 0, mapped: true })
    }

    /// Makes the pages below `end`, which is in the block, readable and writable.
    fn open(&mut self, end: usize, page: usize) -> Option<()> {
        if end > self.open {
            let start = self.start.as_ptr().cast::<u8>().wrapping_add(self.open * page);
            // SAFETY: whole pages of a mapping that `new` reserved; blocks of the heap are open.
            if !unsafe { block::commit(start, (end - self.open) * page) } {
                return None;
            }
            self.open = end;
        }
        Some(())
    }

    fn layout(bytes: usize) -> Option<std::alloc::Layout> {
        std::alloc::Layout::from_size_align(bytes, align_of::<u64>()).ok()
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        for block in self.blocks.iter_mut().filter_map(Option::take) {
            let bytes = block.pages * self.page;
            if block.mapped {
                // SAFETY: `Block::new` reserved so many bytes there, and the array ends here.
                unsafe { block::unmap(block.start.cast(), bytes) };
            } else if let Some(layout) = Block::layout(bytes) {
                // SAFETY: `Block::new` took it from the heap with this layout, and the array ends
                // here.
                unsafe { block::off_heap(block.start.cast(), layout) };
            }
        }
    }
}

impl Default for Words {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pages: usize = self.blocks.iter().flatten().map(|block| block.pages).sum();
        write!(f, "Words(address space of {pages} pages)")
    }
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_its_own_place() {
        let mut expected = (0, 0);
        for number in 0..100_000 {
            assert_eq!(locate(number), expected, "page {number}");
            expected.1 += 1;
            if expected.1 == FIRST << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(locate((1 << 24) - 17).0 < BLOCKS && locate((1 << 24) - 16).0 == BLOCKS);
    }

    #[test]
    fn words_keep_what_they_are_set_to_until_their_page_is_closed() {
        let (mut words, each) = (Words::new(), Words::page_words());
        let value = |index: usize| index as u64 * 3 + 1;
        for page in [0, 5, 15, 16, 40, 1000] {
            words.open(page).unwrap();
            (page * each..(page + 1) * each).for_each(|index| words.set(index, value(index)));
        }
        assert_eq!(words.get(2000 * each), 0, "of a block that is not there");
        for page in [5, 1000] {
            if words.close(page) {
                assert!((page * each..(page + 1) * each).all(|index| words.get(index) == 0));
            }
            words.open(page).unwrap();
            words.set(page * each, 9);
            assert_eq!(words.get(page * each), 9);
        }
        for page in [0, 15, 16, 40] {
            let all = page * each..(page + 1) * each;
            assert!(all.into_iter().all(|index| words.get(index) == value(index)), "page {page}");
        }
    }

    #[test]
    #[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
    fn the_memory_of_a_closed_page_is_gone() {
        let (mut words, each) = (Words::new(), Words::page_words());
        let resident = |words: &Words, page: usize| {
            let start = words.word(page * each).unwrap().cast();
            let mut answer = 0_u8;
            // SAFETY: asks about one page of the array's and writes one byte of ours.
            let asked = unsafe { libc::mincore(start, 1, (&raw mut answer).cast()) };
            asked == 0 && answer & 1 == 1
        };
        (0..3).for_each(|page| words.open(page).unwrap());
        assert!(!resident(&words, 1), "what was opened and not used takes nothing yet");
        (0..3).for_each(|page| words.set(page * each, 1));
        assert!((0..3).all(|page| resident(&words, page)));
        assert!(words.close(1));
        assert_eq!([0, 1, 2].map(|page| resident(&words, page)), [true, false, true]);
    }

    #[test]
    #[should_panic(expected = "opened before")]
    fn words_of_a_page_that_was_never_opened_are_not_set() {
        Words::new().set(7, 1);
    }
}
