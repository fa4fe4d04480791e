//! S3-FIFO: three static queues, and six rules that we found them to lack.
//! ```text
//!                     asked for again --------> head  main  tail -> a mark: back to the head, one
//! new -> head  small  tail                        ^                 less; no mark: out
//!                     else: out, a ghost remains  | asked for again while a ghost
//! ```
//! Most pages are asked for once. They pass through the small part that is `small` and never reach
//! `main`. [`S3Fifo::plain`] has the rules of the paper, and of its authors' simulator, where that
//! says more:
//!
//! - An entry is evicted from `small` while that has its tenth of the entries or more, or `main` is
//!   empty.
//! - Two hits bring it to `main`; a search in `small` ends there. An entry that moves to `main`
//!   starts again with no mark.
//! - There are as many ghosts as `main` is entitled to entries, and their room comes with that of
//!   the entries.
//!
//! [`S3Fifo::new`] has six rules of ours more:
//! 1. *`main` fills first.* A page that comes while `small` has half again its share enters `main`,
//!    as long as nothing was evicted yet. So a cache that was never full does not hold one long
//!    `small`.
//! 2. *A door for ghosts.* `main` takes a part of the pages that return (`door`).
//! 3. *Hits of the young do not count* (`youth`), and one hit that counts is enough for `main`.
//! 4. *The share of `small` adapts*, between 1 and 30 in a hundred (`share`).
//! 5. *`main` ages.* At one eviction in so many its tail is looked at, whichever queue evicts. If
//!    it is evicted, the next entry takes its place. Otherwise pages that were hot once would stay
//!    for ever where no others become hot.
//! 6. *An entry that takes less stays longer*, as the caller says ([`Entries::spares`]). It moves
//!    to the head again, without a mark.
//!
//! DESIGN.md has what each of them does to hit ratios, and what it costs.

use std::ops::Range;

use zpool::NoMemory;

use super::chunks::per_chunk;
use super::door::Door;
use super::ghost::Ghosts;
use super::links::Links;
use super::search::{Chance, Search};
use super::share::Share;
use super::youth::Youth;
use super::{Entries, Policy, Priority};

const SMALL: usize = 0;
const MAIN: usize = 1;
/// By the paper's rules `small` is one in so many entries.
const PLAIN_SHARE: usize = 10;
/// Hits that bring an entry from `small` to `main`.
const PLAIN_PROVEN: u8 = 2;
const PROVEN: u8 = 1;
/// The young are the share of `small` by this.
const YOUNG: usize = 4;
/// `main` ages at one eviction in so many.
const AGEING: u32 = 48;

/// S3-FIFO (Yang et al., SOSP 2023): scans pass through a small queue, what is asked for again
/// stays.
///
/// [`Priority::High`] enters the main queue, [`Low`](Priority::Low) goes next from the small one.
/// [`Lru`](super::Lru) has an example of how a policy is used.
#[derive(Debug)]
pub struct S3Fifo {
    /// Who came through the door is flagged in `main`, until its tail judges it; who is young is
    /// flagged in `small`.
    queues: Links<2>,
    ghosts: Ghosts,
    ours: Option<Ours>,
}

/// What our rules go by.
#[derive(Debug)]
struct Ours {
    door: Door,
    share: Share,
    youth: Youth<SMALL>,
    /// Evictions since `main` aged.
    since: u32,
    /// Places in `main` of those who went because it ages.
    vacant: usize,
    /// Entries at the last eviction; 0 before the first one.
    full: usize,
}

impl Ours {
    /// Hears of an entry of `main` that is looked at, before it goes or is spared.
    fn judge(&mut self, queues: &Links<2>, id: u32, hit: bool) {
        if queues.is_flagged(id) {
            self.door.judge(hit, queues.total());
        }
    }

