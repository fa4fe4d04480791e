//! Single flight: of all callers that miss a key at once, one loads it, and the others wait for that.
//! ```text
//! tag -> flights of keys with this tag, by number          (`ByTag`: a map that locks by tag)
//! ```
//! 1. **A change and a flight notice each other.** A flight is listed and counted in `flying`; then
//!    its key is looked up again, under the lock of the key's shard of the index. Whoever changes a
//!    key does that under the same lock, and reads `flying` afterwards. If the change had the lock
//!    first, the look-up sees it, and what is loaded is newer. If the look-up had it first, the
//!    change comes after all that the loader did before, so it finds the flight, and tells it. The
//!    lock is what makes this true where memory is weakly ordered: after a look-up without it, the
//!    loader could have seen the old entry, and the other side no flight. The model
//!    `a_removal_outdates_what_flights_find` shows that.
//! 2. **A flight that was told is on no list**, so it takes nobody else on board. Its page is not
//!    stored: the key's [`Version`](super::Version) has moved.
//! 3. **Keys are compared under no lock.** A caller takes one flight of its tag at a time off the
//!    list, by number, compares keys, and asks for the next one. It adds its own flight under the
//!    lock that found no next one. Later flights have higher numbers, so no flight is left out.
//! 4. **Keys are dropped under no lock.** A flight on a list is also its pilot's, who takes it off
//!    before letting it go. So a list that goes, under its lock, is never the last to hold a key.

use std::error::Error;

use bytes::Bytes;

use super::Tag;
use crate::error::LoadError;
use crate::sync::{
    Arc, AtomicUsize, ByTag, Counter, Gate, Ordering, Plant, ThreadId, get, planted, thread_id,
};

/// What a flight brings.
pub(crate) type Landing = Result<Bytes, LoadError>;

/// A map that was never used for more flights at once is not worth making smaller.
const FEW: u64 = 64;
/// The map gets smaller when there is one flight for this many that it grew for.
const SPARSE: u64 = 8;

#[derive(Debug)]
pub(crate) struct Flight {
    loader: ThreadId,
    landed: Gate<Landing>,
}

/// A flight and its key. Those who wait hold the flight only, so they drop no key but their own.
#[derive(Debug)]
struct Booked<K> {
    key: K,
    flight: Arc<Flight>,
}

/// A flight on the list of its tag.
#[derive(Debug)]
struct Listed<K> {
    number: u64,
    booked: Arc<Booked<K>>,
}

/// All loads that are under way, but those whose key was changed since.
#[derive(Debug)]
pub(crate) struct Flights<K> {
    lists: ByTag<Listed<K>>,
    /// The number of the next flight. It changes under the lock of that flight's tag.
    next: Counter,
    /// Flights on lists. It goes up under the lock of the flight's tag, so no flight is taken off
    /// before it is counted.
    flying: AtomicUsize,
    /// The most flights at once since the map last got smaller.
    most: Counter,
}

