//! What reaches the store, threads that read while one writes, and who else may open the file.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::storage::Storage;
use redb::backends::FileBackend;
use redb::{
    Builder, ConcurrencyMode, Database, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition,
};
use zcache_redb::{BLOCK, BlockCache, CachedBackend};

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("values");
const ROWS: u64 = 5000;

fn fill(database: &Database, version: u64) {
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(TABLE).unwrap();
        for key in 0..ROWS {
            let value: Vec<u8> = (key ^ version).to_le_bytes().repeat(12);
            table.insert(key, &*value).unwrap();
        }
    }
    transaction.commit().unwrap();
}

#[test]
fn what_was_written_or_read_once_is_not_read_again() {
    let (cache, storage) = (BlockCache::new(16 << 20).unwrap(), Storage::default());
    let backend = cache.over(storage.clone());
    let mut builder = Builder::new();
    let database = builder.set_cache_size(64 << 10).create_with_backend(backend).unwrap();
    fill(&database, 0);
    let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
    let before = storage.reads();
    for key in 0..ROWS {
        assert_eq!(table.get(key).unwrap().unwrap().value()[..8], key.to_le_bytes());
    }
    assert_eq!(storage.reads(), before, "all of it was written through this cache");
}

#[test]
fn blocks_in_a_row_are_read_at_once() {
    let (cache, storage) = (BlockCache::new(1 << 20).unwrap(), Storage::default());
    let page = |number: usize| (0..BLOCK).map(move |at| (number * 7 + at / 64) as u8);
    let content: Vec<u8> = (0..16).flat_map(page).collect();
    storage.set_len(content.len() as u64).unwrap();
    storage.write(0, &content).unwrap();
    let backend = cache.over(storage.clone());
    let read = |first: usize, blocks: usize| {
        let before = storage.reads();
        let mut out = vec![0xAA; blocks * BLOCK];
        backend.read((first * BLOCK) as u64, &mut out).unwrap();
        assert!(out == content[first * BLOCK..(first + blocks) * BLOCK]);
        storage.reads() - before
    };
    assert_eq!(read(0, 8), 1);
    assert_eq!(read(0, 8), 0);
    assert_eq!(read(12, 1), 1);
    // Missing are 8 to 11 and 13 to 15.
    assert_eq!(read(4, 12), 2);
    // Parts of a block are not cached, and a write of a part removes its block.
    let mut part = [0; 100];
    backend.read(50, &mut part).unwrap();
    assert_eq!(part, content[50..150]);
    backend.write(8 * BLOCK as u64 + 10, &[content[8 * BLOCK + 10]]).unwrap();
    assert_eq!((read(7, 1), read(8, 1), read(8, 1)), (0, 1, 0));
    // A file that gets shorter and longer again has zeros there.
    backend.set_len(4 * BLOCK as u64).unwrap();
    assert!(backend.read(4 * BLOCK as u64, &mut [0; BLOCK]).is_err());
    backend.set_len(6 * BLOCK as u64).unwrap();
    let mut out = [1; BLOCK];
    backend.read(4 * BLOCK as u64, &mut out).unwrap();
    assert_eq!(out, [0; BLOCK]);
}

/// Fails the writes that it is told to, after it has written half of them.
#[derive(Debug)]
struct HalfWritten(Storage, AtomicBool);

impl StorageBackend for HalfWritten {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        if self.1.swap(false, Ordering::Relaxed) {
            self.0.write(offset, &data[..data.len() / 2])?;
            return Err(std::io::Error::other("half of it"));
        }
        self.0.write(offset, data)
    }
}

#[test]
fn a_write_that_fails_leaves_what_the_store_has() {
    let (cache, storage) = (BlockCache::new(1 << 20).unwrap(), Storage::default());
    storage.set_len(4 * BLOCK as u64).unwrap();
    let fails = HalfWritten(storage.clone(), AtomicBool::new(false));
    let backend = cache.over(fails);
    backend.write(0, &[1; 2 * BLOCK]).unwrap();
    let fails = HalfWritten(storage, AtomicBool::new(true));
    let second = cache.over(fails);
    second.read(0, &mut [0; 2 * BLOCK]).unwrap();
    second.write(0, &[2; 2 * BLOCK]).unwrap_err();
    let mut out = [0; 2 * BLOCK];
    second.read(0, &mut out).unwrap();
    assert_eq!((out[0], out[BLOCK - 1], out[BLOCK]), (2, 2, 1));
}

