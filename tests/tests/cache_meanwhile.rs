//! What others do to a key while a call of the cache is in the middle of it. A codec or a key that
//! runs code of the test's brings them there.
#![cfg(not(zcache_loom))]

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use tests::callbacks::{config, in_time, page, panics};
use zcache::codec::{Codec, Context, Corrupt, Lz4};
use zcache::{Cache, InsertError, RemovalCause, Waited};

type Keys = (u32, u32);

/// What is done while a page is compressed.
type Act = Box<dyn FnOnce() + Send>;

/// LZ4 that counts what it compresses, and does something in another thread meanwhile.
#[derive(Clone, Default)]
struct Meanwhile {
    act: Arc<Mutex<Option<Act>>>,
    encoded: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Meanwhile {
    /// Does this once, while the next page is compressed.
    fn act(&self, act: impl FnOnce() + Send + 'static) {
        *self.act.lock().unwrap() = Some(Box::new(act));
    }

    fn encoded(&self) -> usize {
        self.encoded.load(Ordering::Relaxed)
    }
}

impl Codec for Meanwhile {
    fn name(&self) -> Cow<'static, str> {
        "meanwhile".into()
    }

    fn context_bytes(&self, max_page: usize) -> usize {
        Lz4.context_bytes(max_page)
    }

    fn context(&self, max_page: usize) -> io::Result<Box<dyn Context>> {
        Lz4.context(max_page)
    }

    fn encode(&self, page: &[u8], to: &mut [u8]) -> Option<Option<usize>> {
        self.encoded.fetch_add(1, Ordering::Relaxed);
        let act = self.act.lock().unwrap().take();
        if let Some(act) = act {
            thread::spawn(act).join().expect("it goes well");
        }
        Lz4.encode(page, to)
    }

    fn decode(&self, payload: &[u8], page: &mut [u8]) -> Option<Result<(), Corrupt>> {
        Lz4.decode(payload, page)
    }
}

/// What entries went by.
type Log = Arc<Mutex<Vec<RemovalCause>>>;

/// A cache with scopes, what has gone from it, and its codec.
fn scoped() -> (Arc<Cache<Keys>>, Log, Meanwhile) {
    let (codec, told) = (Meanwhile::default(), Log::default());
    let log = Arc::clone(&told);
    let cache = Cache::new(config(4 << 20).codec(codec.clone())).unwrap();
    let cache = cache.with_scopes(|key: &Keys| key.0).unwrap();
    let cache = cache.on_removal(move |gone| log.lock().unwrap().push(gone.cause()));
    (Arc::new(cache), told, codec)
}

/// A way to end all entries of scope 1.
type End = fn(&Cache<Keys>);

const ENDS: [End; 2] = [|cache| cache.scope(1).clear(), Cache::clear];

/// The insert began before the end, so it counts as one of before: the page that came after the end
/// is newer.
#[test]
fn an_insert_that_an_end_overtakes_leaves_the_page_that_came_since() {
    for end in ENDS {
        let (cache, told, codec) = scoped();
        let other = Arc::clone(&cache);
        codec.act(move || {
            end(&other);
            other.insert((1, 1), &[7; 4096]).unwrap();
        });
        cache.insert((1, 1), &page(1, 4096)).unwrap();
        assert!(cache.get(&(1, 1)).is_some_and(|got| got == [7; 4096][..]), "the newer page");
        assert_eq!(*told.lock().unwrap(), [RemovalCause::Cleared], "the older one was cleared");
        let stats = cache.stats();
        assert_eq!((stats.inserts, stats.removals.cleared, stats.entries), (2, 1, 1));
        cache.check();
    }
}

#[test]
fn an_insert_that_an_end_overtakes_is_cleared_where_no_page_came_since() {
    for end in ENDS {
        let (cache, told, codec) = scoped();
        cache.insert((1, 1), &[3; 4096]).unwrap();
        let other = Arc::clone(&cache);
        codec.act(move || end(&other));
        cache.insert((1, 1), &page(1, 4096)).unwrap();
        assert!(cache.get(&(1, 1)).is_none());
        let other = Arc::clone(&cache);
        codec.act(move || end(&other));
        assert!(cache.insert_if_absent((1, 2), &page(2, 4096)).unwrap(), "it was, at first");
        assert!(cache.get(&(1, 2)).is_none());
        assert!(cache.insert_if_absent((1, 1), &page(1, 4096)).unwrap());
        assert!(cache.get(&(1, 1)).is_some());
        assert!(told.lock().unwrap().iter().all(|cause| *cause == RemovalCause::Cleared));
        cache.check();
    }
}

#[test]
fn a_load_that_was_told_is_not_compressed() {
    let codec = Meanwhile::default();
    let cache: Cache<u64> = Cache::new(config(4 << 20).codec(codec.clone())).unwrap();
    let before = codec.encoded();
    let loaded = cache.get_or_insert_with(&1, |to| {
        to.extend(page(1, 4096));
        cache.remove(&1);
        Ok::<(), io::Error>(())
    });
    assert!(loaded.unwrap() == page(1, 4096));
    let lease = cache.get_or_lease(&2).lease().expect("a miss");
    cache.insert(2, &[7; 4096]).unwrap();
    assert_eq!(cache.insert_if_valid(lease, &page(2, 4096)), Err(InsertError::Outdated));
    assert_eq!((codec.encoded() - before, cache.stats().rejected.outdated), (0, 2));
    assert!(cache.get(&2).is_some_and(|got| got == [7; 4096][..]));
    cache.check();
}

