use std::cell::Cell;
use std::collections::HashMap;

use zpool::{Config, Pool};

use super::Tag;
use super::table::{Seek, Table};
use crate::sync::PutError;

/// A tag of each id.
const fn tag_of(id: u32) -> Tag {
    id.wrapping_mul(0x85eb_ca6b).rotate_left(13) ^ 0x1234_5678
}

fn pool() -> Pool {
    Pool::new(Config::new()).unwrap()
}

const fn is(id: u32) -> impl Seek<Entry = u32> {
    (Some as fn(u32) -> Option<u32>, move |of: &u32| *of == id)
}

fn put(table: &Table, id: u32) -> Result<Option<u32>, PutError> {
    table.put((tag_of(id), id), &tag_of, is(id), |_| true)
}

fn take(table: &Table, id: u32) -> Option<u32> {
    table.take(tag_of(id), &tag_of, is(id), |_| ())
}

fn look(table: &Table, id: u32) -> Option<u32> {
    table.look(tag_of(id), is(id))
}

/// What lines of another size would take is not the question here: pages of 64 lines, and the first
/// 64 lines of either kind on the heap.
const SPARE: usize = 3 * 4096 + 2 * (64 * 64 + 16);

#[test]
fn an_entry_takes_8_bytes_or_less_at_any_number_of_them() {
    for shards in [2, 16, 64] {
        let (pool, mut worst, mut sum) = (pool(), 0.0_f64, 0.0);
        let table = Table::new(shards, &pool);
        let mut points = 0;
        for id in 0..400_000 {
            assert_eq!(put(&table, id), Ok(None));
            if id > 1000 * shards as u32 && id % 500 == 0 {
                let each = |bytes: usize| bytes as f64 / f64::from(id);
                // The last page of either kind of line has room for more.
                worst = worst.max(each(table.bytes() - 2 * 4096));
                (sum, points) = (sum + each(table.bytes()), points + 1);
            }
        }
        let mean = sum / f64::from(points);
        assert!(mean < 8.0 && worst < 8.5, "{mean} and {worst} with {shards} shards");
        assert!((0..400_000).all(|id| look(&table, id) == Some(id)));
        assert_eq!((look(&table, 400_000), table.len()), (None, 400_000));
        assert_eq!(pool.stats().reserved_bytes, table.bytes());
    }
}

#[test]
fn lines_go_with_their_entries() {
    let pool = pool();
    let table = Table::new(16, &pool);
    (0..100_000).for_each(|id| assert_eq!(put(&table, id), Ok(None)));
    let full = table.bytes();
    for left in (0..100_000_u32).rev() {
        assert_eq!(take(&table, left), Some(left));
        let most = SPARE + left as usize * 15;
        assert!(left % 100 != 0 || table.bytes() <= most, "{left}: {} of {full}", table.bytes());
    }
    table.shrink(&tag_of);
    assert!((table.len(), table.bytes()) <= (0, SPARE), "{}", table.bytes());
    (0..1000).for_each(|id| assert_eq!(put(&table, id), Ok(None)));
    assert!((0..1000).all(|id| look(&table, id) == Some(id)));
}

#[test]
fn many_shrinks_make_a_table_as_short_as_a_fresh_one() {
    let pool = pool();
    let [table, fresh] = [(); 2].map(|()| Table::new(16, &pool));
    (0..100_000).for_each(|id| assert_eq!(put(&table, id), Ok(None)));
    (6000..100_000).for_each(|id| assert_eq!(take(&table, id), Some(id)));
    (0..6000).for_each(|id| assert_eq!(put(&fresh, id), Ok(None)));
    table.shrink(&tag_of);
    let (bytes, least) = (table.bytes(), fresh.bytes());
    assert!(bytes <= least + 2 * 4096, "{bytes} bytes, fresh {least}");
    assert!((0..6000).all(|id| look(&table, id) == Some(id)));
}

