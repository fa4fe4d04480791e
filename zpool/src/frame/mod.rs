//! Frames: plain bytes in slots, read without a lock and without a write to memory that other
//! threads write.
//! ```text
//! slot -> Frame: head | start, len | Owned: pages of the source, as many as the bytes need
//! read    counted in -> slot -> head, bytes -> counted out    mostly a counter of the thread's own
//! replace a frame is off its slot at once, waits until no reader can have it, and ends then
//! share   bytes without their frame: the last holder frees the memory (`shared`)
//! grow    as many slots again, or half as many, beside readers and writers
//! ```
//! **Who waits for whom** (Linux calls it SRCU). Readers are counted in and out in one of several
//! pairs of counters, each on a cache line of its own. A frame that is off its slot ends when every
//! counter was seen at zero once since.
//!
//! *Why that is enough*: a counter is only ever changed and read by read-modify-writes, which have
//! one order. Consider a reader that counted itself in before the look. It had counted itself out
//! again, or the counter would not have been zero. So the look acquires what it did. A reader that
//! counts itself in after the look acquires what the collector did before it. So it finds the slot
//! without the frame. Of a pair, new readers take one counter until all others were seen at zero,
//! and then those others. So each comes to zero however many readers there are.
//!
//! **Why not the epoch** that `swapped` waits for: a pin and unpin of it takes 4.9 ns, counting in
//! and out 8.3. (A hit takes 18 ns where the page is only looked at, and 57 where it is copied; one
//! thread or two.) But
//!
//! - readers of frames may run code of a user's. One that stalls would keep what all pools of the
//!   process retire.
//! - each frame that waits would have a bag of 2 KiB that no budget counts. Or it would wait in a
//!   bag of a thread that may never come again.
//! - the heads of frames, keys of a user's, would be dropped in any thread.
//!
//! Here each byte is counted until it is freed, and one call of `collect` ends all that may end:
//! 6336 frames after a stall, where the epoch takes 787 calls. A stalled reader keeps the frames
//! that were retired after it came, in this set of frames alone. [`Frames::waiting_bytes`] says how
//! much.
//!
//! **Memory** is the source's pages, not the general-purpose allocator's, which would keep freed
//! memory: many frames are dropped at once where room is needed. Only heads and the counters of
//! holders are heap blocks (`held`), which the heap may refuse. `fill` takes both, so that `put`
//! cannot fail. All of it is charged before it is taken, and released after it is gone.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::{self, NonNull};

use crate::error::AllocError;
use crate::ledger::heap_cost;
use crate::mapped::Doubling;
use crate::source::Access;
use crate::sync::{AtomicPtr, AtomicUsize, Counted, Mutex, Ordering, UnsafeCell, model_bug};

mod held;
mod memory;
#[cfg(all(test, zcache_loom))]
mod models;
mod retired;
mod shared;

use held::{Blank, Held};
pub(crate) use memory::Supply;
pub use shared::SharedBytes;
use shared::{Account, Owned};

/// A page of bytes with a head, as readers find it: see [`Frames`].
pub struct Frame<H> {
    head: H,
    /// Where the bytes are, unless they are in pieces: of `owned`, for readers not to go there.
    start: Option<NonNull<u8>>,
    len: usize,
    owned: Held<Owned>,
    /// The access that ends it, for models: beside a reader it is a race.
    life: UnsafeCell<()>,
    /// The next one that waits.
    next: AtomicPtr<Frame<H>>,
}

/// Readers that are counted in; apart from those of other threads.
#[derive(Debug)]
#[repr(align(128))]
struct Readers([AtomicUsize; 2]);

/// Frames that wait for the same look at all counters.
#[derive(Debug)]
struct Sealed<H> {
    first: *mut Frame<H>,
    /// Counters that were seen at zero since.
    seen: Box<[[bool; 2]]>,
}

