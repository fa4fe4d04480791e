//! Pins and ids: the bytes of a pinned object, and which object an id leads to.
#![cfg(not(zcache_loom))]

use tests::pattern;
use tests::records::Tally;
use tests::setups::{Pages, Setup};
use zpool::{Handle, MapError, Pinned, Pool, ReadError};

const SOURCES: [Pages; 4] = [Pages::Heap(1), Pages::Mmap, Pages::Memfd, Pages::Ram];

fn each_pool(mut f: impl FnMut(&Pool, Pages)) {
    SOURCES.iter().for_each(|pages| f(&Setup::new(*pages).pool(), *pages));
}

fn id(pool: &Pool, handle: Handle) -> u32 {
    pool.id(handle).expect("a handle of the pool")
}

fn assert_shows(pinned: &Pinned<'_>, expected: &[u8]) {
    assert_eq!((pinned.len(), pinned.is_empty()), (expected.len(), expected.is_empty()));
    assert!(pinned.bytes().is_none_or(|bytes| bytes == expected));
    let mut to = vec![0xee; expected.len() + 3];
    assert_eq!(pinned.read_into(&mut to), Ok(expected.len()));
    let (read, rest) = to.split_at(expected.len());
    assert!(read == expected && rest == [0xee; 3]);
    if let Some(short) = expected.len().checked_sub(1) {
        let error = ReadError::BufferTooSmall(expected.len());
        assert_eq!(pinned.read_into(&mut to[..short]), Err(error));
    }
}

#[test]
fn a_pin_shows_bytes_where_they_are_one_piece_and_reads_them_everywhere() {
    each_pool(|pool, pages| {
        let mut split = 0;
        for len in [0, 1, 100, 1808, 3000, 4096, 4097, 20_000, 65_536] {
            let expected = pattern::bytes(len, len as usize);
            for _ in 0..9 {
                let handle = pool.alloc(&expected).unwrap();
                let pinned = pool.pin(handle).unwrap();
                assert_shows(&pinned, &expected);
                let map = pool.map(handle).unwrap();
                assert_eq!(map.is_copy(), pinned.bytes().is_none());
                assert_eq!((map.handle(), pinned.handle()), (handle, handle));
                assert_eq!(pinned.id(), id(pool, handle));
                split += usize::from(pinned.bytes().is_none());
                match pages {
                    Pages::Memfd | Pages::Ram => {
                        assert_eq!(pinned.bytes().is_none(), len != 0, "no page has an address");
                    }
                    Pages::Heap(1) if len > 4096 => assert_eq!(pinned.bytes(), None, "a seam"),
                    _ => {}
                }
            }
        }
        assert_eq!(split == 0, pages == Pages::Mmap, "{pages:?}: {split}");
    });
}

#[test]
fn a_pin_needs_no_memory_where_a_map_does() {
    let pool: Pool = Setup::new(Pages::Ram).pool();
    let handle = pool.alloc(&[7; 5000]).unwrap();
    pool.set_max_bytes(0);
    assert_eq!(pool.map(handle).err(), Some(MapError::OutOfMemory));
    assert_shows(&pool.pin(handle).unwrap(), &[7; 5000]);
    assert_shows(&pool.pin_id(id(&pool, handle)).unwrap(), &[7; 5000]);
}

#[test]
fn a_pin_excludes_writers_and_is_counted_like_a_map() {
    each_pool(|pool, _| {
        let handle = pool.alloc(&[1; 5000]).unwrap();
        let pins: Vec<_> = (0..1021).map(|_| pool.pin_id(id(pool, handle)).unwrap()).collect();
        assert_eq!(pool.pin(handle).err(), Some(MapError::TooManyMaps));
        assert_eq!(pool.pin_id(id(pool, handle)).err(), Some(MapError::TooManyMaps));
        assert_eq!(pool.map_mut(handle).err(), Some(MapError::Busy));
        let last = pool.pin_id_reserved(id(pool, handle)).unwrap();
        let none = pool.pin_id_reserved(id(pool, handle)).err();
        assert_eq!(none, Some(MapError::TooManyMaps), "there is one in reserve");
        drop((pins, last));
        let map = pool.map_mut(handle).unwrap();
        assert_eq!(pool.pin(handle).err(), Some(MapError::Busy));
        assert_eq!(pool.pin_id(id(pool, handle)).err(), Some(MapError::Busy));
        drop(map);
        pool.check();
    });
}

