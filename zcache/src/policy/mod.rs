//! Eviction policies: who goes when room is needed.
//!
//! A policy speaks entry ids, numbers below 2^30, and sees no keys, values or handles. It is used under
//! one short lock by those who insert and remove. Hits never call it: a hit sets a mark in the entry
//! itself, and the policy reads marks, through [`Entries`], when it looks for a victim.
//!
//! All bytes a policy takes are charged by its user first: see [`Policy::growth`].

mod ghost;
mod links;
mod lru;
mod s3fifo;
mod sieve;

pub use lru::Lru;
pub use s3fifo::S3Fifo;
pub use sieve::Sieve;

use std::collections::TryReserveError;
use std::fmt;

/// The standing that an entry is inserted with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Priority {
    /// Likely not asked for again: among the first to go.
    Low,
    /// As any entry.
    #[default]
    Normal,
    /// Likely asked for again: where the policy has a place for entries that have proved it, there.
    High,
}

/// What a policy asks about entries while it looks for a victim.
pub trait Entries {
    /// Hits since the policy last set it, [`max_mark`](Policy::max_mark) at the most. `None`: the entry
    /// may not go just now.
    fn mark(&self, id: u32) -> Option<u8>;

    /// Sets the mark.
    fn set_mark(&self, id: u32, mark: u8);

    /// The hash of the entry's key, as it was inserted with.
    fn tag(&self, id: u32) -> u32;
}

/// An eviction policy: an order of entry ids, and a rule for who is next.
pub trait Policy: fmt::Debug + Send {
    /// A short name: `s3-fifo`.
    fn name(&self) -> &'static str;

    /// The highest mark that makes a difference, 1 to 3: hits beyond it write nothing.
    fn max_mark(&self) -> u8;

    /// Bytes that [`grow`](Self::grow) would take; 0 if `id` may be inserted as it is.
    fn growth(&self, id: u32) -> usize;

    /// Makes room in the tables for `id`.
    ///
    /// # Errors
    /// The allocator refused; nothing has changed.
    fn grow(&mut self, id: u32) -> Result<(), TryReserveError>;

    /// `id` enters. It is not in the policy, and has room. `tag` is the hash of its key.
    fn insert(&mut self, id: u32, tag: u32, priority: Priority);

    /// `id` goes, wherever it is; `false` if it is not in the policy. Takes constant time.
    fn remove(&mut self, id: u32) -> bool;

    /// `new` takes the place of `old`, which goes: a key has a new value. Either may be gone already.
    fn replace(&mut self, old: u32, new: u32);

    /// A hit, for those who can afford to tell of each one at once; [`Cache`](crate::Cache) does not.
    fn touch(&mut self, id: u32) {
        let _ = id;
    }

    /// Names a victim and forgets it. Looks at `effort` entries at the most before it takes one whatever
    /// its mark. `None`: there is no entry that may go, or none was found with that effort.
    fn evict(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32>;

    /// Whether `id` is in the policy.
    fn contains(&self, id: u32) -> bool;

    /// Entries in the policy.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the tables, each block at [`zpool::source::heap_cost`].
    fn bytes(&self) -> usize;

    /// Bytes that [`grow_ghosts`](Self::grow_ghosts) would take, what it gives back in turn not counted;
    /// 0 if it would do nothing. Ghosts are what a policy remembers of entries that went.
    fn ghost_growth(&self) -> usize {
        0
    }

    /// Adapts the room for ghosts to the number of entries. Without it the policy works with fewer.
    ///
    /// # Errors
    /// The allocator refused; nothing has changed.
    fn grow_ghosts(&mut self) -> Result<(), TryReserveError> {
        Ok(())
    }

    /// Asserts the policy's invariants. For tests.
    ///
    /// # Panics
    /// One does not hold: a bug.
    fn check(&self);
}
