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
use report::Row;

fn explore(options: &Options) -> Result<(), Failure> {
    let pages = Pages::read(&options.files, options.page_size, options.most)?;
    let plan = measure::Plan::new(&pages, options)?;
    let progress = Progress::new(options.quiet);
    let chosen = &options.codec;
    let mut names = CodecName::ALL.to_vec();
    if !names.contains(chosen) {
        names.push(chosen.clone());
    }
    let mut codecs: Vec<Row> = Vec::new();
    for name in names {
        let measured =
            progress.during(&format!("codec {name}"), |step| Bare::measure(&pages, &name, step));
        let row = match measured {
            Ok(bare) => Ok(bare),
            // The cache does not work without a dictionary that was asked for, the table does.
            Err(error) if name != *chosen => Err(*error.downcast::<Untrained>()?),
            Err(error) => return Err(error),
        };
        codecs.push((name, row));
    }
    // The uncompressed cache comes second: memory that the first one gave back may stay with the
    // process, and must not help ours.
    let ours =
        progress.during("compressed cache", |step| Measured::run(&plan, &pages, chosen, step))?;
    let plain = progress.during("uncompressed cache", |step| {
        Measured::run(&plan, &pages, &CodecName::None, step)
    })?;
    progress.clear();
    let mut table = Vec::new();
    report::print(&mut table, options, &pages, &plan, &codecs, &ours, &plain)?;
    say(&table)
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
