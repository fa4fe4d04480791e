//! The measurements: codecs alone, then a cache under a skewed load from two threads.

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use zcache::codec::{self, Codec, Dictionary, Lz4, Zstd};
use zcache::{Cache, Config, Stats};

use crate::options::{CodecName, Failure, MOST_KEYS, Options};
use crate::pages::Pages;

/// Threads that replay.
pub(crate) const THREADS: usize = 2;
/// Pages that a codec is measured on, evenly taken.
const SAMPLE: usize = 2000;
/// One hit in this many is compared with the page it stands for.
const VERIFIED: usize = 16;
/// Bytes of a dictionary.
const DICTIONARY: usize = 64 << 10;
/// Pages without which no dictionary is trained: it would hold most of the pages that it is
/// measured on.
const LEAST_TO_TRAIN: usize = 64;
/// About what an entry takes in a cache, its page aside.
const ENTRY: usize = 64;

/// A bar on the terminal, which says what is being done.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        let bar = ProgressBar::new(1000);
        if quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{msg:<20} [{bar:40}] {percent:>3} %");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    /// Runs `f`, which says how far it has come, from 0 to 1.
    pub(crate) fn during<R>(&self, what: &str, f: impl FnOnce(&(dyn Fn(f64) + Sync)) -> R) -> R {
        self.0.set_message(what.to_owned());
        self.0.set_position(0);
        f(&|done| self.0.set_position((done * 1000.0) as u64))
    }

    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// The codec of that name; LZ4 for a cache that finds its own, as such a cache begins with it.
fn codec(name: &CodecName, pages: &Pages) -> Result<Box<dyn Codec>, Failure> {
    Ok(match name {
        CodecName::None => Box::new(codec::Plain),
        CodecName::Lz4 | CodecName::Auto => Box::new(Lz4),
        CodecName::Zstd { level, dictionary: false } => Box::new(Zstd::level(*level)?),
        CodecName::Zstd { level, dictionary: true } => {
            Box::new(Zstd::level(*level)?.with_dictionary(&dictionary(pages)?))
        }
    })
}

/// Why there is no dictionary for these pages.
#[derive(Debug)]
pub(crate) struct Untrained(String);

impl fmt::Display for Untrained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Untrained {}

/// A dictionary trained on every fourth page at the most, so that most of what is measured was not
/// seen.
fn dictionary(pages: &Pages) -> Result<Dictionary, Untrained> {
    if pages.count() < LEAST_TO_TRAIN {
        let count = pages.count();
        let wanted = format!("{count} pages are too few to train a dictionary ({LEAST_TO_TRAIN})");
        return Err(Untrained(wanted));
    }
    let bytes = 100 * DICTIONARY;
    let step = (pages.bytes() / bytes).max(4);
    let samples: Vec<&[u8]> =
        (0..pages.count()).step_by(step).map(|number| pages.get(number)).collect();
    let trained = Dictionary::train(&samples, DICTIONARY.min(pages.bytes() / 40));
    trained.map_err(|error| Untrained(error.to_string()))
}

/// What a codec alone does with the pages.
#[derive(Debug)]
pub(crate) struct Bare {
    /// Bytes of pages by bytes stored.
    pub(crate) ratio: f64,
    pub(crate) encode: Duration,
    pub(crate) decode: Duration,
}

