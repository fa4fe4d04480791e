//! Records that count how often they are dropped.

use std::sync::{Arc, Mutex, PoisonError};

/// How often each record was dropped, by number.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Mutex<Vec<u8>>>);

/// A record for a pool's objects: 16 bytes, with a number.
#[derive(Debug)]
pub struct Tracked {
    number: u32,
    tally: Tally,
}

impl Tally {
    fn with<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A record with the next number.
    #[must_use]
    pub fn issue(&self) -> Tracked {
        let number = self.with(|drops| {
            drops.push(0);
            drops.len() as u32 - 1
        });
        Tracked { number, tally: self.clone() }
    }

    /// How often record `number` was dropped.
    #[must_use]
    pub fn drops(&self, number: u32) -> u8 {
        self.with(|drops| drops[number as usize])
    }

    /// How many records are not dropped yet.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.with(|drops| drops.iter().filter(|drops| **drops == 0).count())
    }

    /// # Panics
    /// A record was dropped twice, or never.
    pub fn assert_each_dropped_once(&self) {
        self.with(|drops| {
            let wrong = drops.iter().position(|drops| *drops != 1);
            assert_eq!(wrong, None, "this record was dropped twice or never");
        });
    }
}

impl Tracked {
    /// Its number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.tally.with(|drops| drops[self.number as usize] += 1);
    }
}
