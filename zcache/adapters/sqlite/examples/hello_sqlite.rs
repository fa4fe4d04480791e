//! The lines of the README, and what they are good for.
//!
//! ```sh
//! cargo run --example hello_sqlite
//! ```
#![allow(clippy::print_stdout, reason = "a program's answers")]

use rusqlite::{Connection, OpenFlags};
use zcache_sqlite::Options;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let vfs = Options::new(8 << 20).register("zcache")?;
    let path = directory.path().join("orders.db");
    let database = Connection::open_with_flags_and_vfs(path, OpenFlags::default(), "zcache")?;
    database.pragma_update(None, "cache_size", -128)?;

    database.execute_batch(
        "CREATE TABLE orders (number INTEGER PRIMARY KEY, body TEXT);
         WITH RECURSIVE n (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM n LIMIT 50000)
         INSERT INTO orders SELECT number, printf('order %d, to be delivered', number) FROM n;",
    )?;
    for number in (1..50_000).step_by(7) {
        let find = "SELECT length(body) FROM orders WHERE number = ?1";
        let length: u32 = database.query_row(find, [number], |row| row.get(0))?;
        assert!(length > 20);
    }
    let stats = vfs.cache().ok_or("no cache")?.stats();
    println!("{} hits, {} misses", stats.hits, stats.misses);
    assert!(stats.hits > 400);
    Ok(())
}
