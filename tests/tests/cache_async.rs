//! Loads in tasks of tokio, with its default pools: one load a key, no thread that waits, and no
//! task that hangs.
#![cfg(not(zcache_loom))]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tests::callbacks::{config, in_time, page};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};
use zcache::{Cache, Leased, LoadError, Waited};

type Shared = Arc<Cache<u64>>;

fn cache() -> Shared {
    Arc::new(Cache::new(config(4 << 20)).unwrap())
}

/// As `#[tokio::main]` makes it.
fn runtime() -> Runtime {
    Builder::new_multi_thread().enable_time().build().unwrap()
}

/// Threads of this process, where the system tells.
fn threads() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    threads.map_or(0, |threads| threads.trim().parse().unwrap())
}

/// Each of `tasks` tasks gets the page of one of ten keys by `ask`.
async fn all_get<F, R>(cache: &Shared, tasks: u64, ask: F)
where
    F: Fn(Shared, u64) -> R,
    R: Future<Output = Result<zcache::Bytes, LoadError>> + Send + 'static,
{
    let tasks: Vec<_> = (0..tasks)
        .map(|task| (task % 10, tokio::spawn(ask(Arc::clone(cache), task % 10))))
        .collect();
    for (key, task) in tasks {
        assert!(task.await.unwrap().unwrap() == page(key, 3000));
    }
}

async fn slow(key: u64) -> Result<Vec<u8>, LoadError> {
    sleep(Duration::from_millis(20)).await;
    Ok(page(key, 3000))
}

#[test]
fn a_thousand_tasks_of_ten_keys_are_ten_loads_without_a_thread() {
    in_time("tasks", || {
        runtime().block_on(async {
            let cache = cache();
            let before = threads();
            all_get(&cache, 1000, |cache, key| async move {
                cache.get_or_insert_async(&key, slow(key)).await
            })
            .await;
            // Other tests of this file may have runtimes; none of them has a thread a task.
            assert!(threads() < before + 100, "{before}, then {} threads", threads());
            assert_eq!(cache.stats().loads, 10);
            cache.check();
        });
    });
}

/// The pattern of our docs for files: the load has a thread of the pool, and nobody who waits has
/// one.
#[test]
fn two_thousand_tasks_whose_loads_need_the_blocking_pool_do_not_hang() {
    in_time("blocking pool", || {
        runtime().block_on(async {
            let (cache, reads) = (cache(), Arc::new(AtomicUsize::new(0)));
            all_get(&cache, 2000, |cache, key| {
                let reads = Arc::clone(&reads);
                let read = move || {
                    reads.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(5));
                    page(key, 3000)
                };
                async move {
                    let load = async { tokio::task::spawn_blocking(read).await };
                    cache.get_or_insert_async(&key, load).await
                }
            })
            .await;
            assert_eq!((cache.stats().loads, reads.load(Ordering::Relaxed)), (10, 10));
            cache.check();
        });
    });
}

#[test]
fn tasks_that_are_aborted_or_out_of_time_leave_the_load_to_others() {
    in_time("aborts", || {
        runtime().block_on(async {
            let (cache, started) = (cache(), Arc::new(AtomicUsize::new(0)));
            let stuck = || {
                let (cache, started) = (Arc::clone(&cache), Arc::clone(&started));
                tokio::spawn(async move {
                    let load = async {
                        started.fetch_add(1, Ordering::Relaxed);
                        std::future::pending::<Result<Vec<u8>, LoadError>>().await
                    };
                    cache.get_or_insert_async(&7, load).await
                })
            };
            let tasks: Vec<_> = (0..20).map(|_| stuck()).collect();
            while started.load(Ordering::Relaxed) == 0 || cache.stats().misses < 20 {
                tokio::task::yield_now().await;
            }
            assert_eq!(started.load(Ordering::Relaxed), 1);
            let late = cache.get_or_insert_async(&7, slow(7));
            assert!(timeout(Duration::from_millis(5), late).await.is_err());
            let last = tokio::spawn({
                let cache = Arc::clone(&cache);
                async move { cache.get_or_insert_async(&7, slow(7)).await }
            });
            while cache.stats().misses < 22 {
                tokio::task::yield_now().await;
            }
            tasks.iter().for_each(tokio::task::JoinHandle::abort);
            assert!(last.await.unwrap().unwrap() == page(7, 3000));
            cache.check();
        });
    });
}

#[test]
fn leases_are_awaited_and_handed_over_between_tasks() {
    in_time("leases", || {
        runtime().block_on(async {
            let cache = cache();
            let reads = Arc::new(AtomicUsize::new(0));
            let task = |number: u64| {
                let (cache, reads) = (Arc::clone(&cache), Arc::clone(&reads));
                tokio::spawn(async move {
                    let lease = match cache.get_or_lease(&7) {
                        Leased::Page(page) => return Some(page),
                        Leased::Lease(lease) => lease,
                        Leased::Wait(waiting) => match waiting.await {
                            Waited::Page(page) => return Some(page),
                            Waited::Lease(lease) => lease,
                            Waited::Failed(error) => panic!("{error}"),
                        },
                    };
                    sleep(Duration::from_millis(1)).await;
                    if number % 4 != 3 {
                        return None;
                    }
                    reads.fetch_add(1, Ordering::Relaxed);
                    let page = page(*lease.key(), 3000);
                    cache.insert_if_valid(lease, &page).unwrap();
                    Some(page.into())
                })
            };
            let tasks: Vec<_> = (0..100).map(task).collect();
            let mut got = 0;
            for task in tasks {
                let page_of_task = task.await.unwrap();
                got += usize::from(page_of_task.is_some());
                assert!(page_of_task.is_none_or(|got| got == page(7, 3000)));
            }
            assert!(got >= 25, "{got} have the page");
            assert_eq!(reads.load(Ordering::Relaxed), 1);
            cache.check();
        });
    });
}
