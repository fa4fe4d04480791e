//! Random statements through the cache and without it: the same answers, statement by statement.

use std::path::Path;

use fastrand::Rng;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use crate::vfs::{Counted, is_sound, small};

fn plain(path: &Path) -> Connection {
    let connection = Connection::open_with_flags(path, OpenFlags::default()).unwrap();
    small(&connection);
    connection
}

/// All rows, or the error's text.
fn answer(connection: &Connection, sql: &str) -> Result<Vec<Vec<Value>>, String> {
    let mut rows = Vec::new();
    let mut run = || -> rusqlite::Result<()> {
        let mut statement = connection.prepare(sql)?;
        let columns = statement.column_count();
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            rows.push((0..columns).map(|column| row.get(column)).collect::<Result<_, _>>()?);
        }
        Ok(())
    };
    run().map(|()| rows).map_err(|error| error.to_string())
}

fn text(rng: &mut Rng) -> String {
    // Some values take overflow pages.
    let len = if rng.u32(..12) == 0 { rng.usize(..30_000) } else { rng.usize(..200) };
    let word: String = std::iter::repeat_with(|| rng.lowercase()).take(7).collect();
    word.chars().cycle().take(len).collect()
}

fn statement(rng: &mut Rng) -> String {
    let table = ["main.a", "main.b", "other.c"][rng.usize(..3)];
    let (key, value) = (rng.u32(..300), rng.i32(-1000..1000));
    match rng.u32(..100) {
        0..35 => format!("INSERT OR REPLACE INTO {table} VALUES ({key}, {value}, '{}')", text(rng)),
        35..45 => format!("UPDATE {table} SET v = v + {value} WHERE k % 7 = {}", key % 7),
        45..52 => format!("DELETE FROM {table} WHERE k BETWEEN {key} AND {}", key + rng.u32(..40)),
        52..62 => format!("SELECT * FROM {table} WHERE k = {key}"),
        62..70 => {
            format!("SELECT k, v, substr(t, 5000, 80) FROM {table} WHERE v > {value} ORDER BY v, k")
        }
        70..76 => format!("SELECT count(*), sum(v), total(length(t)) FROM {table}"),
        76..80 => {
            "SELECT a.k, b.v, c.v FROM a JOIN b USING (k) JOIN other.c AS c USING (k) ORDER BY 1"
                .into()
        }
        80..86 => "BEGIN".into(),
        86..90 => "COMMIT".into(),
        90..93 => "ROLLBACK".into(),
        93..94 => "SAVEPOINT s".into(),
        94..95 => "ROLLBACK TO s".into(),
        95..96 => "VACUUM".into(),
        96..97 => format!("PRAGMA main.page_size = {}; VACUUM", 512 << rng.u32(..8)),
        97..98 => {
            let mode = ["DELETE", "TRUNCATE", "PERSIST", "WAL", "MEMORY"][rng.usize(..5)];
            format!("PRAGMA main.journal_mode = {mode}")
        }
        98..99 => "PRAGMA main.wal_checkpoint(TRUNCATE)".into(),
        // How many rows it has depends on which connections have been there.
        _ => "PRAGMA main.incremental_vacuum(3)".into(),
    }
}

/// Nobody pulls a plug here.
const FAST: &str = "PRAGMA main.synchronous = OFF; PRAGMA other.synchronous = OFF;";

const SCHEMA: &str = "PRAGMA auto_vacuum = INCREMENTAL;
    CREATE TABLE a (k INTEGER PRIMARY KEY, v INTEGER, t TEXT); CREATE INDEX av ON a (v);
    CREATE TABLE b (k INTEGER PRIMARY KEY, v INTEGER, t TEXT);
    CREATE TABLE other.c (k TEXT PRIMARY KEY, v INTEGER, t TEXT) WITHOUT ROWID;";

