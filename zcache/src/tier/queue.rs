//! The policy under its lock, and which ids it has room for.
//!
//! A policy has tables by id. They grow before the entry of an id exists, so that an insert never
//! has to end an entry because of its own bookkeeping. They are given back when their entries have
//! ended. Most ids have room already, which is known without the lock: all ids below `roomy` do.
//!
//! An entry that enters while another thread has the lock waits outside. The next thread that locks
//! the policy takes it in first. So an insert need not sleep behind a thread that lost its
//! processor. All entries that were told to enter before a thread has the lock are in the policy
//! when it has it. A thread that ends an entry or gives it another id learned of it first, from the
//! index, and then locks.
//!
//! No thread may count on room that is given back. So `roomy` falls first. Then the pool is asked
//! whether an id of the range is in use, under the lock that ids are handed out under. An id that
//! was handed out before is found in use there. A thread that gets one later has seen that lock
//! after it, and so the lower `roomy`.

use crate::index::Tag;
use crate::policy::{Entries, Policy, Priority};
use crate::store::Memory;
use crate::sync::{AtomicU32, Charge, Mutex, MutexGuard, Ordering, WAITING, may_wait, model_bug};

/// Ids that `roomy` rises by at once.
const STEP: u32 = 64;

/// A policy, and what it has room for.
#[derive(Debug)]
pub(crate) struct Queue {
    policy: Mutex<Box<dyn Policy>>,
    /// Ids below this have room. Changed under the lock. Relaxed: see the head of this file.
    roomy: AtomicU32,
    waiting: Mutex<Waiting>,
    /// How many wait. Changed under the lock of `waiting`. Relaxed: whoever was told of an entry,
    /// was told after it began to wait.
    waits: AtomicU32,
}

/// Entries that are to enter, in their order.
#[derive(Debug)]
struct Waiting {
    entries: [Entering; WAITING],
    count: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entering {
    id: u32,
    tag: Tag,
    priority: Priority,
}

/// The policy, held.
#[derive(Debug)]
pub(crate) struct Held<'q> {
    policy: MutexGuard<'q, Box<dyn Policy>>,
    roomy: &'q AtomicU32,
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
        let waiting = Waiting { entries: [Entering::default(); WAITING], count: 0 };
        Self {
            policy: Mutex::new(policy),
            roomy: AtomicU32::new(0),
            waiting: Mutex::new(waiting),
            waits: AtomicU32::new(0),
        }
    }

    pub(crate) fn lock(&self) -> Held<'_> {
        self.take_in(self.policy.lock())
    }

    /// Forgets an entry that has gone.
    pub(crate) fn forget<K: Send + Sync>(&self, id: u32, pool: &Memory<K>) {
        let mut held = if model_bug!(WaitingForgotten) {
            Held { policy: self.policy.lock(), roomy: &self.roomy }
        } else {
            self.lock()
        };
        held.remove(id, pool);
    }

    /// How many entries wait, for models.
    #[cfg(all(test, zcache_loom))]
    pub(crate) fn waiting(&self) -> u32 {
        self.waits.load(Ordering::Relaxed)
    }

    /// The policy, unless somebody else has it.
    pub(crate) fn try_lock(&self) -> Option<Held<'_>> {
        self.policy.try_lock().map(|policy| self.take_in(policy))
    }

    /// Has those that wait enter.
    #[inline]
    fn take_in<'q>(&'q self, policy: MutexGuard<'q, Box<dyn Policy>>) -> Held<'q> {
        let mut held = Held { policy, roomy: &self.roomy };
        if may_wait() && self.waits.load(Ordering::Relaxed) > 0 {
            self.take_in_waiting(&mut held);
        }
        held
    }

    #[cold]
    fn take_in_waiting(&self, held: &mut Held<'_>) {
        let mut waiting = self.waiting.lock();
        self.waits.store(0, Ordering::Relaxed);
        let count = std::mem::take(&mut waiting.count);
        for Entering { id, tag, priority } in &waiting.entries[..count] {
            held.enter(*id, *tag, *priority);
        }
    }

    /// An expected id enters, at once or before anybody else has the policy.
    pub(crate) fn enter(&self, id: u32, tag: Tag, priority: Priority) {
        let held = if may_wait() { self.try_lock() } else { Some(self.lock()) };
        if let Some(mut held) = held {
            held.enter(id, tag, priority);
        } else if !self.wait(Entering { id, tag, priority }) {
            self.lock().enter(id, tag, priority);
        }
    }

    /// Has an entry wait, if there is a place; says whether.
    fn wait(&self, entering: Entering) -> bool {
        let mut waiting = self.waiting.lock();
        let at = waiting.count;
        let Some(place) = waiting.entries.get_mut(at) else { return false };
        *place = entering;
        waiting.count += 1;
        self.waits.store(waiting.count as u32, Ordering::Relaxed);
        true
    }

    /// Ids below this have room, for models.
    #[cfg(all(test, zcache_loom))]
    pub(crate) fn roomy(&self) -> u32 {
        self.roomy.load(Ordering::Relaxed)
    }

    /// Makes room for an id that the pool has handed out to the caller: it stays as long as the id
    /// is in use.
    ///
    /// # Errors
    /// See [`Unready`]; nothing has changed.
    #[inline]
    pub(crate) fn expect(&self, id: u32, memory: &impl Charge) -> Result<(), Unready> {
        if id < self.roomy.load(Ordering::Relaxed) { Ok(()) } else { self.grow(id, memory) }
    }

    #[cold]
    fn grow(&self, id: u32, memory: &impl Charge) -> Result<(), Unready> {
        self.lock().expect(id, memory)
    }
}

