//! What the calls take that concern all entries at once, and how long they hold up everybody else.
//!
//! A cache of a million small pages is filled, and cleared, shrunk to half, emptied by `retain` or
//! dropped. Meanwhile another thread looks up and inserts keys of its own; the longest of its calls
//! stands beside the longest of as many calls before, when nothing else was done. On a shared
//! machine a thread may lose its processor in either, so calls by CPU time are printed, too.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use benches::packing::Failure;
use benches::{program, race};
use lexopt::prelude::*;
use zcache::{Cache, Config};

const USAGE: &str = "\
usage: cache_bulk [options]

  --entries N       entries of a cache (default 1000000)
  --rounds N        rounds of which the best counts (default 3)
  --only ROW        the rows whose names have this in them
  --alone           no other thread works meanwhile
";

/// Seconds that a million entries may take.
const BAR: f64 = 0.25;
/// Bytes of a page. Less than half of it is left of a page that is compressed.
const PAGE: usize = 512;
/// Keys of the other thread.
const OTHERS: u64 = 64;

struct Options {
    entries: u64,
    rounds: usize,
    only: String,
    alone: bool,
}

fn options() -> Result<Option<Options>, Failure> {
    let mut options = Options { entries: 1_000_000, rounds: 3, only: String::new(), alone: false };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("entries") => options.entries = parser.value()?.parse()?,
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("only") => options.only = parser.value()?.string()?,
            Long("alone") => options.alone = true,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected().into()),
        }
    }
    if options.rounds == 0 || options.entries == 0 {
        return Err("--rounds and --entries are 1 or more".into());
    }
    Ok(Some(options))
}

/// What a page holds.
#[derive(Clone, Copy)]
enum Pages {
    Coded,
    Filled,
}

impl Pages {
    fn page(self, key: u64, page: &mut [u8; PAGE]) {
        page.fill(0);
        if matches!(self, Self::Coded) {
            // A hundred bytes or so that no other page has.
            let mut rng = fastrand::Rng::with_seed(key);
            let len = 80 + key as usize % 60;
            page[..len].iter_mut().for_each(|byte| *byte = rng.u8(..));
        }
    }
}

#[derive(Clone, Copy)]
enum Work {
    Clear,
    Retain,
    Resize,
    Drop,
}

const ROWS: [(&str, Pages, Work); 8] = [
    ("clear, lz4", Pages::Coded, Work::Clear),
    ("clear, same-filled", Pages::Filled, Work::Clear),
    ("retain none, lz4", Pages::Coded, Work::Retain),
    ("retain none, same-filled", Pages::Filled, Work::Retain),
    ("resize to half, lz4", Pages::Coded, Work::Resize),
    ("resize to half, same-filled", Pages::Filled, Work::Resize),
    ("drop, lz4", Pages::Coded, Work::Drop),
    ("drop, same-filled", Pages::Filled, Work::Drop),
];

/// The longest of many calls.
#[derive(Clone, Copy, Default)]
struct Longest {
    wall: Duration,
    cpu: Duration,
    calls: u64,
}

fn cpu() -> Duration {
    Duration::from_nanos(race::thread_nanoseconds())
}

/// Looks keys of its own up, and inserts them, until it is told to stop.
fn others(cache: &Cache<u64>, stop: &AtomicBool) -> Longest {
    let (mut longest, mut page) = (Longest::default(), [0; PAGE]);
    let mut to = [0; PAGE];
    while !stop.load(Ordering::Relaxed) {
        let key = u64::MAX - longest.calls % OTHERS;
        Pages::Coded.page(key, &mut page);
        let (start, used) = (Instant::now(), cpu());
        let hit = cache.get_into(&key, &mut to);
        if longest.calls % 3 == 0 || hit.is_ok_and(|len| len.is_none()) {
            // A cache that shrinks has no room for an instant.
            let _ = cache.insert(key, &page);
        }
        longest.wall = longest.wall.max(start.elapsed());
        longest.cpu = longest.cpu.max(cpu().saturating_sub(used));
        longest.calls += 1;
    }
    longest
}

