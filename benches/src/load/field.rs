//! What the threads of a child share: the plan, the cache, and the versions of its pages.
#![allow(clippy::print_stdout, reason = "what the parent is told")]

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use ::tests::pattern::Random;
use ::tests::versions::Versions;
use zcache::Cache;

use super::phase::Phase;
use super::stage::Stage;
use crate::packing::Failure;
use crate::watch;

/// What a child shall do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it works on.
    pub phase: Phase,
    /// For how long.
    pub time: Duration,
    /// The cache's capacity in bytes.
    pub capacity: usize,
    /// Bytes of all keys' pages together, about.
    pub data: usize,
    /// Threads that work.
    pub threads: usize,
    /// Whether nothing but inserts and look-ups shall happen.
    pub soak: bool,
    /// Page files.
    pub pages: Vec<PathBuf>,
    /// Where the capacity in force is told.
    pub board: PathBuf,
    /// Seed of everything.
    pub seed: u64,
}

/// What the threads of a phase share.
pub(super) struct Field {
    pub(super) plan: Plan,
    pub(super) cache: OnceLock<Cache<u64>>,
    pub(super) versions: Arc<Versions>,
    /// Bytes of the longest page.
    pub(super) longest: usize,
    /// What is done just now; `None` ends the workers.
    pub(super) stage: Mutex<Option<Stage>>,
    /// Keys that were taken in the stage of zero or tiny pages.
    pub(super) numbers: AtomicU64,
    /// In a soak, the file whose keys are preferred just now.
    pub(super) era: AtomicUsize,
    pub(super) stop: AtomicBool,
}

/// Tells the parent.
pub(super) fn say(what: &str, more: &str) {
    let mut out = io::stdout().lock();
    // Nobody listens any more: then the end of the input ends this process.
    let _ = writeln!(out, "{what} {more}").and_then(|()| out.flush());
}

impl Field {
    pub(super) fn cache(&self) -> &Cache<u64> {
        self.cache.get().expect("made before the threads set out")
    }

    pub(super) fn stage(&self) -> Option<Stage> {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what the workers do once they have passed the gate.
    pub(super) fn set_out(&self, stage: Option<Stage>) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
        self.numbers.store(0, Ordering::Relaxed);
        self.stop.store(false, Ordering::Relaxed);
    }

    /// Checks the whole cache. The check works in memory of its own, in proportion to the entries,
    /// so the parent looks away until the next stage.
    pub(super) fn check(&self, go: &mpsc::Receiver<()>) -> Result<(), Failure> {
        say("check", "");
        go.recv()?;
        self.cache().check();
        watch::trim_heap();
        Ok(())
    }

    /// A stage has ended: no insert was refused in it, `before` of those before it. Where the owner
    /// resizes an insert may be: a cache that gets smaller takes nothing while readers hold too
    /// much.
    pub(super) fn quiet(&self, stage: Stage, before: u64) -> u64 {
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
    pub(super) fn key(&self, random: &mut Random) -> u64 {
        let part = (random.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        let keys = self.versions.keys();
        let key = ((keys as f64 * part.powi(4)) as usize).min(keys - 1);
        if !self.plan.soak || random.below(4) == 0 {
            return key as u64;
        }
        // Most of them from one file for a while, then from the next: sizes that come and go.
        let files = self.versions.files().len();
        let era = key / files * files + self.era.load(Ordering::Relaxed) % files;
        (if era < keys { era } else { key }) as u64
    }
}
