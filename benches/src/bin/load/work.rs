//! The child: threads that work one cache, and one that keeps house.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what the parent is told")]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, mpsc};
use std::thread;

use ::tests::corpus::PageFile;
use ::tests::versions::Versions;
use benches::arguments::Failure;
use benches::memory;
use benches::race::histogram;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use zcache::{Cache, Config, RemovalCause, Stats};

use crate::board::Board;
use crate::field::{Field, Plan, say};
use crate::house::House;
use crate::stage::{self, HERD, Held, Stage};
use crate::worker::{Tally, Worker};

/// Works as planned, and tells the parent.
pub(crate) fn work(plan: &Plan) -> Result<(), Failure> {
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
    let longest = stage::longest(plan.capacity, &files);
    let config = || plan.phase.apply(Config::new(plan.capacity).max_page(longest), &files);
    // For the cache that is worked, and the fresh one that it is held against.
    let (config, fresh) = (config()?, config()?);
    let field = Field {
        plan: plan.clone(),
        cache: OnceLock::new(),
        versions: Arc::new(Versions::new(keys, files)),
        longest,
        stage: Mutex::new(None),
        numbers: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    let board = Board::at(&plan.board);
    let go = listen();
    // All that is not the cache's is there before it: pages, versions, stacks, heaps of threads.
    let mut house = House::new(&field, &board);
    let mut room = vec![0xee; longest];
    let herd = plan.threads.max(HERD);
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
        memory::trim_heap();
        house.tell(plan.capacity);
        say("ready", "");
        go.recv()?;
        let made = Cache::new(config).map(|cache| {
            field.cache.get_or_init(|| hooked(cache, &field.versions));
        });
        // Without a cache they set out and stop.
        let stages: &[Stage] = if made.is_ok() { &Stage::WORKED } else { &[] };
        let mut refused = 0;
        for stage in stages {
            say("stage", &format!("{stage:?}"));
            field.set_out(Some(*stage));
            gate.wait();
            house.keep(*stage, plan.time.mul_f64(stage.share()));
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
            RemovalCause::Corrupt,
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
        let Stats { removals: gone, inserts, .. } = &stats;
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
