//! One load under way: its key, the callers that wait for it, and its result.
//! ```text
//! flying --> landed: a page or an error for all who wait
//!   |  ^
//!   v  |  the waiter that has the offer becomes the pilot
//! offered to the waiter who came first, if the pilot gave up --> over: no caller waits
//! ```
//! 1. **A waiter has a ticket** from the moment it is aboard. It gives the ticket back when it
//!    leaves, so nothing is left of a caller that stopped waiting. Taking a ticket, leaving and an
//!    offer take the logarithm of the number that wait. Landing takes one step for each.
//! 2. **An offer is one waiter's.** A waiter that leaves with an offer passes it on. So the flight
//!    has a pilot, an offer or an end at any time, and no caller waits in vain.
//! 3. **Wakers are cloned, called and dropped under no lock**: they are the executor's code.

use std::collections::BTreeMap;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;
use std::thread;

use bytes::Bytes;

use crate::error::LoadError;
use crate::sync::{Arc, AtomicU32, Counter, Mutex, Ordering, get, model_bug, thread_id};

/// What a flight brings.
pub(crate) type Landing = Result<Bytes, LoadError>;

/// The place of a waiter in the order in which they came.
pub(super) type Ticket = u64;

/// Those who wait. A waiter that was never polled has no waker yet.
pub(super) type Waiting = BTreeMap<Ticket, Option<Waker>>;

/// Whether the key of a flight was changed since. Written and read under the lock of the key's
/// shard of the index.
#[derive(Debug)]
pub(crate) struct Told(AtomicU32);

impl Told {
    /// For the holder of the lock of the shard.
    pub(crate) fn is_told(&self) -> bool {
        // Relaxed: that lock orders it.
        self.0.load(Ordering::Relaxed) != 0 && !model_bug!(ToldUnasked)
    }

    /// A hint for others: `true` is true for ever.
    pub(crate) fn is_told_by_now(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0 && !model_bug!(ToldUnasked)
    }

