//! The child: threads that work one cache, and one that keeps house.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what the parent is told")]

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ::tests::corpus::PageFile;
use ::tests::pattern::Random;
use ::tests::versions::Versions;
use hdrhistogram::Histogram;
use serde_json::json;
use zcache::{Cache, Cause, Config, Insert, InsertError, ResizeError, Stats};

use super::phase::Phase;
use crate::packing::Failure;
use crate::watch::{self, Board, Limit};

/// The longest time of a hit that is told from longer ones, in nanoseconds.
const LONGEST: u64 = 100_000_000_000;
/// Samples of a soak.
pub const SAMPLES: u32 = 40;

/// What a child shall do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it works on.
    pub phase: Phase,
    /// For how long.
    pub time: Duration,
    /// The cache's capacity in bytes.
    pub capacity: usize,
    /// Bytes of all keys' pages together, about.
    pub data: usize,
    /// Threads that work.
    pub threads: usize,
    /// Whether nothing but inserts and look-ups shall happen.
    pub soak: bool,
    /// Page files.
    pub pages: Vec<PathBuf>,
    /// Where the capacity in force is told.
    pub board: PathBuf,
    /// Seed of everything.
    pub seed: u64,
}

struct Field {
    plan: Plan,
    cache: OnceLock<Cache<u64>>,
    versions: Arc<Versions>,
    /// In a soak, the file whose keys are preferred just now.
    era: AtomicUsize,
    stop: AtomicBool,
}

/// What threads count.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    operations: u64,
    hits: u64,
    misses: u64,
}

struct Worker<'f> {
    field: &'f Field,
    random: Random,
    tally: Tally,
    times: Histogram<u64>,
    page: Vec<u8>,
    to: Vec<u8>,
}

fn say(what: &str, more: &str) {
    let mut out = io::stdout().lock();
    // Nobody listens any more: then the end of the input ends this process.
    let _ = writeln!(out, "{what} {more}").and_then(|()| out.flush());
}

/// Works as planned, and tells the parent.
///
/// # Errors
/// The plan cannot be carried out.
pub fn work(plan: &Plan) -> Result<(), Failure> {
    // The first thread that panics ends all of them.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(1);
    }));
    let files: Vec<PageFile> =
        plan.pages.iter().map(|path| PageFile::read(path, None)).collect::<Result<_, _>>()?;
    let sizes: Vec<usize> = files.iter().map(PageFile::page_size).collect();
    let keys = plan.data / (sizes.iter().sum::<usize>() / sizes.len()).max(1);
    let longest = sizes.into_iter().max().unwrap_or(0);
    let config = plan.phase.apply(Config::new(plan.capacity).max_page(longest), &files)?;
    let field = Field {
        plan: plan.clone(),
        cache: OnceLock::new(),
        versions: Arc::new(Versions::new(keys, files)),
        era: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    };
    let board = Board::open(&plan.board)?;
    let go = listen();
    // All that is not the cache's is there before it: pages, versions, stacks, heaps of threads.
    let mut house = House::new(&field, &board);
    let gate = Barrier::new(plan.threads + 1);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.threads)
            .map(|number| {
                let (field, gate) = (&field, &gate);
                scope.spawn(move || {
                    let mut worker = Worker::new(field, number, longest);
                    gate.wait();
                    gate.wait();
                    worker.run();
                    (worker.tally, worker.times)
                })
            })
            .collect();
        gate.wait();
        watch::trim_heap();
        house.tell(plan.capacity);
        say("ready", "");
        go.recv()?;
        let made = match Cache::new(config.hot(plan.phase.share())) {
            Ok(cache) => {
                field.cache.get_or_init(|| hooked(cache, &field.versions));
                Ok(())
            }
            Err(error) => Err(error),
        };
        // Without a cache they set out and stop.
        field.stop.store(made.is_err(), Ordering::Relaxed);
        gate.wait();
        made?;
        if plan.soak {
            field.soak()
        } else {
            house.keep(plan.time)
        }
        field.stop.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        let mut times = histogram();
        for worker in workers {
            let (part, its_times) = worker.join().map_err(|_| "a thread panicked")?;
            tally.operations += part.operations;
            tally.hits += part.hits;
            tally.misses += part.misses;
            times.add(its_times)?;
        }
        field.settle(tally, &times, &house);
        go.recv()?;
        Ok(())
    })
}

