//! Another slot for an object that stays where it is.
//! ```text
//! lock old word -> end the old handle -> owner entry: new slot -> take the record over -> publish
//! -> old slot back
//! ```
//! Between the two handles no thread finds the object, and it is held alone from before the first
//! step. So no reader reads its record while that moves. And no reader or migration meets a slot
//! that names a place which another one names as well.

use super::ended::{Ended, Spent};
use super::table::Table;
use super::token::Vacant;
use super::{Handle, Place};
use crate::sync::model_bug;
use crate::word::{NOWHERE, Outcome};

/// What came of it.
#[derive(Debug)]
pub(crate) enum Renumbered<T> {
    /// The object has this handle now; its old slot is to be recycled.
    Moved(Handle, Spent),
    /// The slot holds no object, or one that is held by somebody: it stays as it is.
    Held,
    /// Somebody freed the object meanwhile: it ends here.
    Ended(Ended, T),
}

impl<T> Table<T> {
    /// Whether slot `index` holds an object that is live and that nobody holds just now.
    pub(crate) fn is_alone(&self, index: u32) -> bool {
        self.slots.get(index).is_some_and(|slot| {
            let (generation, pins, _) = slot.word.glance();
            generation & 1 == 1 && pins == 0
        })
    }

    /// Gives the object in slot `index` the slot `to`. `owner` is told its place, before the object
    /// is found by its new slot, to note the new owner.
    pub(crate) fn renumber(
        &self,
        index: u32,
        to: Vacant<'_, T>,
        owner: impl FnOnce(&Place, u32),
    ) -> Renumbered<T> {
        let Some(slot) = self.slots.get(index) else { return Renumbered::Held };
        let (generation, ..) = slot.word.glance();
        if generation & 1 == 0 {
            return Renumbered::Held;
        }
        let Ok(location) = slot.word.lock(generation) else { return Renumbered::Held };
        // Freed, but not ended: the lock is a hold. Whoever was to free it is told that it is
        // stale.
        let own = slot.word.free(generation) == Ok(Outcome::Kept);
        if own {
            self.freed_under_a_hold();
        }
        let outcome = slot.word.unlock(location);
        let (ended, record) = self.let_go(slot, index, outcome).expect("a dying object ends");
        if !own {
            return Renumbered::Ended(ended, record);
        }
        let len = ended.len();
        let (_, spent) = ended.split();
        // SAFETY: the object's own place, of `len` bytes at least, which `split` has just given up.
        let place = (location != NOWHERE).then(|| unsafe { Place::new(location, len) });
        if let Some(place) = place.as_ref().filter(|_| !model_bug!(OwnerLeft)) {
            owner(place, to.index());
        }
        Renumbered::Moved(to.publish(place, len, record), spent)
    }
}
