//! What a map costs, beside what it cannot be cheaper than.
//!
//! Every operation works on objects of 2 KiB under random keys, by one thread and by two, in rounds
//! that take all operations in turn; the best of all rounds counts. Scaling is the throughput of
//! two threads by that of one. The second table tells which part of all objects is mapped without a
//! copy.
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use benches::arguments::{self, Failure, count, met};
use benches::codec::Payloads;
use benches::order::Order;
use benches::race::{Length, nanoseconds};
use clap::Parser;
use hashbrown::HashMap;
use zpool::source::MmapOptions;
use zpool::{Config, Handle, Pool, SourceKind};

/// What does a map cost, beside what it cannot be cheaper than?
#[derive(Debug, Parser)]
#[command(name = "pool_hit")]
struct Options {
    /// Populations; a million takes 2.5 GiB
    #[arg(long, value_delimiter = ',', default_value = "1000,30000,1000000", value_parser = count)]
    objects: Vec<usize>,
    /// Rounds of which the best counts
    #[arg(long, default_value = "15", value_parser = count)]
    rounds: usize,
}

/// Bytes of an object.
const OBJECT: usize = 2048;
/// Windows of a round, and operations of a thread in each.
const WINDOWS: usize = 40;
const OPS: usize = 5000;
/// Objects of the second table.
const COPIES: usize = 100_000;
/// What a warm map may take, in nanoseconds, and up to which population it counts as warm.
const WARM: (f64, usize) = (40.0, 30_000);
/// The least part of objects mapped without a copy on a fresh arena.
const UNCOPIED: f64 = 0.99;

/// What is timed: the first five touch no byte of an object, the next two its first, the last two
/// all.
const NAMES: [&str; 9] =
    ["word", "pin", "hash get", "map", "map, own half", "load", "map + load", "copy", "map + copy"];
const MAP: usize = 3;
const LOAD: usize = 5;
const COPY: usize = 7;
const MAP_COPY: usize = 8;

/// Best times in nanoseconds, by name and threads (one, two).
type Times = [[f64; 2]; NAMES.len()];

fn race(objects: usize, rounds: usize) -> Result<Times, Failure> {
    let pool: Pool = Pool::new(Config::new())?;
    let fill = |number: usize| pool.alloc(&[number as u8; OBJECT]);
    let handles: Vec<Handle> = (0..objects).map(fill).collect::<Result<_, _>>()?;
    let words: Vec<AtomicU64> = (0..objects as u64).map(AtomicU64::new).collect();
    let hash: HashMap<u64, u64> = (0..objects as u64).map(|key| (key, key)).collect();
    let map = |key: usize| pool.map(handles[key]).expect("the object is live");
    let mut best: Times = [[f64::INFINITY; 2]; NAMES.len()];
    for _ in 0..rounds {
        for threads in [1, 2] {
            let length = Length { threads, windows: WINDOWS, ops: OPS };
            let mut keep = |name: usize, time: f64| {
                let best = &mut best[name][threads - 1];
                *best = best.min(time);
            };
            let word = |key: usize| words[key].load(Ordering::Relaxed);
            keep(0, nanoseconds(length, objects, |_| word));
            // The two atomic operations that any pin consists of.
            let pin = |key: usize| {
                words[key].fetch_add(1, Ordering::Acquire);
                words[key].fetch_sub(1, Ordering::Release)
            };
            keep(1, nanoseconds(length, objects, |_| pin));
            let get = |key: usize| *hash.get(&(key as u64)).expect("a key of the map");
            keep(2, nanoseconds(length, objects, |_| get));
            keep(MAP, nanoseconds(length, objects, |_| |key: usize| map(key).len() as u64));
            let half = |thread: usize| {
                // Two threads that never meet on a word: what is left is shared by the pool itself.
                let first = thread * objects / 2;
                move |key: usize| map(if threads == 1 { key } else { first + key / 2 }).len() as u64
            };
            keep(4, nanoseconds(length, objects, half));
            keep(6, nanoseconds(length, objects, |_| |key: usize| u64::from(map(key)[0])));
            let map_copy = |_| {
                let mut to = [0; OBJECT];
                move |key: usize| {
                    to.copy_from_slice(&map(key));
                    u64::from(black_box(&to)[0])
                }
            };
            keep(MAP_COPY, nanoseconds(length, objects, map_copy));
            // The bare rows read the same bytes, through slices that guards keep valid.
            let guards: Vec<_> = (0..objects).map(map).collect();
            let slices: Vec<&[u8]> = guards.iter().map(|guard| &**guard).collect();
            let load = |key: usize| u64::from(slices[key][0]);
            keep(LOAD, nanoseconds(length, objects, |_| load));
            let copy = |_| {
                let (mut to, slices) = ([0; OBJECT], &slices);
                move |key: usize| {
                    to.copy_from_slice(slices[key]);
                    u64::from(black_box(&to)[0])
                }
            };
            keep(COPY, nanoseconds(length, objects, copy));
        }
    }
    Ok(best)
}

