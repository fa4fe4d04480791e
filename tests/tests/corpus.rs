//! The page corpus: it is what its README says, and a pool keeps it.
#![cfg(not(zcache_loom))]

use tests::corpus;
use tests::setups::{Pages, Setup};
use zpool::{Handle, Pool};

#[test]
fn the_sample_is_704_pages_that_compress_to_a_sixth() {
    let sample = corpus::sample();
    assert_eq!((sample.len(), sample.page_size, &*sample.name), (704, 8192, "pg-pgbench-8k"));
    let packed: usize = sample.lz4().map(|page| page.len()).sum();
    let ratio = (sample.len() * sample.page_size) as f64 / packed as f64;
    assert!((6.0..7.0).contains(&ratio), "{ratio}");
    assert_eq!(sample.clone().cut(4096).len(), 1408);
}

#[test]
fn shared_files_are_read_where_there_are_any() {
    for path in corpus::shared_files().iter().filter(|path| path.ends_with("file-log-4k.bin.zst")) {
        let pages = corpus::read(path).unwrap();
        assert_eq!((pages.page_size, pages.len(), pages.is_empty()), (4096, 2048, false));
    }
}

#[test]
fn compressed_pages_come_back_whole_through_churn_and_compaction() {
    let packed: Vec<Vec<u8>> = corpus::sample().lz4().collect();
    for pages in [Pages::Mmap, Pages::Heap(64), Pages::Memfd] {
        let pool: Pool = Setup::new(pages).pool();
        let mut handles: Vec<Handle> =
            packed.iter().map(|page| pool.alloc(page).unwrap()).collect();
        for step in [3, 2] {
            for (handle, page) in handles.iter_mut().zip(&packed).step_by(step) {
                pool.free(*handle).unwrap();
                *handle = pool.alloc(page).unwrap();
            }
        }
        while !pool.compact(64 << 10).done {}
        pool.check();
        for (handle, page) in handles.iter().zip(&packed) {
            assert!(*pool.map(*handle).unwrap() == **page);
        }
        let payload: usize = packed.iter().map(Vec::len).sum();
        assert_eq!(pool.stats().payload_bytes, payload);
    }
}
