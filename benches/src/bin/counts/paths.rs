//! The paths whose instructions are counted.
//!
//! Everything that could differ between two runs is fixed: hashers without a seed, seeded orders
//! made before the counting starts, one thread, and pages of the sample in the repository.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::hint::black_box;

use ::tests::{corpus, pattern};
use zcache::codec::{self, Codec, Lz4, Zstd};
use zcache::{Cache, Config, HotShare};
use zpool::{Handle, Pool};

use benches::order::Order;

/// The standard library's default hasher, as users have it, but for its random seed.
type Hasher = BuildHasherDefault<DefaultHasher>;
type Caches = Cache<u64, Hasher>;

/// An operation that may be called again and again.
pub(crate) type Operation = Box<dyn FnMut()>;

const PAGE: usize = 4096;
/// Objects of the pool, and entries of a cache that is not full.
const LIVE: usize = 1024;
/// Bytes of an object of the pool.
const OBJECT: usize = 2048;
/// Different pages; prime to `LIVE`, so that a key gets another page each time that it is replaced.
const PAGES: usize = 61;
const ROOMY: usize = 64 << 20;
/// Caches that are full: how many, and of what capacity. Those of 1 MiB keep their pages in mixed
/// zspages.
const FULL: (usize, usize) = (4, 8 << 20);
const SMALL: (usize, usize) = (8, 1 << 20);
/// What each has more than the one before. How often room is made depends on the capacity in leaps:
/// one cache would be a matter of luck.
const APART: usize = 12 << 10;

/// A path and how it is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    /// `what/which`, without spaces.
    pub(crate) name: &'static str,
    /// Operations that are counted, after as many that are not. A multiple of 64: one in so many
    /// hits is timed.
    pub(crate) times: usize,
    make: fn() -> Operation,
}

/// All paths that are counted.
pub(crate) const PATHS: &[Path] = &[
    path("zpool/map", map),
    path("zpool/alloc_free", alloc_free),
    path("hit/none", || hit(codec::Plain)),
    path("hit/lz4", || hit(Lz4)),
    path("hit/zstd:3", || hit(zstd())),
    path("hit/same_filled", hit_same_filled),
    path("hit/hot", hit_hot),
    path("miss", miss),
    path("insert/fresh/none", || fresh(codec::Plain)),
    path("insert/fresh/lz4", || fresh(Lz4)),
    path("insert/fresh/zstd:3", || fresh(zstd())),
    path("insert/replacing/none", || replacing(codec::Plain)),
    path("insert/replacing/lz4", || replacing(Lz4)),
    path("insert/replacing/zstd:3", || replacing(zstd())),
    long("insert/evicting/none", || evicting(FULL, || codec::Plain)),
    long("insert/evicting/lz4", || evicting(FULL, || Lz4)),
    long("insert/evicting/small", || evicting(SMALL, || Lz4)),
    path("insert/random_page/lz4", random_page),
    path("insert/same_filled", insert_same_filled),
];

const fn path(name: &'static str, make: fn() -> Operation) -> Path {
    Path { name, times: 2 * LIVE, make }
}

/// Room is made now and then, and for long: what that takes of an insert is a mean over many.
const fn long(name: &'static str, make: fn() -> Operation) -> Path {
    Path { name, times: 10 * LIVE, make }
}

impl Path {
    /// The path of that name.
    #[must_use]
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        PATHS.iter().find(|path| path.name == name)
    }

    /// Does what is counted, after as much that is not: contexts, buffers and tables are there.
    pub(crate) fn run(&self) {
        let mut operation = (self.make)();
        (0..self.times).for_each(|_| operation());
        measured(&mut operation, self.times);
    }
}

/// Callgrind counts while this function runs: [`MEASURED`](super::callgrind::MEASURED) is its name.
#[inline(never)]
fn measured(operation: &mut Operation, times: usize) {
    for _ in 0..times {
        operation();
    }
}

fn zstd() -> Zstd {
    Zstd::level(3).expect("a level of zstd's")
}

/// Numbers below `LIVE` in random order, for ever.
fn numbers() -> impl FnMut() -> usize {
    let mut order = Order::new(LIVE, 1);
    let numbers: Vec<usize> = (0..4 * LIVE).map(|_| order.next_payload() as usize).collect();
    let mut next = 0;
    move || {
        let number = numbers[next % numbers.len()];
        next += 1;
        number
    }
}

/// Pages of the sample, evenly taken.
fn pages() -> Vec<Vec<u8>> {
    let sample = corpus::sample().cut(PAGE).expect("the sample's pages are longer");
    let step = sample.pages().len() / PAGES;
    sample.pages().step_by(step).take(PAGES).map(<[u8]>::to_vec).collect()
}

fn cache(capacity: usize, codec: impl Codec + 'static, share: HotShare) -> Caches {
    let config = Config::new(capacity).max_page(PAGE).codec(codec).checksum(false).hot(share);
    Cache::with_hasher(config, Hasher::default()).expect("a cache of some MiB")
}

fn filled(codec: impl Codec + 'static, pages: &[Vec<u8>]) -> Caches {
    filled_hot(codec, pages, HotShare::Off)
}

