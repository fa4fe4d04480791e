//! At the limits of the operating system: mappings that are not made, memory that is not committed;
//! and a pool without addresses that holds more than the address space: zsmalloc's HIGHMEM.
#![cfg(all(target_os = "linux", not(zcache_loom)))]

use tests::limits::{self, Limit};
use tests::pattern;
use zcache::{Cache, Config as CacheConfig, InsertError};
use zpool::source::{Mmap, MmapOptions};
use zpool::{AllocError, Config, Handle, Pool, SourceKind};

/// What the child may map beyond what it has at the start.
const ROOM: u64 = 24 << 20;
/// What it stores.
const STORED: usize = 160 << 20;
const OBJECT: usize = 24_000;

/// The child: stores more than it can map, and reads all of it back.
fn store_and_read_back() {
    limits::set(Limit::AddressSpace, Some(mapped() + ROOM));
    // The C library has reserved up to 64 MiB for this thread's heap before.
    assert!(Vec::<u8>::new().try_reserve_exact(STORED).is_err(), "the limit is real");
    let pool: Pool = Pool::new(Config::new().source(SourceKind::Memfd)).unwrap();
    let mut bytes = vec![0; OBJECT];
    let handles: Vec<Handle> = (0..STORED / OBJECT)
        .map(|seed| {
            pattern::fill(seed as u64, &mut bytes);
            pool.alloc(&bytes).unwrap()
        })
        .collect();
    assert!(pool.stats().page_bytes as u64 > mapped());
    let mut copy = vec![0; OBJECT];
    for (seed, handle) in (0..).zip(&handles) {
        pattern::fill(seed, &mut bytes);
        assert!(*pool.map(*handle).unwrap() == *bytes, "object {seed}");
        if seed % 7 == 0 {
            assert_eq!(pool.read_into(*handle, &mut copy), Ok(OBJECT));
            assert!(copy == bytes);
            pool.map_mut(*handle).unwrap()[OBJECT / 2..].fill(1);
            assert!(pool.map(*handle).unwrap()[OBJECT / 2..].iter().all(|byte| *byte == 1));
        }
    }
    handles.iter().step_by(2).for_each(|handle| pool.free(*handle).unwrap());
    while !pool.compact(1 << 20).done {}
    pool.check();
}

/// Bytes of address space in use.
fn mapped() -> u64 {
    limits::used().0
}

#[test]
fn a_memfd_pool_holds_more_than_the_address_space() {
    limits::in_child("a_memfd_pool_holds_more_than_the_address_space", store_and_read_back);
}

/// Takes `handles` to be those of objects with their numbers in them.
fn assert_whole(pool: &Pool, handles: &[Handle], page: &mut [u8]) {
    for (seed, handle) in (0..).zip(handles) {
        pattern::fill(seed, page);
        assert!(*pool.map(*handle).unwrap() == *page, "object {seed}");
    }
}

/// The pool meets a limit of the system's, keeps what it has, and goes on once there is room again.
fn meets(limit: Limit, pool: &Pool) {
    // The first objects of their classes: what the pool needs once. So does this test.
    (1..5).for_each(|len| assert!(pool.alloc(&vec![1; len * 1000]).is_ok()));
    let mut handles: Vec<Handle> = Vec::with_capacity(100_000);
    let mut page = vec![0; 4000];
    let (space, data) = limits::used();
    limits::set(limit, Some(if limit == Limit::Data { data } else { space } + ROOM));
    let error = loop {
        pattern::fill(handles.len() as u64, &mut page);
        match pool.alloc(&page) {
            Ok(handle) => handles.push(handle),
            Err(error) => break error,
        }
    };
    let stored = handles.len() * page.len();
    assert_whole(pool, &handles, &mut page);
    // What is freed serves again, at the limit.
    let (all, half) = (handles.len(), handles.len() / 2);
    handles.drain(half..).for_each(|handle| pool.free(handle).unwrap());
    while handles.len() < all {
        pattern::fill(handles.len() as u64, &mut page);
        let Ok(handle) = pool.alloc(&page) else { break };
        handles.push(handle);
    }
    let again = handles.len() - half;
    assert_whole(pool, &handles, &mut page);
    limits::set(limit, None);
    assert_eq!(error, AllocError::NoMemory);
    assert!(pool.stats().failures.out_of_pages >= 1, "{}", pool.stats());
    // Regions that the heap has got back it may have unmapped, and cannot map again at such a
    // limit.
    let least = if limit == Limit::Data { all - half } else { (all - half) / 8 };
    assert!(again >= least, "{again} of {}", all - half);
    // The C library has reserved up to 64 MiB for this thread's heap before.
    assert!((ROOM as usize / 2..96 << 20).contains(&stored), "{stored} bytes stored");
    pool.check();
    for seed in handles.len()..handles.len() + 10_000 {
        pattern::fill(seed as u64, &mut page);
        handles.push(pool.alloc(&page).unwrap());
    }
    assert_whole(pool, &handles, &mut page);
    pool.check();
}

