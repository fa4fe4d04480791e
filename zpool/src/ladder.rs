//! The steps at the cap, before an allocation fails.
//!
//! An allocation that asks for what is [`AtHand`](Reach::AtHand) ends with step 3 and leaves step 2
//! out. So it costs no other caller anything. Its caller has other means to make room, or other
//! uses for it.
//! ```text
//! 1  take in what readers left behind
//! 2  compact until pages come free, as long as there is something to gain; give back what is kept
//! 3  a free slot of a class that is little larger, where few objects share each class
//! 4  a zspage of the shortest chain
//! 5  a free slot of a larger class
//! 6  the error of the last attempt: whether the caps said no or the system
//! ```

use crate::arena::Arena;
use crate::compact::compact;
use crate::error::AllocError;
use crate::handle::{Place, Vacant};
use crate::sync::{PATIENCE, pause};

/// How far an allocation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// What is free, or under the cap.
    AtHand,
    /// Every step.
    Top,
}

/// Bytes moved between two attempts.
const STEP: usize = 64 << 10;

/// Tries `attempt` again each time that room was made, until nothing is left to make room with.
fn with_room<T, R>(
    arena: &Arena<T>,
    mut attempt: impl FnMut() -> Result<R, AllocError>,
) -> Result<R, AllocError> {
    arena.tidy();
    let mut done = false;
    while !done {
        if let Ok(made) = attempt() {
            return Ok(made);
        }
        let (mut freed, mut idle) = (0, 0);
        while freed == 0 && !done {
            let did = compact(arena, STEP);
            (freed, done) = (did.pages_freed, did.done);
            if did.objects_moved == 0 && !done {
                (idle, done) = (idle + 1, idle == PATIENCE);
                pause();
            }
        }
    }
    // Kept pages were used up by the attempts, unless what is missing is bytes for a table.
    arena.trim();
    attempt()
}

/// Tries `attempt`, and again after as much as `reach` allows.
fn climb<T, R>(
    arena: &Arena<T>,
    reach: Reach,
    mut attempt: impl FnMut() -> Result<R, AllocError>,
) -> Result<R, AllocError> {
    attempt().or_else(|error| match reach {
        Reach::AtHand if arena.tidy_up() => attempt(),
        Reach::AtHand => Err(error),
        Reach::Top => with_room(arena, attempt),
    })
}

/// A free handle slot.
#[inline]
pub(crate) fn vacant<T>(arena: &Arena<T>, reach: Reach) -> Result<Vacant<'_, T>, AllocError> {
    climb(arena, reach, || arena.table.vacant(&arena.ledger))
}

/// A place for `len` bytes, not 0, by every means that `reach` allows.
#[inline]
pub(crate) fn place<T>(
    arena: &Arena<T>,
    reach: Reach,
    len: usize,
    owner: u32,
) -> Result<Place, AllocError> {
    let placed = climb(arena, reach, || arena.place(len, owner));
    let placed = placed.or_else(|error| arena.place_near(len, owner).ok_or(error));
    if reach == Reach::AtHand {
        return placed;
    }
    placed
        .or_else(|_| arena.place_short(len, owner))
        .or_else(|error| arena.place_loose(len, owner).ok_or(error))
}
