//! The tokens that a table's verdicts turn into; the table in [`super`] says what each one means.

use std::mem::MaybeUninit;

use super::ended::Ended;
use super::slots::Slot;
use super::table::Table;
use super::{Handle, Place};
use crate::sync::{LOCK_TRIES, Ordering, model_bug, spin};
use crate::word::{NOWHERE, Refusal};

/// A FREE slot, held alone. Dropping it gives the slot back.
#[derive(Debug)]
pub(crate) struct Vacant<'t, T> {
    table: &'t Table<T>,
    slot: &'t Slot<T>,
    index: u32,
}

/// A share of an object.
#[derive(Debug)]
#[must_use]
pub(crate) struct Pin<'t, T> {
    table: &'t Table<T>,
    slot: &'t Slot<T>,
    index: u32,
    /// Of 18 bits.
    generation: u32,
    place: Option<Place>,
}

/// An object, alone.
#[derive(Debug)]
#[must_use]
pub(crate) struct Lock<'t, T> {
    pin: Pin<'t, T>,
}

impl<'t, T> Vacant<'t, T> {
    pub(super) const fn new(table: &'t Table<T>, slot: &'t Slot<T>, index: u32) -> Self {
        Self { table, slot, index }
    }

    /// What the owner entry of the place says.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Makes the object at `place` live, `len` bytes long; its bytes are written already.
    #[inline]
    pub(crate) fn publish(self, place: Option<Place>, len: usize, record: T) -> Handle {
        assert!(len <= place.as_ref().map_or(0, Place::room), "an object fits its place");
        let slot = self.slot;
        // SAFETY: the slot is FREE and held alone, so nobody reads the record, and none is in it.
        unsafe { slot.record.to_write().write(MaybeUninit::new(record)) };
        let note_len = || {
            if len > 0 {
                self.table.slots.set_len(self.index, len);
            }
        };
        let late = model_bug!(LengthLate);
        if !late {
            note_len();
        }
        self.table.live.fetch_add(1, Ordering::Relaxed);
        let generation = slot.word.publish(place.map_or(NOWHERE, |place| place.location()));
        if late {
            note_len();
        }
        let handle = self.table.handle(self.index, generation);
        std::mem::forget(self);
        handle
    }
}

impl<T> Drop for Vacant<'_, T> {
    fn drop(&mut self) {
        self.table.push(self.index, &self.slot.word, 0);
    }
}

impl<'t, T> Pin<'t, T> {
    #[inline]
    pub(super) const fn new(
        table: &'t Table<T>,
        slot: &'t Slot<T>,
        (index, generation): (u32, u64),
        place: Option<Place>,
    ) -> Self {
        Self { table, slot, index, generation: generation as u32, place }
    }

    /// The slot, as owner entries name it.
    #[inline]
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// The object's handle, stale by now if it was freed under this pin.
    #[inline]
    pub(crate) fn handle(&self) -> Handle {
        self.table.handle(self.index, self.generation.into())
    }

    /// Where the object is; `None` for one of length 0.
    #[inline]
    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.place.as_ref().map_or(0, Place::room)
    }

    #[inline]
    pub(crate) fn record(&self) -> &T {
        let record = self.slot.record.to_read();
        // SAFETY: a pin keeps the record in place and unwritten for as long as `self` is borrowed.
        let record = unsafe { &*record };
        // SAFETY: `publish` initialised it before the word let anybody pin.
        unsafe { record.assume_init_ref() }
    }

    /// Gives the share back. What comes back is the object, where it was freed and held last here.
    #[inline]
    pub(crate) fn unpin(self) -> Option<(Ended, T)> {
        let outcome = self.slot.word.unpin();
        self.table.let_go(self.slot, self.index, outcome)
    }

    /// Moves the object to `to`, whose bytes are a copy, and gives the place it left; this pin
    /// ends.
    ///
    /// # Errors
    /// Somebody else holds or freed the object: `to` comes back, and the pin with it.
    pub(crate) fn swing(self, to: Place) -> Result<Place, (Self, Place)> {
        let Some(from) = &self.place else { return Err((self, to)) };
        assert!(from.room() <= to.room(), "an object fits its place");
        if self.slot.word.swing(self.generation.into(), from.location(), to.location()) {
            // SAFETY: nobody points at `from` any more, and nobody else was told.
            Ok(unsafe { Place::new(from.location(), 0) })
        } else {
            Err((self, to))
        }
    }
}

/// What giving a [`Lock`] back came to.
#[derive(Debug)]
#[must_use]
pub(crate) struct Unlocked<T> {
    /// A place that nobody points at any more.
    pub(crate) left: Option<Place>,
    /// The object, where it was freed meanwhile.
    pub(crate) ended: Option<(Ended, T)>,
}

