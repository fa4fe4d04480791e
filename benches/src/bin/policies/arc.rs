//! ARC (Megiddo and Modha, FAST 2003): recent and frequent pages in two queues, whose lengths
//! follow their ghosts.

/// The four lists: those asked for once and more often, and the ghosts of either.
const T1: usize = 0;
const T2: usize = 1;
const B1: usize = 2;
const B2: usize = 3;
const NONE: u32 = u32::MAX;

/// Pages on one of four lists each, linked both ways.
#[derive(Debug)]
struct Lists {
    /// The list of each page, or 4, and its neighbours.
    nodes: Vec<(usize, u32, u32)>,
    /// Head, which came last, tail and length of each.
    lists: [(u32, u32, usize); 4],
}

impl Lists {
    fn new(pages: usize) -> Self {
        Self { nodes: vec![(4, NONE, NONE); pages], lists: [(NONE, NONE, 0); 4] }
    }

    fn list(&self, page: u32) -> usize {
        self.nodes[page as usize].0
    }

    fn len(&self, list: usize) -> usize {
        self.lists[list].2
    }

    fn push(&mut self, list: usize, page: u32) {
        let (head, tail, len) = self.lists[list];
        self.nodes[page as usize] = (list, NONE, head);
        match self.nodes.get_mut(head as usize) {
            Some(node) => node.1 = page,
            None => self.lists[list].1 = page,
        }
        let tail = if tail == NONE { page } else { tail };
        self.lists[list] = (page, tail, len + 1);
    }

    fn remove(&mut self, page: u32) {
        let (list, newer, older) = self.nodes[page as usize];
        match self.nodes.get_mut(newer as usize) {
            Some(node) => node.2 = older,
            None => self.lists[list].0 = older,
        }
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.1 = newer,
            None => self.lists[list].1 = newer,
        }
        self.lists[list].2 -= 1;
        self.nodes[page as usize] = (4, NONE, NONE);
    }

    /// Moves the tail of a list to the head of another one, or away.
    fn pop(&mut self, from: usize, to: Option<usize>) {
        let page = self.lists[from].1;
        if page != NONE {
            self.remove(page);
            to.into_iter().for_each(|to| self.push(to, page));
        }
    }
}

#[derive(Debug)]
pub(crate) struct Arc {
    lists: Lists,
    capacity: usize,
    /// The entries that T1 is entitled to.
    target: usize,
}

impl Arc {
    pub(crate) fn new(capacity: usize, pages: usize) -> Self {
        Self { lists: Lists::new(pages), capacity, target: 0 }
    }

    /// Makes one entry a ghost.
    fn replace(&mut self, in_b2: bool) {
        let t1 = self.lists.len(T1);
        let recent = t1 > 0 && (t1 > self.target || in_b2 && t1 == self.target);
        if recent || self.lists.len(T2) == 0 {
            self.lists.pop(T1, Some(B1));
        } else {
            self.lists.pop(T2, Some(B2));
        }
    }

    /// Asks for `page`, which enters where it is missing. Says whether it was there.
    pub(crate) fn request(&mut self, page: u32) -> bool {
        let list = self.lists.list(page);
        let [t1, t2, b1, b2] = [T1, T2, B1, B2].map(|list| self.lists.len(list));
        match list {
            T1 | T2 => {}
            B1 => {
                self.target = (self.target + (b2 / b1).max(1)).min(self.capacity);
                self.replace(false);
            }
            B2 => {
                self.target = self.target.saturating_sub((b1 / b2).max(1));
                self.replace(true);
            }
            _ if t1 + b1 == self.capacity && t1 < self.capacity => {
                self.lists.pop(B1, None);
                self.replace(false);
            }
            _ if t1 + b1 == self.capacity => self.lists.pop(T1, None),
            _ if t1 + t2 + b1 + b2 >= self.capacity => {
                if t1 + t2 + b1 + b2 == 2 * self.capacity {
                    self.lists.pop(B2, None);
                }
                if t1 + t2 == self.capacity {
                    self.replace(false);
                }
            }
            _ => {}
        }
        let is_new = list > B2;
        if !is_new {
            self.lists.remove(page);
        }
        self.lists.push(if is_new { T1 } else { T2 }, page);
        list <= T2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_fits_and_ghosts_move_the_target() {
        let mut arc = Arc::new(8, 64);
        let mut hits = 0;
        for step in 0..20_000_u32 {
            hits += u32::from(arc.request(step.wrapping_mul(0x9e37_79b1) >> 30));
            hits += u32::from(arc.request(4 + step % 60));
            let [t1, t2, b1, b2] = [T1, T2, B1, B2].map(|list| arc.lists.len(list));
            assert!(t1 + t2 <= 8 && t1 + b1 <= 8 && t1 + t2 + b1 + b2 <= 16);
        }
        assert!(hits > 15_000, "{hits}: the loop does not wash out what is asked for often");
    }

    #[test]
    fn what_is_asked_for_twice_outlives_a_scan() {
        let mut arc = Arc::new(4, 100);
        assert_eq!([0, 1, 0, 1].map(|page| arc.request(page)), [false, false, true, true]);
        (2..100).for_each(|page| assert!(!arc.request(page)));
        assert!(arc.request(0) && arc.request(1));
    }
}
