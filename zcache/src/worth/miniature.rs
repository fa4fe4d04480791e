//! Caches in miniature: how many misses there would be if all entries were packed by another codec.
//! ```text
//! tags       one in 2^rare, the same ones for all miniatures
//! miniature  S3-FIFO over as many of these tags as a cache of that codec had entries, divided by
//!            2^rare
//!            a hit, a miss        ->  asked for: there, or a miss of its own
//!            an insert            ->  enters where it is missing
//! ```
//! A small cache may see all requests for a sample of keys. It then has the hit ratio of the large
//! cache, but for chance: which keys are sampled. That is the same for all miniatures. So the
//! difference between two of them is known well.
//!
//! The rules are those of the paper, with a share of `small` that is fixed. Only a few bytes a tag
//! are spent: two rings of numbers, and a table of ghosts. In that a newer ghost takes the place of
//! an older one.

use zpool::source::heap_cost;

use super::account::MINIATURES;
use crate::index::Tag;
use crate::sync::{Counter, Mutex, Ordering, get};

/// Bytes of the capacity for a byte of each miniature.
const SHARE: usize = 640;
/// Entries of a miniature: powers of two.
const LEAST: usize = 32;
const MOST: usize = 512;
/// No entry.
const NONE: u16 = u16::MAX;
/// At the least one tag in 2^this is sampled.
const MOST_RARE: u32 = 24;
/// Where the largest miniature may have fewer entries than its table by this factor, more tags are
/// sampled.
const FEW: usize = 4;
/// `small` is one in so many entries.
const SMALL: usize = 10;
/// Hits that are counted.
const HIT: u8 = 3;

/// A miniature of each codec that has entries of a size of its own.
#[derive(Debug)]
pub(crate) struct Miniatures {
    caches: Mutex<Box<[Miniature]>>,
    /// One tag in 2^this is sampled. Changed under the lock.
    rare: Counter,
}

/// Numbers of entries in their order, the newest last.
#[derive(Debug)]
struct Ring {
    numbers: Box<[u16]>,
    first: usize,
    len: usize,
}

/// A cache of tags.
#[derive(Debug)]
struct Miniature {
    /// Tags and marks by number.
    tags: Box<[Tag]>,
    marks: Box<[u8]>,
    /// Numbers by tag: open addressing, each as near behind its own place as there was one. Twice
    /// as many as there are numbers.
    places: Box<[u16]>,
    small: Ring,
    main: Ring,
    /// Numbers that no entry has.
    free: Ring,
    /// Tags that left `small`, and how many had left it then, modulo 2^16.
    ghosts: Box<[Tag]>,
    born: Box<[u16]>,
    gone: u16,
    /// Entries that fit; more than there are numbers as long as that is not known.
    most: usize,
    missed: u64,
}

/// A tag is sampled if the lowest bits of this are 0. A tag's own bits choose shards and buckets.
fn spread(tag: Tag) -> u32 {
    tag.wrapping_mul(0x9e37_79b9) >> 7
}

fn is_sampled(tag: Tag, rare: u32) -> bool {
    spread(tag) & ((1 << rare) - 1) == 0
}

impl Ring {
    fn new(most: usize) -> Self {
        Self { numbers: vec![0; most].into(), first: 0, len: 0 }
    }

    fn push(&mut self, number: u16) {
        let at = (self.first + self.len) % self.numbers.len();
        self.numbers[at] = number;
        self.len += 1;
    }

    fn pop(&mut self) -> Option<u16> {
        self.len = self.len.checked_sub(1)?;
        let number = self.numbers[self.first];
        self.first = (self.first + 1) % self.numbers.len();
        Some(number)
    }
}

impl Miniature {
    /// Bytes of heap of one with so many numbers.
    fn bytes(numbers: usize) -> usize {
        let word = size_of::<u16>();
        let ring = heap_cost(numbers * word);
        let tags = heap_cost(numbers * size_of::<Tag>());
        2 * tags + heap_cost(numbers) + heap_cost(2 * numbers * word) + 4 * ring
    }

