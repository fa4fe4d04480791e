//! The youngest part of a queue: hits in it do not count.
//!
//! Most pages that are asked for twice within moments are asked for by one and the same query, and
//! never again. So an entry's hits count from when it has left the youngest part of its queue.
//! Invariant: the young are the newest `amount` of the queue, and flagged in it; `oldest` is the
//! one of them that entered first.

use super::links::Links;
use super::search::Search;

/// Entries that leave their youth at one eviction at the most, so that it is bounded. One enters
/// for each that goes.
const STEPS: usize = 4;

/// The young of one queue of `Q`.
#[derive(Debug)]
pub(super) struct Youth<const Q: usize> {
    amount: usize,
    oldest: Option<u32>,
}

impl<const Q: usize> Youth<Q> {
    pub(super) fn new() -> Self {
        Self { amount: 0, oldest: None }
    }

    /// `id` has become the head of the queue.
    pub(super) fn enter<const LISTS: usize>(&mut self, links: &mut Links<LISTS>, id: u32) {
        links.flag(id);
        self.amount += 1;
        self.oldest.get_or_insert(id);
    }

    /// `id` is about to leave its queue, whichever it is in.
    pub(super) fn leave<const LISTS: usize>(&mut self, links: &Links<LISTS>, id: u32) {
        if links.list(id) == Some(Q) && links.is_flagged(id) {
            self.amount -= 1;
            if self.oldest == Some(id) {
                self.oldest = links.newer(id);
            }
        }
    }

    /// `new`, which is not young, is about to take the place of `old`.
    pub(super) fn rename(&mut self, old: u32, new: u32) {
        if self.oldest == Some(old) {
            self.oldest = Some(new);
        }
    }

    /// The oldest is young no more, if there are more than `most`. One at the least stays young: it
    /// is the only one of the smallest queues.
    fn pop<const LISTS: usize>(&mut self, links: &mut Links<LISTS>, most: usize) -> Option<u32> {
        let id = self.oldest.filter(|_| self.amount > most.max(1))?;
        links.unflag(id);
        self.amount -= 1;
        self.oldest = links.newer(id);
        Some(id)
    }

    /// Those beyond `most` are young no more, and keep the marks of their hits: nobody had to go
    /// yet, so that they were there for long.
    pub(super) fn outgrow<const LISTS: usize>(&mut self, links: &mut Links<LISTS>, most: usize) {
        while self.pop(links, most).is_some() {}
    }

    /// Those beyond `most` are young no more, without the marks of their hits, as far as there is
    /// effort.
    pub(super) fn grow_up<const LISTS: usize>(
        &mut self,
        links: &mut Links<LISTS>,
        search: &mut Search<'_>,
        most: usize,
    ) {
        for _ in 0..STEPS {
            let id = if search.goes_on() { self.pop(links, most) } else { None };
            let Some(id) = id else { return };
            if search.look(id).is_some_and(|mark| mark > 0) {
                search.set_mark(id, 0);
            }
        }
    }

    /// Asserts what the header says.
    pub(super) fn check<const LISTS: usize>(&self, links: &Links<LISTS>) {
        let from_head = || std::iter::successors(links.head(Q), |id| links.older(*id));
        let young = from_head().take_while(|id| links.is_flagged(*id));
        assert_eq!((young.clone().count(), young.last()), (self.amount, self.oldest), "the young");
        let flagged = from_head().filter(|id| links.is_flagged(*id)).count();
        assert_eq!(flagged, self.amount, "only the young are flagged");
    }
}
