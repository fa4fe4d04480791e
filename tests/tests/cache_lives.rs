//! How entries come and go: times to live, priorities, owners' calls, leases, and what is counted
//! of it.
#![cfg(not(zcache_loom))]

use std::hash::BuildHasherDefault;
use std::thread;
use std::time::Duration;

use tests::callbacks::{Fixed, LONGEST, Log, cache, config, logged, of, page, pages, taken};
use tests::pattern::{self, Random};
use zcache::policy::{Lru, Policy as _, Priority, S3Fifo, Sieve};
use zcache::{Cache, Config, InsertError, InsertOptions, RemovalCause, Waited};
use zpool::SourceKind;

#[test]
fn what_has_no_time_to_live_is_never_seen_again() {
    let dead = InsertOptions::new().time_to_live(Duration::ZERO);
    let (cache, log) = logged(config(2 << 20));
    let looks: [fn(&Fixed) -> bool; 9] = [
        |cache| cache.get(&1).is_some(),
        |cache| cache.get_into(&1, &mut [0; LONGEST]).unwrap().is_some(),
        |cache| cache.get_into(&1, &mut []).unwrap().is_some(),
        |cache| cache.read(&1, |_| ()).is_some(),
        |cache| cache.get_range(&1, 0..1).is_some(),
        |cache| cache.peek(&1).is_some(),
        |cache| cache.contains_key(&1),
        |cache| cache.take(&1).is_some(),
        |cache| cache.get_many([&1])[0].is_some(),
    ];
    for page in pages(5000) {
        for (number, look) in looks.into_iter().enumerate() {
            cache.insert_with_options(1, &page, dead).unwrap();
            assert_eq!(cache.keys(), [], "keys that have expired are not listed");
            assert!(!look(&cache), "look-up {number}");
            assert_eq!(taken(&log), [(1, RemovalCause::Expired)], "look-up {number}");
            assert!(cache.is_empty());
        }
        cache.insert_with_options(1, &page, dead).unwrap();
        assert!(cache.get_or_lease(&1).lease().is_some());
        cache.insert_with_options(1, &page, dead).unwrap();
        let load = |to: &mut Vec<u8>| {
            to.push(7);
            Ok::<(), std::io::Error>(())
        };
        assert_eq!(cache.get_or_insert_with(&1, load).unwrap(), [7][..]);
        cache.insert(1, &page).unwrap();
        assert!(cache.remove(&1), "an insert without a time lives");
        taken(&log);
    }
    let stats = cache.stats();
    assert_eq!(stats.removals.expired, 3 * 11);
    assert_eq!(stats.bytes.payload, 0);
    cache.check();
}

#[test]
fn a_time_of_its_own_outweighs_the_caches() {
    let cache: Cache<u64> =
        Cache::new(config(2 << 20).time_to_live(Duration::from_millis(40))).unwrap();
    let hour = InsertOptions::new().time_to_live(Duration::from_secs(3600));
    for (key, page) in (0..).zip(pages(3000)) {
        cache.insert_with_options(key * 10 + 1, &page, hour).unwrap();
        cache
            .insert_with_options(
                key * 10 + 2,
                &page,
                InsertOptions::new().time_to_live(Duration::MAX),
            )
            .unwrap();
        let start = std::time::Instant::now();
        cache.insert(key * 10, &page).unwrap();
        let seen = of(&cache, key * 10);
        assert!(seen.is_some() || start.elapsed() >= Duration::from_millis(39), "it lives first");
        cache.insert_with_options(key * 10, &page, InsertOptions::new()).unwrap();
    }
    thread::sleep(Duration::from_millis(60));
    for (key, page) in (0..).zip(pages(3000)) {
        assert_eq!(of(&cache, key * 10), None, "the cache's time is over");
        assert_eq!(of(&cache, key * 10 + 1).as_ref(), Some(&page));
        assert_eq!(of(&cache, key * 10 + 2).as_ref(), Some(&page));
    }
    cache.check();
}

