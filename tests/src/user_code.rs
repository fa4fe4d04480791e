//! User code that panics, or lies, at a chosen call: keys, hashers, hooks, codecs.
//!
//! Traps and lies are the calling thread's own. What panics says `planted`, so that others are told
//! apart.

use std::borrow::Cow;
use std::cell::Cell;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use zcache::codec::{Codec, Context, Corrupt, Lz4};

thread_local! {
    /// Which kind of user code panics in this thread, after so many more calls.
    static TRAP: Cell<Option<(Trap, usize)>> = const { Cell::new(None) };
    /// What user code lies about in this thread.
    static LIE: Cell<Option<Lie>> = const { Cell::new(None) };
}

/// User code that may panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say what panics")]
#[non_exhaustive]
pub enum Trap {
    Hash,
    Eq,
    Drop,
    Clone,
    Hasher,
    Hook,
    Compress,
    Decode,
    Keep,
    Read,
    ContextBytes,
    Context,
    ContextDrop,
    Train,
}

impl Trap {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Hash,
        Self::Eq,
        Self::Drop,
        Self::Clone,
        Self::Hasher,
        Self::Hook,
        Self::Compress,
        Self::Decode,
        Self::Keep,
        Self::Read,
        Self::ContextBytes,
        Self::Context,
        Self::ContextDrop,
        Self::Train,
    ];
}

/// What user code says that is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lie {
    /// A key has another hash than it had.
    Hash,
    /// A key equals every other one.
    Equal,
    /// A key equals none.
    Unequal,
    /// A context takes so many bytes.
    ContextBytes(usize),
    /// There is no context to be had.
    NoContext,
    /// A page was compressed to more bytes than there was room for.
    Longer,
    /// A page was compressed to no byte.
    Nothing,
    /// No page becomes smaller.
    NoGain,
    /// Every payload is corrupt.
    Corrupt,
}

/// Lets panics that are planted pass without a word; any other goes to the hook there was before.
pub fn pass_planted_panics() {
    let other = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<&str>().copied().unwrap_or_default();
        if !text.starts_with("planted") {
            other(info);
        }
    }));
}

/// Takes the thread's trap down for the length of `f`.
pub fn untrapped<R>(f: impl FnOnce() -> R) -> R {
    let (trap, lie) = (TRAP.take(), LIE.take());
    let result = f();
    TRAP.set(trap);
    LIE.set(lie);
    result
}

/// Whether no lie is told at this time.
#[must_use]
pub fn truthful() -> bool {
    LIE.get().is_none()
}

/// Tells a lie for the length of `f`, which does not panic but by a trap.
pub fn with_lie<R>(lie: Option<Lie>, f: impl FnOnce() -> R) -> R {
    struct Truth;
    impl Drop for Truth {
        fn drop(&mut self) {
            LIE.set(None);
        }
    }
    let _truth = Truth;
    LIE.set(lie);
    f()
}

/// Panics if it is this trap's turn.
///
/// # Panics
/// So it is.
pub fn step_on(trap: Trap) {
    if let Some((armed, left)) = TRAP.get() {
        if armed == trap {
            TRAP.set((left > 0).then(|| (armed, left - 1)));
            assert!(left > 0, "planted");
        }
    }
}

/// Arms a trap for the length of `f`. `None`: it sprang; otherwise what `f` gave.
///
/// # Panics
/// `f` panics by itself.
pub fn with_trap<R>(trap: Trap, after: usize, f: impl FnOnce() -> R) -> Option<R> {
    TRAP.set(Some((trap, after)));
    let result = catch_unwind(AssertUnwindSafe(f));
    let armed = TRAP.take();
    match result {
        Ok(result) => Some(result),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied().unwrap_or_default();
            assert!(text == "planted" && armed.is_none(), "{trap:?} {after}: {text}");
            None
        }
    }
}

/// Keys that were made and dropped.
#[derive(Debug, Default)]
pub struct Tally {
    drops: Mutex<Vec<u8>>,
}

impl Tally {
    fn drops(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.drops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each key was dropped, and once.
    ///
    /// # Panics
    /// One was not.
    pub fn assert_each_dropped_once(&self) {
        let drops = self.drops();
        for (number, drops) in drops.iter().enumerate() {
            assert_eq!(*drops, 1, "drops of key object {number}");
        }
    }

    /// Keys that are there.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.drops().iter().filter(|drops| **drops == 0).count()
    }
}

