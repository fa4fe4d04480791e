//! At the cap: all of the arena is used before anything is refused, and no cap is ever passed.
#![cfg(not(zcache_loom))]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tests::faults::Faulty;
use tests::pattern::{self, Random};
use tests::ram::Ram;
use tests::setups::{Pages, Setup};
use zpool::source::{File, Heap, Mmap, MmapOptions};
use zpool::{AllocError, Config, Handle, Pool, PoolStats};

const SOURCES: [Pages; 6] =
    [Pages::Heap(64), Pages::Heap(1), Pages::Mmap, Pages::Ranges, Pages::Memfd, Pages::Ram];

/// Allocates objects of the lengths that `len` gives until one is refused.
fn fill(pool: &Pool, mut len: impl FnMut(usize) -> usize) -> Vec<(Handle, u64)> {
    let alloc = |seed: u64| {
        let made = pool.alloc(&pattern::bytes(seed, len(seed as usize)));
        made.map(|handle| (handle, seed))
    };
    let mut made = (0..).map(alloc);
    let handles = made.by_ref().map_while(Result::ok).collect();
    pool.check();
    handles
}

fn assert_whole(pool: &Pool, objects: &[(Handle, u64)]) {
    for (handle, seed) in objects {
        let map = pool.map(*handle).unwrap();
        assert!(*map == pattern::bytes(*seed, map.len()), "object {seed}");
    }
}

#[test]
fn every_slot_of_every_page_is_used_before_one_size_is_refused() {
    for pages in SOURCES {
        for len in [20, 100, 250, 700, 1000, 1300, 2048, 3000, 3500, 4096] {
            let pool: Pool = Setup { max_pages: 97, ..Setup::new(pages) }.pool();
            let objects = fill(&pool, |_| len);
            assert_eq!(pool.alloc(&vec![1; len]), Err(AllocError::OutOfPages));
            let stats = pool.stats();
            assert_eq!((stats.pages, stats.pages_kept), (97, 0), "{len} bytes on {pages:?}");
            for class in &stats.classes {
                assert_eq!(class.inuse, class.objects, "{len} bytes on {pages:?}: {class:?}");
            }
            assert_whole(&pool, &objects);
        }
    }
}

#[test]
fn every_page_holds_bytes_of_objects_before_one_size_is_refused() {
    for len in [20, 700, 1300, 3000, 3500, 4096] {
        let (source, window) = Ram::new(4096);
        let pool: Pool = Pool::with_source(Config::new().max_pages(97), source).unwrap();
        fill(&pool, |_| len);
        assert_eq!((window.taken(), window.untouched()), (97, 0), "{len} bytes");
    }
}

/// Objects above a page leave less than one chain.
#[test]
fn objects_above_a_page_leave_less_than_their_shortest_chain() {
    for pages in SOURCES {
        for len in [4097, 6000, 9000, 20_000, 65_536] {
            let pool: Pool = Setup { max_pages: 97, ..Setup::new(pages) }.pool();
            fill(&pool, |_| len);
            let stats = pool.stats();
            let chain = (pool.slot_bytes(len).max(len) + len / 16).div_ceil(4096);
            let used: usize = stats.classes.iter().map(|class| class.pages).sum();
            assert!(used + chain > 97, "{len} bytes on {pages:?}: {used} pages in use");
            let room: usize = stats.classes.iter().map(|class| class.objects - class.inuse).sum();
            assert_eq!(room, 0, "{len} bytes on {pages:?}");
        }
    }
}

#[test]
fn mixed_sizes_use_every_page_and_in_the_end_every_slot() {
    for pages in SOURCES {
        for seed in 0..3 {
            let pool: Pool = Setup { max_pages: 300, ..Setup::new(pages) }.pool();
            let mut random = Random::new(seed);
            let objects = fill(&pool, |_| 1 + random.below(4096));
            let stats = pool.stats();
            assert_eq!((stats.pages, stats.pages_kept), (300, 0), "the first refusal");
            assert!(stats.classes.iter().all(|class| class.groups[0] == 0), "no zspage is empty");
            // Smaller and smaller ones still find a slot, down to one byte.
            for len in (1..=4096).rev().step_by(15) {
                while pool.alloc(&vec![0; len]).is_ok() {}
                let room =
                    |class: &&zpool::ClassStats| class.size >= len && class.inuse < class.objects;
                assert_eq!(pool.stats().classes.iter().find(room), None, "{len} bytes");
            }
            assert_whole(&pool, &objects);
            pool.check();
        }
    }
}

/// A cap in bytes counts tables too: what is left unused is less than the next page and the next
/// chunk of handles would take.
#[test]
fn a_cap_in_bytes_is_used_up_but_for_the_next_table() {
    for pages in SOURCES {
        for (cap, len) in [(400_000, 700), (1_000_000, 3000), (2_000_000, 100)] {
            let pool: Pool = Setup { max_bytes: cap, ..Setup::new(pages) }.pool();
            fill(&pool, |_| len);
            let stats = pool.stats();
            assert!(stats.peak_bytes <= cap);
            let left = cap - pool.held_bytes();
            assert!(left < 40_000, "{left} of {cap} left on {pages:?}");
            // The heap source gives regions back, not pages: one that came and found no room for
            // its zspage's record stays with it.
            let most = usize::from(matches!(pages, Pages::Heap(_)));
            assert!(stats.pages_kept <= most, "{cap} {len} {pages:?} {left} left {stats}");
        }
    }
}

/// The pages that the objects need at least, as far as compaction can bring that about.
fn pages_needed(stats: &PoolStats) -> usize {
    let needed = |class: &zpool::ClassStats| match class.objects / class.zspages {
        each if class.shortest_chain == class.longest_chain => {
            class.inuse.div_ceil(each) * class.longest_chain
        }
        _ => class.pages,
    };
    stats.classes.iter().map(needed).sum()
}