#[test]
fn readers_see_whole_transactions_while_one_writes() {
    // Two databases in one small cache.
    let cache = BlockCache::new(512 << 10).unwrap();
    let storages = [Storage::default(), Storage::default()];
    let databases = storages.each_ref().map(|storage| {
        let mut builder = Builder::new();
        let backend = cache.over(storage.clone());
        builder.set_cache_size(64 << 10).create_with_backend(backend).unwrap()
    });
    databases.iter().for_each(|database| fill(database, 0));
    let done = AtomicBool::new(false);
    let seen = |database: &Database, own: u64| {
        let mut rng = fastrand::Rng::new();
        let (mut looks, mut versions) = (0_u64, std::collections::BTreeSet::new());
        while !done.load(Ordering::Relaxed) || looks < 500 {
            let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
            let mut version = None;
            for _ in 0..50 {
                let key = rng.u64(..ROWS);
                let value = table.get(key).unwrap().unwrap();
                let words = value.value().chunks_exact(8);
                assert!(words.len() == 12);
                for word in words {
                    let found = u64::from_le_bytes(word.try_into().unwrap()) ^ key;
                    assert_eq!(*version.get_or_insert(found), found, "one version a snapshot");
                }
            }
            assert_eq!(version.unwrap() % 2, own * u64::from(version.unwrap() > 0));
            versions.insert(version.unwrap());
            looks += 1;
        }
        versions.len()
    };
    thread::scope(|scope| {
        let readers: Vec<_> = databases
            .iter()
            .zip(0..)
            .flat_map(|(database, own)| [(database, own), (database, own)])
            .map(|(database, own)| scope.spawn(move || seen(database, own)))
            .collect();
        for version in 1..25 {
            // Even versions go to one database, and odd ones to the other.
            databases.iter().zip(0..).for_each(|(database, own)| fill(database, 2 * version + own));
        }
        done.store(true, Ordering::Relaxed);
        let versions: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert!(versions > 10, "{versions} versions were seen");
    });
    cache.cache().check();
    drop(databases);
    assert_eq!(cache.cache().len(), 0, "a database that is closed has no blocks");
}

fn file(path: &Path) -> FileBackend {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    FileBackend::new(file.unwrap()).unwrap()
}

#[test]
fn nobody_else_writes_the_file_meanwhile() {
    use ConcurrencyMode::{ExclusiveWriter, MultiWriter, SingleWriter};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("locks.redb");
    let cache = BlockCache::new(1 << 20).unwrap();
    let cached = || -> CachedBackend<FileBackend> { cache.over(file(&path)) };
    let builder = |mode| {
        let mut builder = Builder::new();
        builder.set_concurrency_mode(mode);
        builder
    };
    // Modes in which others write are refused.
    for mode in [SingleWriter, MultiWriter] {
        assert!(builder(mode).create_with_backend(cached()).is_err(), "{mode:?}");
    }
    let all = [ExclusiveWriter, SingleWriter, MultiWriter];
    let database = builder(ExclusiveWriter).create_with_backend(cached()).unwrap();
    fill(&database, 0);
    for mode in all {
        assert!(builder(mode).create_with_backend(file(&path)).is_err(), "{mode:?}");
        assert!(builder(mode).open_read_only_with_backend(file(&path)).is_err(), "{mode:?}");
    }
    drop(database);
    for mode in all {
        let plain = builder(mode).create_with_backend(file(&path)).unwrap();
        assert!(builder(ExclusiveWriter).create_with_backend(cached()).is_err(), "{mode:?}");
        assert!(builder(mode).open_read_only_with_backend(cached()).is_err(), "{mode:?}");
        drop(plain);
    }
    // Readers share it.
    let readers = [
        builder(ExclusiveWriter).open_read_only_with_backend(cached()).unwrap(),
        builder(ExclusiveWriter).open_read_only_with_backend(cached()).unwrap(),
    ];
    assert!(builder(ExclusiveWriter).create_with_backend(file(&path)).is_err());
    for reader in &readers {
        let table = reader.begin_read().unwrap().open_table(TABLE).unwrap();
        assert_eq!(table.iter().unwrap().count() as u64, ROWS);
    }
}
