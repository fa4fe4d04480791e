//! The lines of the README, and what they are good for.
//!
//! ```sh
//! cargo run --example hello_slatedb
//! ```
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::sync::Arc;

use slatedb::config::{FlushOptions, FlushType};
use slatedb::object_store::memory::InMemory;
use slatedb::{Db, WriteBatch};
use zcache_slatedb::CompressedCache;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Arc::new(CompressedCache::new(32 << 20)?);
    let store = Arc::new(InMemory::new());
    let db = Db::builder("orders", store).with_db_cache(cache.clone(), 1).build().await?;

    let mut batch = WriteBatch::new();
    for order in 0..20_000_u32 {
        batch.put(order.to_be_bytes(), format!("order {order}, to be delivered soon"));
    }
    db.write(batch).await?;
    let flush_type = FlushType::MemTable;
    db.flush_with_options(FlushOptions { flush_type }).await?;
    for order in (0..20_000_u32).step_by(7) {
        assert!(db.get(order.to_be_bytes()).await?.is_some());
    }
    db.close().await?;
    let stats = cache.cache().stats();
    println!("{} hits, {} misses", stats.hits, stats.misses);
    assert!(stats.hits > 1000);
    Ok(())
}
