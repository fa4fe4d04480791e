//! Sizes, seams and bytes at the edges, on every page size and source.
#![cfg(not(zcache_loom))]

use tests::oracle::assert_stale;
use tests::pattern;
use tests::ram::Ram;
use tests::setups::{Pages, Setup};
use zpool::source::{Heap, Mmap, MmapOptions, most_pages};
use zpool::{AllocError, Config, ConfigError, Handle, MapError, Pool, ReadError, WriteError};

const PAGE_SIZES: [usize; 5] = [4096, 8192, 16384, 32768, 65536];
const SOURCES: [Pages; 6] =
    [Pages::Heap(1), Pages::Mmap, Pages::Huge, Pages::Ranges, Pages::Memfd, Pages::Ram];

/// Every source with every page size.
fn each_pool(max_object: usize, mut f: impl FnMut(&Pool, &Setup)) {
    for pages in SOURCES {
        for page_size in PAGE_SIZES {
            let setup = Setup { page_size, max_object, ..Setup::new(pages) };
            f(&setup.pool(), &setup);
        }
    }
}

fn read(pool: &Pool, handle: Handle) -> Vec<u8> {
    pool.map(handle).unwrap().to_vec()
}

#[test]
fn objects_of_every_edge_length_come_back_whole() {
    each_pool(256 << 10, |pool, setup| {
        let edges = [1, 15, 16, 17, 31, 32, 33, 2047, 2048, 2049, setup.max_object - 1];
        let pages = PAGE_SIZES.iter().flat_map(|size| [size - 1, *size, size + 1]);
        let lens: Vec<usize> = edges.into_iter().chain(pages).chain([setup.max_object]).collect();
        let handles: Vec<Handle> = (lens.iter())
            .map(|len| pool.alloc(&pattern::bytes(*len as u64, *len)).unwrap())
            .collect();
        pool.check();
        for (handle, len) in handles.iter().zip(&lens) {
            assert!(read(pool, *handle) == pattern::bytes(*len as u64, *len), "{len} {setup:?}");
            assert!(pool.slot_bytes(*len) >= *len);
        }
        handles.into_iter().for_each(|handle| pool.free(handle).unwrap());
        pool.trim();
        assert_eq!(pool.stats().pages, 0, "{setup:?}");
    });
}

#[test]
fn an_object_of_no_bytes_has_a_handle_and_no_place() {
    each_pool(4096, |pool, _| {
        let handle = pool.alloc(&[]).unwrap();
        let other = pool.alloc_with(0, |bytes| assert!(bytes.is_empty())).unwrap();
        assert_ne!(handle, other);
        assert!(pool.map(handle).unwrap().is_empty() && !pool.map(handle).unwrap().is_copy());
        assert!(pool.map_mut(handle).unwrap().is_empty());
        assert_eq!(pool.read_into(handle, &mut []), Ok(0));
        assert_eq!((pool.object_len(handle), pool.slot_bytes(0)), (Ok(0), 0));
        let stats = pool.stats();
        assert_eq!((stats.objects, stats.payload_bytes, stats.pages), (2, 0, 0));
        // It can grow, and shrink to nothing again.
        pool.map_write(handle, 100).unwrap().fill(7);
        assert_eq!(read(pool, handle), [7; 100]);
        pool.map_write(handle, 0).unwrap().finish().unwrap();
        assert_eq!((read(pool, handle), pool.stats().payload_bytes), (vec![], 0));
        pool.check();
        pool.free(handle).unwrap();
        assert_stale(pool, handle);
    });
}

#[test]
fn beyond_max_object_is_refused_and_counted_up_to_usize_max() {
    each_pool(5000, |pool, _| {
        let kept = pool.alloc(b"kept").unwrap();
        let lens = [5001, 1 << 20, 1 << 31, isize::MAX as usize, usize::MAX - 4095, usize::MAX];
        for len in lens {
            let refused = Err(AllocError::TooLarge(len));
            assert_eq!(pool.alloc_with(len, |_| panic!("called for {len} bytes")), refused);
            let refused = pool.map_write(kept, len).err();
            assert_eq!(refused, Some(WriteError::Alloc(AllocError::TooLarge(len))));
            assert_eq!(pool.slot_bytes(len), pool.slot_bytes(5000));
        }
        assert_eq!(pool.alloc(&[0; 5001]), Err(AllocError::TooLarge(5001)));
        assert_eq!(pool.stats().failures.too_large, 2 * lens.len() as u64 + 1);
        assert_eq!((read(pool, kept), pool.len()), (b"kept".to_vec(), 1));
        pool.check();
    });
}

