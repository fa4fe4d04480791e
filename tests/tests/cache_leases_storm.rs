//! Loads, leases and changes of few keys, at random, by threads against each other.
//! `ZCACHE_STRESS_OPS` sets four times the operations of each thread.
//!
//! Each key has a home, which holds its newest version, and a page says whose it is and which
//! version it has. Whoever changes a key writes its home first, and tells the cache then. What must
//! hold:
//! 1. a caller that comes after a change has returned, or after anybody has hit a newer page, gets
//!    no older one, wherever the page comes from: a hit, a load, a lease of somebody else;
//! 2. a lease stores its page if no change of its key was under way since it was asked for, and
//!    does not if one began after it was given and has returned;
//! 3. two loads of a key run at once only if the key was changed since the first was asked for;
//! 4. nobody waits for ever, and nothing is left in the end.
//!
//! Pairs of keys have one hash, so each is told of the other's changes.
#![cfg(not(zcache_loom))]

use std::future::{Future, poll_fn};
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tests::callbacks::{Gone, LONGEST, config, ignore, in_time, page};
use tests::homes::{Before, Homes, Running};
use tests::pattern::Random;
use tests::user_code::{Fragile, Lie, pass_planted_panics, with_lie};
use zcache::{
    Cache, Config, HotShare, InsertError, InsertOptions, Lease, Leased, LoadError, Waited, Waiting,
};

const KEYS: usize = 6;
const THREADS: u64 = 6;
/// Operations of all workers between two changes of many keys.
const PACE: usize = 20;

fn ops() -> usize {
    std::env::var("ZCACHE_STRESS_OPS").ok().and_then(|ops| ops.parse().ok()).unwrap_or(12_000) / 4
}

/// A key. Those below [`KEYS`] share a hash in pairs; the others only take room.
#[derive(Debug, Clone, Copy, Eq)]
struct Name(usize);

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        if self.0 < KEYS && self.0 % 2 == 1 {
            // Somebody else gets on while keys are compared.
            thread::yield_now();
        }
        self.0 == other.0
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(group(self.0));
    }
}

/// Keys of one group have one hash.
fn group(key: usize) -> usize {
    if key < KEYS { key / 2 } else { key }
}

/// A lease, and what is known of it. Fields are dropped in their order: it runs until it is
/// dropped.
struct Granted<'w> {
    running: Running<'w>,
    lease: Lease<Name>,
    /// Nobody had it before.
    fresh: bool,
}

/// What threads leave to one another.
enum Parked<'w> {
    Lease(Granted<'w>),
    Waiting(Before, Waiting<Name>),
}

type Storm = Cache<Name, BuildHasherDefault<DefaultHasher>>;

struct World<'h> {
    cache: Storm,
    homes: &'h Homes,
    parked: Mutex<Vec<Parked<'h>>>,
    stop: AtomicBool,
    /// Operations of the workers.
    made: AtomicUsize,
    /// Leases that stored, that were outdated, and pages that came from others.
    seen: [AtomicUsize; 3],
}

fn how(random: &mut Random) -> InsertOptions {
    match random.below(4) {
        0 => InsertOptions::new().time_to_live(Duration::from_millis(random.below(3) as u64)),
        _ => InsertOptions::new(),
    }
}

impl<'h> World<'h> {
    fn new(config: Config, homes: &'h Homes) -> Self {
        Self {
            cache: Cache::with_hasher(config, BuildHasherDefault::default()).unwrap(),
            homes,
            parked: Mutex::default(),
            stop: AtomicBool::new(false),
            made: AtomicUsize::new(0),
            seen: Default::default(),
        }
    }

    fn failed(&self, key: usize, error: &LoadError) {
        match error {
            LoadError::Failed(_) => assert_eq!(error.downcast_ref(), Some(&Gone(key as u64))),
            LoadError::Panicked | LoadError::TooLarge { .. } | LoadError::BufferTooSmall(_) => {}
            error => panic!("key {key}: {error}"),
        }
    }

    fn insert(&self, key: usize, random: &mut Random) {
        self.homes.insert(key, |mut page| {
            let large = random.below(8) == 0;
            if large {
                page.resize(LONGEST + 1, 0);
            }
            // What fails takes the old page along.
            let inserted = self.cache.insert_with_options(Name(key), &page, how(random));
            assert!(!large || inserted.is_err());
        });
    }

