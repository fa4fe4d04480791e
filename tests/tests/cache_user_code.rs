//! User code inside a cache's calls: it may panic and may call the cache, wherever it runs.
#![cfg(not(zcache_loom))]

use std::borrow::Cow;
use std::cell::Cell;
use std::error::Error;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, Weak, mpsc};
use std::thread;
use std::time::Duration;

use tests::pattern::{self, Random};
use zcache::codec::{Codec, Context, Corrupt, Lz4};
use zcache::policy::{Lru, Priority};
use zcache::{Cache, Cause, Config, Insert, InsertError, LoadError};

const LONGEST: usize = 8 << 10;
/// No call waits for as long as this.
const DEADLINE: Duration = Duration::from_secs(20);

fn config(capacity: usize) -> Config {
    Config::new(capacity).max_page(LONGEST).shards(2)
}

fn page(seed: u64, len: usize) -> Vec<u8> {
    let mut page = vec![0; len];
    let mut random = Random::new(seed);
    for part in page.chunks_mut(24) {
        let word = random.bits().to_le_bytes();
        let len = part.len().min(8);
        part[..len].copy_from_slice(&word[..len]);
    }
    page
}

/// Runs `f` in a thread of its own and fails if that does not end in time.
fn in_time(what: &str, f: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = thread::Builder::new().name(what.to_owned()).spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(f));
        let _ = done.send(());
        result
    });
    let ended = ended.recv_timeout(DEADLINE);
    assert!(ended.is_ok(), "{what}: still waiting after {DEADLINE:?}");
    if let Err(panic) = thread.unwrap().join().unwrap() {
        resume_unwind(panic);
    }
}

/// Whether `f` panicked; its message is one of ours.
fn panics<R>(f: impl FnOnce() -> R) -> bool {
    let Err(panic) = catch_unwind(AssertUnwindSafe(f)) else { return false };
    let text = panic.downcast_ref::<&str>().copied().unwrap_or_default();
    assert!(text.starts_with("planted"), "another panic: {text}");
    true
}

fn ignore<T>(_: T) {}

thread_local! {
    /// Which kind of user code panics in this thread, after so many more calls.
    static TRAP: Cell<Option<(Trap, usize)>> = const { Cell::new(None) };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trap {
    Hash,
    Eq,
    Drop,
    Clone,
    Hasher,
    Hook,
    Compress,
    Decode,
    Keep,
    Read,
}

/// Panics if it is this trap's turn.
fn step_on(trap: Trap) {
    if let Some((armed, left)) = TRAP.get() {
        if armed == trap {
            TRAP.set((left > 0).then(|| (armed, left - 1)));
            assert!(left > 0, "planted");
        }
    }
}

/// Arms a trap for the length of `f`. Says whether it sprang, and what `f` gave otherwise.
fn with_trap<R>(trap: Trap, after: usize, f: impl FnOnce() -> R) -> Option<R> {
    TRAP.set(Some((trap, after)));
    let result = catch_unwind(AssertUnwindSafe(f));
    let armed = TRAP.take();
    match result {
        Ok(result) => Some(result),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied().unwrap_or_default();
            assert!(text == "planted" && armed.is_none(), "{trap:?} {after}: {text}");
            None
        }
    }
}

/// Keys that were made and dropped.
#[derive(Debug, Default)]
struct Tally {
    drops: Mutex<Vec<u8>>,
}

impl Tally {
    fn assert_each_dropped_once(&self) {
        let drops = self.drops.lock().unwrap();
        for (number, drops) in drops.iter().enumerate() {
            assert_eq!(*drops, 1, "key object {number} of {}", drops);
        }
    }

    fn alive(&self) -> usize {
        self.drops.lock().unwrap().iter().filter(|drops| **drops == 0).count()
    }
}

/// A key whose every copy is counted, and whose every piece of code may panic.
#[derive(Debug)]
struct Key {
    name: u64,
    number: usize,
    tally: Arc<Tally>,
}

