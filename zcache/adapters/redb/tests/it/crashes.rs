//! Random transactions against a map, with power cuts and reads that fail: after each, the database
//! has what was committed, whole.

use std::collections::BTreeMap;

use crate::storage::Storage;
use fastrand::Rng;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};
use zcache_redb::BlockCache;

const TABLE: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("values");

type Map = BTreeMap<u32, Vec<u8>>;

/// As small as redb takes it: nearly all pages come from below.
fn open(cache: &BlockCache, storage: &Storage) -> Result<Database, redb::DatabaseError> {
    Builder::new().set_cache_size(64 << 10).create_with_backend(cache.over(storage.clone()))
}

fn value(rng: &mut Rng) -> Vec<u8> {
    // Some values take pages of more than a block.
    let len = if rng.u32(..20) == 0 { rng.usize(..20_000) } else { rng.usize(..300) };
    let word = rng.u16(..).to_le_bytes();
    word.iter().copied().cycle().take(len).collect()
}

/// One transaction of some changes; `map` is changed alike.
fn transact(database: &Database, map: &mut Map, rng: &mut Rng) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for _ in 0..rng.u32(1..60) {
            let key = rng.u32(..400);
            if rng.u32(..4) == 0 {
                let removed = table.remove(key)?.map(|value| value.value().to_vec());
                assert_eq!(removed, map.remove(&key), "what key {key} had");
            } else {
                let value = value(rng);
                table.insert(key, &*value)?;
                map.insert(key, value);
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn content(database: &Database) -> Result<Map, redb::Error> {
    let table = match database.begin_read()?.open_table(TABLE) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Map::new()),
        table => table?,
    };
    let rows =
        table.iter()?.map(|row| row.map(|(key, value)| (key.value(), value.value().to_vec())));
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Runs `crashes` lives of a database, each with some transactions and an end by power or by a read
/// that fails. Returns how many transactions were committed.
fn lives(seed: u64, crashes: usize, cache: &BlockCache) -> u64 {
    let mut rng = Rng::with_seed(seed);
    let storage = Storage::default();
    let (mut committed, mut map) = (0, Map::new());
    drop(open(cache, &storage).unwrap());
    for _ in 0..crashes {
        let mut database = open(cache, &storage).unwrap();
        assert_eq!(content(&database).unwrap(), map);
        if rng.bool() {
            storage.cut_power_after(rng.u64(..200));
        } else {
            storage.fail_reads(rng.u64(20..200));
        }
        let mut next = map.clone();
        while transact(&database, &mut next, &mut rng).is_ok() {
            committed += 1;
            map.clone_from(&next);
            if rng.u32(..200) == 0 {
                break;
            }
        }
        drop(database);
        storage.fail_reads(0);
        storage.power_on(&mut rng);
        database = open(cache, &storage).unwrap();
        assert!(database.check_integrity().unwrap(), "seed {seed}");
        let found = content(&database).unwrap();
        // The transaction that failed may be there, as a whole.
        assert!(found == map || found == next, "seed {seed}: neither the old map nor the new one");
        map = found;
    }
    committed
}

#[test]
fn what_was_committed_is_there_after_a_crash() {
    // One cache for all lives: nothing of a former one may be seen.
    let cache = BlockCache::new(1 << 20).unwrap();
    let committed: u64 = (0..8).map(|seed| lives(seed, 15, &cache)).sum();
    assert!(committed > 300, "{committed} transactions were committed");
    let stats = cache.cache().stats();
    assert!(stats.hits > 10_000, "{} hits", stats.hits);
    cache.cache().check();
}
