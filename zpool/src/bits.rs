//! A set of small numbers that finds its next member without reading empty words.
//! ```text
//! level 0: a bit for each number      level n + 1: a bit for each word of level n that is not zero
//! ```
//! Four levels: a search reads eight words, and one of the top level for each 2^24 numbers.

use std::fmt;

use crate::directory::boxed;
use crate::ledger::heap_cost;

const LEVELS: usize = 4;
const WORD: usize = u64::BITS as usize;

#[derive(Default)]
pub(crate) struct Bits {
    levels: [Box<[u64]>; LEVELS],
    ones: usize,
}

/// Words of each level of a set for numbers below `numbers`.
fn words(numbers: usize) -> [usize; LEVELS] {
    let mut below = numbers;
    std::array::from_fn(|_| {
        below = below.div_ceil(WORD);
        below
    })
}

impl Bits {
    /// What a set for numbers below `numbers` holds on the heap.
    pub(crate) fn bytes(numbers: usize) -> usize {
        words(numbers).iter().map(|words| heap_cost(words * size_of::<u64>())).sum()
    }

    /// A copy with room for numbers below `numbers`, or `None` where the allocator has no room.
    pub(crate) fn widened(&self, numbers: usize) -> Option<Self> {
        let mut wide = Self { ones: self.ones, ..Self::default() };
        for (level, words) in words(numbers).into_iter().enumerate() {
            let mut made = boxed(words, || 0)?;
            made[..self.levels[level].len()].copy_from_slice(&self.levels[level]);
            wide.levels[level] = made;
        }
        Some(wide)
    }

    /// Members.
    pub(crate) fn len(&self) -> usize {
        self.ones
    }

    pub(crate) fn contains(&self, number: usize) -> bool {
        self.levels[0].get(number / WORD).is_some_and(|word| word >> (number % WORD) & 1 == 1)
    }

    /// Adds a number that is no member.
    pub(crate) fn insert(&mut self, number: usize) {
        debug_assert!(!self.contains(number), "{number} is a member already");
        self.ones += 1;
        let mut at = number;
        for level in &mut self.levels {
            let word = &mut level[at / WORD];
            let was = *word;
            *word |= 1 << (at % WORD);
            if was != 0 {
                break;
            }
            at /= WORD;
        }
    }

    /// Removes a member.
    pub(crate) fn remove(&mut self, number: usize) {
        debug_assert!(self.contains(number), "{number} is no member");
        self.ones -= 1;
        let mut at = number;
        for level in &mut self.levels {
            let word = &mut level[at / WORD];
            *word &= !(1 << (at % WORD));
            if *word != 0 {
                break;
            }
            at /= WORD;
        }
    }

    /// The lowest member that is not below `from`.
    #[inline]
    pub(crate) fn next(&self, from: usize) -> Option<usize> {
        let word = self.levels[0].get(from / WORD)? & (u64::MAX << (from % WORD));
        if word != 0 {
            return Some(from / WORD * WORD + word.trailing_zeros() as usize);
        }
        self.next_above(from / WORD + 1)
    }

    /// The lowest member that is in word `at` of level 0, or behind it.
    fn next_above(&self, at: usize) -> Option<usize> {
        let mut at = at;
        for level in 1..LEVELS {
            let word = self.levels[level].get(at / WORD)? & (u64::MAX << (at % WORD));
            if word != 0 {
                return Some(self.lowest_under(level, at / WORD, word));
            }
            at = at / WORD + 1;
        }
        let top = self.levels.last()?;
        // `at` is the first word of the top level that has not been looked at.
        let word = (at..top.len()).find(|word| top[*word] != 0)?;
        Some(self.lowest_under(LEVELS - 1, word, top[word]))
    }

    /// The lowest member under `word`, which stands at `index` of `level`.
    fn lowest_under(&self, level: usize, index: usize, word: u64) -> usize {
        let mut at = index * WORD + word.trailing_zeros() as usize;
        for below in self.levels[..level].iter().rev() {
            at = at * WORD + below[at].trailing_zeros() as usize;
        }
        at
    }