/// A set of frames over a pool's pages, under the pool's cap: made by
/// [`Pool::frames`](crate::Pool::frames).
///
/// A slot holds a frame or none. Readers find what is in a slot by [`read`](Self::read): whole, and
/// there as long as they hold on to what they got. Whoever replaces or clears a slot waits for
/// nobody: the old frame waits until [`collect`](Self::collect) finds that no reader can have it.
/// `zero_on_free` is for objects: what a frame held is not overwritten.
///
/// ```
/// use zpool::{Config, Pool};
///
/// let pool: Pool = Pool::new(Config::new().max_bytes(1 << 20))?;
/// let frames = pool.frames::<u64>(16, 2).expect("pages with addresses");
/// let filled = frames.fill(&[7; 4096])?;
/// frames.put(3, filled, 42);
/// {
///     let reading = frames.read(0);
///     let frame = reading.frame(3).expect("just put there");
///     assert_eq!((*frame.head(), frame.bytes()), (42, Some(&[7; 4096][..])));
///     assert!(reading.clear_if(3, |head| *head == 42));
///     assert_eq!(frame.len(), 4096); // still there for who holds it
///     assert!(frames.collect() > 0);
/// }
/// assert_eq!(frames.collect(), 0); // gone
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Frames<H> {
    slots: Doubling<AtomicPtr<Frame<H>>>,
    readers: Box<[Readers]>,
    /// Which counter of a pair newcomers take: its lowest bit.
    phase: AtomicUsize,
    /// Frames that are off their slots and not sealed yet, newest first.
    retired: AtomicPtr<Frame<H>>,
    sealed: Mutex<Sealed<H>>,
    account: Counted<Account>,
    owns: PhantomData<Frame<H>>,
}

// SAFETY: frames are read from many threads by `&H` and ended in any, which `H: Send + Sync`
// allows; their memory is reached as `Frame` says, and the lists change by atomics or under the
// lock.
unsafe impl<H: Send + Sync> Send for Frames<H> {}
// SAFETY: as above.
unsafe impl<H: Send + Sync> Sync for Frames<H> {}

/// Memory with the bytes of a frame that is not in a slot yet; goes back when it is dropped.
#[derive(Debug)]
pub struct Filled<'f, H> {
    frames: &'f Frames<H>,
    /// The block of the frame that it becomes, and its memory.
    made: Option<(Blank<Frame<H>>, Held<Owned>)>,
}

/// A reader that is counted in: see [`Frames::read`].
#[must_use = "a reader is counted as long as this is there"]
pub struct Reading<'f, H> {
    frames: &'f Frames<H>,
    counter: &'f AtomicUsize,
}

impl<H> Frame<H> {
    /// What was put beside the bytes.
    #[inline]
    #[must_use]
    pub fn head(&self) -> &H {
        &self.head
    }

    /// Bytes.
    #[inline]
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a frame of no bytes is a frame")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The bytes where they are. `None`: they are in pieces; [`copy`](Self::copy) is the way to
    /// them.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        let _ = self.owned.memory();
        let start = self.start?;
        // SAFETY: `owned` has these bytes there, which nobody writes to, as long as this is there.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), self.len) })
    }

    /// The bytes for those who want them longer than the frame: nothing is copied, and no reader
    /// stays counted. `None`: they are in pieces.
    ///
    /// ```
    /// use zpool::{Config, Pool};
    ///
    /// let pool: Pool = Pool::new(Config::new())?;
    /// let frames = pool.frames::<()>(1, 1).expect("pages with addresses");
    /// frames.put(0, frames.fill(b"a page")?, ());
    /// let shared = frames.read(0).frame(0).and_then(|frame| frame.share()).expect("one run");
    /// assert!(frames.read(0).clear_if(0, |()| true));
    /// assert!(frames.collect() > 0); // held by `shared`
    /// drop((frames, pool));
    /// assert_eq!(&*shared, b"a page");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn share(&self) -> Option<SharedBytes> {
        SharedBytes::new(&self.owned)
    }

    /// Copies the start of the bytes to `to`, all of them or as many as `to` takes.
    #[inline]
    pub fn copy(&self, to: &mut [u8]) {
        let len = to.len().min(self.len());
        match self.bytes() {
            Some(bytes) => to[..len].copy_from_slice(&bytes[..len]),
            None => self.owned.memory().copy_pieces(&mut to[..len]),
        }
    }

    /// The heap block of a frame.
    const BYTES: usize = heap_cost(size_of::<Self>());

    /// What it holds in bytes.
    fn cost(&self) -> usize {
        Self::BYTES + self.owned.cost()
    }
}

