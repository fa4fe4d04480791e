//! Pages of scans: stored as they are, and compressed by the first hit.
#![cfg(not(zcache_loom))]

use std::cell::Cell;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use tests::callbacks::{Fixed, config, logged, of, panics, taken};
use tests::pattern;
use zcache::policy::Priority;
use zcache::{Cache, HotShare, InsertOptions, MAX_PIECE, RemovalCause};

const PAGE: usize = 4096;
/// The least one of which a page is a small part.
const CAPACITY: usize = 8 << 20;

/// Whether the page of key 1 is hit, and right.
type Hit = fn(&Fixed) -> bool;

fn scan() -> InsertOptions {
    InsertOptions::new().scan()
}

/// A page of `len` bytes that shrinks to a fraction, and is no other key's.
fn page_of(key: u64, len: usize) -> Vec<u8> {
    let text = format!("a row of page {key}, and the next one; ");
    text.into_bytes().into_iter().cycle().take(len).collect()
}

fn page(key: u64) -> Vec<u8> {
    page_of(key, PAGE)
}

/// Bytes that are stored for all pages.
fn payload(cache: &Fixed) -> usize {
    cache.stats().bytes.payload
}

#[test]
fn the_first_hit_compresses_a_page_whatever_way_it_comes() {
    let hits: [(&str, Hit); 10] = [
        ("get", |cache| cache.get(&1).as_deref() == Some(&page(1)[..])),
        ("get_into", |cache| {
            let mut to = [0; PAGE];
            cache.get_into(&1, &mut to).unwrap() == Some(PAGE) && to[..] == page(1)
        }),
        ("read", |cache| cache.read(&1, |got| got == page(1)).unwrap()),
        ("get_range", |cache| cache.get_range(&1, 9..20).unwrap() == page(1)[9..20]),
        ("get_range_into", |cache| cache.get_range_into(&1, 0, &mut [0; 7]) == Some(7)),
        ("get_many", |cache| cache.get_many([&1, &1])[1].as_deref() == Some(&page(1)[..])),
        ("get_many_into", |cache| {
            let mut to = [0; PAGE];
            cache.get_many_into([(&1, &mut to[..])])[0] == Ok(Some(PAGE)) && to[..] == page(1)
        }),
        ("get_or_lease", |cache| cache.get_or_lease(&1).page().unwrap() == page(1)),
        ("get_into_or_lease", |cache| {
            cache.get_into_or_lease(&1, &mut [0; PAGE]).unwrap().page() == Some(PAGE)
        }),
        ("get_or_insert_with", |cache| {
            let load = |_: &mut Vec<u8>| Err::<(), _>("it is there");
            cache.get_or_insert_with(&1, load).unwrap() == page(1)
        }),
    ];
    for (name, hit) in hits {
        for config in [config(CAPACITY), config(CAPACITY).checksum(true).hot(HotShare::Off)] {
            let (cache, log) = logged(config);
            cache.insert_with_options(1, &page(1), scan()).unwrap();
            let before = payload(&cache);
            assert!(before >= PAGE, "{name}: it is stored as it is");
            assert!(hit(&cache), "{name}");
            let after = payload(&cache);
            assert!(after < PAGE / 4, "{name}: {before} bytes, then {after}");
            for _ in 0..3 {
                assert!(hit(&cache), "{name}, once more");
                assert_eq!(payload(&cache), after, "{name}");
            }
            let stats = cache.stats();
            assert_eq!((stats.inserts, stats.entries, stats.raw), (1, 1, 0), "{name}");
            assert_eq!(taken(&log), [], "nobody is told: the key keeps its page");
            cache.check();
        }
    }
}

#[test]
fn what_is_no_hit_leaves_a_page_as_it_is() {
    let (cache, _) = logged(config(CAPACITY));
    cache.insert_with_options(1, &page(1), scan()).unwrap();
    let before = payload(&cache);
    assert_eq!(cache.peek(&1).as_deref(), Some(&page(1)[..]));
    assert!(cache.contains_key(&1));
    assert!(!cache.insert_if_absent(1, &page(1)).unwrap());
    assert!(!cache.remove_if(&1, |_| false));
    cache.for_each(|_, got| assert_eq!(got, page(1)));
    assert!(cache.get_into(&1, &mut []).is_err());
    cache.maintain(1 << 20);
    cache.compact(1 << 20);
    assert_eq!(payload(&cache), before);
    assert_eq!(cache.take(&1).as_deref(), Some(&page(1)[..]));
    cache.check();
}

