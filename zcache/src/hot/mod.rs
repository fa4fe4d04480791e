//! The hot tier: decoded pages, *frames*, in front of the entries that they were decoded from.
//! ```text
//! tag -> set of 8 slots -> frame: key, tag, entry's id, expiry, touched | the page
//! ```
//! A hit on a frame takes no lock and writes nothing that other threads write. [`zpool::Frames`]
//! says how readers are waited for. A frame holds a clone of its key, because it has to compare
//! keys without touching the entry. A pin of the entry's would keep compaction from moving it.
//!
//! Truth: a frame is put into a slot of its set only under the lock of its tag's shard in the
//! index. The index leads to the entry that it was decoded from meanwhile. Whoever makes the index
//! lead elsewhere clears that slot under the same lock. So once an insert or a removal has
//! returned, no reader finds the old page. And no reader finds it that has seen the new one. Taking
//! a frame off its slot is right at any time: the entry is behind it.
//!
//! Bytes: frames in slots, those that wait for a reader, and those that are being made are held to
//! `most` together. Below that stands the limit that frames are left when room is needed. Of a
//! fixed share it is the same; [`Scales`] move that of [`HotShare::Auto`].

use std::ops::Range;

use bytes::Bytes;
use equivalent::Equivalent;
use zpool::{Filled, Frame, Frames};

use crate::codec::Form;
use crate::config::HotShare;
use crate::index::Tag;
use crate::scope::Scopes;
use crate::store::{Millis, blank_page};
use crate::sync::{
    Apart, Arc, AtomicUsize, Counter, Mutex, Ordering, PICKY, WAYS, add, get, model_bug, most_sets,
    readers, thread_number,
};
use crate::worth::Scales;

mod growth;
mod page;
mod sets;

pub(crate) use growth::Under;
pub(crate) use page::Head;
use page::{HAND, Lent, POLICY};
use sets::{COUNTED, Set, Sets};

/// Bytes of the pages that slots are counted by.
const PAGE: usize = 4096;
/// The table doubles when more than 3 of 8 slots have frames: then one frame in 600 finds its set
/// full.
const FULL: (usize, usize) = (3, 8);
/// Sets that a table never gets below, or fewer in a small cache: 8 KiB with their slots.
const LEAST_SETS: usize = 64;
/// Sets that it has at first, at the most: a large cache that is never full pays for no large
/// table.
const FIRST_SETS: usize = 1024;
/// Frames that a share too small for them is not worth its tables.
const LEAST_FRAMES: usize = 4;
/// Slots that a promotion looks at for a frame to take the place of.
const LOOKS: usize = 64;
/// The capacity by this is what frames have at first with an automatic share, when room is short.
const AUTO: u32 = 16;
/// While more than the limit by this waits for readers, nothing is promoted.
const WAITING: usize = 4;
/// Users are lent no more than the limit by this: less, so that those who keep as much as they can
/// stop no promotion.
const LENT: usize = 8;
/// Slots that are looked at where a frame has to go.
const INSISTING: usize = 512;

pub(crate) struct Hot<K> {
    frames: Frames<Head<K>>,
    sets: Sets,
    share: HotShare,
    /// What frames can have at the most.
    most: AtomicUsize,
    /// Of an automatic share, what moves its limit.
    scales: Option<Arc<Scales>>,
    /// Held while the table grows or shrinks: the slots that are still to be looked at since it
    /// did.
    changing: Mutex<Range<usize>>,
    /// Bytes of frames that are being made.
    making: AtomicUsize,
    /// Hits that found another one remembered in their places since the table had its length, one
    /// in [`COUNTED`].
    displaced: Counter,
    /// Growths that were refused.
    refused: Counter,
    /// Whether there are slots to be swept.
    unswept: Counter,
    /// The slot that the search for one to demote goes on at.
    hand: Apart<AtomicUsize>,
    /// Bytes of frames that users keep.
    lent: Arc<Counter>,
    pub(crate) clone: fn(&K) -> K,
    pub(crate) promotions: Counter,
    pub(crate) demotions: Counter,
}

