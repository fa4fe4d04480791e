//! Pages in files that fail for real: no room on the device, no right to read, writes that come
//! back short, a file that was cut behind the pool's back.
#![cfg(all(target_os = "linux", not(zcache_loom)))]
#![allow(clippy::print_stdout, reason = "figures for who asks for them by --nocapture")]

use std::fs;
use std::path::PathBuf;

use tests::limits::{self, Limit};
use tests::pattern;
use zcache::{Cache, Config as CacheConfig, InsertError, RemovalCause};
use zpool::source::File;
use zpool::{AllocError, Config, Handle, MapError, Pool};

/// A file without a name, open as `options` say.
fn nameless(name: &str, options: &fs::OpenOptions) -> fs::File {
    let path: PathBuf =
        std::env::temp_dir().join(format!("zpool-file-faults-{}-{name}", std::process::id()));
    fs::write(&path, "").unwrap();
    let file = options.open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    file
}

fn read_and_write() -> fs::OpenOptions {
    let mut options = fs::File::options();
    options.read(true).write(true);
    options
}

fn pool(file: fs::File) -> Pool {
    Pool::with_source(Config::new(), File::from_file(file, 4096).unwrap()).unwrap()
}

fn cache(file: fs::File) -> Cache<u64> {
    let config = CacheConfig::new(4 << 20).max_page(8192).shards(2).checksum(true);
    Cache::new(config.page_source(File::from_file(file, 4096).unwrap())).unwrap()
}

#[test]
fn a_device_without_room_refuses_every_object_and_every_page() {
    let full = || read_and_write().open("/dev/full").unwrap();
    let pool = pool(full());
    for len in [1, 100, 4096, 20_000] {
        assert_eq!(pool.alloc(&vec![1; len]), Err(AllocError::Source), "{len} bytes");
    }
    assert!(pool.alloc(&[]).is_ok(), "nothing is written for no bytes");
    let stats = pool.stats();
    assert!(stats.failures.store >= 4 && stats.objects == 1, "{stats}");
    pool.check();

    let cache = cache(full());
    for key in 0..50 {
        let page = pattern::bytes(key, 3000);
        let refused = cache.insert(key, &page);
        assert!(matches!(refused, Err(InsertError::NoRoom { .. })), "{refused:?}");
        assert!(cache.get(&key).is_none());
        let got = cache.get_or_insert_with(&key, |to| {
            to.extend(&page);
            Ok::<(), std::io::Error>(())
        });
        assert_eq!(got.unwrap(), page, "the caller has its page all the same");
    }
    cache.insert(99, &[0; 4096]).unwrap(); // same-filled: no bytes
    assert_eq!(cache.get(&99).as_deref(), Some(&[0; 4096][..]));
    assert_eq!((cache.stats().rejected.no_room, cache.len()), (100, 1));
    cache.check();
}

#[test]
fn a_file_that_cannot_be_read_gives_errors_and_misses() {
    let mut options = fs::File::options();
    options.write(true);
    let pool = pool(nameless("unreadable", &options));
    let handles: Vec<Handle> = (0..20).map(|at| pool.alloc(&[at; 700]).unwrap()).collect();
    for handle in &handles {
        assert_eq!(pool.map(*handle).err(), Some(MapError::Source));
        let read = pool.read_into(*handle, &mut [0; 700]);
        assert_eq!(read, Err(MapError::Source.into()));
    }
    assert_eq!(pool.stats().failures.load, 40);
    pool.check();
    handles.iter().for_each(|handle| pool.free(*handle).unwrap());
    pool.check();

    let cache = cache(nameless("unreadable-too", &options));
    for key in 0..20 {
        cache.insert(key, &pattern::bytes(key, 3000)).unwrap();
        assert!(cache.get(&key).is_none() && !cache.contains_key(&key));
    }
    assert_eq!((cache.stats().removals.corrupt, cache.len()), (20, 0));
    cache.check();
}

