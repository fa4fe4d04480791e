//! Single flight: of all callers that miss a key at once, one loads it, and the others wait for
//! that.
//! ```text
//! tag -> flights of keys with this tag, by number          (`ByTag`: a map that locks by tag)
//! ```
//! 1. **A change and a flight notice each other.** A flight is listed and counted in `flying`; then
//!    its key is looked up again, under the lock of the key's shard of the index. Whoever changes a
//!    key reads `flying`, and tells the flights of the key's tag, in the same hold of that lock as
//!    it changes the key. If the change had the lock first, the look-up sees it, and the loaded
//!    page is newer. If the look-up had it first, the change finds the flight, and tells it. The
//!    lock makes this true where memory is weakly ordered. After a look-up without it, the loader
//!    could have seen the old entry, and the other side no flight. The model
//!    `a_removal_outdates_what_flights_find` shows that.
//! 2. **A flight that was told is on no list**, so no other caller joins it. Its page is not
//!    stored: whoever publishes it asks [`Told`] in the hold of the shard's lock in which it
//!    publishes. So a loaded page is stored unless its own key was changed. (Keys whose hashes are
//!    equal in 32 bits are told for each other.)
//! 3. **Keys are compared under no lock.** A caller takes one flight of its tag at a time off the
//!    list, by number, compares keys, and asks for the next one. It adds its own flight under the
//!    lock that found no next one. Later flights have higher numbers, so no flight is left out.
//! 4. **Keys are dropped under no lock.** A flight on a list is also its pilot's. Or it is that of
//!    a waiter who may become the pilot, and takes it off before releasing it. So a list that is
//!    dropped, under its lock, is never the last to hold a key.
//!
//! Locks: the lock of a list may be taken under that of a shard of the index, and never the other
//! way round. A flight's own lock is held over nothing.

use std::borrow::ToOwned;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use equivalent::Equivalent;

use super::Tag;
use super::flight::{Flight, Landing, Seen, Ticket, Told, wake};
use crate::error::LoadError;
use crate::sync::{Arc, AtomicUsize, ByTag, Counter, Ordering, Parker, get, model_bug};

/// A map that was never used for more flights at once is not worth making smaller.
const FEW: u64 = 64;
/// The map gets smaller when there is one flight for this many that it grew for.
const SPARSE: u64 = 8;

/// A flight on the list of its tag.
#[derive(Debug)]
struct Listed<K> {
    number: u64,
    flight: Arc<Flight<K>>,
}

/// All loads that are under way and not told.
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

/// The right and the duty to load a key. Dropped without a landing, it is offered to those who
/// wait.
#[derive(Debug)]
pub(crate) struct Pilot<K> {
    flights: Arc<Flights<K>>,
    tag: Tag,
    flight: Arc<Flight<K>>,
    landing: Option<Landing>,
    /// Nobody waited when there was something to bring.
    over: bool,
}

/// A pilot whose page goes to those who wait when this is dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct Bringing<'p, K> {
    pilot: Pilot<K>,
    page: &'p [u8],
}

/// One who waits for a flight. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Waiter<K> {
    flights: Arc<Flights<K>>,
    tag: Tag,
    flight: Arc<Flight<K>>,
    /// `None`: it has waited.
    ticket: Option<Ticket>,
}

/// What a waiter gets.
#[derive(Debug)]
pub(crate) enum Arrival<K> {
    Landed(Landing),
    /// The pilot before gave up.
    Pilot(Pilot<K>),
}

/// What a caller who missed a key has to do.
#[derive(Debug)]
pub(crate) enum Boarding<K> {
    Load(Pilot<K>),
    Wait(Waiter<K>),
    /// The caller is inside that key's loader.
    Recursive,
}

impl<K> Flights<K> {
    /// What there is without a flight, in bytes.
    pub(crate) const FIXED_BYTES: usize =
        ByTag::<Listed<K>>::FIXED_BYTES + zpool::source::heap_cost(size_of::<(Self, [usize; 2])>());

    pub(crate) fn new() -> Self {
        Self {
            lists: ByTag::new(),
            next: Counter::new(0),
            flying: AtomicUsize::new(0),
            most: Counter::new(0),
        }
    }

