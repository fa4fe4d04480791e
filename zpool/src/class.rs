//! One size class under one lock: places objects, takes them back, grows and shrinks by zspages.
//! The mixed class counts grains where others count slots.
//!
//! Lock order: a class, then the leaves (the source's lock, zspage ids). No two classes at once. No
//! byte of an object is copied, no record dropped and no user code run under a class's lock.
//!
//! Invariants, under the lock:
//!
//! - Each zspage of the class is on its fullness list, or is the one that `emptying` names.
//! - `inuse` is the sum over them, `room` the sum of what is left in those on lists.
//! - The class is ripe if a zspage is being emptied, or if there is as much room as `least` says.
//!   Otherwise none of the sparsest zspages (all, in a class of up to [`LOOKED`]) can be emptied.
//!
//! In the mixed class only a try shows whether a zspage can be emptied: gaps may be too short for
//! an object. The try moves the objects that fit elsewhere, so that gaps add up. It is not repeated
//! before more came free. An object moves only to a zspage with no less in use than the one that it
//! leaves. So the sum of the squares of what is in use grows by each move, and no object moves in
//! circles.

use crate::error::AllocError;
use crate::fullness::Fullness;
use crate::geometry::Shape;
use crate::handle::{Pin, Place, Spent, Table};
use crate::ledger::Ledger;
use crate::ripe::Ripe;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, model_bug};
use crate::zspage::{Fill, Home, NONE, Token, Zspages};

/// What every operation on a class works with.
#[derive(Debug)]
pub(crate) struct Ground<'p, T> {
    pub(crate) zspages: &'p Zspages,
    pub(crate) table: &'p Table<T>,
    pub(crate) ledger: &'p Ledger,
    pub(crate) ripe: &'p Ripe,
}

impl<T> Clone for Ground<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Ground<'_, T> {}

#[derive(Debug)]
struct State {
    token: Token,
    /// Whether its zspages are mixed.
    mixed: bool,
    lists: Fullness,
    /// The zspage that a compaction is emptying; it is on no list.
    emptying: u32,
    /// With less room than this a compaction gains nothing: the fewest slots of a zspage that was
    /// there at the last look in vain, or was built or got sparser since.
    least: usize,
    /// Grains that have to come free before a mixed zspage is tried to be emptied again.
    rest: usize,
    /// Whether a compaction may gain from the class, as others see it.
    ripe: bool,
    /// The shortest and the longest chain since the class last had no zspage.
    chains: (u16, u16),
    /// Places handed out; a class has fewer than 2^32, because handles do.
    objects: u32,
    /// Slots in use.
    inuse: usize,
    /// Free slots in zspages on lists.
    room: usize,
    zspages: u32,
    pages: u32,
}

#[derive(Debug)]
pub(crate) struct Class {
    state: Mutex<State>,
    /// The room, for a look without the lock.
    room: AtomicUsize,
}

/// What a compaction can do for a class.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Prospect {
    /// The free slots do not add up to a zspage.
    Nothing,
    /// Another compaction is at it.
    Busy,
    /// Emptying a zspage moves `inuse` objects and frees `pages` pages.
    Gain { pages: u16, inuse: u16 },
}

/// Zspages looked at for one that can be emptied. More than one has to be where chains of several
/// lengths meet in a class, or objects are held.
const LOOKED: usize = 128;

/// A zspage that a compaction is emptying, and how far it has come.
#[derive(Debug)]
pub(crate) struct Emptying {
    id: u32,
    slot: u16,
    /// Whether it was tried to move each object.
    tried: bool,
    /// Whether one of them found no gap.
    cramped: bool,
}

impl Emptying {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }
}

/// Who takes a place, and how much of it: so many grains of a mixed zspage, or 1 slot.
pub(crate) type Claim = (u32, u16);

/// A mixed zspage that could not be emptied is tried again when its size by this has come free.
const PATIENCE: usize = 4;
/// Free grains of mixed zspages that are worth the work of moving objects together.
const GAINFUL: usize = 256;

/// The chains of a class that has none.
const NO_CHAIN: (u16, u16) = (u16::MAX, 0);

