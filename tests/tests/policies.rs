//! Eviction policies by themselves, at equal sizes: against the hit ratios that came with the
//! shared traces, and against the policies as their papers have them. `--ignored` runs every trace,
//! which takes minutes and is for `--release`; `--nocapture` shows the figures.
#![cfg(not(zcache_loom))]
#![allow(clippy::print_stdout, reason = "the figures beside the verdict")]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tests::alloc::{Watched, failing, held};
use tests::driven::{Driven, Hits, Table, tag};
use tests::naive::{self, Naive, Rules};
use tests::traces::{self, Trace};
use zcache::policy::{Entries, Lru, Policy, Priority, S3Fifo, Sieve};
use zpool::Words;

/// Shared traces that a debug build is through with in seconds.
const SHORT: [&str; 5] = ["lirs-2pools", "lirs-glimpse", "lirs-multi3", "pg-gitlog-8k", "web12"];
/// Cache sizes, in percent of the pages of a trace.
const SIZES: [usize; 4] = [1, 5, 10, 25];
/// How far S3-FIFO's hit ratio may be from that with exact ghosts.
const GHOSTS_COST: f64 = 0.002;
/// How far S3-FIFO by our rules may be from that with exact ghosts: they answer to the age of each.
const GHOSTS_COST_US: f64 = 0.008;
/// How far our rules may put it below the paper's.
const RULES_COST: f64 = 0.02;

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// A trace in a form that is fast to replay.
struct Pages {
    name: String,
    pages: Vec<u32>,
    distinct: usize,
}

impl Pages {
    fn new(trace: &Trace) -> Self {
        let (pages, distinct) = trace.dense();
        Self { name: trace.name().to_owned(), pages, distinct }
    }

    fn sizes(&self) -> impl Iterator<Item = (usize, usize)> {
        SIZES.map(|percent| (percent, (self.distinct * percent + 50) / 100)).into_iter()
    }

    fn real(&self, policy: impl Policy, hits: Hits, capacity: usize) -> usize {
        Driven::new(policy, hits, capacity, self.distinct).play(&self.pages)
    }

    fn naive(&self, mut policy: impl Naive) -> usize {
        self.pages.iter().filter(|page| policy.request(**page)).count()
    }

    fn ratio(&self, hits: usize) -> f64 {
        hits as f64 / self.pages.len() as f64
    }
}

/// The shared traces: the short ones, or all.
fn shared(all: bool) -> impl Iterator<Item = Pages> {
    let wanted = move |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        all || SHORT.iter().any(|short| name.split('.').next() == Some(short))
    };
    traces::shared_files()
        .into_iter()
        .filter(wanted)
        .map(|path| Pages::new(&Trace::read(&path).unwrap()))
}

/// LRU, FIFO and CLOCK, as the reference has them, to its last digit.
fn agrees_with_the_reference(all: bool) {
    let Some(reference) = traces::reference_hit_ratios() else { return };
    let mut rows: HashMap<&str, Vec<Vec<&str>>> = HashMap::new();
    for line in reference.lines().skip(1) {
        let (name, rest) = line.split_once(',').unwrap();
        rows.entry(name).or_default().push(rest.split(',').collect());
    }
    let mut compared = 0;
    for trace in shared(all) {
        for row in rows.get(trace.name.as_str()).into_iter().flatten() {
            let [requests, distinct, percent, capacity] =
                [0, 1, 2, 3].map(|at| row[at].parse::<usize>().unwrap());
            assert_eq!((requests, distinct), (trace.pages.len(), trace.distinct), "{}", trace.name);
            let ratio =
                |hits| format!("{:.6}", trace.ratio(trace.real(Lru::new(), hits, capacity)));
            let ours = [Hits::Touch, Hits::Untold, Hits::Mark].map(ratio);
            println!("{:>20} {percent:>2} % {}", trace.name, ours.join(" "));
            assert_eq!(ours[..], row[4..7], "LRU, FIFO, CLOCK: {} at {capacity}", trace.name);
            compared += 1;
        }
    }
    assert!(!all || compared == reference.lines().count() - 1, "every row has its trace");
    println!("{compared} rows agree");
}

