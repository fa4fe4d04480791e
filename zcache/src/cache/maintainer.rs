//! A thread that maintains a cache.

use std::hash::{BuildHasher, Hash};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Cache;
use crate::sync::{Arc, Counter, Ordering};

/// A thread that calls [`Cache::maintain`] every so often, until this is dropped or nobody else has the cache.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use zcache::{Cache, Config, Maintainer, codec::Zstd};
///
/// let config = Config::new(8 << 20).cold_codec(Zstd::level(3)?);
/// let cache = Arc::new(Cache::<u64>::new(config)?);
/// // One MiB of pages a second at the most: less than a hundredth of a core.
/// let maintainer = Maintainer::start(&cache, Duration::from_secs(1), 1 << 20)?;
/// cache.insert(1, &[7; 4096])?;
/// drop(maintainer); // ends the thread, and waits for the step that it is at
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "the thread ends when this is dropped"]
pub struct Maintainer {
    stop: Arc<Counter>,
    thread: Option<JoinHandle<()>>,
}

impl Maintainer {
    /// Starts the thread: a step of `budget` bytes `every` so often. A removal hook that panics in it costs that step, and
    /// nothing else.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start<K, S>(cache: &Arc<Cache<K, S>>, every: Duration, budget: usize) -> io::Result<Self>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        S: BuildHasher + 'static,
        Cache<K, S>: Send + Sync,
    {
        let (stop, cache) = (Arc::new(Counter::new(0)), Arc::downgrade(cache));
        let stopped = Arc::clone(&stop);
        let work = move || {
            loop {
                let next = Instant::now() + every;
                // Relaxed: the thread is woken after it was set.
                while stopped.load(Ordering::Relaxed) == 0 {
                    match next.checked_duration_since(Instant::now()) {
                        Some(rest) if !rest.is_zero() => thread::park_timeout(rest),
                        _ => break,
                    }
                }
                let Some(cache) = cache.upgrade() else { return };
                if stopped.load(Ordering::Relaxed) != 0 {
                    return;
                }
                // Those who gave the hook see its panics in their own calls as well.
                let _ = catch_unwind(AssertUnwindSafe(|| cache.maintain(budget)));
            }
        };
        let thread = thread::Builder::new().name("zcache-maintainer".into()).spawn(work)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Maintainer {
    fn drop(&mut self) {
        self.stop.store(1, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        // It may be dropped by what the thread itself drops.
        if thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
    }
}
