//! LRU, as far as marks tell: CLOCK.

use std::collections::TryReserveError;

use super::links::{Links, List};
use super::{Entries, Policy, Priority};

/// Least recently used, approximated: entries stand in the order in which they came, and one that was hit
/// since goes back to the start instead of out. That is CLOCK, the "second chance" of operating systems.
///
/// Told of each hit by [`touch`](Policy::touch) it is exact LRU; told of none, and without marks, FIFO. A
/// [`Cache`](crate::Cache) sets marks: exact LRU would have each hit write to one list.
#[derive(Debug)]
pub struct Lru {
    links: Links,
    list: List,
}

impl Default for Lru {
    fn default() -> Self {
        Self::new()
    }
}

impl Lru {
    /// The policy, empty.
    #[must_use]
    pub fn new() -> Self {
        Self { links: Links::default(), list: List::new(1) }
    }
}

impl Policy for Lru {
    fn name(&self) -> &'static str {
        "lru"
    }

    fn max_mark(&self) -> u8 {
        1
    }

    fn growth(&self, id: u32) -> usize {
        self.links.growth(id)
    }

    fn grow(&mut self, id: u32) -> Result<(), TryReserveError> {
        self.links.grow(id)
    }

    fn insert(&mut self, id: u32, _tag: u32, priority: Priority) {
        match priority {
            Priority::Low => self.list.push_tail(&mut self.links, id),
            Priority::Normal | Priority::High => self.list.push_head(&mut self.links, id),
        }
    }

    fn remove(&mut self, id: u32) -> bool {
        let known = self.contains(id);
        if known {
            self.list.remove(&mut self.links, id);
        }
        known
    }

    fn replace(&mut self, old: u32, new: u32) {
        // A write is a use: the newcomer's place, at the head, is the better one.
        if self.remove(old) {
            self.touch(new);
        }
    }

    fn touch(&mut self, id: u32) {
        if self.remove(id) {
            self.list.push_head(&mut self.links, id);
        }
    }

    fn evict(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32> {
        for look in 1..=effort.min(2 * self.list.len() + 1) {
            let id = self.list.tail()?;
            self.list.remove(&mut self.links, id);
            match entries.mark(id) {
                Some(mark) if mark == 0 || look == effort => return Some(id),
                Some(_) => entries.set_mark(id, 0),
                None => {}
            }
            self.list.push_head(&mut self.links, id);
        }
        None
    }

    fn contains(&self, id: u32) -> bool {
        self.links.list_of(id) != 0
    }

    fn len(&self) -> usize {
        self.list.len()
    }

    fn bytes(&self) -> usize {
        self.links.bytes()
    }

    fn check(&self) {
        self.list.check(&self.links);
    }
}
