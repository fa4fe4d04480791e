//! Fullness lists: the zspages of one class, sorted by how full they are.
//! ```text
//! group         0      1     2    3    4   5   6   7   8   9  10 11 12 13 14   15
//! free slots    all   513+  512  128  64  32  24  16  12   8   6  4  3  2  1    0   (at most)
//! ```
//! An allocation fills the zspage with the fewest free slots, whatever the lengths of the chains. A
//! compaction empties the one with the most. Invariant: a zspage is on exactly one list, the one
//! that its `inuse` names, unless a compaction has taken it off to empty it. Lock: the class's, of
//! which the [`Token`] is the proof.

use crate::zspage::{Fill, Listed, NONE, Token, Zspages};

const GROUPS: usize = 16;
const FULL: usize = GROUPS - 1;

#[derive(Debug)]
pub(crate) struct Fullness {
    heads: [u32; GROUPS],
    /// Zspages on each list.
    counts: [u32; GROUPS],
    /// Bit g: list g has zspages.
    occupied: u16,
}

/// Zspages of a group that are looked at for a gap.
const HELD: usize = 8;

/// The most free slots in groups 1 to 15.
const MOST_FREE: [u16; FULL] = [u16::MAX, 512, 128, 64, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1, 0];

/// The groups of zspages with 0, 1, 2 and so on free slots, that are not empty.
const BY_FREE: [u8; 129] = {
    let (mut groups, mut free) = ([FULL as u8; 129], 1);
    while free < groups.len() {
        groups[free] = groups[free - 1];
        if free > MOST_FREE[groups[free] as usize - 1] as usize {
            groups[free] -= 1;
        }
        free += 1;
    }
    groups
};

/// The list of a zspage.
#[inline]
fn group(Fill { inuse, open: free, .. }: Fill) -> usize {
    if inuse == 0 {
        return 0;
    }
    match BY_FREE.get(usize::from(free)) {
        Some(group) => usize::from(*group),
        None => MOST_FREE.partition_point(|most| *most >= free),
    }
}

fn group_of(zspages: &Zspages, token: &Token, id: u32) -> usize {
    group(zspages.fill(token, id))
}

impl Fullness {
    pub(crate) const fn new() -> Self {
        Self { heads: [NONE; GROUPS], counts: [0; GROUPS], occupied: 0 }
    }

    /// Puts a zspage that is on no list where its `inuse` says.
    pub(crate) fn insert(&mut self, zspages: &Zspages, token: &mut Token, id: u32) {
        let own = zspages.listed(token, id);
        self.link(zspages, token, (id, own), group(own.fill()));
    }