    /// Whether one that has to prove itself enters `main` all the same, in a policy of `total`
    /// entries of which `small` has so many.
    fn skips_small(&mut self, small: usize, total: usize) -> bool {
        if total < self.full / 2 {
            (self.full, self.vacant) = (0, 0); // it was cleared
        }
        if self.full == 0 {
            let share = self.share.of(total);
            return small > share + share / 2 + 1;
        }
        let vacant = self.vacant > 0;
        self.vacant -= usize::from(vacant);
        vacant
    }
}

impl S3Fifo {
    /// One without entries, which holds no memory yet.
    #[must_use]
    pub fn new() -> Self {
        let (door, share, youth) = (Door::new(), Share::new(), Youth::new());
        let ours = Ours { door, share, youth, since: 0, vacant: 0, full: 0 };
        Self { ours: Some(ours), ..Self::plain() }
    }

    /// One without entries, by the rules of the paper alone.
    #[must_use]
    pub fn plain() -> Self {
        Self { queues: Links::new(), ghosts: Ghosts::new(), ours: None }
    }

    /// Entries that `small` is entitled to.
    fn share(&self) -> usize {
        let total = self.queues.total();
        self.ours.as_ref().map_or((total / PLAIN_SHARE).max(1), |ours| ours.share.of(total))
    }

    /// Takes `id` off its queue; whether it was on one.
    fn take_off(&mut self, id: u32) -> bool {
        if let Some(ours) = &mut self.ours {
            ours.youth.leave(&self.queues, id);
        }
        self.queues.remove(id)
    }

    fn search_small(&mut self, search: &mut Search<'_>) -> Option<u32> {
        let mut at = self.queues.tail(SMALL);
        while search.goes_on() {
            let id = at?;
            at = self.queues.newer(id);
            let Some(mark) = search.look(id) else { continue };
            let proven = mark >= if self.ours.is_some() { PROVEN } else { PLAIN_PROVEN };
            self.take_off(id);
            if proven {
                self.queues.push_head(MAIN, id);
                search.spare(id, 0);
            } else if search.spares(id) {
                self.push_small(id);
            } else {
                self.ghosts.remember(SMALL, search.tag(id), self.queues.total() + 1);
                return Some(id);
            }
        }
        None
    }

    /// `id`, which is on no queue, becomes the head of `small`.
    fn push_small(&mut self, id: u32) {
        self.queues.push_head(SMALL, id);
        let young = self.share() / YOUNG;
        if let Some(ours) = &mut self.ours {
            ours.youth.enter(&mut self.queues, id);
            if ours.full == 0 {
                ours.youth.outgrow(&mut self.queues, young);
            }
        }
    }

    fn search_main(&mut self, search: &mut Search<'_>) -> Option<u32> {
        let Self { queues, ours, .. } = self;
        let found = search.second_chance(queues, MAIN, |queues, id, hit| {
            ours.iter_mut().for_each(|ours| ours.judge(queues, id, hit));
        });
        found.inspect(|id| self.went_from_main(search.tag(*id)))
    }

    /// Now and then: `main`'s tail goes where it was not hit since it was looked at the last time.
    fn age(&mut self, search: &mut Search<'_>) -> Option<u32> {
        let Self { queues, ours: Some(ours), .. } = self else { return None };
        ours.since += 1;
        if ours.since < AGEING || !search.goes_far() {
            return None;
        }
        ours.since = 0;
        let id = queues.tail(MAIN)?;
        let mut judge = |queues: &Links<2>, id, hit| ours.judge(queues, id, hit);
        if search.chance(queues, (MAIN, id), &mut judge) != Chance::Goes {
            return None;
        }
        ours.vacant += 1;
        self.went_from_main(search.tag(id));
        Some(id)
    }

    fn went_from_main(&mut self, tag: u32) {
        if self.ours.is_some() {
            self.ghosts.remember(MAIN, tag, self.queues.total() + 1);
        }
    }

