//! What the calls take that concern all entries at once, and how long they hold up everybody else.
//!
//! A cache of a million small pages is filled, and cleared, shrunk to half, emptied by `retain` or
//! dropped. Meanwhile another thread looks up and inserts keys of its own; the longest of its calls
//! stands beside the longest of as many calls before, when nothing else was done. On a shared
//! machine a thread may lose its processor in either, so calls by CPU time are printed, too.
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use benches::arguments::{self, Failure, count, met};
use benches::race;
use clap::Parser;
use zcache::{Cache, Config};

/// What do the calls take that concern all entries at once, and how long do others wait meanwhile?
#[derive(Debug, Parser)]
#[command(name = "cache_bulk")]
struct Options {
    /// Entries of a cache
    #[arg(long, default_value = "1M", value_parser = count)]
    entries: usize,
    /// Rounds of which the best counts
    #[arg(long, default_value = "3", value_parser = count)]
    rounds: usize,
    /// No other thread works meanwhile
    #[arg(long)]
    alone: bool,
}

/// Seconds that a million entries may take.
const BAR: f64 = 0.25;
/// Bytes of a page. Less than half of it is left of a page that is compressed.
const PAGE: usize = 512;
/// Keys of the other thread.
const OTHERS: u64 = 64;

/// What a page holds.
#[derive(Debug, Clone, Copy)]
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

#[derive(Debug, Clone, Copy)]
enum Work {
    Clear,
    RetainNone,
    ResizeToHalf,
    Drop,
}

/// The longest of many calls, in microseconds, by the clock and of CPU time.
#[derive(Clone, Copy, Default)]
struct Longest {
    wall: f64,
    cpu: f64,
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
        longest.wall = longest.wall.max(start.elapsed().as_secs_f64() * 1e6);
        longest.cpu = longest.cpu.max(cpu().saturating_sub(used).as_secs_f64() * 1e6);
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

/// The work's seconds by the clock and of CPU time, and the calls of others beside it and before.
struct Row {
    seconds: f64,
    cpu: f64,
    meanwhile: Longest,
    before: Longest,
}

/// One row's times.
fn once(pages: Pages, work: Work, options: &Options) -> Result<Row, Failure> {
    let entries = options.entries;
    let capacity = (entries * 400).max(16 << 20);
    let cache: Cache<u64> = Cache::new(Config::new(capacity).max_page(PAGE).checksum(false))?;
    let mut page = [0; PAGE];
    // In no order of keys, as in a cache that has lived.
    for nth in 0..entries as u64 {
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
    let ((seconds, cpu), meanwhile) = match work {
        Work::Clear => beside(&cache, options.alone, || timed(&|| cache.clear())),
        Work::RetainNone => beside(&cache, options.alone, || timed(&|| cache.retain(|_| false))),
        Work::ResizeToHalf => beside(&cache, options.alone, || {
            timed(&|| cache.resize(held / 2).expect("half is enough"))
        }),
        Work::Drop => {
            let cache = std::cell::Cell::new(Some(cache));
            let times = timed(&|| drop(cache.take()));
            let (meanwhile, (seconds, cpu)) = (Longest::default(), times);
            return Ok(Row { seconds, cpu, meanwhile, before });
        }
    };
    if !matches!(work, Work::ResizeToHalf) {
        assert!(cache.len() <= OTHERS as usize, "all are gone");
    }
    Ok(Row { seconds, cpu, meanwhile, before })
}

fn run(options: &Options) -> Result<(), Failure> {
    println!(
        "{} entries; the longest call of another thread, by clock and by CPU",
        options.entries
    );
    println!("{:<30} {:>8} {:>8} {:>9}  meanwhile; before", "", "seconds", "CPU", "ns each");
    let works = [Work::Clear, Work::RetainNone, Work::ResizeToHalf, Work::Drop];
    for (work, pages) in
        works.iter().flat_map(|work| [Pages::Coded, Pages::Filled].map(|pages| (*work, pages)))
    {
        let name = format!("{work:?}, {pages:?}").to_lowercase();
        let rounds = (0..options.rounds).map(|_| once(pages, work, options));
        let rounds = rounds.collect::<Result<Vec<Row>, _>>()?;
        let least = |of: fn(&Row) -> f64| rounds.iter().map(of).fold(f64::INFINITY, f64::min);
        let (time, used) = (least(|row| row.seconds), least(|row| row.cpu));
        let each = used * 1e9 / options.entries as f64;
        println!(
            "{name:<30} {time:>8.3} {used:>8.3} {each:>9.0}  {:.0}, {:.0} us ({} calls); {:.0}, \
             {:.0} us: {}",
            least(|row| row.meanwhile.wall),
            least(|row| row.meanwhile.cpu),
            rounds.iter().map(|row| row.meanwhile.calls).max().unwrap_or(0),
            least(|row| row.before.wall),
            least(|row| row.before.cpu),
            met(each <= BAR * 1e3),
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    arguments::run(run)
}
