//! The calls of every day: pages in, pages out, and what the cache tells of itself.
//!
//! ```sh
//! cargo run --release -p zcache --example basics
//! ```
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use zcache::policy::Priority;
use zcache::{Cache, Config, InsertOptions};

/// A page of a table: rows of text, as there are in a database.
fn rows(page: u64) -> Vec<u8> {
    let row = |row| format!("{:010} customer of page {page:06}, status active\n", page * 80 + row);
    (0..80).map(row).collect::<String>().into_bytes()
}

fn main() -> Result<(), Box<dyn Error>> {
    // A hook that counts the entries that go. It may do more: it sees each one's key, page and
    // cause.
    let gone = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&gone);

    // 4 MiB of resident memory, everything counted. A key is any `Hash + Eq + Clone`: here the
    // table and the number of the page.
    let cache: Cache<(u32, u64)> = Cache::new(Config::new(4 << 20).max_page(8192))?
        .on_removal(move |_| _ = count.fetch_add(1, Ordering::Relaxed));

    // A clean page goes in, and comes out as `Bytes`, or in the caller's own buffer.
    cache.insert((1, 0), &rows(0))?;
    assert_eq!(cache.get(&(1, 0)).as_deref(), Some(&rows(0)[..]));
    let mut frame = [0; 8192];
    let len = cache.get_into(&(1, 0), &mut frame)?.expect("it was just inserted");
    assert_eq!(frame[..len], rows(0));

    // A part of a page: its header, say. Of LZ4 pages no more is decoded than that.
    let mut header = [0; 10];
    assert_eq!(cache.get_range_into(&(1, 0), 0, &mut header), Some(10));
    assert_eq!(&header, b"0000000000");

    // A page that is changed is written to its home first, and inserted again or removed after.
    cache.insert((1, 0), b"the page's new version")?;
    assert_eq!(cache.get(&(1, 0)).as_deref(), Some(&b"the page's new version"[..]));
    assert!(cache.remove(&(1, 0)) && cache.get(&(1, 0)).is_none());
    assert_eq!(gone.load(Ordering::Relaxed), 2); // replaced, then removed

    // Pages of a scan go before others do, and some are not worth keeping for long.
    let scan = InsertOptions::new().priority(Priority::Low).time_to_live(Duration::from_secs(60));
    cache.insert_with_options((2, 0), &rows(0), scan)?;

    // Many more pages than fit as they are: 32 MB of them.
    let pages: Vec<(u32, u64)> = (0..8000).map(|page| (3, page)).collect();
    for key in &pages {
        cache.insert(*key, &rows(key.1))?;
    }
    let found = cache.get_many(&pages);
    for ((_, page), found) in pages.iter().zip(&found).filter(|(_, found)| found.is_some()) {
        assert_eq!(found.as_deref(), Some(&rows(*page)[..]), "a hit is the page that was inserted");
    }

    let stats = cache.stats();
    let held = found.iter().flatten().count();
    println!("{held} of {} pages are in {} KiB", pages.len(), stats.bytes.held >> 10);
    println!("{:.1} bytes of pages for each byte held", stats.effective_ratio());
    assert!(stats.bytes.held <= 4 << 20);
    assert!(held > 2000 && stats.effective_ratio() > 2.0);

    // All of a table at once.
    cache.retain(|(table, _)| *table != 3);
    assert!(cache.keys().iter().all(|(table, _)| *table != 3));
    Ok(())
}
