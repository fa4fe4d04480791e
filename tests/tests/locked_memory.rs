//! Processes that lock their memory (`mlockall`), and systems that take no page back: what is freed
//! serves again, what is held is counted, and reserved address space is not locked.
#![cfg(all(target_os = "linux", not(zcache_loom)))]
#![allow(clippy::print_stdout, reason = "says what this system does not allow")]

use std::ptr::NonNull;
use std::sync::Mutex;

use tests::limits::{self, Limit};
use tests::pattern;
use zcache::{Cache, Config as CacheConfig};
use zpool::source::{Access, Ledger, Mmap, MmapOptions, PageSource, SourceError};
use zpool::{AllocError, Config, Handle, MapError, Pool, Words};

/// Bytes of this process that are locked.
fn locked() -> u64 {
    limits::status("VmLck:")
}

fn resident() -> u64 {
    limits::status("RssAnon:")
}

/// Runs `body` in a process of its own that locks all that it has and gets.
fn in_locked_child(name: &str, body: impl FnOnce()) {
    limits::in_child(name, || {
        if limits::lock_memory(true) {
            body();
        } else {
            println!("not tried: this system does not let us lock memory");
        }
    });
}

fn store(pool: &Pool, seed: u64) -> Result<Handle, AllocError> {
    pool.alloc(&pattern::bytes(seed, 3000))
}

fn assert_whole(pool: &Pool, objects: &[(u64, Handle)]) {
    for (seed, handle) in objects {
        assert!(*pool.map(*handle).unwrap() == pattern::bytes(*seed, 3000), "object {seed}");
    }
}

/// Whether the system takes locked pages back (Linux 5.18), or what was freed is kept and counted.
fn is_given_back(pool: &Pool) -> bool {
    let stats = pool.stats();
    let used: usize = stats.classes.iter().map(|class| class.pages).sum();
    assert_eq!(stats.pages, used + stats.pages_kept, "{stats}");
    stats.pages_kept == 0
}

#[test]
fn a_locked_process_locks_what_its_pool_holds_and_no_reserve() {
    in_locked_child("a_locked_process_locks_what_its_pool_holds_and_no_reserve", || {
        let (before, had) = (locked(), resident());
        let pool: Pool = Pool::new(Config::new()).unwrap();
        let caps = [1 << 20, 64 << 20, 1 << 30, 1 << 40];
        let capped = caps.map(|cap| Pool::<()>::new(Config::new().max_bytes(cap)).unwrap());
        assert!(locked() - before < 2 << 20, "{} bytes of reserves are locked", locked() - before);
        assert!(resident() - had < 2 << 20);
        let mut objects: Vec<_> =
            (0..10_000).map(|seed| (seed, store(&pool, seed).unwrap())).collect();
        let held = pool.page_bytes() as u64;
        assert!(locked() - before >= held, "{held} bytes of pages are locked");
        // What the frontier is ahead by is locked from its first use on, and holds nothing.
        assert!(resident() - had < held + (6 << 20), "{} for {held}", resident() - had);
        assert_whole(&pool, &objects);
        for (_, handle) in objects.drain(2000..) {
            pool.free(handle).unwrap();
        }
        while !pool.compact(1 << 20).done {}
        pool.trim();
        if is_given_back(&pool) {
            assert!(pool.page_bytes() < 7 << 20 && resident() - had < 14 << 20);
        } else {
            println!("this system keeps locked pages: {} pages", pool.stats().pages_kept);
        }
        let before = pool.page_bytes().max(24 << 20);
        objects.extend((2000..8000).map(|seed| (seed, store(&pool, seed).unwrap())));
        assert!(pool.page_bytes() <= before, "what was freed serves again");
        assert_whole(&pool, &objects);
        capped.iter().chain([&pool]).for_each(Pool::check);
    });
}

/// Locked after the pool was made and filled: nothing has told it.
#[test]
fn a_pool_whose_process_locks_its_memory_later_goes_on() {
    limits::in_child("a_pool_whose_process_locks_its_memory_later_goes_on", || {
        let pool: Pool = Pool::new(Config::new().max_bytes(16 << 20)).unwrap();
        let mut objects: Vec<_> =
            (0..1000).map(|seed| (seed, store(&pool, seed).unwrap())).collect();
        if !limits::lock_memory(true) {
            return println!("not tried: this system does not let us lock memory");
        }
        let mut seed = 1000;
        for round in 0..20 {
            while let Ok(handle) = store(&pool, seed) {
                (objects.push((seed, handle)), seed += 1).1
            }
            assert!(objects.len() > 4000, "{} objects in 16 MiB", objects.len());
            assert_whole(&pool, &objects);
            let half = objects.split_off(round * 100);
            half.into_iter().for_each(|(_, handle)| pool.free(handle).unwrap());
            pool.trim();
            is_given_back(&pool);
            pool.check();
        }
        // SAFETY: unlocking changes no byte.
        assert_eq!(unsafe { libc::munlockall() }, 0);
        objects.drain(..).for_each(|(_, handle)| pool.free(handle).unwrap());
        pool.trim();
        assert_eq!(pool.stats().pages, 0, "unlocked pages are given back");
        pool.check();
    });
}