/// Writes objects until the file may grow no further. A write behind the limit would end this
/// process by a signal, and so would a write that the source begins before the limit and has to go
/// on with.
#[test]
fn a_file_that_may_not_grow_keeps_what_is_in_it_and_raises_no_signal() {
    limits::in_child("a_file_that_may_not_grow_keeps_what_is_in_it_and_raises_no_signal", || {
        const END: u64 = 1_000_000; // in the midst of a page
        let pool = pool(nameless("limited", &read_and_write()));
        let cache = cache(nameless("limited-too", &read_and_write()));
        limits::set(Limit::FileSize, Some(END));
        let mut handles: Vec<Handle> = Vec::new();
        let mut refused = 0;
        while refused < 20 {
            match pool.alloc(&pattern::bytes(handles.len() as u64, 3000)) {
                Ok(handle) => handles.push(handle),
                // Pages behind the limit are not handed out, so no write fails.
                Err(AllocError::OutOfPages) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        let whole = |handles: &[Handle]| {
            for (seed, handle) in (0..).zip(handles) {
                assert!(*pool.map(*handle).unwrap() == pattern::bytes(seed, 3000), "object {seed}");
            }
        };
        whole(&handles);
        assert!(handles.len() as u64 * 3000 > END * 9 / 10, "{} objects", handles.len());
        assert!(pool.stats().failures.out_of_pages >= 20, "{}", pool.stats());
        pool.check();

        let told = |key: u64, page: &[u8]| assert_eq!(page, pattern::bytes(key, 3000), "key {key}");
        let mut refused = 0;
        for key in 0..600 {
            match cache.insert(key, &pattern::bytes(key, 3000)) {
                Ok(()) => told(key, &cache.get(&key).expect("just stored")),
                Err(error) => {
                    assert!(matches!(error, InsertError::NoRoom { .. }), "{error}");
                    assert!(!cache.contains_key(&key));
                    refused += 1;
                }
            }
        }
        let stats = cache.stats();
        assert_eq!((stats.rejected.no_room, stats.removals.corrupt), (refused, 0), "{stats}");
        assert!(refused + stats.removals.evicted > 100, "the limit was met: {stats}");
        let found = |keys: std::ops::Range<u64>| {
            keys.filter(|key| cache.get(key).inspect(|page| told(*key, page)).is_some()).count()
        };
        assert_eq!(found(0..600), cache.len());
        cache.check();

        // A limit below what the file has: writes fail, and pages that are there are read.
        limits::set(Limit::FileSize, Some(END / 2));
        let before = handles.len();
        handles.drain(before / 2..).for_each(|handle| pool.free(handle).unwrap());
        let stored = |seed| pool.alloc(&pattern::bytes(seed, 3000));
        let failed = (0..before as u64).find_map(|seed| stored(seed).err());
        assert!(matches!(failed, Some(AllocError::Source | AllocError::OutOfPages)), "{failed:?}");
        whole(&handles);
        pool.check();

        limits::set(Limit::FileSize, None);
        for seed in handles.len()..handles.len() + 200 {
            handles.push(pool.alloc(&pattern::bytes(seed as u64, 3000)).unwrap());
        }
        whole(&handles);
        pool.check();
        (0..600).for_each(|key| cache.insert(key, &pattern::bytes(key, 3000)).unwrap());
        assert_eq!(found(0..600), 600);
        cache.check();
    });
}

/// As in a process that was started under `ulimit -f`.
#[test]
fn a_memfd_under_a_limit_on_files_gives_errors_and_no_signal() {
    limits::in_child("a_memfd_under_a_limit_on_files_gives_errors_and_no_signal", || {
        limits::set(Limit::FileSize, Some(1 << 20));
        let pool: Pool = Pool::new(Config::new().source(zpool::SourceKind::Memfd)).unwrap();
        let stored = (0..2000).filter(|_| pool.alloc(&[7; 2048]).is_ok()).count();
        assert_eq!(stored, 512, "each byte below the limit is used");
        pool.check();
    });
}

/// Reads beyond the end come back short: zeros stand for what is gone, and a checksum tells.
#[test]
fn a_file_that_was_cut_loses_what_was_cut_off_and_no_more() {
    let file = nameless("cut", &read_and_write());
    let handle = file.try_clone().unwrap();
    let gone = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&gone);
    let cache = cache(file).on_removal(move |removal| {
        told.lock().unwrap().push((*removal.key(), removal.cause()));
    });
    for key in 0..400 {
        cache.insert(key, &pattern::bytes(key, 3000)).unwrap();
    }
    let len = handle.metadata().unwrap().len();
    handle.set_len(len / 2).unwrap();
    let mut found = 0;
    for key in 0..400 {
        if let Some(page) = cache.get(&key) {
            assert!(page == pattern::bytes(key, 3000), "key {key}");
            found += 1;
        }
    }
    let lost = cache.stats().removals.corrupt;
    println!("a file cut in half: {found} pages found, {lost} noticed as lost");
    assert_eq!(found + lost, 400);
    assert!((150..250).contains(&lost), "{lost}");
    let gone = gone.lock().unwrap();
    assert!(
        gone.len() as u64 == lost && gone.iter().all(|(_, cause)| *cause == RemovalCause::Corrupt)
    );
    drop(gone);
    cache.check();
    (0..400).for_each(|key| cache.insert(key, &pattern::bytes(key, 3000)).unwrap());
    assert!((0..400).all(|key| cache.get(&key).unwrap() == pattern::bytes(key, 3000)));
    cache.check();
}
