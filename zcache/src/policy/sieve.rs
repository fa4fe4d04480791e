//! SIEVE: one queue, and a hand that passes over it.
//! ```text
//! head, entered last                       tail
//!   o   o   x   o   x   x   o   x   x   x   o          x: hit since the hand last passed
//!               <- hand: takes the first o, x -> o on its way; after the head comes the tail
//! ```
//! Unlike in CLOCK no entry moves. Those that were spared stay behind the hand. New ones are in
//! front of it, where the hand comes to them soon. Invariant: the hand is in the queue, or nowhere,
//! which is the tail.

use std::ops::Range;

use zpool::NoMemory;

use super::links::Links;
use super::search::Search;
use super::{Entries, Policy, Priority};

/// SIEVE (Zhang et al., NSDI 2024): keeps what is asked for again where it is, and tries newcomers
/// soon.
///
/// [`Priority::Low`] enters where the hand looks next; `High` is as `Normal`, but for its mark.
/// [`Lru`](super::Lru) has an example of how a policy is used.
#[derive(Debug)]
pub struct Sieve {
    links: Links<1>,
    /// The entry to be looked at next; `None`: the tail.
    hand: Option<u32>,
}

impl Sieve {
    /// One without entries, which holds no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self { links: Links::new(), hand: None }
    }

    /// Moves the hand to an entry without a mark. `None`: no more effort, or a round of entries
    /// that may not go, which the hand passes.
    fn seek(&mut self, search: &mut Search<'_>) -> Option<u32> {
        let mut passed = 0;
        while search.goes_on() && passed < self.links.len(0) {
            let id = self.hand.or(self.links.tail(0))?;
            match search.look(id) {
                None => passed += 1,
                Some(0) => return Some(id),
                Some(_) => {
                    passed = 0;
                    search.spare(id, 0);
                }
            }
            self.hand = self.links.newer(id);
        }
        None
    }
}

impl Default for Sieve {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Sieve {
    fn name(&self) -> &'static str {
        "sieve"
    }

    fn fresh(&self) -> Box<dyn Policy> {
        Box::new(Self::new())
    }

    fn max_mark(&self) -> u8 {
        1
    }

    fn growth(&self, id: u32) -> usize {
        self.links.growth(id)
    }

    fn grow(&mut self, id: u32) -> Result<(), NoMemory> {
        self.links.grow(id)
    }

    fn shrink(&mut self, in_use: &dyn Fn(Range<u32>) -> bool) -> usize {
        self.links.shrink(in_use)
    }

    fn insert(&mut self, id: u32, _tag: u32, priority: Priority) {
        match (priority, self.hand) {
            (Priority::Low, Some(hand)) => {
                self.links.insert_older(hand, id);
                self.hand = Some(id);
            }
            (Priority::Low, None) => self.links.push_tail(0, id),
            (Priority::Normal | Priority::High, _) => self.links.push_head(0, id),
        }
    }

    fn remove(&mut self, id: u32) -> bool {
        if self.hand == Some(id) {
            self.hand = self.links.newer(id);
        }
        self.links.remove(id)
    }

    fn replace(&mut self, old: u32, new: u32) {
        if old == new {
            return;
        }
        // The hand leaves `new` before that moves, and goes over to it with the place of `old`.
        if self.hand == Some(new) && self.contains(old) {
            self.hand = self.links.newer(new);
        }
        if self.hand == Some(old) {
            self.hand = if self.contains(new) { Some(new) } else { self.links.newer(old) };
        }
        self.links.replace(old, new);
    }

    fn evict(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32> {
        let mut search = Search::new(entries, effort);
        let victim = self.seek(&mut search).or(search.spared)?;
        self.remove(victim);
        Some(victim)
    }

    fn evict_unspared(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32> {
        let victim = self.seek(&mut Search::new(entries, effort))?;
        self.remove(victim);
        Some(victim)
    }

    fn contains(&self, id: u32) -> bool {
        self.links.list(id).is_some()
    }

    fn len(&self) -> usize {
        self.links.total()
    }

    fn bytes(&self) -> usize {
        self.links.bytes()
    }

    fn check(&self) {
        self.links.check();
        assert!(self.hand.is_none_or(|hand| self.contains(hand)), "the hand is in the queue");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hand_follows_replacements() {
        let cases = [
            ((1, 1, 2), Some(2)), // who takes the hand's place is looked at next
            ((1, 1, 0), Some(0)),
            ((2, 1, 2), Some(3)), // the hand stays where it is when its entry moves away
            ((1, 3, 1), Some(2)),
            ((1, 2, 1), Some(1)),
            ((3, 2, 3), None),
            ((1, 1, 9), Some(2)), // 9 is not in the queue
            ((1, 9, 1), Some(1)),
        ];
        for ((hand, old, new), after) in cases {
            let mut sieve = Sieve::new();
            sieve.grow(0).expect("room");
            (0..4).for_each(|id| sieve.insert(id, 0, Priority::Normal));
            sieve.hand = Some(hand);
            sieve.replace(old, new);
            sieve.check();
            assert_eq!(sieve.hand, after, "hand at {hand}, {new} replaces {old}");
        }
    }
}