    /// For the holder of the lock of the shard.
    pub(super) fn tell(&self) {
        self.0.store(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(crate) struct Flight<K> {
    pub(super) key: K,
    pub(super) told: Told,
    /// The number of the thread in which the pilot's loader runs just now, or a call of the cache's
    /// for the pilot, plus one; 0: in none.
    loader: Counter,
    aboard: Mutex<Aboard>,
}

#[derive(Debug)]
struct Aboard {
    progress: Progress,
    waiting: Waiting,
    next: Ticket,
}

#[derive(Debug)]
enum Progress {
    Flying,
    Offered(Ticket),
    Landed(Landing),
    Over,
}

/// How a flight stands for one who waits.
pub(super) enum Seen {
    NotYet,
    Landed(Landing),
    /// The waiter is the pilot from now on.
    Offer,
}

impl<K> Flight<K> {
    /// The key that is loaded.
    pub(crate) fn key(&self) -> &K {
        &self.key
    }

    pub(super) fn new(key: K) -> Self {
        let aboard = Aboard { progress: Progress::Flying, waiting: Waiting::new(), next: 0 };
        Self {
            key,
            told: Told(AtomicU32::new(0)),
            loader: Counter::new(0),
            aboard: Mutex::new(aboard),
        }
    }

    /// Runs the pilot's loader, or a step of it, or what else of the pilot's runs user code. Where
    /// that panics, this thread counts as inside it until the flight ends or is offered.
    pub(super) fn run<R>(&self, load: impl FnOnce() -> R) -> R {
        // Relaxed: a thread looks for what it has written itself.
        self.loader.store(thread_id() + 1, Ordering::Relaxed);
        let made = load();
        self.loader.store(0, Ordering::Relaxed);
        made
    }

    /// Whether this thread is inside what the pilot runs.
    pub(super) fn is_loaded_here(&self) -> bool {
        get(&self.loader) == thread_id() + 1
    }

    /// A ticket of a new waiter. `None`: the flight is over, and leaves its list just now.
    pub(super) fn join(&self) -> Option<Ticket> {
        let mut aboard = self.aboard.lock();
        if matches!(aboard.progress, Progress::Over) {
            return None;
        }
        let ticket = aboard.next;
        aboard.next += 1;
        aboard.waiting.insert(ticket, None);
        Some(ticket)
    }

    /// How the flight stands for a waiter, which `waker` wakes up when that changes. The ticket is
    /// used up unless the flight still flies. Returns a waker as well that is needed no more: its
    /// drop may panic, and the caller may be the pilot by then.
    pub(super) fn look(&self, ticket: Ticket, waker: &Waker) -> (Seen, Option<Waker>) {
        let waker = waker.clone();
        let mut aboard = self.aboard.lock();
        let seen = match &aboard.progress {
            Progress::Landed(landing) => Seen::Landed(landing.clone()),
            Progress::Offered(to) if *to == ticket => Seen::Offer,
            _ => Seen::NotYet,
        };
        let old = match seen {
            Seen::NotYet => aboard.waiting.insert(ticket, Some(waker)).flatten(),
            Seen::Offer => {
                aboard.progress = Progress::Flying;
                Some(waker)
            }
            // Landing has taken the waiters, or this one came after it.
            Seen::Landed(_) => aboard.waiting.remove(&ticket).flatten(),
        };
        drop(aboard);
        (seen, old)
    }

    /// Takes a waiter off. Whether it had an offer, which is to be passed on.
    pub(super) fn leave(&self, ticket: Ticket) -> bool {
        let mut aboard = self.aboard.lock();
        let waker = aboard.waiting.remove(&ticket);
        let offered = matches!(aboard.progress, Progress::Offered(to) if to == ticket);
        drop(aboard);
        drop(waker);
        offered && !model_bug!(OfferKept)
    }

    /// Offers the flight to the waiter who came first; `false`: nobody waits, and it is over.
    pub(super) fn offer(&self) -> bool {
        // Relaxed: see `run`. A pilot whose user code panicked has left its thread's number.
        self.loader.store(0, Ordering::Relaxed);
        let mut aboard = self.aboard.lock();
        let first = aboard.waiting.pop_first();
        aboard.progress = match &first {
            Some((ticket, _)) => Progress::Offered(*ticket),
            None => Progress::Over,
        };
        drop(aboard);
        let offered = first.is_some();
        if !model_bug!(OfferUntold) {
            wake(first.and_then(|(_, waker)| waker));
        }
        offered
    }

    /// The flight is over unless somebody waits for what it brings; whether it is.
    pub(super) fn is_over_unless_awaited(&self) -> bool {
        let mut aboard = self.aboard.lock();
        let over = aboard.waiting.is_empty();
        if over {
            aboard.progress = Progress::Over;
        }
        over
    }

    /// Everybody aboard gets `landing`; returns those who are to be woken up.
    pub(super) fn land(&self, landing: Landing) -> Waiting {
        let mut aboard = self.aboard.lock();
        aboard.progress = Progress::Landed(landing);
        std::mem::take(&mut aboard.waiting)
    }
}

/// Wakes all of them, also those that come after one that panics. In a thread that panics already a
/// waker's panic is swallowed, as it would end the process.
pub(super) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    let wake = |waker: Waker| catch_unwind(AssertUnwindSafe(|| waker.wake())).err();
    let panics: Vec<_> = wakers.into_iter().filter_map(wake).collect();
    if let Some(panic) = panics.into_iter().next().filter(|_| !thread::panicking()) {
        resume_unwind(panic);
    }
}

/// The error of a loader, as all callers get it.
pub(crate) fn failed<E: Into<Box<dyn Error + Send + Sync>>>(error: E) -> LoadError {
    LoadError::Failed(Arc::from(error.into()))
}
