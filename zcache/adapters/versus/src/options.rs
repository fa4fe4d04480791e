//! The command line of a program that prints a table.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use crate::codec::is_codec;
use crate::rows::Kind;

/// What the user wants.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) rows: Kind,
    pub(crate) bytes: u64,
    /// Percents of the database's file.
    pub(crate) memory: Vec<f64>,
    pub(crate) codecs: Vec<String>,
    pub(crate) cost: Option<Duration>,
    pub(crate) requests: u64,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) markdown: Option<PathBuf>,
    /// The measurement to make in this process: one of the others that this program starts.
    pub(crate) child: Option<String>,
}

pub(crate) const USAGE: &str = "\
--rows KIND        orders (default), or random: rows that do not compress
--size SIZE        bytes of rows: 128MiB
--memory LIST      percents of the database's file: 10,25,50
--codecs LIST      lz4, zstd:1 to zstd:19, and auto, which finds its own: lz4,zstd:3,auto
--read-cost TIME   what a read costs: 100us, 10ms
--requests N       requests that are measured, after as many to fill the caches
--directory DIR    where the database is built and removed again: beside this program
--json FILE        what was measured
--markdown FILE    the table that is printed";

fn number(text: &str, units: &[(&str, f64)]) -> Result<f64, String> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(at);
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    match (digits.parse::<f64>(), factor) {
        (Ok(number), Some(factor)) if number > 0.0 => Ok(number * factor),
        _ => {
            let known: Vec<_> = units.iter().map(|(name, _)| *name).collect();
            Err(format!("{text:?}: a number is wanted, and one of the units {known:?}"))
        }
    }
}

fn list<T>(text: &str, item: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(item).collect()
}

impl Options {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rows: Kind::Orders,
            bytes: 128 << 20,
            memory: vec![10.0, 25.0, 50.0],
            codecs: vec!["lz4".into(), "zstd:3".into(), "auto".into()],
            cost: None,
            requests: 300_000,
            directory: None,
            json: None,
            markdown: None,
            child: None,
        };
        let mut parser = Parser::from_iter(arguments);
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            let Arg::Long(name) = argument else { return Err(argument.unexpected().to_string()) };
            let name = name.to_string();
            if name == "help" {
                return Err(String::new());
            }
            let mut value = || {
                let value = parser.value().and_then(|value| value.string());
                value.map_err(|error| error.to_string())
            };
            match &*name {
                "rows" => {
                    options.rows = match &*value()? {
                        "orders" => Kind::Orders,
                        "random" => Kind::Random,
                        other => return Err(format!("{other:?}: rows are orders or random")),
                    }
                }
                "size" => {
                    let units = [("MiB", f64::from(1 << 20)), ("GiB", f64::from(1 << 30))];
                    options.bytes = number(&value()?, &units)? as u64;
                }
                "memory" => {
                    let percent = |text: &str| {
                        let percent = number(text, &[("", 1.0)])?;
                        let fits = (1.0..=200.0).contains(&percent);
                        fits.then_some(percent).ok_or_else(|| format!("{text:?}: 1 to 200 percent"))
                    };
                    options.memory = list(&value()?, percent)?;
                }
                "codecs" => {
                    let codec = |text: &str| {
                        let known = is_codec(text).then(|| text.to_owned());
                        known.ok_or_else(|| {
                            format!("{text:?}: codecs are lz4, zstd:1 to zstd:19 and auto")
                        })
                    };
                    options.codecs = list(&value()?, codec)?;
                }
                "read-cost" => {
                    let micros = number(&value()?, &[("us", 1.0), ("ms", 1000.0)])?;
                    options.cost = Some(Duration::from_secs_f64(micros / 1e6));
                }
                "requests" => {
                    let requests = number(&value()?, &[("", 1.0)])?;
                    options.requests = (requests as u64).max(1000);
                }
                "directory" => options.directory = Some(value()?.into()),
                "json" => options.json = Some(value()?.into()),
                "markdown" => options.markdown = Some(value()?.into()),
                "child" => options.child = Some(value()?),
                _ => return Err(format!("--{name} is not known")),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(std::iter::once("program").chain(line.split_whitespace()).map(String::from))
    }

    #[test]
    fn bad_input_gets_a_clear_error() {
        let options = parse("--size 64MiB --memory 5,10 --read-cost 2ms --codecs zstd:1").unwrap();
        assert_eq!((options.bytes, options.memory), (64 << 20, vec![5.0, 10.0]));
        assert_eq!(options.cost.unwrap().as_micros(), 2000);
        let bad = ["--size 64", "--memory 0", "--memory a", "--codecs gzip", "--codecs zstd:40"];
        for line in bad.into_iter().chain(["--read-cost 7", "--what", "file", "--size"]) {
            assert!(!parse(line).unwrap_err().is_empty(), "{line}");
        }
    }
}
