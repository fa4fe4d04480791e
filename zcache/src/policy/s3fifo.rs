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

use std::collections::TryReserveError;

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

/// S3-FIFO (Yang et al., SOSP 2023): scans pass through a small queue, what is asked for again stays.
///
/// [`Priority::High`] enters the main queue, [`Low`](Priority::Low) goes next from the small one.
/// [`Lru`](super::Lru) has an example of how a policy is used.
#[derive(Debug)]
pub struct S3Fifo {
    queues: Links<2>,
    ghosts: Ghosts,
}

impl S3Fifo {
    /// One without entries, which holds no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self { queues: Links::new(), ghosts: Ghosts::new() }
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
                    return Some(id);
                }
            }
        }
        None
    }

    fn search_main(&mut self, search: &mut Search<'_>) -> Option<u32> {
        search.second_chance(&mut self.queues, MAIN)
    }
}

impl Default for S3Fifo {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for S3Fifo {
    fn name(&self) -> &'static str {
        "s3-fifo"
    }

    fn max_mark(&self) -> u8 {
        3
    }

    fn growth(&self, id: u32) -> usize {
        match self.queues.growth(id) {
            0 => 0,
            queues => queues + self.ghosts.growth(),
        }
    }

    fn grow(&mut self, id: u32) -> Result<(), TryReserveError> {
        if self.queues.growth(id) > 0 {
            let (nodes, ghosts) = (self.queues.make(id)?, self.ghosts.make()?);
            self.queues.install(id, nodes);
            self.ghosts.install(ghosts);
        }
        Ok(())
    }

    fn insert(&mut self, id: u32, tag: u32, priority: Priority) {
        let returns = self.ghosts.take(tag);
        match priority {
            Priority::Low => self.queues.push_tail(SMALL, id),
            Priority::Normal if !returns => self.queues.push_head(SMALL, id),
            Priority::Normal | Priority::High => self.queues.push_head(MAIN, id),
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
        assert_eq!(self.queues.chunks(), self.ghosts.chunks(), "a ghost for each entry");
    }
}
