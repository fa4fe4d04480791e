//! What sample pages have in common, as the bytes of a dictionary.
//! ```text
//! grams    each string of 8 bytes, by a hash: in how many pages it occurs
//! pages    split into as many groups as the dictionary has segments
//! group    -> the segment whose grams occur in most other pages; they count no more from then on
//! ```
//! A greedy cover, as in Liao, Petri, Moffat and Wirth, "Effective construction of relative
//! Lempel-Ziv dictionaries" (2016), which zstd's own trainer follows too. That one takes some
//! 12 MiB, and this one 1 MiB or less: a cache can charge it. Such a dictionary has no tables of
//! symbols, so a page brings its own.

use zpool::source::PageBuffer;

/// Bytes of a gram.
const GRAM: usize = 8;
/// Bytes of a segment.
const SEGMENT: usize = 512;
/// Grams are counted by so many bits of their hash, at the least and at the most.
const LEAST_BITS: u32 = 12;
const MOST_BITS: u32 = 18;
/// Counts for each byte of the dictionary, within these bounds.
const COUNTS: usize = 16;
/// How often all groups are gone through.
const ROUNDS: usize = 4;

/// Bits of hashes for a dictionary of so many bytes.
fn bits(most: usize) -> u32 {
    let counts = most.saturating_mul(COUNTS).max(1);
    counts.ilog2().clamp(LEAST_BITS, MOST_BITS)
}

/// Bytes that [`cover`] takes while it works, and gives.
pub(super) fn bytes(most: usize) -> usize {
    let tables = 2 * PageBuffer::cost(table_bytes(bits(most)));
    most.saturating_mul(2).saturating_add(tables)
}

/// Numbers by the hash of a gram. Not of the heap, which would keep what was so large.
struct Table(PageBuffer);

/// Counts by the hash of a gram.
struct Counts {
    bits: u32,
    /// Pages with this gram, but for the first one. Grams that share a hash add up.
    pages: Table,
    /// How often the gram is in the window.
    window: Table,
    /// What all grams of the window are worth, each of them once.
    worth: u64,
    /// The mean of `pages` at first: what a gram that no other page has is worth, by chance.
    mean: u64,
}

impl Table {
    /// One of zeros. `None`: there is no memory.
    fn new(bits: u32) -> Option<Self> {
        let mut buffer = PageBuffer::new(table_bytes(bits)).ok()?;
        buffer.fill(0);
        Some(Self(buffer))
    }

    fn get(&self, gram: usize) -> u16 {
        let at = 2 * gram;
        u16::from_ne_bytes([self.0[at], self.0[at + 1]])
    }

    fn set(&mut self, gram: usize, number: u16) {
        self.0[2 * gram..][..2].copy_from_slice(&number.to_ne_bytes());
    }
}

/// Bytes of a table for hashes of so many bits.
fn table_bytes(bits: u32) -> usize {
    size_of::<u16>() << bits
}

/// The hash of each gram of a page.
fn grams(page: &[u8], bits: u32) -> impl ExactSizeIterator<Item = usize> + Clone {
    page.windows(GRAM).map(move |gram| {
        let gram = gram.try_into().map_or(0, u64::from_le_bytes);
        (gram.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - bits)) as usize
    })
}

impl Counts {
    fn of(samples: &[&[u8]], bits: u32) -> Option<Self> {
        let (mut pages, mut last) = (Table::new(bits)?, Table::new(bits)?);
        let mut sum = 0;
        for (page, number) in samples.iter().zip((1..=u16::MAX).cycle()) {
            for gram in grams(page, bits) {
                let before = last.get(gram);
                if before != number {
                    // The first page says nothing: a gram that no other page has helps nobody.
                    let other = u16::from(before != 0);
                    pages.set(gram, pages.get(gram).saturating_add(other));
                    sum += u64::from(other);
                    last.set(gram, number);
                }
            }
        }
        last.0.fill(0);
        Some(Self { bits, mean: sum >> bits, pages, window: last, worth: 0 })
    }

    fn enters(&mut self, gram: usize) {
        let inside = self.window.get(gram);
        if inside == 0 {
            self.worth += u64::from(self.pages.get(gram));
        }
        self.window.set(gram, inside + 1);
    }

    fn leaves(&mut self, gram: usize) {
        let inside = self.window.get(gram) - 1;
        if inside == 0 {
            self.worth -= u64::from(self.pages.get(gram));
        }
        self.window.set(gram, inside);
    }

