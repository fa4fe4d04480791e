//! std's primitives.

use std::cell::Cell;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
pub(crate) use std::sync::MutexGuard;
pub(crate) use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, PoisonError, TryLockError};
use std::task::Wake;
use std::time::{Duration, Instant};

use dashmap::{DashMap, Entry};

/// A mutex without poison: what a panic leaves under a lock of this crate is sound.
///
/// It is not fair. parking_lot's is, now and then: with more threads than processors all then wait
/// until the one that gets the lock has been woken up. Eight threads on two processors had a 99th
/// percentile of inserts of 40 to 130 times quick_cache's so, in one run of three (`versus tails`).
#[derive(Debug)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poison)) => Some(poison.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// A value that models have on the heap: the stacks of their threads are small.
pub(crate) type Lean<T> = T;

pub(crate) const fn lean<T>(value: T) -> Lean<T> {
    value
}

/// Ids in a line of the index.
pub(crate) const IDS: usize = 12;
/// Entries for each bucket of the index, on average, above which there is one more. More make
/// longer chains, and less memory: with 9, 11 and 13 of them an entry takes 8.4, 7.8 and 7.5 bytes.
pub(crate) const FULL: usize = 11;

/// What a reader finds in a word of the index.
#[inline(always)]
pub(crate) fn seen(word: &AtomicU32, order: Ordering) -> u32 {
    word.load(order)
}

/// Writes a word of the index.
#[inline(always)]
pub(crate) fn tell(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
}

/// Looks at a shard of the index that changes before one waits for its writer.
pub(crate) const TRIES: usize = 8;

/// Buckets of the index that go in one hold of a shard's lock.
pub(crate) const MERGED: usize = 32;

/// Entries that the policy looks at in one hold of its lock.
pub(crate) const LOOKS: usize = 64;

/// Holds of the policy's lock in which it looks for a victim that was not hit. In the last one it
/// takes any.
pub(crate) const HOLDS: usize = 8;

/// Up to this capacity in bytes entries lie side by side whatever their lengths. In larger caches
/// pages that tables give back one by one would become many short chains.
pub(crate) const MIXED: usize = 4 << 20;

/// Entries that wait to enter the policy while somebody has it, at most: 1.5 KiB. With 8 threads on
/// two processors, 32 were too few where the one that had it lost its processor.
pub(crate) const WAITING: usize = 128;

/// The longest piece of a page in bytes.
pub(crate) const PIECE: usize = 128 << 10;

/// The fewest slots for scopes that a cache has, and the most: as many as 16 bits tell apart.
pub(crate) const SCOPES: (usize, usize) = (16, 1 << 16);

/// Whether entries wait to enter the policy where somebody has it.
pub(crate) const fn may_wait() -> bool {
    true
}

/// Whether shards of the index get more buckets as they fill.
pub(crate) const fn may_split() -> bool {
    true
}

/// Sets of slots of the hot tier: those of 128 GiB of frames.
pub(crate) const fn most_sets() -> usize {
    1 << 24
}

/// Sets that a table may have without frames, at the most.
pub(crate) const MOST_UNUSED: usize = most_sets();

/// Slots of a set.
pub(crate) const WAYS: usize = 8;
/// Hits that a set remembers on entries without a frame.
pub(crate) const RECENT: usize = 7;
/// Whether only pages that are worth it are kept decoded.
pub(crate) const PICKY: bool = true;

/// Pairs of counters for readers of frames, for so many threads at once.
pub(crate) const fn readers(threads: usize) -> usize {
    threads
}

#[inline(always)]
pub(crate) const fn planted(_: super::Plant) -> bool {
    false
}

pub(crate) fn pause() {
    std::thread::yield_now();
}

/// A number that no other thread of the process has or had. Not std's, which a thread that ends has
/// no more while its last thread-locals are dropped.
pub(crate) fn thread_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static ID: Cell<u64> = const { Cell::new(u64::MAX) };
    }
    // What has no drop is there to the thread's end.
    let id = ID.try_with(|id| {
        if id.get() == u64::MAX {
            id.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        id.get()
    });
    id.unwrap_or(0)
}

/// Threads that have a number to themselves.
pub(crate) const NUMBERED: usize = 64 * 16;

/// The numbers that threads have, as bits.
static TAKEN: [AtomicU64; NUMBERED / 64] = [const { AtomicU64::new(0) }; NUMBERED / 64];

/// The thread has no number yet.
const NONE: usize = usize::MAX;

/// Gives a thread's number back when the thread ends.
struct Numbered(Cell<usize>);

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(NONE) };
    static NUMBERED_HERE: Numbered = const { Numbered(Cell::new(NONE)) };
}

