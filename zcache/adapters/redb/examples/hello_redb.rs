//! The ten lines of the README, and what they are good for.
//!
//! ```sh
//! cargo run --example hello_redb
//! ```
#![allow(clippy::print_stdout, reason = "a program's answers")]

use redb::backends::FileBackend;
use redb::{Builder, ReadableDatabase, TableDefinition};
use zcache_redb::BlockCache;

const TABLE: TableDefinition<'_, u64, &str> = TableDefinition::new("orders");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = BlockCache::new(8 << 20)?;
    let backend = cache.over(FileBackend::new(tempfile::tempfile()?)?);
    let database = Builder::new().set_cache_size(256 << 10).create_with_backend(backend)?;

    let transaction = database.begin_write()?;
    for order in 0..50_000 {
        let text = format!("order {order}, to be delivered in the course of the week");
        transaction.open_table(TABLE)?.insert(order, &*text)?;
    }
    transaction.commit()?;

    let table = database.begin_read()?.open_table(TABLE)?;
    for order in (0..50_000).step_by(7) {
        assert!(table.get(order)?.is_some());
    }
    let stats = cache.cache().stats();
    println!("{} hits, {} misses", stats.hits, stats.misses);
    assert!(stats.hits > 1000);
    Ok(())
}
