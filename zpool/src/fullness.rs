//! Fullness lists: the zspages of one class, sorted by how full they are.
//! ```text
//! group         0      1     2    3    4   5   6   7   8   9  10 11 12 13 14   15
//! free slots    all   513+  512  128  64  32  24  16  12   8   6  4  3  2  1    0   (at most)
//! ```
//! An allocation fills the zspage with the fewest free slots, whatever the lengths of the chains;
//! a compaction empties the one with the most. Invariant: a zspage is on exactly one list, the one
//! that its `inuse` names, unless a compaction has taken it off to empty it. Lock: the class's, of
//! which the [`Token`] is the proof.

use crate::zspage::{Fill, NONE, Token, Zspages};

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

/// The most free slots in groups 1 to 15.
const MOST_FREE: [u16; FULL] = [u16::MAX, 512, 128, 64, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1, 0];

/// The list of a zspage with `inuse` of `objects` slots in use.
fn group(inuse: u16, objects: u16) -> usize {
    match inuse {
        0 => 0,
        _ => MOST_FREE.partition_point(|most| *most >= objects - inuse),
    }
}

fn group_of(zspages: &Zspages, token: &Token, id: u32) -> usize {
    let Fill { inuse, objects, .. } = zspages.fill(token, id);
    group(inuse, objects)
}

impl Fullness {
    pub(crate) const fn new() -> Self {
        Self { heads: [NONE; GROUPS], counts: [0; GROUPS], occupied: 0 }
    }

    /// Puts a zspage that is on no list where its `inuse` says.
    pub(crate) fn insert(&mut self, zspages: &Zspages, token: &mut Token, id: u32) {
        self.link(zspages, token, id, group_of(zspages, token, id));
    }

    fn link(&mut self, zspages: &Zspages, token: &mut Token, id: u32, group: usize) {
        let next = self.heads[group];
        zspages.set_previous(token, id, NONE);
        zspages.set_next(token, id, next);
        if next != NONE {
            zspages.set_previous(token, next, id);
        }
        self.heads[group] = id;
        self.counts[group] += 1;
        self.occupied |= 1 << group;
    }

    /// Takes a zspage off the list that `inuse` put it on.
    fn unlink(&mut self, zspages: &Zspages, token: &mut Token, id: u32, group: usize) {
        let (previous, next) = zspages.links(token, id);
        self.counts[group] -= 1;
        if next != NONE {
            zspages.set_previous(token, next, previous);
        }
        if previous != NONE {
            zspages.set_next(token, previous, next);
        } else {
            self.heads[group] = next;
            if next == NONE {
                self.occupied &= !(1 << group);
            }
        }
    }

    /// Takes a zspage off its list.
    pub(crate) fn remove(&mut self, zspages: &Zspages, token: &mut Token, id: u32) {
        self.unlink(zspages, token, id, group_of(zspages, token, id));
    }

    /// Moves a zspage that had `before` slots in use, and is as full as `now` says, to its list; says
    /// whether that is another one.
    #[inline]
    pub(crate) fn shift(
        &mut self,
        zspages: &Zspages,
        token: &mut Token,
        id: u32,
        (before, now): (u16, Fill),
    ) -> bool {
        let (old, new) = (group(before, now.objects), group(now.inuse, now.objects));
        if old != new {
            self.unlink(zspages, token, id, old);
            self.link(zspages, token, id, new);
        }
        old != new
    }

    /// A zspage with room, of the fullest group that has one.
    pub(crate) fn fullest(&self) -> Option<u32> {
        let open = self.occupied & !(1 << FULL);
        let group = open.checked_ilog2()? as usize;
        Some(self.heads[group])
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
            Some(zspages.links(token, *id).1).filter(|next| *next != NONE)
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
            let groups: Vec<usize> = (0..=objects).map(|inuse| group(inuse, objects)).collect();
            assert!(groups.is_sorted(), "{objects} objects");
            assert_eq!((groups[0], groups[usize::from(objects)]), (0, FULL));
            assert!(groups[1..usize::from(objects)].iter().all(|group| (1..FULL).contains(group)));
        }
    }
}
