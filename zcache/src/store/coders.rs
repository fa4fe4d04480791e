//! Coders: the codecs of a cache, by the numbers that its entries have in their records.
//! ```text
//! 0        the codec that the cache was made with         no synchronisation
//! 1        the stronger one for cold entries, if any      the same
//! 1, 2     where the codec is found, zstd's levels        the same; 3 says that there is none
//! ..=31    the rest: with a dictionary trained here       a table that readers take no lock for
//! ```
//! A number is given once: it stands for its dictionary for ever. So an entry is decoded with the
//! coder that compressed it, or not at all. Readers look into a table that is replaced whole
//! (`zpool::Swapped`). Writers change the desk under its lock, and put a new table in the
//! place of the old one.
//!
//! A trained coder is dropped when it has a successor, and nothing is left that it compressed:
//! 1. Each object and each draft of one is counted, from before it is made until after it is freed.
//!    A draft takes the newest coder of the table that it reads, and is counted before it releases
//!    that table.
//! 2. So a count may rise as long as a reader has a table in which that coder is the newest. No
//!    coder is judged before all tables that were replaced have ended, which `Swapped::collect`
//!    says. From then on a count of 0 stays.
//! 3. An object that is freed may still be read. The pool counts those, of all coders together.
//!    That count may be one too small for a moment, so it has to be 0 in two calls.
//! 4. The coder is taken off the table, and stands in `leaving` until the tables that name it have
//!    ended. Then the caller drops it and releases its charge.
//!
//! Tables end in any thread, of another cache perhaps, and a codec is the user's code. So a table
//! holds codecs weakly: its end drops none. Only their blocks end with the last table that names
//! them, and until then they are charged, by 4. A reader that stalls delays 2 and 4, and no call.

use zpool::source::heap_cost;
use zpool::{AllocError, Pool, Swapped};

use super::charged::Full;
use crate::codec::{CODERS, Codec, RAW};
use crate::sync::{
    Arc, AtomicUsize, Charge, Counter, Mutex, Ordering, Weak, get, model_bug, pause,
};

/// The number of the stronger codec.
pub(crate) const COLD: u8 = 1;
/// The first number of a trained one.
const TRAINED: u8 = 2;
/// The same where the codec is found: beyond the numbers of those that are chosen from.
const TRAINED_BESIDE: u8 = RAW + 1;
/// The codec among those that is trained: the strongest one.
pub(crate) const TRAINABLE: u8 = RAW - 1;

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
    /// Where the codec is found: those of the numbers from 1 on, which are zstd's levels. Any of
    /// them reads what another has written.
    others: Box<[Arc<dyn Codec>]>,
    /// The number that pages are packed by there; [`RAW`]: by none.
    chosen: Counter,
    pub(crate) training: Option<TrainingPlan>,
    /// The newest trained coder, or 0. A hint: the table decides.
    newest: Counter,
    /// Objects and drafts of each coder but the first, which needs no counting.
    alive: [AtomicUsize; CODERS],
    table: Swapped<Table>,
    desk: Mutex<Desk>,
}

/// Trained coders as readers find them, the newest one last.
type Table = Vec<(u8, Weak<dyn Codec>)>;

/// What those who change the table have.
#[derive(Debug)]
struct Desk {
    /// What the table names.
    trained: Vec<Trained>,
    /// What older tables name, perhaps.
    leaving: Option<Trained>,
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
    /// What an empty table is charged.
    pub(crate) const BYTES: usize = Swapped::<Table>::fixed_bytes();

    /// Coders whose table is charged to the pool.
    ///
    /// # Errors
    /// There is no memory for that.
    pub(crate) fn new<R: Send + Sync>(
        pool: &Pool<R>,
        cold: Option<Arc<dyn Codec>>,
        training: Option<TrainingPlan>,
    ) -> Result<Self, AllocError> {
        Ok(Self {
            cold,
            others: Box::default(),
            chosen: Counter::new(0),
            training,
            newest: Counter::new(0),
            alive: std::array::from_fn(|_| AtomicUsize::new(0)),
            table: pool.swapped(Table::new(), 0)?,
            desk: Mutex::new(Desk { trained: Vec::new(), leaving: None, given: TRAINED }),
        })
    }