#[test]
fn it_is_a_map() {
    let pool = pool();
    let table = Table::new(2, &pool);
    // Keys of 500 tags, many of each; an id for each version of a key's page.
    let tag = |key: u32| key % 500;
    let keys = std::cell::RefCell::new(HashMap::<u32, u32>::new());
    let tag_of = |id: u32| tag(keys.borrow()[&id]);
    let (mut known, mut next, mut state) = (HashMap::<u32, u32>::new(), 0, 1_u64);
    for round in 0..60_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let growing = round / 10_000 % 2 == 0;
        let (key, what) = ((state >> 40) as u32 % 3000, (state >> 33) % 8);
        let seek = (Some, |id: &u32| keys.borrow()[id] == key);
        assert_eq!(table.look(tag(key), seek), known.get(&key).copied(), "round {round}");
        match what {
            0..=4 if growing || what == 0 => {
                next += 1;
                keys.borrow_mut().insert(next, key);
                let told = Cell::new(None);
                let put = table.put((tag(key), next), &tag_of, seek, |old| {
                    told.set(old.copied());
                    true
                });
                assert_eq!(
                    (put, told.get()),
                    (Ok(known.get(&key).copied()), known.insert(key, next))
                );
            }
            5 => {
                next += 1;
                keys.borrow_mut().insert(next, key);
                if let Some(old) = known.get(&key).copied() {
                    assert!(!table.swap(tag(key), next, || None), "an id that is not there");
                    assert!(table.swap(tag(key), old, || Some(next)));
                    known.insert(key, next);
                }
            }
            6 => {
                let refused = table.put((tag(key), 0), &tag_of, seek, |_| false);
                assert_eq!(refused, Err(PutError::NotAdmitted));
            }
            _ => assert_eq!(table.take(tag(key), &tag_of, seek, |_| ()), known.remove(&key)),
        }
        assert_eq!(table.len(), known.len());
    }
    table.check(&tag_of);
    assert_eq!(pool.stats().reserved_bytes, table.bytes());
    drop(table);
    assert_eq!(pool.stats().reserved_bytes, 0);
}

#[test]
fn what_no_cap_has_room_for_changes_nothing() {
    let pool = pool();
    let table = Table::new(2, &pool);
    (0..2000).for_each(|id| assert_eq!(put(&table, id), Ok(None)));
    pool.set_max_bytes(pool.held_bytes());
    let refused = (2000..).find(|id| put(&table, *id).is_err()).unwrap();
    assert!(matches!(put(&table, refused), Err(PutError::NoRoom(_))));
    let (len, bytes) = (table.len(), table.bytes());
    assert_eq!((len, look(&table, refused)), (refused as usize, None));
    assert!((0..refused).all(|id| look(&table, id) == Some(id)));
    // Replaced and taken out all the same.
    assert_eq!(put(&table, 5), Ok(Some(5)));
    (0..refused).for_each(|id| assert_eq!(take(&table, id), Some(id)));
    assert!(table.len() == 0 && table.bytes() <= bytes);
}

#[test]
fn lines_that_are_refused_at_any_time_change_nothing() {
    let mut refused = 0;
    for seed in 1..=40 {
        let pool = pool();
        let table = Table::new(2, &pool);
        // Few tags, so that chains are long and buckets move whole.
        let tag_of = |id: u32| tag_of(id % (20 * seed));
        let mut state = u64::from(seed);
        let mut there = std::collections::BTreeSet::new();
        for round in 0..6000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if round % 16 == 0 {
                let pages = (state >> 60).saturating_sub(8) as usize;
                pool.set_max_bytes(pool.held_bytes() + pages * 2048);
            }
            let id = (state >> 33) as u32 % 3000;
            let growing = round / 1500 % 2 == 0;
            if (state >> 50) % 4 == 0 || growing && !there.contains(&id) {
                match table.put((tag_of(id), id), &tag_of, is(id), |_| true) {
                    Ok(old) => assert_eq!(old.is_none(), there.insert(id)),
                    Err(PutError::NoRoom(_)) => refused += 1,
                    Err(error) => panic!("{error:?}"),
                }
            } else {
                let taken = table.take(tag_of(id), &tag_of, is(id), |_| ());
                assert_eq!(taken.is_some(), there.remove(&id));
            }
            if round % 64 == 0 {
                table.check(&tag_of);
            }
        }
        table.check(&tag_of);
        assert!(
            (0..3000).all(|id| table.look(tag_of(id), is(id)).is_some() == there.contains(&id))
        );
        assert_eq!(pool.stats().reserved_bytes, table.bytes());
    }
    assert!(refused > 1000, "{refused} puts were refused");
}

