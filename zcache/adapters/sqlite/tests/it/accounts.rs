//! Transactions whose sums tell whether anything was lost, stale or torn: transfers between
//! accounts, with a count of all transfers beside them.

use std::path::Path;
use std::process::{Child, Command};

use fastrand::Rng;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::vfs::{Counted, is_sound, small};

const ACCOUNTS: i64 = 1500;

/// Transfers in a transaction.
const TRANSFERS: i64 = 10;

/// A connection through a cache of the process's own, or through SQLite's file system.
pub(crate) fn connect(path: &Path, cached: Option<&Counted>) -> Connection {
    let connection = match cached {
        Some(cached) => cached.open(path),
        None => Connection::open_with_flags(path, OpenFlags::default()).unwrap(),
    };
    small(&connection);
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    // Checkpoints all the time.
    connection.query_row("PRAGMA wal_autocheckpoint = 20", [], |_| Ok(())).unwrap();
    connection
}

pub(crate) fn create(path: &Path, mode: &str) {
    let connection = connect(path, None);
    connection.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |_| Ok(())).unwrap();
    let sql = "CREATE TABLE accounts (k INTEGER PRIMARY KEY, v INTEGER, version INTEGER, t TEXT);
        CREATE TABLE meta (transactions INTEGER); INSERT INTO meta VALUES (0);
        WITH RECURSIVE n (k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM n WHERE k < ?1 - 1)
        INSERT INTO accounts SELECT k, 0, 0, printf('account %d %.*c', k, k % 300, 'x') FROM n;";
    connection.execute_batch(&sql.replace("?1", &ACCOUNTS.to_string())).unwrap();
}

/// One transaction. Returns the number of all transactions until then, this one included.
pub(crate) fn transfer(connection: &mut Connection, rng: &mut Rng) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for _ in 0..TRANSFERS {
        let amount = rng.i64(1..100);
        for change in [amount, -amount] {
            let key = rng.i64(0..ACCOUNTS);
            let find = "SELECT v, version FROM accounts WHERE k = ?1";
            let (value, version): (i64, i64) =
                transaction.query_row(find, [key], |row| Ok((row.get(0)?, row.get(1)?)))?;
            // Written as it was read: what was stale would be seen in the sums.
            let sql = "UPDATE accounts SET v = ?2, version = ?3, t = ?4 WHERE k = ?1";
            let text = "y".repeat(rng.usize(..300));
            transaction.execute(sql, (key, value + change, version + 1, text))?;
        }
    }
    let count: i64 =
        transaction.query_row("SELECT transactions FROM meta", [], |row| row.get(0))?;
    transaction.execute("UPDATE meta SET transactions = ?1", [count + 1])?;
    transaction.commit()?;
    Ok(count + 1)
}

/// Looks at everything in one transaction. Returns how many transactions it has seen.
pub(crate) fn look(connection: &mut Connection) -> rusqlite::Result<i64> {
    let transaction = connection.transaction()?;
    let sums = "SELECT sum(v), sum(version), count(*) FROM accounts";
    let (sum, versions, count): (i64, i64, i64) =
        transaction.query_row(sums, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let transactions: i64 =
        transaction.query_row("SELECT transactions FROM meta", [], |row| row.get(0))?;
    assert_eq!((sum, count), (0, ACCOUNTS), "after {transactions} transactions");
    assert_eq!(versions, 2 * TRANSFERS * transactions);
    Ok(transactions)
}

/// Has all that should be there.
pub(crate) fn is_whole(connection: &mut Connection) -> bool {
    look(connection).is_ok() && is_sound(connection)
}

/// Runs a test of this program in a process of its own, told by `job` what to do.
pub(crate) fn child(test: &str, job: &[&str]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads", "1"]);
    command.env("CHILD_JOB", job.join("\n")).stdout(std::process::Stdio::null());
    command.spawn().unwrap()
}

/// What a process that `child` has started is to do. `None`: this is no such process.
pub(crate) fn job() -> Option<Vec<String>> {
    Some(std::env::var("CHILD_JOB").ok()?.split('\n').map(String::from).collect())
}
