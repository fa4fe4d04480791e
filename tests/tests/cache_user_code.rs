//! User code that panics inside a cache's calls: the cache stays usable, and never stale.
#![cfg(not(zcache_loom))]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tests::callbacks::{LONGEST, config, ignore, page};
use tests::pattern;
use tests::user_code::{
    Contexts, Fragile, Key, Lie, Seeds, Tally, Trap, step_on, untrapped, with_lie, with_trap,
};
use zcache::policy::{Lru, Priority};
use zcache::{Cache, HotShare, InsertOptions};

struct Field {
    cache: Arc<Cache<Key, Seeds>>,
    tally: Arc<Tally>,
    contexts: Arc<Contexts>,
    /// What the hook was told of before it panicked.
    told: Arc<AtomicUsize>,
}

impl Field {
    /// A small cache, filled to the brim.
    fn new() -> Self {
        Self::with(HotShare::Off)
    }

    /// A small cache, filled to the brim, with a share of decoded pages, in which some are hot and
    /// the next hit makes one more so.
    fn with(share: HotShare) -> Self {
        let (tally, contexts) = (Arc::<Tally>::default(), Arc::<Contexts>::default());
        let told = Arc::<AtomicUsize>::default();
        let config = config(500 << 10).policy(Lru::new()).codec(Fragile(Arc::clone(&contexts)));
        let config = config.train(9000);
        let count = Arc::clone(&told);
        let cache: Cache<Key, Seeds> =
            Cache::with_hasher(config.checksum(true).hot(share), Seeds).unwrap();
        let cache = cache.on_removal(move |removal| {
            assert!(removal.key().name < 1 << 40);
            count.fetch_add(1, Ordering::Relaxed);
            step_on(Trap::Hook);
        });
        let field = Self { cache: Arc::new(cache), tally, contexts, told };
        // A sample starts.
        field.cache.maintain(0);
        let mut name = 1000;
        while field.told.load(Ordering::Relaxed) == 0 {
            field.cache.insert(field.key(name), &page(name, 4096)).unwrap();
            name += 1;
        }
        if share != HotShare::Off {
            let there = field.there();
            for times in 0..3 {
                let hot = there.saturating_sub(30)..there;
                hot.for_each(|name| ignore(field.cache.get(&field.key(name))));
                if times == 0 {
                    ignore(field.cache.get(&field.key(there)));
                }
            }
            assert!(field.cache.stats().frames > 5, "{}", field.cache.stats());
        }
        field
    }

    fn key(&self, name: u64) -> Key {
        Key::new(&self.tally, name)
    }

    /// Nothing is locked, everything adds up, and the cache works.
    fn assert_usable(&self, what: &str) {
        let cache = &self.cache;
        // A resize that a hook cut short is gone on with.
        cache.resize(cache.capacity()).unwrap();
        cache.check();
        let key = self.key(7);
        cache.insert(self.key(7), &page(7, 3000)).unwrap();
        assert_eq!(cache.get(&key).as_deref(), Some(&page(7, 3000)[..]), "{what}");
        assert!(cache.remove(&key), "{what}");
        let keys = cache.len() + cache.stats().frames;
        assert_eq!(keys + 1, self.tally.alive(), "{what}: a key an entry, and one a frame");
    }

    /// Runs `f` with a trap that springs on the first call, the second, and so on until it does not
    /// spring any more.
    fn each_time(share: HotShare, trap: Trap, what: &str, f: impl Fn(&Self)) -> usize {
        for after in 0..60 {
            let field = Self::with(share);
            let sprang = with_trap(trap, after, || f(&field)).is_none();
            field.assert_usable(what);
            field.end();
            if !sprang {
                return after;
            }
        }
        panic!("{what} springs {trap:?} without end");
    }

    fn end(self) {
        let Self { cache, tally, contexts, .. } = self;
        cache.trim();
        cache.check();
        drop(cache);
        tally.assert_each_dropped_once();
        assert_eq!((contexts.alive(), contexts.bytes()), (0, 0), "no context is left");
    }
}

