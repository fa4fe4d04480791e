//! Keys chosen so that they collide: what a hasher without a seed suffers, the default one does
//! not.
//!
//! The measure is calls of the keys' `Eq`, which no clock and no other load changes.
#![cfg(not(zcache_loom))]
#![allow(clippy::print_stdout, reason = "figures for who asks for them by --nocapture")]

use std::cell::Cell;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use zcache::{Cache, Config};

/// Keys of an attacker.
const KEYS: u64 = 1000;

thread_local! {
    static COMPARED: Cell<u64> = const { Cell::new(0) };
    static HASHED: Cell<u64> = const { Cell::new(0) };
}

/// Relation and page, as a database would have them. Tells how often keys are compared, and by what
/// hash.
#[derive(Debug, Clone, Copy)]
struct Key(u64, u64);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        COMPARED.set(COMPARED.get() + 1);
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
        state.write_u64(self.1);
        HASHED.set(state.finish());
    }
}

/// FxHash, which compilers and maps use for its speed: no seed, and each step can be undone.
#[derive(Default)]
struct Fx(u64);

const MULTIPLIER: u64 = 0x517c_c1b7_2722_0a95;

impl Hasher for Fx {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(MULTIPLIER);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The page of any relation that leaves [`Fx`] where the other keys leave it.
fn hostile(relation: u64) -> Key {
    Key(relation, relation.wrapping_mul(MULTIPLIER).rotate_left(5) ^ 0x1234_5678)
}

/// Comparisons an operation while all keys are inserted, found, missed and removed.
#[derive(Debug)]
struct Cost {
    insert: f64,
    hit: f64,
    miss: f64,
    remove: f64,
}

fn cost<S: BuildHasher>(cache: &Cache<Key, S>, key: impl Fn(u64) -> Key) -> Cost {
    let each = |from: u64, mut act: Box<dyn FnMut(Key, u64) + '_>| {
        COMPARED.set(0);
        (from..from + KEYS).for_each(|number| act(key(number), number));
        COMPARED.get() as f64 / KEYS as f64
    };
    let page = |number: u64| [number.to_le_bytes().repeat(8), vec![1; 100]].concat();
    let insert = each(0, Box::new(|key, number| cache.insert(key, &page(number)).unwrap()));
    let hit = each(
        0,
        Box::new(|key, number| assert_eq!(cache.get(&key).as_deref(), Some(&page(number)[..]))),
    );
    let miss = each(KEYS, Box::new(|key, _| assert!(cache.get(&key).is_none())));
    let remove = each(0, Box::new(|key, _| assert!(cache.remove(&key))));
    cache.check();
    assert!(cache.is_empty());
    Cost { insert, hit, miss, remove }
}

fn config() -> Config {
    Config::new(4 << 20).max_page(4096)
}

#[test]
fn keys_that_collide_under_a_fixed_hasher_do_not_under_the_default_one() {
    let fixed = BuildHasherDefault::<Fx>::default();
    let same = fixed.hash_one(hostile(0));
    assert!((1..2 * KEYS).all(|relation| fixed.hash_one(hostile(relation)) == same));

    let harmless = cost(&Cache::with_hasher(config(), fixed.clone()).unwrap(), |at| Key(1, at));
    let attacked = cost(&Cache::with_hasher(config(), fixed).unwrap(), hostile);
    let seeded = cost(&Cache::new(config()).unwrap(), hostile);
    println!("comparisons an operation, {KEYS} keys, those of one hash under FxHash:");
    println!("FxHash, other keys {harmless:.2?}\nFxHash {attacked:.2?}\ndefault {seeded:.2?}");

    // A key is compared with half of the others on average, and one that is missed with all of
    // them.
    let many = KEYS as f64 / 4.0;
    assert!(attacked.insert > many && attacked.hit > many && attacked.remove > many / 2.0);
    assert!(attacked.miss >= KEYS as f64, "all of them are looked at: {attacked:?}");
    // One for the key itself; two of a thousand tags of 32 bits are equal once in 8000 caches.
    for Cost { insert, hit, miss, remove } in [harmless, seeded] {
        assert!(insert < 0.05 && miss < 0.05 && hit < 1.05 && remove < 1.05);
        assert!(hit >= 1.0 && remove >= 1.0, "keys are compared, not only their hashes");
    }
}

#[test]
fn each_cache_hashes_by_a_seed_of_its_own() {
    let caches: Vec<Cache<Key>> = (0..8).map(|_| Cache::new(config()).unwrap()).collect();
    let hash = |cache: &Cache<Key>| {
        assert!(!cache.contains_key(&Key(7, 42)));
        HASHED.get()
    };
    let mut hashes: Vec<u64> = caches.iter().map(hash).collect();
    assert_eq!(hash(&caches[0]), hashes[0], "one cache, one hash");
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), caches.len());
}