    fn granted(&self, before: Before, lease: Lease<Name>, fresh: bool) -> Granted<'h> {
        assert_eq!(*lease.key(), Name(before.key));
        Granted { running: self.homes.run(before), lease, fresh }
    }

    /// Does something with a lease.
    fn fly(&self, granted: Granted<'h>, random: &mut Random) {
        let key = granted.running.before().key;
        match random.below(10) {
            0 | 1 => drop(granted),
            2 => {
                drop(granted.running);
                granted.lease.fail(Gone(key as u64));
            }
            3 => self.parked.lock().unwrap().push(Parked::Lease(granted)),
            what => {
                let mut page = self.homes.read(key, random);
                if what == 4 {
                    page.resize(LONGEST + 1, 0);
                }
                if random.below(4) == 0 {
                    self.change_one(key, random);
                }
                let Granted { running, lease, fresh } = granted;
                let store = || self.cache.insert_if_valid_with_options(lease, &page, how(random));
                let is_outdated = |error: &InsertError| *error == InsertError::Outdated;
                match running.store(fresh, store, is_outdated) {
                    Ok(()) => ignore(self.seen[0].fetch_add(1, SeqCst)),
                    Err(InsertError::Outdated) => ignore(self.seen[1].fetch_add(1, SeqCst)),
                    Err(InsertError::TooLarge { dropped, .. }) => assert!(what == 4 && !dropped),
                    Err(InsertError::NoRoom { dropped }) => assert!(!dropped),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    fn waited(&self, before: Before, waited: Waited<Name>, random: &mut Random) {
        match waited {
            Waited::Page(page) => {
                self.homes.verify(before, &page);
                self.seen[2].fetch_add(1, SeqCst);
            }
            Waited::Lease(lease) => self.fly(self.granted(before, lease, false), random),
            Waited::Failed(error) => self.failed(before.key, &error),
        }
    }

    fn wait(&self, before: Before, waiting: Waiting<Name>, random: &mut Random) {
        match random.below(8) {
            0..=2 => self.waited(before, waiting.wait(), random),
            3 | 4 => {
                let time = Duration::from_micros(random.below(60) as u64);
                match waiting.wait_timeout(time) {
                    Ok(waited) => self.waited(before, waited, random),
                    Err(again) if random.below(2) == 0 => {
                        self.waited(before, again.wait(), random);
                    }
                    Err(_) => {}
                }
            }
            5 => self.parked.lock().unwrap().push(Parked::Waiting(before, waiting)),
            6 => {
                (0..random.below(8)).for_each(|_| thread::yield_now());
                drop(waiting);
            }
            _ => {
                if let Some(waited) = finish(waiting, random) {
                    self.waited(before, waited, random);
                }
            }
        }
    }

    fn lease(&self, key: usize, random: &mut Random) {
        let before = self.homes.before(key);
        let mut to = vec![0; random.below(2 * LONGEST)];
        let leased = if random.below(2) == 0 {
            match self.cache.get_or_lease(&Name(key)) {
                Leased::Page(page) => return self.homes.hit(before, &page),
                Leased::Lease(lease) => Ok(lease),
                Leased::Wait(waiting) => Err(waiting),
            }
        } else {
            match self.cache.get_into_or_lease(&Name(key), &mut to) {
                Ok(Leased::Page(len)) => return self.homes.hit(before, &to[..len]),
                Ok(Leased::Lease(lease)) => Ok(lease),
                Ok(Leased::Wait(waiting)) => Err(waiting),
                Err(error) => return assert!(error.needed > to.len()),
            }
        };
        match leased {
            Ok(lease) => self.fly(self.granted(before, lease, true), random),
            Err(waiting) => self.wait(before, waiting, random),
        }
    }

    /// What a loader does.
    fn make(&self, before: Before, what: usize, random: &mut Random) -> Result<Vec<u8>, Gone> {
        let key = before.key;
        let running = self.homes.run(before);
        let mut page = self.homes.read(key, random);
        match what {
            0 => return Err(Gone(key as u64)),
            1 => panic!("planted"),
            2 => page.resize(LONGEST + 1, 0),
            3 if key + 1 < KEYS => self.load(key + 1 + random.below(KEYS - key - 1), random),
            4 => self.change_one(key, random),
            _ => {}
        }
        drop(running);
        Ok(page)
    }

    fn load(&self, key: usize, random: &mut Random) {
        let (before, what) = (self.homes.before(key), random.below(14));
        let mut to = vec![0; LONGEST / 4 + random.below(LONGEST)];
        let how = how(random);
        let into = random.below(3) == 0;
        let ended = catch_unwind(AssertUnwindSafe(|| {
            if into {
                let load = |to: &mut [u8]| {
                    let page = self.make(before, what, random)?;
                    if let Some(to) = to.get_mut(..page.len()) {
                        to.copy_from_slice(&page);
                    }
                    Ok::<usize, Gone>(page.len())
                };
                let len = self.cache.load_into(&Name(key), &mut to, load)?;
                return Ok(to[..len].to_vec());
            }
            let load = |to: &mut Vec<u8>| {
                *to = self.make(before, what, random)?;
                Ok::<(), Gone>(())
            };
            self.cache.get_or_insert_with_options(&Name(key), how, load).map(|page| page.to_vec())
        }));
        match ended {
            Ok(Ok(page)) => ignore(self.homes.verify(before, &page)),
            Ok(Err(LoadError::BufferTooSmall(error))) => assert!(into && error.needed > to.len()),
            Ok(Err(error)) => self.failed(key, &error),
            Err(panic) if panic.downcast_ref() != Some(&"planted") => resume_unwind(panic),
            Err(_) => assert_eq!(what, 1),
        }
    }

    fn load_async(&self, key: usize, random: &mut Random) {
        let (name, before, what) = (Name(key), self.homes.before(key), random.below(14));
        let how = how(random);
        let (mut steps, mut inner) = (random.below(4), Random::new(random.bits()));
        let future = self.cache.get_or_insert_async_with_options(&name, how, async {
            let running = self.homes.run(before);
            let page = self.homes.read(key, &mut inner);
            poll_fn(|context| {
                if steps == 0 {
                    return Poll::Ready(());
                }
                steps -= 1;
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            drop(running);
            match what {
                0..=4 => self.make(before, what, &mut inner),
                _ => Ok(page),
            }
        });
        let future = pin!(future);
        match catch_unwind(AssertUnwindSafe(|| finish(future, random))) {
            Ok(Some(Ok(page))) => ignore(self.homes.verify(before, &page)),
            Ok(Some(Err(error))) => self.failed(key, &error),
            Ok(None) => {}
            Err(panic) if panic.downcast_ref() != Some(&"planted") => resume_unwind(panic),
            Err(_) => assert_eq!(what, 1),
        }
    }

    fn change_one(&self, key: usize, random: &mut Random) {
        match random.below(3) {
            0 => self.insert(key, random),
            1 => self.homes.remove(&[key], || _ = self.cache.remove(&Name(key))),
            _ => {
                let before = self.homes.before(key);
                let mut taken = None;
                self.homes.remove(&[key], || taken = self.cache.take(&Name(key)));
                // It is gone: it says nothing of what is there.
                taken.into_iter().for_each(|page| ignore(self.homes.verify(before, &page)));
            }
        }
    }

    fn look(&self, key: usize, random: &mut Random) {
        let (before, name) = (self.homes.before(key), Name(key));
        let lie = (random.below(20) == 0).then_some(Lie::Corrupt);
        let got = with_lie(lie, || match random.below(4) {
            0 => self.cache.read(&name, <[u8]>::to_vec),
            1 => self.cache.peek(&name).map(|page| page.to_vec()),
            2 => self.cache.get_many(iter::once(&name)).remove(0).map(|page| page.to_vec()),
            _ => self.cache.get(&name).map(|page| page.to_vec()),
        });
        got.into_iter().for_each(|page| self.homes.hit(before, &page));
    }

    /// Goes on with what somebody has left, without a wait.
    fn go_on(&self, random: &mut Random) {
        let mut all = self.parked.lock().unwrap();
        let parked = match all.len() {
            0 => return,
            len => all.swap_remove(random.below(len)),
        };
        drop(all);
        match parked {
            Parked::Lease(granted) => self.fly(granted, random),
            Parked::Waiting(..) if random.below(4) == 0 => {}
            Parked::Waiting(before, mut waiting) => {
                match Pin::new(&mut waiting).poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(waited) => self.waited(before, waited, random),
                    Poll::Pending if random.below(4) == 0 => {}
                    Poll::Pending => {
                        self.parked.lock().unwrap().push(Parked::Waiting(before, waiting));
                    }
                }
            }
        }
    }

    fn work(&self, seed: u64) {
        let mut random = Random::new(seed);
        for _ in 0..ops() {
            self.made.fetch_add(1, SeqCst);
            let key = random.below(KEYS);
            match random.below(24) {
                0..=5 => self.lease(key, &mut random),
                6..=9 => self.load(key, &mut random),
                10..=13 => self.load_async(key, &mut random),
                14..=16 => self.look(key, &mut random),
                17..=19 => self.change_one(key, &mut random),
                20 | 21 => self.go_on(&mut random),
                _ => {
                    (0..4).for_each(|_| {
                        let other = Name(KEYS + random.below(500));
                        ignore(self.cache.insert(other, &page(other.0 as u64, 4096)));
                    });
                }
            }
        }
    }

    /// What is left to others, and changes of many keys, as often as the workers get on. This
    /// thread waits for no load.
    fn keep_house(&self) {
        let (mut random, all) = (Random::new(1), (0..KEYS).collect::<Vec<_>>());
        let (mut next, mut evicted) = (0, 0);
        while !self.stop.load(SeqCst) {
            self.go_on(&mut random);
            let made = self.made.load(SeqCst);
            if made < next {
                thread::yield_now();
                continue;
            }
            next = made + PACE;
            match random.below(20) {
                // The cache is full before it is emptied.
                0 => {
                    let now = self.cache.stats().removals.evicted;
                    if now > std::mem::replace(&mut evicted, now) {
                        self.homes.remove(&all, || self.cache.clear());
                    }
                }
                1 => self.cache.trim(),
                2 => drop(self.cache.compact(1 << 16)),
                3 => drop(self.cache.maintain(1 << 16)),
                4 => ignore(self.cache.resize(if random.below(2) == 0 { SMALL } else { LARGE })),
                _ => {
                    let bits = random.below(1 << KEYS);
                    let gone: Vec<_> = (0..KEYS).filter(|key| bits >> key & 1 == 1).collect();
                    let retain = || self.cache.retain(|name| !gone.contains(&name.0));
                    self.homes.remove(&gone, retain);
                }
            }
        }
    }
}

const SMALL: usize = 600 << 10;
const LARGE: usize = 700 << 10;

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls until there is something, or gives up.
fn finish<F: Future + Unpin>(mut future: F, random: &mut Random) -> Option<F::Output> {
    let patient = random.below(2) == 0;
    loop {
        // Another one each time.
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        if let Poll::Ready(done) = Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) {
            return Some(done);
        }
        if patient {
            thread::park();
            continue;
        }
        // It may be offered the load by the time that it gives up.
        thread::yield_now();
        if random.below(3) == 0 {
            return None;
        }
    }
}

fn storm(share: HotShare) {
    pass_planted_panics();
    in_time("storm", move || {
        let config = config(SMALL).codec(Fragile::default()).checksum(true).hot(share);
        let homes = Homes::new(KEYS, group);
        let world = World::new(config, &homes);
        thread::scope(|scope| {
            let world = &world;
            let house = scope.spawn(|| world.keep_house());
            let workers: Vec<_> =
                (0..THREADS).map(|seed| scope.spawn(move || world.work(seed * 31 + 7))).collect();
            let ended: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            world.stop.store(true, SeqCst);
            house.join().unwrap();
            ended.into_iter().for_each(|ended| ended.unwrap());
        });
        let World { cache, parked, seen, .. } = world;
        drop(parked);
        (0..KEYS).for_each(|key| ignore(cache.remove(&Name(key))));
        for key in 0..KEYS {
            assert!(cache.get_or_lease(&Name(key)).lease().is_some(), "nothing is left of loads");
        }
        cache.check();
        let (seen, gone) = (seen.map(AtomicUsize::into_inner), cache.stats().removals);
        let enough = seen.iter().all(|seen| *seen > 0)
            && [gone.expired, gone.corrupt, gone.evicted, gone.cleared]
                .iter()
                .all(|gone| *gone > 0);
        assert!(enough || ops() < 1000, "{seen:?} {}", cache.stats());
    });
}

#[test]
fn no_load_is_older_than_its_call_nor_run_twice_nor_waited_for_in_vain() {
    storm(HotShare::Off);
}

#[test]
fn no_load_is_older_than_its_call_nor_run_twice_nor_waited_for_in_vain_with_hot_pages() {
    storm(HotShare::Fraction(4));
}
