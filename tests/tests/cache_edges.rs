//! A cache at its edges: lengths, capacities, times, priorities, leases, and figures that add up.
#![cfg(not(zcache_loom))]

use std::time::Duration;

use tests::callbacks::{LONGEST, cache, config, logged, of, page, pages, taken};
use tests::pattern::{self};
use zcache::codec::{self, Lz4};
use zcache::policy::{Lru, S3Fifo, Sieve};
use zcache::{
    BufferTooSmall, Cache, Config, ConfigError, InsertError, InsertOptions, MAX_PAGE, MAX_PIECE,
    RemovalCause, ResizeError,
};
use zpool::SourceKind;

#[test]
fn a_page_of_any_length_comes_back_by_every_way_there_is() {
    for checksum in [false, true] {
        for source in [None, Some(SourceKind::Heap), Some(SourceKind::Memfd)] {
            for plain in [false, true] {
                let mut config = config(4 << 20).checksum(checksum);
                config = if plain { config.codec(codec::Plain) } else { config.codec(Lz4) };
                if let Some(source) = source.clone() {
                    config = config.source(source);
                }
                let cache: Cache<u64> = Cache::new(config).unwrap();
                assert_eq!(cache.max_page(), LONGEST);
                for len in [0, 1, 7, 8, 9, 15, 16, 17, 4095, 4096, 4097, LONGEST - 1, LONGEST] {
                    for page in pages(len) {
                        cache.insert(1, &page).unwrap();
                        assert_eq!(of(&cache, 1).as_ref(), Some(&page), "{len} bytes");
                        assert_eq!(cache.peek(&1).as_deref(), Some(&page[..]));
                        assert_eq!(cache.read(&1, <[u8]>::to_vec).as_ref(), Some(&page));
                        let mut to = vec![0xee; len + 3];
                        assert_eq!(cache.get_into(&1, &mut to), Ok(Some(len)));
                        assert!(to[..len] == page && to[len..] == [0xee; 3], "{len} bytes");
                        assert_eq!(cache.get_range(&1, 0..len).as_deref(), Some(&page[..]));
                        assert_eq!(cache.get_many([&1])[0].as_deref(), Some(&page[..]));
                        assert_eq!(cache.take(&1).as_deref(), Some(&page[..]));
                        assert_eq!((cache.len(), cache.get(&1)), (0, None));
                    }
                }
                cache.check();
            }
        }
    }
}

#[test]
fn a_page_longer_than_max_page_is_refused_and_takes_the_old_one_with_it() {
    let (cache, log) = logged(config(2 << 20));
    let too_large =
        |dropped| InsertError::TooLarge { len: LONGEST + 1, max_page: LONGEST, dropped };
    cache.insert(1, &[1; 100]).unwrap();
    assert_eq!(cache.insert(1, &[0; LONGEST + 1]), Err(too_large(true)));
    assert_eq!(cache.stats().rejected.dropped, 1);
    assert_eq!(cache.insert(2, &[0; LONGEST + 1]), Err(too_large(false)));
    assert_eq!((cache.get(&1), taken(&log)), (None, vec![(1, RemovalCause::Replaced)]));
    // Under a lease nothing was promised of the new page, so the old one stays.
    let lease = cache.get_or_lease(&1).lease().unwrap();
    cache.insert(1, &[2; 100]).unwrap();
    assert_eq!(cache.insert_if_valid(lease, &[0; LONGEST + 1]), Err(too_large(false)));
    assert_eq!(cache.get(&1).as_deref(), Some(&[2; 100][..]));
    assert_eq!((cache.stats().rejected.too_large, cache.stats().rejected.dropped), (3, 1));
    cache.check();
}

