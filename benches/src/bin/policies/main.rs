//! The laboratory of eviction policies: traces played at equal numbers of equal entries, which have
//! no bytes.
//!
//! ```text
//! options -> run    -> contestants -> arc             optimum        -> table
//!            choose -> run
//!            trace  -> made
//! ```
//! What differs here is the policy and nothing else: no codec, no memory, no time. Whether a cache
//! holds more entries in the same memory is for `versus` to say.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

mod arc;
mod choose;
mod contestants;
mod made;
mod optimum;
mod options;
mod played;
mod run;
mod table;
mod trace;

use std::process::ExitCode;

use benches::arguments;

use crate::options::{Options, Task};

fn main() -> ExitCode {
    arguments::run(|options: &Options| match options.task {
        None => run::run(options),
        Some(Task::Choose) => choose::run(options),
    })
}
