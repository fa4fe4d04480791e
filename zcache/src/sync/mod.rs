//! The concurrency primitives of this crate: the usual ones, or loom's under `cfg(zcache_loom)`.
//!
//! Every access that decides an entry's fate uses these, so that a loom model runs the shipped
//! code. A [`Counter`] only counts and decides nothing, and is the real thing in models too.

#[cfg(all(test, zcache_loom))]
#[path = "../../../zpool/src/sync/model.rs"]
pub(crate) mod model; // one harness for the models of both crates

#[cfg(zcache_loom)]
mod modelled;
#[cfg(not(zcache_loom))]
mod real;

#[cfg(zcache_loom)]
pub(crate) use self::modelled::*;
#[cfg(not(zcache_loom))]
pub(crate) use self::real::*;

pub(crate) use std::sync::atomic::AtomicU64 as Counter;
pub(crate) use std::sync::atomic::Ordering;
// These decide nothing either.
pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::{Arc, Weak};

/// Adds to a counter.
#[inline]
pub(crate) fn add(counter: &Counter, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// Takes off a counter.
#[inline]
pub(crate) fn sub(counter: &Counter, amount: u64) {
    counter.fetch_sub(amount, Ordering::Relaxed);
}

/// A counter's value.
#[inline]
pub(crate) fn get(counter: &Counter) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A bug that loom models plant, to show that they would notice it: `model_bug!(Name)` is whether
/// the model that runs has planted it. In every other build it is `false`, and compiles to nothing.
macro_rules! model_bug {
    ($bug:ident) => {
        $crate::sync::planted($crate::sync::Plant::$bug)
    };
}
pub(crate) use model_bug;

/// A bug that a model can plant, to show that it would notice. Each names one line of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(zcache_loom), allow(dead_code, reason = "planted by loom models only"))]
pub(crate) enum Plant {
    /// An entry is published before the policy knows it.
    PublishedUnqueued,
    /// The policy names entries that are not published yet.
    UnpublishedGoes,
    /// A removal frees the entry before the policy has forgotten it.
    FreedQueued,
    /// Whoever fails to take an entry off the index frees it all the same.
    LoserFrees,
    /// A replacement takes the old entry off the index before the new one is there.
    ReplaceByRemoval,
    /// Who has found an entry does not look again whether the index still leads there.
    FoundUnasked,
    /// Who has found none does not ask whether entries moved meanwhile.
    MissedUnasked,
    /// Whoever moves entries, or takes one out, does not say so.
    MovedUntold,
    /// The index leads to an entry's old id while the entry gets another one.
    LiftedLeads,
    /// A writer does not ask whether the shard is as it was when it looked for the key.
    SearchedUnasked,
    /// A change does not tell loads and leases that are under way.
    FlightUntold,
    /// A loader looks its key up without the lock of the index's shard.
    FlightUnordered,
    /// Who has compared keys adds a flight without a look at those that were added meanwhile.
    FlightUncompared,
    /// A load that failed leaves its flight behind.
    FlightLeft,
    /// A page is stored without a question whether its flight was told.
    ToldUnasked,
    /// A page that is only to be stored for a key without one is stored without a question.
    AbsentUnasked,
    /// A call that was asked to remove one page removes what the key has by then.
    RemovedUnasked,
    /// A call that retains no page does not tell loads of keys without an entry.
    RetainUntold,
    /// A waiter that a flight is offered to is not woken up.
    OfferUntold,
    /// A waiter that leaves keeps the offer that it has.
    OfferKept,
    /// The frame of an entry stays when the index leads to the entry no more.
    FrameLeft,
    /// A frame goes into its slot when the shard's lock is free again.
    PutUnlocked,
    /// A frame goes into the set that was its tag's before the table grew.
    PutWhereItWas,
    /// A frame moves to its set without the lock of its tag's shard.
    ShiftUnlocked,
    /// A change of the table's length does not wait for those who put frames by the length of
    /// before.
    LengthUntold,
    /// The policy does not hear of hits on frames.
    FrameHitUnheard,
    /// A thread that finds all contexts at work goes without one.
    NotAwaited,
    /// A recompressed entry takes its key's place whatever the index leads to by then.
    SwapUnasked,
    /// A recompressed entry takes its place while somebody goes through all entries.
    SwapPastWalk,
    /// A recompressed entry's old object is freed before the index leads to the new one.
    SwapFreesFirst,
    /// A hit that was not the first one compresses a page of a scan as well.
    LoserPacks,
    /// An entry gets its new id before the lock of its shard is taken.
    MovedUnlocked,
    /// The policy goes on knowing a moved entry by its old id.
    MovedUnqueued,
    /// Room in the policy is given back, whoever is about to use it.
    RoomUnasked,
    /// It is said to be there until it is given back.
    RoomLoweredLate,
    /// A coder is judged empty while a reader may have a table in which it is the newest.
    TablesUnawaited,
    /// A draft is counted when the table in which its coder is the newest may have gone.
    DraftCountedLate,
    /// A removal does not take in those that wait to enter the policy, of whom its entry may be
    /// one.
    WaitingForgotten,
    /// A resize asks what is held before the pool's cap has fallen.
    CapFallsLate,
    /// A resize sets the pool's cap by the capacity of before it had the lock.
    CapacityReadEarly,
    /// A scope that ends keeps its slot live.
    ScopeGoesOn,
    /// A slot is free while entries are in it.
    SlotFreedEarly,
    /// A page whose scope ended while it was on its way takes its key's place.
    EndedEnters,
    /// Whoever finds the slot of an entry live does not ask whether the entry is still in it.
    LeftUnasked,
    /// A reader who finds a piece of a page gone takes the page for a miss.
    LeftIsMissed,
    /// A scope's end tells no loads that are under way.
    EndUntold,
    /// A scope's end tells loads when its slot has ended.
    EndToldLate,
}

/// Where memory for tables comes from: it is charged before it is taken, released after it is gone.
pub(crate) trait Charge {
    /// Whether `bytes` more are allowed; they are charged then.
    fn charge(&self, bytes: usize) -> bool;
    fn release(&self, bytes: usize);
}

/// Why an id was not put into the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PutError {
    /// The caller's own test under the lock.
    NotAdmitted,
    /// It needs this many bytes more, which were refused.
    NoRoom(usize),
    /// The heap or the system gave no memory for it.
    NoMemory,
}

/// Something that shares no cache line with its neighbours.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

impl<T> std::ops::Deref for Apart<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}
