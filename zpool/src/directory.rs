//! An append-only directory: index -> value, growing without ever moving or freeing a value.
//!
//! A reader follows two links that are written once. So growth never makes it wait and needs no
//! reclamation. Blocks double in length; a value is set once and lives as long as the directory.
//! ```text
//! root [Once; 26] -> block k: [Once; 16 << k] -> value
//! ```

use crate::error::AllocError;
use crate::ledger::{Charge, Ledger, heap_cost};
use crate::sync::Once;

/// Values in the first block.
const FIRST: usize = 16;
/// Blocks: 16 * (2^26 - 1) values, over 2^30.
const BLOCKS: usize = 26;

#[derive(Debug)]
pub(crate) struct Directory<V> {
    root: Box<[Once<Block<V>>]>,
}

type Block<V> = Box<[Once<V>]>;

/// The block and the place in it of value `index`.
#[inline]
const fn locate(index: usize) -> (usize, usize) {
    let shifted = index / FIRST + 1;
    let block = shifted.ilog2() as usize;
    (block, index - FIRST * ((1 << block) - 1))
}

impl<V> Directory<V> {
    /// What an empty directory holds in bytes.
    pub(crate) const EMPTY_BYTES: usize = heap_cost(BLOCKS * size_of::<Once<Block<V>>>());

    pub(crate) fn new() -> Self {
        Self { root: (0..BLOCKS).map(|_| Once::new()).collect() }
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&V> {
        let (block, at) = locate(index);
        self.root.get(block)?.get()?.get(at)?.get()
    }

    /// What [`grow`](Self::grow) to `index` charges.
    pub(crate) fn growth(&self, index: usize) -> usize {
        let (block, _) = locate(index);
        let missing = self.root.get(block).is_some_and(|link| link.get().is_none());
        if missing { Self::block_bytes(block) } else { 0 }
    }

    fn block_bytes(block: usize) -> usize {
        heap_cost((FIRST << block) * size_of::<Once<V>>())
    }

    /// Sets value `index`, making its block where that is missing; both are charged to `ledger`.
    /// Callers hold the lock that orders growth.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`] where the ledger refuses, [`AllocError::NoMemory`] where the heap
    /// does. No value was set; a new block stays, charged, for the next try.
    pub(crate) fn grow(
        &self,
        index: usize,
        ledger: &Ledger,
        make: impl FnOnce() -> Option<V>,
    ) -> Result<(), AllocError> {
        let (block, at) = locate(index);
        let link = self.root.get(block).ok_or(AllocError::OutOfPages)?;
        if link.get().is_none() {
            let bytes = Self::block_bytes(block);
            ledger.reserve(bytes)?;
            let Some(made) = boxed(FIRST << block, Once::new) else {
                ledger.release(bytes);
                return Err(AllocError::NoMemory);
            };
            let set = link.set(made).is_ok();
            assert!(set, "growth is ordered by its caller's lock");
        }
        let places = link.get().expect("set above or before");
        let set = places[at].set(make().ok_or(AllocError::NoMemory)?).is_ok();
        assert!(set, "value {index} is set once");
        Ok(())
    }
}

/// `count` values on the heap, or `None` where the allocator has no room.
pub(crate) fn boxed<V>(count: usize, make: impl FnMut() -> V) -> Option<Box<[V]>> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).ok()?;
    values.resize_with(count, make);
    Some(values.into_boxed_slice())
}

/// Makes `values` at least `len` long, charged; an eighth is added at least, so that growth is
/// cheap per value.
///
/// # Errors
/// [`AllocError::OutOfPages`] where the ledger refuses, [`AllocError::NoMemory`] where the heap
/// does. Nothing has changed.
pub(crate) fn stretch<V: Default>(
    values: &mut Vec<V>,
    len: usize,
    ledger: &impl Charge,
) -> Result<(), AllocError> {
    if len > values.capacity() {
        let room = len.max(values.len() + values.len() / 8 + 8);
        let cost = heap_cost(room * size_of::<V>());
        ledger.reserve(cost)?;
        let mut made = Vec::new();
        if made.try_reserve_exact(room).is_err() {
            ledger.release(cost);
            return Err(AllocError::NoMemory);
        }
        made.append(values);
        let before = heap_cost(values.capacity() * size_of::<V>());
        *values = made;
        ledger.release(before);
    }
    if len > values.len() {
        values.resize_with(len, V::default);
    }
    Ok(())
}

#[cfg(test)]
#[cfg(not(zcache_loom))]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_its_own_place() {
        let mut expected = (0, 0);
        for index in 0..100_000 {
            assert_eq!(locate(index), expected, "index {index}");
            expected.1 += 1;
            if expected.1 == FIRST << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
    }

    #[test]
    fn values_stay_where_they_are_and_are_charged() {
        let ledger = Ledger::new(4096, 0, usize::MAX);
        let directory = Directory::new();
        assert_eq!(directory.get(0), None);
        directory.grow(0, &ledger, || Some(7_u32)).unwrap();
        let before: *const u32 = directory.get(0).unwrap();
        for index in 1..1000 {
            directory.grow(index, &ledger, || Some(index as u32)).unwrap();
        }
        assert_eq!(directory.get(0).map(|value| value as *const u32), Some(before));
        assert_eq!(directory.get(999), Some(&999));
        assert_eq!(directory.get(1_000_000_000), None);
        assert_eq!(directory.get(usize::MAX / 2), None);
        assert!(ledger.held() >= 1000 * size_of::<Once<u32>>());
    }

    #[test]
    fn a_stretched_vector_is_charged_as_it_is() {
        let (ledger, mut values) = (Ledger::new(4096, 0, 10_000), Vec::<u16>::new());
        let grown = (1..).take_while(|len| stretch(&mut values, *len, &ledger).is_ok()).count();
        assert!((2000..5000).contains(&grown), "{grown} values of 2 bytes in 10,000");
        assert_eq!((values.len(), ledger.held()), (grown, heap_cost(2 * values.capacity())));
    }

    #[test]
    fn a_refused_growth_changes_nothing() {
        let ledger = Ledger::new(4096, 0, 100);
        let directory = Directory::new();
        let grown = directory.grow(0, &ledger, || Some([0_u64; 64]));
        assert_eq!((grown, ledger.held()), (Err(AllocError::OutOfPages), 0));
        let ledger = Ledger::new(4096, 0, usize::MAX);
        assert_eq!(directory.grow(0, &ledger, || None), Err(AllocError::NoMemory));
        assert_eq!(directory.get(0), None);
    }
}