/// Waits for the parent's word beside everything else; ends this process when there is no parent.
fn listen() -> mpsc::Receiver<()> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for _ in io::stdin().lines().map_while(Result::ok) {
            let _ = send.send(());
        }
        std::process::exit(1);
    });
    receive
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 2).expect("bounds that fit")
}

/// What goes is looked at, now and then: it is a page of its key's.
fn hooked(cache: Cache<u64>, versions: &Arc<Versions>) -> Cache<u64> {
    let (versions, told) = (Arc::clone(versions), AtomicU64::new(0));
    cache.on_removal(move |removal| {
        assert_ne!(
            removal.cause(),
            Cause::Corrupt,
            "key {}: nothing is corrupted here",
            removal.key()
        );
        if told.fetch_add(1, Ordering::Relaxed) % 64 == 0 {
            if let Some(page) = removal.page() {
                let _ = versions.version(*removal.key(), &page);
            }
        }
    })
}

impl Field {
    fn cache(&self) -> &Cache<u64> {
        self.cache.get().expect("made before the threads set out")
    }

    /// Small keys are asked for most: a quarter of the keys by 71 % of the calls.
    fn key(&self, random: &mut Random) -> u64 {
        let part = (random.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        let keys = self.versions.keys();
        let key = ((keys as f64 * part.powi(4)) as usize).min(keys - 1);
        if !self.plan.soak || random.below(4) == 0 {
            return key as u64;
        }
        // Most of them from one file for a while, then from the next: sizes that come and go.
        let files = self.versions.files().len();
        let era = key / files * files + self.era.load(Ordering::Relaxed) % files;
        (if era < keys { era } else { key }) as u64
    }

    /// Inserts and look-ups only, as long as planned; tells its figures as means over whole rounds of
    /// all files.
    fn soak(&self) {
        let cache = self.cache();
        let files = self.versions.files().len() as u32;
        let (each, looks) = (self.plan.time / (SAMPLES * files), 4);
        let start = Instant::now();
        for _ in 0..SAMPLES {
            let (mut density, mut entries, mut inserts) = (0.0, 0.0, 0);
            for era in 0..files as usize {
                self.era.store(era, Ordering::Relaxed);
                for _ in 0..looks {
                    thread::sleep(each / looks);
                    let stats = cache.stats();
                    density += stats.bytes.payload as f64 / stats.bytes.pages.max(1) as f64;
                    entries += stats.entries as f64;
                    inserts = stats.inserts;
                }
            }
            let many = f64::from(files * looks);
            let (entries, density) = (entries / many, density / many);
            let turnovers = inserts as f64 / entries.max(1.0);
            let at = start.elapsed().as_secs_f64();
            let sample = json!({
                "at": at, "turnovers": turnovers, "entries": entries, "density": density
            });
            say("sample", &sample.to_string());
        }
    }

    /// All is quiet: what is left is whole, nothing has drifted, and everything goes.
    fn settle(&self, tally: Tally, times: &Histogram<u64>, house: &House<'_>) {
        let cache = self.cache();
        cache.check();
        let stats = cache.stats();
        let Stats { gone, inserts, .. } = &stats;
        let went = gone.evicted + gone.expired + gone.replaced + gone.removed + gone.cleared;
        assert_eq!(inserts - went, cache.len() as u64, "inserts less what went: {stats}");
        assert_eq!((gone.corrupt, stats.rejected.too_large), (0, 0), "{stats}");
        assert_eq!(stats.bytes.pinned, 0, "nobody reads any more: {stats}");
        let mut left = 0_u64;
        for key in 0..self.versions.keys() as u64 {
            left += u64::from(self.versions.look(key, || cache.get(&key)));
        }
        assert!(left >= cache.len() as u64, "{left} pages found");
        cache.clear();
        cache.trim();
        cache.check();
        let bytes = cache.stats().bytes;
        assert_eq!((bytes.payload, bytes.pages), (0, 0), "an empty cache has no pages");
        let at = |quantile: f64| times.value_at_quantile(quantile);
        let done = json!({
            "operations": tally.operations, "hits": tally.hits + left, "misses": tally.misses,
            "hot": stats.hot_hits, "evicted": gone.evicted, "inserts": inserts,
            "resizes": house.resizes, "compactions": house.compactions, "clears": house.clears,
            "retains": house.retains,
            "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": times.max(),
        });
        say("done", &done.to_string());
    }
}

/// What the system's allocator will keep for this thread, of the pages that the thread gets and drops,
/// it has from now on; and the stack is as deep as it will be. All of this is the thread's, not the
/// cache's.
fn warm() {
    // glibc keeps seven blocks of each size up to 1 KiB, in steps of 16 bytes, and some 128 KiB at the end.
    let small = (16..=1056).step_by(16).flat_map(|bytes| [(); 7].map(|()| vec![1_u8; bytes]));
    drop(std::hint::black_box(small.collect::<Vec<_>>()));
    drop(std::hint::black_box(vec![1_u8; 100 << 10]));
    std::hint::black_box([1_u8; 48 << 10]);
}

impl<'f> Worker<'f> {
    fn new(field: &'f Field, number: usize, longest: usize) -> Self {
        let mut times = histogram();
        times.reset(); // touches all of it
        warm();
        let random = Random::new(field.plan.seed ^ (number as u64 + 1) << 32);
        let (page, to) = (Vec::with_capacity(longest), vec![0xee; longest]);
        Self { field, random, tally: Tally::default(), times, page, to }
    }