    fn new(numbers: usize) -> Self {
        let mut free = Ring::new(numbers);
        (0..numbers as u16).for_each(|number| free.push(number));
        Self {
            tags: vec![0; numbers].into(),
            marks: vec![0; numbers].into(),
            places: vec![NONE; 2 * numbers].into(),
            small: Ring::new(numbers),
            main: Ring::new(numbers),
            free,
            ghosts: vec![0; numbers].into(),
            born: vec![0; numbers].into(),
            gone: 0,
            most: usize::MAX,
            missed: 0,
        }
    }

    fn len(&self) -> usize {
        self.small.len + self.main.len
    }

    /// Where a tag belongs.
    fn home(&self, tag: Tag) -> usize {
        (tag.wrapping_mul(0x85eb_ca6b) >> 12) as usize & (self.places.len() - 1)
    }

    /// The place behind that.
    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.places.len() - 1)
    }

    /// Where a tag is, or where it would be.
    fn place(&self, tag: Tag) -> usize {
        let mut at = self.home(tag);
        while self.places[at] != NONE && self.tags[usize::from(self.places[at])] != tag {
            at = self.next(at);
        }
        at
    }

    /// Ends the entry of a number, which is on no ring.
    fn end(&mut self, number: u16) {
        let mut gap = self.place(self.tags[usize::from(number)]);
        self.places[gap] = NONE;
        let (mut at, all) = (self.next(gap), self.places.len());
        while self.places[at] != NONE {
            let own = self.home(self.tags[usize::from(self.places[at])]);
            // It may move to the gap unless its own place lies between the two.
            if (at + all - own) % all >= (at + all - gap) % all {
                self.places.swap(gap, at);
                gap = at;
            }
            at = self.next(at);
        }
        self.free.push(number);
    }

    /// Where the ghost of a tag would be.
    fn ghost(&self, tag: Tag) -> usize {
        self.home(tag) & (self.ghosts.len() - 1)
    }

    fn evict(&mut self) {
        while self.len() > 0 {
            let young = self.small.len > self.most.min(self.len()) / SMALL || self.main.len == 0;
            let from = if young { &mut self.small } else { &mut self.main };
            let Some(number) = from.pop() else { return };
            let at = usize::from(number);
            if self.marks[at] > 0 {
                self.marks[at] = if young { 0 } else { self.marks[at] - 1 };
                self.main.push(number);
                continue;
            }
            if young {
                let ghost = self.ghost(self.tags[at]);
                self.ghosts[ghost] = self.tags[at];
                self.born[ghost] = self.gone;
                self.gone = self.gone.wrapping_add(1);
            }
            return self.end(number);
        }
    }

    fn fit(&mut self, most: usize) {
        self.most = most;
        while self.len() > most {
            self.evict();
        }
    }

    /// A request; whether it was there.
    fn asked(&mut self, tag: Tag) -> bool {
        let number = self.places[self.place(tag)];
        if number == NONE {
            self.missed += 1;
            return false;
        }
        let mark = &mut self.marks[usize::from(number)];
        *mark = (*mark + 1).min(HIT);
        true
    }

    /// Enters, unless it is there.
    fn enter(&mut self, tag: Tag) {
        if self.places[self.place(tag)] != NONE {
            return;
        }
        if self.len() >= self.most {
            self.evict();
        }
        let Some(number) = self.free.pop() else { return };
        let (at, ghost) = (usize::from(number), self.ghost(tag));
        self.tags[at] = tag;
        self.marks[at] = 0;
        let place = self.place(tag);
        self.places[place] = number;
        let age = usize::from(self.gone.wrapping_sub(self.born[ghost]));
        let returns = self.ghosts[ghost] == tag && age <= self.len();
        if returns { &mut self.main } else { &mut self.small }.push(number);
    }

    /// Keeps those that are still sampled.
    fn thin(&mut self, rare: u32) {
        for main in [false, true] {
            let none = Ring { numbers: Box::default(), first: 0, len: 0 };
            let ring = if main { &mut self.main } else { &mut self.small };
            let mut ring = std::mem::replace(ring, none);
            for _ in 0..ring.len {
                let Some(number) = ring.pop() else { break };
                if is_sampled(self.tags[usize::from(number)], rare) {
                    ring.push(number);
                } else {
                    self.end(number);
                }
            }
            *(if main { &mut self.main } else { &mut self.small }) = ring;
        }
    }

    /// Whether there are too many for this table.
    fn overflows(&self) -> bool {
        self.free.len == 0 && self.most > self.tags.len()
    }
}