#[test]
fn configs_out_of_range_make_no_pool() {
    for size in [0, 1, 2048, 4095, 5000, 1 << 17, usize::MAX] {
        let made = Pool::<()>::new(Config::new().page_size(size));
        assert!(matches!(made, Err(ConfigError::PageSize(wrong)) if wrong == size), "{size}");
    }
    for size in [0, (256 << 10) + 1, usize::MAX] {
        let made = Pool::<()>::new(Config::new().max_object(size));
        assert!(matches!(made, Err(ConfigError::MaxObject(wrong)) if wrong == size), "{size}");
    }
    for bytes in [4096, 10_000] {
        let made = Pool::<()>::with_source(Config::new().max_bytes(bytes), Heap::new(4096));
        assert!(matches!(made, Err(ConfigError::TooSmall(least)) if least > bytes), "{bytes}");
    }
}

/// No cap is so small that `new` panics or promises what it cannot hold.
#[test]
fn the_smallest_caps_are_refused_or_hold() {
    for bytes in [0, 1, 4095, 4096, 20_000, 30_000, 40_000, 60_000] {
        match Pool::<()>::new(Config::new().max_bytes(bytes)) {
            Ok(pool) => {
                let _ = pool.alloc(&[1; 100]);
                assert!(pool.stats().peak_bytes <= bytes);
            }
            Err(error) => assert!(matches!(error, ConfigError::TooSmall(_)), "{bytes}: {error}"),
        }
    }
    for pages in [0, 1] {
        let pool: Pool = Pool::new(Config::new().max_pages(pages)).unwrap();
        assert_eq!(pool.alloc(&[1; 100]).is_ok(), pages == 1);
        assert!(pool.alloc(&[]).is_ok(), "no bytes need no page");
        assert_eq!(pool.alloc(&[1; 4097]), Err(AllocError::OutOfPages));
        pool.check();
    }
}

/// Regions of one page: every boundary between pages is a true seam.
#[test]
fn objects_over_a_seam_are_copied_right_and_counted() {
    for page_size in PAGE_SIZES {
        let source = Heap::with_region_pages(page_size, 1);
        let pool: Pool = Pool::with_source(Config::new(), source).unwrap();
        let len = page_size / 4 * 3; // 4 in 3 pages: two of four cross a boundary
        let handles: Vec<Handle> =
            (0..40).map(|seed| pool.alloc(&pattern::bytes(seed, len)).unwrap()).collect();
        let is_copy = |handle: &&Handle| pool.map(**handle).unwrap().is_copy();
        let crossing: Vec<Handle> = handles.iter().filter(is_copy).copied().collect();
        assert!(crossing.len() >= handles.len() / 4, "{} cross at {page_size}", crossing.len());
        let before = pool.stats();
        for (seed, handle) in (0..).zip(&handles) {
            assert!(read(&pool, *handle) == pattern::bytes(seed, len));
        }
        let after = pool.stats();
        assert_eq!(after.copied_maps - before.copied_maps, crossing.len() as u64);
        let bytes = (crossing.len() * len) as u64;
        assert_eq!(after.copied_bytes - before.copied_bytes, bytes);
        for (seed, handle) in (0..).zip(&crossing) {
            // Over the seam: the whole middle.
            let mut map = pool.map_mut(*handle).unwrap();
            pattern::fill(100 + seed, &mut map[8..len - 8]);
            let expected = map.to_vec();
            map.finish().unwrap();
            assert!(read(&pool, *handle) == expected);
            let mut map = pool.map_write(*handle, len - 1).unwrap();
            assert!(map.iter().all(|byte| *byte == 0));
            pattern::fill(seed, &mut map);
            map.finish().unwrap();
            let mut to = vec![0; len];
            assert_eq!(pool.read_into(*handle, &mut to), Ok(len - 1));
            assert!(to[..len - 1] == pattern::bytes(seed, len - 1));
        }
        pool.check();
        // The same through compaction: copies over seams on both sides.
        handles.iter().step_by(2).for_each(|handle| pool.free(*handle).unwrap());
        let left: Vec<(Handle, Vec<u8>)> = handles
            .iter()
            .skip(1)
            .step_by(2)
            .map(|handle| (*handle, read(&pool, *handle)))
            .collect();
        assert!(pool.compact(usize::MAX).objects_moved > 0);
        left.iter().for_each(|(handle, bytes)| assert!(read(&pool, *handle) == *bytes));
        pool.check();
    }
}

