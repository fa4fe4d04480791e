//! A value that is read without a lock and replaced whole: read-copy-update.
//! ```text
//! current -> Version: value | cost, account        a heap block for each
//! read     pinned -> current -> value -> unpinned
//! replace  charged -> made -> current, the old one waits until no reader can have it, and ends
//! ```
//! Who waits for whom. A reader is pinned in the epoch of a collector (crossbeam-epoch), and a
//! version that was replaced ends two epochs later. The epoch advances when every pinned thread was
//! pinned in the present one. So each reader from before the replacement has left by then, and what
//! it did is seen. All values of the process share one collector. So a stalled reader of one value
//! keeps the old versions of all of them, but delays no call.
//!
//! Versions end in any thread: one that replaces or collects, or one that reads, at each 128th
//! time. So a version owns what its end needs: the account, and by that the ledger. The pool may be
//! dropped by then. An account counts the bytes of all its versions until their memory is gone, and
//! lastly how many wait. A thread that reads 0 there sees all that readers of old versions have
//! done.
//!
//! Not for frames: see `frame`.

use std::fmt;
use std::marker::PhantomData;

use crate::directory::boxed;
use crate::error::{AllocError, drop_unheard};
use crate::ledger::{Charge, Ledger, Loan, heap_cost, shared_cost};
use crate::sync::{
    Arc, Atomic, AtomicUsize, COLLECTIONS, Counter, Guard, Ordering, Owned, UnsafeCell, model_bug,
    pin,
};

/// A value that many threads read without a lock, and that is replaced whole beside them: made by
/// [`Pool::swapped`](crate::Pool::swapped).
///
/// It is for what is read often and replaced seldom. A read writes to memory of its own thread
/// alone. A replacement makes a new version beside the old one, which ends when no reader can have
/// it any more. The heap memory of each version is charged to the pool's cap until that version
/// has ended.
///
/// - **What may wait.** A version that was replaced ends in a later call, in any thread, of
///   [`replace`](Self::replace) or [`collect`](Self::collect), or in some call of
///   [`read`](Self::read), of this value or any other one. While one reader stalls inside its
///   closure, no version of any value in the process ends that was replaced after this reader
///   came. Such versions stay charged, so the cap bounds them: `replace` is refused in the end.
/// - **The drop of a `T`** therefore runs in any such thread, under whatever locks that thread
///   holds, and after the pool is gone, perhaps. It must not call code of a user's, nor take a
///   lock. A panic in it is swallowed.
/// - **The drop of the `Swapped`** ends the current version at once. Versions that wait go on
///   waiting.
/// - **Not counted** are some 2.3 KiB for each thread that has read or replaced, until it ends,
///   and 2 KiB for each version that waits. Where the heap refuses these the process ends.
///
/// ```
/// use zpool::{Config, Pool};
///
/// let pool: Pool = Pool::new(Config::new())?;
/// let names = pool.swapped(vec!["a"], 16)?;
/// let before = pool.held_bytes();
/// assert_eq!(names.read(|names| names.len()), 1);
/// names.replace(vec!["a", "b"], 32)?;
/// assert_eq!(names.read(|names| names.join(" ")), "a b");
/// while names.collect() > 0 {} // nobody reads
/// assert_eq!(pool.held_bytes(), before + 16);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Swapped<T: Send + Sync + 'static> {
    current: Atomic<Block<T>>,
    account: Arc<Account>,
    owns: PhantomData<T>,
}

/// An array of one, since those can be made on the heap without ending the process.
type Block<T> = [Version<T>; 1];

struct Version<T> {
    value: T,
    /// What is charged for it.
    cost: usize,
    account: Arc<Account>,
    /// The accesses that make and end it, for models: beside a reader they are a race.
    life: UnsafeCell<()>,
}

/// What all versions of a value are charged to, which is there as long as one of them.
#[derive(Debug)]
struct Account {
    ledger: Arc<Ledger>,
    /// Bytes of all versions.
    lent: Counter,
    /// Versions that were replaced and have not ended.
    waiting: AtomicUsize,
}

// SAFETY: versions are read from many threads by `&T` and end in any, which `T: Send + Sync`
// allows; `current` is an atomic, and nobody uses the cell of a version but models.
unsafe impl<T: Send + Sync> Send for Swapped<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Swapped<T> {}

impl Account {
    /// What its heap block costs.
    const BYTES: usize = shared_cost(size_of::<Self>());

    fn loan(&self) -> Loan<'_> {
        Loan { ledger: &self.ledger, lent: &self.lent }
    }

    fn bytes(&self) -> usize {
        Self::BYTES + self.lent.load(Ordering::Relaxed)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Its memory goes in a moment.
        self.ledger.take_back(Self::BYTES);
    }
}

