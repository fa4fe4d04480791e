//! Eviction: room for an operation, made before the memory is taken.
//!
//! Evicting frees slots, not pages: a new entry may need a chain of pages in another class. So an
//! operation that does not fit makes room in rounds, each bounded:
//! ```text
//! 1  compact: free slots that add up to a zspage become pages; idle buffers and contexts are
//!    dropped
//! 2  if nothing came of that: decoded pages beyond their limit are demoted
//! 3  if nothing came of that: entries move to lower ids, until a chunk of the tables comes empty
//! 4  if nothing came of that: a batch of slots' bytes is evicted, of ended scopes first, then by
//!    policy
//! 5  if nothing came of that either: all decoded pages are demoted, unless the operation may evict
//!    no more; or else all buffers and contexts that are not in use are dropped
//! 6  try again
//! ```
//! Few inserts of a cache of 8 MiB or more come to that: see `debt`. A batch is some 32 KiB, so
//! that the slots of one round serve the inserts that follow. One operation evicts one batch, or 8
//! times what it needs if that is more. Beyond that it takes what the pool's last resorts give, and
//! evicts on only if they give nothing. Expired entries that are passed are ended first.

use zpool::AllocError;

use super::queue::Held;
use super::{Tier, View};
use crate::hot::Hot;
use crate::stats::RemovalCause;
use crate::store::{Charged, Entry, Full};
use crate::sync::{HOLDS, Inside, LOOKS, Ordering, get, pause};
use crate::worth::{Counts, Standing};

/// Rounds before an attempt is given up.
const ROUNDS: usize = 128;
/// An operation evicts at most this many times the bytes that it needs, unless a batch is more.
const GENEROSITY: usize = 8;
/// What an operation needs at least: a page of the pool.
const PAGE: usize = 4096;
/// Entries that move to lower ids in a round.
pub(super) const MOVED: usize = 1024;
/// Bytes of tables that an entry takes beside its object and its record.
pub(super) const TABLES: usize = 32;
/// Victims of one round at the most.
const VICTIMS: usize = 1024;
/// Victims that are named under one hold of the policy's lock at the most.
const NAMED: usize = 8;
/// Times that readers of decoded pages are waited for, where nothing else is left to go.
const PATIENCE: usize = 4;
/// Times that other threads get the processor to give buffers back, where nothing is left to go.
const PATIENCE_BUFFERS: usize = 64;
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
    /// Memory that the heap or the system refused: no room in the cache would help.
    NoMemory,
}

/// What was evicted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Evicted {
    pub(crate) entries: usize,
    /// What they took, all counted.
    pub(crate) bytes: usize,
}

/// An entry that the policy has named and forgotten.
struct Victim<'t, K: Send + Sync> {
    entry: Entry<'t, K>,
    /// What it takes, all counted.
    bytes: usize,
}

/// Entries that the policy has named and forgotten, one after the other. Those that are left when
/// this is dropped, as where a hook panics, go as well, or they would stay for ever.
struct Victims<'t, K: Send + Sync> {
    tier: &'t Tier<K>,
    named: [Option<Victim<'t, K>>; NAMED],
    next: usize,
}

/// A way to get the policy, if it is to be had.
type Lock<'f, 't> = &'f dyn Fn() -> Option<Held<'t>>;

impl<'t, K: Send + Sync> Iterator for Victims<'t, K> {
    type Item = Victim<'t, K>;

    fn next(&mut self) -> Option<Victim<'t, K>> {
        let victim = self.named.get_mut(self.next)?.take()?;
        self.next += 1;
        if let Some(scales) = self.tier.scales() {
            scales.evicted(victim.entry.record().tag);
        }
        Some(victim)
    }
}

impl<K: Send + Sync> Drop for Victims<'_, K> {
    fn drop(&mut self) {
        let tier = self.tier;
        self.for_each(|victim| _ = tier.withdraw_victim(victim.entry));
    }
}

/// How far an attempt goes for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// What is free, or under the cap.
    AtHand,
    /// All that the pool can do.
    Top,
}

/// What an operation has done for room so far.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    /// Bytes of entries that it has evicted.
    pub(super) bytes: usize,
    /// Whether it has given kept pages back: what its own attempts leave comes back again and
    /// again.
    trimmed: bool,
    /// Whether it may evict no more.
    broke: bool,
    /// The entry that it reads, which must not go for that.
    keeps: Option<u32>,
}

