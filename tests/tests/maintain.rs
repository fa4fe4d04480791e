//! Maintenance: cold entries get smaller and stay the same pages; dictionaries come where they
//! help, and go.
#![cfg(not(zcache_loom))]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tests::callbacks::DEADLINE;
use tests::pattern;
use tests::user_code::{Contexts, Fragile, Key, Tally, Trap, pass_planted_panics, with_trap};
use zcache::codec::{self, Lz4, Zstd};
use zcache::{Cache, Config, ConfigError, HotShare, InsertOptions, Maintainer, TrainingOutcome};

fn zstd() -> Zstd {
    Zstd::level(3).expect("a level")
}

fn config(capacity: usize) -> Config {
    Config::new(capacity).max_page(8192).shards(16).checksum(true)
}

/// A page of words that all of them have in common: what dictionaries are good for.
fn words(page: usize, language: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    pattern::words(language, page as u64 + 1, &mut bytes);
    bytes
}

fn prose(page: usize) -> Vec<u8> {
    words(page, 1)
}

/// Pages that have nothing in common: runs of random lengths of few values.
fn unlike(page: usize) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    pattern::fill(page as u64 + 1, &mut bytes);
    bytes[2000..].fill(page as u8);
    bytes
}

fn filled(cache: &Cache<usize>, pages: std::ops::Range<usize>, page: impl Fn(usize) -> Vec<u8>) {
    pages.for_each(|key| cache.insert(key, &page(key)).expect("room"));
}

/// Calls `maintain` until the hand has been round so often.
fn sweep(cache: &Cache<usize>, sweeps: u64) -> u64 {
    let (mut done, mut recompressed) = (0, 0);
    while done < sweeps && !cache.is_empty() {
        let step = cache.maintain(64 << 10);
        assert!(!step.busy && step.recompression.recompressed <= step.recompression.tried);
        done += u64::from(step.swept);
        recompressed += step.recompression.recompressed;
    }
    cache.check();
    recompressed
}

fn same(cache: &Cache<usize>, page: impl Fn(usize) -> Vec<u8>) -> usize {
    let keys = cache.keys();
    for key in &keys {
        assert!(cache.peek(key).as_deref() == Some(&page(*key)[..]), "page {key}");
        let mut start = [0; 100];
        start.copy_from_slice(&page(*key)[..100]);
        assert!(cache.get_range(key, 0..100).as_deref() == Some(&start[..]), "its start");
    }
    keys.len()
}

#[test]
fn cold_entries_get_smaller_and_stay_the_same_pages() {
    let cache = Cache::new(config(8 << 20).cold_codec(zstd())).unwrap();
    let cache = cache.on_removal(|gone| panic!("{:?} went", gone.cause()));
    filled(&cache, 0..500, prose);
    let before = cache.stats();
    assert_eq!(sweep(&cache, 1), 0, "nothing is cold at once");
    (0..50).for_each(|key| assert!(cache.get(&key).is_some()));
    assert_eq!(sweep(&cache, 1), 450, "what was not hit for a sweep");
    let after = cache.stats();
    assert!(after.bytes.payload < before.bytes.payload * 9 / 10, "{before}{after}");
    assert!(after.bytes.pages < before.bytes.pages, "whole pages came free");
    assert_eq!((after.inserts, after.removals, after.entries), (500, before.removals, 500));
    assert_eq!(after.recompression.recompressed, 450);
    assert_eq!(same(&cache, prose), 500);
    assert_eq!(sweep(&cache, 2), 50, "the others in their turn");
    assert_eq!(sweep(&cache, 2), 0, "and none of them again");
}

#[test]
fn a_page_that_is_inserted_again_is_back_with_the_first_codec() {
    let cache = Cache::new(config(8 << 20).cold_codec(zstd())).unwrap();
    filled(&cache, 0..100, prose);
    let warm = cache.stats().bytes.payload;
    assert_eq!(sweep(&cache, 2), 100);
    assert!(cache.stats().bytes.payload < warm);
    filled(&cache, 0..100, prose);
    assert_eq!(cache.stats().bytes.payload, warm);
    assert_eq!((same(&cache, prose), cache.stats().removals.replaced), (100, 100));
}