impl<T> Version<T> {
    /// The heap block of a version.
    const BYTES: usize = heap_cost(size_of::<Block<T>>());

    /// Charges a version and makes it.
    fn make(value: T, bytes: usize, account: &Arc<Account>) -> Result<Owned<Block<T>>, AllocError> {
        let cost = Self::BYTES.saturating_add(bytes);
        account.loan().reserve(cost)?;
        let mut parts = Some((value, Arc::clone(account)));
        let block = boxed(1, || {
            let (value, account) = parts.take().expect("one version is made");
            Self { value, cost, account, life: UnsafeCell::new(()) }
        });
        let Some(block) = block.and_then(|block| <Box<Block<T>>>::try_from(block).ok()) else {
            account.loan().release(cost);
            return Err(AllocError::NoMemory);
        };
        let _ = block[0].life.to_write();
        Ok(block.into())
    }

    /// Ends a version that nobody else has. Its bytes are given back after its memory is gone.
    fn end(version: Owned<Block<T>>) -> Arc<Account> {
        let [Self { value, cost, account, life }] = *version.into_box();
        let _ = life.to_write();
        drop_unheard(value);
        if !model_bug!(VersionUncharged) {
            account.loan().release(cost);
        }
        account
    }

    /// The same of a version that was counted as waiting.
    fn end_waiting(version: Owned<Block<T>>) {
        let account = Self::end(version);
        if !model_bug!(VersionUncounted) {
            // Release pairs with the Acquire in `collect`.
            let order = model_bug!(VersionEndUnreleased, Ordering::Release => Ordering::Relaxed);
            account.waiting.fetch_sub(1, order);
        }
    }
}

impl<T: Send + Sync + 'static> Swapped<T> {
    /// What [`bytes`](Self::bytes) is at first, but for what the value holds elsewhere.
    #[must_use]
    pub const fn fixed_bytes() -> usize {
        Account::BYTES + Version::<T>::BYTES
    }

    pub(crate) fn new(value: T, bytes: usize, ledger: Arc<Ledger>) -> Result<Self, AllocError> {
        ledger.lend(Account::BYTES)?;
        let account = Account { ledger, lent: Counter::new(0), waiting: AtomicUsize::new(0) };
        let account = Arc::new(account);
        let current = Version::make(value, bytes, &account)?.into();
        Ok(Self { current, account, owns: PhantomData })
    }

    /// Gives `f` the value as it is now, whole, and returns what `f` returns. No lock is taken.
    ///
    /// `f` should be short, and no code of a user's should run in it: as long as it runs, versions
    /// of all values in the process wait. It may read again, and find a newer version then.
    #[inline]
    pub fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        let guard = pin();
        // Acquire pairs with the Release in `replace`.
        let order = model_bug!(VersionFindRelaxed, Ordering::Acquire => Ordering::Relaxed);
        let current = self.current.load(order, &guard);
        // SAFETY: `new` and `replace` put versions there and nothing else, and one that `replace`
        // takes off ends when no thread is pinned that was pinned before, which this one is.
        let [version] = unsafe { current.deref() };
        let _ = version.life.to_read();
        f(&version.value)
    }

    /// Makes `value` what [`read`](Self::read) finds from now on. `bytes` is what it holds on the
    /// heap beside its own size; this is charged with it. Waits for nobody: readers keep the old
    /// value until they are done. Of several calls at once each replaces another one's value, so
    /// whoever makes a new value of the old one needs a lock around both.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`]: no room for it under the pool's cap, beside the versions that
    /// wait. [`AllocError::NoMemory`]: the heap has none. `value` is dropped, the old one stays.
    pub fn replace(&self, value: T, bytes: usize) -> Result<(), AllocError> {
        let guard = pin();
        let new = Version::make(value, bytes, &self.account)?;
        if !model_bug!(VersionUncounted) {
            // Relaxed: the swap releases it, so whoever finds the new version sees it.
            self.account.waiting.fetch_add(1, Ordering::Relaxed);
        }
        // Release pairs with the Acquire in `read`, and Acquire with the Release of the swap that
        // made the old version current: it is ended from here.
        let order = model_bug!(VersionPutRelaxed, Ordering::AcqRel => Ordering::Acquire);
        let old = self.current.swap(new, order, &guard);
        if model_bug!(VersionUncharged) {
            self.account.loan().release(Version::<T>::BYTES);
        }
        let end = move || {
            // SAFETY: the swap took it off for this thread alone, and the caller of `end` says
            // that no reader has it.
            Version::end_waiting(unsafe { old.into_owned() });
        };
        if model_bug!(VersionEndsAtOnce) {
            end();
        } else {
            // SAFETY: whoever finds `old` in `current` was pinned before now, and `end` is called
            // when none of these is any more. It may be called in any thread, at any later time:
            // `T` is `Send` and `'static`, and so is an account.
            unsafe { guard.defer_unchecked(end) };
        }
        // There are few replacements, so none is left to the next one of this thread.
        guard.flush();
        Ok(())
    }

    /// Ends versions that no reader can have any more, and says how many versions of this value
    /// wait. Waits for nobody; 0 or more calls later that is 0, when no thread stalls in a `read`.
    ///
    /// After a 0 no reader has a value that was replaced before this call, and what readers did
    /// with such values happened before it returned.
    pub fn collect(&self) -> usize {
        for _ in 0..COLLECTIONS {
            if self.waiting() == 0 {
                break;
            }
            Guard::flush(&pin());
        }
        self.waiting()
    }

    fn waiting(&self) -> usize {
        // Acquire pairs with the Release in `end_waiting`.
        let order = model_bug!(VersionLookUnacquired, Ordering::Acquire => Ordering::Relaxed);
        self.account.waiting.load(order)
    }

    /// Bytes of the value and of those that wait, as they are charged to the pool.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.account.bytes()
    }
}

