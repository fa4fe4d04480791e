//! What tests of the cache have in common: small caches, pages, deadlines, and hooks that write
//! down.

use std::fmt;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use zcache::{Cache, Config, HotShare, RemovalCause};

use crate::pattern::{self, Random};

/// `max_page` of [`config`].
pub const LONGEST: usize = 8 << 10;
/// No call waits for as long as this, on no machine: whoever does waits for ever.
pub const DEADLINE: Duration = Duration::from_secs(600);

/// A cache of pages of at most [`LONGEST`] bytes, in two shards.
#[must_use]
pub fn config(capacity: usize) -> Config {
    Config::new(capacity).max_page(LONGEST).shards(2)
}

/// Why a loader has no page of this key.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone(pub u64);

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} is gone", self.0)
    }
}

impl std::error::Error for Gone {}

/// A page that compresses, different for each seed.
#[must_use]
pub fn page(seed: u64, len: usize) -> Vec<u8> {
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
///
/// # Panics
/// When `f` does, or takes too long.
pub fn in_time(what: &str, f: impl FnOnce() + Send + 'static) {
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
///
/// # Panics
/// It is another one.
pub fn panics<R>(f: impl FnOnce() -> R) -> bool {
    let Err(panic) = catch_unwind(AssertUnwindSafe(f)) else { return false };
    let text = panic.downcast_ref::<&str>().copied().unwrap_or_default();
    assert!(text.starts_with("planted"), "another panic: {text}");
    true
}

/// Takes anything.
pub fn ignore<T>(_: T) {}

/// A cache of that capacity and share of hot pages, with some pages in it.
///
/// # Panics
/// They do not fit.
#[must_use]
pub fn filled(capacity: usize, hot: HotShare) -> Cache<u64> {
    let cache: Cache<u64> = Cache::new(config(capacity).hot(hot)).unwrap();
    for key in 100..400 {
        cache.insert(key, &page(key, 4096)).unwrap();
    }
    cache
}

/// A cache by [`config`].
///
/// # Panics
/// The capacity is too small.
#[must_use]
pub fn cache(capacity: usize) -> Cache<u64> {
    Cache::new(config(capacity)).unwrap()
}

/// Zeros, incompressible and compressible ones.
#[must_use]
pub fn pages(len: usize) -> [Vec<u8>; 3] {
    [vec![0; len], pattern::bytes(len as u64 + 1, len), page(len as u64, len)]
}

/// The page of a key.
#[must_use]
pub fn of(cache: &Cache<u64>, key: u64) -> Option<Vec<u8>> {
    cache.get(&key).map(|page| page.to_vec())
}

/// A cache whose keys have the same hashes in each run.
pub type Fixed = Cache<u64, BuildHasherDefault<DefaultHasher>>;

/// What each entry of a cache went by, in order.
pub type Log = Arc<Mutex<Vec<(u64, RemovalCause)>>>;

/// A cache that writes down what goes.
///
/// # Panics
/// The capacity is too small.
#[must_use]
pub fn logged(config: Config) -> (Fixed, Log) {
    let log = Log::default();
    let told = Arc::clone(&log);
    let cache = Cache::with_hasher(config, BuildHasherDefault::default()).unwrap();
    let cache = cache.on_removal(move |removal| {
        told.lock().unwrap().push((*removal.key(), removal.cause()));
    });
    (cache, log)
}

/// What went since this was last asked.
///
/// # Panics
/// The hook panicked.
pub fn taken(log: &Log) -> Vec<(u64, RemovalCause)> {
    std::mem::take(&mut log.lock().unwrap())
}
