//! The laboratory of eviction policies: traces played at equal numbers of equal entries, which have no bytes.
//!
//! ```text
//! options -> run    -> contestants -> arc, peers      optimum        -> table, picture
//!            choose -> field                           (of both)
//!            trace  -> made
//! ```
//! What differs here is the policy and nothing else: no codec, no memory, no time. Whether a cache holds more
//! entries in the same memory is for `versus` to say.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

mod arc;
mod choose;
mod contestants;
mod made;
mod optimum;
mod options;
#[cfg(feature = "peers")]
mod peers;
mod picture;
mod run;
mod table;
mod trace;

use std::process::ExitCode;

use benches::program;

use crate::options::Task;

fn main() -> ExitCode {
    program::run("policies", options::USAGE, options::parse(), |options| match options.task {
        Task::Run => run::run(options),
        Task::Choose => choose::run(options),
    })
}