    /// The flight of `key`, or a new one. The key is cloned for a new one only.
    pub(crate) fn board<Q>(self: &Arc<Self>, tag: Tag, key: &Q) -> Boarding<K>
    where
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
    {
        let (mut compared, mut own) = (0, None);
        loop {
            let Some(other) = self.next_or_add(tag, &mut compared, own.as_ref()) else {
                match own.take() {
                    Some(flight) => return Boarding::Load(self.pilot(tag, flight)),
                    None => own = Some(Arc::new(Flight::new(key.to_owned()))),
                }
                continue;
            };
            if !key.equivalent(&other.key) {
                continue;
            }
            if other.is_loaded_here() {
                return Boarding::Recursive;
            }
            if let Some(ticket) = other.join() {
                let flights = Arc::clone(self);
                let waiter = Waiter { flights, tag, flight: other, ticket: Some(ticket) };
                // While the waiter is there to leave, should this panic.
                drop(own);
                return Boarding::Wait(waiter);
            }
        }
    }

    fn pilot(self: &Arc<Self>, tag: Tag, flight: Arc<Flight<K>>) -> Pilot<K> {
        Pilot { flights: Arc::clone(self), tag, flight, landing: None, over: false }
    }

    /// The first flight of the tag from number `from` on, which goes past it. Where there is none,
    /// `own` is on the list afterwards.
    fn next_or_add(
        &self,
        tag: Tag,
        from: &mut u64,
        own: Option<&Arc<Flight<K>>>,
    ) -> Option<Arc<Flight<K>>> {
        self.lists.with(tag, |list| {
            let blind = model_bug!(FlightUncompared) && own.is_some();
            let unseen = |listed: &&Listed<K>| listed.number >= *from && !blind;
            if let Some(next) = list.iter().find(unseen) {
                *from = next.number + 1;
                return Some(Arc::clone(&next.flight));
            }
            let own = own?;
            // Relaxed: numbers of one tag are given under its lock.
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            list.push(Listed { number, flight: Arc::clone(own) });
            // Relaxed: the lock of the index's shard orders it; see the head.
            let flying = self.flying.fetch_add(1, Ordering::Relaxed) as u64 + 1;
            if flying > get(&self.most) {
                self.most.fetch_max(flying, Ordering::Relaxed);
            }
            None
        })
    }

    /// A key with this tag is changed, by the holder of the lock of the tag's shard of the index:
    /// no flight of before stores its page, and whoever asks from now on waits for no such flight.
    pub(crate) fn tell(&self, tag: Tag) {
        // Relaxed: the lock of the index's shard orders it; see the head.
        if self.flying.load(Ordering::Relaxed) == 0 || model_bug!(FlightUntold) {
            return;
        }
        let mut told = 0;
        self.lists.with_listed(tag, |list| {
            told = list.len();
            list.drain(..).for_each(|listed| listed.flight.told.tell());
        });
        if told != 0 {
            // The map gets smaller when their pilots end, which hold no lock.
            self.flying.fetch_sub(told, Ordering::Relaxed);
        }
    }

    /// All flights on lists, with their tags.
    pub(crate) fn listed(&self) -> Vec<(Tag, Arc<Flight<K>>)> {
        let mut all = Vec::new();
        self.lists.each(|tag, list| {
            all.extend(list.iter().map(|listed| (tag, Arc::clone(&listed.flight))));
        });
        all
    }

    /// Takes a flight off its list, if no change of its key has done so.
    fn take_off(&self, tag: Tag, flight: &Arc<Flight<K>>) {
        let mut taken = 0;
        let others = |listed: &Listed<K>| !Arc::ptr_eq(&listed.flight, flight);
        self.lists.with_listed(tag, |list| {
            taken = list.len();
            list.retain(others);
            taken -= list.len();
        });
        self.taken_off(taken);
    }

