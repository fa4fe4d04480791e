//! Runs loom models, and the broken twins that show what a model would notice.
//!
//! A twin runs in a process of its own that ends at the first panic. Unwinding out of a loom model
//! would run destructors outside of it, which aborts more often than not. The test panics with the
//! output of that process, so that it can expect the failure that belongs to its bug.

use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::{Plant, plant};

/// Set for the process of a twin.
const TWIN: &str = "ZPOOL_TWIN";
/// So many more preemptions than a model asks for are allowed: see `.ci/models-deep`.
const MORE: &str = "ZPOOL_MODELS_MORE";

/// Words of the stack that a scenario has, to make a whole cache on: loom's own are of 32 KiB.
const STACK: usize = (256 << 10) / size_of::<usize>();

/// What came out of the iterations of a model, and how often.
type Seen<O> = BTreeMap<O, usize>;

/// Runs `scenario` in every interleaving with at most `bound` preemptions.
fn explore<O: Ord + Send + 'static>(
    bound: Option<usize>,
    scenario: impl Fn() -> O + Send + Sync + 'static,
) -> Seen<O> {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    // Whatever the environment says: these are what `check` returns for before it is complete.
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.checkpoint_file = None;
    builder.max_branches = 20_000;
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let (counted, scenario) = (Arc::clone(&seen), Arc::new(scenario));
    builder.check(move || {
        let scenario = Arc::clone(&scenario);
        let thread = loom::thread::Builder::new().stack_size(STACK).spawn(move || scenario());
        let outcome = thread.expect("loom refuses none").join().unwrap();
        *counted.lock().unwrap().entry(outcome).or_default() += 1;
    });
    std::mem::take(&mut *seen.lock().unwrap())
}

/// Runs `scenario` in every interleaving with at most `bound` preemptions (`None`: in every one),
/// or some [`MORE`], prints their number, and returns what came out and how often.
#[allow(clippy::print_stdout, reason = "the figures are what a run of the models is read for")]
pub(crate) fn model<O: Ord + Debug + Send + 'static, F: Fn() -> O + Send + Sync + 'static>(
    bound: Option<usize>,
    scenario: F,
) -> Seen<O> {
    let start = Instant::now();
    let more = std::env::var(MORE).map_or(0, |more| more.parse().expect("a number"));
    let bound = bound.map(|bound| bound + more);
    let seen = explore(bound, scenario);
    let iterations: usize = seen.values().sum();
    let seconds = start.elapsed().as_secs_f64();
    println!("{}: bound {bound:?}, {iterations} iterations, {seconds:.1} s", type_name::<F>());
    seen.iter().for_each(|(outcome, times)| println!("  {outcome:?}: {times}"));
    assert!(iterations > 1, "nothing in this model happens at once");
    seen
}

/// Runs `scenario` with `bug` planted, and panics as it does; returns if nothing noticed the bug.
/// Finds the test that it is called from by its thread's name, so not under `--test-threads=1`.
#[allow(clippy::print_stderr, reason = "this is how the twin's process answers")]
pub(crate) fn twin<O: Ord + Send + 'static>(
    bound: Option<usize>,
    bug: Plant,
    scenario: impl Fn() -> O + Send + Sync + 'static,
) {
    if std::env::var_os(TWIN).is_some() {
        std::panic::set_hook(Box::new(|info| {
            eprintln!("{info}");
            std::process::exit(1);
        }));
        plant(Some(bug));
        explore(bound, scenario);
        std::process::exit(0);
    }
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main").expect("a thread named by its test");
    let mut process = Command::new(std::env::current_exe().unwrap());
    let ran = process.args(["--exact", test, "--include-ignored", "--nocapture"]).env(TWIN, "1");
    let output = ran.output().unwrap();
    assert!(output.status.code().is_some(), "the twin of {test} crashed: {output:?}");
    if !output.status.success() {
        panic!("{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Runs `f` on a model's world in another thread.
pub(crate) fn beside<W: 'static, R: 'static>(
    world: &Arc<W>,
    f: impl FnOnce(&W) -> R + 'static,
) -> loom::thread::JoinHandle<R> {
    let world = Arc::clone(world);
    loom::thread::spawn(move || f(&world))
}