/// SIEVE hit by hit, S3-FIFO as near as its ghosts are, by the paper's rules and by ours.
fn agrees_with_the_papers(traces: impl Iterator<Item = Pages>) {
    let (mut largest, mut better, mut count) = ([0.0_f64; 2], 0, 0);
    let (mut worst, mut best) = (0.0_f64, 0.0_f64);
    println!(
        "{:>20} {:>4} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "%", "lru", "sieve", "plain", "- naive", "s3-fifo", "- naive", "- plain"
    );
    for trace in traces {
        for (percent, capacity) in trace.sizes() {
            let sieve = trace.real(Sieve::new(), Hits::Mark, capacity);
            assert_eq!(
                sieve,
                trace.naive(naive::Sieve::new(capacity)),
                "{}, {capacity}",
                trace.name
            );
            let [lru, sieve, exact, plain, adaptive, ours] = [
                trace.real(Lru::new(), Hits::Touch, capacity),
                sieve,
                trace.naive(naive::S3Fifo::new(capacity)),
                trace.real(S3Fifo::plain(), Hits::Mark, capacity),
                trace.naive(naive::S3Fifo::adaptive(capacity, Rules::default())),
                trace.real(S3Fifo::new(), Hits::Mark, capacity),
            ]
            .map(|hits| trace.ratio(hits));
            let (off, off_ours, margin) = (plain - exact, ours - adaptive, ours - plain);
            println!(
                "{:>20} {percent:>4} {lru:>9.6} {sieve:>9.6} {plain:>9.6} {off:>+9.6} {ours:>9.6} \
                 {off_ours:>+9.6} {margin:>+9.6}",
                trace.name
            );
            largest = [largest[0].max(off.abs()), largest[1].max(off_ours.abs())];
            worst = worst.min(margin);
            best = best.max(margin);
            better += usize::from(ours >= lru);
            count += 1;
        }
    }
    println!(
        "largest differences by ghosts {largest:.6?}; S3-FIFO at least LRU in {better} of \
         {count}; by our rules {worst:+.6} to {best:+.6} over plain"
    );
    assert!(largest[0] <= GHOSTS_COST && largest[1] <= GHOSTS_COST_US, "{largest:.6?}");
    assert!(worst >= -RULES_COST, "{worst:+.6}");
}

#[test]
fn lru_fifo_and_clock_hit_as_the_reference_says() {
    agrees_with_the_reference(false);
}

#[test]
#[ignore = "every trace takes long"]
fn lru_fifo_and_clock_hit_as_the_reference_says_on_every_trace() {
    agrees_with_the_reference(true);
}

#[test]
fn sieve_and_s3_fifo_hit_as_their_papers_say() {
    agrees_with_the_papers(shared(false).chain(traces::made().iter().map(Pages::new)));
}

#[test]
#[ignore = "every trace takes long"]
fn sieve_and_s3_fifo_hit_as_their_papers_say_on_every_trace() {
    agrees_with_the_papers(shared(true));
}

#[test]
fn lru_fifo_and_clock_hit_as_plainly_written_ones() {
    for trace in traces::made() {
        let trace = Pages::new(&trace);
        for capacity in [1, 2, 10, 300] {
            let real = [Hits::Touch, Hits::Untold, Hits::Mark]
                .map(|hits| trace.real(Lru::new(), hits, capacity));
            let naive = [
                trace.naive(naive::Lru::new(capacity)),
                trace.naive(naive::Fifo::new(capacity)),
                trace.naive(naive::Clock::new(capacity)),
            ];
            assert_eq!(real, naive, "LRU, FIFO, CLOCK: {} at {capacity}", trace.name);
        }
    }
}

fn all() -> [Box<dyn Policy>; 4] {
    [
        Box::new(S3Fifo::new()),
        Box::new(S3Fifo::plain()),
        Box::new(Sieve::new()),
        Box::new(Lru::new()),
    ]
}

