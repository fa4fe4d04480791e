//! Random work against a map, over several stores: with flushes, compactions and restarts, the
//! answers are the map's, and those of a reader without the cache.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use slatedb::config::{CompactorOptions, Settings};
use slatedb::object_store::{ObjectStore, local::LocalFileSystem, memory::InMemory};
use slatedb::{Db, SstBlockSize};
use zcache_slatedb::CompressedCache;

use crate::store::Unsteady;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

pub(crate) fn settings() -> Settings {
    Settings {
        flush_interval: Some(Duration::from_millis(20)),
        l0_sst_size_bytes: 32 << 10,
        max_unflushed_bytes: 256 << 10,
        min_filter_keys: 10,
        compactor_options: Some(CompactorOptions {
            poll_interval: Duration::from_millis(50),
            ..CompactorOptions::default()
        }),
        ..Settings::default()
    }
}

pub(crate) async fn open(
    store: &Arc<dyn ObjectStore>,
    path: &str,
    cache: Option<(&Arc<CompressedCache>, u64)>,
) -> Result<Db, slatedb::Error> {
    let builder = Db::builder(path, Arc::clone(store))
        .with_settings(settings())
        .with_sst_block_size(SstBlockSize::Block1Kib);
    let builder = match cache {
        Some((cache, id)) => {
            let cache: Arc<CompressedCache> = Arc::clone(cache);
            builder.with_db_cache(cache, id)
        }
        None => builder.with_db_cache_disabled(),
    };
    builder.build().await
}

pub(crate) fn key(number: u32) -> Vec<u8> {
    format!("key {number:06}").into_bytes()
}

fn value(rng: &mut Rng) -> Vec<u8> {
    let word: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(8).collect();
    word.iter().copied().cycle().take(rng.usize(..400)).collect()
}

async fn step(db: &Db, map: &mut Map, rng: &mut Rng) -> Result<(), slatedb::Error> {
    let number = rng.u32(..2000);
    match rng.u32(..100) {
        0..30 => {
            let value = value(rng);
            db.put(key(number), &value).await?;
            map.insert(key(number), value);
        }
        30..36 => {
            db.delete(key(number)).await?;
            map.remove(&key(number));
        }
        36..90 => {
            let found = db.get(key(number)).await?;
            assert_eq!(found.as_deref(), map.get(&key(number)).map(|value| &**value));
        }
        90..98 => {
            let (start, end) = (key(number), key(number + 100));
            let mut rows = db.scan(start.clone()..end.clone()).await?;
            let mut wanted = map.range(start..end);
            while let Some(row) = rows.next().await? {
                let (key, value) = wanted.next().expect("no more rows than in the map");
                assert_eq!((&*row.key, &*row.value), (&**key, &**value));
            }
            assert!(wanted.next().is_none());
        }
        _ => db.flush().await?,
    }
    Ok(())
}

async fn all(db: &Db) -> Result<Map, slatedb::Error> {
    let mut rows = db.scan(..).await?;
    let mut map = Map::new();
    while let Some(row) = rows.next().await? {
        map.insert(row.key.to_vec(), row.value.to_vec());
    }
    Ok(map)
}

async fn compare(store: Arc<dyn ObjectStore>, lives: u64, steps: usize) {
    let cache = Arc::new(CompressedCache::new(16 << 20).unwrap());
    let mut rng = Rng::with_seed(lives);
    let mut map = Map::new();
    for life in 0..lives {
        // The database gets the same number each time, so its cached blocks are still good.
        let db = open(&store, "db", Some((&cache, 7))).await.unwrap();
        for _ in 0..steps {
            step(&db, &mut map, &mut rng).await.unwrap();
        }
        if life % 3 == 2 {
            cache.remove_database(7);
        }
        assert_eq!(all(&db).await.unwrap(), map, "life {life}");
        db.close().await.unwrap();
        let plain = open(&store, "db", None).await.unwrap();
        assert_eq!(all(&plain).await.unwrap(), map, "life {life}, without the cache");
        plain.close().await.unwrap();
    }
    let stats = cache.cache().stats();
    assert!(stats.hits > 100 && stats.inserts > 100, "{stats}");
    cache.cache().check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_the_same_in_memory() {
    compare(Arc::new(InMemory::new()), 5, 3000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_the_same_in_a_file_system() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalFileSystem::new_with_prefix(directory.path()).unwrap();
    compare(Arc::new(store), 3, 2000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_the_same_over_a_store_that_is_slow_and_fails() {
    let inner = Arc::new(InMemory::new());
    compare(Unsteady::new(inner, Duration::from_millis(10), 23), 2, 700).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_writer_shares_a_cache_with_its_successor() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let cache = Arc::new(CompressedCache::new(16 << 20).unwrap());
    let (mut rng, mut map) = (Rng::with_seed(3), Map::new());
    let first = open(&store, "db", Some((&cache, 1))).await.unwrap();
    for _ in 0..2000 {
        step(&first, &mut map, &mut rng).await.unwrap();
    }
    first.flush().await.unwrap();
    let second = open(&store, "db", Some((&cache, 1))).await.unwrap();
    let fenced = async {
        for number in 0..200 {
            first.put(key(number), b"from the fenced one").await?;
            first.flush().await?;
        }
        Ok::<(), slatedb::Error>(())
    };
    assert!(fenced.await.is_err(), "the first one is fenced");
    for _ in 0..2000 {
        step(&second, &mut map, &mut rng).await.unwrap();
    }
    assert_eq!(all(&second).await.unwrap(), map);
    let _ = first.close().await;
    second.close().await.unwrap();
}
