//! dashmap behind a facade of closures: no guard escapes, and nothing but the key's `Eq` is user code
//! that runs inside.
//!
//! The shards' own tables are used (dashmap's `raw-api`), so that a bucket is a 4-byte id and a control
//! byte; a map from `u64` to `u64` takes 37 to 42 bytes an entry. Hashes and keys stand in the entries.

use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;
use std::mem::ManuallyDrop;

use dashmap::{DashMap, SharedValue};
use zpool::source::heap_cost;

use super::{Charge, PutError};

/// Tables of ids, each under its own reader-writer lock.
#[derive(Debug)]
pub(crate) struct Shards {
    map: DashMap<u32, (), BuildHasherDefault<DefaultHasher>>,
}

/// What a table of so many buckets takes, at hashbrown's layout: ids, then control bytes.
const fn table_bytes(buckets: usize) -> usize {
    heap_cost((buckets * size_of::<u32>()).next_multiple_of(16) + buckets + 16)
}

/// A table with room for more than this many times its ids is made shorter as they go.
const SPARSE: usize = 16;
/// Tables of fewer buckets stay as they are until somebody asks.
const LONG: usize = 64;
/// One removal in this many tries to make a table shorter.
const TRIES: usize = 8;
/// A shorter table of no more than these bytes is made beside the long one without a charge of its
/// own: in a full cache none is to be had, and the long one would stay for ever. For the microseconds
/// that this takes it is a part of what the cache sets aside for tables that are replaced.
const BESIDE: usize = 32 << 10;

/// The buckets of a table that is made for so many ids.
const fn buckets_for(ids: usize) -> usize {
    match ids {
        0 => 0,
        1..4 => 4,
        4..8 => 8,
        _ => (ids * 8 / 7).next_power_of_two(),
    }
}

/// The buckets that a full table grows to.
const fn grown(buckets: usize) -> usize {
    if buckets < 4 { 4 } else { buckets * 2 }
}

impl Shards {
    /// `amount` shards, a power of two above 1.
    pub(crate) fn new(amount: usize) -> Self {
        Self {
            map: DashMap::with_capacity_and_hasher_and_shard_amount(
                0,
                BuildHasherDefault::default(),
                amount,
            ),
        }
    }

    /// What `amount` empty shards hold in bytes.
    pub(crate) fn fixed_bytes(amount: usize) -> usize {
        heap_cost(amount * 128)
    }

    /// Ids in a shard.
    pub(crate) fn len(&self, at: usize) -> usize {
        self.map.shards()[at].read().len()
    }

    /// What `probe` makes of the first id with this hash that it takes. Readers share the lock; where
    /// none is taken, `missed` runs before it is given back.
    #[inline]
    pub(crate) fn look<R>(
        &self,
        at: usize,
        hash: u64,
        mut probe: impl FnMut(u32) -> Option<R>,
        missed: impl FnOnce(),
    ) -> Option<R> {
        let shard = self.map.shards()[at].read();
        // Without a drop, which would take its address: so a pin stays in registers (20 ns of a hit).
        let mut found = None;
        shard.get(hash, |(id, _)| {
            found = probe(*id).map(ManuallyDrop::new);
            found.is_some()
        });
        if found.is_none() {
            missed();
        }
        found.map(ManuallyDrop::into_inner)
    }