#[test]
fn tables_cost_what_was_said_and_a_failed_allocation_changes_nothing() {
    for mut policy in all() {
        let (start, mut charged) = (held(), 0);
        for id in (0..200_000).step_by(300) {
            for nth in 1.. {
                let before = (policy.growth(id), policy.bytes(), held());
                let (grown, _) = failing(nth, || policy.grow(id));
                if grown.is_ok() {
                    charged += before.0;
                    break;
                }
                assert_eq!((policy.growth(id), policy.bytes(), held()), before);
            }
            assert_eq!(policy.growth(id), 0);
            assert_eq!(policy.bytes(), charged);
            // Beside pages of the system's, which no allocator counts, there is what the heap has.
            let pages = charged - (held() - start) as usize;
            assert_eq!(pages % Words::page_bytes(), 0, "{} bytes of {charged}", held() - start);
        }
        let each = charged as f64 / 200_000.0;
        println!("{:>8}: {each:.3} bytes an entry", policy.name());
        assert!(each < if policy.name().starts_with("s3-fifo") { 13.0 } else { 8.1 }, "{each}");
        let table = Table::of(std::iter::repeat_n(7, 200_000));
        let ((), calls) = failing(0, || {
            (0..200_000).for_each(|id| policy.insert(id, tag(id), Priority::Normal));
            (0..100_000).for_each(|_| assert!(policy.evict(&table, 1).is_some()));
        });
        assert_eq!((calls, policy.bytes()), (0, charged), "only `grow` allocates");
    }
}

#[test]
fn what_entries_took_comes_back_when_they_go() {
    for mut policy in all() {
        let name = policy.name().to_owned();
        let start = held();
        let enter = |policy: &mut dyn Policy, ids: std::ops::Range<u32>| {
            for id in ids {
                policy.grow(id).unwrap();
                policy.insert(id, tag(id), Priority::Normal);
            }
        };
        let fresh = |ids| {
            let mut fresh = all().into_iter().find(|fresh| fresh.name() == name).unwrap();
            enter(&mut *fresh, ids);
            fresh.bytes()
        };
        enter(&mut *policy, 0..200_000);
        let full = policy.bytes();
        assert_eq!(policy.shrink(&|_| false), 0, "{name}: all of it is in use");
        // Few stay, on one chunk in three; ids of another chunk are about to enter.
        let chunk = Words::page_words() as u32;
        let stays = |id: u32| id % (3 * chunk) == 5;
        let soon = 7 * chunk..8 * chunk;
        let mut freed = 0;
        for id in (0..200_000).filter(|id| !stays(*id)) {
            assert!(policy.remove(id));
            freed += policy.shrink(&|ids| ids.start < soon.end && soon.start < ids.end);
            if id % 20_000 == 0 {
                policy.check();
            }
        }
        assert_eq!(policy.bytes(), full - freed);
        let pages = policy.bytes() - (held() - start) as usize;
        assert_eq!(pages % Words::page_bytes(), 0, "{name}: what is held is told");
        let share = policy.bytes() as f64 / full as f64;
        assert!((0.3..0.4).contains(&share), "{name}: {share}");
        soon.for_each(|id| policy.insert(id, tag(id), Priority::Normal));
        policy.check();
        let table = Table::of(std::iter::repeat_n(7, 200_000));
        while policy.evict(&table, 100).is_some() {
            policy.shrink(&|_| false);
        }
        policy.check();
        // What is left is a spare chunk, and blocks of pointers to chunks.
        assert!(
            policy.bytes() < fresh(0..2048) + 8192,
            "{name}: {} bytes of nothing",
            policy.bytes()
        );
        enter(&mut *policy, 100_000..110_000);
        policy.check();
        assert!(policy.bytes() < fresh(0..12_000) + 8192, "{name}: {}", policy.bytes());
    }
}