    /// What the best segment of a page is worth, and where it begins. Segments that begin and end
    /// within the page only.
    fn best(&mut self, page: &[u8]) -> (u64, usize) {
        let segment = SEGMENT.min(page.len());
        let Some(in_window) = (segment + 1).checked_sub(GRAM).filter(|grams| *grams > 0) else {
            return (0, 0);
        };
        let mut best = (0, 0);
        let (mut first, mut inside) = (grams(page, self.bits), 0);
        for (at, gram) in grams(page, self.bits).enumerate() {
            self.enters(gram);
            inside += 1;
            if inside > in_window {
                first.next().into_iter().for_each(|gram| self.leaves(gram));
                inside -= 1;
            }
            if inside == in_window && self.worth > best.0 {
                best = (self.worth, at + 1 - in_window);
            }
        }
        first.take(inside).for_each(|gram| self.leaves(gram));
        best
    }
}

/// At most `most` bytes of the samples: those that most pages have, the best ones last, where zstd
/// reaches them by the shortest offsets. Fewer, or none, where pages have little in common. `None`:
/// there is no memory.
pub(super) fn cover(samples: &[&[u8]], most: usize) -> Option<Vec<u8>> {
    let mut counts = Counts::of(samples, bits(most))?;
    let groups = (most / SEGMENT).clamp(1, samples.len().max(1));
    let mut dictionary = Vec::new();
    dictionary.try_reserve_exact(most).ok()?;
    for _ in 0..ROUNDS {
        let before = dictionary.len();
        for group in samples.chunks(samples.len().div_ceil(groups).max(1)) {
            let found = group.iter().map(|page| (counts.best(page), page));
            let Some(((worth, start), page)) = found.max_by_key(|((worth, _), _)| *worth) else {
                continue;
            };
            let end = page.len().min(start + SEGMENT).min(start + most - dictionary.len());
            let segment = &page[start..end];
            // Its grams are worth clearly more than chance makes them, on average.
            let chance =
                grams(segment, counts.bits).len().max(1) as u64 * (4 + 5 * counts.mean) / 4;
            if worth < chance {
                continue;
            }
            grams(segment, counts.bits).for_each(|gram| counts.pages.set(gram, 0));
            // Written from its end, and turned round below.
            dictionary.extend(segment.iter().rev());
            if dictionary.len() + GRAM > most {
                break;
            }
        }
        // What is full, or has found nothing, finds nothing the next time.
        if dictionary.len() + GRAM > most || dictionary.len() == before {
            break;
        }
    }
    dictionary.reverse();
    Some(dictionary)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without a pattern.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn what_pages_share_is_found_and_what_they_do_not_is_left_out() {
        let shared = noise(77, 600);
        let page =
            |number| [noise(number, 1700), shared.clone(), noise(number + 1000, 1700)].concat();
        let pages: Vec<Vec<u8>> = (1..50).map(page).collect();
        let samples: Vec<&[u8]> = pages.iter().map(Vec::as_slice).collect();
        let dictionary = cover(&samples, 16 << 10).unwrap();
        assert!(dictionary.len() <= 2 * SEGMENT, "{} bytes", dictionary.len());
        let covered =
            shared.windows(GRAM).filter(|gram| dictionary.windows(GRAM).any(|d| d == *gram));
        assert!(covered.count() > 500);
    }

    #[test]
    fn no_samples_and_samples_of_any_length_give_at_most_what_is_asked_for() {
        let short: Vec<Vec<u8>> = (0..40).map(|len| vec![7; len]).collect();
        let long: Vec<Vec<u8>> = (0..9).map(|_| noise(3, 100_000)).collect();
        for pages in [vec![], short, long] {
            let samples: Vec<&[u8]> = pages.iter().map(Vec::as_slice).collect();
            for most in [1, 7, 256, 1000, 16 << 10] {
                let dictionary = cover(&samples, most).unwrap();
                assert!(dictionary.len() <= most, "{} of {most} bytes", dictionary.len());
            }
        }
        let alone = noise(5, 4096);
        assert!(cover(&[&alone], 4096).unwrap().is_empty(), "nobody shares it");
        assert!(!cover(&[&alone, &alone], 4096).unwrap().is_empty());
    }

    #[test]
    fn each_gram_counts_once_and_in_one_segment() {
        let samples = vec![&[0_u8; 128 << 10][..]; 12];
        assert!(cover(&samples, 4096).unwrap().is_empty(), "a run is one gram");
        let page = [noise(9, SEGMENT), vec![0; 3000]].concat();
        let samples = vec![&page[..]; 12];
        assert_eq!(cover(&samples, 4096).unwrap(), noise(9, SEGMENT), "one segment has it all");
    }
}
