//! Contents that say which object they belong to, and the pseudo-random numbers behind them.
//! ```text
//! seed, 8 bytes | splitmix64(seed, length), as many bytes as there is room for
//! ```
//! Two objects with different seeds differ in every 8-byte word, so a byte that two objects share
//! is a byte that one of them finds changed.

/// splitmix64: a small generator whose states all differ.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    /// Brings `items` into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// Writes the contents of `seed` over all of `to`.
pub fn fill(seed: u64, to: &mut [u8]) {
    let mut random = Random::new(seed ^ (to.len() as u64).rotate_left(40));
    let mut word = seed;
    for part in to.chunks_mut(8) {
        part.copy_from_slice(&word.to_le_bytes()[..part.len()]);
        word = random.bits();
    }
}

/// Writes words over all of `to`, taken from 300 that all such pages of a language have in common.
pub fn words(language: u64, seed: u64, to: &mut [u8]) {
    let mut random = Random::new(seed);
    let mut at = 0;
    while at < to.len() {
        let mut letters = Random::new(language << 32 | random.below(300) as u64);
        let end = (at + 7 + letters.below(6)).min(to.len());
        to[at..end].fill_with(|| b'a' + letters.below(26) as u8);
        if let Some(space) = to.get_mut(end) {
            *space = b' ';
        }
        at = end + 1;
    }
}

/// The contents of `seed`, `len` bytes.
#[must_use]
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut made = vec![0; len];
    fill(seed, &mut made);
    made
}

/// Whether `bytes` are what [`fill`] wrote for the seed that they name. Fewer than 8 bytes name
/// none, and are taken as they are.
#[must_use]
pub fn is_whole(bytes: &[u8]) -> bool {
    let Some(seed) = bytes.first_chunk() else { return true };
    let seed = u64::from_le_bytes(*seed);
    let mut random = Random::new(seed ^ (bytes.len() as u64).rotate_left(40));
    bytes[8..].chunks(8).all(|part| *part == random.bits().to_le_bytes()[..part.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_shows() {
        for len in [8, 9, 100, 4096] {
            let mut contents = bytes(7, len);
            assert!(is_whole(&contents));
            contents[len - 1] ^= 1;
            assert!(!is_whole(&contents) || len == 8, "{len} bytes");
            assert!(len == 8 || !is_whole(&bytes(7, len + 1)[..len]), "the length counts");
        }
    }
}
