//! Eviction policies as their papers have them, with a queue, a set and no thought for speed: what
//! the real ones are held against. Entries are of one size, keys are numbers.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Debug;

/// The mark of a key that has no entry.
const ABSENT: u8 = u8::MAX;

/// A cache of so many entries.
pub trait Naive: Debug {
    /// Asks for `key`, which enters where it is missing. Says whether it was there.
    fn request(&mut self, key: u32) -> bool;
}

/// Least recently used goes first.
#[derive(Debug)]
pub struct Lru {
    capacity: usize,
    /// Used last, at the back.
    queue: VecDeque<u32>,
}

/// First in, first out.
#[derive(Debug)]
pub struct Fifo {
    capacity: usize,
    queue: VecDeque<u32>,
    set: HashSet<u32>,
}

/// First in, first out, but for a second chance for those that were hit.
#[derive(Debug)]
pub struct Clock {
    capacity: usize,
    queue: VecDeque<u32>,
    hit: HashMap<u32, bool>,
}

/// SIEVE (Zhang et al., NSDI 2024), algorithm 1.
#[derive(Debug)]
pub struct Sieve {
    capacity: usize,
    /// The tail at the front: entries come in at the back.
    queue: VecDeque<u32>,
    visited: HashMap<u32, bool>,
    hand: usize,
}

/// S3-FIFO (Yang et al., SOSP 2023), algorithm 1, with ghosts in an exact queue of as many keys as
/// the main queue has entries. Adaptive: by the five rules of `zcache::policy::S3Fifo` as well.
#[derive(Debug)]
pub struct S3Fifo {
    capacity: usize,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    /// The marks of entries, or `ABSENT`.
    freq: Vec<u8>,
    ghosts: Ghosts,
    adaptive: Option<Adaptive>,
}

/// The five rules of `zcache::policy::S3Fifo`, with their constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Whether the main queue fills first.
    pub fill: bool,
    /// Whether there is a door for those who return.
    pub door: bool,
    /// Hits that bring an entry to the main queue.
    pub proven: u8,
    /// The part of the small queue's share that is young.
    pub young: f64,
    /// The share of the small queue, where it starts, and its bounds.
    pub share: (f64, f64, f64),
    /// How far a return moves it: as many as there are entries, by this, change it by e. 0: not at
    /// all.
    pub haste: f64,
    /// What a return to the small queue weighs beside one to the main one.
    pub weight: f64,
    /// Ghosts are young until as many went as this part of the entries.
    pub fresh: f64,
    /// The main queue ages at one eviction in so many. 0: never.
    pub ageing: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            fill: true,
            door: true,
            proven: 1,
            young: 0.25,
            share: (0.04, 0.01, 0.30),
            haste: 20.0,
            weight: 0.85,
            fresh: 0.05,
            ageing: 48,
        }
    }
}

/// What the rules go by.
#[derive(Debug)]
struct Adaptive {
    rules: Rules,
    /// The part of those who return that enters `main`, what is left of it, and who entered so and
    /// was not judged yet.
    door: f64,
    credit: f64,
    entered: HashSet<u32>,
    /// The part of the entries that `small` is entitled to.
    share: f64,
    /// Those that went from `main`.
    near: Ghosts,
    /// The newest of `small` whose hits do not count.
    young: usize,
    /// Evictions since `main` aged.
    since: u32,
    /// Places of those who went because it did.
    vacant: usize,
    /// Whether anybody had to go yet.
    full: bool,
}

/// The last keys that went. Those that are no ghosts any more stay in the queue until their turn.
#[derive(Debug)]
struct Ghosts {
    capacity: usize,
    queue: VecDeque<(u32, u64)>,
    /// When each one came; 0: it is none.
    since: Vec<u64>,
    live: usize,
    now: u64,
}

impl Lru {
    /// An empty one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, queue: VecDeque::new() }
    }
}

impl Naive for Lru {
    fn request(&mut self, key: u32) -> bool {
        let at = self.queue.iter().position(|other| *other == key);
        match at {
            Some(at) => _ = self.queue.remove(at),
            None if self.queue.len() == self.capacity => _ = self.queue.pop_front(),
            None => {}
        }
        self.queue.push_back(key);
        at.is_some()
    }
}

impl Fifo {
    /// An empty one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, queue: VecDeque::new(), set: HashSet::new() }
    }
}