/// A decoded page as its reader has it.
pub(crate) struct Page<'r, K> {
    frame: &'r Frame<Head<K>>,
    hot: &'r Hot<K>,
}

/// Bytes under the limit for a frame that is being made, until this is dropped.
pub(crate) struct Making<'h>(&'h AtomicUsize, usize);

/// Sets for frames of `limit` bytes in all.
fn sets(limit: usize) -> usize {
    let frames = (limit / PAGE).max(1);
    (frames * FULL.1 / FULL.0 / WAYS).clamp(1, most_sets()).next_power_of_two()
}

/// Sets that a table never gets below, made where frames may take `limit` bytes in all.
fn least_sets(limit: usize) -> usize {
    sets(limit).min(LEAST_SETS)
}

impl HotShare {
    /// Bytes of frames in a cache of `capacity` bytes, of which it needs `least` for everything
    /// else: what they start with when room is short, and the most.
    pub(crate) fn limits(self, capacity: usize, least: usize) -> (usize, usize) {
        let most = capacity.saturating_sub(least);
        let part = |part: u32| capacity.checked_div(part as usize).unwrap_or(0).min(most);
        match self {
            Self::Off => (0, 0),
            Self::Bytes(bytes) => (bytes.min(most), bytes.min(most)),
            Self::Fraction(n) => (part(n), part(n)),
            Self::Auto => (part(AUTO), most),
        }
    }
}

impl<K: Send + Sync> Hot<K> {
    /// What the tables take at first; `None`: so few frames are not worth them.
    pub(crate) fn fixed_bytes(
        share: HotShare,
        capacity: usize,
        least: usize,
        threads: usize,
    ) -> Option<usize> {
        let (limit, most) = share.limits(capacity, least);
        let sets = least_sets(limit);
        let bytes = Frames::<Head<K>>::fixed_bytes(sets * WAYS, readers(threads))
            + Sets::fixed_bytes(sets)
            + zpool::source::heap_cost(size_of::<Self>() + 128)
            + zpool::source::heap_cost(4 * size_of::<Counter>());
        (limit.min(most) >= bytes + LEAST_FRAMES * PAGE).then_some(bytes)
    }

    /// Tables for frames of `limit` bytes in all. `None`: the pool's pages have no address.
    pub(crate) fn new(
        pool: &zpool::Pool<impl Send + Sync>,
        share: HotShare,
        (limit, most): (usize, usize),
        scales: Option<Arc<Scales>>,
        threads: usize,
        clone: fn(&K) -> K,
    ) -> Option<Self> {
        let sets = least_sets(limit);
        Some(Self {
            frames: pool.frames(sets * WAYS, readers(threads))?,
            sets: Sets::new(sets, pool),
            share,
            most: AtomicUsize::new(most),
            scales,
            changing: Mutex::new(0..0),
            making: AtomicUsize::new(0),
            displaced: Counter::new(0),
            refused: Counter::new(0),
            unswept: Counter::new(0),
            hand: Apart(AtomicUsize::new(0)),
            lent: Arc::new(Counter::new(0)),
            clone,
            promotions: Counter::new(0),
            demotions: Counter::new(0),
        })
    }

    /// Whether a frame of that tag in that slot can be found.
    pub(crate) fn is_in_place(&self, tag: Tag, slot: usize) -> bool {
        slot / WAYS == self.sets.number(tag)
    }

    pub(crate) fn frames(&self) -> &Frames<Head<K>> {
        &self.frames
    }

    pub(crate) fn scales(&self) -> Option<&Scales> {
        self.scales.as_deref()
    }

    /// What frames are left when room is short.
    pub(crate) fn limit(&self) -> usize {
        let most = self.most();
        self.scales.as_ref().map_or(most, |scales| scales.limit().min(most))
    }

    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// The capacity has changed.
    pub(crate) fn set_limit(&self, capacity: usize, least: usize) {
        let (limit, most) = self.share.limits(capacity, least);
        self.most.store(most, Ordering::Relaxed);
        if let Some(scales) = &self.scales {
            scales.set_limit(limit);
        }
    }