impl<H: Send + Sync> Frames<H> {
    /// `slots` empty slots for readers that share `readers` pairs of counters, each number a power
    /// of two or the next one. `None`: the source's pages have no address.
    pub(crate) fn new(supply: Supply, slots: usize, readers: usize) -> Option<Self> {
        if matches!(supply.source.access(), Access::Unaddressable) {
            return None;
        }
        let readers = readers.max(1).next_power_of_two();
        let pair = || Readers([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let sealed = Sealed { first: ptr::null_mut(), seen: vec![[false; 2]; readers].into() };
        Some(Self {
            slots: Doubling::new(slots),
            readers: (0..readers).map(|_| pair()).collect(),
            phase: AtomicUsize::new(0),
            retired: AtomicPtr::new(ptr::null_mut()),
            sealed: Mutex::new(sealed),
            account: Counted::new(Account::new(supply)),
            owns: PhantomData,
        })
    }

    /// What an empty set holds in bytes, which whoever makes one has to charge.
    #[must_use]
    pub const fn fixed_bytes(slots: usize, readers: usize) -> usize {
        let readers = if readers == 0 { 1 } else { readers.next_power_of_two() };
        Doubling::<AtomicPtr<Frame<H>>>::first_bytes(slots)
            + Account::BYTES
            + heap_cost(readers * size_of::<Readers>() + 128)
            + heap_cost(readers * 2)
    }

    /// What a frame of `len` bytes takes, its head among that, if its pages are one run.
    #[must_use]
    pub fn frame_bytes(&self, len: usize) -> usize {
        let pages = len.max(1).next_multiple_of(self.account.supply.source.page_size());
        pages + Frame::<H>::BYTES + Owned::BYTES
    }

    /// Slots: a power of two.
    #[inline]
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.count()
    }

    /// Doubles the slots, beside readers and whoever puts or clears: what is in a slot stays there,
    /// the new ones follow the old and are empty. What it takes is reserved in the pool until they
    /// go: [`table_bytes`](Self::table_bytes). Of threads that grow at once some may find that
    /// done; after `Ok` there are more slots than before.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`]: no room under the cap, or no further doubling.
    /// [`AllocError::NoMemory`]: no memory. Nothing has changed.
    pub fn grow(&self) -> Result<(), AllocError> {
        self.slots.grow(&self.account.supply.ledger)
    }

    /// Halves the slots, beside readers, and gives the memory of the upper ones back, which have to
    /// be empty: `false` where one is not, or where there are no more slots than at first. Whoever
    /// has the number of a slot that has gone finds it empty.
    ///
    /// Nobody may put a frame into an upper slot meanwhile: it may be found no more, and its memory
    /// is lost then.
    pub fn shrink(&self) -> bool {
        let empty = |mut slots: Range<usize>| {
            model_bug!(SlotsUnasked) || slots.all(|slot| self.is_vacant(slot))
        };
        self.slots.shrink(&self.account.supply.ledger, empty)
    }

    /// Gives back memory of slots that the system did not take when they went, as in a program that
    /// had locked its memory then.
    pub fn trim(&self) {
        self.slots.trim(&self.account.supply.ledger);
    }

    /// What [`grow`](Self::grow) has added to [`fixed_bytes`](Self::fixed_bytes).
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.slots.lent_bytes()
    }

    /// What the next doubling takes, or a few pages less.
    #[must_use]
    pub fn growth_bytes(&self) -> usize {
        self.slots.next_bytes()
    }

    /// Whether no frame is in `slot`.
    ///
    /// # Panics
    /// There never was such a slot.
    #[inline]
    #[must_use]
    pub fn is_vacant(&self, slot: usize) -> bool {
        // Relaxed: nothing is read through it.
        self.slots.at(slot).load(Ordering::Relaxed).is_null()
    }