impl Bare {
    pub(crate) fn measure(
        pages: &Pages,
        name: &CodecName,
        step: &dyn Fn(f64),
    ) -> Result<Self, Failure> {
        let codec = codec(name, pages)?;
        let mut context = codec.context(pages.largest())?;
        let stride = pages.count().div_ceil(SAMPLE);
        let chosen: Vec<&[u8]> =
            (0..pages.count()).step_by(stride).map(|number| pages.get(number)).collect();
        let mut to = vec![0; pages.largest()];
        let mut payloads = Vec::new();
        let (mut encode, mut decode) = (Duration::MAX, Duration::MAX);
        for round in 0..3 {
            let start = Instant::now();
            payloads.clear();
            for page in &chosen {
                let packed = context.compress(page, &mut to[..page.len() - 1]);
                payloads.push(packed.map(|len| to[..len].to_vec()));
            }
            encode = encode.min(start.elapsed());
            let start = Instant::now();
            for (payload, page) in payloads.iter().zip(&chosen) {
                let to = &mut to[..page.len()];
                match payload {
                    Some(payload) => {
                        let decoded = codec.decode(payload, to);
                        decoded.unwrap_or_else(|| context.decompress(payload, to))?;
                    }
                    None => to.copy_from_slice(page),
                }
                black_box(&mut *to);
            }
            decode = decode.min(start.elapsed());
            step(f64::from(round + 1) / 3.0);
        }
        let of = |(payload, page): (&Option<Vec<u8>>, &&[u8])| {
            payload.as_ref().map_or(page.len(), Vec::len)
        };
        let stored: usize = payloads.iter().zip(&chosen).map(of).sum();
        let bytes: usize = chosen.iter().map(|page| page.len()).sum();
        let each = chosen.len() as u32;
        Ok(Self {
            ratio: bytes as f64 / stored as f64,
            encode: encode / each,
            decode: decode / each,
        })
    }
}

/// What is replayed.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) budget: usize,
    pub(crate) keys: usize,
    pub(crate) ops: usize,
    /// Cumulated chances of the ranks.
    chances: Vec<f64>,
    largest: usize,
    /// What a miss costs.
    pub(crate) miss: Duration,
}

impl Plan {
    pub(crate) fn new(pages: &Pages, options: &Options) -> Result<Self, Failure> {
        // So that a capacity that cannot be is told before anything is measured.
        drop(Cache::<u64>::new(Config::new(options.budget).max_page(pages.largest()))?);
        let full = 16 * (options.budget / (pages.mean() + ENTRY));
        let enough = pages.count().max(full).min(MOST_KEYS);
        let keys = options.keys.unwrap_or(enough);
        let mut sum = 0.0;
        let chance = |rank: usize| {
            sum += 1.0 / (rank as f64).powf(options.skew);
            sum
        };
        let chances: Vec<f64> = (1..=keys).map(chance).collect();
        let &Options { budget, ops, miss, .. } = options;
        Ok(Self { budget, keys, ops, chances, largest: pages.largest(), miss })
    }

    /// A key: few are asked for often, and which those are has nothing to do with their numbers.
    fn key(&self, random: &mut fastrand::Rng) -> u64 {
        let at = random.f64() * self.chances.last().copied().unwrap_or(1.0);
        let rank = self.chances.partition_point(|chance| *chance < at).min(self.keys - 1);
        let mixed = (rank as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((u128::from(mixed) * self.keys as u128) >> 64) as u64
    }
}

/// What a cache did under the load.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) stats: Stats,
    /// Resident growth of the process, where the system tells.
    pub(crate) resident: Option<usize>,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) hit: Duration,
    pub(crate) insert: Duration,
    pub(crate) verified: u64,
}

/// Anonymous and shared memory of this process that is resident.
fn resident() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok()
    };
    Some((field("RssAnon:")? + field("RssShmem:")?) * 1024)
}

/// Counts and times of one thread.
#[derive(Debug, Default)]
struct Tally {
    hits: AtomicU64,
    misses: AtomicU64,
    hit_ns: AtomicU64,
    insert_ns: AtomicU64,
    verified: AtomicU64,
}

impl Measured {
    fn requests(&self) -> f64 {
        (self.hits + self.misses).max(1) as f64
    }

    /// The part of the requests that misses.
    pub(crate) fn missed(&self) -> f64 {
        self.misses as f64 / self.requests()
    }

    /// Microseconds of a request where a miss costs that much.
    pub(crate) fn request(&self, miss: Duration) -> f64 {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        (micros(self.hit) * self.hits as f64 + micros(self.insert + miss) * self.misses as f64)
            / self.requests()
    }