#[test]
fn a_pool_outlives_a_heap_that_gets_no_more_address_space() {
    limits::in_child("a_pool_outlives_a_heap_that_gets_no_more_address_space", || {
        meets(Limit::AddressSpace, &Pool::new(Config::new().source(SourceKind::Heap)).unwrap());
    });
}

#[test]
fn a_pool_outlives_a_range_that_cannot_be_committed() {
    limits::in_child("a_pool_outlives_a_range_that_cannot_be_committed", || {
        let range = MmapOptions::new().max_pages(1 << 16);
        meets(Limit::Data, &Pool::new(Config::new().source(SourceKind::Mmap(range))).unwrap());
    });
}

/// Lines of the table of mappings of this process.
fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// Whether the program could map so many bytes now.
fn could_map(bytes: u64) -> bool {
    // SAFETY: a new mapping wherever the system likes touches no memory that is in use.
    let start = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        libc::mmap(std::ptr::null_mut(), bytes as usize, libc::PROT_NONE, flags, -1, 0)
    };
    // SAFETY: what was mapped above, and nobody uses.
    start != libc::MAP_FAILED && unsafe { libc::munmap(start, bytes as usize) } == 0
}

#[test]
fn thousands_of_small_pools_and_caches_live_beside_everything_else() {
    limits::in_child("thousands_of_small_pools_and_caches_live_beside_everything_else", || {
        let (space, maps) = (mapped(), mappings());
        let small = || Pool::new(Config::new().max_bytes(1 << 20)).unwrap();
        let pools: Vec<Pool> = (0..2000).map(|_| small()).collect();
        let handles: Vec<Handle> =
            pools.iter().map(|pool| pool.alloc(&[7; 3000]).unwrap()).collect();
        let each = (mapped() - space) / 2000;
        assert!(each < 65 << 20, "{each} bytes of address space for a pool of 1 MiB");
        let more = mappings() - maps;
        assert!(more < 2000 * 3, "{more} mappings for 2000 pools");
        assert!(pools.iter().zip(handles).all(|(pool, at)| *pool.map(at).unwrap() == [7; 3000]));
        drop(pools);
        assert!(mapped() - space < 256 << 20, "what pools reserved goes with them");

        let (space, config) = (mapped(), || CacheConfig::new(1 << 20).max_page(8192));
        let caches: Vec<Cache<u64>> = (0..500).map(|_| Cache::new(config()).unwrap()).collect();
        assert!(caches.iter().all(|cache| cache.insert(1, &[7; 4096]).is_ok()));
        let each = (mapped() - space) / 500;
        assert!(each < 65 << 20, "{each} bytes of address space for a cache of 1 MiB");
    });
}

#[test]
fn a_pool_of_a_tebibyte_takes_next_to_no_memory_until_it_is_filled() {
    limits::in_child("a_pool_of_a_tebibyte_takes_next_to_no_memory_until_it_is_filled", || {
        let resident = || limits::status("RssAnon:");
        let before = resident();
        let pool: Pool = Pool::new(Config::new().max_bytes(1 << 40)).unwrap();
        let taken = resident().saturating_sub(before);
        assert!(taken < 512 << 10, "{taken} bytes resident");
        assert_eq!(*pool.map(pool.alloc(&[3; 5000]).unwrap()).unwrap(), [3; 5000]);
        pool.check();
    });
}

/// Also beside other pools, as long as they have not been filled.
#[test]
fn a_limit_on_address_space_leaves_the_program_three_quarters_of_it() {
    limits::in_child("a_limit_on_address_space_leaves_the_program_three_quarters_of_it", || {
        const LEFT: u64 = 512 << 20;
        limits::set(Limit::AddressSpace, Some(mapped() + LEFT));
        let start = mapped();
        let config = Config::new().max_bytes(1 << 30);
        let first: Pool = Pool::new(config.clone()).unwrap();
        assert!(mapped() - start <= LEFT / 8 + (1 << 20), "{} bytes", mapped() - start);
        let others: Vec<Pool> = (0..20).map(|_| Pool::new(config.clone()).unwrap()).collect();
        let taken = mapped() - start;
        assert!(taken <= LEFT / 4 + (21 << 20), "{taken} bytes taken by 21 pools");
        assert!(could_map(LEFT * 7 / 10), "{taken} bytes taken");
        // A pool that is filled takes what it needs, in more and more ranges.
        let stored = (0..10_000).filter(|at| first.alloc(&vec![*at as u8; 24_000]).is_ok()).count();
        assert_eq!(stored, 10_000, "240 MB of the 512 MiB");
        others.iter().for_each(|pool| assert!(pool.alloc(&[1; 3000]).is_ok()));
        first.check();
    });
}