#[test]
fn what_does_not_get_smaller_is_tried_once_a_rest() {
    let cache = Cache::new(config(8 << 20).cold_codec(Lz4)).unwrap();
    filled(&cache, 0..100, prose);
    let before = cache.stats().bytes;
    assert_eq!(sweep(&cache, 4), 0);
    assert_eq!(cache.stats().recompression.tried, 100);
    (0..10).for_each(|key| assert!(cache.get(&key).is_some()));
    assert_eq!(sweep(&cache, 4), 0);
    assert_eq!(cache.stats().recompression.tried, 110, "a hit starts another rest");
    assert_eq!((cache.stats().bytes.payload, same(&cache, prose)), (before.payload, 100));
    // Nor is a page that no codec makes smaller worth a compression.
    let cache = Cache::new(config(8 << 20).cold_codec(zstd())).unwrap();
    filled(&cache, 0..50, |page| {
        let mut bytes = vec![0; 4096];
        pattern::fill(page as u64, &mut bytes);
        bytes
    });
    assert_eq!((sweep(&cache, 3), cache.stats().raw), (0, 50));
}

#[test]
fn pages_that_are_kept_as_they_are_get_smaller_when_they_are_cold() {
    let cache = Cache::new(config(8 << 20).codec(codec::Plain).cold_codec(zstd())).unwrap();
    filled(&cache, 0..100, prose);
    assert_eq!((cache.stats().raw, sweep(&cache, 2), cache.stats().raw), (100, 100, 0));
    assert_eq!(same(&cache, prose), 100);
}

#[test]
fn a_time_to_live_is_the_same_after_a_recompression() {
    // A machine that does not get through in that time gets ten times as much.
    let lives = [400, 4000, 40_000, 400_000].map(Duration::from_millis);
    let tried = lives.into_iter().find_map(|life| {
        let cache = Cache::new(config(8 << 20).cold_codec(zstd())).unwrap();
        let start = Instant::now();
        let how = InsertOptions::new().time_to_live(life);
        (0..20).for_each(|key| cache.insert_with_options(key, &prose(key), how).unwrap());
        filled(&cache, 20..40, prose);
        let recompressed = sweep(&cache, 2);
        let there = cache.contains_key(&1);
        (start.elapsed() < life).then_some((cache, recompressed, there, start, life))
    });
    let (cache, recompressed, there, start, life) = tried.expect("some life is long enough");
    assert_eq!((recompressed, there), (40, true), "it has its time");
    thread::sleep((life + Duration::from_millis(50)).saturating_sub(start.elapsed()));
    assert!(!cache.contains_key(&1) && cache.contains_key(&21));
    sweep(&cache, 1);
    assert_eq!(
        (cache.len(), cache.stats().removals.expired),
        (20, 20),
        "maintenance ends what expired"
    );
}

#[test]
fn pages_that_are_hot_are_not_cold() {
    let cache = Cache::new(config(8 << 20).cold_codec(zstd()).hot(HotShare::Fraction(4))).unwrap();
    filled(&cache, 0..100, prose);
    (0..4).for_each(|_| drop(cache.get(&7)));
    assert_eq!(cache.stats().frames, 1);
    assert_eq!(sweep(&cache, 3), 99);
    let hits = cache.stats().hot_hits;
    assert!(cache.get(&7).is_some() && cache.stats().hot_hits == hits + 1);
    assert_eq!(same(&cache, prose), 100);
}

#[test]
fn recompressed_pages_evict_less_than_they_save() {
    let capacity = 2 << 20;
    let cache = Cache::new(config(capacity).cold_codec(zstd())).unwrap();
    // The contexts of the stronger codec take their room first.
    filled(&cache, 0..20, prose);
    sweep(&cache, 2);
    let mut key = 20;
    while cache.stats().removals.evicted < 100 {
        cache.insert(key, &prose(key)).unwrap();
        key += 1;
    }
    let before = cache.stats();
    let mut done = 0;
    while done < 6 {
        done += u64::from(cache.maintain(20_000).swept);
        assert!(cache.held_bytes() <= capacity, "the budget holds at any time");
    }
    let after = cache.stats();
    let spent = (before.entries - after.entries) * 4096;
    let saved = after.recompression.bytes_saved - before.recompression.bytes_saved;
    assert!(spent <= (128 << 10) + saved as usize, "{spent} {saved} {before}{after}");
    let recompressed = after.recompression.recompressed as usize;
    assert!(recompressed > before.entries / 2, "{after}");
    // And there is more room than before.
    filled(&cache, key..key + 50, prose);
    assert_eq!(cache.stats().removals.evicted, after.removals.evicted);
    same(&cache, prose);
    cache.check();
}