    fn start<'a>(&self, entries: &'a dyn Entries, effort: usize) -> Search<'a> {
        let search = Search::new(entries, effort);
        if self.ours.is_some() { search.by_size() } else { search }
    }

    fn search(&mut self, search: &mut Search<'_>) -> Option<u32> {
        self.age(search).or_else(|| {
            let small = self.queues.len(SMALL) >= self.share() || self.queues.len(MAIN) == 0;
            // Where one queue has nobody who may go, the other may.
            if small {
                self.search_small(search).or_else(|| self.search_main(search))
            } else {
                self.search_main(search).or_else(|| self.search_small(search))
            }
        })
    }

    /// A search ended; an entry that was found has left its queue.
    fn went(&mut self, mut search: Search<'_>, found: Option<u32>) -> Option<u32> {
        let (young, total) = (self.share() / YOUNG, self.queues.total());
        if let (Some(ours), Some(_)) = (&mut self.ours, found) {
            ours.full = total + 1;
            ours.youth.grow_up(&mut self.queues, &mut search, young);
        }
        found
    }

    /// Where an entry goes that has to prove itself.
    fn enter(&mut self, id: u32, tag: u32) {
        let total = self.queues.total();
        let ghost = self.ghosts.take(tag);
        let returns = ghost.is_some_and(|ghost| ghost.queue == SMALL);
        let Some(ours) = &mut self.ours else {
            return self.queues.push_head(if returns { MAIN } else { SMALL }, id);
        };
        if let Some(ghost) = ghost {
            ours.share.hear(ghost, returns, total);
        }
        if returns && ours.door.lets_in() {
            self.queues.push_head(MAIN, id);
            self.queues.flag(id);
        } else if ours.skips_small(self.queues.len(SMALL), total) {
            self.queues.push_head(MAIN, id);
        } else {
            self.push_small(id);
        }
    }
}

impl Default for S3Fifo {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for S3Fifo {
    fn name(&self) -> &'static str {
        if self.ours.is_some() { "s3-fifo" } else { "s3-fifo-plain" }
    }

