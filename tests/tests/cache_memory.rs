//! What a cache says it holds is what the process holds: resident memory, watched from outside.
//!
//! `ZCACHE_BIG=1` adds a cache of 512 MiB. Prints what it saw: `--nocapture`.
#![cfg(all(target_os = "linux", not(zcache_loom)))]

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

use tests::callbacks::DEADLINE;
use tests::corpus::{self, PageFile};
use tests::pattern::Random;
use zcache::policy::{S3Fifo, Sieve};
use zcache::{Cache, Config, HugePages};
use zpool::SourceKind;

/// What the child shall fill: its kind, and the capacity in bytes.
const CHILD: &str = "ZCACHE_MEMORY_CHILD";
const MIB: usize = 1 << 20;
/// What a process of one thread may hold beyond the capacity: the allocator's own, stacks, buffers.
const SLACK: usize = MIB;
/// Pages are cut to this.
const PAGE: usize = 8192;

/// Bytes of memory that only this process, or a memfd of its own, has in RAM: `anon` and `shmem`.
fn resident(pid: &str) -> Option<usize> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok()
    };
    Some((field("RssAnon:")? + field("RssShmem:")?) << 10)
}

/// The same, counted page by page: what `status` says may lag by some pages a thread.
fn resident_exactly(pid: &str) -> Option<usize> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok()
    };
    // Pages of files that were not written to are clean; those of a memfd are dirty and shared.
    Some((field("Anonymous:")? + field("Shared_Dirty:")?) << 10)
}

fn config(kind: &str, capacity: usize) -> Config {
    let config = Config::new(capacity).max_page(PAGE);
    match kind {
        "mmap" => config.policy(S3Fifo::new()),
        "sieve" => config.policy(Sieve::new()).checksum(false),
        "huge" => config.huge_pages(HugePages::Auto),
        "heap" => config.source(SourceKind::Heap),
        "auto" => config.auto_codec(),
        other => panic!("{other} is no kind"),
    }
}

/// A page of the sample that differs for each key and version.
fn salt(sample: &PageFile, random: &mut Random, to: &mut [u8]) {
    to.copy_from_slice(sample.page(random.below(sample.pages().len())));
    for part in to.chunks_mut(500) {
        part[..8].copy_from_slice(&random.bits().to_le_bytes());
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "child: {line}").unwrap();
    out.flush().unwrap();
}

/// Times that the parent looks at a child that replaces pages, beside the times that it looks by
/// itself.
const LOOKS: u64 = 32;
/// Changes of what a miss costs, where the codec is found.
const CHANGES: u64 = 4;
/// How often all pages are replaced.
const ROUNDS: u64 = if cfg!(debug_assertions) { 1 } else { 4 };

