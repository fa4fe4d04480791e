//! What went wrong once in the cache.
#![cfg(not(zcache_loom))]

use std::borrow::Cow;
use std::cell::Cell;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::io;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use tests::alloc::{self, Watched};
use tests::callbacks::{in_time, page, panics};
use tests::user_code::pass_planted_panics;
use zcache::codec::{Codec, Context, Corrupt, Lz4};
use zcache::{Cache, Config, RemovalCause};

#[global_allocator]
static WATCHED: Watched = Watched;

/// A key whose comparison panics on demand.
#[derive(Debug, Clone)]
struct Touchy(u64);

static TOUCHY: AtomicBool = AtomicBool::new(false);

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        assert!(!TOUCHY.load(Ordering::Relaxed), "planted");
        self.0 == other.0
    }
}

impl Eq for Touchy {}

impl Hash for Touchy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// Unwinding compared the key again, to take its old page away: a second panic.
#[test]
fn a_comparison_that_panics_in_an_insert_ends_the_key_and_not_the_process() {
    let cache = Cache::new(Config::new(4 << 20)).unwrap();
    cache.insert(Touchy(1), &page(1, 4096)).unwrap();
    TOUCHY.store(true, Ordering::Relaxed);
    let insert = catch_unwind(AssertUnwindSafe(|| cache.insert(Touchy(1), &page(2, 4096))));
    TOUCHY.store(false, Ordering::Relaxed);
    assert!(insert.is_err() && !cache.contains_key(&Touchy(1)), "never stale");
    cache.check();
}

/// Each insert of a hook evicted, and called the hook again, until the stack ended.
#[test]
fn a_hook_that_inserts_does_not_call_itself_for_ever() {
    static CACHE: OnceLock<Cache<u64>> = OnceLock::new();
    static DEPTH: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let cache = Cache::new(Config::new(2 << 20)).unwrap().on_removal(|removal| {
        if removal.cause() == RemovalCause::Evicted {
            MOST.fetch_max(DEPTH.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let _ = CACHE.get().unwrap().insert(removal.key() | 1 << 40, &page(7, 300));
            DEPTH.fetch_sub(1, Ordering::Relaxed);
        }
    });
    let cache = CACHE.get_or_init(|| cache);
    // A hook that takes all the room it is told of may leave none.
    let insert = |key| {
        let _ = cache.insert(key, &page(key, 500));
    };
    in_time("inserts", move || (0..8000).for_each(insert));
    assert_eq!(MOST.load(Ordering::Relaxed), 1);
    cache.check();
}

/// Gives all keys one hash, so that a change of one tells the loads of all.
#[derive(Debug, Default)]
struct OneHash;

impl Hasher for OneHash {
    fn finish(&self) -> u64 {
        7
    }

    fn write(&mut self, _: &[u8]) {}
}

type Alike = Cache<u64, BuildHasherDefault<OneHash>>;

fn alike() -> Alike {
    Cache::with_hasher(Config::new(4 << 20), BuildHasherDefault::default()).unwrap()
}

/// A load of key 5 that has read version 1 and is under way while `change` runs, which makes the
/// cache forget key 6; then key 5 is loaded again, as version 2.
fn load_during(cache: &Alike, change: impl FnOnce()) {
    let (home, read) = (AtomicU64::new(1), Barrier::new(2));
    let (end, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let home = &home;
        let read = &read;
        let old = scope.spawn(move || {
            cache.get_or_insert_with(&5, |to| {
                *to = page(home.load(Ordering::SeqCst), 512);
                read.wait();
                let _ = ended.recv();
                Ok::<(), io::Error>(())
            })
        });
        cache.insert(6, &page(6, 512)).unwrap();
        read.wait();
        home.store(2, Ordering::SeqCst);
        change();
        let again = cache.get_or_insert_with(&5, |to| {
            *to = page(home.load(Ordering::SeqCst), 512);
            Ok::<(), io::Error>(())
        });
        end.send(()).unwrap();
        assert!(
            again.unwrap() == page(2, 512),
            "a page loaded before the change was handed out after"
        );
        old.join().unwrap().unwrap();
    });
    assert!(cache.peek(&5).unwrap() == page(2, 512));
}

