//! How the programs of this package read their command lines, start and end.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use ::tests::corpus::{self, PageFile};
use clap::Parser;

/// What went wrong, as one line for the user.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Runs a program with the options of its command line. An error is one line, and exit code 2.
pub fn run<O: Parser>(program: impl FnOnce(&O) -> Result<(), Failure>) -> ExitCode {
    let done = match O::try_parse() {
        Ok(options) => program(&options),
        Err(help) if !help.use_stderr() => {
            print!("{help}");
            Ok(())
        }
        Err(error) => Err(line(&error.to_string()).into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", O::command().get_name());
            ExitCode::from(2)
        }
    }
}

/// The first paragraph of an error of the parser's, on one line.
fn line(error: &str) -> String {
    let lines = error.lines().take_while(|line| !line.is_empty()).map(str::trim);
    lines.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_owned()
}

/// A number that is followed by one of these units, or by none.
fn scaled<N: FromStr>(text: &str, units: &[(&str, u64)]) -> Option<(N, u64)> {
    let unit = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let (number, unit) = unit.unwrap_or((text, 1));
    Some((number.parse().ok()?, unit))
}

/// A number of bytes: `123`, `256KiB`, `16MiB`, `1GiB`.
///
/// # Errors
/// It is none, or 0.
pub fn bytes(text: &str) -> Result<u64, String> {
    let scaled = scaled(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)]);
    let bytes = scaled.and_then(|(number, unit): (u64, u64)| number.checked_mul(unit));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| format!("`{text}` is no number of bytes"))
}

/// A count: `300`, `20k`, `2M`.
///
/// # Errors
/// It is none, or not from 1 to 2^30.
pub fn count(text: &str) -> Result<usize, String> {
    let scaled = scaled(text, &[("k", 1000), ("M", 1_000_000)]);
    let count = scaled.and_then(|(number, unit): (usize, u64)| number.checked_mul(unit as usize));
    let count = count.filter(|count| (1..=1 << 30).contains(count));
    count.ok_or_else(|| format!("`{text}` is no count from 1 to 2^30"))
}

/// A time: `20us`, `1ms`, `0.5s`, `100ns`.
///
/// # Errors
/// It is none, or below 0.
pub fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
    let scaled = scaled(text, &units).filter(|_| text.ends_with('s'));
    let seconds = scaled.map(|(number, unit): (f64, u64)| number * unit as f64 / 1e9);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| format!("`{text}` is no time: 20us is one"))
}

/// A percentage.
///
/// # Errors
/// It is none, or not above 0 and at most 1000.
pub fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| *percent > 0.0 && *percent <= 1000.0);
    percent.ok_or_else(|| format!("`{text}` is no percentage above 0 and at most 1000"))
}

/// The page file at `path`, those of the directory at `path`, or the sample.
///
/// # Errors
/// One line that names the file: it cannot be read, or does not say how long its pages are.
pub fn page_files(path: Option<&Path>) -> Result<Vec<PageFile>, Failure> {
    let Some(path) = path else { return Ok(vec![corpus::sample()]) };
    let read = |path: &std::path::PathBuf| Ok(PageFile::read(path, None)?);
    corpus::files(path)?.iter().map(read).collect()
}

/// The word for a bar that a figure reaches, or does not.
#[must_use]
pub const fn met(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        assert_eq!(["123", "16MiB"].map(|text| bytes(text).unwrap()), [123, 16 << 20]);
        assert_eq!(["300", "20k", "2M"].map(|text| count(text).unwrap()), [300, 20_000, 2_000_000]);
        let times = ["5us", "1ms", "0.5s", "20ns"].map(|text| duration(text).unwrap());
        assert_eq!(times, [5_000, 1_000_000, 500_000_000, 20].map(Duration::from_nanos));
        for text in ["", "0", "x", "1.5k", "1K", "-1us", "99999999999999GiB", "9999M"] {
            assert!(bytes(text).is_err() && count(text).is_err(), "{text}");
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(percent("0").is_err() && percent("x").is_err() && percent("25").is_ok());
    }

    #[test]
    fn an_error_of_the_parser_is_one_line() {
        #[derive(Debug, Parser)]
        #[command(name = "test")]
        struct Options {
            #[arg(long, required = true, value_delimiter = ',', value_parser = count)]
            counts: Vec<usize>,
            #[arg(long, default_value = "1,2k", value_delimiter = ',', value_parser = count)]
            more: Vec<usize>,
        }
        let told = |text: &[&str]| line(&Options::try_parse_from(text).unwrap_err().to_string());
        for text in [&["test"][..], &["test", "--counts", "1,x"], &["test", "--frob"]] {
            assert_eq!(told(text).lines().count(), 1, "{}", told(text));
        }
        let options = Options::try_parse_from(["test", "--counts", "3,4"]).unwrap();
        assert_eq!((options.counts, options.more), (vec![3, 4], vec![1, 2000]));
    }
}
