//! The concurrency primitives of this crate: std's, or loom's under `cfg(zcache_loom)`.
//!
//! Every access to shared memory uses these, so that a loom model runs the shipped code. Loom
//! watches accesses to its own cells and atomics but not to raw bytes. [`Witness`] stands in for
//! the bytes of objects, so that a missing `Release` shows up as a race in a model.

mod epoch;
#[cfg(all(test, zcache_loom))]
pub(crate) mod model;

pub(crate) use self::epoch::{Atomic, Guard, Owned, pin};
#[cfg(zcache_loom)]
pub(crate) use self::modelled::*;
#[cfg(not(zcache_loom))]
pub(crate) use self::real::*;

pub(crate) use std::sync::Arc; // decides nothing; where the last one decides, it is `Counted`
pub(crate) use std::sync::atomic::AtomicUsize as Counter; // counts only, and may be a static
pub(crate) use std::sync::atomic::Ordering;

/// A bug that loom models plant, to show that they would notice it: `model_bug!(Name)` is whether
/// the model that runs has planted it, and `model_bug!(Name, sound => wrong)` is `wrong` then. In
/// every other build it is `false`, or `sound`, and compiles to nothing.
macro_rules! model_bug {
    ($bug:ident) => {
        $crate::sync::planted($crate::sync::Plant::$bug)
    };
    ($bug:ident, $sound:expr => $wrong:expr) => {
        $crate::sync::sound_unless($crate::sync::Plant::$bug, $sound, $wrong)
    };
}
pub(crate) use model_bug;

