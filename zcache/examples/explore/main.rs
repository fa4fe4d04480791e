//! Fills a cache with the pages of real files, replays a skewed access pattern, and prints what a
//! database author decides by.
//!
//! ```sh
//! cargo run --release -p zcache --example explore
//! cargo run --release -p zcache --example explore -- my.db --page-size 4096 --budget 64MiB --codec zstd:3
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

mod measure;
mod options;
mod pages;
mod report;

use std::process::ExitCode;

use measure::{Bare, Measured, Progress};
use options::{CodecName, Failure, Options};
use pages::Pages;

fn explore(options: &Options) -> Result<(), Failure> {
    let pages = Pages::read(&options.files, options.page_size)?;
    let plan = measure::Plan::new(&pages, options)?;
    let progress = Progress::new(options.quiet);
    let mut codecs = Vec::new();
    for name in CodecName::ALL {
        codecs.push((
            name.clone(),
            progress.during(&format!("codec {name}"), |step| Bare::measure(&pages, name, step))?,
        ));
    }
    let chosen = &options.codec;
    if !codecs.iter().any(|(name, _)| name == chosen) {
        let bare = progress
            .during(&format!("codec {chosen}"), |step| Bare::measure(&pages, chosen, step))?;
        codecs.push((chosen.clone(), bare));
    }
    // The uncompressed cache comes second: memory that the first one gave back may stay with the
    // process, and must not help ours.
    let ours =
        progress.during("compressed cache", |step| Measured::run(&plan, &pages, chosen, step))?;
    let plain = progress.during("uncompressed cache", |step| {
        Measured::run(&plan, &pages, &CodecName::None, step)
    })?;
    progress.clear();
    report::print(options, &pages, &plan, &codecs, &ours, &plain);
    Ok(())
}

fn main() -> ExitCode {
    let done = Options::from_env().and_then(|options| match options {
        Some(options) => explore(&options),
        None => {
            print!("{}", options::USAGE);
            Ok(())
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("explore: {error}");
            ExitCode::from(2)
        }
    }
}
