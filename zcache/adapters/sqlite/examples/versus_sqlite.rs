//! What a cache below SQLite saves: a table, at equal resident memory.
//!
//! ```sh
//! cargo run --release --example versus_sqlite -- --help
//! ```

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use versus::{Reads, Rows, Setup, Subject};
use zcache_sqlite::zcache::{Config, HotShare, Maintainer};
use zcache_sqlite::{Options, Vfs};

struct Sqlite {
    connection: Connection,
    reads: Arc<Reads>,
    vfs: Vfs,
    _maintainer: Option<Maintainer>,
}

impl Subject for Sqlite {
    const NAME: &'static str = "sqlite";
    const OWN: &'static [&'static str] = &["SQLite's own"];
    const LEAST_OWN: usize = 512 << 10;
    const OWN_SHARE: f64 = 1.0 / 50.0;
    const IN_FRONT: bool = true;
    const COST: Duration = Duration::from_micros(100);

    fn build(path: &Path, rows: &Rows, progress: &dyn Fn(u64)) -> Result<(), Box<dyn Error>> {
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.execute_batch("CREATE TABLE orders (number INTEGER PRIMARY KEY, body BLOB)")?;
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare("INSERT INTO orders VALUES (?1, ?2)")?;
            for row in 0..rows.amount {
                insert.execute((row as i64, rows.row(row)))?;
                progress(row);
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>> {
        let reads = Arc::new(Reads::default());
        let options = match &setup.beside {
            None => Options::without_cache(),
            Some(beside) => {
                let config = Config::new(beside.bytes).max_page(4096).hot(HotShare::Off);
                Options::with_config(versus::with_codec(config, &beside.codec, setup.cost)?)
            }
        };
        let counted = Arc::clone(&reads);
        let vfs = options.before_read(move || counted.wait()).register("zcache")?;
        let flags = OpenFlags::default();
        let connection = Connection::open_with_flags_and_vfs(&setup.path, flags, "zcache")?;
        connection.pragma_update(None, "cache_size", -((setup.own >> 10) as i64))?;
        // One transaction: each look at the change counter would be a read, on both sides.
        connection.execute_batch("BEGIN")?;
        let maintained = setup.beside.as_ref().zip(vfs.cache());
        let maintainer = maintained
            .map(|(beside, cache)| versus::maintainer(cache, &beside.codec))
            .transpose()?;
        Ok(Self { connection, reads, vfs, _maintainer: maintainer.flatten() })
    }

    fn get(&self, row: u64) -> Result<usize, Box<dyn Error>> {
        let mut find =
            self.connection.prepare_cached("SELECT body FROM orders WHERE number = ?1")?;
        Ok(find.query_row([row as i64], |row| Ok(row.get_ref(0)?.as_blob()?.len()))?)
    }

    fn scan(&self, row: u64, rows: usize) -> Result<usize, Box<dyn Error>> {
        let sql = "SELECT body FROM orders WHERE number >= ?1 ORDER BY number LIMIT ?2";
        let mut find = self.connection.prepare_cached(sql)?;
        let mut found = find.query((row as i64, rows as i64))?;
        let mut bytes = 0;
        while let Some(row) = found.next()? {
            bytes += row.get_ref(0)?.as_blob()?.len();
        }
        Ok(bytes)
    }

    fn reads(&self) -> &Reads {
        &self.reads
    }

    fn ratio(&self) -> f64 {
        self.vfs.cache().map_or(0.0, |cache| cache.stats().compression_ratio())
    }
}

fn main() -> ExitCode {
    versus::run::<Sqlite>()
}
