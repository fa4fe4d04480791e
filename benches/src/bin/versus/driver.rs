//! The processes of a comparison: started, and given equal memory.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use benches::arguments::Failure;
use serde_json::Value;

use crate::spec::Spec;

/// How far from equal memory a run may be.
const EXACT: f64 = 0.01;
/// Runs of a calibration at most.
const RUNS: usize = 5;

/// How the other allocators are told to keep little that is free: jemalloc gives back pages that
/// were free for 0.1 s (its own default is 10), mimalloc after 0.1 s too.
const ENVIRONMENT: [(&str, &str); 2] =
    [("_RJEM_MALLOC_CONF", "dirty_decay_ms:100,muzzy_decay_ms:0"), ("MIMALLOC_PURGE_DELAY", "100")];

/// What a replay runs under.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) executable: PathBuf,
    pub(crate) stage: PathBuf,
    pub(crate) verify: bool,
}

pub(crate) fn resident(row: &Value) -> u64 {
    row["resident_bytes"].as_u64().unwrap_or(0)
}

/// Replays the trace with a cache that is told to take `configured` bytes.
pub(crate) fn configured(ground: &Ground, spec: Spec, configured: u64) -> Result<Value, Failure> {
    let mut command = Command::new(&ground.executable);
    command.args(["child", &spec.to_string(), &configured.to_string()]).arg(&ground.stage);
    command.args(ground.verify.then_some("--verify")).envs(ENVIRONMENT).stdin(Stdio::null());
    let output = command.output()?;
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout)?);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // An error is one line; of a panic the second says what it was.
    let line = said.lines().find_map(|line| line.strip_prefix("versus: "));
    let line = line.or_else(|| said.lines().filter(|line| !line.is_empty()).nth(1));
    Err(format!("{spec}: {}", line.unwrap_or("it ended without a word")).into())
}

/// What a cache is told for each byte that it is to take, as a first guess.
pub(crate) const GUESS: f64 = 0.85;

/// Finds what a cache is to be told so that its resident growth is `target`: by the secant through
/// what was seen, from a guess. The closest run stands.
pub(crate) fn calibrated(
    ground: &Ground,
    spec: Spec,
    target: u64,
    guess: f64,
) -> Result<Value, Failure> {
    let wanted = target as f64;
    let mut told = wanted * guess;
    let mut seen: Vec<(f64, f64)> = Vec::new();
    let mut best: Option<(f64, Value)> = None;
    for _ in 0..RUNS {
        let row = configured(ground, spec, told as u64)?;
        let took = resident(&row) as f64;
        let off = (took / wanted - 1.0).abs();
        seen.push((told, took));
        if best.as_ref().is_none_or(|(best, _)| off < *best) {
            best = Some((off, row));
        }
        if off <= EXACT {
            break;
        }
        told = next(&seen, wanted);
    }
    best.map(|(_, row)| row).ok_or_else(|| "no run".into())
}

/// The next budget to try, after what was seen: (told, took).
fn next(seen: &[(f64, f64)], wanted: f64) -> f64 {
    let (told, took) = seen[seen.len() - 1];
    let share = wanted / took.max(1.0);
    let by_secant = seen.len().checked_sub(2).map(|before| {
        let (told_before, took_before) = seen[before];
        let slope = (took - took_before) / (told - told_before);
        told + (wanted - took) / slope
    });
    // A slope that noise made negative, flat or steep leads nowhere.
    let sane = |next: &f64| next.is_finite() && (0.5..2.0).contains(&(next / (told * share)));
    by_secant.filter(sane).unwrap_or(told * share).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secant_finds_a_budget_in_a_few_steps() {
        // What a cache takes: a fixed part, and more than it was told.
        let takes = |told: f64| 300_000.0 + 1.4 * told;
        let wanted = 8e6;
        let mut seen = vec![(6.8e6, takes(6.8e6))];
        while (seen[seen.len() - 1].1 / wanted - 1.0).abs() > EXACT {
            let told = next(&seen, wanted);
            seen.push((told, takes(told)));
        }
        assert!(seen.len() <= 3, "{seen:?}");
    }

    #[test]
    fn noise_does_not_lead_the_secant_astray() {
        let told = next(&[(100.0, 150.0), (100.1, 149.0)], 120.0);
        assert!((60.0..120.0).contains(&told), "{told}");
        assert!(next(&[(1.0, 0.0)], 10.0).is_finite());
    }
}
