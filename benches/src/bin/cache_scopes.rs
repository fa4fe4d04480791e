//! What the end of a scope takes, and when its memory is back.
//!
//! A cache is filled with small pages of four scopes. Then pages of three of them are asked for at
//! random, and inserted where they are missed, before and after the fourth one ends.
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use benches::arguments::{self, Failure, met};
use benches::race;
use clap::Parser;
use zcache::{Cache, Config};

/// What does the end of a scope take, and when is its memory back?
#[derive(Debug, Parser)]
#[command(name = "cache_scopes")]
struct Options {
    /// Entries of the cache, of four scopes
    #[arg(long, default_value_t = 4_000_000, value_parser = clap::value_parser!(u32).range(1000..))]
    entries: u32,
}

/// Microseconds that the call may take.
const BAR: f64 = 10.0;
/// Bytes of a page. Less than half of it is left of a page that is compressed.
const PAGE: usize = 512;
const SCOPES: u32 = 4;
/// The one that ends.
const ENDS: u32 = 1;

type Key = (u32, u32);

/// A page of a hundred bytes or so that no other has.
fn page((scope, number): Key, page: &mut [u8; PAGE]) {
    page.fill(0);
    let mut rng = fastrand::Rng::with_seed(u64::from(scope) << 32 | u64::from(number));
    let len = 80 + number as usize % 60;
    page[..len].iter_mut().for_each(|byte| *byte = rng.u8(..));
}

/// Asks for pages of the scopes that go on until `done`, and inserts those that are missed; says
/// how many were hits, and how many were inserted.
fn ask(
    cache: &Cache<Key>,
    each: u32,
    rng: &mut fastrand::Rng,
    mut done: impl FnMut(u64) -> bool,
) -> Result<(f64, u64), Failure> {
    let (mut asked, mut hits, mut inserted) = (0_u64, 0_u64, 0);
    let mut bytes = [0; PAGE];
    while !done(asked) {
        asked += 1;
        let scope = [0, 2, 3][rng.usize(..3)];
        // Some pages far more often than others; all of them would not fit.
        let part = rng.f64() * rng.f64();
        let key = (scope, (part * 2.0 * f64::from(each)) as u32);
        if cache.get_into(&key, &mut bytes)?.is_some() {
            hits += 1;
        } else {
            page(key, &mut bytes);
            cache.insert(key, &bytes)?;
            inserted += 1;
        }
    }
    Ok((100.0 * hits as f64 / asked.max(1) as f64, inserted))
}

fn run(options: &Options) -> Result<(), Failure> {
    let (entries, each) = (options.entries, options.entries / SCOPES);
    // About what they take, so that the cache is full.
    let capacity = (entries as usize * 210).max(4 << 20);
    let config = Config::new(capacity).max_page(PAGE).checksum(false);
    let cache: Cache<Key> = Cache::new(config)?.with_scopes(|key: &Key| key.0)?;
    let mut bytes = [0; PAGE];
    for number in 0..each {
        for scope in 0..SCOPES {
            page((scope, number), &mut bytes);
            cache.insert((scope, number), &bytes)?;
        }
    }
    let mut rng = fastrand::Rng::with_seed(7);
    let many = u64::from(entries);
    let (before, _) = ask(&cache, each, &mut rng, |asked| asked >= many)?;
    // So that there are as many as before that were not asked for.
    for number in 0..each {
        page((ENDS, number), &mut bytes);
        cache.insert((ENDS, number), &bytes)?;
    }
    let (all, ends) = (cache.len(), cache.scope(ENDS).len());
    let (held, payload) = (cache.held_bytes(), cache.stats().bytes.payload);
    println!("{all} entries in {:.0} MiB, {ends} of them of the scope that ends", mib(held));
    let (start, used) = (Instant::now(), Duration::from_nanos(race::thread_nanoseconds()));
    cache.scope(ENDS).clear();
    let (time, cpu) = (start.elapsed(), Duration::from_nanos(race::thread_nanoseconds()) - used);
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let word = met(us(cpu) <= BAR);
    println!("the call takes {:.1} us, {:.1} of CPU time: {word}", us(time), us(cpu));
    if !cache.scope(ENDS).is_empty() || cache.stats().ended != ends {
        return Err("its entries have not ended".into());
    }
    let mut left = usize::MAX;
    let (during, inserted) = ask(&cache, each, &mut rng, |asked| {
        if asked % 1000 == 0 {
            left = cache.stats().ended;
        }
        left == 0 || asked >= 4 * many
    })?;
    let turnover = inserted as f64 / all as f64;
    let word = met(left == 0 && turnover <= 1.0);
    println!("{left} of its entries are left after {turnover:.2} turnovers: {word}");
    let (after, _) = ask(&cache, each, &mut rng, |asked| asked >= many)?;
    let word = met(during >= before - 0.1 && after >= before);
    println!(
        "others' hits: {before:.2} % before, {during:.2} % meanwhile, {after:.2} % after: {word}"
    );
    let stats = cache.stats();
    println!("payload: {:.1} MiB before, {:.1} after", mib(payload), mib(stats.bytes.payload));
    Ok(())
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn main() -> ExitCode {
    arguments::run(run)
}
