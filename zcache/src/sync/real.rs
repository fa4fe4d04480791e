//! std's and parking_lot's primitives.

use std::cell::{Cell, RefCell};

pub(crate) use parking_lot::Mutex;
pub(crate) use std::sync::atomic::{AtomicU32, AtomicUsize};

/// Leases that share a shard are told of changes by this many groups of keys.
pub(crate) const VERSIONS: usize = 64;

/// Times that the hot tier's table can double.
pub(crate) const DOUBLINGS: usize = 24;

/// Sets of slots of the hot tier.
pub(crate) const fn most_sets() -> usize {
    1 << DOUBLINGS
}

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

pub(crate) type ThreadId = std::thread::ThreadId;

pub(crate) fn thread_id() -> ThreadId {
    std::thread::current().id()
}

/// A small number of this thread's; threads get 0, 1, 2, ... as they come.
#[inline]
pub(crate) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    // A thread whose locals are gone already works with the first one's share.
    let number = NUMBER.try_with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, super::Ordering::Relaxed));
        }
        number.get()
    });
    number.unwrap_or(0)
}

thread_local! {
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// That this thread runs user code which the end of an entry of cache `number` calls.
#[derive(Debug)]
pub(crate) struct Inside(());

impl Inside {
    pub(crate) fn enter(number: u64) -> Self {
        let _ = INSIDE.try_with(|inside| inside.borrow_mut().push(number));
        Self(())
    }

    /// Whether it does so just now.
    pub(crate) fn is(number: u64) -> bool {
        INSIDE.try_with(|inside| inside.borrow().contains(&number)).unwrap_or(true)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = INSIDE.try_with(|inside| inside.borrow_mut().pop());
    }
}

/// A value that is there once, and those who wait for it.
#[derive(Debug)]
pub(crate) struct Gate<T> {
    value: Mutex<Option<T>>,
    opened: parking_lot::Condvar,
}

impl<T: Clone> Gate<T> {
    pub(crate) const fn new() -> Self {
        Self { value: Mutex::new(None), opened: parking_lot::Condvar::new() }
    }

    pub(crate) fn open(&self, value: T) {
        *self.value.lock() = Some(value);
        self.opened.notify_all();
    }

    pub(crate) fn wait(&self) -> T {
        let mut value = self.value.lock();
        loop {
            if let Some(value) = &*value {
                return value.clone();
            }
            self.opened.wait(&mut value);
        }
    }
}