#[test]
fn entries_that_have_expired_are_reclaimed_by_inserts_in_passing() {
    let (cache, log) = logged(config(8 << 20));
    let dead = InsertOptions::new().time_to_live(Duration::ZERO);
    for key in 0..100 {
        cache.insert_with_options(key, &page(key, 4096), dead).unwrap();
    }
    for key in 1000..1300 {
        cache.insert(key, &page(key, 4096)).unwrap();
    }
    assert_eq!((cache.len(), cache.stats().removals.expired), (300, 100), "nobody asked for them");
    let mut gone = taken(&log);
    gone.sort_unstable_by_key(|(key, _)| *key);
    assert_eq!(gone, (0..100).map(|key| (key, RemovalCause::Expired)).collect::<Vec<_>>());
    cache.check();
}

#[test]
fn what_has_expired_goes_before_what_has_not() {
    let (cache, log) = logged(config(2 << 20));
    let mut key = 0;
    while taken(&log).is_empty() {
        cache.insert(key, &page(key, 4096)).unwrap();
        key += 1;
    }
    let live = cache.len();
    let dead = InsertOptions::new().time_to_live(Duration::ZERO);
    // Half of the entries are replaced by ones that are dead at once; they make room for the next.
    let half: Vec<u64> = cache.keys().into_iter().take(live / 2).collect();
    for key in &half {
        cache.insert_with_options(*key, &page(*key, 4096), dead).unwrap();
    }
    taken(&log);
    for key in 100_000..100_000 + live as u64 / 4 {
        cache.insert(key, &page(key, 4096)).unwrap();
    }
    let gone = taken(&log);
    let evicted = gone.iter().filter(|(_, cause)| *cause == RemovalCause::Evicted).count();
    let expired = gone.iter().filter(|(_, cause)| *cause == RemovalCause::Expired).count();
    assert!(evicted * 10 <= expired, "{evicted} evicted, {expired} expired of {live}");
    cache.check();
}

/// Fills a cache until `evictions` entries have been evicted.
fn push(cache: &Fixed, log: &Log, evictions: usize) -> Vec<u64> {
    let mut key = 1 << 32;
    while log.lock().unwrap().len() < evictions {
        cache.insert(key, &page(key, 4096)).unwrap();
        key += 1;
    }
    taken(log).into_iter().map(|(key, _)| key).collect()
}

#[test]
fn low_priority_goes_first_and_high_priority_last() {
    let policies: [fn(Config) -> Config; 3] = [
        |config| config.policy(S3Fifo::new()),
        |config| config.policy(Sieve::new()),
        |config| config.policy(Lru::new()),
    ];
    for (number, policy) in policies.into_iter().enumerate() {
        let (cache, log) = logged(policy(config(2 << 20)));
        for key in 0..100 {
            cache.insert(key, &page(key, 4096)).unwrap();
        }
        for key in 100..200 {
            let low = InsertOptions::new().priority(Priority::Low);
            cache.insert_with_options(key, &page(key, 4096), low).unwrap();
        }
        let gone = push(&cache, &log, 80);
        let low = gone.iter().filter(|key| (100..200).contains(*key)).count();
        let normal = gone.iter().filter(|key| **key < 100).count();
        // A newcomer may go at once where a probation queue is what is full.
        assert!(low >= 60 && normal < low / 2, "policy {number}: {low} low, {normal} normal");
        cache.check();
    }
    for policy in [S3Fifo::plain(), S3Fifo::new()] {
        let plain = policy.name() == "s3-fifo-plain";
        let (cache, log) = logged(config(2 << 20).policy(policy));
        for key in 0..200 {
            let priority = if key < 100 { Priority::High } else { Priority::Normal };
            let how = InsertOptions::new().priority(priority);
            cache.insert_with_options(key, &page(key, 4096), how).unwrap();
        }
        let gone = push(&cache, &log, 600);
        let high = gone.iter().filter(|key| **key < 100).count();
        let normal = gone.iter().filter(|key| (100..200).contains(*key)).count();
        // Those that filled the main queue are not passed by pages that nobody asks for again.
        assert!(normal > if plain { 90 } else { 10 }, "{normal} normal");
        assert!(high < normal / 2, "{high} high, {normal} normal");
        cache.check();
    }
}

