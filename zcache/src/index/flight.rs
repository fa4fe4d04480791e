//! Single flight: of all callers that miss a key at once, one loads it, and the others wait for that.
//!
//! A flight is registered before its key is looked up again, and whoever changes a key looks for a
//! flight of it afterwards, so one of the two notices the other: either the change comes first, and
//! what is loaded is newer, or the flight is told. A flight that was told takes nobody else on board,
//! and its page is not stored.

use std::error::Error;

use bytes::Bytes;

use super::Tag;
use crate::error::LoadError;
use crate::sync::{Arc, AtomicUsize, Gate, Mutex, Ordering, Plant, ThreadId, planted, thread_id};

/// What a flight brings.
pub(crate) type Landing = Result<Bytes, LoadError>;

/// Flights are kept in this many lists.
const LISTS: usize = 16;

#[derive(Debug)]
pub(crate) struct Flight {
    loader: ThreadId,
    landed: Gate<Landing>,
}

#[derive(Debug)]
struct Booked<K> {
    tag: Tag,
    key: K,
    flight: Arc<Flight>,
    /// The key was changed since, or the load is over.
    told: bool,
}

/// All loads that are under way.
#[derive(Debug)]
pub(crate) struct Flights<K> {
    lists: [Mutex<Vec<Booked<K>>>; LISTS],
    /// How many are under way.
    flying: AtomicUsize,
}

/// The right and the duty to load a key. Dropping it ends the flight; without a landing, as by a panic,
/// those who wait are told so.
#[derive(Debug)]
pub(crate) struct Pilot<'f, K> {
    flights: &'f Flights<K>,
    tag: Tag,
    flight: Arc<Flight>,
    landing: Option<Landing>,
}

/// What a caller who missed a key has to do.
#[derive(Debug)]
pub(crate) enum Boarding<'f, K> {
    Load(Pilot<'f, K>),
    Wait(Arc<Flight>),
    /// The caller is that key's loader.
    Recursive,
}

impl Flight {
    pub(crate) fn wait(&self) -> Landing {
        self.landed.wait()
    }
}

impl<K> Flights<K> {
    pub(crate) fn new() -> Self {
        Self { lists: std::array::from_fn(|_| Mutex::new(Vec::new())), flying: AtomicUsize::new(0) }
    }

    fn list(&self, tag: Tag) -> &Mutex<Vec<Booked<K>>> {
        &self.lists[tag as usize % LISTS]
    }

    /// The flight of `key`, or a new one.
    pub(crate) fn board(&self, tag: Tag, key: K) -> Boarding<'_, K>
    where
        K: Eq,
    {
        let mut list = self.list(tag).lock();
        let me = thread_id();
        let same = |booked: &&Booked<K>| !booked.told && booked.tag == tag && booked.key == key;
        if let Some(booked) = list.iter().find(same) {
            if booked.flight.loader == me {
                return Boarding::Recursive;
            }
            let flight = Arc::clone(&booked.flight);
            drop(list);
            // Before there is something to return, which a panic here would leak.
            drop(key);
            return Boarding::Wait(flight);
        }
        let flight = Arc::new(Flight { loader: me, landed: Gate::new() });
        list.push(Booked { tag, key, flight: Arc::clone(&flight), told: false });
        // Relaxed: the locks of the index's shard order it; see the head.
        self.flying.fetch_add(1, Ordering::Relaxed);
        Boarding::Load(Pilot { flights: self, tag, flight, landing: None })
    }

    /// A key with this tag was changed: whoever asks for one from now on waits for no earlier flight.
    pub(crate) fn tell(&self, tag: Tag) {
        if self.flying.load(Ordering::Relaxed) != 0 && !planted(Plant::FlightUntold) {
            self.cancel(tag, |booked| booked.tag == tag);
        }
    }

    /// The same when this is dropped, also by a panic.
    pub(crate) fn telling(&self, tag: Tag) -> Telling<'_, K> {
        Telling(self, tag)
    }

    /// All keys were changed.
    pub(crate) fn tell_all(&self) {
        for tag in 0..LISTS as Tag {
            self.cancel(tag, |_| true);
        }
    }

    /// Takes bookings off their list. Keys are dropped outside the lock, one by one: a list of them
    /// would take memory, which may be refused. Where a drop panics, nobody boards those that are
    /// left, and each goes with its pilot.
    fn cancel(&self, tag: Tag, which: impl Fn(&Booked<K>) -> bool) {
        let mut list = self.list(tag).lock();
        let mut left = 0;
        for booked in list.iter_mut() {
            booked.told |= which(booked);
            left += usize::from(booked.told);
        }
        while left > 0 {
            let told = list.iter().position(|booked| booked.told);
            let booked = told.map(|at| list.swap_remove(at));
            drop(list);
            self.flying.fetch_sub(usize::from(booked.is_some()), Ordering::Relaxed);
            drop(booked);
            left -= 1;
            if left == 0 {
                return;
            }
            list = self.list(tag).lock();
        }
    }

    /// Loads that are under way.
    pub(crate) fn len(&self) -> usize {
        self.flying.load(Ordering::Relaxed)
    }
}

/// Tells flights of a change when it is dropped.
#[derive(Debug)]
pub(crate) struct Telling<'f, K>(&'f Flights<K>, Tag);

impl<K> Drop for Telling<'_, K> {
    fn drop(&mut self) {
        self.0.tell(self.1);
    }
}

impl<K> Pilot<'_, K> {
    /// What everybody on board gets when this is dropped.
    pub(crate) fn lands(&mut self, landing: Landing) {
        self.landing = Some(landing);
    }
}

impl<K> Drop for Pilot<'_, K> {
    fn drop(&mut self) {
        let mine = |booked: &Booked<K>| Arc::ptr_eq(&booked.flight, &self.flight);
        let landing = self.landing.take().unwrap_or(Err(LoadError::Panicked));
        let left = planted(Plant::FlightLeft) && landing.is_err();
        // Those on board first: the drop of a key below is the user's code.
        self.flight.landed.open(landing);
        if !left {
            self.flights.cancel(self.tag, mine);
        }
    }
}

/// The error of a loader, as all callers get it.
pub(crate) fn failed<E: Into<Box<dyn Error + Send + Sync>>>(error: E) -> LoadError {
    LoadError::Failed(Arc::from(error.into()))
}
