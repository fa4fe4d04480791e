//! What went wrong once between the cache and its codecs.
#![cfg(all(not(zcache_loom), unix))]

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tests::callbacks::{config, page, panics};
use tests::corpus;
use zcache::codec::{Codec, Context, Corrupt, Dictionary, Lz4, Zstd};
use zcache::{Cache, Config, ConfigError, RemovalCause};
use zpool::SourceKind;
use zpool::source::MmapOptions;

/// LZ4 with contexts of a size that it is told, which panic when they are made or dropped, on
/// demand.
#[derive(Debug, Default)]
struct Moody {
    bytes: AtomicUsize,
    making_panics: AtomicBool,
    dropping_panics: AtomicBool,
}

struct MoodyContext(Arc<Moody>, Box<dyn Context>);

#[derive(Debug, Clone)]
struct Shared(Arc<Moody>);

impl Codec for Shared {
    fn name(&self) -> Cow<'static, str> {
        "moody".into()
    }

    fn context_bytes(&self, _max_page: usize) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    fn context(&self, max_page: usize) -> io::Result<Box<dyn Context>> {
        assert!(!self.0.making_panics.load(Ordering::Relaxed), "planted");
        Ok(Box::new(MoodyContext(Arc::clone(&self.0), Lz4.context(max_page)?)))
    }
}

impl Context for MoodyContext {
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
        self.1.compress(page, to)
    }

    fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt> {
        self.1.decompress(payload, page)
    }
}

impl Drop for MoodyContext {
    fn drop(&mut self) {
        assert!(!self.0.dropping_panics.load(Ordering::Relaxed), "planted");
    }
}

fn moody(bytes: usize) -> (Arc<Moody>, Cache<u64>) {
    let moody = Arc::new(Moody { bytes: bytes.into(), ..Moody::default() });
    let codec = Shared(Arc::clone(&moody));
    (moody, Cache::new(config(1 << 20).codec(codec)).unwrap())
}

/// The context's bytes were charged and never released.
#[test]
fn a_codec_that_panics_making_a_context_leaves_the_ledger_even() {
    let (moody, cache) = moody(50_000);
    let empty = cache.held_bytes();
    for _ in 0..30 {
        moody.making_panics.store(true, Ordering::Relaxed);
        assert!(panics(|| cache.insert(1, &page(1, 4096))));
        moody.making_panics.store(false, Ordering::Relaxed);
        cache.trim();
        cache.check();
        assert_eq!(cache.held_bytes(), empty);
    }
    cache.insert(1, &page(1, 4096)).unwrap();
    assert_eq!(cache.get(&1).unwrap(), page(1, 4096));
}

/// The same where a context panics as it goes.
#[test]
fn a_context_that_panics_in_its_drop_leaves_the_ledger_even() {
    let (moody, cache) = moody(50_000);
    let empty = cache.held_bytes();
    cache.insert(1, &page(1, 4096)).unwrap();
    moody.dropping_panics.store(true, Ordering::Relaxed);
    // A longer page takes a larger context, in the place of the one there is.
    cache.insert(2, &page(2, 4096)).unwrap();
    assert!(panics(|| cache.insert(3, &page(3, 8192))));
    cache.check();
    moody.dropping_panics.store(false, Ordering::Relaxed);
    cache.clear();
    cache.trim();
    cache.check();
    assert!(cache.held_bytes() < empty + 50_000);
}

/// What was released was what the codec said then, not what had been charged.
#[test]
fn a_codec_that_changes_its_mind_about_a_context_leaves_the_ledger_even() {
    let (moody, cache) = moody(50_000);
    let mut empty = None;
    for (bytes, len) in [(70_000, 4096), (90, 8192), (usize::MAX, 4096), (0, 8192), (9000, 3000)] {
        moody.bytes.store(1000, Ordering::Relaxed);
        cache.insert(1, &page(1, 3000)).unwrap();
        moody.bytes.store(bytes, Ordering::Relaxed);
        let _ = cache.insert(2, &page(2, len));
        cache.check();
        let _ = cache.stats();
        cache.clear();
        cache.trim();
        cache.check();
        // But for what the pool's own tables take, and the contexts that are kept.
        let held = cache.held_bytes() - cache.stats().bytes.codec;
        assert!(held.abs_diff(*empty.get_or_insert(held)) < 500, "{bytes}: {held}, {empty:?}");
    }
}

/// The sum that makes the least capacity overflowed.
#[test]
fn a_codec_whose_contexts_take_all_memory_is_no_capacitys() {
    for bytes in [usize::MAX, usize::MAX / 2, usize::MAX / 8, 1 << 40] {
        let codec = Shared(Arc::new(Moody { bytes: bytes.into(), ..Moody::default() }));
        let error = Cache::<u64>::new(config(64 << 20).codec(codec)).unwrap_err();
        assert!(matches!(error, ConfigError::TooSmall { least } if least >= bytes), "{error}");
    }
}

