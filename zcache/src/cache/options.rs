//! How a page goes in, beside its bytes.

use std::time::Duration;

use crate::policy::Priority;

/// How a page goes in: for [`insert_with_options`](crate::Cache::insert_with_options) and the other
/// calls whose names end so.
///
/// ```
/// use std::time::Duration;
/// use zcache::{InsertOptions, policy::Priority};
///
/// let minute = Duration::from_secs(60);
/// let options = InsertOptions::new().priority(Priority::Low).time_to_live(minute);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct InsertOptions {
    pub(super) priority: Priority,
    pub(super) time_to_live: Option<Duration>,
    /// Whether it is stored as it is at first.
    pub(super) scan: bool,
}

impl InsertOptions {
    /// Normal priority, the cache's own time to live.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the page starts in the policy: `Low` for what will hardly be asked for again, such as
    /// the pages that are read ahead, `High` for what will be, such as inner nodes. For a scan see
    /// [`scan`](Self::scan).
    #[must_use]
    pub fn priority(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    /// For a page of a scan, which will hardly be asked for again: it enters with
    /// [`Priority::Low`], and is compressed when it is hit for the first time. Until then it is
    /// stored as it is. Most pages of a scan are evicted before that: one costs a copy then, a
    /// fourth or less of what an insert takes that compresses it, and the other entries keep their
    /// places. (`cargo run --release -p benches --bin cache_scan` tells how much.)
    ///
    /// That first hit takes about as long as an insert, and may evict entries, and so call the
    /// removal hook. The key is cloned for it. Where there is no room, the page stays as it is.
    /// [`peek`](crate::Cache::peek) and other calls that are no hits leave it as it is, too. A page
    /// that is hit just once, such as one that was read ahead, does better with `Priority::Low`
    /// alone.
    ///
    /// The page is compressed at once where it is longer than [`MAX_PIECE`](crate::MAX_PIECE) or
    /// than the capacity divided by 2048 (4 KiB of 8 MiB), where its
    /// [scope](crate::Cache::with_scopes) is at its limit, and where another priority is set
    /// afterwards.
    ///
    /// ```
    /// use zcache::{Cache, Config, InsertOptions};
    ///
    /// let cache = Cache::new(Config::new(16 << 20))?;
    /// let rows = b"a row, and another one. ".repeat(100);
    /// cache.insert_with_options(7, &rows, InsertOptions::new().scan())?;
    /// assert!(cache.stats().bytes.payload >= 2400);
    /// assert!(cache.get(&7).is_some());
    /// assert!(cache.stats().bytes.payload < 240);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn scan(self) -> Self {
        Self { priority: Priority::Low, scan: true, ..self }
    }

    /// How long the page lives, rounded up to milliseconds; instead of the cache's own time. A page
    /// whose time is zero is never hit.
    #[must_use]
    pub fn time_to_live(self, time: Duration) -> Self {
        Self { time_to_live: Some(time), ..self }
    }
}
