//! Calls that concern all entries at once, beside everybody else: what they hold up, and how far.
#![cfg(not(zcache_loom))]

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread;

use tests::callbacks::{config, in_time, page};
use zcache::policy::{Entries, Lru, Policy, Priority, S3Fifo, Sieve};
use zcache::{Cache, InsertError, RemovalCause};
use zpool::NoMemory;

/// A page that the codec shrinks to a hundred bytes or so, or one without an object of its own.
fn small_page(key: u64, filled: bool) -> Vec<u8> {
    let mut small = vec![filled.into(); 512];
    if !filled {
        small[..100].copy_from_slice(&page(key, 100));
    }
    small
}

/// It went on for ever: what was put back took the slots of what had gone.
#[test]
fn a_resize_ends_although_a_hook_puts_back_what_goes() {
    for filled in [false, true] {
        in_time("resize", move || {
            let refused = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&refused);
            let cache = Arc::new_cyclic(|weak: &Weak<Cache<u64>>| {
                let weak = weak.clone();
                Cache::<u64>::new(config(16 << 20)).unwrap().on_removal(move |gone| {
                    let Some(cache) = weak.upgrade() else { return };
                    if gone.cause() == RemovalCause::Evicted {
                        let put = cache.insert(*gone.key(), &small_page(*gone.key(), filled));
                        count.fetch_add(put.is_err().into(), Ordering::Relaxed);
                    }
                })
            });
            for key in 0..40_000 {
                let _ = cache.insert(key, &small_page(key, filled));
            }
            let (held, entries) = (cache.held_bytes(), cache.len());
            refused.store(0, Ordering::Relaxed);
            cache.resize(held / 2).unwrap();
            assert!(cache.held_bytes() <= held / 2);
            assert!(cache.len() > entries / 4, "{} of {entries} are left", cache.len());
            assert!(refused.load(Ordering::Relaxed) > entries / 4, "they had to go");
            cache.check();
            // What a hook inserts has room again.
            assert!(cache.insert(1, &small_page(1, filled)).is_ok());
        });
    }
}

thread_local! {
    /// What evictions of this thread took, and how many there were.
    static EVICTED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Evicted all that a resize had to: 50 ms in one call.
#[test]
fn an_insert_beside_a_resize_evicts_little_more_than_it_needs_and_shrinks_the_cache() {
    for filled in [false, true] {
        let (first, resizing) = mpsc::channel();
        let (go_on, done) = mpsc::channel();
        let (first, done) = (Mutex::new(Some(first)), Mutex::new(done));
        let cache = Cache::<u64>::new(config(32 << 20)).unwrap().on_removal(move |gone| {
            EVICTED.set((EVICTED.get().0 + gone.stored_len() + 48, EVICTED.get().1 + 1));
            // The first victim of the resize waits until all is inserted.
            let first = first.lock().unwrap().take();
            if let Some(first) = first {
                first.send(()).unwrap();
                done.lock().unwrap().recv().unwrap();
            }
        });
        let keys = 0..100_000;
        keys.clone().for_each(|key| cache.insert(key, &small_page(key, filled)).unwrap());
        assert_eq!(cache.len(), 100_000, "all of them fit");
        let half = cache.held_bytes() / 2;
        thread::scope(|scope| {
            let resize = scope.spawn(|| cache.resize(half));
            resizing.recv().unwrap();
            let mut most = 0;
            for key in keys.end..keys.end + 2000 {
                let entries = cache.len();
                EVICTED.set((0, 0));
                cache.insert(key, &small_page(key, filled)).unwrap();
                let (bytes, count) = EVICTED.get();
                most = most.max(bytes);
                assert!(count >= 2 && cache.len() < entries, "fewer after each insert");
            }
            // Twice what it takes, or a batch and what a zspage needs.
            assert!(most < (16 << 10) + 8 * 40_960, "one insert evicted {most} bytes");
            go_on.send(()).unwrap();
            assert_eq!(resize.join().unwrap(), Ok(()));
        });
        assert!(cache.held_bytes() <= half);
        cache.check();
    }
}

/// A policy that counts what it looks at between two holds of its lock, each of which ends with
/// `shrink`.
#[derive(Debug)]
struct Watched<P> {
    policy: P,
    /// Whether it is asked for victims that it did not spare.
    knows: bool,
    looks: usize,
    most: Arc<AtomicUsize>,
}

struct Counted<'e>(&'e dyn Entries, Cell<usize>);