/// As one that has as many pins as it can have.
#[test]
fn an_entry_that_cannot_be_held_just_now_is_not_missed() {
    let (pool, looks) = (pool(), Cell::new(0));
    let table = Table::new(2, &pool);
    assert_eq!(put(&table, 7), Ok(None));
    let late = |id: u32| {
        looks.set(looks.get() + 1);
        (looks.get() % 20 == 0).then_some(id)
    };
    assert_eq!(table.look(tag_of(7), (late, |of: &u32| *of == 7)), Some(7));
    let taken = table.take(tag_of(7), &tag_of, (late, |of: &u32| *of == 7), |_| ());
    assert_eq!((taken, looks.get()), (Some(7), 40));
}

/// What a caller does under the lock of a key's shard, as telling loads, comes with its change.
#[test]
fn a_caller_is_asked_at_each_change() {
    let table = Table::new(2, &pool());
    let tag = tag_of(7);
    let put = |admit| table.put((tag, 7), &|_| tag, is(7), |_| admit);
    assert_eq!(put(false), Err(PutError::NotAdmitted));
    assert_eq!(table.look_held(tag, is(7)), None, "nothing has changed");
    assert_eq!((put(true), put(true)), (Ok(None), Ok(Some(7))));
    assert_eq!(put(false), Err(PutError::NotAdmitted));
    assert_eq!(table.look_held(tag, is(7)), Some(7), "what was there stays");
    let asked = Cell::new(0);
    let ask = |there: bool| asked.set(1 + u32::from(there));
    assert!(!table.take_id(tag, 9, &|_| tag, ask) && asked.take() == 1, "gone already");
    assert!(table.take_id(tag, 7, &|_| tag, ask) && asked.take() == 2);
    let ask = |there: Option<&u32>| asked.set(1 + u32::from(there.is_some()));
    assert_eq!((table.take(tag, &|_| tag, is(7), ask), asked.take()), (None, 1), "of nothing");
    assert_eq!(put(true), Ok(None));
    assert_eq!((table.take(tag, &|_| tag, is(7), ask), asked.take()), (Some(7), 2));
    assert_eq!(table.locked(tag, || 5), 5);
}

/// A comparison that takes long was repeated for each change of another key beside it.
#[test]
fn changes_of_other_keys_cost_a_writer_no_comparison() {
    let (pool, compared) = (pool(), Cell::new(0));
    let table = Table::new(2, &pool);
    assert_eq!(put(&table, 7), Ok(None));
    let same_shard = (8..).filter(|id| tag_of(*id) >> 31 == tag_of(7) >> 31);
    let others: Vec<u32> = same_shard.take(1000).collect();
    // With 300 of them the entry is in another bucket, and back in the first one at the end.
    let slow = |of: &u32| {
        if *of == 7 {
            compared.set(compared.get() + 1);
            assert_eq!(compared.get(), 1, "once is enough");
            others[..300].iter().for_each(|id| assert!(put(&table, *id).is_ok()));
        }
        *of == 7
    };
    assert_eq!(table.put((tag_of(7), 7), &tag_of, (Some, slow), |_| true), Ok(Some(7)));
    assert_eq!(compared.get(), 1);
    table.check(&tag_of);
}

