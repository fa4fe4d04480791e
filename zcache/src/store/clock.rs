//! A clock that counts what a cache does: loans of scratch, and rounds of making room.
//!
//! It tells whether a buffer or a context is idle. One is idle that was not needed for some
//! hundreds of operations, whatever time they took. Where nothing happens, nothing becomes idle.

use crate::sync::{AtomicU32, Ordering};

/// Loans of one place that move the clock, as many steps at once: so that few writes go to a line
/// that all threads read.
pub(crate) const LOANS: u32 = 64;
/// Rounds of making room from one look for what is idle to the next.
const ROUNDS: u32 = 16;
/// What was not needed for so many steps is idle; more where there are more places to be used in
/// turn.
const IDLE: u32 = 512;
const IDLE_PLACE: u32 = 64;

#[derive(Debug)]
pub(crate) struct Clock {
    now: AtomicU32,
    idle: u32,
}

impl Clock {
    /// The clock of scratch with so many places.
    pub(crate) fn new(places: usize) -> Self {
        Self { now: AtomicU32::new(0), idle: IDLE + IDLE_PLACE * places as u32 }
    }

    #[inline]
    pub(crate) fn now(&self) -> u32 {
        // Relaxed here and below: which step it is orders nothing.
        self.now.load(Ordering::Relaxed)
    }

    /// [`LOANS`] loans of one place.
    pub(crate) fn loans(&self) {
        self.now.fetch_add(LOANS, Ordering::Relaxed);
    }

    /// A round of making room: the clock goes on where nothing is lent any more. Says whether it is
    /// time to look for what is idle.
    #[inline]
    pub(crate) fn round(&self) -> bool {
        self.now.fetch_add(1, Ordering::Relaxed) % ROUNDS == 0
    }

    /// Whether what was needed last at step `needed` is idle.
    pub(crate) fn is_idle(&self, needed: u32) -> bool {
        self.now().wrapping_sub(needed) > self.idle
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::*;

    #[test]
    fn idle_is_what_some_hundreds_of_loans_passed_by() {
        let clock = Clock::new(4);
        let needed = clock.now();
        let mut loans = 0;
        while !clock.is_idle(needed) {
            clock.loans();
            loans += LOANS;
        }
        assert!((512..1024).contains(&loans), "{loans}");
        assert!(!clock.is_idle(clock.now()));
    }

    #[test]
    fn the_clock_goes_round() {
        let clock = Clock::new(1);
        clock.now.store(u32::MAX, Ordering::Relaxed);
        clock.round();
        assert!(!clock.is_idle(u32::MAX) && clock.is_idle(u32::MAX - 1000));
    }
}
