//! The share of the entries that `small` is entitled to. It adapts.
//!
//! A page that returns soon after it was evicted would have been hit in a queue a little longer. So
//! the share grows when a young ghost of `small` returns, and falls when one of `main` does. Those
//! of `small` weigh a little less: a page just behind a front that moves on returns once, though it
//! never becomes hot.

use super::ghost::Ghost;

/// Where it starts, and its bounds.
const START: f64 = 0.04;
const LEAST: f64 = 0.01;
const MOST: f64 = 0.30;
/// Ghosts are young until as many went after them as there are entries, by this.
const YOUNG: usize = 20;
/// The share changes by a factor of e in as many returns as there are entries, divided by this.
const HASTE: f64 = 20.0;
/// What a return to `small` weighs beside one to `main`.
const WEIGHT: f64 = 0.85;

#[derive(Debug)]
pub(super) struct Share(f64);

impl Share {
    pub(super) fn new() -> Self {
        Self(START)
    }

    /// The part of the entries.
    #[cfg(test)]
    pub(super) fn part(&self) -> f64 {
        self.0
    }

    /// Entries, of `entries`.
    pub(super) fn of(&self, entries: usize) -> usize {
        ((self.0 * entries as f64) as usize).max(1)
    }

    /// A key returned whose ghost is from `small`, or from `main`, in a policy of `entries`.
    pub(super) fn hear(&mut self, ghost: Ghost, from_small: bool, entries: usize) {
        if ghost.age * YOUNG >= entries.max(1) {
            return;
        }
        let step = HASTE / entries.max(1) as f64;
        let part = if from_small { self.0 * (1.0 + WEIGHT * step) } else { self.0 / (1.0 + step) };
        let least = LEAST.max(1.0 / entries.max(1) as f64);
        self.0 = part.clamp(least.min(MOST), MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ghost(age: usize) -> Ghost {
        Ghost { queue: 0, age }
    }

    #[test]
    fn it_moves_by_the_same_part_of_a_turn_whatever_the_entries() {
        for entries in [1000, 100_000, 1 << 30] {
            let mut share = Share::new();
            let turns = (entries / 40).min(1000);
            (0..turns).for_each(|_| share.hear(ghost(0), true, entries));
            let expected = START * (WEIGHT * HASTE * turns as f64 / entries as f64).exp();
            assert!((share.part() / expected - 1.0).abs() < 0.01, "{entries}: {share:?}");
            (0..turns).for_each(|_| share.hear(ghost(entries / 20 - 1), false, entries));
            assert!(share.part() < START, "{entries}: main's weigh more: {share:?}");
        }
    }

    #[test]
    fn old_ghosts_say_nothing() {
        let mut share = Share::new();
        for from_small in [true, false] {
            (0..1000).for_each(|_| share.hear(ghost(50), from_small, 1000));
        }
        assert!((share.part() - START).abs() < 1e-12, "{share:?}");
    }

    #[test]
    fn it_stays_within_its_bounds() {
        for entries in 0..300 {
            let mut share = Share::new();
            for from_small in [true, false, true] {
                (0..2000).for_each(|_| share.hear(ghost(0), from_small, entries));
                assert!((LEAST..=MOST).contains(&share.part()), "{entries}: {share:?}");
                assert!((1..=entries.max(1)).contains(&share.of(entries)), "{entries}: {share:?}");
            }
        }
    }
}
