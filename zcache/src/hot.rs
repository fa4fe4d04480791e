//! The hot tier: decoded pages, *frames*, in front of the entries that they were decoded from.
//! ```text
//! tag -> slot -> frame: key, tag, entry's id, expiry, touched | the page        one slot a tag: direct-mapped
//! ```
//! A hit on a frame takes no lock and writes nothing that other threads write; see [`zpool::Frames`] for how
//! readers are waited for. A frame holds a clone of its key, for it has to compare keys without touching the entry: a
//! pin of the entry's would keep compaction from moving it.
//!
//! Truth: a frame goes into its slot only under the lock of its tag's shard in the index, while the index leads to the
//! entry that it was decoded from; and whoever makes the index lead elsewhere clears the slot under that
//! same lock. So once an insert or a removal has returned nobody finds the old page, and nobody finds it who
//! has seen the new one. Taking a frame off its slot is right at any time: the entry is behind it.
//!
//! Bytes: frames in slots, those that wait for a reader, and one that is being made are held to `limit` together.

use equivalent::Equivalent;
use zpool::{Filled, Frame, Frames};

use crate::config::Share;
use crate::index::Tag;
use crate::record::Form;
use crate::stats::add;
use crate::store::Millis;
use crate::sync::{
    Apart, AtomicU32, AtomicUsize, Counter, MOST_SLOTS, Ordering, PICKY, Plant, planted, readers,
    thread_number,
};

/// Bytes of the pages that slots are counted by.
const PAGE: usize = 4096;
/// Frames that a share too small for them is not worth its tables.
const LEAST_FRAMES: usize = 4;
/// Slots that a promotion looks at for a frame to take the place of.
const LOOKS: usize = 64;
/// While more than the limit by this waits for readers, nothing is promoted.
const WAITING: usize = 4;

/// In `touched`: hit since the hand of this tier came by.
const HAND: u32 = 1;
/// In `touched`: hit since the compressed tier's policy looked.
const POLICY: u32 = 2;

/// What stands beside a decoded page.
#[derive(Debug)]
pub(crate) struct Head<K> {
    pub(crate) key: K,
    pub(crate) tag: Tag,
    /// The entry that it was decoded from.
    pub(crate) id: u32,
    pub(crate) expiry: Millis,
    touched: AtomicU32,
}

/// What is known of a slot without a look at its frame: hints, which decide nothing about what is found.
#[derive(Debug)]
struct Hint {
    /// The tag of the frame in the slot.
    here: AtomicU32,
    /// The tag of the last hit on an entry without a frame.
    recent: AtomicU32,
}

pub(crate) struct Hot<K> {
    frames: Frames<Head<K>>,
    hints: Box<[Hint]>,
    /// A tag's highest bits are its slot, as they are its shard.
    shift: u32,
    share: Share,
    limit: AtomicUsize,
    /// Bytes of frames that are being made.
    making: AtomicUsize,
    /// The slot that the search for one to demote goes on at.
    hand: Apart<AtomicUsize>,
    pub(crate) clone: fn(&K) -> K,
    pub(crate) promotions: Counter,
    pub(crate) demotions: Counter,
}

/// A decoded page as its reader has it.
pub(crate) struct Page<'r, K> {
    frame: &'r Frame<Head<K>>,
}

/// Bytes under the limit for a frame that is being made, until this is dropped.
pub(crate) struct Making<'h>(&'h AtomicUsize, usize);

impl<K> Page<'_, K> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.frame.len()
    }

    /// The page where it is, unless it is in pieces.
    #[inline]
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        self.frame.bytes()
    }

    /// Fills `to`, which is no longer, with the start of the page.
    #[inline]
    pub(crate) fn copy(&self, to: &mut [u8]) {
        self.frame.copy(to);
    }

    /// The first `len` bytes of it, in memory of the caller's.
    pub(crate) fn start(&self, len: usize) -> Vec<u8> {
        match self.bytes() {
            Some(bytes) => bytes[..len].to_vec(),
            None => {
                let mut start = vec![0; len];
                self.copy(&mut start);
                start
            }
        }
    }
}

/// The slots for frames of `limit` bytes in all: two to four times as many as there are frames of 4 KiB.
fn slots(limit: usize) -> usize {
    (limit / (PAGE / 2)).clamp(2, MOST_SLOTS).next_power_of_two()
}

impl Share {
    /// Bytes of frames in a cache of `capacity` bytes, of which it needs `least` for everything else.
    pub(crate) fn limit(self, capacity: usize, least: usize) -> usize {
        let part = match self {
            Self::None => 0,
            Self::Of(part) => capacity.checked_div(part as usize).unwrap_or(0),
        };
        part.min(capacity.saturating_sub(least))
    }
}

