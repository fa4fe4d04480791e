//! Holds a cache against a map of pages.
//!
//! The cache's hook says which entries go, so the oracle knows after every step which keys have a
//! page, and which: a look-up has to hit exactly those, with exactly that page; what is held stays
//! under the capacity; and [`Cache::check`] holds. Entries that have expired may still be there for
//! `len`.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zcache::policy::Priority;
use zcache::{
    Cache, HotShare, InsertError, InsertOptions, Leased, LoadError, RemovalCause, ResizeError,
};

use crate::cache_ops::{CacheOp, LoadEnd};
pub use crate::cache_setups::CacheSetup;
use crate::pattern;

/// A key that counts nothing and hashes badly: some of the 64 share a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u8);

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u8(self.0 / 3);
    }
}

/// The pages that went, with the cause, since they were last looked at; and what the next call of
/// the hook shall do beside noting that.
#[derive(Debug, Default)]
struct Told {
    gone: Vec<(u8, RemovalCause, Option<Vec<u8>>)>,
    panics: bool,
    calls: bool,
}

type Shared = Arc<Mutex<Told>>;

fn lock(told: &Shared) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

type OracleCache = Cache<Key>;

/// By which call a page goes in.
enum How {
    Plain,
    With(InsertOptions),
    Many,
    From,
}

struct World {
    cache: Arc<OracleCache>,
    told: Shared,
    /// The page of each key that has one, and whether it has expired.
    model: HashMap<u8, (Vec<u8>, bool)>,
    first: usize,
    /// How often a page is read at once: pages get hot by that.
    times: usize,
    /// Whether the last call panicked.
    panicked: bool,
}

/// Replays operations on a cache and on a map, comparing after each.
///
/// # Panics
/// They differ, or an invariant of the cache does not hold.
pub fn replay(setup: CacheSetup, ops: impl IntoIterator<Item = CacheOp>) {
    let told = Shared::default();
    let hook = Arc::clone(&told);
    let config = setup.config().hot(setup.share());
    let cache = Arc::new_cyclic(|weak: &std::sync::Weak<OracleCache>| {
        let weak = weak.clone();
        let cache = OracleCache::new(config).expect("a capacity that is enough");
        cache.on_removal(move |removal| {
            let (panics, calls) = {
                let mut told = lock(&hook);
                let page = removal.page().map(|page| page.to_vec());
                let mut again = vec![0xee; removal.len()];
                let read = removal.read_into(&mut again);
                assert!(
                    read.is_none() || read == page.as_ref().map(Vec::len) && page == Some(again)
                );
                assert!(removal.stored_len() <= removal.len() + 18, "a word and what follows it");
                told.gone.push((removal.key().0, removal.cause(), page));
                (std::mem::take(&mut told.panics), std::mem::take(&mut told.calls))
            };
            if let (true, Some(cache)) = (calls, weak.upgrade()) {
                let _ = cache.get(removal.key());
                let _ = cache.read(&Key(1), <[u8]>::len);
                let _ = cache.insert(Key(200), &[1; 100]);
                cache.remove(&Key(200));
            }
            assert!(!panics, "planted in the hook");
        })
    });
    let first = cache.capacity();
    let times = if setup.share() == HotShare::Off { 1 } else { 3 };
    let mut world = World { cache, told, model: HashMap::new(), first, times, panicked: false };
    if setup == CacheSetup::Trained {
        world.train();
    }
    for op in ops {
        world.step(op);
    }
    (lock(&world.told).panics, lock(&world.told).calls) = (false, false);
    world.cache.clear();
    world.settle();
    assert!(world.model.is_empty() && world.cache.is_empty(), "cleared");
    world.cache.trim();
    world.cache.check();
    let stats = world.cache.stats();
    assert_eq!((stats.bytes.payload, stats.bytes.pinned, stats.bytes.pages), (0, 0, 0));
    assert_eq!((stats.frames, stats.bytes.frames, stats.bytes.waiting), (0, 0, 0));
}

impl World {
    /// Inserts pages until the cache has a dictionary. Those before it stay, if no later one takes
    /// their place.
    fn train(&mut self) {
        for nth in 0..1000_u64 {
            let mut page = [0; 4096];
            pattern::words(1, nth, &mut page);
            let key = if nth < 20 { nth } else { 20 + nth % 20 };
            self.insert(key as u8, &page, How::Plain, false);
            self.cache.maintain(0);
            if self.cache.stats().dictionaries.adopted > 0 {
                return;
            }
        }
        panic!("no dictionary: {}", self.cache.stats());
    }

