//! Ghosts: keys that went lately, 2 bytes each.
//!
//! A table of buckets, each eight fingerprints in the order in which they came. A tag's bucket is found
//! by multiply-shift, which works for any number of buckets; its fingerprint is 16 bits that the bucket
//! does not depend on. S3-FIFO's authors keep a queue of keys; forgetting the oldest of a bucket
//! instead of the oldest of all makes no difference that the golden tests could measure.

use std::collections::TryReserveError;

use zpool::source::heap_cost;

/// Fingerprints of a bucket.
const WAYS: usize = 8;
/// The fewest buckets.
const LEAST: usize = 8;

type Bucket = [u16; WAYS];

#[derive(Debug, Default)]
pub(super) struct Ghosts {
    /// Newest first; 0 is none.
    buckets: Box<[Bucket]>,
}

/// 16 bits of a tag that are not 0.
const fn fingerprint(tag: u32) -> u16 {
    let mixed = tag.wrapping_mul(0x9e37_79b1) ^ tag >> 15;
    let print = (mixed ^ mixed >> 16) as u16;
    if print == 0 { 1 } else { print }
}

impl Ghosts {
    const fn cost(buckets: usize) -> usize {
        heap_cost(buckets * size_of::<Bucket>())
    }

    const fn buckets_for(entries: usize) -> usize {
        let buckets = entries.div_ceil(WAYS);
        if buckets < LEAST { LEAST } else { buckets }
    }

    /// Whether a table for as many ghosts as there are entries would be much larger than this one.
    fn wanted(&self, entries: usize) -> Option<usize> {
        let wanted = Self::buckets_for(entries);
        let have = self.buckets.len();
        // A new table starts empty, so small changes are not worth one.
        (wanted > have + have / 2 || wanted < have / 4).then_some(wanted)
    }

    /// Bytes that a table for as many ghosts as there are entries takes, if it is time for one.
    pub(super) fn growth(&self, entries: usize) -> usize {
        self.wanted(entries).map_or(0, Self::cost)
    }

    /// Makes such a table, empty.
    pub(super) fn grow(&mut self, entries: usize) -> Result<(), TryReserveError> {
        if let Some(wanted) = self.wanted(entries) {
            let mut buckets = Vec::new();
            buckets.try_reserve_exact(wanted)?;
            buckets.resize(wanted, [0; WAYS]);
            self.buckets = buckets.into_boxed_slice();
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        Self::cost(self.buckets.len())
    }

    fn bucket(&mut self, tag: u32) -> Option<&mut Bucket> {
        let at = (u64::from(tag) * self.buckets.len() as u64) >> 32;
        self.buckets.get_mut(at as usize)
    }

    /// Remembers a tag.
    pub(super) fn insert(&mut self, tag: u32) {
        if let Some(bucket) = self.bucket(tag) {
            bucket.rotate_right(1);
            bucket[0] = fingerprint(tag);
        }
    }

    /// Whether a tag is remembered; it is forgotten then.
    pub(super) fn take(&mut self, tag: u32) -> bool {
        let Some(bucket) = self.bucket(tag) else { return false };
        let Some(at) = bucket.iter().position(|print| *print == fingerprint(tag)) else {
            return false;
        };
        bucket[at..].rotate_left(1);
        bucket[WAYS - 1] = 0;
        true
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    /// A tag as good as a hash's.
    const fn tag(n: u32) -> u32 {
        (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32) as u32
    }

    #[test]
    fn ghosts_are_remembered_once_and_the_oldest_are_forgotten() {
        let mut ghosts = Ghosts::default();
        ghosts.insert(tag(1));
        assert!(!ghosts.take(tag(1)), "without a table nothing is remembered");
        let growth = ghosts.growth(1000);
        ghosts.grow(1000).expect("memory");
        assert_eq!((ghosts.bytes(), ghosts.growth(1400), ghosts.growth(400)), (growth, 0, 0));
        (0..10_000).for_each(|n| ghosts.insert(tag(n)));
        let late = (9500..10_000).filter(|n| ghosts.take(tag(*n))).count();
        let again = (9500..10_000).filter(|n| ghosts.take(tag(*n))).count();
        let early = (0..7000).filter(|n| ghosts.take(tag(*n))).count();
        assert!(late > 450 && again < 5 && early < 350, "{late} {again} {early}");
    }

    #[test]
    fn strangers_are_seldom_taken_for_ghosts() {
        let mut ghosts = Ghosts::default();
        ghosts.grow(10_000).expect("memory");
        (0..10_000).for_each(|n| ghosts.insert(tag(n)));
        let strangers = (0..100_000).filter(|n| ghosts.take(tag(n + 1_000_000))).count();
        assert!(strangers < 60, "{strangers} of 100000, 8 of 65536 expected");
    }
}
