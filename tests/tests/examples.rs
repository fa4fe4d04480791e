//! Examples that depend on the machine, run by the tests: whatever the machine is like, they end
//! well and say what it is like.
#![cfg(not(zcache_loom))]

use std::path::Path;

#[path = "../../zcache/examples/read_through_file.rs"]
#[allow(dead_code, reason = "its `main` is the program's")]
mod read_through_file;

/// The build's own folder is on a disk, most often. A folder in memory has no `O_DIRECT`, or has it
/// since Linux 6.6.
#[test]
fn pages_are_read_through_a_file_past_the_kernels_cache_where_that_can_be() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let direct = read_through_file::run(folder).expect("all pages are read");
    assert!(!direct || cfg!(target_os = "linux"), "only Linux has the flag");
    let in_memory = Path::new("/dev/shm");
    if in_memory.is_dir() {
        read_through_file::run(in_memory).expect("all pages are read");
    }
}