    /// One object more of this coder.
    #[inline]
    pub(crate) fn entered(&self, coder: u8) {
        if coder != 0 {
            self.alive[usize::from(coder)].fetch_add(1, Ordering::Relaxed);
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
    pub(crate) fn alive(&self, coder: u8) -> usize {
        self.alive[usize::from(coder)].load(Ordering::Acquire) // pairs with the Release in `left`
    }

    /// What inserts compress with if not with coder 0.
    #[inline]
    pub(crate) fn writer(&self) -> Option<Use<'_>> {
        match get(&self.chosen) as u8 {
            0 if get(&self.newest) == 0 || self.keeps_first() => None,
            0 | TRAINABLE if get(&self.newest) != 0 => self.use_newest(),
            chosen => Some(self.use_of(chosen)),
        }
    }

    /// Whether coder 0 is used as long as nothing else is chosen, whatever is trained.
    fn keeps_first(&self) -> bool {
        self.cold.is_some() || !self.others.is_empty()
    }

    #[cold]
    fn use_newest(&self) -> Option<Use<'_>> {
        let late = model_bug!(DraftCountedLate);
        let number = self.table.read(|table| {
            let (number, _) = table.last()?;
            if !late {
                self.entered(*number);
            }
            Some(*number)
        })?;
        if late {
            self.entered(number);
        }
        Some(Use(self, number))
    }

