//! Handles, and the table that says where the object of each one is at present.
//!
//! A slot of the table is a [`Word`], a record `T` beside it in the same cache line, and a length
//! in an array of its own. Both never move. So a reader finds its slot without a lock while the
//! table grows and shrinks. The module is generic over what the rest of the crate does with places.
//! It turns the word's verdicts into tokens that cannot be copied:
//!
//! | token | who holds it |
//! |---|---|
//! | [`Vacant`] | alone: a FREE slot, about to be published |
//! | [`Pin`] | shares the object: bytes, length and record may be read |
//! | [`Lock`] | the object alone: bytes may be written, and swung to another place |
//! | [`Place`] | alone: a slot of a zspage. Borrowing it from a pin or a lock lends its bytes |
//! | [`Ended`], [`Spent`] | alone: what is left of an object that ended, then its slot |
//!
//! Tokens have no `Drop` but [`Vacant`]'s: one that is lost pins or leaks its object, nothing
//! worse. A slot whose generations are used up (2^17 objects) is retired: its word is 0, which
//! refuses every handle. `free` says how slots and their memory come and go.

use std::fmt;
use std::num::NonZeroU64;

mod ended;
mod free;
#[cfg(all(test, zcache_loom))]
mod models;
mod renumber;
mod slots;
mod table;
mod token;

use crate::geometry::MAX_OBJECT;
use crate::word::{LOCATION_BITS, NOWHERE};
pub(crate) use ended::{Ended, Spent};
pub(crate) use renumber::Renumbered;
pub(crate) use table::Table;
pub(crate) use token::{Lock, Pin, Unlocked, Vacant};

/// Names an object of a pool. It is no pointer: it has to be mapped to be used.
///
/// Eight bytes, `Copy`, and so is `Option<Handle>`. A handle may be kept as a `u64` (in a page
/// header, say) and turned back. It is valid until its object is freed, in the pool that gave it,
/// and does not outlive that pool: the bits are scrambled by a key that is random for each pool, so
/// that a handle of another pool or of an earlier run is refused unless its bits happen to equal a
/// live handle, a chance of about one in 2^63 for each live object.
///
/// ```
/// use zpool::Handle;
/// assert_eq!(size_of::<Option<Handle>>(), 8);
/// assert_eq!(Handle::from_bits(0), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Handle(NonZeroU64);

impl Handle {
    /// The handle as a number, never 0.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// The handle of these bits. `None` for bits that no handle has; other bits may still name
    /// nothing, which every call answers with an error.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if bits & 1 == 0 {
            return None;
        }
        match NonZeroU64::new(bits) {
            Some(bits) => Some(Self(bits)),
            None => None,
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({:#018x})", self.0)
    }
}

impl From<Handle> for u64 {
    fn from(handle: Handle) -> Self {
        handle.to_bits()
    }
}

/// The right to one slot of a zspage: whoever holds it may write its bytes or give it back, whoever
/// borrows it may read them.
///
/// One word, as its option is: `1 | room 27 | location 36`. A pinned object is passed on by value a
/// few times on its way to who reads it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Place(NonZeroU64);

const PLACE: u64 = 1 << 63;
const ROOM_BITS: u32 = 63 - LOCATION_BITS;
const _: () = assert!(2 * MAX_OBJECT < 1 << ROOM_BITS);

impl Place {
    /// # Safety
    /// `location` is a slot of a zspage, of `room` bytes at least, to which no other `Place`
    /// exists, or the new one is only lent (`&Place`) while the owner's pin lasts.
    #[inline]
    pub(crate) unsafe fn new(location: u64, room: usize) -> Self {
        debug_assert!(location < NOWHERE && room < 1 << ROOM_BITS);
        let bits = PLACE | (room as u64) << LOCATION_BITS | location;
        Self(NonZeroU64::new(bits).expect("the highest bit is set"))
    }

    /// In 16-byte grains from the start of page 0.
    #[inline]
    pub(crate) fn location(&self) -> u64 {
        self.0.get() & NOWHERE
    }

    /// The bytes that may be used from there on.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        ((self.0.get() & !PLACE) >> LOCATION_BITS) as usize
    }
}

/// Hints the processor that the cache line at `at` is about to be read; any address will do.
#[inline]
pub(crate) fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing and faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
