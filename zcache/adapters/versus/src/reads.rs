//! Reads that reach the store: counted, and made to take their time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The reads of a store.
#[derive(Debug, Default)]
pub struct Reads {
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Reads {
    /// Counts a read, and waits for as long as one is to take.
    pub fn wait(&self) {
        let start = Instant::now();
        let time = self.note();
        // Sleeping takes some 60 us longer than it is told.
        while start.elapsed() < time {
            let rest = time.saturating_sub(start.elapsed());
            if rest > Duration::from_micros(200) {
                std::thread::sleep(rest - Duration::from_micros(150));
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Counts a read, and says how long it is to take.
    pub fn note(&self) -> Duration {
        self.count.fetch_add(1, Ordering::Relaxed);
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }

    /// Reads until now.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn cost(&self, time: Duration) {
        self.nanoseconds.store(time.as_nanos() as u64, Ordering::Relaxed);
    }
}
