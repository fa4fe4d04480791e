//! Buffers on loan: pages are compressed into them, and decoded into them where they are only lent
//! to the caller. And vectors, which the caller's own code writes a page into.
//!
//! A buffer may be out while user code runs, for any time. So no thread waits for one: a thread
//! that finds none makes one. A few are kept. These are at most one for each thread that can run,
//! and a [`SHARE`] of the capacity in all, or one. The others go back to the system at once, page
//! by page. Buffers that a general-purpose allocator made for many threads were seen to stay in its
//! arenas, uncounted.
//!
//! A vector is of the general-purpose allocator, because the caller may make it longer or take it
//! away. While it is lent it is charged at the length that it had then. It is charged at its new
//! length when it is kept.

use std::fmt;

use zpool::source::{PageBuffer, heap_cost};

use super::charged::{Charged, Full};
use super::clock::{Clock, LOANS};
use crate::sync::{AtomicUsize, Charge, Counter, Mutex, Ordering, add, get, sub, thread_number};

/// Buffers grow in these steps.
const STEP: usize = 4096;
/// Buffers that nobody uses have at most the capacity divided by this, or there is only one of
/// them.
const SHARE: usize = 32;

/// What buffers are made of.
pub(crate) trait Block: Default {
    /// Bytes that fit in.
    fn room(&self) -> usize;

    /// Bytes that a block with so much room holds.
    fn cost(room: usize) -> usize;
}

impl Block for PageBuffer {
    #[inline]
    fn room(&self) -> usize {
        self.len()
    }

    fn cost(room: usize) -> usize {
        Self::cost(room)
    }
}

impl Block for Vec<u8> {
    fn room(&self) -> usize {
        self.capacity()
    }

    fn cost(room: usize) -> usize {
        heap_cost(room)
    }
}

#[derive(Debug)]
struct Kept<B> {
    buffer: B,
    /// The step at which a page needed more than half of it.
    needed: u32,
}

/// On cache lines of its own: threads that start at different ones do not meet.
#[derive(Debug)]
#[repr(align(64))]
struct Place<B>(Mutex<Shelf<B>>);

#[derive(Debug)]
struct Shelf<B> {
    kept: Option<Kept<B>>,
    loans: u32,
}

#[derive(Debug)]
pub(crate) struct Buffers<B = PageBuffer> {
    places: Box<[Place<B>]>,
    /// Bytes of buffers, of those that are out as well.
    bytes: Counter,
    /// The longest buffer that was kept of late: by it the places are counted. A hint.
    longest: AtomicUsize,
}

/// A buffer on loan; it goes back when this is dropped.
pub(crate) struct LentBuffer<'b, M: Charge, B: Block = PageBuffer> {
    buffers: &'b Buffers<B>,
    clock: &'b Clock,
    memory: &'b M,
    /// The cache's capacity.
    capacity: usize,
    /// The calling thread's own place.
    home: usize,
    lent: Kept<B>,
}

/// A vector on loan, which is empty at first; it goes back when this is dropped.
pub(crate) struct LentVec<'b, M: Charge> {
    lent: LentBuffer<'b, M, Vec<u8>>,
    /// What is charged for it.
    charged: usize,
    /// One with more room is not kept.
    most: usize,
}

impl<B: Block> Buffers<B> {
    /// Room to keep so many.
    pub(crate) fn new(places: usize) -> Self {
        let place = |_| Place(Mutex::new(Shelf { kept: None, loans: 0 }));
        Self {
            places: (0..places).map(place).collect(),
            bytes: Counter::new(0),
            longest: AtomicUsize::new(0),
        }
    }

    pub(crate) const fn fixed_bytes(places: usize) -> usize {
        heap_cost(places * size_of::<Place<B>>() + 64)
    }