/// Loads were told of a removal only after its hook had run.
#[test]
fn loads_are_told_of_a_removal_before_its_hook_runs() {
    let (gone, told) = mpsc::channel::<()>();
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let cache = alike().on_removal(move |_| {
        gone.send(()).unwrap();
        let _ = wait.lock().unwrap().recv();
    });
    let cache = Arc::new(cache);
    let remover = Arc::clone(&cache);
    load_during(&cache, move || {
        thread::spawn(move || remover.remove(&6));
        told.recv().unwrap();
    });
    drop(go_on);
}

/// And not at all where the hook panicked.
#[test]
fn loads_are_told_of_a_retain_whose_hook_panics() {
    let panics = Arc::new(AtomicBool::new(true));
    let armed = Arc::clone(&panics);
    let cache = alike();
    let cache = cache.on_removal(move |_| assert!(!armed.load(Ordering::Relaxed), "planted"));
    load_during(&cache, || {
        assert!(catch_unwind(AssertUnwindSafe(|| cache.retain(|_| false))).is_err());
        panics.store(false, Ordering::Relaxed);
    });
}

#[test]
fn a_lease_for_an_expired_entry_is_one_miss() {
    let cache = Cache::new(Config::new(4 << 20).time_to_live(Duration::from_millis(5))).unwrap();
    cache.insert(1_u64, &page(1, 4096)).unwrap();
    thread::sleep(Duration::from_millis(20));
    assert!(cache.get_or_lease(&1).lease().is_some());
    assert_eq!((cache.stats().misses, cache.stats().removals.expired), (1, 1));
}

/// The tables of an index could not shrink while more was held than the new capacity.
#[test]
fn a_resize_gives_the_tables_of_an_index_back() {
    const SMALL: usize = 2 << 20;
    let cache = Cache::new(Config::new(16 << 20)).unwrap();
    let fresh = cache.stats().bytes.index;
    (0..100_000_u64).for_each(|key| cache.insert(key, &[0; 64]).unwrap());
    let full = cache.stats().bytes.index;
    assert!(full > 400_000);
    assert_eq!(cache.resize(SMALL), Ok(()));
    assert!(cache.held_bytes() <= SMALL);
    let left = cache.stats().bytes.index;
    assert!(left < full / 4 * 3, "{left} of {full} bytes");
    cache.clear();
    // The first block of either kind of line stays, and the list of their pages.
    let (none, most) = (cache.stats().bytes.index, fresh + 2 * 4096 + 1024);
    assert!(none <= most, "{none} of at most {most} bytes for the tables of none");
    cache.check();
}

/// A key whose drop panics, in the thread that armed it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Mine(u64);

thread_local! {
    static MINE: Cell<bool> = const { Cell::new(false) };
}

impl Drop for Mine {
    fn drop(&mut self) {
        // Once: the others are dropped while this one's panic unwinds.
        assert!(!MINE.replace(false), "planted");
    }
}

/// All keys have the same hash.
#[derive(Debug, Default)]
struct Same;

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        7
    }
}

