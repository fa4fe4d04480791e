//! One size class under one lock: places objects, takes them back, grows and shrinks by zspages.
//!
//! Lock order: a class, then the leaves (the source's lock, zspage ids). No two classes at once. No
//! byte of an object is copied, no record dropped and no user code run under a class's lock.
//!
//! Invariants, under the lock: each zspage of the class is on its fullness list, or is the one that
//! `emptying` names; `inuse` is the sum over them, `room` the sum of what is left in those on lists.
//! The class is ripe if a zspage is being emptied, or if there is as much room as `least` says.
//! Otherwise none of the sparsest zspages (all, in a class of up to [`LOOKED`]) can be emptied.

use crate::error::AllocError;
use crate::fullness::Fullness;
use crate::geometry::Shape;
use crate::handle::{Pin, Place, Spent, Table};
use crate::ledger::Ledger;
use crate::ripe::Ripe;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, Plant, planted};
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
    lists: Fullness,
    /// The zspage that a compaction is emptying; it is on no list.
    emptying: u32,
    /// With less room than this a compaction gains nothing: the fewest slots of a zspage that was
    /// there at the last look in vain, or was built or got sparser since.
    least: u16,
    /// Whether a compaction may gain from the class, as others see it.
    ripe: bool,
    /// The shortest and the longest chain since the class last had no zspage.
    chains: (u16, u16),
    /// Slots in use; a class has fewer than 2^32, because handles do.
    inuse: u32,
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
}

impl Emptying {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }
}

/// The chains of a class that has none.
const NO_CHAIN: (u16, u16) = (u16::MAX, 0);

/// What a class holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ClassCounts {
    pub(crate) inuse: usize,
    pub(crate) zspages: usize,
    pub(crate) pages: usize,
    pub(crate) room: usize,
    pub(crate) groups: [usize; 16],
    /// The shortest and the longest chain since the class last had no zspage.
    pub(crate) chains: (u16, u16),
}

impl State {
    /// Takes a slot of `id`, which has one, for the handle `owner`.
    fn take<T>(&mut self, on: Ground<'_, T>, id: u32, owner: u32) -> Option<Place> {
        let (place, now) = on.zspages.place(&mut self.token, id, owner)?;
        self.lists.shift(on.zspages, &mut self.token, id, (now.inuse - 1, now));
        if now.inuse == 1 {
            // A look passes over empty zspages.
            self.least = self.least.min(now.objects);
        }
        self.inuse += 1;
        Some(place)
    }

    /// Gives a slot back. An emptied zspage stays on its list: see [`Class::sweep`].
    fn give<T>(&mut self, on: Ground<'_, T>, home: Home) -> u32 {
        let (id, now) = on.zspages.release(&mut self.token, home);
        if id != self.emptying
            && self.lists.shift(on.zspages, &mut self.token, id, (now.inuse + 1, now))
        {
            self.least = self.least.min(now.objects);
        }
        self.inuse -= 1;
        id
    }

    /// Whether a compaction is emptying a zspage; there is one at a time.
    fn busy(&self) -> bool {
        self.emptying != NONE && !planted(Plant::TwoMovers)
    }

    /// Notes whether a compaction may gain from the class, after all that changes it.
    #[inline]
    fn ripen<T>(&mut self, on: Ground<'_, T>) {
        let ripe = self.emptying != NONE || self.room >= usize::from(self.least);
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
            (self.least, self.chains) = (u16::MAX, NO_CHAIN);
        } else if self.zspages as usize == LOOKED {
            // From now on a look sees zspages that none saw before.
            self.least = 1;
        }
    }
}

