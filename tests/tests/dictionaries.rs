//! Dictionaries that come and are dropped beside readers, as many as a cache uses in its life.
#![cfg(not(zcache_loom))]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use tests::pattern::{self, Random};
use zcache::codec::Zstd;
use zcache::{Cache, Config, HotShare};

/// As many as there are numbers.
const ADOPTED: u64 = 30;
/// Keys in use: those of some hundred inserts, so that an old dictionary's last entry goes soon.
const KEYS: u64 = 256;
const PAGE: usize = 1024;

/// The page of a key in a language, of which each has words of its own.
fn words(language: u64, key: u64) -> Vec<u8> {
    let mut bytes = vec![0; PAGE];
    pattern::words(language, key + 1, &mut bytes);
    bytes[..8].copy_from_slice(&language.to_le_bytes());
    bytes
}

#[test]
fn no_page_is_read_with_another_dictionary_than_its_own() {
    let config = Config::new(8 << 20).max_page(PAGE).hot(HotShare::Off).checksum(false);
    let cache: Cache<u64> = Cache::new(config.codec(Zstd::level(1).unwrap()).train(512)).unwrap();
    let (over, language) = (AtomicBool::new(false), AtomicU64::new(1));
    thread::scope(|scope| {
        for reader in 0..2 {
            let (cache, over) = (&cache, &over);
            scope.spawn(move || {
                let (mut random, mut to) = (Random::new(reader), vec![0; PAGE]);
                while !over.load(Ordering::Relaxed) {
                    let key = random.below(KEYS as usize) as u64;
                    if let Some(len) = cache.get_into(&key, &mut to).unwrap() {
                        let spoken = u64::from_le_bytes(to[..8].try_into().unwrap());
                        assert!(to[..len] == words(spoken, key), "key {key}");
                    }
                }
            });
        }
        let mut random = Random::new(9);
        for insert in 0_u64.. {
            let key = random.below(KEYS as usize) as u64;
            let spoken = language.load(Ordering::Relaxed);
            cache.insert(key, &words(spoken, key)).unwrap();
            if insert % 16 == 0 {
                let adopted = cache.stats().dictionaries.adopted;
                cache.maintain(64 << 10);
                if cache.stats().dictionaries.adopted > adopted {
                    // All that comes from now on wants another one.
                    language.fetch_add(1, Ordering::Relaxed);
                }
                if adopted >= ADOPTED {
                    break;
                }
            }
            assert!(insert < 1_000_000, "it takes too long: {}", cache.stats());
        }
        over.store(true, Ordering::Relaxed);
    });
    let stats = cache.stats();
    assert!(stats.dictionaries.dropped > ADOPTED / 2 && stats.dictionaries.held < 8, "{stats}");
    assert_eq!((stats.removals.corrupt, stats.unreadable), (0, 0), "{stats}");
    cache.check();
}
