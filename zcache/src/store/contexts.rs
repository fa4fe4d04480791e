//! Contexts of codecs, in places that are locked while one works.
//! ```text
//! place   lock | a context of each coder in use     as many as contexts may work at once
//! find    from the thread's own place on: a context of that coder, large enough, that is free
//! make    the lowest place that is free and that may have one more
//! wait    all busy: for the thread's own place. No memory for one more: for a place in use
//! ```
//! **No thread waits for ever.** The lock of a place is the loan of its contexts. It is held while
//! the codec works, which calls nobody. It is held while memory for a context or a buffer is taken
//! or given back, which waits for nobody. So only the codec's own code runs meanwhile, and a thread
//! has one place at a time. So no thread waits for one that waits. A codec that calls its own cache
//! would break this.
//!
//! **How many there may be.** A context of zstd takes some 0.2 to 1 MiB. So a herd of threads with
//! one each would fill a small cache. Place 0 may always have one, or nothing would work. There may
//! be as many others as processors, as long as contexts in all places up to theirs stay within a
//! [`SHARE`] of the capacity. Contexts that take no memory may be in every place.
//!
//! **Room for one more** than place 0's is no call's own business. A thread that finds none leaves
//! a wish, and waits for place 0. A wish is [taken up](Contexts::take_wish) after some later
//! operation, by one thread in some hundred operations. So a herd of threads does not evict the
//! same room many times, and none of them fails for want of a context of its own.
//!
//! The general-purpose allocator keeps the memory of contexts that come and go from many threads,
//! uncounted. So a context stays as long as it is needed now and then, and is dropped when it is
//! [idle](Clock::is_idle).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use zpool::source::heap_cost;

use super::charged::{Charged, Full};
use super::clock::{Clock, LOANS};
use crate::codec::{Codec, Context};
use crate::sync::{
    AtomicU32, AtomicUsize, Charge, Counter, Mutex, MutexGuard, Ordering, add, get, model_bug, sub,
    thread_number,
};

/// Contexts are made for pages of at least so many bytes.
const STEP: usize = 4096;
/// Contexts at work take at most the capacity divided by this, or there is only one of a coder.
const SHARE: usize = 8;
/// Coders that a place has contexts of: the cache's, that of cold entries, and a trained one.
const KINDS: usize = 3;
/// Steps of the clock in which one thread makes room for a whole context.
const TURN: u32 = 128;
/// What the others make room for meanwhile, where they need place 0's as well.
const PART: usize = 64 << 10;

/// A context, the number of the coder and the largest page that it was made for, and what was
/// charged for it: the codec may say something else the next time.
struct Made {
    coder: u8,
    size: usize,
    charged: usize,
    /// The step at which a page needed a context of this size.
    needed: u32,
    context: Box<dyn Context>,
}

/// On cache lines of its own: threads that start at different ones do not meet.
#[repr(align(64))]
struct Place(Mutex<Desk>);

struct Desk {
    kinds: [Option<Made>; KINDS],
    loans: u32,
}

pub(crate) struct Contexts {
    places: Box<[Place]>,
    /// Threads that can run at once.
    cores: usize,
    /// The lowest places, beyond which none had a context of late. A hint.
    reach: AtomicUsize,
    /// The largest size that a context was made for: new ones are for it, so that pages of several
    /// sizes do not have contexts made and dropped for ever. A hint.
    largest: AtomicUsize,
    /// The step at which a thread last went to make room for a whole context.
    turn: AtomicU32,
    /// Bytes of one more context, for which there was no room; 0: none is wished for.
    wish: AtomicUsize,
    /// Bytes of all contexts in places.
    bytes: Counter,
}

/// A context on loan; it is free again when this is dropped.
pub(crate) struct LentContext<'c, M: Charge> {
    contexts: &'c Contexts,
    memory: &'c M,
    desk: MutexGuard<'c, Desk>,
    kind: usize,
}

/// A context in no place, for a codec that has no number yet.
pub(crate) struct Loose<'m, M: Charge> {
    context: Box<dyn Context>,
    _charged: Charged<'m, M>,
}

/// What is wanted of a context.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'c> {
    pub(crate) len: usize,
    pub(crate) coder: u8,
    pub(crate) codec: &'c dyn Codec,
}

/// The largest page that a context is made for which is to work on pages of `len` bytes.
pub(crate) fn context_size(len: usize) -> usize {
    len.next_power_of_two().max(STEP)
}