    fn link(
        &mut self,
        zspages: &Zspages,
        token: &Token,
        (id, own): (u32, Listed<'_>),
        group: usize,
    ) {
        let next = self.heads[group];
        own.set_previous(NONE);
        own.set_next(next);
        if next != NONE {
            zspages.listed(token, next).set_previous(id);
        }
        self.heads[group] = id;
        self.counts[group] += 1;
        self.occupied |= 1 << group;
    }

    /// Takes a zspage off the list that `inuse` put it on.
    fn unlink(&mut self, zspages: &Zspages, token: &Token, own: Listed<'_>, group: usize) {
        let (previous, next) = own.links();
        self.counts[group] -= 1;
        if next != NONE {
            zspages.listed(token, next).set_previous(previous);
        }
        if previous != NONE {
            zspages.listed(token, previous).set_next(next);
        } else {
            self.heads[group] = next;
            if next == NONE {
                self.occupied &= !(1 << group);
            }
        }
    }

    /// Takes a zspage off its list.
    pub(crate) fn remove(&mut self, zspages: &Zspages, token: &mut Token, id: u32) {
        let own = zspages.listed(token, id);
        self.unlink(zspages, token, own, group(own.fill()));
    }

    /// Moves a zspage that was as full as `before` says, and is as full as `now` says, to its list;
    /// says whether that is another one.
    #[inline]
    pub(crate) fn shift(
        &mut self,
        zspages: &Zspages,
        token: &mut Token,
        id: u32,
        (before, now): (Fill, Fill),
    ) -> bool {
        let (old, new) = (group(before), group(now));
        if old != new {
            let own = zspages.listed(token, id);
            self.unlink(zspages, token, own, old);
            self.link(zspages, token, (id, own), new);
        }
        old != new
    }

    /// A zspage with room, of the fullest group that has one.
    pub(crate) fn fullest(&self) -> Option<u32> {
        let open = self.occupied & !(1 << FULL);
        let group = open.checked_ilog2()? as usize;
        Some(self.heads[group])
    }

    /// A mixed zspage with a gap of `grains` and no less than `least` in use, of the fullest group
    /// that has one; an empty one last.
    pub(crate) fn holding(
        &self,
        zspages: &Zspages,
        token: &Token,
        grains: u16,
        least: u16,
    ) -> Option<u32> {
        // Gaps of this group are about as long; those of sparser ones are long enough.
        let first = MOST_FREE.partition_point(|most| *most >= grains);
        (0..=first).rev().find_map(|group| {
            let list = self.list(zspages, token, group).take(HELD);
            let fills = list.map(|id| (zspages.fill(token, id), id));
            let fitting = fills.filter(|(fill, _)| fill.open >= grains && fill.inuse >= least);
            fitting.min_by_key(|(fill, id)| (fill.open, *id)).map(|(_, id)| id)
        })
    }

    /// The zspages in use, sparsest group first, full ones last.
    pub(crate) fn sparsest_first<'z>(
        &'z self,
        zspages: &'z Zspages,
        token: &'z Token,
    ) -> impl Iterator<Item = u32> + use<'z> {
        (1..GROUPS).flat_map(|group| self.list(zspages, token, group))
    }

    /// A zspage without objects.
    pub(crate) fn empty(&self) -> Option<u32> {
        (self.heads[0] != NONE).then_some(self.heads[0])
    }

    /// Zspages on each list.
    pub(crate) fn counts(&self) -> [usize; GROUPS] {
        self.counts.map(|count| count as usize)
    }

    /// The zspages of one list.
    fn list<'z>(
        &self,
        zspages: &'z Zspages,
        token: &'z Token,
        group: usize,
    ) -> impl Iterator<Item = u32> + use<'z> {
        let first = (self.heads[group] != NONE).then_some(self.heads[group]);
        std::iter::successors(first, |id| {
            Some(zspages.listed(token, *id).links().1).filter(|next| *next != NONE)
        })
    }

    /// Asserts that what is counted is what the lists have.
    pub(crate) fn check(&self, zspages: &Zspages, token: &Token) {
        let counted = |group| self.list(zspages, token, group).count();
        assert_eq!(self.counts(), std::array::from_fn(counted), "zspages on each list");
    }

    /// All zspages, each with whether it is on the list that its `inuse` names.
    pub(crate) fn all<'z>(
        &'z self,
        zspages: &'z Zspages,
        token: &'z Token,
    ) -> impl Iterator<Item = (u32, bool)> + use<'z> {
        (0..GROUPS).flat_map(move |group| {
            self.list(zspages, token, group)
                .map(move |id| (id, group_of(zspages, token, id) == group))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_rise_with_inuse_and_keep_the_ends_apart() {
        for objects in 1..=2048_u16 {
            let fill = |inuse| Fill { inuse, objects, open: objects - inuse, pages: 1 };
            let groups: Vec<usize> = (0..=objects).map(|inuse| group(fill(inuse))).collect();
            assert!(groups.is_sorted(), "{objects} objects");
            let by_list = |inuse| MOST_FREE.partition_point(|most| *most >= objects - inuse);
            assert!((1..=objects).map(by_list).eq(groups[1..].iter().copied()));
            assert_eq!((groups[0], groups[usize::from(objects)]), (0, FULL));
            assert!(groups[1..usize::from(objects)].iter().all(|group| (1..FULL).contains(group)));
        }
    }
}
