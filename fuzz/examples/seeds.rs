//! Writes the seeds of all targets: `cargo run --example seeds -- DIRECTORY`.
//!
//! Pages are the repository's sample, operations are random; both are the same in each run.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use tests::cache_oracle::CacheSetup;
use tests::codec_checks::subjects;
use tests::corpus;
use tests::pattern::Random;
use tests::setups::Setup;

/// Bytes of a page that becomes a seed.
const PAGE: usize = 2048;

fn main() -> ExitCode {
    let directory = std::env::args_os().nth(1).unwrap_or_else(|| "seeds".into());
    match write_all(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seeds: {}: {error}", directory.display());
            ExitCode::from(2)
        }
    }
}

fn write_all(directory: &Path) -> Result<(), Box<dyn Error>> {
    let write = |target: &str, seeds: Vec<Vec<u8>>| {
        let directory = directory.join(target);
        fs::create_dir_all(&directory)?;
        let mut numbered = seeds.iter().enumerate();
        numbered.try_for_each(|(nth, seed)| fs::write(directory.join(format!("{nth:02}")), seed))
    };
    write("pool_ops", operations(Setup::ALL.len()))?;
    write("cache_ops", operations(CacheSetup::ALL.len()))?;
    write("user_code", operations(16))?;
    write("handles", operations(6))?;
    write("geometry", operations(6))?;
    write("codec_round_trip", pages())?;
    write("codec_corrupt", payloads())?;
    Ok(())
}

/// Random operations for each of `setups` setups, which the first byte names: long ones, since from
/// an empty input sequences stay short for hours.
fn operations(setups: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(setups as u64);
    let one = |setup: usize| {
        let len = 300 + random.below(600);
        let rest = (0..len).map(|_| random.bits() as u8);
        std::iter::once(setup as u8).chain(rest).collect()
    };
    (0..setups).map(one).collect()
}

/// Pages for each codec, two of them real, one of runs, one of noise.
fn pages() -> Vec<Vec<u8>> {
    let mut pages: Vec<Vec<u8>> = some_pages();
    pages.push((0..PAGE).map(|at| (at / 50 % 7) as u8).collect());
    let mut random = Random::new(1);
    pages.push((0..300).map(|_| random.bits() as u8).collect());
    let seed =
        |(nth, page): (usize, &Vec<u8>)| [&[nth as u8, (nth % 3) as u8, 160], &page[..]].concat();
    let count = subjects().len();
    (0..count).flat_map(|subject| pages.iter().map(move |page| (subject, page))).map(seed).collect()
}

/// What each codec makes of real pages.
fn payloads() -> Vec<Vec<u8>> {
    let pages = some_pages();
    let mut seeds = Vec::new();
    for (nth, subject) in subjects().iter_mut().enumerate() {
        for page in &pages {
            let payload = subject.compress(page, page.len()).unwrap_or_else(|| page.clone());
            let len = (page.len() as u32).to_le_bytes();
            seeds.push([&[nth as u8, len[0], len[1], len[2]], &payload[..]].concat());
        }
    }
    seeds
}

fn some_pages() -> Vec<Vec<u8>> {
    let sample = corpus::sample();
    sample.pages().step_by(331).map(|page| page[page.len() - PAGE..].to_vec()).collect()
}
