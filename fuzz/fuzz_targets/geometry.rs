//! Any configuration: the error it deserves, or a pool that keeps its caps and costs what it says.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use zpool::{AllocError, Config, ConfigError, MapError, Pool, ReadError, SourceKind};

#[derive(Arbitrary, Debug)]
struct Case {
    /// Pages of 2^8 to 2^23 bytes, plus this much.
    page: (u8, Option<u8>),
    max_object: u32,
    max_pages: Option<u16>,
    max_bytes: Option<u32>,
    source: u8,
    lens: Vec<u32>,
}

fuzz_target!(|case: Case| {
    let page_size = (1 << (8 + case.page.0 % 16)) + usize::from(case.page.1.unwrap_or(0));
    let max_object = case.max_object as usize % (300 << 10);
    let max_pages = case.max_pages.map_or(usize::MAX, usize::from);
    // Without any cap, lengths cap what a run can take.
    let max_bytes = case.max_bytes.map_or(usize::MAX, |bytes| bytes as usize % (64 << 20));
    let config = Config::new()
        .page_size(page_size)
        .max_object(max_object)
        .max_pages(max_pages)
        .max_bytes(max_bytes)
        .source(source(case.source));
    let pages_fit = page_size.is_power_of_two() && (4096..=65536).contains(&page_size);
    let objects_fit = (1..=256 << 10).contains(&max_object);
    let pool: Pool = match Pool::new(config) {
        Ok(pool) => pool,
        Err(ConfigError::PageSize(size)) => return assert!(!pages_fit && size == page_size),
        Err(ConfigError::MaxObject(size)) => return assert!(!objects_fit && size == max_object),
        Err(ConfigError::TooSmall(bytes)) => return assert!(pages_fit && bytes > max_bytes),
        Err(ConfigError::Source(_)) => return assert!(max_pages.min(max_bytes / page_size) == 0),
        Err(error) => panic!("{error}"),
    };
    assert!(pages_fit && objects_fit);
    let mut objects = Vec::new();
    for len in case.lens.into_iter().map(|len| len as usize % (300 << 10)).take(64) {
        assert_eq!(pool.slot_bytes(len), pool.slot_bytes(len.min(max_object)));
        assert!(pool.slot_bytes(len) >= len.min(max_object));
        let fill = objects.len() as u8 | 1;
        match pool.alloc_with(len, |bytes| bytes.fill(fill)) {
            Ok(handle) => objects.push((handle, len, fill)),
            Err(AllocError::TooLarge(told)) => assert!(len > max_object && told == len),
            Err(AllocError::OutOfPages) => assert!(max_pages.min(max_bytes) < usize::MAX),
            Err(error) => panic!("{error}"),
        }
        let stats = pool.stats();
        assert!(stats.pages <= max_pages && pool.held_bytes() <= max_bytes);
        pool.check();
    }
    let mut copy = vec![0; 300 << 10];
    for (handle, len, fill) in objects {
        let bytes = vec![fill; len];
        assert_eq!(pool.read_into(handle, &mut copy), Ok(len));
        assert!(copy[..len] == bytes);
        assert!(len == 0 || pool.read_into(handle, &mut []) == Err(ReadError::BufferTooSmall(len)));
        match pool.map(handle) {
            Ok(map) => assert!(*map == bytes),
            Err(error) => assert!(error == MapError::OutOfMemory && max_bytes < usize::MAX),
        }
        assert_eq!(pool.free(handle), Ok(()));
        pool.check();
    }
    assert!(pool.is_empty() && pool.stats().payload_bytes == 0);
    pool.trim();
    assert_eq!(pool.stats().pages, 0, "an empty pool keeps no page");
});

fn source(nth: u8) -> SourceKind {
    match nth % 3 {
        0 => SourceKind::Heap,
        #[cfg(unix)]
        1 => SourceKind::Mmap(zpool::source::MmapOptions::new()),
        _ => SourceKind::Memfd,
    }
}