/// The order in which entries go, after `touch` was done to each of the older half.
fn order_of_going(policy: fn(Config) -> Config, touch: fn(&Fixed, u64)) -> Vec<u64> {
    let (cache, log) = logged(policy(config(2 << 20)));
    for key in 0..200 {
        cache.insert(key, &page(key, 4096)).unwrap();
    }
    (0..100).for_each(|key| touch(&cache, key));
    push(&cache, &log, 150)
}

#[test]
fn peeking_has_no_effect_on_who_goes_and_a_hit_has() {
    let policies: [fn(Config) -> Config; 3] = [
        |config| config.policy(S3Fifo::new()),
        |config| config.policy(Sieve::new()),
        |config| config.policy(Lru::new()),
    ];
    for (number, policy) in policies.into_iter().enumerate() {
        let untouched = order_of_going(policy, |_, _| ());
        let peeked = order_of_going(policy, |cache, key| {
            let before = cache.stats();
            assert!(cache.peek(&key).is_some() && cache.contains_key(&key));
            assert!(cache.peek(&(key + 10_000)).is_none() && !cache.contains_key(&(key + 10_000)));
            let after = cache.stats();
            assert_eq!((before.hits, before.misses), (after.hits, after.misses));
        });
        assert_eq!(untouched, peeked, "policy {number}");
        let hit = order_of_going(policy, |cache, key| {
            // S3-FIFO wants two.
            (0..3).for_each(|_| assert!(cache.get(&key).is_some()));
        });
        assert_ne!(untouched, hit, "policy {number}");
        let early = |order: &[u64]| order.iter().take(50).filter(|key| **key < 100).count();
        assert!(early(&hit) < early(&untouched), "policy {number}: hits keep pages");
    }
}

#[test]
fn owners_take_remove_retain_and_clear() {
    let (cache, log) = logged(config(4 << 20));
    for key in 0..100 {
        cache.insert(key, &page(key, 500)).unwrap();
    }
    let mut keys = cache.keys();
    keys.sort_unstable();
    assert_eq!(keys, (0..100).collect::<Vec<_>>());
    assert_eq!(cache.take(&5).as_deref(), Some(&page(5, 500)[..]));
    assert_eq!((cache.take(&5), cache.remove(&5), cache.contains_key(&5)), (None, false, false));
    assert!(cache.remove(&6) && !cache.remove(&6));
    assert_eq!(taken(&log), [(5, RemovalCause::Removed), (6, RemovalCause::Removed)]);
    let mut asked = Vec::new();
    cache.retain(|key| {
        asked.push(*key);
        key % 2 == 0
    });
    asked.sort_unstable();
    assert_eq!(asked, (0..100).filter(|key| ![5, 6].contains(key)).collect::<Vec<_>>());
    let mut gone = taken(&log);
    gone.sort_unstable_by_key(|(key, _)| *key);
    let odd = (0..100).filter(|key| key % 2 == 1 && *key != 5);
    assert_eq!(gone, odd.map(|key| (key, RemovalCause::Removed)).collect::<Vec<_>>());
    assert_eq!(cache.len(), 49);
    cache.clear();
    assert_eq!((cache.len(), cache.keys().len(), cache.is_empty()), (0, 0, true));
    let gone = taken(&log);
    assert!(gone.len() == 49 && gone.iter().all(|(_, cause)| *cause == RemovalCause::Cleared));
    cache.clear();
    cache.retain(|_| panic!("nothing is there to be asked about"));
    let stats = cache.stats();
    assert_eq!(
        (stats.removals.removed, stats.removals.cleared, stats.hits, stats.misses),
        (51, 49, 0, 0)
    );
    cache.check();
}

