//! Doubly linked lists over entry ids, all in one table of 8 bytes an id.
//! ```text
//! node = list 2 | towards the head 30      30 | towards the tail        list 0: on none
//! ```
//! The table grows by chunks, so growing copies nothing and leaves no slack. Invariant: a node with list
//! `l` is on list `l` once, and on no other.

use std::collections::TryReserveError;

use zpool::source::heap_cost;

/// Nodes of a chunk.
const CHUNK: usize = 1024;
/// No neighbour.
const END: u32 = (1 << 30) - 1;
const CHUNK_BYTES: usize = heap_cost(CHUNK * size_of::<Node>());

/// Two links and the number of a list.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// The list's number in the two highest bits.
    up: u32,
    down: u32,
}

const FREE: Node = Node { up: END, down: END };

/// The table that all lists of a policy share.
#[derive(Debug, Default)]
pub(super) struct Links {
    chunks: Vec<Box<[Node]>>,
}

/// One list; its number is 1 to 3 and different from that of the others.
#[derive(Debug)]
pub(super) struct List {
    number: u32,
    head: u32,
    tail: u32,
    len: usize,
}

impl Links {
    const fn spine(chunks: usize) -> usize {
        heap_cost(chunks * size_of::<Box<[Node]>>())
    }

    /// Bytes that [`grow`](Self::grow) would take.
    pub(super) fn growth(&self, id: u32) -> usize {
        let wanted = id as usize / CHUNK + 1;
        let more = wanted.saturating_sub(self.chunks.len());
        if more == 0 {
            return 0;
        }
        let spine = Self::spine(self.spine_for(wanted)) - Self::spine(self.chunks.capacity());
        more * CHUNK_BYTES + spine
    }

    /// The spine doubles; its former half is given back after the new one is taken, which is not worth
    /// charging: 16 bytes for 8 KiB of nodes.
    fn spine_for(&self, chunks: usize) -> usize {
        if chunks <= self.chunks.capacity() {
            self.chunks.capacity()
        } else {
            chunks.next_power_of_two().max(4)
        }
    }

    pub(super) fn grow(&mut self, id: u32) -> Result<(), TryReserveError> {
        assert!(id < END, "ids are below 2^30 - 1");
        let wanted = id as usize / CHUNK + 1;
        let spine = self.spine_for(wanted);
        self.chunks.try_reserve_exact(spine - self.chunks.len())?;
        while self.chunks.len() < wanted {
            let mut chunk = Vec::new();
            chunk.try_reserve_exact(CHUNK)?;
            chunk.resize(CHUNK, FREE);
            self.chunks.push(chunk.into_boxed_slice());
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK_BYTES + Self::spine(self.chunks.capacity())
    }

    fn node(&self, id: u32) -> Node {
        let chunk = self.chunks.get(id as usize / CHUNK);
        chunk.map_or(FREE, |chunk| chunk[id as usize % CHUNK])
    }

    fn node_mut(&mut self, id: u32) -> &mut Node {
        &mut self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }

    /// The number of the list that `id` is on; 0: none.
    pub(super) fn list_of(&self, id: u32) -> u32 {
        self.node(id).up >> 30
    }

    /// The neighbour towards the head.
    pub(super) fn up(&self, id: u32) -> Option<u32> {
        let up = self.node(id).up & END;
        (up != END).then_some(up)
    }

    fn set_up(&mut self, id: u32, up: u32) {
        let node = self.node_mut(id);
        node.up = node.up & !END | up;
    }
}

impl List {
    pub(super) fn new(number: u32) -> Self {
        debug_assert!((1..=3).contains(&number));
        Self { number, head: END, tail: END, len: 0 }
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The entry at the eviction end.
    pub(super) fn tail(&self) -> Option<u32> {
        (self.tail != END).then_some(self.tail)
    }

    pub(super) fn push_head(&mut self, links: &mut Links, id: u32) {
        self.push(links, id, END, self.head);
    }

    pub(super) fn push_tail(&mut self, links: &mut Links, id: u32) {
        self.push(links, id, self.tail, END);
    }

    /// Puts `id` between two neighbours.
    fn push(&mut self, links: &mut Links, id: u32, up: u32, down: u32) {
        debug_assert_eq!(links.list_of(id), 0, "an id is on one list");
        *links.node_mut(id) = Node { up: self.number << 30 | up, down };
        self.join(links, up, id);
        self.join(links, id, down);
        self.len += 1;
    }

    /// Makes two ids neighbours; where one is none, the other is an end of the list.
    fn join(&mut self, links: &mut Links, up: u32, down: u32) {
        if up == END {
            self.head = down;
        } else {
            links.node_mut(up).down = down;
        }
        if down == END {
            self.tail = up;
        } else {
            links.set_up(down, up);
        }
    }

    /// Takes `id`, which is on this list, out.
    pub(super) fn remove(&mut self, links: &mut Links, id: u32) {
        let Node { up, down } = links.node(id);
        debug_assert_eq!(up >> 30, self.number, "an id is taken off its own list");
        self.join(links, up & END, down);
        *links.node_mut(id) = FREE;
        self.len -= 1;
    }

    /// `new`, which is on no list, takes the place of `old`, which is on this one.
    pub(super) fn swap(&mut self, links: &mut Links, old: u32, new: u32) {
        let Node { up, down } = links.node(old);
        *links.node_mut(old) = FREE;
        *links.node_mut(new) = Node { up, down };
        self.join(links, up & END, new);
        self.join(links, new, down);
    }

    /// Asserts that the list is whole.
    pub(super) fn check(&self, links: &Links) {
        let (mut up, mut at, mut len) = (END, self.head, 0);
        while at != END {
            let node = links.node(at);
            assert_eq!((node.up >> 30, node.up & END), (self.number, up), "links go both ways");
            (up, at, len) = (at, node.down, len + 1);
            assert!(len <= self.len, "a list ends");
        }
        assert_eq!((len, self.tail), (self.len, up), "a list's length and end");
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    fn ids(list: &List, links: &Links) -> Vec<u32> {
        list.check(links);
        std::iter::successors(list.tail(), |id| links.up(*id)).collect()
    }

    #[test]
    fn lists_keep_their_order_and_share_a_table() {
        let mut links = Links::default();
        let (mut one, mut two) = (List::new(1), List::new(2));
        let charged = links.growth(5000);
        links.grow(5000).expect("memory");
        assert_eq!((links.growth(5119), links.bytes()), (0, charged));
        for id in [1, 2, 3] {
            one.push_head(&mut links, id);
        }
        two.push_head(&mut links, 5000);
        one.push_tail(&mut links, 9);
        assert_eq!(ids(&one, &links), [9, 1, 2, 3]);
        one.remove(&mut links, 2);
        one.swap(&mut links, 9, 7);
        assert_eq!((ids(&one, &links), ids(&two, &links)), (vec![7, 1, 3], vec![5000]));
        assert_eq!([2, 9, 7, 5000, 100_000].map(|id| links.list_of(id)), [0, 0, 1, 2, 0]);
        for id in [3, 7, 1] {
            one.remove(&mut links, id);
        }
        assert_eq!((ids(&one, &links), one.len()), (vec![], 0));
    }

    #[test]
    fn growth_is_what_growing_takes() {
        let mut links = Links::default();
        for id in (0..40_000).step_by(700) {
            let (before, growth) = (links.bytes(), links.growth(id));
            links.grow(id).expect("memory");
            assert_eq!(links.bytes(), before + growth);
        }
        assert!(links.bytes() <= 40 * (8192 + 32));
    }
}
