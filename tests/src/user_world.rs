//! A cache all of whose user code may panic or lie, and what has to hold of it all the same: every
//! invariant, every key dropped once, no page but one that its key was given last.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use zcache::policy::{Lru, Priority, S3Fifo, Sieve};
use zcache::{Cache, HotShare, InsertOptions, Removal, codec};
use zpool::SourceKind;

use crate::cache_ops::CacheOp;
use crate::user_code::{
    Contexts, Fragile, Key, Lie, Seeds, Tally, Trap, step_on, truthful, with_lie, with_trap,
};

/// A call, and which user code misbehaves in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserOp {
    /// What panics, after how many calls.
    pub trap: Option<(Trap, usize)>,
    /// What is lied about.
    pub lie: Option<Lie>,
    /// The call.
    pub call: CacheOp,
}

impl UserOp {
    /// The calls that a fuzzer's bytes stand for.
    pub fn from_bytes(mut bytes: &[u8]) -> impl Iterator<Item = Self> + '_ {
        std::iter::from_fn(move || {
            let (&[trap, after, lie, size], mut rest) = bytes.split_first_chunk()?;
            let call = CacheOp::take(&mut rest)?;
            bytes = rest;
            let trap = Trap::ALL.get(usize::from(trap) % (2 * Trap::ALL.len())).copied();
            let trap = trap.map(|trap| (trap, usize::from(after % 16)));
            // A key that lies where it is stored is stored in the wrong place: that is no bug here.
            let looks = matches!(call, CacheOp::Read(..) | CacheOp::Range(..) | CacheOp::Remove(_));
            let lie = match lie % 18 {
                0 if looks => Some(Lie::Hash),
                1 if looks => Some(Lie::Equal),
                2 if looks => Some(Lie::Unequal),
                3 => Some(Lie::ContextBytes(usize::from(size) << 10)),
                4 => Some(Lie::ContextBytes(usize::MAX >> (size % 64))),
                5 => Some(Lie::NoContext),
                6 => Some(Lie::Longer),
                7 => Some(Lie::Nothing),
                8 => Some(Lie::NoGain),
                9 => Some(Lie::Corrupt),
                _ => None,
            };
            Some(Self { trap, lie, call })
        })
    }
}

struct World {
    cache: Cache<Key, Seeds>,
    tally: Arc<Tally>,
    /// The pages that a key's look-up may find, the last one first; it may find none.
    pages: HashMap<u64, Vec<Vec<u8>>>,
    first: usize,
    /// Whether pages get hot.
    hot: bool,
}

/// Makes the calls, and looks at the cache after each.
///
/// # Panics
/// Something does not hold.
pub fn replay(setup: u8, ops: impl IntoIterator<Item = UserOp>) {
    let (tally, contexts) = (Arc::<Tally>::default(), Arc::<Contexts>::default());
    let config = zcache::Config::new(400 << 10).max_page(8 << 10).shards(2).checksum(true);
    let fragile = Fragile(Arc::clone(&contexts));
    let config = match setup & 8 {
        0 => config.codec(fragile),
        _ => config.codec(codec::Plain).cold_codec(fragile).train(128),
    };
    let config = match setup % 4 {
        0 => config.policy(Lru::new()),
        1 => config.policy(Sieve::new()),
        2 => config.policy(S3Fifo::new()).source(SourceKind::Memfd),
        _ => config.time_to_live(Duration::from_secs(3600)),
    };
    let hot = setup & 4 != 0;
    let config = config.hot(if hot { HotShare::Fraction(3) } else { HotShare::Off });
    let cache = Cache::with_hasher(config, Seeds).expect("a capacity that is enough");
    let cache = cache.on_removal(|removal: &Removal<'_, Key>| {
        let mut page = vec![0; removal.len()];
        let read = removal.read_into(&mut page);
        assert!(read.is_none_or(|len| len == removal.len()) && removal.key().name < 64);
        step_on(Trap::Hook);
    });
    let first = cache.capacity();
    let mut world = World { cache, tally, pages: HashMap::new(), first, hot };
    for op in ops {
        world.step(op);
    }
    let World { cache, tally, .. } = world;
    cache.clear();
    cache.trim();
    cache.check();
    let stats = cache.stats();
    let rest = (stats.bytes.payload, stats.bytes.pinned, stats.bytes.pages);
    assert_eq!(rest, (0, 0, 0), "no page is lost");
    assert_eq!((stats.bytes.frames, stats.bytes.waiting), (0, 0), "no frame is lost");
    assert_eq!(
        stats.bytes.codec,
        contexts.bytes(),
        "contexts stay, and nothing else of the codec's"
    );
    drop(cache);
    tally.assert_each_dropped_once();
    assert_eq!((contexts.alive(), contexts.bytes()), (0, 0), "no context is left");
}

impl World {
    fn key(&self, name: u8) -> Key {
        Key::new(&self.tally, u64::from(name % 64))
    }

