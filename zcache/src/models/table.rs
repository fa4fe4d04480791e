//! The index's table beside readers: they find only what is there, and all that is there. In models
//! a line has one id.

use loom::sync::atomic::AtomicU32;

use crate::index::{Seek, Table, Tag};
use crate::sync::model::{beside, model, twin};
use crate::sync::{Arc, Ordering, Plant, let_split};

/// A table of two shards, and what stands for a pool: the key of each id and the version of its
/// page; 0 where it is nobody's.
pub(super) struct World {
    pub(super) table: Table,
    ids: [AtomicU32; 4],
}

/// Keys of one shard.
const KEYS: [u32; 3] = [1, 2, 3];

/// Of two buckets keys 1 and 2 go into the second one, and key 3 into the first one.
/// Of four buckets keys 5 and 6 have the first one, 1 and 2 the second, 3 the third, 7 and 8 the
/// last.
/// Key 4 has the tag of key 2.
pub(super) const fn tag(key: u32) -> Tag {
    [0, 1, 4, 2, 4, 3, 6, 5, 8][key as usize]
}

impl World {
    #[allow(clippy::arc_with_non_send_sync, reason = "loom's threads are one")]
    pub(super) fn new() -> Arc<Self> {
        let pool: zpool::Pool = zpool::Pool::new(zpool::Config::new()).unwrap();
        let table = Table::new(2, &pool);
        Arc::new(Self { table, ids: std::array::from_fn(|_| AtomicU32::new(0)) })
    }

    pub(super) fn tag_of(&self, id: u32) -> Tag {
        tag(self.ids[id as usize].load(Ordering::Relaxed) / 16)
    }

    /// Holds a page's key and version, as one number, which stand for the page.
    fn seek(&self, key: u32) -> impl Seek<Entry = u32> + '_ {
        let hold = |id| {
            let page = self.ids[id as usize].load(Ordering::Acquire);
            (page != 0).then_some(page)
        };
        (hold, move |page: &u32| page / 16 == key)
    }

    /// The version of the page of `key`.
    pub(super) fn look(&self, key: u32) -> Option<u32> {
        self.table.look(tag(key), self.seek(key)).map(|page| page % 16)
    }

    /// Makes `id` the page of `key` in this version.
    pub(super) fn make(&self, id: u32, key: u32, version: u32) {
        self.ids[id as usize].store(key * 16 + version, Ordering::Release);
    }

    pub(super) fn end(&self, id: u32) {
        self.ids[id as usize].store(0, Ordering::Release);
    }

    pub(super) fn put(&self, id: u32, key: u32) -> Option<u32> {
        let tag_of = |id| self.tag_of(id);
        let put = self.table.put((tag(key), id), &tag_of, self.seek(key), |_| true);
        put.unwrap().map(|page| page % 16)
    }

    pub(super) fn take(&self, key: u32) -> Option<u32> {
        let tag_of = |id| self.tag_of(id);
        self.table.take(tag(key), &tag_of, self.seek(key), |_| ()).map(|page| page % 16)
    }
}

/// A world with the first `keys` keys, each under the id one less.
pub(super) fn with(keys: usize) -> Arc<World> {
    let world = World::new();
    for key in &KEYS[..keys] {
        world.make(key - 1, *key, 1);
        assert_eq!(world.put(key - 1, *key), None);
    }
    world
}

/// A key's page is replaced, and the old page's id becomes that of the next one, which the index
/// does not lead to yet.
fn replace_and_use_again() -> (u32, u32) {
    let world = with(1);
    let reader = beside(&world, |world| (world.look(1), world.look(1)));
    world.make(1, 1, 2);
    assert_eq!(world.put(1, 1), Some(1));
    world.end(0);
    world.make(0, 1, 3);
    let (first, second) = reader.join().unwrap();
    let (first, second) = (first.expect("never missed"), second.expect("never missed"));
    assert!(
        first <= second && second < 3,
        "nobody finds what is not published, or older pages later"
    );
    (first, second)
}

#[test]
fn a_page_is_found_when_the_index_leads_to_it() {
    assert_eq!(model(Some(3), replace_and_use_again).len(), 3);
}

