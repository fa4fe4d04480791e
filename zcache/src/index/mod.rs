//! The index: key -> entry, as tags and ids. It sees no key; who looks compares keys in `probe`, under
//! the shard's lock.
//! ```text
//! key --hash--> tag 32 = shard | the rest     shard's table: ids     entry: key, tag, place of its bytes
//! ```
//! Beside the tables stand versions: counters, up to 64 a shard, of which each change of a key by
//! the owner (insert, remove, clear) moves the one that its tag names, under the shard's lock. A
//! [`Version`] read at a miss so tells later whether the key was touched since; a false alarm is
//! possible, the other way round is not.

use crate::sync::{AtomicU32, Charge, Ordering, Plant, PutError, Shards, VERSIONS, planted};

mod flight;
mod walk;

pub(crate) use flight::{Boarding, Flights, failed};
pub(crate) use walk::{Walk, Walks};

/// The 32 bits of a key's hash that the index, the entry and the policy work with.
pub(crate) type Tag = u32;

/// How a key's group of keys stood when it was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    at: usize,
    count: u32,
}

#[derive(Debug)]
pub(crate) struct Index {
    shards: Shards,
    /// `log2` of the shards.
    bits: u32,
    versions: Box<[AtomicU32]>,
}

/// A tag spread over the 64 bits that a table reads: low ones and the highest seven.
const fn spread(tag: Tag) -> u64 {
    (tag as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The tag of a 64-bit hash, whichever of its bits are the good ones.
pub(crate) const fn tag(hash: u64) -> Tag {
    (hash.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as u32 ^ hash as u32
}

/// Versions of all shards together, at the most.
const MOST_VERSIONS: usize = 1 << 16;

/// Groups of keys that have a version, in each of `shards` shards.
fn groups(shards: usize) -> usize {
    VERSIONS.min(MOST_VERSIONS / shards).max(1)
}

impl Index {
    /// An index of `shards` shards, a power of two above 1.
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            shards: Shards::new(shards),
            bits: shards.ilog2(),
            versions: (0..shards * groups(shards)).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// What an empty index of `shards` shards holds in bytes.
    pub(crate) fn fixed_bytes(shards: usize) -> usize {
        Shards::fixed_bytes(shards)
            + zpool::source::heap_cost(shards * groups(shards) * size_of::<AtomicU32>())
    }

    fn shard(&self, tag: Tag) -> usize {
        (tag >> (32 - self.bits)) as usize
    }

    fn version(&self, tag: Tag) -> usize {
        ((u64::from(tag) * self.versions.len() as u64) >> 32) as usize
    }

    fn shard_count(&self) -> usize {
        1 << self.bits
    }

    /// What `probe` makes of the id that it takes for the key.
    #[inline]
    pub(crate) fn find<R>(&self, tag: Tag, probe: impl FnMut(u32) -> Option<R>) -> Option<R> {
        self.shards.look(self.shard(tag), spread(tag), probe, || ())
    }

    /// As [`find`](Self::find); a miss says how the key stood at that instant.
    pub(crate) fn find_or_version<R>(
        &self,
        tag: Tag,
        probe: impl FnMut(u32) -> Option<R>,
    ) -> Result<R, Version> {
        let at = self.version(tag);
        let mut count = 0;
        let found = self.shards.look(self.shard(tag), spread(tag), probe, || {
            // Relaxed: it changes under this lock only.
            count = self.versions[at].load(Ordering::Relaxed);
        });
        found.ok_or(Version { at, count })
    }

    /// Publishes `id`; what `probe` made of the one it replaces. Under `condition` only if the key
    /// was not touched since; without one this is a touch. `admitted` runs under the lock, when nothing
    /// can go wrong any more.
    pub(crate) fn put<R>(
        &self,
        (tag, id): (Tag, u32),
        condition: Option<Version>,
        tag_of: impl Fn(u32) -> Tag,
        probe: impl FnMut(u32) -> Option<R>,
        admitted: impl FnOnce(),
        memory: &impl Charge,
    ) -> Result<Option<R>, PutError> {
        let admit = || {
            let valid = condition
                .is_none_or(|then| self.versions[then.at].load(Ordering::Relaxed) == then.count);
            if condition.is_none() {
                self.touch(tag);
            }
            if valid {
                admitted();
            }
            valid
        };
        let hash_of = |id| spread(tag_of(id));
        self.shards.put(self.shard(tag), (spread(tag), id), hash_of, probe, admit, memory)
    }

    /// Puts another id in the place of the one that `probe` takes, if there is one: the id that
    /// `probe` gives. No touch: the key keeps its page.
    pub(crate) fn swap<R>(
        &self,
        tag: Tag,
        probe: impl FnMut(u32) -> Option<(u32, R)>,
    ) -> Option<R> {
        self.shards.swap(self.shard(tag), spread(tag), probe)
    }

    fn touch(&self, tag: Tag) {
        if !planted(Plant::LeaseUntold) {
            // Relaxed: it changes under the shard's lock only.
            self.versions[self.version(tag)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the id out that `probe` takes for the key. A removal by the owner is a touch, found or not.
    pub(crate) fn take<R>(
        &self,
        tag: Tag,
        tag_of: impl Fn(u32) -> Tag,
        probe: impl FnMut(u32) -> Option<R>,
        by_owner: bool,
        memory: &impl Charge,
    ) -> Option<R> {
        let touch = || {
            if by_owner {
                self.touch(tag);
            }
        };
        let hash_of = |id| spread(tag_of(id));
        self.shards.take(self.shard(tag), spread(tag), hash_of, probe, touch, memory)
    }

    /// Touches every key there is or could be.
    pub(crate) fn touch_all(&self) {
        for shard in 0..self.shard_count() {
            let each = self.versions.len() / self.shard_count();
            let groups = &self.versions[shard * each..(shard + 1) * each];
            let touch = || {
                groups.iter().for_each(|version| {
                    version.fetch_add(1, Ordering::Relaxed);
                });
            };
            self.shards.alone(shard, touch);
        }
    }

    /// Makes all tables as short as their ids need.
    pub(crate) fn shrink(&self, tag_of: impl Fn(u32) -> Tag, memory: &impl Charge) {
        (0..self.shard_count())
            .for_each(|shard| self.shards.shrink(shard, 1, |id| spread(tag_of(id)), memory));
    }

    /// Keys.
    pub(crate) fn len(&self) -> usize {
        (0..self.shard_count()).map(|shard| self.shards.len(shard)).sum()
    }

    /// Bytes of all tables, without [`fixed_bytes`](Self::fixed_bytes).
    pub(crate) fn bytes(&self) -> usize {
        (0..self.shard_count()).map(|shard| self.shards.bytes(shard)).sum()
    }
}