impl Key {
    fn new(tally: &Arc<Tally>, name: u64) -> Self {
        let mut drops = tally.drops.lock().unwrap();
        drops.push(0);
        Self { name, number: drops.len() - 1, tally: Arc::clone(tally) }
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        step_on(Trap::Clone);
        Self::new(&self.tally, self.name)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        step_on(Trap::Eq);
        self.name == other.name
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        step_on(Trap::Hash);
        // Some share a hash, so that `Eq` has something to say.
        state.write_u64(self.name / 3);
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.tally.drops.lock().unwrap()[self.number] += 1;
        if !thread::panicking() {
            step_on(Trap::Drop);
        }
    }
}

#[derive(Debug, Default)]
struct Seeds;

impl BuildHasher for Seeds {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        step_on(Trap::Hasher);
        DefaultHasher::new()
    }
}

/// LZ4 that may panic, with contexts that are counted.
#[derive(Debug, Default)]
struct Fragile(Arc<AtomicUsize>);

struct FragileContext(Box<dyn Context>, Arc<AtomicUsize>);

impl Codec for Fragile {
    fn name(&self) -> Cow<'static, str> {
        "fragile".into()
    }

    fn context_bytes(&self, max_page: usize) -> usize {
        Lz4.context_bytes(max_page) + 1000
    }

    fn context(&self, max_page: usize) -> io::Result<Box<dyn Context>> {
        let inner = Lz4.context(max_page)?;
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(FragileContext(inner, Arc::clone(&self.0))))
    }
}

impl Context for FragileContext {
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
        step_on(Trap::Compress);
        self.0.compress(page, to)
    }

    fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt> {
        step_on(Trap::Decode);
        match Lz4.decode(payload, page) {
            Some(decoded) => decoded,
            None => self.0.decompress(payload, page),
        }
    }
}

impl Drop for FragileContext {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Field {
    cache: Arc<Cache<Key, Seeds>>,
    tally: Arc<Tally>,
    contexts: Arc<AtomicUsize>,
    /// What the hook was told of before it panicked.
    told: Arc<AtomicUsize>,
}

impl Field {
    /// A small cache, filled to the brim.
    fn new() -> Self {
        let (tally, contexts) = (Arc::<Tally>::default(), Arc::<AtomicUsize>::default());
        let told = Arc::<AtomicUsize>::default();
        let config = config(500 << 10).policy(Lru::new()).codec(Fragile(Arc::clone(&contexts)));
        let count = Arc::clone(&told);
        let cache: Cache<Key, Seeds> = Cache::with_hasher(config.checksum(true), Seeds).unwrap();
        let cache = cache.on_removal(move |removal| {
            assert!(removal.key().name < 1 << 40);
            count.fetch_add(1, Ordering::Relaxed);
            step_on(Trap::Hook);
        });
        let field = Self { cache: Arc::new(cache), tally, contexts, told };
        let mut name = 1000;
        while field.told.load(Ordering::Relaxed) == 0 {
            field.cache.insert(field.key(name), &page(name, 4096)).unwrap();
            name += 1;
        }
        field
    }

    fn key(&self, name: u64) -> Key {
        Key::new(&self.tally, name)
    }

    /// Nothing is locked, everything adds up, and the cache works.
    fn assert_usable(&self, what: &str) {
        let cache = &self.cache;
        // A resize that a hook cut short is gone on with.
        cache.resize(cache.capacity()).unwrap();
        cache.check();
        let key = self.key(7);
        cache.insert(self.key(7), &page(7, 3000)).unwrap();
        assert_eq!(cache.get(&key).as_deref(), Some(&page(7, 3000)[..]), "{what}");
        assert!(cache.remove(&key), "{what}");
        assert_eq!(cache.len() + 1, self.tally.alive(), "{what}: a key an entry");
        let _ = cache.stats();
    }