    pub(crate) fn run(
        plan: &Plan,
        pages: &Pages,
        name: &CodecName,
        step: &(dyn Fn(f64) + Sync),
    ) -> Result<Self, Failure> {
        let codec: Arc<dyn Codec> = codec(name, pages)?.into();
        let before = resident();
        // Misses cost nothing here: the cache is told what a read costs that they stand for.
        let config = Config::new(plan.budget).max_page(plan.largest).miss_cost(plan.miss);
        let config = match name {
            CodecName::Auto => config.auto_codec(),
            _ => config.codec(codec),
        };
        let cache: Cache<u64> = Cache::new(config)?;
        // First every key once, in order: a cold start, and a scan.
        for key in 0..plan.keys as u64 {
            let _ = cache.insert(key, pages.get(key as usize));
            if key % 1024 == 0 {
                step(0.3 * key as f64 / plan.keys as f64);
            }
        }
        let warm = plan.ops / 2;
        let load = |from: f64, ops: usize| -> Result<Tally, Failure> {
            let tally = Tally::default();
            thread::scope(|scope| {
                let (cache, tally) = (&cache, &tally);
                let run = |thread: u64| {
                    let progress = move |done: f64| {
                        if thread == 0 {
                            step(from + 0.35 * done);
                        }
                    };
                    let seed = thread + ops as u64;
                    move || replay(cache, plan, pages, (seed, ops / THREADS), tally, &progress)
                };
                let threads: Vec<_> =
                    (0..THREADS as u64).map(|thread| scope.spawn(run(thread))).collect();
                threads.into_iter().try_for_each(|t| t.join().expect("no thread panics"))
            })?;
            Ok(tally)
        };
        load(0.3, warm)?;
        let tally = load(0.65, plan.ops - warm)?;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let each = |sum: u64, of: u64| Duration::from_nanos(sum / of.max(1));
        let (hits, misses) = (get(&tally.hits), get(&tally.misses));
        let resident = before.zip(resident()).map(|(before, now)| now.saturating_sub(before));
        Ok(Self {
            stats: cache.stats(),
            resident,
            hits,
            misses,
            hit: each(get(&tally.hit_ns), hits),
            insert: each(get(&tally.insert_ns), misses),
            verified: get(&tally.verified),
        })
    }
}

/// Looks random keys up, and inserts what is missing.
fn replay(
    cache: &Cache<u64>,
    plan: &Plan,
    pages: &Pages,
    (seed, ops): (u64, usize),
    tally: &Tally,
    progress: &dyn Fn(f64),
) -> Result<(), Failure> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut to = vec![0; plan.largest];
    let (mut hits, mut misses, mut verified) = (0, 0, 0);
    let (mut hit_ns, mut insert_ns) = (0, 0);
    for op in 0..ops {
        let key = plan.key(&mut random);
        let page = pages.get(key as usize);
        let start = Instant::now();
        let len = cache.get_into(&key, &mut to)?;
        let passed = start.elapsed().as_nanos() as u64;
        if let Some(len) = len {
            (hits, hit_ns) = (hits + 1, hit_ns + passed);
            if op % VERIFIED == 0 {
                verified += 1;
                if to[..len] != *page {
                    return Err(format!("the cache gave another page than key {key}'s").into());
                }
            }
        } else {
            let start = Instant::now();
            let _ = cache.insert(key, page);
            (misses, insert_ns) = (misses + 1, insert_ns + start.elapsed().as_nanos() as u64);
        }
        if op % 4096 == 0 {
            progress(op as f64 / ops as f64);
        }
    }
    let add = |counter: &AtomicU64, amount: u64| counter.fetch_add(amount, Ordering::Relaxed);
    add(&tally.hits, hits);
    add(&tally.misses, misses);
    add(&tally.hit_ns, hit_ns);
    add(&tally.insert_ns, insert_ns);
    add(&tally.verified, verified);
    Ok(())
}