    /// That something is compressed with a coder that stays.
    fn use_of(&self, coder: u8) -> Use<'_> {
        self.entered(coder);
        Use(self, coder)
    }

    /// That something is compressed as [`TRAINABLE`] says, by the newest dictionary if there is
    /// one; or with another coder that may be chosen.
    pub(crate) fn use_choice(&self, coder: u8) -> Use<'_> {
        let newest = if coder == TRAINABLE { self.use_newest() } else { None };
        newest.unwrap_or_else(|| self.use_of(coder))
    }

    /// Those that the codec is chosen from, beside the first.
    pub(crate) fn set_others(&mut self, others: &[Arc<dyn Codec>]) {
        self.others = others.into();
        if !others.is_empty() {
            self.desk.lock().given = TRAINED_BESIDE;
        }
    }

    /// Coders that pages may be packed by, where one is chosen.
    pub(crate) fn others(&self) -> &[Arc<dyn Codec>] {
        &self.others
    }

    /// The codec of a number that may be chosen, but for the first and for none; with the newest
    /// dictionary if there is one for it.
    pub(crate) fn candidate(&self, chosen: u8) -> Option<Arc<dyn Codec>> {
        // A dictionary may have got a successor, and be gone, since it was looked up.
        self.codec(self.coder_of(chosen)).or_else(|| self.codec(chosen))
    }

    /// The coder of what is chosen: its newest dictionary's, if there is one for it.
    fn coder_of(&self, chosen: u8) -> u8 {
        match get(&self.newest) as u8 {
            newest if newest != 0 && chosen == TRAINABLE => newest,
            _ => chosen,
        }
    }

    /// Pages are packed by this one from now on.
    pub(crate) fn choose(&self, coder: u8) {
        // Relaxed: who reads an old one packs by the coder before, which is as right.
        self.chosen.store(coder.into(), Ordering::Relaxed);
    }

    /// What pages are to be packed by where the codec is chosen: that, or its newest dictionary's.
    pub(crate) fn goal(&self) -> u8 {
        self.coder_of(self.chosen())
    }

    /// What a dictionary has to do better than.
    pub(crate) fn rival(&self) -> u8 {
        if self.others.is_empty() { self.target() } else { self.goal() }
    }

    /// Whether pages are compressed by a codec that takes a dictionary.
    pub(crate) fn trains(&self) -> bool {
        self.others.is_empty() || self.is_other(self.chosen())
    }

    /// Whether this is one of those that the codec is chosen from, beside the first.
    #[inline]
    fn is_other(&self, coder: u8) -> bool {
        (1..=self.others.len()).contains(&coder.into())
    }

    /// What is chosen.
    pub(crate) fn chosen(&self) -> u8 {
        get(&self.chosen) as u8
    }

    /// Whether this is not a coder but says that pages are stored as they are.
    #[inline]
    pub(crate) fn is_raw(&self, coder: u8) -> bool {
        coder == RAW && !self.others.is_empty()
    }

    /// The coder whose contexts read what this one has written: the one in use where it can, so
    /// that there are no contexts for both.
    #[inline]
    pub(crate) fn reader(&self, coder: u8) -> u8 {
        if !self.is_other(coder) {
            return coder;
        }
        let chosen = self.chosen();
        if self.is_other(chosen) { chosen } else { coder }
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
            _ if !self.others.is_empty() => 0,
            0 if self.cold.is_some() => COLD,
            newest => newest,
        }
    }

    /// Whether this is a trained coder that has a successor.
    pub(crate) fn is_superseded(&self, coder: u8) -> bool {
        let first = if self.others.is_empty() { TRAINED } else { TRAINED_BESIDE };
        coder >= first && u64::from(coder) != get(&self.newest)
    }

    /// The codec of a number, but for the first one's.
    pub(crate) fn codec(&self, coder: u8) -> Option<Arc<dyn Codec>> {
        if let Some(other) = self.others.get(usize::from(coder).wrapping_sub(1)) {
            return Some(Arc::clone(other));
        }
        if coder == COLD {
            return self.cold.clone();
        }
        self.table.read(|table| {
            let (_, codec) = table.iter().find(|(number, _)| *number == coder)?;
            codec.upgrade()
        })
    }

    /// The number that the next trained codec gets, if there are any left.
    pub(crate) fn next(&self) -> Option<u8> {
        let given = self.desk.lock().given;
        (usize::from(given) < CODERS).then_some(given)
    }

    /// Makes `codec`, for which so much was charged, the newest coder under the
    /// [`next`](Self::next) number.
    ///
    /// # Errors
    /// There is no memory for the new table. The newest coder is the one from before.
    pub(crate) fn adopt(&self, codec: &Arc<dyn Codec>, charged: usize) -> Result<(), Full> {
        let mut desk = self.desk.lock();
        let (number, codec) = (desk.given, Arc::clone(codec));
        desk.trained.push(Trained { number, codec, charged, idle: false });
        if let Err(full) = self.publish(&desk) {
            desk.trained.pop();
            return Err(full);
        }
        desk.given += 1;
        // Relaxed: who reads an old one compresses with the coder before.
        self.newest.store(number.into(), Ordering::Relaxed);
        Ok(())
    }

    /// Puts a table of what the desk has in the place of the old one.
    fn publish(&self, desk: &Desk) -> Result<(), Full> {
        let mut table = Table::new();
        table.try_reserve_exact(desk.trained.len()).map_err(|_| Full::NoMemory)?;
        let seen = |trained: &Trained| (trained.number, Arc::downgrade(&trained.codec));
        table.extend(desk.trained.iter().map(seen));
        let bytes = heap_cost(table.capacity() * size_of::<(u8, Weak<dyn Codec>)>());
        self.table.replace(table, bytes).map_err(|error| match error {
            AllocError::NoMemory => Full::NoMemory,
            _ => Full::Cap(Self::BYTES + bytes),
        })
    }

    /// Takes a coder off that nothing is left of. `dying`: objects that are freed and still read.
    pub(crate) fn expel(&self, dying: impl Fn() -> usize) -> Option<Trained> {
        let mut desk = self.desk.lock();
        if self.is_seen() {
            return None;
        }
        if desk.leaving.is_none() {
            let (_, older) = desk.trained.split_last_mut()?;
            let mut gone = None;
            for (at, trained) in older.iter_mut().enumerate() {
                let empty = self.alive(trained.number) == 0 && dying() == 0;
                if empty && trained.idle {
                    gone = Some(at);
                    break;
                }
                trained.idle = empty;
            }
            let at = gone?;
            let trained = desk.trained.remove(at);
            if self.publish(&desk).is_err() {
                desk.trained.insert(at, trained);
                return None;
            }
            desk.leaving = Some(trained);
            if self.is_seen() {
                return None;
            }
        }
        desk.leaving.take()
    }

    /// Whether a reader may have a table that was replaced.
    fn is_seen(&self) -> bool {
        self.table.collect() > 0 && !model_bug!(TablesUnawaited)
    }

    /// Trained coders, and what is charged for them.
    pub(crate) fn trained(&self) -> (usize, usize) {
        let desk = self.desk.lock();
        let all = || desk.trained.iter().chain(&desk.leaving);
        (all().count(), all().map(|trained| trained.charged).sum())
    }

    /// Bytes of the table, and of those that readers may still have.
    pub(crate) fn table_bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Waits until tables that were replaced have ended: for every reader from before, of any
    /// cache.
    pub(crate) fn settle(&self) {
        while self.table.collect() > 0 {
            pause();
        }
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
mod tests;