#[test]
fn a_page_keeps_its_time_to_live_when_it_is_compressed() {
    let (cache, log) = logged(config(CAPACITY));
    cache
        .insert_with_options(1, &page(1), scan().time_to_live(Duration::from_millis(300)))
        .unwrap();
    assert_eq!(of_fixed(&cache, 1), Some(page(1)));
    assert!(payload(&cache) < PAGE / 4);
    thread::sleep(Duration::from_millis(301));
    assert_eq!(of_fixed(&cache, 1), None);
    assert_eq!(taken(&log), [(1, RemovalCause::Expired)]);
    cache.insert_with_options(1, &page(1), scan().time_to_live(Duration::ZERO)).unwrap();
    assert_eq!(of_fixed(&cache, 1), None);
    cache.check();
}

fn of_fixed(cache: &Fixed, key: u64) -> Option<Vec<u8>> {
    cache.get(&key).map(|page| page.to_vec())
}

/// The hint is for pages that shrink, of one piece, that enter with low priority.
#[test]
fn other_pages_are_stored_as_without_the_hint() {
    let (cache, _) = logged(config(CAPACITY).max_page(1 << 20));
    let long = page_of(2, MAX_PIECE + 1);
    cache.insert_with_options(2, &long, scan()).unwrap();
    assert!(payload(&cache) < long.len() / 4, "a page in pieces is compressed at once");
    assert_eq!(of_fixed(&cache, 2), Some(long));
    cache.clear();
    cache.insert_with_options(3, &[0; PAGE], scan()).unwrap();
    assert_eq!(payload(&cache), 0, "a same-filled page takes nothing");
    cache.clear();
    for priority in [Priority::Normal, Priority::High] {
        cache.insert_with_options(4, &page(4), scan().priority(priority)).unwrap();
        assert!(payload(&cache) < PAGE / 4, "{priority:?}");
    }
    cache.clear();
    let noise = pattern::bytes(5, PAGE);
    cache.insert_with_options(5, &noise, scan()).unwrap();
    for _ in 0..3 {
        assert_eq!(of_fixed(&cache, 5).as_ref(), Some(&noise));
    }
    assert_eq!(cache.stats().raw, 1, "what does not shrink stays as it is");
    cache.check();
}

#[test]
fn a_page_is_replaced_and_removed_like_any_other_before_its_first_hit() {
    let (cache, log) = logged(config(CAPACITY));
    cache.insert_with_options(1, &page(1), scan()).unwrap();
    cache.insert_with_options(1, &page(2), scan()).unwrap();
    assert_eq!(of_fixed(&cache, 1), Some(page(2)));
    cache.insert_with_options(1, &page(3), scan()).unwrap();
    assert_eq!(of_fixed(&cache, 1), Some(page(3)));
    assert!(cache.remove(&1));
    assert_eq!(of_fixed(&cache, 1), None);
    assert_eq!(
        taken(&log),
        [(1, RemovalCause::Replaced), (1, RemovalCause::Replaced), (1, RemovalCause::Removed)]
    );
    assert_eq!(payload(&cache), 0);
    cache.check();
}

/// Entries of a scope go for its limit by age, whatever their priority. So a page that is stored as
/// it is would cost others of its scope their places.
#[test]
fn a_scope_at_its_limit_has_its_pages_compressed_at_once() {
    let cache: Cache<u64> = Cache::new(config(CAPACITY)).unwrap();
    let cache = cache.with_scopes(|_: &u64| 1).unwrap();
    cache.scope(1).set_limit(Some(64 << 10)).unwrap();
    cache.insert_with_options(500, &page(500), scan()).unwrap();
    assert_eq!(cache.stats().raw, 1);
    for key in 0..500 {
        cache.insert_with_options(key, &page(key), scan()).unwrap();
        assert!(cache.scope(1).bytes() <= 64 << 10);
    }
    assert!(cache.stats().raw < 16 && cache.len() > 64, "{} pages", cache.len());
    cache.check();
}

/// A page that takes half its length.
fn half(key: u64) -> Vec<u8> {
    let mut page = pattern::bytes(key, PAGE);
    page[PAGE / 2..].fill(7);
    page
}