/// A key whose every copy is counted, and whose every piece of code may panic.
#[derive(Debug)]
pub struct Key {
    /// Which one it is.
    pub name: u64,
    number: usize,
    tally: Arc<Tally>,
}

impl Key {
    /// A key object, counted by `tally`.
    #[must_use]
    pub fn new(tally: &Arc<Tally>, name: u64) -> Self {
        let mut drops = tally.drops();
        drops.push(0);
        Self { name, number: drops.len() - 1, tally: Arc::clone(tally) }
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        step_on(Trap::Clone);
        Self::new(&self.tally, self.name)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        step_on(Trap::Eq);
        match LIE.get() {
            Some(Lie::Equal) => true,
            Some(Lie::Unequal) => false,
            _ => self.name == other.name,
        }
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        step_on(Trap::Hash);
        // Some share a hash, so that `Eq` has something to say.
        let lie = LIE.get() == Some(Lie::Hash);
        state.write_u64(if lie { !self.name } else { self.name / 3 });
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.tally.drops()[self.number] += 1;
        if !thread::panicking() {
            step_on(Trap::Drop);
        }
    }
}

/// A hasher with the same results in each run.
#[derive(Debug, Default)]
pub struct Seeds;

impl BuildHasher for Seeds {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        step_on(Trap::Hasher);
        DefaultHasher::new()
    }
}

/// LZ4 that may panic, with contexts that are counted.
#[derive(Debug, Default)]
pub struct Fragile(pub Arc<Contexts>);

/// How many contexts there are, and what they were said to take.
#[derive(Debug, Default)]
pub struct Contexts {
    alive: AtomicUsize,
    bytes: AtomicUsize,
    /// What the next one takes.
    said: AtomicUsize,
}

impl Contexts {
    /// How many there are.
    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }

    /// What those that there are were said to take when they were made.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The context, and what it was said to take.
struct FragileContext(Box<dyn Context>, usize, Arc<Contexts>);

impl Codec for Fragile {
    fn name(&self) -> Cow<'static, str> {
        "fragile".into()
    }

    fn context_bytes(&self, max_page: usize) -> usize {
        step_on(Trap::ContextBytes);
        let bytes = match LIE.get() {
            Some(Lie::ContextBytes(bytes)) => bytes,
            _ => Lz4.context_bytes(max_page) + 1000,
        };
        self.0.said.store(bytes, Ordering::Relaxed);
        bytes
    }

    /// No better than it was.
    fn trained(&self, samples: &[&[u8]], _: usize) -> io::Result<Arc<dyn Codec>> {
        step_on(Trap::Train);
        assert!(!samples.is_empty(), "there is something to be trained on");
        Ok(Arc::new(Self(Arc::clone(&self.0))))
    }

    fn blank(&self, _: usize) -> Option<Arc<dyn Codec>> {
        Some(Arc::new(Self(Arc::clone(&self.0))))
    }

    fn context(&self, max_page: usize) -> io::Result<Box<dyn Context>> {
        step_on(Trap::Context);
        if LIE.get() == Some(Lie::NoContext) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let inner = Lz4.context(max_page)?;
        let bytes = self.0.said.load(Ordering::Relaxed);
        self.0.alive.fetch_add(1, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Box::new(FragileContext(inner, bytes, Arc::clone(&self.0))))
    }
}

impl Context for FragileContext {
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
        step_on(Trap::Compress);
        match LIE.get() {
            Some(Lie::Longer) => Some(to.len() + 1),
            Some(Lie::Nothing) => Some(0),
            Some(Lie::NoGain) => None,
            _ => self.0.compress(page, to),
        }
    }

    fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt> {
        step_on(Trap::Decode);
        if LIE.get() == Some(Lie::Corrupt) {
            return Err(Corrupt);
        }
        match Lz4.decode(payload, page) {
            Some(decoded) => decoded,
            None => self.0.decompress(payload, page),
        }
    }
}

impl Drop for FragileContext {
    fn drop(&mut self) {
        self.2.alive.fetch_sub(1, Ordering::Relaxed);
        self.2.bytes.fetch_sub(self.1, Ordering::Relaxed);
        if !thread::panicking() {
            step_on(Trap::ContextDrop);
        }
    }
}