    /// Notes that `flights` have left their lists. What the map grew for is given back: a burst
    /// costs as much again at the most, and a single load only looks at the numbers.
    fn taken_off(&self, flights: usize) {
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

    /// Loads that are under way and not told.
    pub(crate) fn len(&self) -> usize {
        self.flying.load(Ordering::Relaxed)
    }

    /// The pilot of a flight gives up: the first waiter becomes the pilot, or the flight is over.
    fn hand_over(&self, tag: Tag, flight: &Arc<Flight<K>>) {
        if !flight.offer() {
            self.take_off(tag, flight);
        }
    }
}

impl<K> Pilot<K> {
    pub(crate) fn key(&self) -> &K {
        &self.flight.key
    }

    pub(crate) fn tag(&self) -> Tag {
        self.tag
    }

    pub(crate) fn told(&self) -> &Told {
        &self.flight.told
    }

    /// Everybody on board gets a copy of `page` when this is dropped.
    pub(crate) fn brings(&mut self, page: &[u8]) {
        self.brings_what(|| Some(Bytes::copy_from_slice(page)));
    }

    /// Brings the page that `make` makes to all aboard. Where it makes none, the flight is handed
    /// over.
    pub(crate) fn brings_what(&mut self, make: impl FnOnce() -> Option<Bytes>) {
        // Nobody waits most often: nothing is made then.
        self.over = self.flight.is_over_unless_awaited();
        if !self.over {
            self.landing = self.flight.run(make).map(Ok);
        }
    }

    /// What everybody on board gets when this is dropped.
    pub(crate) fn lands(&mut self, landing: Landing) {
        self.landing = Some(landing);
    }

    /// Runs the loader, or a step of it. If that panics those who wait are told so.
    pub(crate) fn run<R>(&mut self, load: impl FnOnce() -> R) -> R {
        self.landing = Some(Err(LoadError::Panicked));
        let made = self.flight.run(load);
        self.landing = None;
        made
    }

    /// Runs a call of the cache's for this pilot. User code in it, such as a hook, that asks for
    /// the key is told of a recursion: it would wait for itself.
    pub(crate) fn at_work<R>(&self, call: impl FnOnce() -> R) -> R {
        self.flight.run(call)
    }

    /// Everybody on board gets a copy of `page` when what this returns is dropped, unless something
    /// else lands.
    pub(crate) fn bringing(self, page: &[u8]) -> Bringing<'_, K> {
        Bringing { pilot: self, page }
    }
}

impl<K> Drop for Pilot<K> {
    fn drop(&mut self) {
        // The key is dropped after this, off the list: that is the user's code.
        let left = model_bug!(FlightLeft) && matches!(self.landing, Some(Err(_)));
        let (tag, flight) = (self.tag, &self.flight);
        match self.landing.take() {
            None if !self.over => self.flights.hand_over(tag, flight),
            landing => {
                let waiting = landing.map(|landing| flight.land(landing));
                if !left {
                    self.flights.take_off(tag, flight);
                }
                wake(waiting.into_iter().flatten().filter_map(|(_, waker)| waker));
            }
        }
    }
}

impl<K> Bringing<'_, K> {
    pub(crate) fn pilot(&self) -> &Pilot<K> {
        &self.pilot
    }
}

impl<K> Drop for Bringing<'_, K> {
    fn drop(&mut self) {
        if self.pilot.landing.is_none() {
            self.pilot.brings(self.page);
        }
    }
}

impl<K> Waiter<K> {
    /// What there is for this waiter. `None`: nothing yet, and `waker` is woken up when there is.
    fn look(&mut self, waker: &Waker) -> Option<Arrival<K>> {
        let ticket = self.ticket.expect("what has arrived is asked for once");
        let (seen, waker) = self.flight.look(ticket, waker);
        let arrival = match seen {
            Seen::NotYet => None,
            Seen::Landed(landing) => Some(Arrival::Landed(landing)),
            Seen::Offer => {
                Some(Arrival::Pilot(self.flights.pilot(self.tag, Arc::clone(&self.flight))))
            }
        };
        self.ticket = self.ticket.filter(|_| arrival.is_none());
        drop(waker);
        arrival
    }

    /// Waits in this thread. `None`: it is `until`, and nothing has arrived.
    pub(crate) fn wait(&mut self, until: Option<Instant>) -> Option<Arrival<K>> {
        let parker = Arc::new(Parker::new());
        let waker = Waker::from(Arc::clone(&parker));
        loop {
            if let Some(arrival) = self.look(&waker) {
                return Some(arrival);
            }
            if !parker.park(until) {
                return None;
            }
        }
    }