impl From<Full> for Lack {
    fn from(full: Full) -> Self {
        match full {
            Full::Cap(bytes) => Self::Bytes(bytes),
            Full::NoMemory => Self::NoMemory,
        }
    }
}

impl<K: Send + Sync> Tier<K> {
    /// As [`with_room_within`](Self::with_room_within), for an operation of one attempt.
    ///
    /// # Errors
    /// What the last attempt lacked.
    pub(crate) fn with_room<R>(
        &self,
        attempt: impl FnMut() -> Result<R, Option<Lack>>,
    ) -> Result<R, Option<Lack>> {
        self.with_room_beside(None, attempt)
    }

    /// The same where the entry with this id does not go: its pieces would go with it.
    ///
    /// # Errors
    /// What the last attempt lacked.
    pub(crate) fn with_room_beside<R>(
        &self,
        keeps: Option<u32>,
        mut attempt: impl FnMut() -> Result<R, Option<Lack>>,
    ) -> Result<R, Option<Lack>> {
        let mut spent = Spent { keeps, ..Spent::default() };
        let done = self.with_room_within(&mut spent, &mut attempt);
        let curable = matches!(done, Err(Some(lack)) if self.is_curable(lack));
        if curable && spent.broke && !Inside::is(self.number) && self.make_room_of_frames() {
            return attempt();
        }
        done
    }

    /// As [`with_room_within`](Self::with_room_within); where as much was `spent` as may be,
    /// `attempt` is made by all means, and another batch is evicted as long as that gives nothing.
    ///
    /// # Errors
    /// What the last attempt lacked.
    pub(crate) fn insist<R>(
        &self,
        spent: &mut Spent,
        mut attempt: impl FnMut(Reach) -> Result<R, Option<Lack>>,
    ) -> Result<R, Option<Lack>> {
        let mut last = None;
        for _ in 0..ROUNDS {
            if let Ok(done) = self.with_room_within(spent, || attempt(Reach::AtHand)) {
                return Ok(done);
            }
            // What no room could be made for may still fit a larger class or a shorter chain.
            match attempt(Reach::Top) {
                Err(Some(lack)) if self.is_curable(lack) && self.make_more_room(lack) => {
                    last = Some(lack);
                }
                done => return done,
            }
        }
        Err(last)
    }

    /// Whether room in the cache would help.
    fn is_curable(&self, lack: Lack) -> bool {
        match lack {
            Lack::Place(_) => true,
            // What an empty cache would not have evicts nobody.
            Lack::Bytes(bytes) => bytes <= self.capacity(),
            Lack::NoMemory => false,
        }
    }

    /// Makes `attempt` again and again, room being made for what it lacks in between, until it
    /// succeeds, lacks nothing that room would help, no room can be made, or as much has been
    /// `spent` as may be.
    fn with_room_within<R>(
        &self,
        spent: &mut Spent,
        mut attempt: impl FnMut() -> Result<R, Option<Lack>>,
    ) -> Result<R, Option<Lack>> {
        let mut patience = PATIENCE_BUFFERS;
        for _ in 0..ROUNDS {
            match attempt() {
                Err(Some(lack)) if self.is_curable(lack) => {
                    if self.make_room(lack, spent) {
                        continue;
                    }
                    // Other threads' buffers may be all there is, and come back. Those of the
                    // operation that called this thread's hook do not while it waits here.
                    let bytes = matches!(lack, Lack::Bytes(_)) && spent.bytes == 0;
                    let hook = Inside::is(self.number);
                    if !bytes || hook || patience == 0 || self.store.scratch.bytes() == 0 {
                        break;
                    }
                    patience -= 1;
                    pause();
                }
                done => return done,
            }
        }
        attempt()
    }

    /// One round. `false`: there was nothing to do, or nothing more may be spent.
    fn make_room(&self, lack: Lack, spent: &mut Spent) -> bool {
        // That a hook lacks room, which may not evict, or an operation that may evict no more, does
        // not say that there are no entries to evict.
        self.make_room_of_entries(lack, spent)
            || !spent.broke && !Inside::is(self.number) && self.make_room_of_frames()
            || self.store.scratch.trim(&self.store.pool)
    }

