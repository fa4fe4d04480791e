//! Same-filled pages: one 8-byte word, over and over.

/// The word that `page` repeats, if it does; its bytes in the order of their addresses. A rest of
/// less than 8 bytes at the end repeats the start of the word; a page of less than 8 bytes in all
/// has to repeat one byte. A page of no bytes repeats 0.
///
/// Looks no further than the first difference.
#[must_use]
pub fn same_filled(page: &[u8]) -> Option<u64> {
    let Some(first) = page.first_chunk::<8>() else {
        let byte = page.first().copied().unwrap_or(0);
        return page.iter().all(|other| *other == byte).then(|| u64::from_ne_bytes([byte; 8]));
    };
    // A page equals itself 8 bytes on. Compared in blocks that the library compares at once.
    let (ahead, behind) = (&page[8..], &page[..page.len() - 8]);
    let mut blocks = ahead.chunks(256).zip(behind.chunks(256));
    blocks.all(|(ahead, behind)| ahead == behind).then(|| u64::from_ne_bytes(*first))
}

/// Fills `page` with a word as [`same_filled`] gives it.
pub fn fill(word: u64, page: &mut [u8]) {
    let word = word.to_ne_bytes();
    if word == [word[0]; 8] {
        return page.fill(word[0]);
    }
    let (words, rest) = page.split_at_mut(page.len() / 8 * 8);
    words.chunks_exact_mut(8).for_each(|to| to.copy_from_slice(&word));
    let len = rest.len();
    rest.copy_from_slice(&word[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fill_writes_same_filled_finds() {
        for len in [0, 1, 7, 8, 9, 15, 16, 100, 255, 256, 257, 300, 4096, 4099] {
            for word in [0, u64::MAX, u64::from_ne_bytes([7; 8]), 0x0102_0304_0506_0708] {
                let mut page = vec![0xaa; len];
                fill(word, &mut page);
                let uniform = word.to_ne_bytes() == [word.to_ne_bytes()[0]; 8];
                match same_filled(&page) {
                    Some(found) if len >= 8 => assert_eq!(found, word, "{len} bytes"),
                    Some(found) => {
                        let mut again = vec![0; len];
                        fill(found, &mut again);
                        assert_eq!(again, page);
                    }
                    None => assert!(len < 8 && !uniform, "{len} bytes of {word:x}"),
                }
                for at in 0..if len >= 8 || uniform { len } else { 0 } {
                    let mut other = page.clone();
                    other[at] ^= 0x80;
                    let alone = len >= 8 && at < 8 && at + 8 >= len;
                    let same = same_filled(&other).is_some();
                    assert_eq!(same, alone || len == 1, "{at} of {len}, {word:x}");
                }
            }
        }
    }
}
