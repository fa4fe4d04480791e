//! Loads and leases beside user code that misbehaves: hooks that ask for what is being stored,
//! wakers and keys that panic while others wait.
#![cfg(not(zcache_loom))]

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use tests::callbacks::{Gone, LONGEST, cache, config, ignore, in_time, page};
use tests::user_code::{Key, Seeds, Tally, Trap, pass_planted_panics, step_on, with_trap};
use zcache::{Cache, HotShare, InsertError, Leased, LoadError, Waited, Waiting};

type Load = fn(&Cache<u64>, u64);

fn now<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn waiting(cache: &Cache<u64>, key: u64) -> Waiting<u64> {
    cache.get_or_lease(&key).waiting().expect("it is loaded")
}

/// Each way to load a page of 4096 bytes.
const LOADS: [Load; 4] = [
    |cache, key| {
        let load = |to: &mut Vec<u8>| {
            to.extend(page(key, 4096));
            Ok::<(), Gone>(())
        };
        assert!(cache.get_or_insert_with(&key, load).unwrap() == page(key, 4096));
    },
    |cache, key| {
        let load = |to: &mut [u8]| {
            to.copy_from_slice(&page(key, 4096));
            Ok::<usize, Gone>(4096)
        };
        assert_eq!(cache.load_into(&key, &mut [0; 4096], load).unwrap(), 4096);
    },
    |cache, key| {
        let load = async { Ok::<_, Gone>(page(key, 4096)) };
        let mut load = pin!(cache.get_or_insert_async(&key, load));
        assert!(now(&mut load).is_ready());
    },
    |cache, key| {
        let Some(lease) = cache.get_or_lease(&key).lease() else { return };
        let stored = cache.insert_if_valid(lease, &page(key, 4096));
        assert!(matches!(stored, Ok(()) | Err(InsertError::NoRoom { .. })), "{stored:?}");
    },
];

/// A hook that asked for the key of the load in whose thread it was called waited for itself.
#[test]
fn a_hook_that_asks_for_the_key_that_is_being_stored_is_told_so() {
    in_time("hook", || {
        let (asked, told) = (Arc::new(AtomicU64::new(0)), Arc::<AtomicUsize>::default());
        let (key, count) = (Arc::clone(&asked), Arc::clone(&told));
        let cache = Arc::new_cyclic(|weak: &Weak<Cache<u64>>| {
            let weak = weak.clone();
            cache(600 << 10).on_removal(move |_| {
                let (Some(cache), key) = (weak.upgrade(), key.load(Ordering::Relaxed)) else {
                    return;
                };
                if key == 0 {
                    return;
                }
                let load = |_: &mut Vec<u8>| -> Result<(), Gone> { panic!("it is under way") };
                match cache.get_or_insert_with(&key, load) {
                    Err(LoadError::Recursive) => ignore(count.fetch_add(1, Ordering::Relaxed)),
                    Ok(stored) => assert!(stored == page(key, 4096)),
                    Err(error) => panic!("{error}"),
                }
                let waiting = cache.get_or_lease(&key).waiting().map(Waiting::wait);
                assert!(matches!(waiting, None | Some(Waited::Failed(LoadError::Recursive))));
            })
        });
        for (way, load) in LOADS.into_iter().enumerate() {
            told.store(0, Ordering::Relaxed);
            for key in 1..=400 {
                let key = 1000 * (way as u64 + 1) + key;
                asked.store(key, Ordering::Relaxed);
                load(&cache, key);
                asked.store(0, Ordering::Relaxed);
                assert!(cache.get(&key).is_some_and(|got| got == page(key, 4096)), "{way}");
            }
            assert!(told.load(Ordering::Relaxed) > 50, "{way}: {}", cache.stats());
        }
        cache.check();
    });
}

/// A future that asks for its own key when it is dropped.
struct Asks<'c>(&'c Cache<u64>, Option<u8>, &'c AtomicUsize);

impl Future for Asks<'_> {
    type Output = Result<Vec<u8>, Gone>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match self.1 {
            None => Poll::Pending,
            Some(0) => panic!("planted"),
            Some(byte) => Poll::Ready(Ok(vec![byte])),
        }
    }
}

impl Drop for Asks<'_> {
    fn drop(&mut self) {
        let load = |_: &mut Vec<u8>| -> Result<(), Gone> { panic!("it is under way") };
        let asked = self.0.get_or_insert_with(&7, load);
        assert!(matches!(asked, Err(LoadError::Recursive)), "{asked:?}");
        self.2.fetch_add(1, Ordering::Relaxed);
    }
}

