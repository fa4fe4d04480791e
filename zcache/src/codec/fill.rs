//! Same-filled.
/// The word a page repeats.
pub fn same_filled(page: &[u8]) -> Option<u64> {
    let Some(first) = page.first_chunk::<8>() else {
        let byte = page.first().copied().unwrap_or(0);
        return page.iter().all(|b| *b == byte).then(|| u64::from_ne_bytes([byte; 8]));
    };
    let mut chunks = page.chunks_exact(8);
    let same = chunks.by_ref().all(|chunk| chunk == first)
        && chunks.remainder() == &first[..chunks.remainder().len()];
    same.then(|| u64::from_ne_bytes(*first))
}

/// Fills.
pub fn fill(word: u64, page: &mut [u8]) {
    let word = word.to_ne_bytes();
    let mut chunks = page.chunks_exact_mut(8);
    chunks.by_ref().for_each(|chunk| chunk.copy_from_slice(&word));
    let rest = chunks.into_remainder();
    let len = rest.len();
    rest.copy_from_slice(&word[..len]);
}
