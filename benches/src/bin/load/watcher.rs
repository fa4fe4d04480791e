//! The parent: starts the child of a phase, and watches what it has resident.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use benches::arguments::Failure;
use serde_json::Value;

use crate::board::{self, Board, Resident};
use crate::field::Plan;
use crate::stage::HERD;

/// What growth may pass the capacity in force by: stacks, the allocator's own, this program.
pub(crate) const ALLOWANCE: usize = 1 << 20;
/// Bytes from which on glibc's allocator gives each block a mapping of its own. With few, it keeps
/// nothing of large blocks that are freed, and what is measured is the cache's.
const THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";
/// What each thread of a herd may add to [`ALLOWANCE`]: 64 of them were seen at 3.4 MiB in all.
const EACH: usize = 64 << 10;
/// How often resident memory is looked at.
const EVERY: Duration = Duration::from_millis(10);
/// What a child may take to read its pages, and to settle at the end, beyond what was planned.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a phase came to no good end.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Something was not as it must be.
    Violation(String),
    /// The phase could not be carried out.
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What was seen of a phase.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// What the child counted.
    pub(crate) counted: Value,
    /// Looks at its resident memory.
    pub(crate) samples: usize,
    /// The most that was resident beyond the baseline.
    pub(crate) peak: usize,
    /// The most that it was above the capacity in force; below 0 when it never was.
    pub(crate) over: i64,
    /// The most that each stage was above the capacity in force, by the stage's name.
    pub(crate) stages: Vec<(String, i64)>,
}

/// A child that is ended whatever happens.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(plan: &Plan) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--child").arg(serde_json::to_string(plan)?);
    if std::env::var_os(THRESHOLD).is_none() {
        command.env(THRESHOLD, "4096");
    }
    Ok(command)
}

/// Carries a phase out in a process of its own.
pub(crate) fn watch(plan: &Plan, board: &Board) -> Result<Seen, Ended> {
    let mut command = command(plan)?;
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut process = Process(child);
    let pid = process.0.id();
    let mut to = process.0.stdin.take().ok_or("no way to the child")?;
    let from = BufReader::new(process.0.stdout.take().ok_or("no way from the child")?);
    let (send, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        from.lines().map_while(Result::ok).for_each(|line| drop(send.send(line)));
    });
    match lines.recv_timeout(PATIENCE) {
        Ok(line) if line.starts_with("ready") => {}
        Ok(line) => return Err(Ended::Violation(format!("the child said `{line}`"))),
        Err(_) => return Err(ended(&mut process)),
    }
    let memory = Resident::of(pid)?;
    let baseline = memory.bytes()?;
    to.write_all(b"go\n")?;
    let seen = match follow(plan, board, (&memory, baseline), &lines, &mut to) {
        Ok(Some(seen)) => seen,
        Ok(None) => return Err(ended(&mut process)),
        Err(error) => return Err(error),
    };
    to.write_all(b"go\n")?;
    if !process.0.wait()?.success() {
        return Err(ended(&mut process));
    }
    drop(process);
    let _ = reader.join();
    Ok(seen)
}

/// Why a child that says nothing any more has ended. It has said so itself on the error output.
fn ended(process: &mut Process) -> Ended {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        match process.0.try_wait() {
            Ok(Some(status)) if status.code() == Some(2) => {
                return Ended::Failed("the phase could not be carried out".into());
            }
            Ok(Some(status)) => return Ended::Violation(format!("the child ended: {status}")),
            Ok(None) => std::thread::sleep(EVERY),
            Err(error) => return Ended::Failed(error.into()),
        }
    }
    Ended::Violation("the child hangs".into())
}

/// Follows the child to its end; `None` where it came too early.
fn follow(
    plan: &Plan,
    board: &Board,
    (memory, baseline): (&Resident, usize),
    lines: &Receiver<String>,
    to: &mut impl Write,
) -> Result<Option<Seen>, Ended> {
    let mut seen = Seen { over: i64::MIN, ..Seen::default() };
    let start = Instant::now();
    let mut next = start;
    seen.stages.push((String::from("start"), i64::MIN));
    let mut checking = false;
    loop {
        let before = board.limit()?;
        let Ok(now) = memory.bytes() else { return Ok(None) };
        let allowed = board::most(before, board.limit()?, plan.capacity);
        let growth = now.saturating_sub(baseline);
        let over = growth as i64 - allowed as i64;
        seen.samples += 1;
        if !checking {
            seen.peak = seen.peak.max(growth);
            seen.over = seen.over.max(over);
            if let Some((_, most)) = seen.stages.last_mut() {
                *most = over.max(*most);
            }
        }
        let (stage, _) = seen.stages.last().expect("pushed above");
        let allowance = ALLOWANCE + if stage == "Herd" { HERD * EACH } else { 0 };
        if !checking && over > allowance as i64 {
            let text =
                format!("{stage}: {growth} bytes resident, {over} above the {allowed} in force");
            return Err(Ended::Violation(text));
        }
        if start.elapsed() > plan.time + PATIENCE {
            return Err(Ended::Violation("the child does not come to an end".into()));
        }
        next = (next + EVERY).max(Instant::now());
        match lines.recv_timeout(next - Instant::now().min(next)) {
            Ok(line) => match line.split_once(' ') {
                Some(("done", counted)) => {
                    seen.counted = serde_json::from_str(counted)?;
                    break;
                }
                Some(("stage", name)) => {
                    seen.stages.push((name.to_owned(), i64::MIN));
                    checking = false;
                }
                Some(("check", _)) => {
                    checking = true;
                    to.write_all(b"go\n")?;
                }
                _ => return Err(Ended::Violation(format!("the child said `{line}`"))),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
    // So few looks see nothing.
    if (seen.samples as f64) < 5.0 * plan.time.as_secs_f64() {
        return Err(Ended::Failed(format!("{} samples are too few", seen.samples).into()));
    }
    Ok(Some(seen))
}
