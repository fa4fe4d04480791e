//! How long a cache takes: asked for round by round, so that rounds of several processes can take turns.
//!
//! ```text
//! hits       random keys that are held, one thread and two, beside the bare codec on payloads of the same
//!            pages, a copy for each key; the best window of all rounds counts
//! singles    hits timed one by one; what the clock itself takes is told, and not taken off
//! effective  a stretch of the trace, its misses really waited for; see `Timer::effective`
//! inserts    new keys with random pages of the file, so that the cache evicts, one thread and two, beside
//!            the bare codec
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use benches::bare::Bare;
use benches::packing::Failure;
use benches::race::{Length, nanoseconds};
use serde_json::{Value, json};

use crate::contestant::Contestant;
use crate::engine::Engine;
use crate::spec::Codec;
use crate::stage::{Stage, WRITE};

/// A debug build's times are of no interest, only that there are some.
const DEBUG: bool = cfg!(debug_assertions);
/// Windows of a round of hits, and hits of a window.
const HITS: (usize, usize) = if DEBUG { (1, 100) } else { (8, 1000) };
/// The same of inserts: so many that work which a cache puts off falls into each window.
const INSERTS: (usize, usize) = if DEBUG { (1, 100) } else { (3, 2000) };
/// Hits of a round that are timed one by one.
const SINGLES: usize = if DEBUG { 1000 } else { 20_000 };
/// Waits below this are spun, others slept.
const SLEEP: Duration = Duration::from_micros(50);
/// A stretch ends after so many misses and hits, or after so many requests, or this time.
const STRETCH: (usize, usize, usize) = (200, 1000, 20_000);
const STRETCH_TIME: Duration = Duration::from_millis(400);
/// Keys of inserts start here, above all numbers of a trace.
const NEW_KEYS: u64 = 1 << 40;

/// A cache after its replay, and what it is timed beside.
pub(crate) struct Timer<'a> {
    cache: &'a dyn Contestant,
    stage: &'a Stage,
    engine: Engine,
    /// Numbers that are held.
    keys: Vec<u32>,
    bare: Option<Bare>,
    new_keys: AtomicU64,
    /// Where the next stretch of the trace starts.
    at: usize,
}

impl<'a> Timer<'a> {
    pub(crate) fn new(cache: &'a dyn Contestant, stage: &'a Stage, engine: Engine) -> Self {
        let numbers = 0..stage.page_of.len() as u32;
        let keys = numbers.filter(|number| cache.contains(u64::from(*number))).collect();
        let at = stage.requests.len() / 2;
        Self { cache, stage, engine, keys, bare: None, new_keys: NEW_KEYS.into(), at }
    }

    pub(crate) fn pages_held(&self) -> usize {
        self.keys.len()
    }

    /// What the pages that are held take as LZ4 blocks: over what is resident it says how well a cache packs,
    /// whichever pages its policy keeps.
    pub(crate) fn held_lz4_bytes(&self) -> Result<u64, Failure> {
        let payloads = Engine::new(Codec::Lz4, &[])?.payloads(self.stage);
        let page = |key: &u32| self.stage.page_of[*key as usize] as usize;
        Ok(self.keys.iter().map(|key| payloads[page(key)].len() as u64).sum())
    }

    /// Answers to one line of the driver's.
    pub(crate) fn answer(&mut self, question: &str) -> Result<Value, Failure> {
        let mut words = question.split_whitespace();
        let what = words.next().unwrap_or_default();
        if self.keys.is_empty() && what != "effective" {
            return Ok(json!({}));
        }
        match what {
            "hits" => Ok(self.hits()),
            "singles" => Ok(self.singles()),
            "inserts" => Ok(self.inserts()),
            "effective" => {
                let miss_us = words.next().ok_or("effective: no wait")?.parse()?;
                let hit_ratio = words.next().ok_or("effective: no hit ratio")?.parse()?;
                Ok(self.effective(miss_us, hit_ratio))
            }
            _ => Err(format!("no question: {question}").into()),
        }
    }

    fn hits(&mut self) -> Value {
        let (stage, cache, keys) = (self.stage, self.cache, &self.keys);
        let bare = self.bare.get_or_insert_with(|| {
            let payloads = self.engine.payloads(stage);
            Bare::of(&payloads, keys.iter().map(|key| stage.page_of[*key as usize] as usize))
        });
        let bare_hit = |_| {
            let mut worker = self.engine.worker(stage.page_size);
            let (bare, mut to) = (&*bare, vec![0; stage.page_size]);
            move |at: usize| {
                worker.decode(bare.payload(at), &mut to);
                u64::from(to[0])
            }
        };
        let hit = |_| {
            let mut to = vec![0; stage.page_size];
            move |at: usize| {
                cache.get(keys[at].into(), &mut to);
                u64::from(to[0])
            }
        };
        let (windows, ops) = HITS;
        let [one, two] = [1, 2].map(|threads| Length { threads, windows, ops });
        // The time between hits of two threads; twice that is what a thread waits for its own.
        json!({
            "decode_ns": nanoseconds(one, keys.len(), bare_hit),
            "hit_ns": nanoseconds(one, keys.len(), hit),
            "decode_ns_two": 2.0 * nanoseconds(two, keys.len(), bare_hit),
            "hit_ns_two": 2.0 * nanoseconds(two, keys.len(), hit),
        })
    }