impl Entries for Counted<'_> {
    fn mark(&self, id: u32) -> Option<u8> {
        self.1.set(self.1.get() + 1);
        self.0.mark(id)
    }

    fn set_mark(&self, id: u32, mark: u8) {
        self.0.set_mark(id, mark);
    }

    fn tag(&self, id: u32) -> u32 {
        self.0.tag(id)
    }
}

impl<P: Policy> Watched<P> {
    fn count(
        &mut self,
        entries: &dyn Entries,
        evict: impl Fn(&mut P, &dyn Entries) -> Option<u32>,
    ) -> Option<u32> {
        let counted = Counted(entries, Cell::new(0));
        let victim = evict(&mut self.policy, &counted);
        self.looks += counted.1.get();
        self.most.fetch_max(self.looks, Ordering::Relaxed);
        victim
    }
}

impl<P: Policy + 'static> Policy for Watched<P> {
    fn name(&self) -> &'static str {
        self.policy.name()
    }

    fn fresh(&self) -> Box<dyn Policy> {
        self.policy.fresh()
    }

    fn max_mark(&self) -> u8 {
        self.policy.max_mark()
    }

    fn growth(&self, id: u32) -> usize {
        self.policy.growth(id)
    }

    fn grow(&mut self, id: u32) -> Result<(), NoMemory> {
        self.policy.grow(id)
    }

    fn shrink(&mut self, in_use: &dyn Fn(Range<u32>) -> bool) -> usize {
        self.looks = 0;
        self.policy.shrink(in_use)
    }

    fn insert(&mut self, id: u32, tag: u32, priority: Priority) {
        self.policy.insert(id, tag, priority);
    }

    fn remove(&mut self, id: u32) -> bool {
        self.policy.remove(id)
    }

    fn replace(&mut self, old: u32, new: u32) {
        self.policy.replace(old, new);
    }

    fn evict(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32> {
        self.count(entries, |policy, entries| policy.evict(entries, effort))
    }

    fn evict_unspared(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32> {
        match self.knows {
            true => self.count(entries, |policy, entries| policy.evict_unspared(entries, effort)),
            false => self.evict(entries, effort),
        }
    }

    fn contains(&self, id: u32) -> bool {
        self.policy.contains(id)
    }

    fn len(&self) -> usize {
        self.policy.len()
    }

    fn bytes(&self) -> usize {
        self.policy.bytes()
    }

    fn check(&self) {
        self.policy.check();
    }
}

/// Of so many entries were 512 looked at for one victim, and there were up to eight victims a hold.
fn looks_at_few<P: Policy + 'static>(policy: P, knows: bool) {
    let most = Arc::new(AtomicUsize::new(0));
    let watched = Watched { policy, knows, looks: 0, most: Arc::clone(&most) };
    let name = watched.name();
    let cache: Cache<u64> = Cache::new(config(2 << 20).policy(watched)).unwrap();
    let mut next = 0;
    let mut insert = |times: usize| {
        let mut evicted = 0;
        for _ in 0..times {
            let before = cache.stats().removals.evicted;
            match cache.insert(next, &page(next, 400)) {
                Ok(()) => {}
                Err(InsertError::NoRoom { .. }) => panic!("{name}: there are entries to evict"),
                Err(error) => panic!("{error}"),
            }
            evicted += cache.stats().removals.evicted - before;
            next += 1;
        }
        evicted
    };
    insert(8000);
    let mut gone = 0;
    for _ in 0..20 {
        for _ in 0..3 {
            cache.keys().iter().for_each(|key| assert!(cache.get(key).is_some()));
        }
        gone += insert(100);
    }
    assert!(gone > 500, "{name}: all were hit, and {gone} go");
    cache.check();
    let most = most.load(Ordering::Relaxed);
    assert!((33..=64).contains(&most), "{name}: {most} looks in one hold");
}

#[test]
fn few_entries_are_looked_at_in_one_hold_of_the_policys_lock_whatever_was_hit() {
    for knows in [true, false] {
        looks_at_few(S3Fifo::new(), knows);
        looks_at_few(Sieve::new(), knows);
        looks_at_few(Lru::new(), knows);
    }
}
