//! The order in which payloads come.

/// Numbers below `count`, pass after pass, each pass shuffled anew: every payload comes equally
/// often, and no two runs of the same seed differ.
#[derive(Debug)]
pub struct Order {
    pass: Vec<u32>,
    at: usize,
    rng: fastrand::Rng,
}

impl Order {
    /// An order over `count` payloads, at least one.
    ///
    /// # Panics
    /// `count` is 0 or passes `u32`.
    #[must_use]
    pub fn new(count: usize, seed: u64) -> Self {
        let count = u32::try_from(count).expect("fewer than 2^32 payloads");
        assert!(count > 0, "an order of nothing");
        Self {
            pass: (0..count).collect(),
            at: count as usize,
            rng: fastrand::Rng::with_seed(seed ^ 0x9e37_79b9_7f4a_7c15),
        }
    }

    /// The next payload.
    pub fn next_payload(&mut self) -> u32 {
        if self.at == self.pass.len() {
            self.rng.shuffle(&mut self.pass);
            self.at = 0;
        }
        self.at += 1;
        self.pass[self.at - 1]
    }

    /// A random number below `count`.
    pub fn pick(&mut self, count: usize) -> usize {
        self.rng.usize(..count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pass_has_every_payload_once() {
        let mut order = Order::new(10, 3);
        let passes: Vec<Vec<u32>> =
            (0..3).map(|_| (0..10).map(|_| order.next_payload()).collect()).collect();
        for pass in &passes {
            let mut sorted = pass.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<u32>>());
        }
        assert_ne!(passes[0], passes[1]);
    }
}