/// What a class holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ClassCounts {
    pub(crate) objects: usize,
    pub(crate) inuse: usize,
    pub(crate) zspages: usize,
    pub(crate) pages: usize,
    pub(crate) room: usize,
    pub(crate) groups: [usize; 16],
    /// The shortest and the longest chain since the class last had no zspage.
    pub(crate) chains: (u16, u16),
}

impl State {
    /// Takes a slot of `id` for the handle `owner`, or as many grains of a mixed zspage, which has
    /// them.
    fn take<T>(&mut self, on: Ground<'_, T>, id: u32, (owner, grains): Claim) -> Option<Place> {
        let (place, (before, now)) = on.zspages.place(&mut self.token, id, owner, grains)?;
        self.lists.shift(on.zspages, &mut self.token, id, (before, now));
        if before.inuse == 0 {
            // A look passes over empty zspages.
            self.least = self.least.min(now.objects.into());
        }
        self.objects += 1;
        self.inuse += usize::from(grains);
        Some(place)
    }

    /// Gives a place back; says how much that makes free for others. An emptied zspage stays on its
    /// list: see [`Class::sweep`].
    fn give<T>(&mut self, on: Ground<'_, T>, home: Home) -> usize {
        let (id, (before, now)) = on.zspages.release(&mut self.token, home);
        let given = usize::from(before.inuse - now.inuse);
        self.objects -= 1;
        self.inuse -= given;
        self.rest = self.rest.saturating_sub(given);
        if id == self.emptying {
            return 0;
        }
        if self.lists.shift(on.zspages, &mut self.token, id, (before, now)) {
            self.least = self.least.min(now.objects.into());
        }
        given
    }

    /// A zspage with a free slot, or with a gap of so many grains and no less than `least` in use.
    fn open<T>(&self, on: Ground<'_, T>, grains: u16, least: u16) -> Option<u32> {
        if self.mixed {
            self.lists.holding(on.zspages, &self.token, grains, least)
        } else {
            self.lists.fullest()
        }
    }

    /// Whether a compaction is emptying a zspage; there is one at a time.
    fn busy(&self) -> bool {
        self.emptying != NONE && !model_bug!(TwoMovers)
    }

    /// Whether there may be a zspage that can be emptied.
    #[inline]
    fn gains(&self) -> bool {
        if self.mixed {
            self.zspages > 1 && self.room >= GAINFUL && (self.rest == 0 || self.room >= self.inuse)
        } else {
            self.room >= self.least
        }
    }

    /// Notes whether a compaction may gain from the class, after all that changes it.
    #[inline]
    fn ripen<T>(&mut self, on: Ground<'_, T>) {
        let ripe = self.emptying != NONE || self.gains();
        if ripe != self.ripe {
            self.ripe = ripe;
            on.ripe.set(self.token.class(), ripe);
        }
    }

    fn drop_zspage<T>(&mut self, on: Ground<'_, T>, id: u32, pages: u16) {
        on.zspages.dismantle(&mut self.token, id, on.ledger);
        self.zspages -= 1;
        self.pages -= u32::from(pages);
        if self.zspages == 0 {
            (self.least, self.chains) = (usize::MAX, NO_CHAIN);
        } else if self.zspages as usize == LOOKED {
            // From now on a look sees zspages that none saw before.
            self.least = 1;
        }
    }
}

impl Class {
    /// A class without zspages.
    pub(crate) fn new(token: Token, mixed: bool) -> Self {
        Self {
            state: Mutex::new(State {
                token,
                mixed,
                objects: 0,
                lists: Fullness::new(),
                emptying: NONE,
                least: usize::MAX,
                rest: 0,
                ripe: false,
                chains: NO_CHAIN,
                inuse: 0,
                room: 0,
                zspages: 0,
                pages: 0,
            }),
            room: AtomicUsize::new(0),
        }
    }

    /// Locks the class and takes in what was left to the lock's next holder.
    fn lock<T>(&self, on: Ground<'_, T>) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        self.take_in(&mut state, on);
        state
    }

