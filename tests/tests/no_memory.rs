//! The heap fails: wherever the pool asks for memory while it works, it takes no for an answer, and
//! so does a cache in `insert`, `get_into` and `remove`.
//!
//! Not so `Pool::new`, `stats` and `check`: what fails there ends the process, as everywhere in
//! Rust.
#![cfg(not(zcache_loom))]
#![allow(clippy::print_stdout, reason = "figures for who asks for them by --nocapture")]

use tests::alloc::{Watched, failing, failing_from};
use tests::pattern;
use tests::setups::{Pages, Setup};
use zcache::policy::{Lru, Policy, S3Fifo, Sieve};
use zcache::{Cache, Config, InsertError};
use zpool::{AllocError, Frames, Handle, Pool, SourceKind};

#[global_allocator]
static HEAP: Watched = Watched;

const LENS: [usize; 5] = [60, 700, 3000, 4096, 6000];
const OBJECTS: usize = 1200;

/// Works with the pool while the `nth` allocation fails; says how many there were.
fn work(pages: Pages, nth: usize) -> usize {
    let pool: Pool = Setup::new(pages).pool();
    let warm: Vec<Handle> = (LENS.iter())
        .flat_map(|len| {
            [pool.alloc(&vec![1; *len]).unwrap(), pool.alloc(&vec![1; len / 2]).unwrap()]
        })
        .collect();
    let buffers: Vec<Vec<u8>> = LENS.iter().map(|len| pattern::bytes(*len as u64, *len)).collect();
    let mut objects: Vec<(Handle, usize)> = Vec::with_capacity(OBJECTS);
    let ((refused, unmapped), calls) = failing(nth, || {
        let (mut refused, mut unmapped) = (0, 0);
        for at in 0..OBJECTS {
            let bytes = &buffers[at % LENS.len()];
            match pool.alloc(bytes) {
                Ok(handle) => objects.push((handle, at % LENS.len())),
                Err(_) => refused += 1,
            }
            if at % 50 == 0 {
                let Some((handle, _)) = objects.last() else { continue };
                unmapped += usize::from(pool.map(*handle).is_err());
                match pool.map_write(*handle, bytes.len()) {
                    Ok(mut map) => map.copy_from_slice(&buffers[objects[objects.len() - 1].1]),
                    Err(_) => unmapped += 1,
                }
                if objects.len() > 40 {
                    objects.drain(..20).for_each(|(handle, _)| pool.free(handle).unwrap());
                }
            }
        }
        pool.compact(usize::MAX);
        pool.trim();
        (refused, unmapped)
    });
    assert!(refused + unmapped <= 1, "one failure of the heap costs one call at most");
    pool.check();
    for (handle, len) in &objects {
        assert!(*pool.map(*handle).unwrap() == *buffers[*len]);
    }
    objects.iter().for_each(|(handle, _)| pool.free(*handle).unwrap());
    warm.iter().for_each(|handle| pool.free(*handle).unwrap());
    pool.trim();
    pool.check();
    assert_eq!((pool.stats().pages, pool.stats().payload_bytes), (0, 0));
    calls
}

#[test]
fn an_allocation_that_fails_costs_one_call_at_most() {
    for pages in [Pages::Heap(16), Pages::Mmap, Pages::Huge, Pages::Ranges, Pages::Memfd] {
        let calls = work(pages, 0);
        assert!(calls > 20, "{calls} on {pages:?}");
        for nth in (1..=calls).step_by(1 + calls / 120) {
            work(pages, nth);
        }
    }
}

#[test]
fn an_allocation_that_fails_says_whether_the_caps_or_the_system_refused() {
    for pages in [Pages::Heap(16), Pages::Mmap] {
        let pool: Pool = Setup::new(pages).pool();
        let (refused, _) = failing_from(1, true, || pool.alloc(&[1; 1000]));
        assert_eq!(refused, Err(AllocError::NoMemory), "{pages:?}");
        let (refused, _) = failing_from(1, true, || pool.try_alloc_record((), [&[1; 1000], &[]]));
        assert_eq!(refused.map_err(|(error, ())| error), Err(AllocError::NoMemory), "{pages:?}");
        pool.set_max_bytes(pool.held_bytes());
        assert_eq!(pool.alloc(&[1; 1000]), Err(AllocError::OutOfPages), "{pages:?}");
        pool.check();
    }
}

