//! A bounded search for a victim.

use super::Entries;
use super::links::Links;

/// How far a search has come. Each look costs one of its effort.
pub(super) struct Search<'a> {
    entries: &'a dyn Entries,
    left: usize,
    /// The entry spared first. It goes where no other is found.
    pub(super) spared: Option<u32>,
}

impl<'a> Search<'a> {
    pub(super) fn new(entries: &'a dyn Entries, effort: usize) -> Self {
        Self { entries, left: effort, spared: None }
    }

    /// Whether there is effort for another look.
    pub(super) fn goes_on(&self) -> bool {
        self.left > 0
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

    pub(super) fn tag(&self, id: u32) -> u32 {
        self.entries.tag(id)
    }

    /// CLOCK: from the tail of `list` on, entries with a mark go back to the head, for the price of one
    /// of it. Takes the first one without off the list and names it; `None` where the effort ran out
    /// or no entry may go. Entries that may not go are passed and stay where they are. `judge` hears of
    /// the others and of whether they were hit, before they move.
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
            match self.look(id) {
                None => passed += 1,
                Some(0) => {
                    judge(links, id, false);
                    links.remove(id);
                    return Some(id);
                }
                Some(mark) => {
                    passed = 0;
                    judge(links, id, true);
                    links.move_to_head(list, id);
                    self.spare(id, mark - 1);
                }
            }
        }
        None
    }
}