    #[inline]
    fn take_in<T>(&self, state: &mut State, on: Ground<'_, T>) {
        if on.zspages.has_pending(state.token.class()) && !model_bug!(PendingForgotten) {
            self.take_in_pending(state, on);
        }
    }

    #[cold]
    fn take_in_pending<T>(&self, state: &mut State, on: Ground<'_, T>) {
        for ended in on.zspages.resume(&state.token, on.table) {
            let (place, slot) = ended.split();
            if let Some(place) = place {
                self.give(state, on, on.zspages.home(place));
            }
            on.table.recycle(slot, on.ledger);
        }
    }

    fn give<T>(&self, state: &mut State, on: Ground<'_, T>, home: Home) {
        let given = state.give(on, home);
        if given > 0 {
            self.set_room(state, on, state.room + given);
        }
    }

    fn set_room<T>(&self, state: &mut State, on: Ground<'_, T>, room: usize) {
        state.room = room;
        self.room.store(room, Ordering::Relaxed);
        state.ripen(on);
    }

    /// Gives the pages of empty zspages back to the source.
    fn sweep<T>(&self, state: &mut State, on: Ground<'_, T>) {
        while let Some(id) = state.lists.empty() {
            let Fill { objects, pages, .. } = on.zspages.fill(&state.token, id);
            state.lists.remove(on.zspages, &mut state.token, id);
            state.drop_zspage(on, id, pages);
            self.set_room(state, on, state.room - usize::from(objects));
        }
    }

    /// Whether a slot seems to be free, or about to be.
    pub(crate) fn has_room(&self) -> bool {
        self.room.load(Ordering::Relaxed) != 0
    }

    /// A place for `owner` of so many grains, or a slot, in the fullest zspage that has one; the
    /// class does not grow.
    pub(crate) fn place<T>(&self, on: Ground<'_, T>, (owner, grains): Claim) -> Option<Place> {
        let mut state = self.lock(on);
        self.place_locked(&mut state, on, (owner, grains))
    }

    fn place_locked<T>(&self, state: &mut State, on: Ground<'_, T>, claim: Claim) -> Option<Place> {
        self.place_above(state, on, claim, 0)
    }

    /// The same, in mixed zspages with no less than `least` in use.
    fn place_above<T>(
        &self,
        state: &mut State,
        on: Ground<'_, T>,
        claim: Claim,
        least: u16,
    ) -> Option<Place> {
        let id = state.open(on, claim.1, least)?;
        self.take(state, on, id, claim)
    }

    fn take<T>(
        &self,
        state: &mut State,
        on: Ground<'_, T>,
        id: u32,
        claim: Claim,
    ) -> Option<Place> {
        let place = state.take(on, id, claim)?;
        self.set_room(state, on, state.room - usize::from(claim.1));
        Some(place)
    }

    /// A slot, in a new zspage of `shape` if none is free.
    ///
    /// # Errors
    /// None was free, and the new zspage had no memory.
    pub(crate) fn place_or_grow<T>(
        &self,
        on: Ground<'_, T>,
        claim: Claim,
        shape: Shape,
    ) -> Result<Place, AllocError> {
        let mut state = self.lock(on);
        if let Some(place) = self.place_locked(&mut state, on, claim) {
            return Ok(place);
        }
        let id = on.zspages.build(&mut state.token, shape, on.ledger)?;
        let State { lists, token, .. } = &mut *state;
        lists.insert(on.zspages, token, id);
        state.zspages += 1;
        state.least = state.least.min(shape.objects.into());
        let (shortest, longest) = state.chains;
        state.chains = (shortest.min(shape.pages), longest.max(shape.pages));
        state.pages += u32::from(shape.pages);
        state.room += usize::from(shape.objects);
        // The new zspage has room for it.
        self.take(&mut state, on, id, claim).ok_or(AllocError::OutOfPages)
    }

    /// Takes back a place, and the slot of its handle if that ended too.
    pub(crate) fn release<T>(&self, on: Ground<'_, T>, home: Home, slot: Option<Spent>) {
        let mut state = self.lock(on);
        self.give(&mut state, on, home);
        if let Some(slot) = slot {
            on.table.recycle(slot, on.ledger);
        }
        self.sweep(&mut state, on);
    }

