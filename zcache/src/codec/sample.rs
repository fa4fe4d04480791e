//! A look at a page before a codec is asked.

/// Bytes sampled: 16 runs of 8, one in each sixteenth of the page.
const RUNS: usize = 16;
const RUN: usize = 8;
/// How much later a run starts in its part of the page than the one before.
const SKIP: usize = 13;
/// Different values among the 128 from which on a page looks incompressible. Random bytes have 100.8 on
/// average, 88 or less once in 1500 pages.
const DISTINCT: u8 = 88;

/// Whether a page of 512 bytes or more looks like random bytes: encrypted or compressed already. It
/// then is not worth the time of a codec, which for LZ4 is ten times that of this look.
///
/// Counts the different values among 128 sampled bytes. A page of random bytes that repeats itself is
/// taken for random too, and is stored as it is.
#[must_use]
pub fn looks_incompressible(page: &[u8]) -> bool {
    if page.len() < 512 {
        return false;
    }
    let mut seen = [0_u8; 256];
    let mut skip = 0;
    for part in page.chunks_exact(page.len() / RUNS).take(RUNS) {
        // At uneven places: what stands in a page at regular ones, such as heads of records, would
        // pass for all of it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_pages_look_so_and_others_do_not() {
        let mut state = 1_u64;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let random = |_| (0..4096).map(|_| byte()).collect::<Vec<u8>>();
        let pages: Vec<_> = (0..2000).map(random).collect();
        let caught = pages.iter().filter(|page| looks_incompressible(page)).count();
        assert!(caught >= 1990, "{caught} of 2000");
        let mut half = pages[0].clone();
        half[2048..].fill(0);
        let text: Vec<u8> = b"To see what is in front of one's nose".repeat(120);
        for page in [&half[..], &text, &[0; 4096], &pages[0][..511], &[]] {
            assert!(!looks_incompressible(page));
        }
    }
}
