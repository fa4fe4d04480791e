//! What the public types can do beside their own methods, with names of zcache alone.
#![cfg(not(zcache_loom))]

use std::hash::{Hash, Hasher};
use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};

use tests::callbacks::page;
use zcache::codec::{Lz4, Plain};
use zcache::policy::{Lru, Policy, S3Fifo, Sieve};
use zcache::{
    Cache, Compaction, Config, ConfigError, Equivalent, HotShare, NoMemory, PageSource, Scope,
    SourceKind, Stats, zpool,
};

/// A key of two numbers, looked up without making one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name(String, u64);

struct Wanted<'n>(&'n str, u64);

impl Hash for Wanted<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0, self.1).hash(state);
    }
}

impl Equivalent<Name> for Wanted<'_> {
    fn equivalent(&self, name: &Name) -> bool {
        (self.0, self.1) == (name.0.as_str(), name.1)
    }
}

#[test]
fn what_stands_in_signatures_is_named_by_zcache() {
    let file: zpool::source::File = zpool::source::File::memfd(4096).unwrap();
    fn own(source: impl PageSource + 'static) -> Result<Cache<Name>, ConfigError> {
        Cache::new(Config::new(1 << 20).max_page(4096).page_source(source))
    }
    let cache = own(file).unwrap();
    cache.insert(Name("a".into(), 1), b"one").unwrap();
    assert_eq!(cache.get(&Wanted("a", 1)).as_deref(), Some(&b"one"[..]));
    assert!(cache.get(&Wanted("a", 2)).is_none());
    let moved: Compaction = cache.compact(1 << 20);
    assert_eq!(moved.bytes_moved, 0, "one object");
    let grown: Result<(), NoMemory> = Lru::new().grow(7);
    assert!(grown.is_ok());
    let pool: ConfigError = ConfigError::Pool(zpool::ConfigError::PageSize(3));
    assert!(pool.to_string().contains('3'), "{pool}");
}

#[test]
fn a_cache_may_be_used_on_both_sides_of_a_panic() {
    fn survives<T: UnwindSafe + RefUnwindSafe>() {}
    survives::<Cache<u64>>();
    survives::<Cache<String>>();
    survives::<Scope<'static, String>>();
    survives::<Stats>();
    let cache: Cache<u64> = Cache::new(Config::new(1 << 20)).unwrap();
    cache.insert(1, &page(1, 4096)).unwrap();
    // Without `AssertUnwindSafe`: this compiles because the cache promises it.
    let caught = catch_unwind(|| cache.read(&1, |_| panic!("planted")));
    assert!(caught.is_err());
    assert_eq!(cache.get(&1).unwrap(), page(1, 4096));
    cache.check();
}

#[test]
fn a_cache_prints_entries_capacity_and_codec() {
    let cache: Cache<u64> = Cache::new(Config::new(1 << 20)).unwrap();
    cache.insert(1, b"one").unwrap();
    cache.insert(2, b"two").unwrap();
    let printed = format!("{cache:?}");
    assert_eq!(printed, "Cache { entries: 2, capacity: 1048576, codec: \"lz4\", .. }");
    let plain: Cache<u64> = Cache::new(Config::new(2 << 20).codec(Plain)).unwrap();
    let printed = format!("{plain:?}");
    assert_eq!(printed, "Cache { entries: 0, capacity: 2097152, codec: \"none\", .. }");
    let found: Cache<u64> = Cache::new(Config::new(4 << 20).auto_codec()).unwrap();
    assert!(format!("{found:?}").contains("\"lz4\""), "{found:?}");
}

#[test]
fn clones_of_settings_make_caches_of_their_own() {
    let config = Config::new(1 << 20).codec(Lz4).policy(Sieve::new()).hot(HotShare::Off);
    let copy = config.clone().max_page(512);
    let [first, second] = [config, copy].map(|config| Cache::new(config).unwrap());
    first.insert(1, &page(1, 600)).unwrap();
    assert_eq!((first.len(), second.len()), (1, 0));
    assert!(second.insert(1, &page(1, 600)).is_err(), "the copy alone was changed");
    let [first, second] = [first.stats(), second.stats()];
    assert_eq!([first.policy, second.policy], ["sieve"; 2]);
}

#[test]
fn a_clone_has_a_policy_of_the_same_kind_without_entries() {
    let policies: [Box<dyn Policy>; 4] = [
        Box::new(Lru::new()),
        Box::new(Sieve::new()),
        Box::new(S3Fifo::new()),
        Box::new(S3Fifo::plain()),
    ];
    for mut policy in policies {
        policy.grow(5).unwrap();
        policy.insert(5, 7, Default::default());
        let fresh = policy.fresh();
        assert_eq!((fresh.name(), fresh.max_mark()), (policy.name(), policy.max_mark()));
        assert_eq!((policy.len(), fresh.len()), (1, 0));
        assert!(fresh.bytes() < policy.bytes(), "{}: no table yet", fresh.name());
    }
    let [ours, plain] = [S3Fifo::new().fresh(), S3Fifo::plain().fresh()].map(|p| format!("{p:?}"));
    assert!(ours.contains("ours: Some") && plain.contains("ours: None"), "{ours}, {plain}");
}

#[test]
fn one_of_the_clones_takes_a_page_source() {
    let source = zpool::source::File::memfd(4096).unwrap();
    let config = Config::new(1 << 20).max_page(4096).page_source(source);
    let copy = config.clone();
    let cache: Cache<u64> = Cache::new(copy).unwrap();
    cache.insert(1, &page(1, 4096)).unwrap();
    let refused = Cache::<u64>::new(config).unwrap_err();
    assert!(matches!(refused, ConfigError::SourceTaken), "{refused}");
    assert_eq!(cache.get(&1).unwrap(), page(1, 4096));
    let kind = Config::new(4 << 20).source(SourceKind::Heap);
    assert!(Cache::<u64>::new(kind.clone()).is_ok() && Cache::<u64>::new(kind).is_ok());
}

#[test]
fn a_hot_share_in_bytes_is_kept_to() {
    let all = |share| {
        let config = Config::new(8 << 20).max_page(4096).hot(share);
        let cache: Cache<u64> = Cache::new(config).unwrap();
        (0..300).for_each(|key| cache.insert(key, &page(key, 4096)).unwrap());
        for _ in 0..8 {
            (0..300).for_each(|key| assert_eq!(cache.get(&key).unwrap(), page(key, 4096)));
        }
        cache.check();
        let stats = cache.stats();
        (stats.frames, stats.bytes.frames)
    };
    for bytes in [400 << 10, 800 << 10] {
        let (frames, held) = all(HotShare::Bytes(bytes));
        assert!(frames > 0 && held <= bytes && held > bytes / 2, "{held} bytes of {bytes}");
    }
    assert_eq!(all(HotShare::Bytes(1 << 20)), all(HotShare::Fraction(8)));
    assert_eq!(all(HotShare::Bytes(0)).0, 0);
    assert!(all(HotShare::Bytes(usize::MAX)).0 > 0, "what the least capacity leaves");
}
