//! The index: key -> entry, as tags and ids. It sees no key: who looks compares keys, under no
//! lock ([`Seek`]).
//! ```text
//! key --hash--> tag 32 -> shard, bucket -> ids (`table`)     entry: key, tag, place of its bytes
//! ```
//! Beside the table stand versions: counters, 64 for each MiB of capacity, of which each change of
//! a key by the owner (insert, remove, clear) moves the one that its tag names, under the shard's
//! lock. A [`Version`] read at a miss so tells later whether the key was touched since; a false
//! alarm is possible, the other way round is not.

use crate::sync::{AtomicU32, Ordering, Plant, PutError, planted, versions};

mod flight;
mod table;
#[cfg(all(test, not(zcache_loom)))]
mod tests;
mod walk;

pub(crate) use flight::{Boarding, Flights, failed};
pub(crate) use table::Seek;
#[cfg(all(test, zcache_loom))]
pub(crate) use table::Table;
#[cfg(not(all(test, zcache_loom)))]
use table::Table;
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
    table: Table,
    versions: Box<[AtomicU32]>,
}

/// The tag of a 64-bit hash, whichever of its bits are the good ones.
pub(crate) const fn tag(hash: u64) -> Tag {
    (hash.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as u32 ^ hash as u32
}

/// Steps a version, for the holder of the lock of its shard: nobody else changes it.
fn step(version: &AtomicU32) {
    version.store(version.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

impl Index {
    /// An index of `shards` shards, a power of two above 1, for a cache of that capacity, whose
    /// lines are charged to `pool`.
    pub(crate) fn new(
        shards: usize,
        capacity: usize,
        pool: &zpool::Pool<impl Send + Sync>,
    ) -> Self {
        Self {
            table: Table::new(shards, pool),
            versions: (0..versions(capacity, shards)).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// What an empty index of `shards` shards holds in bytes.
    pub(crate) fn fixed_bytes(shards: usize, capacity: usize) -> usize {
        let versions = versions(capacity, shards) * size_of::<AtomicU32>();
        Table::fixed_bytes(shards) + zpool::source::heap_cost(versions)
    }

    fn version(&self, tag: Tag) -> usize {
        ((u64::from(tag) * self.versions.len() as u64) >> 32) as usize
    }

    /// The entry that is sought.
    #[inline]
    pub(crate) fn find<S: Seek>(&self, tag: Tag, seek: S) -> Option<S::Entry> {
        self.table.look(tag, seek)
    }

    /// As [`find`](Self::find); a miss says how the key stood at that instant.
    pub(crate) fn find_or_version<S: Seek>(
        &self,
        tag: Tag,
        mut seek: S,
    ) -> Result<S::Entry, Version> {
        match self.table.look(tag, &mut seek) {
            Some(found) => Ok(found),
            None => self.find_or_version_held(tag, seek),
        }
    }

    /// As [`find_or_version`](Self::find_or_version), always under the lock of the tag's shard: what
    /// was done before this call is seen by whoever changes the key after it.
    pub(crate) fn find_or_version_held<S: Seek>(
        &self,
        tag: Tag,
        seek: S,
    ) -> Result<S::Entry, Version> {
        self.table.look_held(tag, seek, |found| found.ok_or_else(|| self.standing(tag)))
    }

    /// How keys of that tag stand, whatever the index leads to.
    pub(crate) fn version_held(&self, tag: Tag) -> Version {
        self.table.locked(tag, || self.standing(tag))
    }

    /// How keys of that tag stand, for the holder of the lock of its shard.
    fn standing(&self, tag: Tag) -> Version {
        let at = self.version(tag);
        // Relaxed: it changes under that lock only.
        Version { at, count: self.versions[at].load(Ordering::Relaxed) }
    }

    /// Publishes `id`; the entry that is sought is replaced and returned. Under `condition` only if the
    /// key was not touched since; without one this is a touch. `admitted` runs under the lock with
    /// what is replaced, when nothing can go wrong any more.
    pub(crate) fn put<S: Seek>(
        &self,
        entry: (Tag, u32),
        condition: Option<Version>,
        tag_of: impl Fn(u32) -> Tag,
        seek: S,
        admitted: impl FnOnce(Option<&S::Entry>),
    ) -> Result<Option<S::Entry>, PutError> {
        let admit = |replaced: Option<&S::Entry>| {
            let valid = condition
                .is_none_or(|then| self.versions[then.at].load(Ordering::Relaxed) == then.count);
            if condition.is_none() {
                self.touch(entry.0);
            }
            if valid {
                admitted(replaced);
            }
            valid
        };
        self.table.put(entry, &tag_of, seek, admit)
    }

    /// Puts the id that `change` gives in the place of `old`, if that is there; whether it did. `change`
    /// runs under the lock, and may let go of `old`. No touch: the key keeps its page.
    pub(crate) fn swap(&self, tag: Tag, old: u32, change: impl FnOnce() -> Option<u32>) -> bool {
        self.table.swap(tag, old, change)
    }

    /// Runs `f` under the lock, if the index leads to `id`; whether it does.
    pub(crate) fn with(&self, tag: Tag, id: u32, f: impl FnOnce()) -> bool {
        self.table.with(tag, id, f)
    }

    fn touch(&self, tag: Tag) {
        if !planted(Plant::LeaseUntold) {
            step(&self.versions[self.version(tag)]);
        }
    }

    /// Takes the entry out that is sought, as its owner: a touch, found or not. `taken` runs under the
    /// lock.
    pub(crate) fn take<S: Seek>(
        &self,
        tag: Tag,
        tag_of: impl Fn(u32) -> Tag,
        seek: S,
        taken: impl FnOnce(&S::Entry),
    ) -> Option<S::Entry> {
        self.table.take(tag, &tag_of, seek, |found| {
            self.touch(tag);
            found.inspect(|found| taken(found));
        })
    }

    /// Takes `id` out, if it is there; whether it was. `taken` runs under the lock then. By the
    /// owner it is a touch, found or not.
    pub(crate) fn take_id(
        &self,
        (tag, id): (Tag, u32),
        tag_of: impl Fn(u32) -> Tag,
        taken: impl FnOnce(),
        by_owner: bool,
    ) -> bool {
        self.table.take_id(tag, id, &tag_of, |there| {
            if by_owner {
                self.touch(tag);
            }
            if there {
                taken();
            }
        })
    }

    /// Touches every key there is or could be.
    pub(crate) fn touch_all(&self) {
        let each = self.versions.len() / self.table.shards();
        self.table.each(|shard| {
            self.versions[shard * each..(shard + 1) * each].iter().for_each(step);
        });
    }

    /// Has no more lines than its ids need.
    pub(crate) fn shrink(&self, tag_of: impl Fn(u32) -> Tag) {
        self.table.shrink(&tag_of);
    }

    /// Asserts every invariant.
    pub(crate) fn check(&self, tag_of: impl Fn(u32) -> Tag) {
        self.table.check(&tag_of);
    }

    /// Gives back memory that was locked when lines went.
    pub(crate) fn trim(&self) {
        self.table.trim();
    }

    /// Keys.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes of all lines, without [`fixed_bytes`](Self::fixed_bytes).
    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes()
    }
}
