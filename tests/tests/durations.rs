//! Durations at their edges: times to live, the cost of a miss, and a maintainer's pauses.
#![cfg(not(zcache_loom))]

use std::borrow::Cow;
use std::io;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tests::pattern;
use zcache::codec::{self, Codec, Context, Corrupt, Lz4};
use zcache::{Cache, Config, InsertOptions, Maintainer};

const EDGES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    Duration::from_millis(1),
    Duration::from_secs(u64::MAX / 2),
    Duration::MAX,
];

/// Panics of maintainers' threads.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() == Some("zcache-maintainer") {
            PANICS.fetch_add(1, Ordering::Relaxed);
        }
        hook(info);
    }));
}

fn page(seed: u64) -> Vec<u8> {
    let mut page = vec![0; 4096];
    pattern::words(1, seed, &mut page);
    page
}

#[test]
fn a_time_to_live_of_less_than_a_millisecond_is_one() {
    let cache: Cache<u64> = Cache::new(Config::new(4 << 20)).unwrap();
    for time in [Duration::from_nanos(1), Duration::from_micros(999)] {
        let how = InsertOptions::new().time_to_live(time);
        let is_hit = || {
            cache.insert_with_options(1, &page(1), how).unwrap();
            cache.get(&1).is_some()
        };
        // The millisecond may be over before the look-up, but not each time.
        assert!((0..100_000).any(|_| is_hit()), "{time:?}");
    }
    let how = InsertOptions::new().time_to_live(Duration::ZERO);
    cache.insert_with_options(1, &page(1), how).unwrap();
    assert_eq!(cache.get(&1), None);
    cache
        .insert_with_options(1, &page(1), InsertOptions::new().time_to_live(Duration::MAX))
        .unwrap();
    assert_eq!(cache.get(&1).as_deref(), Some(&page(1)[..]));
    cache.check();
}

#[test]
fn any_cost_of_a_miss_is_taken() {
    for cost in EDGES {
        let cache: Cache<u64> = Cache::new(Config::new(4 << 20).miss_cost(cost)).unwrap();
        for key in 0..1500 {
            cache.insert(key, &page(key)).unwrap();
            let _ = (cache.get(&(key / 2)), cache.get(&(key / 2)), cache.get(&(key + 1)));
        }
        let told = cache.stats().balance.expect("a share that moves").miss;
        assert_eq!(told, cost.min(Duration::from_nanos(u64::MAX)));
        cache.check();
    }
}

#[test]
fn a_maintainer_takes_any_pause_but_none() {
    count_panics();
    let cache = Arc::new(Cache::<u64>::new(Config::new(4 << 20)).unwrap());
    for every in EDGES {
        match Maintainer::start(&cache, every, 1 << 20) {
            // Dropping it waits for the thread.
            Ok(maintainer) => drop(maintainer),
            Err(error) => {
                assert!(every.is_zero(), "{every:?}: {error}");
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                assert!(error.to_string().contains("`interval` is zero"), "{error}");
            }
        }
        assert_eq!(Arc::weak_count(&cache), 0, "{every:?}: the thread is gone");
    }
    assert!(Maintainer::start(&cache, Duration::ZERO, 1).is_err());
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
}

/// LZ4, whose third page drops the maintainer that has it compressed.
#[derive(Debug, Clone)]
struct Quitting {
    maintainer: Arc<Mutex<Option<Maintainer>>>,
    compressed: Arc<AtomicUsize>,
}

/// A context of LZ4, and what it quits with.
struct Quits(Box<dyn Context>, Quitting);

impl Codec for Quitting {
    fn name(&self) -> Cow<'static, str> {
        "quitting".into()
    }

    fn context_bytes(&self, max_page: usize) -> usize {
        Lz4.context_bytes(max_page) + 128
    }

    fn context(&self, max_page: usize) -> io::Result<Box<dyn Context>> {
        Ok(Box::new(Quits(Lz4.context(max_page)?, self.clone())))
    }
}

impl Context for Quits {
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
        if self.1.compressed.fetch_add(1, Ordering::Relaxed) == 2 {
            drop(self.1.maintainer.lock().unwrap().take());
        }
        self.0.compress(page, to)
    }

    fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt> {
        Lz4.decode(payload, page).unwrap_or_else(|| self.0.decompress(payload, page))
    }
}

#[test]
fn a_maintainer_stops_between_two_entries() {
    let maintainer = Arc::new(Mutex::new(None));
    let compressed = Arc::new(AtomicUsize::new(0));
    let cold =
        Quitting { maintainer: Arc::clone(&maintainer), compressed: Arc::clone(&compressed) };
    let config = Config::new(8 << 20).codec(codec::Plain).cold_codec(cold);
    let cache = Arc::new(Cache::<u64>::new(config).unwrap());
    (0..200).for_each(|key| cache.insert(key, &page(key)).unwrap());
    {
        let mut slot = maintainer.lock().unwrap();
        let every = Duration::from_millis(1);
        *slot = Some(Maintainer::start(&cache, every, usize::MAX).unwrap());
    }
    let start = Instant::now();
    while Arc::weak_count(&cache) > 0 || Arc::strong_count(&cache) > 1 {
        assert!(start.elapsed() < Duration::from_secs(60), "the thread does not end");
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(compressed.load(Ordering::Relaxed), 3, "no page after the stop");
    assert_eq!(cache.stats().recompression.recompressed, 3);
    (0..200).for_each(|key| assert!(cache.get(&key).unwrap() == page(key)));
}