#[test]
fn a_buffer_that_is_too_short_is_left_alone() {
    each_pool(4096, |pool, _| {
        let handle = pool.alloc(&[9; 100]).unwrap();
        let mut to = [1; 99];
        assert_eq!(pool.read_into(handle, &mut to), Err(ReadError::BufferTooSmall(100)));
        assert_eq!(to, [1; 99]);
        let mut to = [1; 101];
        assert_eq!((pool.read_into(handle, &mut to), to[99], to[100]), (Ok(100), 9, 1));
    });
}

/// With and without `zero_on_free`: the places are used again, the old bytes never show.
#[test]
fn fresh_places_never_show_old_bytes() {
    for zero_on_free in [false, true] {
        for pages in SOURCES {
            let setup = Setup { zero_on_free, max_pages: 16, ..Setup::new(pages) };
            let pool: Pool = setup.pool();
            let held = pool.alloc(&[0x55; 64]).unwrap();
            for len in [16, 100, 700, 3000, 4096, 9000] {
                let old: Vec<Handle> =
                    std::iter::from_fn(|| pool.alloc(&vec![0xaa; len]).ok()).collect();
                assert!(old.len() > 3);
                old.into_iter().for_each(|handle| pool.free(handle).unwrap());
                let zeros = |bytes: &mut [u8]| assert!(bytes.iter().all(|byte| *byte == 0));
                let fresh = pool.alloc_with(len, zeros).unwrap();
                assert!(read(&pool, fresh).iter().all(|byte| *byte == 0));
                let mut map = pool.map_write(held, len).unwrap();
                zeros(&mut map);
                map.finish().unwrap();
                assert!(read(&pool, held).iter().all(|byte| *byte == 0), "{len} {setup:?}");
                pool.free(fresh).unwrap();
            }
        }
    }
}

#[test]
fn zero_on_free_leaves_no_byte_behind() {
    for zero_on_free in [true, false] {
        let config = || Config::new().zero_on_free(zero_on_free);
        let (source, window) = Ram::new(4096);
        let pool: Pool = Pool::with_source(config(), source).unwrap();
        let secret = |tag: u8| [tag; 24];
        let object = |tag: u8| [&[0x11; 3000][..], &secret(tag)[..], &[0x11; 500][..]].concat();
        let keep: Vec<Handle> = (0..6).map(|_| pool.alloc(&object(0x11)).unwrap()).collect();
        // Freed.
        let freed = pool.alloc(&object(0xf1)).unwrap();
        assert!(window.shows(&secret(0xf1)));
        pool.free(freed).unwrap();
        assert_eq!(window.shows(&secret(0xf1)), !zero_on_free, "freed");
        // Freed under a guard.
        let freed = pool.alloc(&object(0xf2)).unwrap();
        let map = pool.map(freed).unwrap();
        pool.free(freed).unwrap();
        assert!(window.shows(&secret(0xf2)) && *map == object(0xf2));
        drop(map);
        assert_eq!(window.shows(&secret(0xf2)), !zero_on_free, "freed under a guard");
        // Replaced by a shorter object, and a longer one.
        let replaced = pool.alloc(&object(0xf3)).unwrap();
        pool.map_write(replaced, 10).unwrap().finish().unwrap();
        assert_eq!(window.shows(&secret(0xf3)), !zero_on_free, "replaced");
        // Written, then given up.
        let mut map = pool.map_write(replaced, 3524).unwrap();
        map.copy_from_slice(&object(0xf4));
        map.cancel();
        assert!(!window.shows(&secret(0xf4)) || !zero_on_free, "given up");
        // Moved: nothing stays where it was.
        let moved = pool.alloc(&object(0xf5)).unwrap();
        keep.into_iter().for_each(|handle| pool.free(handle).unwrap());
        pool.compact(usize::MAX);
        assert!(window.shows(&secret(0xf5)));
        pool.free(moved).unwrap();
        assert_eq!(window.shows(&secret(0xf5)), !zero_on_free, "moved, then freed");
        pool.check();
    }
}

