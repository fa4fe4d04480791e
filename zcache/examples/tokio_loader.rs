//! Pages of a slow store, for tasks of tokio: 2,000 tasks want 10 pages, and each page is read
//! once.
//!
//! The runtime is as it comes, with its default pools. Who waits for a page that another task loads
//! has no thread, so waiting tasks can never fill the pool that the load needs. That is what
//! `get_or_insert_async` is for: `get_or_insert_with` inside `spawn_blocking` could hang.
//!
//! ```sh
//! cargo run --release -p zcache --example tokio_loader
//! ```
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task;
use zcache::{Bytes, Cache, Config, LoadError};

/// A store whose reads block their thread.
#[derive(Debug, Default)]
struct Disk {
    reads: AtomicU64,
}

impl Disk {
    fn read(&self, page: u64) -> io::Result<Vec<u8>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(20));
        if page >= 1000 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file ends before that page"));
        }
        Ok(format!("page {page} ").repeat(400).into_bytes())
    }
}

#[derive(Debug)]
struct Pages {
    cache: Cache<u64>,
    disk: Arc<Disk>,
}

impl Pages {
    /// The page, from the cache or the disk. Of all tasks that miss it at once one polls the future
    /// below; that one's read has a thread of the blocking pool, and the others wait for its page.
    async fn page(&self, number: u64) -> Result<Bytes, LoadError> {
        let disk = Arc::clone(&self.disk);
        let read = async move {
            // A task that fails to run is an error of the load, as the disk's own error is.
            task::spawn_blocking(move || disk.read(number)).await.map_err(io::Error::other)?
        };
        self.cache.get_or_insert_async(&number, read).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cache = Cache::new(Config::new(8 << 20).max_page(8192))?;
    let pages = Arc::new(Pages { cache, disk: Arc::default() });

    let mut tasks = task::JoinSet::new();
    for number in 0..2000 {
        let pages = Arc::clone(&pages);
        tasks.spawn(async move { (number % 10, pages.page(number % 10).await) });
    }
    let mut served = 0;
    while let Some(done) = tasks.join_next().await {
        let (number, page) = done?;
        assert!(page?.starts_with(format!("page {number} page {number} ").as_bytes()));
        served += 1;
    }

    let (stats, reads) = (pages.cache.stats(), pages.disk.reads.load(Ordering::Relaxed));
    println!("{served} tasks were served by {reads} reads");
    assert_eq!((served, reads, stats.loads), (2000, 10, 10));

    // An error is shared, too, and not kept: the next task reads again.
    let (one, other) = tokio::join!(pages.page(1000), pages.page(1000));
    for failed in [one, other] {
        let error = failed.expect_err("there is no such page");
        let error = error.downcast_ref::<io::Error>().expect("the disk's own error");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
    assert_eq!(pages.disk.reads.load(Ordering::Relaxed), 11);

    // Whoever gives up leaves nothing behind: another task reads the page instead.
    let hasty = tokio::time::timeout(Duration::from_millis(1), pages.page(20)).await;
    let page = pages.page(20).await?;
    println!("a hasty task {}", if hasty.is_ok() { "was served" } else { "gave up, and no other" });
    assert!(page.starts_with(b"page 20 "));
    Ok(())
}