fn beside<R>(cache: &Cache<u64>, alone: bool, work: impl FnOnce() -> R) -> (R, Longest) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let other = (!alone).then(|| scope.spawn(|| others(cache, &stop)));
        let done = work();
        stop.store(true, Ordering::Relaxed);
        (done, other.map(|other| other.join().expect("no call panics")).unwrap_or_default())
    })
}

/// The work's seconds by the clock and of CPU time, and what others took.
type Row = ((f64, f64), Longest, Longest);

/// One row's times: the work, others beside it, and others before.
fn once(pages: Pages, work: Work, options: &Options) -> Result<Row, Failure> {
    let entries = options.entries;
    let capacity = (entries as usize * 400).max(16 << 20);
    let cache: Cache<u64> = Cache::new(Config::new(capacity).max_page(PAGE).checksum(false))?;
    let mut page = [0; PAGE];
    // In no order of keys, as in a cache that has lived.
    for nth in 0..entries {
        let key = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        pages.page(key, &mut page);
        cache.insert(key, &page)?;
    }
    let held = cache.held_bytes();
    let (_, before) = beside(&cache, options.alone, || thread::sleep(Duration::from_millis(200)));
    let timed = |work: &dyn Fn()| {
        let (start, used) = (Instant::now(), cpu());
        work();
        (start.elapsed().as_secs_f64(), (cpu() - used).as_secs_f64())
    };
    let (times, meanwhile) = match work {
        Work::Clear => beside(&cache, options.alone, || timed(&|| cache.clear())),
        Work::Retain => beside(&cache, options.alone, || timed(&|| cache.retain(|_| false))),
        Work::Resize => beside(&cache, options.alone, || {
            timed(&|| cache.resize(held / 2).expect("half is enough"))
        }),
        Work::Drop => {
            let cache = std::cell::Cell::new(Some(cache));
            let times = timed(&|| drop(cache.take()));
            return Ok((times, Longest::default(), before));
        }
    };
    if !matches!(work, Work::Resize) {
        assert!(cache.len() <= OTHERS as usize, "all are gone");
    }
    Ok((times, meanwhile, before))
}

fn run(options: &Options) -> Result<(), Failure> {
    println!(
        "{} entries; the longest call of another thread, by clock and by CPU",
        options.entries
    );
    println!("{:<30} {:>8} {:>8} {:>9}  meanwhile; before", "", "seconds", "CPU", "ns each");
    for (name, pages, work) in ROWS.iter().filter(|(name, ..)| name.contains(&options.only)) {
        let mut best: Row =
            ((f64::INFINITY, f64::INFINITY), Longest::default(), Longest::default());
        for _ in 0..options.rounds {
            let (times, meanwhile, before) = once(*pages, *work, options)?;
            let least = |one: Longest, other: Longest| match one.calls {
                0 => other,
                _ => Longest {
                    wall: one.wall.min(other.wall),
                    cpu: one.cpu.min(other.cpu),
                    calls: one.calls.max(other.calls),
                },
            };
            best = (
                (best.0.0.min(times.0), best.0.1.min(times.1)),
                least(best.1, meanwhile),
                least(best.2, before),
            );
        }
        let ((time, used), meanwhile, before) = best;
        let each = used * 1e9 / options.entries as f64;
        let word = if each <= BAR * 1e3 { "met" } else { "MISSED" };
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        println!(
            "{name:<30} {time:>8.3} {used:>8.3} {each:>9.0}  {:.0}, {:.0} us ({} calls); {:.0}, {:.0} us: {word}",
            us(meanwhile.wall),
            us(meanwhile.cpu),
            meanwhile.calls,
            us(before.wall),
            us(before.cpu),
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    program::run("cache_bulk", USAGE, options(), run)
}
