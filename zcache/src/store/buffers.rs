//! Buffers on loan: what a page is compressed into, and decoded into where it is only lent to the
//! caller.
//!
//! A buffer may be out while user code runs, for as long as that likes. So nobody ever waits for
//! one: a thread that finds none makes one. A few are kept, at most one for each thread that can
//! run and a [`SHARE`] of the capacity in all, or one. The others go back to the system at once,
//! page by page: made by a general-purpose allocator, those of many threads were seen to stay in
//! its arenas, uncounted.

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

#[derive(Debug)]
struct Kept {
    buffer: PageBuffer,
    /// The step at which a page needed more than half of it.
    needed: u32,
}

/// On cache lines of its own: threads that start at different ones do not meet.
#[derive(Debug)]
#[repr(align(64))]
struct Place(Mutex<Shelf>);

#[derive(Debug)]
struct Shelf {
    kept: Option<Kept>,
    loans: u32,
}

#[derive(Debug)]
pub(crate) struct Buffers {
    places: Box<[Place]>,
    /// Bytes of buffers, of those that are out as well.
    bytes: Counter,
    /// The longest buffer that was kept of late: by it the places are counted. A hint.
    longest: AtomicUsize,
}

/// A buffer on loan; it goes back when this is dropped.
pub(crate) struct LentBuffer<'b, M: Charge> {
    buffers: &'b Buffers,
    clock: &'b Clock,
    memory: &'b M,
    /// The cache's capacity.
    capacity: usize,
    /// The calling thread's own place.
    home: usize,
    lent: Kept,
}

impl Buffers {
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
        heap_cost(places * size_of::<Place>() + 64)
    }

    /// A buffer, used before or new and empty.
    #[inline]
    pub(crate) fn lend<'b, M: Charge>(
        &'b self,
        clock: &'b Clock,
        capacity: usize,
        memory: &'b M,
    ) -> LentBuffer<'b, M> {
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
                break Kept { buffer: PageBuffer::default(), needed: clock.now() };
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
    fn keep(&self, lent: Kept, home: usize, clock: &Clock, capacity: usize, memory: &impl Charge) {
        let most = self.most(lent.buffer.len(), capacity);
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

    fn discard(&self, buffer: PageBuffer, memory: &impl Charge) {
        let bytes = PageBuffer::cost(buffer.len());
        drop(buffer);
        sub(&self.bytes, bytes as u64);
        memory.release(bytes);
    }

    /// Drops what no page needed of late.
    pub(crate) fn drop_idle(&self, clock: &Clock, memory: &impl Charge) {
        for place in &self.places {
            let idle = |kept: &mut Kept| clock.is_idle(kept.needed);
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
        let of = |kept: &Kept| PageBuffer::cost(kept.buffer.len());
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

impl<M: Charge> Drop for LentBuffer<'_, M> {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.lent.buffer);
        if !buffer.is_empty() {
            let lent = Kept { buffer, needed: self.lent.needed };
            self.buffers.keep(lent, self.home, self.clock, self.capacity, self.memory);
        }
    }
}

impl<M: Charge> fmt::Debug for LentBuffer<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LentBuffer").field("len", &self.lent.buffer.len()).finish_non_exhaustive()
    }
}