    fn singles(&self) -> Value {
        let mut random = fastrand::Rng::new();
        let mut to = vec![0; self.stage.page_size];
        let mut hit = |_| {
            let key = self.keys[random.usize(..self.keys.len())];
            let start = Instant::now();
            self.cache.get(key.into(), &mut to);
            start.elapsed().as_nanos() as u64
        };
        let mut times: Vec<u64> = (0..SINGLES).map(&mut hit).collect();
        times.sort_unstable();
        let at = |share: f64| times[(times.len() as f64 * share) as usize];
        json!({
            "p50_ns": at(0.5), "p99_ns": at(0.99), "p999_ns": at(0.999), "clock_ns": clock(),
        })
    }

    /// Operations a second where a miss costs `miss_us` on top: by how long a hit takes on average and how
    /// long a miss with its wait and its insert, each measured over a stretch of the trace from its middle
    /// on, and by the hit ratio of the whole run. A stretch alone is too short to have that hit ratio.
    fn effective(&mut self, miss_us: u64, hit_ratio: f64) -> Value {
        let wait = Duration::from_micros(miss_us);
        let mut to = vec![0; self.stage.page_size];
        let (mut hits, mut misses) = ((0, Duration::ZERO), (0, Duration::ZERO));
        let begin = Instant::now();
        for request in 0..STRETCH.2 {
            let enough = misses.0 >= STRETCH.0 && hits.0 >= STRETCH.1;
            let both = hits.0 > 0 && misses.0 > 0;
            if enough || (both && request % 16 == 0 && begin.elapsed() > STRETCH_TIME) {
                break;
            }
            let number = self.stage.requests[self.at] & !WRITE;
            self.at = (self.at + 1) % self.stage.requests.len();
            let start = Instant::now();
            if self.cache.get(number.into(), &mut to) {
                hits = (hits.0 + 1, hits.1 + start.elapsed());
                continue;
            }
            spend(wait);
            self.cache.insert(number.into(), self.stage.page(number));
            misses = (misses.0 + 1, misses.1 + start.elapsed());
        }
        let clock = clock() as f64;
        let mean = |(count, time): (usize, Duration)| {
            (count > 0).then(|| (time.as_nanos() as f64 / count as f64 - clock).max(0.0))
        };
        // What does not occur has no part in the sum.
        let part = |share: f64, mean: Option<f64>| {
            if share == 0.0 { Some(0.0) } else { mean.map(|mean| share * mean) }
        };
        let each = part(hit_ratio, mean(hits)).zip(part(1.0 - hit_ratio, mean(misses)));
        let per_second = each.map(|(hit, miss)| (1e9 / (hit + miss)).round());
        json!({ "miss_us": miss_us, "ops_per_second": per_second })
    }

    fn inserts(&self) -> Value {
        let stage = self.stage;
        let insert = |_| {
            // A stretch of keys of the thread's own.
            let mut key = self.new_keys.fetch_add(1 << 32, Ordering::Relaxed);
            move |page: usize| {
                key += 1;
                self.cache.insert(key, stage.file_page(page));
                key
            }
        };
        let encode = |_| {
            let mut worker = self.engine.worker(stage.page_size);
            let mut to = vec![0; stage.page_size];
            move |page: usize| worker.encode(stage.file_page(page), &mut to).len() as u64
        };
        let (windows, ops) = INSERTS;
        let [one, two] = [1, 2].map(|threads| Length { threads, windows, ops });
        json!({
            "encode_ns": nanoseconds(one, stage.file_pages(), encode),
            "insert_ns": nanoseconds(one, stage.file_pages(), insert),
            "insert_ns_two": 2.0 * nanoseconds(two, stage.file_pages(), insert),
        })
    }
}

/// Nanoseconds between two looks at the clock, in the median.
pub(crate) fn clock() -> u64 {
    let look = |_| {
        let start = Instant::now();
        start.elapsed().as_nanos() as u64
    };
    let mut times: Vec<u64> = (0..1001).map(look).collect();
    times.sort_unstable();
    times[500]
}

fn spend(time: Duration) {
    if time >= SLEEP {
        return thread::sleep(time);
    }
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}