/// What a call was about to return was leaked when a key's drop panicked: one page each time.
#[test]
fn no_page_is_leaked_where_the_drop_of_a_key_panics() {
    type World = Cache<Mine>;
    type Call<'c> = (&'c str, &'c dyn Fn(&World, Mine));
    const LEN: usize = 1 << 16;
    // What libtest keeps of their messages is memory, too.
    pass_planted_panics();
    let load = |to: &mut Vec<u8>| {
        to.resize(LEN, 7);
        Ok::<(), io::Error>(())
    };
    let calls: [Call<'_>; 9] = [
        ("get_or_lease", &|cache, key| drop(cache.get_or_lease(&key))),
        ("get_or_insert_with, a hit", &|cache, key| drop(cache.get_or_insert_with(&key, load))),
        ("get_or_insert_with", &|cache, _key| {
            cache.remove(&Mine(1));
            MINE.set(true);
            drop(cache.get_or_insert_with(&Mine(1), load));
        }),
        ("get_or_insert_with, an error", &|cache, key| {
            cache.remove(&Mine(1));
            MINE.set(true);
            let text = "e".repeat(LEN);
            drop(cache.get_or_insert_with(&key, |_| Err(text)));
        }),
        ("get", &|cache, key| drop(cache.get(&key))),
        ("peek", &|cache, key| drop(cache.peek(&key))),
        ("get_range", &|cache, key| drop(cache.get_range(&key, 0..LEN))),
        ("get_many", &|cache, key| drop(cache.get_many(&[key]))),
        ("take", &|cache, key| drop(cache.take(&key))),
    ];
    for (name, call) in calls {
        // The capacity holds the page as it is, so nothing else is kept from one round to the next.
        let cache = World::new(Config::new(4 << 20).shards(2)).unwrap();
        let round = || {
            cache.insert(Mine(1), &page(1, LEN)).unwrap();
            let key = ManuallyDrop::new(Mine(1));
            MINE.set(true);
            let panicked = panics(|| call(&cache, ManuallyDrop::into_inner(key)));
            MINE.set(false);
            panicked
        };
        assert!(round(), "{name}: no key was dropped");
        cache.trim();
        let before = alloc::held();
        (0..4).for_each(|_| assert!(round(), "{name}"));
        cache.trim();
        let leaked = alloc::held() - before;
        assert!(leaked < LEN as isize, "{name} leaked {leaked} bytes");
        cache.check();
    }
}

/// LZ4 that has somebody else remove key 1 while it decodes.
#[derive(Debug)]
struct Parting(&'static OnceLock<Cache<Mine>>);

impl Codec for Parting {
    fn name(&self) -> Cow<'static, str> {
        "parting".into()
    }

    fn context_bytes(&self, max_page: usize) -> usize {
        Lz4.context_bytes(max_page)
    }

    fn context(&self, max_page: usize) -> io::Result<Box<dyn Context>> {
        Lz4.context(max_page)
    }

    fn decode(&self, payload: &[u8], page: &mut [u8]) -> Option<Result<(), Corrupt>> {
        let cache = self.0.get().expect("it is there");
        thread::scope(|scope| scope.spawn(|| cache.remove(&Mine(1))).join().expect("it goes"));
        Lz4.decode(payload, page)
    }
}

/// The same where a reader is the last one who holds an entry, and drops the entry's key.
#[test]
fn no_page_is_leaked_where_the_last_reader_drops_a_key_that_panics() {
    static CACHE: OnceLock<Cache<Mine>> = OnceLock::new();
    const LEN: usize = 1 << 16;
    type World = Cache<Mine>;
    pass_planted_panics();
    let cache = CACHE
        .get_or_init(|| World::new(Config::new(4 << 20).shards(2).codec(Parting(&CACHE))).unwrap());
    let kept = || ManuallyDrop::new(Mine(1));
    let calls: [(&str, &dyn Fn()); 6] = [
        ("get", &|| drop(cache.get(&*kept()))),
        ("peek", &|| drop(cache.peek(&*kept()))),
        ("get_range", &|| drop(cache.get_range(&*kept(), 0..LEN))),
        ("get_many", &|| drop(cache.get_many(&[Mine(1)]))),
        ("get_or_lease", &|| drop(cache.get_or_lease(&Mine(1)))),
        ("get_or_insert_with", &|| {
            drop(cache.get_or_insert_with(&Mine(1), |_| Err::<(), _>("no such page")));
        }),
    ];
    for (name, call) in calls {
        let round = || {
            cache.insert(Mine(1), &page(1, LEN)).unwrap();
            MINE.set(true);
            assert!(panics(call) && !MINE.get(), "{name}: no key was dropped");
        };
        round();
        cache.trim();
        let before = alloc::held();
        (0..4).for_each(|_| round());
        cache.trim();
        let leaked = alloc::held() - before;
        assert!(leaked < LEN as isize, "{name} leaked {leaked} bytes");
        cache.check();
    }
}

