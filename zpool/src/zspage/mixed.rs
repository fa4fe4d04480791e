//! Mixed zspages: objects of any length side by side, as long as their zspage has a gap for them.
//! ```text
//! unit     32 grains; an object starts in it, or none    owner 4 B | first grain 2 B | grains 2 B
//! object   32 grains at least, at any grain: so no two start in one unit
//! gap      what lies between the end of an object and the start of the next one
//! ```
//! A [`Place`] is made of grains of a gap, which then belong to no gap until the place comes back.
//! So no two places share a byte. `check` asserts that objects do not meet.

use super::record::{Fill, Record};
use super::{Change, Token, Zspages};
use crate::geometry::{GRAIN, MIXED_UNIT};
use crate::handle::Place;
use crate::sync::Ordering;

impl Record<'_> {
    /// Calls `f` with the start and the length of each gap, in grains.
    fn each_gap(self, mut f: impl FnMut((u16, u16))) {
        let (mut end, all) = (0, self.fill().objects);
        self.each_span(|(start, grains)| {
            if start > end {
                f((end, start - end));
            }
            end = start + grains;
        });
        if all > end {
            f((end, all - end));
        }
    }

    /// The start of the shortest gap that has `grains`, and what is the longest one without them.
    fn gap(self, grains: u16) -> Option<(u16, u16)> {
        // Of lengths and starts: the shortest that will do, and the longest of the others.
        let (mut best, mut longest) = ((u16::MAX, 0), 0);
        self.each_gap(|(start, len)| {
            if len >= grains && len < best.0 {
                longest = if best.0 == u16::MAX { longest } else { longest.max(best.0) };
                best = (len, start);
            } else {
                longest = longest.max(len);
            }
        });
        (best.0 != u16::MAX).then(|| (best.1, longest.max(best.0 - grains)))
    }

    /// The length of the gap around unit `unit`, in which no object starts.
    fn gap_at(self, unit: u16) -> u16 {
        let (before, behind) = self.neighbours(unit);
        let end = before.map_or(0, |unit| self.span(unit).0 + self.span(unit).1);
        behind.map_or(self.fill().objects, |unit| self.span(unit).0) - end
    }

    /// Notes what is in use, and the longest gap.
    fn note(self, inuse: u16, longest: u16) -> Fill {
        self.set_use(inuse, longest);
        self.fill()
    }
}

impl Zspages {
    /// Takes `grains` of a gap for the handle `owner`, if there is such a gap.
    pub(super) fn place_mixed(
        &self,
        record: Record<'_>,
        owner: u32,
        grains: u16,
    ) -> Option<(Place, Change)> {
        assert!(usize::from(grains) >= MIXED_UNIT, "an object takes a unit at least");
        let (start, longest) = record.gap(grains)?;
        let unit = start / MIXED_UNIT as u16;
        assert_eq!(record.span(unit).1, 0, "one object starts in a unit");
        record.set_span(unit, (start, grains));
        record.owner(unit)?.store(owner, Ordering::Relaxed);
        let (location, size) = (self.start(record, unit), usize::from(grains) * GRAIN);
        self.shade(record, location, size, false);
        let before = record.fill();
        let now = record.note(before.inuse + grains, longest);
        // SAFETY: the grains were those of a gap, so no other place has a byte of them.
        Some((unsafe { Place::new(location, size) }, (before, now)))
    }

    /// Takes a place of a mixed zspage back.
    pub(super) fn release_mixed(&self, record: Record<'_>, place: &Place) -> Change {
        let unit = self.slot_of(record, place);
        let (start, grains) = record.span(unit);
        assert!(grains > 0 && self.start(record, unit) == place.location(), "a place of {start}");
        let size = usize::from(grains) * GRAIN;
        self.witness.write(place.location() * GRAIN as u64, size);
        self.shade(record, place.location(), size, true);
        record.set_span(unit, (0, 0));
        let before = record.fill();
        let longest = before.open.max(record.gap_at(unit));
        (before, record.note(before.inuse - grains, longest))
    }

    /// Grains of what starts in a unit of mixed zspage `id`, and 1 for any slot.
    pub(crate) fn grains_at(&self, _token: &Token, id: u32, slot: u16) -> u16 {
        let record = self.record(id);
        if record.is_mixed() { record.span(slot).1 } else { 1 }
    }

    /// Asserts that the objects of a mixed zspage do not meet, and that what is noted is so. Goes
    /// by what each unit says, and asserts that the bits say the same.
    pub(super) fn check_mixed(&self, record: Record<'_>) {
        let Fill { inuse: noted, objects, open, pages } = record.fill();
        let grains = usize::from(pages) * self.page_size() / GRAIN;
        assert_eq!(usize::from(objects), grains, "a mixed zspage has the grains of its pages");
        let (mut end, mut inuse, mut longest, mut spans) = (0, 0, 0, Vec::new());
        for unit in 0..record.slots() {
            let (start, grains) = record.span(unit);
            if grains > 0 {
                assert!(start >= end, "objects do not meet");
                assert_eq!(usize::from(start) / MIXED_UNIT, usize::from(unit), "its own unit");
                assert!(usize::from(grains) >= MIXED_UNIT, "an object takes a unit at least");
                longest = longest.max(start - end);
                (end, inuse) = (start + grains, inuse + grains);
                spans.push((start, grains));
            }
        }
        assert!(end <= objects, "objects end in their zspage");
        longest = longest.max(objects - end);
        assert_eq!((inuse, longest), (noted, open), "grains in use, and the longest gap");
        let mut by_bits = Vec::new();
        record.each_span(|span| by_bits.push(span));
        assert_eq!(by_bits, spans, "a bit for each unit in which an object starts");
    }
}
