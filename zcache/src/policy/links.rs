//! Doubly linked lists over ids, several in one table of nodes: a word of 8 bytes an id.
//! ```text
//! node    | list + 1: 2 | newer: 30 | flag: 1 | older: 31 |       list + 1 is 0: on no list
//! list    head, entered last <- newer | older -> tail, leaves first
//! ```
//! Invariants: an id is on one list at most, the one its node names. `a.older == b` if and only if
//! `b.newer == a`. But the head's `newer` and the tail's `older` are their own ids. A flag is its
//! user's, and is cleared when the id leaves its list.

use std::fmt;
use std::ops::Range;

use zpool::NoMemory;

use super::MAX_ENTRIES;
use super::chunks::{Chunks, Made, per_chunk};

/// Chunks without an id on a list that are kept, so that a table does not come and go with one id.
const SPARE: usize = 1;
const LIST_AT: u32 = 30;
const ID: u32 = MAX_ENTRIES - 1;
const FLAG: u32 = 1 << 31;

/// The links of an id.
#[derive(Clone, Copy, Default)]
pub(super) struct Node {
    list_and_newer: u32,
    flag_and_older: u32,
}

impl Node {
    fn of(word: u64) -> Self {
        Self { list_and_newer: word as u32, flag_and_older: (word >> 32) as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.list_and_newer) | u64::from(self.flag_and_older) << 32
    }

    fn list(self) -> Option<usize> {
        (self.list_and_newer >> LIST_AT).checked_sub(1).map(|list| list as usize)
    }
}

#[derive(Clone, Copy, Default)]
struct List {
    head: Option<u32>,
    tail: Option<u32>,
    len: usize,
}

/// `LISTS` lists, 3 at the most, on one table of nodes. A list is named by its number.
pub(super) struct Links<const LISTS: usize> {
    nodes: Chunks,
    lists: [List; LISTS],
}

impl<const LISTS: usize> Links<LISTS> {
    pub(super) fn new() -> Self {
        const { assert!(LISTS <= 3, "two bits name a list") };
        Self { nodes: Chunks::new(), lists: [List::default(); LISTS] }
    }

    /// Bytes that a node for `id` will cost; 0 if it is there.
    pub(super) fn growth(&self, id: u32) -> usize {
        self.nodes.growth(self.nodes.chunk_of(id as usize))
    }

    /// Makes a node for `id`, unless it is there.
    ///
    /// # Errors
    /// [`NoMemory`]; nothing has changed.
    pub(super) fn grow(&mut self, id: u32) -> Result<(), NoMemory> {
        if self.growth(id) > 0 {
            let made = self.make(id)?;
            self.install(made);
        }
        Ok(())
    }

    /// The first half of growing for `id`, which has no node, for those that have more to grow.
    pub(super) fn make(&mut self, id: u32) -> Result<Made, NoMemory> {
        self.nodes.make(self.nodes.chunk_of(id as usize))
    }

    pub(super) fn install(&mut self, made: Made) {
        self.nodes.install(made);
    }

    pub(super) fn bytes(&self) -> usize {
        self.nodes.bytes()
    }

    /// Ids that there is room for.
    pub(super) fn room(&self) -> usize {
        self.nodes.chunks() * per_chunk()
    }

    /// Drops chunks of nodes without an id on a list, but for one, and for those of which `in_use`
    /// says that an id may enter soon. What they took comes back, in bytes.
    pub(super) fn shrink(&mut self, in_use: &dyn Fn(Range<u32>) -> bool) -> usize {
        if self.nodes.unused() <= SPARE {
            return 0;
        }
        let each = per_chunk();
        let ids = |number: usize| (number * each) as u32..((number + 1) * each) as u32;
        self.nodes.shrink(SPARE, &|number| !in_use(ids(number)))
    }

    /// The list that `id` is on.
    pub(super) fn list(&self, id: u32) -> Option<usize> {
        self.node(id).list()
    }

    /// Ids on `list`.
    pub(super) fn len(&self, list: usize) -> usize {
        self.lists[list].len
    }

    /// Ids on all lists.
    pub(super) fn total(&self) -> usize {
        self.lists.iter().map(|list| list.len).sum()
    }

    pub(super) fn head(&self, list: usize) -> Option<u32> {
        self.lists[list].head
    }

    pub(super) fn tail(&self, list: usize) -> Option<u32> {
        self.lists[list].tail
    }

    /// The id that entered the list of `id` just after it: the next one towards the head.
    pub(super) fn newer(&self, id: u32) -> Option<u32> {
        let newer = self.node(id).list_and_newer & ID;
        (newer != id).then_some(newer)
    }