#[test]
fn low_goes_first_and_high_stays_in_s3_fifo() {
    for mut policy in all() {
        policy.grow(0).unwrap();
        let table = Table::of(0..200);
        for id in 0..200 {
            let priority = match id {
                5 => Priority::High,
                199 => Priority::Low,
                _ => Priority::Normal,
            };
            policy.insert(id, tag(id), priority);
        }
        assert_eq!(policy.evict(&table, 2), Some(199), "{}", policy.name());
        let others: Vec<u32> = std::iter::from_fn(|| policy.evict(&table, 2)).take(180).collect();
        match policy.name() {
            // Half again the share of `small` and one more: 3 of up to 50 entries, 5 of up to 75,
            // and so on. The rest filled the main queue, number 5 among them. Either goes by age,
            // and `small` while it has its share of those left.
            "s3-fifo" => {
                let entered = [0, 1, 2, 50, 51, 75, 100, 101, 125, 150, 151, 175];
                let in_small = |id: &&u32| entered.contains(*id);
                let (small, main): (Vec<u32>, Vec<u32>) = others.iter().partition(in_small);
                assert!(small.is_sorted() && main.is_sorted(), "{others:?}");
                assert_eq!(others[..9], [0, 1, 2, 50, 51, 75, 3, 4, 5], "{others:?}");
                let at = |id| others.iter().position(|other| *other == id);
                // Of 175 entries more than 24 have gone, of 150 50, of 125 75.
                assert_eq!([100, 101, 125].map(at), [Some(25), Some(50), Some(75)], "{others:?}");
            }
            name => {
                assert!(others.is_sorted(), "first in, first out, where nothing is hit");
                assert_eq!(others.contains(&5), name != "s3-fifo-plain");
            }
        }
    }
}

/// However short the steps of a search are, it names whom one search would name.
#[test]
fn a_search_in_steps_names_whom_one_at_once_names() {
    let full = |policy: &mut dyn Policy, hit: u32| {
        let most = policy.max_mark();
        let table = Table::of(0..300);
        (0..hit).for_each(|id| table.set_mark(id, most));
        (0..300).for_each(|id| policy.grow(id).unwrap());
        (0..300).for_each(|id| policy.insert(id, tag(id), Priority::Normal));
        table
    };
    for hit in [0, 10, 200, 300] {
        for (mut at_once, mut steps) in all().into_iter().zip(all()) {
            let (table, other) = (full(&mut *at_once, hit), full(&mut *steps, hit));
            let expected = at_once.evict(&table, usize::MAX);
            let (mut found, mut calls) = (None, 0);
            while found.is_none() {
                (found, calls) = (steps.evict_unspared(&other, 64), calls + 1);
            }
            assert_eq!(found, expected, "{}, {hit} were hit", steps.name());
            assert!(hit < 300 || calls > 1, "{} names none that it spared", steps.name());
            steps.check();
        }
    }
}

/// What happens to a policy. An id is one of those there may be, or of those in the policy.
#[derive(Debug, Clone)]
enum Op {
    Insert(Index, u32, Priority, bool),
    Remove(u32),
    Replace(Index, Index),
    ReplaceAny(u32, u32),
    Publish(Index),
    Hit(Index),
    Touch(u32),
    Evict(usize),
    EvictUnspared(usize),
    EvictAny,
}

const IDS: u32 = 60;

fn op() -> impl Strategy<Value = Op> {
    let priority = prop_oneof![
        1 => Just(Priority::Low),
        6 => Just(Priority::Normal),
        1 => Just(Priority::High),
    ];
    let pick = any::<Index>;
    prop_oneof![
        20 => (pick(), 0..100_u32, priority, prop::bool::weighted(0.8))
            .prop_map(|(pick, page, priority, is)| Op::Insert(pick, page, priority, is)),
        3 => (0..IDS).prop_map(Op::Remove),
        4 => (pick(), pick()).prop_map(|(old, new)| Op::Replace(old, new)),
        1 => (0..IDS, 0..IDS).prop_map(|(old, new)| Op::ReplaceAny(old, new)),
        4 => pick().prop_map(Op::Publish),
        16 => pick().prop_map(Op::Hit),
        2 => (0..IDS).prop_map(Op::Touch),
        10 => (0..8_usize).prop_map(Op::Evict),
        10 => (0..8_usize).prop_map(Op::EvictUnspared),
        4 => Just(Op::EvictAny),
    ]
}

/// An entry that a policy should have.
#[derive(Debug, Clone)]
struct Expected {
    mark: Cell<u8>,
    page: u32,
    published: bool,
}

/// The entries that a policy should have, and what it looked at.
#[derive(Debug, Default)]
struct Model {
    entries: HashMap<u32, Expected>,
    looks: RefCell<Vec<u32>>,
    most: u8,
    /// Times that one without a mark would have gone: it does every third time.
    asked: Cell<u32>,
}