#[test]
#[should_panic(expected = "nobody finds what is not published")]
fn not_looking_again_is_noticed() {
    twin(Some(3), Plant::FoundUnasked, replace_and_use_again);
}

/// The first of two keys in a chain goes, and the other one takes its place.
fn move_up() -> Option<u32> {
    let world = with(2);
    let reader = beside(&world, |world| world.look(2));
    assert_eq!(world.take(1), Some(1));
    assert_eq!(reader.join().unwrap(), Some(1), "a key that moves is never missed");
    assert_eq!((world.look(1), world.look(2), world.table.len()), (None, Some(1), 1));
    world.look(1)
}

#[test]
fn a_key_that_moves_up_its_chain_is_never_missed() {
    model(Some(3), move_up);
}

#[test]
#[should_panic(expected = "a key that moves is never missed")]
fn a_miss_that_does_not_ask_who_moved_is_noticed() {
    twin(Some(3), Plant::MissedUnasked, move_up);
}

#[test]
#[should_panic(expected = "a key that moves is never missed")]
fn moving_without_telling_is_noticed() {
    twin(Some(3), Plant::MovedUntold, move_up);
}

/// A third key makes a second bucket, which one of the others moves to.
fn split() -> Option<u32> {
    let world = with(2);
    let reader = beside(&world, |world| (world.look(2), world.look(1)));
    let_split(true);
    world.make(2, 3, 1);
    assert_eq!(world.put(2, 3), None);
    assert_eq!(reader.join().unwrap(), (Some(1), Some(1)), "a key that moves is never missed");
    assert!(KEYS.iter().all(|key| world.look(*key) == Some(1)) && world.table.len() == 3);
    // And back.
    assert_eq!((world.take(3), world.take(1)), (Some(1), Some(1)));
    assert_eq!((world.look(2), world.table.len()), (Some(1), 1));
    let_split(false);
    world.look(3)
}

#[test]
fn a_key_that_moves_to_a_new_bucket_is_never_missed() {
    model(Some(1), split);
}

#[test]
#[should_panic(expected = "a key that moves is never missed")]
fn moving_to_a_new_bucket_without_telling_is_noticed() {
    twin(Some(1), Plant::MovedUntold, split);
}

/// A bucket goes, whose key moves back, beside a reader of that key.
fn merge() -> Option<u32> {
    let world = World::new();
    let_split(true);
    for key in KEYS {
        world.make(key - 1, key, 1);
        world.put(key - 1, key);
    }
    assert_eq!((world.take(1), world.take(2)), (Some(1), Some(1)));
    let reader = beside(&world, |world| world.look(3));
    // Models have one entry a bucket, so that no removal lets one go.
    world.table.shrink(&|id| world.tag_of(id));
    assert_eq!(reader.join().unwrap(), Some(1), "a key that moves is never missed");
    assert_eq!(world.take(3), Some(1));
    assert_eq!(world.table.len(), 0);
    let_split(false);
    world.look(3)
}

#[test]
fn a_key_that_moves_back_is_never_missed() {
    model(Some(2), merge);
}

#[test]
#[should_panic(expected = "a key that moves is never missed")]
fn moving_back_without_asking_is_noticed() {
    twin(Some(2), Plant::MissedUnasked, merge);
}

/// Two writers put the same key.
fn put_and_put() -> (Option<u32>, Option<u32>) {
    let world = World::new();
    world.make(0, 1, 1);
    world.make(1, 1, 2);
    let other = beside(&world, |world| world.put(1, 1));
    let put = (world.put(0, 1), other.join().unwrap());
    assert_eq!(world.table.len(), 1, "a key is there once");
    assert!(matches!(put, (None, Some(1)) | (Some(2), None)), "{put:?}");
    assert!(world.take(1).is_some() && world.look(1).is_none(), "a key is there once");
    put
}

#[test]
fn of_two_that_put_a_key_the_later_one_replaces() {
    assert_eq!(model(Some(3), put_and_put).len(), 2);
}

#[test]
#[should_panic(expected = "a key is there once")]
fn a_writer_that_does_not_ask_whether_its_look_holds_is_noticed() {
    twin(Some(3), Plant::SearchedUnasked, put_and_put);
}
