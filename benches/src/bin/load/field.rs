//! What the threads of a child share: the plan, the cache, and the versions of its pages.
#![allow(clippy::print_stdout, reason = "what the parent is told")]

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use ::tests::pattern::Random;
use ::tests::versions::Versions;
use benches::arguments::Failure;
use benches::memory;
use serde::{Deserialize, Serialize};
use zcache::Cache;

use crate::phase::Phase;
use crate::stage::Stage;

/// What a child shall do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// What it works on.
    pub(crate) phase: Phase,
    /// For how long.
    pub(crate) time: Duration,
    /// The cache's capacity in bytes.
    pub(crate) capacity: usize,
    /// Bytes of all keys' pages together, about.
    pub(crate) data: usize,
    /// Threads that work.
    pub(crate) threads: usize,
    /// Page files.
    pub(crate) pages: Vec<PathBuf>,
    /// Where the capacity in force is told.
    pub(crate) board: PathBuf,
    /// Seed of everything.
    pub(crate) seed: u64,
}

/// What the threads of a phase share.
pub(crate) struct Field {
    pub(crate) plan: Plan,
    pub(crate) cache: OnceLock<Cache<u64>>,
    pub(crate) versions: Arc<Versions>,
    /// Bytes of the longest page.
    pub(crate) longest: usize,
    /// What is done just now; `None` ends the workers.
    pub(crate) stage: Mutex<Option<Stage>>,
    /// Keys that were taken in the stage of zero or tiny pages.
    pub(crate) numbers: AtomicU64,
    pub(crate) stop: AtomicBool,
}

/// Tells the parent.
pub(crate) fn say(what: &str, more: &str) {
    let mut out = io::stdout().lock();
    // Nobody listens any more: then the end of the input ends this process.
    let _ = writeln!(out, "{what} {more}").and_then(|()| out.flush());
}

impl Field {
    pub(crate) fn cache(&self) -> &Cache<u64> {
        self.cache.get().expect("made before the threads set out")
    }

    pub(crate) fn stage(&self) -> Option<Stage> {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what the workers do once they have passed the gate.
    pub(crate) fn set_out(&self, stage: Option<Stage>) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
        self.numbers.store(0, Ordering::Relaxed);
        self.stop.store(false, Ordering::Relaxed);
    }

    /// Checks the whole cache. The check works in memory of its own, in proportion to the entries,
    /// so the parent looks away until the next stage.
    pub(crate) fn check(&self, go: &mpsc::Receiver<()>) -> Result<(), Failure> {
        say("check", "");
        go.recv()?;
        self.cache().check();
        memory::trim_heap();
        Ok(())
    }

    /// A stage has ended: no insert was refused in it, `before` of those before it. Where the owner
    /// resizes an insert may be: a cache that gets smaller takes nothing while readers hold too
    /// much.
    pub(crate) fn quiet(&self, stage: Stage, before: u64) -> u64 {
        let cache = self.cache();
        let refused = cache.stats().rejected.no_room;
        assert!(
            stage.is_mixed() || refused == before,
            "{stage:?}: {} inserts were refused in a cache with entries: {}",
            refused - before,
            cache.stats()
        );
        refused
    }

    /// Small keys are asked for most: a quarter of the keys by 71 % of the calls.
    pub(crate) fn key(&self, random: &mut Random) -> u64 {
        let part = (random.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        let keys = self.versions.keys();
        ((keys as f64 * part.powi(4)) as u64).min(keys as u64 - 1)
    }
}