impl<K: Send + Sync> Hot<K> {
    /// What the tables take for frames of `limit` bytes in all; `None`: the limit is not worth it.
    pub(crate) fn fixed_bytes(limit: usize, threads: usize) -> Option<usize> {
        let slots = slots(limit);
        let bytes = Frames::<Head<K>>::fixed_bytes(slots, readers(threads))
            + zpool::source::heap_cost(slots * size_of::<Hint>())
            + zpool::source::heap_cost(size_of::<Self>() + 128);
        (limit >= bytes + LEAST_FRAMES * PAGE).then_some(bytes)
    }

    /// Tables for frames of `limit` bytes in all. `None`: the pool's pages have no address.
    pub(crate) fn new(
        pool: &zpool::Pool<impl Send + Sync>,
        share: Share,
        limit: usize,
        threads: usize,
        clone: fn(&K) -> K,
    ) -> Option<Self> {
        let slots = slots(limit);
        let hint = || Hint { here: AtomicU32::new(0), recent: AtomicU32::new(0) };
        Some(Self {
            frames: pool.frames(slots, readers(threads))?,
            hints: (0..slots).map(|_| hint()).collect(),
            shift: Tag::BITS - slots.ilog2(),
            share,
            limit: AtomicUsize::new(limit),
            making: AtomicUsize::new(0),
            hand: Apart(AtomicUsize::new(0)),
            clone,
            promotions: Counter::new(0),
            demotions: Counter::new(0),
        })
    }

    #[inline]
    pub(crate) fn slot(&self, tag: Tag) -> usize {
        (tag >> self.shift) as usize
    }