    /// Takes what the hook was told into the model.
    fn settle(&mut self) {
        let gone = std::mem::take(&mut lock(&self.told).gone);
        for (key, cause, page) in gone {
            if key == 200 {
                continue;
            }
            assert_ne!(cause, RemovalCause::Corrupt, "nothing is corrupted here");
            // A key's own replacement is dealt with by its insert. One that panics ends by hash.
            assert!(cause != RemovalCause::Replaced || self.panicked, "only inserts replace");
            let (known, expired) = self.model.remove(&key).expect("what goes was there");
            assert!(cause != RemovalCause::Expired || expired, "what expires had a time");
            if let Some(page) = page {
                assert!(page == known, "the hook sees the page that goes");
            }
        }
    }

    /// Runs `f`, which may panic through the hook, and takes in what it did.
    fn run<R>(&mut self, f: impl FnOnce(&OracleCache) -> R) -> Option<R> {
        let cache = Arc::clone(&self.cache);
        let done = catch_unwind(AssertUnwindSafe(|| f(&cache)));
        if let Err(panic) = &done {
            let text = panic.downcast_ref::<&str>().copied().unwrap_or_default();
            let text = panic.downcast_ref::<String>().map_or(text, String::as_str);
            assert!(text.starts_with("planted"), "{text}");
        }
        self.panicked = done.is_err();
        done.ok()
    }

    fn expect(&self, key: u8) -> Option<&Vec<u8>> {
        self.model.get(&key).filter(|(_, expired)| !expired).map(|(page, _)| page)
    }

    fn insert(&mut self, key: u8, page: &[u8], how: How, expired: bool) {
        let inserted = self.run(|cache| match how {
            How::Plain => cache.insert(Key(key), page),
            How::With(how) => cache.insert_with_options(Key(key), page, how),
            How::Many => cache.insert_many([(Key(key), page)]).remove(0),
            How::From => cache.insert_from(Key(key), |to| to.extend_from_slice(page)),
        });
        // Those that made room went before; the old page of the key itself goes in any case.
        let had = self.model.remove(&key).is_some();
        let gone = std::mem::take(&mut lock(&self.told).gone);
        let (own, others): (Vec<_>, Vec<_>) = gone.into_iter().partition(|(k, ..)| *k == key);
        // The old page went, as the victim of the new one or replaced by it; and then the new one,
        // where the hook looked it up and its time was over, or inserted something and took it as a
        // victim.
        let again = own.len() > usize::from(had);
        assert!(own.len() == usize::from(had) + usize::from(again), "{key} went: {own:?}");
        let cause = own.last().map(|(_, cause, _)| *cause);
        let victim =
            cause == Some(RemovalCause::Evicted) || expired && cause == Some(RemovalCause::Expired);
        assert!(!again || victim, "{key} went: {own:?}");
        lock(&self.told).gone = others;
        self.settle();
        match inserted {
            Some(Ok(())) if again => {}
            Some(Ok(())) => {
                self.model.insert(key, (page.to_vec(), expired));
            }
            Some(Err(InsertError::TooLarge { len, max_page, dropped })) => {
                assert!(len == page.len() && len > max_page);
                assert_eq!(dropped, cause == Some(RemovalCause::Replaced), "{key} went: {own:?}");
            }
            Some(Err(InsertError::NoRoom { dropped })) => {
                assert_eq!(dropped, cause == Some(RemovalCause::Replaced), "{key} went: {own:?}");
            }
            Some(Err(error)) => panic!("{error}"),
            // The hook that was told of the replacement panicked: the page is in already.
            None if self.cache.len() > self.model.len() => {
                self.model.insert(key, (page.to_vec(), expired));
            }
            None => {}
        }
    }

