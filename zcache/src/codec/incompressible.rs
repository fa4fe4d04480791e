//! A look at a page before a codec is called.
//!
//! A codec shrinks a page for one of two reasons: some bytes are more frequent than others, or
//! bytes repeat. The look has a step for each. The second step runs only where the first finds
//! nothing, so a page of text never pays for it.
//!
//! The second step puts words of 8 bytes into a table and notes whether a word was there already.
//! Some words start at even distances through the whole page, the *stride*. The others stand close
//! together in the middle of the page, and leave different remainders when divided by the stride.
//! ```text
//! |w . . . . . . .|w . . . . . . .|w . w . w . w .|w . . . . . . .|w . . . . . . .|
//! ```
//! So where the middle stands in the page a second time, one of its words meets its copy. In a page
//! of 4 KiB this happens if an even number of bytes lies between the two, in one of 16 KiB if a
//! multiple of 8 does. Records of an odd length meet at their second copy, or a later one. Free
//! space and fields that all records share meet as well. A word is lost where another takes its
//! slot of the table.

/// The first step samples 16 runs of 8 bytes, one in each sixteenth of the page.
const RUNS: usize = 16;
const RUN: usize = 8;
/// A run starts this much later in its part of the page than the run before in its own.
const SKIP: usize = 13;
/// A page with more different values among the 128 sampled bytes passes the first step. Random
/// bytes have 100.8 on average, and 88 or fewer in one page of 1500.
const DISTINCT: u8 = 88;

/// Words at even distances. Pages of less than `APART * APART` bytes have fewer, not closer ones.
const APART: usize = 64;
/// Words in the middle. With 64 of them the look finds 3 % more of the pages that repeat something,
/// and takes 22 ns longer for a page of random bytes.
const MIDDLE: usize = 32;
/// Slots of the table of words, chosen by 8 bits of a word's hash.
const SLOTS: usize = 256;

/// Whether a page of 512 bytes or more looks like random bytes: encrypted, or compressed already.
/// Such a page is not worth the time of a codec: for 4 KiB, LZ4 takes 6 times as long as this look,
/// and zstd at level 3 takes 30 times as long.
///
/// Counts the different values among 128 sampled bytes, then looks for 8 bytes that come again
/// among at most 95 samples. A codec can shrink a page that looks random where its repeats are few,
/// or where they are in a dictionary: see
/// [`Config::always_compress`](crate::Config::always_compress).
#[must_use]
pub fn looks_incompressible(page: &[u8]) -> bool {
    page.len() >= 512 && is_varied(page) && !repeats(page)
}

/// Whether the bytes of a page have as many different values as random bytes have.
fn is_varied(page: &[u8]) -> bool {
    let mut seen = [0_u8; 256];
    let mut skip = 0;
    for part in page.chunks_exact(page.len() / RUNS).take(RUNS) {
        // Runs start at uneven places: fields at even ones, such as heads of records, would pass
        // for the whole page.
        skip += SKIP;
        if skip > part.len() - RUN {
            skip -= part.len() - RUN;
        }
        // One store a byte, none of which waits for another.
        part[skip..skip + RUN].iter().for_each(|byte| seen[usize::from(*byte)] = 1);
    }
    // No more than 128: bytes can be added up as bytes, many at once.
    seen.iter().sum::<u8>() > DISTINCT
}

/// Whether a sampled word of a page of 512 bytes or more comes again.
fn repeats(page: &[u8]) -> bool {
    let stride = (page.len() / APART).max(APART);
    let middle = page.len() / 2 / stride * stride;
    // No zeros: a single word of zeros would meet them.
    let mut table = [u32::MAX; SLOTS];
    let mut met = 0;
    let mut meet = |word: &[u8; 8]| {
        let hash = u64::from_le_bytes(*word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The half that depends on all bits of the word.
        let hash = (hash >> 32) as u32;
        let slot = &mut table[(hash >> 24) as usize];
        // No branch, so that the processor has many words in work at once.
        met += u32::from(*slot == hash);
        *slot = hash;
    };
    // The first word of the middle is one of those at even distances.
    let step = stride / MIDDLE;
    let middle = &page[middle + step..][..step * (MIDDLE - 2) + size_of::<u64>()];
    let middle = middle.windows(size_of::<u64>()).step_by(step);
    middle.filter_map(<[u8]>::first_chunk).for_each(&mut meet);
    page.chunks_exact(stride).filter_map(<[u8]>::first_chunk).for_each(&mut meet);
    met > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `len` random bytes.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(|_| byte()).collect()
    }

    /// How many of 200 pages look incompressible.
    fn flagged(page: impl Fn(u64) -> Vec<u8>) -> usize {
        (1..=200).filter(|seed| looks_incompressible(&page(*seed))).count()
    }

    #[test]
    fn random_pages_look_so_and_others_do_not() {
        for len in [512, 513, 575, 1000, 4096, 5000, 16 << 10, 64 << 10] {
            let caught = flagged(|seed| noise(seed, len));
            assert!(caught >= 198, "{caught} of 200, {len} bytes");
        }
        let page = noise(1, 4096);
        let text: Vec<u8> = b"To see what is in front of one's nose".repeat(120);
        for page in [&text[..], &[0; 4096], &page[..511], &[]] {
            assert!(!looks_incompressible(page));
        }
    }

    #[test]
    fn a_word_of_zeros_alone_is_no_repeat() {
        let zeroed = |at: usize| {
            move |seed| {
                let mut page = noise(seed, 4096);
                page[at..at + 8].fill(0);
                page
            }
        };
        for at in [0, 64, 2048, 2112] {
            let caught = flagged(zeroed(at));
            assert!(caught >= 198, "{caught} of 200, zeros at {at}");
        }
    }

    #[test]
    fn records_that_come_again_do_not_look_random() {
        for len in [1024, 4096, 8192, 16 << 10] {
            for record in [32, 48, 64, 100, 128, 200, 256, 384, 512, 1024, 2048, len / 2] {
                if len < 2 * record {
                    continue;
                }
                let caught = flagged(|seed| {
                    let mut page = noise(seed, record).repeat(len.div_ceil(record));
                    page.truncate(len);
                    page
                });
                // Two words of a record may have one slot of the table.
                assert!(caught <= 3, "{caught} of 200, {record} in {len} bytes");
            }
        }
    }

    #[test]
    fn pages_that_are_free_by_a_sixteenth_do_not_look_random() {
        for (len, fill) in [(4096, 0), (8192, 0xff), (16 << 10, 0)] {
            for at in [0, 7, len / 3, len / 2, len - len / 16] {
                let caught = flagged(|seed| {
                    let mut page = noise(seed, len);
                    page[at..at + len / 16].fill(fill);
                    page
                });
                assert_eq!(caught, 0, "{fill} from {at} of {len} bytes");
            }
        }
    }
}