/// A limit on locked memory is a limit like any other: what fits is stored, and the rest is
/// refused.
#[test]
fn a_limit_on_locked_memory_is_met_by_pages_and_not_by_reserves() {
    limits::in_child("a_limit_on_locked_memory_is_met_by_pages_and_not_by_reserves", || {
        const MOST: u64 = 6 << 20; // less than any system's hard limit
        limits::set(Limit::LockedMemory, Some(MOST));
        limits::drop_rights();
        if !limits::lock_memory(false) {
            return println!("not tried: this system does not let us lock memory");
        }
        // A gibibyte is reserved, of which 6 MiB may be locked.
        let pool: Pool = Pool::new(Config::new().max_bytes(512 << 20)).unwrap();
        let mut objects = Vec::with_capacity(30_000);
        let error = loop {
            match store(&pool, objects.len() as u64) {
                Ok(handle) => objects.push((objects.len() as u64, handle)),
                Err(error) => break error,
            }
        };
        // Whether pages or the tables met it first.
        assert!(matches!(error, AllocError::OutOfPages | AllocError::NoMemory), "{error}");
        let stored = objects.len() * 3000;
        assert!((MOST as usize / 4..MOST as usize).contains(&stored), "{stored} bytes");
        assert_whole(&pool, &objects);
        let all = objects.len();
        objects.drain(all / 2..).for_each(|(_, handle)| pool.free(handle).unwrap());
        while objects.len() < all * 9 / 10 {
            objects.push((objects.len() as u64, store(&pool, objects.len() as u64).unwrap()));
        }
        assert_whole(&pool, &objects);
        pool.check();
    });
}

#[test]
fn a_cache_in_a_locked_process_evicts_shrinks_and_fills_again() {
    in_locked_child("a_cache_in_a_locked_process_evicts_shrinks_and_fills_again", || {
        let before = locked();
        let cache: Cache<u64> = Cache::new(CacheConfig::new(16 << 20).max_page(4096)).unwrap();
        assert!(locked() - before < 8 << 20, "{} bytes", locked() - before);
        let page = |key| pattern::bytes(key, 4000);
        (0..12_000).for_each(|key| cache.insert(key, &page(key)).unwrap());
        let filled = cache.len();
        assert!(filled > 3000, "{filled} entries");
        let found = (0..12_000).filter(|key| {
            cache.get(key).inspect(|found| assert!(*found == page(*key), "key {key}")).is_some()
        });
        assert_eq!(found.count(), filled);
        cache.check();
        cache.clear();
        cache.trim();
        (0..12_000).for_each(|key| cache.insert(key, &page(key)).unwrap());
        assert!(cache.len() > filled * 9 / 10, "{} of {filled} entries", cache.len());
        cache.check();
    });
}

/// A source over a system that takes no page back.
#[derive(Debug)]
struct Keeping {
    inner: Mmap,
    free: Mutex<Vec<u32>>,
}

impl Keeping {
    fn new() -> Self {
        let inner = Mmap::new(MmapOptions::new().first_pages(1 << 12)).unwrap();
        Self { inner, free: Mutex::default() }
    }
}

// SAFETY: `inner` keeps the contract, and a page that it handed out is handed out again only when
// it was given back here.
unsafe impl PageSource for Keeping {
    fn page_size(&self) -> usize {
        self.inner.page_size()
    }

    fn capacity(&self) -> u32 {
        self.inner.capacity()
    }

    fn access(&self) -> Access {
        self.inner.access()
    }

    fn take(&self, after: Option<u32>, more: usize, ledger: &Ledger) -> Result<u32, SourceError> {
        match self.free.lock().unwrap().pop() {
            Some(page) => Ok(page),
            None if ledger.headroom() < ledger.held() / 32 => Err(SourceError::Refused),
            None => self.inner.take(after, more, ledger),
        }
    }

    fn give(&self, pages: &[u32], _: &Ledger) {
        self.free.lock().unwrap().extend(pages);
    }

    fn trim(&self, _: &Ledger) {}

    fn kept(&self) -> usize {
        self.free.lock().unwrap().len() + self.inner.kept()
    }

    fn joined(&self, page: u32) -> bool {
        self.inner.joined(page)
    }

    unsafe fn address(&self, page: u32) -> NonNull<u8> {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.address(page) }
    }
}

