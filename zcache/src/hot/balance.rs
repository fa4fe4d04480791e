//! How much of the capacity is worth more decoded: what [`Share::Auto`](crate::Share::Auto) goes by.
//! ```text
//! a frame goes  -> ghost; a decoding of a page whose ghost is young     another MiB of frames had saved it
//! an entry goes -> ghost; a miss of a key whose ghost is young          another MiB of entries had saved it
//! ```
//! Young is what went since so many bytes of its kind went, so the returns of a time say what those bytes had been
//! worth in it: returns, by what one costs, by bytes. Where a policy's entries go from several queues, each queue's
//! ghosts age by what goes from it, and have the part of the bytes that the queue would get.
//!
//! All of this is a sample (of tags) and an estimate: what is lost between threads is lost. Nothing about what the
//! cache finds depends on it.

use std::time::{Duration, Instant};

use crate::index::Tag;
use crate::stats::Balance;
use crate::sync::{Apart, Counter, Mutex, Ordering, add, get};

/// Entries are young for the capacity by this, in bytes of entries.
const WINDOW: usize = 16;
/// Frames are young for a part of the limit, but at least for the capacity by this.
const LEAST_WINDOW: usize = 256;
/// Bytes of entries that one ghost is kept for.
const PER_GHOST: usize = 2048;
/// Ghosts of one kind. Where there should be more, only a part of all tags have ghosts.
const MOST_GHOSTS: usize = 4096;
/// At the least one tag in 2^this has ghosts.
const MOST_RARE: u32 = 16;
/// Slots that a ghost may have.
const PLACES: usize = 4;
/// Queues of a policy that are told apart.
pub(crate) const QUEUES: usize = 2;
/// Misses that wait for the insert of their key.
const PENDING: usize = 64;
/// A miss whose key is inserted later than that was not answered by this insert.
const LONGEST_MISS: Duration = Duration::from_secs(10);
/// What a miss is taken to cost as long as nothing is known of it.
const ASSUMED_MISS: u64 = 100_000;
/// And a decoding.
const ASSUMED_DECODE: u64 = 1000;
/// A tick is 2^this nanoseconds.
const TICK: u32 = 7;
/// One tag in so many has its misses timed.
const TIMED: u32 = 8;
/// Misses of which the mean is taken.
const MANY: u64 = 256;
/// Hits that more room brings for each return of an entry: what returns starts anew in the policy, and is often gone again
/// before its next hit. On the shared traces that DESIGN.md has, returns were 0.5 to 0.9 of the hits that fixed shares cost.
const PER_RETURN: f64 = 1.6;
/// What a judgement leaves of what was counted before.
const FADES: f64 = 7.0 / 8.0;
/// One side has to be worth so many times the other.
const CLEARLY: f64 = 1.25;
/// And so many times for a step twice as long.
const FAR: f64 = 4.0;
/// The limit moves by itself by this, and the capacity by that.
const STEP: usize = 16;
const LEAST_STEP: usize = 4096;
/// The limit is never lower than the capacity by this: frames have to be there for some of them to return.
const LEAST_SHARE: usize = 256;
/// Nor than so many frames.
const LEAST_FRAMES: usize = 4;

/// What went from one place, by tag.
#[derive(Debug)]
struct Ghosts {
    /// Tag, and when it went.
    slots: Box<[Counter]>,
    /// How many went.
    clock: Apart<Counter>,
}

/// A tag, and when something became of it.
fn pack(tag: Tag, when: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(when)
}

fn is_of(packed: u64, tag: Tag) -> bool {
    packed >> 32 == u64::from(tag)
}

impl Ghosts {
    fn new(slots: usize) -> Self {
        Self { slots: (0..slots).map(|_| Counter::new(0)).collect(), clock: Apart::default() }
    }

    /// The few slots that a tag may have.
    fn places(&self, tag: Tag) -> &[Counter] {
        let spread = u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let first = spread as usize & (self.slots.len() - 1) & !(PLACES - 1);
        &self.slots[first..first + PLACES]
    }

    fn age(&self, seen: u64) -> u32 {
        (get(&self.clock) as u32).wrapping_sub(seen as u32)
    }

