//! SIEVE.

use std::collections::TryReserveError;

use super::links::{Links, List};
use super::{Entries, Policy, Priority};

/// SIEVE (Zhang et al., NSDI 2024): entries stand in the order in which they came; a hand goes from the
/// oldest to the newest, forgives those that were hit since it passed last, where they are, and takes
/// the first that was not. Newcomers so have to be hit before the hand comes, and what proved
/// itself is not moved at all.
#[derive(Debug)]
pub struct Sieve {
    links: Links,
    list: List,
    /// The entry to look at next; none: the oldest.
    hand: Option<u32>,
}

impl Default for Sieve {
    fn default() -> Self {
        Self::new()
    }
}

impl Sieve {
    /// The policy, empty.
    #[must_use]
    pub fn new() -> Self {
        Self { links: Links::default(), list: List::new(1), hand: None }
    }
}

impl Policy for Sieve {
    fn name(&self) -> &'static str {
        "sieve"
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
            Priority::Low => {
                self.list.push_tail(&mut self.links, id);
                // The hand starts over, so that it comes here next.
                self.hand = None;
            }
            Priority::Normal | Priority::High => self.list.push_head(&mut self.links, id),
        }
    }

    fn remove(&mut self, id: u32) -> bool {
        let known = self.contains(id);
        if known {
            if self.hand == Some(id) {
                self.hand = self.links.up(id);
            }
            self.list.remove(&mut self.links, id);
        }
        known
    }

    fn replace(&mut self, old: u32, new: u32) {
        if self.contains(old) && self.remove(new) {
            self.list.swap(&mut self.links, old, new);
            if self.hand == Some(old) {
                self.hand = Some(new);
            }
        } else {
            self.remove(old);
        }
    }

    fn evict(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32> {
        for look in 1..=effort.min(2 * self.list.len() + 1) {
            let id = self.hand.or_else(|| self.list.tail())?;
            match entries.mark(id) {
                Some(mark) if mark == 0 || look == effort => {
                    self.remove(id);
                    self.hand = self.hand.filter(|hand| *hand != id);
                    return Some(id);
                }
                Some(_) => entries.set_mark(id, 0),
                None => {}
            }
            self.hand = self.links.up(id);
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
        assert!(self.hand.is_none_or(|hand| self.contains(hand)), "the hand points at an entry");
    }
}