/// A bug that a model can plant, to show that it would notice. Each names one line of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(zcache_loom), allow(dead_code, reason = "planted by loom models only"))]
pub(crate) enum Plant {
    /// A reservation goes by the cap of before it was made.
    CapAskedOnce,
    /// An allocation publishes the handle before its bytes.
    PublishRelaxed,
    /// A pin does not acquire the bytes.
    PinRelaxed,
    /// A pin by number does not look at whether the slot's object is live.
    PinDead,
    /// A pin does not look at how many there are.
    PinUnbounded,
    /// An unpin does not release what the reader did before it let go.
    UnpinRelaxed,
    /// The last unpin does not acquire what earlier readers released.
    LastUnpinUnfenced,
    /// An exclusive map ignores readers.
    LockIgnoresPins,
    /// An exclusive map does not acquire what readers released.
    LockRelaxed,
    /// An exclusive guard gives back before its bytes are visible.
    UnlockRelaxed,
    /// An exclusive guard does not notice that the object was freed meanwhile.
    UnlockForgetsFree,
    /// A free that ends the object does not acquire what readers released.
    FreeUnacquired,
    /// A free does not release what its own thread did.
    FreeUnreleased,
    /// An exclusive guard that ends the object does not acquire what the freeing thread did.
    UnlockUnfenced,
    /// A free ends the object though somebody maps it.
    FreeIgnoresPins,
    /// A free does not look at the generation.
    FreeUnchecked,
    /// A migration copies without a pin of its own.
    MigrateUnpinned,
    /// A migration publishes the new place before its bytes.
    SwingUnreleased,
    /// A migration gives the old place away without acquiring what readers released.
    SwingUnacquired,
    /// A freed slot is reused under the generation it had.
    ReuseKeepsGeneration,
    /// A slot whose generations are used up starts over.
    WrapStartsOver,
    /// Whoever takes in what came back does not acquire the links.
    TakeInRelaxed,
    /// Whoever takes the only slot that came back does not acquire what its last user did.
    TakeOnlyRelaxed,
    /// A slot that comes back waits for the lock of those that are sorted in.
    RecycleWaits,
    /// Whoever takes the only slot that came back does not look for a lower one.
    TakeOnlyHigher,
    /// Whoever takes the only slot that came back does not ask whether its generations are used up.
    TakeOnlyRetired,
    /// A chunk closes though a slot of it is in use, or on its way back.
    ClosedInUse,
    /// A chunk that opens again forgets the generations that it gave out.
    ReopenedAtZero,
    /// A slot is put on the free list before its link is seen.
    PushRelaxed,
    /// Memory of an array is announced before it is filled.
    GrowRelaxed,
    /// An object is left to the lock's next holder before its end is seen.
    SuspendRelaxed,
    /// A reader tells of an object that it left before the object can be seen.
    UntidyRelaxed,
    /// A reader that tells of an object takes away what an earlier one has released.
    UntidyStored,
    /// Whoever tidies takes the sign away without seeing what was left.
    TidyRelaxed,
    /// The lock's next holder does not look for ended objects.
    PendingForgotten,
    /// A compaction believes an owner entry without asking the owner's word.
    OwnerBelieved,
    /// A reader that ends an object waits for the lock of the object's class.
    EndWaits,
    /// Two compactions empty zspages of one class.
    TwoMovers,
    /// A class is noted for compactions by a load and a store.
    RipeStored,
    /// An object can be pinned before its length is noted.
    LengthLate,
    /// A frame is in its slot before its head and bytes are visible.
    FramePutRelaxed,
    /// A reader of frames that counts itself in does not acquire what collectors did.
    FrameEnterRelaxed,
    /// A reader of frames counts itself out before its reads are done.
    FrameLeaveRelaxed,
    /// A frame ends though a reader may have it.
    FrameUncounted,
    /// A frame ends when the counters of the first pair were seen at zero, those of others not.
    FrameFirstPairOnly,
    /// A counter that was seen at zero counts for frames that are sealed later, too.
    FrameSeenBefore,
    /// A look at a counter does not acquire what its readers did.
    FrameLookUnacquired,
    /// A look at a counter does not release that frames are off their slots.
    FrameLookUnreleased,
    /// A reader does not acquire the head and the bytes of a frame that it finds.
    FrameFindRelaxed,
    /// Whoever replaces a frame does not acquire what that one's maker did.
    FramePutUnacquired,
    /// A frame is put on the list of those that wait before it is seen to be off its slot.
    FrameRetireRelaxed,
    /// A collector does not acquire what was done to the frames that it takes off the list.
    FrameCollectRelaxed,
    /// A collection waits for another one.
    CollectWaits,
    /// A frame is counted when others can take it off already.
    FrameEnterLate,
    /// A frame that is off its slot is counted when others can end it already.
    FrameLeaveLate,
    /// Whoever clears a slot takes off whatever is there by then.
    FrameClearedUnasked,
    /// A frame's memory ends with it though somebody shares it.
    FrameSharedEnded,
    /// A renumbered object's place goes on naming its old slot.
    OwnerLeft,
    /// A pool that goes leaves the pages of its objects taken, though frames keep their source.
    VacateForgotten,
    /// A holder of a frame's memory lets go before its reads are done.
    HolderLeaveUnreleased,
    /// The last holder of a frame's memory does not acquire what earlier ones released.
    HolderLeaveUnacquired,
    /// The number of slots is announced before they are there.
    SlotsRelaxed,
    /// Who waited for another one that grew goes by the number of slots that there were before.
    SlotsGrownOver,
    /// The upper slots of a set of frames go whether they are empty or not.
    SlotsUnasked,
    /// A version that was replaced ends at once, whoever reads it.
    VersionEndsAtOnce,
    /// The bytes of a version are given back when it is replaced, not when it has ended.
    VersionUncharged,
    /// A version that was replaced does not count as waiting.
    VersionUncounted,
    /// The number of versions that wait does not release what was done to those that ended.
    VersionEndUnreleased,
    /// Whoever asks for the number of versions that wait does not acquire what was done to others.
    VersionLookUnacquired,
    /// A version is current before it is seen whole.
    VersionPutRelaxed,
    /// A reader does not acquire the version that it finds.
    VersionFindRelaxed,
}

/// `sound`, or `wrong` where a model plants `bug`: for `model_bug!`.
#[inline(always)]
pub(crate) fn sound_unless(bug: Plant, sound: Ordering, wrong: Ordering) -> Ordering {
    if planted(bug) { wrong } else { sound }
}

#[cfg(not(zcache_loom))]
mod real {
    pub(crate) use std::sync::Arc as Counted;
    pub(crate) use std::sync::OnceLock as Once;
    pub(crate) use std::sync::atomic::{
        AtomicPtr, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, fence,
    };