    fn remember(&self, tag: Tag) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        let places = self.places(tag);
        let is_own = |place: &&Counter| is_of(get(place), tag);
        let oldest = || {
            places.iter().max_by_key(|place| match get(place) {
                0 => u32::MAX,
                seen => self.age(seen),
            })
        };
        if let Some(place) = places.iter().find(is_own).or_else(oldest) {
            place.store(pack(tag, now as u32), Ordering::Relaxed);
        }
    }

    /// Whether no more than `young` went since `tag` went. More room would have kept it, and have it go later for this: so
    /// it goes anew.
    fn returned(&self, tag: Tag, young: u64) -> bool {
        let place = self.places(tag).iter().find(|place| is_of(get(place), tag));
        let Some(place) = place.filter(|place| u64::from(self.age(get(place))) <= young) else {
            return false;
        };
        place.store(pack(tag, get(&self.clock) as u32), Ordering::Relaxed);
        true
    }
}

/// What the last judgements came to.
#[derive(Debug, Default)]
struct Judge {
    /// Nanoseconds that one more byte of frames, or of entries, had saved: those of long ago have faded.
    frame_worth: f64,
    entry_worth: f64,
    /// What had gone at the last judgement, and what had returned.
    goings: u64,
    frame_returns: u64,
    entry_returns: u64,
}

/// How things stand when it is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) capacity: usize,
    /// The most that frames can have.
    pub(crate) most: usize,
    /// Bytes of a frame.
    pub(crate) frame: usize,
    /// Bytes of an entry, what stands beside it among them.
    pub(crate) entry: usize,
    /// Nanoseconds of a decoding.
    pub(crate) decode: Option<u64>,
}

/// Two scales: what more bytes of frames are worth, and what more bytes of entries.
#[derive(Debug)]
pub(crate) struct Scales {
    frames: Ghosts,
    entries: [Ghosts; QUEUES],
    /// One tag in 2^this has ghosts.
    rare: u32,
    /// Up to which age frames are young, and entries of each queue.
    young_frames: Counter,
    young_entries: [Counter; QUEUES],
    /// The part of more bytes that each queue would get, in 1/256.
    parts: [Counter; QUEUES],
    frame_returns: Counter,
    entry_returns: Counter,
    /// Misses whose keys were not inserted yet: tag, and when in ticks.
    pending: Box<[Counter]>,
    born: Instant,
    told: Option<u64>,
    /// Misses that were answered, and what that took.
    answered: Counter,
    nanoseconds: Counter,
    judge: Mutex<Judge>,
    limit: Counter,
    raised: Counter,
    lowered: Counter,
}

/// Ghosts of one kind in a cache of that capacity, and how rare they are.
fn ghosts(capacity: usize) -> (usize, u32) {
    let wanted = (capacity / WINDOW / PER_GHOST).next_power_of_two().max(64);
    let kept = wanted.min(MOST_GHOSTS);
    (kept, (wanted / kept).ilog2().min(MOST_RARE))
}

impl Scales {
    pub(crate) fn fixed_bytes(capacity: usize) -> usize {
        let table = |slots: usize| zpool::source::heap_cost(slots * size_of::<Counter>());
        (1 + QUEUES) * table(ghosts(capacity).0) + table(PENDING)
    }

    pub(crate) fn new(standing: Standing, limit: usize, told: Option<Duration>) -> Self {
        let (slots, rare) = ghosts(standing.capacity);
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let scales = Self {
            frames: Ghosts::new(slots),
            entries: std::array::from_fn(|_| Ghosts::new(slots)),
            rare,
            young_frames: Counter::new(0),
            young_entries: Default::default(),
            parts: std::array::from_fn(|_| Counter::new(256)),
            frame_returns: Counter::new(0),
            entry_returns: Counter::new(0),
            pending: (0..PENDING).map(|_| Counter::new(0)).collect(),
            born: Instant::now(),
            told: told.map(nanoseconds),
            answered: Counter::new(0),
            nanoseconds: Counter::new(0),
            judge: Mutex::new(Judge::default()),
            limit: Counter::new(limit as u64),
            raised: Counter::new(0),
            lowered: Counter::new(0),
        };
        scales.set_windows(standing);
        scales
    }

