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
    /// [`UNNAMED`]: it has none.
    slot: SlotNumber,
    limit: u64,
}

#[derive(Debug)]
pub(super) struct Names {
    /// By scope.
    list: Vec<Name>,
    free: Vec<SlotNumber>,
    /// Slots that have ended and are not empty.
    ended: Vec<SlotNumber>,
    /// Names there can be.
    most: usize,
    /// The name at which the search for a slot without entries goes on.
    hand: usize,
}

impl Names {
    pub(super) const fn bytes(slots: usize) -> usize {
        heap_cost(slots * size_of::<Name>()) + 2 * heap_cost(slots * size_of::<SlotNumber>())
    }

    pub(super) fn new(slots: usize) -> Self {
        let mut free = Vec::with_capacity(slots);
        free.extend((1..slots).rev().map(|slot| slot as SlotNumber));
        Self {
            list: Vec::with_capacity(slots),
            free,
            ended: Vec::with_capacity(slots),
            most: slots,
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
        let Some(slot) = self.take(slots) else { return UNNAMED };
        match self.place(scope) {
            Ok(at) => self.list[at].slot = slot,
            Err(at) if self.list.len() < self.most => {
                self.list.insert(at, Name { scope, slot, limit });
            }
            Err(_) => {
                self.free.push(slot);
                return UNNAMED;
            }
        }
        slots[usize::from(slot)].start(limit);
        slot
    }

    /// A free slot, or that of a scope without entries and a limit.
    fn take(&mut self, slots: &[Slot]) -> Option<SlotNumber> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        for _ in 0..LOOKS.min(self.list.len()) {
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

    /// A scope that ends: the slot that it had, if it had one. Its limit stays.
    pub(super) fn end(&mut self, scope: u32) -> Option<SlotNumber> {
        let at = self.place(scope).ok()?;
        let slot = std::mem::replace(&mut self.list[at].slot, UNNAMED);
        if self.list[at].limit == UNLIMITED {
            self.list.remove(at);
        }
        (slot != UNNAMED).then_some(slot)
    }

    /// The first scope from this one on that has a slot.
    pub(super) fn next(&self, from: u32) -> Option<(u32, SlotNumber)> {
        let (Ok(at) | Err(at)) = self.place(from);
        let name = self.list[at..].iter().find(|name| name.slot != UNNAMED)?;
        Some((name.scope, name.slot))
    }

    /// Notes that a slot has ended.
    pub(super) fn ended(&mut self, slot: SlotNumber) {
        self.ended.push(slot);
    }

    pub(super) fn all_ended(&self) -> &[SlotNumber] {
        &self.ended
    }

    /// A slot that had ended is free.
    pub(super) fn free(&mut self, slot: SlotNumber) {
        if let Some(at) = self.ended.iter().position(|ended| *ended == slot) {
            self.ended.swap_remove(at);
        }
        self.free.push(slot);
    }

    /// Sets a scope's limit; the slot that it has. `None`: it has no name and gets none, for want of
    /// room or because it needs none.
    pub(super) fn set_limit(&mut self, scope: u32, limit: u64) -> Option<SlotNumber> {
        match self.place(scope) {
            Ok(at) => {
                let name = &mut self.list[at];
                name.limit = limit;
                let slot = name.slot;
                if slot == UNNAMED && limit == UNLIMITED {
                    self.list.remove(at);
                }
                Some(slot)
            }
            Err(at) if self.list.len() < self.most && limit != UNLIMITED => {
                self.list.insert(at, Name { scope, slot: UNNAMED, limit });
                Some(UNNAMED)
            }
            Err(_) => None,
        }
    }

    /// Names there are.
    pub(super) fn used(&self) -> usize {
        self.list.len()
    }

    /// Asserts that each slot is where its state says.
    pub(super) fn check(&self, slots: &[Slot]) {
        assert!(self.list.windows(2).all(|pair| pair[0].scope < pair[1].scope), "names have order");
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