impl Class {
    pub(crate) fn new(token: Token) -> Self {
        Self {
            state: Mutex::new(State {
                token,
                lists: Fullness::new(),
                emptying: NONE,
                least: u16::MAX,
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
        if on.zspages.has_pending(state.token.class()) && !planted(Plant::PendingForgotten) {
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
        if state.give(on, home) != state.emptying {
            self.set_room(state, on, state.room + 1);
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

    /// A slot in the fullest zspage that has one; the class does not grow.
    pub(crate) fn place<T>(&self, on: Ground<'_, T>, owner: u32) -> Option<Place> {
        let mut state = self.lock(on);
        self.place_locked(&mut state, on, owner)
    }

    fn place_locked<T>(&self, state: &mut State, on: Ground<'_, T>, owner: u32) -> Option<Place> {
        let id = state.lists.fullest()?;
        let place = state.take(on, id, owner)?;
        self.set_room(state, on, state.room - 1);
        Some(place)
    }

    /// A slot, in a new zspage of `shape` if none is free.
    ///
    /// # Errors
    /// None was free, and the new zspage had no memory.
    pub(crate) fn place_or_grow<T>(
        &self,
        on: Ground<'_, T>,
        owner: u32,
        shape: Shape,
    ) -> Result<Place, AllocError> {
        let mut state = self.lock(on);
        if let Some(place) = self.place_locked(&mut state, on, owner) {
            return Ok(place);
        }
        let id = on.zspages.build(&mut state.token, shape, on.ledger)?;
        let State { lists, token, .. } = &mut *state;
        lists.insert(on.zspages, token, id);
        state.zspages += 1;
        state.least = state.least.min(shape.objects);
        let (shortest, longest) = state.chains;
        state.chains = (shortest.min(shape.pages), longest.max(shape.pages));
        state.pages += u32::from(shape.pages);
        state.room += usize::from(shape.objects);
        // The new zspage has a free slot.
        self.place_locked(&mut state, on, owner).ok_or(AllocError::OutOfPages)
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

    /// Takes in what waits for this lock, if nobody holds it. Never waits: pages of a zspage that this
    /// empties are left to the next holder, because a source has a lock of its own.
    pub(crate) fn try_take_in<T>(&self, on: Ground<'_, T>) {
        let waits = planted(Plant::EndWaits);
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

    /// A zspage can be emptied when the free slots, its own not counted, hold its objects: when there
    /// are as many free slots in all as it has slots.
    fn sparse<T>(state: &mut State, on: Ground<'_, T>, tried: &[u32]) -> Option<(u32, Fill)> {
        let room = state.room;
        if room < usize::from(state.least) {
            return None;
        }
        let mut least = u16::MAX;
        for id in state.lists.sparsest_first(on.zspages, &state.token).take(LOOKED) {
            let fill = on.zspages.fill(&state.token, id);
            if room >= usize::from(fill.objects) && !tried.contains(&id) {
                return Some((id, fill));
            }
            least = least.min(fill.objects);
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
        Some(Emptying { id, slot: 0 })
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
            let Fill { inuse, objects, .. } = on.zspages.fill(&state.token, at.id);
            if at.slot >= objects || inuse == 0 {
                return None;
            }
            let owner = on.zspages.owner(&state.token, at.id, at.slot)?;
            let location = on.zspages.location(&state.token, at.id, at.slot);
            at.slot += 1;
            if !on.table.points(owner, location) && !planted(Plant::OwnerBelieved) {
                continue;
            }
            let to = self.place_locked(&mut state, on, owner)?;
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
        let Fill { inuse, objects, pages } = on.zspages.fill(&state.token, at.id);
        state.emptying = NONE;
        let State { lists, token, .. } = &mut *state;
        lists.insert(on.zspages, token, at.id);
        state.least = state.least.min(objects);
        let room = state.room + usize::from(objects - inuse);
        self.set_room(&mut state, on, room);
        self.sweep(&mut state, on);
        if inuse == 0 { usize::from(pages) } else { 0 }
    }

    pub(crate) fn counts<T>(&self, on: Ground<'_, T>) -> ClassCounts {
        let state = self.lock(on);
        ClassCounts {
            inuse: state.inuse as usize,
            zspages: state.zspages as usize,
            pages: state.pages as usize,
            room: state.room,
            groups: state.lists.counts(),
            chains: state.chains,
        }
    }

    /// Calls `f` with each zspage, under the lock, after asserting what the header of this file lists;
    /// returns the pages of them all.
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
            let Fill { inuse: used, objects, pages: chain } = on.zspages.fill(&state.token, id);
            inuse += u32::from(used);
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
        let ripe = state.emptying != NONE || room >= usize::from(state.least);
        assert_eq!(state.ripe, ripe, "ripe by {room} free slots");
        assert_eq!(on.ripe.has(state.token.class()), ripe, "a class is noted if it is ripe");
        let fills = state.lists.sparsest_first(on.zspages, &state.token);
        let fills = fills.map(|id| on.zspages.fill(&state.token, id));
        let mut gains = fills.map(|fill| room >= usize::from(fill.objects));
        assert!(
            ripe || zspages as usize > LOOKED || !gains.any(|gains| gains),
            "one can be emptied"
        );
        pages as usize
    }
}
