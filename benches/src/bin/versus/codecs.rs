//! Codecs beside each other, with and without decoded pages, and the cache that finds its own.
//!
//! Each cache replays the whole trace, window by window and in turns. What a request costs is
//! computed from the thread's CPU time, so that no miss has to be waited for:
//! ```text
//! (CPU time of look-ups and inserts + misses x told cost of a miss) / requests
//! ```

use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use benches::arguments::{Failure, count, duration};
use benches::codec::Codec;
use benches::race::thread_nanoseconds;
use zcache::{Cache, HotShare};

use crate::budget::{Budget, dictionary_bytes};
use crate::caches;
use crate::contestant::Contestant;
use crate::load::{self, Source};
use crate::replay::verify;
use crate::spec::{Kind, Spec};
use crate::stage::{Stage, WRITE};

/// Compares fixed codecs, with and without decoded pages, with a cache that finds its codec.
///
/// Prints what a request costs, by CPU time and misses charged and not waited for. The dictionary
/// is trained beforehand, at no cost.
#[derive(Debug, clap::Parser)]
pub(crate) struct Codecs {
    /// Traces
    #[arg(long = "trace", value_delimiter = ',', default_value = TRACES)]
    traces: Vec<String>,
    /// Bytes or MiB, or, with %, of the LZ4 size of all pages of the trace
    #[arg(long = "memory", value_delimiter = ',', default_value = "10%,25%")]
    memories: Vec<Budget>,
    /// Costs of a miss, in ns, us, ms or s
    #[arg(
        long = "miss",
        value_delimiter = ',',
        default_value = "10us,100us,1ms,10ms",
        value_parser = duration
    )]
    misses: Vec<Duration>,
    /// The first N of each trace
    #[arg(long, value_parser = count)]
    requests: Option<usize>,
    /// Only LZ4, and the cache that finds its codec
    #[arg(long)]
    alone: bool,
}

const TRACES: &str =
    "sqlite-wordnet-4k,pg-pgbench-8k,pg-gitlog-8k,pg-debpkgs-8k,innodb-debpkgs-16k";
/// The codecs that a user would choose from.
const FIXED: [Codec; 4] =
    [Codec::Lz4, Codec::Zstd(1, false), Codec::Zstd(3, false), Codec::Zstd(3, true)];
/// Windows of a trace: some ten thousand requests each.
const WINDOWS: usize = 32;
/// One hit in so many is compared with the file.
const VERIFIED: usize = 4096;

/// Hashes alike in every process: which keys share a slot of the hot tier is then no matter of
/// luck.
type Hasher = BuildHasherDefault<DefaultHasher>;

/// A cache, and what it is told.
struct Contender {
    /// `None`: it finds its own.
    codec: Option<Codec>,
    share: HotShare,
    miss: Option<Duration>,
    cache: Cache<u64, Hasher>,
    sum: Sum,
}

/// What a cache's requests came to.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    requests: u64,
    misses: u64,
    nanoseconds: u64,
}

impl Sum {
    /// Microseconds of CPU time a request.
    fn cpu(&self) -> f64 {
        self.nanoseconds as f64 / 1e3 / self.requests.max(1) as f64
    }

    /// Microseconds that a request costs where a miss costs `miss`.
    fn cost(&self, miss: Duration) -> f64 {
        let missed = self.misses as f64 / self.requests.max(1) as f64;
        self.cpu() + missed * miss.as_secs_f64() * 1e6
    }
}

impl Contender {
    fn new(
        (codec, share): (Option<Codec>, HotShare),
        miss: Option<Duration>,
        capacity: u64,
        stage: &Stage,
    ) -> Result<Self, Failure> {
        let spec = Spec::new(Kind::Zcache, codec.unwrap_or(Codec::Lz4));
        let config = caches::config(spec, capacity, stage)?.hot(share);
        let config = if codec.is_none() { config.auto_codec() } else { config };
        let config = match miss {
            Some(miss) => config.miss_cost(miss),
            None => config,
        };
        let cache = Cache::with_hasher(config, Hasher::default())?;
        Ok(Self { codec, share, miss, cache, sum: Sum::default() })
    }

