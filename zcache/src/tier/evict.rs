//! Who goes, and when: room for what comes, made before it is taken.
//!
//! Evicting frees slots, not pages: a newcomer may need a chain of pages in another class. So what does
//! not fit makes room in rounds, each bounded:
//! ```text
//! 1  compact: free slots that add up to a zspage become pages
//! 2  if that gave nothing: decoded pages go that are more than they are left where room is short
//! 3  if that gave nothing: evict by policy, a batch of slots' bytes at once
//! 4  if that gave nothing either: the decoded pages go, all of them
//! 5  try again
//! ```
//! A batch is some 32 KiB, so that the slots of one round serve the inserts that follow: one insert in
//! some ten makes room, the others find it. Expired entries that are passed go first.

use zpool::AllocError;

use super::{Tier, View};
use crate::hot::{Hot, Standing};
use crate::policy::Priority;
use crate::stats::Cause;
use crate::store::Entry;
use crate::sync::{Inside, Ordering, pause};

/// Rounds before an attempt is given up.
const ROUNDS: usize = 128;
/// Victims of one round at the most.
const VICTIMS: usize = 1024;
/// Entries that the policy looks at for one victim.
const LOOKS: usize = 512;
/// Times that readers of decoded pages are waited for, where nothing else is left to go.
const PATIENCE: usize = 4;
/// Bytes that compaction moves in a round.
pub(crate) const STEP: usize = 128 << 10;
/// A batch is the capacity by this, within bounds.
const BATCH_SHARE: usize = 2048;
const BATCH_LEAST: usize = 4 << 10;
const BATCH_MOST: usize = 64 << 10;
/// Ids looked at for expired entries in a round, and at an insert.
const SWEEP_ROUND: u32 = 64;
const SWEEP_INSERT: u32 = 4;

/// What an attempt lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// A slot, or pages, for an object of so many bytes.
    Place(usize),
    /// So many bytes under the cap.
    Bytes(usize),
}

impl From<crate::store::Full> for Lack {
    fn from(crate::store::Full(bytes): crate::store::Full) -> Self {
        Self::Bytes(bytes)
    }
}

impl<K: Send + Sync> Tier<K> {
    /// Makes `attempt` again and again, room being made for what it lacks in between, until it succeeds,
    /// lacks nothing that room would help, or no room can be made.
    pub(crate) fn with_room<R>(
        &self,
        mut attempt: impl FnMut() -> Result<R, Option<Lack>>,
    ) -> Option<R> {
        for _ in 0..ROUNDS {
            match attempt() {
                Ok(done) => return Some(done),
                // What an empty cache would not have evicts nobody.
                Err(Some(Lack::Bytes(bytes))) if bytes > self.capacity() => return None,
                Err(Some(lack)) if self.make_room(lack) => {}
                Err(_) => break,
            }
        }
        attempt().ok()
    }

    /// One round. `false`: there was nothing to do.
    fn make_room(&self, lack: Lack) -> bool {
        // A hook may not evict, so that it lacks room says nothing about the entries.
        self.make_room_of_entries(lack) || !Inside::is(self.number) && self.make_room_of_frames()
    }

    /// The decoded pages go, whose entries stay; whether that gave anything.
    fn make_room_of_frames(&self) -> bool {
        for _ in 0..PATIENCE {
            if self.frames_end(Hot::demote_all) {
                self.store.pool.trim();
                return true;
            }
            pause(); // a reader has them
        }
        false
    }

    /// Whether demoting gave anything: what a reader has gives nothing yet, and entries may have to go.
    fn frames_end(&self, demote: impl FnOnce(&Hot<K>)) -> bool {
        let Some(hot) = &self.hot else { return false };
        let before = hot.frame_bytes();
        demote(hot);
        self.collect_frames();
        hot.frame_bytes() < before
    }

    /// Whether so many bytes more are not to be had as things are.
    pub(crate) fn is_full(&self, bytes: usize) -> bool {
        self.held() + bytes > self.capacity()
    }

    /// Room is short: what decoded pages are left is judged again.
    pub(crate) fn weigh(&self) {
        if let Some(scales) = self.scales() {
            scales.judge(|| self.standing());
        }
    }

    /// How decoded and compressed pages stand.
    pub(crate) fn standing(&self) -> Standing {
        let mean = |bytes: usize, amount: usize| bytes.checked_div(amount).filter(|mean| *mean > 0);
        let frames =
            self.hot.as_ref().map(|hot| (hot.frames().bytes(), hot.frames().len(), hot.most()));
        let (bytes, amount, most) = frames.unwrap_or_default();
        let entries = self.held().saturating_sub(bytes);
        Standing {
            capacity: self.capacity(),
            most,
            frame: mean(bytes, amount).unwrap_or(4096),
            entry: mean(entries, self.counters.entries()).unwrap_or(2048),
            decode: self.counters.decode_nanoseconds(),
        }
    }

