//! Work benches: what a compression or a decoding works with, buffers and the codec's contexts.
//!
//! A few of both are kept, about one for each thread that can run at once. A thread starts looking at a
//! place of its own, so that threads seldom meet; whoever finds none makes one. Nobody waits. All that
//! is kept or out is charged.
//!
//! The two are lent apart: a buffer may be out while user code runs, a context only while the codec
//! works, which calls nobody. So however deep look-ups and hooks are in each other, a thread has one
//! context out at a time, and finds the one that it has just given back.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use zpool::source::heap_cost;

use crate::codec::{Codec, Context};
use crate::sync::{AtomicUsize, Charge, Mutex, Ordering, thread_number};

/// Why there is no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// No room under the cap; so many bytes were asked for.
    Cap(usize),
    /// The heap gave none, or the codec.
    NoMemory,
}

/// Buffers grow in these steps.
const STEP: usize = 4096;

/// A context, the number of the coder and the largest page that it was made for, and what was charged for it: the codec may say
/// something else the next time.
struct Made {
    coder: u8,
    size: usize,
    charged: usize,
    context: Box<dyn Context>,
}

/// On cache lines of its own: threads that start at different ones do not meet.
#[repr(align(64))]
struct Slot {
    buffer: Mutex<Option<Vec<u8>>>,
    context: Mutex<Option<Made>>,
}

pub(crate) struct Benches {
    slots: Box<[Slot]>,
    /// The largest size that a context was asked for: new ones are for it, so that pages of several
    /// sizes do not have contexts made and dropped for ever.
    largest: AtomicUsize,
}

/// Bytes that are charged until this is dropped, also by a panic.
pub(crate) struct Charged<'m, M: Charge>(&'m M, usize);

/// A buffer on loan; it goes back when this is dropped.
pub(crate) struct LentBuffer<'b, M: Charge> {
    benches: &'b Benches,
    memory: &'b M,
    bytes: Vec<u8>,
}

/// A context on loan; it goes back when this is dropped.
pub(crate) struct LentContext<'b, M: Charge> {
    benches: &'b Benches,
    memory: &'b M,
    made: Option<Made>,
}

/// The largest page that a context is made for which is to work on pages of `len` bytes.
pub(crate) fn context_size(len: usize) -> usize {
    len.next_power_of_two().max(STEP)
}

/// The most that one thread's contexts hold at once for pages of up to `max_page` bytes: one, and the
/// smaller one that it takes the place of.
pub(crate) fn context_bytes(max_page: usize, codec: &dyn Codec) -> usize {
    let size = context_size(max_page);
    let smaller = if size > STEP { codec.context_bytes(size / 2) } else { 0 };
    codec.context_bytes(size).saturating_add(smaller)
}

impl<'m, M: Charge> Charged<'m, M> {
    pub(crate) fn new(memory: &'m M, bytes: usize) -> Result<Self, Full> {
        if memory.charge(bytes) { Ok(Self(memory, bytes)) } else { Err(Full::Cap(bytes)) }
    }

    /// Bytes that somebody has charged already.
    pub(crate) const fn of(memory: &'m M, bytes: usize) -> Self {
        Self(memory, bytes)
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.1
    }

    /// So many more.
    ///
    /// # Errors
    /// They are not to be had; what there was stays.
    pub(crate) fn more(&mut self, bytes: usize) -> Result<(), Full> {
        if !self.0.charge(bytes) {
            return Err(Full::Cap(bytes));
        }
        self.1 += bytes;
        Ok(())
    }

    /// Gives back what is beyond `bytes`.
    pub(crate) fn cut(&mut self, bytes: usize) {
        self.0.release(self.1.saturating_sub(bytes));
        self.1 = self.1.min(bytes);
    }

    /// They stay charged.
    pub(crate) fn keep(self) -> usize {
        let bytes = self.1;
        std::mem::forget(self);
        bytes
    }
}

impl<M: Charge> Drop for Charged<'_, M> {
    fn drop(&mut self) {
        self.0.release(self.1);
    }
}

impl Benches {
    /// Room for `kept` buffers and contexts, a power of two.
    pub(crate) fn new(kept: usize) -> Self {
        let slot = |_| Slot { buffer: Mutex::new(None), context: Mutex::new(None) };
        Self { slots: (0..kept).map(slot).collect(), largest: AtomicUsize::new(0) }
    }

    pub(crate) fn fixed_bytes(kept: usize) -> usize {
        heap_cost(kept * size_of::<Slot>() + 64)
    }

    fn each(&self) -> impl Iterator<Item = &Slot> {
        let start = thread_number() & (self.slots.len() - 1);
        self.slots[start..].iter().chain(&self.slots[..start])
    }

    /// A buffer, used before or new and empty.
    pub(crate) fn buffer<'b, M: Charge>(&'b self, memory: &'b M) -> LentBuffer<'b, M> {
        let kept = self.each().find_map(|slot| slot.buffer.try_lock()?.take());
        LentBuffer { benches: self, memory, bytes: kept.unwrap_or_default() }
    }

    /// A context of `coder` whose size is right or, with `fits` false, too small.
    #[inline]
    fn take(&self, len: usize, coder: u8, fits: bool) -> Option<Made> {
        let wanted = |made: &mut Made| made.coder == coder && (made.size >= len) == fits;
        self.each().find_map(|slot| slot.context.try_lock()?.take_if(wanted))
    }