    fn insert_if_absent(&mut self, key: u8, page: &[u8], how: InsertOptions, expired: bool) {
        let there = self.expect(key).is_some();
        let stored = self.run(|cache| cache.insert_if_absent_with_options(Key(key), page, how));
        let had = self.model.remove(&key);
        let gone = std::mem::take(&mut lock(&self.told).gone);
        let (own, others): (Vec<_>, Vec<_>) = gone.into_iter().partition(|(k, ..)| *k == key);
        lock(&self.told).gone = others;
        self.settle();
        // One whose time was over went, and the new one may have been a hook's victim.
        let old = usize::from(had.is_some());
        match stored {
            Some(Ok(false)) => {
                assert!(there && own.is_empty(), "{key} went: {own:?}");
                self.model.extend(had.map(|had| (key, had)));
            }
            Some(Ok(true)) => {
                assert!(!there && own.len() >= old, "{key} went: {own:?}");
                if own.len() == old {
                    self.model.insert(key, (page.to_vec(), expired));
                }
            }
            Some(Err(InsertError::TooLarge { dropped, .. } | InsertError::NoRoom { dropped })) => {
                assert!(!there && !dropped && own.len() == old, "{key} went: {own:?}")
            }
            Some(Err(error)) => panic!("{error}"),
            None => {
                assert!(!there, "no hook is called for a key that has a page");
                if self.cache.len() > self.model.len() {
                    self.model.insert(key, (page.to_vec(), expired));
                }
            }
        }
    }

    fn remove_if(&mut self, key: u8, unwanted: bool) {
        let (had, expected) = (self.model.contains_key(&key), self.expect(key).cloned());
        let removed = self.run(|cache| {
            cache.remove_if(&Key(key), |page| {
                assert!(Some(page) == expected.as_deref(), "it is asked about the page");
                unwanted
            })
        });
        self.settle();
        if let Some(removed) = removed {
            // Or it went, for memory to decode it with.
            let left = expected.is_some() && self.model.contains_key(&key);
            assert!(!removed || expected.is_some() && !left, "it says what it removes");
            assert!(!left || !unwanted, "{key} is removed");
            assert!(!had || expected.is_some() || !self.model.contains_key(&key), "it is over");
        }
    }

    fn read(&mut self, key: u8, how: u8) {
        let expected = self.expect(key).cloned();
        let got = self.run(|cache| match how % 8 {
            0 => cache.get(&Key(key)).map(|page| page.to_vec()),
            1 => {
                let mut to = vec![0xff; cache.max_page()];
                let len = cache.get_into(&Key(key), &mut to).expect("room for any page");
                len.map(|len| to[..len].to_vec())
            }
            2 => cache.read(&Key(key), <[u8]>::to_vec),
            3 => cache.peek(&Key(key)).map(|page| page.to_vec()),
            4 => {
                let len = expected.as_ref().map_or(0, Vec::len);
                let short = cache.get_into(&Key(key), &mut vec![0; len.saturating_sub(1)]);
                match short {
                    Err(error) => {
                        assert_eq!(error.needed, len);
                        expected.clone()
                    }
                    Ok(found) => found.map(|_| Vec::new()),
                }
            }
            5 => {
                // In two parts, of which the second has the rest.
                let mut to = vec![0xff; cache.max_page()];
                let first = expected.as_ref().map_or(0, Vec::len) / 2;
                let len = cache.get_range_into(&Key(key), 0, &mut to[..first]);
                let rest = cache.get_range_into(&Key(key), first, &mut to[first..]);
                len.zip(rest).map(|(len, rest)| to[..len + rest].to_vec())
            }
            6 => {
                let mut to = vec![0xff; cache.max_page()];
                let found = cache.get_many_into([(&Key(key), &mut to[..])]).remove(0);
                found.expect("room for any page").map(|len| to[..len].to_vec())
            }
            _ => {
                let has = cache.contains_key(&Key(key));
                assert_eq!(has, expected.is_some(), "contains_key {key}");
                expected.clone().filter(|_| has)
            }
        });
        self.settle();
        if let Some(got) = got {
            // A look-up with a context may have evicted for it; then the page read is still right.
            let lens = (got.as_ref().map(Vec::len), expected.as_ref().map(Vec::len));
            assert!(got == expected, "key {key} by {how}: {lens:?}, {}", self.cache.stats());
        }
    }