    /// A buffer, used before or new and empty.
    #[inline]
    pub(crate) fn lend<'b, M: Charge>(
        &'b self,
        clock: &'b Clock,
        capacity: usize,
        memory: &'b M,
    ) -> LentBuffer<'b, M, B> {
        let home = thread_number() % self.places.len();
        let mut at = home;
        let lent = loop {
            if let Some(mut shelf) = self.places[at].0.try_lock() {
                if let Some(kept) = shelf.kept.take() {
                    shelf.loans = shelf.loans.wrapping_add(1);
                    if shelf.loans % LOANS == 0 {
                        drop(shelf);
                        clock.loans();
                        self.drop_idle(clock, memory);
                    }
                    break kept;
                }
            }
            at = self.next(at);
            if at == home {
                break Kept { buffer: B::default(), needed: clock.now() };
            }
        };
        LentBuffer { buffers: self, clock, memory, capacity, home, lent }
    }

    /// The place behind `at`, round and round.
    #[inline]
    fn next(&self, at: usize) -> usize {
        if at + 1 == self.places.len() { 0 } else { at + 1 }
    }

    /// How many buffers as long as this one may be kept.
    fn most(&self, len: usize, capacity: usize) -> usize {
        let mut longest = self.longest.load(Ordering::Relaxed);
        if longest < len {
            longest = len;
            self.longest.fetch_max(len, Ordering::Relaxed);
        }
        (capacity / SHARE / longest).clamp(1, self.places.len())
    }

    /// Keeps a buffer, in the place `home` or another one; drops it where it is idle or enough are
    /// kept.
    #[inline]
    fn keep(
        &self,
        lent: Kept<B>,
        home: usize,
        clock: &Clock,
        capacity: usize,
        memory: &impl Charge,
    ) {
        let most = self.most(lent.buffer.room(), capacity);
        let mut at = home;
        while !clock.is_idle(lent.needed) {
            if at < most {
                if let Some(mut shelf) = self.places[at].0.try_lock() {
                    if shelf.kept.is_none() {
                        shelf.kept = Some(lent);
                        return;
                    }
                }
            }
            at = self.next(at);
            if at == home {
                break;
            }
        }
        self.discard(lent.buffer, memory);
    }

    fn discard(&self, buffer: B, memory: &impl Charge) {
        let bytes = B::cost(buffer.room());
        drop(buffer);
        self.release(bytes, memory);
    }

    fn release(&self, bytes: usize, memory: &impl Charge) {
        sub(&self.bytes, bytes as u64);
        memory.release(bytes);
    }

    /// Drops what no page needed of late.
    pub(crate) fn drop_idle(&self, clock: &Clock, memory: &impl Charge) {
        for place in &self.places {
            let idle = |kept: &mut Kept<B>| clock.is_idle(kept.needed);
            let kept = place.0.try_lock().and_then(|mut shelf| shelf.kept.take_if(idle));
            if let Some(kept) = kept {
                // Relaxed: a hint. The next buffers that come back set it anew.
                self.longest.store(0, Ordering::Relaxed);
                self.discard(kept.buffer, memory);
            }
        }
    }

    /// Drops the buffers that are not out.
    pub(crate) fn trim(&self, memory: &impl Charge) {
        for place in &self.places {
            let kept = place.0.lock().kept.take();
            if let Some(kept) = kept {
                self.discard(kept.buffer, memory);
            }
        }
    }

    /// Bytes of all buffers.
    pub(crate) fn bytes(&self) -> usize {
        get(&self.bytes) as usize
    }

    /// Bytes of those that are not out.
    pub(crate) fn kept_bytes(&self) -> usize {
        let of = |kept: &Kept<B>| B::cost(kept.buffer.room());
        self.places.iter().map(|place| place.0.lock().kept.as_ref().map_or(0, of)).sum()
    }
}

impl<M: Charge> LentBuffer<'_, M> {
    /// The buffer, `len` bytes of it, of any content.
    ///
    /// # Errors
    /// No room for one so long.
    pub(crate) fn stretch(&mut self, len: usize) -> Result<&mut [u8], Full> {
        let Kept { buffer, needed } = &mut self.lent;
        if buffer.len() < len {
            // What is in it is not wanted any more.
            self.buffers.discard(std::mem::take(buffer), self.memory);
            let wanted = len.next_multiple_of(STEP);
            let charged = Charged::new(self.memory, PageBuffer::cost(wanted))?;
            *buffer = PageBuffer::new(wanted).map_err(|_| Full::NoMemory)?;
            add(&self.buffers.bytes, charged.keep() as u64);
        }
        if len > buffer.len() / 2 {
            *needed = self.clock.now();
        }
        Ok(&mut buffer[..len])
    }

    /// `len` bytes of it, as they were left.
    pub(crate) fn bytes(&self, len: usize) -> &[u8] {
        &self.lent.buffer[..len]
    }
}

impl<M: Charge, B: Block> Drop for LentBuffer<'_, M, B> {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.lent.buffer);
        if buffer.room() != 0 {
            let lent = Kept { buffer, needed: self.lent.needed };
            self.buffers.keep(lent, self.home, self.clock, self.capacity, self.memory);
        }
    }
}

impl<M: Charge, B: Block> fmt::Debug for LentBuffer<'_, M, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let room = self.lent.buffer.room();
        f.debug_struct("LentBuffer").field("room", &room).finish_non_exhaustive()
    }
}

impl<'b, M: Charge> LentVec<'b, M> {
    /// A vector that was lent. It is not kept afterwards if it has more room than `most` bytes.
    pub(crate) fn new(lent: LentBuffer<'b, M, Vec<u8>>, most: usize) -> Self {
        let charged = Vec::<u8>::cost(lent.lent.buffer.room());
        Self { lent, charged, most }
    }

    pub(crate) fn get(&mut self) -> &mut Vec<u8> {
        &mut self.lent.lent.buffer
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.lent.lent.buffer
    }

    /// Charges what the vector has become; whether there is room for that.
    fn settle(&mut self) -> bool {
        let LentBuffer { buffers, memory, lent, .. } = &self.lent;
        let bytes = Vec::<u8>::cost(lent.buffer.room());
        if let Some(less) = self.charged.checked_sub(bytes) {
            buffers.release(less, *memory);
        } else {
            let more = bytes - self.charged;
            if !memory.charge(more) {
                return false;
            }
            add(&buffers.bytes, more as u64);
        }
        self.charged = bytes;
        true
    }
}

impl<M: Charge> Drop for LentVec<'_, M> {
    fn drop(&mut self) {
        let (most, now) = (self.most, self.lent.clock.now());
        let Kept { buffer, needed } = &mut self.lent.lent;
        if buffer.len() > buffer.capacity() / 2 {
            *needed = now;
        }
        buffer.clear();
        if buffer.capacity() > most || !self.settle() {
            *self.get() = Vec::new();
            self.settle();
        }
    }
}

impl<M: Charge> fmt::Debug for LentVec<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lent.fmt(f)
    }
}
