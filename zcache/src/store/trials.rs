//! Whether a page that looks random is compressed all the same.
//!
//! The look does not see everything that a codec does: it samples, and knows no dictionary. So one
//! page of 256 among those that look random is a *trial*. It is compressed, and its result holds
//! for the others until the next trial. In most cases all such pages are of one kind. Then the
//! cache learns within some hundred inserts whether they shrink. Where a share of them shrinks,
//! about that share is tried.
//!
//! The look takes as long as a twentieth of LZ4's work, and where pages are text or rows it finds
//! nothing. So after some pages in a row that did not look random, and were none, only one page in
//! 16 is looked at. This ends with a page that looks random or does not shrink.
//!
//! What trials showed is one word for all threads. Inserts of pages that look random read it. It is
//! written where a trial shows something new.

use crate::codec::{CODERS, looks_incompressible};
use crate::index::Tag;
use crate::sync::{Counter, Ordering};

/// A page that looks random is a trial if this many bits of a hash are 0.
const BITS: u32 = 8;

/// Pages looked at after one that looked random, before most are not looked at any more.
const WARY: u64 = 64;
/// One page in so many is always looked at.
const LOOKED: Tag = 16;

/// What to do with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is stored as it is.
    Skip,
    Compress,
    /// It is compressed, and [`Trials::learn`] wants to know what came of it.
    Try,
}

#[derive(Debug)]
pub(super) struct Trials {
    /// A bit for each coder: whether its last trial made a page smaller.
    paid: Counter,
    /// Pages that are still to be looked at, each of them.
    wary: Counter,
    /// Whether every page is compressed.
    always: bool,
}

const _: () = assert!(CODERS <= 64);

impl Trials {
    pub(super) fn new(always: bool) -> Self {
        Self { paid: Counter::new(0), wary: Counter::new(WARY), always }
    }

    /// What to do with a page of a key with this tag that a coder may compress.
    pub(super) fn verdict(&self, tag: Tag, page: &[u8], coder: u8) -> Verdict {
        if self.always {
            return Verdict::Compress;
        }
        // Relaxed, as in `learn`.
        let wary = self.wary.load(Ordering::Relaxed);
        if wary == 0 && tag % LOOKED != 0 {
            return Verdict::Compress;
        }
        if !looks_incompressible(page) {
            if wary > 0 {
                self.wary.store(wary - 1, Ordering::Relaxed);
            }
            return Verdict::Compress;
        }
        self.beware();
        // Both count: a key's page may change, and pages of many keys may end alike.
        let end = page.last_chunk().map_or(0, |end| u64::from_le_bytes(*end));
        let hash = (end ^ u64::from(tag)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if hash >> (u64::BITS - BITS) == 0 {
            Verdict::Try
        } else if self.pays(coder) {
            Verdict::Compress
        } else {
            Verdict::Skip
        }
    }

    /// A page was random, or as good as that: there may be more.
    pub(super) fn beware(&self) {
        if self.wary.load(Ordering::Relaxed) != WARY {
            self.wary.store(WARY, Ordering::Relaxed);
        }
    }

    /// Keeps what came of a trial.
    pub(super) fn learn(&self, coder: u8, paid: bool) {
        let bit = 1 << coder;
        // Relaxed, here and below: it is a hint, and every page is right whatever the hint says.
        match paid {
            _ if paid == self.pays(coder) => 0,
            true => self.paid.fetch_or(bit, Ordering::Relaxed),
            false => self.paid.fetch_and(!bit, Ordering::Relaxed),
        };
    }

    fn pays(&self, coder: u8) -> bool {
        self.paid.load(Ordering::Relaxed) & 1 << coder != 0
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    /// A page that looks random.
    fn noise() -> Vec<u8> {
        let mut state = 7_u64;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..4096).map(|_| byte()).collect()
    }

    #[test]
    fn one_random_page_of_256_is_a_trial_and_decides_for_the_others() {
        let (trials, page) = (Trials::new(false), noise());
        let amount = |wanted| {
            let tags = (0..25_600_u32).map(|tag| tag.wrapping_mul(0x9e37_79b9));
            tags.filter(|tag| trials.verdict(*tag, &page, 1) == wanted).count()
        };
        let tried = amount(Verdict::Try);
        assert!((50..200).contains(&tried), "{tried}");
        assert_eq!((amount(Verdict::Skip), amount(Verdict::Compress)), (25_600 - tried, 0));
        trials.learn(1, true);
        assert_eq!((amount(Verdict::Skip), amount(Verdict::Compress)), (0, 25_600 - tried));
        // One coder's trials say nothing of another's.
        trials.learn(2, false);
        assert_eq!(amount(Verdict::Skip), 0);
        trials.learn(1, false);
        assert_eq!(amount(Verdict::Compress), 0);
        assert_eq!(trials.verdict(0, b"never a short page", 1), Verdict::Compress);
    }

    #[test]
    fn few_pages_are_looked_at_where_none_is_random() {
        let (trials, noise, text) = (Trials::new(false), noise(), b"rows of text ".repeat(300));
        let seen = |page: &[u8]| {
            let verdicts = (0..64).map(|tag| trials.verdict(tag | 1, page, 0));
            verdicts.filter(|verdict| *verdict != Verdict::Compress).count()
        };
        assert_eq!((seen(&text), seen(&noise)), (0, 0));
        trials.beware();
        assert!(seen(&noise) > 32, "one that did not shrink is enough");
        assert_eq!((seen(&text), seen(&noise)), (0, 0));
        assert_ne!(trials.verdict(LOOKED, &noise, 0), Verdict::Compress);
        assert!(seen(&noise) > 32, "and so is one that is looked at");
    }

    #[test]
    fn every_page_is_compressed_where_that_is_asked_for() {
        let (trials, page) = (Trials::new(true), noise());
        assert!((0..1000).all(|tag| trials.verdict(tag, &page, 0) == Verdict::Compress));
    }
}
