//! Fills a cache with the pages of real files, replays a skewed access pattern, and prints what a
//! database author decides by.
//!
//! ```sh
//! cargo run --release -p zcache --example explore
//! cargo run --release -p zcache --example explore -- my.db --page-size 4K --codec zstd:3
//! ```
#![allow(clippy::print_stderr, reason = "a program's answers")]

mod files;
mod measure;
mod options;
mod pages;
mod report;

use std::io::{self, Write};
use std::process::ExitCode;

use measure::{Bare, Measured, Progress, Untrained};
use options::{CodecName, Failure, Options};
use pages::Pages;
use zcache::ConfigError;

fn explore(options: &Options) -> Result<(), Failure> {
    let pages = Pages::read(&options.files, options.page_size, options.most)?;
    let plan = measure::Plan::new(&pages, options)?;
    let progress = Progress::new(options.quiet);
    let (mut codecs, mut caches) = (Vec::new(), Vec::new());
    for name in &options.codecs {
        if *name == CodecName::Auto {
            continue; // it is one of the others at any time
        }
        let measured =
            progress.during(&format!("codec {name}"), |step| Bare::measure(&pages, name, step));
        codecs.push((name.clone(), kept(options, measured)?));
    }
    // The uncompressed cache comes last: memory that the first ones gave back may stay with the
    // process, and must not help ours.
    for name in options.codecs.iter().chain([&CodecName::None]) {
        let measured = progress
            .during(&format!("cache, {name}"), |step| Measured::run(&plan, &pages, name, step));
        if let Ok(measured) = kept(options, measured)? {
            caches.push((name.clone(), measured));
        }
    }
    progress.clear();
    let mut table = Vec::new();
    report::print(&mut table, options, &pages, &plan, &codecs, &caches)?;
    say(&table)
}

/// Whatever cannot be had of codecs that nobody asked for is left out, with a word why.
fn kept<T>(options: &Options, measured: Result<T, Failure>) -> Result<Result<T, Failure>, Failure> {
    match measured {
        Err(error) if options.chosen || !(error.is::<Untrained>() || error.is::<ConfigError>()) => {
            Err(error)
        }
        measured => Ok(measured),
    }
}

/// Prints to a reader that may have closed its end, as `head` does.
fn say(text: &[u8]) -> Result<(), Failure> {
    let mut to = io::stdout().lock();
    match to.write_all(text).and_then(|()| to.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn main() -> ExitCode {
    let done = Options::from_env().and_then(|options| match options {
        Some(options) => explore(&options),
        None => say(options::USAGE.as_bytes()),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("explore: {error}");
            ExitCode::from(2)
        }
    }
}