fn filled_hot(codec: impl Codec + 'static, pages: &[Vec<u8>], share: HotShare) -> Caches {
    let cache = cache(ROOMY, codec, share);
    for key in 0..LIVE {
        cache.insert(key as u64, &pages[key % pages.len()]).expect("room for a page");
    }
    cache
}

fn map() -> Operation {
    let pool: Pool = Pool::new(zpool::Config::new()).expect("a pool");
    let bytes = [7; OBJECT];
    let handles: Vec<Handle> = (0..LIVE).map(|_| pool.alloc(&bytes).expect("stored")).collect();
    let mut number = numbers();
    Box::new(move || {
        let object = pool.map(handles[number()]).expect("a live object");
        black_box(object[0]);
    })
}

fn alloc_free() -> Operation {
    let pool: Pool = Pool::new(zpool::Config::new()).expect("a pool");
    let bytes = [7; OBJECT];
    let mut handles: Vec<Handle> = (0..LIVE).map(|_| pool.alloc(&bytes).expect("stored")).collect();
    let mut number = numbers();
    Box::new(move || {
        let handle = &mut handles[number()];
        pool.free(*handle).expect("freed");
        *handle = pool.alloc(black_box(&bytes)).expect("stored");
    })
}

fn hits(cache: Caches) -> Operation {
    let mut to = vec![0; PAGE];
    let mut number = numbers();
    Box::new(move || {
        let key = number() as u64;
        let len = cache.get_into(&key, black_box(&mut to)).expect("room for a page");
        assert_eq!(len, Some(PAGE), "a hit");
    })
}

fn hit(codec: impl Codec + 'static) -> Operation {
    hits(filled(codec, &pages()))
}

/// One page, that is there decoded.
fn hit_hot() -> Operation {
    let cache = filled_hot(Lz4, &pages(), HotShare::Fraction(16));
    let mut to = vec![0; PAGE];
    (0..3).for_each(|_| assert!(cache.get(&7).is_some(), "a hit"));
    assert_eq!(cache.stats().frames, 1, "it is hot");
    Box::new(move || {
        let len = cache.get_into(&7, black_box(&mut to)).expect("room for a page");
        assert_eq!(len, Some(PAGE), "a hit");
    })
}

fn hit_same_filled() -> Operation {
    hits(filled(Lz4, &same_filled()))
}

fn miss() -> Operation {
    let cache = filled(Lz4, &pages());
    let mut to = vec![0; PAGE];
    let mut number = numbers();
    Box::new(move || {
        let key = (LIVE + number()) as u64;
        let len = cache.get_into(&key, black_box(&mut to)).expect("room for a page");
        assert_eq!(len, None, "a miss");
    })
}

/// Inserts of one page after the other, under keys that `key` makes of a running number.
fn inserts(cache: Caches, pages: Vec<Vec<u8>>, key: impl Fn(u64) -> u64 + 'static) -> Operation {
    let mut next = 0;
    Box::new(move || {
        let page = &pages[next as usize % pages.len()];
        cache.insert(key(next), black_box(page)).expect("room for a page");
        next += 1;
    })
}

fn fresh(codec: impl Codec + 'static) -> Operation {
    inserts(cache(ROOMY, codec, HotShare::Off), pages(), |number| number)
}

fn replacing(codec: impl Codec + 'static) -> Operation {
    let pages = pages();
    inserts(filled(codec, &pages), pages, |number| number % LIVE as u64)
}

fn evicting<C: Codec + 'static>(
    (count, least): (usize, usize),
    codec: impl Fn() -> C,
) -> Operation {
    let pages = pages();
    let mut number = numbers();
    let full = |nth: usize| {
        let cache = cache(least + nth * APART, codec(), HotShare::Off);
        let mut next = 0;
        while cache.stats().removals.evicted == 0 {
            cache.insert(next, &pages[number() % PAGES]).expect("room for a page");
            next += 1;
        }
        (cache, next)
    };
    let mut caches: Vec<(Caches, u64)> = (0..count).map(full).collect();
    let mut turn = 0;
    Box::new(move || {
        let (cache, next) = &mut caches[turn % count];
        cache.insert(*next, black_box(&pages[number() % PAGES])).expect("room for a page");
        *next += 1;
        turn += 1;
    })
}

fn random_page() -> Operation {
    let noise: Vec<Vec<u8>> = (0..PAGES as u64).map(|seed| pattern::bytes(seed, PAGE)).collect();
    inserts(filled(Lz4, &noise), noise, |number| number % LIVE as u64)
}

/// Pages of zeros, ones, and so on: fewer words than a cache numbers.
fn same_filled() -> Vec<Vec<u8>> {
    (0..PAGES).map(|byte| vec![byte as u8; PAGE]).collect()
}

fn insert_same_filled() -> Operation {
    let pages = same_filled();
    inserts(filled(Lz4, &pages), pages, |number| number % LIVE as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_runs_and_has_a_name_of_its_own() {
        for path in PATHS {
            path.run();
            assert_eq!(PATHS.iter().filter(|other| other.name == path.name).count(), 1);
            assert_eq!(path.times % 64, 0, "{}", path.name);
        }
        assert!(Path::named("hit/lz4").is_some() && Path::named("hit").is_none());
    }
}