/// An insert that was in place when its hook panicked was not counted.
#[test]
fn an_insert_is_counted_whose_hook_panics() {
    let cache = Cache::new(Config::new(4 << 20)).unwrap();
    let cache =
        cache.on_removal(|removal| assert!(removal.cause() != RemovalCause::Replaced, "planted"));
    cache.insert(1_u64, &page(1, 4096)).unwrap();
    assert!(panics(|| cache.insert(1, &page(2, 4096))));
    assert_eq!(cache.get(&1).unwrap(), page(2, 4096));
    assert_eq!(cache.stats().inserts, 2);
}

/// A change tells a load of another key with the same hash, and drops the key that this was booked
/// under: where that panicked, the old entry was freed but still queued to be evicted, or it was
/// taken off the index and never freed.
#[test]
fn a_change_is_whole_where_the_drop_of_a_loads_key_panics() {
    type World = Cache<Mine, BuildHasherDefault<Same>>;
    type Change<'c> = (&'c str, &'c dyn Fn(&World));
    let held = || ManuallyDrop::new(Mine(1));
    let changes: [Change<'_>; 4] = [
        ("insert", &|cache| {
            let key = Mine(1);
            MINE.set(true);
            let _ = cache.insert(key, &page(2, 4096));
        }),
        ("remove", &|cache| {
            MINE.set(true);
            cache.remove(&*held());
        }),
        ("take", &|cache| {
            MINE.set(true);
            drop(cache.take(&*held()));
        }),
        ("retain", &|cache| {
            MINE.set(true);
            cache.retain(|_| false);
        }),
    ];
    for (name, change) in changes {
        let causes: Arc<std::sync::Mutex<Vec<RemovalCause>>> = Arc::default();
        let told = Arc::clone(&causes);
        let cache =
            World::with_hasher(Config::new(4 << 20).shards(2), BuildHasherDefault::default());
        let cache = cache.unwrap().on_removal(move |gone| told.lock().unwrap().push(gone.cause()));
        cache.insert(Mine(1), &page(1, 4096)).unwrap();
        let loaded = cache.get_or_insert_with(&Mine(2), |to| {
            assert!(panics(|| change(&cache)) && !MINE.get(), "{name}: no key was dropped");
            to.resize(4096, 7);
            Ok::<(), io::Error>(())
        });
        assert_eq!(loaded.unwrap().len(), 4096);
        let left = cache.peek(&*held()).map(|found| found == page(2, 4096));
        let (now, cause) = if name == "insert" {
            (Some(true), RemovalCause::Replaced)
        } else {
            (None, RemovalCause::Removed)
        };
        assert_eq!((left, &causes.lock().unwrap()[..]), (now, &[cause][..]), "{name}");
        cache.check();
        cache.insert(Mine(3), &page(3, 4096)).unwrap();
        cache.check();
    }
}

/// A key that waits when its thread has compared it so often.
#[derive(Debug, Clone)]
struct Patient(u64);