#[test]
fn a_dictionary_is_adopted_where_held_out_pages_gain() {
    let cache = Cache::new(config(16 << 20).codec(zstd()).train(4 << 10)).unwrap();
    let empty = cache.stats().bytes;
    filled(&cache, 0..50, prose);
    assert_eq!(cache.maintain(0).training, TrainingOutcome::Nothing, "the sample starts");
    assert!(cache.stats().bytes.sample > 100 * 4000);
    let mut key = 50;
    while cache.maintain(0).training == TrainingOutcome::Nothing {
        filled(&cache, key..key + 100, prose);
        key += 100;
        cache.check();
        assert!(key < 5000, "eight times a sample of 100 pages or so");
    }
    let stats = cache.stats();
    assert_eq!((stats.dictionaries.adopted, stats.dictionaries.held), (1, 1), "{stats}");
    assert_eq!((stats.bytes.sample, stats.removals.evicted), (0, 0));
    assert!(stats.bytes.codec > empty.codec, "the dictionary is charged");
    // What came before is as it was, and what comes now is smaller.
    assert_eq!(same(&cache, prose), key);
    let (entries, payload) = (cache.len(), cache.stats().bytes.payload);
    filled(&cache, key..2 * key, prose);
    let each = (cache.stats().bytes.payload - payload) / key;
    assert!(each * 100 < payload / entries * 90, "{each} B a page, of {}", payload / entries);
    assert_eq!(same(&cache, prose), 2 * key);
    // And what is cold gets the dictionary in its turn.
    assert!(sweep(&cache, 2) > key as u64 * 9 / 10);
    assert_eq!(same(&cache, prose), 2 * key);
}

#[test]
fn a_dictionary_that_is_no_gain_on_held_out_pages_is_not_used() {
    let cache = Cache::new(config(16 << 20).codec(zstd()).train(1 << 10)).unwrap();
    let empty = cache.held_bytes();
    cache.maintain(0);
    let mut tries = Vec::new();
    for key in 0..6000 {
        cache.insert(key % 300, &unlike(key)).unwrap();
        match cache.maintain(0).training {
            TrainingOutcome::Nothing => {}
            TrainingOutcome::Rejected | TrainingOutcome::Failed => tries.push(key),
            other => panic!("{other:?}"),
        }
    }
    let stats = cache.stats();
    assert_eq!((stats.dictionaries.adopted, stats.dictionaries.held), (0, 0), "{stats}");
    assert_eq!(stats.dictionaries.rejected + stats.dictionaries.failed, tries.len() as u64);
    assert!(tries.len() >= 2 && tries.windows(3).all(|w| w[2] - w[1] > w[1] - w[0]), "{tries:?}");
    assert_eq!(same(&cache, |key| unlike(5700 + key)), 300);
    cache.clear();
    cache.resize(16 << 20).unwrap();
    cache.trim();
    cache.check();
    // Nothing is left but a context or two, tables, and the sample that may be open.
    let left = cache.held_bytes() - empty - cache.stats().bytes.sample;
    assert!(left < 600 << 10, "{left} bytes: {}", cache.stats());
}

#[test]
fn a_sample_of_pages_that_are_not_compressed_is_given_up() {
    let cache = Cache::new(config(16 << 20).cold_codec(zstd()).train(4 << 10)).unwrap();
    cache.maintain(0);
    assert!(cache.stats().bytes.sample > 0);
    let mut random = vec![0; 512];
    for key in 0..8000 {
        pattern::fill(key, &mut random);
        cache.insert(key as usize % 100, &random).unwrap();
    }
    assert_eq!(cache.maintain(0).training, TrainingOutcome::Failed);
    assert_eq!((cache.stats().bytes.sample, cache.stats().dictionaries.failed), (0, 1));
    assert_eq!(cache.maintain(0).training, TrainingOutcome::Nothing);
    assert_eq!(cache.stats().bytes.sample, 0, "it is not tried again at once");
    cache.check();
}

