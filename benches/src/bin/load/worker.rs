//! A thread that works the cache of a phase, and verifies every hit.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ::tests::pattern::Random;
use benches::race::histogram;
use hdrhistogram::Histogram;
use zcache::{InsertError, InsertOptions, Leased, Waited};

use crate::field::Field;
use crate::stage::{self, Stage};

/// What threads count.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) operations: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
}

pub(crate) struct Worker<'f> {
    field: &'f Field,
    random: Random,
    pub(crate) tally: Tally,
    pub(crate) times: Histogram<u64>,
    page: Vec<u8>,
    to: Vec<u8>,
}

/// What the system's allocator will keep for this thread, of the pages that the thread gets and
/// drops, it has from now on; and the stack is as deep as it will be. All of this is the thread's,
/// not the cache's.
fn warm() {
    // glibc keeps seven blocks of each size up to 1 KiB, in steps of 16 bytes, and some 128 KiB at
    // the end.
    let small = (16..=1056).step_by(16).flat_map(|bytes| [(); 7].map(|()| vec![1_u8; bytes]));
    drop(std::hint::black_box(small.collect::<Vec<_>>()));
    drop(std::hint::black_box(vec![1_u8; 100 << 10]));
    std::hint::black_box([1_u8; 48 << 10]);
}

impl<'f> Worker<'f> {
    pub(crate) fn new(field: &'f Field, number: usize) -> Self {
        let mut times = histogram();
        times.reset(); // touches all of it
        warm();
        let random = Random::new(field.plan.seed ^ (number as u64 + 1) << 32);
        let (page, to) = (vec![0xee; field.longest], vec![0xee; field.longest]);
        Self { field, random, tally: Tally::default(), times, page, to }
    }

    /// Works until the stage ends.
    pub(crate) fn run(&mut self, stage: Stage) {
        while !self.field.stop.load(Ordering::Relaxed) {
            match stage {
                Stage::Zeros | Stage::Tiny => self.flood(stage),
                Stage::Herd => self.herd(),
                _ => self.mix(),
            }
            let (held, most) = (self.field.cache().held_bytes(), self.field.plan.capacity);
            assert!(held <= most, "{held} bytes held, the capacity never being above {most}");
            self.tally.operations += 1;
        }
    }

    fn mix(&mut self) {
        let key = self.field.key(&mut self.random);
        let way = self.random.below(100);
        match way {
            0..=54 => self.look(key, way),
            55..=69 => self.fill(key, way % 2 == 0),
            70..=91 => self.insert(key, InsertOptions::new()),
            92..=93 => {
                let time = Duration::from_millis(1 + self.random.below(20) as u64);
                self.insert(key, InsertOptions::new().time_to_live(time));
            }
            95 => self.insert(key, InsertOptions::new().scan()),
            94 => self.insert(key, InsertOptions::new().priority(zcache::policy::Priority::Low)),
            _ => self.remove(key, way == 99),
        }
    }

    /// A page under a new key; now and then a look-up of one of the last of them, or of all.
    fn flood(&mut self, stage: Stage) {
        let number = self.field.numbers.fetch_add(1, Ordering::Relaxed);
        self.store(stage.key(number));
        if number % 4 == 0 {
            let span = if number % 8 == 0 { 1000.min(number + 1) } else { number + 1 };
            let back = self.random.below(span as usize) as u64;
            self.find(stage.key(number - back));
        }
    }

    /// A page of any length under one of so many keys that only some of them fit.
    fn herd(&mut self) {
        let keys = (8 * self.field.plan.capacity / self.field.longest).max(8);
        let key = Stage::Herd.key(self.random.below(keys) as u64);
        if self.random.below(2) == 0 { self.store(key) } else { self.find(key) }
    }

    /// Inserts the page of a key whose pages have no versions.
    fn store(&mut self, key: u64) {
        stage::write(key, self.field.versions.files(), self.field.longest, &mut self.page);
        match self.field.cache().insert(key, &self.page) {
            // The statistics count them, and `Field::quiet` judges.
            Ok(()) | Err(InsertError::NoRoom { .. }) => {}
            Err(error) => panic!("key {key:#x}: {error}"),
        }
    }

    /// Looks such a key up, without memory that the caller would hold.
    fn find(&mut self, key: u64) {
        let (cache, files) = (self.field.cache(), self.field.versions.files());
        let (longest, room) = (self.field.longest, &mut self.page);
        let found = if self.random.below(2) == 0 {
            let found = cache.get_into(&key, &mut self.to).expect("a buffer for the longest");
            found.map(|len| stage::verify(key, &self.to[..len], files, longest, room))
        } else {
            cache.read(&key, |page| stage::verify(key, page, files, longest, room))
        };
        self.count(found.is_some());
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
                cache.read(&key, |page| versions.verify(key, floor, page)).is_some()
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
            let waited = match cache.get_or_lease(&key) {
                Leased::Page(page) => Waited::Page(page),
                Leased::Lease(lease) => Waited::Lease(lease),
                Leased::Wait(waiting) => waiting.wait(),
            };
            match waited {
                Waited::Page(page) => Ok(page),
                Waited::Failed(error) => panic!("key {key}: {error}"),
                Waited::Lease(lease) => {
                    missed = true;
                    versions.write(key, versions.read(key), &mut self.page);
                    match cache.insert_if_valid(lease, &self.page) {
                        Ok(()) | Err(InsertError::NoRoom { .. } | InsertError::Outdated) => Err(()),
                        Err(error) => panic!("key {key}: {error}"),
                    }
                }
            }
        } else {
            cache
                .get_or_insert_with(&key, |to| {
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

    fn insert(&mut self, key: u64, how: InsertOptions) {
        let (cache, versions) = (self.field.cache(), &self.field.versions);
        let page = &mut self.page;
        versions.change(key, |version| {
            versions.write(key, version, page);
            match cache.insert_with_options(key, page, how) {
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
