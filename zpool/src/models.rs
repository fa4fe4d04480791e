//! Loom models of whole pools: the shipped code from `alloc` down to the pages, on the heap source.
//!
//! Run them with `.ci/run models`, or with `RUSTFLAGS="--cfg zcache_loom --cfg crossbeam_loom --cfg
//! crossbeam_sanitize"` and `cargo nextest run -p zpool --release --lib
//! models`. Bounds are numbers of preemptions, `None` is every interleaving. Objects have 2048
//! bytes, two to a page and a zspage, so that each has witness cells of its own. So a thread that
//! reads or writes another object's bytes is caught.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::config::Config;
use crate::error::MapError;
use crate::handle::Handle;
use crate::pool::Pool;
use crate::source::Heap;
use crate::sync::random_key;
use crate::word::GENERATION_BITS;

mod framing;
mod mixed;
mod moving;
mod placing;
mod renumbering;
mod retiring;
mod seams;
mod sharing;
mod swapped;

/// Bytes of an object: half a page.
const LEN: usize = 2048;

/// Counts its drops.
#[derive(Debug)]
struct Record(Arc<AtomicU32>);

impl Drop for Record {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A pool, and how many records it was given and dropped.
struct World {
    pool: Pool<Record>,
    given: AtomicU32,
    dropped: Arc<AtomicU32>,
}

impl World {
    fn new() -> Arc<Self> {
        Self::of(Config::new())
    }

    /// One of so many pages and mixed zspages.
    fn mixed(pages: usize) -> Arc<Self> {
        Self::of(Config::new().max_pages(pages).mixed_up_to(usize::MAX))
    }

    #[allow(
        clippy::arc_with_non_send_sync,
        reason = "loom's threads are one; its cells are not Sync"
    )]
    fn of(config: Config) -> Arc<Self> {
        let heap = Heap::with_region_pages(4096, 4);
        let pool = Pool::with_source(config.max_object(LEN), heap).unwrap();
        Arc::new(Self { pool, given: AtomicU32::new(0), dropped: Arc::default() })
    }

    /// An object of `value`s.
    fn alloc(&self, value: u8) -> Handle {
        self.alloc_of(value, LEN)
    }

    /// An object of `len` bytes, which are all `value`.
    fn alloc_of(&self, value: u8, len: usize) -> Handle {
        self.given.fetch_add(1, Ordering::Relaxed);
        let record = Record(Arc::clone(&self.dropped));
        self.pool.alloc_record(record, &[value; LEN][..len]).unwrap()
    }

    /// What all bytes of an object are; whole, or the assertion fails.
    fn read(&self, handle: Handle) -> Result<u8, MapError> {
        let map = self.pool.map(handle)?;
        let value = map[0];
        assert!(map.iter().all(|byte| *byte == value), "a reader sees the object whole");
        Ok(value)
    }

    /// The same of whatever object has this id, which says what its handle is.
    fn read_id(&self, id: u32) -> Result<(u8, Handle), MapError> {
        let pinned = self.pool.pin_id(id)?;
        let (handle, bytes) = (pinned.handle(), pinned.bytes().unwrap());
        let value = bytes[0];
        assert!(bytes.iter().all(|byte| *byte == value), "a reader sees the object whole");
        let held = Arc::ptr_eq(&pinned.record().0, &self.dropped);
        assert!(held && pinned.handle() == handle && pinned.id() == id);
        Ok((value, handle))
    }

    /// After all threads: checks the pool, frees what is `left` and checks that nothing is held.
    fn over(&self, left: &[Handle]) {
        self.pool.check();
        assert_eq!(self.pool.len(), left.len(), "live objects");
        left.iter().for_each(|handle| self.pool.free(*handle).unwrap());
        self.pool.trim();
        self.pool.check();
        let stats = self.pool.stats();
        let rest = (stats.payload_bytes, stats.pages, stats.pending, stats.pinned_after_free);
        assert_eq!(rest, (0, 0, 0, 0), "nothing is held without objects");
        let (given, dropped) =
            (self.given.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed));
        assert_eq!(given, dropped, "each record is dropped once");
    }
}

/// The handle of the first object in slot `index`, for threads that know it before it is there.
fn first_handle(index: u64) -> Handle {
    let bits = (index << GENERATION_BITS | 1) ^ random_key();
    Handle::from_bits(bits).expect("a live generation is odd")
}