fn zstds() -> Vec<Zstd> {
    let sample = corpus::sample();
    let samples: Vec<&[u8]> = sample.pages().step_by(7).collect();
    let dictionary = Dictionary::train(&samples, 4 << 10).expect("enough samples");
    let levels = [-5, 1, 3].map(|level| Zstd::level(level).expect("a level"));
    let plain = levels.clone().into_iter();
    plain.chain(levels.map(|zstd| zstd.with_dictionary(&dictionary))).collect()
}

fn least(config: Config) -> usize {
    match Cache::<u64>::new(config) {
        Err(ConfigError::TooSmall { least }) => least,
        other => panic!("a capacity of nothing gave {other:?}"),
    }
}

/// A hook runs while its insert's page waits for room. That page kept the context it was compressed
/// with, so a look-up in the hook wanted a second one, and one in a look-up a third; at capacities
/// that were taken to be enough there was no room for it, and what was there was a miss.
#[test]
fn at_the_least_capacity_hooks_and_look_ups_in_look_ups_find_what_is_there() {
    for codec in zstds() {
        for (max_page, source) in [
            (4096, SourceKind::Mmap(MmapOptions::new())),
            (4096, SourceKind::Heap),
            (5000, SourceKind::Memfd),
            (64 << 10, SourceKind::Heap),
            (64 << 10, SourceKind::Mmap(MmapOptions::new())),
        ] {
            let config = |bytes| {
                let config = Config::new(bytes).max_page(max_page).shards(2).codec(codec.clone());
                config.source(source.clone()).checksum(true)
            };
            let what = format!("{} {max_page} {source:?}", codec.name());
            // A payload over a seam takes a buffer to be looked at, which a hook may not find.
            // Chains of 64 KiB have seams beside the mixed zspages of so small a cache.
            let in_hooks = matches!(source, SourceKind::Mmap(_)) && max_page == 4096;
            look_everywhere(&what, config(least(config(0))), max_page, in_hooks);
        }
    }
}

/// Fills a cache until some entries have been evicted, and looks pages up in every place.
fn look_everywhere(what: &str, config: Config, max_page: usize, in_hooks: bool) {
    let shared: Arc<OnceLock<Cache<u64>>> = Arc::default();
    let weak = Arc::downgrade(&shared);
    let told = Arc::new(AtomicUsize::new(0));
    let (count, name) = (Arc::clone(&told), what.to_owned());
    let cache = Cache::new(config).unwrap().on_removal(move |removal| {
        let world = weak.upgrade().unwrap();
        let cache = world.get().unwrap();
        let is = |key: u64, got: Option<Vec<u8>>| {
            got.map_or(!in_hooks, |got| got == page(key, got.len()))
        };
        assert!(is(*removal.key(), removal.page().map(Vec::from)), "{name}: what goes");
        let others = cache.keys().into_iter().filter(|key| key != removal.key());
        for key in others.take(3) {
            assert!(
                is(key, cache.get(&key).map(Vec::from)),
                "{name}: in a hook for {:?}",
                removal.cause()
            );
        }
        count.fetch_add(usize::from(removal.cause() == RemovalCause::Evicted), Ordering::Relaxed);
    });
    let cache = shared.get_or_init(|| cache);
    let mut key = 0;
    while told.load(Ordering::Relaxed) < 20 {
        let len = if key % 3 == 0 { max_page } else { max_page / 2 };
        let expected = page(key, len);
        assert_eq!(cache.insert(key, &expected), Ok(()), "{what}");
        // Room that a look-up makes for its buffer may be what this very page had.
        let found = |found: Option<bool>| found.unwrap_or_else(|| !cache.contains_key(&key));
        let nested = found(cache.read(&key, |outer| {
            outer == expected && found(cache.read(&key, |inner| inner == expected))
        }));
        assert!(nested, "{what}: a look-up in a look-up");
        key += 1;
        assert!(key < 20_000, "{what}: none is evicted");
    }
    assert!(!in_hooks || cache.stats().unreadable == 0, "{what}: {}", cache.stats());
    cache.check();
    cache.clear();
    cache.check();
}

/// Found by fuzzing: liblz4 reads an offset of 0, which no encoder writes, as zeros, and
/// `decode_prefix` refuses it. Either is an answer to a payload that is none; what was in the
/// buffer is not.
#[test]
fn an_lz4_payload_with_an_offset_of_nothing_shows_no_old_bytes() {
    // Four literals, and four bytes from 0 before; five literals, as the last ones have to be.
    let payload = [0x40, 1, 2, 3, 4, 0, 0, 0x50, 5, 6, 7, 8, 9];
    let decoded = [0, 0xff].map(|filler| {
        let mut page = [filler; 13];
        let decoded = Lz4.decode(&payload, &mut page).expect("needs no context");
        decoded.map(|()| page)
    });
    assert_eq!(decoded[0], decoded[1]);
    for filler in [0, 0xff] {
        let mut start = [filler; 6];
        let part = Lz4.decode_prefix(&payload, 13, &mut start).expect("a short part");
        assert!(part.is_err() || decoded[0].is_ok_and(|page| page.starts_with(&start)));
    }
}