    /// A kept context of `coder` for pages of up to `len` bytes.
    #[inline]
    pub(crate) fn context<'b, M: Charge>(
        &'b self,
        len: usize,
        coder: u8,
        memory: &'b M,
    ) -> Option<LentContext<'b, M>> {
        let made = self.take(len, coder, true)?;
        Some(LentContext { benches: self, memory, made: Some(made) })
    }

    /// A new context of `coder`, which is `codec`, for pages of up to `len` bytes.
    ///
    /// # Errors
    /// No room for one.
    pub(crate) fn make<'b, M: Charge>(
        &'b self,
        len: usize,
        coder: u8,
        codec: &dyn Codec,
        memory: &'b M,
    ) -> Result<LentContext<'b, M>, Full> {
        // Relaxed: a hint, of which an old value costs a context at most.
        let size = context_size(len);
        let size = size.max(self.largest.fetch_max(size, Ordering::Relaxed));
        let charged = Charged::new(memory, codec.context_bytes(size))?;
        // One that is too small does nothing that the new one does not. It goes once there is room for both,
        // since a hook that is called while room is made finds it; and before the new one is there, or the
        // general-purpose allocator would be left with a hole under it, that nobody counts.
        if let Some(small) = self.take(len, coder, false) {
            small.discard(memory);
        }
        let context = codec.context(size).map_err(|_| Full::NoMemory)?;
        let made = Made { coder, size, charged: charged.keep(), context };
        Ok(LentContext { benches: self, memory, made: Some(made) })
    }

    /// Drops the contexts of `coder`, of which none is out.
    pub(crate) fn purge(&self, coder: u8, memory: &impl Charge) {
        for slot in &self.slots {
            let made = slot.context.lock().take_if(|made| made.coder == coder);
            if let Some(made) = made {
                made.discard(memory);
            }
        }
    }

    /// Drops the buffers that are not out.
    pub(crate) fn trim(&self, memory: &impl Charge) {
        for slot in &self.slots {
            let buffer = slot.buffer.lock().take();
            discard(buffer.unwrap_or_default(), memory);
        }
    }

    /// Drops the contexts that are not out: for want of anything else, since the general-purpose
    /// allocator may keep most of what they took, where nobody counts it.
    pub(crate) fn trim_contexts(&self, memory: &impl Charge) {
        for slot in &self.slots {
            let made = slot.context.lock().take();
            if let Some(made) = made {
                made.discard(memory);
            }
        }
    }

    /// Bytes of what is not out.
    pub(crate) fn bytes(&self) -> usize {
        let of = |slot: &Slot| {
            let buffer = slot.buffer.lock().as_ref().map_or(0, |bytes| heap_cost(bytes.capacity()));
            buffer + slot.context.lock().as_ref().map_or(0, |made| made.charged)
        };
        self.slots.iter().map(of).sum()
    }
}

impl Made {
    fn discard(self, memory: &impl Charge) {
        let Self { charged, context, .. } = self;
        // Released after the drop, which is the codec's code and may panic.
        let _charged = Charged(memory, charged);
        drop(context);
    }
}

/// Puts `lent` into the first place that is empty and that nobody is at; gives it back where there is none.
fn keep<'s, T: 's>(places: impl Iterator<Item = &'s Mutex<Option<T>>>, lent: T) -> Option<T> {
    for place in places {
        if let Some(mut kept) = place.try_lock() {
            if kept.is_none() {
                *kept = Some(lent);
                return None;
            }
        }
    }
    Some(lent)
}

fn discard(buffer: Vec<u8>, memory: &impl Charge) {
    let bytes = heap_cost(buffer.capacity());
    drop(buffer);
    memory.release(bytes);
}

impl<M: Charge> LentBuffer<'_, M> {
    /// The buffer, `len` bytes of it, of any content.
    ///
    /// # Errors
    /// No room for one so long.
    pub(crate) fn stretch(&mut self, len: usize) -> Result<&mut [u8], Full> {
        if self.bytes.len() < len {
            // What is in it is not wanted any more.
            discard(std::mem::take(&mut self.bytes), self.memory);
            let wanted = len.next_multiple_of(STEP);
            let charged = Charged::new(self.memory, heap_cost(wanted))?;
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(wanted).map_err(|_| Full::NoMemory)?;
            bytes.resize(wanted, 0);
            debug_assert_eq!(bytes.capacity(), wanted, "an exact reservation is exact");
            charged.keep();
            self.bytes = bytes;
        }
        Ok(&mut self.bytes[..len])
    }

    /// `len` bytes of it, as they were left.
    pub(crate) fn bytes(&self, len: usize) -> &[u8] {
        &self.bytes[..len]
    }
}

impl<M: Charge> Drop for LentBuffer<'_, M> {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.is_empty() {
            return;
        }
        if let Some(bytes) = keep(self.benches.each().map(|slot| &slot.buffer), bytes) {
            discard(bytes, self.memory);
        }
    }
}

impl<M: Charge> LentContext<'_, M> {
    pub(crate) fn get(&mut self) -> &mut dyn Context {
        &mut *self.made.as_mut().expect("there until it goes back").context
    }

    /// It does not go back.
    pub(crate) fn discard(mut self) {
        if let Some(made) = self.made.take() {
            made.discard(self.memory);
        }
    }
}

impl<M: Charge> Drop for LentContext<'_, M> {
    fn drop(&mut self) {
        let Some(made) = self.made.take() else { return };
        if std::thread::panicking() {
            // Whoever panicked may have left the context half way. A second panic would end the process:
            // that of its drop is swallowed.
            let discard = || made.discard(self.memory);
            let _ = catch_unwind(AssertUnwindSafe(discard));
            return;
        }
        if let Some(made) = keep(self.benches.each().map(|slot| &slot.context), made) {
            made.discard(self.memory);
        }
    }
}

impl fmt::Debug for Benches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Benches").field("kept", &self.slots.len()).finish()
    }
}

impl<M: Charge> fmt::Debug for LentBuffer<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LentBuffer").field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl<M: Charge> fmt::Debug for LentContext<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LentContext").finish_non_exhaustive()
    }
}