/// Each reserves a terabyte, or a gibibyte of few: what one left behind would soon be missed.
#[test]
fn pools_with_live_objects_are_dropped_whole() {
    each_pool(4096, |pool, _| {
        (0..50).for_each(|len| assert!(pool.alloc(&vec![1; len * 80]).is_ok()))
    });
    for _ in 0..300 {
        let most = if cfg!(target_pointer_width = "64") { most_pages(4096) } else { 1 << 18 };
        let source = Mmap::new(MmapOptions::new().max_pages(most)).unwrap();
        let pool: Pool = Pool::with_source(Config::new(), source).unwrap();
        assert!(pool.alloc(&[1; 3000]).is_ok());
    }
}

#[test]
fn a_budget_of_nothing_moves_nothing_and_done_means_done() {
    let pool: Pool = Setup::new(Pages::Mmap).pool();
    let handles: Vec<Handle> = (0..400).map(|_| pool.alloc(&[3; 1000]).unwrap()).collect();
    handles.iter().step_by(3).for_each(|handle| pool.free(*handle).unwrap());
    let before = pool.stats();
    assert_eq!((pool.compact(0).bytes_moved, pool.stats().classes), (0, before.classes));
    let (mut calls, mut freed) = (0, 0);
    loop {
        let did = pool.compact(1);
        assert!(did.bytes_moved <= 1000, "a budget is passed by less than one object");
        (calls, freed) = (calls + 1, freed + did.pages_freed);
        if did.done {
            break;
        }
    }
    assert!(calls > 10 && freed > 0);
    let did = pool.compact(usize::MAX);
    assert!(did.done && did.bytes_moved == 0 && did.pages_freed == 0, "{did:?}");
    pool.check();
}

/// What a reader's last guard leaves empty goes with the next compaction or trim.
#[test]
fn pages_emptied_by_a_reader_are_given_back() {
    for compacts in [true, false] {
        let pool: Pool = Setup::new(Pages::Mmap).pool();
        let handle = pool.alloc(&[1; 3000]).unwrap();
        let map = pool.map(handle).unwrap();
        pool.free(handle).unwrap();
        drop(map);
        if compacts {
            pool.compact(usize::MAX);
        } else {
            pool.trim();
        }
        assert_eq!(pool.stats().classes, []);
    }
}

#[test]
fn caps_can_be_lowered_and_raised_at_run_time() {
    for pages in SOURCES {
        let pool: Pool = Setup { max_pages: 10, ..Setup::new(pages) }.pool();
        let fill = || std::iter::from_fn(|| pool.alloc(&[5; 4096]).ok()).count();
        assert_eq!(fill(), 10, "{pages:?}");
        pool.set_max_pages(25);
        assert_eq!(fill(), 15, "a raised cap is there to be used: {pages:?}");
        pool.set_max_pages(3);
        assert_eq!((fill(), pool.len()), (0, 25), "nothing is freed by a cap");
        pool.set_max_pages(usize::MAX);
        pool.set_max_bytes(pool.held_bytes());
        assert_eq!(fill(), 0);
        pool.check();
    }
}

#[test]
fn pages_come_from_the_options_given() {
    let options = MmapOptions::new().max_pages(7).dont_dump(true).dont_fork(true);
    let pool: Pool = Pool::with_source(Config::new(), Mmap::new(options).unwrap()).unwrap();
    assert_eq!(std::iter::from_fn(|| pool.alloc(&[5; 4096]).ok()).count(), 7);
    let handle = pool.alloc(&[]).unwrap();
    assert_eq!(pool.map_write(handle, 9).err(), Some(WriteError::Alloc(AllocError::OutOfPages)));
    assert_eq!(pool.map(Handle::from_bits(1).unwrap()).err(), Some(MapError::Stale));
}