/// A call, and its name.
type Call = (&'static str, fn(&Field));

/// Every call there is, on a full cache: what is new, what is there, what is not.
fn every_call() -> Vec<Call> {
    vec![
        ("insert", |f| ignore(f.cache.insert(f.key(1), &page(1, 6000)))),
        ("insert raw", |f| ignore(f.cache.insert(f.key(1), &pattern::bytes(1, LONGEST)))),
        ("insert filled", |f| ignore(f.cache.insert(f.key(1), &[3; 500]))),
        ("insert too large", |f| ignore(f.cache.insert(f.key(1000), &[3; LONGEST + 1]))),
        ("replace", |f| ignore(f.cache.insert(f.key(f.there()), &page(1, 6000)))),
        ("insert_with_options", |f| {
            let how = InsertOptions::new().priority(Priority::High).time_to_live(Duration::ZERO);
            ignore(f.cache.insert_with_options(f.key(1), &page(1, 600), how));
            ignore(f.cache.get(&f.key(1)));
        }),
        ("get", |f| ignore(f.cache.get(&f.key(f.there())))),
        ("get a miss", |f| ignore(f.cache.get(&f.key(1)))),
        ("get_into", |f| ignore(f.cache.get_into(&f.key(f.there()), &mut [0; LONGEST]))),
        ("read", |f| {
            ignore(f.cache.read(&f.key(f.there()), |_| step_on(Trap::Read)));
        }),
        ("get_range", |f| ignore(f.cache.get_range(&f.key(f.there()), 10..20))),
        ("get_range_into", |f| {
            ignore(f.cache.get_range_into(&f.key(f.there()), 10, &mut [0; 10]));
        }),
        ("insert_if_absent", |f| ignore(f.cache.insert_if_absent(f.key(1), &page(1, 6000)))),
        ("insert_if_absent there", |f| {
            ignore(f.cache.insert_if_absent(f.key(f.there()), &page(1, 6000)));
        }),
        ("remove_if", |f| {
            ignore(f.cache.remove_if(&f.key(f.there()), |_| {
                step_on(Trap::Keep);
                true
            }));
        }),
        ("for_each", |f| f.cache.for_each(|_, _| step_on(Trap::Read))),
        ("peek", |f| ignore(f.cache.peek(&f.key(f.there())))),
        ("contains_key", |f| ignore(f.cache.contains_key(&f.key(f.there())))),
        ("remove", |f| ignore(f.cache.remove(&f.key(f.there())))),
        ("take", |f| ignore(f.cache.take(&f.key(f.there())))),
        ("get_many", |f| {
            let keys = [f.key(f.there()), f.key(1)];
            ignore(f.cache.get_many(&keys));
        }),
        ("get_many_into", |f| {
            let (keys, mut buffers) = ([f.key(f.there()), f.key(1)], [[0; LONGEST]; 2]);
            let buffers = buffers.iter_mut().map(|buffer| &mut buffer[..]);
            ignore(f.cache.get_many_into(keys.iter().zip(buffers)));
        }),
        ("insert_from", |f| {
            let filled = f.cache.insert_from(f.key(1), |to| {
                to.extend(page(1, 6000));
                step_on(Trap::Read);
            });
            ignore(filled);
        }),
        ("insert_many", |f| {
            let pages = [(f.key(1), page(1, 5000)), (f.key(2), page(2, 5000))];
            ignore(f.cache.insert_many(pages));
        }),
        ("retain", |f| {
            f.cache.retain(|key| {
                step_on(Trap::Keep);
                key.name % 16 != 0
            });
        }),
        ("clear", |f| f.cache.clear()),
        ("keys", |f| ignore(f.cache.keys())),
        ("lease", |f| {
            if let Some(lease) = f.cache.get_or_lease(&f.key(1)).lease() {
                ignore(f.cache.insert_if_valid(lease, &page(1, 6000)));
            }
        }),
        ("outdated lease", |f| {
            let lease = f.cache.get_or_lease(&f.key(1));
            f.cache.remove(&f.key(1));
            if let Some(lease) = lease.lease() {
                ignore(f.cache.insert_if_valid(lease, &page(1, 6000)));
            }
        }),
        ("load", |f| {
            let load = |to: &mut Vec<u8>| {
                to.extend(page(1, 6000));
                Ok::<(), io::Error>(())
            };
            ignore(f.cache.get_or_insert_with(&f.key(1), load));
        }),
        ("maintain", |f| {
            // The sample is complete.
            let more = |name| f.cache.insert(f.key(name), &page(name, 4096)).unwrap();
            untrapped(|| (5000..5150).for_each(more));
            ignore(f.cache.maintain(usize::MAX));
        }),
        ("resize", |f| ignore(f.cache.resize(440 << 10))),
    ]
}

impl Field {
    /// The name of a key that is there.
    fn there(&self) -> u64 {
        // Without the keys' own code: it may be trapped.
        untrapped(|| self.cache.keys().iter().map(|key| key.name).max().unwrap_or(1))
    }
}

#[test]
fn a_panic_in_any_user_code_leaves_the_cache_usable_and_every_key_dropped_once() {
    panic_everywhere(HotShare::Off);
}

#[test]
fn a_panic_in_any_user_code_leaves_a_cache_with_hot_pages_usable() {
    panic_everywhere(HotShare::Fraction(4));
}

fn panic_everywhere(share: HotShare) {
    let calls = every_call();
    let mut sprung = std::collections::HashMap::new();
    for (what, call) in calls {
        for trap in Trap::ALL {
            // All of an iteration's entries are alike: the first few do.
            let many =
                ["clear", "keys", "retain", "for_each", "resize", "maintain"].contains(&what);
            if many {
                for after in [0, 1, 5] {
                    let field = Field::with(share);
                    let sprang = with_trap(trap, after, || call(&field)).is_none();
                    *sprung.entry(format!("{trap:?}")).or_insert(0) += usize::from(sprang);
                    field.assert_usable(what);
                    field.end();
                }
            } else {
                *sprung.entry(format!("{trap:?}")).or_insert(0) +=
                    Field::each_time(share, trap, what, call);
            }
        }
    }
    assert_eq!(sprung.len(), Trap::ALL.len());
    assert!(sprung.values().all(|count| *count > 0), "each kind sprang: {sprung:?}");
}

#[test]
fn a_hook_that_panics_in_the_middle_of_an_insert_never_leaves_a_stale_page() {
    for len in [1, 3000, LONGEST] {
        for after in 0..12 {
            let field = Field::new();
            let name = field.there();
            let key = field.key(name);
            let new = page(77, len);
            let done = with_trap(Trap::Hook, after, || field.cache.insert(field.key(name), &new));
            let now = field.cache.get(&key);
            match done {
                Some(result) => {
                    assert_eq!((result, now.as_deref()), (Ok(()), Some(&new[..])));
                }
                None => assert!(now.is_none_or(|now| now == new), "the old page is gone"),
            }
            drop(key);
            field.assert_usable("insert");
            field.end();
        }
    }
}

#[test]
fn a_key_that_cannot_be_compared_is_never_found_with_an_old_page() {
    for trap in [Trap::Eq, Trap::Drop, Trap::Compress] {
        for after in 0..8 {
            let field = Field::new();
            let name = field.there();
            let old = field.cache.peek(&field.key(name)).unwrap();
            let new = page(99, 5000);
            let done = with_trap(trap, after, || field.cache.insert(field.key(name), &new));
            let now = field.cache.get(&field.key(name));
            if let Some(now) = &now {
                // A comparison that panics before anything was looked up leaves what was there: the
                // insert did not take place. Whatever else panics, the old page is gone.
                let eq = trap == Trap::Eq && done.is_none();
                assert!(now == &new || eq && now == &old, "{trap:?} {after}");
            }
            drop(now);
            field.assert_usable("insert");
            field.end();
        }
    }
}

/// No eviction would ever make room for it: one such answer emptied the cache.
#[test]
fn a_context_that_no_cache_could_hold_evicts_nobody() {
    let (tally, contexts) = (Arc::<Tally>::default(), Arc::<Contexts>::default());
    let codec = Fragile(Arc::clone(&contexts));
    let cache: Cache<Key, Seeds> =
        Cache::with_hasher(config(500 << 10).policy(Lru::new()).codec(codec), Seeds).unwrap();
    for name in 0..20 {
        cache.insert(Key::new(&tally, name), &page(name, 3000)).unwrap();
    }
    // The contexts that there are do not fit longer pages.
    let lie = Some(Lie::ContextBytes(usize::MAX));
    let long = with_lie(lie, || cache.insert(Key::new(&tally, 20), &page(20, 6000)));
    assert!(long.is_err(), "nothing to compress it with");
    assert_eq!((cache.len(), cache.stats().removals.evicted), (20, 0));
    cache.insert(Key::new(&tally, 20), &page(20, 6000)).expect("room for one that is no lie");
    cache.check();
}