impl<'t, T> Lock<'t, T> {
    pub(super) const fn new(pin: Pin<'t, T>) -> Self {
        Self { pin }
    }

    pub(crate) fn pin(&self) -> &Pin<'t, T> {
        &self.pin
    }

    /// Where the object is, to write there.
    ///
    /// # Safety
    /// The place stays in the lock: it is not swapped for another.
    pub(crate) unsafe fn place_mut(&mut self) -> Option<&mut Place> {
        self.pin.place.as_mut()
    }

    /// Gives the object back where it is.
    pub(crate) fn unlock(self) -> Unlocked<T> {
        let here = self.pin.place.as_ref().map_or(NOWHERE, Place::location);
        let outcome = self.pin.slot.word.unlock(here);
        Unlocked {
            left: None,
            ended: self.pin.table.let_go(self.pin.slot, self.pin.index, outcome),
        }
    }

    /// Gives the object back at another place and length; the old place is left.
    pub(crate) fn unlock_at(self, to: Option<Place>, len: usize) -> Unlocked<T> {
        assert!(len <= to.as_ref().map_or(0, Place::room), "an object fits its place");
        let Pin { table, slot, index, place, .. } = self.pin;
        // Before the word lets readers in; where the object has ended, nobody reads it.
        table.slots.set_len(index, len);
        let outcome = slot.word.unlock(to.as_ref().map_or(NOWHERE, Place::location));
        let mut ended = table.let_go(slot, index, outcome);
        if let Some((ended, _)) = &mut ended {
            ended.set_len(place.as_ref().map_or(0, Place::room));
        }
        Unlocked { left: if ended.is_some() { to } else { place }, ended }
    }

    /// Frees an object that is held alone: it ends here, unless somebody freed it already, and then
    /// it ends here too.
    pub(crate) fn free(self) -> (Ended, T) {
        let word = &self.pin.slot.word;
        let (generation, _, _) = word.glance();
        if generation & 1 == 1 && word.free(generation).is_ok() {
            self.pin.table.freed_under_a_hold();
        }
        self.unlock().ended.expect("a dying object ends when it is unlocked")
    }
}

impl<T> Table<T> {
    #[inline]
    fn pinned<'t>(
        &'t self,
        slot: &'t Slot<T>,
        (index, generation): (u32, u64),
        location: u64,
    ) -> Pin<'t, T> {
        let len = self.slots.len(index);
        // SAFETY: lent only: a `Pin` shows it as `&Place`, and a `Lock` owns the object, which has
        // `len` bytes there: `publish` and `unlock_at` checked.
        let place = (location != NOWHERE).then(|| unsafe { Place::new(location, len) });
        Pin::new(self, slot, (index, generation), place)
    }

    /// A share of the object, for reading.
    #[inline]
    pub(crate) fn pin(&self, handle: Handle) -> Result<Pin<'_, T>, Refusal> {
        let (slot, index, generation) = self.find(handle).ok_or(Refusal::Stale)?;
        let location = slot.word.pin(generation)?;
        Ok(self.pinned(slot, (index, generation), location))
    }

    /// The same of whatever object is live in slot `index`. `hint` is told the object's location
    /// before its length is read. From the `reserve` where that is asked for.
    #[inline(always)]
    pub(crate) fn pin_index(
        &self,
        index: u32,
        reserve: bool,
        hint: impl FnOnce(u64),
    ) -> Result<Pin<'_, T>, Refusal> {
        let slot = self.slots.get(index).ok_or(Refusal::Stale)?;
        // No load passes the compare-exchange: its cache miss and the length's would add up.
        self.slots.prefetch_len(index);
        let (generation, location) = slot.word.pin_live(reserve)?;
        hint(location);
        Ok(self.pinned(slot, (index, generation), location))
    }

    /// The object alone, for writing. A migration holds a pin for as long as one copy takes, so
    /// [`Refusal::Busy`] is retried a bounded number of times.
    pub(crate) fn lock(&self, handle: Handle) -> Result<Lock<'_, T>, Refusal> {
        let (slot, index, generation) = self.find(handle).ok_or(Refusal::Stale)?;
        let mut tries = 1;
        let location = loop {
            match slot.word.lock(generation) {
                Err(Refusal::Busy) if tries < LOCK_TRIES => spin(),
                verdict => break verdict?,
            }
            tries += 1;
        };
        Ok(Lock::new(self.pinned(slot, (index, generation), location)))
    }

    /// A migration's share of the object that slot `index` holds, if that is live, unshared and
    /// exactly at `location`.
    pub(crate) fn pin_at(&self, index: u32, location: u64) -> Option<Pin<'_, T>> {
        let slot = self.slots.get(index)?;
        let generation = slot.word.pin_at(location)?;
        Some(self.pinned(slot, (index, generation), location))
    }
}