/// A small number of this thread's: the lowest that no other thread has. It is another thread's
/// once this one has ended. Past [`NUMBERED`] threads, and in a thread that is dropping its
/// thread-locals, it is `NUMBERED`, which many may have at once.
#[inline]
pub(crate) fn thread_number() -> usize {
    match NUMBER.try_with(Cell::get) {
        Ok(NONE) => take_number(),
        Ok(number) => number,
        Err(_) => NUMBERED,
    }
}

#[cold]
fn take_number() -> usize {
    let number = NUMBERED_HERE.try_with(|here| {
        let number = lowest_free().unwrap_or(NUMBERED);
        here.0.set(number);
        number
    });
    let number = number.unwrap_or(NUMBERED);
    let _ = NUMBER.try_with(|cell| cell.set(number));
    number
}

fn lowest_free() -> Option<usize> {
    TAKEN.iter().enumerate().find_map(|(word, taken)| {
        // Acquire pairs with the Release below: what the number's last thread wrote alone is seen.
        let take = |bits: u64| (bits != u64::MAX).then(|| bits | (bits + 1));
        let bits = taken.fetch_update(Ordering::Acquire, Ordering::Relaxed, take).ok()?;
        Some(word * 64 + bits.trailing_ones() as usize)
    })
}

impl Drop for Numbered {
    fn drop(&mut self) {
        let _ = NUMBER.try_with(|cell| cell.set(NUMBERED));
        let number = self.0.get();
        if number < NUMBERED {
            TAKEN[number / 64].fetch_and(!(1 << (number % 64)), Ordering::Release);
        }
    }
}

/// Caches whose user code may be nested in one thread before they are not told apart any more.
const NESTED: usize = 8;

/// The caches whose user code this thread runs, each once, the innermost last. A thread that is in
/// more of them than fit counts as inside every cache, which evicts nothing then.
///
/// It takes no heap memory, which could be refused while an entry ends. It has no drop, so a thread
/// has it to its very end: what another thread-local's drop inserts evicts like any insert.
struct Nest {
    caches: [Cell<u64>; NESTED],
    depth: Cell<usize>,
}

thread_local! {
    static NEST: Nest = const {
        assert!(!std::mem::needs_drop::<Nest>(), "there to the thread's end");
        Nest { caches: [const { Cell::new(0) }; NESTED], depth: Cell::new(0) }
    };
}

impl Nest {
    fn holds(&self, number: u64) -> bool {
        let depth = self.depth.get();
        self.caches.get(..depth).is_none_or(|caches| caches.iter().any(|of| of.get() == number))
    }

    /// Whether it was not there before.
    fn enter(&self, number: u64) -> bool {
        let enters = !self.holds(number);
        if enters {
            let depth = self.depth.get();
            if let Some(place) = self.caches.get(depth) {
                place.set(number);
            }
            self.depth.set(depth + 1);
        }
        enters
    }
}

/// That this thread runs user code which the end of an entry of cache `number` calls.
#[derive(Debug)]
pub(crate) struct Inside {
    /// Whether this is the outermost one of its cache.
    outermost: bool,
}

impl Inside {
    pub(crate) fn enter(number: u64) -> Self {
        Self { outermost: NEST.try_with(|nest| nest.enter(number)).unwrap_or(false) }
    }

    /// Whether it does so just now.
    pub(crate) fn is(number: u64) -> bool {
        NEST.try_with(|nest| nest.holds(number)).unwrap_or(false)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.outermost {
            let _ = NEST.try_with(|nest| nest.depth.set(nest.depth.get() - 1));
        }
    }
}

/// Shards of a [`ByTag`], each of which has a lock.
const SHARDS: usize = 4;
/// Bytes of a shard: as many as dashmap aligns it to.
const SHARD: usize = 128;
/// Places of a shard's table in a map that was never full: its smallest one twice.
const PLACES: usize = 8;

/// Short lists, found by a tag of 32 bits. Each is used under the lock of its tag's shard, so what
/// runs there must not use the map, and must be no user code.
#[derive(Debug)]
pub(crate) struct ByTag<T>(DashMap<u32, Vec<T>, BuildHasherDefault<Spread>>);

/// The hash of a tag. A tag is a hash already, but dashmap takes shards by the upper bits of 64.
#[derive(Debug, Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u32(&mut self, tag: u32) {
        self.0 = u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("tags are the only keys");
    }
}

impl<T> ByTag<T> {
    /// What a map without a list holds in bytes, with the tables that its shards have got by then.
    pub(crate) const FIXED_BYTES: usize = {
        // A byte of control for each place, and a group of them at the end.
        let table = PLACES * (size_of::<(u32, Vec<T>)>() + 1) + 16;
        zpool::source::heap_cost(SHARDS * SHARD) + SHARDS * zpool::source::heap_cost(table)
    };

