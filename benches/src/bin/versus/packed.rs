//! A store of values as a cache of pages. A value is the compressed page, or the page; a hit
//! decodes the value into the caller's buffer, outside the store's locks.

use std::cell::RefCell;
use std::hint::black_box;

use benches::bare::Bare;
use benches::codec::{Engine, Worker};

use crate::contestant::Contestant;

/// What a store does with values.
pub(crate) trait Store: Sync {
    fn put(&self, key: u64, value: &[u8]);
    /// Calls `f` with the value of `key`, if there is one.
    fn with(&self, key: u64, f: &mut dyn FnMut(&[u8])) -> bool;
    fn has(&self, key: u64) -> bool;
    fn settle(&self) {}
}

/// No cache can be cheaper: an array from which values are read and to which none is written.
impl Store for Bare {
    fn put(&self, _key: u64, value: &[u8]) {
        black_box(value);
    }

    fn with(&self, key: u64, f: &mut dyn FnMut(&[u8])) -> bool {
        let has = self.has(key);
        if has {
            f(self.payload(key as usize));
        }
        has
    }

    fn has(&self, key: u64) -> bool {
        key < self.entries() as u64
    }
}

/// What a thread compresses with and into.
type Desk = (Worker, Vec<u8>);

thread_local! {
    /// Of the first store that the thread comes to: all stores of a process have one engine and one
    /// page size.
    static DESK: RefCell<Option<Desk>> = const { RefCell::new(None) };
}

/// A store and its codec.
pub(crate) struct Packed<S> {
    store: S,
    engine: Engine,
    page_size: usize,
}

impl<S: Store> Packed<S> {
    pub(crate) fn new(store: S, engine: Engine, page_size: usize) -> Self {
        Self { store, engine, page_size }
    }

    fn desk<R>(&self, f: impl FnOnce(&mut Desk) -> R) -> R {
        let size = self.page_size;
        let make = || (self.engine.worker(size).expect("memory for a context"), vec![0; size]);
        DESK.with_borrow_mut(|desk| f(desk.get_or_insert_with(make)))
    }
}

impl<S: Store> Contestant for Packed<S> {
    fn get(&self, key: u64, to: &mut [u8]) -> bool {
        self.desk(|(worker, _)| self.store.with(key, &mut |value| worker.decode(value, to)))
    }

    fn insert(&self, key: u64, page: &[u8]) {
        self.desk(|(worker, to)| self.store.put(key, worker.encode(page, to)));
    }

    fn contains(&self, key: u64) -> bool {
        self.store.has(key)
    }

    fn settle(&self) {
        self.store.settle();
    }
}
