//! A bounded search for a victim.

use super::Entries;
use super::links::Links;

/// How far a search has come. Each look costs one of its effort.
pub(super) struct Search<'a> {
    entries: &'a dyn Entries,
    left: usize,
    /// The entry spared first. It goes where no other is found.
    pub(super) spared: Option<u32>,
    /// Whether entries are asked whether they are to be spared for their size.
    sizes: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(entries: &'a dyn Entries, effort: usize) -> Self {
        Self { entries, left: effort, spared: None, sizes: false }
    }

    /// This search, in which small entries are spared.
    pub(super) fn by_size(self) -> Self {
        Self { sizes: true, ..self }
    }

    /// Whether there is effort for another look.
    pub(super) fn goes_on(&self) -> bool {
        self.left > 0
    }

    /// Whether there is effort for more than one.
    pub(super) fn goes_far(&self) -> bool {
        self.left > 1
    }

    /// The mark of `id`, or `None` if it may not go.
    pub(super) fn look(&mut self, id: u32) -> Option<u8> {
        self.left -= 1;
        self.entries.mark(id)
    }

    /// Lets `id` stay, with this mark.
    pub(super) fn spare(&mut self, id: u32, mark: u8) {
        self.entries.set_mark(id, mark);
        self.spared.get_or_insert(id);
    }

    /// Sets the mark of an entry that is no candidate.
    pub(super) fn set_mark(&self, id: u32, mark: u8) {
        self.entries.set_mark(id, mark);
    }

    /// Whether `id`, which has no mark, stays all the same this time.
    pub(super) fn spares(&mut self, id: u32) -> bool {
        let stays = self.sizes && self.entries.spares(id);
        if stays {
            self.spared.get_or_insert(id);
        }
        stays
    }

    pub(super) fn tag(&self, id: u32) -> u32 {
        self.entries.tag(id)
    }

    /// CLOCK, one look: an entry with a mark goes to the head of `list`, for the price of one of
    /// it. One without goes off the list and is named, or to the head if it is spared. `judge`
    /// hears of either, and of whether it was hit, before that. An entry that may not go stays
    /// where it is.
    pub(super) fn chance<const LISTS: usize>(
        &mut self,
        links: &mut Links<LISTS>,
        (list, id): (usize, u32),
        judge: &mut impl FnMut(&Links<LISTS>, u32, bool),
    ) -> Chance {
        match self.look(id) {
            None => Chance::Stays,
            Some(0) => {
                judge(links, id, false);
                if self.spares(id) {
                    links.move_to_head(list, id);
                    return Chance::Spared;
                }
                links.remove(id);
                Chance::Goes
            }
            Some(mark) => {
                judge(links, id, true);
                links.move_to_head(list, id);
                self.spare(id, mark - 1);
                Chance::Spared
            }
        }
    }

    /// CLOCK: a [`chance`](Self::chance) for each entry from the tail of `list` on, until one goes.
    /// `None` where the effort ran out or no entry may go. Entries that may not go are passed.
    pub(super) fn second_chance<const LISTS: usize>(
        &mut self,
        links: &mut Links<LISTS>,
        list: usize,
        mut judge: impl FnMut(&Links<LISTS>, u32, bool),
    ) -> Option<u32> {
        let (mut at, mut passed) = (None, 0);
        while self.goes_on() && passed < links.len(list) {
            let id = at.or(links.tail(list))?;
            at = links.newer(id);
            match self.chance(links, (list, id), &mut judge) {
                Chance::Goes => return Some(id),
                Chance::Stays => passed += 1,
                Chance::Spared => passed = 0,
            }
        }
        None
    }
}

/// What became of an entry that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chance {
    Goes,
    Spared,
    /// It may not go.
    Stays,
}
