//! S3-FIFO: three static queues.
//! ```text
//!                     asked for twice ---------> head  main  tail -> mark left: back to the head, one less
//! new -> head  small  tail                        ^                  none left: out
//!                     else: out, a ghost remains  | asked for again while a ghost
//! ```
//! Most pages are asked for once; they pass through the tenth that is `small` and never reach `main`. The
//! rules are those of the paper and of its authors' simulator, where they say more: an entry goes from
//! `small` while that has its tenth of the entries or more, or `main` is empty; a search in `small` ends
//! there; who moves to `main` starts again with no mark. There are as many ghosts as `main` is
//! entitled to entries, and their room comes with that of the entries.
//!
//! Two rules are ours, and [`S3Fifo::plain`] is without them. Both are for pages that are read in circles,
//! or by a frequency that a queue is too short to see, where `main` would turn over and hold nothing long
//! enough:
//! 1. *`main` fills first.* What comes while `small` has half again its share enters `main`, so that a
//!    cache that was never full does not hold one long `small`.
//! 2. *A door for ghosts.* `main` takes a part of those who return, the rest go through `small` like
//!    strangers. The part falls when one who was let in leaves `main`, or passes its tail, without a hit, and
//!    rises when it was hit. It is steady where half are hit: where fewer are, those who were
//!    in `main` before were worth more.
//!
//! DESIGN.md has what that does to the hit ratios of the shared traces.

use std::ops::Range;

use zpool::NoMemory;

use super::chunks::per_chunk;
use super::ghost::Ghosts;
use super::links::Links;
use super::search::Search;
use super::{Entries, Policy, Priority};

const SMALL: usize = 0;
const MAIN: usize = 1;
/// `small` is one in so many entries.
const SHARE: usize = 10;
/// Hits after insertion that bring an entry from `small` to `main`.
const PROVEN: u8 = 2;
/// A turn of `main` in which all who were let in went without a hit makes the door narrower by e^-4.
const HASTE: f64 = 4.0;
/// The door is never narrower, or nobody would be there to be judged.
const NARROWEST: f64 = 1.0 / 16.0;

/// S3-FIFO (Yang et al., SOSP 2023): scans pass through a small queue, what is asked for again stays.
///
/// [`Priority::High`] enters the main queue, [`Low`](Priority::Low) goes next from the small one.
/// [`Lru`](super::Lru) has an example of how a policy is used.
#[derive(Debug)]
pub struct S3Fifo {
    /// Who came through the door is flagged in `main`, until its tail judges it.
    queues: Links<2>,
    ghosts: Ghosts,
    door: Option<Door>,
    /// The queue that the last victim was in.
    last: usize,
}

/// Lets a part of those who return into `main`.
#[derive(Debug)]
struct Door {
    part: f64,
    /// What is left of the parts of those who returned: one more goes in when it comes to 1.
    credit: f64,
}

impl Door {
    fn lets_in(&mut self) -> bool {
        self.credit += self.part;
        let whole = self.credit >= 1.0;
        self.credit -= f64::from(u8::from(whole));
        whole
    }

    /// One of those let in, in a policy of `entries`, was hit or not when its turn came.
    fn judge(&mut self, hit: bool, entries: usize) {
        let step = 1.0 + HASTE / entries as f64;
        let part = if hit { self.part * step } else { self.part / step };
        self.part = part.clamp(NARROWEST, 1.0);
    }
}

impl S3Fifo {
    /// One without entries, which holds no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self { door: Some(Door { part: 1.0, credit: 0.0 }), ..Self::plain() }
    }

    /// The same by the rules of the paper alone: all pages start in the small queue, and all that return
    /// after they went from it enter the main one.
    #[must_use]
    pub fn plain() -> Self {
        Self { queues: Links::new(), ghosts: Ghosts::new(), door: None, last: SMALL }
    }

    /// Entries that `small` is entitled to.
    fn share(&self) -> usize {
        (self.queues.total() / SHARE).max(1)
    }

    fn search_small(&mut self, search: &mut Search<'_>) -> Option<u32> {
        let mut at = self.queues.tail(SMALL);
        while search.goes_on() {
            let id = at?;
            at = self.queues.newer(id);
            match search.look(id) {
                None => {}
                Some(PROVEN..) => {
                    self.queues.move_to_head(MAIN, id);
                    search.spare(id, 0);
                }
                Some(_) => {
                    self.ghosts.remember(search.tag(id), self.queues.total() - self.share());
                    self.queues.remove(id);
                    self.last = SMALL;
                    return Some(id);
                }
            }
        }
        None
    }

    fn search_main(&mut self, search: &mut Search<'_>) -> Option<u32> {
        let door = &mut self.door;
        self.last = MAIN;
        search.second_chance(&mut self.queues, MAIN, |queues, id, hit| {
            if let Some(door) = door.as_mut().filter(|_| queues.is_flagged(id)) {
                door.judge(hit, queues.total());
            }
        })
    }

    /// Whether `small` has half again its share, in a policy whose `main` fills first.
    fn overflows(&self) -> bool {
        let share = self.share();
        self.door.is_some() && self.queues.len(SMALL) > share + share / 2 + 1
    }
}

impl Default for S3Fifo {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for S3Fifo {
    fn name(&self) -> &'static str {
        if self.door.is_some() { "s3-fifo" } else { "s3-fifo-plain" }
    }