    /// Frames that are in a slot.
    #[must_use]
    pub fn len(&self) -> usize {
        self.account.frames.load(Ordering::Relaxed)
    }

    /// Whether no frame is in a slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the frames that are in a slot.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.account.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of frames that are off their slots and not gone yet, or gone but for bytes that
    /// somebody [shares](Frame::share).
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.account.waiting.load(Ordering::Relaxed)
    }

    /// Of the bytes of all frames, in slots, waiting and filled, those of heap blocks: they are
    /// charged as [reserved](crate::Pool::reserve) ones, the others as pages.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.account.blocks.load(Ordering::Relaxed)
    }

    /// Takes all memory of a frame, and copies `bytes` to it. No room is made for it.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`]: no room under the cap. [`AllocError::NoMemory`]: the system or
    /// the general-purpose allocator gave no memory.
    pub fn fill(&self, bytes: &[u8]) -> Result<Filled<'_, H>, AllocError> {
        self.account.lend(Frame::<H>::BYTES)?;
        let blank = Blank::take();
        let made = blank.and_then(|blank| Ok((blank, Account::fill(&self.account, bytes)?)));
        let made = made.inspect_err(|_| self.account.take_back(Frame::<H>::BYTES))?;
        Ok(Filled { frames: self, made: Some(made) })
    }

    /// Puts what was filled into `slot`, with a head; what was there goes. Says whether there was
    /// something.
    ///
    /// # Panics
    /// There is no such slot, or the memory is another set's.
    pub fn put(&self, slot: usize, mut filled: Filled<'_, H>, head: H) -> bool {
        assert!(ptr::eq(filled.frames, self), "filled for another set of frames");
        assert!(slot < self.slots(), "slot {slot} of {}", self.slots());
        let place = self.slots.at(slot);
        let (blank, owned) = filled.made.take().expect("there until it is put somewhere");
        let (start, len) = (owned.memory().start(), owned.memory().len());
        let (life, next) = (UnsafeCell::new(()), AtomicPtr::new(ptr::null_mut()));
        let frame = Frame { head, start, len, owned, life, next };
        let (cost, late) = (frame.cost(), model_bug!(FrameEnterLate));
        if !late {
            self.account.enter(cost);
        }
        let frame = blank.fill(frame).as_ptr();
        // Release pairs with the Acquire in `Reading::frame`, Acquire with the Release of an
        // earlier `put`.
        let order = model_bug!(FramePutRelaxed, Ordering::AcqRel => Ordering::Acquire);
        let old = place.swap(frame, model_bug!(FramePutUnacquired, order => Ordering::Release));
        if late {
            self.account.enter(cost);
        }
        self.retire(old);
        !old.is_null()
    }

    /// Moves the frame in slot `from` to slot `to`, if there is one; whether it is there now. Where
    /// `to` is not empty the frame goes. For a moment neither slot has it; who has found it before
    /// keeps it.
    ///
    /// # Panics
    /// There is no slot `to`, or there never was a slot `from`.
    pub fn shift(&self, from: usize, to: usize) -> bool {
        assert!(to < self.slots(), "slot {to} of {}", self.slots());
        // Whoever takes it off its slot, be it here, alone has it. Acquire pairs with the Release
        // of `put`.
        let frame = self.slots.at(from).swap(ptr::null_mut(), Ordering::Acquire);
        let order = (
            model_bug!(FramePutRelaxed, Ordering::Release => Ordering::Relaxed),
            Ordering::Relaxed,
        );
        let place = self.slots.at(to);
        let moved = !frame.is_null()
            && place.compare_exchange(ptr::null_mut(), frame, order.0, order.1).is_ok();
        if !moved {
            self.retire(frame);
        }
        moved
    }

    /// A reader, counted until it is dropped. `by` says which pair of counters it takes, modulo
    /// their number: threads with numbers of their own do not meet.
    #[inline]
    pub fn read(&self, by: usize) -> Reading<'_, H> {
        let readers = &self.readers[by & (self.readers.len() - 1)];
        // Relaxed: either counter is right.
        let counter = &readers.0[self.phase.load(Ordering::Relaxed) & 1];
        // Acquire pairs with the Release of a look in `collect`.
        let before = counter
            .fetch_add(1, model_bug!(FrameEnterRelaxed, Ordering::Acquire => Ordering::Relaxed));
        if before > isize::MAX as usize {
            // So many were forgotten that the counter would come to zero beside readers.
            std::process::abort();
        }
        Reading { frames: self, counter }
    }
}