    fn replay(&mut self, stage: &Stage, requests: &[u32], to: &mut [u8]) -> Result<(), Failure> {
        let start = thread_nanoseconds();
        for (at, request) in requests.iter().enumerate() {
            let number = request & !WRITE;
            let key = u64::from(number);
            let write = request & WRITE != 0;
            self.sum.requests += 1;
            if write || !Contestant::get(&self.cache, key, to) {
                self.sum.misses += u64::from(!write);
                Contestant::insert(&self.cache, key, stage.page(number));
            } else if at % VERIFIED == 0 {
                verify(number, to, stage.page(number))?;
            }
        }
        self.sum.nanoseconds += thread_nanoseconds() - start;
        Ok(())
    }
}

/// One cache of each fixed codec without decoded pages, and one a cost of a miss of all that adapt.
fn contenders(options: &Codecs, capacity: u64, stage: &Stage) -> Result<Vec<Contender>, Failure> {
    let fixed = if options.alone { &FIXED[..1] } else { &FIXED[..] };
    let fixed = || fixed.iter().copied().map(Some);
    let mut all = Vec::new();
    for codec in fixed() {
        all.push(Contender::new((codec, HotShare::Off), None, capacity, stage)?);
    }
    for miss in &options.misses {
        for codec in fixed().chain([None]) {
            all.push(Contender::new((codec, HotShare::Auto), Some(*miss), capacity, stage)?);
        }
    }
    Ok(all)
}

/// Runs all traces, and prints a table each.
#[allow(clippy::print_stdout, reason = "a program's answers")]
pub(crate) fn run(options: &Codecs) -> Result<(), Failure> {
    for trace in &options.traces {
        let source =
            Source { trace: trace.clone(), requests: options.requests, ..Source::default() };
        let mut stage = load::stage(&source)?;
        for memory in &options.memories {
            let capacity = memory.of(stage.lz4_bytes);
            stage.dictionary = load::dictionary(&stage, dictionary_bytes(capacity))?;
            let mut all = contenders(options, capacity, &stage)?;
            let mut to = vec![0; stage.page_size];
            let every = stage.requests.len().div_ceil(WINDOWS);
            for (at, requests) in stage.requests.chunks(every).enumerate() {
                let many = all.len();
                for turn in 0..many {
                    all[(turn + at) % many].replay(&stage, requests, &mut to)?;
                }
            }
            for miss in &options.misses {
                println!("{}", table(&stage.trace, capacity, *miss, &all));
            }
        }
    }
    Ok(())
}

fn table(trace: &str, capacity: u64, miss: Duration, all: &[Contender]) -> String {
    let rows: Vec<&Contender> =
        all.iter().filter(|row| row.miss.is_none_or(|told| told == miss)).collect();
    let cost = |row: &&&Contender| row.sum.cost(miss);
    let fixed = rows.iter().filter(|row| row.codec.is_some());
    let best = fixed.min_by(|a, b| cost(a).total_cmp(&cost(b))).map_or(0.0, |row| cost(&row));
    let lz4 = rows.first().map_or(0.0, |row| cost(&row));
    let mut lines = String::new();
    let mib = capacity as f64 / f64::from(1 << 20);
    let _ = writeln!(lines, "{trace}, {mib:.2} MiB, a miss costs {miss:?}");
    for row in &rows {
        let share = if row.share == HotShare::Off { "none" } else { "auto" };
        let misses = 100.0 * row.sum.misses as f64 / row.sum.requests.max(1) as f64;
        let _ = writeln!(
            lines,
            "  {:<7} {share:<5} {misses:>7.2} % misses {:>9.3} us CPU {:>10.3} us a request \
             {:>6.3} {:>6.3}",
            row.codec.map_or_else(|| "auto".to_owned(), |codec| codec.to_string()),
            row.sum.cpu(),
            cost(&row),
            cost(&row) / best,
            cost(&row) / lz4,
        );
        if row.codec.is_none() {
            let stats = row.cache.stats();
            for (what, text) in stats.to_string().lines().filter_map(|line| line.split_once(' ')) {
                if ["codec", "share", "cold"].contains(&what) {
                    let _ = writeln!(lines, "    {what} {}", text.trim());
                }
            }
        }
    }
    lines
}