    /// Waits in this thread for as long as it takes.
    pub(crate) fn wait_on(mut self) -> Arrival<K> {
        self.wait(None).expect("there is no time to give up at")
    }
}

impl<K> Future for Waiter<K> {
    type Output = Arrival<K>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Arrival<K>> {
        self.look(context.waker()).map_or(Poll::Pending, Poll::Ready)
    }
}

impl<K> Drop for Waiter<K> {
    fn drop(&mut self) {
        if self.ticket.is_some_and(|ticket| self.flight.leave(ticket)) {
            self.flights.hand_over(self.tag, &self.flight);
        }
    }
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

    fn load<K: Eq + Clone + std::fmt::Debug>(
        flights: &Arc<Flights<K>>,
        tag: Tag,
        key: &K,
    ) -> Pilot<K> {
        match flights.board(tag, key) {
            Boarding::Load(pilot) => pilot,
            other => panic!("{other:?}"),
        }
    }

    fn waits<K: Eq + Clone>(flights: &Arc<Flights<K>>, tag: Tag, key: &K) -> Option<Waiter<K>> {
        match flights.board(tag, key) {
            Boarding::Wait(waiter) => Some(waiter),
            _ => None,
        }
    }

    /// What there is without waiting.
    fn now<K>(waiter: &mut Waiter<K>) -> Option<Arrival<K>> {
        waiter.look(Waker::noop())
    }

    fn flights<K>() -> Arc<Flights<K>> {
        Arc::new(Flights::new())
    }

    fn many(flights: &Arc<Flights<u32>>) -> Vec<Pilot<u32>> {
        let pilots: Vec<_> = (0..MANY).map(|key| load(flights, tag_of(key), &key)).collect();
        assert_eq!(flights.len(), MANY as usize);
        assert!(flights.lists.capacity() >= MANY as usize);
        pilots
    }

    #[test]
    fn ten_thousand_loads_at_once_leave_no_flight_and_no_memory() {
        let flights = flights();
        for _ in 0..2 {
            let pilots = many(&flights);
            for key in 0..MANY {
                assert!(waits(&flights, tag_of(key), &key).is_some());
            }
            drop(pilots);
            assert_eq!(flights.len(), 0);
            let left = flights.lists.capacity();
            assert!(left <= 2 * FEW as usize, "room for {left} flights is left");
        }
        let pilots = many(&flights);
        for (tag, _) in flights.listed() {
            flights.tell(tag);
        }
        assert_eq!(flights.len(), 0);
        drop(pilots);
        assert_eq!(flights.len(), 0);
        let left = flights.lists.capacity();
        assert!(left <= 2 * FEW as usize, "room for {left} flights is left");
    }

    /// As with one flight that never ends, or with loads that follow one another without a pause.
    #[test]
    fn memory_of_many_flights_goes_while_a_few_are_under_way() {
        let flights = flights();
        let mut pilots = many(&flights);
        pilots.truncate(10);
        let left = flights.lists.capacity();
        assert!(left <= 4 * FEW as usize, "room for {left} flights is left");
        for key in 0..10 {
            assert!(waits(&flights, tag_of(key), &key).is_some());
        }
    }

    #[test]
    fn only_keys_of_equal_tags_are_compared() {
        let counts = Rc::new([Cell::new(0), Cell::new(0)]);
        let key = |key| Counted(key, Rc::clone(&counts));
        let flights = flights();
        let pilots: Vec<_> =
            (0..MANY).map(|name| load(&flights, tag_of(name), &key(name))).collect();
        assert_eq!(counts[0].take(), 0);
        let same: Vec<_> =
            (0..3).map(|name| load(&flights, tag_of(7), &key(MANY + name))).collect();
        assert_eq!(counts[0].take(), 1 + 2 + 3, "each with those before it");
        drop(load(&flights, tag_of(MANY), &key(MANY)));
        assert_eq!(counts[0].take(), 0);
        assert!(waits(&flights, tag_of(7), &key(MANY + 1)).is_some());
        assert_eq!(counts[0].take(), 3, "it is the third of its tag");
        drop((pilots, same));
        assert_eq!(flights.len(), 0);
    }