    /// The same, of what is compressed alone, and of decoded pages that are too many.
    pub(crate) fn make_room_of_entries(&self, lack: Lack) -> bool {
        let pool = &self.store.pool;
        let did = pool.compact(STEP);
        let wanted = match lack {
            Lack::Place(bytes) | Lack::Bytes(bytes) => bytes,
        };
        let mut moved = did.pages_freed > 0;
        // What a hook inserts takes the room there is: evicting would call the hook again.
        let inside = Inside::is(self.number);
        if !moved && !inside {
            self.weigh();
            moved = self.frames_end(|hot| hot.insist_on_room(wanted.max(self.batch())));
        }
        if !moved && !inside {
            moved = self.sweep(SWEEP_ROUND) > 0;
            moved |= self.evict(wanted.max(self.batch())) > 0;
        }
        if matches!(lack, Lack::Bytes(_)) {
            // Pages that the source keeps for the next chain are bytes under the cap.
            moved |= pool.compact(STEP).pages_freed > 0;
            pool.trim();
        }
        moved
    }

    /// Bytes of slots that a round evicts.
    pub(crate) fn batch(&self) -> usize {
        (self.capacity() / BATCH_SHARE).clamp(BATCH_LEAST, BATCH_MOST)
    }

    /// Evicts entries that took `goal` bytes or more, and says how many went.
    pub(crate) fn evict(&self, goal: usize) -> usize {
        let (mut freed, mut victims) = (0, 0);
        while freed < goal && victims < VICTIMS {
            let Some(victim) = self.victim() else { break };
            freed += self.cost(&victim);
            self.withdraw(victim, Cause::Evicted, false);
            victims += 1;
        }
        victims
    }

    /// What an entry takes: its slot, and what stands beside it.
    fn cost(&self, entry: &Entry<'_, K>) -> usize {
        self.store.pool.slot_bytes(entry.len()) + size_of::<crate::store::Record<K>>() + 32
    }

    /// The policy's next victim, pinned before anybody else can free it: it was in the policy, so it is
    /// live as long as the lock is held.
    fn victim(&self) -> Option<Entry<'_, K>> {
        let pool = &self.store.pool;
        let mut policy = self.policy.lock();
        let id = policy.evict(&View(self), LOOKS)?;
        let victim = pool.pin_id(id).ok();
        let (queue, part) = policy.last_queue();
        let Some(victim) = victim else {
            // It has as many pins as it can have. Whoever holds one may be waiting for this lock.
            policy.insert(id, 0, Priority::Normal);
            return None;
        };
        drop(policy);
        if let Some(scales) = self.scales() {
            scales.evicted(victim.record().tag, queue, part);
        }
        Some(victim)
    }

    /// Looks at the next `ids` entries for ones that have expired, and ends those; says how many.
    pub(crate) fn sweep(&self, ids: u32) -> usize {
        if self.ageing.load(Ordering::Relaxed) == 0 || Inside::is(self.number) {
            return 0;
        }
        let (now, all) = (self.clock(), self.ids().end);
        let ids = ids.min(all);
        let start = self.sweep.fetch_add(ids, Ordering::Relaxed);
        let expired = (start..start.saturating_add(ids)).filter(|id| {
            // Not `entry`, which waits for pins: whoever comes here may hold some.
            let Ok(entry) = self.store.pool.pin_id(id % all) else { return false };
            entry.record().state().published()
                && self.store.expired(&entry, now) == Ok(true)
                && self.withdraw(entry, Cause::Expired, false)
        });
        expired.count()
    }

    /// The same for an insert in passing.
    pub(crate) fn sweep_in_passing(&self) {
        self.sweep(SWEEP_INSERT);
    }

    /// A sample that is being collected goes.
    pub(crate) fn give_sample_up(&self) {
        if let Some(sample) = self.sampler.give_up() {
            let charged = sample.charged();
            drop(sample);
            self.store.pool.release(charged);
        }
    }

    /// Lets go until no more than the capacity is held, or nothing more can go; says what is held.
    pub(crate) fn shrink(&self) -> usize {
        let pool = &self.store.pool;
        loop {
            let excess = self.held().saturating_sub(self.capacity());
            if excess == 0 {
                return self.held();
            }
            if !self.make_room(Lack::Bytes(excess)) && !self.make_room_of_frames() {
                self.store.benches.trim(pool);
                self.store.benches.trim_contexts(pool);
                self.give_sample_up();
                self.index.shrink(|id| self.tag_of(id), pool);
                pool.trim();
                return self.held();
            }
        }
    }
}

impl Lack {
    /// What a failed allocation of `bytes` lacks, if room would help.
    pub(crate) fn of(error: AllocError, bytes: usize) -> Option<Self> {
        (error == AllocError::OutOfPages).then_some(Self::Place(bytes))
    }
}
