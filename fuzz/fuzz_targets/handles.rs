//! Any bits as a handle: an error from every call, unless they are a live handle's.
#![no_main]

use std::collections::HashMap;
use std::sync::LazyLock;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use zpool::{Config, Handle, MapError, Pool, ReadError, Stale, WriteError};

#[derive(Arbitrary, Debug)]
enum Op {
    Alloc(u16),
    Free(u8),
    /// Maps a live object for the rest of the run.
    Hold(u8),
    Compact(u16),
    Guess(u64),
    /// Bits that differ from a handle that was given out: those of another slot, of another age.
    Near(u8, u64),
}

fuzz_target!(|ops: Vec<Op>| {
    let pool = pool();
    let (mut live, mut given, mut held) = (HashMap::new(), Vec::new(), Vec::new());
    for op in ops {
        let pick = |at: u8| given.get(usize::from(at) % given.len().max(1)).copied();
        match op {
            Op::Alloc(len) => {
                let bytes = vec![given.len() as u8; usize::from(len) % 2049];
                let handle = pool.alloc_record(given.len(), &bytes).expect("there is no cap");
                live.insert(handle.to_bits(), (given.len(), bytes));
                given.push(handle);
            }
            Op::Free(at) => {
                let Some(handle) = pick(at) else { continue };
                let freed = live.remove(&handle.to_bits()).map(drop).ok_or(Stale);
                assert_eq!(pool.free(handle), freed);
            }
            Op::Hold(at) => {
                let Some(bits) = pick(at).map(Handle::to_bits) else { continue };
                if let Some((_, bytes)) = live.get(&bits) {
                    held.push((probe(&pool, &live, bits).expect("it is live"), bytes.clone()));
                }
            }
            Op::Compact(budget) => drop(pool.compact(budget.into())),
            Op::Guess(bits) => drop(probe(&pool, &live, bits)),
            Op::Near(at, mask) => {
                let Some(bits) = pick(at).map(Handle::to_bits) else { continue };
                drop(probe(&pool, &live, bits ^ mask));
                assert!(probe(&OTHER, &HashMap::new(), bits).is_none(), "another pool's handle");
            }
        }
        pool.check();
    }
    assert!(held.iter().all(|(map, bytes)| **map == **bytes), "an object held over its free");
});

static OTHER: LazyLock<Pool<usize>> = LazyLock::new(pool);

fn pool() -> Pool<usize> {
    Pool::new(Config::new().max_object(2048).zero_on_free(true)).expect("a plain configuration")
}

/// Tries every call on `bits`; a map of the object, where they are a live handle's.
fn probe<'p>(
    pool: &'p Pool<usize>,
    live: &HashMap<u64, (usize, Vec<u8>)>,
    bits: u64,
) -> Option<zpool::MapRef<'p, usize>> {
    let object = live.get(&bits);
    let Some(handle) = Handle::from_bits(bits) else {
        assert!(object.is_none(), "a live handle has bits");
        return None;
    };
    pool.prefetch(handle);
    pool.prefetch_bytes(handle);
    assert_eq!(pool.contains(handle), object.is_some());
    let Some((record, bytes)) = object else {
        assert_eq!(pool.map(handle).err(), Some(MapError::Stale));
        assert_eq!(pool.map_mut(handle).err(), Some(MapError::Stale));
        assert_eq!(pool.map_write(handle, 9).err(), Some(WriteError::Map(MapError::Stale)));
        assert_eq!(pool.read_into(handle, &mut []), Err(ReadError::Map(MapError::Stale)));
        assert_eq!(pool.with_record(handle, |_| ()), Err(MapError::Stale));
        assert_eq!(pool.object_len(handle), Err(MapError::Stale));
        assert_eq!(pool.free(handle), Err(Stale));
        return None;
    };
    assert_eq!(pool.with_record(handle, |record| *record), Ok(*record));
    assert_eq!(pool.object_len(handle), Ok(bytes.len()));
    let map = pool.map(handle).expect("live, and nobody writes");
    assert!(*map == **bytes && map.record() == record);
    Some(map)
}