    /// Takes in what waits for this lock, if nobody holds it. Never waits: pages of a zspage that
    /// this empties are left to the next holder, because a source has a lock of its own.
    pub(crate) fn try_take_in<T>(&self, on: Ground<'_, T>) {
        let waits = model_bug!(EndWaits);
        let state = if waits { Some(self.state.lock()) } else { self.state.try_lock() };
        if let Some(mut state) = state {
            self.take_in(&mut state, on);
        }
    }

    /// Runs `f` under the lock, for models.
    #[cfg(all(test, zcache_loom))]
    pub(crate) fn locked<R>(&self, f: impl FnOnce() -> R) -> R {
        let _state = self.state.lock();
        f()
    }

    /// Takes in what waits and gives the pages of empty zspages back.
    pub(crate) fn tidy<T>(&self, on: Ground<'_, T>) {
        let mut state = self.lock(on);
        self.sweep(&mut state, on);
    }

    /// What emptying a zspage of this class would free, the sparsest first, but those in `tried`.
    pub(crate) fn prospect<T>(&self, on: Ground<'_, T>, tried: &[u32]) -> Prospect {
        let mut state = self.state.lock();
        if state.busy() {
            return Prospect::Busy;
        }
        match Self::sparse(&mut state, on, tried) {
            Some((_, Fill { pages, inuse, .. })) => Prospect::Gain { pages, inuse },
            None => Prospect::Nothing,
        }
    }

    /// A zspage can be emptied when the free slots, its own not counted, hold its objects: when
    /// there are as many free slots in all as it has slots.
    fn sparse<T>(state: &mut State, on: Ground<'_, T>, tried: &[u32]) -> Option<(u32, Fill)> {
        let room = state.room;
        if !state.gains() {
            return None;
        }
        if state.mixed {
            let all = state.lists.sparsest_first(on.zspages, &state.token).take(LOOKED);
            let untried = all.filter(|id| !tried.contains(id));
            let fills = untried.map(|id| (id, on.zspages.fill(&state.token, id)));
            return fills.min_by_key(|(_, fill)| fill.inuse);
        }
        let mut least = usize::MAX;
        for id in state.lists.sparsest_first(on.zspages, &state.token).take(LOOKED) {
            let fill = on.zspages.fill(&state.token, id);
            if (state.mixed || room >= usize::from(fill.objects)) && !tried.contains(&id) {
                return Some((id, fill));
            }
            least = least.min(fill.objects.into());
        }
        state.least = least;
        state.ripen(on);
        None
    }

    /// Takes the sparsest zspage that is not in `tried` off its list, to be emptied. One at a time.
    pub(crate) fn begin<T>(&self, on: Ground<'_, T>, tried: &[u32]) -> Option<Emptying> {
        let mut state = self.lock(on);
        self.sweep(&mut state, on);
        if state.busy() {
            return None;
        }
        let (id, Fill { inuse, objects, .. }) = Self::sparse(&mut state, on, tried)?;
        let State { lists, token, .. } = &mut *state;
        lists.remove(on.zspages, token, id);
        state.emptying = id;
        let room = state.room - usize::from(objects - inuse);
        self.set_room(&mut state, on, room);
        Some(Emptying { id, slot: 0, tried: false, cramped: false })
    }

