//! Coders: the codecs of a cache, by the numbers that its entries have in their records.
//! ```text
//! 0        the codec that the cache was made with            no synchronisation
//! 1        the stronger one for cold entries, if any         the same
//! 2..=31   the same with a dictionary trained here           under a lock; by way of contexts only
//! ```
//! A number is given once: it stands for its dictionary for ever, so that an entry is decoded with what it was
//! compressed with or not at all. A trained coder goes when it is not the newest one any more and nothing is left that
//! was compressed with it:
//! 1. each object and each draft on its way to be one is counted, from before it is made until after it is freed; a
//!    draft's count rises under the lock, and only while its coder is the newest. So a count of 0 stays;
//! 2. an object that is freed may be in a reader's hands still. The pool counts those, of all coders together; that
//!    count may be one short for an instant, so it has to be 0 in two calls.

use crate::codec::{CODERS, Codec};
use crate::sync::{Arc, Charge, Counter, Mutex, Ordering, add, get};

/// The number of the stronger codec.
pub(crate) const COLD: u8 = 1;
/// The first number of a trained one.
const TRAINED: u8 = 2;

/// What is trained, and to what.
#[derive(Debug)]
pub(crate) struct TrainingPlan {
    /// The codec to train: that of cold entries where there is one.
    pub(crate) base: Arc<dyn Codec>,
    pub(crate) dictionary_bytes: usize,
    /// What a trained codec is expected to share.
    pub(crate) shared_bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Coders {
    pub(crate) cold: Option<Arc<dyn Codec>>,
    pub(crate) training: Option<TrainingPlan>,
    /// The newest trained coder, or 0. A hint: the table decides.
    newest: Counter,
    /// Objects and drafts of each coder but the first, which needs no counting.
    alive: [Counter; CODERS],
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    trained: Vec<Trained>,
    /// Numbers given.
    given: u8,
}

#[derive(Debug)]
pub(crate) struct Trained {
    number: u8,
    codec: Arc<dyn Codec>,
    charged: usize,
    /// Nothing was left of it when it was looked at last.
    idle: bool,
}

/// That something is being compressed with a coder.
#[derive(Debug)]
pub(crate) struct Use<'c>(&'c Coders, u8);

impl Use<'_> {
    pub(crate) fn number(&self) -> u8 {
        self.1
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.0.left(self.1);
    }
}

impl Coders {
    pub(crate) fn new(cold: Option<Arc<dyn Codec>>, training: Option<TrainingPlan>) -> Self {
        Self {
            cold,
            training,
            newest: Counter::new(0),
            alive: [const { Counter::new(0) }; CODERS],
            table: Mutex::new(Table { trained: Vec::new(), given: TRAINED }),
        }
    }

    /// One object more of this coder.
    #[inline]
    pub(crate) fn entered(&self, coder: u8) {
        if coder != 0 {
            add(&self.alive[usize::from(coder)], 1);
        }
    }

    /// One less, after it was freed.
    #[inline]
    pub(crate) fn left(&self, coder: u8) {
        if coder != 0 {
            // Release pairs with the Acquire in `alive`: who sees the count sees what was freed.
            self.alive[usize::from(coder)].fetch_sub(1, Ordering::Release);
        }
    }

    /// Objects and drafts of a coder but the first.
    pub(crate) fn alive(&self, coder: u8) -> u64 {
        self.alive[usize::from(coder)].load(Ordering::Acquire) // pairs with the Release in `left`
    }

