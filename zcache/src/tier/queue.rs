//! The policy under its lock, and the ids that are about to enter it.
//!
//! A policy has tables by id. They grow before the entry of an id exists, so that an insert never
//! has to end an entry because of its own bookkeeping, and they come back when their entries have
//! gone. Between the growth and the entry the id is *expected*: what it needs stays.

use crate::index::Tag;
use crate::policy::{Entries, Policy, Priority};
use crate::sync::Charge;

/// A policy, and what it is to have soon.
#[derive(Debug)]
pub(crate) struct Queue {
    policy: Box<dyn Policy>,
    /// Ids that have room and are on their way: about one for each thread that inserts.
    expected: Vec<u32>,
}

/// Why an id is not expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unready {
    /// So many bytes are refused by the budget.
    NoRoom(usize),
    /// The allocator has no memory.
    NoMemory,
}

impl Queue {
    pub(crate) fn new(policy: Box<dyn Policy>) -> Self {
        Self { policy, expected: Vec::new() }
    }

    pub(crate) fn policy(&self) -> &dyn Policy {
        &*self.policy
    }

    /// Makes room for `id`, which is expected from here on.
    ///
    /// # Errors
    /// See [`Unready`]; nothing has changed.
    pub(crate) fn expect(&mut self, id: u32, memory: &impl Charge) -> Result<(), Unready> {
        self.expected.try_reserve(1).map_err(|_| Unready::NoMemory)?;
        let growth = self.policy.growth(id);
        if growth > 0 {
            if !memory.charge(growth) {
                return Err(Unready::NoRoom(growth));
            }
            if self.policy.grow(id).is_err() {
                memory.release(growth);
                return Err(Unready::NoMemory);
            }
        }
        self.expected.push(id);
        Ok(())
    }

    /// An expected id does not come, or has come.
    pub(crate) fn expect_no_more(&mut self, id: u32) {
        if let Some(at) = self.expected.iter().position(|expected| *expected == id) {
            self.expected.swap_remove(at);
        }
    }

    /// An expected id enters.
    pub(crate) fn enter(&mut self, id: u32, tag: Tag, priority: Priority) {
        self.policy.insert(id, tag, priority);
        self.expect_no_more(id);
    }

    /// The entry `old`, whose key has this tag, has the expected id `new` from now on.
    pub(crate) fn rename(&mut self, old: u32, new: u32, tag: Tag, memory: &impl Charge) {
        self.enter(new, tag, Priority::Low);
        self.replace(old, new, memory);
    }

    /// `new`, which is in the queue, takes the place of `old`, which leaves it.
    pub(crate) fn replace(&mut self, old: u32, new: u32, memory: &impl Charge) {
        self.policy.replace(old, new);
        self.shrink(memory);
    }

    /// An entry has gone.
    pub(crate) fn remove(&mut self, id: u32, memory: &impl Charge) {
        self.policy.remove(id);
        self.shrink(memory);
    }

    /// The next entry to go, which is in the queue no more.
    pub(crate) fn evict(&mut self, entries: &dyn Entries, looks: usize) -> Option<u32> {
        self.policy.evict(entries, looks)
    }

    /// Puts back what [`evict`](Self::evict) has just named.
    pub(crate) fn put_back(&mut self, id: u32, tag: Tag) {
        self.policy.insert(id, tag, Priority::Normal);
    }

    /// Gives back what no entry needs.
    pub(crate) fn shrink(&mut self, memory: &impl Charge) {
        let Self { policy, expected } = self;
        let freed = policy.shrink(&|ids| expected.iter().any(|id| ids.contains(id)));
        memory.release(freed);
    }

    /// Asserts that the policy's invariants hold, and that no id is on its way.
    pub(crate) fn check(&self) {
        self.policy.check();
        assert!(self.expected.is_empty(), "nobody inserts, so no id is expected");
    }
}