    fn fresh(&self) -> Box<dyn Policy> {
        Box::new(if self.ours.is_some() { Self::new() } else { Self::plain() })
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
            0 if !self.ghosts.is_closing() => 0,
            queues => queues + self.ghosts.shrink(self.queues.room()),
        }
    }

    fn insert(&mut self, id: u32, tag: u32, priority: Priority) {
        match priority {
            Priority::Normal => return self.enter(id, tag),
            Priority::Low => self.queues.push_tail(SMALL, id),
            Priority::High => self.queues.push_head(MAIN, id),
        }
        self.ghosts.take(tag);
    }

    fn remove(&mut self, id: u32) -> bool {
        self.take_off(id)
    }

    fn replace(&mut self, old: u32, new: u32) {
        if old == new || self.queues.list(old).is_none() {
            return;
        }
        let enters = self.queues.list(new).is_some();
        if let Some(ours) = &mut self.ours {
            ours.youth.leave(&self.queues, new);
            if enters {
                ours.youth.rename(old, new);
            } else {
                ours.youth.leave(&self.queues, old);
            }
        }
        self.queues.replace(old, new);
    }

    fn evict(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32> {
        let mut search = self.start(entries, effort);
        let found = self.search(&mut search);
        let found = found.or_else(|| search.spared.inspect(|id| _ = self.take_off(*id)));
        self.went(search, found)
    }

    fn evict_unspared(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32> {
        let mut search = self.start(entries, effort);
        let found = self.search(&mut search);
        self.went(search, found)
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
        if let Some(ours) = &self.ours {
            ours.youth.check(&self.queues);
        }
        assert!(!self.ghosts.lacks(self.queues.room()), "ghosts have room");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Entries that nobody asks for.
    struct Unhit;

    impl Entries for Unhit {
        fn mark(&self, _: u32) -> Option<u8> {
            Some(0)
        }

        fn set_mark(&self, _: u32, _: u8) {}

        fn tag(&self, id: u32) -> u32 {
            id.wrapping_mul(0x9e37_79b1)
        }
    }

    /// One with these entries, none of which is known from before.
    fn enter(policy: &mut S3Fifo, ids: Range<u32>) {
        for id in ids {
            policy.grow(id).expect("room");
            policy.insert(id, Unhit.tag(id), Priority::Normal);
        }
        policy.check();
    }

    /// Evictions come in batches. After one `small` is longer than its share for a moment, and
    /// strangers that entered `main` for this washed it out.
    #[test]
    fn strangers_pass_through_small_however_many_went_at_once() {
        let mut policy = S3Fifo::new();
        enter(&mut policy, 0..1000);
        let main = policy.queues.len(MAIN);
        assert!(main > 900, "it fills first: {main}");
        for turn in 0..40 {
            for _ in 0..60 {
                policy.evict(&Unhit, usize::MAX).expect("all may go");
            }
            enter(&mut policy, 1000 + turn * 60..1060 + turn * 60);
        }
        // The first batch was more than `small` had beyond its share.
        let (aged, left) = (40 * 60 / AGEING as usize, policy.queues.len(MAIN));
        assert!(main - left <= 60 + aged, "{left} of {main}, and at most {aged} aged");
        let strangers = (1000..3400).filter(|id| policy.queues.list(*id) == Some(MAIN)).count();
        assert!(strangers <= aged, "{strangers} strangers took the places of {aged}");
    }

    /// All were young as long as nobody had to go, and the first evictions took their marks away
    /// just before they were looked at.
    #[test]
    fn what_was_hit_while_the_cache_filled_stays() {
        struct Hit(Cell<bool>);

        impl Entries for Hit {
            fn mark(&self, id: u32) -> Option<u8> {
                Some(if id % 300 == 0 { 3 } else { 0 })
            }

            fn set_mark(&self, _: u32, mark: u8) {
                self.0.set(mark == 0);
            }

            fn tag(&self, id: u32) -> u32 {
                Unhit.tag(id)
            }
        }

        let mut policy = S3Fifo::new();
        enter(&mut policy, 0..60_000);
        let hit = Hit(Cell::new(false));
        for _ in 0..1500 {
            let gone = policy.evict(&hit, 64).expect("most may go");
            assert_ne!(gone % 300, 0, "it was hit");
        }
        policy.check();
        assert!(hit.0.get(), "those that went to main start anew");
    }

    #[test]
    fn main_fills_first_again_when_all_are_gone() {
        let mut policy = S3Fifo::new();
        enter(&mut policy, 0..1000);
        (0..100).for_each(|_| _ = policy.evict(&Unhit, usize::MAX));
        (0..1000).for_each(|id| _ = policy.remove(id));
        policy.check();
        enter(&mut policy, 1000..2000);
        assert!(policy.queues.len(MAIN) > 900, "{:?}", policy.queues);
    }

    /// Those with a priority used up the turns of the others: none of them was let in, nor judged,
    /// for ever.
    #[test]
    fn the_door_counts_those_only_who_have_to_pass_it() {
        let tag = |id| Unhit.tag(id);
        let mut policy = S3Fifo::new();
        (0..2048).for_each(|id| policy.grow(id).expect("room"));
        (1..=400).for_each(|id| policy.ghosts.remember(SMALL, tag(id), 1000));
        let door = &mut policy.ours.as_mut().expect("ours").door;
        while door.part() > 0.5 {
            door.judge(false, 10_000);
        }
        for id in 1..=400 {
            let priority = if id % 2 == 1 { Priority::High } else { Priority::Normal };
            policy.insert(id, tag(id), priority);
        }
        policy.check();
        let let_in =
            |id: &u32| policy.queues.list(*id) == Some(MAIN) && policy.queues.is_flagged(*id);
        let let_in = (1..=400).filter(let_in).count();
        assert!((98..=100).contains(&let_in), "{let_in}, half of 200");
    }
}