/// Plays `statements` random statements; two connections through the cache take turns between
/// transactions, and a third one through SQLite's own file system looks on.
fn compare(seed: u64, statements: usize) {
    let mut rng = Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let cached = Counted::new(1 << 20);
    let attach = |connection: &Connection, name: &str| {
        let path = file(name).to_str().unwrap().to_owned();
        connection.execute("ATTACH ? AS other", [path]).unwrap();
    };
    let reference = plain(&file("plain"));
    attach(&reference, "plain-other");
    let open = || {
        let connection = cached.open(&file("cached"));
        attach(&connection, "cached-other");
        connection.execute_batch(FAST).unwrap();
        connection
    };
    let mut ours = vec![open(), open()];
    reference.execute_batch(FAST).unwrap();
    reference.execute_batch(SCHEMA).unwrap();
    ours[0].execute_batch(SCHEMA).unwrap();
    let mut turn = 0;
    for at in 0..statements {
        let sql = statement(&mut rng);
        if ours[turn].is_autocommit() {
            turn = rng.usize(..2);
        }
        if sql.starts_with("PRAGMA main.journal_mode") {
            // Not while another connection has the file open: both would answer differently.
            if !ours[turn].is_autocommit() {
                continue;
            }
            ours.pop();
            ours.pop();
            ours.push(open());
            turn = 0;
        }
        for sql in sql.split("; ") {
            let (mut found, mut wanted) = (answer(&ours[turn], sql), answer(&reference, sql));
            if sql.contains("incremental") {
                (found, wanted) = (found.map(|_| Vec::new()), wanted.map(|_| Vec::new()));
            }
            assert_eq!(found, wanted, "seed {seed}, statement {at}: {sql}");
        }
        if ours.len() == 1 {
            ours.push(open());
        }
        if at % 500 == 0 {
            if !reference.is_autocommit() {
                assert_eq!(answer(&ours[turn], "COMMIT"), answer(&reference, "COMMIT"));
            }
            // What is in the file, read without the cache.
            let look = plain(&file("cached"));
            attach(&look, "cached-other");
            for sql in ["SELECT * FROM a", "SELECT * FROM b", "SELECT * FROM other.c"] {
                assert_eq!(answer(&look, sql), answer(&reference, sql), "seed {seed}, at {at}");
            }
            assert!(ours.iter().all(is_sound), "seed {seed}, at {at}");
        }
    }
    let stats = cached.vfs.cache().unwrap().stats();
    assert!(stats.hits > 1000, "{} hits", stats.hits);
    cached.vfs.cache().unwrap().check();
    drop(ours);
    assert_eq!(cached.vfs.cache().unwrap().len(), 0, "a file that nobody has open has no pages");
}

#[test]
fn statements_have_the_same_answers() {
    for seed in 0..6 {
        compare(seed, 1500);
    }
}

#[test]
fn what_was_read_once_is_not_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rows");
    let cached = Counted::new(8 << 20);
    let connection = cached.open(&path);
    let fill = "CREATE TABLE t (k INTEGER PRIMARY KEY, t TEXT);
        WITH RECURSIVE n (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < 20000)
        INSERT INTO t SELECT k, printf('row %d of the table, with some text', k) FROM n;";
    connection.execute_batch(fill).unwrap();
    for mode in ["DELETE", "WAL"] {
        connection.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |_| Ok(())).unwrap();
        // The first transaction gives the WAL its salts.
        connection.execute_batch("UPDATE t SET t = t || ':' WHERE k = 7").unwrap();
        // Beside the counter, of which the first look after a lock is one more.
        let sum = || connection.query_row("SELECT sum(length(t)) FROM t", [], |row| row.get(0));
        let first: i64 = sum().unwrap();
        let before = cached.reads();
        for _ in 0..10 {
            assert_eq!(sum(), Ok(first));
        }
        let reads = cached.reads() - before;
        assert!(reads <= 20, "{mode}: {reads} reads for 10 scans");
        // A checkpoint and a new WAL of our own are no reason to forget anything.
        for round in 0..5 {
            let sql = format!("UPDATE t SET t = t || '.' WHERE k % 1000 = {round}");
            connection.execute_batch(&sql).unwrap();
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        }
        let _: i64 = sum().unwrap();
        let reads = cached.reads() - before;
        assert!(reads < 60, "{mode}: {reads} reads after checkpoints");
    }
}