    /// Evicts another batch for an operation that has spent what it may and found no room by any
    /// other means. `false`: there is nothing to evict.
    fn make_more_room(&self, lack: Lack) -> bool {
        let mut spent = Spent { trimmed: true, ..Spent::default() };
        !Inside::is(self.number) && self.make_room(lack, &mut spent)
    }

    /// Makes the room that was lacking for one more context of a codec, where it is this thread's
    /// turn. Whoever needs the context next takes it.
    #[inline]
    pub(crate) fn grant_wish(&self) {
        if let Some(bytes) = self.store.scratch.take_wish() {
            let pool = &self.store.pool;
            // It is free again at once: a context is taken from it, or a page.
            let _ = self.with_room(|| Charged::new(pool, bytes).map_err(|full| Some(full.into())));
        }
    }

    /// The decoded pages go, whose entries stay; whether that gave anything.
    pub(super) fn make_room_of_frames(&self) -> bool {
        for _ in 0..PATIENCE {
            if self.frames_end(Hot::demote_all) {
                self.store.pool.trim();
                return true;
            }
            pause(); // a reader has them
        }
        false
    }

    /// Whether demoting gave anything: what a reader has gives nothing yet, and entries may have to
    /// go.
    pub(super) fn frames_end(&self, demote: impl FnOnce(&Hot<K>)) -> bool {
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
            entries: self.counters.entries(),
            packed: self.store.pool.payload_bytes() + self.counters.entries() * self.cost(0),
            free: self.capacity().saturating_sub(self.held()),
            encode: self.counters.encode_nanoseconds(),
            counts: self.counts(),
        }
    }

    /// What was counted since the cache was made.
    fn counts(&self) -> Counts {
        let [decodings, misses, timed, nanoseconds] = self.counters.decodings();
        Counts {
            decodings,
            misses,
            inserts: get(&self.counters.inserts),
            evictions: get(&self.counters.ended[RemovalCause::Evicted as usize]),
            timed,
            nanoseconds,
        }
    }

    /// One round without the demotion of all decoded pages. `false` as for `make_room`.
    pub(crate) fn make_room_of_entries(&self, lack: Lack, spent: &mut Spent) -> bool {
        let pool = &self.store.pool;
        // Memory comes in pages, and a slot with its zspage.
        let (wanted, needed) = match lack {
            Lack::Place(bytes) => (bytes, pool.zspage_bytes(bytes).max(PAGE)),
            Lack::Bytes(bytes) => (bytes, bytes.max(PAGE)),
            Lack::NoMemory => return false,
        };
        let did = pool.compact(STEP);
        let mut moved = did.pages_freed > 0;
        // Whatever is lacking, buffers and contexts that nobody needs go before any entry does.
        moved |= self.store.scratch.make_room(pool);
        if matches!(lack, Lack::Bytes(_)) && !spent.trimmed {
            // So do pages that the source keeps for the next chain: they are bytes under the cap.
            let held = self.held();
            pool.trim();
            moved |= self.held() < held;
            spent.trimmed = true;
        }
        // What a hook inserts takes the room there is: evicting would call the hook again.
        let inside = Inside::is(self.number);
        if !moved && !inside {
            self.weigh();
            moved = self.frames_end(|hot| hot.insist_on_room(wanted.max(self.batch())));
        }
        if !moved && !inside {
            moved = self.move_down(MOVED) > 0;
            if moved {
                // A chunk that came empty is kept for the next ids, unless somebody asks.
                pool.trim();
            }
        }
        if !moved && !inside {
            let most = needed.saturating_mul(GENEROSITY).max(self.batch());
            let left = most.saturating_sub(spent.bytes);
            spent.broke = left == 0;
            moved = self.sweep(SWEEP_ROUND) > 0;
            let goal = wanted.max(self.batch()).min(left);
            let evicted = self.evict_by(goal, spent.keeps, &|| Some(self.policy.lock()));
            spent.bytes += evicted.bytes;
            moved |= evicted.entries > 0;
            // Their ids were in use when the policy forgot them.
            self.shrink_policy();
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

    /// Evicts entries that took `goal` bytes or little more.
    pub(crate) fn evict(&self, goal: usize) -> Evicted {
        self.evict_by(goal, None, &|| Some(self.policy.lock()))
    }

    /// The same as long as nobody else has the policy.
    pub(super) fn evict_at_once(&self, goal: usize) -> Evicted {
        self.evict_by(goal, None, &|| self.policy.try_lock())
    }

    /// The same by a lock, and not the entry that `keeps` names.
    fn evict_by<'t>(&'t self, goal: usize, keeps: Option<u32>, lock: Lock<'_, 't>) -> Evicted {
        let mut evicted = self.reclaim(goal);
        while evicted.bytes < goal && evicted.entries < VICTIMS {
            let before = evicted.entries;
            for victim in self.victims(goal - evicted.bytes, keeps, lock) {
                // Here, where no lock is held: that is the user's code.
                let weight = self.weight_at_end(&victim.entry);
                evicted.bytes += victim.bytes + weight.min(self.capacity());
                evicted.entries += 1;
                self.withdraw_victim(victim.entry);
            }
            if evicted.entries == before {
                break;
            }
        }
        evicted
    }

    /// What an entry with `len` stored bytes takes: a slot or those of its pieces, and what stands
    /// beside it.
    pub(crate) fn cost(&self, len: usize) -> usize {
        self.store.pool.slot_bytes(len).max(len) + size_of::<crate::store::Record<K>>() + TABLES
    }

    /// The policy's next victims, which took `goal` bytes or little more, but at most [`NAMED`] of
    /// them. The policy looks at few entries in each hold of its lock, whatever was hit, and has
    /// named one after a few holds, however fast readers hit.
    fn victims<'t>(
        &'t self,
        goal: usize,
        keeps: Option<u32>,
        lock: Lock<'_, 't>,
    ) -> Victims<'t, K> {
        let mut last = false;
        for hold in 1..=HOLDS {
            last |= hold == HOLDS;
            let Some(policy) = lock() else { break };
            let (victims, looks) =
                self.victims_of_a_hold(goal, View::beside(self, keeps), last, policy);
            if last || victims.named[0].is_some() {
                return victims;
            }
            // It has looked at all there are.
            last = looks < LOOKS;
        }
        self.no_victims()
    }

    fn no_victims(&self) -> Victims<'_, K> {
        Victims { tier: self, named: Default::default(), next: 0 }
    }

    /// The same in one hold of the lock, and how many entries it looked at; no entry that was hit,
    /// unless it is the `last` hold. Victims are pinned before anybody else can free them, because
    /// an entry in the policy is live as long as the lock is held.
    fn victims_of_a_hold<'t>(
        &'t self,
        goal: usize,
        view: View<'_, K>,
        last: bool,
        mut policy: Held<'t>,
    ) -> (Victims<'t, K>, usize) {
        let pool = &self.store.pool;
        let (mut victims, mut bytes) = (self.no_victims(), 0);
        for (nth, named) in victims.named.iter_mut().enumerate() {
            let any = last && nth == 0;
            // With few looks left, a policy that knows of no spared entries would name one of them.
            let looks = LOOKS.saturating_sub(view.looks.get());
            if 2 * looks < LOOKS && !any {
                break;
            }
            let mut id = policy.evict(&view, looks, any);
            if id.is_none() && any {
                // None of them may go: as many are on their way in, of as many threads.
                id = policy.evict(&view, LOOKS * HOLDS, any);
            }
            let Some(id) = id else { break };
            let pinned = pool.pin_id(id);
            let Ok(victim) = pinned else {
                // It has as many pins as it can have. Whoever holds one may wait for this lock.
                policy.put_back(id, 0);
                break;
            };
            let victim = Victim { bytes: self.cost(self.stored_len(&victim)), entry: victim };
            bytes += victim.bytes;
            *named = Some(victim);
            if bytes >= goal {
                break;
            }
        }
        policy.shrink(pool);
        (victims, view.looks.get())
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
                && self.withdraw(entry, RemovalCause::Expired, false)
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
}

impl Lack {
    /// What a failed allocation of `bytes` lacks, if it is memory.
    pub(crate) fn of(error: AllocError, bytes: usize) -> Option<Self> {
        match error {
            AllocError::OutOfPages => Some(Self::Place(bytes)),
            AllocError::NoMemory => Some(Self::NoMemory),
            _ => None,
        }
    }
}
