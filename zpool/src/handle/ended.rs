//! What an object leaves behind when it ends.

use super::Place;

/// What is left of an object: its place, if it had one, and its slot.
#[derive(Debug)]
#[must_use]
pub(crate) struct Ended {
    place: Option<Place>,
    slot: Spent,
    len: usize,
}

/// A slot whose object is gone.
#[derive(Debug)]
#[must_use]
pub(crate) struct Spent(u32);

impl Spent {
    pub(super) const fn new(index: u32) -> Self {
        Self(index)
    }

    pub(super) const fn index(&self) -> u32 {
        self.0
    }
}

impl Ended {
    pub(super) const fn new(place: Option<Place>, slot: Spent, len: usize) -> Self {
        Self { place, slot, len }
    }

    /// The object's length.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// To overwrite what the place held; the module takes care that it is not swapped for another.
    pub(crate) fn with_place<R>(&mut self, f: impl FnOnce(&mut Place) -> R) -> Option<R> {
        let location = self.place.as_ref().map(Place::location);
        let result = self.place.as_mut().map(f);
        assert_eq!(location, self.place.as_ref().map(Place::location), "a place stays");
        result
    }

    /// The place and the slot, each to be given back on its own.
    pub(crate) fn split(self) -> (Option<Place>, Spent) {
        (self.place, self.slot)
    }

    /// The slot's index, for an ended object that waits in a list; [`resume`](super::Table::resume)
    /// undoes it.
    pub(crate) fn suspend(self) -> u32 {
        self.slot.0
    }

    /// Of an object that was given another place: that place's length is not its own.
    pub(super) const fn set_len(&mut self, len: usize) {
        self.len = len;
    }
}