#[test]
fn a_key_that_is_inserted_again_has_the_new_page_only() {
    let (cache, log) = logged(config(4 << 20));
    for seed in 0..50 {
        for new in pages(seed as usize * 37) {
            cache.insert(1, &new).unwrap();
            assert_eq!(cache.peek(&1).as_deref(), Some(&new[..]));
            assert_eq!(cache.len(), 1);
        }
    }
    assert_eq!(taken(&log), vec![(1, RemovalCause::Replaced); 149]);
    cache.check();
}

#[test]
fn many_pages_come_and_go_in_the_order_of_their_keys() {
    let cache = cache(4 << 20);
    let pages: Vec<(u64, Vec<u8>)> = (0..50).map(|key| (key, page(key, 700))).collect();
    let long = (50, vec![0; LONGEST + 1]);
    let results = cache.insert_many(pages.iter().cloned().chain([long, (51, vec![9; 3])]));
    assert_eq!(results.len(), 52);
    for (at, result) in results.iter().enumerate() {
        assert_eq!(result.is_ok(), at != 50, "page {at}");
    }
    // More than a batch, with gaps and repetitions.
    let asked: Vec<u64> = (0..120).map(|at| at * 7 % 60).chain([3, 3, 51, 99, 0]).collect();
    let got = cache.get_many(&asked);
    assert_eq!(got.len(), asked.len());
    for (key, got) in asked.iter().zip(&got) {
        let expected = match key {
            0..=49 => Some(page(*key, 700)),
            51 => Some(vec![9; 3]),
            _ => None,
        };
        assert_eq!(got.as_deref(), expected.as_deref(), "key {key}");
    }
    let found = got.iter().flatten().count() as u64;
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (found, asked.len() as u64 - found));
    assert!(cache.get_many(std::iter::empty::<&u64>()).is_empty());
    assert_eq!(cache.insert_many([(1, [2; 5]), (1, [3; 5])]), [Ok(()), Ok(())]);
    assert_eq!(cache.get(&1).as_deref(), Some(&[3; 5][..]), "the last one stays");
    cache.check();
}