/// HOLES: "any allocation succeeds, for sizes up to a page, nothing pinned, while the sum over
/// classes of ceil(objects / per zspage) x chain leaves a page".
#[test]
fn allocations_succeed_while_compaction_could_free_a_page() {
    const PAGES: usize = 200;
    for pages in SOURCES {
        for seed in 0..4 {
            let pool: Pool = Setup { max_pages: PAGES, ..Setup::new(pages) }.pool();
            let mut random = Random::new(seed);
            // A few sizes each, or many: many leave a hole in each of many classes.
            let sizes: Vec<usize> = (0..4 << (2 * seed)).map(|_| 1 + random.below(4096)).collect();
            let mut objects = fill(&pool, |_| sizes[random.below(sizes.len())]);
            let mut tried = 0;
            for round in 0..12 {
                random.shuffle(&mut objects);
                let half = objects.len() / 2;
                objects.drain(half..).for_each(|(handle, _)| pool.free(handle).unwrap());
                let mut sizes = sizes.clone();
                sizes.push(1 + random.below(4096));
                while pages_needed(&pool.stats()) < PAGES {
                    let len = sizes[random.below(sizes.len())];
                    let number = random.bits();
                    match pool.alloc(&pattern::bytes(number, len)) {
                        Ok(handle) => objects.push((handle, number)),
                        Err(error) => {
                            let needed = pages_needed(&pool.stats());
                            panic!(
                                "{error}: {len} bytes, {needed} of {PAGES} pages needed, \
                                 {pages:?}, seed {seed}, round {round}\n{}",
                                pool.stats(),
                            );
                        }
                    }
                    tried += 1;
                }
                pool.check();
                assert_whole(&pool, &objects);
            }
            assert!(tried > 100, "{tried}");
        }
    }
}

/// Pools of a few pages, too, place what compaction makes room for. Their groups are a handful of
/// objects each, and change their level with each few that come or go. Objects of many pages stand
/// beside them.
#[test]
fn small_pools_refuse_nothing_that_compaction_could_place() {
    let mut refused = 0;
    for page_size in [4096, 8192, 16384, 32768, 65536] {
        for seed in 0..30 {
            let mut random = Random::new(seed << 20 | page_size as u64);
            let cap = 2 + random.below(60);
            let max_object = [page_size, 64 << 10, 256 << 10][random.below(3)];
            let config = Config::new().page_size(page_size).max_object(max_object).max_pages(cap);
            let pool: Pool = Pool::new(config).unwrap();
            let sizes: Vec<usize> =
                (0..1 << random.below(8)).map(|_| 1 + random.below(page_size)).collect();
            let mut objects: Vec<Handle> = Vec::new();
            for step in 0..400 {
                let freed = if step / 100 % 2 == 0 { 3 } else { 6 };
                if random.below(10) < freed && !objects.is_empty() {
                    pool.free(objects.swap_remove(random.below(objects.len()))).unwrap();
                    continue;
                }
                let len = match random.below(50) {
                    0 => 1 + random.below(max_object),
                    1..8 => 1 + random.below(page_size),
                    _ => sizes[random.below(sizes.len())],
                };
                if let Ok(handle) = pool.alloc(&vec![1; len]) {
                    objects.push(handle);
                    continue;
                }
                let stats = pool.stats();
                let needed = pages_needed(&stats);
                let what = format!("{len} bytes in {page_size}, {needed} of {cap}, seed {seed}");
                assert!(len > page_size || needed >= cap, "{what}\n{stats}");
                let fits = |of: &&zpool::ClassStats| of.size >= len && of.inuse < of.objects;
                assert_eq!(stats.classes.iter().find(fits), None, "{what}");
                refused += 1;
            }
            pool.check();
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn no_cap_is_passed_at_any_instant() {
    const CAP: usize = 400_000;
    let config = || Config::new().max_bytes(CAP);
    let (heap, at_heap) = Faulty::new(Heap::with_region_pages(4096, 8));
    let (mmap, at_mmap) = Faulty::new(Mmap::new(MmapOptions::new().max_pages(1000)).unwrap());
    let (file, at_file) = Faulty::new(File::temporary(4096).unwrap());
    let pools: [(Pool, _); 3] = [
        (Pool::with_source(config(), heap).unwrap(), at_heap),
        (Pool::with_source(config(), mmap).unwrap(), at_mmap),
        (Pool::with_source(config(), file).unwrap(), at_file),
    ];
    for (pool, switch) in &pools {
        let done = &AtomicBool::new(false);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..2)
                .map(|seed| {
                    scope.spawn(move || {
                        let mut random = Random::new(seed);
                        let mut mine: Vec<Handle> = Vec::new();
                        let mut refused = 0;
                        for _ in 0..3000 {
                            let len = 1 + random.below(6000);
                            match pool.alloc(&vec![1; len]) {
                                Ok(handle) => mine.push(handle),
                                Err(_) => refused += 1,
                            }
                            if mine.len() > 120 || random.below(3) == 0 && !mine.is_empty() {
                                let gone = mine.swap_remove(random.below(mine.len()));
                                drop(pool.map(gone));
                                pool.free(gone).unwrap();
                            }
                        }
                        refused
                    })
                })
                .collect();
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let held = pool.held_bytes();
                    assert!(held <= CAP, "{held} bytes held");
                }
            });
            let refused: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
            done.store(true, Ordering::Relaxed);
            assert!(refused > 0, "the cap was met");
        });
        assert!(switch.peak() <= CAP && pool.stats().peak_bytes <= CAP);
        pool.check();
    }
}