    /// Puts `id` in, in the place of the one with its hash that `probe` takes, if there is one, unless
    /// `admit` says no under the lock. Growth is charged first.
    pub(crate) fn put<R>(
        &self,
        at: usize,
        (hash, id): (u64, u32),
        hash_of: impl Fn(u32) -> u64,
        mut probe: impl FnMut(u32) -> Option<R>,
        admit: impl FnOnce() -> bool,
        memory: &impl Charge,
    ) -> Result<Option<R>, PutError> {
        let mut shard = self.map.shards()[at].write();
        let mut found = None;
        let place = shard.get_mut(hash, |(of, _)| {
            found = probe(*of);
            found.is_some()
        });
        if let Some((of, _)) = place {
            if !admit() {
                return Err(PutError::NotAdmitted);
            }
            *of = id;
            return Ok(found);
        }
        if shard.capacity() == shard.len() {
            let before = shard.allocation_info().1.size();
            let charged = table_bytes(grown(shard.buckets()));
            if !memory.charge(charged) {
                return Err(PutError::NoRoom(charged));
            }
            let grew = shard.try_reserve(1, |(id, _)| hash_of(*id)).is_ok();
            let after = shard.allocation_info().1.size();
            // Rehashed in place, or refused by the allocator: nothing new is held.
            // A new table may be smaller than it was taken for, where hashbrown's groups are.
            let spare = charged.saturating_sub(heap_cost(after));
            memory.release(if after == before { charged } else { heap_cost(before) + spare });
            if !grew {
                return Err(PutError::NoMemory);
            }
        }
        if !admit() {
            return Err(PutError::NotAdmitted);
        }
        shard.insert_entry(hash, (id, SharedValue::new(())), |(id, _)| hash_of(*id));
        Ok(None)
    }

    /// Puts another id in the place of the one with this hash that `probe` takes, if there is one:
    /// the id that `probe` gives with what it made of the old one.
    pub(crate) fn swap<R>(
        &self,
        at: usize,
        hash: u64,
        mut probe: impl FnMut(u32) -> Option<(u32, R)>,
    ) -> Option<R> {
        let mut shard = self.map.shards()[at].write();
        let mut found = None;
        let place = shard.get_mut(hash, |(of, _)| {
            found = probe(*of);
            found.is_some()
        });
        let ((of, _), (id, made)) = place.zip(found)?;
        *of = id;
        Some(made)
    }

    /// Takes the id with this hash out that `probe` takes; `always` runs under the lock either way.
    /// A table that is much too long afterwards is made shorter.
    pub(crate) fn take<R>(
        &self,
        at: usize,
        hash: u64,
        hash_of: impl Fn(u32) -> u64,
        mut probe: impl FnMut(u32) -> Option<R>,
        always: impl FnOnce(),
        memory: &impl Charge,
    ) -> Option<R> {
        let mut shard = self.map.shards()[at].write();
        always();
        let mut found = None;
        shard.remove_entry(hash, |(id, _)| {
            found = probe(*id);
            found.is_some()
        });
        // Now and then: where the charge is refused, the next try is some removals away.
        let sparse = shard.len() * SPARSE < shard.capacity() && shard.buckets() >= LONG;
        let tries = found.is_some() && sparse && shard.len() % TRIES == 0;
        drop(shard);
        if tries {
            self.shrink(at, 2, hash_of, memory);
        }
        found
    }

    /// Makes a table as short as `times` its ids need, if that is shorter, charged first; where
    /// that or the memory is refused it stays as it is.
    pub(crate) fn shrink(
        &self,
        at: usize,
        times: usize,
        hash_of: impl Fn(u32) -> u64,
        memory: &impl Charge,
    ) {
        let mut shard = self.map.shards()[at].write();
        let wanted = times * shard.len();
        if shard.buckets() <= 1 || wanted > 0 && buckets_for(wanted) >= shard.buckets() {
            return;
        }
        let before = heap_cost(shard.allocation_info().1.size());
        // An empty table is nothing: no memory is taken for it.
        let room = if wanted == 0 { 0 } else { table_bytes(buckets_for(wanted)) };
        if room >= before {
            return;
        }
        let beside = room <= BESIDE.min(before / 6);
        let charged = if beside { 0 } else { room };
        if !memory.charge(charged) {
            return;
        }
        // Not `shrink_to`, which ends the process where the heap refuses.
        let long = std::mem::take(&mut *shard);
        if wanted > 0 && shard.try_reserve(wanted, |(id, _)| hash_of(*id)).is_err() {
            *shard = long;
            memory.release(charged);
            return;
        }
        for (id, value) in long {
            shard.insert_entry(hash_of(id), (id, value), |(id, _)| hash_of(*id));
        }
        let after = shard.allocation_info().1.size();
        let after = if shard.buckets() > 1 { heap_cost(after) } else { 0 };
        memory.release(before + charged - after);
    }

