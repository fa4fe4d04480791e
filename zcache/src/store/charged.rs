//! Bytes under the cap: charged before memory is taken, released after it is gone.

use crate::sync::Charge;

/// Why there is no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// No room under the cap; so many bytes were asked for.
    Cap(usize),
    /// The heap gave none, or the codec.
    NoMemory,
}

/// Bytes that are charged until this is dropped, also by a panic.
pub(crate) struct Charged<'m, M: Charge>(&'m M, usize);

impl<'m, M: Charge> Charged<'m, M> {
    pub(crate) fn new(memory: &'m M, bytes: usize) -> Result<Self, Full> {
        if memory.charge(bytes) { Ok(Self(memory, bytes)) } else { Err(Full::Cap(bytes)) }
    }

    /// Bytes that somebody has charged already.
    pub(crate) const fn of(memory: &'m M, bytes: usize) -> Self {
        Self(memory, bytes)
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.1
    }

    /// So many more.
    ///
    /// # Errors
    /// They are not to be had; what there was stays.
    pub(crate) fn more(&mut self, bytes: usize) -> Result<(), Full> {
        if !self.0.charge(bytes) {
            return Err(Full::Cap(bytes));
        }
        self.1 += bytes;
        Ok(())
    }

    /// Gives back what is beyond `bytes`.
    pub(crate) fn cut(&mut self, bytes: usize) {
        self.0.release(self.1.saturating_sub(bytes));
        self.1 = self.1.min(bytes);
    }

    /// They stay charged.
    pub(crate) fn keep(self) -> usize {
        let bytes = self.1;
        std::mem::forget(self);
        bytes
    }
}

impl<M: Charge> Drop for Charged<'_, M> {
    fn drop(&mut self) {
        self.0.release(self.1);
    }
}
