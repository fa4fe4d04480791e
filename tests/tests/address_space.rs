//! A pool without addresses holds more than the address space: zsmalloc's HIGHMEM.
#![cfg(all(target_os = "linux", not(zcache_loom)))]

use std::env;
use std::fs;
use std::process::Command;

use tests::pattern;
use zpool::{Config, Handle, Pool, SourceKind};

const CHILD: &str = "ZPOOL_CAPPED_CHILD";
/// What the child may map beyond what it has at the start.
const ROOM: u64 = 24 << 20;
/// What it stores.
const STORED: usize = 160 << 20;
const OBJECT: usize = 24_000;

/// Bytes of address space in use.
fn mapped() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split_whitespace().next().unwrap().parse().unwrap();
    pages * 4096
}

fn cap_address_space(bytes: u64) {
    let bytes = libc::rlim_t::try_from(bytes).unwrap();
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the call reads the struct that it is given and changes no memory.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
    assert_eq!(result, 0, "the limit is set");
}

/// The child: stores more than it can map, and reads all of it back.
fn store_and_read_back() {
    cap_address_space(mapped() + ROOM);
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

#[test]
fn a_memfd_pool_holds_more_than_the_address_space() {
    if env::var_os(CHILD).is_some() {
        return store_and_read_back();
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "a_memfd_pool_holds_more_than_the_address_space", "--test-threads=1"]);
    let output = child.env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}
