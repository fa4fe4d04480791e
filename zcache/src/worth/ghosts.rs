//! What went from one place, by tag: how long ago, in goings.

use crate::index::Tag;
use crate::sync::{Apart, Counter, Ordering, get};

/// Slots that a ghost may have.
const PLACES: usize = 4;

/// Ghosts of one kind.
#[derive(Debug)]
pub(super) struct Ghosts {
    /// Tag, and when it went.
    slots: Box<[Counter]>,
    /// How many went.
    clock: Apart<Counter>,
}

/// A tag, and when something became of it.
pub(super) fn pack(tag: Tag, when: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(when)
}

pub(super) fn is_of(packed: u64, tag: Tag) -> bool {
    packed >> 32 == u64::from(tag)
}

impl Ghosts {
    /// A power of two of slots.
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: (0..slots).map(|_| Counter::new(0)).collect(), clock: Apart::default() }
    }

    /// How many went.
    pub(super) fn gone(&self) -> u64 {
        get(&self.clock)
    }

    /// The few slots that a tag may have.
    fn places(&self, tag: Tag) -> &[Counter] {
        let spread = u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let first = spread as usize & (self.slots.len() - 1) & !(PLACES - 1);
        &self.slots[first..first + PLACES]
    }

    fn age(&self, seen: u64) -> u32 {
        (get(&self.clock) as u32).wrapping_sub(seen as u32)
    }

    pub(super) fn remember(&self, tag: Tag) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        let places = self.places(tag);
        let is_own = |place: &&Counter| is_of(get(place), tag);
        let oldest = || {
            places.iter().max_by_key(|place| match get(place) {
                0 => u32::MAX,
                seen => self.age(seen),
            })
        };
        if let Some(place) = places.iter().find(is_own).or_else(oldest) {
            place.store(pack(tag, now as u32), Ordering::Relaxed);
        }
    }

    /// How many went since `tag` went, if that is known and no more than `young` did. More room
    /// would have kept it, and have it go later for this: so it goes anew.
    pub(super) fn returned(&self, tag: Tag, young: u64) -> Option<u64> {
        let place = self.places(tag).iter().find(|place| is_of(get(place), tag))?;
        let age = u64::from(self.age(get(place)));
        (age <= young).then(|| {
            place.store(pack(tag, get(&self.clock) as u32), Ordering::Relaxed);
            age
        })
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    fn tag(nth: u32) -> Tag {
        nth.wrapping_mul(0x9e37_79b9) | 1
    }

    #[test]
    fn ghosts_know_how_many_went_since() {
        let ghosts = Ghosts::new(64);
        ghosts.remember(tag(1));
        (2..10).for_each(|nth| ghosts.remember(tag(nth)));
        assert_eq!((ghosts.returned(tag(1), 7), ghosts.gone()), (None, 9), "too long ago");
        assert_eq!(ghosts.returned(tag(1), 8), Some(8));
        assert_eq!(ghosts.returned(tag(1), 0), Some(0), "it went again just now");
        assert_eq!(ghosts.returned(tag(77), 1 << 40), None, "never");
        ghosts.clock.store(u64::from(u32::MAX) - 1, Ordering::Relaxed);
        (20..23).for_each(|nth| ghosts.remember(tag(nth)));
        assert_eq!(ghosts.returned(tag(20), 2), Some(2), "beside its end");
    }
}