#[test]
fn a_lease_stores_its_page_only_if_nobody_changed_the_key() {
    let cache = cache(4 << 20);
    let changes: [fn(&Cache<u64>); 8] = [
        |cache| cache.insert(1, &[2; 40]).unwrap(),
        |cache| {
            cache.insert(1, &[2; 40]).unwrap();
            assert!(cache.remove(&1));
        },
        |cache| assert!(!cache.remove(&1), "the removal of what is not there counts too"),
        |cache| assert!(cache.take(&1).is_none()),
        Cache::clear,
        |cache| {
            cache.insert(1, &[2; 40]).unwrap();
            cache.retain(|key| *key != 1);
        },
        |cache| assert!(cache.insert(1, &[2; LONGEST + 1]).is_err(), "a failed insert is a change"),
        |cache| {
            cache
                .insert_with_options(1, &[2; 40], InsertOptions::new().time_to_live(Duration::ZERO))
                .unwrap();
            assert!(cache.get(&1).is_none());
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let lease = cache.get_or_lease(&1).lease().unwrap();
        change(&cache);
        let now = cache.get(&1);
        let stored = cache.insert_if_valid(lease, &[1; 40]);
        assert_eq!(stored, Err(InsertError::Outdated), "change {number}");
        assert_eq!(cache.get(&1), now, "what the key has now stays");
        cache.remove(&1);
    }
    assert_eq!(cache.stats().rejected.outdated, 8);
    let lease = cache.get_or_lease(&1).lease().unwrap();
    assert_eq!(lease.key(), &1);
    let waiting = cache.get_or_lease(&1).waiting().expect("there is one lease");
    // Looking does not count.
    assert!(cache.get(&1).is_none() && cache.peek(&1).is_none() && !cache.contains_key(&1));
    cache.compact(1 << 20);
    cache.trim();
    assert_eq!(cache.insert_if_valid(lease, &[1; 40]), Ok(()));
    assert_eq!(cache.get_or_lease(&1).page().unwrap(), [1; 40][..]);
    assert!(matches!(waiting.wait(), Waited::Page(page) if page == [1; 40][..]));
    cache.check();
}

#[test]
fn a_lease_of_another_cache_is_refused() {
    let (ours, theirs) = (cache(2 << 20), cache(2 << 20));
    let lease = theirs.get_or_lease(&1).lease().unwrap();
    assert_eq!(ours.insert_if_valid(lease, &[1; 40]), Err(InsertError::Outdated));
    assert!(ours.is_empty() && theirs.is_empty());
    assert_eq!((ours.stats().rejected.outdated, theirs.stats().rejected.outdated), (1, 0));
    // Nor one of a cache that is gone and whose place another one took.
    let mut lease = None;
    for _ in 0..4 {
        let cache = Box::new(cache(2 << 20));
        if let Some(lease) = lease.take() {
            assert_eq!(cache.insert_if_valid(lease, &[1; 40]), Err(InsertError::Outdated));
        }
        lease = cache.get_or_lease(&1).lease();
    }
    ours.check();
}

fn assert_bytes_add_up(cache: &Cache<u64>) {
    let bytes = cache.stats().bytes;
    let plain = [bytes.frames, bytes.waiting, bytes.sample, bytes.keys];
    let kinds = [bytes.pages, bytes.metadata, bytes.index, bytes.policy, bytes.codec, bytes.fixed];
    let all = kinds.iter().chain(&plain).sum::<usize>();
    assert_eq!(bytes.held, all, "{bytes:?}");
    assert_eq!((bytes.held, bytes.capacity), (cache.held_bytes(), cache.capacity()));
    assert!(bytes.payload <= bytes.pages && bytes.pinned == 0, "{bytes:?}");
}

#[test]
fn bytes_by_kind_are_all_that_is_held() {
    for policy in 0..3 {
        let config = config(3 << 20);
        let cache: Cache<u64> = Cache::new(match policy {
            0 => config.policy(S3Fifo::new()),
            1 => config.policy(Sieve::new()).source(SourceKind::Heap),
            _ => config.policy(Lru::new()).source(SourceKind::Memfd),
        })
        .unwrap();
        assert_bytes_add_up(&cache);
        let fixed = cache.stats().bytes.fixed;
        assert!(fixed > 0 && fixed < cache.held_bytes());
        for key in 0..4000 {
            cache.insert(key, &page(key, 100 + key as usize % 5000)).unwrap();
            let _ = cache.get(&(key / 2));
            if key % 97 == 0 {
                assert_bytes_add_up(&cache);
            }
        }
        cache.compact(1 << 20);
        assert_bytes_add_up(&cache);
        cache.clear();
        cache.trim();
        assert_bytes_add_up(&cache);
        let bytes = cache.stats().bytes;
        assert_eq!((bytes.pages, bytes.frames, bytes.codec), (0, 0, 0));
        assert!(bytes.fixed >= fixed, "tables of frames do not get smaller");
        cache.check();
    }
}

#[test]
fn counts_add_up() {
    let cache = cache(1 << 20);
    let mut random = Random::new(5);
    let (mut looks, mut hits, mut stored, mut refused) = (0, 0, 0, 0);
    for step in 0..20_000 {
        let key = random.below(900) as u64;
        match random.below(20) {
            0..=6 => match cache.insert(key, &page(step, random.below(LONGEST + 40))) {
                Ok(()) => stored += 1,
                Err(_) => refused += 1,
            },
            7 => {
                cache.remove(&key);
            }
            8 => {
                let how = InsertOptions::new().time_to_live(Duration::ZERO);
                stored += u64::from(cache.insert_with_options(key, &[7; 90], how).is_ok());
            }
            9 if step % 100 == 0 => cache.clear(),
            _ => {
                looks += 1;
                hits += u64::from(cache.get(&key).is_some());
            }
        }
    }
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (hits, looks - hits));
    assert!((stats.hit_ratio() - hits as f64 / looks as f64).abs() < 1e-9);
    let rejected = stats.rejected;
    let sum = rejected.too_large + rejected.no_room + rejected.outdated;
    assert_eq!((stats.inserts, sum), (stored, refused));
    let gone = stats.removals;
    let went = gone.evicted + gone.expired + gone.replaced + gone.removed + gone.cleared;
    assert_eq!(went, stored - cache.len() as u64, "what was stored is there or went: {gone:?}");
    let all = [gone.evicted, gone.expired, gone.replaced, gone.removed, gone.cleared];
    assert!(all.iter().all(|count| *count > 0) && gone.corrupt == 0, "{gone:?}");
    assert_eq!((stats.entries, stats.unreadable), (cache.len(), 0));
    assert!(stats.decode.samples >= hits / 64 && stats.encode.samples >= stored / 64);
    let objects: usize = stats.stored_sizes.iter().map(|size| size.objects).sum();
    assert!(objects <= stats.entries && objects + stats.same_filled >= stats.entries);
    cache.check();
}

