//! The heap fails: wherever the pool asks for memory while it works, it takes no for an answer.
//!
//! Not so `Pool::new`, the first object of a size class (a box of a few hundred bytes), `stats` and
//! `check`: what fails there aborts, as everywhere in Rust.
#![cfg(not(zcache_loom))]

use tests::alloc::{Watched, failing};
use tests::pattern;
use tests::setups::{Pages, Setup};
use zpool::{Handle, Pool};

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
    for pages in [Pages::Heap(16), Pages::Mmap, Pages::Memfd] {
        let calls = work(pages, 0);
        assert!(calls > 20, "{calls} on {pages:?}");
        for nth in (1..=calls).step_by(1 + calls / 120) {
            work(pages, nth);
        }
    }
}