#[test]
fn a_pool_at_its_cap_goes_on_with_pages_that_the_system_does_not_take_back() {
    let pool: Pool = Pool::with_source(Config::new().max_bytes(8 << 20), Keeping::new()).unwrap();
    let mut objects = Vec::new();
    let (mut seed, mut read) = (0, 0);
    for round in 0..30 {
        // Another size each time: no free slot serves, only free pages.
        let len = 500 + round * 97;
        let bytes = |seed| pattern::bytes(seed, len);
        while let Ok(handle) = pool.alloc(&bytes(seed)) {
            objects.push((seed, handle));
            seed += 1;
        }
        let stored = pool.payload_bytes();
        assert!(stored > 6 << 20, "{stored} bytes of 8 MiB in round {round}");
        assert!(pool.held_bytes() <= 8 << 20);
        for (seed, handle) in objects.drain(..) {
            match pool.map(handle) {
                Ok(map) => assert!(*map == bytes(seed), "object {seed}"),
                Err(error) => assert_eq!(error, MapError::OutOfMemory, "a copy at the cap"),
            }
            read += 1;
            pool.free(handle).unwrap();
        }
        pool.trim();
        pool.compact(1 << 20);
        let stats = pool.stats();
        assert_eq!(stats.pages, stats.pages_kept, "{stats}");
        pool.check();
    }
    assert_eq!(read, seed);
}

#[test]
fn a_cache_over_a_system_that_takes_nothing_back_refuses_nothing() {
    let config = CacheConfig::new(8 << 20).max_page(8192).page_source(Keeping::new());
    let cache: Cache<u64> = Cache::new(config).unwrap();
    let page = |key: u64| pattern::bytes(key, 300 + key as usize * 7 % 7000);
    for key in 0..20_000 {
        cache.insert(key, &page(key)).unwrap();
    }
    assert!(cache.held_bytes() <= 8 << 20);
    assert!(cache.len() > 1000, "{}", cache.stats());
    cache.clear();
    cache.trim();
    for key in 0..20_000 {
        cache.insert(key, &page(key)).unwrap();
        assert!(cache.get(&key).unwrap() == page(key));
    }
    cache.check();
}

/// The first page of each block is used, and a lock does not fill the rest.
#[test]
fn words_that_were_never_opened_are_not_filled_by_a_lock() {
    limits::in_child("words_that_were_never_opened_are_not_filled_by_a_lock", || {
        // What the process has besides is filled once before.
        if !limits::lock_memory(true) {
            return println!("not tried: this system does not let us lock memory");
        }
        // SAFETY: unlocking changes no byte.
        assert_eq!(unsafe { libc::munlockall() }, 0);
        let (before, mut words) = (resident(), Words::new());
        for page in (0..10).map(|block| 16 * ((1 << block) - 1)) {
            words.open(page).unwrap();
            words.set(page * Words::page_words(), 7);
        }
        assert!(limits::lock_memory(true));
        let filled = resident() - before;
        assert!(filled < 1 << 20, "{filled} bytes for ten pages");
        assert_eq!(words.get(16 * Words::page_words()), 7);
    });
}

/// Tables whose memory the system does not take back while it is locked stay charged, and give it
/// back when they are trimmed after that.
#[test]
fn tables_that_shrink_while_they_are_locked_are_trimmed_later() {
    in_locked_child("tables_that_shrink_while_they_are_locked_are_trimmed_later", || {
        let pool: Pool = Pool::new(Config::new().max_bytes(16 << 20)).unwrap();
        let (frames, lines) = (pool.frames::<()>(512, 1).unwrap(), pool.lines(64));
        (0..3).for_each(|_| assert!(frames.grow().is_ok() && lines.grow().is_ok()));
        let long = (frames.table_bytes(), lines.table_bytes());
        assert_eq!(long, (7 * 4096, 7 * 4096));
        while frames.shrink() {}
        while lines.shrink() {}
        assert_eq!((frames.slots(), lines.len()), (512, 64));
        let kept = (frames.table_bytes(), lines.table_bytes());
        assert!(kept == long || kept == (0, 0), "{kept:?}");
        // What is kept is used again before anything else is charged.
        (0..2).for_each(|_| assert!(frames.grow().is_ok() && lines.grow().is_ok()));
        assert!(frames.table_bytes() <= long.0 && lines.table_bytes() <= long.1);
        while frames.shrink() {}
        while lines.shrink() {}
        // SAFETY: unlocking changes no byte.
        assert_eq!(unsafe { libc::munlockall() }, 0);
        frames.trim();
        lines.trim();
        assert_eq!((frames.table_bytes(), lines.table_bytes()), (0, 0));
        pool.check();
    });
}
