//! Frames that are off their slots: they wait until no reader can have them, and end.

use std::ptr;

use super::{Frame, Frames, Readers, Sealed};
use crate::error::drop_unheard;
use crate::sync::{Ordering, model_bug};

impl<H: Send + Sync> Frames<H> {
    /// Ends frames that are off their slots and that no reader can have any more; says how many
    /// bytes go on waiting. Waits for nobody: where another thread collects, that one does it. A
    /// panic in the drop of a head is swallowed, since this caller has nothing to do with it.
    pub fn collect(&self) -> usize {
        // What was retired last has to be sealed, and then both counters seen.
        let mut gone: *mut Frame<H> = ptr::null_mut();
        let waits = model_bug!(CollectWaits).then(|| self.sealed.lock());
        if let Some(mut sealed) = waits.or_else(|| self.sealed.try_lock()) {
            gone = self.unseal(&mut sealed);
            if sealed.first.is_null() {
                // Acquire pairs with the Release in `retire`.
                let order = model_bug!(FrameCollectRelaxed, Ordering::Acquire => Ordering::Relaxed);
                sealed.first = self.retired.swap(ptr::null_mut(), order);
                if !sealed.first.is_null() {
                    sealed.seen.fill([model_bug!(FrameSeenBefore); 2]);
                    self.phase.fetch_add(1, Ordering::Relaxed);
                }
                let more = self.unseal(&mut sealed);
                drop(sealed);
                self.end(more);
            }
        }
        self.end(gone);
        self.waiting_bytes()
    }

    /// The frames that are sealed, if every counter was seen at zero since they were.
    fn unseal(&self, sealed: &mut Sealed<H>) -> *mut Frame<H> {
        if sealed.first.is_null() {
            return ptr::null_mut();
        }
        let mut all = true;
        let order = model_bug!(FrameLookUnacquired, Ordering::AcqRel => Ordering::Release);
        let order = model_bug!(FrameLookUnreleased, order => Ordering::Acquire);
        let pairs = if model_bug!(FrameFirstPairOnly) { 1 } else { self.readers.len() };
        for (Readers(pair), seen) in self.readers[..pairs].iter().zip(&mut sealed.seen) {
            for (counter, seen) in pair.iter().zip(seen) {
                // A read-modify-write: see the head. Acquire pairs with the Release of readers that
                // have gone, Release with the Acquire of those who come.
                *seen = *seen || counter.fetch_add(0, order) == 0 || model_bug!(FrameUncounted);
                all &= *seen;
            }
        }
        if all {
            return std::mem::replace(&mut sealed.first, ptr::null_mut());
        }
        // What is left to be seen at zero are the counters that newcomers take: they take the
        // others from now on.
        let taken = self.phase.load(Ordering::Relaxed) & 1;
        if sealed.seen.iter().all(|pair| pair[1 - taken]) {
            self.phase.fetch_add(1, Ordering::Relaxed);
        }
        ptr::null_mut()
    }
}

impl<H> Frames<H> {
    /// A frame was taken off its slot, by this caller and nobody else.
    pub(super) fn retire(&self, old: *mut Frame<H>) {
        if old.is_null() {
            return;
        }
        // SAFETY: frames end in `end` alone, whose callers find them where this puts them.
        let frame = unsafe { &*old };
        let (cost, late) = (frame.cost(), model_bug!(FrameLeaveLate));
        if !late {
            self.account.leave(cost);
        }
        let mut head = self.retired.load(Ordering::Relaxed);
        loop {
            frame.next.store(head, Ordering::Relaxed);
            // Release pairs with the Acquire in `collect`: it comes after the frame is off its
            // slot.
            let order = (
                model_bug!(FrameRetireRelaxed, Ordering::Release => Ordering::Relaxed),
                Ordering::Relaxed,
            );
            match self.retired.compare_exchange_weak(head, old, order.0, order.1) {
                Ok(_) if late => return self.account.leave(cost),
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Ends a list of frames that nobody else has: their heads go, and their memory, unless it is
    /// shared.
    pub(super) fn end(&self, mut first: *mut Frame<H>) {
        while !first.is_null() {
            // SAFETY: it was made a box by `Blank::fill` in `put`, came off its slot once, off the
            // list of those that wait once, and no reader has it: see the head.
            let Frame { head, owned, life, next, .. } = *unsafe { Box::from_raw(first) };
            first = next.load(Ordering::Relaxed);
            let _ = life.to_write();
            drop_unheard(head);
            self.account.take_back(Frame::<H>::BYTES);
            self.account.waiting.fetch_sub(Frame::<H>::BYTES, Ordering::Relaxed);
            if model_bug!(FrameSharedEnded) {
                owned.end();
            }
        }
    }
}
