//! How much memory compressed pages take in a pool, beside the kernel's packing rules.
//!
//! Every page is compressed alone and stored; then objects are replaced at random, four times as many
//! as there are; then the pool is compacted. Each run is one line of JSON, or a row of a table.
//! Kept pages are given back before figures are taken, and objects are compared with what was stored.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use benches::codec::{Codec, Payloads};
use benches::density::{Run, TABLE_HEAD};
#[cfg(target_os = "linux")]
use benches::kernel::HANDLE;
use benches::kernel::{self, Modelled};
use benches::packing::{Course, Failure};
use benches::pooled::Pooled;
use benches::program;
#[cfg(target_os = "linux")]
use benches::zram::Zram;
use lexopt::prelude::*;
use tests::corpus::{PageFile, files};
use zpool::SourceKind;
use zpool::source::MmapOptions;

const USAGE: &str = "\
usage: density --pages FILE... [options]

  --pages FILE...     page files (.bin, .bin.zst), or directories of them
  --page-size BYTES   bytes in a page of the files; default: the end of each name, as in x-8k.bin
  --codec CODEC       lz4 (default), lz4-c, zstd:LEVEL, none
  --objects N,...     objects to store, pages repeated as needed; 20k and 2M work; default: each page once
  --seed N,...        seeds of the order; default: 0
  --sizes             store sizes, not bytes: for populations that memory has no room for
  --source SOURCE     mmap (default), heap, memfd
  --zram              put the same pages into /dev/zram0 too (root; 4 KiB pages; lz4)
  --json              one line of JSON a run (default without --table)
  --table             a Markdown table of all runs
";

#[derive(Debug)]
struct Options {
    paths: Vec<PathBuf>,
    page_size: Option<usize>,
    codec: Codec,
    /// Empty: each page once.
    objects: Vec<usize>,
    seeds: Vec<u64>,
    sizes: bool,
    source: SourceKind,
    zram: bool,
    json: bool,
    table: bool,
}

/// A count such as `20000`, `20k` or `2M`.
fn count(text: &str) -> Result<usize, Failure> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 1000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let number = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    // Places of objects are 32-bit numbers here.
    let number = number.filter(|number| (1..=1 << 30).contains(number));
    number.ok_or_else(|| format!("`{text}` is no count of 1 to 2^30").into())
}

fn options() -> Result<Option<Options>, Failure> {
    let mut options = Options {
        paths: Vec::new(),
        page_size: None,
        codec: Codec::Lz4,
        objects: Vec::new(),
        seeds: vec![0],
        sizes: false,
        source: SourceKind::Mmap(MmapOptions::new()),
        zram: false,
        json: false,
        table: false,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("pages") => options.paths.extend(parser.values()?.map(PathBuf::from)),
            Long("page-size") => options.page_size = Some(parser.value()?.parse()?),
            Long("codec") => options.codec = parser.value()?.parse()?,
            Long("objects") => {
                options.objects =
                    parser.value()?.string()?.split(',').map(count).collect::<Result<_, _>>()?;
            }
            Long("seed") => {
                let seeds = parser.value()?.string()?;
                options.seeds = seeds.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            Long("sizes") => options.sizes = true,
            Long("source") => {
                options.source = match &*parser.value()?.string()? {
                    "mmap" => SourceKind::Mmap(MmapOptions::new()),
                    "heap" => SourceKind::Heap,
                    "memfd" => SourceKind::Memfd,
                    other => return Err(format!("no source `{other}`").into()),
                };
            }
            Long("zram") => options.zram = true,
            Long("json") => options.json = true,
            Long("table") => options.table = true,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected().into()),
        }
    }
    if options.paths.is_empty() {
        return Err("--pages is missing; --help says more".into());
    }
    options.json |= !options.table;
    Ok(Some(options))
}

/// The payloads of one file, as it is and as the kernel would get it.
struct Input {
    file: PageFile,
    payloads: Payloads,
    /// The same file cut into the kernel's pages, where its own are larger.
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
        let start = Instant::now();
        let payloads = &self.payloads;
        let mut pool = match options.sizes {
            true => Pooled::of_sizes(payloads)?,
            false => Pooled::new(payloads, options.source.clone())?,
        };
        let course = Course::run(&mut pool, payloads.count(), objects, seed)?;
        let stations = pool.stations().try_into()?;
        drop(pool);
        let pieces = self.cut.as_ref().unwrap_or(payloads);
        let parts = pieces.count() / payloads.count();
        let mut model = Modelled::new(pieces);
        let kernel = Course::run(&mut model, pieces.count(), objects * parts, seed)?;
        let zram = options.zram.then(|| self.zram(&kernel, objects, seed));
        Ok(Run {
            file: self.file.name().to_owned(),
            page_size: self.file.page_size(),
            codec: options.codec.to_string(),
            seed,
            sizes: options.sizes,
            payload_share: payloads.share(),
            pool: course,
            stations,
            kernel,
            zram,
            seconds: start.elapsed().as_secs_f64(),
        })
    }
}

impl Input {
    /// The kernel's own figures for the same course; its zspages are as many as in the `model`.
    #[cfg(target_os = "linux")]
    fn zram(&self, model: &Course, objects: usize, seed: u64) -> Result<Course, String> {
        let line = |error: &dyn std::fmt::Display| error.to_string();
        let mut zram = Zram::new(&self.file, objects).map_err(|error| line(&error))?;
        let course = Course::run(&mut zram, self.payloads.count(), objects, seed);
        let mut course = course.map_err(|error| line(&error))?;
        for (own, model) in [
            (&mut course.fill, &model.fill),
            (&mut course.churned, &model.churned),
            (&mut course.compacted, &model.compacted),
        ] {
            own.metadata_bytes += model.metadata_bytes - model.objects * HANDLE;
        }
        Ok(course)
    }

    #[cfg(not(target_os = "linux"))]
    fn zram(&self, _: &Course, _: usize, _: u64) -> Result<Course, String> {
        Err("zram is Linux's".into())
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for path in &options.paths {
        for path in files(path)? {
            let input = Input::new(PageFile::read(&path, options.page_size)?, options.codec)?;
            let once = [input.payloads.count()];
            let objects = if options.objects.is_empty() { &once[..] } else { &options.objects };
            for (objects, seed) in objects
                .iter()
                .flat_map(|objects| options.seeds.iter().map(move |seed| (objects, seed)))
            {
                let run = input.run(options, *objects, *seed)?;
                if let Some(Err(why)) = &run.zram {
                    eprintln!("density: no figure of the kernel's own: {why}");
                }
                if options.json {
                    println!("{}", run.json());
                }
                rows.push(run.row());
            }
        }
    }
    if options.table {
        println!("{TABLE_HEAD}");
        rows.iter().for_each(|row| println!("{row}"));
    }
    Ok(())
}

fn main() -> ExitCode {
    program::run("density", USAGE, options(), run)
}