#[test]
fn the_largest_max_page_holds_with_all_that_stands_behind_a_payload() {
    for checksum in [false, true] {
        let config = Config::new(8 << 20).max_page(MAX_PIECE).checksum(checksum);
        let config = config.codec(codec::Plain).time_to_live(Duration::from_secs(60));
        let cache: Cache<u64> = Cache::new(config).unwrap();
        for len in [MAX_PIECE - 10, MAX_PIECE - 1, MAX_PIECE] {
            let page = pattern::bytes(len as u64, len);
            match cache.insert(1, &page) {
                Ok(()) => assert_eq!(of(&cache, 1), Some(page)),
                Err(InsertError::TooLarge { max_page, .. }) => {
                    // The trailer may be what does not fit, and then the error says what does.
                    assert!(max_page < len && max_page >= MAX_PIECE - 10, "{max_page}");
                    cache.insert(1, &page[..max_page]).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        cache.check();
    }
}

#[test]
fn a_time_of_its_own_does_not_make_a_page_too_large() {
    let how = InsertOptions::new().time_to_live(Duration::from_secs(3600));
    for max_page in [LONGEST, 32 << 10, (64 << 10) - 10] {
        let config = Config::new(8 << 20).max_page(max_page).checksum(false);
        let cache: Cache<u64> = Cache::new(config).unwrap();
        for page in pages(max_page) {
            cache.insert_with_options(1, &page, how).unwrap();
            assert_eq!(of(&cache, 1), Some(page));
        }
        cache.check();
    }
    // Where the lengths of objects are at their end, it costs the last bytes of incompressible
    // pages.
    for max_page in [(64 << 10) - 9, 64 << 10, MAX_PIECE] {
        let config = Config::new(8 << 20).max_page(max_page).checksum(false);
        let cache: Cache<u64> = Cache::new(config).unwrap();
        let [zeros, random, coded] = pages(max_page);
        for page in [zeros, coded] {
            cache.insert_with_options(1, &page, how).unwrap();
            assert_eq!(of(&cache, 1), Some(page));
        }
        let error = InsertError::TooLarge { len: max_page, max_page: max_page - 6, dropped: true };
        assert_eq!(cache.insert_with_options(1, &random, how), Err(error));
        assert_eq!(cache.get(&1), None, "never stale");
        cache.insert_with_options(1, &random[..max_page - 6], how).unwrap();
        assert_eq!(cache.get(&1).as_deref(), Some(&random[..max_page - 6]));
        cache.insert(1, &random).unwrap();
        assert_eq!(of(&cache, 1), Some(random));
        cache.check();
    }
}

#[test]
fn same_filled_pages_take_no_page_of_the_pool() {
    let config = Config::new(4 << 20).max_page(LONGEST).checksum(false);
    let cache: Cache<u64> = Cache::new(config).unwrap();
    let page = |key: u64| {
        let word = (key * 0x0101_0000_0001).to_ne_bytes();
        let len = LONGEST - key as usize % 9;
        word.iter().copied().cycle().take(len).collect::<Vec<u8>>()
    };
    for key in 0..127 {
        cache.insert(key, &page(key)).unwrap();
    }
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.same_filled), (127, 127));
    assert_eq!((stats.bytes.payload, stats.bytes.pages), (0, 0), "words with numbers of their own");
    assert_eq!(stats.compression_ratio(), f64::INFINITY);
    for key in 127..1000 {
        cache.insert(key, &page(key)).unwrap();
    }
    let stats = cache.stats();
    assert_eq!((stats.same_filled, stats.raw), (1000, 0));
    assert_eq!(stats.bytes.payload, 873 * 8, "further words are 8 bytes each");
    assert!(stats.bytes.pages <= 873 * 32 + 4096, "{} bytes of pages", stats.bytes.pages);
    let uncompressed: usize = (0..1000).map(|key| page(key).len()).sum();
    assert_eq!(stats.bytes.uncompressed, uncompressed);
    for key in 0..1000 {
        let page = page(key);
        assert_eq!(of(&cache, key).as_ref(), Some(&page), "word {key}");
        assert_eq!(cache.get_range(&key, 3..21).as_deref(), Some(&page[3..21]));
    }
    cache.clear();
    assert_eq!((cache.stats().same_filled, cache.stats().bytes.uncompressed), (0, 0));
    cache.check();
}

#[test]
fn a_buffer_that_is_too_small_is_told_the_size_and_left_as_it_was() {
    let cache = cache(2 << 20);
    for page in pages(1000) {
        cache.insert(1, &page).unwrap();
        let before = cache.stats();
        for len in [0, 1, 999] {
            let mut to = vec![0xee; len];
            assert_eq!(cache.get_into(&1, &mut to), Err(BufferTooSmall { needed: 1000 }));
            assert!(to.iter().all(|byte| *byte == 0xee));
        }
        let after = cache.stats();
        assert_eq!((after.hits, after.misses), (before.hits, before.misses));
        assert_eq!(of(&cache, 1), Some(page));
    }
    assert_eq!(cache.get_into(&2, &mut []), Ok(None), "a miss needs no room");
    cache.insert(3, &[]).unwrap();
    assert_eq!(cache.get_into(&3, &mut []), Ok(Some(0)));
    cache.check();
}

fn least(config: impl Fn(usize) -> Config) -> usize {
    match Cache::<u64>::new(config(0)) {
        Err(ConfigError::TooSmall { least }) => least,
        other => panic!("a capacity of nothing gave {other:?}"),
    }
}

#[test]
fn the_least_capacity_that_an_error_names_works_and_one_byte_less_does_not() {
    let configs: [fn(usize) -> Config; 10] = [
        |bytes| Config::new(bytes).shards(16),
        |bytes| config(bytes),
        |bytes| config(bytes).checksum(false).codec(codec::Plain),
        |bytes| config(bytes).policy(Sieve::new()).source(SourceKind::Heap),
        |bytes| config(bytes).policy(Lru::new()).source(SourceKind::Memfd),
        |bytes| config(bytes).max_page(1),
        |bytes| config(bytes).max_page(MAX_PIECE).shards(64),
        |bytes| config(bytes).max_page(MAX_PIECE + 1),
        |bytes| config(bytes).max_page(1 << 20).source(SourceKind::Memfd),
        |bytes| config(bytes).time_to_live(Duration::from_secs(60)),
    ];
    for (number, config) in configs.into_iter().enumerate() {
        let least = least(config);
        let below = Cache::<u64>::new(config(least - 1)).err();
        assert!(
            matches!(below, Some(ConfigError::TooSmall { least: again }) if again == least),
            "{number}: {below:?}"
        );
        let cache: Cache<u64> = Cache::new(config(least)).unwrap();
        assert!(cache.held_bytes() <= least);
        for key in 0..20 {
            let page = match key % 2 {
                0 => page(key, cache.max_page()),
                _ => pattern::bytes(key, cache.max_page()),
            };
            assert_eq!(cache.insert(key, &page), Ok(()), "setup {number}, {least} bytes");
            assert_eq!(of(&cache, key).as_ref(), Some(&page), "setup {number}, {least} bytes");
            assert_eq!(cache.read(&key, |p| p == page), Some(true), "setup {number}");
            assert_eq!(cache.get_range(&key, 0..1).as_deref(), Some(&page[..1]));
            cache.check();
        }
    }
}

#[test]
fn settings_out_of_range_are_errors_that_name_them() {
    let make = |config: Config| Cache::<u64>::new(config).map(|_| ());
    for bytes in [0, MAX_PAGE + 1, usize::MAX] {
        let error = make(Config::new(64 << 20).max_page(bytes)).unwrap_err();
        assert!(matches!(error, ConfigError::MaxPage(named) if named == bytes), "{error:?}");
        assert!(error.to_string().contains(&bytes.to_string()));
    }
    for shards in [0, 1, 3, 1 << 17, usize::MAX] {
        let error = make(Config::new(64 << 20).shards(shards)).unwrap_err();
        assert!(matches!(error, ConfigError::Shards(named) if named == shards), "{error:?}");
        assert!(error.to_string().contains(&shards.to_string()));
    }
    make(Config::new(64 << 20).max_page(1).shards(2)).unwrap();
    make(Config::new(64 << 20).max_page(MAX_PAGE).shards(1 << 16)).unwrap();
}

#[test]
fn a_resize_lets_entries_go_until_the_cache_fits_and_lets_it_grow_again() {
    for policy in 0..3 {
        let config = match policy {
            0 => config(4 << 20).policy(S3Fifo::new()),
            1 => config(4 << 20).policy(Sieve::new()),
            _ => config(4 << 20).policy(Lru::new()),
        };
        let (cache, log) = logged(config);
        let fill = |from: u64| {
            (from..from + 3000).for_each(|key| {
                cache.insert(key, &page(key, 4096)).unwrap();
                assert!(cache.held_bytes() <= cache.capacity());
            })
        };
        fill(0);
        let full = cache.len();
        taken(&log);
        cache.resize(2 << 20).unwrap();
        assert!(cache.held_bytes() <= 2 << 20 && cache.capacity() == 2 << 20);
        let gone = taken(&log);
        assert!(gone.iter().all(|(_, cause)| *cause == RemovalCause::Evicted));
        assert_eq!(cache.len() + gone.len(), full);
        assert!(cache.len() > full / 4, "no more go than have to: {} of {full}", cache.len());
        cache.check();
        fill(10_000);
        let half = cache.len();
        cache.resize(6 << 20).unwrap();
        assert_eq!(cache.len(), half, "growing lets nothing go");
        fill(20_000);
        assert!(cache.len() > full, "what is gained is used: {} and {full}", cache.len());
        cache.check();
        let held = cache.held_bytes();
        let error = cache.resize(10).unwrap_err();
        let ResizeError::TooSmall { least } = error else { panic!("{error:?}") };
        assert_eq!((cache.capacity(), cache.held_bytes()), (6 << 20, held), "nothing changed");
        match cache.resize(least) {
            Ok(()) => assert!(cache.held_bytes() <= least),
            // Tables do not shrink.
            Err(ResizeError::StillHeld { held }) => assert!(held > least && cache.is_empty()),
            Err(error) => panic!("{error:?}"),
        }
        cache.resize(4 << 20).unwrap();
        fill(30_000);
        cache.check();
    }
}

#[test]
fn a_range_has_as_many_bytes_as_the_page_has() {
    for plain in [false, true] {
        let config = config(2 << 20);
        let config = if plain { config.codec(codec::Plain) } else { config };
        let cache: Cache<u64> = Cache::new(config).unwrap();
        for page in pages(5000) {
            cache.insert(1, &page).unwrap();
            let ranges = [0..0, 0..1, 0..5000, 4999..5000, 4999..9999, 5000..5000, 5000..6000];
            let far = [6000..7000, usize::MAX..usize::MAX, 0..usize::MAX, 2500..2500, 100..4097];
            for range in ranges.into_iter().chain(far) {
                let start = range.start.min(5000);
                let expected = &page[start..range.end.min(5000)];
                let got = cache.get_range(&1, range.clone());
                assert_eq!(got.as_deref(), Some(expected), "{range:?}");
            }
            #[allow(clippy::reversed_empty_ranges, reason = "what a caller may get wrong")]
            for range in [3..1, 5000..0, usize::MAX..0] {
                assert_eq!(cache.get_range(&1, range).as_deref(), Some(&[][..]));
            }
        }
        assert_eq!(cache.get_range(&2, 0..1), None);
        cache.check();
    }
}
