//! The record of an entry: what stands beside its object in the pool, in one cache line with the
//! object's location.
//! ```text
//! key | tag 32 | state 32 = len 19, form 2, word 7, expires 1, published 1, mark 2
//!                    word = a same-filled page's word 7, or coder 5, rest 2
//!                    of a page in pieces, word and len are its length: 26
//! ```
//! An entry's id is its object's. Only `published`, `mark` and `rest` ever change.

use zpool::Pinned;

use crate::codec::{CODERS, Form};
use crate::error::{MAX_PAGE, MAX_PIECE};
use crate::index::Tag;
use crate::sync::{AtomicU32, Ordering, model_bug};

/// A pinned entry.
pub(crate) type Entry<'p, K> = Pinned<'p, Record<K>>;

/// What the hand of [`maintain`](crate::Cache::maintain) knows of an entry that is not same-filled.
/// A hit makes it warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Warm,
    /// Not hit since the hand came by.
    Idle,
    /// Nor before, and the stronger coder had nothing to gain.
    Tried,
    /// A page of a scan, stored as it is, which nobody has hit. The first hit has it compressed.
    Unpacked,
}

const LEN: u32 = (1 << 19) - 1;
const FORM_AT: u32 = 19;
const WORD_AT: u32 = 21;
const WORD: u32 = 127;
const FILLED: u32 = 2 << FORM_AT;
const PIECES: u32 = 3 << FORM_AT;
const REST_AT: u32 = 26;
const REST: u32 = 3 << REST_AT;
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
        let len = self.0 & LEN;
        let above = if self.0 & PIECES == PIECES { self.0 >> WORD_AT & WORD } else { 0 };
        (len | above << FORM_AT) as usize
    }

    /// The same of a page that is in one piece.
    #[inline]
    pub(crate) fn len_of_one(self) -> usize {
        (self.0 & LEN) as usize
    }

    #[inline]
    pub(crate) fn form(self) -> Form {
        match self.0 >> FORM_AT & 3 {
            0 => Form::Raw,
            1 => Form::Coded((self.0 >> WORD_AT) as u8 & (CODERS as u8 - 1)),
            2 => Form::Filled((self.0 >> WORD_AT & WORD) as u8),
            _ => Form::Pieces,
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

    /// The bits of the rest, which a same-filled page has none of, nor one in pieces.
    #[inline]
    fn resting(self) -> u32 {
        if self.0 & FILLED == 0 { self.0 & REST } else { 0 }
    }

    pub(crate) fn rest(self) -> Rest {
        match self.resting() >> REST_AT {
            0 => Rest::Warm,
            1 => Rest::Idle,
            2 => Rest::Tried,
            _ => Rest::Unpacked,
        }
    }
}

impl<K> Record<K> {
    pub(crate) fn new(key: K, tag: Tag, len: usize, form: Form, expires: bool, mark: u8) -> Self {
        debug_assert!(len <= if form == Form::Pieces { MAX_PAGE } else { MAX_PIECE });
        let form = match form {
            Form::Raw => 0,
            Form::Coded(coder) => 1 << FORM_AT | u32::from(coder) << WORD_AT,
            Form::Filled(word) => FILLED | u32::from(word) << WORD_AT,
            Form::Pieces => PIECES | (len as u32 >> FORM_AT) << WORD_AT,
        };
        let len = len as u32 & LEN;
        let expires = if expires { EXPIRES } else { 0 };
        let mark = u32::from(mark.min(MAX_MARK)) << MARK_AT;
        Self { key, tag, state: AtomicU32::new(len | form | expires | mark) }
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        // Relaxed: what does not change came with the pin; what changes stands for itself.
        State(self.state.load(Ordering::Relaxed))
    }

    /// A hit. Writes nothing when the mark is at `most` already and the entry is warm. Whether the
    /// entry was [unpacked](Rest::Unpacked), which one hit alone is told.
    #[inline]
    pub(crate) fn hit(&self, most: u8) -> bool {
        let seen = self.state.load(Ordering::Relaxed);
        let resting = State(seen).resting();
        let step = if State(seen).mark() < most { 1 << MARK_AT } else { 0 };
        if step | resting != 0 {
            let next = seen - resting + step;
            // A hit that loses against another one, or against the policy, is not missed.
            let order = Ordering::Relaxed;
            let hit = self.state.compare_exchange(seen, next, order, order).is_ok();
            let told = hit || model_bug!(LoserPacks);
            return told && resting >> REST_AT == Rest::Unpacked as u32;
        }
        false
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

    /// Notes what the hand found, unless anything happened to the entry since it was `seen`. Not
    /// for same-filled pages.
    pub(crate) fn set_rest(&self, seen: State, rest: Rest) {
        let next = seen.0 & !REST | (rest as u32) << REST_AT;
        // Relaxed: a hint. A hit that comes between is not overwritten.
        let _ = self.state.compare_exchange(seen.0, next, Ordering::Relaxed, Ordering::Relaxed);
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
    use crate::codec::INLINE;

    #[test]
    fn a_state_keeps_its_parts_apart() {
        let coded = [Form::Coded(0), Form::Coded(1), Form::Coded(CODERS as u8 - 1)];
        let others = [Form::Raw, Form::Filled(0), Form::Filled(INLINE), Form::Pieces];
        for form in coded.into_iter().chain(others) {
            let most = if form == Form::Pieces { MAX_PAGE } else { MAX_PIECE };
            for len in [0, 1, 4096, MAX_PIECE, most - 1, most] {
                let record = Record::new((), 7, len, form, len == 1, 0);
                record.publish();
                (0..5).for_each(|_| assert!(!record.hit(2)));
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

    #[test]
    fn a_hit_ends_a_rest_whatever_the_mark_and_touches_no_word() {
        for form in [Form::Raw, Form::Coded(0), Form::Coded(31)] {
            for (mark, rest) in [(0, Rest::Idle), (3, Rest::Tried), (3, Rest::Idle)] {
                let record = Record::new((), 7, 99, form, true, mark);
                let seen = record.state();
                record.set_rest(seen, rest);
                assert_eq!((record.state().rest(), record.state().form()), (rest, form));
                assert!(!record.hit(3));
                assert_eq!((record.state().rest(), record.state().form()), (Rest::Warm, form));
                assert_eq!((record.state().mark(), record.state().len()), (3.min(mark + 1), 99));
                // What was seen before the hit says nothing any more.
                record.set_rest(seen, Rest::Idle);
                assert_eq!(record.state().rest(), if mark == 3 { Rest::Idle } else { Rest::Warm });
            }
        }
        let filled = Record::new((), 7, 99, Form::Filled(INLINE), false, 3);
        assert!(!filled.hit(3));
        assert_eq!(
            (filled.state().form(), filled.state().rest()),
            (Form::Filled(INLINE), Rest::Warm)
        );
    }

    #[test]
    fn the_first_hit_of_an_unpacked_page_is_told_and_no_other_one() {
        for mark in 0..=MAX_MARK {
            let record = Record::new((), 7, 4096, Form::Raw, false, mark);
            record.set_rest(record.state(), Rest::Unpacked);
            record.publish();
            record.set_mark(mark);
            assert_eq!((record.state().rest(), record.state().form()), (Rest::Unpacked, Form::Raw));
            assert!(record.hit(MAX_MARK) && !record.hit(MAX_MARK));
            assert_eq!((record.state().rest(), record.state().len()), (Rest::Warm, 4096));
        }
    }
}
