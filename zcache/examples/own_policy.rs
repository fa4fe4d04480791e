//! An eviction policy of one's own: of a few entries taken at random, the one hit least goes.
//!
//! It takes 8 bytes an entry and keeps no order. The sample is a small allocation at each eviction,
//! which a policy for more than an example would do without.
//!
//! ```sh
//! cargo run --release -p zcache --example own_policy
//! ```
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::error::Error;

use zcache::policy::{Entries, Policy, Priority, S3Fifo};
use zcache::{Cache, Config};
use zpool::NoMemory;
use zpool::source::heap_cost;

/// Entries that are looked at for one victim.
const SAMPLE: usize = 8;
/// The place of an id that has none.
const NOWHERE: u32 = u32::MAX;

/// To a policy entries are numbers. What is told to it comes under one lock, so it is plain code.
#[derive(Debug, Default)]
struct Sampled {
    /// Where in `ids` an id stands.
    places: Vec<u32>,
    ids: Vec<u32>,
    random: fastrand::Rng,
}

/// Bytes of both tables with room for so many ids.
const fn cost(room: usize) -> usize {
    2 * heap_cost(room * size_of::<u32>())
}

impl Policy for Sampled {
    fn name(&self) -> &'static str {
        "sampled"
    }

    /// For another cache with the same settings.
    fn fresh(&self) -> Box<dyn Policy> {
        Box::new(Self::default())
    }

    /// A hit adds 1 to its entry's mark, up to this. It tells nobody, and so takes no lock.
    fn max_mark(&self) -> u8 {
        3
    }

    /// The cache charges this to its capacity before the tables grow.
    fn growth(&self, id: u32) -> usize {
        let (room, wanted) = (self.places.len(), (id as usize + 1).next_multiple_of(1024));
        cost(wanted).saturating_sub(cost(room))
    }

    fn grow(&mut self, id: u32) -> Result<(), NoMemory> {
        let (room, wanted) = (self.places.len(), (id as usize + 1).next_multiple_of(1024));
        if wanted > room {
            self.ids.try_reserve_exact(wanted - self.ids.len()).map_err(|_| NoMemory)?;
            self.places.try_reserve_exact(wanted - room).map_err(|_| NoMemory)?;
            self.places.resize(wanted, NOWHERE);
        }
        Ok(())
    }

    fn insert(&mut self, id: u32, _tag: u32, _priority: Priority) {
        self.places[id as usize] = self.ids.len() as u32;
        self.ids.push(id);
    }

    fn remove(&mut self, id: u32) -> bool {
        let is_in = self.contains(id);
        if is_in {
            let place = std::mem::replace(&mut self.places[id as usize], NOWHERE);
            self.ids.swap_remove(place as usize);
            if let Some(moved) = self.ids.get(place as usize) {
                self.places[*moved as usize] = place;
            }
        }
        is_in
    }

    /// The new entry of a key is in already, and has no place to take over.
    fn replace(&mut self, old: u32, _new: u32) {
        self.remove(old);
    }

    fn evict(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32> {
        let mut sample = Vec::with_capacity(SAMPLE);
        for _ in 0..effort {
            let id = *self.ids.get(self.random.usize(..self.ids.len().max(1)))?;
            // Without a mark it may not go now.
            let Some(mark) = entries.mark(id) else { continue };
            entries.set_mark(id, mark.saturating_sub(1)); // old hits count less and less
            sample.push((mark, id));
            if sample.len() == SAMPLE {
                break;
            }
        }
        let (_, id) = sample.into_iter().min()?;
        self.remove(id).then_some(id)
    }

    fn contains(&self, id: u32) -> bool {
        self.places.get(id as usize).is_some_and(|place| *place != NOWHERE)
    }

    fn len(&self) -> usize {
        self.ids.len()
    }

    fn bytes(&self) -> usize {
        cost(self.places.len())
    }

    fn check(&self) {
        let is_right = |(place, id): (usize, &u32)| self.places[*id as usize] as usize == place;
        assert!(self.ids.iter().enumerate().all(is_right), "each id is where it should be");
    }
}

/// The part of look-ups that hit, where a few of many pages are asked for again and again.
fn hit_ratio(policy: impl Policy + 'static) -> Result<f64, Box<dyn Error>> {
    let cache = Cache::new(Config::new(1 << 20).policy(policy))?;
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..100_000 {
        let most = 20_000 >> random.u32(..8);
        let page = random.u32(..most);
        if cache.get(&page).is_none() {
            cache.insert(page, format!("{page:08} ").repeat(100).as_bytes())?;
        }
    }
    cache.check(); // asks the policy, too
    assert!(cache.stats().removals.evicted > 1000);
    Ok(cache.stats().hit_ratio())
}

fn main() -> Result<(), Box<dyn Error>> {
    let (own, built_in) = (hit_ratio(Sampled::default())?, hit_ratio(S3Fifo::new())?);
    println!("hits: {:.1} % sampled, {:.1} % S3-FIFO", 100.0 * own, 100.0 * built_in);
    assert!(own > 0.5 && own > 0.8 * built_in);
    Ok(())
}
