//! An eviction policy of zcache by itself: a trace played at a number of entries of one size, which
//! have no bytes.

use std::cell::Cell;

use zcache::policy::{Entries, Policy, Priority};

use crate::pattern::Random;

/// How a policy hears of hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hits {
    /// By marks, as from a cache.
    Mark,
    /// By calls.
    Touch,
    /// Not at all.
    Untold,
}

/// A policy and entries of one size, which its ids stand for.
#[derive(Debug)]
pub struct Driven<P> {
    policy: P,
    hits: Hits,
    capacity: usize,
    /// The id of each page, or `NONE`.
    id_of: Vec<u32>,
    entries: Table,
    free: Vec<u32>,
}

/// The entries by id: mark and page.
#[derive(Debug, Default)]
pub struct Table(Vec<(Cell<u8>, u32)>);

const NONE: u32 = u32::MAX;

impl Table {
    /// Entries without a mark that have these pages.
    #[must_use]
    pub fn of(pages: impl Iterator<Item = u32>) -> Self {
        Self(pages.map(|page| (Cell::new(0), page)).collect())
    }
}

impl Entries for Table {
    fn mark(&self, id: u32) -> Option<u8> {
        Some(self.0[id as usize].0.get())
    }

    fn set_mark(&self, id: u32, mark: u8) {
        self.0[id as usize].0.set(mark);
    }

    fn tag(&self, id: u32) -> u32 {
        tag(self.0[id as usize].1)
    }
}

/// The tag of a page.
#[must_use]
pub fn tag(page: u32) -> u32 {
    Random::new(page.into()).bits() as u32
}

impl<P: Policy> Driven<P> {
    /// At most `capacity` entries; pages are below `pages`.
    #[must_use]
    pub fn new(policy: P, hits: Hits, capacity: usize, pages: usize) -> Self {
        let (id_of, entries, free) = (vec![NONE; pages], Table::default(), Vec::new());
        Self { policy, hits, capacity, id_of, entries, free }
    }

    /// Asks for `page`, which enters where it is missing. Says whether it was there.
    pub fn request(&mut self, page: u32) -> bool {
        let id = self.id_of[page as usize];
        if id != NONE {
            let mark = &self.entries.0[id as usize].0;
            match self.hits {
                Hits::Mark => mark.set((mark.get() + 1).min(self.policy.max_mark())),
                Hits::Touch => self.policy.touch(id),
                Hits::Untold => {}
            }
            return true;
        }
        if self.policy.len() == self.capacity {
            let victim = self.policy.evict(&self.entries, usize::MAX).expect("all may go");
            self.id_of[self.entries.0[victim as usize].1 as usize] = NONE;
            self.free.push(victim);
        }
        let id = self.free.pop().unwrap_or(self.entries.0.len() as u32);
        if id as usize == self.entries.0.len() {
            self.entries.0.push(Default::default());
            self.policy.grow(id).expect("memory");
        }
        self.entries.0[id as usize] = (Cell::new(0), page);
        self.id_of[page as usize] = id;
        self.policy.insert(id, tag(page), Priority::Normal);
        false
    }

    /// Asks for all of `pages` in turn, and says how many were there.
    pub fn play(mut self, pages: &[u32]) -> usize {
        let hits = pages.iter().filter(|page| self.request(**page)).count();
        self.policy.check();
        hits
    }
}