/// Numbers of each miniature in a cache of that capacity.
fn numbers(capacity: usize) -> usize {
    let room = capacity / SHARE;
    let fits = |numbers: &usize| *numbers <= MOST && Miniature::bytes(*numbers) <= room;
    (0..).map(|power| LEAST << power).take_while(fits).last().unwrap_or(LEAST)
}

impl Miniatures {
    /// So many empty ones for a cache of that capacity.
    pub(crate) fn new(capacity: usize, count: usize) -> Self {
        let numbers = numbers(capacity);
        Self {
            caches: Mutex::new((0..count).map(|_| Miniature::new(numbers)).collect()),
            rare: Counter::new(0),
        }
    }

    /// Bytes of heap that they take.
    pub(crate) fn fixed_bytes(capacity: usize, count: usize) -> usize {
        count * Miniature::bytes(numbers(capacity)) + heap_cost(count * size_of::<Miniature>())
    }

    fn is_sampled(&self, tag: Tag) -> bool {
        is_sampled(tag, get(&self.rare) as u32)
    }

    /// All miniatures, for a tag that is sampled. While another thread has them nothing is told to
    /// them: they are a sample.
    #[cold]
    fn each(&self, f: impl FnMut(&mut Miniature)) {
        let Some(mut caches) = self.caches.try_lock() else { return };
        caches.iter_mut().for_each(f);
        if caches.iter().any(Miniature::overflows) {
            self.thin(&mut caches);
        }
    }

    /// Half of all sampled tags are not any more.
    fn thin(&self, caches: &mut [Miniature]) {
        let rare = (get(&self.rare) + 1).min(MOST_RARE.into());
        self.rare.store(rare, Ordering::Relaxed);
        caches.iter_mut().for_each(|cache| cache.thin(rare as u32));
    }

    /// A hit in the cache: one without it is a miss, and is answered.
    #[inline]
    pub(crate) fn hit(&self, tag: Tag) {
        if self.is_sampled(tag) {
            self.each(|cache| {
                if !cache.asked(tag) {
                    cache.enter(tag);
                }
            });
        }
    }

    /// A miss in the cache.
    #[inline]
    pub(crate) fn missed(&self, tag: Tag) {
        if self.is_sampled(tag) {
            self.each(|cache| _ = cache.asked(tag));
        }
    }

    /// A page was inserted.
    #[inline]
    pub(crate) fn came(&self, tag: Tag) {
        if self.is_sampled(tag) {
            self.each(|cache| cache.enter(tag));
        }
    }

    /// What each missed since it was made.
    pub(crate) fn all_missed(&self) -> [u64; MINIATURES] {
        missed(&self.caches.lock())
    }

    /// From now on each is one of a cache with so many entries. What each missed since it was made.
    pub(crate) fn fit(&self, entries: [usize; MINIATURES]) -> [u64; MINIATURES] {
        let mut caches = self.caches.lock();
        let most = caches[0].tags.len();
        let scaled = |rare: u64| entries.map(|entries| (entries >> rare).max(1));
        while scaled(get(&self.rare)).iter().any(|fit| *fit > most) {
            self.thin(&mut caches);
        }
        let rare = get(&self.rare);
        if rare > 0 && scaled(rare).iter().all(|fit| *fit < most / FEW) {
            self.rare.store(rare - 1, Ordering::Relaxed);
        }
        let sizes = scaled(get(&self.rare));
        caches.iter_mut().zip(sizes).for_each(|(cache, most)| cache.fit(most));
        missed(&caches)
    }
}