impl<T: Send + Sync + 'static> Drop for Swapped<T> {
    fn drop(&mut self) {
        let current = std::mem::replace(&mut self.current, Atomic::null());
        // SAFETY: nobody else has `self`, so nobody reads what is current, and `new` and `replace`
        // left a version there.
        drop(Version::end(unsafe { current.into_owned() }));
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Swapped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swapped").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    fn ledger(max_bytes: usize) -> Arc<Ledger> {
        Arc::new(Ledger::new(4096, 10, max_bytes))
    }

    /// Other tests read values of their own meanwhile, so that one collection may not do.
    fn settle<T: Send + Sync>(value: &Swapped<T>) {
        while value.collect() > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_version_is_charged_until_it_has_ended() {
        let ledger = ledger(1 << 20);
        let value = Swapped::new([1_u64; 4], 100, Arc::clone(&ledger)).unwrap();
        let first = Swapped::<[u64; 4]>::fixed_bytes() + 100;
        assert_eq!((ledger.lent(), value.bytes()), (first, first));
        value.read(|old| {
            value.replace([2; 4], 300).unwrap();
            assert_eq!((old, value.read(|new| *new)), (&[1; 4], [2; 4]));
            assert_eq!(value.collect(), 1, "this very thread reads");
            let both = first + Version::<[u64; 4]>::BYTES + 300;
            assert_eq!((ledger.lent(), ledger.held(), value.bytes()), (both, both, both));
        });
        settle(&value);
        assert_eq!((ledger.lent(), value.bytes()), (first + 200, first + 200));
        drop(value);
        assert_eq!((ledger.lent(), ledger.held()), (0, 0));
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let fixed = Swapped::<u8>::fixed_bytes();
        for less in [1, Version::<u8>::BYTES, fixed] {
            let ledger = ledger(fixed - less);
            let refused = Swapped::new(1_u8, 0, Arc::clone(&ledger)).map(drop);
            assert_eq!((refused, ledger.lent()), (Err(AllocError::OutOfPages), 0));
        }
        let ledger = ledger(fixed + Version::<u8>::BYTES);
        let value = Swapped::new(1_u8, 0, Arc::clone(&ledger)).unwrap();
        assert_eq!(value.replace(2, 1), Err(AllocError::OutOfPages));
        assert_eq!(value.replace(2, usize::MAX), Err(AllocError::OutOfPages));
        assert_eq!((value.collect(), value.read(|value| *value), ledger.lent()), (0, 1, fixed));
        value.replace(3, 0).unwrap();
        settle(&value);
        assert_eq!((value.read(|value| *value), ledger.lent()), (3, fixed));
    }

    #[test]
    fn versions_that_wait_own_what_their_end_needs() {
        let ledger = ledger(1 << 20);
        let other = Swapped::new((), 0, self::ledger(1 << 20)).unwrap();
        other.read(|()| {
            let value = Swapped::new(vec![1], 8, Arc::clone(&ledger)).unwrap();
            value.replace(vec![2], 8).unwrap();
            let waits = Account::BYTES + Version::<Vec<i32>>::BYTES + 8;
            drop(value);
            assert_eq!(ledger.lent(), waits, "a reader of another value keeps the old version");
        });
        while ledger.lent() > 0 {
            pin().flush();
        }
        assert_eq!(Arc::strong_count(&ledger), 1);
    }
}