/// Fills frames and puts them into slots while the `nth` allocation fails, and all after it if that
/// goes on `forever`; says how many there were.
fn frame(pages: Pages, nth: usize, forever: bool) -> usize {
    let pool: Pool = Setup::new(pages).pool();
    let frames: Frames<u8> = pool.frames(4, 1).unwrap();
    frames.put(0, frames.fill(&[1; 4096]).unwrap(), 1);
    let held = pool.held_bytes();
    let (refused, calls) = failing_from(nth, forever, || {
        let mut refused = usize::from(frames.grow().is_err());
        for slot in [1, 2, 0] {
            match frames.fill(&[2; 12_000]) {
                Ok(filled) => drop(frames.put(slot, filled, 2)),
                Err(error) => {
                    assert_eq!(error, AllocError::NoMemory);
                    refused += 1;
                }
            }
            frames.collect();
        }
        refused
    });
    assert!((refused == 0) == (nth == 0) && (forever || refused <= 1), "{refused} of {nth}");
    pool.check();
    for slot in 0..4 {
        let reading = frames.read(0);
        let Some(frame) = reading.frame(slot) else { continue };
        let mut bytes = vec![0; frame.len()];
        frame.copy(&mut bytes);
        assert!(bytes.iter().all(|byte| byte == frame.head()));
    }
    drop(frames);
    assert_eq!((pool.stats().reserved_bytes, pool.stats().pages_framed), (0, 0));
    pool.trim();
    assert!(pool.held_bytes() <= held);
    pool.check();
    calls
}

#[test]
fn a_frame_takes_no_for_an_answer() {
    for pages in [Pages::Heap(16), Pages::Heap(1), Pages::Mmap] {
        let calls = frame(pages, 0, false);
        assert!(calls > 8, "{calls} on {pages:?}");
        for nth in 1..=calls {
            frame(pages, nth, false);
            frame(pages, nth, true);
        }
    }
}

/// Fills a cache while the `nth` allocation fails; says how many there were, and how many pages it
/// cost.
fn fill(policy: impl Policy + 'static, source: SourceKind, nth: usize) -> (usize, usize) {
    const KEYS: u64 = 3000;
    let config = Config::new(8 << 20).max_page(4096).shards(4).policy(policy).source(source);
    let cache: Cache<u64> = Cache::new(config).unwrap();
    let page = |key: u64| {
        let mut page = pattern::bytes(key, LENS[key as usize % 4]);
        page[30..].fill(7);
        page
    };
    let pages: Vec<Vec<u8>> = (0..KEYS).map(page).collect();
    // The first of their kinds: sizes of classes, a context, a buffer for the longest page.
    for len in [40, 300, 600, 1000, 2000, 4096] {
        let mut page = pattern::bytes(1, len);
        cache.insert(KEYS, &page).unwrap();
        page[len / 2..].fill(3);
        cache.insert(KEYS, &page).unwrap();
    }
    pages[..4].iter().for_each(|page| cache.insert(KEYS, page).unwrap());
    let mut read = vec![0; 4096];
    let mut kept = vec![false; KEYS as usize];
    let (refused, calls) = failing(nth, || {
        let mut refused = 0;
        for (key, page) in (0..).zip(&pages) {
            match cache.insert(key, page) {
                Ok(()) => kept[key as usize] = true,
                Err(error) => {
                    assert!(matches!(error, InsertError::NoMemory { .. }), "{error}");
                    refused += 1;
                }
            }
            let got = cache.get_into(&key, &mut read).unwrap();
            assert_eq!(got.is_some(), kept[key as usize]);
            if key % 5 == 4 {
                assert_eq!(cache.remove(&(key - 2)), kept[key as usize - 2]);
                kept[key as usize - 2] = false;
            }
        }
        refused
    });
    assert!(refused <= 1, "one failure of the heap costs one page at most");
    let stats = cache.stats();
    assert_eq!((stats.rejected.no_memory, stats.rejected.no_room), (refused as u64, 0), "{stats}");
    assert_eq!(
        (stats.removals.evicted, stats.removals.corrupt, stats.unreadable),
        (0, 0, 0),
        "{stats}"
    );
    cache.check();
    for (key, page) in (0..).zip(&pages) {
        let got = cache.get(&key);
        assert_eq!(got.as_deref(), kept[key as usize].then_some(&page[..]), "key {key}");
        cache.insert(key, page).unwrap();
    }
    assert!(cache.len() as u64 >= KEYS);
    cache.check();
    (calls, refused)
}

#[test]
fn an_allocation_that_fails_costs_a_cache_one_page_at_most() {
    fn each<P: Policy + 'static>(policy: fn() -> P) -> (usize, usize) {
        let (mut failures, mut cost) = (0, 0);
        for source in [|| SourceKind::Heap, || SourceKind::Memfd] as [fn() -> SourceKind; 2] {
            let (calls, none) = fill(policy(), source(), 0);
            assert!(calls > 20 && none == 0, "{calls} allocations, {none} pages gone");
            for nth in (1..=calls).step_by(1 + calls / 6) {
                cost += fill(policy(), source(), nth).1;
                failures += 1;
            }
        }
        (failures, cost)
    }
    let all = [each(S3Fifo::new), each(Sieve::new), each(Lru::new)];
    let sum = |of: fn(&(usize, usize)) -> usize| all.iter().map(of).sum::<usize>();
    let (failures, cost) = (sum(|done| done.0), sum(|done| done.1));
    println!("a heap that fails once: {failures} failures, {cost} pages refused");
    // Most are made good by the attempt that the pool makes by all means.
    assert!(failures > 20 && cost <= failures / 2, "{cost} pages by {failures} failures");
}