impl Naive for Fifo {
    fn request(&mut self, key: u32) -> bool {
        if self.set.contains(&key) {
            return true;
        }
        if self.queue.len() == self.capacity {
            let victim = self.queue.pop_front().expect("full");
            self.set.remove(&victim);
        }
        self.queue.push_back(key);
        self.set.insert(key);
        false
    }
}

impl Clock {
    /// An empty one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, queue: VecDeque::new(), hit: HashMap::new() }
    }
}

impl Naive for Clock {
    fn request(&mut self, key: u32) -> bool {
        if let Some(hit) = self.hit.get_mut(&key) {
            *hit = true;
            return true;
        }
        while self.queue.len() == self.capacity {
            let oldest = self.queue.pop_front().expect("full");
            if self.hit[&oldest] {
                self.hit.insert(oldest, false);
                self.queue.push_back(oldest);
            } else {
                self.hit.remove(&oldest);
            }
        }
        self.queue.push_back(key);
        self.hit.insert(key, false);
        false
    }
}

impl Sieve {
    /// An empty one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, queue: VecDeque::new(), visited: HashMap::new(), hand: 0 }
    }
}

impl Naive for Sieve {
    fn request(&mut self, key: u32) -> bool {
        if let Some(visited) = self.visited.get_mut(&key) {
            *visited = true;
            return true;
        }
        if self.queue.len() == self.capacity {
            while self.visited[&self.queue[self.hand]] {
                self.visited.insert(self.queue[self.hand], false);
                self.hand = (self.hand + 1) % self.capacity;
            }
            let victim = self.queue.remove(self.hand).expect("the hand is in the queue");
            self.visited.remove(&victim);
            // What was next stands where the victim stood; past the head, the hand starts at the
            // tail.
            if self.hand == self.queue.len() {
                self.hand = 0;
            }
        }
        self.queue.push_back(key);
        self.visited.insert(key, false);
        false
    }
}

impl S3Fifo {
    /// An empty one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            small: VecDeque::new(),
            main: VecDeque::new(),
            freq: Vec::new(),
            ghosts: Ghosts::new(capacity - (capacity / 10).max(1)),
            adaptive: None,
        }
    }

    /// An empty one that adapts.
    #[must_use]
    pub fn adaptive(capacity: usize, rules: Rules) -> Self {
        let adaptive = Adaptive {
            rules,
            door: 1.0,
            credit: 0.0,
            entered: HashSet::new(),
            share: rules.share.0,
            near: Ghosts::new(capacity / 20),
            young: 0,
            since: 0,
            vacant: 0,
            full: false,
        };
        let ghosts = Ghosts::new((capacity - (capacity / 10).max(1)).max(1));
        Self { adaptive: Some(adaptive), ghosts, ..Self::new(capacity) }
    }

    fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }

    /// Entries that `small` is entitled to.
    fn share(&self) -> usize {
        let share = match &self.adaptive {
            Some(adaptive) => (adaptive.share * self.len() as f64) as usize,
            None => self.len() / 10,
        };
        share.max(1)
    }

    /// Where `key` enters.
    fn enters_main(&mut self, key: u32) -> bool {
        let len = self.len().max(1) as f64;
        let ghost = self.ghosts.take(key);
        let Some(adaptive) = &mut self.adaptive else { return ghost.is_some() };
        let near = adaptive.near.take(key);
        let Rules { fill, door, share: (_, least, most), haste, weight, fresh, .. } =
            adaptive.rules;
        let is_young = |age: Option<u64>| age.is_some_and(|age| (age as f64) < fresh * len);
        let (least, step) = (least.max(1.0 / len).min(most), haste / len);
        if is_young(ghost) {
            adaptive.share = (adaptive.share * (1.0 + weight * step)).clamp(least, most);
        } else if is_young(near) {
            adaptive.share = (adaptive.share / (1.0 + step)).clamp(least, most);
        }
        if ghost.is_some() {
            adaptive.credit += if door { adaptive.door } else { 1.0 };
            if adaptive.credit >= 1.0 {
                adaptive.credit -= 1.0;
                adaptive.entered.insert(key);
                return true;
            }
        }
        if adaptive.full {
            let vacant = adaptive.vacant > 0;
            adaptive.vacant -= usize::from(vacant);
            return vacant;
        }
        let share = self.share();
        fill && self.small.len() > share + share / 2 + 1
    }

    /// `key` of the main queue is looked at.
    fn judge(&mut self, key: u32, hit: bool) {
        let len = self.len();
        let Some(adaptive) = &mut self.adaptive else { return };
        if adaptive.entered.remove(&key) {
            // The one judged is still counted, and so is nobody who has not entered yet.
            let step = 1.0 + 4.0 / len as f64;
            let door = if hit { adaptive.door * step } else { adaptive.door / step };
            adaptive.door = door.clamp(1.0 / 16.0, 1.0);
        }
    }

    fn evict_small(&mut self) {
        let proven = self.adaptive.as_ref().map_or(2, |adaptive| adaptive.rules.proven);
        while let Some(tail) = self.small.pop_front() {
            if let Some(adaptive) = &mut self.adaptive {
                adaptive.young = adaptive.young.min(self.small.len());
            }
            if self.freq[tail as usize] >= proven {
                self.freq[tail as usize] = 0;
                self.main.push_back(tail);
            } else {
                self.freq[tail as usize] = ABSENT;
                self.ghosts.insert(tail);
                return;
            }
        }
    }

    /// Looks at the tail of the main queue, and says whether it went.
    fn look_at_main(&mut self) -> bool {
        let Some(tail) = self.main.front().copied() else { return false };
        let freq = self.freq[tail as usize];
        self.judge(tail, freq > 0);
        self.main.pop_front();
        if freq > 0 {
            self.freq[tail as usize] = freq - 1;
            self.main.push_back(tail);
            return false;
        }
        self.freq[tail as usize] = ABSENT;
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.near.insert(tail);
        }
        true
    }

    /// Whether an entry went because the main queue ages.
    fn ages(&mut self) -> bool {
        let Some(adaptive) = &mut self.adaptive else { return false };
        adaptive.since += 1;
        if adaptive.rules.ageing == 0 || adaptive.since < adaptive.rules.ageing {
            return false;
        }
        adaptive.since = 0;
        let went = self.look_at_main();
        self.adaptive.iter_mut().for_each(|adaptive| adaptive.vacant += usize::from(went));
        went
    }

    fn evict(&mut self) {
        if self.ages() {
        } else if self.small.len() >= self.share() || self.main.is_empty() {
            self.evict_small();
        } else {
            while !self.main.is_empty() && !self.look_at_main() {}
        }
        let share = self.share() as f64;
        let Some(adaptive) = &mut self.adaptive else { return };
        let most = adaptive.most_young(share);
        adaptive.full = true;
        for _ in 0..4 {
            if adaptive.young > most {
                let oldest = self.small[self.small.len() - adaptive.young];
                self.freq[oldest as usize] = 0;
                adaptive.young -= 1;
            }
        }
    }
}