    pub(crate) fn new() -> Self {
        Self(DashMap::with_capacity_and_hasher_and_shard_amount(0, Default::default(), SHARDS))
    }

    /// What `f` makes of the list of a tag, which is empty if there was none.
    pub(crate) fn with<R>(&self, tag: u32, f: impl FnOnce(&mut Vec<T>) -> R) -> R {
        match self.0.entry(tag) {
            Entry::Occupied(mut listed) => {
                let made = f(listed.get_mut());
                if listed.get().is_empty() {
                    listed.remove();
                }
                made
            }
            Entry::Vacant(place) => {
                // One is what most lists stay at.
                let mut list = Vec::with_capacity(1);
                let made = f(&mut list);
                if !list.is_empty() {
                    place.insert(list);
                }
                made
            }
        }
    }

    /// Calls `f` with the list of a tag, if there is one. It takes no memory.
    pub(crate) fn with_listed(&self, tag: u32, f: impl FnOnce(&mut Vec<T>)) {
        self.0.remove_if_mut(&tag, |_, list| {
            f(list);
            list.is_empty()
        });
    }

    /// Calls `f` with each list and its tag, under the lock of the list's shard.
    pub(crate) fn each(&self, mut f: impl FnMut(u32, &[T])) {
        self.0.iter().for_each(|list| f(*list.key(), list.value()));
    }

    /// Gives back memory that the lists there are do not need, where there is memory for smaller
    /// tables: `shrink_to_fit` ends the process where there is none.
    pub(crate) fn shrink(&self) {
        let hash = |tag: &u32| self.0.hasher().hash_one(tag);
        for shard in self.0.shards() {
            let mut table = shard.write();
            let mut old = std::mem::take(&mut *table);
            if table.try_reserve(old.len(), |(tag, _)| hash(tag)).is_err() {
                *table = old;
                continue;
            }
            for list in old.drain() {
                table.insert(hash(&list.0), list, |(tag, _)| hash(tag));
            }
        }
    }

    /// Lists that there is room for.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

/// Where a thread waits until it is woken up, as the waker of a future that has no executor.
///
/// It is no `thread::park`: a thread that drops its last thread-locals may have no handle any more.
#[derive(Debug)]
pub(crate) struct Parker {
    woken: Mutex<bool>,
    wakes: Condvar,
}

impl Parker {
    pub(crate) const fn new() -> Self {
        Self { woken: Mutex::new(false), wakes: Condvar::new() }
    }

    /// Waits until it was woken up since the last time; `false`: it is `until` before that.
    pub(crate) fn park(&self, until: Option<Instant>) -> bool {
        let mut woken = self.woken.lock();
        while !*woken {
            woken = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.wakes.wait(woken).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return false,
                Some(left) => {
                    let waited = self.wakes.wait_timeout(woken, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        *woken = false;
        true
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *self.woken.lock() = true;
        self.wakes.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_of_one_thread_at_a_time_and_come_back() {
        use std::sync::Barrier;
        let (threads, mine) = (NUMBERED / 4, thread_number());
        for _ in 0..3 {
            let barrier = Barrier::new(threads);
            let number = || {
                let number = thread_number();
                barrier.wait();
                assert_eq!(number, thread_number());
                number
            };
            let mut numbers: Vec<usize> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..threads).map(|_| scope.spawn(number)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            numbers.push(mine);
            numbers.sort_unstable();
            // Other tests have some too.
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "each has its own");
            assert!(numbers[threads] < 2 * threads, "and they come back");
        }
    }

    #[test]
    fn a_thread_is_inside_each_cache_until_its_outermost_call_is_over() {
        let first = Inside::enter(7);
        let again = Inside::enter(7);
        let other = Inside::enter(0);
        assert!(Inside::is(7) && Inside::is(0) && !Inside::is(1));
        drop((other, again));
        assert!(Inside::is(7) && !Inside::is(0));
        drop(first);
        assert!(!Inside::is(7));
    }

    #[test]
    fn a_thread_that_is_in_more_caches_than_are_told_apart_is_inside_all() {
        let mut nested: Vec<Inside> = (0..NESTED as u64).map(Inside::enter).collect();
        assert!(Inside::is(0) && !Inside::is(99));
        nested.push(Inside::enter(50));
        nested.push(Inside::enter(51));
        assert!(Inside::is(0) && Inside::is(99));
        nested.truncate(NESTED);
        assert!(Inside::is(0) && !Inside::is(99) && !Inside::is(50));
        while nested.pop().is_some() {}
        assert!(!Inside::is(0));
    }
}