    pub(crate) fn limit(&self) -> usize {
        get(&self.limit) as usize
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit as u64, Ordering::Relaxed);
    }

    fn is_sampled(&self, tag: Tag) -> bool {
        tag.wrapping_mul(0x9e37_79b9) >> 8 & ((1 << self.rare) - 1) == 0
    }

    /// A frame went for want of room.
    pub(crate) fn demoted(&self, tag: Tag) {
        if self.is_sampled(tag) {
            self.frames.remember(tag);
        }
    }

    /// An entry was evicted from `queue`, which would get `part` of more room.
    pub(crate) fn evicted(&self, tag: Tag, queue: usize, part: f32) {
        if self.is_sampled(tag) {
            let queue = queue.min(QUEUES - 1);
            let part = (part.clamp(0.0, 1.0) * 256.0) as u64;
            self.parts[queue].store(part, Ordering::Relaxed);
            self.entries[queue].remember(tag);
        }
    }

    /// A hit on an entry without a frame.
    pub(crate) fn decoded(&self, tag: Tag) {
        if self.is_sampled(tag) && self.frames.returned(tag, get(&self.young_frames)) {
            add(&self.frame_returns, 1);
        }
    }

    pub(crate) fn missed(&self, tag: Tag) {
        if self.is_sampled(tag) {
            for (ghosts, young) in self.entries.iter().zip(&self.young_entries) {
                if ghosts.returned(tag, get(young)) {
                    add(&self.entry_returns, 1);
                    break;
                }
            }
        }
        if let Some(pending) = self.pending(tag) {
            pending.store(pack(tag, self.tick()), Ordering::Relaxed);
        }
    }

    /// A key's page was inserted: perhaps an answer to its miss.
    pub(crate) fn came(&self, tag: Tag) {
        let Some(pending) = self.pending(tag) else { return };
        let seen = pending.load(Ordering::Relaxed);
        if !is_of(seen, tag) || seen == 0 {
            return;
        }
        pending.store(0, Ordering::Relaxed);
        let took = u64::from(self.tick().wrapping_sub(seen as u32)) << TICK;
        if Duration::from_nanos(took) <= LONGEST_MISS {
            if get(&self.answered) >= MANY {
                // What was long ago fades.
                for sum in [&self.answered, &self.nanoseconds] {
                    sum.store(get(sum) / 2, Ordering::Relaxed);
                }
            }
            add(&self.nanoseconds, took);
            add(&self.answered, 1);
        }
    }

    /// Where a miss of that tag waits; `None`: it is not timed.
    fn pending(&self, tag: Tag) -> Option<&Counter> {
        let timed = self.told.is_none() && tag >> 8 & (TIMED - 1) == 0;
        timed.then(|| &self.pending[(tag >> 16) as usize & (PENDING - 1)])
    }

    fn tick(&self) -> u32 {
        (self.born.elapsed().as_nanos() >> TICK) as u32
    }

    /// What a miss costs, in nanoseconds.
    fn miss(&self) -> u64 {
        self.told.unwrap_or_else(|| match get(&self.answered) {
            0 => ASSUMED_MISS,
            answered => get(&self.nanoseconds) / answered,
        })
    }

    /// Bytes that the young ones of each kind had.
    fn windows(&self, capacity: usize) -> [usize; 2] {
        let entries = (capacity / WINDOW).max(1);
        [(self.limit() / 2).clamp((capacity / LEAST_WINDOW).max(1), entries), entries]
    }

    fn set_windows(&self, Standing { capacity, frame, entry, .. }: Standing) {
        let [frames, entries] = self.windows(capacity);
        let set = |young: &Counter, amount: usize| {
            young.store((amount >> self.rare).max(1) as u64, Ordering::Relaxed);
        };
        set(&self.young_frames, frames / frame.max(1));
        for (young, part) in self.young_entries.iter().zip(&self.parts) {
            let amount = (entries / entry.max(1)) as u64 * get(part) / 256;
            set(young, usize::try_from(amount).unwrap_or(usize::MAX));
        }
    }

    /// Things that went, of both kinds.
    fn goings(&self) -> u64 {
        get(&self.frames.clock) + self.entries.iter().map(|ghosts| get(&ghosts.clock)).sum::<u64>()
    }

    /// Moves the limit, if it is time for that and one side is clearly worth more. To be called where room is short:
    /// where it is not, there is nothing to be shared.
    pub(crate) fn judge(&self, standing: impl FnOnce() -> Standing) {
        let Some(mut judge) = self.judge.try_lock() else { return };
        let goings = self.goings();
        let young: u64 = self.young_entries.iter().map(get).sum();
        if goings.wrapping_sub(judge.goings) < (2 * young).max(16) {
            return;
        }
        judge.goings = goings;
        let standing = standing();
        let [frames, entries] = self.windows(standing.capacity);
        let decode = standing.decode.unwrap_or(ASSUMED_DECODE) as f64 / frames as f64;
        let miss = PER_RETURN * self.miss() as f64 / entries as f64;
        let (frame_returns, entry_returns) = (get(&self.frame_returns), get(&self.entry_returns));
        let new = |now: u64, before: u64| now.wrapping_sub(before) as f64;
        judge.frame_worth *= FADES;
        judge.frame_worth += decode * new(frame_returns, judge.frame_returns);
        judge.entry_worth *= FADES;
        judge.entry_worth += miss * new(entry_returns, judge.entry_returns);
        (judge.frame_returns, judge.entry_returns) = (frame_returns, entry_returns);
        // One return more on the other side must not change it.
        let clearly = |more: f64, less: f64, one: f64| more > CLEARLY * (less + one);
        let (limit, capacity) = (self.limit(), standing.capacity);
        let (of_frames, of_entries) = (judge.frame_worth, judge.entry_worth);
        let (more, less) = (of_frames.max(of_entries), of_frames.min(of_entries));
        let far = more > FAR * (less + decode.max(miss));
        let step = limit / if far { STEP / 4 } else { STEP } + capacity / LEAST_STEP;
        let least = (capacity / LEAST_SHARE).max(LEAST_FRAMES * standing.frame).min(standing.most);
        let next = if clearly(of_frames, of_entries, miss) {
            limit.saturating_add(step)
        } else if clearly(of_entries, of_frames, decode) {
            limit.saturating_sub(step)
        } else {
            limit
        };
        let next = next.clamp(least, standing.most);
        if next != limit {
            add(if next > limit { &self.raised } else { &self.lowered }, 1);
            self.set_limit(next);
        }
        self.set_windows(standing);
    }

    pub(crate) fn balance(&self, standing: Standing) -> Balance {
        let judge = self.judge.lock();
        let mib = |worth: f64| {
            let nanoseconds = worth * (1_u64 << self.rare) as f64 * f64::from(1 << 20);
            Duration::from_nanos(nanoseconds as u64)
        };
        Balance {
            limit: self.limit(),
            decode: Duration::from_nanos(standing.decode.unwrap_or(ASSUMED_DECODE)),
            miss: Duration::from_nanos(self.miss()),
            frame_worth: mib(judge.frame_worth),
            entry_worth: mib(judge.entry_worth),
            frame_returns: get(&self.frame_returns),
            entry_returns: get(&self.entry_returns),
            raised: get(&self.raised),
            lowered: get(&self.lowered),
        }
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    const CAPACITY: usize = 16 << 20;
    const STANDING: Standing = Standing {
        capacity: CAPACITY,
        most: CAPACITY / 2,
        frame: 4096,
        entry: 2048,
        decode: Some(1000),
    };

    fn scales(told: Option<u64>) -> Scales {
        Scales::new(STANDING, CAPACITY / 16, told.map(Duration::from_nanos))
    }

    /// Tags that are sampled, and spread like hashes.
    fn tag(nth: u32) -> Tag {
        nth.wrapping_mul(0x9e37_79b9) | 1
    }

    #[test]
    fn ghosts_know_how_many_went_since() {
        let ghosts = Ghosts::new(64);
        ghosts.remember(tag(1));
        (2..10).for_each(|nth| ghosts.remember(tag(nth)));
        assert!(!ghosts.returned(tag(1), 7) && ghosts.returned(tag(1), 8));
        assert!(ghosts.returned(tag(1), 0), "it went again just now");
        assert!(!ghosts.returned(tag(77), 1 << 40), "never");
        ghosts.clock.store(u64::from(u32::MAX) - 1, Ordering::Relaxed);
        (20..23).for_each(|nth| ghosts.remember(tag(nth)));
        assert!(!ghosts.returned(tag(20), 1) && ghosts.returned(tag(20), 2), "beside its end");
    }

    /// So many goings of both kinds, of which a part returns at once.
    fn live(scales: &Scales, goings: u32, frames: u32, entries: u32) {
        for nth in 0..goings {
            let frame = tag(2 * nth);
            scales.demoted(frame);
            if nth % 100 < frames {
                scales.decoded(frame);
            }
            let entry = tag(2 * nth + 1);
            scales.evicted(entry, 0, 1.0);
            if nth % 100 < entries {
                scales.missed(entry);
            }
            scales.judge(|| STANDING);
        }
    }

    #[test]
    fn the_limit_follows_what_is_worth_more_and_stays_within_its_bounds() {
        let dear = scales(Some(100_000));
        live(&dear, 20_000, 20, 10);
        assert_eq!(dear.limit(), CAPACITY / LEAST_SHARE, "misses are dear");
        let cheap = scales(Some(1000));
        live(&cheap, 20_000, 50, 5);
        assert_eq!(cheap.limit(), CAPACITY / 2, "misses cost no more than decodings");
        // Each return of an entry is one of 2 KiB, so a frame's costs twice the room.
        let balance = cheap.balance(STANDING);
        assert!(balance.raised > 0 && balance.frame_worth > balance.entry_worth, "{balance:?}");
        assert_eq!((balance.decode.as_nanos(), balance.miss.as_nanos()), (1000, 1000));
        let idle = scales(None);
        live(&idle, 20_000, 0, 0);
        assert_eq!(idle.limit(), CAPACITY / 16, "nothing returns, so nothing is known");
        let idle = idle.balance(STANDING);
        assert_eq!((idle.frame_worth, idle.entry_worth), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn what_went_long_ago_had_not_been_saved() {
        let scales = scales(Some(100_000));
        scales.evicted(tag(0), 0, 1.0);
        (1..2000).for_each(|nth| scales.evicted(tag(nth), 0, 1.0));
        scales.missed(tag(0));
        assert_eq!(get(&scales.entry_returns), 0);
        // Of a queue that gets a tenth of the room, a tenth is young.
        let young = (CAPACITY / WINDOW / 2048) as u32;
        scales.evicted(tag(9000), 1, 0.1);
        scales.set_windows(STANDING);
        (0..young / 5).for_each(|nth| scales.evicted(tag(10_000 + nth), 1, 0.1));
        scales.missed(tag(9000));
        assert_eq!(get(&scales.entry_returns), 0);
        scales.missed(tag(10_000 + young / 5 - 1));
        assert_eq!(get(&scales.entry_returns), 1);
    }

    #[test]
    fn misses_are_timed_up_to_the_insert_of_their_key() {
        let scales = scales(None);
        assert_eq!(scales.miss(), ASSUMED_MISS);
        let timed: Vec<Tag> = (0..4000).map(tag).filter(|tag| tag >> 8 & 7 == 0).collect();
        assert!(timed.len() > 300, "one in eight");
        let mut slowest = 0;
        for tag in &timed {
            let start = Instant::now();
            scales.missed(*tag);
            scales.came(tag.wrapping_add(8 << 8)); // another one's
            std::thread::sleep(Duration::from_micros(50));
            scales.came(*tag);
            scales.came(*tag); // no miss
            slowest = slowest.max(start.elapsed().as_nanos() as u64);
        }
        // A tick is lost or won at either end.
        let (miss, slowest) = (scales.miss() + (1 << TICK), slowest + (2 << TICK));
        assert!((50_000..=slowest).contains(&miss), "{miss} ns, {slowest} at the most");
        let answered = get(&scales.answered);
        assert!((MANY / 2..=MANY).contains(&answered), "{answered} in the mean");
    }

    #[test]
    fn tables_are_as_long_as_they_are_said_to_be() {
        for capacity in [1 << 18, 4 << 20, 64 << 20, 1 << 30, 1 << 36] {
            let (slots, rare) = ghosts(capacity);
            assert!((64..=MOST_GHOSTS).contains(&slots));
            assert!(slots << rare >= capacity / WINDOW / PER_GHOST, "{capacity}");
            assert!(Scales::fixed_bytes(capacity) <= (capacity / 128).max(4096), "{capacity}");
        }
    }
}
