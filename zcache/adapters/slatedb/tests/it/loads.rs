//! What reaches the store, and what many tasks share.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use slatedb::object_store::{ObjectStore, memory::InMemory};
use zcache_slatedb::zcache::Config;
use zcache_slatedb::{CompressedCache, Options};

use crate::answers::{key, open};
use crate::store::Unsteady;

const KEYS: u32 = 3000;

/// A store with a database of [`KEYS`] rows, all of them in files.
async fn filled(time: Duration) -> (Arc<Unsteady>, Arc<dyn ObjectStore>) {
    let inner = Arc::new(InMemory::new());
    let plain: Arc<dyn ObjectStore> = inner.clone();
    let db = open(&plain, "db", None).await.unwrap();
    let mut batch = slatedb::WriteBatch::new();
    (0..KEYS).for_each(|number| batch.put(key(number), format!("value {number}, ").repeat(8)));
    db.write(batch).await.unwrap();
    db.flush_with_options(slatedb::config::FlushOptions {
        flush_type: slatedb::config::FlushType::MemTable,
    })
    .await
    .unwrap();
    db.close().await.unwrap();
    let unsteady = Unsteady::new(inner, time, 0);
    let store: Arc<dyn ObjectStore> = unsteady.clone();
    (unsteady, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_miss_at_once_share_one_read() {
    let (counted, store) = filled(Duration::from_millis(10)).await;
    let cache = Arc::new(CompressedCache::new(16 << 20).unwrap());
    let db = Arc::new(open(&store, "db", Some((&cache, 1))).await.unwrap());
    db.get(key(7)).await.unwrap();
    let before = counted.reads();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let db = Arc::clone(&db);
            tokio::spawn(async move { db.get(key(2500)).await })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().unwrap().unwrap().starts_with(b"value 2500, "));
    }
    let reads = counted.reads() - before;
    assert!(reads <= 4, "{reads} reads for one block, an index and a filter, by 100 tasks");
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_once_is_not_read_again() {
    let (counted, store) = filled(Duration::ZERO).await;
    let cache = Arc::new(CompressedCache::new(16 << 20).unwrap());
    let scan = async |db: &slatedb::Db| {
        for number in 0..KEYS {
            let value = db.get(key(number)).await.unwrap().unwrap();
            assert!(value.starts_with(format!("value {number}, ").as_bytes()));
        }
    };
    let db = open(&store, "db", Some((&cache, 1))).await.unwrap();
    scan(&db).await;
    let (before, inserts) = (counted.reads(), cache.cache().stats().inserts);
    scan(&db).await;
    assert_eq!(counted.reads(), before);
    assert!(cache.decoded_bytes() > 0);
    db.close().await.unwrap();
    // A restart with the same number finds all of it; indexes and filters were decoded anew.
    let db = open(&store, "db", Some((&cache, 1))).await.unwrap();
    let before = counted.reads();
    scan(&db).await;
    assert!(counted.reads() - before <= 2, "{} reads", counted.reads() - before);
    let later = cache.cache().stats().inserts;
    assert!(later - inserts <= 2, "{} entries were stored again", later - inserts);
    // Nothing is left of a database that is removed.
    db.close().await.unwrap();
    cache.remove_database(2);
    assert!(!cache.cache().is_empty());
    cache.remove_database(1);
    assert!(cache.cache().is_empty() && cache.decoded_bytes() == 0);
}

/// SlateDB gives a filter back each time that it has decoded one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_held_decoded_is_not_stored_again() {
    let (counted, store) = filled(Duration::ZERO).await;
    let cache = Arc::new(Options::with_config(Config::new(8 << 20), 0).build().unwrap());
    let db = open(&store, "db", Some((&cache, 1))).await.unwrap();
    let mut before = (0, 0);
    for _ in 0..2 {
        before = (counted.reads(), cache.cache().stats().inserts);
        for number in 0..KEYS {
            assert!(db.get(key(number)).await.unwrap().is_some());
        }
    }
    assert_eq!((counted.reads(), cache.cache().stats().inserts), before);
    assert_eq!(cache.decoded_bytes(), 0);
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_read_is_no_reason_for_others_to_fail_later() {
    let (counted, store) = filled(Duration::from_millis(2)).await;
    let cache = Arc::new(CompressedCache::new(16 << 20).unwrap());
    let db = Arc::new(open(&store, "db", Some((&cache, 1))).await.unwrap());
    counted.failing.store(3, Ordering::Relaxed);
    let tasks: Vec<_> = (0..200)
        .map(|at| {
            let db = Arc::clone(&db);
            // Some give up while they load or wait.
            let get = async move { (at * 15, db.get(key(at * 15)).await) };
            let time = Duration::from_millis(if at % 4 == 0 { 3 } else { 60_000 });
            tokio::spawn(tokio::time::timeout(time, get))
        })
        .collect();
    for task in tasks {
        let Ok((number, found)) = task.await.unwrap() else { continue };
        if let Ok(found) = found {
            assert!(found.unwrap().starts_with(format!("value {number}, ").as_bytes()));
        }
    }
    counted.failing.store(0, Ordering::Relaxed);
    for number in 0..KEYS {
        assert!(db.get(key(number)).await.unwrap().is_some());
    }
    db.close().await.unwrap();
}