/// Pages that are hit, and then a scan of some times the capacity: how many are left.
fn left_after(how: InsertOptions, capacity: usize) -> usize {
    let (cache, _) = logged(config(capacity).hot(HotShare::Off));
    let mut keys = 0;
    while cache.stats().removals.evicted == 0 {
        cache.insert(keys, &half(keys)).unwrap();
        keys += 1;
    }
    for _ in 0..3 {
        (0..keys).for_each(|key| _ = of_fixed(&cache, key));
    }
    for key in 0..4 * (capacity / PAGE) as u64 {
        cache.insert_with_options(1 << 32 | key, &half(key), how).unwrap();
    }
    cache.check();
    (0..keys).filter(|key| cache.contains_key(key)).count()
}

#[test]
fn a_scan_with_the_hint_takes_no_more_places_of_others_than_one_of_low_priority() {
    for capacity in [1 << 20, 8 << 20] {
        let low = left_after(InsertOptions::new().priority(Priority::Low), capacity);
        let scan = left_after(scan(), capacity);
        assert!(scan * 100 >= low * 99, "{capacity} bytes: {scan} of {low} are left");
    }
}

/// A few pages as they are would take the places of many others in a small cache.
#[test]
fn a_page_that_takes_much_of_the_capacity_is_compressed_at_once() {
    for (capacity, len, raw) in [(8 << 20, PAGE, 1), (8 << 20, PAGE + 1, 0), (7 << 20, PAGE, 0)] {
        let (cache, _) = logged(config(capacity).max_page(2 * PAGE));
        cache.insert_with_options(1, &page_of(1, len), scan()).unwrap();
        assert_eq!(cache.stats().raw, raw, "{capacity} bytes, a page of {len}");
    }
}

/// A hit that compresses may evict. Inside a hook that is called for what goes it does not.
#[test]
fn a_hit_by_a_hook_leaves_the_page_to_the_next_hit() {
    let cache: Arc<Cache<u64>> = Arc::new_cyclic(|weak: &Weak<Cache<u64>>| {
        let weak = weak.clone();
        let cache: Cache<u64> = Cache::new(config(CAPACITY)).unwrap();
        cache.on_removal(move |_| {
            let cache = weak.upgrade().expect("it is in use");
            assert_eq!(of(&cache, 1), Some(page(1)));
        })
    });
    cache.insert_with_options(1, &page(1), scan()).unwrap();
    cache.insert(2, &page(2)).unwrap();
    assert!(cache.remove(&2));
    assert_eq!(cache.stats().raw, 1);
    assert_eq!(of(&cache, 1), Some(page(1)));
    assert_eq!(cache.stats().raw, 0);
    cache.check();
}

#[test]
fn a_page_that_is_hit_while_somebody_walks_is_compressed_by_the_next_hit() {
    let (cache, _) = logged(config(CAPACITY));
    (0..10).for_each(|key| cache.insert_with_options(key, &page(key), scan()).unwrap());
    for _ in 0..2 {
        cache.for_each(|key, got| assert!(cache.get(key).is_some_and(|hit| hit == got)));
        assert_eq!(cache.stats().raw, 10);
    }
    assert!((0..10).all(|key| of_fixed(&cache, key) == Some(page(key))));
    assert_eq!(cache.stats().raw, 0);
    cache.check();
}

/// Whether clones of keys panic in this thread.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key(u64);

thread_local! {
    static PANICS: Cell<bool> = const { Cell::new(false) };
}

impl Clone for Key {
    fn clone(&self) -> Self {
        if PANICS.get() {
            panic!("planted");
        }
        Self(self.0)
    }
}

#[test]
fn a_key_whose_clone_panics_ends_the_first_hit_and_leaves_the_page() {
    let cache: Cache<Key> = Cache::new(config(CAPACITY)).unwrap();
    for key in 0..100 {
        cache.insert_with_options(Key(key), &page(key), scan()).unwrap();
    }
    PANICS.set(true);
    assert!((0..100).all(|key| panics(|| drop(cache.get(&Key(key))))));
    assert!((0..100).all(|key| cache.get(&Key(key)).as_deref() == Some(&page(key)[..])));
    PANICS.set(false);
    assert_eq!((cache.len(), cache.stats().raw), (100, 100));
    cache.check();
}