    fn run(&mut self) {
        while !self.field.stop.load(Ordering::Relaxed) {
            let key = self.field.key(&mut self.random);
            let way = self.random.below(100);
            match (self.field.plan.soak, way) {
                (true, 0..=39) | (false, 0..=54) => self.look(key, way),
                (_, 40..=69) => self.fill(key, way % 2 == 0),
                (false, 70..=91) | (true, _) => self.insert(key, Insert::new()),
                (false, 92..=93) => {
                    let time = Duration::from_millis(1 + self.random.below(20) as u64);
                    self.insert(key, Insert::new().time_to_live(time));
                }
                (false, 94) => {
                    self.insert(key, Insert::new().priority(zcache::policy::Priority::Low))
                }
                _ => self.remove(key, way == 99),
            }
            let (held, most) = (self.field.cache().held_bytes(), self.field.plan.capacity);
            assert!(held <= most, "{held} bytes held, the capacity never being above {most}");
            self.tally.operations += 1;
        }
    }

    fn count(&mut self, hit: bool) {
        self.tally.hits += u64::from(hit);
        self.tally.misses += u64::from(!hit);
    }

    fn look(&mut self, key: u64, way: usize) {
        let (cache, versions) = (self.field.cache(), &self.field.versions);
        let hit = match way % 10 {
            0..=4 => {
                let (floor, start) = (versions.floor(key), Instant::now());
                let found = cache.get_into(&key, &mut self.to).expect("a buffer for the longest");
                let time = start.elapsed();
                if let Some(len) = found {
                    self.times.saturating_record(time.as_nanos() as u64);
                    versions.verify(key, floor, &self.to[..len]);
                }
                found.is_some()
            }
            5..=6 => {
                let (floor, start) = (versions.floor(key), Instant::now());
                let found = cache.get(&key);
                let time = start.elapsed();
                if let Some(page) = &found {
                    self.times.saturating_record(time.as_nanos() as u64);
                    versions.verify(key, floor, page);
                }
                found.is_some()
            }
            7 => {
                let floor = versions.floor(key);
                cache.get_with(&key, |page| versions.verify(key, floor, page)).is_some()
            }
            8 => versions.look(key, || cache.peek(&key)),
            _ => return self.look_at_parts(key),
        };
        self.count(hit);
    }

    /// A part of one page, or several pages at once.
    fn look_at_parts(&mut self, key: u64) {
        let (cache, versions) = (self.field.cache(), &self.field.versions);
        if self.random.below(2) == 0 {
            let head = cache.get_range(&key, 0..8);
            assert!(head.as_ref().is_none_or(|head| *head == key.to_le_bytes()[..]), "key {key}");
            return self.count(head.is_some());
        }
        let keys = [(); 4].map(|()| self.field.key(&mut self.random));
        let floors = keys.map(|key| versions.floor(key));
        for ((key, floor), page) in keys.iter().zip(floors).zip(cache.get_many(&keys)) {
            if let Some(page) = &page {
                versions.verify(*key, floor, page);
            }
            self.count(page.is_some());
        }
    }

