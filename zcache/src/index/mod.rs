//! The index: key -> entry, as tags and ids. It sees no key: the caller that looks compares keys,
//! under no lock ([`Seek`]).
//! ```text
//! key --hash--> tag 32 -> shard, bucket -> ids (`table`)     entry: key, tag, place of its bytes
//! ```
//! Beside the table stand the loads under way ([`Flights`]). Whoever changes a key tells the key's
//! load, in the same hold of the shard's lock. So a load that was not told may store its page.

mod flight;
mod flights;
mod table;
#[cfg(all(test, not(zcache_loom)))]
mod tests;
mod walk;

pub(crate) use flight::{Landing, Told, failed};
pub(crate) use flights::{Arrival, Boarding, Flights, Pilot, Waiter};
pub(crate) use table::{Seek, Table};
pub(crate) use walk::{Walk, Walks};

/// The 32 bits of a key's hash that the index, the entry and the policy work with.
pub(crate) type Tag = u32;

/// The tag of a 64-bit hash, whichever of its bits are the good ones.
pub(crate) const fn tag(hash: u64) -> Tag {
    (hash.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as u32 ^ hash as u32
}
