//! Work benches: what a compression or a decoding works with, a buffer and a codec's context.
//!
//! A few benches are kept, about one for each thread that can run at once. A thread starts looking at a
//! place of its own, so that threads seldom meet; whoever finds none makes one. Nobody waits: user
//! code may run while a bench is out, and may need another one. All that benches hold is charged.

use std::fmt;

use zpool::source::heap_cost;

use crate::codec::{Codec, Context};
use crate::sync::{Charge, Mutex, thread_number};

/// No room under the cap; so many bytes were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full(pub(crate) usize);

/// Buffers grow in these steps.
const STEP: usize = 4096;

#[derive(Default)]
struct Bench {
    buffer: Vec<u8>,
    /// A context, and the largest page that it was made for.
    context: Option<(usize, Box<dyn Context>)>,
}

/// On its own cache line: threads that start at different ones do not meet.
#[repr(align(64))]
#[derive(Default)]
struct Slot(Option<Bench>);

pub(crate) struct Benches {
    slots: Box<[Mutex<Slot>]>,
}

/// A bench on loan; it goes back when this is dropped.
pub(crate) struct Lent<'b, M: Charge> {
    benches: &'b Benches,
    memory: &'b M,
    codec: &'b dyn Codec,
    bench: Bench,
}

impl Benches {
    /// Room for `kept` benches, a power of two.
    pub(crate) fn new(kept: usize) -> Self {
        Self { slots: (0..kept).map(|_| Mutex::new(Slot::default())).collect() }
    }

    pub(crate) fn fixed_bytes(kept: usize) -> usize {
        heap_cost(kept * size_of::<Mutex<Slot>>() + 64)
    }

    fn each(&self) -> impl Iterator<Item = &Mutex<Slot>> {
        let start = thread_number() & (self.slots.len() - 1);
        self.slots[start..].iter().chain(&self.slots[..start])
    }

    /// A bench, used before or new and empty.
    pub(crate) fn take<'b, M: Charge>(
        &'b self,
        codec: &'b dyn Codec,
        memory: &'b M,
    ) -> Lent<'b, M> {
        let kept = self.each().find_map(|slot| slot.try_lock()?.0.take());
        Lent { benches: self, memory, codec, bench: kept.unwrap_or_default() }
    }

    /// Drops all benches that are not out.
    pub(crate) fn trim(&self, codec: &dyn Codec, memory: &impl Charge) {
        for slot in &self.slots {
            let bench = slot.lock().0.take();
            if let Some(bench) = bench {
                bench.discard(codec, memory);
            }
        }
    }

    /// Bytes of the benches that are not out.
    pub(crate) fn bytes(&self, codec: &dyn Codec) -> usize {
        self.slots.iter().map(|slot| slot.lock().0.as_ref().map_or(0, |b| b.bytes(codec))).sum()
    }
}

impl Bench {
    fn bytes(&self, codec: &dyn Codec) -> usize {
        let context = self.context.as_ref().map_or(0, |(size, _)| codec.context_bytes(*size));
        heap_cost(self.buffer.capacity()) + context
    }

    fn discard(self, codec: &dyn Codec, memory: &impl Charge) {
        let bytes = self.bytes(codec);
        drop(self);
        memory.release(bytes);
    }

    /// Makes the buffer `len` bytes long at the least.
    fn stretch(&mut self, len: usize, memory: &impl Charge) -> Result<(), Full> {
        if self.buffer.len() >= len {
            return Ok(());
        }
        let wanted = len.next_multiple_of(STEP);
        let charged = heap_cost(wanted);
        if !memory.charge(charged) {
            return Err(Full(charged));
        }
        let mut buffer = Vec::new();
        if buffer.try_reserve_exact(wanted).is_err() {
            memory.release(charged);
            return Err(Full(charged));
        }
        buffer.resize(wanted, 0);
        let before = heap_cost(self.buffer.capacity());
        // The two are the same where the allocator gave what was asked for, as it does.
        let surplus = heap_cost(buffer.capacity()).saturating_sub(charged);
        debug_assert_eq!(surplus, 0, "an exact reservation is exact");
        self.buffer = buffer;
        memory.release(before);
        Ok(())
    }

    /// Sees to it that there is a context for pages of `len` bytes.
    fn equip(&mut self, len: usize, codec: &dyn Codec, memory: &impl Charge) -> Result<(), Full> {
        if self.context.as_ref().is_some_and(|(size, _)| *size >= len) {
            return Ok(());
        }
        let size = len.next_power_of_two().max(STEP);
        let charged = codec.context_bytes(size);
        if !memory.charge(charged) {
            return Err(Full(charged));
        }
        let Ok(context) = codec.context(size) else {
            memory.release(charged);
            return Err(Full(charged));
        };
        if let Some((size, before)) = self.context.replace((size, context)) {
            drop(before);
            memory.release(codec.context_bytes(size));
        }
        Ok(())
    }
}

impl<M: Charge> Lent<'_, M> {
    /// The buffer, `len` bytes of it, of any content.
    ///
    /// # Errors
    /// No room for one so long.
    pub(crate) fn buffer(&mut self, len: usize) -> Result<&mut [u8], Full> {
        self.bench.stretch(len, self.memory)?;
        Ok(&mut self.bench.buffer[..len])
    }

    /// `len` bytes of the buffer, as they were left.
    pub(crate) fn bytes(&self, len: usize) -> &[u8] {
        &self.bench.buffer[..len]
    }

    /// A context for pages of up to `len` bytes.
    ///
    /// # Errors
    /// No room for one.
    pub(crate) fn context(&mut self, len: usize) -> Result<&mut dyn Context, Full> {
        self.bench.equip(len, self.codec, self.memory)?;
        match &mut self.bench.context {
            Some((_, context)) => Ok(&mut **context),
            None => Err(Full(0)),
        }
    }

    /// A context for pages of up to `len` bytes, and a buffer of as many.
    ///
    /// # Errors
    /// No room for one of them.
    pub(crate) fn both(&mut self, len: usize) -> Result<(&mut dyn Context, &mut [u8]), Full> {
        self.bench.equip(len, self.codec, self.memory)?;
        self.bench.stretch(len, self.memory)?;
        match &mut self.bench {
            Bench { buffer, context: Some((_, context)) } => {
                Ok((&mut **context, &mut buffer[..len]))
            }
            Bench { .. } => Err(Full(0)),
        }
    }
}

impl<M: Charge> Drop for Lent<'_, M> {
    fn drop(&mut self) {
        let bench = std::mem::take(&mut self.bench);
        if std::thread::panicking() {
            // Whoever panicked may have left the context half way.
            return bench.discard(self.codec, self.memory);
        }
        for slot in self.benches.each() {
            if let Some(mut slot) = slot.try_lock() {
                if slot.0.is_none() {
                    slot.0 = Some(bench);
                    return;
                }
            }
        }
        bench.discard(self.codec, self.memory);
    }
}

impl fmt::Debug for Benches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Benches").field("kept", &self.slots.len()).finish()
    }
}

impl<M: Charge> fmt::Debug for Lent<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("buffer", &self.bench.buffer.len()).finish_non_exhaustive()
    }
}
