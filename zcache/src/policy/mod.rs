//! Eviction policies: which entry is evicted.
//! ```text
//! S3Fifo    two queues and ghosts: pages asked for once leave early      8.0 + 4.9 bytes an entry
//! Sieve     a queue and a hand: pages that are asked for stay in place   8.0
//! Lru       a queue and second chances (CLOCK); exact if told of hits    8.0
//! ```
//! A policy speaks entry ids and sees no keys, values or handles. Inserts and removals tell it
//! under one short lock. Hits do not: they set a mark in the entry. The policy reads marks through
//! [`Entries`] when it has to name a victim. So a hit writes nothing shared when the mark is set
//! already, and a policy is plain single-threaded code.
//!
//! Bytes: tables grow with the ids, in chunks, and every chunk is asked for before it is taken
//! ([`Policy::growth`], then [`Policy::grow`]). A chunk without entries is given back
//! ([`Policy::shrink`]). Nothing else in a policy allocates, ghosts included. So an eviction at the
//! cap never needs room first.

mod chunks;
mod door;
mod ghost;
mod links;
mod lru;
mod s3fifo;
mod search;
mod share;
mod sieve;
mod youth;

use std::ops::Range;

use zpool::NoMemory;

pub use lru::Lru;
pub use s3fifo::S3Fifo;
pub use sieve::Sieve;

/// Ids are below this, 2^30.
pub const MAX_ENTRIES: u32 = 1 << 30;

/// Standing that an entry is inserted with.
#[doc(alias = "Hint")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Priority {
    /// Goes first, unless it is asked for meanwhile: pages of a scan, pages read ahead.
    Low,
    /// Has to prove itself.
    #[default]
    Normal,
    /// Treated as one that has proved itself already: it starts with the highest mark.
    High,
}

/// What a policy asks about entries while it looks for a victim.
pub trait Entries {
    /// Hits since the policy last set the mark, at most [`Policy::max_mark`]. `None`: the entry may
    /// not go now, as one that is not published yet.
    fn mark(&self, id: u32) -> Option<u8>;

    /// Sets the mark, for hits to count on from there. A hit that comes between
    /// [`mark`](Self::mark) and this may be lost.
    fn set_mark(&self, id: u32, mark: u8);

    /// Whether an entry without a mark, which would go, stays for another round, as one that takes
    /// less than others and so is worth more. Asked by [`S3Fifo::new`], once each time that it
    /// would go.
    ///
    /// Default: none stays.
    fn spares(&self, id: u32) -> bool {
        let _ = id;
        false
    }

    /// The hash of the entry's key, all 32 bits well mixed: what its ghost is known by.
    fn tag(&self, id: u32) -> u32;
}

/// Decides who goes.
///
/// Ids are below [`MAX_ENTRIES`]; the caller hands out low ones first and uses them again, since
/// tables are as long as the highest id. An id is free for another entry once the policy has named
/// it as a victim or was told to remove it. [`Lru`] has an example of the whole round.
pub trait Policy: std::fmt::Debug + Send {
    /// What the policy is called in statistics.
    fn name(&self) -> &'static str;

    /// Another one by the same rules and with the same settings, without entries: what a clone of a
    /// [`Config`](crate::Config) has.
    fn fresh(&self) -> Box<dyn Policy>;

    /// The mark that hits stop counting at, 1 or more: further hits need not write.
    fn max_mark(&self) -> u8;

    /// Bytes that must be charged before [`grow`](Self::grow) makes room for `id`; 0 if it has
    /// room. Room is by id: it stays until [`shrink`](Self::shrink) gave it back, whatever else
    /// enters.
    fn growth(&self, id: u32) -> usize;

    /// Makes that room; [`bytes`](Self::bytes) rises by just what [`growth`](Self::growth) said.
    ///
    /// # Errors
    /// The allocator failed, and nothing changed.
    ///
    /// # Panics
    /// `id` is [`MAX_ENTRIES`] or more.
    fn grow(&mut self, id: u32) -> Result<(), NoMemory>;

    /// Gives back tables that no entry needs any more, and says how many bytes that is:
    /// [`bytes`](Self::bytes) falls by them. `in_use` tells whether one of a range of ids belongs
    /// to somebody who may call [`insert`](Self::insert) with it without asking for growth again:
    /// what such an id needs stays. So does that of the entry that goes, at its own removal. Called
    /// after entries went, often, so it costs next to nothing where there is nothing to give back.
    /// The caller has a lock: much is given back in steps, and there may be more of them where one
    /// gave something.
    ///
    /// Default: nothing is given back before the policy is dropped.
    fn shrink(&mut self, in_use: &dyn Fn(Range<u32>) -> bool) -> usize {
        let _ = in_use;
        0
    }

    /// `id` enters. `tag` is what [`Entries::tag`] says of it.
    ///
    /// # Panics
    /// `id` is in the policy already, or has no room.
    fn insert(&mut self, id: u32, tag: u32, priority: Priority);

    /// `id` goes, wherever it is; `false` if it is not in the policy. Takes constant time, leaves
    /// no ghost.
    fn remove(&mut self, id: u32) -> bool;

    /// `new`, already inserted, takes the place and standing of `old`, which goes: a key got a new
    /// value. Where `old` is not in the policy `new` stays where it is, and where `new` is not,
    /// `old` goes.
    fn replace(&mut self, old: u32, new: u32);

    /// A hit on `id`, for drivers that can afford to tell of each one at once; the cache does not.
    fn touch(&mut self, id: u32) {
        let _ = id;
    }

    /// Names a victim and forgets it; a ghost may remain. Looks at `effort` entries at most, then
    /// takes one of those that it spared regardless of its mark. Entries whose mark is `None` never
    /// go, and keep their places: the answer is `None` if `effort` entries showed no other, or
    /// there is none.
    fn evict(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32>;

    /// As [`evict`](Self::evict), but never names an entry that it spared: `None` also if `effort`
    /// entries were all hit. Those have lower marks then, or other places, so that another call
    /// goes on behind them. A caller with a lock so looks in short steps, and ends with `evict`.
    ///
    /// Default: `evict`.
    fn evict_unspared(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32> {
        self.evict(entries, effort)
    }

    /// Whether `id` is in the policy.
    fn contains(&self, id: u32) -> bool;

    /// Entries in the policy.
    fn len(&self) -> usize;

    /// Whether no entry is in the policy.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of heap held, blocks at [`heap_cost`](zpool::source::heap_cost): the sum of all
    /// growth, less what [`shrink`](Self::shrink) gave back.
    fn bytes(&self) -> usize;

    /// Asserts the policy's invariants; visits every entry.
    ///
    /// # Panics
    /// One does not hold.
    fn check(&self);
}
