//! What does it cost to replace an object, by size? Each row frees a random one of 4096 live
//! objects and stores a copy of as many bytes: in a pool, and in blocks of the allocators that a
//! `Vec<u8>` would take them from.
#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::alloc::{GlobalAlloc, Layout, System, handle_alloc_error};
use std::ptr::NonNull;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use zpool::{Config, Pool};

const LIVE: usize = 4096;
const SIZES: [usize; 6] = [64, 512, 2048, 4096, 8192, 32768];

/// A copy of some bytes in memory of `A`: what `Vec<u8>` is when `A` is the program's allocator.
struct Block<'a, A: GlobalAlloc> {
    allocator: &'a A,
    start: NonNull<u8>,
    layout: Layout,
}

impl<'a, A: GlobalAlloc> Block<'a, A> {
    /// Copies `bytes`, of which there is at least one.
    fn new(allocator: &'a A, bytes: &[u8]) -> Self {
        assert!(!bytes.is_empty());
        let layout = Layout::for_value(bytes);
        // SAFETY: the layout has at least one byte (asserted above).
        let start = unsafe { allocator.alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        // SAFETY: the block has room for `bytes.len()` bytes, and nothing else knows it yet.
        unsafe { start.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Self { allocator, start, layout }
    }
}

impl<A: GlobalAlloc> Drop for Block<'_, A> {
    fn drop(&mut self) {
        // SAFETY: `new` got the block from this allocator with this layout; it is given back once.
        unsafe { self.allocator.dealloc(self.start.as_ptr(), self.layout) };
    }
}

fn blocks<A: GlobalAlloc>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    (name, allocator): (&str, &A),
    size: usize,
) {
    let bytes = vec![7; size];
    let mut live: Vec<_> = (0..LIVE).map(|_| Block::new(allocator, &bytes)).collect();
    let mut rng = fastrand::Rng::with_seed(1);
    group.bench_function(BenchmarkId::new(name, size), |bencher| {
        bencher.iter(|| {
            // The old one goes first, as in the pool's row.
            let at = rng.usize(..LIVE);
            drop(live.swap_remove(at));
            live.push(Block::new(allocator, &bytes));
        });
    });
}

fn pool(group: &mut BenchmarkGroup<'_, WallTime>, size: usize) {
    let pool: Pool = Pool::new(Config::new()).expect("a pool");
    let bytes = vec![7; size];
    let store = || pool.alloc(&bytes).expect("stored");
    let mut live: Vec<_> = (0..LIVE).map(|_| store()).collect();
    let mut rng = fastrand::Rng::with_seed(1);
    group.bench_function(BenchmarkId::new("zpool", size), |bencher| {
        bencher.iter(|| {
            let at = rng.usize(..LIVE);
            pool.free(live.swap_remove(at)).expect("freed");
            live.push(store());
        });
    });
}

fn alloc_free(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("alloc_free");
    for size in SIZES {
        group.throughput(Throughput::Elements(1));
        pool(&mut group, size);
        blocks(&mut group, ("system", &System), size);
        #[cfg(feature = "peers")]
        blocks(&mut group, ("mimalloc", &mimalloc::MiMalloc), size);
    }
    group.finish();
}

criterion_group!(benches, alloc_free);
criterion_main!(benches);