impl Entries for Model {
    fn mark(&self, id: u32) -> Option<u8> {
        self.looks.borrow_mut().push(id);
        let entry = &self.entries[&id];
        entry.published.then(|| entry.mark.get())
    }

    fn set_mark(&self, id: u32, mark: u8) {
        assert!(mark < self.entries[&id].mark.get() && self.entries[&id].published);
        self.entries[&id].mark.set(mark);
    }

    fn spares(&self, id: u32) -> bool {
        assert!(self.entries[&id].mark.get() < 2 && self.entries[&id].published);
        self.asked.set(self.asked.get() + 1);
        self.asked.get() % 3 > 0
    }

    fn tag(&self, id: u32) -> u32 {
        tag(self.entries[&id].page)
    }
}

impl Model {
    /// One of the ids that are in the policy, or that are not.
    fn pick(&self, index: Index, inside: bool) -> Option<u32> {
        let ids: Vec<u32> = (0..IDS).filter(|id| self.entries.contains_key(id) == inside).collect();
        (!ids.is_empty()).then(|| *index.get(&ids))
    }

    fn step(&mut self, policy: &mut dyn Policy, op: Op) {
        match op {
            Op::Insert(index, page, priority, published) => {
                let Some(id) = self.pick(index, false) else { return };
                policy.insert(id, tag(page), priority);
                self.entries.insert(id, Expected { mark: Cell::new(0), page, published });
            }
            Op::Remove(id) => assert_eq!(policy.remove(id), self.entries.remove(&id).is_some()),
            Op::Replace(old, new) => {
                let (old, new) = (self.pick(old, true), self.pick(new, true));
                if let (Some(old), Some(new)) = (old, new) {
                    self.replace(policy, old, new);
                }
            }
            Op::ReplaceAny(old, new) => self.replace(policy, old, new),
            Op::Publish(index) => {
                if let Some(id) = self.pick(index, true) {
                    self.entries.get_mut(&id).unwrap().published = true;
                }
            }
            Op::Hit(index) => {
                if let Some(id) = self.pick(index, true) {
                    let mark = &self.entries[&id].mark;
                    mark.set((mark.get() + 1).min(self.most));
                }
            }
            Op::Touch(id) => policy.touch(id),
            Op::Evict(effort) => self.evict(policy, effort, true),
            Op::EvictUnspared(effort) => self.evict(policy, effort, false),
            Op::EvictAny => self.evict(policy, usize::MAX, true),
        }
    }

    fn replace(&mut self, policy: &mut dyn Policy, old: u32, new: u32) {
        policy.replace(old, new);
        if old != new {
            self.entries.remove(&old);
        }
    }

    /// `any`: also one that was spared.
    fn evict(&mut self, policy: &mut dyn Policy, effort: usize, any: bool) {
        self.looks.borrow_mut().clear();
        let victim = match any {
            true => policy.evict(self, effort),
            false => policy.evict_unspared(self, effort),
        };
        let looks = self.looks.take();
        assert!(looks.len() <= effort, "{} looks", looks.len());
        let may_go = |id: &u32| self.entries[id].published;
        match victim {
            Some(id) => {
                assert!(looks.contains(&id) && may_go(&id), "{id} may not go");
                self.entries.remove(&id);
            }
            None => {
                assert!(!any || !looks.iter().any(may_go), "one that may go was seen");
                let all = self.entries.keys().all(|id| looks.contains(id));
                assert!(looks.len() == effort || all, "there was effort to look on");
            }
        }
    }

    fn check(&self, policy: &dyn Policy) {
        policy.check();
        assert_eq!(policy.len(), self.entries.len());
        assert!((0..IDS).all(|id| policy.contains(id) == self.entries.contains_key(&id)));
    }
}

/// Cases a property runs: `PROPTEST_CASES`, or enough to take a few seconds.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = cases.unwrap_or(48);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_id_is_lost_doubled_or_named_before_its_time(ops in vec(op(), 1..300)) {
        for mut policy in all() {
            (0..IDS).for_each(|id| policy.grow(id).unwrap());
            let mut model = Model { most: policy.max_mark(), ..Model::default() };
            for op in ops.clone() {
                model.step(&mut *policy, op);
                model.check(&*policy);
            }
        }
    }
}
