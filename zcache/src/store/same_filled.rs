//! The words that same-filled pages repeat, each kept once: an entry holds its number.
//!
//! Nearly all such pages are zeros, and the others share a few words (erased flash, poison, -1).
//! The first 127 words get numbers for good; pages of further ones keep their word as an 8-byte
//! object.

use zpool::source::heap_cost;

use crate::codec::INLINE;
use crate::sync::{Counter, Mutex, Ordering};

#[derive(Debug)]
pub(crate) struct Words {
    words: Box<[Counter]>,
    used: Counter,
    adding: Mutex<()>,
}

impl Words {
    /// Word 0 is zeros.
    pub(crate) fn new() -> Self {
        Self {
            words: (0..INLINE).map(|_| Counter::new(0)).collect(),
            used: Counter::new(1),
            adding: Mutex::new(()),
        }
    }

    /// What it takes on the heap.
    pub(super) const BYTES: usize = heap_cost(INLINE as usize * size_of::<Counter>());

    /// The number of `word`, given to it if need be.
    pub(crate) fn number(&self, word: u64) -> Option<u8> {
        self.find(word).or_else(|| {
            let _adding = self.adding.lock();
            self.find(word).or_else(|| {
                // Relaxed: it changes under this lock only.
                let used = self.used.load(Ordering::Relaxed) as usize;
                self.words.get(used)?.store(word, Ordering::Relaxed);
                // Release pairs with the Acquire in `find`: the word is there first.
                self.used.store(used as u64 + 1, Ordering::Release);
                Some(used as u8)
            })
        })
    }

    fn find(&self, word: u64) -> Option<u8> {
        let used = self.used.load(Ordering::Acquire) as usize; // pairs with the Release above
        let same = |known: &Counter| known.load(Ordering::Relaxed) == word;
        self.words[..used].iter().position(same).map(|number| number as u8)
    }

    /// The word of a number that was given.
    pub(crate) fn word(&self, number: u8) -> u64 {
        // Relaxed: who has the number has what came before it.
        self.words.get(usize::from(number)).map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    #[test]
    fn words_have_one_number_each_until_there_are_no_more() {
        let words = Words::new();
        assert_eq!(words.number(0), Some(0));
        for word in 1..INLINE.into() {
            assert_eq!(words.number(word), Some(word as u8));
            assert_eq!(words.number(word), Some(word as u8));
            assert_eq!(words.word(word as u8), word);
        }
        assert_eq!((words.number(1 << 40), words.number(5)), (None, Some(5)));
    }
}
