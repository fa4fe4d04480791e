//! Which scope has which slot.

use zpool::source::heap_cost;

use super::slot::{ENDED, FREE, LIVE, Slot, SlotNumber, UNLIMITED, UNNAMED};
use crate::sync::Ordering;

/// Names that one search for a slot without entries looks at.
const LOOKS: usize = 64;

/// A scope that has a slot, or a limit.
#[derive(Debug, Clone, Copy)]
struct Name {
    scope: u32,
    /// [`UNNAMED`]: it has none, since it ended with a limit and no slot was free.
    slot: SlotNumber,
    limit: u64,
}

#[derive(Debug)]
pub(super) struct Names {
    /// By scope. Those without a slot have had one, so they are no more than slots that have ended.
    list: Vec<Name>,
    free: Vec<SlotNumber>,
    /// Slots that have ended and are not empty, and where each of them stands here, by slot.
    ended: Vec<SlotNumber>,
    places: Box<[SlotNumber]>,
    /// Scopes with a limit that wait for a slot.
    waiting: usize,
    /// The name at which searches go on: for a slot without entries, for a scope without a slot.
    hand: usize,
}

impl Names {
    pub(super) const fn bytes(slots: usize) -> usize {
        heap_cost(slots * size_of::<Name>()) + 3 * heap_cost(slots * size_of::<SlotNumber>())
    }

    pub(super) fn new(slots: usize) -> Self {
        let mut free = Vec::with_capacity(slots);
        free.extend((1..slots).rev().map(|slot| slot as SlotNumber));
        Self {
            list: Vec::with_capacity(slots),
            free,
            ended: Vec::with_capacity(slots),
            places: vec![0; slots].into(),
            waiting: 0,
            hand: 0,
        }
    }

    fn place(&self, scope: u32) -> Result<usize, usize> {
        self.list.binary_search_by_key(&scope, |name| name.scope)
    }

    /// The slot of a scope and its limit.
    pub(super) fn find(&self, scope: u32) -> (SlotNumber, u64) {
        let name = self.place(scope).ok().map(|at| self.list[at]);
        name.map_or((UNNAMED, UNLIMITED), |name| (name.slot, name.limit))
    }

    /// The slot of a scope, which gets one if it has none and one is to be had.
    pub(super) fn slot(&mut self, scope: u32, slots: &[Slot]) -> SlotNumber {
        let (slot, limit) = self.find(scope);
        if slot != UNNAMED {
            return slot;
        }
        let Some(slot) = self.take(slots, LOOKS) else { return UNNAMED };
        self.give(scope, slot, limit, slots);
        slot
    }

    /// A scope without a slot gets one that was taken for it.
    fn give(&mut self, scope: u32, slot: SlotNumber, limit: u64, slots: &[Slot]) {
        slots[usize::from(slot)].start(limit);
        match self.place(scope) {
            Ok(at) => {
                self.list[at] = Name { scope, slot, limit };
                self.waiting -= 1;
            }
            Err(at) => self.list.insert(at, Name { scope, slot, limit }),
        }
    }