/// It waited for itself.
#[test]
fn a_future_that_asks_for_its_own_key_when_it_is_dropped_is_told_so() {
    pass_planted_panics();
    in_time("drop", || {
        let (cache, asked) = (cache(2 << 20), AtomicUsize::new(0));
        for end in [None, Some(0), Some(1)] {
            let mut load = Box::pin(cache.get_or_insert_async(&7, Asks(&cache, end, &asked)));
            let polled = catch_unwind(AssertUnwindSafe(|| now(&mut load).is_ready()));
            assert_eq!(polled.ok(), end.map_or(Some(false), |byte| (byte > 0).then_some(true)));
            let other = cache.get_or_lease(&7).waiting();
            assert_eq!(other.is_some(), end.is_none(), "otherwise the load has ended");
            drop(load);
            let waited = other.map(Waiting::wait);
            assert!(matches!(waited, None | Some(Waited::Lease(_))), "it is handed over");
        }
        assert_eq!((asked.into_inner(), cache.get(&7).as_deref()), (3, Some(&[1][..])));
        cache.check();
    });
}

/// A waker that panics when it is called.
#[derive(Default)]
struct Panics(AtomicUsize);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("planted");
    }
}

#[derive(Default)]
struct Counts(AtomicUsize);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One executor's waker that panicked kept the tasks of all others asleep, and threads, too.
#[test]
fn a_waker_that_panics_keeps_nobody_else_asleep() {
    pass_planted_panics();
    in_time("wakers", || {
        type End = fn(&Cache<u64>, zcache::Lease<u64>);
        let ends: [End; 3] = [
            |cache, lease| assert_eq!(cache.insert_if_valid(lease, &[7; 70]), Ok(())),
            |_, lease| lease.fail(Gone(7)),
            // The loader's own panic goes on, and not a second one, which would end the process.
            |cache, lease| {
                drop(lease);
                let waiting = cache.get_or_lease(&7).waiting().expect("it is offered");
                drop(waiting);
            },
        ];
        for (number, end) in ends.into_iter().enumerate() {
            let cache = cache(2 << 20);
            let lease = cache.get_or_lease(&7).lease().unwrap();
            let (panics, counts) = (Arc::<Panics>::default(), Arc::<Counts>::default());
            let mut all: Vec<_> = (0..9).map(|_| waiting(&cache, 7)).collect();
            for (at, waiting) in all.iter_mut().enumerate() {
                let waker = match at % 3 {
                    0 => Waker::from(Arc::clone(&panics)),
                    _ => Waker::from(Arc::clone(&counts)),
                };
                assert!(Pin::new(waiting).poll(&mut Context::from_waker(&waker)).is_pending());
            }
            let ended = catch_unwind(AssertUnwindSafe(|| end(&cache, lease)));
            assert!(ended.is_err(), "a waker's panic is not hidden");
            let woken = (panics.0.load(Ordering::Relaxed), counts.0.load(Ordering::Relaxed));
            assert_eq!(woken, if number == 2 { (1, 0) } else { (3, 6) }, "end {number}");
            // Whoever has the offer goes last, and wakes nobody.
            while all.pop().is_some() {}
            assert_eq!(cache.get_or_lease(&7).page().is_some(), number == 0);
            cache.check();
        }
    });
}