    /// Runs `f` while nobody else is at a shard.
    pub(crate) fn alone(&self, at: usize, f: impl FnOnce()) {
        let _shard = self.map.shards()[at].write();
        f();
    }

    /// Bytes of a shard's table.
    pub(crate) fn bytes(&self, at: usize) -> usize {
        let shard = self.map.shards()[at].read();
        if shard.buckets() > 1 { heap_cost(shard.allocation_info().1.size()) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[derive(Default)]
    struct Purse {
        held: Cell<usize>,
        closed: Cell<bool>,
    }

    impl Charge for Purse {
        fn charge(&self, bytes: usize) -> bool {
            if !self.closed.get() {
                self.held.set(self.held.get() + bytes);
            }
            !self.closed.get()
        }

        fn release(&self, bytes: usize) {
            self.held.set(self.held.get() - bytes);
        }
    }

    const fn hash_of(id: u32) -> u64 {
        (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn put(shards: &Shards, purse: &Purse, id: u32) -> Result<Option<u32>, PutError> {
        let same = |of: u32| (of == id).then_some(of);
        shards.put(0, (hash_of(id), id), hash_of, same, || true, purse)
    }

    fn take(shards: &Shards, purse: &Purse, id: u32) -> Option<u32> {
        let same = |of: u32| (of == id).then_some(of);
        shards.take(0, hash_of(id), hash_of, same, || (), purse)
    }

    #[test]
    fn tables_get_shorter_as_their_ids_go() {
        let (shards, purse) = (Shards::new(2), Purse::default());
        (0..50_000).for_each(|id| assert_eq!(put(&shards, &purse, id), Ok(None)));
        for left in (0..50_000).rev() {
            // While nothing can be charged a large table stays, and it is made shorter later.
            purse.closed.set(left % 7 != 0);
            assert_eq!(take(&shards, &purse, left), Some(left));
            assert_eq!(purse.held.get(), shards.bytes(0), "{left} left");
            let most = table_bytes(LONG.max(left as usize * 2 * SPARSE * 8 / 7));
            assert!(left % 100 != 0 || shards.bytes(0) <= 2 * most, "{left}: {}", shards.bytes(0));
        }
        assert!((shards.len(0), shards.bytes(0)) <= (0, table_bytes(LONG)));
        let look = |id: u32| shards.look(0, hash_of(id), |of| (of == id).then_some(of), || ());
        (0..100).for_each(|id| assert_eq!(put(&shards, &purse, id), Ok(None)));
        assert!((0..100).all(|id| look(id) == Some(id)));
    }

    #[test]
    fn tables_are_charged_to_the_byte_while_they_grow_shrink_and_churn() {
        let (shards, purse) = (Shards::new(2), Purse::default());
        for id in 0..5000 {
            assert_eq!(put(&shards, &purse, id), Ok(None));
            assert_eq!(purse.held.get(), shards.bytes(0), "after {id}");
        }
        assert_eq!(put(&shards, &purse, 77), Ok(Some(77)));
        for id in 0..4990_u32 {
            assert_eq!(take(&shards, &purse, id), Some(id));
            assert_eq!(put(&shards, &purse, id + 10_000), Ok(None));
            assert_eq!(take(&shards, &purse, id + 10_000), Some(id + 10_000));
            assert_eq!(purse.held.get(), shards.bytes(0));
        }
        shards.shrink(0, 1, hash_of, &purse);
        assert_eq!((purse.held.get(), shards.len(0)), (shards.bytes(0), 10));
        assert!(shards.bytes(0) < 256);
    }

    #[test]
    fn growth_that_is_refused_changes_nothing() {
        let (shards, purse) = (Shards::new(2), Purse::default());
        (0..3).for_each(|id| assert_eq!(put(&shards, &purse, id), Ok(None)));
        purse.closed.set(true);
        assert!(matches!(put(&shards, &purse, 3), Err(PutError::NoRoom(_))));
        assert_eq!((shards.len(0), put(&shards, &purse, 2)), (3, Ok(Some(2))));
        let look = |id: u32| shards.look(0, hash_of(id), |of| (of == id).then_some(of), || ());
        assert_eq!((look(2), look(3)), (Some(2), None));
    }
}