    /// Where a hit on an entry without a frame is remembered: there are the more places the more
    /// frames there may be, so that a page is promoted which is hit again before it would have
    /// gone.
    fn memory(&self, tag: Tag) -> Set<'_> {
        let sets = sets(self.limit().max(self.frames.bytes())).min(self.sets.len());
        self.sets.get(self.sets.number(tag) & (sets - 1))
    }

    /// The slots of a tag that may have its frame, going by their hints.
    #[inline]
    fn candidates(&self, tag: Tag) -> impl Iterator<Item = usize> {
        let number = self.sets.number(tag);
        let set = self.sets.get(number);
        (0..WAYS).filter(move |way| set.here(*way) == tag).map(move |way| number * WAYS + way)
    }

    /// What `f` makes of the page of `key`, if there is a frame of it whose time and scope are not
    /// over. The key's `Eq`, and `f`, run under no lock.
    #[inline]
    pub(crate) fn find<Q: Equivalent<K> + ?Sized, R>(
        &self,
        tag: Tag,
        key: &Q,
        scopes: Option<&Scopes<K>>,
        now: impl FnOnce() -> Millis,
        f: impl FnOnce(Page<'_, K>) -> Option<R>,
    ) -> Option<R> {
        for slot in self.candidates(tag) {
            let reading = self.frames.read(thread_number());
            let Some(frame) = reading.frame(slot) else { continue };
            let head = frame.head();
            if head.tag != tag || !key.equivalent(&head.key) {
                continue;
            }
            // Whether it is still in its place is asked after: see `Scopes`.
            let live = scopes.is_none_or(|scopes| scopes.is_live(head.slot()));
            let there = || reading.frame(slot).is_some_and(|again| std::ptr::eq(again, frame));
            if scopes.is_some() && !(live && (model_bug!(LeftUnasked) || there())) {
                return None;
            }
            if head.expiry != Millis::MAX && head.expiry <= now() {
                return None;
            }
            head.touch();
            return f(Page { frame, hot: self });
        }
        None
    }

    /// Whether there was a hit on the frame of entry `id` since the compressed tier's policy asked
    /// last.
    pub(crate) fn was_hit(&self, tag: Tag, id: u32) -> bool {
        self.has_frame(tag, id, |head| head.untouch(POLICY))
    }

    /// Whether entry `id` has a frame.
    pub(crate) fn holds(&self, tag: Tag, id: u32) -> bool {
        self.has_frame(tag, id, |_| true)
    }

    fn has_frame(&self, tag: Tag, id: u32, which: impl Fn(&Head<K>) -> bool) -> bool {
        self.candidates(tag).any(|slot| {
            let reading = self.frames.read(thread_number());
            let head = reading.frame(slot).map(Frame::head);
            head.is_some_and(|head| head.is_of(tag, id) && which(head))
        })
    }

    /// The index does not lead to entry `id` any more: its frame goes. Under the lock of the tag's
    /// shard.
    pub(crate) fn clear(&self, tag: Tag, id: u32) {
        if model_bug!(FrameLeft) {
            return;
        }
        for slot in self.candidates(tag) {
            self.take_off(slot, |head| head.is_of(tag, id));
        }
    }

    /// Takes the frame off a slot, if `which` says yes to it; its tag.
    fn take_off(&self, slot: usize, which: impl FnOnce(&Head<K>) -> bool) -> Option<Tag> {
        // What was put there under a lock that the caller has or had since is seen.
        if self.frames.is_vacant(slot) {
            return None;
        }
        let number = slot / WAYS;
        let set = self.sets.get(number);
        let _turn = self.sets.lock(number);
        let reading = self.frames.read(thread_number());
        let mut tag = 0;
        let took = reading.clear_if(slot, |head| {
            tag = head.tag;
            which(head)
        });
        took.then(|| {
            set.set_here(slot - number * WAYS, 0);
            tag
        })
    }

    /// Whether a page of `len` bytes that is stored in this form is worth a frame: one that is
    /// decoded faster than it is found is not, nor one that does not fill half of its frame.
    pub(crate) fn suits(&self, form: Form, len: usize) -> bool {
        !PICKY
            || matches!(form, Form::Coded(_)) && self.frames.frame_bytes(len) <= 2 * len + PAGE / 8
    }

    /// A hit on an entry of that tag, which has no frame: whether it shall have one, since it was
    /// hit not long ago and its set has a slot for it. Where there is `free` room, all may come to
    /// have one.
    pub(crate) fn wants(&self, tag: Tag, free: impl FnOnce() -> bool) -> bool {
        let counted = || add(&self.displaced, 1);
        if !self.memory(tag).hit_again(tag, || PICKY && free(), counted) {
            return false;
        }
        let number = self.sets.number(tag);
        let free = (0..WAYS).any(|way| self.yields(number * WAYS + way));
        if !free {
            self.forget(tag);
        }
        free
    }

    /// Two hits more for the next try.
    pub(crate) fn forget(&self, tag: Tag) {
        self.memory(tag).forget(tag);
    }

    /// Whether a slot has no frame, or one that was not hit since it was asked last.
    fn yields(&self, slot: usize) -> bool {
        if self.frames.is_vacant(slot) {
            return true;
        }
        let reading = self.frames.read(thread_number());
        reading.frame(slot).is_none_or(|frame| !frame.head().untouch(HAND))
    }

    /// Bytes for a frame of `len` bytes below the most that there can be, for which others go that
    /// were not hit since the hand came by. `None`: there are none, or too much waits for readers.
    /// The caller collects.
    pub(crate) fn make_room(&self, len: usize, collect: impl Fn()) -> Option<Making<'_>> {
        let (bytes, most) = (self.frames.frame_bytes(len), self.most());
        if self.frames.waiting_bytes() > self.limit().max(self.frames.bytes()) / WAITING {
            return None;
        }
        // Counted first: of two that want the last bytes, none passes the limit.
        self.making.fetch_add(bytes, Ordering::Relaxed);
        let making = Making(&self.making, bytes);
        for _ in 0..LOOKS {
            if self.held() <= most {
                return Some(making);
            }
            if self.demote_next(true) {
                collect();
            }
        }
        None
    }

    /// Bytes of frames in slots and of those that wait.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.frames.bytes() + self.frames.waiting_bytes()
    }

    /// The same, and of those that are being made.
    fn held(&self) -> usize {
        self.frame_bytes() + self.making.load(Ordering::Relaxed)
    }

    /// Whether frames are more than what they are left when room is short. What waits for a reader
    /// is not: to take off more for it would help nobody.
    pub(crate) fn is_beyond(&self) -> bool {
        self.frames.bytes() + self.making.load(Ordering::Relaxed) > self.limit()
    }

    /// Room is short: frames beyond the limit go, some `goal` bytes of those that were not hit
    /// since the hand came by; whether any did. The caller collects.
    pub(crate) fn yield_room(&self, goal: usize) -> bool {
        let (before, mut looks) = (self.frames.bytes(), LOOKS + goal / PAGE);
        let gone = || before.saturating_sub(self.frames.bytes());
        while looks > 0 && self.is_beyond() && gone() < goal {
            self.demote_next(true);
            looks -= 1;
        }
        gone() > 0
    }

    /// The same; where all that the hand came by were hit, one goes all the same: beyond the limit
    /// it is worth less than an entry.
    pub(crate) fn insist_on_room(&self, goal: usize) {
        let insists = !self.yield_room(goal) && self.is_beyond();
        let _ = insists && (0..INSISTING).any(|_| self.demote_next(false));
    }

    /// Takes the frame off the hand's next slot, unless it was hit since the hand came by and is to
    /// be `spared`.
    fn demote_next(&self, spared: bool) -> bool {
        // Of all slots: those that are to be swept have frames, too.
        let slot = self.hand.fetch_add(1, Ordering::Relaxed) & (self.frames.slots() - 1);
        let took = self.take_off(slot, |head| !head.untouch(HAND) || !spared);
        if let Some(tag) = took {
            self.demoted(tag);
        }
        took.is_some()
    }

    fn demoted(&self, tag: Tag) {
        add(&self.demotions, 1);
        if let Some(scales) = &self.scales {
            scales.demoted(tag);
        }
    }

    /// Takes frames off until they are no more than there can be, or all.
    pub(crate) fn fit(&self) {
        let slots = self.frames.slots();
        let mut looks = 2 * slots;
        while self.frames.bytes() > self.most() && looks > 0 {
            self.demote_next(looks > slots);
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

    /// Puts what was filled with an entry's page into a slot of its set, unless it has a frame
    /// there, or all slots have frames that were just hit: then it comes back. Under the lock of
    /// the tag's shard, the index leading to that entry.
    pub(crate) fn put<'f>(
        &self,
        filled: Filled<'f, Head<K>>,
        head: Head<K>,
    ) -> Option<(Filled<'f, Head<K>>, Head<K>)> {
        let (tag, number) = (head.tag, self.sets.number(head.tag));
        let set = self.sets.get(number);
        let turn = self.sets.lock(number);
        if self.sets.number(tag) != number && !model_bug!(PutWhereItWas) {
            return Some((filled, head)); // the table has another length now
        }
        if self.holds(tag, head.id) {
            return Some((filled, head));
        }
        let vacant = (0..WAYS).find(|way| self.frames.is_vacant(number * WAYS + way));
        let way = vacant.or_else(|| (0..WAYS).find(|way| self.yields(number * WAYS + way)));
        let Some(way) = way else { return Some((filled, head)) };
        let before = set.here(way);
        let replaced = self.frames.put(number * WAYS + way, filled, head);
        set.set_here(way, tag);
        drop(turn);
        if replaced {
            self.demoted(before);
        }
        self.forget(tag);
        add(&self.promotions, 1);
        None
    }

    /// Each frame, with its slot: for checks.
    pub(crate) fn each(&self, mut f: impl FnMut(usize, &Head<K>, Page<'_, K>)) {
        let reading = self.frames.read(thread_number());
        for slot in 0..self.frames.slots() {
            if let Some(frame) = reading.frame(slot) {
                f(slot, frame.head(), Page { frame, hot: self });
            }
        }
    }
}

impl<K: Send + Sync> Page<'_, K> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.frame.len()
    }

    /// The page where it is, unless it is in pieces.
    #[inline]
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        self.frame.bytes()
    }

    /// The whole page for its reader to keep: the frame's own bytes, unless so many are kept
    /// already that frames could not make way. `None`: there is no memory for a copy.
    pub(crate) fn keep(&self) -> Option<Bytes> {
        let len = self.len() as u64;
        let hot = self.hot;
        let most = hot.limit().max(hot.frames.bytes()) / LENT;
        if get(&hot.lent) + len <= most as u64 {
            if let Some(page) = self.frame.share() {
                // Its block of some 80 bytes is the one that cannot be asked for: std ends the
                // process without it.
                return Some(Bytes::from_owner(Lent::new(page, &hot.lent)));
            }
        }
        self.start(self.len()).map(Bytes::from)
    }

    /// Fills `to`, which is no longer, with the start of the page.
    #[inline]
    pub(crate) fn copy(&self, to: &mut [u8]) {
        self.frame.copy(to);
    }

    /// The first `len` bytes of it, in memory of the caller's. `None`: there is none.
    pub(crate) fn start(&self, len: usize) -> Option<Vec<u8>> {
        let Some(bytes) = self.bytes() else {
            let mut start = blank_page(len)?;
            self.copy(&mut start);
            return Some(start);
        };
        let mut start = Vec::new();
        start.try_reserve_exact(len).ok()?;
        start.extend_from_slice(&bytes[..len]);
        Some(start)
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