    /// Elements of the first block of an array.
    pub(crate) const FIRST_BLOCK: usize = 64;
    /// Blocks of an array at most: 64 * 2^26 elements, as many as a `u32` counts.
    pub(crate) const ARRAY_BLOCKS: usize = 27;
    /// Freed handle slots that gather before they are sorted in: a sort takes a lock, and a
    /// microsecond or so.
    pub(crate) const GATHERED: u32 = 64;
    /// How often a table doubles at most.
    pub(crate) const DOUBLINGS: usize = 22;
    /// How often a collection of versions moves the epoch on: once is enough after a replacement,
    /// and others may have left more than one pass ends.
    pub(crate) const COLLECTIONS: usize = 4;
    /// Words of 32 bits in a cache line.
    pub(crate) const LINE: usize = 16;
    /// The most shared pins one object can have: all that its word counts, but the exclusive one.
    pub(crate) const MAX_PINS: u64 = 1021;
    /// How often an exclusive map looks for a migration to end.
    pub(crate) const LOCK_TRIES: usize = 100;
    /// How often a compaction is tried again that another one left nothing to do.
    pub(crate) const PATIENCE: usize = 1000;
    /// Whether atomics are their bytes, so that memory full of zeros may be given back under them.
    pub(crate) const PLAIN_ATOMICS: bool = true;

    /// A mutex whose poison is ignored: no user code runs under any lock of this crate, and a panic
    /// of ours is a failed assertion, made before the state is touched.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

    /// A mutex that is only locked, never tried.
    pub(crate) type Leaf<T> = Mutex<T>;

    pub(crate) use std::sync::MutexGuard;

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            match self.0.try_lock() {
                Ok(guard) => Some(guard),
                Err(std::sync::TryLockError::Poisoned(poison)) => Some(poison.into_inner()),
                Err(std::sync::TryLockError::WouldBlock) => None,
            }
        }
    }

    /// std's cell; a pointer says whether it is for reading or for writing, as loom wants to know.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) const fn to_read(&self) -> *const T {
            self.0.get()
        }

        #[inline(always)]
        pub(crate) const fn to_write(&self) -> *mut T {
            self.0.get()
        }
    }

    /// An Acquire fence, after a read-modify-write of `word` that was not Acquire itself.
    #[inline(always)]
    pub(crate) fn acquire(word: &AtomicU64) {
        if cfg!(zpool_tsan) {
            // ThreadSanitizer knows no fences. A load of the same word is no weaker here: it reads
            // what this thread wrote or something later in the same release sequence.
            word.load(super::Ordering::Acquire);
        } else {
            std::sync::atomic::fence(super::Ordering::Acquire);
        }
    }

    /// A load of what others change by a load and a compare-exchange.
    #[inline(always)]
    pub(crate) fn look(word: &AtomicU64, order: super::Ordering) -> u64 {
        word.load(order)
    }

    #[inline(always)]
    pub(crate) const fn planted(_: super::Plant) -> bool {
        false
    }

    #[inline(always)]
    pub(crate) fn spin() {
        std::hint::spin_loop();
    }

    pub(crate) fn pause() {
        std::thread::yield_now();
    }

    /// 63 random bits and a clear lowest one, different in each pool and each process.
    pub(crate) fn random_key() -> u64 {
        use std::hash::{BuildHasher, Hasher};
        std::collections::hash_map::RandomState::new().build_hasher().finish() & !1
    }

    /// Nothing: the processor watches real bytes by itself.
    #[derive(Debug, Default)]
    pub(crate) struct Witness;

    impl Witness {
        #[inline(always)]
        pub(crate) const fn new() -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) const fn read(&self, _at: u64, _bytes: usize) {}

        #[inline(always)]
        pub(crate) const fn write(&self, _at: u64, _bytes: usize) {}
    }
}

#[cfg(zcache_loom)]
mod modelled {
    pub(crate) use loom::sync::Arc as Counted;
    pub(crate) use loom::sync::atomic::{
        AtomicPtr, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, fence,
    };
    use std::cell::Cell;
    use std::collections::HashMap;
    use std::ops::{Deref, DerefMut};

    use super::{Ordering, Plant};

    /// Small, so that a model crosses every edge of the tables.
    pub(crate) const FIRST_BLOCK: usize = 2;
    pub(crate) const ARRAY_BLOCKS: usize = 4;
    pub(crate) const GATHERED: u32 = 2;
    pub(crate) const DOUBLINGS: usize = 2;
    pub(crate) const COLLECTIONS: usize = 2;
    pub(crate) const LINE: usize = 3;
    pub(crate) const MAX_PINS: u64 = 2;
    pub(crate) const LOCK_TRIES: usize = 1;
    pub(crate) const PATIENCE: usize = 1;
    pub(crate) const PLAIN_ATOMICS: bool = false;

    /// loom's mutex, made so that a `try_lock` is tried while somebody holds the lock: for loom the
    /// end of a lock is no event that another thread could come before, so it writes `turn` there.
    #[derive(Debug)]
    pub(crate) struct Mutex<T> {
        inner: loom::sync::Mutex<T>,
        turn: AtomicU32,
    }

