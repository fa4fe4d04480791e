//! One measurement, in a process of its own: what a database does with so much memory.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::load::{Load, Request};
use crate::reads::Reads;
use crate::rows::Rows;

/// A cache beside the database's own.
#[derive(Debug, Clone)]
pub struct Beside {
    /// Its codec: `lz4`, `zstd:3`, ...
    pub codec: String,
    /// Its capacity in bytes.
    pub bytes: usize,
}

/// How a database is opened.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where it lies.
    pub path: PathBuf,
    /// Which of its own caches it has.
    pub own_kind: String,
    /// Bytes of its own cache.
    pub own: usize,
    /// The cache of this project, if there is one.
    pub beside: Option<Beside>,
    /// What a read is told to cost.
    pub cost: Duration,
}

/// A database, with this project's adapter or without.
pub trait Subject: Sized {
    /// Its name.
    const NAME: &'static str;
    /// Its own caches.
    const OWN: &'static [&'static str];
    /// What its own cache has at least, in bytes, beside zcache.
    const LEAST_OWN: usize;
    /// The part of the memory that its own cache is recommended to have beside zcache.
    const OWN_SHARE: f64;
    /// Whether its own cache stands before zcache. If not, zcache takes its place.
    const IN_FRONT: bool;
    /// What a read costs, unless the command line says something else.
    const COST: Duration;

    /// Writes the rows.
    ///
    /// # Errors
    /// The database's.
    fn build(path: &Path, rows: &Rows, progress: &dyn Fn(u64)) -> Result<(), Box<dyn Error>>;

    /// Opens it for reading.
    ///
    /// # Errors
    /// The database's.
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>>;

    /// The bytes of a row.
    ///
    /// # Errors
    /// The database's, or the row is not there.
    fn get(&self, row: u64) -> Result<usize, Box<dyn Error>>;

    /// The bytes of so many rows from one on.
    ///
    /// # Errors
    /// The database's.
    fn scan(&self, row: u64, rows: usize) -> Result<usize, Box<dyn Error>>;

    /// Reads that reach the store.
    fn reads(&self) -> &Reads;

    /// The ratio by which zcache's pages are compressed, 0 without it.
    fn ratio(&self) -> f64;
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    /// Bytes that the process grew by.
    pub(crate) resident: f64,
    /// Reads that reached the store, an operation.
    pub(crate) reads: f64,
    /// CPU time of an operation, in microseconds.
    pub(crate) cpu: f64,
    /// Time of an operation with a store that takes its time, in microseconds.
    pub(crate) slow: f64,
    pub(crate) ratio: f64,
}

impl Measured {
    pub(crate) fn json(&self) -> Value {
        json!({"resident": self.resident, "reads": self.reads, "cpu_us": self.cpu,
            "measured_us": self.slow, "ratio": self.ratio})
    }

    pub(crate) fn of(json: &Value) -> Option<Self> {
        let field = |name: &str| json.get(name)?.as_f64();
        Some(Self {
            resident: field("resident")?,
            reads: field("reads")?,
            cpu: field("cpu_us")?,
            slow: field("measured_us")?,
            ratio: field("ratio")?,
        })
    }
}

/// Bytes of memory that this process has.
fn resident() -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|error| format!("resident memory is read from /proc, as Linux has it: {error}"))?;
    let lines = status.lines().filter(|line| {
        // Pages of mapped files belong to the kernel's cache.
        line.starts_with("RssAnon:")
    });
    let kib = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    Ok(kib.sum::<f64>() * 1024.0)
}

/// CPU time of all threads, in microseconds, by ticks of 10 ms.
fn cpu() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks * 10_000.0)
}

fn play<S: Subject>(subject: &S, load: &mut Load, requests: u64) -> Result<(), Box<dyn Error>> {
    let mut bytes = 0;
    for _ in 0..requests {
        bytes += match load.next() {
            Request::Row(row) => subject.get(row)?,
            Request::Scan(row, rows) => subject.scan(row, rows)?,
        };
    }
    std::hint::black_box(bytes);
    Ok(())
}

/// Microseconds of an operation with a store that takes its time: the median of some windows,
/// because the machine has other things to do.
fn slow<S: Subject>(subject: &S, load: &mut Load, requests: u64) -> Result<f64, Box<dyn Error>> {
    const WINDOWS: u64 = 9;
    let requests = (requests / WINDOWS).max(1);
    let mut windows = Vec::new();
    for _ in 0..WINDOWS {
        let start = Instant::now();
        play(subject, load, requests)?;
        windows.push(start.elapsed().as_secs_f64() * 1e6 / requests as f64);
    }
    windows.sort_by(f64::total_cmp);
    Ok(windows[windows.len() / 2])
}

/// Opens the database, plays the load until the caches are full, and measures. Without requests to
/// measure only resident memory is told.
pub(crate) fn measure<S: Subject>(
    setup: &Setup,
    rows: u64,
    warming: u64,
    requests: u64,
) -> Result<Measured, Box<dyn Error>> {
    let mut load = Load::new(rows, 1);
    let before = resident()?;
    let subject = S::open(setup)?;
    play(&subject, &mut load, warming)?;
    let mut measured = Measured { resident: resident()? - before, ..Measured::default() };
    if requests > 0 {
        let (reads, start) = (subject.reads().count(), cpu()?);
        play(&subject, &mut load, requests)?;
        measured.cpu = (cpu()? - start) / requests as f64;
        measured.reads = (subject.reads().count() - reads) as f64 / requests as f64;
        measured.resident = measured.resident.max(resident()? - before);
        subject.reads().cost(setup.cost);
        let in_time = (4.0 / setup.cost.as_secs_f64()) as u64;
        measured.slow = slow(&subject, &mut load, (requests / 20).min(in_time))?;
        measured.ratio = subject.ratio();
    }
    Ok(measured)
}
