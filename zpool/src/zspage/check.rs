//! What `Pool::check` asserts of zspages, and asks of them.

use std::collections::HashSet;
use std::ops::Range;

use super::record::{Fill, Record};
use super::{JOINED, Token, Zspages};
use crate::sync::Ordering;

impl Zspages {
    /// Asserts that numbers and memory of `zspages`, which are all there are, are held and no
    /// others.
    pub(crate) fn check(&self, zspages: &[Vec<u32>]) {
        let ids = self.ids.lock();
        ids.check();
        assert_eq!(ids.inuse(), zspages.len(), "each zspage has a number");
        let mut open = Vec::new();
        ids.each_open(|made| open.push(made));
        let pages = |made: &Range<usize>| {
            self.records.pages_below(made.start)..self.records.pages_below(made.end)
        };
        self.records.check(open.iter().flat_map(pages));
        self.pages.check(zspages.iter().flat_map(|chain| self.sheets(chain)));
    }

    /// The owner, location and bytes of each place in zspage `id` that is in use, for `check`:
    /// after asserting what is noted of those that are free.
    pub(crate) fn used(&self, token: &Token, id: u32) -> Vec<(u32, u64, usize)> {
        let record = self.record(id);
        assert_eq!(
            record.is_mixed(),
            token.class == self.mixed(),
            "a class is mixed, or none of it"
        );
        let is_used: Box<dyn Fn(u16) -> bool> = if record.is_mixed() {
            self.check_mixed(record);
            Box::new(|unit| record.span(unit).1 > 0)
        } else {
            let (free, Fill { inuse, objects, .. }) = (Self::free_slots(record), record.fill());
            let distinct: HashSet<u16> = free.iter().copied().collect();
            assert_eq!(distinct.len(), free.len(), "each slot is free once");
            assert_eq!(free.len(), usize::from(objects - inuse), "free and used slots add up");
            Box::new(move |slot| !distinct.contains(&slot))
        };
        let used = (0..record.slots()).filter(|slot| is_used(*slot));
        let place = |slot| {
            let owner = self.owner(token, id, slot).expect("a place has an owner entry");
            (owner, self.start(record, slot), self.room(record, slot))
        };
        used.map(place).collect()
    }

    /// The free slots of a zspage that is not mixed; cut off where a list runs in a circle.
    fn free_slots(record: Record<'_>) -> Vec<u16> {
        let mut slots = Vec::new();
        let mut slot = record.free();
        while let Some(entry) = record.owner(slot) {
            if slots.len() > usize::from(record.slots()) {
                break;
            }
            slots.push(slot);
            slot = entry.load(Ordering::Relaxed) as u16;
        }
        slots
    }

    /// The pages of a zspage in order, each with the zspage that its entry names, for `check`.
    pub(crate) fn chain(&self, _token: &Token, id: u32) -> Vec<(u32, u32)> {
        let record = self.record(id);
        let named = |page: u32| self.entry(page).load(Ordering::Relaxed) & !JOINED;
        let pages = (0..usize::from(record.pages())).map(|nth| record.page(nth));
        pages.map(|page| (page, named(page))).collect()
    }
}
