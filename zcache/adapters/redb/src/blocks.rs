//! The cache that backends share: blocks of files, and all calls to zcache.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use zcache::{Cache, Config, ConfigError, HotShare, Lease, Leased, Waited};

/// Bytes of a block, redb's smallest page. Its larger pages are 2, 4, 8, ... blocks, and a place
/// in the file may belong to a page of another size later: so blocks are cached, not pages.
pub const BLOCK: usize = 4096;

/// The name of a block in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    /// The number of the backend: each one that is made has another.
    pub file: u32,
    /// The number of the block in the file.
    pub number: u64,
}

/// A cache for the blocks of one or more redb databases. Clones share it.
///
/// ```
/// use zcache_redb::BlockCache;
/// use redb::backends::InMemoryBackend;
///
/// let cache = BlockCache::new(8 << 20)?; // for both databases together
/// let users = redb::Builder::new().create_with_backend(cache.over(InMemoryBackend::new()))?;
/// let orders = redb::Builder::new().create_with_backend(cache.over(InMemoryBackend::new()))?;
/// # drop((users, orders));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct BlockCache {
    cache: Arc<Cache<Block>>,
    backends: Arc<AtomicU32>,
}

impl BlockCache {
    /// A cache of `capacity_bytes` bytes of resident memory, everything counted: LZ4, and no block
    /// is kept decoded, because redb's own cache does that.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] says how many bytes are the least.
    pub fn new(capacity_bytes: usize) -> Result<Self, ConfigError> {
        Self::with_config(Config::new(capacity_bytes).hot(HotShare::Off))
    }

    /// A cache with another codec or policy. The longest page is set to [`BLOCK`].
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn with_config(config: Config) -> Result<Self, ConfigError> {
        let cache = Cache::new(config.max_page(BLOCK))?.with_scopes(|block: &Block| block.file)?;
        Ok(Self { cache: Arc::new(cache), backends: Arc::default() })
    }

    /// The blocks of a backend that is new.
    pub(crate) fn new_file(&self) -> FileBlocks {
        let file = self.backends.fetch_add(1, Ordering::Relaxed);
        FileBlocks { cache: Arc::clone(&self.cache), file }
    }

    /// The cache itself: for its figures, its capacity and a [`Maintainer`](zcache::Maintainer).
    #[must_use]
    pub fn cache(&self) -> &Arc<Cache<Block>> {
        &self.cache
    }
}

/// The blocks of one backend.
#[derive(Debug)]
pub(crate) struct FileBlocks {
    cache: Arc<Cache<Block>>,
    file: u32,
}

/// Blocks in a row that were missed, and the right to store each of them.
struct Run {
    blocks: Range<usize>,
    leases: Vec<Lease<Block>>,
}

impl FileBlocks {
    fn name(&self, number: u64) -> Block {
        Block { file: self.file, number }
    }

    /// Fills `out` with the blocks from `first` on. What is missing is read by `read`, which gets
    /// the number of the first block and the place for it and those that follow: blocks in a row
    /// that are missing are read at once.
    ///
    /// A block that another thread is reading is waited for. Threads ask for blocks in ascending
    /// order and read what they have promised before they wait: so no two wait for each other.
    pub(crate) fn read(
        &self,
        first: u64,
        out: &mut [u8],
        read: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let blocks = out.len() / BLOCK;
        let mut run = Run { blocks: 0..0, leases: Vec::new() };
        for at in 0..blocks {
            let name = self.name(first + at as u64);
            let to = &mut out[at * BLOCK..(at + 1) * BLOCK];
            let waiting = match self.cache.get_into_or_lease(&name, to) {
                Ok(Leased::Page(BLOCK)) => {
                    self.fill(first, out, &mut run, at + 1, &read)?;
                    continue;
                }
                Ok(Leased::Lease(lease)) => {
                    run.leases.push(lease);
                    run.blocks.end = at + 1;
                    continue;
                }
                Ok(Leased::Wait(waiting)) => waiting,
                // No block of another length is ever inserted.
                Ok(Leased::Page(_)) | Err(_) => unreachable!("a block has {BLOCK} bytes"),
            };
            self.fill(first, out, &mut run, at, &read)?;
            match waiting.wait() {
                Waited::Page(page) if page.len() == BLOCK => {
                    out[at * BLOCK..(at + 1) * BLOCK].copy_from_slice(&page);
                    run.blocks = at + 1..at + 1;
                }
                Waited::Lease(lease) => {
                    run.leases.push(lease);
                    run.blocks = at..at + 1;
                }
                // The other thread's error is its own: this one asks the store itself.
                Waited::Page(_) | Waited::Failed(_) => {
                    read(first + at as u64, &mut out[at * BLOCK..(at + 1) * BLOCK])?;
                    run.blocks = at + 1..at + 1;
                }
            }
        }
        self.fill(first, out, &mut run, blocks, &read)
    }

    /// Reads and stores the blocks of `run`; the next run starts at `next`. On an error the leases
    /// are dropped, and whoever waits for one of them reads the block itself.
    fn fill(
        &self,
        first: u64,
        out: &mut [u8],
        run: &mut Run,
        next: usize,
        read: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let Run { blocks, leases } =
            std::mem::replace(run, Run { blocks: next..next, leases: Vec::new() });
        if leases.is_empty() {
            return Ok(());
        }
        let to = &mut out[blocks.start * BLOCK..blocks.end * BLOCK];
        read(first + blocks.start as u64, to)?;
        for (lease, block) in leases.into_iter().zip(to.chunks_exact(BLOCK)) {
            // Not stored is no error: the caller has the block.
            let _ = self.cache.insert_if_valid(lease, block);
        }
        Ok(())
    }

    /// Stores a block that was written to its home.
    pub(crate) fn written(&self, number: u64, block: &[u8]) {
        // An insert that fails has removed what the block had before.
        let _ = self.cache.insert(self.name(number), block);
    }

    /// The block is not what it was, and its new bytes are not at hand.
    pub(crate) fn changed(&self, number: u64) {
        self.cache.remove(&self.name(number));
    }

    /// All blocks may have changed.
    pub(crate) fn all_changed(&self) {
        self.cache.scope(self.file).clear();
    }

    /// The file ends at block `end` now: what was behind it is gone.
    pub(crate) fn cut(&self, end: u64) {
        self.cache.retain(|block| block.file != self.file || block.number < end);
    }
}

impl Drop for FileBlocks {
    fn drop(&mut self) {
        self.all_changed();
    }
}