/// The right and the duty to load a key. Dropping it ends the flight; without a landing, as by a panic,
/// those who wait are told so.
#[derive(Debug)]
pub(crate) struct Pilot<'f, K> {
    flights: &'f Flights<K>,
    tag: Tag,
    booked: Arc<Booked<K>>,
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
    /// What there is without a flight, in bytes.
    pub(crate) const FIXED_BYTES: usize = ByTag::<Listed<K>>::FIXED_BYTES;

    pub(crate) fn new() -> Self {
        Self {
            lists: ByTag::new(),
            next: Counter::new(0),
            flying: AtomicUsize::new(0),
            most: Counter::new(0),
        }
    }

    /// The flight of `key`, or a new one.
    pub(crate) fn board(&self, tag: Tag, key: K) -> Boarding<'_, K>
    where
        K: Eq,
    {
        let me = thread_id();
        let flight = Arc::new(Flight { loader: me, landed: Gate::new() });
        let own = Arc::new(Booked { key, flight });
        let mut compared = 0;
        while let Some(other) = self.next_or_add(tag, &mut compared, &own) {
            let same = other.key == own.key;
            let flight = Arc::clone(&other.flight);
            // Its pilot may have ended meanwhile: the key is dropped here then.
            drop(other);
            if same {
                // Before there is something to return, which a panic here would leak.
                drop(own);
                return if flight.loader == me {
                    Boarding::Recursive
                } else {
                    Boarding::Wait(flight)
                };
            }
        }
        Boarding::Load(Pilot { flights: self, tag, booked: own, landing: None })
    }

    /// The first flight of the tag whose number is at least `from`, which goes past it. If there is
    /// none, `own` is on the list afterwards.
    fn next_or_add(
        &self,
        tag: Tag,
        from: &mut u64,
        own: &Arc<Booked<K>>,
    ) -> Option<Arc<Booked<K>>> {
        self.lists.with(tag, |list| {
            let unseen = |listed: &&Listed<K>| {
                listed.number >= *from && (*from == 0 || !planted(Plant::FlightUncompared))
            };
            if let Some(next) = list.iter().find(unseen) {
                *from = next.number + 1;
                return Some(Arc::clone(&next.booked));
            }
            // Relaxed: numbers of one tag are given under its lock.
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            list.push(Listed { number, booked: Arc::clone(own) });
            // Relaxed: the lock of the index's shard orders it; see the head.
            let flying = self.flying.fetch_add(1, Ordering::Relaxed) as u64 + 1;
            if flying > get(&self.most) {
                self.most.fetch_max(flying, Ordering::Relaxed);
            }
            None
        })
    }

    /// A key with this tag was changed: whoever asks for one from now on waits for no earlier flight.
    pub(crate) fn tell(&self, tag: Tag) {
        // Relaxed: the lock of the index's shard orders it; see the head.
        if self.flying.load(Ordering::Relaxed) != 0 && !planted(Plant::FlightUntold) {
            self.take_off(tag, Vec::clear);
        }
    }

    /// The same when this is dropped, also by a panic.
    pub(crate) fn telling(&self, tag: Tag) -> Telling<'_, K> {
        Telling(self, tag)
    }

    /// All keys were changed.
    pub(crate) fn tell_all(&self) {
        self.taken_off(self.lists.clear());
    }

    /// Lets `from` take flights off the list of the tag, if there is one.
    fn take_off(&self, tag: Tag, from: impl FnOnce(&mut Vec<Listed<K>>)) {
        let mut taken = 0;
        self.lists.with_listed(tag, |list| {
            taken = list.len();
            from(list);
            taken -= list.len();
        });
        self.taken_off(taken);
    }

    /// Notes that `flights` have left their lists. What the map grew for is given back: a burst costs
    /// as much again at the most, and a single load only looks at the numbers.
    fn taken_off(&self, flights: usize) {
        if flights == 0 {
            return;
        }
        let left = (self.flying.fetch_sub(flights, Ordering::Relaxed) - flights) as u64;
        let most = get(&self.most);
        let sparse = most > FEW && left <= most / SPARSE;
        // Relaxed, here and below: nobody else does it too, and an estimate is what it is.
        let order = Ordering::Relaxed;
        if sparse && self.most.compare_exchange(most, left, order, order).is_ok() {
            self.lists.shrink();
            // Flights may have been added as if `most` were still what it was.
            self.most.fetch_max(self.len() as u64, order);
        }
    }

    /// Loads that are under way, but those whose key was changed since.
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
        let landing = self.landing.take().unwrap_or(Err(LoadError::Panicked));
        let left = planted(Plant::FlightLeft) && landing.is_err();
        self.booked.flight.landed.open(landing);
        if !left {
            let others = |listed: &Listed<K>| !Arc::ptr_eq(&listed.booked, &self.booked);
            self.flights.take_off(self.tag, |list| list.retain(others));
        }
        // The key is dropped after this, off the list: that is the user's code.
    }
}