    /// The highest member.
    pub(crate) fn last(&self) -> Option<usize> {
        let mut at = self.levels.last()?.iter().rposition(|word| *word != 0)?;
        for level in self.levels.iter().rev() {
            at = at * WORD + level[at].ilog2() as usize;
        }
        Some(at)
    }

    /// How many of the numbers from `from` on are members without a gap, `most` at most.
    pub(crate) fn run(&self, from: usize, most: usize) -> usize {
        run(from, most, |at| self.levels[0].get(at).copied())
    }

    /// How many numbers from `from` on are in one of two sets without a gap, `most` at most.
    pub(crate) fn run_of_either(&self, other: &Self, from: usize, most: usize) -> usize {
        let words = |at| Some(self.levels[0].get(at)? | other.levels[0].get(at)?);
        run(from, most, words)
    }
}

/// How many bits from `from` on are set in `words` without a gap, `most` at most.
#[inline]
fn run(from: usize, most: usize, words: impl Fn(usize) -> Option<u64>) -> usize {
    let mut length = 0;
    while length < most {
        let at = from + length;
        let Some(word) = words(at / WORD) else { break };
        let ones = (!(word >> (at % WORD))).trailing_zeros() as usize;
        length += ones;
        if ones < WORD - at % WORD {
            break;
        }
    }
    length.min(most)
}

impl fmt::Debug for Bits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Bits({} of {})", self.ones, self.levels[0].len() * WORD)
    }
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn agrees_with_a_tree() {
        let (mut bits, mut model) = (Bits::default(), BTreeSet::new());
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        for numbers in [1, 60, 64, 65, 4096, 4097, 300_000] {
            bits = bits.widened(numbers).unwrap();
            for _ in 0..3000 {
                let number =
                    if random(2) == 0 { random(numbers) } else { random(numbers.min(200)) };
                if model.insert(number) {
                    bits.insert(number);
                } else {
                    model.remove(&number);
                    bits.remove(number);
                }
                let from = random(numbers + 100);
                assert_eq!(bits.next(from), model.range(from..).next().copied());
                let from = random(numbers.min(250));
                let run = (from..).take_while(|number| model.contains(number)).count();
                assert_eq!((bits.run(from, 500), bits.run(from, 3)), (run.min(500), run.min(3)));
                assert_eq!(bits.contains(from), run > 0);
                assert_eq!(bits.last(), model.last().copied());
                assert_eq!(bits.len(), model.len());
            }
        }
    }

    #[test]
    fn a_run_of_either_goes_on_where_one_set_ends() {
        let (mut even, mut odd) = (Bits::default(), Bits::default());
        (even, odd) = (even.widened(300).unwrap(), odd.widened(300).unwrap());
        for number in (3..200).filter(|number| *number != 150) {
            if number % 2 == 0 { &mut even } else { &mut odd }.insert(number);
        }
        let run = |from, most| even.run_of_either(&odd, from, most);
        assert_eq!([run(2, 300), run(3, 300), run(63, 300), run(140, 300)], [0, 147, 87, 10]);
        assert_eq!([run(151, 300), run(199, 300), run(3, 100), run(64, 64)], [49, 1, 100, 64]);
        assert_eq!([run(299, 9), run(1000, 9)], [0, 0]);
    }

    #[test]
    fn finds_far_members() {
        let mut bits = Bits::default().widened(1 << 26).unwrap();
        bits.insert((1 << 26) - 1);
        assert_eq!((bits.next(0), bits.last()), (Some((1 << 26) - 1), Some((1 << 26) - 1)));
        assert_eq!(bits.next(1 << 26), None);
        bits.remove((1 << 26) - 1);
        assert_eq!((bits.next(0), bits.last()), (None, None));
    }
}