    pub(crate) fn frames(&self) -> &Frames<Head<K>> {
        &self.frames
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// The capacity has changed.
    pub(crate) fn set_limit(&self, capacity: usize, least: usize) {
        self.limit.store(self.share.limit(capacity, least), Ordering::Relaxed);
    }

    /// What `f` makes of the page of `key`, if there is a frame of it whose time is not over. The key's `Eq`, and
    /// `f`, run under no lock.
    #[inline]
    pub(crate) fn find<Q: Equivalent<K> + ?Sized, R>(
        &self,
        tag: Tag,
        key: &Q,
        now: impl FnOnce() -> Millis,
        f: impl FnOnce(Page<'_, K>) -> Option<R>,
    ) -> Option<R> {
        let slot = self.slot(tag);
        if self.hints[slot].here.load(Ordering::Relaxed) != tag {
            return None;
        }
        let reading = self.frames.read(thread_number());
        let frame = reading.frame(slot)?;
        let head = frame.head();
        if head.tag != tag || !key.equivalent(&head.key) {
            return None;
        }
        if head.expiry != Millis::MAX && head.expiry <= now() {
            return None;
        }
        head.touch();
        f(Page { frame })
    }

    /// Whether there was a hit on the frame of entry `id` since the compressed tier's policy asked last.
    pub(crate) fn was_hit(&self, tag: Tag, id: u32) -> bool {
        let slot = self.slot(tag);
        if self.hints[slot].here.load(Ordering::Relaxed) != tag {
            return false;
        }
        let reading = self.frames.read(thread_number());
        let head = reading.frame(slot).map(Frame::head).filter(|head| head.is_of(tag, id));
        head.is_some_and(|head| head.untouch(POLICY))
    }

    /// Whether entry `id` has a frame.
    pub(crate) fn holds(&self, tag: Tag, id: u32) -> bool {
        let reading = self.frames.read(thread_number());
        reading.frame(self.slot(tag)).is_some_and(|frame| frame.head().is_of(tag, id))
    }

    /// The index does not lead to entry `id` any more: its frame goes. Under the lock of the tag's shard.
    pub(crate) fn clear(&self, tag: Tag, id: u32) {
        if !planted(Plant::FrameLeft) {
            self.take_off(self.slot(tag), |head| head.is_of(tag, id));
        }
    }

    /// Takes the frame off a slot, if `which` says yes to it.
    fn take_off(&self, slot: usize, which: impl FnOnce(&Head<K>) -> bool) -> bool {
        // What was put there under a lock that the caller has is seen.
        if self.frames.is_vacant(slot) {
            return false;
        }
        let reading = self.frames.read(thread_number());
        let mut tag = 0;
        let took = reading.clear_if(slot, |head| {
            tag = head.tag;
            which(head)
        });
        if took {
            let hint = &self.hints[slot].here;
            let _ = hint.compare_exchange(tag, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        took
    }

    /// Whether a page of `len` bytes that is stored in this form is worth a frame: one that is decoded faster than it is found is
    /// not, nor one that does not fill half of its frame.
    pub(crate) fn suits(&self, form: Form, len: usize) -> bool {
        !PICKY
            || matches!(form, Form::Coded(_)) && self.frames.frame_bytes(len) <= 2 * len + PAGE / 8
    }

    /// A hit on entry `id`, which has no frame. Whether it shall have one: it was hit not long ago, and the frame in its
    /// slot, if there is one, was not since it was asked last.
    pub(crate) fn wants(&self, tag: Tag, id: u32) -> bool {
        let slot = self.slot(tag);
        let recent = &self.hints[slot].recent;
        if recent.load(Ordering::Relaxed) != tag {
            recent.store(tag, Ordering::Relaxed);
            return false;
        }
        if self.frames.is_vacant(slot) {
            return true;
        }
        let reading = self.frames.read(thread_number());
        let Some(head) = reading.frame(slot).map(Frame::head) else { return true };
        if head.is_of(tag, id) {
            // It was not found for want of its hint, which two who put frames here, or one who took one off, may lose.
            self.hints[slot].here.store(tag, Ordering::Relaxed);
        }
        let yields = !head.is_of(tag, id) && !head.untouch(HAND);
        if !yields {
            // Two hits more for the next try, in which the page that is there may be hit again.
            recent.store(0, Ordering::Relaxed);
        }
        yields
    }

    /// Bytes under the limit for a frame of `len` bytes, for which others go that were not hit since the hand came
    /// by. `None`: there is no room, or too much waits for readers. The caller collects.
    pub(crate) fn make_room(&self, len: usize, collect: impl Fn()) -> Option<Making<'_>> {
        let (bytes, limit) = (self.frames.frame_bytes(len), self.limit());
        if self.frames.waiting_bytes() > limit / WAITING {
            return None;
        }
        // Counted first: of two that want the last bytes, none passes the limit.
        self.making.fetch_add(bytes, Ordering::Relaxed);
        let making = Making(&self.making, bytes);
        for _ in 0..LOOKS {
            if self.held() + self.making.load(Ordering::Relaxed) <= limit {
                return Some(making);
            }
            if self.demote_next(true) {
                collect();
            }
        }
        None
    }

    /// Bytes of all frames that are made.
    fn held(&self) -> usize {
        self.frames.bytes() + self.frames.waiting_bytes()
    }

    /// Takes the frame off the hand's next slot, unless it was hit since the hand came by and is to be `spared`.
    fn demote_next(&self, spared: bool) -> bool {
        let slot = self.hand.fetch_add(1, Ordering::Relaxed) & (self.frames.slots() - 1);
        let took = self.take_off(slot, |head| !head.untouch(HAND) || !spared);
        if took {
            add(&self.demotions, 1);
        }
        took
    }

    /// Takes frames off until they are within the limit, or all.
    pub(crate) fn fit(&self) {
        let mut looks = 2 * self.frames.slots();
        while self.frames.bytes() > self.limit() && looks > 0 {
            self.demote_next(looks > self.frames.slots());
            looks -= 1;
        }
    }

    /// Takes all frames off their slots.
    pub(crate) fn demote_all(&self) {
        for _ in 0..self.frames.slots() {
            if self.frames.is_empty() {
                return;
            }
            self.demote_next(false);
        }
    }

    /// Puts what was filled with an entry's page into its slot. Under the lock of the tag's shard, the index leading to
    /// that entry.
    pub(crate) fn put(&self, filled: Filled<'_, Head<K>>, head: Head<K>) {
        let (tag, slot) = (head.tag, self.slot(head.tag));
        if self.frames.put(slot, filled, head) {
            add(&self.demotions, 1);
        }
        self.hints[slot].here.store(tag, Ordering::Relaxed);
        self.hints[slot].recent.store(0, Ordering::Relaxed);
        add(&self.promotions, 1);
    }

    /// Each frame, with its slot: for checks.
    pub(crate) fn each(&self, mut f: impl FnMut(usize, &Head<K>, Page<'_, K>)) {
        let reading = self.frames.read(thread_number());
        for slot in 0..self.frames.slots() {
            if let Some(frame) = reading.frame(slot) {
                f(slot, frame.head(), Page { frame });
            }
        }
    }
}

impl<K> Head<K> {
    pub(crate) fn new(key: K, tag: Tag, id: u32, expiry: Millis) -> Self {
        Self { key, tag, id, expiry, touched: AtomicU32::new(0) }
    }

    pub(crate) fn is_of(&self, tag: Tag, id: u32) -> bool {
        self.tag == tag && self.id == id
    }

    /// A hit. Writes nothing if there was one.
    #[inline]
    fn touch(&self) {
        if self.touched.load(Ordering::Relaxed) != HAND | POLICY {
            self.touched.store(HAND | POLICY, Ordering::Relaxed);
        }
    }

    /// Whether there was a hit since `who` asked last.
    fn untouch(&self, who: u32) -> bool {
        self.touched.load(Ordering::Relaxed) & who != 0
            && self.touched.fetch_and(!who, Ordering::Relaxed) & who != 0
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl<K> std::fmt::Debug for Hot<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hot").field("share", &self.share).field("frames", &self.frames).finish()
    }
}
