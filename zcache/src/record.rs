//! The record of an entry: what stands beside its object in the pool, in one cache line with the
//! object's location.
//! ```text
//! key | tag 32 | state 32 = len 19, form 2, word 7, expires 1, published 1, mark 2
//! ```
//! An entry's id is its object's. Only `published` and `mark` ever change.

use zpool::Pinned;

use crate::error::MAX_PAGE;
use crate::index::Tag;
use crate::sync::{AtomicU32, Ordering};

/// A pinned entry.
pub(crate) type Entry<'p, K> = Pinned<'p, Record<K>>;

/// How a page is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The object is the page.
    Raw,
    /// The object is what the codec made of the page.
    Coded,
    /// The page repeats the word with this number; [`INLINE`]: the object is the word.
    Filled(u8),
}

/// The word's number that means: the object is the word.
pub(crate) const INLINE: u8 = 127;

const LEN: u32 = (1 << 19) - 1;
const FORM_AT: u32 = 19;
const WORD_AT: u32 = 21;
const EXPIRES: u32 = 1 << 28;
const PUBLISHED: u32 = 1 << 29;
const MARK_AT: u32 = 30;

/// The highest mark an entry can have.
pub(crate) const MAX_MARK: u8 = 3;

#[derive(Debug)]
pub(crate) struct Record<K> {
    pub(crate) key: K,
    pub(crate) tag: Tag,
    state: AtomicU32,
}

/// What a record says of its entry at one instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State(u32);

impl State {
    /// Bytes of the page.
    #[inline]
    pub(crate) fn len(self) -> usize {
        (self.0 & LEN) as usize
    }

    #[inline]
    pub(crate) fn form(self) -> Form {
        match self.0 >> FORM_AT & 3 {
            0 => Form::Raw,
            1 => Form::Coded,
            _ => Form::Filled((self.0 >> WORD_AT & 127) as u8),
        }
    }

    /// Whether the object ends in a time to go at.
    #[inline]
    pub(crate) fn expires(self) -> bool {
        self.0 & EXPIRES != 0
    }

    pub(crate) fn published(self) -> bool {
        self.0 & PUBLISHED != 0
    }

    #[inline]
    pub(crate) fn mark(self) -> u8 {
        (self.0 >> MARK_AT) as u8
    }
}

impl<K> Record<K> {
    pub(crate) fn new(key: K, tag: Tag, len: usize, form: Form, expires: bool, mark: u8) -> Self {
        debug_assert!(len <= MAX_PAGE);
        let form = match form {
            Form::Raw => 0,
            Form::Coded => 1 << FORM_AT,
            Form::Filled(word) => 2 << FORM_AT | u32::from(word) << WORD_AT,
        };
        let expires = if expires { EXPIRES } else { 0 };
        let mark = u32::from(mark.min(MAX_MARK)) << MARK_AT;
        Self { key, tag, state: AtomicU32::new(len as u32 | form | expires | mark) }
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        // Relaxed: what does not change came with the pin; what changes stands for itself.
        State(self.state.load(Ordering::Relaxed))
    }

    /// A hit. Writes nothing when the mark is at `most` already.
    #[inline]
    pub(crate) fn hit(&self, most: u8) {
        let seen = self.state.load(Ordering::Relaxed);
        if State(seen).mark() < most {
            let next = seen + (1 << MARK_AT);
            // A hit that loses against another one, or against the policy, is not missed.
            let _ = self.state.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Sets the mark, for the policy.
    pub(crate) fn set_mark(&self, mark: u8) {
        let mark = u32::from(mark.min(MAX_MARK)) << MARK_AT;
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            let next = seen & ((1 << MARK_AT) - 1) | mark;
            let set = self.state.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed);
            match set {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// The index leads here from now on: the policy may name this entry.
    pub(crate) fn publish(&self) {
        self.state.fetch_or(PUBLISHED, Ordering::Relaxed);
    }

    /// The index leads here no more: who goes through all entries passes this one over.
    pub(crate) fn retire(&self) {
        self.state.fetch_and(!PUBLISHED, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_state_keeps_its_parts_apart() {
        for form in [Form::Raw, Form::Coded, Form::Filled(0), Form::Filled(INLINE)] {
            for len in [0, 1, 4096, MAX_PAGE] {
                let record = Record::new((), 7, len, form, len == 1, 0);
                record.publish();
                (0..5).for_each(|_| record.hit(2));
                let state = record.state();
                assert_eq!((state.len(), state.form(), state.mark()), (len, form, 2));
                assert_eq!((state.expires(), state.published()), (len == 1, true));
                record.set_mark(1);
                assert_eq!((record.state().mark(), record.state().len()), (1, len));
                record.retire();
                let state = record.state();
                assert_eq!((state.published(), state.mark(), state.len()), (false, 1, len));
            }
        }
        assert_eq!(size_of::<Record<u64>>(), 16);
    }
}
