//! A file system for each test, and connections through it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OpenFlags};
use zcache_sqlite::{Options, Vfs};

/// A file system of its own, which counts the reads that reach a file.
pub(crate) struct Counted {
    name: String,
    pub(crate) vfs: Vfs,
    reads: Arc<AtomicU64>,
}

impl Counted {
    /// With a cache of so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        static NAMES: AtomicU64 = AtomicU64::new(0);
        let name = format!("zcache-{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let reads = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&reads);
        let options = Options::new(bytes).before_read(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let vfs = options.register(&name).unwrap();
        Self { name, vfs, reads }
    }

    pub(crate) fn open(&self, path: &Path) -> Connection {
        let connection =
            Connection::open_with_flags_and_vfs(path, OpenFlags::default(), &*self.name).unwrap();
        small(&connection);
        connection
    }

    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

/// Hardly any cache of SQLite's own, and patience with others.
pub(crate) fn small(connection: &Connection) {
    connection.pragma_update(None, "cache_size", 4).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(120)).unwrap();
}

pub(crate) fn is_sound(connection: &Connection) -> bool {
    let answer: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    answer == "ok"
}