/// The most that one thread's contexts hold at once for pages of up to `max_page` bytes: one, and
/// the smaller one that it takes the place of.
pub(crate) fn context_bytes(max_page: usize, codec: &dyn Codec) -> usize {
    let size = context_size(max_page);
    let smaller = if size > STEP { codec.context_bytes(size / 2) } else { 0 };
    codec.context_bytes(size).saturating_add(smaller)
}

impl Made {
    /// Whether pages of late, of which one has `len` bytes, would do with a smaller one.
    #[inline]
    fn is_outgrown(&self, len: usize, clock: &Clock) -> bool {
        context_size(len) < self.size && clock.is_idle(self.needed)
    }
}

impl Desk {
    /// A context of `coder` for pages of `len` bytes.
    #[inline]
    fn position(&self, len: usize, coder: u8) -> Option<usize> {
        let suits = |made: &Option<Made>| {
            made.as_ref().is_some_and(|made| made.coder == coder && made.size >= len)
        };
        self.kinds.iter().position(suits)
    }

    /// Where a new context of `coder` goes: on that coder's, which is too small, or where there is
    /// none, or on the one that was not needed for the longest time.
    fn vacancy(&self, coder: u8, now: u32) -> usize {
        let age = |made: &Option<Made>| match made {
            Some(made) if made.coder == coder => (2, 0),
            Some(made) => (0, now.wrapping_sub(made.needed)),
            None => (1, 0),
        };
        (0..KINDS).max_by_key(|kind| age(&self.kinds[*kind])).unwrap_or(0)
    }

    fn charged(&self) -> usize {
        self.kinds.iter().flatten().map(|made| made.charged).sum()
    }
}

impl Contexts {
    /// Places, and the number of threads that can run at once.
    pub(crate) fn new(places: usize, cores: usize) -> Self {
        let desk = |_| Desk { kinds: [const { None }; KINDS], loans: 0 };
        Self {
            places: (0..places).map(desk).map(|desk| Place(Mutex::new(desk))).collect(),
            cores,
            reach: AtomicUsize::new(0),
            largest: AtomicUsize::new(0),
            turn: AtomicU32::new(0_u32.wrapping_sub(TURN)),
            wish: AtomicUsize::new(0),
            bytes: Counter::new(0),
        }
    }

    pub(crate) const fn fixed_bytes(places: usize) -> usize {
        heap_cost(places * size_of::<Place>() + 64)
    }

