//! What the programs of this package have in common: how they start and how they end.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

use std::process::ExitCode;

use crate::packing::Failure;

/// Runs the program `name` with the options that were parsed, or prints its usage where there are
/// none. An error is one line, and exit code 2.
pub fn run<O>(
    name: &str,
    usage: &str,
    options: Result<Option<O>, Failure>,
    program: impl FnOnce(&O) -> Result<(), Failure>,
) -> ExitCode {
    let done = options.and_then(|options| match options {
        Some(options) => program(&options),
        None => {
            print!("{usage}");
            Ok(())
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::from(2)
        }
    }
}