    /// What inserts compress with if not with coder 0.
    #[inline]
    pub(crate) fn writer(&self) -> Option<Use<'_>> {
        if get(&self.newest) == 0 || self.cold.is_some() { None } else { self.use_newest() }
    }

    #[cold]
    fn use_newest(&self) -> Option<Use<'_>> {
        let table = self.table.lock();
        let number = table.trained.last()?.number;
        self.entered(number);
        Some(Use(self, number))
    }

    /// What cold entries are compressed with, if anything.
    pub(crate) fn stronger(&self) -> Option<Use<'_>> {
        self.use_newest().or_else(|| {
            self.cold.as_ref()?;
            self.entered(COLD);
            Some(Use(self, COLD))
        })
    }

    /// The number of what cold entries are compressed with; 0: nothing is.
    pub(crate) fn target(&self) -> u8 {
        match get(&self.newest) as u8 {
            0 if self.cold.is_some() => COLD,
            newest => newest,
        }
    }

    /// Whether this is a trained coder that has a successor.
    pub(crate) fn is_superseded(&self, coder: u8) -> bool {
        coder >= TRAINED && u64::from(coder) != get(&self.newest)
    }

    /// The codec of a number, but for the first one's.
    pub(crate) fn codec(&self, coder: u8) -> Option<Arc<dyn Codec>> {
        if coder == COLD {
            return self.cold.clone();
        }
        let table = self.table.lock();
        let trained = table.trained.iter().find(|trained| trained.number == coder)?;
        Some(Arc::clone(&trained.codec))
    }

    /// The number that the next trained codec gets, if there are any left.
    pub(crate) fn next(&self) -> Option<u8> {
        let given = self.table.lock().given;
        (usize::from(given) < CODERS).then_some(given)
    }

    /// Makes `codec`, for which so much was charged, the newest coder under the [`next`](Self::next) number.
    pub(crate) fn adopt(&self, codec: Arc<dyn Codec>, charged: usize) {
        let mut table = self.table.lock();
        let number = table.given;
        table.given += 1;
        table.trained.push(Trained { number, codec, charged, idle: false });
        // Relaxed: who reads an old one compresses with the coder before.
        self.newest.store(number.into(), Ordering::Relaxed);
    }

    /// Takes a coder off that nothing is left of. `dying`: objects that are freed and still read.
    pub(crate) fn expel(&self, dying: impl Fn() -> usize) -> Option<Trained> {
        let mut table = self.table.lock();
        let (_, older) = table.trained.split_last_mut()?;
        for trained in older.iter_mut() {
            let empty = self.alive(trained.number) == 0 && dying() == 0;
            if empty && trained.idle {
                let number = trained.number;
                let at = table.trained.iter().position(|trained| trained.number == number)?;
                return Some(table.trained.remove(at));
            }
            trained.idle = empty;
        }
        None
    }

    /// Trained coders, and what is charged for them.
    pub(crate) fn trained(&self) -> (usize, usize) {
        let table = self.table.lock();
        (table.trained.len(), table.trained.iter().map(|trained| trained.charged).sum())
    }
}

impl Trained {
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// Drops it, whose contexts are gone, and releases what was charged.
    pub(crate) fn discard(self, memory: &impl Charge) {
        let Self { codec, charged, .. } = self;
        // Also where the codec's drop panics.
        let _charged = super::charged::Charged::of(memory, charged);
        drop(codec);
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;
    use crate::codec::None;

    fn codec() -> Arc<dyn Codec> {
        Arc::new(None)
    }

    #[test]
    fn numbers_are_given_once_and_coders_go_when_nothing_is_left_of_them() {
        let coders = Coders::new(Option::None, Option::None);
        assert!(coders.writer().is_none() && coders.stronger().is_none() && coders.target() == 0);
        coders.adopt(codec(), 1);
        let first = coders.writer().expect("the newest");
        assert_eq!((first.number(), coders.target(), coders.is_superseded(2)), (2, 2, false));
        coders.adopt(codec(), 1);
        assert!(coders.is_superseded(2) && coders.trained() == (2, 2));
        assert!((0..3).all(|_| coders.expel(|| 0).is_none()), "a draft is under way");
        drop(first);
        assert!(coders.expel(|| 1).is_none(), "somebody reads");
        assert!(coders.expel(|| 0).is_none(), "seen once");
        assert!(coders.expel(|| 1).is_none() && coders.expel(|| 0).is_none(), "seen once again");
        assert_eq!(coders.expel(|| 0).map(|gone| gone.number()), Some(2));
        assert!((0..3).all(|_| coders.expel(|| 0).is_none()), "the newest one stays");
        assert!(coders.codec(2).is_none() && coders.codec(3).is_some());
        for number in 4..CODERS as u8 {
            assert_eq!(coders.next(), Some(number));
            coders.adopt(codec(), 1);
        }
        assert_eq!(coders.next(), Option::None);
    }

    #[test]
    fn a_codec_for_cold_entries_leaves_inserts_alone() {
        let coders = Coders::new(Some(codec()), Option::None);
        assert_eq!((coders.target(), coders.writer().is_none()), (COLD, true));
        coders.adopt(codec(), 1);
        assert_eq!((coders.target(), coders.writer().is_none()), (2, true));
        assert_eq!(coders.stronger().map(|held| held.number()), Some(2));
        assert!(!coders.is_superseded(COLD), "it stays whatever comes");
        assert_eq!((coders.alive(COLD), coders.alive(2)), (0, 0));
    }
}
