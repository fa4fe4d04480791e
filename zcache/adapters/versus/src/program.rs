//! The program: builds the database, gives each cache the same resident memory, measures, prints.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use serde_json::{Value, json};

use crate::child::{Beside, Measured, Setup, Subject, measure};
use crate::options::{Options, USAGE};
use crate::rows::Rows;
use crate::table::{Line, Table};

/// Resident memory may differ by this part from what was asked for.
const TOLERANCE: f64 = 0.02;

/// Times that a budget is mended.
const TRIES: usize = 6;

/// The least budget of any cache in bytes.
const LEAST: f64 = 512.0 * 1024.0;

/// Runs the program for a database, and says on the error stream what went wrong.
#[must_use]
pub fn run<S: Subject>() -> ExitCode {
    let mut errors = std::io::stderr();
    let options = match Options::parse(std::env::args()) {
        Ok(options) => options,
        Err(error) if error.is_empty() => {
            let _ = writeln!(std::io::stdout(), "{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let _ = writeln!(errors, "{error}; --help tells what there is");
            return ExitCode::from(2);
        }
    };
    let done = match &options.child {
        Some(job) => work::<S>(job),
        None => compare::<S>(&options),
    };
    match done {
        Ok(text) => {
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(errors, "{error}");
            ExitCode::FAILURE
        }
    }
}

/// A measurement in a process of its own.
#[derive(Debug, Clone)]
struct Job {
    setup: Setup,
    rows: u64,
    warming: u64,
    requests: u64,
}

impl Job {
    fn json(&self) -> Value {
        let Setup { path, own_kind, own, beside, cost } = &self.setup;
        let beside = beside.as_ref().map(|beside| json!([beside.codec, beside.bytes]));
        json!({"path": path.to_string_lossy(), "own_kind": own_kind, "own": own, "beside": beside,
            "cost_ns": cost.as_nanos() as u64, "rows": self.rows, "warming": self.warming,
            "requests": self.requests})
    }

    fn of(json: &Value) -> Option<Self> {
        let number = |name: &str| json.get(name)?.as_u64();
        let text = |name: &str| json.get(name)?.as_str().map(String::from);
        let beside = json.get("beside")?.as_array().and_then(|beside| {
            let codec = beside.first()?.as_str()?.to_owned();
            Some(Beside { codec, bytes: beside.get(1)?.as_u64()? as usize })
        });
        let setup = Setup {
            path: text("path")?.into(),
            own_kind: text("own_kind")?,
            own: number("own")? as usize,
            beside,
            cost: Duration::from_nanos(number("cost_ns")?),
        };
        let (rows, warming) = (number("rows")?, number("warming")?);
        Some(Self { setup, rows, warming, requests: number("requests")? })
    }

    /// Starts this program again for the job.
    fn run(&self) -> Result<Measured, Box<dyn Error>> {
        let program = std::env::current_exe()?;
        let output = Command::new(program).args(["--child", &self.json().to_string()]).output()?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(format!("a measurement failed, {}: {errors}", output.status).into());
        }
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        Ok(Measured::of(&answer).ok_or("a measurement without an answer")?)
    }
}

fn work<S: Subject>(job: &str) -> Result<String, Box<dyn Error>> {
    let job = Job::of(&serde_json::from_str(job)?).ok_or("--child is for this program itself")?;
    let measured = measure::<S>(&job.setup, job.rows, job.warming, job.requests)?;
    Ok(measured.json().to_string())
}

/// What is done, on the error stream.
struct Progress {
    done: usize,
    all: usize,
}

impl Progress {
    fn say(&self, what: &str) {
        let mut errors = std::io::stderr();
        let share = self.done as f64 / self.all.max(1) as f64;
        if errors.is_terminal() {
            let bar = "#".repeat((share * 30.0) as usize);
            let _ = write!(errors, "\r\x1b[K[{bar:<30}] {:3.0} %  {what}", share * 100.0);
        }
    }

    fn step(&mut self, what: &str) {
        self.say(what);
        self.done += 1;
    }

    fn end(&self) {
        if std::io::stderr().is_terminal() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// A directory that is removed in the end.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bytes_below(path: &Path) -> std::io::Result<u64> {
    let meta = std::fs::metadata(path)?;
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    std::fs::read_dir(path)?.map(|entry| bytes_below(&entry?.path())).sum()
}

/// Who has the memory.
#[derive(Debug, Clone)]
enum Side {
    Own(&'static str),
    Beside(String),
}

impl Side {
    fn all<S: Subject>(options: &Options) -> Vec<Self> {
        let own = S::OWN.iter().map(|kind| Self::Own(kind));
        own.chain(options.codecs.iter().map(|codec| Self::Beside(codec.clone()))).collect()
    }