    /// Fills on a miss, while others may change the key.
    fn fill(&mut self, key: u64, lease: bool) {
        let (cache, versions) = (self.field.cache(), &self.field.versions);
        let mut missed = false;
        let floor = versions.floor(key);
        let page = if lease {
            cache.get_or_lease(key).map_err(|lease| {
                missed = true;
                versions.write(key, versions.read(key), &mut self.page);
                match cache.insert_if_valid(lease, &self.page) {
                    Ok(()) | Err(InsertError::NoRoom { .. } | InsertError::Outdated) => (),
                    Err(error) => panic!("key {key}: {error}"),
                }
            })
        } else {
            cache
                .get_or_insert_with(key, |to| {
                    missed = true;
                    versions.write(key, versions.read(key), to);
                    Ok::<(), io::Error>(())
                })
                .map_err(|error| panic!("key {key}: {error}"))
        };
        match page {
            Ok(page) => versions.verify(key, floor, &page),
            Err(()) => versions.verify(key, floor, &self.page),
        }
        self.count(!missed);
    }

    fn insert(&mut self, key: u64, how: Insert) {
        let (cache, versions) = (self.field.cache(), &self.field.versions);
        let page = &mut self.page;
        versions.change(key, |version| {
            versions.write(key, version, page);
            match cache.insert_with(key, page, how) {
                // What is below is replaced, whether the new page stays or not.
                Ok(()) | Err(InsertError::NoRoom { .. }) => version,
                Err(error) => panic!("key {key}: {error}"),
            }
        });
    }

    fn remove(&self, key: u64, take: bool) {
        let (cache, versions) = (self.field.cache(), &self.field.versions);
        versions.change(key, |version| {
            if !take {
                cache.remove(&key);
            } else if let Some(page) = cache.take(&key) {
                assert!(versions.version(key, &page) < version, "key {key}: the turn is ours");
            }
            // Nothing that was ever stored.
            version + 1
        });
    }
}

/// What an owner does now and then.
struct House<'f> {
    field: &'f Field,
    board: &'f Board,
    random: Random,
    room: Vec<u64>,
    changes: u64,
    resizes: u64,
    compactions: u64,
    clears: u64,
    retains: u64,
}

impl<'f> House<'f> {
    fn new(field: &'f Field, board: &'f Board) -> Self {
        let room = vec![1; field.versions.keys()];
        let random = Random::new(field.plan.seed);
        Self {
            field,
            board,
            random,
            room,
            changes: 0,
            resizes: 0,
            compactions: 0,
            clears: 0,
            retains: 0,
        }
    }

    fn tell(&mut self, bytes: usize) {
        self.changes += 1;
        let told = self.board.tell(Limit { changes: self.changes, bytes });
        told.unwrap_or_else(|error| panic!("the capacity could not be told: {error}"));
    }

    fn keep(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let cache = self.field.cache();
        let mut now = self.field.plan.capacity;
        while Instant::now() < end {
            match self.random.below(3000) {
                0..=59 => {
                    let most = self.field.plan.capacity;
                    let to = most - self.random.below(most / 3);
                    self.resize(now, to);
                    now = to;
                }
                60..=399 => {
                    self.compactions += 1;
                    let _ = cache.compact(self.random.below(1 << 18));
                }
                400..=429 => cache.trim(),
                430 => {
                    self.clears += 1;
                    self.field.versions.clear(&mut self.room, || cache.clear());
                }
                431..=434 => {
                    self.retains += 1;
                    let residue = self.random.below(16) as u64;
                    cache.retain(|key| key % 16 != residue);
                }
                435..=534 => {
                    let stats = cache.stats();
                    assert_eq!((stats.gone.corrupt, stats.rejected.too_large), (0, 0), "{stats}");
                }
                _ => thread::sleep(Duration::from_millis(1)),
            }
        }
        self.resize(now, self.field.plan.capacity);
    }

    /// The larger of both is in force until the call has ended well.
    fn resize(&mut self, from: usize, to: usize) {
        self.tell(from.max(to));
        let start = Instant::now();
        loop {
            match self.field.cache().resize(to) {
                Ok(()) => break,
                // Readers at work hold some; they are done in microseconds, or have no processor just now.
                Err(ResizeError::StillHeld { held }) => {
                    let waited = start.elapsed();
                    assert!(
                        waited < Duration::from_secs(10),
                        "{held} held of {to} after {waited:?}"
                    );
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("from {from} to {to} bytes: {error}"),
            }
        }
        self.resizes += 1;
        self.tell(to);
    }
}
