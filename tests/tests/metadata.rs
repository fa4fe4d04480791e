//! What `stats` calls metadata is what the pool has on the heap, to a few percent, and in pages of
//! its own.
#![cfg(not(zcache_loom))]

use tests::alloc::{Watched, held};
use tests::pattern::Random;
use zpool::{Config, Handle, Pool};

#[global_allocator]
static HEAP: Watched = Watched;

/// Counts beside `metadata_bytes` what this thread, which made the pool, has allocated since. Pages
/// of the pool's own are no part of the heap: `ids.rs` asks the system for those.
fn agrees<T: Send + Sync>(pool: &Pool<T>, base: isize, when: &str) {
    let real = usize::try_from(held() - base).unwrap();
    let stats = pool.stats();
    let said = stats.metadata_bytes - stats.mapped_bytes;
    let slack = real / 50 + 2048;
    assert!(said + 512 >= real, "{when}: {said} said of {real} bytes on the heap");
    assert!(said <= real + slack, "{when}: {said} said, but {real} bytes on the heap");
}

fn is_exact_throughout<T: Send + Sync>(record: impl Fn() -> T, max_object: usize) {
    let mut random = Random::new(5);
    let mut handles: Vec<Handle> = Vec::with_capacity(100_000);
    let bytes = vec![7; max_object];
    let base = held();
    let pool: Pool<T> = Pool::new(Config::new().max_object(max_object)).unwrap();
    agrees(&pool, base, "empty");
    let mut shortest = f64::MAX;
    for target in [1, 100, 1024, 5000, 30_000] {
        while handles.len() < target {
            let len = random.below(900) + 20;
            handles.push(pool.alloc_record(record(), &bytes[..len]).unwrap());
        }
        agrees(&pool, base, &format!("{target} objects"));
        let each = pool.stats().metadata_bytes as f64 / target as f64;
        shortest = shortest.min(each);
    }
    random.shuffle(&mut handles);
    handles.drain(10_000..).for_each(|handle| pool.free(handle).unwrap());
    agrees(&pool, base, "after frees");
    pool.compact(usize::MAX);
    pool.trim();
    agrees(&pool, base, "compacted");
    handles.drain(..).for_each(|handle| pool.free(handle).unwrap());
    pool.trim();
    agrees(&pool, base, "emptied");
    drop(pool);
    assert_eq!(held(), base, "nothing is left behind");
    // 16 bytes a slot and the records of zspages; HOLES.md's bar is measured by `density`.
    assert!(shortest < 28.0 + size_of::<T>() as f64, "{shortest} bytes an object");
}

#[test]
fn metadata_is_what_is_on_the_heap() {
    is_exact_throughout(|| (), 64 << 10);
    is_exact_throughout(|| 7_u64, 64 << 10);
    is_exact_throughout(|| [7_u64; 2], 256 << 10);
}

/// Copies for maps are made on the heap, and counted.
#[test]
fn scratch_is_counted() {
    let base = held();
    let config = Config::new().source(zpool::SourceKind::Memfd);
    let pool: Pool = Pool::new(config).unwrap();
    let handle = pool.alloc(&vec![1; 60_000]).unwrap();
    agrees(&pool, base, "before");
    let maps: [_; 10] = std::array::from_fn(|_| pool.map(handle).unwrap());
    let most = held();
    assert!(pool.stats().metadata_bytes > 600_000);
    agrees(&pool, base, "while mapped");
    drop(maps);
    assert!(held() < most);
    agrees(&pool, base, "some kept");
    pool.trim();
    agrees(&pool, base, "trimmed");
    pool.free(handle).unwrap();
    drop(pool);
    assert_eq!(held(), base, "nothing is left behind");
}