    #[test]
    fn a_flight_that_was_told_is_nobodys_but_its_pilots() {
        let counts = Rc::new([Cell::new(0), Cell::new(0)]);
        let [one, two] = [1, 2].map(|key| Counted(key, Rc::clone(&counts)));
        let flights = flights();
        let (first, other) = (load(&flights, 7, &one), load(&flights, 7, &two));
        let beside = load(&flights, 8, &one);
        flights.tell(7);
        assert!(first.told().is_told() && other.told().is_told() && !beside.told().is_told());
        assert_eq!((flights.len(), counts[1].take()), (1, 0), "no key is dropped by a change");
        let second = load(&flights, 7, &one);
        drop((first, other));
        assert_eq!((flights.len(), counts[1].take()), (2, 2), "a pilot lands no other flight");
        assert!(waits(&flights, 7, &one).is_some() && waits(&flights, 8, &one).is_some());
        assert!(!second.told().is_told());
        drop((second, beside));
        assert_eq!((flights.len(), counts[1].take()), (0, 2), "each key is dropped once");
        drop((one, two));
        assert_eq!(counts[1].get(), 2);
    }

    #[test]
    fn a_pilot_that_gives_up_hands_over_to_those_who_wait_in_their_order() {
        let flights = flights();
        let pilot = load(&flights, 7, &1);
        let mut waiters: Vec<_> = (0..4).map(|_| waits(&flights, 7, &1).unwrap()).collect();
        assert!(waiters.iter_mut().all(|waiter| now(waiter).is_none()));
        // Who leaves before it has an offer leaves nothing.
        drop(waiters.remove(1));
        drop(pilot);
        // Who leaves with one passes it on.
        drop(waiters.remove(0));
        let Some(Arrival::Pilot(mut second)) = now(&mut waiters[0]) else { panic!("no offer") };
        assert!(now(&mut waiters[1]).is_none());
        assert_eq!(flights.len(), 1);
        assert!(matches!(flights.board(7, &1), Boarding::Wait(_)));
        second.lands(Ok(Bytes::from_static(b"page")));
        drop(second);
        let Some(Arrival::Landed(landing)) = now(&mut waiters[1]) else { panic!("no landing") };
        assert_eq!(landing.unwrap(), &b"page"[..]);
        assert_eq!(flights.len(), 0);
        assert!(matches!(flights.board(7, &1), Boarding::Load(_)), "and nothing is left");
        assert_eq!(flights.len(), 0);
    }

    #[test]
    fn a_flight_that_nobody_waits_for_is_over() {
        let flights = flights();
        let pilot = load(&flights, 7, &1);
        let waiter = waits(&flights, 7, &1).unwrap();
        drop(pilot);
        assert_eq!(flights.len(), 1, "it is offered");
        drop(waiter);
        assert_eq!(flights.len(), 0);
        let bringing = load(&flights, 7, &1).bringing(b"page");
        drop(bringing);
        assert_eq!(flights.len(), 0);
        let bringing = load(&flights, 7, &1).bringing(b"page");
        let mut waiter = waits(&flights, 7, &1).unwrap();
        drop(bringing);
        assert!(matches!(now(&mut waiter), Some(Arrival::Landed(Ok(page))) if page == b"page"[..]));
        assert_eq!(flights.len(), 0);
    }

    #[test]
    fn only_inside_its_loader_a_thread_is_told_of_a_recursion() {
        let flights = flights();
        let mut pilot = load(&flights, 7, &1);
        pilot.run(|| {
            assert!(matches!(flights.board(7, &1), Boarding::Recursive));
            assert!(matches!(flights.board(7, &2), Boarding::Load(_)));
            let elsewhere = std::thread::scope(|scope| {
                let board = || matches!(flights.board(7, &1), Boarding::Wait(_));
                scope.spawn(board).join().unwrap()
            });
            assert!(elsewhere);
        });
        assert!(matches!(flights.board(7, &1), Boarding::Wait(_)));
    }
}
