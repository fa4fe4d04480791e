//! How much memory compressed pages take in a pool, beside the kernel's packing rules.
//!
//! ```text
//! main -> run          a line of JSON, a row of the table
//!         pooled       the pool; unbacked: its pages, where only sizes are stored
//!         kernel       the kernel's rules, modelled
//!         zram         the kernel itself
//!         packing      the course that all of them are sent over
//! ```
//! Every page is compressed alone and stored. Then objects are replaced at random, four times as
//! many as there are; then the pool is compacted. Kept pages are given back before figures are
//! taken, and objects are compared with what was stored.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

mod kernel;
mod packing;
mod pooled;
mod run;
mod unbacked;
#[cfg(target_os = "linux")]
mod zram;

use std::path::PathBuf;
use std::process::ExitCode;

use benches::arguments::{self, Failure, count};
use benches::codec::{Codec, Payloads};
use clap::Parser;
use tests::corpus::{PageFile, files};
use zpool::SourceKind;
use zpool::source::MmapOptions;

use crate::kernel::Modelled;
use crate::packing::Course;
use crate::pooled::Pooled;
use crate::run::{Run, TABLE_HEAD};

/// How much memory do compressed pages take in a pool, beside the kernel's packing rules?
#[derive(Debug, Parser)]
#[command(name = "density")]
struct Options {
    /// Page files (.bin, .bin.zst), or directories of them
    #[arg(long, required = true, num_args = 1..)]
    pages: Vec<PathBuf>,
    /// Bytes in a page of the files; by default the end of each name, as in x-8k.bin
    #[arg(long)]
    page_size: Option<usize>,
    /// lz4_flex, lz4 (liblz4), zstd:LEVEL, none
    #[arg(long, default_value = "lz4_flex")]
    codec: Codec,
    /// Objects to store, pages repeated as needed; 20k and 2M work. By default each page once
    #[arg(long, value_delimiter = ',', value_parser = count)]
    objects: Vec<usize>,
    /// Seeds of the order
    #[arg(long, value_delimiter = ',', default_value = "0")]
    seed: Vec<u64>,
    /// Stores sizes, not bytes: for populations that memory has no room for
    #[arg(long)]
    sizes: bool,
    /// Puts the same pages into /dev/zram0 too (root; 4 KiB pages; its own LZ4)
    #[arg(long)]
    zram: bool,
    /// One line of JSON a run instead of a Markdown table
    #[arg(long)]
    json: bool,
}

/// The payloads of one file, as it is and as the kernel would get it.
struct Input {
    file: PageFile,
    payloads: Payloads,
    /// The page file cut into the kernel's pages, where the file's own pages are larger.
    cut: Option<Payloads>,
}

impl Input {
    fn new(file: PageFile, codec: Codec) -> Result<Self, Failure> {
        let payloads = Payloads::compress(&file, codec)?;
        let larger = file.page_size() > kernel::PAGE;
        let cut = if larger { file.cut(kernel::PAGE) } else { None };
        let cut = cut.map(|file| Payloads::compress(&file, codec)).transpose()?;
        Ok(Self { file, payloads, cut })
    }

    fn run(&self, options: &Options, objects: usize, seed: u64) -> Result<Run, Failure> {
        let payloads = &self.payloads;
        let mut pooled = match options.sizes {
            true => Pooled::of_sizes(payloads)?,
            false => Pooled::new(payloads, SourceKind::Mmap(MmapOptions::new()))?,
        };
        let pool = Course::run(&mut pooled, payloads.count(), objects, seed)?;
        let slots = pooled.slots().try_into()?;
        drop(pooled);
        let pieces = self.cut.as_ref().unwrap_or(payloads);
        let parts = pieces.count() / payloads.count();
        let mut model = Modelled::new(pieces);
        let kernel = Course::run(&mut model, pieces.count(), objects * parts, seed)?;
        let zram = if options.zram { self.zram(&kernel, objects, seed) } else { None };
        Ok(Run {
            file: self.file.name().to_owned(),
            codec: options.codec.to_string(),
            seed,
            payload_share: payloads.share(),
            pool,
            slots,
            kernel,
            zram,
        })
    }

    /// The kernel's own figures for the same course. It has as many zspages as the `model`.
    #[cfg(target_os = "linux")]
    fn zram(&self, model: &Course, objects: usize, seed: u64) -> Option<Course> {
        let zram = zram::Zram::new(&self.file, objects);
        let course =
            zram.and_then(|mut zram| Course::run(&mut zram, self.payloads.count(), objects, seed));
        let mut course = course
            .inspect_err(|error| eprintln!("density: no figure of the kernel's own: {error}"))
            .ok()?;
        for (own, model) in course.stations_mut().into_iter().zip(model.stations()) {
            own.metadata_bytes += model.metadata_bytes - model.objects * kernel::HANDLE;
        }
        Some(course)
    }

    #[cfg(not(target_os = "linux"))]
    fn zram(&self, _: &Course, _: usize, _: u64) -> Option<Course> {
        eprintln!("density: no figure of the kernel's own: zram is Linux's");
        None
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    if !options.json {
        println!("{TABLE_HEAD}");
    }
    for path in &options.pages {
        for path in files(path)? {
            let input = Input::new(PageFile::read(&path, options.page_size)?, options.codec)?;
            let once = [input.payloads.count()];
            let objects = if options.objects.is_empty() { &once[..] } else { &options.objects };
            for objects in objects {
                for seed in &options.seed {
                    let run = input.run(options, *objects, *seed)?;
                    println!("{}", if options.json { run.json().to_string() } else { run.row() });
                }
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    arguments::run(run)
}
