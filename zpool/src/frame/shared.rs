//! What outlives a frame: its memory, as long as somebody holds it, and the account that counts it.
//! ```text
//! frame, SharedBytes... -> Owned: the memory -> Account: what a set of frames holds, its source
//! ```
//! Law: in slots, waiting or filled, the memory of a frame is one `Owned`. It leaves all counts and
//! the ledger in the drop of that. By then the frame is one of those that wait. Whoever drops the
//! last holder has it taken off its slot, or sees that another thread did.

use std::fmt;
use std::ops::Deref;

use super::held::Held;
use super::memory::{Memory, Supply};
use crate::error::AllocError;
use crate::ledger::shared_cost;
use crate::sync::{AtomicUsize, Counted, Ordering, UnsafeCell};

/// What a set of frames holds: lives as long as the set, and as anybody holds bytes of it.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) supply: Supply,
    /// Frames in slots.
    pub(super) frames: AtomicUsize,
    /// What these hold.
    pub(super) bytes: AtomicUsize,
    /// What the others hold, and those whose memory is held by others.
    pub(super) waiting: AtomicUsize,
    /// Heap blocks of all of them, and of those that are filled.
    pub(super) blocks: AtomicUsize,
    /// Charged for this block itself: nothing, as long as the set is there.
    own: AtomicUsize,
}

/// The memory of a frame, by whoever holds it.
#[derive(Debug)]
pub(super) struct Owned {
    memory: Memory,
    account: Counted<Account>,
    /// The access that ends it, for models: beside one who reads it is a race.
    life: UnsafeCell<()>,
}

// SAFETY: the memory is written to by nobody, and goes back to a source that takes it in any
// thread; nothing is reached through `life`.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

/// The bytes of a frame by themselves, without a copy: made by
/// [`Frame::share`](super::Frame::share).
///
/// They are there, and stay what they are, as long as this or a clone of it is: when the frame has
/// ended, and when its set and the pool have been dropped. The frame's head is not held: it goes
/// with the frame.
///
/// Until the last one is dropped, in whatever thread, the pages stay charged to the pool, and of
/// the set's [`waiting_bytes`](super::Frames::waiting_bytes) from the moment on when the frame is
/// off its slot. After the pool is gone its page source lives on for them, and keeps their pages;
/// those of objects went with the pool.
#[derive(Clone)]
pub struct SharedBytes {
    /// Of memory that is one run.
    owned: Held<Owned>,
}

impl Account {
    /// The heap block of one.
    pub(super) const BYTES: usize = shared_cost(size_of::<Self>());

    pub(super) fn new(supply: Supply) -> Self {
        Self {
            supply,
            frames: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            blocks: AtomicUsize::new(0),
            own: AtomicUsize::new(0),
        }
    }

    /// Charges a heap block.
    pub(super) fn lend(&self, bytes: usize) -> Result<(), AllocError> {
        self.supply.ledger.lend(bytes)?;
        self.blocks.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn take_back(&self, bytes: usize) {
        self.blocks.fetch_sub(bytes, Ordering::Relaxed);
        self.supply.ledger.take_back(bytes);
    }

    /// Takes memory, charged with its heap blocks, and copies `bytes` to it.
    pub(super) fn fill(this: &Counted<Self>, bytes: &[u8]) -> Result<Held<Owned>, AllocError> {
        this.lend(Owned::BYTES)?;
        let filled = Held::new(|| {
            let mut memory = this.supply.fill(bytes)?;
            let lent = this.lend(memory.heap_bytes());
            lent.inspect_err(|_| this.supply.give(&mut memory))?;
            Ok(Owned { memory, account: Counted::clone(this), life: UnsafeCell::new(()) })
        });
        filled.inspect_err(|_| this.take_back(Owned::BYTES))
    }

    /// A frame of `bytes` is about to be in a slot.
    pub(super) fn enter(&self, bytes: usize) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A frame of `bytes` is off its slot.
    pub(super) fn leave(&self, bytes: usize) {
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.frames.fetch_sub(1, Ordering::Relaxed);
    }

    /// The set is about to go, and with it what its owner charged for this.
    pub(super) fn outlive(&self) {
        self.supply.ledger.take_over(Self::BYTES);
        self.own.store(Self::BYTES, Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Its own block goes right after.
        self.supply.ledger.take_back(self.own.load(Ordering::Relaxed));
    }
}

impl Owned {
    /// The heap block of one.
    pub(super) const BYTES: usize = Held::<Self>::BYTES;

    #[inline]
    pub(super) fn memory(&self) -> &Memory {
        let _ = self.life.to_read();
        &self.memory
    }

    /// What it holds in bytes.
    pub(super) fn cost(&self) -> usize {
        let pages = self.memory.pages() * self.account.supply.source.page_size();
        pages + self.memory.heap_bytes() + Self::BYTES
    }

    /// For models: it ends here, whoever holds it.
    pub(super) fn end(&self) {
        let _ = self.life.to_write();
    }
}

impl Drop for Owned {
    /// Gives the pages back, and then what was charged for heap blocks, of which its own goes right
    /// after.
    fn drop(&mut self) {
        self.end();
        let (cost, account) = (self.cost(), &self.account);
        let blocks = self.memory.heap_bytes() + Self::BYTES;
        account.supply.give(&mut self.memory);
        account.take_back(blocks);
        account.waiting.fetch_sub(cost, Ordering::Relaxed);
    }
}

impl SharedBytes {
    /// `None`: they are in pieces.
    pub(super) fn new(owned: &Held<Owned>) -> Option<Self> {
        owned.memory().bytes()?;
        Some(Self { owned: Held::clone(owned) })
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.owned.memory().bytes().unwrap_or_default()
    }
}

impl AsRef<[u8]> for SharedBytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBytes").field("len", &self.len()).finish_non_exhaustive()
    }
}