    fn name(&self) -> String {
        match self {
            Self::Own(kind) => (*kind).to_owned(),
            Self::Beside(codec) => format!("zcache {codec}"),
        }
    }

    /// The setup in which all caches have `budget` bytes by their own account, of which `target`
    /// are to be resident.
    fn setup<S: Subject>(&self, path: &Path, budget: f64, target: f64, cost: Duration) -> Setup {
        let setup = |own_kind: &str, own: f64, beside| {
            let own_kind = own_kind.to_owned();
            Setup { path: path.to_owned(), own_kind, own: own as usize, beside, cost }
        };
        match self {
            Self::Own(kind) => setup(kind, budget, None),
            Self::Beside(codec) => {
                let own = (S::OWN_SHARE * target).max(S::LEAST_OWN as f64);
                let bytes = (budget - own).max(LEAST) as usize;
                setup(S::OWN[0], own, Some(Beside { codec: codec.clone(), bytes }))
            }
        }
    }
}

/// The job whose process has `target` bytes resident.
fn calibrated<S: Subject>(
    side: &Side,
    target: f64,
    job: &Job,
    progress: &mut Progress,
) -> Result<Job, Box<dyn Error>> {
    let mut budget = target;
    let mut job = job.clone();
    for _ in 0..TRIES {
        job.setup = side.setup::<S>(&job.setup.path, budget, target, job.setup.cost);
        progress.say(&format!("{}: looking for {:.1} MiB", side.name(), target / MIB));
        let resident = Job { requests: 0, ..job.clone() }.run()?.resident;
        if (resident / target - 1.0).abs() < TOLERANCE || budget <= LEAST {
            break;
        }
        budget = (budget + target - resident).max(LEAST);
    }
    Ok(job)
}

const MIB: f64 = (1 << 20) as f64;

fn compare<S: Subject>(options: &Options) -> Result<String, Box<dyn Error>> {
    let home = match &options.directory {
        Some(directory) => directory.clone(),
        None => std::env::current_exe()?.parent().ok_or("no directory")?.to_owned(),
    };
    let directory = Directory(home.join(format!("versus-{}-{}", S::NAME, std::process::id())));
    std::fs::create_dir_all(&directory.0)?;
    let path = directory.0.join("database");
    let rows = Rows::new(options.rows, options.bytes);
    let sides = Side::all::<S>(options);
    let all = sides.len() * (options.memory.len() + 1);
    let mut progress = Progress { done: 0, all };
    S::build(&path, &rows, &|row| {
        if row % 1024 == 0 {
            progress.say(&format!("building, row {row} of {}", rows.amount));
        }
    })?;
    let file = bytes_below(&directory.0)? as f64;
    let cost = options.cost.unwrap_or(S::COST);
    let requests = options.requests;
    let setup = sides[0].setup::<S>(&path, 0.0, 0.0, cost);
    let job = Job { setup, rows: rows.amount, warming: requests, requests };
    let (mut lines, mut notes) = (Vec::new(), Vec::new());
    for percent in &options.memory {
        let target = file * percent / 100.0;
        for side in &sides {
            // Some have no room for their least.
            let job = match calibrated::<S>(side, target, &job, &mut progress) {
                Ok(job) => job,
                Err(error) => {
                    notes.push(format!("{percent} %, {}: {error}", side.name()));
                    continue;
                }
            };
            progress.step(&format!("{}: {percent} %", side.name()));
            let measured = job.run()?;
            let is_own = matches!(side, Side::Own(_));
            lines.push(Line { percent: Some(*percent), cache: side.name(), is_own, measured });
        }
    }
    // Where everything fits the database's own cache, with a small cache beside it or without.
    for side in &sides {
        let mut job = job.clone();
        job.setup = side.setup::<S>(&path, file * 1.5, file * 1.5, cost);
        if S::IN_FRONT || matches!(side, Side::Own(_)) {
            job.setup.own = (file * 1.5) as usize;
        }
        // Such operations are short, and the last page is asked for late.
        (job.warming, job.requests) = (4 * requests, 4 * requests);
        if let (Some(beside), true) = (&mut job.setup.beside, S::IN_FRONT) {
            beside.bytes = ((file * 0.02) as usize).max(4 << 20);
        }
        progress.step(&format!("{}: everything fits", side.name()));
        let is_own = matches!(side, Side::Own(_));
        lines.push(Line { percent: None, cache: side.name(), is_own, measured: job.run()? });
    }
    progress.end();
    for note in notes {
        writeln!(std::io::stderr(), "{note}")?;
    }
    let table = Table { name: S::NAME, rows: options.rows, file, amount: rows.amount, cost, lines };
    let text = table.markdown();
    if let Some(path) = &options.markdown {
        std::fs::write(path, text.clone() + "\n")?;
    }
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{:#}\n", table.json()))?;
    }
    Ok(text)
}
