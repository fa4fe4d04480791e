//! Pages that look random: those that shrink are compressed, the others cost no codec's time.
#![cfg(not(zcache_loom))]

use std::borrow::Cow;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tests::pattern;
use zcache::codec::{Codec, Context, Corrupt, Zstd};
use zcache::{Cache, Config};

/// A cache whose keys have the same hashes in each run.
type Fixed = Cache<u64, BuildHasherDefault<DefaultHasher>>;

fn noise(seed: u64, len: usize) -> Vec<u8> {
    // The contents of seed 0 start with a word of zeros.
    pattern::bytes(seed + 1, len)
}

/// A page of records that each come `times` times.
fn records(seed: u64, record: usize, times: usize, len: usize) -> Vec<u8> {
    let different = (0..len.div_ceil(record * times) as u64)
        .flat_map(|number| noise(seed << 20 | number, record).repeat(times));
    different.take(len).collect()
}

/// A random page whose bytes from `at` on repeat `with`.
fn partly(seed: u64, len: usize, at: usize, with: &[u8]) -> Vec<u8> {
    let mut page = noise(seed, len);
    page[at..].iter_mut().zip(with).for_each(|(byte, with)| *byte = *with);
    page
}

/// A kind of page, made by its number.
type Kind = (&'static str, fn(u64) -> Vec<u8>);

/// Kinds of page of which 128 samples look random, or nearly so.
const KINDS: [Kind; 16] = [
    ("records of 256 bytes, all the same", |i| records(i, 256, 16, 4096)),
    ("records of 512 bytes, all the same", |i| records(i, 512, 8, 4096)),
    ("records of 100 bytes, all the same", |i| records(i, 100, 41, 4096)),
    ("records of 384 bytes, all the same", |i| records(i, 384, 43, 16 << 10)),
    ("records of 777 bytes, all the same", |i| records(i, 777, 6, 4096)),
    ("two halves", |i| records(i, 2048, 2, 4096)),
    ("two halves of 8 KiB", |i| records(i, 8192, 2, 16 << 10)),
    ("hashes of 32 bytes, three times each", |i| records(i, 32, 3, 4096)),
    ("hashes of 16 bytes, twice each", |i| records(i, 16, 2, 4096)),
    ("half zeros", |i| partly(i, 4096, 2048, &[0; 2048])),
    ("a quarter zeros", |i| partly(i, 16 << 10, 12 << 10, &[0; 4096])),
    ("an eighth free, in front", |i| partly(i, 8192, 0, &[0; 1024])),
    ("an eighth free, in the middle", |i| partly(i, 8192, 3000, &[0xff; 1024])),
    ("pairs of a random byte and a zero", |i| {
        noise(i, 2048).iter().flat_map(|b| [*b, 0]).collect()
    }),
    ("words of 64, at random", |i| {
        noise(i, 512).iter().flat_map(|b| noise(u64::from(b & 63), 16)[8..].to_vec()).collect()
    }),
    ("heads of 20 bytes, 108 random ones behind each", |i| {
        let row = |n: u64| [noise(7, 20), noise(i << 20 | n, 108)].concat();
        (0..32).flat_map(row).collect()
    }),
];

#[test]
fn what_a_codec_shrinks_is_compressed_though_it_looks_random() {
    let lz4 = || Config::new(16 << 20);
    let zstd = || Config::new(16 << 20).codec(Zstd::level(3).unwrap());
    for (name, page) in KINDS {
        let ratio = |config: Config, always: bool| {
            let config = config.max_page(16 << 10).always_compress(always);
            let cache = Fixed::with_hasher(config, BuildHasherDefault::default()).unwrap();
            (0..200).for_each(|key| cache.insert(key, &page(key)).unwrap());
            assert!((0..200).step_by(29).all(|key| cache.get(&key).unwrap() == page(key)));
            cache.stats().compression_ratio()
        };
        let (found, best) = (ratio(lz4(), false), ratio(lz4(), true));
        assert!(found >= 0.9 * best, "{name}, LZ4: {found:.2} of {best:.2}");
        let (found, best) = (ratio(zstd(), false), ratio(zstd(), true));
        assert!(found >= 0.9 * best, "{name}, zstd: {found:.2} of {best:.2}");
        // All kinds are worth it with zstd, all but the pairs with LZ4.
        assert!(best > 1.05, "{name}: zstd shrinks it {best:.2} times");
    }
}

/// Shrinks what [`pattern::bytes`] makes to its seed, and counts the pages that it is given.
#[derive(Debug, Clone, Default)]
struct Seeds(Arc<AtomicUsize>);

impl Codec for Seeds {
    fn name(&self) -> Cow<'static, str> {
        "seeds".into()
    }

    fn context_bytes(&self, _max_page: usize) -> usize {
        64
    }

    fn context(&self, _max_page: usize) -> io::Result<Box<dyn Context>> {
        Ok(Box::new(self.clone()))
    }
}

impl Context for Seeds {
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let seed = page.first_chunk()?;
        let known = pattern::bytes(u64::from_le_bytes(*seed), page.len()) == page;
        to.get_mut(..8).filter(|_| known)?.copy_from_slice(seed);
        known.then_some(8)
    }

    fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt> {
        let seed = payload.try_into().map_err(|_| Corrupt)?;
        pattern::fill(u64::from_le_bytes(seed), page);
        Ok(())
    }
}

/// A cache with that codec, and the number of pages that the codec was given.
fn seeds(always: bool) -> (Fixed, impl Fn() -> usize) {
    let codec = Seeds::default();
    let config = Config::new(32 << 20).max_page(1024).always_compress(always).codec(codec.clone());
    let cache = Fixed::with_hasher(config, BuildHasherDefault::default()).unwrap();
    (cache, move || codec.0.swap(0, Ordering::Relaxed))
}

/// A page that the codec does not know.
fn unknown(seed: u64) -> Vec<u8> {
    partly(seed, 1024, 1000, &[1, 2, 3])
}

#[test]
fn one_random_page_of_256_reaches_the_codec() {
    let (cache, given) = seeds(false);
    (0..10_000).for_each(|key| cache.insert(key, &unknown(key)).unwrap());
    let given = given();
    assert!((10..100).contains(&given), "{given}");
    assert_eq!(cache.stats().raw, cache.stats().entries);
}

#[test]
fn every_page_reaches_the_codec_where_that_is_asked_for() {
    let (cache, given) = seeds(true);
    (0..1000).for_each(|key| cache.insert(key, &unknown(key)).unwrap());
    assert_eq!((given(), cache.stats().raw), (1000, 1000));
    (0..1000).for_each(|key| cache.insert(key, &noise(key, 1024)).unwrap());
    assert_eq!((given(), cache.stats().raw), (1000, 0));
}

#[test]
fn a_cache_learns_that_pages_which_look_random_shrink_and_that_they_do_not() {
    let (cache, given) = seeds(false);
    (0..4000).for_each(|key| cache.insert(key, &noise(key, 1024)).unwrap());
    let raw = cache.stats().raw;
    assert!((1..2000).contains(&raw), "{raw} of 4000 are raw");
    assert_eq!(given() + raw, 4000, "every page that reaches the codec is stored compressed");
    (0..4000).for_each(|key| assert_eq!(cache.get(&key).unwrap(), noise(key, 1024)));
    (0..4000).for_each(|key| cache.insert(key, &unknown(key)).unwrap());
    let vain = given();
    assert!((1..2000).contains(&vain), "{vain} of 4000 are compressed in vain");
    (0..4000).for_each(|key| assert_eq!(cache.get(&key).unwrap(), unknown(key)));
    cache.check();
}
