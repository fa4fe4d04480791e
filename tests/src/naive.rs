//! Eviction policies as their papers have them, with a queue, a set and no thought for speed: what the
//! real ones are held against. Entries are of one size, keys are numbers.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Debug;

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

/// S3-FIFO (Yang et al., SOSP 2023), algorithm 1, with ghosts in an exact queue of as many keys as the
/// main queue has entries. Adaptive: the main queue fills first, and a part of the ghosts enters it.
#[derive(Debug)]
pub struct S3Fifo {
    small_capacity: usize,
    main_capacity: usize,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    freq: HashMap<u32, u8>,
    ghosts: Ghosts,
    /// The part that enters, what is left of it, and who entered so and was not judged yet.
    adaptive: Option<(f64, f64, HashSet<u32>)>,
}

/// The last keys that went. Those that are no ghosts any more stay in the queue until their turn.
#[derive(Debug)]
struct Ghosts {
    capacity: usize,
    queue: VecDeque<(u32, u64)>,
    /// When each one came.
    since: HashMap<u32, u64>,
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
            // What was next stands where the victim stood; past the head, the hand starts at the tail.
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
        let small_capacity = (capacity / 10).max(1);
        let main_capacity = capacity - small_capacity;
        Self {
            small_capacity,
            main_capacity,
            small: VecDeque::new(),
            main: VecDeque::new(),
            freq: HashMap::new(),
            ghosts: Ghosts {
                capacity: main_capacity,
                queue: VecDeque::new(),
                since: HashMap::new(),
                now: 0,
            },
            adaptive: None,
        }
    }

    /// An empty one that adapts.
    #[must_use]
    pub fn adaptive(capacity: usize) -> Self {
        Self { adaptive: Some((1.0, 0.0, HashSet::new())), ..Self::new(capacity) }
    }

    /// Where `key` enters.
    fn enters_main(&mut self, key: u32) -> bool {
        let returns = self.ghosts.remove(key);
        let Some((part, credit, entered)) = &mut self.adaptive else { return returns };
        if returns {
            *credit += *part;
            if *credit >= 1.0 {
                *credit -= 1.0;
                entered.insert(key);
                return true;
            }
        }
        let share = ((self.small.len() + self.main.len()) / 10).max(1);
        self.small.len() > share + share / 2 + 1
    }

    fn judge(&mut self, key: u32, hit: bool) {
        let capacity = self.small_capacity + self.main_capacity;
        let Some((part, _, entered)) = &mut self.adaptive else { return };
        if entered.remove(&key) {
            // The one judged is still counted, and so is nobody who has not entered yet.
            let step = 1.0 + 4.0 / capacity as f64;
            *part = (if hit { *part * step } else { *part / step }).clamp(1.0 / 16.0, 1.0);
        }
    }

    fn evict_small(&mut self) {
        while let Some(tail) = self.small.pop_front() {
            if self.freq[&tail] > 1 {
                self.freq.insert(tail, 0);
                self.main.push_back(tail);
            } else {
                self.freq.remove(&tail);
                self.ghosts.insert(tail);
                return;
            }
        }
    }

    fn evict_main(&mut self) {
        while let Some(tail) = self.main.pop_front() {
            let freq = self.freq[&tail];
            self.judge(tail, freq > 0);
            if freq > 0 {
                self.freq.insert(tail, freq - 1);
                self.main.push_back(tail);
            } else {
                self.freq.remove(&tail);
                return;
            }
        }
    }
}

impl Naive for S3Fifo {
    fn request(&mut self, key: u32) -> bool {
        if let Some(freq) = self.freq.get_mut(&key) {
            *freq = (*freq + 1).min(3);
            return true;
        }
        while self.small.len() + self.main.len() == self.small_capacity + self.main_capacity {
            if self.small.len() >= self.small_capacity || self.main.is_empty() {
                self.evict_small();
            } else {
                self.evict_main();
            }
        }
        if self.enters_main(key) {
            self.main.push_back(key);
        } else {
            self.small.push_back(key);
        }
        self.freq.insert(key, 0);
        false
    }
}

impl Ghosts {
    fn insert(&mut self, key: u32) {
        self.now += 1;
        self.queue.push_back((key, self.now));
        self.since.insert(key, self.now);
        while self.since.len() > self.capacity {
            let (oldest, came) = self.queue.pop_front().expect("as many as there are ghosts");
            if self.since.get(&oldest) == Some(&came) {
                self.since.remove(&oldest);
            }
        }
    }

    fn remove(&mut self, key: u32) -> bool {
        self.since.remove(&key).is_some()
    }
}