    /// The next one towards the tail.
    pub(super) fn older(&self, id: u32) -> Option<u32> {
        let older = self.node(id).flag_and_older & ID;
        (older != id).then_some(older)
    }

    /// `id`, which is on no list, becomes the head of `list`.
    pub(super) fn push_head(&mut self, list: usize, id: u32) {
        self.link(list, id, None, self.head(list));
    }

    /// `id`, which is on no list, becomes the tail of `list`.
    pub(super) fn push_tail(&mut self, list: usize, id: u32) {
        self.link(list, id, self.tail(list), None);
    }

    /// `id`, which is on no list, goes in beside `at`, on the side of the tail.
    pub(super) fn insert_older(&mut self, at: u32, id: u32) {
        let list = self.list(at).expect("beside an id on a list");
        self.link(list, id, Some(at), self.older(at));
    }

    /// `id`, which is on a list, becomes the head of `list`.
    pub(super) fn move_to_head(&mut self, list: usize, id: u32) {
        self.remove(id);
        self.push_head(list, id);
    }

    /// Marks `id`, which is on a list, until it leaves that.
    pub(super) fn flag(&mut self, id: u32) {
        self.change(id, |node| node.flag_and_older |= FLAG);
    }

    pub(super) fn unflag(&mut self, id: u32) {
        self.change(id, |node| node.flag_and_older &= !FLAG);
    }

    pub(super) fn is_flagged(&self, id: u32) -> bool {
        self.node(id).flag_and_older & FLAG != 0
    }

    /// Takes `id` off its list, and says whether it was on one.
    pub(super) fn remove(&mut self, id: u32) -> bool {
        let Some(list) = self.list(id) else { return false };
        let (newer, older) = (self.newer(id), self.older(id));
        self.join(list, newer, older);
        self.lists[list].len -= 1;
        self.change(id, |node| *node = Node::default());
        self.nodes.let_go(id as usize);
        true
    }

    /// `new` takes the place and flag of `old`, which is on no list then. If `old` is on none
    /// already, `new` stays where it is, and if `new` is on none, `old` goes.
    pub(super) fn replace(&mut self, old: u32, new: u32) {
        let Some(list) = self.list(old) else { return };
        if old == new {
            return;
        }
        let enters = self.remove(new);
        let (newer, older, flagged) = (self.newer(old), self.older(old), self.is_flagged(old));
        self.remove(old);
        if enters {
            self.link(list, new, newer, older);
            if flagged {
                self.flag(new);
            }
        }
    }

    /// Puts `id` between two neighbours on `list`.
    fn link(&mut self, list: usize, id: u32, newer: Option<u32>, older: Option<u32>) {
        assert!(self.node(id).list().is_none(), "entry {id} is in the policy already");
        self.join(list, newer, Some(id));
        self.join(list, Some(id), older);
        self.change(id, |node| node.list_and_newer |= (list as u32 + 1) << LIST_AT);
        self.nodes.hold(id as usize);
        self.lists[list].len += 1;
    }

    /// Makes two ids neighbours, or one of them an end of `list`.
    fn join(&mut self, list: usize, newer: Option<u32>, older: Option<u32>) {
        match newer {
            Some(id) => self.change(id, |node| {
                node.flag_and_older = node.flag_and_older & FLAG | older.unwrap_or(id);
            }),
            None => self.lists[list].head = older,
        }
        match older {
            Some(id) => self.change(id, |node| {
                node.list_and_newer = node.list_and_newer & !ID | newer.unwrap_or(id);
            }),
            None => self.lists[list].tail = newer,
        }
    }

    /// The node of `id`, on no list where there is none.
    #[inline]
    fn node(&self, id: u32) -> Node {
        Node::of(self.nodes.get(id as usize))
    }

    #[inline]
    fn change(&mut self, id: u32, f: impl FnOnce(&mut Node)) {
        let mut node = self.node(id);
        f(&mut node);
        self.nodes.set(id as usize, node.word());
    }

    /// The ids on `list` from the tail to the head, in the order in which they would go.
    pub(super) fn ids(&self, list: usize) -> impl Iterator<Item = u32> {
        std::iter::successors(self.tail(list), |id| self.newer(*id))
    }

    /// Asserts what the header says.
    pub(super) fn check(&self) {
        for (list, List { head, tail, len }) in self.lists.iter().enumerate() {
            let (mut last, mut count) = (None, 0);
            for id in self.ids(list) {
                assert_eq!((self.list(id), self.older(id)), (Some(list), last), "links of {id}");
                (last, count) = (Some(id), count + 1);
                assert!(count <= *len, "list {list} runs in a circle or is longer than {len}");
            }
            assert_eq!((last, count), (*head, *len), "list {list}");
            assert_eq!(head.is_none(), tail.is_none(), "list {list}");
        }
        let on_a_list = |nodes: &Chunks, number: usize| {
            let words = number * per_chunk()..(number + 1) * per_chunk();
            words.filter(|index| Node::of(nodes.get(*index)).list().is_some()).count()
        };
        self.nodes.check(on_a_list);
        let placed: usize = self.nodes.numbers().map(|number| on_a_list(&self.nodes, number)).sum();
        assert_eq!(placed, self.total(), "each id that names a list is on it");
    }
}