/// The page of before a replacement is as good as that of after it, in a call that began before it.
#[test]
fn a_replacement_beside_a_comparison_costs_no_other_one() {
    let (pool, compared) = (pool(), Cell::new(0));
    let table = Table::new(2, &pool);
    let tag_of = |_: u32| 7;
    let any = || (Some, |_: &u32| true);
    assert_eq!(table.put((7, 0), &tag_of, any(), |_| true), Ok(None));
    let slow = |_: &u32| {
        compared.set(compared.get() + 1);
        let put = table.put((7, compared.get()), &tag_of, any(), |_| true);
        put.is_ok()
    };
    assert_eq!((table.look(7, (Some, slow)), compared.get()), (Some(0), 1));
    assert_eq!(table.look(7, any()), Some(1));
}

/// Threads put, replace, swap and take keys of their own and look for all, whose ids a model of a
/// pool gives out.
#[test]
fn a_key_that_is_there_is_found_whatever_moves() {
    use crate::sync::{AtomicU32, Ordering};
    const IDS: u32 = 4096;
    let pool = pool();
    let table = Table::new(2, &pool);
    // The key of each id, plus one.
    let keys: Vec<AtomicU32> = (0..IDS).map(|_| AtomicU32::new(0)).collect();
    let tag = |key: u32| tag_of(key % 700);
    let tag_of_id = |id: u32| tag(keys[id as usize].load(Ordering::Relaxed) - 1);
    let seek = |key: u32| {
        let keys = &keys;
        let hold = move |id: u32| match keys[id as usize].load(Ordering::Acquire) {
            0 => None,
            of => Some((id, of - 1)),
        };
        (hold, move |(_, of): &(u32, u32)| *of == key)
    };
    let over = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let (table, over, keys, seek) = (&table, &over, &keys, &seek);
        let writers: Vec<_> = (0..2_u32)
            .map(|me| {
                scope.spawn(move || {
                    let mut state = u64::from(me) + 1;
                    // Half of the ids each; the keys below 100 of each are never taken out.
                    let (mut free, mut mine): (Vec<u32>, Vec<(u32, u32)>) =
                        ((me * IDS / 2..(me + 1) * IDS / 2).collect(), Vec::new());
                    for round in 0..60_000_u32 {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let fresh = round < 100;
                        let number = if fresh { round } else { (state >> 40) as u32 % 1500 };
                        let key = 2 * number + me;
                        let id = free.pop().unwrap();
                        keys[id as usize].store(key + 1, Ordering::Release);
                        let old = table.put((tag(key), id), &tag_of_id, seek(key), |_| true);
                        let old = old.unwrap().map(|(id, _)| id);
                        let known = mine.iter_mut().find(|(of, _)| *of == key);
                        assert_eq!(old, known.as_ref().map(|known| known.1));
                        match known {
                            Some(known) => known.1 = id,
                            None => mine.push((key, id)),
                        }
                        free.extend(old);
                        old.inspect(|old| keys[*old as usize].store(0, Ordering::Release));
                        if mine.len() > 1200 || state >> 60 < 6 && mine.len() > 100 {
                            let (key, id) =
                                mine.swap_remove(100 + (state >> 50) as usize % (mine.len() - 100));
                            let taken = table.take(tag(key), &tag_of_id, seek(key), |_| ());
                            assert_eq!(taken, Some((id, key)));
                            keys[id as usize].store(0, Ordering::Release);
                            free.push(id);
                        }
                    }
                })
            })
            .collect();
        for reader in 0..2_u32 {
            scope.spawn(move || {
                let mut seen = [false; 200];
                let mut key = reader;
                while over.load(Ordering::Relaxed) == 0 {
                    key = (key + 1) % 200;
                    let found = table.look(tag(key), seek(key)).is_some();
                    assert!(found || !seen[key as usize], "key {key} is there and not found");
                    seen[key as usize] |= found;
                }
            });
        }
        let joined: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        over.store(1, Ordering::Relaxed);
        assert!(joined.iter().all(Result::is_ok));
    });
}
