//! What many threads leave behind: contexts of codecs and buffers are few, and go when nobody needs
//! them.
#![cfg(not(zcache_loom))]

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use tests::pattern;
use zcache::codec::{Codec, Context, Corrupt};
use zcache::policy::Lru;
use zcache::{Cache, Config, HotShare};

const PAGE: usize = 16 << 10;
const CAPACITY: usize = 16 << 20;
/// What a context of [`Dear`] says it takes.
const CONTEXT: usize = 700 << 10;

/// Contexts of a codec, and how many there ever were at once.
#[derive(Debug, Default)]
struct Alive {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A codec that keeps the first half of a page whose second half says nothing. Its contexts are
/// dear, and so slow that all threads of a herd are at theirs at once, unless they wait for each
/// other.
#[derive(Debug, Clone, Default)]
struct Dear {
    alive: Arc<Alive>,
    slow: bool,
}

struct Halver {
    alive: Arc<Alive>,
    slow: bool,
}

impl Codec for Dear {
    fn name(&self) -> Cow<'static, str> {
        "dear".into()
    }

    fn context_bytes(&self, max_page: usize) -> usize {
        CONTEXT * max_page / PAGE
    }

    fn context(&self, _max_page: usize) -> io::Result<Box<dyn Context>> {
        let now = self.alive.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.alive.most.fetch_max(now, Ordering::Relaxed);
        Ok(Box::new(Halver { alive: Arc::clone(&self.alive), slow: self.slow }))
    }
}

impl Drop for Halver {
    fn drop(&mut self) {
        self.alive.now.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Context for Halver {
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
        if self.slow {
            thread::sleep(Duration::from_millis(1));
        }
        let half = page.len() / 2;
        to.get_mut(..half)?.copy_from_slice(&page[..half]);
        Some(half)
    }

    fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt> {
        if payload.len() != page.len() / 2 {
            return Err(Corrupt);
        }
        page.fill(7);
        page[..payload.len()].copy_from_slice(payload);
        Ok(())
    }
}

/// A page that [`Dear`] halves, and that is neither same-filled nor taken for random.
fn page(key: u64, len: usize) -> Vec<u8> {
    let mut page = pattern::bytes(key, len);
    page[len / 2..].fill(7);
    page
}

fn cache(codec: Dear) -> Cache<u64> {
    let config = Config::new(CAPACITY).max_page(PAGE).codec(codec).hot(HotShare::Off);
    Cache::new(config.policy(Lru::new())).unwrap()
}

/// Inserts `keys`, each of which has to go in, and says how many entries there are.
fn fill(cache: &Cache<u64>, keys: std::ops::Range<u64>) -> usize {
    keys.for_each(|key| cache.insert(key, &page(key, PAGE)).unwrap());
    cache.len()
}

/// Contexts that may be at work at once.
fn bound() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (CAPACITY / 8 / CONTEXT).min(cores).max(1)
}

#[test]
fn a_herd_of_threads_waits_for_contexts_and_leaves_room_for_entries() {
    let fresh = fill(&cache(Dear::default()), 0..3000);
    let alive = Arc::new(Alive::default());
    let herd = cache(Dear { alive: Arc::clone(&alive), slow: true });
    let page_of = |key: u64| page(key, PAGE);
    thread::scope(|scope| {
        for thread in 0..32 {
            let (herd, page_of) = (&herd, &page_of);
            scope.spawn(move || {
                for nth in 0..12 {
                    let key = thread * 1000 + nth;
                    let stored = page_of(key);
                    herd.insert(key, &stored).expect("no insert is refused");
                    let read = herd.get(&key);
                    assert!(read.is_none_or(|read| read == stored));
                }
            });
        }
    });
    let most = alive.most.load(Ordering::Relaxed);
    assert!(most <= bound(), "{most} contexts at once, allowed are {}", bound());
    assert_eq!(herd.stats().unreadable, 0, "no look-up goes without a context");
    assert!(herd.stats().bytes.codec < CAPACITY / 6, "{}", herd.stats());
    let left = fill(&herd, 1_000_000..1_001_500);
    assert!(left * 100 >= fresh * 97, "{left} entries, a fresh cache holds {fresh}");
    assert_eq!(alive.now.load(Ordering::Relaxed), 1, "one thread needs one context");
    herd.check();
}

