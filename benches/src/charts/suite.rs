//! The rows of a suite, as they are read. What a row does not say is absent, never 0.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Deserializer};

use crate::packing::Failure;

/// A suite of measurements.
#[derive(Debug, Clone, Deserialize)]
pub struct Suite {
    /// `suite`, always.
    pub kind: String,
    /// The day of the measurement.
    pub date: Option<String>,
    /// Where it was made.
    #[serde(default, deserialize_with = "or_none")]
    pub machine: Machine,
    /// Versions of everything that took part, by name.
    #[serde(default, deserialize_with = "or_none")]
    pub versions: BTreeMap<String, Option<String>>,
    /// Whether it was the long form.
    pub full: Option<bool>,
    /// One for each run of one cache over one trace.
    #[serde(default, deserialize_with = "or_none")]
    pub rows: Vec<Run>,
    /// Payload per byte held, by population.
    #[serde(default, deserialize_with = "or_none")]
    pub density: Vec<Density>,
    /// Hits by threads.
    #[serde(default, deserialize_with = "or_none")]
    pub scaling: Vec<Scaling>,
    /// What operations cost, all caches in turns.
    #[serde(default, deserialize_with = "or_none")]
    pub cost: Vec<Cost>,
    /// How long single operations take, all caches in turns.
    #[serde(default, deserialize_with = "or_none")]
    pub tails: Vec<Tails>,
}

/// The machine of a measurement.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Machine {
    /// Its processor.
    pub cpu: Option<String>,
    /// Its cores.
    pub cores: Option<u32>,
    /// Its kernel.
    pub kernel: Option<String>,
}

/// One cache over one trace.
#[derive(Debug, Clone, Deserialize)]
pub struct Run {
    /// The access trace.
    pub trace: String,
    /// The page file.
    pub pages: String,
    /// Bytes of a page.
    pub page_bytes: Option<f64>,
    /// The budget in percent of the compressed data.
    pub percent: Option<f64>,
    /// The cache.
    pub cache: String,
    /// Its eviction policy.
    pub policy: Option<String>,
    /// What compresses the values.
    pub codec: Option<String>,
    /// The process's allocator.
    pub allocator: Option<String>,
    /// `compressed` or `plain`.
    pub values: Option<String>,
    /// Pages held per MiB of resident memory.
    pub pages_per_mib: Option<f64>,
    /// Hits by requests.
    pub hit_ratio: Option<f64>,
    /// Nanoseconds of a hit, one thread.
    pub hit_ns: Option<f64>,
    /// Nanoseconds the bare codec takes to decode such a page.
    pub decode_ns: Option<f64>,
    /// Operations per second when a miss costs this much.
    #[serde(default, deserialize_with = "or_none")]
    pub effective: Vec<Effective>,
    /// Set where the trace was put together from phases.
    pub phases: Option<String>,
}

/// Operations per second at one miss cost.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Effective {
    /// Microseconds that a miss costs.
    pub miss_us: f64,
    /// What is left of the throughput.
    pub ops_per_second: Option<f64>,
}

/// Payload per byte held at one population.
#[derive(Debug, Clone, Deserialize)]
pub struct Density {
    /// The page file.
    pub pages: String,
    /// Objects stored.
    pub objects: f64,
    /// The pool's.
    pub zcache: Option<f64>,
    /// That of the kernel's rules.
    pub kernel: Option<f64>,
}

/// Hits of one cache by one number of threads.
#[derive(Debug, Clone, Deserialize)]
pub struct Scaling {
    /// The cache.
    pub cache: String,
    /// Threads that read at once.
    pub threads: f64,
    /// Hits of all of them.
    pub hits_per_second: Option<f64>,
}

/// Figures by name.
pub type Figures = BTreeMap<String, Option<f64>>;

/// A setting in which all caches were timed, and what identifies it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Setting {
    /// The operation.
    pub what: String,
    /// Entries of the caches, where they hold all keys.
    pub keys: Option<f64>,
    /// Bytes that zcache had.
    pub capacity_bytes: Option<f64>,
    /// Threads at once.
    pub threads: f64,
    /// The page file.
    pub pages: String,
    /// Bytes of a page.
    pub page_bytes: f64,
}

/// What an operation of one cache costs.
#[derive(Debug, Clone, Deserialize)]
pub struct Cost {
    /// Where.
    #[serde(flatten)]
    pub setting: Setting,
    /// The cache.
    pub cache: String,
    /// Nanoseconds of CPU time, of the tenth part of all windows that was the cheapest.
    pub cpu_p10_ns: Option<f64>,
    /// That time divided by the yardstick's.
    pub p10_ratio: Option<f64>,
    /// The ratio of medians.
    pub p50_ratio: Option<f64>,
}

/// How long operations of one cache take.
#[derive(Debug, Clone, Deserialize)]
pub struct Tails {
    /// Where.
    #[serde(flatten)]
    pub setting: Setting,
    /// The cache.
    pub cache: String,
    /// Nanoseconds by the clock, by the names of quantiles.
    pub clock_ns: Figures,
    /// Nanoseconds of CPU time, by the names of quantiles.
    pub cpu_ns: Figures,
    /// Times by the clock, divided by the yardstick's.
    pub clock_ratio: Figures,
    /// CPU times, divided by the yardstick's.
    pub cpu_ratio: Figures,
}

/// A list of nothing where there is null.
fn or_none<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Suite {
    /// Reads the suite in the file at `path`.
    ///
    /// # Errors
    /// One line that names the file: it cannot be read, is not JSON, or holds no suite.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        Self::parse(&text).map_err(|error| format!("{name}: {error}").into())
    }

    /// The suite that `text` holds.
    ///
    /// # Errors
    /// One line: it is not JSON, or no suite.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let suite: Self = serde_json::from_str(text)?;
        if suite.kind != "suite" {
            return Err(format!("`{}` rows, wanted is a suite", suite.kind).into());
        }
        Ok(suite)
    }

    /// The runs that can be compared: those over a trace as it is.
    pub fn plain_runs(&self) -> impl Iterator<Item = &Run> {
        self.rows.iter().filter(|run| run.phases.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_null_or_left_out_is_absent() {
        let text = r#"{"kind":"suite","rows":[{"trace":"t","pages":"p","cache":"c","hit_ns":null,
            "effective":[{"miss_us":0,"ops_per_second":null}],"unheard_of":1}],
            "machine":null,"versions":null,"scaling":null}"#;
        let suite = Suite::parse(text).expect("a suite");
        let run = &suite.rows[0];
        assert_eq!((run.hit_ns, run.hit_ratio), (None, None));
        assert_eq!(run.effective[0].ops_per_second, None);
        assert!(suite.density.is_empty() && suite.machine.cpu.is_none());
    }

    #[test]
    fn what_is_no_suite_is_an_error_of_one_line() {
        for text in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"kind":"run","trace":"t"}"#,
            r#"{"kind":"suite","rows":[{"trace":"t"}]}"#,
            r#"{"kind":"suite","rows":[{"trace":"t","pages":"p","cache":"c","hit_ns":"12"}]}"#,
        ] {
            let error = Suite::parse(text).expect_err(text).to_string();
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
