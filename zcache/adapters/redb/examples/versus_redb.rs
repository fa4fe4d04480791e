//! What a cache below redb saves: a table, at equal resident memory.
//!
//! ```sh
//! cargo run --release --example versus_redb -- --help
//! ```

use std::error::Error;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadOnlyTable, ReadableDatabase, StorageBackend, TableDefinition};
use versus::{Reads, Rows, Setup, Subject};
use zcache_redb::BlockCache;
use zcache_redb::zcache::{Config, HotShare, Maintainer};

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("orders");

/// A file whose reads are counted and take as long as they are told to.
#[derive(Debug)]
struct Slow(FileBackend, Arc<Reads>);

impl StorageBackend for Slow {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.1.wait();
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

struct Redb {
    table: ReadOnlyTable<u64, &'static [u8]>,
    _database: Database,
    reads: Arc<Reads>,
    cache: Option<BlockCache>,
    _maintainer: Option<Maintainer>,
}

fn file(path: &Path) -> Result<FileBackend, Box<dyn Error>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    Ok(FileBackend::new(file)?)
}

impl Subject for Redb {
    const NAME: &'static str = "redb";
    const OWN: &'static [&'static str] = &["redb's own"];
    const LEAST_OWN: usize = 512 << 10;
    const OWN_SHARE: f64 = 1.0 / 50.0;
    const IN_FRONT: bool = true;
    const COST: Duration = Duration::from_micros(100);

    fn build(path: &Path, rows: &Rows, progress: &dyn Fn(u64)) -> Result<(), Box<dyn Error>> {
        let mut database = Builder::new().create_with_backend(file(path)?)?;
        let mut transaction = database.begin_write()?;
        for row in 0..rows.amount {
            transaction.open_table(TABLE)?.insert(row, &*rows.row(row))?;
            if row % 20_000 == 0 {
                transaction.commit()?;
                transaction = database.begin_write()?;
            }
            progress(row);
        }
        transaction.commit()?;
        database.compact()?;
        Ok(())
    }

    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>> {
        let reads = Arc::new(Reads::default());
        let store = Slow(file(&setup.path)?, Arc::clone(&reads));
        let mut builder = Builder::new();
        builder.set_cache_size(setup.own);
        let (database, cache, maintainer) = match &setup.beside {
            None => (builder.create_with_backend(store)?, None, None),
            Some(beside) => {
                let config = Config::new(beside.bytes).hot(HotShare::Off);
                let cache = BlockCache::with_config(versus::with_codec(
                    config,
                    &beside.codec,
                    setup.cost,
                )?)?;
                let maintainer = versus::maintainer(cache.cache(), &beside.codec)?;
                (builder.create_with_backend(cache.over(store))?, Some(cache), maintainer)
            }
        };
        let table = database.begin_read()?.open_table(TABLE)?;
        Ok(Self { table, _database: database, reads, cache, _maintainer: maintainer })
    }

    fn get(&self, row: u64) -> Result<usize, Box<dyn Error>> {
        Ok(self.table.get(row)?.ok_or("a row is missing")?.value().len())
    }

    fn scan(&self, row: u64, rows: usize) -> Result<usize, Box<dyn Error>> {
        self.table.range(row..)?.take(rows).map(|found| Ok(found?.1.value().len())).sum()
    }

    fn reads(&self) -> &Reads {
        &self.reads
    }

    fn ratio(&self) -> f64 {
        self.cache.as_ref().map_or(0.0, |cache| cache.cache().stats().compression_ratio())
    }
}

fn main() -> ExitCode {
    versus::run::<Redb>()
}