fn missed(caches: &[Miniature]) -> [u64; MINIATURES] {
    let mut all = [0; MINIATURES];
    all.iter_mut().zip(caches).for_each(|(all, cache)| *all = cache.missed);
    all
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    fn tag(nth: usize) -> Tag {
        (nth as Tag).wrapping_mul(0x9e37_79b9) ^ 0x1234_5678
    }

    impl Miniature {
        /// Each number is on one ring, and each entry is found by its tag.
        fn check(&self) {
            let rings = [&self.small, &self.main, &self.free];
            let on = |ring: &Ring| {
                let at = |nth: usize| ring.numbers[(ring.first + nth) % ring.numbers.len()];
                (0..ring.len).map(at).collect::<Vec<u16>>()
            };
            let mut all: Vec<u16> = rings.into_iter().flat_map(on).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..self.tags.len() as u16), "{self:?}");
            for number in [&self.small, &self.main].into_iter().flat_map(on) {
                let place = self.place(self.tags[usize::from(number)]);
                assert_eq!(self.places[place], number);
            }
            let there = self.places.iter().filter(|number| **number != NONE).count();
            assert_eq!(there, self.len());
        }
    }

    #[test]
    fn every_entry_is_found_whatever_comes_and_goes() {
        let mut cache = Miniature::new(64);
        let mut random = 1_u64;
        for step in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let tag = tag((random >> 40) as usize % 150);
            match random >> 33 & 7 {
                0..=3 => _ = cache.asked(tag),
                _ => cache.enter(tag),
            }
            match step % 1000 {
                400 => cache.fit(10 + step / 1000 * 2),
                700 => cache.thin(1),
                900 => cache.fit(usize::MAX),
                _ => {}
            }
            assert!(cache.len() <= cache.most.min(64));
            if step % 16 == 0 {
                cache.check();
            }
        }
        assert!(cache.missed > 1000);
    }

    /// Requests in a circle of 120 pages in a thousand, and what each of three caches missed.
    #[test]
    fn a_larger_cache_in_miniature_misses_less() {
        let caches = Miniatures::new(64 << 20, MINIATURES);
        let entries = [100_000, 180_000, 50_000];
        for nth in 0..2_000_000 {
            // As in the cache that they stand for, which misses most.
            let tag = tag(nth % 150_000);
            caches.missed(tag);
            caches.came(tag);
            if nth % 10_000 == 0 {
                caches.fit(entries);
            }
        }
        let rare = get(&caches.rare);
        let asked = (2_000_000 >> rare) as f64;
        let [fits, larger, smaller] = caches.all_missed().map(|missed| missed as f64 / asked);
        assert!(larger < 0.25 && smaller > 0.75, "{larger} {fits} {smaller}");
        assert!(larger < fits && fits < smaller + 0.01, "{larger} {fits} {smaller}");
        caches.caches.lock().iter().for_each(Miniature::check);
    }

    /// A hot set that fits, and strangers that pass by once.
    #[test]
    fn strangers_do_not_wash_a_hot_set_out() {
        let mut cache = Miniature::new(64);
        cache.fit(50);
        let mut hits = 0;
        for nth in 0..10_000 {
            let hot = tag(nth % 30);
            if cache.asked(hot) {
                hits += 1;
            } else {
                cache.enter(hot);
            }
            cache.asked(tag(1000 + nth));
            cache.enter(tag(1000 + nth));
        }
        assert!(hits > 9500, "{hits}");
    }

    #[test]
    fn miniatures_take_no_more_than_their_share() {
        for capacity in [64 << 10, 1 << 20, 3 << 20, 64 << 20, 1 << 40] {
            let bytes = Miniatures::fixed_bytes(capacity, MINIATURES);
            assert!(bytes <= capacity / 200 || numbers(capacity) == LEAST, "{bytes}");
            assert!(numbers(capacity).is_power_of_two());
        }
    }
}