/// The threads of a herd have a context each as far as there may be, then one thread goes on in a
/// cache that has room: nothing makes the others go but the operations that pass.
#[test]
fn contexts_that_nobody_needs_go_by_themselves_and_evict_nothing() {
    let alive = Arc::new(Alive::default());
    let cache = cache(Dear { alive: Arc::clone(&alive), slow: true });
    thread::scope(|scope| {
        for thread in 0..16 {
            let cache = &cache;
            scope.spawn(move || {
                (0..4).for_each(|_| cache.insert(thread, &page(1, PAGE)).unwrap());
            });
        }
    });
    assert_eq!(alive.most.load(Ordering::Relaxed), bound(), "as many as there may be");
    let short = page(2, 2000);
    (0..5000).for_each(|nth| cache.insert(100 + nth % 100, &short).unwrap());
    assert!(alive.now.load(Ordering::Relaxed) <= 1);
    let left = cache.stats();
    // Of a context for the short pages, and a buffer.
    assert!(left.bytes.codec <= CONTEXT * 4096 / PAGE + (64 << 10), "{left}");
    assert_eq!((left.removals.evicted, left.rejected.no_room), (0, 0));
    cache.check();
}

#[test]
fn one_long_page_leaves_no_large_context_and_no_long_buffer_behind() {
    let cache = cache(Dear::default());
    let short = page(1, 4096);
    cache.insert(1, &short).unwrap();
    let before = cache.stats().bytes.codec;
    cache.insert(2, &page(2, PAGE)).unwrap();
    assert!(cache.stats().bytes.codec > 3 * before);
    (0..3000).for_each(|_| cache.insert(1, &short).unwrap());
    assert_eq!(cache.stats().bytes.codec, before);
    assert_eq!(cache.get(&2).as_deref(), Some(&page(2, PAGE)[..]));
    cache.check();
}

#[test]
fn trim_leaves_no_context_and_no_buffer() {
    let cache = cache(Dear::default());
    cache.insert(1, &page(1, PAGE)).unwrap();
    assert!(cache.stats().bytes.codec > CONTEXT);
    cache.trim();
    assert_eq!(cache.stats().bytes.codec, 0);
    assert_eq!(cache.get(&1).as_deref(), Some(&page(1, PAGE)[..]));
    cache.check();
}

/// Pages that look random need no context, so the operations that count are those that make room.
#[test]
fn contexts_go_before_entries_do_where_nothing_is_compressed_any_more() {
    let cache = cache(Dear::default());
    fill(&cache, 0..3000);
    assert!(cache.stats().bytes.codec >= CONTEXT);
    for key in 0..20_000 {
        cache.insert(1 << 32 | key, &pattern::bytes(key, 2048)).unwrap();
    }
    // A few of these pages look as if they could be compressed, and have a small one made.
    let left = cache.stats();
    assert!(left.bytes.codec <= CONTEXT * 4096 / PAGE + (64 << 10), "{left}");
    cache.check();
}

/// Resident bytes of this process's own, as the kernel counts them one by one.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let smaps = std::fs::read_to_string("/proc/self/smaps_rollup").expect("Linux");
    let line = smaps.lines().find_map(|line| line.strip_prefix("Anonymous:")).expect("a line");
    let kib: usize = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib << 10
}

/// All threads have a buffer of 128 KiB at once, and are still there when they have given it back:
/// a general-purpose allocator keeps much of what its arenas had at the most.
#[test]
#[cfg(target_os = "linux")]
fn buffers_of_a_herd_go_back_to_the_system() {
    const THREADS: u64 = 64;
    const LONG: usize = 128 << 10;
    tests::limits::in_child("buffers_of_a_herd_go_back_to_the_system", || {
        let config = Config::new(64 << 20).max_page(LONG).hot(HotShare::Off);
        let cache: Cache<u64> = Cache::new(config).unwrap();
        let mut long = pattern::bytes(1, LONG);
        long[LONG / 4..].fill(7);
        cache.insert(1, &long).unwrap();
        let step = Barrier::new(THREADS as usize + 1);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                let (cache, long, step) = (&cache, &long, &step);
                scope.spawn(move || {
                    let same = cache.read(&1, |page| page == long);
                    assert_eq!(same, Some(true), "all of its stack was used");
                    step.wait();
                    step.wait();
                    let long = cache.read(&1, |page| {
                        step.wait();
                        step.wait();
                        page.len()
                    });
                    assert_eq!(long, Some(LONG));
                    step.wait();
                    step.wait();
                });
            }
            step.wait();
            cache.trim();
            let (before, held) = (resident(), cache.held_bytes());
            step.wait();
            step.wait();
            let (most, out) = (resident(), cache.stats().bytes.codec);
            step.wait();
            step.wait();
            let (kept, after) = (cache.held_bytes() - held, resident());
            step.wait();
            // Not before all threads may end.
            assert!(out >= THREADS as usize * LONG, "{out} bytes of buffers are out, and counted");
            assert!(most >= before + THREADS as usize * LONG, "{before} bytes before, {most} then");
            assert!(kept <= (64 << 20) / 32, "{kept} bytes are kept");
            assert!(after <= before + kept + (1 << 20), "{before} bytes before, {after} after");
        });
        cache.check();
    });
}
