//! What ids should say: one to an object that has not ended, and never the wrong object.

use std::collections::HashSet;

use zpool::{Handle, MapError, Pool};

use super::PoolOracle;
use crate::records::Tracked;

impl PoolOracle<'_> {
    /// The id of a freed object leads to the next object of its slot, or nowhere.
    pub(super) fn slot_of_the_dead(&mut self, pool: &Pool<Tracked>, dead: Handle) {
        let id = pool.id(dead).expect("a handle that was this pool's");
        let next = self.live.keys().copied().find(|live| pool.id(*live) == Some(id));
        match (pool.pin_id(id), next) {
            (Ok(pinned), Some(next)) => {
                assert_eq!((pinned.handle(), self.guards(next).1), (next, 0));
                assert_eq!(pinned.record().number(), self.live[&next].record);
                assert_eq!(pinned.len(), self.live[&next].bytes.len());
            }
            (Err(error), None) => {
                assert_eq!(error, MapError::Stale);
                self.stale += 1;
            }
            (Err(error), Some(next)) => self.no_map(error, self.guards(next).1 > 0),
            (Ok(pinned), None) => panic!("{pinned:?} is pinned and was freed"),
        }
    }

    /// Objects that have not ended have ids of their own, below the number of slots.
    pub(super) fn compare_ids(&self, pool: &Pool<Tracked>, slots: usize) {
        assert_eq!(pool.ids() as usize, slots);
        let mut seen = HashSet::new();
        for handle in self.live.keys().chain(self.dying.keys()) {
            let id = pool.id(*handle).expect("a handle of this pool");
            assert!(id < pool.ids() && seen.insert(id), "{id} is given out twice");
        }
    }
}