#[test]
fn statistics_print_as_a_table_with_every_figure() {
    let cache = cache(2 << 20);
    (0..300).for_each(|key| cache.insert(key, &page(key, 4096)).unwrap());
    cache.insert(1000, &[0; 4096]).unwrap();
    cache.insert(1001, &pattern::bytes(1, 4096)).unwrap();
    assert!(cache.insert(1002, &[0; LONGEST + 1]).is_err());
    (0..200).for_each(|key| drop(cache.get(&key)));
    assert!(cache.get(&5000).is_none());
    let stats = cache.stats();
    let table = stats.to_string();
    for part in [
        format!("{} ({} same-filled, {} raw)", stats.entries, stats.same_filled, stats.raw),
        format!("{} hits, {} misses", stats.hits, stats.misses),
        format!("{}; rejected 1 too large", stats.inserts),
        format!("{} evicted, 0 expired", stats.removals.evicted),
        format!("by {}", stats.policy),
        "2.0 MiB".to_owned(),
        stats.codec.clone(),
        "#".to_owned(),
    ] {
        assert!(!part.is_empty() && table.contains(&part), "{part:?} is not in\n{table}");
    }
    assert!(stats.same_filled == 1 && stats.raw == 1 && stats.compression_ratio() > 1.5);
    assert!(table.lines().count() >= 10 && table.lines().all(|line| line.len() < 120), "{table}");
}

#[test]
fn keys_may_be_looked_up_by_what_is_equivalent() {
    let cache: Cache<String> = Cache::new(config(2 << 20)).unwrap();
    cache.insert("page one".to_owned(), &[1; 50]).unwrap();
    assert_eq!(cache.get("page one").as_deref(), Some(&[1; 50][..]));
    assert!(cache.contains_key("page one") && !cache.contains_key("page two"));
    let got = cache.get_many(["page two", "page one"]);
    assert!(got[0].is_none() && got[1].as_deref() == Some(&[1; 50][..]));
    assert!(cache.remove("page one") && cache.is_empty());
    cache.check();
}

#[test]
fn keys_that_all_share_one_hash_are_kept_apart() {
    #[derive(Clone, Copy, Default)]
    struct One;
    impl std::hash::Hasher for One {
        fn finish(&self) -> u64 {
            42
        }
        fn write(&mut self, _: &[u8]) {}
    }
    let cache: Cache<u64, BuildHasherDefault<One>> =
        Cache::with_hasher(config(2 << 20), BuildHasherDefault::default()).unwrap();
    for key in 0..200 {
        cache.insert(key, &page(key, 200)).unwrap();
    }
    for key in (0..200).step_by(3) {
        assert!(cache.remove(&key));
    }
    for key in 0..200 {
        let expected = (key % 3 != 0).then(|| page(key, 200));
        assert_eq!(cache.get(&key).as_deref(), expected.as_deref(), "key {key}");
    }
    cache.check();
}

#[test]
fn a_page_handed_out_outlives_the_cache() {
    let cache = cache(2 << 20);
    cache.insert(1, &page(1, 3000)).unwrap();
    let held = cache.get(&1).unwrap();
    cache.clear();
    assert_eq!(cache.stats().bytes.pinned, 0, "what is handed out is the caller's");
    drop(cache);
    assert_eq!(held, page(1, 3000));
}
