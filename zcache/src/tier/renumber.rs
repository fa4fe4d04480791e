//! Lower ids for a few entries, so that the tables' memory for the higher ones can be given back.
//!
//! Tables by id are given back chunk by chunk: the pool's slots, the policy's nodes. A few entries
//! that stay among many that ended would keep them. The pool says which chunk should come empty
//! ([`sparse_ids`](zpool::Pool::sparse_ids)). Its entries are given lower ids, under the lock of
//! their shard, so that the index always leads to an entry. An entry that somebody has pinned keeps
//! its id.

use super::Tier;
use crate::codec::Form;
use crate::index::Tag;
use crate::sync::model_bug;

/// Free ids that are left when a chunk comes empty, so that the next inserts do not open it again.
const SPARE: u32 = 64;
/// For so many entries that are to move, one chunk is passed over of which none can.
const MOVED_A_CHUNK: usize = 64;

impl<K: Send + Sync> Tier<K> {
    /// Gives up to `most` entries lower ids, if that lets chunks of the tables come empty; says how
    /// many.
    pub(super) fn move_down(&self, most: usize) -> usize {
        let (mut moved, mut below) = (0, None);
        let mut patience = most.div_ceil(MOVED_A_CHUNK);
        while moved < most {
            let pool = &self.store.pool;
            let ids = match below {
                None => pool.sparse_ids(SPARE),
                Some(end) => pool.sparse_ids_below(end, SPARE),
            };
            let Some(ids) = ids else { break };
            let (before, first) = (moved, ids.start);
            for id in ids {
                moved += usize::from(moved < most && self.move_one(id));
            }
            if moved == before {
                // Pieces and pinned entries keep their ids, and may be in high chunks for long.
                if patience == 0 {
                    break;
                }
                patience -= 1;
                below = Some(first);
            }
        }
        moved
    }

    /// Gives entry `id` the lowest free id, if that is a lower one and nobody has the entry pinned.
    pub(crate) fn move_one(&self, id: u32) -> bool {
        let pool = &self.store.pool;
        // The pin goes at once, or the pool could not move the object.
        let Ok(entry) = pool.pin_id(id) else { return false };
        let (tag, state) = (entry.record().tag, entry.record().state());
        drop(entry);
        // What is not published is a piece, most often.
        let may = state.published() && state.form() != Form::Pieces;
        may && self.move_if_tagged(tag, id)
    }

    /// The same, if the entry is one of that tag: it may be another one by now.
    pub(crate) fn move_if_tagged(&self, tag: Tag, id: u32) -> bool {
        let mut new = None;
        if model_bug!(MovedUnlocked) {
            new = self.renumber(tag, id);
        }
        // Under the shard's lock: nobody takes the entry off the index, and so nobody ends it.
        let same = || self.may_move(tag, id);
        let change = || new.or_else(|| same().then(|| self.renumber(tag, id)).flatten());
        self.walks.between(|| self.index.swap(tag, id, change).then_some(())).is_some()
    }

    /// Whether entry `id`, to which the index leads, has this tag and can have another id. One in
    /// pieces is known by its id to those who have them.
    fn may_move(&self, tag: Tag, id: u32) -> bool {
        let entry = self.store.pool.pin_id_reserved(id);
        entry.is_ok_and(|entry| {
            entry.record().tag == tag && entry.record().state().form() != Form::Pieces
        })
    }

    /// Gives entry `id`, to which the index leads, another id in the pool and in the policy.
    fn renumber(&self, tag: Tag, id: u32) -> Option<u32> {
        let pool = &self.store.pool;
        // Held over both: the policy names no victim that has another id by then.
        let (mut queue, mut expected) = (self.policy.lock(), None);
        let ready = |new| {
            let ready = queue.expect(new, pool).is_ok() && self.expect_scope(new).is_ok();
            // Before anybody finds the entry there.
            self.rename_in_scope(id, new, ready);
            expected = ready.then_some(new);
            ready
        };
        let moved = pool.renumber(id, ready).is_some();
        let new = expected?;
        if !moved {
            return None;
        }
        if !model_bug!(MovedUnqueued) {
            queue.rename(id, new, tag, pool);
        }
        drop(queue);
        self.cool(tag, id);
        Some(new)
    }
}