/// The same in another language.
fn other_prose(page: usize) -> Vec<u8> {
    words(page, 2)
}

#[test]
fn a_dictionary_goes_with_its_last_entry() {
    let cache = Cache::new(config(16 << 20).codec(zstd()).train(4 << 10)).unwrap();
    let adopt = |from: usize, page: fn(usize) -> Vec<u8>| {
        let mut key = from;
        loop {
            match cache.maintain(0).training {
                TrainingOutcome::Adopted => return key,
                TrainingOutcome::Nothing => {}
                other => panic!("{other:?}"),
            }
            cache.insert(key % 1000, &page(key)).unwrap();
            key += 1;
        }
    };
    adopt(0, prose);
    let first = cache.stats();
    filled(&cache, 5000..5050, prose);
    let key = adopt(0, other_prose);
    assert!(key < 100_000);
    filled(&cache, 0..1000, other_prose);
    (0..5).for_each(|_| assert_eq!(cache.maintain(0).dropped, 0, "entries need it"));
    let both = cache.stats();
    assert_eq!((both.dictionaries.held, both.dictionaries.dropped), (2, 0));
    assert!(both.bytes.codec >= first.bytes.codec + (100 << 10), "{first}{both}");
    (5000..5050).for_each(|key| assert!(cache.get(&key).as_deref() == Some(&prose(key)[..])));
    (5000..5049).for_each(|key| assert!(cache.remove(&key)));
    (0..5).for_each(|_| assert_eq!(cache.maintain(0).dropped, 0, "one is left"));
    assert!(cache.get(&5049).as_deref() == Some(&prose(5049)[..]));
    assert!(cache.remove(&5049));
    // Readers of other caches in this process delay it.
    while cache.maintain(0).dropped == 0 {
        std::thread::yield_now();
    }
    (0..5).for_each(|_| assert_eq!(cache.maintain(0).dropped, 0, "the newest one stays"));
    let last = cache.stats();
    assert_eq!((last.dictionaries.dropped, last.dictionaries.held), (1, 1));
    assert!(last.bytes.codec + (100 << 10) <= both.bytes.codec, "its bytes are back: {both}{last}");
    cache.check();
}

#[test]
fn cold_entries_leave_a_dictionary_that_has_a_successor() {
    let cold = config(16 << 20).cold_codec(zstd()).train(4 << 10);
    let cache = Cache::new(cold).unwrap();
    let mut adopted = 0;
    for (round, page) in [prose as fn(usize) -> Vec<u8>, other_prose].into_iter().enumerate() {
        let mut key = 0;
        while adopted == round {
            cache.insert(10_000 * round + key % 700, &page(key % 700)).unwrap();
            adopted += usize::from(cache.maintain(10_000).training == TrainingOutcome::Adopted);
            key += 1;
            assert!(key < 60_000, "{}", cache.stats());
        }
        sweep(&cache, 3);
    }
    let stats = cache.stats();
    assert!(stats.dictionaries.adopted == 2 && stats.recompression.recompressed > 700, "{stats}");
    assert_eq!(same(&cache, |key| [prose, other_prose][key / 10_000](key % 10_000)), cache.len());
    cache.check();
}

#[test]
fn settings_that_cannot_work_are_errors() {
    let made = |config: Config| Cache::<u64>::new(config).map(drop);
    let refused = made(config(16 << 20).train(4 << 10));
    assert!(matches!(refused, Err(ConfigError::Training(4096))), "LZ4 takes no training");
    let refused = made(config(16 << 20).codec(zstd()).train(255));
    assert!(matches!(refused, Err(ConfigError::Training(255))), "{refused:?}");
    assert!(refused.unwrap_err().to_string().contains("255 bytes"));
    let shared: Arc<dyn codec::Codec> = Arc::new(zstd());
    made(config(16 << 20).codec(shared).train(4 << 10)).unwrap();
    let tight = |capacity| config(capacity).cold_codec(zstd()).train(4 << 10);
    let Err(ConfigError::TooSmall { least }) = made(tight(0)) else { panic!("nothing is enough") };
    let cache = Cache::new(tight(least)).unwrap();
    for key in 0..3000 {
        cache.insert(key % 64, &prose(key % 64)).unwrap();
        cache.maintain(8192);
        assert!(cache.held_bytes() <= least);
    }
    assert!(
        cache.stats().dictionaries.adopted == 1,
        "the least is enough for all: {}",
        cache.stats()
    );
    same(&cache, prose);
    cache.check();
}

