//! A child that is killed while it writes, in a loop: nothing is lost, torn or stale.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use fastrand::Rng;

use crate::accounts::{child, connect, create, is_whole, job, look, transfer};
use crate::vfs::Counted;

/// Not a test: what the child does until it is killed.
#[test]
fn victim() {
    let Some(job) = job() else { return };
    let cached = Counted::new(1 << 20);
    let mut connection = connect(Path::new(&job[0]), Some(&cached));
    let mut committed = OpenOptions::new().append(true).create(true).open(&job[1]).unwrap();
    let mut rng = Rng::new();
    loop {
        let count = transfer(&mut connection, &mut rng).unwrap();
        committed.write_all(&count.to_le_bytes()).unwrap();
        if rng.u32(..10) == 0 {
            look(&mut connection).unwrap();
        }
    }
}

/// The transactions that the children know to be committed.
fn committed(path: &Path) -> i64 {
    let counts = fs::read(path).unwrap_or_default();
    let last = counts.chunks_exact(8).next_back();
    last.map_or(0, |count| i64::from_le_bytes(count.try_into().unwrap()))
}

fn kill(mode: &str, kills: usize, seed: u64) {
    let directory = tempfile::tempdir().unwrap();
    let (path, counts) = (directory.path().join("accounts"), directory.path().join("counts"));
    create(&path, mode);
    let cached = Counted::new(1 << 20);
    // Open all the time: what it has cached is from before many a crash.
    let mut watcher = connect(&path, Some(&cached));
    let mut rng = Rng::with_seed(seed);
    let job = [path.to_str().unwrap(), counts.to_str().unwrap()];
    let (mut seen, mut waited) = (0, 0);
    for kill in 0..kills {
        let mut victim = child("crashes::victim", &job);
        if rng.bool() {
            // Killed at work, however slow the machine is. The others may be killed while they open
            // the file.
            let before = committed(&counts);
            while committed(&counts) == before {
                assert!(victim.try_wait().unwrap().is_none(), "the child has ended by itself");
                sleep(Duration::from_millis(1));
            }
            waited += 1;
        }
        sleep(Duration::from_millis(rng.u64(5..90)));
        victim.kill().unwrap();
        victim.wait().unwrap();
        // Somebody else may be the first to come after a crash.
        if rng.bool() {
            look(&mut connect(&path, None)).unwrap();
        }
        let found = look(&mut watcher).unwrap();
        let known = committed(&counts);
        assert!(found >= known.max(seen), "{mode}, kill {kill}: {found}, {known} were committed");
        seen = found;
        assert!(is_whole(&mut watcher), "{mode}, kill {kill}");
        if rng.u32(..4) == 0 {
            transfer(&mut watcher, &mut rng).unwrap();
        }
    }
    assert!(is_whole(&mut connect(&path, None)), "{mode}");
    assert!(seen >= waited, "{mode}: {seen} transactions in {kills} lives");
}

#[test]
fn nothing_is_lost_when_a_writer_is_killed_with_a_rollback_journal() {
    kill("DELETE", 100, 1);
}

#[test]
fn nothing_is_lost_when_a_writer_is_killed_with_a_wal() {
    kill("WAL", 100, 2);
}
