//! The page corpus: it is what its README says, and a pool keeps it.
#![cfg(not(zcache_loom))]

use tests::corpus;
use tests::setups::{Pages, Setup};
use zpool::{Handle, Pool};

#[test]
fn the_sample_is_704_pages_that_compress_to_a_sixth() {
    let sample = corpus::sample();
    let count = sample.pages().len();
    assert_eq!((count, sample.page_size(), sample.name()), (704, 8192, "pg-pgbench-8k"));
    let packed: usize = sample.lz4().map(|page| page.len()).sum();
    let ratio = (count * sample.page_size()) as f64 / packed as f64;
    assert!((6.0..7.0).contains(&ratio), "{ratio}");
    assert_eq!(sample.cut(4096).unwrap().pages().len(), 1408);
}

#[test]
fn shared_files_are_read_where_there_are_any() {
    for path in corpus::shared_files().iter().filter(|path| path.ends_with("file-log-4k.bin.zst")) {
        let pages = corpus::PageFile::read(path, None).unwrap();
        assert_eq!((pages.page_size(), pages.pages().len()), (4096, 2048));
    }
}

#[test]
fn compressed_pages_come_back_whole_through_churn_and_compaction() {
    let mut files = vec![corpus::sample()];
    // Real data of another kind, where it is there.
    let others = corpus::shared_files();
    let another = others.iter().find(|path| path.ends_with("mem-redis-4k.bin.zst"));
    files.extend(another.map(|path| corpus::PageFile::read(path, None).unwrap()));
    files.iter().for_each(come_back_whole);
}

fn come_back_whole(file: &corpus::PageFile) {
    let packed: Vec<Vec<u8>> = file.lz4().collect();
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
