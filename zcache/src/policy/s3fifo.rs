//! S3-FIFO.

use std::collections::TryReserveError;

use super::ghost::Ghosts;
use super::links::{Links, List};
use super::{Entries, Policy, Priority};

/// Hits that an entry of the small queue needs to stay.
const PROVED: u8 = 2;
/// The small queue holds one in this many entries.
const SMALL: usize = 10;

/// S3-FIFO (Yang et al., SOSP 2023): newcomers pass a small queue, a tenth of all entries. Those hit twice on
/// the way go on to the main queue, the others out, and leave a ghost; who comes back while its ghost
/// is there starts in the main queue. In the main queue an entry that was hit goes round once more for
/// each hit, up to three. Scans so pass through the tenth, and hits move nothing.
#[derive(Debug)]
pub struct S3Fifo {
    links: Links,
    small: List,
    main: List,
    ghosts: Ghosts,
}

impl Default for S3Fifo {
    fn default() -> Self {
        Self::new()
    }
}

/// What a look at one entry came to.
enum Look {
    Victim(u32),
    /// The entry stays, wherever it is now.
    Stays,
    /// There is no entry to look at.
    Nobody,
}

impl S3Fifo {
    /// The policy, empty.
    #[must_use]
    pub fn new() -> Self {
        Self {
            links: Links::default(),
            small: List::new(1),
            main: List::new(2),
            ghosts: Ghosts::default(),
        }
    }

    /// The queue of the number `list_of` gives.
    fn queue(&mut self, number: u32) -> &mut List {
        if number == self.small.number() { &mut self.small } else { &mut self.main }
    }

    fn look_small(&mut self, entries: &dyn Entries, any: bool) -> Look {
        let Some(id) = self.small.tail() else { return Look::Nobody };
        self.small.remove(&mut self.links, id);
        match entries.mark(id) {
            Some(mark) if mark < PROVED || any => {
                self.ghosts.insert(entries.tag(id));
                Look::Victim(id)
            }
            Some(_) => {
                entries.set_mark(id, 0);
                self.main.push_head(&mut self.links, id);
                Look::Stays
            }
            None => {
                self.small.push_head(&mut self.links, id);
                Look::Stays
            }
        }
    }

    fn look_main(&mut self, entries: &dyn Entries, any: bool) -> Look {
        let Some(id) = self.main.tail() else { return Look::Nobody };
        self.main.remove(&mut self.links, id);
        match entries.mark(id) {
            Some(mark) if mark == 0 || any => return Look::Victim(id),
            Some(mark) => entries.set_mark(id, mark - 1),
            None => {}
        }
        self.main.push_head(&mut self.links, id);
        Look::Stays
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
        self.links.growth(id)
    }

    fn grow(&mut self, id: u32) -> Result<(), TryReserveError> {
        self.links.grow(id)
    }

    fn insert(&mut self, id: u32, tag: u32, priority: Priority) {
        let came_back = self.ghosts.take(tag);
        match priority {
            Priority::High => self.main.push_head(&mut self.links, id),
            _ if came_back => self.main.push_head(&mut self.links, id),
            Priority::Low => self.small.push_tail(&mut self.links, id),
            Priority::Normal => self.small.push_head(&mut self.links, id),
        }
    }

    fn remove(&mut self, id: u32) -> bool {
        let number = self.links.list_of(id);
        if number == self.small.number() {
            self.small.remove(&mut self.links, id);
        } else if number == self.main.number() {
            self.main.remove(&mut self.links, id);
        }
        number != 0
    }

    fn replace(&mut self, old: u32, new: u32) {
        let number = self.links.list_of(old);
        if number != 0 && self.remove(new) {
            let mut links = std::mem::take(&mut self.links);
            self.queue(number).swap(&mut links, old, new);
            self.links = links;
        } else {
            self.remove(old);
        }
    }

    fn evict(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32> {
        let looks = effort.min(5 * self.len() + 1);
        for look in 1..=looks {
            let any = look == effort;
            // As the authors do: the small queue pays while it holds more than its share, or is all
            // there is.
            let small = self.small.len() * SMALL >= self.len() || self.main.len() == 0;
            let looked =
                if small { self.look_small(entries, any) } else { self.look_main(entries, any) };
            match looked {
                Look::Victim(id) => return Some(id),
                Look::Stays => {}
                Look::Nobody => return None,
            }
        }
        None
    }

    fn contains(&self, id: u32) -> bool {
        self.links.list_of(id) != 0
    }

    fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }

    fn bytes(&self) -> usize {
        self.links.bytes() + self.ghosts.bytes()
    }

    fn ghost_growth(&self) -> usize {
        self.ghosts.growth(self.len())
    }

    fn grow_ghosts(&mut self) -> Result<(), TryReserveError> {
        self.ghosts.grow(self.len())
    }

    fn check(&self) {
        self.small.check(&self.links);
        self.main.check(&self.links);
    }
}