#[test]
fn a_call_from_a_hook_or_beside_another_does_nothing() {
    let cache = Arc::new_cyclic(|weak: &std::sync::Weak<Cache<usize>>| {
        let weak = weak.clone();
        let cache = Cache::new(config(8 << 20).cold_codec(zstd())).unwrap();
        cache.on_removal(move |_| {
            let step = weak.upgrade().map(|cache| cache.maintain(usize::MAX));
            assert!(step.is_none_or(|step| step.busy));
        })
    });
    filled(&cache, 0..50, prose);
    assert!(cache.remove(&1));
    let how = InsertOptions::new().time_to_live(Duration::ZERO);
    cache.insert_with_options(1, &prose(1), how).unwrap();
    let step = cache.maintain(usize::MAX);
    assert!(step.expired == 1 && !step.busy && step.swept);
}

#[test]
fn a_thread_maintains_a_cache_until_it_is_told_to_stop() {
    let cache = Arc::new(Cache::new(config(8 << 20).cold_codec(zstd())).unwrap());
    filled(&cache, 0..200, prose);
    let wait = |what: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !what() {
            assert!(start.elapsed() < DEADLINE, "it takes too long");
            thread::sleep(Duration::from_millis(1));
        }
    };
    let maintainer = Maintainer::start(&cache, Duration::from_millis(1), 1 << 20).unwrap();
    wait(&|| cache.stats().recompression.recompressed == 200);
    drop(maintainer);
    assert_eq!(Arc::strong_count(&cache), 1, "the thread is gone");
    // A long pause does not hold up the end, nor does the thread keep the cache.
    let start = Instant::now();
    drop(Maintainer::start(&cache, Duration::from_secs(3600), 1).unwrap());
    let maintainer = Maintainer::start(&cache, Duration::from_millis(1), 1).unwrap();
    assert!(start.elapsed() < DEADLINE, "less than its pause");
    let last = Arc::downgrade(&cache);
    drop(cache);
    wait(&|| last.strong_count() == 0);
    drop(maintainer);
}

#[test]
fn user_code_that_panics_ends_a_call_and_nothing_else() {
    pass_planted_panics();
    let tally = Arc::new(Tally::default());
    let contexts = Arc::new(Contexts::default());
    {
        // The first codec stores pages as they are, so that only recompression runs the other one.
        let fragile = Fragile(Arc::clone(&contexts));
        let config = config(4 << 20).codec(codec::Plain).cold_codec(fragile).shards(2);
        let cache: Cache<Key> = Cache::new(config).unwrap();
        for name in 0..60 {
            cache.insert(Key::new(&tally, name), &prose(name as usize)).unwrap();
        }
        let traps = [Trap::Clone, Trap::Compress, Trap::Context, Trap::ContextBytes, Trap::Drop];
        let (mut sprang, mut swept) = (0, 0);
        for round in 0.. {
            let trap = traps[round % traps.len()];
            let step = with_trap(trap, round / traps.len() % 3, || cache.maintain(12_000));
            sprang += usize::from(step.is_none());
            swept += u64::from(step.is_some_and(|step| step.swept));
            cache.check();
            assert_eq!((cache.len(), tally.alive()), (60, 60), "after {trap:?}");
            if swept == 4 {
                break;
            }
        }
        assert!(sprang >= 10, "{sprang}");
        while !cache.maintain(usize::MAX).swept {}
        cache.maintain(usize::MAX);
        assert_eq!((cache.stats().raw, cache.stats().inserts), (0, 60));
        for name in 0..60 {
            let page = cache.get(&Key::new(&tally, name)).expect("no page is lost");
            assert!(page == prose(name as usize));
        }
        cache.check();
    }
    assert_eq!((tally.alive(), contexts.alive()), (0, 0));
    tally.assert_each_dropped_once();
}