impl Adaptive {
    /// Entries of a small queue that is entitled to `share` of them, that are young at the most.
    fn most_young(&self, share: f64) -> usize {
        ((self.rules.young * share) as usize).max(1)
    }
}

impl Naive for S3Fifo {
    fn request(&mut self, key: u32) -> bool {
        let at = key as usize;
        self.freq.resize(self.freq.len().max(at + 1), ABSENT);
        if self.freq[at] != ABSENT {
            self.freq[at] = (self.freq[at] + 1).min(3);
            return true;
        }
        while self.len() == self.capacity {
            self.evict();
        }
        if self.enters_main(key) {
            self.main.push_back(key);
        } else {
            self.small.push_back(key);
            let share = self.share() as f64;
            if let Some(adaptive) = &mut self.adaptive {
                adaptive.young += 1;
                if !adaptive.full {
                    adaptive.young = adaptive.young.min(adaptive.most_young(share));
                }
            }
        }
        self.freq[at] = 0;
        false
    }
}

impl Ghosts {
    fn new(capacity: usize) -> Self {
        Self { capacity, queue: VecDeque::new(), since: Vec::new(), live: 0, now: 0 }
    }

    fn insert(&mut self, key: u32) {
        let at = key as usize;
        self.since.resize(self.since.len().max(at + 1), 0);
        self.now += 1;
        self.live += usize::from(self.since[at] == 0);
        self.since[at] = self.now;
        self.queue.push_back((key, self.now));
        while self.live > self.capacity {
            let (oldest, came) = self.queue.pop_front().expect("as many as there are ghosts");
            if self.since[oldest as usize] == came {
                self.since[oldest as usize] = 0;
                self.live -= 1;
            }
        }
    }

    /// How many came since, if `key` is a ghost. It is none any longer.
    fn take(&mut self, key: u32) -> Option<u64> {
        let since = self.since.get_mut(key as usize).filter(|since| **since > 0)?;
        self.live -= 1;
        Some(self.now - std::mem::take(since))
    }
}
