//! A thread that maintains a cache.

use std::hash::{BuildHasher, Hash};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Cache;
use crate::sync::{Arc, Counter, Ordering};

/// The shortest pause between two steps.
const LEAST: Duration = Duration::from_millis(1);

/// A thread that calls [`Cache::maintain`] every so often, until this is dropped or nobody else has
/// the cache.
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
/// drop(maintainer); // ends the thread, and waits for the entry that it is at
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropping it waits for the entry that the thread is at, whatever the budget, or for the
/// dictionary that it is training.
#[derive(Debug)]
#[must_use = "the thread ends when this is dropped"]
pub struct Maintainer {
    stop: Arc<Counter>,
    thread: Option<JoinHandle<()>>,
}

impl Maintainer {
    /// Starts the thread. A step of `budget_bytes` bytes of pages follows each `interval`, which is
    /// rounded up to a millisecond; [`Duration::MAX`] is never. A removal hook that panics in the
    /// thread costs that step, and nothing else.
    ///
    /// ```
    /// use std::{sync::Arc, time::Duration};
    /// use zcache::{Cache, Config, InsertOptions, Maintainer};
    ///
    /// let cache = Arc::new(Cache::new(Config::new(4 << 20))?);
    /// let short = InsertOptions::new().time_to_live(Duration::from_millis(1));
    /// cache.insert_with_options(7, &[1; 4096], short)?;
    /// let maintainer = Maintainer::start(&cache, Duration::from_millis(5), 1 << 20)?;
    /// while cache.stats().removals.expired == 0 {
    ///     std::thread::sleep(Duration::from_millis(5)); // it ends what has expired
    /// }
    /// drop(maintainer);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput): `interval` is zero, which keeps a core busy.
    /// Else the system's error: it has no thread.
    pub fn start<K, S>(
        cache: &Arc<Cache<K, S>>,
        interval: Duration,
        budget_bytes: usize,
    ) -> io::Result<Self>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        S: BuildHasher + 'static,
        Cache<K, S>: Send + Sync,
    {
        let interval = pause(interval)?;
        let (stop, cache) = (Arc::new(Counter::new(0)), Arc::downgrade(cache));
        let flag = Arc::clone(&stop);
        let work = move || {
            // Relaxed: the thread is woken after the flag was set.
            let stopped = || flag.load(Ordering::Relaxed) != 0;
            loop {
                wait(interval, &stopped);
                let Some(cache) = cache.upgrade() else { return };
                if stopped() {
                    return;
                }
                // Those who gave the hook see its panics in their own calls as well.
                let step = || cache.maintain_until(budget_bytes, &stopped);
                let _ = catch_unwind(AssertUnwindSafe(step));
            }
        };
        let thread = thread::Builder::new().name("zcache-maintainer".into()).spawn(work)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

/// The pause between two steps.
fn pause(interval: Duration) -> io::Result<Duration> {
    if interval.is_zero() {
        let message = "a maintainer needs a pause between its steps: `interval` is zero";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(interval.max(LEAST))
}

/// Waits for `interval`, or until `stopped`; its thread is unparked then.
fn wait(interval: Duration, stopped: &dyn Fn() -> bool) {
    // None: the time is further away than the clock counts.
    let next = Instant::now().checked_add(interval);
    while !stopped() {
        let rest = match next {
            Some(next) => next.saturating_duration_since(Instant::now()),
            None => interval,
        };
        if rest.is_zero() {
            return;
        }
        thread::park_timeout(rest);
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

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_a_millisecond_or_more_and_zero_is_refused() {
        let refused = pause(Duration::ZERO).map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::InvalidInput));
        for (asked, taken) in [
            (Duration::from_nanos(1), LEAST),
            (LEAST, LEAST),
            (Duration::from_secs(1), Duration::from_secs(1)),
            (Duration::MAX, Duration::MAX),
        ] {
            assert_eq!(pause(asked).expect("not zero"), taken);
        }
    }
}