impl Held<'_> {
    pub(crate) fn policy(&self) -> &dyn Policy {
        &**self.policy
    }

    /// As [`Queue::expect`].
    ///
    /// # Errors
    /// See [`Unready`]; nothing has changed.
    pub(crate) fn expect(&mut self, id: u32, memory: &impl Charge) -> Result<(), Unready> {
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
        let roomy = self.roomy.load(Ordering::Relaxed);
        let next = (roomy..roomy.saturating_add(STEP)).find(|next| self.policy.growth(*next) > 0);
        self.roomy.store(next.unwrap_or(roomy.saturating_add(STEP)), Ordering::Relaxed);
        Ok(())
    }

    /// An expected id enters.
    pub(crate) fn enter(&mut self, id: u32, tag: Tag, priority: Priority) {
        self.policy.insert(id, tag, priority);
    }

    /// The entry `old`, whose key has this tag, has the expected id `new` from now on.
    pub(crate) fn rename<K: Send + Sync>(
        &mut self,
        old: u32,
        new: u32,
        tag: Tag,
        pool: &Memory<K>,
    ) {
        self.enter(new, tag, Priority::Low);
        self.replace(old, new, pool);
    }

    /// `new`, which is in the queue, takes the place of `old`, which leaves it.
    pub(crate) fn replace<K: Send + Sync>(&mut self, old: u32, new: u32, pool: &Memory<K>) {
        self.policy.replace(old, new);
        self.shrink(pool);
    }

    fn remove<K: Send + Sync>(&mut self, id: u32, pool: &Memory<K>) {
        self.policy.remove(id);
        self.shrink(pool);
    }

    /// The next entry to go, which is in the queue no more: `any`, or one that was not spared.
    pub(crate) fn evict(&mut self, entries: &dyn Entries, looks: usize, any: bool) -> Option<u32> {
        if any {
            self.policy.evict(entries, looks)
        } else {
            self.policy.evict_unspared(entries, looks)
        }
    }

    /// Puts back what [`evict`](Self::evict) has just named.
    pub(crate) fn put_back(&mut self, id: u32, tag: Tag) {
        self.policy.insert(id, tag, Priority::Normal);
    }

    /// Gives back what no entry needs, a bounded step; whether that was anything.
    pub(crate) fn shrink<K: Send + Sync>(&mut self, pool: &Memory<K>) -> bool {
        let Self { policy, roomy } = self;
        let freed = policy.shrink(&|ids| {
            let before = roomy.load(Ordering::Relaxed);
            let lower = before.min(ids.start);
            if !model_bug!(RoomLoweredLate) {
                roomy.store(lower, Ordering::Relaxed);
            }
            let in_use = pool.uses_ids(ids) && !model_bug!(RoomUnasked);
            roomy.store(if in_use { before } else { lower }, Ordering::Relaxed);
            in_use
        });
        pool.release(freed);
        freed > 0
    }

    /// Asserts that the policy's invariants hold, and that there is room where it is said to be.
    pub(crate) fn check(&self) {
        self.policy.check();
        let roomy = self.roomy.load(Ordering::Relaxed);
        assert!((0..roomy).all(|id| self.policy.growth(id) == 0), "ids below {roomy} have room");
    }
}
