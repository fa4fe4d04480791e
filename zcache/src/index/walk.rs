//! Walks over all entries by their ids, beside entries that get new ones.
//!
//! An entry that is recompressed becomes another object, under another id. A walk from id to id
//! might pass the new id before its object is there, and the old one after its object is freed. It
//! would miss an entry that was there all the time: a `clear` would leave a page behind. So the
//! index leads to no other object while anybody walks. An insert may change it, because its page is
//! new.

use crate::sync::{Mutex, model_bug};

/// How many walk just now. Held over a change of the index, which holds a shard's lock; otherwise
/// over nothing.
#[derive(Debug)]
pub(crate) struct Walks(Mutex<usize>);

/// Somebody walks until this is dropped.
#[derive(Debug)]
pub(crate) struct Walk<'w>(&'w Walks);

impl Walks {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(0))
    }

    pub(crate) fn start(&self) -> Walk<'_> {
        *self.0.lock() += 1;
        Walk(self)
    }

    /// Does `change`, which calls nobody, between walks; `None`: somebody walks.
    pub(crate) fn between<R>(&self, change: impl FnOnce() -> Option<R>) -> Option<R> {
        let walks = self.0.lock();
        if *walks == 0 || model_bug!(SwapPastWalk) { change() } else { None }
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        *self.0.0.lock() -= 1;
    }
}