    /// A free slot, or that of a scope without entries and a limit, which a search finds that looks
    /// at so many names.
    fn take(&mut self, slots: &[Slot], looks: usize) -> Option<SlotNumber> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        for _ in 0..looks.min(self.list.len()) {
            self.hand = (self.hand + 1) % self.list.len();
            let name = self.list[self.hand];
            let slot = &slots[usize::from(name.slot)];
            if name.slot != UNNAMED && name.limit == UNLIMITED && slot.is_empty() {
                self.list.remove(self.hand);
                return Some(name.slot);
            }
        }
        None
    }

    /// A scope that ends: the slot that ends, if there is one. Its limit stays.
    pub(super) fn end(&mut self, scope: u32, slots: &[Slot]) -> Option<SlotNumber> {
        let at = self.place(scope).ok()?;
        let slot = self.vacate(at, slots);
        if self.list[at].limit == UNLIMITED {
            self.list.remove(at);
        }
        slot
    }

    /// The slot of the scope at this place of the list, if it has one, for who ends it. A scope
    /// with a limit gets another one, or keeps its own if that is empty.
    pub(super) fn vacate(&mut self, at: usize, slots: &[Slot]) -> Option<SlotNumber> {
        let Name { slot, limit, .. } = self.list[at];
        let seen = Some(&slots[usize::from(slot)]).filter(|_| slot != UNNAMED)?;
        let mut next = UNNAMED;
        if limit != UNLIMITED {
            next = if seen.is_empty() { slot } else { self.free.pop().unwrap_or(UNNAMED) };
            if next == UNNAMED {
                self.waiting += 1;
            } else {
                slots[usize::from(next)].start(limit);
            }
        }
        self.list[at].slot = next;
        (next != slot).then_some(slot)
    }

    /// Forgets the scopes that have neither a slot nor a limit.
    pub(super) fn forget_vacant(&mut self) {
        self.list.retain(|name| name.slot != UNNAMED || name.limit != UNLIMITED);
    }

    /// Notes that a slot has ended.
    pub(super) fn ended(&mut self, slot: SlotNumber) {
        self.places[usize::from(slot)] = self.ended.len() as SlotNumber;
        self.ended.push(slot);
    }

    pub(super) fn all_ended(&self) -> &[SlotNumber] {
        &self.ended
    }

    /// A slot that had ended is free. A scope with a limit that has none gets it.
    pub(super) fn free(&mut self, slot: SlotNumber, slots: &[Slot]) {
        let at = self.places[usize::from(slot)];
        self.ended.swap_remove(at.into());
        if let Some(moved) = self.ended.get(usize::from(at)) {
            self.places[usize::from(*moved)] = at;
        }
        if self.waiting == 0 {
            return self.free.push(slot);
        }
        // Round and round, so that one search does not pass those that the one before passed.
        let (from, all) = (self.hand, self.list.len());
        let mut next = (0..all).map(|nth| (from + nth) % all);
        let waits =
            |at: &usize| self.list[*at].slot == UNNAMED && self.list[*at].limit != UNLIMITED;
        self.hand = next.find(waits).expect("they are counted");
        let Name { scope, limit, .. } = self.list[self.hand];
        self.give(scope, slot, limit, slots);
    }

    /// Sets a scope's limit. A scope that gets one has a slot from then on, so that the limit is
    /// held. `false`: there is no slot for it.
    pub(super) fn set_limit(&mut self, scope: u32, limit: u64, slots: &[Slot]) -> bool {
        if let Ok(at) = self.place(scope) {
            let name = &mut self.list[at];
            let before = std::mem::replace(&mut name.limit, limit);
            if name.slot != UNNAMED {
                slots[usize::from(name.slot)].limit.store(limit, Ordering::Relaxed);
            } else if before != UNLIMITED && limit == UNLIMITED {
                self.waiting -= 1;
                self.list.remove(at);
            }
            return true;
        }
        if limit == UNLIMITED {
            return true;
        }
        let Some(slot) = self.take(slots, usize::MAX) else { return false };
        self.give(scope, slot, limit, slots);
        true
    }

    /// Names there are.
    pub(super) fn used(&self) -> usize {
        self.list.len()
    }

    /// Asserts that each slot is where its state says.
    pub(super) fn check(&self, slots: &[Slot]) {
        assert!(self.list.windows(2).all(|pair| pair[0].scope < pair[1].scope), "names have order");
        for (at, slot) in self.ended.iter().enumerate() {
            assert_eq!(usize::from(self.places[usize::from(*slot)]), at, "slot {slot}'s place");
        }
        let waiting = self.list.iter().filter(|name| name.slot == UNNAMED);
        assert_eq!(waiting.clone().count(), self.waiting, "scopes without slots are counted");
        assert!(waiting.clone().all(|name| name.limit != UNLIMITED), "they have limits");
        assert!(self.waiting == 0 || self.free.is_empty(), "a free slot is for who waits");
        let mut states = vec![None; slots.len()];
        states[usize::from(UNNAMED)] = Some(LIVE);
        let live = self.list.iter().map(|name| name.slot).filter(|slot| *slot != UNNAMED);
        let all = live.map(|slot| (slot, LIVE));
        let all = all.chain(self.free.iter().map(|slot| (*slot, FREE)));
        for (slot, state) in all.chain(self.ended.iter().map(|slot| (*slot, ENDED))) {
            let before = states[usize::from(slot)].replace(state);
            assert_eq!(before, None, "slot {slot} is in one place");
        }
        for (number, slot) in slots.iter().enumerate() {
            let state = slot.state.load(Ordering::Relaxed);
            assert_eq!(Some(state), states[number], "slot {number} is where its state says");
        }
    }
}