impl<H> Reading<'_, H> {
    /// The frame in `slot`.
    ///
    /// # Panics
    /// There never was such a slot.
    #[inline]
    #[must_use]
    pub fn frame(&self, slot: usize) -> Option<&Frame<H>> {
        self.find(slot).map(|(_, frame)| frame)
    }

    #[inline]
    fn find(&self, slot: usize) -> Option<(NonNull<Frame<H>>, &Frame<H>)> {
        // Acquire pairs with the Release of `put`.
        let order = model_bug!(FrameFindRelaxed, Ordering::Acquire => Ordering::Relaxed);
        let found = NonNull::new(self.frames.slots.at(slot).load(order))?;
        // SAFETY: it was in its slot when this reader was counted in already, so it ends after that
        // one is counted out, which borrows `self` exclusively.
        let frame = unsafe { found.as_ref() };
        let _ = frame.life.to_read();
        Some((found, frame))
    }

    /// Takes the frame in `slot` off it, if there is one that `which` says yes to; says whether it
    /// did.
    ///
    /// # Panics
    /// There never was such a slot.
    pub fn clear_if(&self, slot: usize, which: impl FnOnce(&H) -> bool) -> bool
    where
        H: Send + Sync,
    {
        let Some((found, frame)) = self.find(slot) else { return false };
        if !which(&frame.head) {
            return false;
        }
        // It cannot end while this reader is counted, so what is found there again is the same.
        // Acquire pairs with the Release of `put`; that it is off its slot is published by
        // `retire`.
        let place = self.frames.slots.at(slot);
        let order = (Ordering::Acquire, Ordering::Relaxed);
        let found = found.as_ptr();
        let taken = match model_bug!(FrameClearedUnasked) {
            false => place.compare_exchange(found, ptr::null_mut(), order.0, order.1),
            true => Ok(place.swap(ptr::null_mut(), Ordering::AcqRel)),
        };
        if let Ok(old) = taken {
            self.frames.retire(old);
        }
        taken.is_ok()
    }
}

impl<H> Drop for Reading<'_, H> {
    #[inline]
    fn drop(&mut self) {
        // Pairs with the Acquire of a look in `collect`.
        self.counter
            .fetch_sub(1, model_bug!(FrameLeaveRelaxed, Ordering::Release => Ordering::Relaxed));
    }
}

impl<H> Drop for Filled<'_, H> {
    fn drop(&mut self) {
        if let Some((blank, owned)) = self.made.take() {
            let account = &self.frames.account;
            drop(blank);
            account.take_back(Frame::<H>::BYTES);
            // As all that goes, it is one of those that wait.
            account.waiting.fetch_add(owned.cost(), Ordering::Relaxed);
        }
    }
}

impl<H> Drop for Frames<H> {
    fn drop(&mut self) {
        // Readers borrow the set, so there is none: what is in a slot or waits is nobody's.
        self.slots.all().for_each(|slot| self.retire(slot.load(Ordering::Relaxed)));
        let waiting = [self.retired.load(Ordering::Relaxed), self.sealed.lock().first];
        waiting.into_iter().for_each(|first| self.end(first));
        self.slots.end(&self.account.supply.ledger);
        self.account.outlive();
    }
}

impl<H> fmt::Debug for Frame<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("len", &self.len).finish_non_exhaustive()
    }
}

impl<H> fmt::Debug for Frames<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("slots", &self.slots.count())
            .field("frames", &self.account.frames)
            .field("bytes", &self.account.bytes)
            .field("waiting", &self.account.waiting)
            .finish_non_exhaustive()
    }
}

impl<H> fmt::Debug for Reading<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}