    #[derive(Debug)]
    pub(crate) struct MutexGuard<'m, T> {
        inner: loom::sync::MutexGuard<'m, T>,
        turn: &'m AtomicU32,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self { inner: loom::sync::Mutex::new(value), turn: AtomicU32::new(0) }
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard { inner: self.inner.lock().unwrap(), turn: &self.turn }
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.turn.load(Ordering::Relaxed);
            let inner = self.inner.try_lock().ok()?;
            Some(MutexGuard { inner, turn: &self.turn })
        }
    }

    /// loom's mutex without `turn`, which multiplies the orders that a model has.
    #[derive(Debug)]
    pub(crate) struct Leaf<T>(loom::sync::Mutex<T>);

    impl<T> Leaf<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.inner
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.inner
        }
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            self.turn.store(0, Ordering::Relaxed);
        }
    }

    /// loom's cell: each pointer asked for is an access that is checked for a race.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::cell::UnsafeCell::new(value))
        }

        pub(crate) fn to_read(&self) -> *const T {
            self.0.with(|value| value)
        }

        pub(crate) fn to_write(&self) -> *mut T {
            self.0.with_mut(|value| value)
        }
    }

    /// `OnceLock` whose order of events loom sees; the value itself is kept by the real one.
    #[derive(Debug)]
    pub(crate) struct Once<T> {
        set: AtomicU32,
        value: std::sync::OnceLock<T>,
    }

    impl<T> Once<T> {
        pub(crate) fn new() -> Self {
            Self { set: AtomicU32::new(0), value: std::sync::OnceLock::new() }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            if self.set.load(Ordering::Acquire) == 1 { self.value.get() } else { None }
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            self.value.set(value)?;
            self.set.store(1, model_bug!(GrowRelaxed, Ordering::Release => Ordering::Relaxed));
            Ok(())
        }
    }

    thread_local! {
        static PLANTED: Cell<Option<Plant>> = const { Cell::new(None) };
    }

    /// Plants `bug` in everything this model's thread runs (loom's threads share one thread).
    #[cfg(test)]
    pub(crate) fn plant(bug: Option<Plant>) {
        PLANTED.with(|cell| cell.set(bug));
    }

    /// An Acquire fence, after a read-modify-write of `_word` that was not Acquire itself.
    pub(crate) fn acquire(_word: &AtomicU64) {
        loom::sync::atomic::fence(Ordering::Acquire);
    }

    /// A load of what others change by a load and a compare-exchange: loom remembers the last
    /// access only, and would try no order but the first one if this were a load too.
    pub(crate) fn look(word: &AtomicU64, order: Ordering) -> u64 {
        word.fetch_add(0, order)
    }

    pub(crate) fn planted(bug: Plant) -> bool {
        PLANTED.with(|cell| cell.get() == Some(bug))
    }

    pub(crate) fn spin() {
        loom::thread::yield_now();
    }

    pub(crate) fn pause() {
        loom::thread::yield_now();
    }

    /// The same key every time: a model replays its schedules.
    pub(crate) fn random_key() -> u64 {
        0x5eed_0000_0000_0000
    }

    /// One loom cell for each 256 bytes that objects have touched, made on first touch.
    #[derive(Debug, Default)]
    pub(crate) struct Witness {
        cells: std::sync::Mutex<HashMap<u64, std::sync::Arc<loom::cell::UnsafeCell<()>>>>,
    }

    impl Witness {
        const GRAIN: u64 = 256;

        pub(crate) fn new() -> Self {
            Self::default()
        }

        fn each(&self, at: u64, bytes: usize, touch: impl Fn(&loom::cell::UnsafeCell<()>)) {
            for block in at / Self::GRAIN..(at + bytes as u64).div_ceil(Self::GRAIN) {
                let cell =
                    std::sync::Arc::clone(self.cells.lock().unwrap().entry(block).or_default());
                touch(&cell);
            }
        }

        /// `bytes` from `at` on are read here.
        pub(crate) fn read(&self, at: u64, bytes: usize) {
            self.each(at, bytes, |cell| cell.with(|_| ()));
        }

        /// `bytes` from `at` on are written here.
        pub(crate) fn write(&self, at: u64, bytes: usize) {
            self.each(at, bytes, |cell| cell.with_mut(|_| ()));
        }
    }
}
