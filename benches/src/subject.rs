//! What the cache's criterion benches run on, and how long they are.

use std::sync::Arc;

use ::tests::corpus::{self, PageFile};
use zcache::codec::{self, Codec, Lz4, Zstd};
use zcache::{Cache, Config, Share};

/// Whether criterion only tests that benches run (`cargo bench -- --test`): sizes shrink then.
#[must_use]
pub fn testing() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// `full`, or `small` where criterion only tests.
#[must_use]
pub fn scaled(full: usize, small: usize) -> usize {
    if testing() { small } else { full }
}

/// Real pages of `page_size` bytes, 4, 8 or 16 KiB: those of the shared files where they are (memory of
/// Redis, tables of pgbench, InnoDB), else of the sample, which serves a test as well.
///
/// # Panics
/// A page file is damaged.
#[must_use]
pub fn pages(page_size: usize) -> PageFile {
    let name = match page_size {
        4096 => "mem-redis-4k",
        16_384 => "innodb-debpkgs-16k",
        _ => "pg-pgbench-8k",
    };
    let shared = corpus::shared_files().into_iter().find(|path| {
        !testing() && path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name))
    });
    let file = match shared {
        Some(path) => PageFile::read(&path, Some(page_size)).expect("a page file"),
        None => corpus::sample(),
    };
    let fit = file.cut(page_size).or_else(|| file.join(page_size));
    fit.expect("pages that can be cut or joined")
}

/// The codecs by name.
///
/// # Panics
/// Never: zstd has a level 3.
#[must_use]
pub fn codecs() -> [(&'static str, Arc<dyn Codec>); 3] {
    let zstd = Zstd::level(3).expect("a level of zstd's");
    [("none", Arc::new(codec::None)), ("lz4", Arc::new(Lz4)), ("zstd:3", Arc::new(zstd))]
}

/// A cache of `capacity` bytes for pages of `page_size`, checksums off.
///
/// # Panics
/// The capacity is too small.
#[must_use]
pub fn cache(capacity: usize, page_size: usize, codec: Arc<dyn Codec>) -> Cache<u64> {
    let config =
        Config::new(capacity).max_page(page_size).codec(codec).checksum(false).hot(Share::None);
    Cache::new(config).expect("a cache of some MiB")
}