    fn step(&mut self, op: UserOp) {
        let before = self.pages.clone();
        if self.hot {
            // Some have frames, and some would with the next hit.
            for name in (0..64).step_by(5) {
                (0..1 + name % 3).for_each(|_| _ = self.cache.get(&self.key(name)));
            }
        }
        let done = match op.trap {
            Some((trap, after)) => {
                with_trap(trap, after, || with_lie(op.lie, || self.call(op.call)))
            }
            None => {
                with_lie(op.lie, || self.call(op.call));
                Some(())
            }
        };
        let by_key = matches!(op.trap, Some((Trap::Hash | Trap::Hasher | Trap::Eq, _)));
        let insert = matches!(op.call, CacheOp::Insert(..) | CacheOp::InsertWith(..));
        if done.is_none() && (by_key || !insert) {
            // It may not have got as far as the key's entry. An insert that did is never stale.
            for (name, pages) in before {
                self.pages.entry(name).or_default().extend(pages);
            }
        }
        if self.cache.capacity() != self.first {
            // A lower one may have been refused, or cut short.
            self.cache.resize(self.first).expect("it held as much before");
        }
        self.cache.check();
        let keys = self.cache.len() + self.cache.stats().frames;
        assert_eq!(keys, self.tally.alive(), "a key an entry, and one a frame, after {op:?}");
        for name in 0..64 {
            let found = self.cache.peek(&self.key(name));
            let pages = self.pages.get(&name.into()).map_or(&[][..], |pages| &pages[..]);
            let known = found.as_ref().is_none_or(|found| pages.iter().any(|page| page == found));
            assert!(known, "key {name} has a page that is not its own after {op:?}");
            // Whatever of this it has, it cannot have the rest any more.
            self.pages.insert(name.into(), found.map(Vec::from).into_iter().collect());
        }
        // And the cache works.
        let page = vec![op.trap.map_or(3, |(_, after)| after as u8); 700];
        self.cache.insert(self.key(63), &page).expect("room for a page of one byte");
        assert!(self.cache.get(&self.key(63)).is_some_and(|got| got == page), "after {op:?}");
        assert!(self.cache.remove(&self.key(63)), "after {op:?}");
        self.pages.remove(&63);
    }

    /// The key may have this page from now on, and none that it had before.
    fn expect(&mut self, name: u8, page: &[u8]) {
        self.pages.insert(u64::from(name % 64), vec![page.to_vec()]);
    }

    /// It has none, unless its removal was misled.
    fn gone(&mut self, name: u8) {
        if truthful() {
            self.pages.remove(&u64::from(name % 64));
        }
    }

    fn insert(&mut self, name: u8, page: &[u8], how: InsertOptions) {
        self.expect(name, page);
        let _ = self.cache.insert_with_options(self.key(name), page, how);
    }

    fn call(&mut self, call: CacheOp) {
        let longest = self.cache.max_page();
        match call {
            CacheOp::Insert(name, page) => {
                self.insert(name, &page.page(longest), InsertOptions::new())
            }
            CacheOp::InsertWith(name, page, how) => {
                let time = Duration::from_secs(if how & 64 != 0 { 0 } else { 9999 });
                let how = match how & 128 {
                    0 => InsertOptions::new().priority(Priority::High),
                    _ => InsertOptions::new().scan(),
                };
                let how = how.time_to_live(time);
                self.insert(name, &page.page(longest), how);
            }
            CacheOp::Read(name, how) => {
                let (cache, key) = (&self.cache, self.key(name));
                let _ = match how % 6 {
                    0 => cache.get(&key).is_some(),
                    1 => cache.get_into(&key, &mut vec![0; longest]).is_ok_and(|len| len.is_some()),
                    2 => cache.read(&key, |_| step_on(Trap::Read)).is_some(),
                    3 => cache.peek(&key).is_some(),
                    4 => cache.contains_key(&key),
                    _ => cache.get_many(&[self.key(name), key])[0].is_some(),
                };
            }
            CacheOp::Range(name, start, end) => {
                let _ = self.cache.get_range(&self.key(name), start.into()..end.into());
            }
            CacheOp::Remove(name) => {
                let _ = self.cache.remove(&self.key(name));
                self.gone(name);
            }
            CacheOp::Take(name) => {
                let _ = self.cache.take(&self.key(name));
                self.gone(name);
            }
            CacheOp::Lease(name, page, between) => {
                let Some(lease) = self.cache.get_or_lease(&self.key(name)).lease() else { return };
                if between % 4 == 1 {
                    let _ = self.cache.remove(&self.key(name));
                }
                let page = page.page(longest);
                self.expect(name, &page);
                let _ = self.cache.insert_if_valid(lease, &page);
            }
            CacheOp::Load(name, page, _) => {
                let (page, key) = (page.page(longest), self.key(name));
                self.pages.entry(key.name).or_default().push(page.clone());
                let _ = self.cache.get_or_insert_with(&key, |to| {
                    step_on(Trap::Read);
                    to.extend_from_slice(&page);
                    Ok::<(), io::Error>(())
                });
            }
            CacheOp::Many(name, page) => {
                let page = page.page(longest);
                let names = [name, name.wrapping_add(1), name.wrapping_add(2)];
                names.iter().for_each(|name| self.expect(*name, &page));
                let pages: Vec<_> = names.iter().map(|name| (self.key(*name), &page)).collect();
                let _ = self.cache.insert_many(pages);
            }
            CacheOp::Retain(keep) => self.cache.retain(|key| {
                step_on(Trap::Keep);
                keep >> key.name & 1 == 1
            }),
            CacheOp::Clear => {
                self.cache.clear();
                self.pages.clear();
            }
            CacheOp::Keys => drop(self.cache.keys()),
            CacheOp::Resize(percent) => {
                let _ = self.cache.resize(self.first * usize::from(percent) / 100);
            }
            CacheOp::Maintain(budget) => drop(self.cache.maintain(2 * usize::from(budget))),
            CacheOp::Compact(budget) => drop(self.cache.compact(budget.into())),
            CacheOp::Trim => self.cache.trim(),
            CacheOp::Hook(_) => drop(self.cache.stats()),
        }
    }
}
