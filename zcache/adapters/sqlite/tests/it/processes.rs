//! Other processes write the same file, through a cache of their own or without one.

use std::path::Path;
use std::thread;

use fastrand::Rng;

use crate::accounts::{child, connect, create, is_whole, job, look, transfer};
use crate::vfs::Counted;

const TRANSACTIONS: i64 = 120;

fn work(path: &Path, cached: Option<&Counted>) {
    let (mut connection, mut rng) = (connect(path, cached), Rng::new());
    let mut seen = 0;
    for at in 0..TRANSACTIONS {
        let now = transfer(&mut connection, &mut rng).unwrap();
        assert!(now > seen, "{now} after {seen}");
        seen = now;
        if at % 3 == 0 {
            let now = look(&mut connection).unwrap();
            assert!(now >= seen, "{now} after {seen}");
        }
        if at % 40 == 39 {
            // A new connection to a file that others have open.
            connection = connect(path, cached);
        }
    }
}

/// Not a test: what the processes below do.
#[test]
fn worker() {
    let Some(job) = job() else { return };
    let cached = (job[1] == "cached").then(|| Counted::new(1 << 20));
    work(Path::new(&job[0]), cached.as_ref());
}

fn share(mode: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("accounts");
    create(&path, mode);
    let name = path.to_str().unwrap();
    let workers: Vec<_> =
        ["cached", "plain"].map(|kind| child("processes::worker", &[name, kind])).into();
    let cached = Counted::new(1 << 20);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| work(&path, Some(&cached)));
        }
        // In this process, but not through the cache: as bad as another one.
        scope.spawn(|| work(&path, None));
    });
    for mut worker in workers {
        assert!(worker.wait().unwrap().success(), "{mode}");
    }
    let mut connection = connect(&path, Some(&cached));
    assert_eq!(look(&mut connection), Ok(5 * TRANSACTIONS), "{mode}");
    assert!(is_whole(&mut connection) && is_whole(&mut connect(&path, None)));
    let stats = cached.vfs.cache().unwrap().stats();
    assert!(stats.hits > 1000, "{mode}: {} hits", stats.hits);
}

#[test]
fn processes_take_turns_with_rollback_journals() {
    for mode in ["DELETE", "PERSIST"] {
        share(mode);
    }
}

#[test]
fn processes_share_a_wal() {
    share("WAL");
}