    fn max_mark(&self) -> u8 {
        3
    }

    fn growth(&self, id: u32) -> usize {
        match self.queues.growth(id) {
            0 => 0,
            queues => queues + self.ghosts.growth(self.queues.room() + per_chunk()),
        }
    }

    fn grow(&mut self, id: u32) -> Result<(), NoMemory> {
        if self.queues.growth(id) == 0 {
            return Ok(());
        }
        let ghosts = self.ghosts.make(self.queues.room() + per_chunk())?;
        let nodes = self.queues.make(id)?;
        self.queues.install(nodes);
        self.ghosts.install(ghosts);
        Ok(())
    }

    fn shrink(&mut self, in_use: &dyn Fn(Range<u32>) -> bool) -> usize {
        match self.queues.shrink(in_use) {
            0 => 0,
            queues => queues + self.ghosts.shrink(self.queues.room()),
        }
    }

    fn insert(&mut self, id: u32, tag: u32, priority: Priority) {
        let returns = self.ghosts.take(tag);
        match priority {
            Priority::Low => self.queues.push_tail(SMALL, id),
            Priority::High => self.queues.push_head(MAIN, id),
            Priority::Normal if returns && self.door.as_mut().is_none_or(Door::lets_in) => {
                self.queues.push_head(MAIN, id);
                self.queues.flag(id);
            }
            Priority::Normal if self.overflows() => self.queues.push_head(MAIN, id),
            Priority::Normal => self.queues.push_head(SMALL, id),
        }
    }

    fn remove(&mut self, id: u32) -> bool {
        self.queues.remove(id)
    }

    fn replace(&mut self, old: u32, new: u32) {
        self.queues.replace(old, new);
    }

    fn evict(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32> {
        let mut search = Search::new(entries, effort);
        let small = self.queues.len(SMALL) >= self.share() || self.queues.len(MAIN) == 0;
        // Where one queue has nobody who may go, the other may.
        let found = if small {
            self.search_small(&mut search).or_else(|| self.search_main(&mut search))
        } else {
            self.search_main(&mut search).or_else(|| self.search_small(&mut search))
        };
        found.or_else(|| search.spared.inspect(|id| _ = self.queues.remove(*id)))
    }

    fn last_queue(&self) -> (usize, f32) {
        let small = 1.0 / SHARE as f32;
        if self.last == SMALL { (SMALL, small) } else { (MAIN, 1.0 - small) }
    }

    fn contains(&self, id: u32) -> bool {
        self.queues.list(id).is_some()
    }

    fn len(&self) -> usize {
        self.queues.total()
    }

    fn bytes(&self) -> usize {
        self.queues.bytes() + self.ghosts.bytes()
    }

    fn check(&self) {
        self.queues.check();
        self.ghosts.check();
        assert!(!self.ghosts.lacks(self.queues.room()), "ghosts have room");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those with a priority used up the turns of the others: none of them was let in, nor judged, for
    /// ever.
    #[test]
    fn the_door_counts_those_only_who_have_to_pass_it() {
        let mut policy = S3Fifo::new();
        (0..1024).for_each(|id| policy.grow(id).expect("room"));
        policy.ghosts.remember(0, 900);
        (1..=400).for_each(|tag: u32| policy.ghosts.remember(tag.wrapping_mul(0x9e37_79b1), 900));
        policy.door = Some(Door { part: 0.5, credit: 0.0 });
        for tag in 1..=400_u32 {
            let priority = if tag % 2 == 1 { Priority::High } else { Priority::Normal };
            policy.insert(tag, tag.wrapping_mul(0x9e37_79b1), priority);
        }
        policy.check();
        let let_in = (1..=400).filter(|id| policy.queues.is_flagged(*id)).count();
        assert_eq!(let_in, 100, "half of 200");
    }

    /// In single precision the step of a judgement was rounded to none from 2^26 entries on.
    #[test]
    fn the_door_moves_by_the_same_part_of_a_turn_whatever_the_entries() {
        for entries in [1 << 12, 1 << 25, 1 << 26, crate::policy::MAX_ENTRIES as usize] {
            let mut door = Door { part: 1.0, credit: 0.0 };
            let judged = 1000;
            (0..judged).for_each(|_| door.judge(false, entries));
            let expected = (-HASTE * f64::from(judged) / entries as f64).exp();
            let moved = 1.0 - door.part;
            assert!((moved / (1.0 - expected) - 1.0).abs() < 0.01, "{entries}: {moved}");
            (0..judged).for_each(|_| door.judge(true, entries));
            assert!((door.part - 1.0).abs() < 1e-9, "{entries}");
        }
    }

    #[test]
    fn the_door_stays_within_its_bounds_in_the_smallest_policies() {
        for entries in 1..=20 {
            let mut door = Door { part: 1.0, credit: 0.0 };
            for turn in 0..1000_u32 {
                door.judge(turn.wrapping_mul(0x9e37_79b1) >> 30 == 0, entries);
                door.lets_in();
                assert!((NARROWEST..=1.0).contains(&door.part), "{entries}: {door:?}");
                assert!((0.0..1.0).contains(&door.credit), "{entries}: {door:?}");
            }
        }
    }
}
