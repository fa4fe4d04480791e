//! The child: threads that work one cache, and one that keeps house.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what the parent is told")]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Instant;

use ::tests::corpus::PageFile;
use ::tests::versions::Versions;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use zcache::{Cache, Cause, Config, Stats};

use super::field::{Field, Plan, say};
use super::house::House;
use super::stage::{self, HERD, Held, Stage};
use super::worker::{Tally, Worker};
use crate::packing::Failure;
use crate::times::histogram;
use crate::watch::{self, Board};

/// Samples of a soak.
pub const SAMPLES: u32 = 40;

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
    let longest = if plan.soak {
        sizes.iter().copied().max().unwrap_or(0)
    } else {
        stage::longest(plan.capacity, &files)
    };
    let config = || {
        let config = Config::new(plan.capacity).max_page(longest).hot(plan.phase.share());
        plan.phase.apply(config, &files)
    };
    // For the cache that is worked, and the fresh one that it is held against.
    let (config, fresh) = (config()?, config()?);
    let field = Field {
        plan: plan.clone(),
        cache: OnceLock::new(),
        versions: Arc::new(Versions::new(keys, files)),
        longest,
        stage: Mutex::new(None),
        numbers: AtomicU64::new(0),
        era: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    };
    let board = Board::open(&plan.board)?;
    let go = listen();
    // All that is not the cache's is there before it: pages, versions, stacks, heaps of threads.
    let mut house = House::new(&field, &board);
    let mut room = vec![0xee; longest];
    let herd = if plan.soak { plan.threads } else { plan.threads.max(HERD) };
    let gate = Barrier::new(herd + 1);
    let done = thread::scope(|scope| {
        let workers: Vec<_> = (0..herd)
            .map(|number| {
                let (field, gate) = (&field, &gate);
                scope.spawn(move || {
                    let mut worker = Worker::new(field, number);
                    gate.wait();
                    loop {
                        gate.wait();
                        let Some(stage) = field.stage() else { break };
                        if number < field.plan.threads || stage == Stage::Herd {
                            worker.run(stage);
                        }
                        gate.wait();
                    }
                    (worker.tally, worker.times)
                })
            })
            .collect();
        gate.wait();
        watch::trim_heap();
        house.tell(plan.capacity);
        say("ready", "");
        go.recv()?;
        let made = Cache::new(config).map(|cache| {
            field.cache.get_or_init(|| hooked(cache, &field.versions));
        });
        // Without a cache they set out and stop.
        let stages: &[Stage] = match (&made, plan.soak) {
            (Err(_), _) => &[],
            (Ok(()), true) => &[Stage::Mix],
            (Ok(()), false) => &Stage::WORKED,
        };
        let mut refused = 0;
        for stage in stages {
            say("stage", &format!("{stage:?}"));
            field.set_out(Some(*stage));
            gate.wait();
            if plan.soak {
                field.soak();
            } else {
                house.keep(*stage, plan.time.mul_f64(stage.share()));
            }
            field.stop.store(true, Ordering::Relaxed);
            gate.wait();
            field.check(&go)?;
            refused = field.quiet(*stage, refused);
        }
        field.set_out(None);
        gate.wait();
        made?;
        let mut tally = Tally::default();
        let mut times = histogram();
        for worker in workers {
            let (part, its_times) = worker.join().map_err(|_| "a thread panicked")?;
            tally.operations += part.operations;
            tally.hits += part.hits;
            tally.misses += part.misses;
            times.add(its_times)?;
        }
        field.settle(tally, &times, &house, &mut room, &go)
    });
    let (mut done, used, cleared, count) = done?;
    let Field { cache, versions, .. } = field;
    drop(cache);
    say("stage", "Fill of a fresh cache");
    let (fresh, _) = stage::fill(&Cache::new(fresh)?, versions.files(), Some(count), &mut room);
    done["fresh"] = json!(fresh.entries);
    done["used"] = json!(used.of_either(fresh));
    done["cleared"] = json!(cleared.of_entries(fresh));
    say("done", &done.to_string());
    go.recv()?;
    Ok(())
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
            let key = *removal.key();
            match Stage::of(key) {
                Stage::Mix => {
                    let _ = removal.page().map(|page| versions.version(key, &page));
                }
                Stage::Tiny => {
                    let page = removal.page();
                    assert!(page.is_none_or(|page| page[..8] == key.to_le_bytes()), "key {key:#x}");
                }
                // A page for each thread of a herd would be more than what may be resident.
                _ => {}
            }
        }
    })
}

impl Field {
    /// Inserts and look-ups only, as long as planned; tells its figures as means over whole rounds
    /// of all files.
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

    /// All is quiet: what is left is whole, nothing has drifted, and everything goes. Gives what
    /// was counted, what the cache holds after a fill, as it was left and
    /// after a clear, and the pages of a fill.
    fn settle(
        &self,
        tally: Tally,
        times: &Histogram<u64>,
        house: &House<'_>,
        room: &mut Vec<u8>,
        go: &mpsc::Receiver<()>,
    ) -> Result<(Value, Held, Held, u64), Failure> {
        let (cache, files) = (self.cache(), self.versions.files());
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
        say("stage", "Fill, as it was left");
        let (used, count) = stage::fill(cache, files, None, room);
        self.check(go)?;
        cache.clear();
        say("stage", "Fill, after a clear");
        let (cleared, _) = stage::fill(cache, files, Some(count), room);
        cache.clear();
        cache.trim();
        cache.check();
        let bytes = cache.stats().bytes;
        assert_eq!((bytes.payload, bytes.pages), (0, 0), "an empty cache has no pages");
        let at = |quantile: f64| times.value_at_quantile(quantile);
        let done = json!({
            "operations": tally.operations, "hits": tally.hits + left, "misses": tally.misses,
            "hot": stats.hot_hits, "evicted": gone.evicted, "inserts": inserts,
            "refused": stats.rejected.no_room,
            "resizes": house.resizes, "compactions": house.compactions, "clears": house.clears,
            "retains": house.retains,
            "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": times.max(),
        });
        Ok((done, used, cleared, count))
    }
}
