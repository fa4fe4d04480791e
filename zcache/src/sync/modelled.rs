//! loom's primitives, under the same names.

use std::cell::Cell;
use std::sync::Arc;
use std::task::Wake;
use std::time::Instant;

use super::Ordering;

pub(crate) use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicUsize};

/// The stacks of loom's threads are small.
pub(crate) type Lean<T> = Box<T>;

pub(crate) fn lean<T>(value: T) -> Lean<T> {
    Box::new(value)
}

/// A second entry of a bucket is in a line of its own.
pub(crate) const IDS: usize = 1;
pub(crate) const FULL: usize = 1;

/// Loom knows who waits for a lock, and not who looks again and again.
pub(crate) const TRIES: usize = 1;

/// What is done in several holds of a lock is, where there is a second entry.
pub(crate) const MERGED: usize = 1;
/// A policy has few entries to look at: each further hold of its lock would be one more step.
pub(crate) const LOOKS: usize = 8;
pub(crate) const HOLDS: usize = 1;

/// zpool's own models have mixed zspages, and each step here would count many times.
pub(crate) const MIXED: usize = 0;

/// One entry may wait for the policy, and a second one has to lock it.
pub(crate) const WAITING: usize = 1;

/// The longest piece of a page in bytes.
pub(crate) const PIECE: usize = 32;

/// Slots for scopes: one beside that of scopes without.
pub(crate) const SCOPES: (usize, usize) = (2, 2);

/// What a reader finds in a word of the index. In models of the whole cache that is what was
/// written last: the table has models of its own, in which it may be any older word, too.
pub(crate) fn seen(word: &AtomicU32, order: Ordering) -> u32 {
    latest();
    word.load(order)
}

/// Writes a word of the index.
pub(crate) fn tell(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    latest();
}

fn latest() {
    if LATEST.with(Cell::get) {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

/// Has readers of the index find what was written last, in everything this model's thread runs.
#[cfg(test)]
pub(crate) fn let_see_latest() {
    LATEST.with(|cell| cell.set(true));
}

/// Whether shards of the index get more buckets, in everything this model's thread runs from now
/// on.
#[cfg(test)]
pub(crate) fn let_split(may: bool) {
    SPLITS.with(|cell| cell.set(may));
}

pub(crate) fn may_split() -> bool {
    SPLITS.with(Cell::get)
}

/// Has entries wait where somebody has the policy, in everything this model's thread runs. Models
/// that do not show that would have more to try.
#[cfg(test)]
pub(crate) fn let_wait() {
    WAITS.with(|cell| cell.set(true));
}

pub(crate) fn may_wait() -> bool {
    WAITS.with(Cell::get)
}

/// A table with a set more has frames, or shrinks.
pub(crate) const MOST_UNUSED: usize = 1;
/// All keys share a slot, where the table may not grow.
pub(crate) const WAYS: usize = 1;
pub(crate) const RECENT: usize = 1;
/// Pages of models are same-filled.
pub(crate) const PICKY: bool = false;

/// All readers share one pair.
pub(crate) const fn readers(_threads: usize) -> usize {
    1
}

thread_local! {
    static GROWS: Cell<bool> = const { Cell::new(false) };
    static SPLITS: Cell<bool> = const { Cell::new(false) };
    static WAITS: Cell<bool> = const { Cell::new(false) };
    static LATEST: Cell<bool> = const { Cell::new(false) };
    static PLANTED: Cell<Option<super::Plant>> = const { Cell::new(None) };
}

/// Plants `bug` in everything this model's thread runs (loom's threads share one thread).
#[cfg(test)]
pub(crate) fn plant(bug: Option<super::Plant>) {
    PLANTED.with(|cell| cell.set(bug));
}

/// Whether the hot tier's table may double, in everything this model's thread runs from now on.
#[cfg(test)]
pub(crate) fn let_grow(may: bool) {
    GROWS.with(|cell| cell.set(may));
}

pub(crate) fn most_sets() -> usize {
    1 << GROWS.with(|cell| usize::from(cell.get()))
}

pub(crate) fn planted(bug: super::Plant) -> bool {
    PLANTED.with(|cell| cell.get() == Some(bug))
}

pub(crate) fn pause() {
    loom::thread::yield_now();
}

pub(crate) fn thread_id() -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    loom::thread::current().id().hash(&mut hasher);
    hasher.finish() >> 1
}

/// All threads share what is per thread: more for a model to get wrong.
pub(crate) fn thread_number() -> usize {
    NUMBERED
}

/// No thread has a number to itself.
pub(crate) const NUMBERED: usize = 1;

/// No model has user code in it.
#[derive(Debug)]
pub(crate) struct Inside(());

impl Inside {
    pub(crate) fn enter(_number: u64) -> Self {
        Self(())
    }

    pub(crate) fn is(_number: u64) -> bool {
        false
    }
}

/// loom's mutex without poison.
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }

    pub(crate) fn try_lock(&self) -> Option<loom::sync::MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// A stand-in for dashmap: all lists under one lock.
#[derive(Debug)]
pub(crate) struct ByTag<T>(Mutex<Vec<(u32, Vec<T>)>>);

impl<T> ByTag<T> {
    /// Models count no heap memory of a map that they do not have.
    pub(crate) const FIXED_BYTES: usize = 0;

    pub(crate) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(crate) fn with<R>(&self, tag: u32, f: impl FnOnce(&mut Vec<T>) -> R) -> R {
        let mut lists = self.0.lock();
        let at = lists.iter().position(|(of, _)| *of == tag).unwrap_or_else(|| {
            lists.push((tag, Vec::new()));
            lists.len() - 1
        });
        let made = f(&mut lists[at].1);
        lists.retain(|(_, list)| !list.is_empty());
        made
    }

    pub(crate) fn with_listed(&self, tag: u32, f: impl FnOnce(&mut Vec<T>)) {
        self.with(tag, |list| {
            if !list.is_empty() {
                f(list);
            }
        });
    }

    pub(crate) fn each(&self, mut f: impl FnMut(u32, &[T])) {
        self.0.lock().iter().for_each(|(tag, list)| f(*tag, list));
    }

    pub(crate) fn shrink(&self) {}
}

#[derive(Debug)]
pub(crate) struct Parker {
    woken: loom::sync::Mutex<bool>,
    wakes: loom::sync::Condvar,
}

impl Parker {
    pub(crate) fn new() -> Self {
        Self { woken: loom::sync::Mutex::new(false), wakes: loom::sync::Condvar::new() }
    }

    /// No time passes in a model: those who give up drop what they wait for.
    pub(crate) fn park(&self, until: Option<Instant>) -> bool {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            if until.is_some() {
                return false;
            }
            woken = self.wakes.wait(woken).unwrap();
        }
        *woken = false;
        true
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.wakes.notify_one();
    }
}