fn scaling(times: [f64; 2]) -> f64 {
    times[0] / times[1]
}

/// The part of objects mapped without a copy: on a fresh arena, and after churn and compaction.
fn uncopied(source: SourceKind, payloads: &Payloads) -> Result<[f64; 2], Failure> {
    let pool: Pool = Pool::new(Config::new().source(source))?;
    let mut order = Order::new(payloads.count(), 0);
    let mut handles = Vec::with_capacity(COPIES);
    for _ in 0..COPIES {
        handles.push(pool.alloc(payloads.get(order.next_payload()))?);
    }
    let share = |handles: &[Handle]| -> Result<f64, Failure> {
        let before = pool.stats().copied_maps;
        for handle in handles {
            black_box(&*pool.map(*handle)?);
        }
        Ok(1.0 - (pool.stats().copied_maps - before) as f64 / handles.len() as f64)
    };
    let fresh = share(&handles)?;
    for _ in 0..4 * COPIES {
        let handle = &mut handles[order.pick(COPIES)];
        pool.free(*handle)?;
        *handle = pool.alloc(payloads.get(order.next_payload()))?;
    }
    while !pool.compact(1 << 20).done {}
    Ok([fresh, share(&handles)?])
}

fn print_times(objects: usize, times: &Times) {
    println!("{objects} objects of {OBJECT} bytes, random keys");
    println!("{:>13} {:>12} {:>14} {:>8}", "", "ns, one", "ns, two (all)", "scaling");
    for (name, times) in NAMES.iter().zip(times) {
        let scaling = scaling(*times);
        println!("{name:>13} {:>12.1} {:>14.1} {scaling:>7.2}x", times[0], times[1]);
    }
    let part = |ours: usize, bare: usize| scaling(times[ours]) / scaling(times[bare]);
    println!(
        "map scales by {:.2} of what a load does, map + copy by {:.2} of what a copy does\n",
        part(MAP, LOAD),
        part(MAP_COPY, COPY)
    );
}

fn run(options: &Options) -> Result<(), Failure> {
    for objects in &options.objects {
        let times = race(*objects, options.rounds)?;
        print_times(*objects, &times);
        if *objects <= WARM.1 {
            let map = times[MAP][0];
            println!("a map takes {map:.1} ns, bar {}: {}\n", WARM.0, met(map < WARM.0));
        }
    }
    let payloads = Payloads::random(20_000, 200..=3700, 0);
    for (name, source) in
        [("mmap", SourceKind::Mmap(MmapOptions::new())), ("heap", SourceKind::Heap)]
    {
        let [fresh, compacted] = uncopied(source, &payloads)?;
        println!(
            "{name}: {:.2} % of {COPIES} objects mapped without a copy on a fresh arena, {:.2} % \
             after churn and compaction; bar {}: {}",
            fresh * 100.0,
            compacted * 100.0,
            UNCOPIED * 100.0,
            met(fresh > UNCOPIED)
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    arguments::run(run)
}