#[test]
fn a_waker_that_panics_while_the_loader_panics_does_not_end_the_process() {
    pass_planted_panics();
    in_time("wakers of a panic", || {
        let cache = cache(2 << 20);
        let (panics, counts) = (Arc::<Panics>::default(), Arc::<Counts>::default());
        let mut aboard = Vec::new();
        let load = |_: &mut Vec<u8>| -> Result<(), Gone> {
            let wait = |waker: Waker| {
                let mut waiting = waiting(&cache, 7);
                let polled = Pin::new(&mut waiting).poll(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
                waiting
            };
            // In another thread: in this one it is a recursion.
            aboard.extend(thread::scope(|scope| {
                let wait = || [wait(Arc::clone(&panics).into()), wait(Arc::clone(&counts).into())];
                scope.spawn(wait).join().unwrap()
            }));
            panic!("planted");
        };
        assert!(catch_unwind(AssertUnwindSafe(|| cache.get_or_insert_with(&7, load))).is_err());
        assert_eq!((panics.0.load(Ordering::Relaxed), counts.0.load(Ordering::Relaxed)), (1, 1));
        assert!(cache.get_or_lease(&7).lease().is_some(), "nothing is left of it");
        cache.check();
    });
}

type World = Cache<Key, Seeds>;

/// What becomes of those who wait, who came in this order: each has an answer, or the lease, which
/// it drops.
fn settle(all: Vec<Waiting<Key>>) -> [usize; 3] {
    let mut counts = [0; 3];
    for mut waiting in all {
        let at = match now(&mut waiting) {
            Poll::Ready(Waited::Page(_)) => 0,
            Poll::Ready(Waited::Lease(_)) => 1,
            Poll::Ready(Waited::Failed(error)) => {
                let known = matches!(error, LoadError::Panicked | LoadError::TooLarge { .. });
                assert!(known || error.downcast_ref::<Gone>().is_some(), "{error}");
                2
            }
            Poll::Pending => panic!("it waits for nobody"),
        };
        counts[at] += 1;
    }
    counts
}

/// Calls that end a load for which others wait.
type End = (&'static str, fn(&World, &dyn Fn() -> Key, Option<zcache::Lease<Key>>));

fn ends() -> [End; 7] {
    [
        ("store", |cache, _, lease| ignore(cache.insert_if_valid(lease.unwrap(), &page(1, 4096)))),
        ("large", |cache, _, lease| {
            ignore(cache.insert_if_valid(lease.unwrap(), &[0; LONGEST + 1]));
        }),
        ("fail", |_, _, lease| lease.unwrap().fail(Gone(7))),
        ("drop", |_, _, lease| drop(lease)),
        ("outdate", |cache, key, lease| {
            cache.remove(&key());
            ignore(cache.insert_if_valid(lease.unwrap(), &page(1, 4096)));
        }),
        ("replace", |cache, key, lease| {
            ignore(cache.insert(key(), &page(2, 4096)));
            drop(lease);
        }),
        ("retain", |cache, _, lease| {
            cache.retain(|key| {
                step_on(Trap::Keep);
                key.name % 2 == 0
            });
            ignore(cache.insert_if_valid(lease.unwrap(), &page(1, 4096)));
        }),
    ]
}

/// Whatever panics while a load ends, nobody who waits for it is forgotten, no key is leaked, and
/// the key can be loaded again.
#[test]
fn a_panic_in_any_user_code_leaves_nobody_waiting() {
    pass_planted_panics();
    in_time("panics", || {
        let traps =
            [Trap::Hash, Trap::Eq, Trap::Drop, Trap::Clone, Trap::Hasher, Trap::Hook, Trap::Keep];
        let mut sprang = 0;
        for (name, end) in ends() {
            for (trap, share) in traps.iter().flat_map(|trap| {
                [HotShare::Off, HotShare::Fraction(4)].into_iter().map(move |share| (*trap, share))
            }) {
                sprang +=
                    (0..40).take_while(|after| panic_once(name, end, trap, *after, share)).count();
            }
        }
        assert!(sprang > 60, "{sprang} panics");
    });
}

/// Whether the trap sprang.
fn panic_once(
    name: &str,
    end: fn(&World, &dyn Fn() -> Key, Option<zcache::Lease<Key>>),
    trap: Trap,
    after: usize,
    share: HotShare,
) -> bool {
    let tally = Arc::<Tally>::default();
    let cache: World = Cache::with_hasher(config(500 << 10).hot(share), Seeds).unwrap();
    let cache = cache.on_removal(|_| step_on(Trap::Hook));
    let key = || Key::new(&tally, 7);
    let mut filler = 1000;
    while cache.stats().removals.evicted == 0 {
        ignore(cache.insert(Key::new(&tally, filler), &page(filler, 4096)));
        filler += 1;
    }
    // Others of its hash: one in the cache, and one that is loaded.
    ignore(cache.insert(Key::new(&tally, 6), &[6; 60]));
    let beside = cache.get_or_lease(&Key::new(&tally, 8)).lease();
    let lease = cache.get_or_lease(&key()).lease();
    let all: Vec<_> =
        (0..4).map(|_| cache.get_or_lease(&key()).waiting().expect("it is loaded")).collect();
    let lease = RefCell::new(lease);
    let sprang = with_trap(trap, after, || end(&cache, &key, lease.take())).is_none();
    drop(lease);
    let what = format!("{name}: {trap:?} {after}");
    let counts = settle(all);
    assert_eq!(counts.iter().sum::<usize>(), 4, "{what}");
    drop(beside);
    if let Leased::Wait(_) = cache.get_or_lease(&key()) {
        panic!("{what}: something is left");
    }
    cache.check();
    drop(cache);
    tally.assert_each_dropped_once();
    sprang
}

/// Calls that a caller makes who misses a key, in the place of one that waits or loads.
#[test]
fn a_panic_in_any_user_code_of_a_caller_that_comes_leaves_nothing_of_it() {
    pass_planted_panics();
    in_time("comers", || {
        type Come = fn(&World, &dyn Fn() -> Key);
        let comes: [(&str, Come); 4] = [
            ("lease", |cache, key| ignore(cache.get_or_lease(&key()))),
            ("into", |cache, key| ignore(cache.get_into_or_lease(&key(), &mut [0; 64]))),
            ("async", |cache, key| {
                let (key, mut polled) = (key(), false);
                let load = async { Ok::<_, Gone>(vec![3; 33]) };
                let mut load = pin!(cache.get_or_insert_async(&key, load));
                while !polled {
                    polled = true;
                    ignore(now(&mut load));
                }
            }),
            ("timeout", |cache, key| {
                if let Leased::Wait(waiting) = cache.get_or_lease(&key()) {
                    ignore(waiting.wait_timeout(std::time::Duration::ZERO));
                }
            }),
        ];
        let traps = [Trap::Hash, Trap::Eq, Trap::Drop, Trap::Clone, Trap::Hasher];
        let mut sprang = 0;
        for (name, come) in comes {
            for (trap, loaded) in
                traps.iter().flat_map(|trap| [false, true].map(|loaded| (*trap, loaded)))
            {
                let comes = |after: &usize| {
                    let tally = Arc::<Tally>::default();
                    let cache: World = Cache::with_hasher(config(500 << 10), Seeds).unwrap();
                    let key = || Key::new(&tally, 7);
                    let beside = cache.get_or_lease(&Key::new(&tally, 6)).lease();
                    let lease =
                        if loaded { cache.get_or_lease(&key()).lease() } else { Option::None };
                    let trapped = with_trap(trap, *after, || come(&cache, &key)).is_none();
                    drop(lease);
                    let what = format!("{name}: {trap:?} {after}");
                    assert!(!matches!(cache.get_or_lease(&key()), Leased::Wait(_)), "{what}");
                    drop(beside);
                    cache.check();
                    drop(cache);
                    tally.assert_each_dropped_once();
                    trapped
                };
                sprang += (0..40).take_while(comes).count();
            }
        }
        assert!(sprang > 40, "{sprang} panics");
    });
}

/// A waker that makes calls for the key that has just landed or is offered.
struct Calls(Weak<Cache<u64>>, AtomicBool);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        let Some(cache) = self.0.upgrade() else { return };
        self.1.store(true, Ordering::Relaxed);
        ignore((cache.get(&7), cache.stats().loads, cache.keys()));
        ignore(cache.get_or_lease(&7));
        let load = |to: &mut Vec<u8>| {
            to.push(8);
            Ok::<(), Gone>(())
        };
        assert_eq!(cache.get_or_insert_with(&8, load).unwrap(), [8][..]);
        cache.retain(|key| *key != 8);
        cache.clear();
    }
}

