//! What user code may leave half done by a panic, and what puts it back.

use crate::arena::Arena;
use crate::handle::{Handle, Place, Vacant};
use crate::scratch::Buffer;

/// A handle slot and a place for an object that is not published yet; both go back on drop.
pub(crate) struct Fresh<'p, T> {
    pub(crate) arena: &'p Arena<T>,
    pub(crate) vacant: Option<Vacant<'p, T>>,
    pub(crate) place: Option<Place>,
}

impl<T> Fresh<'_, T> {
    pub(crate) fn publish(mut self, len: usize, record: T) -> Handle {
        self.arena.grew(len);
        let vacant = self.vacant.take().expect("there until it is published");
        vacant.publish(self.place.take(), len, record)
    }
}

impl<T> Drop for Fresh<'_, T> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.arena.release(place, None);
        }
    }
}

/// A scratch buffer that goes back also when user code panics.
pub(crate) struct Lent<'p, T> {
    pub(crate) arena: &'p Arena<T>,
    pub(crate) buffer: Option<Buffer>,
}

impl<T> Lent<'_, T> {
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        self.buffer.as_deref_mut().unwrap_or(&mut [])
    }
}

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.arena.give_scratch(buffer);
        }
    }
}
