//! loom's primitives, under the same names.

use std::cell::Cell;

pub(crate) use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicUsize};

use super::{Charge, PutError};

pub(crate) const VERSIONS: usize = 2;

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

pub(crate) type ThreadId = loom::thread::ThreadId;

pub(crate) fn thread_id() -> ThreadId {
    loom::thread::current().id()
}

/// All threads share what is per thread: more for a model to get wrong.
pub(crate) fn thread_number() -> usize {
    0
}

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

#[derive(Debug)]
pub(crate) struct Gate<T> {
    value: loom::sync::Mutex<Option<T>>,
    opened: loom::sync::Condvar,
}

impl<T: Clone> Gate<T> {
    pub(crate) fn new() -> Self {
        Self { value: loom::sync::Mutex::new(None), opened: loom::sync::Condvar::new() }
    }

    pub(crate) fn open(&self, value: T) {
        *self.value.lock().unwrap() = Some(value);
        self.opened.notify_all();
    }

    pub(crate) fn wait(&self) -> T {
        let mut value = self.value.lock().unwrap();
        loop {
            if let Some(value) = &*value {
                return value.clone();
            }
            value = self.opened.wait(value).unwrap();
        }
    }
}

/// The stand-in for dashmap, which loom does not see into.
#[derive(Debug)]
pub(crate) struct Shards {
    shards: Vec<loom::sync::RwLock<Vec<(u64, u32)>>>,
}

impl Shards {
    pub(crate) fn new(amount: usize) -> Self {
        Self { shards: (0..amount).map(|_| loom::sync::RwLock::new(Vec::new())).collect() }
    }

    pub(crate) fn fixed_bytes(_amount: usize) -> usize {
        0
    }

    pub(crate) fn len(&self, at: usize) -> usize {
        self.shards[at].read().unwrap().len()
    }

    pub(crate) fn look<R>(
        &self,
        at: usize,
        hash: u64,
        mut probe: impl FnMut(u32) -> Option<R>,
        missed: impl FnOnce(),
    ) -> Option<R> {
        let shard = self.shards[at].read().unwrap();
        let found = shard.iter().filter(|(of, _)| *of == hash).find_map(|(_, id)| probe(*id));
        if found.is_none() {
            missed();
        }
        found
    }

    pub(crate) fn put<R>(
        &self,
        at: usize,
        (hash, id): (u64, u32),
        _hash_of: impl Fn(u32) -> u64,
        mut probe: impl FnMut(u32) -> Option<R>,
        admit: impl FnOnce() -> bool,
        _memory: &impl Charge,
    ) -> Result<Option<R>, PutError> {
        let mut shard = self.shards[at].write().unwrap();
        if !admit() {
            return Err(PutError::NotAdmitted);
        }
        for entry in shard.iter_mut().filter(|(of, _)| *of == hash) {
            if let Some(found) = probe(entry.1) {
                entry.1 = id;
                return Ok(Some(found));
            }
        }
        shard.push((hash, id));
        Ok(None)
    }

    pub(crate) fn swap<R>(
        &self,
        at: usize,
        hash: u64,
        mut probe: impl FnMut(u32) -> Option<(u32, R)>,
    ) -> Option<R> {
        let mut shard = self.shards[at].write().unwrap();
        for entry in shard.iter_mut().filter(|(of, _)| *of == hash) {
            if let Some((id, found)) = probe(entry.1) {
                entry.1 = id;
                return Some(found);
            }
        }
        None
    }

    pub(crate) fn take<R>(
        &self,
        at: usize,
        hash: u64,
        _hash_of: impl Fn(u32) -> u64,
        mut probe: impl FnMut(u32) -> Option<R>,
        always: impl FnOnce(),
        _memory: &impl Charge,
    ) -> Option<R> {
        let mut shard = self.shards[at].write().unwrap();
        always();
        let mut found = None;
        let place = shard.iter().position(|(of, id)| {
            if *of == hash {
                found = probe(*id);
            }
            found.is_some()
        });
        if let Some(place) = place {
            shard.swap_remove(place);
        }
        found
    }

    pub(crate) fn shrink(
        &self,
        _at: usize,
        _times: usize,
        _hash_of: impl Fn(u32) -> u64,
        _memory: &impl Charge,
    ) {
    }

    pub(crate) fn alone(&self, at: usize, f: impl FnOnce()) {
        let _shard = self.shards[at].write().unwrap();
        f();
    }

    pub(crate) fn bytes(&self, _at: usize) -> usize {
        0
    }
}