/// Pages beyond the first range, filled and freed in turns: what is read is what was stored.
#[test]
fn a_pool_under_a_limit_on_address_space_grows_by_ranges_and_shrinks() {
    limits::in_child("a_pool_under_a_limit_on_address_space_grows_by_ranges_and_shrinks", || {
        limits::set(Limit::AddressSpace, Some(mapped() + (160 << 20)));
        let pool: Pool = Pool::new(Config::new()).unwrap();
        let mut handles: Vec<Handle> = Vec::with_capacity(40_000);
        let mut page = vec![0; 4000];
        for _ in 0..3 {
            while handles.len() < 20_000 {
                pattern::fill(handles.len() as u64, &mut page);
                handles.push(pool.alloc(&page).unwrap());
            }
            assert!(
                pool.page_bytes() > 64 << 20,
                "far more than the first range, a share of 160 MiB"
            );
            assert_whole(&pool, &handles, &mut page);
            pool.check();
            handles.drain(2000..).for_each(|handle| pool.free(handle).unwrap());
            pool.trim();
            assert!(pool.page_bytes() < 12 << 20);
            handles.iter().for_each(|handle| pool.prefetch_bytes(*handle));
            assert_whole(&pool, &handles, &mut page);
        }
    });
}

#[test]
fn a_range_that_cannot_be_had_is_an_error_or_a_smaller_one() {
    limits::in_child("a_range_that_cannot_be_had_is_an_error_or_a_smaller_one", || {
        limits::set(Limit::AddressSpace, Some(mapped() + ROOM));
        let wanted = MmapOptions::new().max_pages(1 << 15);
        assert!(Mmap::new(wanted).is_err() && Mmap::new(wanted).is_err());
        let fixed = SourceKind::Mmap(wanted);
        assert!(Pool::<()>::new(Config::new().source(fixed.clone())).is_err());
        let config = CacheConfig::new(16 << 20).source(fixed);
        assert!(Cache::<u64>::new(config).is_err(), "no cache without its pool");
        // By default as much as there is.
        let pool: Pool = Pool::new(Config::new()).unwrap();
        assert_eq!(*pool.map(pool.alloc(&[3; 5000]).unwrap()).unwrap(), [3; 5000]);
        let cache: Cache<u64> = Cache::new(CacheConfig::new(4 << 20).max_page(4096)).unwrap();
        cache.insert(1, &[1; 4096]).unwrap();
        assert_eq!(cache.get(&1).as_deref(), Some(&[1; 4096][..]));
    });
}

/// Pages of so many bytes, together more than the address space that may be left.
const PAGE: usize = 40_000;
const KEYS: u64 = (100 << 20) / PAGE as u64;

/// The cache is told of more than it can have.
fn cache_meets(limit: Limit, source: SourceKind) {
    let config = CacheConfig::new(256 << 20).max_page(48 << 10).shards(16);
    let cache: Cache<u64> = Cache::new(config.source(source)).unwrap();
    let (mut page, mut read, mut to) = (vec![0; PAGE], vec![0; PAGE], vec![0; PAGE]);
    let mut insert = |key: u64| {
        pattern::fill(key, &mut page);
        cache.insert(key, &page)
    };
    (0..100).for_each(|key| insert(key).unwrap());
    let (space, data) = limits::used();
    limits::set(limit, Some(if limit == Limit::Data { data } else { space } + ROOM));
    let mut refused = 0;
    for key in 100..KEYS {
        match insert(key) {
            Ok(()) => {}
            Err(error) => {
                assert!(matches!(error, InsertError::NoMemory { .. }), "{error}");
                refused += 1;
            }
        }
    }
    let verify = |page: &mut [u8], to: &mut [u8]| {
        let mut found = 0;
        for key in 0..KEYS {
            if let Some(len) = cache.get_into(&key, to).unwrap() {
                pattern::fill(key, page);
                assert!(to[..len] == *page, "key {key}");
                found += 1;
            }
        }
        assert_eq!(found, cache.len());
    };
    verify(&mut read, &mut to);
    limits::set(limit, None);
    let stats = cache.stats();
    assert_eq!((stats.rejected.no_memory, stats.rejected.no_room), (refused, 0), "{stats}");
    assert!(
        refused > 0 && stats.removals.evicted == 0,
        "the limit was met, and evicts nobody: {stats}"
    );
    assert!(cache.stats().bytes.payload > ROOM as usize / 4, "{}", cache.stats());
    cache.check();
    (0..KEYS).for_each(|key| insert(key).unwrap());
    verify(&mut read, &mut to);
    assert_eq!(cache.len() as u64, KEYS, "{}", cache.stats());
    cache.check();
}

#[test]
fn a_cache_outlives_a_heap_that_gets_no_more_address_space() {
    limits::in_child("a_cache_outlives_a_heap_that_gets_no_more_address_space", || {
        cache_meets(Limit::AddressSpace, SourceKind::Heap);
    });
}

#[test]
fn a_cache_outlives_a_range_that_cannot_be_committed() {
    limits::in_child("a_cache_outlives_a_range_that_cannot_be_committed", || {
        cache_meets(Limit::Data, SourceKind::Mmap(MmapOptions::new().max_pages(1 << 17)));
    });
}
