//! A door for pages that return: `main` takes a part of them, the others go through `small` like
//! new pages.
//!
//! Each page that is let in is judged when `main`'s tail comes to it for the first time. A hit
//! widens the door, no hit narrows it. So the door is steady where half are hit. Where fewer are
//! hit, the entries that were in `main` before were worth more.

/// A turn of `main` in which all who were let in went without a hit makes the door narrower by
/// e^-4.
const HASTE: f64 = 4.0;
/// The door is never narrower, or nobody would be there to be judged.
const NARROWEST: f64 = 1.0 / 16.0;

#[derive(Debug)]
pub(super) struct Door {
    part: f64,
    /// What is left of the parts of those who returned: one more goes in when it comes to 1.
    credit: f64,
}

impl Door {
    /// One that stands open.
    pub(super) fn new() -> Self {
        Self { part: 1.0, credit: 0.0 }
    }

    /// The part that it takes.
    #[cfg(test)]
    pub(super) fn part(&self) -> f64 {
        self.part
    }

    pub(super) fn lets_in(&mut self) -> bool {
        self.credit += self.part;
        let whole = self.credit >= 1.0;
        self.credit -= f64::from(u8::from(whole));
        whole
    }

    /// One of those let in, in a policy of `entries`, was hit or not when its turn came.
    pub(super) fn judge(&mut self, hit: bool, entries: usize) {
        let step = 1.0 + HASTE / entries as f64;
        let part = if hit { self.part * step } else { self.part / step };
        self.part = part.clamp(NARROWEST, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lets_its_part_in() {
        let mut door = Door { part: 0.375, credit: 0.0 };
        assert_eq!((0..800).filter(|_| door.lets_in()).count(), 300);
    }

    /// In single precision the step of a judgement was rounded to none from 2^26 entries on.
    #[test]
    fn it_moves_by_the_same_part_of_a_turn_whatever_the_entries() {
        for entries in [1 << 12, 1 << 25, 1 << 26, crate::policy::MAX_ENTRIES as usize] {
            let mut door = Door::new();
            let judged = 1000;
            (0..judged).for_each(|_| door.judge(false, entries));
            let expected = (-HASTE * f64::from(judged) / entries as f64).exp();
            let moved = 1.0 - door.part;
            assert!((moved / (1.0 - expected) - 1.0).abs() < 0.01, "{entries}: {moved}");
            (0..judged).for_each(|_| door.judge(true, entries));
            assert!((door.part - 1.0).abs() < 1e-9, "{entries}");
        }
    }

    #[test]
    fn it_stays_within_its_bounds_in_the_smallest_policies() {
        for entries in 1..=20 {
            let mut door = Door::new();
            for turn in 0..1000_u32 {
                door.judge(turn.wrapping_mul(0x9e37_79b1) >> 30 == 0, entries);
                door.lets_in();
                assert!((NARROWEST..=1.0).contains(&door.part), "{entries}: {door:?}");
                assert!((0.0..1.0).contains(&door.credit), "{entries}: {door:?}");
            }
        }
    }
}