    /// The next object to move out of the zspage that is being emptied: a pin on it, and
    /// a place for it elsewhere in the class. Skips what is not live, not here or held.
    pub(crate) fn next<'p, T>(
        &self,
        on: Ground<'p, T>,
        at: &mut Emptying,
    ) -> Option<(Pin<'p, T>, Place)> {
        let mut state = self.lock(on);
        loop {
            let inuse = on.zspages.fill(&state.token, at.id).inuse;
            if at.slot >= on.zspages.slots(&state.token, at.id) || inuse == 0 {
                at.tried = true;
                return None;
            }
            let grains = on.zspages.grains_at(&state.token, at.id, at.slot);
            if grains == 0 {
                at.slot += 1;
                continue;
            }
            let owner = on.zspages.owner(&state.token, at.id, at.slot)?;
            let location = on.zspages.location(&state.token, at.id, at.slot);
            at.slot += 1;
            if !on.table.points(owner, location) && !model_bug!(OwnerBelieved) {
                continue;
            }
            let Some(to) = self.place_above(&mut state, on, (owner, grains), inuse) else {
                if state.mixed {
                    at.cramped = true;
                    continue; // a shorter one may fit
                }
                return None;
            };
            match on.table.pin_at(owner, location) {
                Some(pin) => return Some((pin, to)),
                None => self.give(&mut state, on, on.zspages.home(to)),
            };
        }
    }

    /// Puts the zspage back where its fill says, or gives its pages back when it is empty; says how
    /// many those were.
    pub(crate) fn end<T>(&self, on: Ground<'_, T>, at: Emptying) -> usize {
        let mut state = self.lock(on);
        let Fill { inuse, objects, pages, .. } = on.zspages.fill(&state.token, at.id);
        state.emptying = NONE;
        let State { lists, token, .. } = &mut *state;
        lists.insert(on.zspages, token, at.id);
        let room = state.room + usize::from(objects - inuse);
        state.least = state.least.min(objects.into());
        // What is held keeps its own zspage, and those behind it are tried.
        if state.mixed && at.tried && at.cramped && inuse > 0 {
            state.rest = usize::from(objects) / PATIENCE;
        }
        self.set_room(&mut state, on, room);
        self.sweep(&mut state, on);
        if inuse == 0 { usize::from(pages) } else { 0 }
    }

    pub(crate) fn counts<T>(&self, on: Ground<'_, T>) -> ClassCounts {
        let state = self.lock(on);
        ClassCounts {
            objects: state.objects as usize,
            inuse: state.inuse,
            zspages: state.zspages as usize,
            pages: state.pages as usize,
            room: state.room,
            groups: state.lists.counts(),
            chains: state.chains,
        }
    }

    /// Calls `f` with each zspage, under the lock, after asserting what the header of this file
    /// lists; returns the pages of them all.
    pub(crate) fn check<T>(
        &self,
        on: Ground<'_, T>,
        mut f: impl FnMut(&Zspages, &Token, u32),
    ) -> usize {
        let state = self.lock(on);
        state.lists.check(on.zspages, &state.token);
        let (mut inuse, mut room, mut pages, mut zspages) = (0, 0, 0_u32, 0);
        let listed = state.lists.all(on.zspages, &state.token).map(|(id, right)| (id, right, true));
        let emptying = (state.emptying != NONE).then_some((state.emptying, true, false));
        for (id, right, listed) in listed.chain(emptying) {
            assert!(right, "zspage {id} is on the list that its inuse names");
            let Fill { inuse: used, objects, pages: chain, .. } = on.zspages.fill(&state.token, id);
            inuse += usize::from(used);
            room += if listed { usize::from(objects - used) } else { 0 };
            let (shortest, longest) = state.chains;
            assert!((shortest..=longest).contains(&chain), "zspage {id}'s chain is accounted for");
            pages += u32::from(chain);
            zspages += 1;
            f(on.zspages, &state.token, id);
        }
        assert_eq!((state.inuse, state.pages, state.zspages), (inuse, pages, zspages));
        assert_eq!(state.room, room, "free slots on lists");
        assert_eq!(self.room.load(Ordering::Relaxed), room, "as seen without the lock");
        let ripe = state.emptying != NONE || state.gains();
        assert_eq!(state.ripe, ripe, "ripe by {room} free slots");
        assert_eq!(on.ripe.has(state.token.class()), ripe, "a class is noted if it is ripe");
        let fills = state.lists.sparsest_first(on.zspages, &state.token);
        let fills = fills.map(|id| on.zspages.fill(&state.token, id));
        let mut gains = fills.map(|fill| room >= usize::from(fill.objects));
        assert!(
            ripe || state.mixed || zspages as usize > LOOKED || !gains.any(|gains| gains),
            "one can be emptied"
        );
        pages as usize
    }
}