    fn load(&mut self, key: u8, page: &[u8], end: LoadEnd) {
        let expected = self.expect(key).cloned();
        let loaded = self.run(|cache| {
            cache.get_or_insert_with(&Key(key), |to| {
                match end {
                    LoadEnd::Error => return Err("no such page"),
                    LoadEnd::Panic => panic!("planted in the loader"),
                    LoadEnd::Recursive => {
                        let again = cache.get_or_insert_with(&Key(key), |_| Ok::<(), String>(()));
                        assert!(matches!(again, Err(LoadError::Recursive)));
                    }
                    LoadEnd::Removes => {
                        cache.remove(&Key(key));
                    }
                    LoadEnd::Page => {}
                }
                to.extend_from_slice(page);
                Ok(())
            })
        });
        self.settle();
        match (loaded, expected) {
            (Some(loaded), Some(expected)) => assert!(loaded.is_ok_and(|page| page == expected)),
            (Some(Ok(loaded)), None) => {
                assert!(loaded == page && end != LoadEnd::Error);
                if self.cache.len() > self.model.len() {
                    assert!(end != LoadEnd::Removes, "a removal in between");
                    self.model.insert(key, (page.to_vec(), false));
                }
            }
            (Some(Err(LoadError::TooLarge { len, .. })), None) => assert_eq!(len, page.len()),
            (Some(Err(error)), None) => {
                assert_eq!(error.to_string().contains("no such page"), end == LoadEnd::Error);
            }
            (None, _) => {
                if self.cache.len() > self.model.len() {
                    self.model.insert(key, (page.to_vec(), false));
                }
            }
        }
    }

    fn lease(&mut self, key: u8, page: &[u8], between: u8) {
        let expected = self.expect(key).cloned();
        let leased = self.run(|cache| cache.get_or_lease(&Key(key)));
        self.settle();
        let lease = match leased {
            Some(Leased::Lease(lease)) => lease,
            Some(Leased::Page(got)) => return assert!(Some(got.to_vec()) == expected),
            Some(Leased::Wait(_)) => panic!("nobody else loads key {key}"),
            None => return,
        };
        assert!(expected.is_none() && lease.key().0 == key, "a lease is for a miss");
        match between % 4 {
            1 => self.insert(key, b"newer", How::Plain, false),
            2 => {
                self.run(|cache| cache.remove(&Key(key)));
            }
            3 => {
                self.run(OracleCache::clear);
            }
            _ => {}
        }
        self.settle();
        let inserted = self.run(|cache| cache.insert_if_valid(lease, page));
        self.settle();
        match inserted {
            Some(Ok(())) => {
                assert_eq!(between % 4, 0, "an outdated lease");
                self.model.insert(key, (page.to_vec(), false));
            }
            Some(Err(InsertError::Outdated)) => assert_ne!(between % 4, 0, "a valid lease"),
            Some(Err(_)) | None => {}
        }
    }