    /// A context that is there and that nobody has.
    #[inline]
    pub(crate) fn find<'c, M: Charge>(
        &'c self,
        len: usize,
        coder: u8,
        clock: &Clock,
        memory: &'c M,
    ) -> Option<LentContext<'c, M>> {
        let reach = self.reach.load(Ordering::Relaxed).clamp(1, self.places.len());
        let home = thread_number() % reach;
        let mut at = home;
        loop {
            if let Some(desk) = self.places[at].0.try_lock() {
                if let Some(kind) = desk.position(len, coder) {
                    return self.lend_or_drop(desk, kind, len, clock, memory);
                }
            }
            at = if at + 1 == reach { 0 } else { at + 1 };
            if at == home {
                return None;
            }
        }
    }

    /// Lends a context that suits, unless it is too large for all pages of late: then it goes.
    /// Here, since its place is locked whenever others are looked through.
    #[inline]
    fn lend_or_drop<'c, M: Charge>(
        &'c self,
        mut desk: MutexGuard<'c, Desk>,
        kind: usize,
        len: usize,
        clock: &Clock,
        memory: &'c M,
    ) -> Option<LentContext<'c, M>> {
        if let Some(made) = desk.kinds[kind].take_if(|made| made.is_outgrown(len, clock)) {
            self.largest.store(0, Ordering::Relaxed);
            self.discard(made, memory);
            return None;
        }
        Some(self.lend(desk, kind, len, clock, memory))
    }

    #[inline]
    fn lend<'c, M: Charge>(
        &'c self,
        mut desk: MutexGuard<'c, Desk>,
        kind: usize,
        len: usize,
        clock: &Clock,
        memory: &'c M,
    ) -> LentContext<'c, M> {
        if let Some(made) = &mut desk.kinds[kind] {
            if context_size(len) >= made.size {
                made.needed = clock.now();
            }
        }
        desk.loans = desk.loans.wrapping_add(1);
        let full = desk.loans % LOANS == 0;
        let lent = LentContext { contexts: self, memory, desk, kind };
        if full {
            clock.loans();
            // Not the caller's own, which is locked.
            self.drop_idle(clock, memory);
        }
        lent
    }

    /// How many places may have contexts of `bytes` bytes each.
    fn most(&self, bytes: usize, capacity: usize) -> usize {
        match (capacity / SHARE).checked_div(bytes) {
            Some(fit) => fit.min(self.cores).clamp(1, self.places.len()),
            None => self.places.len(),
        }
    }

    /// A context that nobody has, or a new one; waits where there may be no more.
    ///
    /// # Errors
    /// There is no room for one, and none to wait for.
    #[cold]
    pub(crate) fn find_or_make<'c, M: Charge>(
        &'c self,
        wanted: Wanted<'_>,
        clock: &Clock,
        capacity: usize,
        memory: &'c M,
    ) -> Result<LentContext<'c, M>, Full> {
        let Wanted { len, coder, codec } = wanted;
        let size = context_size(len);
        // Relaxed: a hint, of which an old value costs a context at most.
        let size = size.max(self.largest.fetch_max(size, Ordering::Relaxed));
        let bytes = codec.context_bytes(size);
        let mut vacant = None;
        // The first context of all is place 0's, so that there is one to wait for.
        let places = if self.reach.load(Ordering::Relaxed) == 0 { 1 } else { self.places.len() };
        for (at, place) in self.places[..places].iter().enumerate() {
            let Some(desk) = place.0.try_lock() else { continue };
            if let Some(kind) = desk.position(len, coder) {
                self.reach.fetch_max(at + 1, Ordering::Relaxed);
                return Ok(self.lend(desk, kind, len, clock, memory));
            }
            let after = bytes.saturating_add(desk.charged());
            if vacant.is_none() && (at == 0 || at < self.most(after, capacity)) {
                vacant = Some((at, desk));
            }
        }
        let mut at = thread_number() % self.most(bytes, capacity).min(places);
        if let Some((vacant, desk)) = vacant {
            match self.make((vacant, desk), size, wanted, bytes, clock, memory) {
                Ok(lent) => return Ok(lent),
                // Place 0's context went while that of a higher place stayed in use.
                Err(_) if vacant == 0 => at = self.reach.load(Ordering::Relaxed).saturating_sub(1),
                Err(_) => {
                    // Relaxed: the bytes of whichever wish came last are as good as the others'.
                    self.wish.store(bytes, Ordering::Relaxed);
                    at = 0;
                }
            }
        }
        let desk = if model_bug!(NotAwaited) {
            self.places[at].0.try_lock().ok_or(Full::Cap(bytes))?
        } else {
            self.places[at].0.lock()
        };
        match desk.position(len, coder) {
            Some(kind) => Ok(self.lend(desk, kind, len, clock, memory)),
            None => {
                self.make((at, desk), size, wanted, bytes, clock, memory).map_err(|full| match full
                {
                    Full::Cap(_) => self.lack(bytes, clock, capacity),
                    Full::NoMemory => full,
                })
            }
        }
    }

    /// What a thread without any context makes room for.
    fn lack(&self, bytes: usize, clock: &Clock, capacity: usize) -> Full {
        // No room is made for more than the capacity: the caller has to see that.
        let whole = bytes > capacity || self.takes_turn(clock);
        Full::Cap(if whole { bytes } else { bytes.min(PART) })
    }

    /// Whether it is this thread that makes room for a whole context.
    fn takes_turn(&self, clock: &Clock) -> bool {
        // Relaxed: two threads that both make room evict more than they need, and that is all.
        let (now, last) = (clock.now(), self.turn.load(Ordering::Relaxed));
        let due = now.wrapping_sub(last) >= TURN;
        let turn = &self.turn;
        due && turn.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Bytes that somebody wished for and that the calling thread is to make room for. It may have
    /// no context out.
    #[inline]
    pub(crate) fn take_wish(&self, clock: &Clock) -> Option<usize> {
        let wished = self.wish.load(Ordering::Relaxed) != 0 && self.takes_turn(clock);
        wished.then(|| self.wish.swap(0, Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// A new context on a desk.
    fn make<'c, M: Charge>(
        &'c self,
        (at, mut desk): (usize, MutexGuard<'c, Desk>),
        size: usize,
        wanted: Wanted<'_>,
        bytes: usize,
        clock: &Clock,
        memory: &'c M,
    ) -> Result<LentContext<'c, M>, Full> {
        let charged = Charged::new(memory, bytes)?;
        let kind = desk.vacancy(wanted.coder, clock.now());
        // The one that was there goes once there is room for both, since a hook that is called
        // while room is made may need it; and before the new one is there, or the general-purpose
        // allocator would be left with a hole under it, that nobody counts.
        if let Some(before) = desk.kinds[kind].take() {
            self.discard(before, memory);
        }
        let context = wanted.codec.context(size).map_err(|_| Full::NoMemory)?;
        let charged = charged.keep();
        add(&self.bytes, charged as u64);
        let needed = clock.now();
        desk.kinds[kind] = Some(Made { coder: wanted.coder, size, charged, needed, context });
        self.reach.fetch_max(at + 1, Ordering::Relaxed);
        Ok(self.lend(desk, kind, wanted.len, clock, memory))
    }

    /// A context in no place.
    ///
    /// # Errors
    /// No room for it.
    pub(crate) fn make_loose<'m, M: Charge>(
        len: usize,
        codec: &dyn Codec,
        memory: &'m M,
    ) -> Result<Loose<'m, M>, Full> {
        let size = context_size(len);
        let charged = Charged::new(memory, codec.context_bytes(size))?;
        let context = codec.context(size).map_err(|_| Full::NoMemory)?;
        Ok(Loose { context, _charged: charged })
    }

    fn discard(&self, made: Made, memory: &impl Charge) {
        let Made { charged, context, .. } = made;
        sub(&self.bytes, charged as u64);
        // Released after the drop, which is the codec's code and may panic.
        let _charged = Charged::of(memory, charged);
        drop(context);
    }

    /// Drops, of contexts that nobody has, those that `goes` picks: by their place, and what that
    /// has charged.
    fn drop_where<M: Charge>(&self, memory: &M, goes: impl Fn(usize, usize, &Made) -> bool) {
        let mut reach = 0;
        for (at, place) in self.places.iter().enumerate() {
            let Some(mut desk) = place.0.try_lock() else {
                reach = at + 1;
                continue;
            };
            for kind in 0..KINDS {
                let charged = desk.charged();
                let made = desk.kinds[kind].take_if(|made| goes(at, charged, made));
                if let Some(made) = made {
                    // Relaxed: a hint. The next page that is larger than all others sets it anew.
                    self.largest.store(0, Ordering::Relaxed);
                    self.discard(made, memory);
                }
            }
            if desk.kinds.iter().any(Option::is_some) {
                reach = at + 1;
            }
        }
        self.reach.store(reach, Ordering::Relaxed);
    }

    /// Drops what no page needed of late.
    pub(crate) fn drop_idle(&self, clock: &Clock, memory: &impl Charge) {
        self.drop_where(memory, |_, _, made| clock.is_idle(made.needed));
    }

    /// Drops what the capacity allows no longer.
    pub(crate) fn fit(&self, capacity: usize, memory: &impl Charge) {
        self.drop_where(memory, |at, charged, _| at > 0 && at >= self.most(charged, capacity));
    }

    /// Drops the contexts that nobody has.
    pub(crate) fn trim(&self, memory: &impl Charge) {
        self.drop_where(memory, |_, _, _| true);
    }

    /// Drops the contexts of `coder`, with which nobody works any more.
    pub(crate) fn purge(&self, coder: u8, memory: &impl Charge) {
        for place in &self.places {
            // Whoever has the place works with another coder, and gives it back soon.
            let mut desk = place.0.lock();
            for kind in &mut desk.kinds {
                if let Some(made) = kind.take_if(|made| made.coder == coder) {
                    self.discard(made, memory);
                }
            }
        }
    }

    /// Bytes of all contexts, of those at work as well.
    pub(crate) fn bytes(&self) -> usize {
        get(&self.bytes) as usize
    }

    /// The same, counted anew; nobody may be at work.
    pub(crate) fn counted_bytes(&self) -> usize {
        self.places.iter().map(|place| place.0.lock().charged()).sum()
    }
}

impl<M: Charge> LentContext<'_, M> {
    #[inline]
    pub(crate) fn get(&mut self) -> &mut dyn Context {
        let made = self.desk.kinds[self.kind].as_mut();
        &mut *made.expect("there as long as its place is locked").context
    }
}

impl<M: Charge> Drop for LentContext<'_, M> {
    #[inline]
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Whoever panicked may have left the context half way. A second panic would end the
            // process: that of its drop is swallowed.
            if let Some(made) = self.desk.kinds[self.kind].take() {
                let discard = || self.contexts.discard(made, self.memory);
                let _ = catch_unwind(AssertUnwindSafe(discard));
            }
        }
    }
}

impl<M: Charge> Loose<'_, M> {
    pub(crate) fn get(&mut self) -> &mut dyn Context {
        &mut *self.context
    }
}

impl fmt::Debug for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contexts").field("places", &self.places.len()).finish_non_exhaustive()
    }
}

impl<M: Charge> fmt::Debug for LentContext<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LentContext").finish_non_exhaustive()
    }
}