#[test]
fn an_id_is_given_out_again_only_after_its_object_has_ended() {
    let pool: Pool = Setup::new(Pages::Mmap).pool();
    let handles: Vec<Handle> = (0..100).map(|_| pool.alloc(b"live").unwrap()).collect();
    let mut ids: Vec<u32> = handles.iter().map(|handle| id(&pool, *handle)).collect();
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(0..100) && pool.ids() == 100, "each has one of its own");

    // Freed under two pins: no other object takes the id until both are gone.
    let old = handles[50];
    let wanted = id(&pool, old);
    let (one, two) = (pool.pin(old).unwrap(), pool.pin_id(wanted).unwrap());
    pool.free(old).unwrap();
    assert_eq!(pool.pin_id(wanted).err(), Some(MapError::Stale), "a dying object is not pinned");
    let next = |bytes: &[u8]| pool.alloc(bytes).unwrap();
    assert_ne!(id(&pool, next(b"beside")), wanted);
    drop(one);
    assert_ne!(id(&pool, next(b"beside")), wanted);
    assert_eq!((two.id(), two.handle(), two.bytes()), (wanted, old, Some(&b"live"[..])));
    assert!(!pool.contains(two.handle()));
    drop(two);
    let new = next(b"next");
    assert_eq!(id(&pool, new), wanted);
    let pinned = pool.pin_id(wanted).unwrap();
    assert!(pinned.handle() == new && new != old);
    assert_shows(&pinned, b"next");
    assert_eq!((pool.id(old), pool.pin(old).err()), (Some(wanted), Some(MapError::Stale)));
    assert_eq!(pool.ids(), 102);
    pool.check();
}

#[test]
fn ids_that_name_no_live_object_are_stale() {
    each_pool(|pool, _| {
        let stale = |id| assert_eq!(pool.pin_id(id).err(), Some(MapError::Stale), "{id}");
        let nothing = [0, 1, 1023, 1024, 1 << 20, u32::MAX - 1, u32::MAX];
        nothing.iter().for_each(|id| stale(*id));
        let handle = pool.alloc(b"first").unwrap();
        assert!(pool.pin_id(0).is_ok());
        nothing[1..].iter().for_each(|id| stale(*id));
        pool.free(handle).unwrap();
        stale(0);
        assert_eq!(pool.stats().failures.stale, 14);
        assert_eq!(pool.ids(), 1);
        pool.check();
    });
}

/// `id` is arithmetic: bits that lead beyond every table are nobody's.
#[test]
fn handles_that_cannot_be_of_a_pool_have_no_id() {
    let pool: Pool = Setup::new(Pages::Mmap).pool();
    let handle = pool.alloc(b"mine").unwrap();
    for bit in 50..64 {
        let forged = Handle::from_bits(handle.to_bits() ^ 1 << bit).unwrap();
        assert_eq!(pool.id(forged), None, "bit {bit}");
    }
    let all = (u64::from(u32::MAX) << 18) ^ handle.to_bits();
    assert_eq!(pool.id(Handle::from_bits(all).unwrap()), None, "no slot has this number");
}

#[test]
fn the_last_pin_ends_a_freed_object_and_its_record() {
    for pages in SOURCES {
        let pool = Setup::new(pages).pool();
        let tally = Tally::default();
        let handle = pool.alloc_record(tally.issue(), &[1; 3000]).unwrap();
        let (one, two) = (pool.pin(handle).unwrap(), pool.map(handle).unwrap());
        pool.free(handle).unwrap();
        drop(one);
        assert_eq!((two.record().number(), tally.drops(0)), (0, 0));
        drop(two);
        assert_eq!((tally.drops(0), pool.payload_bytes()), (1, 0));
        pool.trim();
        assert_eq!(pool.page_bytes(), 0);
        pool.check();
    }
}