    fn step(&mut self, op: CacheOp) {
        let max_page = self.cache.max_page();
        match op {
            CacheOp::Insert(key, page) => {
                self.insert(key % 64, &page.page(max_page), How::Plain, false);
            }
            CacheOp::InsertWith(key, page, how) => {
                let priority = [Priority::Low, Priority::Normal, Priority::High][how as usize % 3];
                let (expired, absent) = (how & 64 != 0, how & 32 != 0);
                let time = Duration::from_secs(if expired { 0 } else { 9999 });
                let start =
                    if how & 128 != 0 { InsertOptions::new().scan() } else { InsertOptions::new() };
                let how = start.priority(priority).time_to_live(time);
                let (key, page) = (key % 64, page.page(max_page));
                match absent {
                    true => self.insert_if_absent(key, &page, how, expired),
                    false => self.insert(key, &page, How::With(how), expired),
                }
            }
            CacheOp::Read(key, how) => (0..self.times).for_each(|_| self.read(key % 64, how)),
            CacheOp::Range(key, start, end) => {
                let key = key % 64;
                let range = usize::from(start) % 5000..usize::from(end) % 20_000;
                let expected = self.expect(key).map(|page| {
                    let end = range.end.min(page.len());
                    page[range.start.min(end)..end].to_vec()
                });
                let got = self.run(|cache| cache.get_range(&Key(key), range));
                self.settle();
                if let Some(got) = got {
                    assert!(got.map(|page| page.to_vec()) == expected, "a part of {key}");
                }
            }
            CacheOp::Remove(key @ 128..) => self.remove_if(key % 64, key & 64 != 0),
            CacheOp::Remove(key) | CacheOp::Take(key) => {
                let key = key % 64;
                let (had, expected) = (self.model.contains_key(&key), self.expect(key).cloned());
                let took = self.run(|cache| match op {
                    CacheOp::Take(_) => cache.take(&Key(key)).map(|page| page.to_vec()),
                    _ => {
                        assert_eq!(cache.remove(&Key(key)), had, "remove says what was there");
                        expected.clone()
                    }
                });
                self.settle();
                assert!(took.is_none_or(|took| took == expected), "take gives the page");
                assert!(!self.model.contains_key(&key), "removed");
            }
            CacheOp::Lease(key, page, between) => {
                self.lease(key % 64, &page.page(max_page), between);
            }
            CacheOp::Load(key, page, end) => self.load(key % 64, &page.page(max_page), end),
            CacheOp::Many(key, page) => {
                let page = page.page(max_page);
                for nth in 0..3 {
                    let how = if nth == 1 { How::From } else { How::Many };
                    self.insert(key.wrapping_add(nth) % 64, &page, how, false);
                }
                let keys: Vec<Key> = (0..64).map(Key).collect();
                // A hook that inserts may evict what is looked up later.
                lock(&self.told).calls = false;
                let expected: Vec<_> = (0..64).map(|key| self.expect(key).cloned()).collect();
                let got = self.run(|cache| cache.get_many(&keys));
                self.settle();
                if let Some(got) = got {
                    // Or they went meanwhile, for memory to decode an earlier one with.
                    assert!(got.iter().zip(&expected).zip(0..).all(|((got, expected), key)| {
                        let gone = got.is_none() && !self.model.contains_key(&key);
                        gone || got.as_deref() == expected.as_deref()
                    }));
                }
            }
            CacheOp::Retain(keep) => {
                self.run(|cache| cache.retain(|key| keep >> (key.0 % 64) & 1 == 1));
                self.settle();
            }
            CacheOp::Clear => {
                self.run(OracleCache::clear);
                self.settle();
            }
            CacheOp::Keys => {
                let keys = self.run(OracleCache::keys);
                self.settle();
                let Some(keys) = keys else { return };
                let mut keys: Vec<u8> = keys.iter().map(|key| key.0).collect();
                keys.sort_unstable();
                let live =
                    |(key, (_, expired)): (&u8, &(Vec<u8>, bool))| (!expired).then_some(*key);
                let mut expected: Vec<u8> = self.model.iter().filter_map(live).collect();
                expected.sort_unstable();
                // Some that were listed may have gone for memory to look at others.
                assert!(expected.iter().all(|key| keys.contains(key)), "{expected:?}: {keys:?}");
                let expired = |key: &u8| self.model.get(key).is_some_and(|(_, expired)| *expired);
                assert!(!keys.iter().any(expired), "{keys:?}");
                let mut seen = HashMap::new();
                let each = |key: &Key, page: &[u8]| _ = seen.insert(key.0, page.to_vec());
                if self.run(|cache| cache.for_each(each)).is_some() {
                    self.settle();
                    for key in expected.iter().filter(|key| self.model.contains_key(key)) {
                        assert!(seen.get(key) == self.expect(*key), "the page of {key}");
                    }
                }
                self.settle();
            }
            CacheOp::Resize(percent) => {
                let before = self.cache.capacity();
                let bytes = self.first * usize::from(percent) / 100;
                match self.run(|cache| cache.resize(bytes)) {
                    Some(Err(ResizeError::TooSmall { least })) => {
                        assert!(bytes < least && self.cache.capacity() == before);
                    }
                    Some(Err(error)) => {
                        // Tables do not shrink; the rest has to go.
                        assert!(matches!(error, ResizeError::StillHeld { held } if held > bytes));
                        self.run(|cache| cache.resize(before));
                    }
                    Some(Ok(())) => assert_eq!(self.cache.capacity(), bytes),
                    None => {
                        self.run(|cache| cache.resize(before));
                    }
                }
                self.settle();
            }
            CacheOp::Maintain(budget) => {
                let step = self.run(|cache| cache.maintain(4 * usize::from(budget)));
                self.settle();
                assert!(step.is_none_or(|step| !step.busy), "nobody else is at it");
            }
            CacheOp::Compact(budget) => {
                self.cache.compact(budget.into());
            }
            CacheOp::Trim => {
                self.cache.trim();
                let (cache, stats) = (&self.cache, self.cache.stats());
                assert_eq!(stats.entries, cache.len());
                // Contexts stay, and nothing else of the codec's.
                cache.trim();
                assert_eq!(cache.stats().bytes.codec, stats.bytes.codec);
                assert_eq!(cache.is_empty(), self.model.is_empty());
                let said = (stats.bytes.held, stats.bytes.capacity);
                assert_eq!(said, (cache.held_bytes(), cache.capacity()));
            }
            CacheOp::Hook(panics) => {
                let mut told = lock(&self.told);
                (told.panics, told.calls) = (panics, !panics);
            }
        }
        self.cache.check();
        assert_eq!(self.cache.len(), self.model.len(), "entries after {op:?}");
    }
}