/// The error of a loader, as all callers get it.
pub(crate) fn failed<E: Into<Box<dyn Error + Send + Sync>>>(error: E) -> LoadError {
    LoadError::Failed(Arc::from(error.into()))
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// Loads at once that a list of all of them would make slow.
    const MANY: u32 = 10_000;

    /// A key that counts comparisons and drops.
    #[derive(Debug, Clone)]
    struct Counted(u32, Rc<[Cell<usize>; 2]>);

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            self.1[0].set(self.1[0].get() + 1);
            self.0 == other.0
        }
    }

    impl Eq for Counted {}

    impl Drop for Counted {
        fn drop(&mut self) {
            self.1[1].set(self.1[1].get() + 1);
        }
    }

    /// Another tag for each key.
    const fn tag_of(key: u32) -> Tag {
        key.wrapping_mul(0x85eb_ca6b)
    }

    fn load<K: Eq + std::fmt::Debug>(flights: &Flights<K>, tag: Tag, key: K) -> Pilot<'_, K> {
        match flights.board(tag, key) {
            Boarding::Load(pilot) => pilot,
            other => panic!("{other:?}"),
        }
    }

    fn many(flights: &Flights<u32>) -> Vec<Pilot<'_, u32>> {
        let pilots: Vec<_> = (0..MANY).map(|key| load(flights, tag_of(key), key)).collect();
        assert_eq!(flights.len(), MANY as usize);
        assert!(flights.lists.capacity() >= MANY as usize);
        pilots
    }

    #[test]
    fn ten_thousand_loads_at_once_leave_no_flight_and_no_memory() {
        let flights = Flights::new();
        for _ in 0..2 {
            let pilots = many(&flights);
            for key in 0..MANY {
                assert!(matches!(flights.board(tag_of(key), key), Boarding::Recursive));
            }
            drop(pilots);
            assert_eq!(flights.len(), 0);
            let left = flights.lists.capacity();
            assert!(left <= 2 * FEW as usize, "room for {left} flights is left");
        }
        let pilots = many(&flights);
        flights.tell_all();
        assert_eq!((flights.len(), flights.lists.capacity()), (0, 0));
        drop(pilots);
        assert_eq!(flights.len(), 0);
    }

    /// As with one flight that never ends, or with loads that follow one another without a pause.
    #[test]
    fn memory_of_many_flights_goes_while_a_few_are_under_way() {
        let flights = Flights::new();
        let mut pilots = many(&flights);
        pilots.truncate(10);
        let left = flights.lists.capacity();
        assert!(left <= 4 * FEW as usize, "room for {left} flights is left");
        for key in 0..10 {
            assert!(matches!(flights.board(tag_of(key), key), Boarding::Recursive));
        }
    }

    #[test]
    fn only_keys_of_equal_tags_are_compared() {
        let counts = Rc::new([Cell::new(0), Cell::new(0)]);
        let key = |key| Counted(key, Rc::clone(&counts));
        let flights = Flights::new();
        let pilots: Vec<_> =
            (0..MANY).map(|name| load(&flights, tag_of(name), key(name))).collect();
        assert_eq!(counts[0].take(), 0);
        let same: Vec<_> = (0..3).map(|name| load(&flights, tag_of(7), key(MANY + name))).collect();
        assert_eq!(counts[0].take(), 1 + 2 + 3, "each with those before it");
        drop(load(&flights, tag_of(MANY), key(MANY)));
        assert_eq!(counts[0].take(), 0);
        assert!(matches!(flights.board(tag_of(7), key(MANY + 1)), Boarding::Recursive));
        assert_eq!(counts[0].take(), 3, "it is the third of its tag");
        drop((pilots, same));
        assert_eq!(flights.len(), 0);
    }

    #[test]
    fn a_flight_that_was_told_is_nobodys_but_its_pilots() {
        let counts = Rc::new([Cell::new(0), Cell::new(0)]);
        let key = |key| Counted(key, Rc::clone(&counts));
        let flights = Flights::new();
        let (first, other) = (load(&flights, 7, key(1)), load(&flights, 7, key(2)));
        let beside = load(&flights, 8, key(1));
        flights.tell(7);
        assert_eq!((flights.len(), counts[1].take()), (1, 0), "no key is dropped by a change");
        let second = load(&flights, 7, key(1));
        drop((first, other));
        assert_eq!((flights.len(), counts[1].take()), (2, 2), "a pilot lands no other flight");
        assert!(matches!(flights.board(7, key(1)), Boarding::Recursive));
        assert!(matches!(flights.board(8, key(1)), Boarding::Recursive));
        drop((second, beside));
        assert_eq!((flights.len(), counts[1].get()), (0, 4), "each key is dropped once");
    }
}