#[test]
fn a_waker_may_call_the_cache() {
    in_time("calling wakers", || {
        for ends in 0..4 {
            let cache = Arc::new(cache(2 << 20));
            let lease = cache.get_or_lease(&7).lease().unwrap();
            let calls = Arc::new(Calls(Arc::downgrade(&cache), AtomicBool::new(false)));
            let mut all: Vec<_> = (0..3).map(|_| waiting(&cache, 7)).collect();
            let waker = Waker::from(Arc::clone(&calls));
            for waiting in &mut all {
                let polled = Pin::new(waiting).poll(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
            }
            match ends {
                0 => assert_eq!(cache.insert_if_valid(lease, &[7; 70]), Ok(())),
                1 => lease.fail(Gone(7)),
                2 => drop(lease),
                _ => {
                    cache.clear();
                    drop(lease);
                }
            }
            assert!(calls.1.load(Ordering::Relaxed));
            for mut waiting in all {
                assert!(now(&mut waiting).is_ready(), "end {ends}");
            }
            assert!(cache.get_or_lease(&7).lease().is_some());
            cache.check();
        }
    });
}

/// Leases and those who wait go to other threads, past the end of their cache.
#[test]
fn leases_and_who_waits_for_them_outlive_the_cache_in_other_threads() {
    in_time("outliving", || {
        let (first, second) = (cache(2 << 20), cache(2 << 20));
        let lease = first.get_or_lease(&7).lease().unwrap();
        let all: Vec<_> = (0..20).map(|_| waiting(&first, 7)).collect();
        let threads: Vec<_> =
            all.into_iter().map(|waiting| thread::spawn(move || waiting.wait())).collect();
        // Another cache's key of that name is another load.
        let other = second.get_or_lease(&7).lease().unwrap();
        drop(first);
        let stranger = thread::spawn(move || {
            let refused = second.insert_if_valid(lease, &[1; 10]);
            (refused, second)
        });
        let (refused, second) = stranger.join().unwrap();
        assert_eq!(refused, Err(InsertError::Outdated));
        let leases = threads.into_iter().map(|thread| match thread.join().unwrap() {
            Waited::Lease(lease) => drop(lease),
            other => panic!("{other:?}"),
        });
        assert_eq!(leases.count(), 20, "one after the other");
        assert_eq!(second.insert_if_valid(other, &[2; 20]), Ok(()));
        assert_eq!(second.get(&7).as_deref(), Some(&[2; 20][..]));
        second.check();
    });
}