    /// Runs `f` with a trap that springs on the first call, the second, and so on until it does not
    /// spring any more.
    fn each_time(trap: Trap, what: &str, f: impl Fn(&Self)) -> usize {
        for after in 0..40 {
            let field = Self::new();
            let sprang = with_trap(trap, after, || f(&field)).is_none();
            field.assert_usable(what);
            field.end();
            if !sprang {
                return after;
            }
        }
        panic!("{what} springs {trap:?} without end");
    }

    fn end(self) {
        let Self { cache, tally, contexts, .. } = self;
        cache.trim();
        cache.check();
        drop(cache);
        tally.assert_each_dropped_once();
        assert_eq!(contexts.load(Ordering::Relaxed), 0, "no context is left");
    }
}

/// A call, and its name.
type Call = (&'static str, fn(&Field));

/// Every call there is, on a full cache: what is new, what is there, what is not.
fn every_call() -> Vec<Call> {
    vec![
        ("insert", |f| ignore(f.cache.insert(f.key(1), &page(1, 6000)))),
        ("insert raw", |f| ignore(f.cache.insert(f.key(1), &pattern::bytes(1, LONGEST)))),
        ("insert filled", |f| ignore(f.cache.insert(f.key(1), &[3; 500]))),
        ("insert too large", |f| ignore(f.cache.insert(f.key(1000), &[3; LONGEST + 1]))),
        ("replace", |f| ignore(f.cache.insert(f.key(f.there()), &page(1, 6000)))),
        ("insert_with", |f| {
            let how = Insert::new().priority(Priority::High).time_to_live(Duration::ZERO);
            ignore(f.cache.insert_with(f.key(1), &page(1, 600), how));
            ignore(f.cache.get(&f.key(1)));
        }),
        ("get", |f| ignore(f.cache.get(&f.key(f.there())))),
        ("get a miss", |f| ignore(f.cache.get(&f.key(1)))),
        ("get_into", |f| ignore(f.cache.get_into(&f.key(f.there()), &mut [0; LONGEST]))),
        ("get_with", |f| {
            ignore(f.cache.get_with(&f.key(f.there()), |_| step_on(Trap::Read)));
        }),
        ("get_range", |f| ignore(f.cache.get_range(&f.key(f.there()), 10..20))),
        ("peek", |f| ignore(f.cache.peek(&f.key(f.there())))),
        ("contains", |f| ignore(f.cache.contains(&f.key(f.there())))),
        ("remove", |f| ignore(f.cache.remove(&f.key(f.there())))),
        ("take", |f| ignore(f.cache.take(&f.key(f.there())))),
        ("get_many", |f| {
            let keys = [f.key(f.there()), f.key(1)];
            ignore(f.cache.get_many(&keys));
        }),
        ("insert_many", |f| {
            let pages = [(f.key(1), page(1, 5000)), (f.key(2), page(2, 5000))];
            ignore(f.cache.insert_many(pages));
        }),
        ("retain", |f| {
            f.cache.retain(|key| {
                step_on(Trap::Keep);
                key.name % 16 != 0
            });
        }),
        ("clear", |f| f.cache.clear()),
        ("keys", |f| ignore(f.cache.keys())),
        ("lease", |f| {
            if let Err(lease) = f.cache.get_or_lease(f.key(1)) {
                ignore(f.cache.insert_if_valid(lease, &page(1, 6000)));
            }
        }),
        ("outdated lease", |f| {
            let lease = f.cache.get_or_lease(f.key(1));
            f.cache.remove(&f.key(1));
            if let Err(lease) = lease {
                ignore(f.cache.insert_if_valid(lease, &page(1, 6000)));
            }
        }),
        ("load", |f| {
            let load = |to: &mut Vec<u8>| {
                to.extend(page(1, 6000));
                Ok::<(), io::Error>(())
            };
            ignore(f.cache.get_or_insert_with(f.key(1), load));
        }),
        ("resize", |f| ignore(f.cache.resize(440 << 10))),
    ]
}

impl Field {
    /// The name of a key that is there.
    fn there(&self) -> u64 {
        // Without the keys' own code: it may be trapped.
        let trap = TRAP.take();
        let name = self.cache.keys().iter().map(|key| key.name).max().unwrap_or(1);
        TRAP.set(trap);
        name
    }
}

#[test]
fn a_panic_in_any_user_code_leaves_the_cache_usable_and_every_key_dropped_once() {
    let calls = every_call();
    let mut sprung = std::collections::HashMap::new();
    for (what, call) in calls {
        for trap in [
            Trap::Hash,
            Trap::Eq,
            Trap::Drop,
            Trap::Clone,
            Trap::Hasher,
            Trap::Hook,
            Trap::Compress,
            Trap::Decode,
            Trap::Keep,
            Trap::Read,
        ] {
            // All of an iteration's entries are alike: the first few do.
            let many = ["clear", "keys", "retain", "resize"].contains(&what);
            if many {
                for after in [0, 1, 5] {
                    let field = Field::new();
                    let sprang = with_trap(trap, after, || call(&field)).is_none();
                    *sprung.entry(format!("{trap:?}")).or_insert(0) += usize::from(sprang);
                    field.assert_usable(what);
                    field.end();
                }
            } else {
                *sprung.entry(format!("{trap:?}")).or_insert(0) +=
                    Field::each_time(trap, what, call);
            }
        }
    }
    assert_eq!(sprung.len(), 10);
    assert!(sprung.values().all(|count| *count > 0), "each kind sprang: {sprung:?}");
}

#[test]
fn a_hook_that_panics_in_the_middle_of_an_insert_never_leaves_a_stale_page() {
    for len in [1, 3000, LONGEST] {
        for after in 0..12 {
            let field = Field::new();
            let name = field.there();
            let key = field.key(name);
            let new = page(77, len);
            let done = with_trap(Trap::Hook, after, || field.cache.insert(field.key(name), &new));
            let now = field.cache.get(&key);
            match done {
                Some(result) => {
                    assert_eq!((result, now.as_deref()), (Ok(()), Some(&new[..])));
                }
                None => assert!(now.is_none_or(|now| now == new), "the old page is gone"),
            }
            drop(key);
            field.assert_usable("insert");
            field.end();
        }
    }
}

#[test]
fn a_key_that_cannot_be_compared_is_never_found_with_an_old_page() {
    for trap in [Trap::Eq, Trap::Drop, Trap::Compress] {
        for after in 0..8 {
            let field = Field::new();
            let name = field.there();
            let old = field.cache.peek(&field.key(name)).unwrap();
            let new = page(99, 5000);
            let done = with_trap(trap, after, || field.cache.insert(field.key(name), &new));
            let now = field.cache.get(&field.key(name));
            if let Some(now) = &now {
                // A comparison that panics before anything was looked up leaves what was there: the
                // insert did not take place. Whatever else panics, the old page is gone.
                let eq = trap == Trap::Eq && done.is_none();
                assert!(now == &new || eq && now == &old, "{trap:?} {after}");
            }
            drop(now);
            field.assert_usable("insert");
            field.end();
        }
    }
}

/// Calls every method, on keys above `from` and on those that are there.
fn call_everything<K: Hash + Eq + Clone + Send + Sync>(
    cache: &Cache<K, impl BuildHasher>,
    key: impl Fn(u64) -> K,
    deep: bool,
) {
    let load = |to: &mut Vec<u8>| {
        to.extend(page(3, 900));
        Ok::<(), io::Error>(())
    };
    let _ = cache.insert(key(1), &page(1, 5000));
    let _ = cache.insert_with(key(2), &page(2, 500), Insert::new().time_to_live(Duration::ZERO));
    let _ = (cache.get(&key(1)), cache.get(&key(2)), cache.peek(&key(1)), cache.contains(&key(1)));
    let _ = cache.get_into(&key(1), &mut [0; LONGEST]);
    let _ = cache.get_with(&key(1), |page| (page.len(), cache.get(&key(1)), cache.len()));
    let _ = cache.get_range(&key(1), 5..10);
    let _ = cache.get_or_insert_with(key(3), load);
    if let Err(lease) = cache.get_or_lease(key(4)) {
        let _ = cache.insert_if_valid(lease, &page(4, 700));
    }
    let keys = [key(1), key(3), key(9)];
    let _ = cache.get_many(&keys);
    let _ = cache.insert_many([(key(5), [5; 90]), (key(6), [6; 90])]);
    let _ = (cache.take(&key(5)), cache.remove(&key(6)), cache.keys());
    let _ = (cache.len(), cache.is_empty(), cache.capacity(), cache.held_bytes(), cache.max_page());
    let capacity = cache.capacity();
    let _ = (cache.resize(capacity + 4096), cache.resize(capacity));
    let _ = cache.compact(1 << 16);
    cache.trim();
    let _ = (cache.stats().to_string(), format!("{cache:?}"));
    if deep {
        cache.retain(|kept| {
            let _ = (cache.get(kept), cache.stats());
            *kept != key(1)
        });
        cache.clear();
    }
}

fn filled(capacity: usize) -> Cache<u64> {
    let cache: Cache<u64> = Cache::new(config(capacity)).unwrap();
    for key in 100..400 {
        cache.insert(key, &page(key, 4096)).unwrap();
    }
    cache
}

#[test]
fn a_hook_may_call_every_method() {
    in_time("hook", || {
        let depth = Arc::new(AtomicUsize::new(0));
        let calls = Arc::new(AtomicUsize::new(0));
        let (inside, counted) = (Arc::clone(&depth), Arc::clone(&calls));
        let cache = Arc::new_cyclic(|weak: &Weak<Cache<u64>>| {
            let weak = weak.clone();
            let cache: Cache<u64> = Cache::new(config(600 << 10)).unwrap();
            cache.on_removal(move |removal| {
                let Some(cache) = weak.upgrade() else { return };
                // What it does calls it again; that is deep enough.
                if inside.fetch_add(1, Ordering::Relaxed) == 0 {
                    counted.fetch_add(1, Ordering::Relaxed);
                    assert!(
                        cache
                            .get(removal.key())
                            .is_none_or(|_| { removal.cause() == Cause::Replaced })
                    );
                    assert_eq!(removal.page().map(|page| page.len()), Some(removal.len()));
                    call_everything(&cache, |key| key, removal.key() % 8 == 0);
                    let _ = cache.insert(*removal.key(), &[1; 30]);
                    cache.remove(removal.key());
                }
                inside.fetch_sub(1, Ordering::Relaxed);
            })
        });
        for key in 100..500 {
            let _ = cache.insert(key, &page(key, 4096));
            let _ = cache.insert(key, &page(key, 2000));
            let _ = cache.take(&(key - 3));
            if key % 64 == 0 {
                let _ = cache.resize(500 << 10);
                cache.clear();
                let _ = cache.resize(600 << 10);
            }
        }
        let dead = Insert::new().time_to_live(Duration::ZERO);
        let _ = cache.insert_with(100, &page(1, 500), dead);
        assert!(cache.get(&100).is_none());
        assert!(calls.load(Ordering::Relaxed) > 400);
        cache.check();
    });
}

#[test]
fn a_loader_may_call_every_method_for_other_keys() {
    in_time("loader", || {
        let cache = filled(600 << 10);
        for deep in [false, true] {
            let key = 1000 + u64::from(deep);
            let got = cache.get_or_insert_with(key, |to| {
                call_everything(&cache, |key| key, deep);
                let inner = cache.get_or_insert_with(2000, |to| {
                    call_everything(&cache, |key| key, false);
                    to.push(2);
                    Ok::<(), io::Error>(())
                });
                assert_eq!(inner.unwrap(), [2][..]);
                // Its own key, in all ways that do not load.
                assert!(cache.get(&key).is_none() && cache.peek(&key).is_none());
                let _ = cache.get_or_lease(key).map_err(|lease| *lease.key());
                to.extend([1; 40]);
                Ok::<(), io::Error>(())
            });
            assert_eq!(got.unwrap(), [1; 40][..]);
            // A clear meanwhile keeps it out.
            assert_eq!(cache.contains(&key), !deep);
            cache.check();
        }
    });
}

#[test]
fn a_reader_may_call_every_method() {
    in_time("get_with", || {
        let cache = filled(600 << 10);
        for deep in [false, true] {
            let key = *cache.keys().iter().max().unwrap();
            let before = cache.peek(&key).unwrap();
            let same = cache.get_with(&key, |page| {
                call_everything(&cache, |key| key, deep);
                let _ = cache.insert(key, &[1; 100]);
                let _ = cache.get_with(&key, |again| assert_eq!(again, [1; 100]));
                cache.remove(&key);
                page == before
            });
            assert_eq!(same, Some(true), "the page is a snapshot");
            cache.insert(100, &page(100, 4096)).unwrap();
            cache.check();
        }
    });
}

#[test]
fn a_retaining_closure_may_call_every_method() {
    in_time("retain", || {
        let cache = filled(600 << 10);
        let mut asked = 0;
        cache.retain(|key| {
            asked += 1;
            if asked % 8 == 1 {
                call_everything(&cache, |key| key, false);
            }
            if asked == 20 {
                cache.retain(|key| key % 2 == 0);
                cache.clear();
            }
            let _ = cache.get(key);
            true
        });
        assert!(asked >= 20);
        cache.check();
    });
}

thread_local! {
    static DROPPING: Cell<bool> = const { Cell::new(false) };
}

/// A key that calls its cache when it is dropped.
#[derive(Debug)]
struct Clinging(u64, Weak<Cache<Clinging>>, Arc<AtomicUsize>);

impl Clone for Clinging {
    fn clone(&self) -> Self {
        Self(self.0, Weak::clone(&self.1), Arc::clone(&self.2))
    }
}

impl PartialEq for Clinging {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Clinging {}

impl Hash for Clinging {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Drop for Clinging {
    fn drop(&mut self) {
        let Some(cache) = self.1.upgrade() else { return };
        if !DROPPING.replace(true) {
            let calls = self.2.fetch_add(1, Ordering::Relaxed);
            let key = |key| Self(key, Weak::clone(&self.1), Arc::clone(&self.2));
            call_everything(&cache, key, calls % 50 == 49);
            DROPPING.set(false);
        }
    }
}

#[test]
fn a_keys_drop_may_call_every_method() {
    in_time("drop", || {
        let cache: Arc<Cache<Clinging>> = Arc::new(Cache::new(config(600 << 10)).unwrap());
        let drops = Arc::new(AtomicUsize::new(0));
        let key = |name| Clinging(name, Arc::downgrade(&cache), Arc::clone(&drops));
        for name in 100..260 {
            let _ = cache.insert(key(name), &page(name, 4096));
            let _ = cache.insert(key(name), &page(name, 2000));
            if name % 16 == 0 {
                call_everything(&cache, key, name % 32 == 0);
            }
        }
        let failed = cache.get_or_insert_with(key(9000), |_| Err::<(), _>("no"));
        assert!(failed.is_err());
        assert!(drops.load(Ordering::Relaxed) > 300);
        cache.check();
        cache.clear();
        cache.check();
    });
}

#[test]
fn a_loader_that_asks_for_its_own_key_is_told_so() {
    in_time("recursion", || {
        let cache = filled(2 << 20);
        let got = cache.get_or_insert_with(1, |to| {
            let load = |_: &mut Vec<u8>| -> Result<(), io::Error> { panic!("not run") };
            let inner = cache.get_or_insert_with(1, load);
            assert!(matches!(inner, Err(LoadError::Recursive)), "{inner:?}");
            // Through another key's loader it is the same thread still.
            let outer =
                cache.get_or_insert_with(2, |_| cache.get_or_insert_with(1, load).map(drop));
            let Err(LoadError::Failed(error)) = outer else { panic!("{outer:?}") };
            assert!(matches!(error.downcast_ref(), Some(LoadError::Recursive)), "{error}");
            to.push(5);
            Ok::<(), io::Error>(())
        });
        assert_eq!(got.unwrap(), [5][..]);
        assert_eq!(cache.get(&1).as_deref(), Some(&[5][..]));
        cache.check();
    });
}

/// What one of a crowd got; `None`: it panicked.
type Got = Option<Result<Vec<u8>, LoadError>>;

/// Lets `threads` threads ask for one missing key at once; the loader waits until the others wait.
fn crowd<E: Into<Box<dyn Error + Send + Sync>>>(
    cache: &Cache<u64>,
    threads: usize,
    load: impl Fn(&mut Vec<u8>) -> Result<(), E> + Sync,
) -> (usize, Vec<Got>) {
    let (runs, start) = (AtomicUsize::new(0), Barrier::new(threads));
    let results = thread::scope(|scope| {
        let ask = || {
            start.wait();
            let got = catch_unwind(AssertUnwindSafe(|| {
                cache.get_or_insert_with(1, |to| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(150));
                    load(to)
                })
            }));
            got.ok().map(|got| got.map(|page| page.to_vec()))
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    (runs.into_inner(), results)
}

#[test]
fn of_many_threads_that_miss_a_key_one_loads_it_for_all() {
    in_time("crowd", || {
        let cache = filled(2 << 20);
        let (runs, results) = crowd(&cache, 12, |to| {
            to.extend(page(1, 3000));
            Ok::<(), io::Error>(())
        });
        assert_eq!(runs, 1);
        assert!(results.into_iter().all(|got| got.unwrap().unwrap() == page(1, 3000)));
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.load_failures), (1, 0));
        assert_eq!(cache.get(&1).as_deref(), Some(&page(1, 3000)[..]));
        cache.check();
    });
}

#[test]
fn those_who_wait_for_a_loader_that_fails_share_its_error_and_the_next_call_loads() {
    in_time("failing crowd", || {
        let cache = filled(2 << 20);
        let (runs, results) =
            crowd(&cache, 8, |_| Err::<(), _>(io::Error::other("the disk is gone")));
        assert_eq!(runs, 1);
        let errors: Vec<_> = results
            .into_iter()
            .map(|got| match got.unwrap() {
                Err(LoadError::Failed(error)) => error,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(errors[0].to_string(), "the disk is gone");
        assert!(errors.iter().all(|error| Arc::ptr_eq(error, &errors[0])), "one error for all");
        assert!(!cache.contains(&1));
        let load = |to: &mut Vec<u8>| {
            to.push(9);
            Ok::<(), io::Error>(())
        };
        assert_eq!(cache.get_or_insert_with(1, load).unwrap(), [9][..]);
        assert_eq!((cache.stats().loads, cache.stats().load_failures), (2, 1));
        cache.check();
    });
}

#[test]
fn those_who_wait_for_a_loader_that_panics_are_woken_and_the_next_call_loads() {
    in_time("panicking crowd", || {
        let cache = filled(2 << 20);
        let (runs, results) = crowd(&cache, 8, |_| -> Result<(), io::Error> { panic!("planted") });
        assert_eq!(runs, 1);
        assert_eq!(results.iter().filter(|got| got.is_none()).count(), 1, "one panics");
        for got in results.into_iter().flatten() {
            assert!(matches!(got, Err(LoadError::Panicked)), "{got:?}");
        }
        let load = |to: &mut Vec<u8>| {
            to.push(9);
            Ok::<(), io::Error>(())
        };
        assert_eq!(cache.get_or_insert_with(1, load).unwrap(), [9][..]);
        assert_eq!((cache.stats().loads, cache.stats().load_failures), (2, 1));
        cache.check();
    });
}

#[test]
fn a_loaders_page_that_is_too_large_is_an_error_for_all() {
    in_time("large crowd", || {
        let cache = filled(2 << 20);
        let (runs, results) = crowd(&cache, 4, |to| {
            to.resize(LONGEST + 1, 0);
            Ok::<(), io::Error>(())
        });
        assert_eq!(runs, 1);
        for got in results {
            let error = got.unwrap().unwrap_err();
            let LoadError::TooLarge { len, max_page } = error else { panic!("{error:?}") };
            assert_eq!((len, max_page), (LONGEST + 1, LONGEST));
        }
        assert!(!cache.contains(&1));
        cache.check();
    });
}

#[test]
fn a_key_that_is_changed_while_it_is_loaded_keeps_the_change() {
    in_time("changes", || {
        let cache = filled(2 << 20);
        type Change = (fn(&Cache<u64>), Option<&'static [u8]>);
        let changes: [Change; 4] = [
            (|cache| cache.insert(1, &[2; 40]).unwrap(), Some(&[2; 40])),
            (|cache| assert!(!cache.remove(&1)), None),
            (|cache| assert!(cache.take(&1).is_none()), None),
            (Cache::clear, None),
        ];
        for (change, left) in changes {
            let got = cache.get_or_insert_with(1, |to| {
                to.push(1);
                change(&cache);
                // Who comes after the change waits for no load that started before.
                thread::scope(|scope| {
                    let later = scope.spawn(|| {
                        cache.get_or_insert_with(1, |to| {
                            to.extend([3; 3]);
                            Ok::<(), io::Error>(())
                        })
                    });
                    let later = later.join().unwrap().unwrap();
                    assert_eq!(later, *left.unwrap_or(&[3; 3]));
                });
                Ok::<(), io::Error>(())
            });
            assert_eq!(got.unwrap(), [1][..], "its caller gets what it loaded");
            assert_eq!(cache.get(&1).as_deref(), Some(left.unwrap_or(&[3; 3])));
            cache.remove(&1);
            cache.check();
        }
    });
}

#[test]
fn a_page_that_does_not_fit_is_returned_by_its_loader_all_the_same() {
    let cache = filled(2 << 20);
    let dead: Cache<u64> = Cache::new(config(2 << 20).time_to_live(Duration::ZERO)).unwrap();
    let load = |to: &mut Vec<u8>| {
        to.extend([4; 50]);
        Ok::<(), io::Error>(())
    };
    assert_eq!(dead.get_or_insert_with(1, load).unwrap(), [4; 50][..]);
    assert_eq!(dead.get_or_insert_with(1, load).unwrap(), [4; 50][..]);
    assert_eq!(dead.stats().loads, 2, "what expires at once is loaded again");
    assert_eq!(cache.insert(1, &[0; LONGEST + 1]).map_err(|error| error.to_string()), {
        let error = InsertError::TooLarge { len: LONGEST + 1, max_page: LONGEST };
        Err(error.to_string())
    });
    dead.check();
}

#[test]
fn a_panicking_hook_does_not_keep_other_threads_waiting() {
    in_time("other threads", || {
        let cache = Cache::<u64>::new(config(600 << 10)).unwrap();
        let cache = Arc::new(cache.on_removal(|removal| {
            assert!(removal.key() % 5 != 0, "planted");
        }));
        let workers: Vec<_> = (0..4)
            .map(|thread| {
                let cache = Arc::clone(&cache);
                thread::spawn(move || {
                    let mut random = Random::new(thread);
                    let mut panicked = 0;
                    for _ in 0..1500 {
                        let key = random.below(300) as u64;
                        let new = page(key, 4096);
                        panicked += usize::from(panics(|| {
                            match random.below(8) {
                                0 => ignore(cache.remove(&key)),
                                1 => ignore(cache.take(&key)),
                                2 => ignore(cache.get(&key).map(|got| assert!(got == new))),
                                _ => ignore(cache.insert(key, &new)),
                            };
                        }));
                    }
                    panicked
                })
            })
            .collect();
        let panicked: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert!(panicked > 50, "{panicked}");
        cache.check();
    });
}
