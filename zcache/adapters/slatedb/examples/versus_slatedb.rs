//! What a compressed cache saves SlateDB: a table, at equal resident memory.
//!
//! ```sh
//! cargo run --release --example versus_slatedb -- --help
//! ```

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use slatedb::bytes::Bytes;
use slatedb::config::{FlushOptions, FlushType, ScanOptions, Settings};
use slatedb::db_cache::DbCache;
use slatedb::db_cache::foyer::{FoyerCache, FoyerCacheOptions};
use slatedb::db_cache::moka::{MokaCache, MokaCacheOptions};
use slatedb::object_store::local::LocalFileSystem;
use slatedb::object_store::path::Path as Location;
use slatedb::object_store::{self, ObjectStore, *};
use slatedb::{Db, WriteBatch};
use tokio::runtime::{Builder, Runtime};
use versus::{Reads, Rows, Setup, Subject};
use zcache_slatedb::zcache::{Config, HotShare, Maintainer};
use zcache_slatedb::{CompressedCache, Options};

/// A store whose reads are counted and take as long as they are told to.
#[derive(Debug)]
struct Slow(LocalFileSystem, Arc<Reads>);

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Slow {
    async fn put_opts(
        &self,
        to: &Location,
        bytes: PutPayload,
        how: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.0.put_opts(to, bytes, how).await
    }
    async fn put_multipart_opts(
        &self,
        to: &Location,
        how: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(to, how).await
    }
    async fn get_opts(&self, from: &Location, how: GetOptions) -> object_store::Result<GetResult> {
        self.1.wait();
        self.0.get_opts(from, how).await
    }
    async fn get_ranges(
        &self,
        from: &Location,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        self.1.wait();
        self.0.get_ranges(from, ranges).await
    }
    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Location>>,
    ) -> BoxStream<'static, object_store::Result<Location>> {
        self.0.delete_stream(locations)
    }
    fn list(
        &self,
        prefix: Option<&Location>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }
    async fn list_with_delimiter(
        &self,
        prefix: Option<&Location>,
    ) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }
    async fn copy_opts(
        &self,
        from: &Location,
        to: &Location,
        how: CopyOptions,
    ) -> object_store::Result<()> {
        self.0.copy_opts(from, to, how).await
    }
}

struct Slate {
    runtime: Runtime,
    database: Db,
    reads: Arc<Reads>,
    cache: Option<Arc<CompressedCache>>,
    _maintainer: Option<Maintainer>,
}

/// Nothing works beside the reads.
fn settings() -> Settings {
    Settings {
        compactor_options: None,
        garbage_collector_options: None,
        manifest_poll_interval: Duration::from_secs(3600),
        ..Settings::default()
    }
}

fn key(row: u64) -> [u8; 8] {
    row.to_be_bytes()
}

impl Subject for Slate {
    const NAME: &'static str = "slatedb";
    const OWN: &'static [&'static str] = &["foyer", "moka"];
    const LEAST_OWN: usize = 2 << 20;
    const OWN_SHARE: f64 = 1.0 / 8.0;
    const IN_FRONT: bool = false;
    const COST: Duration = Duration::from_millis(10);

    fn build(path: &Path, rows: &Rows, progress: &dyn Fn(u64)) -> Result<(), Box<dyn Error>> {
        std::fs::create_dir_all(path)?;
        let store = Arc::new(LocalFileSystem::new_with_prefix(path)?);
        Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(async {
            let database = Db::builder("db", store).with_settings(settings()).build().await?;
            for first in (0..rows.amount).step_by(1000) {
                let mut batch = WriteBatch::new();
                for row in first..(first + 1000).min(rows.amount) {
                    batch.put(key(row), rows.row(row));
                    progress(row);
                }
                database.write(batch).await?;
            }
            let flush_type = FlushType::MemTable;
            database.flush_with_options(FlushOptions { flush_type }).await?;
            database.close().await?;
            // What is left of the log is no part of the data.
            std::fs::remove_dir_all(path.join("db/wal")).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
            Ok(())
        })
    }

    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>> {
        let reads = Arc::new(Reads::default());
        let files = LocalFileSystem::new_with_prefix(&setup.path)?;
        let store = Arc::new(Slow(files, Arc::clone(&reads)));
        let (caches, cache): (Arc<dyn DbCache>, _) = match &setup.beside {
            Some(beside) => {
                let longest = (beside.bytes / 16).max(128 << 10);
                let config = Config::new(beside.bytes).max_page(longest).hot(HotShare::Off);
                let config = versus::with_codec(config, &beside.codec, setup.cost)?;
                let cache = Arc::new(Options::with_config(config, setup.own).build()?);
                (Arc::clone(&cache) as _, Some(cache))
            }
            None if setup.own_kind == "moka" => {
                let max_capacity = setup.own as u64;
                let options = MokaCacheOptions { max_capacity, ..Default::default() };
                (Arc::new(MokaCache::new_with_opts(options)), None)
            }
            None => {
                let max_capacity = setup.own as u64;
                let options = FoyerCacheOptions { max_capacity, ..Default::default() };
                (Arc::new(FoyerCache::new_with_opts(options)), None)
            }
        };
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let builder = Db::builder("db", store).with_settings(settings()).with_db_cache(caches, 1);
        let database = runtime.block_on(builder.build())?;
        let maintained = setup.beside.as_ref().zip(cache.as_ref());
        let maintainer = maintained
            .map(|(beside, cache)| versus::maintainer(cache.cache(), &beside.codec))
            .transpose()?;
        Ok(Self { runtime, database, reads, cache, _maintainer: maintainer.flatten() })
    }

    fn get(&self, row: u64) -> Result<usize, Box<dyn Error>> {
        let found = self.runtime.block_on(self.database.get(key(row)))?;
        Ok(found.ok_or("a row is missing")?.len())
    }

    fn scan(&self, row: u64, rows: usize) -> Result<usize, Box<dyn Error>> {
        self.runtime.block_on(async {
            // On all sides scans fill the cache, as they do in the other databases.
            let options = ScanOptions { cache_blocks: true, ..ScanOptions::default() };
            let mut found = self.database.scan_with_options(key(row).., &options).await?;
            let mut bytes = 0;
            for _ in 0..rows {
                let Some(row) = found.next().await? else { break };
                bytes += row.value.len();
            }
            Ok(bytes)
        })
    }

    fn reads(&self) -> &Reads {
        &self.reads
    }

    fn ratio(&self) -> f64 {
        self.cache.as_ref().map_or(0.0, |cache| cache.cache().stats().compression_ratio())
    }
}

fn main() -> ExitCode {
    versus::run::<Slate>()
}