impl<const LISTS: usize> fmt::Debug for Links<LISTS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lists.iter().map(|list| list.len)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(ids: std::ops::Range<u32>) -> Links<2> {
        let mut links = Links::new();
        for id in ids {
            links.grow(id).expect("room");
            links.push_head(0, id);
        }
        links.check();
        links
    }

    fn order(links: &Links<2>) -> [Vec<u32>; 2] {
        links.check();
        [links.ids(0).collect(), links.ids(1).collect()]
    }

    #[test]
    fn ids_go_where_they_are_put() {
        let mut links = links(0..4);
        links.move_to_head(1, 2);
        links.move_to_head(0, 0);
        assert_eq!(order(&links), [vec![1, 3, 0], vec![2]]);
        assert!(links.remove(3) && !links.remove(3) && !links.remove(1 << 20));
        links.push_tail(1, 3);
        assert_eq!(order(&links), [vec![1, 0], vec![3, 2]]);
        assert!(links.remove(1));
        links.insert_older(2, 1);
        assert_eq!(order(&links), [vec![0], vec![3, 1, 2]]);
        assert_eq!((links.len(0), links.total(), links.list(2)), (1, 4, Some(1)));
    }

    #[test]
    fn replacing_takes_the_place_of_neighbours_too() {
        let mut links = links(0..6);
        links.replace(2, 3);
        assert_eq!(order(&links)[0], [0, 1, 3, 4, 5]);
        links.replace(4, 3);
        assert_eq!(order(&links)[0], [0, 1, 3, 5]);
        links.replace(0, 5);
        assert_eq!(order(&links)[0], [5, 1, 3]);
        links.replace(1, 1);
        links.replace(0, 1); // 0 is gone: 1 stays
        links.replace(3, 0); // and where 0 should enter, 3 goes
        assert_eq!(order(&links)[0], [5, 1]);
    }

    #[test]
    fn a_flag_stays_with_its_place_on_the_list() {
        let mut links = links(0..4);
        links.flag(2);
        links.flag(3);
        links.remove(1);
        links.push_head(0, 1);
        assert_eq!(order(&links)[0], [0, 2, 3, 1]);
        assert_eq!([0, 1, 2, 3].map(|id| links.is_flagged(id)), [false, false, true, true]);
        links.replace(2, 0);
        links.move_to_head(0, 3);
        assert_eq!([0, 1, 2, 3].map(|id| links.is_flagged(id)), [true, false, false, false]);
    }

    #[test]
    fn nodes_come_back_when_no_id_is_left_on_them() {
        let each = per_chunk() as u32;
        let mut links = links(0..5 * each);
        let full = links.bytes();
        (0..4 * each).filter(|id| *id != 7).for_each(|id| assert!(links.remove(id)));
        // Three chunks are unused, and an id of the first of them may enter soon: it is the spare.
        let freed = links.shrink(&|ids| ids.contains(&each));
        assert_eq!(links.bytes(), full - freed);
        assert_eq!((links.nodes.chunks(), order(&links)[0][0]), (3, 7));
        assert_eq!(links.growth(each), 0, "it may enter");
        links.push_head(1, each);
        assert_eq!(order(&links)[1], [each]);
        assert_eq!(links.shrink(&|_| false), 0);
        let gone = 2 * each;
        assert_eq!((links.growth(gone), links.growth(gone + each)), (freed / 2, freed / 2));
        links.grow(gone).expect("room");
        links.push_head(0, gone);
        assert_eq!((links.bytes(), links.list(gone)), (full - freed / 2, Some(0)));
    }

    #[test]
    fn the_highest_id_has_a_node_like_any_other() {
        let last = MAX_ENTRIES - 1;
        let mut links = links(0..1);
        links.grow(last).expect("room");
        links.push_head(0, last);
        assert_eq!(order(&links)[0], [0, last]);
    }

    #[test]
    fn a_million_ids_take_eight_bytes_each_and_two_in_a_hundred_more() {
        let mut links = Links::<1>::new();
        for id in (0..1 << 20).step_by(per_chunk()) {
            links.grow(id).expect("room");
        }
        let each = links.bytes() as f64 / f64::from(1 << 20);
        assert!((8.0..8.04).contains(&each), "{each}");
    }
}