/// The scope of keys whose second number is this cannot be told any more.
static BAD: AtomicUsize = AtomicUsize::new(usize::MAX);

fn scope_of(key: &Keys) -> u32 {
    if key.1 as usize == BAD.load(Ordering::Relaxed) {
        panic!("planted");
    }
    key.0
}

/// There are 16 places for scopes: the others' entries are asked one by one.
#[test]
fn a_scope_is_cleared_whole_where_its_function_panics() {
    let cache: Cache<Keys> = Cache::new(config(1 << 20)).unwrap().with_scopes(scope_of).unwrap();
    let key = |scope, number| (scope, 1000 * scope + number);
    let lease = cache.get_or_lease(&key(40, 1)).lease().expect("a miss");
    for scope in 0..60 {
        (0..5).for_each(|number| cache.insert(key(scope, number), &[1; 64]).unwrap());
    }
    for bad in [key(40, 0), key(41, 2), key(1, 1)] {
        BAD.store(bad.1 as usize, Ordering::Relaxed);
        assert!(bad.0 == 1 || panics(|| cache.scope(bad.0).clear()));
        BAD.store(usize::MAX, Ordering::Relaxed);
        if bad.0 == 1 {
            cache.scope(1).clear();
        }
        for number in 0..5 {
            assert!(!cache.contains_key(&key(bad.0, number)), "{:?}", key(bad.0, number));
        }
        assert!(cache.contains_key(&key(50, 1)), "others stay");
    }
    assert_eq!(cache.insert_if_valid(lease, &[2; 64]), Err(InsertError::Outdated));
    cache.check();
}

/// A load under way whose key panics is told, too.
#[test]
fn a_load_whose_scope_cannot_be_told_stores_nothing_after_an_end() {
    let cache = Cache::new(config(1 << 20)).unwrap();
    let calls = AtomicUsize::new(0);
    let of = move |key: &Keys| {
        if calls.fetch_add(1, Ordering::Relaxed) == 0 {
            panic!("planted");
        }
        key.0
    };
    let cache: Cache<Keys> = cache.with_scopes(of).unwrap();
    let lease = cache.get_or_lease(&(1, 1)).lease().expect("a miss");
    assert!(panics(|| cache.scope(1).clear()));
    assert_eq!(cache.insert_if_valid(lease, &[2; 64]), Err(InsertError::Outdated));
    cache.check();
}

/// A key whose clone and comparison run code of the test's.
#[derive(Debug)]
struct Key(u64);

static CACHE: OnceLock<Cache<Key>> = OnceLock::new();
/// The thread that waits has missed, and clones its key; it may go on; it compares keys.
type Channel<T> = (Mutex<mpsc::Sender<T>>, Mutex<mpsc::Receiver<T>>);
static MISSED: OnceLock<Channel<()>> = OnceLock::new();
static GOES_ON: OnceLock<Channel<()>> = OnceLock::new();

fn channel(of: &'static OnceLock<Channel<()>>) -> &'static Channel<()> {
    of.get_or_init(|| {
        let (send, receive) = mpsc::channel();
        (Mutex::new(send), Mutex::new(receive))
    })
}

fn send(of: &'static OnceLock<Channel<()>>) {
    channel(of).0.lock().unwrap().send(()).expect("it is there");
}

fn receive(of: &'static OnceLock<Channel<()>>) {
    channel(of).1.lock().unwrap().recv().expect("it is there");
}

fn waits() -> bool {
    thread::current().name() == Some("waits")
}

fn cache() -> &'static Cache<Key> {
    CACHE.get_or_init(|| Cache::new(config(4 << 20)).unwrap())
}

impl Clone for Key {
    fn clone(&self) -> Self {
        if waits() {
            send(&MISSED);
            receive(&GOES_ON);
        } else {
            // After the miss, before the flight: so the flight is not told.
            cache().insert(Self(self.0), &[7; 4096]).unwrap();
        }
        Self(self.0)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        // The first comparison of the other thread is with the entry, under its flight.
        static FIRST: AtomicUsize = AtomicUsize::new(0);
        if !waits() && FIRST.fetch_add(1, Ordering::Relaxed) == 0 {
            send(&GOES_ON);
            // Time for the other one to come aboard.
            thread::sleep(Duration::from_millis(300));
        }
        self.0 == other.0
    }
}

impl Eq for Key {}

#[test]
fn a_caller_whose_buffer_is_short_costs_those_who_wait_no_load() {
    in_time("a short buffer", || {
        let wait = || match cache().get_or_lease(&Key(1)) {
            zcache::Leased::Page(page) => Waited::Page(page),
            zcache::Leased::Wait(waiting) => waiting.wait(),
            zcache::Leased::Lease(lease) => Waited::Lease(lease),
        };
        let waiter = thread::Builder::new().name("waits".into()).spawn(wait).unwrap();
        receive(&MISSED);
        let short = cache().get_into_or_lease(&Key(1), &mut [0; 16]);
        assert_eq!(short.map(|_| ()).unwrap_err().needed, 4096);
        match waiter.join().unwrap() {
            Waited::Page(page) => assert!(page == [7; 4096][..]),
            other => panic!("the page is there: {other:?}"),
        }
    });
}