/// The child: makes a cache, fills it, and replaces all of it.
fn fill(spec: &str) {
    let (kind, capacity) = spec.split_once(' ').unwrap();
    let capacity: usize = capacity.parse().unwrap();
    // All that is not the cache's is there before.
    let sample = corpus::sample();
    let mut random = Random::new(1);
    let mut page = vec![1; PAGE];
    salt(&sample, &mut random, &mut page);
    // What was freed on the way here would go back at some time, and the baseline with it.
    #[cfg(target_env = "gnu")]
    // SAFETY: the call gives free memory back and touches none that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
    say("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let cache: Cache<u64> = Cache::new(config(kind, capacity)).unwrap();
    let mut inserted = 0_u64;
    let mut seen = 0;
    // The first fill: until something has to go.
    while cache.stats().removals.evicted == 0 {
        for _ in 0..256 {
            salt(&sample, &mut random, &mut page);
            cache.insert(inserted, &page).unwrap();
            inserted += 1;
        }
    }
    let full = cache.len() as u64;
    for at in 0..ROUNDS * full {
        if at % (ROUNDS * full / LOOKS) == 0 {
            // However fast this is, somebody looks at it that often.
            say("look");
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        if kind == "auto" && at % (ROUNDS * full / CHANGES) == 0 {
            // Another codec is worth it, and all that is there is packed again.
            let dear = at / (ROUNDS * full / CHANGES) % 2 == 0;
            cache.set_miss_cost(if dear { DEADLINE } else { Duration::from_nanos(1) });
        }
        let key = random.bits() % (3 * full);
        salt(&sample, &mut random, &mut page);
        if kind == "auto" {
            // Pages that nobody asks for say nothing of what a codec is worth.
            let _ = cache.get(&key);
        }
        cache.insert(key, &page).unwrap();
        if kind == "auto" && at % 64 == 0 {
            // Dictionaries are trained meanwhile.
            cache.maintain(64 << 10);
        }
        if at % 3 == 0 {
            seen += usize::from(
                cache.get_into(&(random.bits() % (3 * full)), &mut page).unwrap().is_some(),
            );
        }
        assert!(cache.held_bytes() <= capacity);
    }
    assert!(seen > 0);
    let stats = cache.stats();
    // Packed more tightly, more fits than at first.
    let replaced = if kind == "auto" { full / 8 } else { ROUNDS * full / 2 };
    assert!(stats.removals.evicted > replaced, "{stats}");
    assert!(
        kind != "auto" || stats.codec_changes > 0 && stats.recompression.recompressed > 0,
        "{stats}"
    );
    assert!(kind != "auto" || stats.dictionaries.adopted > 0, "{stats}");
    say(&format!("held {}", cache.held_bytes()));
    say(&format!("ratio {:.3}", stats.effective_ratio()));
    say("done");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    cache.check();
}

/// A child that is ended whatever happens.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has a child of test `name` fill a cache of this kind, and watches it.
fn watch(name: &str, kind: &str, capacity: usize) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", name, "--test-threads=1", "--nocapture"]);
    command.env(CHILD, format!("{kind} {capacity}"));
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut process = Process(child);
    let mut to = process.0.stdin.take().unwrap();
    let from = BufReader::new(process.0.stdout.take().unwrap());
    let pid = process.0.id().to_string();
    let (send, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in from.lines().map_while(Result::ok) {
            let _ = line.split_once("child: ").map(|(_, said)| send.send(said.to_owned()));
        }
    });
    assert_eq!(lines.recv_timeout(DEADLINE).unwrap(), "ready");
    let before = resident_exactly(&pid).unwrap();
    let before_status = resident(&pid).unwrap();
    to.write_all(b"go\n").unwrap();
    let start = Instant::now();
    let (mut peak, mut samples, mut held, mut ratio) = (0, 0, 0, String::new());
    loop {
        let mut waits = false;
        match lines.try_recv() {
            Ok(line) if line == "done" => break,
            Ok(line) if line == "look" => waits = true,
            Ok(line) => match line.split_once(' ').unwrap() {
                ("held", bytes) => held = bytes.parse().unwrap(),
                (_, figure) => ratio = figure.to_owned(),
            },
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => panic!("the child ended before it was done"),
        }
        assert!(start.elapsed() < DEADLINE, "the child is done in time");
        let growth = resident_exactly(&pid).unwrap().saturating_sub(before);
        peak = peak.max(growth);
        samples += 1;
        assert!(
            growth <= capacity + SLACK,
            "{kind}: {growth} bytes more than before, {} above the capacity",
            growth - capacity
        );
        if waits {
            to.write_all(b"go\n").unwrap();
        } else {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let end = resident_exactly(&pid).unwrap() - before;
    let end_status = resident(&pid).unwrap() - before_status;
    let figure = |bytes: usize| format!("{:.2} MiB", bytes as f64 / MIB as f64);
    let mut out = std::io::stderr().lock();
    writeln!(
        out,
        "{kind} of {}: baseline {}, at the peak {} above it, at the end {} ({:.2} %; {} by \
         status), held {} by its own account; all-in ratio {ratio}; {samples} samples in {:?}",
        figure(capacity),
        figure(before),
        figure(peak),
        figure(end),
        100.0 * end as f64 / capacity as f64,
        figure(end_status),
        figure(held),
        start.elapsed(),
    )
    .unwrap();
    drop(out);
    assert!(peak.max(end) <= capacity + SLACK);
    // Of a program that was built just now some 1.8 MiB of its own are resident in its first
    // moments that the system takes back later; the baseline by status is without them.
    let used = end.max(end_status);
    // Where all was packed again just now it takes less.
    let full = kind == "auto" || used * 100 >= capacity * 97;
    assert!(full, "{kind}: {used} of {capacity} bytes used at the end");
    assert!(samples >= LOOKS, "{samples} samples are too few");
    to.write_all(b"go\n").unwrap();
    assert!(process.0.wait().unwrap().success());
    reader.join().unwrap();
}

/// The child's part, or the parent's: kinds of caches and their capacities in MiB.
fn test(name: &str, kinds: &[(&str, usize)]) {
    match env::var(CHILD) {
        Ok(spec) => fill(&spec),
        Err(_) => kinds.iter().for_each(|(kind, mib)| watch(name, kind, mib * MIB)),
    }
}

/// One test, so that the children run one after the other.
#[test]
fn resident_memory_never_passes_the_capacity_and_uses_it_up() {
    let others = if cfg!(debug_assertions) { 24 } else { 64 };
    let name = "resident_memory_never_passes_the_capacity_and_uses_it_up";
    test(name, &[("mmap", 64), ("huge", 64), ("auto", 40), ("sieve", others), ("heap", others)]);
}

#[test]
fn a_cache_of_half_a_gibibyte_keeps_to_it_too() {
    if env::var_os("ZCACHE_BIG").is_some() || env::var_os(CHILD).is_some() {
        test("a_cache_of_half_a_gibibyte_keeps_to_it_too", &[("mmap", 512), ("huge", 512)]);
    }
}