impl Hash for Patient {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

thread_local! {
    /// Comparisons until then; 0: it never waits.
    static LEFT: Cell<u64> = const { Cell::new(0) };
}

static WAITING: AtomicUsize = AtomicUsize::new(0);
static OVER: AtomicBool = AtomicBool::new(false);

impl PartialEq for Patient {
    fn eq(&self, other: &Self) -> bool {
        if self.0 == other.0 && LEFT.get() > 0 {
            LEFT.set(LEFT.get() - 1);
            if LEFT.get() == 0 {
                WAITING.fetch_add(1, Ordering::Relaxed);
                while !OVER.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
        self.0 == other.0
    }
}

impl Eq for Patient {}

/// A change of the index that moved an entry waited for a pin of it under the lock of its shard,
/// for which those who had all its pins might wait.
#[test]
fn an_entry_with_all_pins_there_are_keeps_no_writer_waiting() {
    in_time("writers", || {
        let config = Config::new(16 << 20).shards(2).hot(zcache::HotShare::Off);
        // Hashes are equal in all runs: who looks for a key whose tag has an equal byte needs a
        // pin.
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let cache: Cache<Patient, _> = Cache::with_hasher(config, hasher).unwrap();
        let insert = |key| cache.insert(Patient(key), &page(key, 100)).unwrap();
        (0..500).for_each(insert);
        // 1021 in all.
        let pins: Vec<u64> = [14; 72].into_iter().chain([13]).collect();
        thread::scope(|scope| {
            for pins in &pins {
                scope.spawn(|| {
                    LEFT.set(*pins);
                    let keys: Vec<_> = (0..*pins).map(|_| Patient(77)).collect();
                    assert!(cache.get_many(&keys).iter().all(Option::is_some));
                });
            }
            while WAITING.load(Ordering::Relaxed) < pins.len() {
                thread::yield_now();
            }
            // Each bucket is split, and goes again.
            (500..5000).for_each(insert);
            let others = (0..5000).filter(|key| *key != 77);
            others.for_each(|key| assert!(cache.remove(&Patient(key))));
            OVER.store(true, Ordering::Relaxed);
        });
        assert_eq!(cache.len(), 1);
        cache.check();
    });
}

/// Sixteen threads that looked a key up kept a writer of its shard out for as long as they ran.
#[test]
fn readers_keep_no_writer_waiting() {
    in_time("a writer", || {
        let config = Config::new(4 << 20).shards(2).hot(zcache::HotShare::Off);
        let cache: Cache<u64> = Cache::new(config).unwrap();
        let page = page(1, 64);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for reader in 0..16 {
                let (cache, over) = (&cache, &over);
                // One key in three is there, one is not, and one comes and goes.
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        cache.contains_key(&(reader % 3));
                    }
                });
            }
            for _ in 0..1000 {
                cache.insert(0, &page).unwrap();
                cache.insert(1, &page).unwrap();
                assert!(cache.remove(&1));
            }
            over.store(true, Ordering::Relaxed);
        });
        cache.check();
    });
}

/// A codec whose contexts are refused on demand.
#[derive(Debug)]
struct Refusing(&'static AtomicBool);

impl Codec for Refusing {
    fn name(&self) -> Cow<'static, str> {
        "refusing".into()
    }

    fn context_bytes(&self, _max_page: usize) -> usize {
        0
    }

    fn context(&self, _max_page: usize) -> io::Result<Box<dyn Context>> {
        if self.0.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(Box::new(Halves))
    }
}

/// Keeps the first half of a page whose halves are equal.
struct Halves;

impl Context for Halves {
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
        let (first, second) = page.split_at(page.len() / 2);
        let to = to.get_mut(..first.len()).filter(|_| first == second)?;
        to.copy_from_slice(first);
        Some(first.len())
    }

    fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt> {
        let (first, second) = page.split_at_mut(page.len() / 2);
        first.copy_from_slice(payload);
        second.copy_from_slice(payload);
        Ok(())
    }
}

/// A look-up for the key's version, which does not care for the entry, waited for the entry to go.
#[test]
fn a_page_that_cannot_be_read_for_want_of_memory_can_be_loaded() {
    static REFUSED: AtomicBool = AtomicBool::new(false);
    in_time("a load", || {
        let config = Config::new(4 << 20).shards(2).codec(Refusing(&REFUSED));
        let cache: Cache<u64> = Cache::new(config).unwrap();
        let page: Vec<u8> = (0..=255).cycle().take(512).collect();
        cache.insert(1, &page).unwrap();
        cache.trim();
        REFUSED.store(true, Ordering::Relaxed);
        assert!(cache.get(&1).is_none());
        assert!(cache.get_or_lease(&1).lease().is_some());
        let load = |to: &mut Vec<u8>| {
            to.extend_from_slice(&page);
            Ok::<(), io::Error>(())
        };
        assert_eq!(cache.get_or_insert_with(&1, load).unwrap(), page);
        cache.check();
    });
}
